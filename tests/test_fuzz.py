"""10,000 damaged files for the readers: a sentence (InputError) or sound frames come out, never a
traceback, a hang or litter.

A failure names its format and seed and keeps the input; ``python tests/test_fuzz.py FORMAT SEED
FILE`` makes it again.
"""

import gzip
import json
import random
import re
import resource
import signal
import sys
import tempfile
import warnings
import zlib
from pathlib import Path

import ase.db
import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from make_vasp import write_outcar, write_vasprun

import mlipkit as mk
from mlipkit.frames.labels import PER_ATOM
from mlipkit.frames.readers import read_frames

NAMES = {
    "outcar": "OUTCAR",
    "vasprun": "vasprun.xml",
    "extxyz": "a.extxyz",
    "db": "a.db",
    "asejson": "a.json",
    "traj": "a.traj",
    "chgnet": "b.json",
    "gz": "b.extxyz.gz",
    "unnamed": "odd",
}
COUNTS = {
    "outcar": 1800,
    "vasprun": 1300,
    "extxyz": 1800,
    "db": 900,
    "asejson": 1000,
    "traj": 1100,
    "chgnet": 1100,
    "gz": 500,
    "unnamed": 500,
}
LIMIT = 5.0  # seconds for one input, which takes milliseconds
NUMBERS = [
    b"1000000000000",
    b"99999999999999999999999",
    b"-1",
    b"0",
    b"NaN",
    b"nan",
    b"inf",
    b"-Infinity",
    b"1e999",
    b"1e-999",
    b"********",
    b"",
    b"x",
    b"0x10",
    b"1_000",
    b"1,5",
    b"\xc3\x85",
    b"T",
    b"null",
    b"3.0.0",
    "٣".encode(),
    b"2147483648",
    b"1e5",
]


def step(n, shift):
    symbols = ["Fe", "O", "O", "Na", "Fe", "P", "O", "X"][:n]
    rng = np.random.default_rng(n)
    atoms = Atoms(
        sorted(symbols),
        positions=rng.uniform(0, 5, (n, 3)).round(4) + shift,
        cell=[[5, 0, 0], [0, 6, 0.5], [0, 0, 7]],
        pbc=True,
    )
    atoms.calc = SinglePointCalculator(
        atoms,
        energy=-7.5 - shift,
        free_energy=-7.6 - shift,
        forces=rng.normal(size=(n, 3)).round(3),
        stress=rng.normal(size=6).round(3),
        magmoms=rng.normal(size=n).round(3),
    )
    return atoms


def sound(kind, folder):
    """A sound small file of each format, as bytes."""
    random.seed(0)  # ASE's database gives each row a random name
    path, few = folder / f"sound-{NAMES[kind]}", [step(3, 0.0), step(3, 0.1)]
    if kind == "outcar":
        write_outcar(path, few, nelm=2, u=[5.3, 0.0])
    elif kind == "vasprun":
        write_vasprun(path, few, nelm=2, u=[5.3, 0.0])
    elif kind in ("extxyz", "gz", "unnamed"):
        mk.write_frames(folder / "sound", [step(8, 0.0), step(2, 0.1), step(4, 0.2)])
        content = (folder / "sound").read_bytes()
        path.write_bytes(gzip.compress(content, mtime=0) if kind == "gz" else content)
    elif kind in ("db", "asejson"):
        with ase.db.connect(path) as db:
            for atoms in [step(8, 0.0), step(3, 0.1)]:
                db.write(
                    atoms,
                    key_value_pairs={"x": 0.5},
                    data={"bader_charge": np.ones(len(atoms)), "note": "n"},
                )
    elif kind == "traj":
        with ase.io.Trajectory(path, "w") as trajectory:
            for atoms in [step(8, 0.0), step(3, 0.1)]:
                trajectory.write(atoms)
    else:
        path.write_text(
            json.dumps({"mp-1": {f"g{i}": chgnet_record(a) for i, a in enumerate(few)}})
        )
    content = path.read_bytes()
    for file in folder.iterdir():
        file.unlink()
    return content


def chgnet_record(atoms):
    sites = [
        {"species": [{"element": s, "occu": 1}], "abc": list(p), "properties": {"magmom": 1.0}}
        for s, p in zip(atoms.symbols, atoms.get_scaled_positions())
    ]
    return {
        "structure": {"lattice": {"matrix": atoms.cell.array.tolist()}, "sites": sites},
        "energy_per_atom": -1.5,
        "uncorrected_total_energy": None,
        "force": atoms.calc.results["forces"].tolist(),
        "stress": np.eye(3).tolist(),
        "magmom": [1.0] * len(atoms),
    }


