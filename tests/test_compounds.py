"""From files on disk to hull or ladder, for compounds that the package was not made on."""

import math
from collections import Counter

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.lj import LennardJones
from ase.spacegroup import crystal
from ase.units import kB
from compounds import frames_of, from_disk, layered, magnetite, nasicon, olivine, spinel

import mlipkit as mk
from mlipkit.charges.given import known_states
from mlipkit.orderings.names import arrangement

METAL = -1.7  # eV per atom, made up
# host, what it is made with, what must be found: formula, proxies, units in the cell,
# {x: (orderings of ions) x (orderings of charges)} by hand
CASES = {
    "LixMnPO4, antiferromagnetic": (
        olivine(),
        mk.Compound("Li", {"Mn": (2, 3)}),
        {"sign": -1},
        ("LixMnPO4", "Li<sub>x</sub>MnPO<sub>4</sub>", {("Mn", 3): "Ga"}, 4),
        {x / 4: math.comb(4, x) ** 2 for x in range(5)},
    ),
    "LixMn2O4, Mn 3/4": (
        spinel(),
        mk.Compound("Li", {"Mn": (3, 4)}),
        {},
        ("LixMn2O4", "Li<sub>x</sub>Mn<sub>2</sub>O<sub>4</sub>", {("Mn", 4): "Ge"}, 2),
        {0: 1, 0.5: 2 * 4, 1: 6},
    ),
    "NaxV2(PO4)3, x from 1 to 3": (
        nasicon(),
        mk.Compound("Na", {"V": (3, 4)}),
        {"n_mobile": [2, 4, 6]},
        (
            "NaxV2(PO4)3",
            "Na<sub>x</sub>V<sub>2</sub>(PO<sub>4</sub>)<sub>3</sub>",
            {("V", 4): "Ti"},
            2,
        ),
        {1: math.comb(8, 2), 2: math.comb(8, 4) * 6, 3: math.comb(8, 6)},
    ),
    "Li(Ni,Mn,Co)O2": (
        layered(),
        mk.Compound("Li", {"Ni": (2, 3, 4), "Mn": (4,), "Co": (3, 4)}),
        {},
        (
            "LixCoMnNiO6",
            "Li<sub>x</sub>CoMnNiO<sub>6</sub>",
            {("Co", 4): "Ge", ("Ni", 3): "Ga", ("Ni", 4): "Ti"},
            1,
        ),
        {0: 1, 1: 3 * 2, 2: 3 * 2, 3: 1},
    ),
    "MgxMn2O4, an ion of charge 2": (
        spinel("Mg", "Mn"),
        mk.Compound("Mg", {"Mn": (3, 4)}),
        {},
        ("MgxMn2O4", "Mg<sub>x</sub>Mn<sub>2</sub>O<sub>4</sub>", {("Mn", 4): "Ge"}, 2),
        {0: 1, 0.5: 2 * 6, 1: 1},
    ),
    "CaxFePO4": (
        olivine("Ca", "Fe"),
        mk.Compound("Ca", {"Fe": (2, 3)}),
        {"n_mobile": [0, 1, 2]},
        ("CaxFePO4", "Ca<sub>x</sub>FePO<sub>4</sub>", {("Fe", 3): "Ga"}, 4),
        {0: 1, 0.25: 4 * 6, 0.5: 6},
    ),
}


@pytest.fixture(scope="module", params=CASES)
def case(request, tmp_path_factory):
    host, compound, options, found, counts = CASES[request.param]
    frames, asked = frames_of(host, compound, **options)
    path = tmp_path_factory.mktemp("case") / "frames.extxyz"
    bare = from_disk(frames, path)
    named = mk.name_orderings(mk.read_frames(path, progress=False), progress=False)
    return named, bare, asked, found, counts, compound


@pytest.fixture(scope="module")
def named(case):
    return case[0]


def test_the_compound_is_found(case):
    named, frames, _, (formula, html, proxies, _), _, given = case
    found = mk.compound(named)
    assert mk.compound(frames).redox == found.redox
    assert (found.formula, found.html, found.species) == (formula, html, proxies)
    assert (found.mobile, found.charge, found.redox) == (given.mobile, given.charge, given.redox)
    assert formula in str(found) and html in found._repr_html_()


