import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

import mlipkit as mk
from mlipkit.frames.labels import check_cell, checked_frame, label, well_converged


@pytest.mark.parametrize("name, ion", [("olivine", "Na"), ("olivine-li", "Li")])
def test_embedded_set_has_what_it_promises(name, ion):
    frames = mk.load_dft(name)
    table = mk.frame_table(frames)
    assert sorted(table["x"].unique()) == [0, 0.25, 0.5, 0.75, 1]
    for atoms in frames:
        ions, fe = (atoms.symbols == ion).sum(), (atoms.symbols == "Fe").sum()
        assert fe == 4 and ions == 4 * atoms.info["x"] == len(atoms.info[f"{ion.lower()}_sites"])
        assert len(atoms.info["fe3_sites"]) == fe - ions  # neutrality
        # two clear groups of moments, µB
        states, moments = (
            a[atoms.symbols == "Fe"] for a in (atoms.arrays["oxi_states"], label(atoms, "magmoms"))
        )
        assert (moments[states == 2] < 3.95).all() and (moments[states == 3] > 4.05).all()
        assert atoms.arrays["oxi_states"].sum() == 0
        assert atoms.get_forces().shape == (len(atoms), 3) and atoms.get_stress().shape == (6,)
        # eV/Å; a free crystal is pushed nowhere
        assert np.abs(atoms.get_forces().mean(axis=0)).max() < 0.01
        assert atoms.info["split"] in ("train", "validation", "test")
    # a group never straddles two splits
    assert table.groupby("ordering")["split"].nunique().max() == 1
    relaxing = table[table["kind"].isin(["relax", "final"])]
    rises = relaxing.groupby("job")["energy"].diff()
    assert rises.max() < 0.03  # eV per cell; the optimiser takes steps without line search


def test_the_set_of_lithium_stands_beside_that_of_sodium(frames, ends):
    lithium = mk.load_dft("olivine-li")
    renamed = lambda name: name.replace("_li", "_na")
    split = {a.info["ordering"]: a.info["split"] for a in frames}
    assert all(split[renamed(a.info["ordering"])] == a.info["split"] for a in lithium)
    # FePO4 is the same calculation
    empty = [[a.get_potential_energy() for a in s if a.info["x"] == 0] for s in (frames, lithium)]
    assert empty[0] == empty[1]
    hull = mk.hull(mk.end_points(lithium))
    # no ordering is on the hull, as literature has it; the lowest of x = 0.5 is that of sodium
    assert hull[hull["on_hull"]]["x"].tolist() == [0, 1] and len(hull) == 16
    energies = {
        row.ordering: 1e3 * row.formation_energy
        for row in (*hull.itertuples(), *mk.hull(ends).itertuples())
    }
    said = (Path(__file__).parent.parent / "data/dft/README.md").read_text()
    rows = re.findall(r"(x\d{3}_li\w+) \| (-?[\d.]+) \| (-?[\d.]+) \|", said)
    assert len(rows) == len(hull) - 2
    for name, li, na in rows:
        right = energies[name], energies[renamed(name)]
        assert [float(li), float(na)] == pytest.approx(right, abs=0.06), name
    metal = mk.Compound("Li", {"Fe": (2, 3)}, metal=-1.9011)
    voltage = mk.voltage_profile(mk.end_points(lithium, fmax=1), compound=metal)
    assert voltage["voltage"].tolist() == pytest.approx([3.354], abs=0.002)


def test_loading_does_not_import_torch():
    code = "import sys, mlipkit as mk; mk.load_dft(); print('torch' in sys.modules)"
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
        == "False"
    )


def test_round_trip(frames, tmp_path):
    mk.write_frames(tmp_path / "a.extxyz", frames[:5])
    for before, after in zip(frames, mk.read_frames(tmp_path / "a.extxyz")):
        assert np.allclose(before.positions, after.positions, atol=1e-7) and np.array_equal(
            before.numbers, after.numbers
        )
        assert after.get_potential_energy() == pytest.approx(
            before.get_potential_energy(), abs=1e-9
        )
        assert np.allclose(before.get_magnetic_moments(), after.get_magnetic_moments(), atol=1e-7)
        assert np.array_equal(before.arrays["oxi_states"], after.arrays["oxi_states"])


