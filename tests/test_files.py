import shutil

import pytest

import mlipkit as mk
from mlipkit import files
from mlipkit.files import describe, embedded, write_atomically


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A copy of the data folder, safe to damage."""
    shutil.copytree(
        files.data_folder(),
        tmp_path / "data",
        ignore=shutil.ignore_patterns("log", "checkpoints", "__pycache__"),
    )
    monkeypatch.setattr(files, "data_folder", lambda: tmp_path / "data")
    return tmp_path / "data"


def flip(path, where):
    content = bytearray(path.read_bytes())
    content[where] ^= 1
    path.write_bytes(content)


def test_undamaged_copy_loads(data):
    assert len(mk.load_dft()) > 50


def test_one_changed_byte_in_the_data_names_file_and_frame(data):
    path = data / "dft/olivine.extxyz"
    second = path.read_bytes().index(b"\nFe ", path.read_bytes().index(b"Lattice", 200)) + 30
    flip(path, second)
    with pytest.raises(mk.InputError, match=r"olivine\.extxyz, frame 1, is not what was shipped"):
        mk.load_dft()


def test_cut_off_data(data):
    path = data / "dft/olivine.extxyz"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[: 26 * 3]))
    with pytest.raises(mk.InputError, match="cut off before frame 3"):
        mk.load_dft()


@pytest.mark.parametrize(
    "name",
    [
        "models/chgnet_aware_seed0.safetensors",
        "models/chgnet_aware_seed0.json",
        "models/predictions.csv",
    ],
)
@pytest.mark.parametrize("damage", ["byte", "gone"])
def test_damaged_weights_card_and_predictions(data, name, damage):
    path = data / name
    if damage == "byte":
        flip(path, 100)
    else:
        path.unlink()
    with pytest.raises(
        mk.InputError, match=f"{path.name}.*(is missing|is not what was shipped).*reinstall"
    ):
        mk.load_predictions() if name.endswith("csv") else mk.load_model(
            "chgnet", charge_aware=True
        )


def test_damaged_manifest(data):
    (data / "manifest.json").write_text("{")
    with pytest.raises(mk.InputError, match=r"manifest\.json is damaged"):
        mk.load_dft()
    (data / "manifest.json").unlink()
    with pytest.raises(mk.InputError, match=r"manifest\.json is missing"):
        mk.load_dft()


def test_manifest_knows_every_shipped_file():
    folder = files.data_folder()
    for path in (folder / "models").glob("*.*"):
        assert embedded(f"models/{path.name}") == path
    assert len(describe(folder / "dft/olivine.extxyz")["frames"]) == len(mk.load_dft())


def test_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    write_atomically(path, "old")
    # the power goes off before the new file is in place
    monkeypatch.setattr(files.os, "replace", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_atomically(path, "new")
    assert path.read_text() == "old"
