"""Labels under the names that training sets give them: given with keys=, or guessed and said."""

import re
import subprocess
import sys
import warnings
from pathlib import Path

import ase.db
import ase.io
import numpy as np
import pytest
from ase import Atoms
from hypothesis import given
from hypothesis import strategies as st

import mlipkit as mk
from mlipkit.frames.labels import label
from mlipkit.frames.readers import read_frames

STRESS = np.array([[1, 6, 5], [6, 2, 4], [5, 4, 3]]) / 100
VOIGT = np.array([1, 2, 3, 4, 5, 6]) / 100
FORCES = np.array([[0.1, 0.2, 0.3], [-0.1, -0.2, -0.3]])


def frame(info=(), arrays=()):
    """Fe and O in a cell of 60 Å^3, with these values under these names."""
    atoms = Atoms("FeO", [[0, 0, 0], [1, 2, 2.5]], cell=[3, 4, 5], pbc=True)
    atoms.info = dict(info)
    for name, values in dict(arrays).items():
        atoms.set_array(name, np.array(values))
    return atoms


def named(prefix="", suffix=""):
    return frame(
        {f"{prefix}energy{suffix}": -7.5, f"{prefix}stress{suffix}": STRESS},
        {f"{prefix}forces{suffix}": FORCES, f"{prefix}magmoms{suffix}": [3.7, 0.1]},
    )


def written(tmp_path, *frames, name="train.extxyz"):
    path = tmp_path / name
    if path.suffix == ".db":
        with ase.db.connect(path) as db:
            for atoms in frames:
                pairs = {k: v for k, v in atoms.info.items() if np.ndim(v) == 0}
                rest = {k: v for k, v in atoms.info.items() if np.ndim(v)}
                own = {k: v for k, v in atoms.arrays.items() if k not in ("numbers", "positions")}
                db.write(atoms, key_value_pairs=pairs, data={**rest, **own})
    elif path.suffix == ".traj":
        ase.io.write(path, frames)
    else:
        with open(path, "w") as file:
            for atoms in frames:
                ase.io.write(file, atoms, format="extxyz")
    return path


