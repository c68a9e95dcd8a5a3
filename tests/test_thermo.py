import warnings
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from scipy.spatial import ConvexHull

import mlipkit as mk
from mlipkit.charges.compounds import METALS


def test_formation_energy_by_hand(ends):
    e0, e1 = (min(a.get_potential_energy() for a in ends if a.info["x"] == x) for x in (0, 1))
    for atoms, ef in zip(ends, mk.formation_energies(ends)):
        x = atoms.info["x"]
        assert ef == pytest.approx(
            (atoms.get_potential_energy() - x * e1 - (1 - x) * e0) / 4, abs=1e-12
        )


def test_formation_energy_of_a_supercell_is_the_same(ends):
    big = [a.repeat((1, 1, 2)) for a in ends]
    assert mk.formation_energies(
        big, [2 * a.get_potential_energy() for a in ends]
    ) == pytest.approx(mk.formation_energies(ends), abs=1e-12)


def test_reference_shift_cancels(ends):
    shifted = [a.get_potential_energy() + 7.0 * 4 - 3.0 * (a.symbols == "Na").sum() for a in ends]
    assert mk.formation_energies(ends, shifted) == pytest.approx(
        mk.formation_energies(ends), abs=1e-9
    )


@pytest.mark.parametrize("seed", range(5))
def test_hull_against_scipy(ends, seed):
    energies = [
        a.get_potential_energy() + 0.3 * np.random.default_rng(seed).normal(size=len(ends))[i]
        for i, a in enumerate(ends)
    ]
    table = mk.hull(ends, energies)
    points = np.array(
        [[a.info["x"], e] for a, e in zip(ends, mk.formation_energies(ends, energies))]
    )
    lower = [
        s
        for s, eq in zip(ConvexHull(points).simplices, ConvexHull(points).equations)
        if eq[1] < -1e-12
    ]
    vertices = np.array(sorted(points[list({i for s in lower for i in s})].tolist()))
    floor = np.interp(points[:, 0], vertices[:, 0], vertices[:, 1])
    assert table["energy_above_hull"].to_numpy() == pytest.approx(points[:, 1] - floor, abs=1e-6)
    assert table["on_hull"].to_numpy().tolist() == (points[:, 1] - floor < 1e-8).tolist()


def test_missing_end_member_and_wrong_length(ends):
    whole = mk.Compound("Na", {"Fe": (2, 3)}, ends=(0, 1))
    with pytest.raises(mk.InputError, match="end member is missing.* need frames at x = 0; got"):
        mk.formation_energies([a for a in ends if a.info["x"] > 0], compound=whole)
    with pytest.raises(mk.InputError, match="need frames at two different x"):
        mk.formation_energies([a for a in ends if a.info["x"] == 0.5])
    with pytest.raises(mk.InputError, match="outside the end members"):
        mk.hull(ends, compound=mk.Compound("Na", {"Fe": (2, 3)}, ends=(0.25, 0.75)))
    with pytest.raises(mk.InputError, match="1 energies"):
        mk.hull(ends, [0.0])
    with pytest.raises(mk.InputError, match="has no energy"):
        mk.hull([a.copy() for a in ends])


# Made up: eV per cell of different sizes; LixCoO2 with x = 1/3 above the hull, x = 1/2 and 2/3 on
# it
LI_METAL = -1.9
LICOO2 = {
    "Co2O4": -30.0,
    "LiCo3O6": -47.2,
    "LiCo2O4": -36.2,
    "Li2Co3O6": -57.3,
    "LiCoO2": -21.05,
    "Li2Co2O4": -42.0,
}


@pytest.fixture
def cobaltate():
    frames = [Atoms(formula) for formula in LICOO2]
    return frames, list(LICOO2.values()), mk.Compound("Li", {"Co": (3, 4)}, metal=LI_METAL)


def insertion_electrode(frames, energies, ion, metal):
    """pymatgen's, from entries of elements and their energies alone."""
    from pymatgen.analysis.phase_diagram import PDEntry
    from pymatgen.apps.battery.insertion_battery import InsertionElectrode
    from pymatgen.entries.computed_entries import ComputedEntry

    entries = [
        ComputedEntry(a.get_chemical_formula(), e, data={"volume": 1.0})
        for a, e in zip(frames, energies)
    ]
    return InsertionElectrode.from_entries(entries, PDEntry(ion, metal))


