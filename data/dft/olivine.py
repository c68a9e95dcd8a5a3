"""The cells of the campaign: olivine NaxFePO4 and LixFePO4, 28 atoms, Pnma, every arrangement of
ions and charge ordering.

Needs ASE, NumPy and spglib only; `label.py` holds the DFT.

A tag reads x050_na01_fe23: Na on the 4a sites 0 and 1, Fe3+ on the 4c sites 2 and 3 (of four each);
x050_li01_fe23 the same with Li.
"""

import functools
import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase.io import read
from ase.spacegroup import crystal

# End members relaxed with pretrained CHGNet 0.3.0: cell lengths (Å) and Wyckoff positions, taken
# linear in x in between
FEPO4 = np.array([9.971, 5.850, 4.888])
FULL = {"Na": np.array([10.398, 6.437, 5.007]), "Li": np.array([10.448, 6.078, 4.760])}
SITES_FEPO4 = {
    "ion": (0, 0, 0),
    "Fe": (0.2734, 0.25, 0.9582),
    "P": (0.0942, 0.25, 0.4052),
    "O1": (0.1211, 0.25, 0.7123),
    "O2": (0.4438, 0.25, 0.1537),
    "O3": (0.1677, 0.0447, 0.2566),
}
SITES_FULL = {
    "Na": {
        "ion": (0, 0, 0),
        "Fe": (0.2855, 0.25, 0.9932),
        "P": (0.1096, 0.25, 0.4454),
        "O1": (0.1177, 0.25, 0.7534),
        "O2": (0.4664, 0.25, 0.1494),
        "O3": (0.1767, 0.0577, 0.3135),
    },
    "Li": {
        "ion": (0, 0, 0),
        "Fe": (0.2805, 0.25, 0.9753),
        "P": (0.0935, 0.25, 0.4169),
        "O1": (0.0977, 0.25, 0.7396),
        "O2": (0.4552, 0.25, 0.2043),
        "O3": (0.1633, 0.0467, 0.2812),
    },
}
STARTS = Path(__file__).parent / "starts"
# Å: Fe-O shortened around Fe3+, lengthened around Fe2+, so that the charge localises where asked
BREATHE = 0.06
N_RATTLED, N_STRAINED = 4, 2  # displaced frames per ordering
BACK = (0.5, 1.0)  # how far a relaxed cell is moved back onto the undistorted host
D_ORBITALS = ("xy", "yz", "3z2-r2", "xz", "x2-y2")  # GPAW's order
# relaxed again from a second start
REPEATED = ("x025_na0_fe013", "x050_na01_fe01", "x075_na012_fe0")
# whose structures DFT judges
VERDICT_ON = (
    "chgnet_aware",
    "chgnet_blind",
    "cpainn_aware",
    "cpainn_blind",
    "mace_aware",
    "mace_blind",
)
# its relaxation stayed in pure 3z2-r2: the place to try the other four orbitals
ORBITALS_OF = "x050_na02_fe13"


@dataclass(frozen=True)
class Job:
    """One row of the campaign. `kind`: relax, repeat, orbital, cell, back, displaced, metal or
    verdict.
    """

    name: str
    kind: str
    ions: tuple = ()
    fe3: tuple = ()
    orbital: int = 2
    degeneracy: int = 1
    ion: str = "Na"

    @property
    def tag(self):
        return tag_of(self.ions, self.fe3, self.ion)

    @property
    def x(self):
        return len(self.ions) / 4

    @property
    def oxi_states(self):
        return [3 if i in self.fe3 else 2 for i in range(4)]


def tag_of(ions, fe3, ion="Na"):
    on, iron = ("".join(map(str, sites)) or "-" for sites in (ions, fe3))
    return f"x{25 * len(ions):03d}_{ion.lower()}{on}_fe{iron}"


