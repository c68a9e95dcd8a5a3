"""Cells with a charge, states that are rare, ions that no table knows, frameworks of two kinds: each
as its moments and places say, or a sentence.
"""

import itertools
import math
import warnings

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.singlepoint import SinglePointCalculator
from compounds import nasicon, olivine

import mlipkit as mk
from mlipkit.apps import explorer_words as words
from mlipkit.apps.explorer_state import ExplorerState
from mlipkit.charges.references import REFERENCES, redox_sites
from mlipkit.orderings.names import arrangement
from mlipkit.pictures.figures import VALENCE
from mlipkit.pictures.shapes import atom_colours
from mlipkit.pictures.structure_view import tooltips
from mlipkit.relaxation.geometries import told

PR = {2: 1.0, 3: 2.0}
FE, V = {2: 3.73, 3: 4.31}, {2: 2.65, 3: 1.93, 4: 1.06}


def with_moments(atoms, metal, states, expected, **info):
    """A copy of a cell whose metals have the moments of some states."""
    atoms, rng = atoms.copy(), np.random.default_rng(0)
    here, moments = np.flatnonzero(atoms.symbols == metal), np.zeros(len(atoms))
    moments[here] = [expected[q] for q in states] + rng.normal(0, 0.01, len(here))
    atoms.calc = SinglePointCalculator(
        atoms, energy=-5.0 * len(atoms), forces=np.zeros((len(atoms), 3)), magmoms=moments
    )
    atoms.info |= info
    return atoms