def test_every_ordering_gets_its_name_and_degeneracy(case):
    named, _, asked, (formula, *_), counts, _ = case
    assert len({a.info["ordering"] for a in named}) == len(asked) == len(named)
    assert [a.info["degeneracy"] for a in named] == [o.degeneracy for o in asked]
    assert [a.info["x"] for a in named] == pytest.approx([o.x for o in asked])
    total = Counter()
    for atoms in named:
        total[round(atoms.info["x"], 6)] += atoms.info["degeneracy"]
    assert total == pytest.approx(counts)
    assert {a.info["compound"] for a in named} == {formula}
    for atoms, ordering in zip(named, asked):
        assert Counter(atoms.arrays["oxi_states"]) == Counter(ordering.atoms().arrays["oxi_states"])


def test_formation_energies_by_hand(case):
    named, _, _, (_, _, _, units), counts, _ = case
    energy = np.array([a.get_potential_energy() for a in named]) / units
    x = np.array([a.info["x"] for a in named])
    low, high = min(counts), max(counts)
    empty, full = (energy[np.isclose(x, end)].min() for end in (low, high))
    expected = energy - (x - low) / (high - low) * full - (high - x) / (high - low) * empty
    assert mk.formation_energies(named) == pytest.approx(expected, abs=1e-9)
    table = mk.hull(named)
    assert table["x"].to_numpy() == pytest.approx(x) and (table["energy_above_hull"] >= -1e-9).all()
    inner = np.interp(x, *np.array(sorted(_lowest(x, expected).items())).T)
    assert (table["energy_above_hull"].to_numpy() >= expected - inner - 1e-9).all()


def _lowest(x, energies):
    return {v: energies[np.isclose(x, v)].min() for v in sorted(set(x.round(9)))}


def test_voltages_are_those_of_pymatgen(case):
    from pymatgen.analysis.phase_diagram import PDEntry
    from pymatgen.apps.battery.insertion_battery import InsertionElectrode
    from pymatgen.entries.computed_entries import ComputedEntry

    named, *_, compound = case
    entries = [
        ComputedEntry(a.get_chemical_formula(), a.get_potential_energy(), data={"volume": 1.0})
        for a in named
    ]
    theirs = InsertionElectrode.from_entries(entries, PDEntry(compound.mobile, METAL))
    known = mk.Compound(compound.mobile, compound.redox, metal=METAL)
    ours = mk.voltage_profile(named, compound=known)
    volts = [pair.voltage for pair in theirs.voltage_pairs]
    assert ours["voltage"].to_list() == pytest.approx(volts, abs=1e-6)
    assert ours["mean_voltage"][0] == pytest.approx(theirs.get_average_voltage(), abs=1e-6)
    if compound.mobile != "Na":  # whose metal is known by the method of the embedded set
        with pytest.raises(mk.InputError, match=f"energy of {compound.mobile} metal"):
            mk.voltage_profile(named)
    axes = mk.plots.voltage(ours).layout
    assert (
        compound.mobile in axes.yaxis.title.text and ours.attrs["compound"] in axes.xaxis.title.text
    )


def test_entropy_counts_every_state_when_it_is_hot(case):
    named, _, _, (_, _, _, units), counts, _ = case
    table = mk.entropy_table(named, temperatures=(300, 1e9))
    for x, n in counts.items():
        hot = table.xs(1e9, level=1)
        row = hot.iloc[int(np.abs(hot.index.to_numpy() - x).argmin())]
        assert row["states"] == row["all_states"] == n
        assert row["entropy"] == pytest.approx(kB * math.log(n) / units, abs=1e-9)
        shares = _charges_per_arrangement(named, x)
        assert row["entropy_electronic"] == pytest.approx(kB * math.log(shares) / units, abs=1e-9)
    cold = table.xs(300, level=1)
    assert (cold["entropy"] <= hot["entropy"] + 1e-12).all()
    parts = cold["entropy_ion"] + cold["entropy_electronic"]
    assert parts.to_numpy() == pytest.approx(cold["entropy"].to_numpy())


