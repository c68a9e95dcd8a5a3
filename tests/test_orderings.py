"""Orderings: counts against Burnside, brute force and pymatgen; names against the embedded set and
under every disguise.
"""

import itertools
import math
import re
from collections import Counter

import numpy as np
import olivine
import pytest
from ase import Atoms
from ase.build import bulk, make_supercell
from ase.spacegroup import crystal
from compounds import rhombohedral
from hypothesis import given, settings
from hypothesis import strategies as st

import mlipkit as mk
import mlipkit.orderings.hosts
from mlipkit.orderings.enumeration import count_orderings, enumerate_orderings
from mlipkit.orderings.host_search import find_host
from mlipkit.orderings.hosts import map_onto_host, permutations, supercell, superlattice
from mlipkit.orderings.names import (
    arrangement,
    described,
    ordering_label,
    same_ordering,
    site_numbers,
)
from mlipkit.orderings.naming import orderings_table

HOST = olivine.host(1.0)
ALL = list(enumerate_orderings(HOST))
# numbered as in a host found from a frame
FOUND = [ordering_label(o.atoms(), find_host(HOST)) for o in ALL]
LAYERED = crystal(
    ["Na", "Fe", "O"],
    [(0, 0, 0.5), (0, 0, 0), (0, 0, 0.235)],
    spacegroup=166,
    cellpar=[3.02, 3.02, 16.1, 90, 90, 120],
    primitive_cell=True,
)  # alpha-NaFeO2, rhombohedral
NAFE = mk.Compound("Na", {"Fe": (2, 3)})
FE34 = mk.Compound("Na", {"Fe": (3, 4)})


def mixed_metals():
    """Two of the four Fe are Mn."""
    host = HOST.copy()
    host.symbols[[4, 6]] = "Mn"
    return host


# --- enumeration
# ---------------------------------------------------------------------------------------------------------------


def test_agrees_with_the_recipe():
    """The campaign's own enumeration: same names, same degeneracies, in the same order."""
    assert [(o.label, o.degeneracy) for o in ALL] == [
        (olivine.tag_of(*key), g) for key, g in olivine.arrangements().items()
    ]


def test_atoms_of_an_ordering():
    for o in ALL:
        atoms = o.atoms()
        assert atoms.arrays["oxi_states"].sum() == 0 and len(atoms) == 24 + len(o.mobile_sites)
        assert np.array_equal(
            atoms.positions[: len(o.mobile_sites)], HOST.positions[list(o.mobile_sites)]
        )
        fe = np.flatnonzero(atoms.symbols == "Fe")
        assert tuple(np.flatnonzero(atoms.arrays["oxi_states"][fe] == 3)) == atoms.info["fe3_sites"]
        assert (
            atoms.info["ordering"]
            == olivine.tag_of(atoms.info["na_sites"], atoms.info["fe3_sites"])
            == o.label
        )
        assert (
            atoms.info["x"] == o.x == len(o.mobile_sites) / 4
            and atoms.info["degeneracy"] == o.degeneracy
        )
        assert np.array_equal(o.redox_sites, [4, 5, 6, 7]) and np.array_equal(
            o.oxi_states, atoms.arrays["oxi_states"][fe]
        )


CASES = {
    "olivine": dict(host=HOST),
    "olivine 1x2x1": dict(host=HOST, supercell=(1, 2, 1), n_mobile=[0, 1, 2, 3, 8]),
    "Fe and Mn": dict(
        host=mixed_metals(), compound=mk.Compound("Na", {"Fe": (2, 3), "Mn": (2, 3)})
    ),
    "Mn with three states": dict(
        host=mixed_metals(), compound=mk.Compound("Na", {"Fe": (2, 3), "Mn": (2, 3, 4)})
    ),
    "Mn fixed": dict(host=mixed_metals(), fixed={"Mn": 2}),
    "charged": dict(host=HOST, total_charge=-1),
    "layered": dict(host=LAYERED, supercell=(2, 2, 1), compound=FE34),
    "layered, skewed": dict(
        host=LAYERED, supercell=[[1, 1, -1], [0, 2, 0], [0, 0, 2]], compound=FE34
    ),
    "arrangements": dict(host=LAYERED, supercell=(2, 2, 2), compound=mk.Compound("Na", {})),
    "no mobile ion": dict(host=HOST, compound=mk.Compound(None, {"Fe": (2, 3)}), total_charge=2),
    "one arrangement": dict(host=HOST, supercell=(1, 2, 1), mobile_sites=(0, 2, 5, 7)),
}


