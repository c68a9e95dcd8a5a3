"""Sixteen charge orderings relaxed by CHGNet 0.3.0: relax_many against a loop over upstream's
StructOptimizer, one run on one machine.

    python tests/benchmarks/bench_relax.py [OPTIMIZER]

Same model, optimiser (FIRE, upstream's default, unless another is named), tolerance, fixed cells
and starts.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
import sys
import time

import numpy as np
from chgnet.model import CHGNet, StructOptimizer

import mlipkit as mk

FMAX, STEPS = 0.05, 300


def main(optimizer):
    ends = mk.end_points(mk.load_dft())
    host = next(a for a in ends if a.info["x"] == 1)
    starts = [mk.undistorted(a, host) for a in ends]
    for atoms in starts:
        atoms.rattle(0.01, seed=0)

    began, theirs = time.perf_counter(), []
    upstream = StructOptimizer(
        CHGNet.load(use_device="cpu", verbose=False), optimizer_class=optimizer, use_device="cpu"
    )
    for atoms in starts:
        found = upstream.relax(
            atoms.copy(), fmax=FMAX, steps=STEPS, relax_cell=False, verbose=False
        )
        theirs.append(found["trajectory"].energies[-1] / len(atoms))
    upstream_seconds = time.perf_counter() - began

    model = mk.load_model("chgnet", charge_aware=None)
    began = time.perf_counter()
    ours = mk.relax_many(starts, model, optimizer=optimizer, fmax=FMAX, steps=STEPS, progress=False)
    seconds = time.perf_counter() - began
    energies = np.array([r.energies[-1] / len(r.atoms) for r in ours])
    print(
        f"{optimizer}, {len(starts)} orderings, {os.cpu_count()} cores: relax_many {seconds:.0f} "
        f"s ({sum(len(r.frames) for r in ours)} steps), "
        f"StructOptimizer {upstream_seconds:.0f} s: ratio {upstream_seconds / seconds:.1f}; "
        f"end energies equal to {1e3 * np.abs(energies - theirs).max():.2f} meV/atom"
    )
    began = time.perf_counter()
    mk.relax_many(starts, model, fmax=FMAX, steps=STEPS, progress=False)
    seconds = time.perf_counter() - began
    print(
        f"relax_many as it comes (LBFGSLineSearch): {seconds:.0f} s: ratio "
        f"{upstream_seconds / seconds:.1f}"
    )


if __name__ == "__main__":  # workers import this file
    main(*sys.argv[1:] or ["FIRE"])
