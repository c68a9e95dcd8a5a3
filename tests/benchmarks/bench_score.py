"""Charge orderings scored per second: one shared graph in batches, against one calculator call each, ours and upstream's.

    python tests/benchmarks/bench_score.py
"""
import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
import itertools
import time

import numpy as np
from chgnet.model import CHGNet, CHGNetCalculator

import mlipkit as mk
from mlipkit.species import to_proxies


def per_second(call, n):
    call()
    began = time.perf_counter()
    call()
    return n / (time.perf_counter() - began)


atoms = next(a for a in mk.end_points(mk.load_dft()) if a.info["x"] == 0.5)
fe = np.flatnonzero(atoms.symbols == "Fe")
states = []
for holes in itertools.combinations(fe, 2):
    row = atoms.arrays["oxi_states"].copy()
    row[fe] = 2
    row[list(holes)] = 3
    states.append(row)
many = np.tile(states, (8, 1))


def one_by_one(calculator, as_proxies=False):
    for row in states:
        copy = atoms.copy()
        copy.arrays["oxi_states"] = row
        if as_proxies:
            copy.numbers = to_proxies(copy)
        copy.calc = calculator
        copy.get_potential_energy()


upstream = per_second(lambda: one_by_one(CHGNetCalculator(CHGNet.load(use_device="cpu", verbose=False), use_device="cpu"), True), len(states))
for name in ("chgnet", "cpainn", "mace"):
    model = mk.load_model(name, charge_aware=True)
    single, scored = per_second(lambda m=model: one_by_one(m.calculator()), len(states)), per_second(lambda m=model: m.score(atoms, many), len(many))
    line = f"{name}: {scored:.0f} orderings per second, one calculator call each {single:.0f}: ratio {scored / single:.1f}"
    print(line + (f"; upstream's calculator {upstream:.1f}: ratio {scored / upstream:.1f}" if name == "chgnet" else ""))