def damaged(content, rng):
    """One to three damages, as disks, editors, queues and people do them."""
    for _ in range(rng.integers(1, 4)):
        n = len(content)
        a, b = sorted(rng.integers(0, n + 1, 2))
        b = min(b, a + rng.integers(1, 200))
        binary = content.startswith((b"SQLite", b"- of Ulm", b"\x1f\x8b"))
        way = rng.integers(0, 13)
        lines = content.splitlines(keepends=True) if way in (5, 6, 7) else []
        numbers = (
            [match.span() for match in re.finditer(rb"-?\d+\.?\d*", content)]
            if way in (8, 9, 10)
            else []
        )
        if way == 0:
            content = content[:a]
        elif way == 1:
            content = content[:a] + content[b:]
        elif way == 2:
            content = content[:b] + content[a:]
        elif way == 3:
            content = content[:a] + bytes(rng.integers(0, 256, b - a, dtype=np.uint8)) + content[b:]
        elif way == 4:
            content = content[:a] + b"\0" * (b - a) + content[b:]
        elif way == 5 and lines:
            i, j = rng.integers(0, len(lines), 2)
            lines[i], lines[j] = lines[j], lines[i]
            content = b"".join(lines)
        elif way == 6 and lines:
            del lines[rng.integers(0, len(lines))]
            content = b"".join(lines)
        elif way == 7 and not binary:
            ends = [b"\n", b"\r\n", b"\r", b"\n\n", b" \n", b"\x0c\n", b"\x85"]
            content = b"".join(
                line.rstrip(b"\r\n") + ends[rng.integers(0, len(ends)) if rng.random() < 0.3 else 0]
                for line in lines
            )
        elif way in (8, 9, 10) and numbers and not binary:
            for i in sorted(
                rng.choice(len(numbers), min(len(numbers), int(rng.integers(1, 4))), replace=False),
                reverse=True,
            ):
                content = (
                    content[: numbers[i][0]]
                    + NUMBERS[rng.integers(0, len(NUMBERS))]
                    + content[numbers[i][1] :]
                )
        elif way in (8, 9, 10) and n > 16:
            at = int(rng.integers(0, n - 8))  # a length or an offset of a binary file
            number = [10**12, -1, 2**31, 0, 2**62][rng.integers(0, 5)].to_bytes(
                8, "little", signed=True
            )
            content = content[:at] + number + content[at + 8 :]
        elif way == 11 and n:
            i = int(rng.integers(0, n))
            content = (
                content[:i]
                + bytes([content[i] ^ (1 << int(rng.integers(0, 8)))])
                + content[i + 1 :]
            )
        elif way == 12:
            content = content + content
    return content


def fuzzed(kind, seed, content):
    return damaged(content, np.random.default_rng([zlib.crc32(kind.encode()), seed]))


class Hang(BaseException):
    """Not an Exception, so that no reader can take it for a damaged file."""


def _alarm(*_):
    raise Hang


def complaint(path):
    """What is wrong with how a file was read, or None."""
    signal.setitimer(signal.ITIMER_REAL, LIMIT)
    try:
        frames = read_frames(path, progress=False)
    except mk.InputError as reason:
        return None if str(path) in str(reason) else f"the error does not name the file: {reason}"
    except Hang:
        return f"took more than {LIMIT} s"
    except BaseException as reason:
        return f"{type(reason).__name__}: {reason}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    for atoms in frames:
        if not (
            len(atoms)
            and np.isfinite(atoms.positions).all()
            and np.isfinite(atoms.cell.array).all()
            and min(atoms.numbers) > 0
            and max(atoms.numbers) < 119
        ):
            return "a frame is empty, not finite or holds what is no element"
        for name, value in getattr(atoms.calc, "results", {}).items():
            if name in PER_ATOM and len(value) != len(atoms):
                return f"{name} of shape {np.shape(value)} for {len(atoms)} atoms"
        expected = {
            "forces": (len(atoms), 3),
            "magmoms": (len(atoms),),
            "stress": (6,),
            "energy": (),
        }
        for name, shape in expected.items():
            if (
                name in getattr(atoms.calc, "results", {})
                and np.shape(atoms.calc.results[name]) != shape
            ):
                return (
                    f"{name} of shape {np.shape(atoms.calc.results[name])} for {len(atoms)} atoms"
                )
    return None if frames else "neither frames nor an error"


@pytest.mark.parametrize("kind", NAMES)
def test_damaged_files(kind, tmp_path, monkeypatch):
    folder, scratch = tmp_path / "files", tmp_path / "scratch"
    folder.mkdir(), scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    content, path = sound(kind, folder), folder / NAMES[kind]
    path.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert len(read_frames(path)) >= 2
        before, bad, memory = (
            signal.signal(signal.SIGALRM, _alarm),
            [],
            resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        )
        try:
            for seed in range(COUNTS[kind]):
                path.write_bytes(given := fuzzed(kind, seed, content))
                wrong = complaint(path)
                if path.read_bytes() != given:
                    wrong = "the file was changed"
                if [p.name for p in folder.iterdir()] != [path.name] or any(scratch.iterdir()):
                    wrong = f"left behind: {[*folder.iterdir(), *scratch.iterdir()]}"
                if wrong:
                    bad.append((seed, wrong))
                    (tmp_path / f"{kind}-{seed}").write_bytes(given)
        finally:
            signal.signal(signal.SIGALRM, before)
    assert not bad, f"{len(bad)} of {COUNTS[kind]} {kind}: {bad[:5]}, kept in {tmp_path}"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 300_000, (
        "more than 300 MB for files of a few kB"
    )


def test_there_are_ten_thousand():
    assert sum(COUNTS.values()) == 10_000 and set(COUNTS) == set(NAMES)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        Path(sys.argv[3]).write_bytes(
            fuzzed(sys.argv[1], int(sys.argv[2]), sound(sys.argv[1], Path(made)))
        )