def brute_force(
    host,
    compound=NAFE,
    n_mobile=None,
    supercell=None,
    mobile_sites=None,
    fixed=None,
    total_charge=0,
):
    """Every configuration of the cell, sorted into orbits by following all permutations: Counter of
    orbit sizes per n.
    """
    mobile, redox = compound.mobile, compound.redox
    big = mlipkit.orderings.hosts.supercell(host, supercell)
    symbols = np.array(big.get_chemical_symbols())
    na, tm = np.flatnonzero(symbols == mobile), np.flatnonzero(np.isin(symbols, list(redox)))
    perms = permutations(big, np.concatenate([na, tm]).astype(int))
    charge = {"Na": 1, "P": 5, "O": -2, **(fixed or {})}
    rest = sum(charge.get(s, 0) for i, s in enumerate(symbols) if i not in na and i not in tm)
    left = set()
    for filled in itertools.product((0, 1), repeat=len(na)):
        if mobile_sites is not None and set(np.flatnonzero(filled)) != set(mobile_sites):
            continue
        for states in itertools.product(*(redox[s] for s in symbols[tm])):
            if not redox or rest + sum(filled) + sum(states) == total_charge:
                left.add((*filled, *states))
    orbits = {}
    while left:
        start = np.array(next(iter(left)))
        orbit = set(map(tuple, start[perms].tolist())) & left
        left -= orbit
        orbits.setdefault(int(start[: len(na)].sum()), Counter())[len(orbit)] += 1
    return {n: c for n, c in orbits.items() if n_mobile is None or n in n_mobile}


@pytest.mark.parametrize("case", CASES, ids=CASES)
def test_brute_force_and_burnside(case):
    arguments = CASES[case]
    found = {}
    for o in enumerate_orderings(**arguments):
        found.setdefault(len(o.mobile_sites), Counter())[o.degeneracy] += 1
    assert found == brute_force(**arguments) and found
    table = count_orderings(**arguments).set_index("n_mobile")
    assert table["orderings"].to_dict() == {n: c.total() for n, c in found.items()}
    assert table["configurations"].to_dict() == {
        n: sum(g * k for g, k in c.items()) for n, c in found.items()
    }


@pytest.mark.parametrize("case", ["olivine", "Mn with three states"])
def test_against_pymatgen(case):
    """StructureMatcher knows nothing of permutations or groups: it overlays structures."""
    from pymatgen.analysis.structure_matcher import StructureMatcher
    from pymatgen.core import Lattice, Species, Structure

    arguments = CASES[case] | {"n_mobile": 2 if case == "olivine" else 3}
    host, redox = arguments["host"], arguments.get("compound", NAFE).redox
    lattice, s, symbols = (
        Lattice(host.cell.array),
        host.get_scaled_positions(),
        host.get_chemical_symbols(),
    )
    structures, fixed = [], {"Na": 1, "P": 5, "O": -2}
    for na in itertools.combinations(range(4), arguments["n_mobile"]):
        for states in itertools.product(*(redox[e] for e in symbols[4:8])):
            charges = [fixed.get(e) or states[i - 4] for i, e in enumerate(symbols)]
            keep = [i for i in range(28) if i >= 4 or i in na]
            if sum(charges[i] for i in keep) == 0:
                structures.append(
                    Structure(lattice, [Species(symbols[i], charges[i]) for i in keep], s[keep])
                )
    matcher = StructureMatcher(
        primitive_cell=False, scale=False, stol=0.05, attempt_supercell=False
    )
    groups = matcher.group_structures(structures)
    orderings = list(enumerate_orderings(**arguments))
    assert sorted(map(len, groups)) == sorted(o.degeneracy for o in orderings)
    assert len(structures) == count_orderings(**arguments)["configurations"].item()