def _charges_per_arrangement(named, x):
    """Charge orderings of one arrangement, when all have as many: all over those of the ions."""
    here = [a for a in named if abs(a.info["x"] - x) < 1e-6]
    total = sum(a.info["degeneracy"] for a in here)
    atoms = here[0]
    mobile = mk.compound(named).mobile
    n = int((atoms.symbols == mobile).sum())
    sites = {"LixMnPO4": 4, "LixMn2O4": 2, "NaxV2(PO4)3": 8, "LixCoMnNiO6": 3}
    sites |= {"MgxMn2O4": 2, "CaxFePO4": 4}
    return total / math.comb(sites[atoms.info["compound"]], n)


def test_the_whole_chain_of_errors_works_on_own_frames(named, tmp_path):
    import pandas as pd

    frames = mk.split_by_ordering(list(named))
    few = frames[:24]
    table = mk.predict(few, {"mine": LennardJones(rc=4.0)}, progress=False)
    assert "job" not in table and len(table) == len(few)
    table.to_csv(tmp_path / "predictions.csv", index=False)
    again = pd.read_csv(tmp_path / "predictions.csv")
    found = mk.error_by(few, again, "ordering")
    expected = {
        atoms.info["ordering"]: 1e3 * abs(energy - atoms.get_potential_energy()) / len(atoms)
        for atoms, energy in zip(few, table["energy"])
    }
    assert found.loc["mine", "energy"].to_dict() == pytest.approx(expected)
    assert mk.compare_models(few, again, "train")["n"].iloc[0] == sum(
        a.info["split"] == "train" for a in few
    )


def test_a_hull_says_what_it_shows(named):
    figure = mk.plots.hull(mk.hull(named))
    assert figure.layout.xaxis.title.text == f"x in {mk.compound(named).html}"
    low, high = (f([a.info["x"] for a in named]) for f in (min, max))
    assert figure.layout.xaxis.range[0] < low and figure.layout.xaxis.range[1] > high


def test_magnetite_has_orderings_and_no_hull(tmp_path):
    frames, _ = frames_of(magnetite(), mk.Compound(None, {"Fe": (2, 3)}), copies=2)
    frames = mk.name_orderings(from_disk(frames, tmp_path / "a.extxyz"), progress=False)
    assert mk.compound(frames).formula == "Fe3O4" and mk.compound(frames).mobile is None
    table = mk.orderings_table(frames, progress=False)
    # two Fe2+ on six sites, 8a and 16d, which symmetry keeps apart: 1 + 6 + 8
    assert sorted(table["degeneracy"]) == [1, 6, 8] and table["n_frames"].eq(2).all()
    lowest = min(a.get_potential_energy() for a in frames) / 2
    assert table["energy_per_fu"].min() == pytest.approx(lowest)
    for call in (mk.hull, mk.formation_energies, mk.voltage_profile):
        with pytest.raises(mk.InputError, match="no ion moves in Fe3O4.*orderings_table"):
            call(frames)
    ladder = mk.plots.ladder(frames[::2], {}, "x000")
    assert len(ladder.data) == 3
    table = mk.predict(frames, {"mine": LennardJones(rc=4.0)}, progress=False)
    assert mk.error_by(frames, table, "ordering")["n"].to_list() == [2, 2, 2]


def test_several_frameworks_in_one_list(tmp_path):
    lithium = mk.Compound("Li", {"Mn": (2, 3), "Fe": (2, 3)})
    doped = olivine()
    doped.symbols[np.flatnonzero(doped.symbols == "Mn")[0]] = "Fe"
    frames = []
    for host, compound in (
        (olivine(), mk.Compound("Li", {"Mn": (2, 3)})),
        (doped, lithium),
        (olivine("Na", "Fe", (10.4, 6.22, 4.95)), mk.Compound("Na", {"Fe": (2, 3)})),
    ):
        frames += frames_of(host, compound, n_mobile=[0, 1, 4])[0]
    frames = from_disk(frames, tmp_path / "a.extxyz")
    parts = {found.formula: len(members) for found, members in mk.group_by_compound(frames)}
    assert parts == {"LixMnPO4": 4, "LixFeMn3(PO4)4": len(frames) - 8, "NaxFePO4": 4}
    mk.name_orderings(frames, progress=False)
    assert Counter(a.info["compound"] for a in frames) == parts
    assert len({a.info["ordering"] for a in frames}) == len(frames)
    assert frames[0].info["ordering"] == "LixMnPO4:x000_li-_mn0123"
    assert {a.info["split"] for a in frames} == {"train", "validation", "test"}
    table = mk.orderings_table(frames, progress=False)
    assert len(table) == len(frames) and set(table["compound"]) == set(parts)
    with pytest.raises(mk.InputError, match="of 3 compounds: LixMnPO4, LixFeMn3"):
        mk.hull(frames)
    alone = [a for a in frames if a.info["compound"] == "LixFeMn3(PO4)4"]
    assert mk.hull(alone)["x"].max() == 4 and len(mk.hull(alone)) == len(alone)


