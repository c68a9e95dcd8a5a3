#!/usr/bin/env python
"""From charge-aware and charge-blind models to the temperature-composition diagram: `make phases`.

    make_phases.py sample [RUNS]   relax arrangements of ions and charges (hours; resumable)

Writes data/phases. Relaxations in flight lie in data/checkpoints/phases.
"""

import fnmatch
import sys
from pathlib import Path

import mlipkit as mk

HERE = Path(__file__).parent
PHASES = HERE / "phases"
N = 450  # arrangements of each run: 400 and more must count
ARCHITECTURES = ("cpainn", "mace", "chgnet")
RUNS = {
    f"{name}_{'aware' if aware else 'blind'}_{'free' if cell else 'fixed'}": (name, aware, cell)
    for cell in (False, True)
    for aware in (True, False)
    for name in ARCHITECTURES
}


def sample(run):
    """The configurations of a run, as they are shipped."""
    name, aware, cell = RUNS[run]
    ends = mk.end_points(mk.load_dft())
    configurations = mk.sample_configurations(
        mk.find_host(ends),
        mk.load_model(name, charge_aware=aware),
        N,
        mk.compound(ends),
        ends,
        folder=HERE / "checkpoints" / "phases" / run,
        processes=1,
        cell=cell,
        steps=200,
    )
    PHASES.mkdir(exist_ok=True)
    mk.write_configurations(PHASES / f"{run}.json", configurations)
    print(run, configurations, flush=True)


if __name__ == "__main__":
    stage, *patterns = sys.argv[1:] or ["sample"]
    chosen = [run for run in RUNS if any(fnmatch.fnmatch(run, p) for p in patterns or ["*"])]
    for run in chosen:
        {"sample": sample}[stage](run)
