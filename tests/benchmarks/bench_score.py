"""Charge orderings scored per second, against one calculator call each, ours and upstream's.

In the 28-atom cell: all by the model, in batches that share one graph. In a cell of sixteen formula
units: by `search_charge_ordering`, that is the model on a sample and on the lowest, a pair
expansion on the others; its error beside it.

    python tests/benchmarks/bench_score.py
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
import itertools
import time

import numpy as np
from chgnet.model import CHGNet, CHGNetCalculator

import mlipkit as mk
from mlipkit.charges.species import to_proxies

# one arrangement of eight Na, with little symmetry
SUPERCELL, FILLED = (1, 2, 2), (0, 2, 5, 7, 8, 11, 12, 15)


def per_second(call, n, warm_up=True):
    if warm_up:
        call()
    began = time.perf_counter()
    result = call()
    return n / (time.perf_counter() - began), result


def one_by_one(frames, calculator, as_proxies=False):
    for atoms in frames:
        copy = atoms.copy()
        if as_proxies:
            copy.numbers = to_proxies(copy)
        copy.calc = calculator
        copy.get_potential_energy()


def orderings_of(atoms):
    fe, frames = np.flatnonzero(atoms.symbols == "Fe"), []
    for holes in itertools.combinations(fe, len(fe) // 2):
        frames.append(atoms.copy())
        frames[-1].arrays["oxi_states"][fe] = 2
        frames[-1].arrays["oxi_states"][list(holes)] = 3
    return frames


ends = mk.end_points(mk.load_dft())
half, full = (next(a for a in ends if a.info["x"] == x) for x in (0.5, 1))
frames = orderings_of(half)
many = np.tile([a.arrays["oxi_states"] for a in frames], (8, 1))
host = full.copy()
host.set_cell(half.cell, scale_atoms=True)
large = [
    o.atoms()
    for o in itertools.islice(
        mk.enumerate_orderings(host, supercell=SUPERCELL, mobile_sites=FILLED, progress=False), 6
    )
]

published = CHGNetCalculator(CHGNet.load(use_device="cpu", verbose=False), use_device="cpu")
upstream, upstream_large = (
    per_second(lambda f=f: one_by_one(f, published, True), len(f))[0] for f in (frames, large)
)
for name in ("chgnet", "cpainn", "mace"):
    model = mk.load_model(name, charge_aware=True)
    single, single_large = (
        per_second(lambda f=f, m=model: one_by_one(f, m.calculator()), len(f))[0]
        for f in (frames, large)
    )
    scored, _ = per_second(lambda m=model: m.score(half, many), len(many))
    began = time.perf_counter()
    search = mk.search_charge_ordering(
        host, model, supercell=SUPERCELL, mobile_sites=FILLED, steps=0, progress=False
    )
    found = search.n_candidates / (time.perf_counter() - began)
    for what, rate, one, other in (
        ("28 atoms, all by the model", scored, single, upstream),
        (
            f"{len(large[0])} atoms, {search.n_candidates} orderings of which the model scores "
            f"{search.n_scored} "
            f"(expansion: {1e3 * search.expansion.rmse / 16:.1f} meV per formula unit)",
            found,
            single_large,
            upstream_large,
        ),
    ):
        line = f"{name}, {what}: {rate:.0f} per second, one calculator call each {one:.1f}: ratio {rate / one:.1f}"
        print(
            line
            + (
                f"; upstream's calculator {other:.1f}: ratio {rate / other:.1f}"
                if name == "chgnet"
                else ""
            ),
            flush=True,
        )
