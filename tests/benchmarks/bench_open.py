"""Opening a huge extended XYZ file: open_frames against ase.io.read(":"), in one run.

    python tests/benchmarks/bench_open.py [number of frames, by default 93141 as in the parent data]

The file is made from the embedded frames, perturbed, with a Bader column more. CPU seconds and
seconds on the clock; each step in a fresh Python, imports included; peak memory is the resident set
of that Python, memory maps included. ASE's whole run is timed unless it would take over five
minutes; then a tenth of the file is, and the time scaled.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

import mlipkit as mk

TIMED = """
import resource, sys, time
wall, cpu = time.perf_counter(), time.process_time()
{}
print(time.perf_counter() - wall, time.process_time() - cpu, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, n)
"""
OPEN = "from mlipkit.frames.store import open_frames; frames = open_frames({!r}, cache={!r}, progress=False); n = len(frames)"


def write_huge(path, n_frames, rng):
    """Perturbed copies of the embedded frames; written by hand, since ASE's writer would take
    longer than the rest.
    """
    with open(path, "w") as file:
        embedded = mk.load_dft()
        for k in range(n_frames):
            atoms = embedded[k % len(embedded)]
            n, real = len(atoms), rng.normal(scale=0.02, size=(len(atoms), 8))
            real[:, :3] += atoms.positions
            real[:, 4:7] += atoms.get_forces()
            real[:, 7] += atoms.get_magnetic_moments()
            lattice = " ".join(map(str, atoms.cell.array.ravel()))
            stress = " ".join(
                map(
                    str,
                    (
                        rng.normal(scale=1e-4, size=9) + atoms.get_stress(voigt=False).ravel()
                    ).tolist(),
                )
            )
            energy = atoms.get_potential_energy() + rng.normal()
            file.write(
                f'{n}\nLattice="{lattice}" '
                "Properties=species:S:1:pos:R:3:bader_charge:R:1:forces:R:3:magmoms:R:1 "
                f'energy={energy} free_energy={energy} stress="{stress}" '
                f"magmom={real[:, 7].sum()} number={k} "
                f'config=job_{k % 977} pbc="T T T"\n'
            )
            for symbol, row in zip(atoms.symbols, real.tolist()):
                file.write(f"{symbol:2s} " + " ".join([f"{x:16.8f}" for x in row]) + "\n")


def measured(code):
    run = subprocess.run(
        [sys.executable, "-c", TIMED.format(code)], capture_output=True, text=True, check=True
    )
    wall, cpu, memory, n = map(float, run.stdout.split())
    return wall, cpu, memory, int(n)


def main(n_frames):
    with tempfile.TemporaryDirectory() as folder:
        path, part, cache = (
            str(Path(folder, "huge.extxyz")),
            str(Path(folder, "part.extxyz")),
            str(Path(folder, "cache")),
        )
        write_huge(path, n_frames, np.random.default_rng(1))
        write_huge(part, n_frames // 10, np.random.default_rng(1))
        print(f"{n_frames} frames, {Path(path).stat().st_size / 1e6:.0f} MB of text")

        plain = "import ase.io; n = len(ase.io.read({!r}, ':'))"
        wall, cpu, memory, _ = measured(plain.format(part))
        scaled = 10 * wall > 300
        if scaled:
            wall, cpu, memory = 10 * wall, 10 * cpu, 10 * memory
        else:
            wall, cpu, memory, _ = measured(plain.format(path))
        note = "estimated from a tenth" if scaled else "whole run"
        print(f"{'ase.io.read':44s} {wall:8.2f} s ({cpu:.2f} s CPU), {memory:.2f} GB ({note})")

        opened = OPEN.format(path, cache)
        for what, code in [
            ("first open", opened),
            ("reopen", opened),
            ("reopen and table", opened + "; frames.table"),
            (
                "reopen, table again filtered, 1000 frames",
                opened + "; [a for a in frames[frames.table['max_force'] < 1][:1000]]",
            ),
            ("reopen and every frame as ase.Atoms", opened + "\nfor atoms in frames: pass"),
        ]:
            own_wall, own_cpu, memory, n = measured(code)
            assert n == n_frames
            print(
                f"{what:44s} {own_wall:8.2f} s ({own_cpu:.2f} s CPU), {memory:.2f} GB, "
                f"{wall / own_wall:.1f}x as fast as ASE ({cpu / own_cpu:.1f}x by CPU time)"
            )
        converted = next(Path(cache).glob("*.h5"))
        print(f"HDF5 file: {converted.stat().st_size / 1e6:.0f} MB")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 93_141)