@pytest.mark.parametrize(
    "damage, says",
    [
        (lambda text: "", "holds no frame"),
        (lambda text: "not a structure\n" * 9, "frame 0"),
        (lambda text: text[: len(text) // 2 - 40], "frame 1"),
        (lambda text: text.replace("Fe  ", "Qq  "), "frame 0"),
    ],
)
def test_bad_files_name_file_and_frame(frames, tmp_path, damage, says):
    path = tmp_path / "mine.extxyz"
    mk.write_frames(path, [frames[0]] * 3)
    path.write_text(damage(path.read_text()))
    with pytest.raises(mk.InputError, match=f"mine.extxyz.*{says}"):
        mk.read_frames(path)


@pytest.mark.parametrize(
    "cell", [[[3, 0, 0], [3, 0, 0], [0, 0, 3]], [[1, 1, 0], [2, 2, 0], [3, 3, 1e-9]]]
)
@pytest.mark.parametrize("pbc", [True, False])
def test_a_flat_cell_is_refused(cell, pbc, tmp_path):
    atoms = Atoms("FeO", positions=[[0, 0, 0], [1.8, 0, 0]], cell=cell, pbc=pbc)
    calls = mk.show, mk.infer_oxidation_states, mk.compound, mk.find_host, mk.frame_table
    for call in calls:
        with pytest.raises(mk.InputError, match="the cell is flat, its vectors"):
            call(atoms)
    with pytest.raises(mk.InputError, match="the cell is flat"):
        checked_frame(atoms, "here", 0)
    atoms.cell[0, 0] = np.nan if pbc else np.inf
    for call in calls:
        with pytest.raises(mk.InputError, match="the cell is not finite"):
            call(atoms)
    # no cell, or one that repeats in some directions
    for cell in (None, [3, 3, 0], [[3, 0, 0], [0, 0, 0], [1e-3, 0, 3]]):
        check_cell(Atoms("Fe", cell=cell), "here")


def test_missing_file(tmp_path):
    with pytest.raises(mk.InputError, match="no such file"):
        mk.read_frames(tmp_path / "nothing.extxyz")


def test_unlabelled_frame_in_table_is_nan(frames):
    row = mk.frame_table([frames[0].copy()]).iloc[0]
    assert np.isnan(row["energy"]) and np.isnan(row["max_force"])


def test_unconverged_frames_are_dropped():
    frames = [
        Atoms("Fe", info=info)
        for info in (
            {},
            {"converged": True},
            {"converged": False},
            {"density": 1e-3},
            {"density": 5e-4},
        )
    ]
    assert [a.info for a in well_converged(frames)] == [{}, {"converged": True}, {"density": 5e-4}]


def test_forces_in_arrays_become_labels_and_survive_a_round_trip(tmp_path):
    atoms = Atoms("FeO", positions=[[0, 0, 0], [0, 0, 2.0]], cell=[5, 5, 5], pbc=True)
    atoms.set_array("forces", np.array([[0, 0, 1.5], [0, 0, -1.5]]))
    atoms.calc = SinglePointCalculator(atoms, energy=-3.0)
    mk.write_frames(tmp_path / "a.extxyz", [atoms])
    for got in (checked_frame(atoms.copy(), "here", 0), *mk.read_frames(tmp_path / "a.extxyz")):
        assert (
            label(got, "forces").tolist() == [[0, 0, 1.5], [0, 0, -1.5]]
            and "forces" not in got.arrays
        )
    assert label(got, "energy") == -3.0 and label(got, "magmoms") is None


@pytest.mark.parametrize(
    "change, says",
    [
        (
            lambda a: a.positions.__setitem__((1, 2), np.nan),
            "atom 1: a position is not a finite number",
        ),
        (lambda a: a.set_cell([5, 5, np.inf]), "the cell is not finite"),
        (lambda a: a.numbers.__setitem__(0, 119), "no element of atomic number 119"),
        (lambda a: a.numbers.__setitem__(slice(None), 0), "holds no atom"),
        (
            lambda a: setattr(a, "calc", SinglePointCalculator(a, energy=[1, 2])),
            "energy must be one number",
        ),
        (
            lambda a: setattr(a, "calc", SinglePointCalculator(a, forces=[[1, 2, 3]])),
            r"forces of shape \(1, 3\) do not fit 2 atoms",
        ),
    ],
)
def test_frames_that_cannot_be(change, says):
    atoms = Atoms("FeO", positions=[[0, 0, 0], [0, 0, 2.0]], cell=[5, 5, 5], pbc=True)
    change(atoms)
    with pytest.raises(mk.InputError, match=f"here: frame 7: .*{says}"):
        checked_frame(atoms, "here", 7)


def test_end_points_are_final_or_relaxed_and_the_lowest(frames, ends):
    fmax = lambda a: np.linalg.norm(a.get_forces(), axis=1).max()
    assert len(ends) == len({a.info["ordering"] for a in ends})
    for end in ends:
        same = [a for a in frames if a.info["ordering"] == end.info["ordering"]]
        finals = [a for a in same if a.info["kind"] == "final"]
        assert fmax(end) <= 0.056
        assert end.get_potential_energy() == min(
            a.get_potential_energy() for a in finals or [a for a in same if fmax(a) <= 0.05]
        )
    with pytest.warns(UserWarning, match="end_points: 16 orderings left out.*1e-06 eV/Å"):
        assert mk.end_points([a for a in frames if a.info["kind"] != "final"], fmax=1e-6) == []
    with pytest.raises(mk.InputError, match=r"no info\['ordering'\]"):
        mk.end_points([Atoms("Fe")])


def test_end_points_say_which_orderings_they_leave_out(frames):
    some = [a for a in frames if a.info["ordering"].startswith("x050_na01_fe0")]
    rough = [a for a in some if a.info["ordering"] == "x050_na01_fe02"]
    left = max(rough, key=lambda a: np.abs(a.get_forces()).max())
    force = np.linalg.norm(left.get_forces(), axis=1).max()
    with pytest.warns(UserWarning) as said:
        found = mk.end_points([a for a in some if a not in rough] + [left])
    assert [a.info["ordering"] for a in found] == ["x050_na01_fe01", "x050_na01_fe03"]
    assert len(said) == 1
    assert "1 ordering left out" in str(said[0].message)
    assert f"x050_na01_fe02 ({force:.2g} eV/Å)" in str(said[0].message)