def host(x, ion="Na"):
    """The filled cell with the lattice of composition x; atoms in order ion, Fe, P, O."""
    lengths = FEPO4 + x * (FULL[ion] - FEPO4)
    sites = [
        tuple((1 - x) * np.array(a) + x * np.array(b))
        for a, b in zip(SITES_FEPO4.values(), SITES_FULL[ion].values())
    ]
    atoms = crystal(
        [ion, "Fe", "P", "O", "O", "O"], sites, spacegroup=62, cellpar=[*lengths, 90, 90, 90]
    )
    atoms = atoms[
        np.argsort([[ion, "Fe", "P", "O"].index(s) for s in atoms.symbols], kind="stable")
    ]
    atoms.info.clear()
    for name in set(atoms.arrays) - {"numbers", "positions"}:
        del atoms.arrays[name]
    return atoms


@functools.cache
def permutations():
    """How the symmetry of the host permutes its atoms: one index array per operation."""
    import spglib

    atoms = host(1.0)
    s = atoms.get_scaled_positions()
    operations = spglib.get_symmetry((atoms.cell.array, s, atoms.numbers), symprec=1e-3)
    result = []
    for r, t in zip(operations["rotations"], operations["translations"]):
        d = (s @ r.T + t)[:, None] - s[None]
        result.append(np.argmin(np.abs(d - np.round(d)).sum(-1), axis=1))
    return result


def canonical(ions, fe3):
    """The first of all (sites of ions, of Fe3+) that the host's symmetry makes of this one."""
    return min(
        (tuple(sorted(int(p[i]) for i in ions)), tuple(sorted(int(p[4 + i]) - 4 for i in fe3)))
        for p in permutations()
    )


def arrangements():
    """The symmetry-distinct (sites of ions, sites of Fe3+) of neutral cells with their
    degeneracies, by composition.
    """
    count = {}
    for n_ions in range(5):
        for ions in itertools.combinations(range(4), n_ions):
            for fe3 in itertools.combinations(range(4), 4 - n_ions):
                key = canonical(ions, fe3)
                count[key] = count.get(key, 0) + 1
    return dict(sorted(count.items(), key=lambda item: (len(item[0][0]), item[0])))


def jobs():
    """The campaign in the order in which it is worked off."""
    table = arrangements()
    relax = [Job(tag_of(*key), "relax", *key, degeneracy=g) for key, g in table.items()]
    of = {job.tag: job for job in relax}
    repeat = [Job(f"{t}.repeat", "repeat", of[t].ions, of[t].fe3) for t in REPEATED]
    orbital = [
        Job(f"{ORBITALS_OF}.{name}", "orbital", of[ORBITALS_OF].ions, of[ORBITALS_OF].fe3, i)
        for i, name in enumerate(D_ORBITALS)
        if i != 2
    ]
    cell = [Job(f"{job.tag}.cell", "cell", job.ions, job.fe3) for job in relax]
    back = [Job(f"{job.tag}.back", "back", job.ions, job.fe3) for job in relax]
    displaced = [Job(f"{job.tag}.displaced", "displaced", job.ions, job.fe3) for job in relax]
    return [
        *relax,
        Job("na_bcc", "metal"),
        *repeat,
        *orbital,
        *cell,
        *back,
        *displaced,
        *verdicts(),
        *lithium(table),
    ]


def lithium(table):
    """The same of LixFePO4: relaxations, bcc Li, displaced copies. FePO4 is that of the sodium
    set.
    """
    keys = [key for key in table if key[0]]
    relax = [
        Job(tag_of(*key, "Li"), "relax", *key, degeneracy=table[key], ion="Li") for key in keys
    ]
    displaced = [
        Job(f"{job.tag}.displaced", "displaced", job.ions, job.fe3, ion="Li") for job in relax
    ]
    # the end member and the lowest orderings of sodium first: what a hull needs
    first = ["x100_li0123_fe-", "x050_li01_fe02", "x050_li03_fe02", "x050_li02_fe13"]
    relax.sort(key=lambda job: first.index(job.tag) if job.tag in first else len(first))
    return [relax[0], Job("li_bcc", "metal", ion="Li"), *relax[1:], *displaced]