@pytest.mark.parametrize(
    "matrix",
    [
        (1, 1, 1),
        (2, 1, 1),
        (2, 2, 1),
        (1, 2, 3),
        [[1, 1, 0], [0, 2, 0], [0, 0, 1]],
        [[-1, 1, 1], [1, -1, 1], [1, 1, -1]],
    ],
    ids=str,
)
def test_group_of_a_supercell(matrix):
    """Order: operations of the primitive cell that keep the superlattice, times its translations."""
    import spglib

    unit = bulk("NaCl", "rocksalt", a=5.6)
    s = np.diag(matrix) if np.ndim(matrix) == 1 else np.array(matrix)
    rotations = spglib.get_symmetry((unit.cell.array, unit.get_scaled_positions(), unit.numbers))[
        "rotations"
    ]
    kept = [r for r in rotations if np.allclose(m := s @ r.T @ np.linalg.inv(s), np.rint(m))]
    big = supercell(unit, matrix)
    operations = spglib.get_symmetry((big.cell.array, big.get_scaled_positions(), big.numbers))[
        "rotations"
    ]
    assert len(operations) == len(kept) * round(abs(np.linalg.det(s)))
    perms = permutations(big, range(len(big)))
    assert {p[q].tobytes() for p in perms for q in perms} == {p.tobytes() for p in perms}
    assert len(operations) % len(perms) == 0


def test_24_formula_units():
    """x = 5/6 in the 1x3x2 cell: the most symmetric Na arrangement, and one without symmetry. x =
    2/3: see the benchmark.
    """
    arrangements = list(
        enumerate_orderings(HOST, supercell=(1, 3, 2), compound=mk.Compound("Na", {}), n_mobile=20)
    )
    assert sum(o.degeneracy for o in arrangements) == math.comb(24, 20)
    for o in (
        min(arrangements, key=lambda o: o.degeneracy),
        max(arrangements, key=lambda o: o.degeneracy),
    ):
        kept = 48 // o.degeneracy  # operations that leave the arrangement alone
        given = dict(host=HOST, supercell=(1, 3, 2), mobile_sites=o.mobile_sites)
        found = list(enumerate_orderings(**given))
        assert sum(f.degeneracy for f in found) == math.comb(24, 4) == 10626
        assert len(found) == count_orderings(**given)["orderings"].item()
        assert 10626 / kept <= len(found) <= 1.1 * 10626 / kept
        assert len({f.label for f in found[::40]}) == len(found[::40])
        assert all(f.oxi_states.sum() == 20 * 2 + 4 * 3 for f in found[::40])
    assert arrangements and kept == 1 and len(found) == 10626


def test_lazy_where_the_space_is_huge():
    """C(24, 8) arrangements times C(24, 8) charge orderings: the first thousand come at once."""
    assert (
        count_orderings(HOST, supercell=(1, 3, 2), n_mobile=16)["configurations"].item()
        == math.comb(24, 8) ** 2
    )
    first = list(
        itertools.islice(enumerate_orderings(HOST, supercell=(1, 3, 2), n_mobile=16), 1000)
    )
    assert len({o.label for o in first}) == 1000 and all(o.label.endswith("_1x3x2") for o in first)


def test_charge_orderings_of_one_arrangement_add_up():
    """All arrangements one by one, weighted by their own degeneracy, give the whole."""
    cell = dict(host=HOST, supercell=(1, 2, 1), n_mobile=3)
    whole = Counter()
    for o in enumerate_orderings(**cell):
        whole[o.label] += o.degeneracy
    parts = Counter()
    for a in enumerate_orderings(**cell, compound=mk.Compound("Na", {})):
        for o in enumerate_orderings(**cell, mobile_sites=a.mobile_sites):
            parts[o.label] += a.degeneracy * o.degeneracy
    assert parts == whole and whole.total() == math.comb(8, 3) ** 2


