#!/usr/bin/env python
"""DFT in cells doubled along the longest axis, where no model has been trained.

    .venv/bin/python data/dft/doubled.py start   writes starts/doubled_*.extxyz (MACE's structures)
    .venv-gpaw/bin/python data/dft/doubled.py run [NAME ...]
        single points on them; the frames go to frames/, and runs that are there are left out
    .venv-gpaw/bin/python data/dft/doubled.py ends    the end members, with the same k-points

In the cells of the set, and in those that CHGNet labelled, an electron is never further along a
than half of 10.3 Å from the ion that brought it. CHGNet, cPaiNN and MACE agree on arrangements in
such cells and differ by up to 0.2 eV per formula unit in two of them along a: DFT has the word.
"""

import sys
import time
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import numpy as np

HERE = Path(__file__).parent
STARTS = HERE / "starts"
# with the mixing of the short cells, and with a bias that lets go at once, charge sloshes or the
# orbitals turn for a hundred iterations
SLOW = {"name": "pulay", "beta": 0.05, "nmaxold": 4, "weight": 100.0}
# how xy, yz, 3z2-r2, xz, x2-y2 change sign when an axis is turned round
TURNED = np.array([[-1, 1, 1, -1, 1], [-1, -1, 1, 1, 1], [1, -1, 1, -1, 1]])
# (ions, states) as the table of configurations has them: one ion taken out and an electron from
# near it, or from far away; the arrangement of x = 3/4 about which the architectures differ most
ASKED = {
    "near": ("01111111", "2 2 2 2 2 2 3 2"),
    "far": ("11110111", "2 2 2 3 2 2 2 2"),
    "differs": ("11011011", "2 2 2 2 2 3 3 2"),
}


def start():
    """MACE relaxes each arrangement from between DFT's end members, in the cell between theirs."""
    from ase import Atoms

    import mlipkit as mk
    from mlipkit.orderings.hosts import in_setting_of

    configurations = mk.load_configurations("mace", charge_aware=True, cells="fixed")
    lattice, model = configurations.lattice("1x1x2"), mk.load_model("mace", charge_aware=True)
    full = {a.info["x"]: a for a in mk.end_points(mk.load_dft()) if a.info["x"] in (0, 1)}
    ends = {
        x: in_setting_of(a, configurations.host, lattice.compound.mobile) for x, a in full.items()
    }
    for name, (ions, states) in ASKED.items():
        filled, states = np.array(list(ions)) == "1", np.array(states.split(), int)
        x = filled.mean()
        cell, shifts = (
            (1 - x) * np.nan_to_num(a) + x * np.nan_to_num(b) for a, b in zip(*ends.values())
        )
        atoms = lattice.decorated(filled, states, cell, shifts)
        atoms.rattle(0.01, seed=0)
        found = mk.relax(atoms, model, fmax=0.05, progress=False)
        # the axes of the set: its k-points (0 along a) and orbitals (z along c) are named by them
        atoms = Atoms(found.atoms.numbers, found.atoms.positions[:, ::-1], pbc=True)
        atoms.set_cell(found.atoms.cell.lengths()[::-1])
        atoms.set_array("oxi_states", found.atoms.arrays["oxi_states"])
        mk.write_frames(STARTS / f"doubled_{name}.extxyz", [atoms])
        print(name, found.reason, f"{found.atoms.get_potential_energy():.4f} eV", flush=True)


def seeded(atoms):
    """The atoms with the orbital of the sixth electron that DFT found at each site of NaFePO4.

    The cell is the set's up to an origin and the direction of its axes: those that bring the atoms
    closest are taken.
    """
    from ase.geometry import get_distances
    from label import frames_of

    def distances(positions, symbol):
        ours, theirs = atoms.positions[atoms.symbols == symbol], positions[full.symbols == symbol]
        return get_distances(ours, theirs, cell=atoms.cell, pbc=True)[1]

    full, closest = frames_of("x100_na0123_fe-")[-1] * (2, 1, 1), np.inf
    orbitals = full.arrays["sixth_d"][full.symbols == "Fe"]
    seeded, sixth = atoms.copy(), np.zeros((len(atoms), 5))
    for turn in product((1, -1), repeat=3):
        for origin in product(*(np.arange(n) / n for n in (4, 2, 2))):
            positions = (full.get_scaled_positions() * turn + origin) @ atoms.cell
            apart = {s: distances(positions, s) for s in ("Fe", "P", "O")}
            far = max(of.min(axis=1).mean() for of in apart.values())
            if far < closest:
                signs, closest = np.prod(TURNED[np.array(turn) < 0], axis=0), far
                sixth[atoms.symbols == "Fe"] = orbitals[apart["Fe"].argmin(axis=1)] * signs
    seeded.set_array("sixth_d", sixth)
    return seeded


def single_point(job, atoms, before, **how):
    """Label a structure and keep the frame."""
    from label import NORMAL, append, calculator, labelled, settle

    begun = time.time()
    bias = calculator(job, atoms, str(HERE / "log" / f"{job.name}.txt"), before, **how)
    settle(atoms, bias, NORMAL)
    append(job, labelled(job, atoms, NORMAL["density"], kind="doubled", step=0), begun)


def job_of(name, states):
    x = float(np.mean(np.array(states) == 2))
    return SimpleNamespace(name=f"doubled_{name}", oxi_states=states, orbital=2, x=x)


def run(name):
    from ase.io import read
    from label import GENTLY, frames_of

    if not frames_of(f"doubled_{name}"):
        atoms = read(STARTS / f"doubled_{name}.extxyz")
        job = job_of(name, atoms.arrays["oxi_states"][atoms.symbols == "Fe"].tolist())
        single_point(job, atoms, seeded(atoms), mixer=SLOW, let_go=GENTLY)


def ends():
    """The end members as the doubled cell has them: k-points half way along a too."""
    from label import KPOINTS, frames_of

    kpoints = [(a, b, c) for a in (0, 0.5) for _, b, c in KPOINTS]
    for name, state in (("x000_na-_fe0123", 3), ("x100_na0123_fe-", 2)):
        if not frames_of(f"doubled_{name}"):
            relaxed = frames_of(name)[-1]
            single_point(job_of(name, [state] * 4), relaxed.copy(), relaxed, kpoints=kpoints)


if __name__ == "__main__":
    stage, *names = sys.argv[1:]
    if stage == "run":
        for name in names or ASKED:
            run(name)
    else:
        {"start": start, "ends": ends}[stage]()
