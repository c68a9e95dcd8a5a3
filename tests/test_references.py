"""Metals beyond the first row, and metals that are inert beside others: planted moments whose
answer is known.
"""

import ast
import warnings

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.formula import Formula
from pymatgen.core import Lattice, Structure
from pymatgen.io.ase import AseAtomsAdaptor

import mlipkit as mk
from mlipkit.charges.references import LAST, REDOX, WITHOUT_MOMENT, redox_elements, redox_sites

BETWEEN = 0.02  # µB, on atoms that hold none


def built(group, lattice, species, places):
    """A crystal by its space group."""
    return AseAtomsAdaptor.get_atoms(
        Structure.from_spacegroup(group, lattice, species, places), msonable=False
    )


def spread(formula):
    """Atoms of a formula on a grid: moments need no geometry."""
    symbols = [e for e, n in Formula(formula).count().items() for _ in range(n)]
    n = int(np.ceil(len(symbols) ** (1 / 3)))
    grid = np.array(np.unravel_index(np.arange(len(symbols)), (n, n, n))).T
    return Atoms(symbols, 3.0 * grid, cell=[3.0 * n] * 3, pbc=True)


def planted(atoms, moments):
    """Atoms with moments: ``{element: those of its atoms, in their order}``."""
    atoms = spread(atoms) if isinstance(atoms, str) else atoms.copy()
    magmoms = np.full(len(atoms), BETWEEN)
    for element, values in moments.items():
        magmoms[atoms.symbols == element] = values
    atoms.calc = SinglePointCalculator(atoms, magmoms=magmoms)
    return atoms