def test_host_states_and_fixed_charges():
    host = HOST.copy()
    host.symbols[host.symbols == "P"] = "Xe"
    with pytest.raises(mk.InputError, match="which charge does Xe have"):
        enumerate_orderings(host)
    host.symbols[host.symbols == "Xe"] = "S"
    host.set_array(
        "oxi_states", np.array([{"Na": 1, "Fe": 2, "S": 6, "O": -2}[s] for s in host.symbols])
    )
    with pytest.raises(mk.InputError, match="sum to 8 with 0 Na, and can to 0 to 4"):
        enumerate_orderings(host, compound=mk.Compound("Na", {"Fe": (0, 1)}), n_mobile=0)
    assert (
        sum(
            o.degeneracy
            for o in enumerate_orderings(
                host, compound=mk.Compound("Na", {"Fe": (1, 2)}), n_mobile=2
            )
        )
        == 36
    )
    assert sum(o.degeneracy for o in enumerate_orderings(host, fixed={"S": 5}, n_mobile=2)) == 36
    host.arrays["oxi_states"][8] = 4
    with pytest.raises(mk.InputError, match=r"S has the oxidation states \[4.0, 6.0\] in the host"):
        enumerate_orderings(host, compound=mk.Compound("Na", {"Fe": (1, 2)}))


def test_sulphates_balance_without_being_told():
    host = HOST.copy()
    host.symbols[host.symbols == "P"] = "S"  # S6+ by its four O
    found = [o for o in enumerate_orderings(host, n_mobile=0) if o.oxi_states.sum() == 8]
    assert len(found) == 1 and found[0].atoms().arrays["oxi_states"].sum() == 0


def test_errors_come_at_the_call():
    for message, arguments in {
        "has no Li": dict(compound=mk.Compound("Li", {"Fe": (2, 3)})),
        "has no Mn": dict(compound=mk.Compound("Na", {"Mn": (2, 3)})),
        "has 4 Na sites": dict(n_mobile=5),
        "n_mobile .* at least 0, not -1": dict(n_mobile=[-1]),
        "different numbers from 0 to 3": dict(mobile_sites=(0, 4)),
        "names 2 ions, n_mobile says 3": dict(mobile_sites=(0, 1), n_mobile=3),
        "different numbers": dict(mobile_sites=(1, 1)),
        "sum to 6 with 2 Na": dict(n_mobile=2, total_charge=-4),
        "are too many": dict(supercell=(3, 3, 2)),
        "matrix of integers": dict(supercell=(1.5, 1, 1)),
        "spans a volume": dict(supercell=(0, 1, 1)),
    }.items():
        with pytest.raises(mk.InputError, match=message):
            enumerate_orderings(HOST, **arguments)
    with pytest.raises(mk.InputError, match="no crystal"):
        enumerate_orderings(Atoms("NaFeO2", positions=np.random.default_rng(0).random((4, 3)) * 5))
    twice = HOST + HOST[:1]
    with pytest.raises(mk.InputError, match="spglib finds no symmetry"):
        enumerate_orderings(twice)


def test_a_host_that_is_almost_symmetric_is_pointed_out():
    crooked = HOST.copy()
    crooked.rattle(0.01, seed=1)
    with pytest.warns(UserWarning, match="1 symmetry operations within 0.01 Å and 8 within 0.1 Å"):
        assert len(list(enumerate_orderings(crooked, n_mobile=1))) == 16
    exact = find_host(crooked)
    assert sorted(o.degeneracy for o in enumerate_orderings(exact)) == sorted(
        o.degeneracy for o in ALL
    )


# --- names
# ---------------------------------------------------------------------------------------------------------------------


def test_names_of_the_embedded_frames(frames):
    """Under the recipe's host every frame, relaxing or relaxed, x = 0 to 1 on its own lattice, has
    the name that it carries.
    """
    assert all(ordering_label(a, HOST) == a.info["ordering"] for a in frames)