@pytest.mark.parametrize("labels", ["with moments", "without"])
def test_proxies_of_a_published_database(tmp_path, labels):
    """LiFeMn(PO4)2 in an ASE database that writes Fe3+ as Rh and Fe2+ as Tc, and says nothing of Mn."""
    import ase.db

    host = olivine("Li", "Fe")
    host.symbols[np.flatnonzero(host.symbols == "Fe")[:2]] = "Mn"
    compound = mk.Compound("Li", {"Fe": (2, 3), "Mn": (2,)})
    frames, asked = frames_of(host, compound, n_mobile=[2, 3, 4])
    with ase.db.connect(tmp_path / "a.db") as database:
        for atoms in frames:
            states = mk.infer_oxidation_states(atoms).states
            calc = atoms.calc
            for state, proxy in ((3, "Rh"), (2, "Tc")):
                atoms.symbols[(atoms.symbols == "Fe") & (states == state)] = proxy
            if labels == "without":
                del calc.results["magmoms"]
            calc.atoms = atoms.copy()
            atoms.calc = calc
            database.write(atoms)
    proxies = {"Rh": ("Fe", 3), "Tc": ("Fe", 2)}
    read = mk.read_frames(tmp_path / "a.db", proxies=proxies, progress=False)
    mk.name_orderings(read, progress=False)
    assert mk.compound(read).redox == {"Fe": (2, 3), "Mn": (2,)}
    assert len({a.info["ordering"] for a in read}) == len(asked)
    assert [a.info["degeneracy"] for a in read] == [o.degeneracy for o in asked]
    assert sorted(mk.hull(read)["x"].unique()) == [1, 1.5, 2]


def test_states_that_neutrality_alone_does_not_tell(ends):
    atoms = next(a for a in ends if a.info["x"] == 0.5).copy()
    atoms.arrays["oxi_states"][atoms.symbols == "Fe"] = 0
    with pytest.raises(mk.InputError, match="Fe are not known .0., and neutrality alone"):
        known_states(atoms)


@pytest.mark.parametrize("noise", [0.0, 0.02, 0.05])
def test_noise_changes_neither_x_nor_names(noise):
    """P2-NaxMnO2 in a cell of two hexagonal ones: half of the Na sites are seen, symmetry is high."""
    hexagonal = crystal(
        ["Na", "Mn", "O"],
        [(1 / 3, 2 / 3, 0.25), (0, 0, 0), (1 / 3, 2 / 3, 0.09)],
        spacegroup=194,
        cellpar=[2.9, 2.9, 11.0, 90, 90, 120],
    )
    host = hexagonal.repeat((2, 1, 1))
    compound = mk.Compound("Na", {"Mn": (3, 4)})
    frames, asked = frames_of(host, compound)
    rng = np.random.default_rng(3)
    for atoms in frames:
        atoms.positions += rng.normal(0, noise, (len(atoms), 3))
    mk.name_orderings(frames, progress=False)
    assert {a.info["compound"] for a in frames} == {"NaxMnO2"}
    assert mk.hull(frames)["x"].max() == max(a.info["x"] for a in frames) == 1
    assert len({a.info["ordering"] for a in frames}) == len(asked)
    assert [a.info["degeneracy"] for a in frames] == [o.degeneracy for o in asked]


def test_a_frame_that_cannot_be_named_leaves_the_others_alone():
    frames, _ = frames_of(spinel(), mk.Compound("Li", {"Mn": (3, 4)}))
    frames[1].positions[3] += [1.6, 0, 0]
    with pytest.raises(mk.InputError, match="orderings: frame 1"):
        mk.name_orderings(frames, progress=False)
    assert all("ordering" not in atoms.info for atoms in frames)