def test_voltages_by_hand(cobaltate):
    frames, energies, ion = cobaltate
    profile = mk.voltage_profile(frames, energies, ion)
    assert profile[["x1", "x2"]].to_numpy() == pytest.approx(
        np.array([[0, 1 / 2], [1 / 2, 2 / 3], [2 / 3, 1]])
    )
    # E per Co: -15, -18.1, -19.1, -21.05
    assert profile["voltage"].to_list() == pytest.approx(
        [3.1 * 2 - 1.9, 1.0 * 6 - 1.9, 1.95 * 3 - 1.9]
    )
    assert profile["mean_voltage"].to_list() == pytest.approx([6.05 - 1.9] * 3)
    # steps add up to the mean
    assert profile["voltage"] @ (profile["x2"] - profile["x1"]) == pytest.approx(6.05 - 1.9)


def test_voltages_against_pymatgen(cobaltate, ends):
    frames, energies, ion = cobaltate
    na = [a.get_potential_energy() for a in ends]
    for theirs, ours in (
        (
            insertion_electrode(frames, energies, "Li", LI_METAL),
            mk.voltage_profile(frames, energies, ion),
        ),
        (insertion_electrode(ends, na, "Na", METALS["Na"]), mk.voltage_profile(ends)),
    ):
        assert ours["voltage"].to_list() == pytest.approx(
            [p.voltage for p in theirs.voltage_pairs], abs=1e-9
        )
        assert ours["mean_voltage"][0] == pytest.approx(theirs.get_average_voltage(), abs=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_hull_distance_against_the_full_phase_diagram(cobaltate, seed):
    """In the whole Li-Co-O space, with the elements so high that nothing decomposes into them."""
    from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram

    frames, energies, ion = cobaltate
    energies = np.array(energies) + np.random.default_rng(seed).normal(0, 0.3, len(frames))
    entries = [PDEntry(a.get_chemical_formula(), e) for a, e in zip(frames, energies)]
    diagram = PhaseDiagram([*entries, *(PDEntry(element, 50.0) for element in ("Li", "Co", "O"))])
    theirs = [
        diagram.get_e_above_hull(e) * len(a) / (a.symbols == "Co").sum()
        for e, a in zip(entries, frames)
    ]
    assert mk.energy_above_hull(frames, energies, compound=ion) == pytest.approx(theirs, abs=1e-8)


def test_distance_from_the_hull_of_others(cobaltate):
    frames, energies, ion = cobaltate
    # per Co: -18.0 and -19.2
    new, energy = [Atoms("LiCo2O4"), Atoms("Li3Co4O8")], [-36.0, -76.8]
    above = mk.energy_above_hull(
        new, energy, reference=frames, reference_energies=energies, compound=ion
    )
    # x = 3/4 is a quarter of the way from 2/3 to 1
    assert above == pytest.approx([0.1, -19.2 + (0.75 * 19.1 + 0.25 * 21.05)])
    assert mk.energy_above_hull(frames, energies, frames, energies, compound=ion) == pytest.approx(
        mk.energy_above_hull(frames, energies, compound=ion)
    )
    with pytest.raises(mk.InputError, match="not on the line"):
        mk.energy_above_hull(
            [Atoms("LiFeO2")],
            [1.0],
            reference=frames,
            reference_energies=energies,
        )


def test_several_redox_metals_add_up():
    frames, energies = (
        [Atoms("FeMnP2O8"), Atoms("NaFeMnP2O8"), Atoms("Na2FeMnP2O8")],
        [-80.0, -85.0, -89.0],
    )
    table = mk.hull(frames, energies)
    assert table["x"].to_list() == [0, 1, 2] and table[
        "formation_energy"
    ].to_list() == pytest.approx([0, -0.5, 0])
    metal = mk.Compound("Na", {"Fe": (2, 3), "Mn": (2, 3)}, metal=-1.3)
    assert mk.voltage_profile(frames, energies, metal)["voltage"].to_list() == pytest.approx(
        [3.7, 2.7]
    )


def test_end_members_alone_make_one_step(ends):
    two = [a for a in ends if a.info["x"] in (0, 1)]
    profile = mk.voltage_profile(two)
    assert (
        profile[["x1", "x2"]].to_numpy().tolist() == [[0, 1]]
        and profile["voltage"][0] == profile["mean_voltage"][0]
    )


def test_sodium_is_the_lowest_at_the_densest_mesh():
    frames = ase.io.read(Path(__file__).parent.parent / "data/dft/frames/na_bcc.extxyz", ":")
    densest = [a for a in frames if a.info["kpoints"] == max(a.info["kpoints"] for a in frames)]
    assert METALS["Na"] == min(a.get_potential_energy() / len(a) for a in densest)


def test_voltage_of_the_embedded_set_is_that_of_naxfepo4(ends):
    profile = mk.voltage_profile(ends)
    assert profile["mean_voltage"][0] == pytest.approx(2.900, abs=5e-4)
    assert profile["voltage"].to_list() == pytest.approx([2.907, 2.893], abs=5e-4)


def test_the_known_metal_is_not_taken_in_silence_for_frames_of_others(ends, tmp_path):
    mk.write_frames(tmp_path / "mine.extxyz", ends)
    mine = mk.name_orderings(mk.read_frames(tmp_path / "mine.extxyz"), progress=False)
    with pytest.warns(UserWarning, match=r"measured against bcc Na .* -1.3227 eV per atom"):
        profile = mk.voltage_profile(mine)
    assert profile["mean_voltage"][0] == pytest.approx(2.900, abs=5e-4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mk.voltage_profile(ends)
        mk.voltage_profile(mine, compound=mk.Compound("Na", {"Fe": (2, 3)}, metal=METALS["Na"]))
        mk.voltage_profile(mine, [a.get_potential_energy() for a in mine])  # those of a model


def test_what_cannot_be_measured_is_said(cobaltate, ends):
    frames, energies, ion = cobaltate
    with pytest.raises(mk.InputError, match="energy of frame 2 .* not a finite"):
        mk.hull(frames, [*energies[:2], np.nan, *energies[3:]], compound=ion)
    with pytest.raises(mk.InputError, match="7 frames are of 2 compounds: LixCoO2, LixCoO3"):
        mk.hull([*frames, Atoms("LiCoO3")], [*energies, -3.0], compound=ion)
    with pytest.raises(mk.InputError, match="end member is missing"):
        mk.voltage_profile(
            frames[:4], energies[:4], mk.Compound("Li", {"Co": (3, 4)}, "CoO2", ends=(0, 1))
        )
    with pytest.raises(mk.InputError, match="energy of Li metal"):
        mk.voltage_profile(frames, energies)
    with pytest.raises(mk.InputError, match="is no NaxCoPO4: without Na, Fe4.PO4.4 is no multiple"):
        mk.voltage_profile(ends, compound=mk.Compound("Na", {"Co": (2, 3)}, framework="CoPO4"))
    with pytest.raises(mk.InputError, match="hull takes frames"):
        mk.energy_above_hull([])


def with_u(frames, values):
    """Copies of frames, computed with these U of Fe (None: not told)."""
    copies = [a.copy() for a in frames]
    for copy, atoms, u in zip(copies, frames, values):
        copy.calc = atoms.calc
        if u is not None:
            copy.info["hubbard_u"] = {"Fe": u}
    return copies


def test_energies_of_different_u_are_not_compared(ends, tmp_path):
    n = len(ends)
    same = with_u(ends, [5.3, None] + [5.3] * (n - 2))
    assert mk.hull(same).equals(mk.hull(ends))
    mixed = with_u(ends, [5.3] * (n - 1) + [4.0])
    says = f"different U of Fe: 4 eV \\(such as frame {n - 1}\\), 5.3 eV \\(such as frame 0\\)"
    for compare in (mk.hull, mk.formation_energies, mk.voltage_profile, mk.entropy_table):
        with pytest.raises(mk.InputError, match=says):
            compare(mixed)
    with pytest.raises(mk.InputError, match="frames and reference together.*different U of Fe"):
        mk.energy_above_hull(with_u(ends[3:5], [4.0] * 2), reference=same)
    with pytest.warns(UserWarning, match=f"orderings_table: .*{says}"):
        table = mk.orderings_table(mixed, progress=False)
    assert len(table) == n and table[["energy_per_fu", "above_lowest"]].isna().all(axis=None)
    assert (mk.orderings_table(same, progress=False)["above_lowest"] >= 0).all()
    # those of a model are of one kind
    energies = [a.get_potential_energy() for a in ends]
    assert mk.hull(mixed, energies).equals(mk.hull(ends))
    path = tmp_path / "mixed.extxyz"
    mk.write_frames(path, mixed)
    with pytest.warns(UserWarning, match=f"mixed.extxyz: .*{says}.*must not be compared"):
        mk.read_frames(path, progress=False)