def test_a_name_on_other_numbers_than_the_one_it_carries_says_so(ends):
    import warnings

    atoms = next(a for a in ends if a.info["ordering"] == "x050_na01_fe02").copy()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ordering_label(atoms, ends[-1]) == "x050_na01_fe02"
    with pytest.warns(UserWarning, match="x050_na01_fe02, which the frame carries.*Give host="):
        name = ordering_label(atoms)
    del atoms.info["ordering"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ordering_label(atoms) == name != "x050_na01_fe02"


@pytest.mark.filterwarnings("ignore:ordering_label")
def test_partition_without_a_host(frames):
    """Every frame with Na on its own: one name for each of the names they carry."""
    some = [a for a in frames if a.info["x"] > 0][::4]
    pairs = {(a.info["ordering"], ordering_label(a)) for a in some}
    assert len(pairs) == len({p[0] for p in pairs}) == len({p[1] for p in pairs}) == 15
    with pytest.raises(mk.InputError, match="no frame holds Na.*host="):
        ordering_label(next(a for a in frames if a.info["x"] == 0))


def test_table(frames):
    table = orderings_table(frames, HOST, progress=False)
    carried = {a.info["ordering"]: a.info["degeneracy"] for a in frames}
    assert dict(zip(table["ordering"], table["degeneracy"])) == carried
    assert dict(zip(table["ordering"], table["n_frames"])) == Counter(
        a.info["ordering"] for a in frames
    )
    for row in table.itertuples():
        energies = {
            i: a.get_potential_energy() / 4
            for i, a in enumerate(frames)
            if a.info["ordering"] == row.ordering
        }
        assert row.energy_per_fu == min(energies.values()) == energies[row.lowest_frame]
        assert row.above_lowest == pytest.approx(
            1000 * (row.energy_per_fu - table.energy_per_fu[table.x == row.x].min())
        )
        assert (
            row.x == frames[row.lowest_frame].info["x"]
            and row.formula == frames[row.lowest_frame].get_chemical_formula()
        )
    # host from the frames, the one without Na included
    found = orderings_table(frames, progress=False)
    assert sorted(zip(found["n_frames"], found["degeneracy"])) == sorted(
        zip(table["n_frames"], table["degeneracy"])
    )
    assert orderings_table([]).empty and list(orderings_table([])) == list(table)
    bare = [frames[0].copy()]
    assert orderings_table(bare, HOST)["energy_per_fu"].isna().all()


def disguised(atoms, rng, rattle=0.05, strain=0.02):
    """The same ordering as a stranger would hand it in: other order, origin, orientation,
    handedness, cell vectors, relaxed.
    """
    atoms = atoms[rng.permutation(len(atoms))]
    e = rng.uniform(-strain, strain, (3, 3))
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + (e + e.T) / 2), scale_atoms=True)
    atoms.positions += rng.normal(0, rattle, atoms.positions.shape) + rng.uniform(-20, 20, 3)
    q = np.linalg.qr(rng.normal(size=(3, 3)))[0]  # a rotation, or one with a mirror
    atoms.set_cell(atoms.cell.array @ q, scale_atoms=True)
    atoms.set_cell(
        np.array([[1, 0, 0], [rng.integers(-1, 2), 1, 0], [0, rng.integers(-1, 2), 1]])[
            rng.permutation(3)
        ]
        @ atoms.cell.array
    )
    if rng.random() < 0.5:
        atoms.wrap()
    return atoms


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, len(ALL) - 1))
def test_disguise_does_not_matter(seed, i):
    atoms = disguised(ALL[i].atoms(), np.random.default_rng(seed))
    assert ordering_label(atoms, HOST) == ALL[i].label


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, len(ALL) - 1))
def test_disguise_does_not_matter_without_a_host(seed, i):
    """235 and 10: Fe nearly on the mirror of another setting, where sorting by coordinates numbered
    sites by noise.
    """
    for k, j in ((seed, i), (235, 10)):
        assert ordering_label(disguised(ALL[j].atoms(), np.random.default_rng(k))) == FOUND[j]