def states(atoms, element, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = mk.infer_oxidation_states(atoms, **options)
    assert found.balanced
    return found.states[atoms.symbols == element].tolist(), found


def spinel(a=8.405):
    return built("Fd-3m", Lattice.cubic(a), ["Li", "Ti", "O"], [[0] * 3, [0.625] * 3, [0.3875] * 3])


def test_titanates():
    lto = spinel().repeat((3, 1, 1))  # Li8Ti16O32, three times
    ti = np.flatnonzero(lto.symbols == "Ti")
    lto.symbols[ti[::6]] = "Li"
    assert lto.get_chemical_formula(empirical=True) == "Li4O12Ti5"
    assert set(states(planted(lto, {}), "Ti")[0]) == {4}
    mixed = spinel()
    moments = np.where(np.arange(16) % 2, 0.91, 0.05)
    found, inferred = states(planted(mixed, {"Ti": moments}), "Ti")
    assert found == [4, 3] * 8 and inferred.clear and len(inferred.sites) == 16
    spread_out = states(planted(mixed, {"Ti": 0.3}), "Ti")[1]  # as without U
    assert len(spread_out.ambiguous) == 16 and spread_out.runner_up_cost == pytest.approx(0)
    for element, state in (("La", 3), ("Sr", 4)):
        assert states(planted(f"{element}TiO3", {"Ti": 0.8 * (state == 3)}), "Ti")[0] == [state]
    assert states(planted("La2TiVO6", {"Ti": 0.85, "V": 1.9}), "Ti")[0] == [3]  # no V2+ with Ti4+
    both = planted("La2TiVO6", {"Ti": 0.85, "V": 1.9})
    assert mk.compound(both).redox == {"V": (3,), "Ti": (3,)}
    assert states(planted("EuTiO3", {"Eu": 6.7}), "Eu")[0] == [2]


def test_ceria_and_europium():
    fluorite = built("Fm-3m", Lattice.cubic(5.41), ["Ce", "O"], [[0] * 3, [0.25] * 3])
    assert states(planted(fluorite, {"Ce": 0.1}), "Ce")[0] == [4] * 4
    del fluorite[-1]
    found, inferred = states(planted(fluorite, {"Ce": [0.97, 0.02, 0.96, 0.03]}), "Ce")
    assert found == [3, 4, 3, 4] and inferred.clear
    assert states(planted("Ce2O3", {"Ce": 0.71}), "Ce")[0] == [3, 3]
    assert states(planted("CeVO4", {"Ce": 0.96}), "V")[0] == [5]
    assert states(planted("EuS", {"Eu": 6.88}), "Eu")[0] == [2]
    assert states(planted("Eu3O4", {"Eu": [6.05, 6.9, 6.0]}), "Eu")[0] == [3, 2, 3]
    sulfide = built("I-43d", Lattice.cubic(8.53), ["Eu", "S"], [[0.375, 0, 0.25], [0.076] * 3])
    moments = np.where(np.arange(12) % 3, 6.02, 6.86)
    assert states(planted(sulfide, {"Eu": moments}), "Eu")[0] == [2, 3, 3] * 4
    assert mk.compound(planted(sulfide, {"Eu": moments})).redox == {"Eu": (2, 3)}
    assert states(planted("EuFeO3", {"Eu": 6.1, "Fe": 4.2}), "Fe")[0] == [3]


def test_ruthenates_and_molybdenum_oxides():
    assert states(planted("Sr2Ru2O6", {"Ru": 1.2}), "Ru")[0] == [4, 4]
    assert states(planted("Li3Ru2O6", {"Ru": [1.8, 1.1]}), "Ru")[0] == [5, 4]
    assert states(planted("RuCl3", {"Ru": 0.6}), "Ru")[0] == [3]
    assert states(planted("LiMo2O6", {"Mo": [0.08, 0.5]}), "Mo")[0] == [6, 5]
    assert states(planted("Li2MoO3", {"Mo": 1.3}), "Mo")[0] == [4]


@pytest.mark.parametrize(
    "formula, moments, expected",
    [
        ("Fe2W3O12", [4.3, 4.28], [3, 3]),
        ("Fe2Mo3O12", [4.3, 4.28], [3, 3]),
        ("NaFe2Mo3O12", [4.31, 3.72], [3, 2]),
        ("Na2Fe2Mo3O12", [3.7, 3.72], [2, 2]),
        ("LiFe2NbO6", [4.2, 4.3], [3, 3]),
        ("Li2FeNbO5", [4.3], [3]),
        ("FeTiO3", [3.7], [2]),
        ("Fe2TiO5", [4.2, 4.25], [3, 3]),
        ("SrFeMoO5", [3.7], [2]),
    ],
)
def test_beside_iron_they_are_inert(formula, moments, expected):
    atoms = planted(formula, {"Fe": moments})
    found, inferred = states(atoms, "Fe")
    assert found == expected and inferred.clear
    assert inferred.elements == ["Fe"] * len(moments)
    assert redox_sites(atoms).tolist() == inferred.sites.tolist()
    assert list(mk.compound(atoms).redox) == ["Fe"]
    aware = atoms.copy()
    aware.set_array("oxi_states", inferred.states)
    assert (mk.to_proxies(aware) == 31).sum() == expected.count(3)


def test_titanium_doped_olivine(ends):
    host = ends[-1].copy()
    host.calc = None
    del host.arrays["oxi_states"]
    fe, na = (np.flatnonzero(host.symbols == e) for e in ("Fe", "Na"))
    host.symbols[fe[1]] = "Ti"
    doped = host[np.delete(np.arange(len(host)), na[:3])]  # Na + 3 Fe + Ti4+ = 12
    doped = planted(doped, {"Fe": [3.72, 4.28, 3.7], "Ti": 0.12})
    found, inferred = states(doped, "Fe")
    assert found == [2, 3, 2] and inferred.states[doped.symbols == "Ti"].tolist() == [4]
    doped.set_array("oxi_states", inferred.states)
    assert "ti" not in mk.ordering_label(doped, host)
    found = mk.enumerate_orderings(host, mk.Compound("Na", {"Fe": (2, 3)}), n_mobile=1)
    assert {tuple(sorted(o.oxi_states)) for o in found} == {(2, 2, 3)}


def test_what_a_moment_says_against_it_is_told():
    atoms = planted("Sr2FeMoO6", {"Fe": 4.3, "Mo": 0.45})
    with pytest.warns(
        UserWarning, match=r"Mo \(atom 3\) was taken as 6\+.*0.45 µB is rather .*5\+"
    ):
        found = mk.infer_oxidation_states(atoms)
    assert found.states[2] == 2 and found.ambiguous.tolist() == [2]
    line = found.note.split("references=")[1].split(" for")[0]
    found, inferred = states(atoms, "Fe", references=ast.literal_eval(line))
    assert found == [3] and inferred.states[3] == 5 and inferred.clear
    assert states(atoms, "Fe", fixed={"Mo": 6})[0] == [2]


def test_where_no_moment_is_known_it_says_so():
    for formula, element in (("KNbO3", "Nb"), ("LiW2O6", "W"), ("La2VNbO6", "Nb")):
        with pytest.raises(mk.InputError, match=f"Of {element} no moment is published.*fit_ref"):
            mk.infer_oxidation_states(planted(formula, {"V": 1.9}))
    atoms = planted("LiW2O6", {"W": [0.6, 0.1]})
    hers = {("W", 5): 0.7, ("W", 6): 0.0}
    assert states(atoms, "W", references=hers)[0] == [5, 6]
    fitted = mk.fit_references([atoms], hers)
    assert {(r.state, round(r.value, 2)) for r in fitted if r.element == "W"} == {
        (5, 0.6),
        (6, 0.1),
    }
    assert set(WITHOUT_MOMENT) < set(LAST) and set(WITHOUT_MOMENT) < set(REDOX)
    assert not set(mk.reference_table()["element"]) & set(WITHOUT_MOMENT)


def test_bond_valences_know_them():
    """A breathing bronze: six short bonds and six long ones."""
    cell = built("Pm-3m", Lattice.cubic(3.82), ["Na", "W", "O"], [[0.5] * 3, [0] * 3, [0.5, 0, 0]])
    cell = cell.repeat(2)
    w = np.flatnonzero(cell.symbols == "W")
    odd = np.rint(cell.positions[w] / 3.82).sum(axis=1) % 2 == 1
    for o in np.flatnonzero(cell.symbols == "O"):
        vectors = cell.get_distances(o, w, mic=True, vector=True)
        near = np.argsort(np.linalg.norm(vectors, axis=1))[:2]
        target = next(k for k in near if odd[k])
        cell.positions[o] += 0.04 * vectors[target]
    del cell[np.flatnonzero(cell.symbols == "Na")[:4]]
    found, _ = states(cell, "W", method="bond-valence")
    assert [q == 6 for q in found] == odd.tolist() and sorted(set(found)) == [5, 6]
    assert mk.reference_table("bond-valence").query("element == 'Nb'")["state"].tolist() == [4, 5]


def test_names_of_orderings(ends):
    assert redox_elements(["Fe", "Ti", "O"]) == ["Fe"]
    assert redox_elements(["Li", "Nb", "Ti"]) == ["Nb", "Ti"] and redox_elements(["Na"]) == []
    host = spinel()
    given = planted(host, {"Ti": np.where(np.arange(16) % 2, 0.91, 0.05)})
    given.set_array("oxi_states", mk.infer_oxidation_states(given).states)
    name = mk.ordering_label(given, host)
    assert "_ti" in name and "_ti4." in name
    bare = given.copy()
    del bare.arrays["oxi_states"]
    assert "_ti" not in mk.ordering_label(bare, host)  # only ions to name, as ever
    found = mk.compound(given)
    assert found.redox == {"Ti": (3, 4)} and list(found.species) == [("Ti", 4)]


def test_they_lie_where_chgnet_puts_the_materials_project_moments():
    """Another witness for what the sources of the table say, unrelaxed."""
    cubic = Lattice.cubic
    perovskite = [[0.5] * 3, [0] * 3, [0.5, 0, 0]]
    double = [[0.25] * 3, [0] * 3, [0.5] * 3, [0.265, 0, 0]]
    crystals = {
        ("Eu", 2): built("Fm-3m", cubic(5.968), ["Eu", "S"], [[0] * 3, [0.5] * 3]),
        ("Ru", 4): built("Pm-3m", cubic(3.93), ["Sr", "Ru", "O"], perovskite),
        ("Ru", 5): built("Fm-3m", cubic(8.339), ["Ba", "Y", "Ru", "O"], double),
        ("Ce", 4): built("Fm-3m", cubic(5.411), ["Ce", "O"], [[0] * 3, [0.25] * 3]),
        ("Ti", 4): built("Pm-3m", cubic(3.905), ["Sr", "Ti", "O"], perovskite),
        ("Mo", 4): built("Pm-3m", cubic(3.975), ["Sr", "Mo", "O"], perovskite),
        ("Mo", 6): built(
            "Fm-3m", cubic(7.9), ["Sr", "Mg", "Mo", "O"], [*double[:3], [0.255, 0, 0]]
        ),
    }
    table = mk.reference_table()
    predicted = mk.load_model("chgnet").predict(list(crystals.values()))
    for (ion, atoms), p in zip(crystals.items(), predicted):
        moment = p.magmoms[atoms.symbols == ion[0]].mean()
        mine = table[table["element"] == ion[0]]
        nearest = mine.loc[(mine["value"] - moment).abs().idxmin()]
        assert nearest["state"] == ion[1], (ion, moment)
        assert abs(moment - nearest["value"]) < nearest["spread"], (ion, moment)
