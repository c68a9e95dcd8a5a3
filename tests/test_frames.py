import subprocess
import sys

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

import mlipkit as mk
from mlipkit.frames.labels import checked_frame, label, well_converged


def test_embedded_set_has_what_it_promises(frames):
    table = mk.frame_table(frames)
    assert sorted(table["x"].unique()) == [0, 0.25, 0.5, 0.75, 1]
    for atoms in frames:
        na, fe = (atoms.symbols == "Na").sum(), (atoms.symbols == "Fe").sum()
        assert fe == 4 and na == 4 * atoms.info["x"] == len(atoms.info["na_sites"])
        assert len(atoms.info["fe3_sites"]) == fe - na  # neutrality
        assert atoms.arrays["oxi_states"].sum() == 0
        assert atoms.get_forces().shape == (len(atoms), 3) and atoms.get_stress().shape == (6,)
        # eV/Å; a free crystal is pushed nowhere
        assert np.abs(atoms.get_forces().mean(axis=0)).max() < 0.01
        assert atoms.info["split"] in ("train", "validation", "test")
    # a group never straddles two splits
    assert table.groupby("ordering")["split"].nunique().max() == 1


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