def verdicts():
    """Single points on structures that the models relaxed, one for each start that
    `starts.py verdicts` has written.
    """
    found = []
    for model in VERDICT_ON:
        for path in sorted(STARTS.glob(f"*.{model}.extxyz")):
            _, ions, fe3 = path.name.split(".")[0].split("_")
            ions, fe3 = (tuple(int(c) for c in sites[2:] if c != "-") for sites in (ions, fe3))
            found.append(Job(f"{tag_of(ions, fe3)}.{model}", "verdict", ions, fe3))
    return found


def start(job):
    """Start geometry of a relaxation: that of `starts.py` if there is one, else the host, breathing
    around each Fe; of a Li ordering, distorted as the relaxed Na ordering is.

    A repeat is rattled by 0.03 Å besides; a free cell must have been given.
    """
    given = STARTS / f"{job.name}.extxyz"
    if job.kind == "cell" and not given.exists():
        raise SystemExit(f"{job.name}: run starts.py {job.name} first; it makes the cell")
    if given.exists():
        return read(given)
    return breathing(job) if job.ion == "Na" else transferred(job)


def transferred(job):
    """The host of a Li ordering, distorted as DFT's relaxed cell of the same Na ordering is: its
    cages are closed around the right irons.
    """
    relaxed = read(STARTS.parent / "frames" / f"{tag_of(job.ions, job.fe3)}.extxyz", -1)
    model = undistorted(Job(job.name, job.kind, job.ions, job.fe3))
    atoms = undistorted(job)
    moved = relaxed.get_scaled_positions() - model.get_scaled_positions()
    atoms.set_scaled_positions(atoms.get_scaled_positions() + moved - np.round(moved))
    return atoms


def breathing(job):
    atoms = host(job.x, job.ion)
    fe, p, o = (np.flatnonzero(atoms.symbols == s) for s in ("Fe", "P", "O"))
    move = np.zeros((len(atoms), 3))
    for i, q in zip(fe, job.oxi_states):
        for j in o:
            v = atoms.get_distance(i, j, mic=True, vector=True)
            if (d := np.linalg.norm(v)) < 2.6:
                move[j] += (BREATHE if q == 2 else -BREATHE) * v / d
    # PO4 is stiff: breathe without stretching P-O
    for i in p:
        for j in o:
            v = atoms.get_distance(i, j, mic=True, vector=True)
            if (d := np.linalg.norm(v)) < 1.8:
                move[j] -= (move[j] @ v) * v / d**2
    if 0 < len(job.fe3) < 4:
        atoms.positions += move
    del atoms[[i for i in range(4) if i not in job.ions]]
    if job.kind == "repeat":
        atoms.rattle(0.03, seed=1)
    return atoms


def undistorted(job):
    """The host without the ions that are not there: only the labels tell one Fe from another."""
    atoms = host(job.x, job.ion)
    del atoms[[i for i in range(4) if i not in job.ions]]
    return atoms


def moved_back(job, relaxed):
    """The relaxed cell on the straight way back to the undistorted one, which is the last."""
    target = undistorted(job)
    for step, share in enumerate(BACK):
        atoms = relaxed.copy()
        atoms.positions += share * (target.positions - relaxed.positions)
        yield "undistorted" if share == 1 else f"back_{step}", atoms


def displaced(job, relaxed):
    """Rattled (0.03 to 0.08 Å) and strained (up to 3 %) copies of a relaxed cell; the same ones at
    every call.
    """
    rng = np.random.default_rng([int(c) for c in job.tag.encode()])
    for i, sigma in enumerate(np.linspace(0.03, 0.08, N_RATTLED)):
        atoms = relaxed.copy()
        atoms.positions += rng.normal(0, sigma, atoms.positions.shape)
        yield f"rattled_{i}", atoms
    for i in range(N_STRAINED):
        strain = rng.uniform(-0.03, 0.03, (3, 3))
        strain = (strain + strain.T) / 2
        atoms = relaxed.copy()
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
        atoms.positions += rng.normal(0, 0.02, atoms.positions.shape)
        yield f"strained_{i}", atoms