def test_disguise_of_the_host():
    """Axes swapped, atoms in another order: other numbers perhaps, the same classes."""
    swapped = make_supercell(HOST, [[0, 0, 1], [1, 0, 0], [0, 1, 0]])[
        np.random.default_rng(3).permutation(28)
    ]
    pairs = {(o.label, ordering_label(o.atoms(), swapped)) for o in ALL}
    assert len(pairs) == 16 == len({p[1] for p in pairs})
    assert sorted(o.degeneracy for o in enumerate_orderings(swapped)) == sorted(
        o.degeneracy for o in ALL
    )


@pytest.mark.parametrize("seed", range(3))
def test_supercell_of_the_host(seed):
    rng = np.random.default_rng(seed)
    some = list(enumerate_orderings(HOST, supercell=(1, 2, 1), n_mobile=4))[::97]
    for o in (some[i] for i in rng.choice(len(some), 4, replace=False)):
        assert (
            o.label.endswith("_1x2x1")
            and ordering_label(disguised(o.atoms(), rng), HOST) == o.label
        )


@pytest.mark.parametrize("n", [0, 1, 2])
def test_names_of_large_cells_tell_the_fewer_sites(n):
    """A hole on n of 48 Co, each with a Li less; a name of all the other sites nobody could read."""
    host = rhombohedral()
    atoms = host.repeat((4, 4, 3))
    cobalt, lithium = (np.flatnonzero(atoms.symbols == e) for e in ("Co", "Li"))
    states = np.array([{"Li": 1, "O": -2, "Co": 3}[s] for s in atoms.symbols])
    states[cobalt[:n]] = 4
    atoms.set_array("oxi_states", states)
    del atoms[lithium[:n]]
    atoms.rattle(0.03, seed=n)
    name = ordering_label(atoms, host)
    words = described(name)
    if n == 0:
        assert name == "x100_liall_coall_3x4x4"
        assert words == "x = 1, Li on all, Co3+ on all, in a cell of 3×4×4"
        return
    assert re.fullmatch(r"x09\d_linot[\d.]+_conot([\d.]+)_co4\.\1_3x4x4", name)
    _, on_li, on_co3, on_co4 = words.split(", ")[:4]
    assert on_li.startswith("Li on all but ") and on_co3.startswith("Co3+ on all but ")
    assert on_co4 == "Co4+ on " + on_co3.removeprefix("Co3+ on all but ")
    assert arrangement(name) == name.split("_co")[0] + "_3x4x4"
    numbers = site_numbers(atoms, host)
    holes = sorted(numbers[atoms.arrays["oxi_states"] == 4].tolist())
    assert on_co4 == "Co4+ on " + " and ".join(map(str, holes))


def test_primitive_and_centred_cells():
    """A rhombohedral host of one formula unit: its hexagonal cell holds its ions three times, and
    translations are symmetry.
    """
    hexagonal = [[1, -1, 0], [0, 1, -1], [1, 1, 1]]
    orderings = list(enumerate_orderings(LAYERED, supercell=hexagonal, compound=FE34))
    assert sorted((len(o.mobile_sites), o.degeneracy) for o in orderings) == [
        (0, 1),
        (1, 3),
        (1, 6),
        (2, 3),
        (2, 6),
        (3, 1),
    ]
    rng = np.random.default_rng(0)
    names = [ordering_label(disguised(o.atoms(), rng), LAYERED, compound=FE34) for o in orderings]
    assert names == [o.label for o in orderings] and len(set(names)) == 6
    # as a host of its own: no suffix, the same classes
    centred = supercell(LAYERED, hexagonal)
    assert [o.degeneracy for o in enumerate_orderings(centred, compound=FE34)] == [
        o.degeneracy for o in orderings
    ]


