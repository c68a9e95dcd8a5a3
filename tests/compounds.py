"""Made-up data sets of compounds that the package was not made on, as a person would bring them: files of frames
with energies, forces and moments, atoms in any order, no oxidation states, no names."""

import itertools

import numpy as np
from ase import Atoms
from ase.build import make_supercell
from ase.calculators.singlepoint import SinglePointCalculator
from ase.spacegroup import crystal

import mlipkit as mk

MOMENT = {
    ("V", 2): 2.65,
    ("V", 3): 1.93,
    ("V", 4): 1.06,
    ("V", 5): 0.06,
    ("Mn", 2): 4.62,
    ("Mn", 3): 3.94,
    ("Mn", 4): 3.20,
    ("Fe", 2): 3.73,
    ("Fe", 3): 4.31,
    ("Co", 3): 0.08,
    ("Co", 4): 1.10,
    ("Ni", 2): 1.81,
    ("Ni", 3): 1.20,
    ("Ni", 4): 0.20,
}


def olivine(ion="Li", metal="Mn", a=(10.45, 6.10, 4.74)):
    """AMPO4, Pnma, 28 atoms; parameters near those of LiMnPO4."""
    sites = {
        ion: (0, 0, 0),
        metal: (0.282, 0.25, 0.972),
        "P": (0.092, 0.25, 0.408),
    }
    oxygen = [(0.097, 0.25, 0.733), (0.456, 0.25, 0.210), (0.161, 0.050, 0.277)]
    return crystal(
        [*sites, "O", "O", "O"],
        [*sites.values(), *oxygen],
        spacegroup=62,
        cellpar=[*a, 90, 90, 90],
    )


def spinel(ion="Li", metal="Mn", a=8.24):
    """AM2O4, Fd-3m, the primitive cell of 14 atoms."""
    places = [(0.125, 0.125, 0.125), (0.5, 0.5, 0.5), (0.2635, 0.2635, 0.2635)]
    return crystal(
        [ion, metal, "O"],
        places,
        spacegroup=227,
        setting=2,
        cellpar=[a, a, a, 90, 90, 90],
        primitive_cell=True,
    )


def nasicon():
    """Na4V2(PO4)3, R-3c with all sites of Na filled, the primitive cell of 42 atoms."""
    places = {
        "Na": [(0, 0, 0), (0.634, 0, 0.25)],
        "V": [(0, 0, 0.1470)],
        "P": [(0.2885, 0, 0.25)],
        "O": [(0.1775, 0.9714, 0.1925), (0.1909, 0.1692, 0.0854)],
    }
    symbols = [s for s, each in places.items() for _ in each]
    return crystal(
        symbols,
        [p for each in places.values() for p in each],
        spacegroup=167,
        cellpar=[8.73, 8.73, 21.8, 90, 90, 120],
        primitive_cell=True,
    )


def rhombohedral(ion="Li", metal="Co"):
    """LiMO2, R-3m, the primitive cell of one formula unit."""
    places = {ion: (0, 0, 0.5), metal: (0, 0, 0), "O": (0, 0, 0.26)}
    return crystal(
        [*places],
        [*places.values()],
        spacegroup=166,
        cellpar=[2.86, 2.86, 14.2, 90, 90, 120],
        primitive_cell=True,
    )


def layered():
    """Li3NiMnCoO6: LiMO2, R-3m, in the cell in which three metals make a layer."""
    small = rhombohedral()
    # the rhombohedral vectors are a layer apart: two in the plane, and one out of it
    a, b, c = small.cell
    inside = [b - a, c - a]
    plane = np.linalg.solve(
        small.cell.array.T, np.array([2 * inside[0] - inside[1], inside[0] + inside[1], a]).T
    ).T
    large = make_supercell(small, np.rint(plane).astype(int))
    metals = np.flatnonzero(large.symbols == "Co")
    large.symbols[metals] = ["Ni", "Mn", "Co"]
    return large


def magnetite():
    """Fe3O4, Fd-3m, the primitive cell of 14 atoms; nothing moves."""
    return spinel("Fe", "Fe", 8.40)


def energy_of(atoms, states, mobile, volts=3.4):
    """A made-up energy (eV): an offset per framework atom, a voltage, and screened repulsion of states and ions."""
    rest = [s for s in atoms.symbols if s != mobile]
    n = len(atoms) - len(rest)
    charge = np.asarray(states, float)
    distance = atoms.get_all_distances(mic=True)
    i, j = np.triu_indices(len(atoms), 1)
    near = distance[i, j]
    pairs = (charge[i] * charge[j] * np.exp(-near / 1.1) / near).sum()
    return float(-7.0 * len(rest) - volts * n + 0.4 * pairs)


def frames_of(host, compound, n_mobile=None, copies=1, seed=0, sign=1, fixed=None):
    """(frames without a name or a state, the orderings that they are of): every ordering `copies` times."""
    rng, frames, asked = np.random.default_rng(seed), [], []
    orderings = mk.enumerate_orderings(
        host, compound, n_mobile=n_mobile, fixed=fixed, progress=False
    )
    for ordering, copy in itertools.product(orderings, range(copies)):
        atoms = ordering.atoms()
        states = atoms.arrays["oxi_states"]
        energy = energy_of(atoms, states, compound.mobile) + 0.02 * copy
        pairs = zip(atoms.get_chemical_symbols(), states.tolist())
        moments = np.array([MOMENT.get(pair, 0.0) for pair in pairs])
        moments += rng.normal(0, 0.01, len(atoms)) * (moments != 0)
        moments *= np.where(np.arange(len(atoms)) % 2, sign, 1)
        shuffled = rng.permutation(len(atoms))
        positions = atoms.positions + rng.normal(0, 0.02, (len(atoms), 3))
        one = Atoms(atoms.numbers[shuffled], positions[shuffled], cell=atoms.cell, pbc=True)
        one.calc = SinglePointCalculator(
            one,
            energy=energy,
            forces=rng.normal(0, 0.02, (len(one), 3)),
            magmoms=moments[shuffled],
        )
        frames.append(one)
        asked.append(ordering)
    return frames, asked


def from_disk(frames, path):
    """Written by ASE as anybody would, read by the package."""
    import ase.io

    ase.io.write(path, frames, format="extxyz")
    return mk.read_frames(path, progress=False)
