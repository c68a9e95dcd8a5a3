"""Every hostile file through every door that a stranger's file can come in by: a sentence that names
the file, or what is sound; within 10 s and 1 GB, with nothing run, nothing written and nothing left.

Each file has a process of its own, forked from one that has imported the package. ``python tests/test_hostile_files.py NAME ...`` goes through
some by hand.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

SECONDS, MEMORY = 10, 1_000_000  # for one file through all doors, and kB of the whole process
MESSAGE = 4000  # characters
VERBOSE = __name__ == "__main__"


def peak(reset=False):
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
        return 0
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1])


class Late(BaseException):
    """Not an Exception, so that no reader takes it for a damaged file."""


def sound(frames):
    import numpy as np

    return all(
        len(atoms)
        and np.isfinite(atoms.positions).all()
        and np.isfinite(atoms.cell.array).all()
        and min(atoms.numbers) > 0
        and max(atoms.numbers) < 119
        for atoms in frames
    )


def untidy(text):
    """What is wrong with a message, or None."""
    if not text.isprintable():
        return f"control characters in {text[:300]!r}"
    return f"a message of {len(text)} characters" if len(text) > MESSAGE else None


def doors(mk, folder):
    """(Name, function of a path that gives what is wrong or None)."""
    from mlipkit.files import plain
    from mlipkit.models.potential import Potential

    def door(read, good):
        def through(path):
            try:
                return None if good(read(path)) else "what comes out is not sound"
            except mk.InputError as said:
                if all(plain(name) not in str(said) for name in (path, repr(str(path)))):
                    return f"the file is not named in {str(said)[:300]!r}"
                return untidy(str(said))

        return through

    app = mk.upload()

    def widget(path):
        if not path.is_file() or path.stat().st_size > 50_000_000:
            return None
        app.state.load(path.name, path.read_bytes())
        if not app.state.frames and not app.state.message:
            return "the widget says nothing"
        html = app.message.value.partition(">")[2].removesuffix("</p>")
        page = app.message.value + app.table.value + app.charges.value
        page += "".join(crystal.legend.value for crystal in app.picture.children)
        if "<" in html or "<script" in page or "<img" in page:
            return f"HTML of the file in the widget: {html[:300]!r}"
        return untidy(app.state.message) or (None if sound(app.state.frames) else "not sound")

    opened = lambda path: mk.open_frames(path, cache=folder / "cache", progress=False)
    return {
        "read_frames": door(lambda path: mk.read_frames(path, progress=False), sound),
        "open_frames": door(opened, lambda frames: sound([frames[0], frames[-1]])),
        "import_checkpoint": door(mk.import_checkpoint, lambda m: isinstance(m, Potential)),
        "load_model": door(lambda path: mk.load_model(str(path)), lambda model: False),
        "widget": widget,
    }


def tree(folder):
    return sorted(
        (str(p), p.lstat().st_size, p.lstat().st_mtime_ns) for p in Path(folder).rglob("*")
    )


def child(folder, names):
    """Go through the files, each in a process that is forked from this one, which has imported
    everything; each line that is printed is JSON.
    """
    import ctypes
    import gc

    warnings.simplefilter("ignore")
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = f"{folder}/torch"
    sys.path.insert(0, str(Path(__file__).parent))
    import hostile_files

    import mlipkit as mk

    folder = Path(folder)
    ways = doors(mk, folder)
    mk.load_model("mace", charge_aware=True), mk.load_model("chgnet")
    # what is imported late by a reader
    import ase.db.sqlite
    import ase.io.trajectory  # noqa: F401
    import h5py  # noqa: F401
    from pymatgen.io.vasp.outputs import Vasprun  # noqa: F401

    gc.collect(), gc.freeze(), ctypes.CDLL(None).malloc_trim(0)
    for name in names:
        scratch, place = folder / "tmp", folder / "files"
        place.mkdir(), scratch.mkdir()
        sys.stdout.flush()
        one = os.fork()
        if not one:
            tempfile.tempdir = str(scratch)
            said = go_through(name, hostile_files, ways, place, scratch)
            print(json.dumps(said), flush=True)
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(one, 0)[1])
        if status:
            dead = [f"the process ended with {status} (1: stuck for {SECONDS + 5} s)"]
            print(json.dumps({"name": name, "wrong": dead, "took": {}}), flush=True)
        for litter in (place, scratch, folder / "cache"):
            shutil.rmtree(litter, ignore_errors=True)


def go_through(name, hostile_files, ways, place, scratch):
    """One file through every door."""
    import faulthandler
    import signal
    import traceback

    def alarm(*_):
        raise Late

    signal.signal(signal.SIGALRM, alarm)
    began = time.monotonic()
    path = hostile_files.HOSTILE[name](place)
    took, before, wrong = {"made": round(time.monotonic() - began, 2)}, tree(place), []
    peak(reset=True)
    for way, through in ways.items():
        began = time.monotonic()
        # stuck within C, which no signal ends: the process is
        faulthandler.dump_traceback_later(SECONDS + 5, exit=True)
        signal.setitimer(signal.ITIMER_REAL, SECONDS)
        try:
            reason = through(path)
        except Late:
            reason = f"took more than {SECONDS} s"
        except BaseException as other:
            last = traceback.extract_tb(other.__traceback__)[-1]
            where = f"{last.filename[-40:]}:{last.lineno}"
            reason = f"{type(other).__name__}: {str(other)[:300]!r} at {where}"
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            faulthandler.cancel_dump_traceback_later()
        took[way] = round(time.monotonic() - began, 2)
        if reason:
            wrong.append(f"{way}: {reason}")
    most = peak()
    if most > MEMORY:
        wrong.append(f"{most / 1e6:.2f} GB")
    if tree(place) != before or any(scratch.iterdir()):
        wrong.append(f"left behind: {tree(place)[:3]} {[*scratch.iterdir()][:3]}")
    if hostile_files.CANARY.exists():
        hostile_files.CANARY.unlink()
        wrong.append("something in the file was run")
    return {"name": name, "wrong": wrong, "peak": most, "took": took}


def through_all(folder, names):
    """{name: {"wrong": [...], "peak": kB, "took": seconds}} of all files."""
    code = "import sys; sys.path.insert(0, sys.argv[1]); import test_hostile_files as t; "
    code += "t.child(sys.argv[2], sys.stdin.read().split('\\0'))"
    with open(Path(folder) / "stderr", "wb") as stderr:
        run = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", code, str(Path(__file__).parent), str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
        run.stdin.write("\0".join(names))
        run.stdin.close()
        found = {}
        for line in run.stdout:
            said = json.loads(line)
            found[said["name"]] = said
            if VERBOSE and said["wrong"]:
                print(said["name"], *said["wrong"], sep="\n    ", flush=True)
        assert run.wait() == 0, (Path(folder) / "stderr").read_text(errors="replace")[-2000:]
    return found


@pytest.mark.alone
def test_every_hostile_file_through_every_door(tmp_path):
    from hostile_files import HOSTILE

    assert len(HOSTILE) >= 200
    names, halves = list(HOSTILE), [tmp_path / "even", tmp_path / "odd"]
    for half in halves:
        half.mkdir()
    with ThreadPoolExecutor(2) as pool:  # each waits for a process of its own
        parts = pool.map(through_all, halves, [names[::2], names[1::2]])
    found = {name: said for part in parts for name, said in part.items()}
    wrong = {name: said["wrong"] for name, said in found.items() if said["wrong"]}
    assert set(found) == set(HOSTILE) and not wrong, "\n".join(
        f"{name}: {'; '.join(reasons)}" for name, reasons in wrong.items()
    )


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    from hostile_files import HOSTILE

    wanted = [n for n in HOSTILE if any(word in n for word in sys.argv[1:])] or list(HOSTILE)
    with tempfile.TemporaryDirectory() as made:
        began = time.monotonic()
        results = through_all(made, wanted)
    if os.environ.get("ALL"):
        for name, said in results.items():
            print(name, said, sep="\n    ")
    print(f"{len(results)} files, {time.monotonic() - began:.0f} s; slowest:")
    for name in sorted(results, key=lambda name: -sum(results[name]["took"].values()))[:12]:
        print("   ", name, results[name]["took"], results[name].get("peak"))
    print(
        "through each door:",
        {
            way: round(sum(said["took"].get(way, 0) for said in results.values()), 1)
            for way in (
                "made",
                "read_frames",
                "open_frames",
                "import_checkpoint",
                "load_model",
                "widget",
            )
        },
    )
    print("most memory:", max((said.get("peak", 0), name) for name, said in results.items()))