def test_equivalent_superlattices_have_one_name():
    """In a cubic host 2x1x1 and 1x1x2 are one cell in two orientations."""
    cubic = bulk("NaFe", "cesiumchloride", a=3.5)
    names = [
        {
            o.label
            for o in enumerate_orderings(
                cubic, supercell=matrix, compound=mk.Compound("Na", {"Fe": (-1, 0)})
            )
        }
        for matrix in ((2, 1, 1), (1, 2, 1), (1, 1, 2))
    ]
    assert names[0] == names[1] == names[2] and len(names[0]) == 3


def test_superlattice_is_a_normal_form():
    rng = np.random.default_rng(1)
    for _ in range(200):
        s = rng.integers(-4, 5, (3, 3))
        if abs(np.linalg.det(s)) < 0.5:
            continue
        h = superlattice(s)
        u = s @ np.linalg.inv(h)
        # the same lattice
        assert np.allclose(u, np.rint(u)) and np.isclose(abs(np.linalg.det(u)), 1)
        assert (
            np.array_equal(h, np.triu(h))
            and (h.diagonal() > 0).all()
            and ((h >= 0) & (h <= h.diagonal())).all()
        )
        assert np.array_equal(superlattice(rng.permutation(s)), h) and np.array_equal(
            superlattice([s[0], s[1] + 2 * s[0], s[2]]), h
        )


def test_enantiomorphs():
    """A chiral host (P2_1 2_1 2_1 made by shifting P): mirror images are one ordering, as they have
    one energy.
    """
    chiral = crystal(
        ["Na", "Fe", "P", "O"],
        [(0.02, 0.05, 0.1), (0.31, 0.22, 0.93), (0.12, 0.4, 0.38), (0.22, 0.68, 0.61)],
        spacegroup=19,
        cellpar=[9.0, 6.0, 5.0, 90, 90, 90],
    )
    options = dict(compound=mk.Compound("Na", {"Fe": (-4, -3)}), n_mobile=1)
    rng = np.random.default_rng(2)
    for o in enumerate_orderings(chiral, **options):
        mirrored = o.atoms()
        mirrored.set_cell(mirrored.cell.array * [1, 1, -1], scale_atoms=True)
        assert ordering_label(mirrored[rng.permutation(len(mirrored))], chiral) == o.label
        assert same_ordering(mirrored, o.atoms(), chiral)


def test_vacancy_placeholders_are_left_out():
    atoms = ALL[5].atoms()
    atoms += Atoms("X2", positions=HOST.positions[:2])
    atoms.arrays["oxi_states"][-2:] = 0
    assert ordering_label(atoms, HOST) == ALL[5].label


# --- comparing
# -----------------------------------------------------------------------------------------------------------------


def test_same_ordering_of_relaxed_frames(ends):
    """Every pair of end points, the second one disguised."""
    rng = np.random.default_rng(0)
    for a, b in itertools.product(ends[1:], repeat=2):
        if a.info["x"] == b.info["x"]:
            assert same_ordering(a, disguised(b, rng)) == (a.info["ordering"] == b.info["ordering"])
    assert same_ordering(ends[0], ends[0].copy(), HOST)
    # other numbers of Na
    assert not same_ordering(ends[1], ends[2], HOST) and not same_ordering(ends[0], ends[1])


def test_same_ordering_across_cells(ends):
    a, b = (
        next(e for e in ends if e.info["ordering"] == name)
        for name in ("x050_na01_fe01", "x050_na02_fe13")
    )
    rng = np.random.default_rng(0)
    assert same_ordering(a, disguised(a.repeat((1, 2, 1)), rng)) and same_ordering(
        a.repeat((2, 1, 1)), a, HOST
    )
    assert not same_ordering(b, a.repeat((1, 2, 1)))
    with pytest.raises(mk.InputError, match="different supercells of the host"):
        same_ordering(a.repeat((2, 1, 1)), a.repeat((1, 2, 1)), HOST)
    with pytest.raises(mk.InputError, match="no supercell"):
        same_ordering(a.repeat((2, 1, 1)), a.repeat((1, 3, 1)).repeat((1, 2, 1)))


