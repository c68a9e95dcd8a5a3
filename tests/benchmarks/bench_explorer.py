"""An explorer of five hundred orderings of a hundred atoms: how long it takes to open and to toggle.

What a person would otherwise do for one picture and one table of them (ASE's view is no help in a
notebook): pymatgen's CompoundPhaseDiagram over all of them and a plotly figure of it.
"""

import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parent.parent))
from ase.calculators.singlepoint import SinglePointCalculator
from compounds import MOMENT, olivine

import mlipkit as mk
from mlipkit.analysis.predictions import frame_key
from mlipkit.orderings.hosts import supercell

N, CHARGE = 500, {"Li": 1, "P": 5, "O": -2, "Mn": 3}


def frames(rng):
    """Random fillings and charges of LixMnPO4 in a cell of 16 formula units."""
    host = supercell(olivine(), (1, 2, 2))
    li, mn = (np.flatnonzero(host.symbols == e) for e in ("Li", "Mn"))
    for k in range(N):
        n = (0, 16)[k] if k < 2 else int(rng.integers(1, 16))
        filled = rng.choice(li, n, replace=False)
        states = np.array([CHARGE[s] for s in host.symbols])
        states[rng.choice(mn, n, replace=False)] = 2
        stays = np.ones(len(host), bool)
        stays[np.setdiff1d(li, filled)] = False
        atoms = host[stays]
        atoms.positions += rng.normal(0, 0.02, atoms.positions.shape)
        pairs = zip(atoms.get_chemical_symbols(), states[stays].tolist())
        moments = np.array([MOMENT.get(pair, 0.0) for pair in pairs])
        energy = float(-700 - 3 * n + rng.normal(0, 0.3))
        atoms.calc = SinglePointCalculator(
            atoms, energy=energy, forces=np.zeros((len(atoms), 3)), magmoms=moments
        )
        yield atoms


def predictions(named, rng):
    rows = []
    for name in ("blind", "aware"):
        for atoms in named:
            moments = {f"magmom_{k}": float(m) for k, m in enumerate(rng.uniform(3.8, 4.7, 16))}
            energy = atoms.get_potential_energy() + rng.normal(0, 0.1)
            rows.append({"model": name, "frame": frame_key(atoms), "energy": energy, **moments})
    return pd.DataFrame(rows)


if __name__ == "__main__":
    rng = np.random.default_rng(0)
    mine = list(frames(rng))
    mk.explore(ordering="x050_na01_fe02")  # everything is imported
    began = time.perf_counter()
    mk.name_orderings(mine, progress=False)
    named = time.perf_counter()
    app = mk.explore(mine, predictions=predictions(mine, rng))
    opened = time.perf_counter()
    n = len(app.state.names)
    print(f"{n} orderings of {len(mine[0])} to {len(mine[1])} atoms")
    print(f"named in {named - began:.1f} s, opened in {opened - named:.1f} s")
    times = []
    for k in range(20):
        start = time.perf_counter()
        app.state.model = ("aware", "blind")[k % 2]
        times.append(1e3 * (time.perf_counter() - start))
    print(f"a toggle in Python: median {np.median(times):.0f} ms, at most {max(times):.0f}")
