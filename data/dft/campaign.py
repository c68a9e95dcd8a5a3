#!/usr/bin/env python
"""The DFT campaign behind the embedded set; can be stopped at any time and goes on where it was.

    python campaign.py list              the jobs, their degeneracy and where each stands
    python campaign.py run [JOB ...]     go on with these jobs, or with all that are not finished

Several may run side by side: each job is locked by the process that works on it.
`make dft` (from the project's root) installs GPAW when it is missing and calls `run` at low
priority.
"""

import fcntl
import sys
import time

from label import FINAL, HERE, ORBITAL_STEPS, RUN, frames_of
from olivine import BACK, N_RATTLED, N_STRAINED, jobs


def finished(job):
    frames = frames_of(job.name)
    single_points = {
        "metal": 7,
        "cell": 1,
        "back": len(BACK),
        "displaced": N_RATTLED + N_STRAINED,
        "verdict": 1,
    }
    if job.kind in single_points:
        return len(frames) >= single_points[job.kind]
    if job.kind == "orbital" and len(frames) > ORBITAL_STEPS:
        return True
    return (
        bool(frames)
        and frames[-1].info.get("kind") == "final"
        and frames[-1].info["density"] <= FINAL["density"]
    )


def take(job):
    """Lock a job for this process (all its MPI ranks); None when another process has it. The lock
    ends with the process.
    """
    from gpaw.mpi import world

    (HERE / "log").mkdir(exist_ok=True)
    lock, taken = open(HERE / "log" / f"{job.name}.lock", "w"), 1  # noqa: SIM115 - stays open: closing it would unlock
    if world.rank == 0:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            taken = 0
    return lock if world.min_scalar(taken) else None


def run(names):
    from gpaw import KohnShamConvergenceError
    from gpaw.mpi import world

    known = {job.name: job for job in jobs()}
    for name in names or known:
        if name not in known:
            sys.exit(f"campaign.py: no job is called {name}; 'list' names them")
        (HERE / "frames").mkdir(exist_ok=True)
        lock = take(known[name])
        if lock is None or finished(known[name]):
            continue
        try:
            RUN[known[name].kind](known[name], str(HERE / "log" / f"{name}.txt"))
        except KohnShamConvergenceError:
            if world.rank == 0:
                print(
                    name,
                    time.strftime("%H:%M"),
                    "SCF not converged: the job stays unfinished, its frames are kept",
                    flush=True,
                )


def show():
    for job in jobs():
        frames = frames_of(job.name)
        print(
            f"{job.name:28s} {job.kind:10s} g={job.degeneracy} {len(frames):3d} frames",
            "finished" if finished(job) else "",
        )


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["list"]:
            show()
        case ["run", *names]:
            run(names)
        case _:
            sys.exit(__doc__)