def said(path, **kwargs):
    """The frames of a file, and the one warning."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        frames = read_frames(path, progress=False, **kwargs)
    (text,) = [str(w.message) for w in found if w.category is UserWarning]
    return frames, text


def quietly(path, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return read_frames(path, progress=False, **kwargs)


def assert_labelled(atoms):
    assert label(atoms, "energy") == -7.5 and (label(atoms, "forces") == FORCES).all()
    assert label(atoms, "stress") == pytest.approx(VOIGT)
    assert label(atoms, "magmoms").tolist() == [3.7, 0.1]
    assert not [name for name in (*atoms.info, *atoms.arrays) if "energy" in name or "forc" in name]


AFFIXES = [
    ("REF_", ""),
    ("ref_", ""),
    ("DFT_", ""),
    ("dft_", ""),
    ("", "_dft"),
    ("", "_REF"),
    ("vasp_", ""),
]


@pytest.mark.parametrize("kind", ["extxyz", "db"])
@pytest.mark.parametrize(("prefix", "suffix"), AFFIXES)
def test_usual_names_are_taken_and_said_once(tmp_path, kind, prefix, suffix):
    path = written(tmp_path, *[named(prefix, suffix)] * 3, name=f"train.{kind}")
    frames, text = said(path)
    assert len(frames) == 3
    for atoms in frames:
        assert_labelled(atoms)
    assert text.startswith(f"{path}: labels were taken from ") and text.endswith("for others")
    for name in ("energy", "stress", "forces", "magmoms"):
        assert f"{prefix}{name}{suffix}" in text


@pytest.mark.parametrize("kind", ["extxyz", "db"])
def test_given_names(tmp_path, kind):
    atoms = frame({"e": -7.5, "s": STRESS}, {"f": FORCES, "m": [3.7, 0.1]})
    path = written(tmp_path, atoms, atoms, name=f"train.{kind}")
    keys = {"energy": "e", "forces": "f", "stress": "s", "magmoms": "m"}
    for got in quietly(path, keys=keys):
        assert_labelled(got)
    (alone,) = quietly(path, keys={"forces": "f"}, index=-1)
    assert set(alone.calc.results) == {"forces"} and alone.info["e"] == -7.5


def test_trajectories_keep_no_columns_but_values(tmp_path):
    (atoms,), text = said(written(tmp_path, named("REF_"), name="a.traj"))
    assert label(atoms, "energy") == -7.5 and label(atoms, "stress") == pytest.approx(VOIGT)
    assert "REF_energy, REF_stress" in text


def test_given_names_come_before_the_labels_of_the_file(tmp_path):
    path = written(tmp_path, named("REF_"))
    text = path.read_text().replace("REF_energy=", "energy=-1.0 REF_energy=")
    path.write_text(text)
    ((atoms,), warning) = said(path)
    assert label(atoms, "energy") == -1.0 and atoms.info["REF_energy"] == -7.5
    assert "REF_energy is there beside energy and was not taken" in warning
    (atoms,) = quietly(path, keys={"energy": "REF_energy"})
    assert label(atoms, "energy") == -7.5


def test_of_two_candidates_the_first_and_the_other_is_said(tmp_path):
    atoms = frame({"dft_energy": -1.0, "REF_energy": -2.0, "energy_per_atom": -3.0})
    (got,), text = said(written(tmp_path, atoms))
    assert label(got, "energy") == -2.0
    assert "taken from REF_energy" in text
    assert "dft_energy is there beside REF_energy and was not taken" in text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("REF_virials", -60 * STRESS),
        ("dft_virial", -60 * STRESS),
        ("virial", -60 * STRESS),
        ("virials", (-60 * VOIGT).tolist()),
    ],
)
def test_virials_are_minus_stress_times_volume(tmp_path, name, value):
    (atoms,), text = said(written(tmp_path, frame({name: value})))
    assert label(atoms, "stress") == pytest.approx(VOIGT)
    assert f"{name} (stress = -virials/volume)" in text
    (atoms,) = quietly(written(tmp_path, frame({"w": value})), keys={"virials": "w"})
    assert label(atoms, "stress") == pytest.approx(VOIGT)


def test_the_sign_of_virials_is_maces():
    """MACE's own functions, of an energy whose stress is known: E = (strain xx) * 60 eV."""
    code = """
import mace, torch
from mace.modules.utils import compute_forces_virials
torch.set_default_dtype(torch.float64)
strain = torch.zeros(1, 3, 3, requires_grad=True)
positions = torch.zeros(2, 3, requires_grad=True)
cell = torch.diag(torch.tensor([3.0, 4.0, 5.0]))
energy = 60 * strain[:, 0, 0] + positions.sum()
_, virials, stress = compute_forces_virials(energy, positions, strain, cell, compute_stress=True)
print(float(virials[0, 0, 0]), float(stress[0, 0, 0]))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    virial, stress = map(float, run.stdout.splitlines()[-1].split())
    assert (virial, stress) == (-60.0, 1.0) and stress == pytest.approx(-virial / 60)


def test_energies_per_atom_are_multiplied(tmp_path):
    for name in ("energy_per_atom", "REF_energy_per_atom"):
        (atoms,), text = said(written(tmp_path, frame({name: -3.0})))
        assert label(atoms, "energy") == -6.0 and f"{name} (times atoms)" in text
    (atoms,) = quietly(written(tmp_path, frame({"pa": -3.0})), keys={"energy_per_atom": "pa"})
    assert label(atoms, "energy") == -6.0


def test_what_a_model_predicted_is_no_label(tmp_path):
    atoms = frame(
        {"MACE_energy": 1.0, "energy_mace": 1.0, "chgnet_energy": 1.0, "energy_std": 0.1},
        {"MACE_forces": FORCES, "forces_error": FORCES},
    )
    (got,) = quietly(written(tmp_path, atoms))
    assert got.calc is None and got.info["MACE_energy"] == 1.0


def test_files_with_their_labels_under_their_own_names_are_left_alone(tmp_path, frames):
    mk.write_frames(tmp_path / "a.extxyz", frames[:5])
    for before, after in zip(frames, quietly(tmp_path / "a.extxyz")):
        assert label(after, "energy") == label(before, "energy")
        assert set(after.calc.results) == set(before.calc.results)
    # beside a stress a plain virial is not worth a word
    path = tmp_path / "b.xyz"
    path.write_text('1\nenergy=1 stress="1 0 0 0 1 0 0 0 1" virial="1 0 0 0 1 0 0 0 1"\nFe 0 0 0\n')
    (atoms,) = quietly(path)
    assert atoms.info["virial"].shape == (3, 3)


def test_frames_may_lack_what_others_have(tmp_path):
    alone = frame({"REF_energy": -1.0})
    path = written(tmp_path, named("REF_"), alone)
    for kwargs in ({}, {"keys": {"energy": "REF_energy", "stress": "REF_stress"}}):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            first, second = read_frames(path, **kwargs)
        assert label(first, "stress") is not None and label(second, "stress") is None
        assert label(second, "energy") == -1.0


BAD = [
    ({"enrgy": "REF_energy"}, r"keys must look like .*energy, free_energy, forces"),
    ({"energy": 3}, "keys must look like"),
    ({}, "keys must look like"),
    ("REF_energy", "keys must look like"),
    ({"energy": "E0"}, r"train\.extxyz: no frame has 'E0' .*REF_energy, .*REF_forces"),
    ({"forces": "REF_energy"}, "no frame has 'REF_energy' .* column per atom"),
    ({"energy": "REF_stress"}, "REF_stress cannot be taken for energy: it is 9 numbers, not one"),
    ({"forces": "REF_magmoms"}, r"REF_magmoms .* forces: it is of shape \(2,\) for 2 atoms"),
    ({"stress": "REF_energy"}, "it has 1 numbers, not six or nine"),
    ({"energy": "name"}, "name cannot be taken for energy: it is not numeric"),
]


@pytest.mark.parametrize(("keys", "says"), BAD)
def test_wrong_keys_are_named(tmp_path, keys, says):
    atoms = named("REF_")
    atoms.info["name"] = "a1"
    path = written(tmp_path, atoms)
    with pytest.raises(mk.InputError, match=says):
        read_frames(path, keys=keys)
    with pytest.raises(mk.InputError, match=says):
        mk.open_frames(path, cache=tmp_path / "cache", progress=False, keys=keys)


def test_a_guess_that_does_not_fit_is_said_and_left(tmp_path):
    atoms = frame({"REF_energy": "unknown", "dft_stress": 3.0, "virial": [1.0, 2.0]})
    (got,), text = said(written(tmp_path, atoms))
    assert got.calc is None and got.info["REF_energy"] == "unknown"
    assert "REF_energy is not energy (it is not numeric)" in text and "dft_stress is not" in text


def test_virials_without_a_cell(tmp_path):
    path = tmp_path / "a.xyz"
    path.write_text('1\nvirial="1 0 0 0 1 0 0 0 1"\nFe 0 0 0\n')
    (atoms,), text = said(path)
    assert label(atoms, "stress") is None and "only with a cell" in text


def test_keys_are_for_files_with_names(tmp_path, frames):
    from make_vasp import write_outcar

    write_outcar(tmp_path / "OUTCAR", frames[:1])
    with pytest.raises(mk.InputError, match="keys= is for extended XYZ"):
        read_frames(tmp_path / "OUTCAR", keys={"energy": "e"})
    written(tmp_path, frame({"e": -7.5}), name="b.extxyz")
    both = quietly(tmp_path, keys={"energy": "e"})
    assert label(both[1], "energy") == -7.5 and label(both[0], "energy") < 0


def test_a_store_of_frames_has_them_too(tmp_path):
    path, cache = written(tmp_path, *[named("REF_")] * 2), tmp_path / "cache"
    with pytest.warns(UserWarning, match="labels were taken from REF_energy"):
        sequence = mk.open_frames(path, cache=cache, progress=False)
    assert_labelled(sequence[1])
    assert sequence.table["energy"].tolist() == [-7.5, -7.5]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_labelled(mk.open_frames(path, cache=cache, progress=False)[0])
        some = mk.open_frames(path, cache=cache, progress=False, keys={"energy": "REF_energy"})
    assert set(some[0].calc.results) == {"energy"} and "REF_forces" in some[0].arrays


def test_vacancies(tmp_path):
    path = tmp_path / "v.xyz"
    path.write_text(
        "2\nREF_energy_per_atom=-3 Properties=species:S:1:pos:R:3:REF_forces:R:3\n"
        "Fe 0 0 0 1 2 3\nX 1 1 1 0 0 0\n"
    )
    (atoms,), _ = said(path)
    assert label(atoms, "energy") == -3.0 and label(atoms, "forces").tolist() == [[1, 2, 3]]


WORDS = st.lists(
    st.sampled_from(["ref", "REF", "dft", "mace", "energy", "forces", "virial", "stress", "x"]),
    min_size=1,
    max_size=3,
)


@given(
    names=st.lists(WORDS.map("_".join), unique=True, max_size=5),
    value=st.sampled_from(["1.5", "T", "abc", '"1 2 3"', '"1 0 0 0 1 0 0 0 1"']),
)
def test_any_names_give_frames_or_a_sentence(tmp_path_factory, names, value):
    names = [name for name in names if name not in ("energy", "stress")]
    path = tmp_path_factory.getbasetemp() / "any.xyz"
    comment = " ".join(f"{name}={value}" for name in names) + ' Lattice="3 0 0 0 4 0 0 0 5"'
    path.write_text(f"1\n{comment}\nFe 0 0 0\n")
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        (atoms,) = read_frames(path, progress=False)
    results = getattr(atoms.calc, "results", {})
    text = " ".join(str(w.message) for w in found)
    # nothing is lost, and nothing is taken without a word
    for name in names:
        assert name in atoms.info or re.search(rf"\b{name}\b", text)
    assert not results or "labels were taken from" in text
    assert all(np.isfinite(v).all() for v in results.values())


def test_the_case_that_was_filed():
    case = Path(__file__).parent.parent.parent / "shared" / "cases" / "05_keys_of_training_sets.py"
    if case.is_file():
        assert subprocess.run([sys.executable, case], check=False).returncode == 0