def test_bad_frames_name_atom_and_distance(mixed):
    away = mixed.copy()
    away.positions[9] += [0, 0, 1.3]
    with pytest.raises(mk.InputError, match=r"atom 9 \(P\) is 1\.\d\d Å from the nearest P site"):
        ordering_label(away, HOST)
    with pytest.raises(mk.InputError, match="orderings: frame 1: .*atom 9"):
        orderings_table([mixed, away], HOST)
    crowded = mixed.copy()
    crowded.positions[1] = crowded.positions[0] + [0.3, 0, 0]
    with pytest.raises(mk.InputError, match=r"atoms 0 and 1 \(Na\) sit on one site"):
        ordering_label(crowded, HOST)
    stranger = mixed.copy()
    del stranger[-1]
    with pytest.raises(mk.InputError, match="found 15 O"):
        ordering_label(stranger, HOST)
    bare = mixed.copy()
    del bare.arrays["oxi_states"]
    with pytest.raises(mk.InputError, match="infer_oxidation_states"):
        ordering_label(bare, HOST)
    half = mixed.copy()
    half.arrays["oxi_states"] = half.arrays["oxi_states"] * 0.5
    with pytest.raises(mk.InputError, match=r"atom \d \(Fe\) has the oxidation state 1.5"):
        ordering_label(half, HOST)
    odd = mixed.copy()
    odd.arrays["oxi_states"][np.flatnonzero(odd.symbols == "P")[0]] = 4
    with pytest.raises(mk.InputError, match="P has the oxidation states .*redox="):
        ordering_label(odd, HOST)
    flat = mixed.copy()
    flat.cell[:] = 0
    with pytest.raises(mk.InputError, match="no crystal"):
        ordering_label(flat, HOST)
    squeezed = mixed.copy()
    squeezed.set_cell(mixed.cell.array * [0.7, 1, 1.5], scale_atoms=True)
    with pytest.raises(mk.InputError, match="no supercell of the host has its cell"):
        ordering_label(squeezed, HOST)


def test_sites_of_a_drifted_frame(frames):
    """Every embedded frame, pushed rigidly, sits on the sites that it was made on, up to symmetry;
    the vacancies are left over.
    """
    for atoms in frames[::10]:
        atoms = atoms.copy()
        atoms.positions += [1.2, -0.7, 2.9]
        lattice, sites = map_onto_host(atoms, HOST, "Na")
        assert np.array_equal(lattice, np.eye(3)) and len(set(sites)) == len(atoms)
        assert (HOST.numbers[sites] == atoms.numbers).all() and len(
            set(range(4)) - set(sites)
        ) == 4 - 4 * atoms.info["x"]


def test_undistorted_keeps_the_ordering_and_takes_the_bond_lengths(ends):
    host = next(a for a in ends if a.info["x"] == 1)
    for atoms in ends:
        plain = mk.undistorted(atoms, host)
        assert (
            plain.get_chemical_symbols() == atoms.get_chemical_symbols()
            and np.array_equal(plain.cell, atoms.cell)
            and plain.calc is None
        )
        assert mk.ordering_label(plain, host) == mk.ordering_label(atoms, host)
        fe, o = np.flatnonzero(plain.symbols == "Fe"), np.flatnonzero(plain.symbols == "O")
        bonds = np.array([np.sort(plain.get_distances(i, o, mic=True))[:6] for i in fe])
        assert np.ptp(bonds, axis=0).max() < 2e-3  # all Fe alike
    relaxed = next(a for a in ends if a.info["ordering"] == "x050_na01_fe02")
    moved = mk.undistorted(relaxed[::-1], host)
    assert moved.positions[::-1] == pytest.approx(mk.undistorted(relaxed, host).positions, abs=1e-6)
    with pytest.raises(mk.InputError, match="no site in the host|not of this host|right host"):
        mk.undistorted(bulk("Cu"), host)