def test_a_second_crystal_without_ions_has_a_name_too():
    frames, _ = frames_of(olivine("Na", "Fe"), mk.Compound("Na", {"Fe": (2, 3)}), n_mobile=[3, 4])
    other, _ = frames_of(
        olivine("Ca", "Fe", (9.0, 6.9, 5.1)), mk.Compound("Ca", {"Fe": (2, 3)}), n_mobile=[0]
    )
    mk.name_orderings([*frames, *other], progress=False)
    assert all("ordering" in atoms.info for atoms in [*frames, *other])


def test_an_aware_model_says_to_which_metals_it_is_blind():
    frames, _ = frames_of(olivine("Na", "Mn"), mk.Compound("Na", {"Mn": (2, 3)}), n_mobile=[4])
    mk.name_orderings(frames, progress=False)
    with pytest.warns(UserWarning, match="charge of Fe only; to the charge of Mn it is blind"):
        mk.predict(frames, {"aware": mk.load_model("chgnet", charge_aware=True)}, progress=False)


def test_axes_of_two_compounds_name_neither(named):
    other, _ = frames_of(spinel("Zn", "Mn", 8.1), mk.Compound("Zn", {"Mn": (3, 4)}))
    figure = mk.plots.hull({"a": mk.hull(named), "b": mk.hull(other)})
    assert figure.layout.xaxis.title.text == "x"


def test_a_framework_that_is_given_holds_everywhere():
    frames, _ = frames_of(olivine(), mk.Compound("Li", {"Mn": (2, 3)}))
    double = mk.Compound("Li", {"Mn": (2, 3)}, framework="Mn2(PO4)2")
    mk.name_orderings(frames, compound=double, progress=False)
    assert {a.info["compound"] for a in frames} == {"LixMn2(PO4)2"}
    assert max(a.info["x"] for a in frames) == mk.hull(frames, compound=double)["x"].max() == 2
    assert mk.hull(frames)["x"].max() == 2
    other = mk.Compound("Na", {"Mn": (2, 3)})  # another ion than that of the title: a sentence
    with pytest.raises(mk.InputError):
        mk.hull(frames, compound=other)


def test_what_others_write_into_info_is_not_ours():
    for word in ("Olivine", "LiFePO4", "FePO4", 3, None, "Lix"):
        frames = [Atoms("LiFePO4", info={"compound": word}), Atoms("FePO4", info={"x": "none"})]
        assert mk.compound(frames).formula == "LixFePO4"
    half = Atoms("LiFePO4", info={"x": "half", "ordering": "a", "degeneracy": 1})
    assert mk.compound([half]).formula == "LixFePO4"


def test_what_has_no_framework_is_told():
    for atoms in (Atoms("Li2"), Atoms(), Atoms("X2")):
        with pytest.raises(mk.InputError, match="holds nothing but"):
            mk.compound([atoms])


def test_a_compound_without_the_ion_does_not_get_it():
    formulas = ("NaFePO4", "FePO4", "Fe3O4", "Fe2P2O7")
    found = [c.formula for c, _ in mk.group_by_compound([Atoms(f) for f in formulas])]
    assert found[0] == "NaxFePO4" and found[1] == "Fe3O4" and not found[2].startswith("Nax")


def test_units_are_counted_in_whole_numbers():
    compound = mk.Compound("Li", {"Mn": (2, 3)}, framework="Mn7P7O28")
    assert compound.units(Atoms("Mn29P29O116")) == pytest.approx(29 / 7)


def test_distances_outside_the_reference_are_refused(ends):
    half = [a for a in ends if a.info["x"] <= 0.5]
    with pytest.raises(mk.InputError, match="outside the end members"):
        mk.energy_above_hull(ends[-2:], reference=half)


def test_vacancies_are_no_atoms():
    frames, _ = frames_of(spinel(), mk.Compound("Li", {"Mn": (3, 4)}))
    marked = [a + Atoms("X", positions=[(0.1, 0.2, 0.3)]) for a in frames]
    for atoms, labelled in zip(marked, frames):
        atoms.calc = labelled.calc
    energies = [a.get_potential_energy() for a in frames]
    assert mk.hull(marked, energies).equals(mk.hull(frames))


