"""Trial moves per second of the compiled walk on an expansion of NaxFePO4, and of smol's sampler on
the same expansion in the same cell, in one run on one core.

    python tests/benchmarks/bench_monte_carlo.py

Canonical, swaps of both kinds (an ion with a vacancy, an electron with a hole), at x = 1/2. Beside
it the walk in which ions come and go, and what a trial costs in cells of several sizes. Every
figure is the best of three, for other work on the machine only makes one slower.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
import time
from pathlib import Path

import numpy as np
from ase.units import kB
from smol.moca import Ensemble, Sampler

import mlipkit as mk
from mlipkit.statmech import kernel
from mlipkit.statmech.expansion import disordered, smol_order
from mlipkit.statmech.sampling import chance_of, shares_of

CONFIGURATIONS = Path(__file__).parents[2] / "data/phases/cpainn_aware_fixed.json"
CELL = (3, 5, 6)  # 360 formula units of four
SIZES = ((2, 3, 3), CELL, (6, 10, 6))
TEMPERATURES = (300, 600, 900)


def best(work, times=3):
    """Least seconds, and what it gave last."""
    found = []
    for _ in range(times):
        began = time.perf_counter()
        given = work()
        found.append(time.perf_counter() - began)
    return min(found), given


def ours(within, temperature, n_trials, mu=None):
    """Trials per second of a cell in equilibrium, and the share that is accepted."""
    lattice = within.lattice
    digits = within.digits(*lattice.random(len(lattice.mobile) // 2, np.random.default_rng(0)))
    on = kernel.variables_of(within.tables, digits)
    fields, chance = kernel.fields_of(within.tables, on), chance_of(0)
    given = within.tables, within.moves, digits, on, fields, 1 / (kB * temperature), mu or 0.0
    given += (shares_of(within, exchange=mu is not None),)
    kernel.walk(*given, 400 * within.n_sites, chance)
    seconds, found = best(lambda: kernel.walk(*given, n_trials, chance))
    return n_trials / seconds, found[3] / n_trials, digits


def theirs(expansion, within, temperature, digits, n_trials):
    """The same of smol's sampler, from a cell in equilibrium."""
    ensemble = Ensemble.from_cluster_expansion(expansion.smol, within.lattice.matrix)
    sampler = Sampler.from_ensemble(ensemble, temperature=temperature, step_type="swap", seeds=[0])
    processor, lattice = ensemble.processor, within.lattice
    _, held = disordered(lattice, True)
    species = [next(iter(space)) for space in processor.allowed_species]
    sites = np.append(lattice.mobile, lattice.redox)
    order = smol_order(expansion.subspace, lattice)
    for i, d in zip(sites, digits):
        species[order[i]] = held[int(i)][d]
    start = np.array([processor.encode_occupancy(species)])
    sampler.run(200, start, thin_by=100, progress=False)

    def run():
        sampler.clear_samples()
        sampler.run(n_trials, start, thin_by=n_trials, progress=False)

    seconds, _ = best(run)
    return n_trials / seconds


def main():
    expansion = mk.fit_expansion(mk.read_configurations(CONFIGURATIONS))
    print(expansion)
    within = expansion.interactions(CELL)
    load = "{:.1f}, {:.1f}, {:.1f}".format(*os.getloadavg())
    print(
        f"{within.lattice.n_units} formula units, {within.n_sites} sites; {os.cpu_count()} cores, "
        f"load before {load}"
    )
    print(f"{'K':>5} {'ours / s':>12} {'accepted':>9} {'with mu / s':>12} {'smol / s':>10} "
          f"{'ratio':>7}")  # fmt: skip
    for temperature in TEMPERATURES:
        rate, accepted, digits = ours(within, temperature, 5_000_000)
        exchanging, _, _ = ours(within, temperature, 5_000_000, mu=0.0)
        their_rate = theirs(expansion, within, temperature, digits, 5000)
        print(
            f"{temperature:5} {rate:12,.0f} {accepted:9.1%} {exchanging:12,.0f} "
            f"{their_rate:10,.0f} {rate / their_rate:7.0f}"
        )
    print(f"{'units':>5} " + "".join(f"{f'ns at {t} K':>14}" for t in TEMPERATURES))
    for size in SIZES:
        within = expansion.interactions(size)
        costs = [1e9 / ours(within, t, 3_000_000)[0] for t in TEMPERATURES]
        print(f"{within.lattice.n_units:5} " + "".join(f"{c:14.0f}" for c in costs))
    print("load after {:.1f}, {:.1f}, {:.1f}".format(*os.getloadavg()))


if __name__ == "__main__":
    main()