class Echo(Calculator):
    """Says of any geometry what DFT said of one."""

    implemented_properties = ("energy", "forces", "magmoms")

    def __init__(self, atoms):
        super().__init__()
        self.said = {k: atoms.calc.results[k] for k in self.implemented_properties}

    def calculate(self, atoms=None, properties=None, system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.results = dict(self.said)


@pytest.fixture
def empty():
    """FePO4 with an electron too many on each of its irons in turn."""
    host = olivine("Na", "Fe")
    bare = host[[s != "Na" for s in host.symbols]]
    places = [[3 - (k == i) for k in range(4)] for i in range(4)]
    return [with_moments(bare, "Fe", states, FE, charge=-1) for states in places]


def test_a_cell_with_a_charge_keeps_its_polaron(empty):
    for k, atoms in enumerate(empty):
        found = mk.infer_oxidation_states(atoms)
        assert found.states[atoms.symbols == "Fe"].tolist() == [3 - (k == i) for i in range(4)]
        assert found.clear and found.balanced and found.states.sum() == -1
        assert mk.infer_oxidation_states(atoms, 0).states[atoms.symbols == "Fe"].tolist() == [3] * 4
    named = mk.name_orderings(empty, progress=False)
    assert {a.info["ordering"] for a in named} == {named[0].info["ordering"]}  # one by symmetry
    assert [a.info["degeneracy"] for a in named] == [4] * 4
    atoms = named[1]
    assert told(atoms, atoms.get_magnetic_moments())["kept"]
    relaxed = mk.relax(atoms, Echo(atoms), steps=1, progress=False)
    assert len(relaxed.flips) == 0 and len(relaxed.flipped_sites) == 0
    state = mk.explore(named).state
    assert state.imbalance == 0
    assert [row[3] for row in state.summary(state.atoms)].count(2) == 1


def test_a_polaron_is_searched_in_a_charged_cell():
    """An electron in FePO4, where all irons are alike; the model's moments say that it stays."""
    model, host = mk.load_model("cpainn", charge_aware=True), olivine("Na", "Fe")
    found = mk.search_charge_ordering(
        host, model, n_mobile=0, total_charge=-1, steps=3, progress=False
    )
    assert found.exhaustive and found.table["degeneracy"].tolist() == [4]
    assert found.table["found"].tolist() == found.table["ordering"].tolist()
    assert found.atoms.info["charge"] == -1 and found.atoms.arrays["oxi_states"].sum() == -1
    neutral = mk.search_charge_ordering(host, model, n_mobile=0, steps=1, progress=False)
    assert "charge" not in neutral.atoms.info


def test_the_charge_of_a_cell_is_a_whole_number(empty):
    empty[0].info["charge"] = None  # nobody told it
    assert mk.infer_oxidation_states(empty[0]).states.sum() == 0
    for wrong in (0.4, "one", np.zeros(3)):
        empty[0].info["charge"] = wrong
        with pytest.raises(mk.InputError, match=r"info\['charge'\].*whole number"):
            mk.infer_oxidation_states(empty[0])
        assert mk.infer_oxidation_states(empty[0], total_charge=-1).balanced


def test_moments_that_speak_against_what_balances_are_spoken_of(empty):
    del empty[2].info["charge"]
    found = mk.infer_oxidation_states(empty[2])
    assert found.contradicted.tolist() == [np.flatnonzero(empty[2].symbols == "Fe")[2]]
    assert not len(found.undecided)  # nothing else balances
    with pytest.warns(UserWarning, match=r"1 of 4 frames.*frames 2: .*cell charged"):
        mk.name_orderings(empty, progress=False)


def test_a_rare_state_counts_where_the_compound_names_it():
    host = nasicon()
    full = with_moments(host, "V", [3, 3, 2, 2], V)  # Na4
    less = host[np.delete(np.arange(len(host)), np.flatnonzero(host.symbols == "Na")[:2])]
    pair = with_moments(less, "V", [4, 2, 3, 3], V)
    assert mk.infer_oxidation_states(full).states[full.symbols == "V"].tolist() == [3, 3, 2, 2]
    here = pair.symbols == "V"
    with pytest.warns(UserWarning, match="rare one"):
        mk.name_orderings([_again(pair)], progress=False)
    compound = mk.Compound("Na", {"V": (2, 3, 4)})
    (named,) = mk.name_orderings([_again(pair)], compound=compound, progress=False)
    assert named.arrays["oxi_states"][here].tolist() == [4, 2, 3, 3]
    usual = mk.Compound("Na", {"V": (3, 4)})
    assert usual.inference == {"references": None, "fixed": None}
    # references of one metal are hers, those of the other the usual ones
    both = {"V": (2, 3, 4), "Fe": (2, 3)}
    told = mk.Compound("Na", both, references={("Fe", 2): 3.6, ("Fe", 3): 4.2}).inference
    known = {(r.element, r.state): (r.value, r.common) for r in told["references"]}
    assert known == {
        **{(r.element, r.state): (r.value, r.common) for r in REFERENCES if r.element != "Fe"},
        ("Fe", 2): (3.6, True),
        ("Fe", 3): (4.2, True),
        **{("V", q): (pytest.approx(v, abs=0.02), True) for q, v in {**V, 5: 0.06}.items()},
    }


def _again(atoms):
    copy = atoms.copy()
    copy.calc = atoms.calc
    return copy


def test_ions_of_other_elements_keep_the_states_that_they_were_given():
    """Re is in no table; that a model's moments cannot be told without it is no flip."""
    host = olivine("Re", "Fe")
    given = {"Re": 1, "Fe": 2, "P": 5, "O": -2}
    host.set_array("oxi_states", np.array([given[s] for s in host.symbols]))
    host = with_moments(host, "Fe", [2] * 4, FE)
    relaxed = mk.relax(host, Echo(host), steps=1, progress=False)
    assert relaxed.states[-1].tolist() == host.arrays["oxi_states"].tolist()
    assert len(relaxed.flips) == 0
    # nothing balances: not known, and no flip
    host.arrays["oxi_states"][host.symbols == "Re"] = 3
    relaxed = mk.relax(host, Echo(host), steps=1, progress=False)
    assert not relaxed.states.any()
    assert len(relaxed.flips) == 0 and len(relaxed.flipped_sites) == 0


def test_an_element_that_no_table_knows_gets_a_sentence_that_helps():
    host = with_moments(olivine("Re", "Fe"), "Fe", [2] * 4, FE)
    with pytest.raises(mk.InputError, match=r"Re is not known.*mk\.Compound\(mobile, redox, fixed"):
        mk.name_orderings([host], progress=False)
    host.symbols[host.symbols == "Fe"] = "Pr"
    with pytest.raises(
        mk.InputError, match=r"plots\.moments: these frames hold no ion of .*references="
    ):
        mk.plots.moments([host])
    assert arrangement("x050_li03_pr4.01") == "x050_li03"
    assert arrangement("x050_li03_mn01") == "x050_li03" and arrangement("x050_na03") == "x050_na03"


def test_a_search_takes_the_states_that_the_model_was_trained_on():
    from mlipkit.orderings.lattice import lattice_of

    model = mk.load_model("cpainn", charge_aware=True)
    compound = mk.Compound("Na", {"Fe": (2, 3), "Mn": (2, 3, 4)})
    assert model.states_of(compound).redox == {"Fe": (2, 3), "Mn": (2, 3, 4)}
    model.states = {"Fe": [3]}
    assert model.states_of(compound).redox == {"Fe": (3,), "Mn": (2, 3, 4)}
    host = olivine("Na", "Fe")
    assert lattice_of(host).compound.redox == {"Fe": (2, 3)}
    with pytest.raises(mk.InputError):  # with Fe3+ alone nothing balances
        mk.search_charge_ordering(host, model, n_mobile=2, progress=False)


def test_a_slip_in_a_study_is_told_before_anything_is_read(tmp_path):
    with pytest.raises(mk.InputError, match="steps= is no argument of study or of train"):
        mk.study(tmp_path / "not there", tmp_path / "study", steps=1)


@pytest.mark.parametrize("named", [True, False])
def test_frameworks_with_other_elements_on_their_sites_are_other_crystals(named):
    """Manganites with Sr on two of eight sites of La, in two ways, in one setting."""
    places = [(0, 0, 0), (0.5, 0.5, 0.5), (0.5, 0.5, 0), (0.5, 0, 0.5), (0, 0.5, 0.5)]
    cubic = Atoms("LaMnO3", scaled_positions=places, cell=[3.9] * 3, pbc=True).repeat(2)
    moments, frames = {3: 3.94, 4: 3.20}, []
    lanthanum = np.flatnonzero(cubic.symbols == "La")
    for strontium in ([0, 1], [0, 7]):
        for four in ([0, 1], [0, 7]):
            atoms = cubic.copy()
            atoms.symbols[lanthanum[strontium]] = "Sr"
            states = np.full(8, 3)
            states[four] = 4
            frames.append(with_moments(atoms, "Mn", states, moments))
            frames[-1].rattle(0.02, seed=len(frames))
    alone = [mk.name_orderings([_again(a) for a in frames[k : k + 2]]) for k in (0, 2)]
    told = [(a.info["ordering"], a.info["degeneracy"]) for pair in alone for a in pair]
    titles = ["Mn4La3SrO12"] * 2 + ["Mn4La3SrO12 (2)"] * 2
    if named:
        mk.name_orderings(frames, progress=False)
        found = [a.info["ordering"].split(":") for a in frames]
        assert [title for title, _ in found] == titles
        assert [(name, a.info["degeneracy"]) for (_, name), a in zip(found, frames)] == told
    else:
        for atoms in frames:
            atoms.set_array("oxi_states", mk.infer_oxidation_states(atoms).states)
        table = mk.orderings_table(frames, progress=False)
        assert sorted(table["compound"]) == titles and len(table) == 4


@pytest.fixture
def praseodymium():
    """LixPrPO4, filled and half empty, in all charge orderings of an arrangement; each with the
    states that are on it, as a person wrote them.
    """
    host, frames = olivine("Li", "Pr"), []
    half = host[np.delete(np.arange(len(host)), np.flatnonzero(host.symbols == "Li")[:2])]
    pairs = [states for states in itertools.product((2, 3), repeat=4) if sum(states) == 10]
    for start, states in [(host, (2,) * 4), *((half, pair) for pair in pairs)]:
        atoms = with_moments(start, "Pr", states, PR)
        charges = np.array([{"Li": 1, "P": 5, "O": -2}.get(s, 0) for s in atoms.symbols])
        charges[atoms.symbols == "Pr"] = states
        atoms.set_array("oxi_states", charges)
        frames.append(atoms)
    return frames


def test_a_metal_that_no_table_knows_goes_all_the_way(praseodymium, tmp_path):
    """Named once, it counts in tables, predictions and pictures, also of files read again."""
    assert redox_sites(praseodymium[1]).tolist() == []
    mk.name_orderings(praseodymium, compound=mk.Compound("Li", {"Pr": (2, 3)}), progress=False)
    file = tmp_path / "named.extxyz"
    mk.write_frames(file, praseodymium)
    for frames in (praseodymium, mk.read_frames(file)):
        sites = np.flatnonzero(frames[1].symbols == "Pr")
        assert {a.info["redox"] for a in frames} == {"Pr"}
        assert redox_sites(frames[1]).tolist() == sites.tolist()
        assert mk.compound(frames).redox == {"Pr": (2, 3)}
        assert (mk.orderings_table(frames, progress=False)["degeneracy"] > 0).all()
        state = ExplorerState(mk.compare_geometries(frames, {}, progress=False))
        state.x = 0.5
        table = words.table(state, state.atoms)
        assert [f'data-atom="{i}"' in table for i in sites] == [True] * 4
        assert state.moments() == pytest.approx([PR[q] for q in state.asked[sites]], abs=0.05)
        colours = np.array(atom_colours(frames[1]))[sites].tolist()
        assert colours == [VALENCE[q] for q in frames[1].arrays["oxi_states"][sites]]
        assert f"Pr {sites[0]}: " in tooltips(frames[1])[sites[0]]
    small = {"features": 4, "interactions": 1}
    model, _ = mk.train("cpainn", praseodymium, True, 0, 1, model_args=small, progress=False)
    assert set(model.proxies) == {("Pr", 3)}
    table = mk.predict(praseodymium, {"m": model}, progress=False)
    assert np.isfinite(table[[f"magmom_{k}" for k in range(4)]]).all(axis=None)


def test_a_mostly_inert_metal_counts_where_the_compound_names_it():
    """LiFe0.5Ti0.5SiO4 balances as Fe2+ Ti4+ and as Fe3+ Ti3+; the moments tell of the latter."""
    atoms = olivine("Li", "Fe")
    atoms.symbols[atoms.symbols == "P"] = "Si"
    titanium = np.flatnonzero(atoms.symbols == "Fe")[:2]
    atoms.symbols[titanium] = "Ti"
    atoms = with_moments(atoms, "Fe", [3, 3], FE)
    atoms.calc.results["magmoms"][titanium] = 0.9
    with pytest.warns(UserWarning, match="rather that of 3"):
        usual = mk.infer_oxidation_states(atoms)
    assert (usual.states[titanium] == 4).all() and len(usual.contradicted) == 2
    assert titanium[0] not in redox_sites(atoms)
    named = mk.Compound("Li", {"Fe": (2, 3), "Ti": (3, 4)})
    mk.name_orderings([atoms], compound=named, progress=False)
    assert (atoms.arrays["oxi_states"][titanium] == 3).all()
    assert atoms.info["redox"] == "Fe Ti" and titanium[0] in redox_sites(atoms)
    # until a person says otherwise
    del atoms.arrays["oxi_states"]
    with pytest.warns(UserWarning):
        mk.name_orderings([atoms], compound=mk.Compound("Li", {"Fe": (2, 3)}), progress=False)
    assert "redox" not in atoms.info


def test_what_a_compound_says_travels_with_its_frames(praseodymium):
    """Moments to expect, rare states and ions of one valence: relaxations and tables need not be
    told again, and what nobody knows is not judged.
    """
    references = {("Pr", 2): PR[2], ("Pr", 3): PR[3]}
    known = mk.Compound("Li", {"Pr": (2, 3)}, references=references)
    for compound, word in ((known, "Pr:2=1,3=2"), (mk.Compound("Li", {"Pr": (2, 3)}), "Pr")):
        frames = mk.name_orderings([_again(a) for a in praseodymium], compound=compound)
        assert {a.info["redox"] for a in frames} == {word}
        atoms, model = frames[1], Echo(frames[1])
        relaxed = mk.relax(atoms, model, steps=1, progress=False)
        table = mk.compare_geometries([atoms], {"m": model}, progress=False).tables["host"]["m"]
        errors = mk.error_by([atoms], mk.predict([atoms], {"m": model}), "state")
        if compound is known:
            assert (relaxed.states[-1] == atoms.arrays["oxi_states"]).all()
            assert table["kept"].tolist() == [True] and (errors["valence_right"] == 100).all()
            assert mk.infer_oxidation_states(atoms).clear
        else:
            assert "do not tell the valences" in str(relaxed)
            assert table["kept"].isna().all() and errors["valence_right"].isna().all()
    host = olivine("Na", "V")
    compound = mk.Compound("Na", {"V": (2, 3, 4)}, fixed={"P": 5})
    frames = mk.name_orderings([with_moments(host, "V", [2, 2, 2, 2], V)], compound=compound)
    assert frames[0].info["redox"] == "V:2,3,4 P=5"
    assert mk.relax(frames[0], Echo(frames[0]), steps=1).flipped_sites.size == 0


def test_cells_of_different_charge_are_not_compared(empty):
    neutral = with_moments(olivine("Na", "Fe"), "Fe", [2] * 4, FE)
    frames = mk.name_orderings([*empty, neutral], progress=False)
    for call in (mk.hull, mk.voltage_profile, lambda f: mk.compare_geometries(f, {})):
        with pytest.raises(mk.InputError, match=r"different charge: -1 .*, 0 \(such as frame 4"):
            call(frames)
    with pytest.warns(UserWarning, match="different charge"):
        table = mk.orderings_table(frames, progress=False)
    assert table["energy_per_fu"].isna().all()
    assert mk.orderings_table(frames[:4], progress=False)["energy_per_fu"].notna().all()


class Charges(Calculator):
    """Reads the charges: Fe3+ and its neighbours of one sum have energies of their own."""

    implemented_properties = ("energy", "forces", "stress")

    def calculate(self, atoms=None, properties=None, system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        irons = atoms.symbols == "Fe"
        rank = (np.arange(irons.sum()) * atoms.arrays["oxi_states"][irons]).sum()
        energy = -5.0 * len(atoms) + 0.1 * rank + atoms.info.get("charge", 0)
        forces = np.zeros((len(atoms), 3))
        self.results = {"energy": energy, "forces": forces, "stress": np.zeros(6)}


def test_a_calculator_that_reads_the_charges():
    """ASE's memory of a geometry does not answer for other charges; one that says that it reads
    them is asked for each, and one that does not is found out.
    """
    host = olivine("Na", "Fe")
    cells = [o.atoms() for o in mk.enumerate_orderings(host, n_mobile=2, mobile_sites=(0, 2))]
    cells.append(cells[0].copy())
    cells[-1].info["charge"] = 1
    expected = []
    for atoms in cells:
        own = atoms.copy()
        own.calc = Charges()
        expected.append(own.get_potential_energy())
    assert len({round(e, 6) for e in expected}) == len(cells) > 3
    model = Charges()
    assert mk.predict(cells, {"m": model}, progress=False)["energy"].tolist() == expected
    relaxed = mk.relax_many(cells, model, processes=1, progress=False)
    assert [r.energies[-1] for r in relaxed] == expected
    how = {"n_mobile": 2, "mobile_sites": (0, 2), "keep": 2, "progress": False}
    with pytest.raises(mk.InputError, match="set charge_aware = True on the calculator"):
        mk.search_charge_ordering(host, model, **how)
    with pytest.raises(mk.InputError, match="set charge_aware = True on the calculator"):
        mk.sample_configurations(host, model, 10, progress=False)
    model.charge_aware = True
    found = mk.search_charge_ordering(host, model, **how)
    assert found.relaxations[0].energies[-1] == pytest.approx(min(expected[:-1]), abs=1e-6)
    assert str(found).count("converged") == 2
    with pytest.warns(UserWarning, match="80 arrangements were wanted.* 70 different ones"):
        c = mk.sample_configurations(
            host, model, 82, supercells=[(1, 1, 1)], processes=1, progress=False
        )
    # all of the cell: of k Na on four sites there are as many charge orderings as arrangements
    different = c.table[["ions", "states"]].drop_duplicates()
    assert len(different) == 70 == sum(math.comb(4, k) ** 2 for k in range(5))


def test_an_ion_that_is_held_out_is_told():
    host = olivine("Li", "Fe")
    frames = [with_moments(host, "Fe", states, FE) for states in ([2] * 4, [2] * 4, [3] * 4)]
    for atoms, split, states in zip(frames, ("train", "validation", "test"), (2, 2, 3)):
        atoms.info["split"] = split
        atoms.set_array("oxi_states", np.where(atoms.symbols == "Fe", states, 1))
    with pytest.raises(mk.InputError, match=r"Fe3\+ is in frames that are held out only"):
        mk.train("cpainn", frames, True, epochs=1, progress=False)
    frames[2].info["split"] = "train"
    with pytest.raises(mk.InputError, match=r"^(?!.*model_args).*Li cannot stand for Fe3"):
        mk.train("cpainn", frames[1:], True, epochs=1, proxies={("Fe", 3): "Li"}, progress=False)


def test_a_compound_that_fits_no_frame_is_told():
    frames = [with_moments(olivine("Li", "Fe"), "Fe", [2] * 4, FE)]
    with pytest.raises(mk.InputError, match="names Mn as redox-active, and no frame holds it"):
        mk.name_orderings(frames, compound=mk.Compound("Li", {"Mn": (2, 3)}))
    with pytest.warns(UserWarning, match="names Na as the ion that moves.* is it Li"):
        mk.name_orderings([_again(frames[0])], compound=mk.Compound("Na", {"Fe": (2, 3)}))
    wrong = _again(frames[0])
    states = {"Li": 1, "Fe": 3, "P": 5, "O": -2}
    wrong.set_array("oxi_states", np.array([states[s] for s in wrong.symbols]))
    with pytest.warns(UserWarning, match=r"states of 1 of 1 frames do not add up.*\+4 off"):
        mk.name_orderings([wrong])


def test_a_lanthanide_is_no_proxy():
    """Nd3+ and its f moment beside Ni."""
    places = [(0, 0, 0), (0.5, 0.5, 0.5), (0.5, 0.5, 0), (0.5, 0, 0.5), (0, 0.5, 0.5)]
    atoms = Atoms("NdNiO3", scaled_positions=places, cell=[3.8] * 3, pbc=True).repeat(2)
    atoms = with_moments(atoms, "Ni", [3] * 8, {3: 1.2})
    atoms.calc.results["magmoms"][atoms.symbols == "Nd"] = 3.1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = mk.infer_oxidation_states(atoms)
    assert (found.states[atoms.symbols == "Nd"] == 3).all() and found.note == ""


def test_a_metal_that_no_table_knows_is_a_species_where_it_is_named():
    """And the sentence before names no iron."""
    host, frames = olivine("Li", "Pr"), []
    for k, states in enumerate([[2] * 4, [3] * 4, [2, 3, 3, 3], [2, 2, 3, 3]]):
        atoms = with_moments(host, "Pr", states, PR)
        charges = np.zeros(len(atoms), int)
        charges[atoms.symbols == "Pr"] = states
        atoms.set_array("oxi_states", charges)
        atoms.info["split"] = "validation" if k == 3 else "train"
        frames.append(atoms)
    with pytest.raises(mk.InputError, match="no metal that is known here has two oxidation"):
        mk.train("cpainn", frames, True, epochs=1, progress=False)
    small = {"features": 4, "interactions": 1}
    species = mk.Compound("Li", {"Pr": (2, 3)}).species
    model, _ = mk.train("cpainn", frames, True, 0, 1, model_args=small, proxies=species)
    assert model.proxies == species and len(species) == 1 and ("Pr", 3) in species