def test_entropy_of_charges_where_nothing_moves():
    frames, _ = frames_of(magnetite(), mk.Compound(None, {"Fe": (2, 3)}))
    mk.name_orderings(frames, progress=False)
    hot = mk.entropy_table(frames, temperatures=(1e9,)).iloc[0]
    assert hot["states"] == hot["all_states"] == math.comb(6, 2)
    assert hot["entropy"] == pytest.approx(kB * math.log(15) / 2, abs=1e-9)
    assert hot["entropy_electronic"] == pytest.approx(hot["entropy"])


@pytest.mark.parametrize(
    ("name", "ions"),
    [
        ("x050_na01_fe02", "x050_na01"),
        ("x050_na0_fea", "x050_na0"),
        ("x050_na0_feab", "x050_na0"),
        ("x025_li0_mn1_mn4.023_1x2x1", "x025_li0_1x2x1"),
        ("x000_fe0135", "x000"),
        ("x100_na01_v-_v4.0123", "x100_na01"),
        ("LixMnPO4:x050_li01_mn02", "LixMnPO4:x050_li01"),
        ("x000_li-_co-_co4.0_ni-_ni4.0", "x000_li-"),
    ],
)
def test_the_ions_in_a_name(name, ions):
    assert arrangement(name) == ions


def test_two_crystals_of_one_composition_are_told_apart(tmp_path):
    """NaFePO4 as olivine, and in the structure that comes from putting Na on the places of Fe and Fe on those of Na."""
    one = olivine("Na", "Fe", (10.4, 6.22, 4.95))
    other = olivine("Fe", "Na", (8.99, 6.86, 5.05))
    compound = mk.Compound("Na", {"Fe": (2, 3)})
    frames = (
        frames_of(one, compound, n_mobile=[3, 4])[0]
        + frames_of(other, compound, n_mobile=[3, 4])[0]
    )
    frames = mk.name_orderings(from_disk(frames, tmp_path / "a.extxyz"), progress=False)
    titles = Counter(a.info["compound"] for a in frames)
    assert set(titles) == {"NaxFePO4", "NaxFePO4 (2)"}
    assert len({a.info["ordering"] for a in frames}) == len(frames)


def test_what_cannot_be_inferred_names_the_candidates():
    both = [Atoms("LiNaFePO4"), Atoms("LiFePO4"), Atoms("NaFePO4")]
    with pytest.raises(mk.InputError, match=r"Li and Na both vary.*mk.Compound\(mobile=.Li."):
        mk.compound(both)
    assert mk.hull([Atoms("FePO4"), Atoms("Li2FePO4")], [0.0, -1.0])["x"].to_list() == [0, 2]
    known = mk.Compound("Li", {"Mn": (3, 4)}, framework="Mn2O4", ends=(0, 1))
    frames = [Atoms("Mn2O4"), Atoms("LiMn2O4"), Atoms("LiMn4O8")]
    assert mk.formation_energies(frames, [0.0, -4.0, -3.0], known)[2] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("Xx", {}), "mobile is an element.*not 'Xx'"),
        (("Li", {"Mn": ()}), "at least one state"),
        (("Li", {"Li": (1,)}), "not the mobile ion"),
        (("Li", "Mn"), "redox is a dict"),
        (("Li", {"Mn": (2, 3)}, "no formula"), "framework is a formula"),
        (("Li", {"Mn": (2, 3)}, "MnO2", 1, (1, 0)), "ends are two values"),
        (("Fe", {"Mn": (2, 3)}), "which charge has Fe"),
        ((["Li"], {"Mn": (2, 3)}), "mobile is an element"),
        (("Li", {"Mn": (2, 3)}, "LiMnO2"), "without Li, the mobile ion"),
        (("Li", {"Mn": (2, 3)}, "MnO2", "two"), "charge is a whole number.*not 'two'"),
    ],
)
def test_a_compound_that_makes_no_sense_is_told(arguments, says):
    with pytest.raises(mk.InputError, match=says):
        mk.Compound(*arguments)


@pytest.mark.parametrize("call", [mk.hull, mk.name_orderings, mk.orderings_table, mk.find_host])
def test_a_name_in_place_of_a_compound_is_told(call, ends):
    with pytest.raises(mk.InputError, match="compound= takes a Compound"):
        call(ends, compound="NaxFePO4")
