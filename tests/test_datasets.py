"""Named data sets, against a server on loopback that serves the figshare API's JSON and plays
faults.
"""

import io
import os
import shutil
import subprocess
import sys
from types import SimpleNamespace

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from figshare_server import figshare

import mlipkit as mk
from mlipkit.frames import datasets
from mlipkit.frames.datasets import load_dft

TRAIN, VALIDATION = "Training_dataset/train.xyz", "Training_dataset/validation.xyz"
ARTICLE = 31812499


def extxyz(frames):
    text = io.StringIO()
    ase.io.write(text, frames, format="extxyz")
    return text.getvalue().encode()


def with_proxies(atoms):
    """As published: Ga where there is Fe3+, no oxidation states, a Bader column."""
    result = Atoms(mk.to_proxies(atoms), atoms.positions, cell=atoms.cell, pbc=True)
    result.set_array("bader_charge", np.linspace(-2, 2, len(atoms)))
    result.calc = SinglePointCalculator(result, **atoms.calc.results)
    return result


@pytest.fixture(scope="module")
def content(frames):
    published = [with_proxies(a) for a in frames[::6]]
    db = io.StringIO()
    ase.io.write(db, published[0], format="json")
    return {
        "README.md": b"# read me",
        TRAIN: extxyz(published[:15]),
        VALIDATION: extxyz(published[15:]),
        "Reference_dataset/settings.json": b'{"cutoff": 4.0}',
        "Models/CHGNet/best.pth.tar": b"\x80\x05never read this",
        "Models/cPaiNN/best_model.pth": b"\x80\x05never read this",
    }


@pytest.fixture
def server(content, tmp_path, monkeypatch):
    with figshare(dict(content), ARTICLE) as server:
        monkeypatch.setenv("MLIPKIT_FIGSHARE", server.url)
        monkeypatch.setenv("MLIPKIT_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(datasets, "PAUSE", 0.01)
        server.cache, server.folder = tmp_path / "cache", tmp_path / "cache" / f"DTU.{ARTICLE}"
        yield server


def load(files=(TRAIN,), **options):
    return load_dft(
        "electronic-entropy", files=list(files), progress=False, **{"timeout": 5, **options}
    )


def asked(server):
    return [path for path, _ in server.requests]


def test_download_decodes_and_says_where_from(server, frames):
    found = load(["Training_dataset/*"])
    expected = frames[::6]
    assert len(found) == len(expected)
    for a, b in zip(found, expected):
        assert a.get_chemical_formula() == b.get_chemical_formula() and "Ga" not in a.symbols
        iron = b.symbols == "Fe"
        assert np.array_equal(a.arrays["oxi_states"] == 3, iron & (b.arrays["oxi_states"] == 3))
        assert np.allclose(a.get_forces(), b.get_forces(), atol=1e-7) and np.allclose(
            a.get_magnetic_moments(), b.get_magnetic_moments()
        )
        assert a.info["source"] == "doi:10.11583/DTU.31812499" and a.arrays["bader_charge"][-1] == 2
    assert found[0].info["file"] == TRAIN and found[-1].info["file"] == VALIDATION
    assert found.table["formula"].tolist() == [a.get_chemical_formula() for a in expected]
    assert found[found.table["file"] == VALIDATION][0].info["file"] == VALIDATION
    assert not any(
        path.endswith(".part") for path in os.listdir(server.folder / "Training_dataset")
    )


def test_default_takes_all_frames_and_no_model(server, content):
    with pytest.warns(UserWarning, match="settings.json"):
        found = load_dft("electronic-entropy", progress=False)
    assert set(found.table["file"]) == {TRAIN, VALIDATION}
    assert sorted(path.name for path in server.folder.rglob("*") if path.is_file()) == [
        "settings.json",
        "train.xyz",
        "validation.xyz",
    ]
    assert (server.folder / TRAIN).read_bytes() == content[TRAIN]


def test_second_time_needs_no_server(server):
    first = load()
    server.requests.clear()
    server.down = True
    assert len(load()) == len(first) and asked(server) == []
    with pytest.raises(
        mk.InputError,
        match=r"validation.xyz of electronic-entropy \(doi 10.11583/DTU.31812499\).*503.*by hand",
    ):
        load([VALIDATION])
    server.down = False
    assert len(load([VALIDATION])) > 0


@pytest.mark.parametrize("name, article", [("polyanion", 27202446), ("polyanion-extra", 27411681)])
def test_parent_sets_are_not_decoded(name, article, content, tmp_path, monkeypatch):
    with figshare({"data.xyz": content[TRAIN]}, article) as server:
        monkeypatch.setenv("MLIPKIT_FIGSHARE", server.url)
        found = load_dft(name, cache=tmp_path, progress=False)
    assert any("Ga" in a.symbols for a in found) and "oxi_states" not in found[0].arrays
    assert found[0].info["source"] == f"doi:10.11583/DTU.{article}"


def test_a_cut_connection_goes_on_where_it_stopped(server, content):
    size = len(content[TRAIN])
    server.cut_after[TRAIN] = [size // 3, 2 * (size // 3)]
    assert len(load()) == 15
    ranges = [given for path, given in server.requests if path.startswith("/files/")]
    assert ranges == [None, f"bytes={size // 3}-", f"bytes={2 * (size // 3)}-"]


def test_an_interrupted_download_goes_on_in_the_next_session(server, content, monkeypatch):
    monkeypatch.setattr(datasets, "RETRIES", 1)
    server.cut_after[TRAIN] = [50_000]
    with pytest.raises(mk.InputError, match="goes on where it stopped"):
        load()
    assert (server.folder / f"{TRAIN}.part").stat().st_size == 50_000 and not (
        server.folder / TRAIN
    ).exists()
    assert len(load()) == 15
    assert server.requests[-1][1] == "bytes=50000-"
    assert (server.folder / TRAIN).read_bytes() == content[TRAIN]


def test_a_server_that_cannot_resume_starts_anew(server, content):
    server.cut_after[TRAIN], server.ignore_range = [50_000], True
    assert len(load()) == 15 and (server.folder / TRAIN).read_bytes() == content[TRAIN]


def test_a_part_of_something_else_is_not_kept(server):
    (server.folder / "Training_dataset").mkdir(parents=True)
    (server.folder / f"{TRAIN}.part").write_bytes(b"another file" * 100)
    with pytest.raises(mk.InputError, match="MD5"):
        load()
    assert len(load()) == 15


def test_wrong_md5(server):
    server.wrong_md5.add(TRAIN)
    with pytest.raises(mk.InputError, match=r"train.xyz of electronic-entropy .*MD5 hash"):
        load()
    assert not (server.folder / TRAIN).exists()


def test_missing_file_is_not_asked_for_again_and_again(server):
    server.missing.add(TRAIN)
    with pytest.raises(
        mk.InputError,
        match=r"train.xyz of electronic-entropy \(doi 10.11583/DTU.31812499\).*404.*by hand",
    ):
        load()
    assert len(server.requests) == 2


def test_slow(server, monkeypatch):
    monkeypatch.setattr(datasets, "RETRIES", 1)
    server.slow.add(TRAIN)
    with pytest.raises(mk.InputError, match="did not answer in time"):
        load(timeout=0.2)


@pytest.mark.parametrize("fault", ["down", "bad_json", "closed"])
def test_offline_message_and_a_file_put_there_by_hand(server, content, monkeypatch, fault):
    if fault == "closed":
        monkeypatch.setenv("MLIPKIT_FIGSHARE", "http://127.0.0.1:9")
    else:
        setattr(server, fault, True)
    with pytest.raises(mk.InputError) as message:
        load()
    for part in ("10.11583/DTU.31812499", TRAIN, str(server.folder), "by hand"):
        assert part in str(message.value)
    (server.folder / "Training_dataset").mkdir(parents=True)
    (server.folder / TRAIN).write_bytes(content[TRAIN])
    assert len(load()) == 15
    assert set(load_dft("electronic-entropy", progress=False).table["file"]) == {TRAIN}


def test_a_file_put_there_by_hand_is_checked_when_the_list_is_known(server, content):
    load([VALIDATION])
    # not in its subfolder: taken all the same
    (server.folder / "train.xyz").write_bytes(content[TRAIN])
    server.down = True
    assert len(load()) == 15
    (server.folder / "train.xyz").write_bytes(content[TRAIN] + b"\n")
    with pytest.raises(mk.InputError, match="503"):
        load()
    (server.folder / TRAIN).write_bytes(b"something else")
    with pytest.raises(mk.InputError, match="another MD5"):
        load()
    server.down = False
    assert len(load()) == 15


def test_not_enough_space(server, monkeypatch):
    monkeypatch.setattr(
        shutil, "disk_usage", lambda path: SimpleNamespace(total=1e9, used=1e9, free=1000)
    )
    with pytest.raises(mk.InputError, match=r"needs 0 MB|MB are free in"):
        load()
    assert not any(path.startswith("/files/") for path in asked(server))


def test_disk_full_on_the_way(server, tmp_path, content):
    """In a process that may write no file larger than 50 kB, which to a program looks like a full
    disk.
    """
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n"
        "from mlipkit.frames import datasets\ntry: datasets.load_dft('electronic-entropy', "
        "files='train.xyz', progress=False)\n"
        "except datasets.InputError as reason: print(reason)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "train.xyz of electronic-entropy" in run.stdout and "too large" in run.stdout, run.stderr
    assert not (server.folder / TRAIN).exists()
    # what was there was kept
    assert len(load()) == 15 and server.requests[-1][1] == "bytes=50000-"


@pytest.mark.parametrize(
    "name",
    [
        "../../escaped.xyz",
        "/etc/../../escaped.xyz",
        "..\\escaped.xyz",
        "C:\\escaped.xyz",
        "a\nb.xyz",
    ],
)
def test_hostile_names(server, name, tmp_path):
    server.names[TRAIN] = name
    with pytest.raises(mk.InputError, match="no safe name"):
        load()
    assert not list(tmp_path.rglob("*escaped*"))


def test_absolute_names_stay_inside(server):
    server.names[TRAIN] = "/etc/train.xyz"
    assert len(load(["train.xyz"])) == 15 and (server.folder / "etc/train.xyz").is_file()


def test_all_pages_of_a_long_list(server, content):
    for k in range(120):
        server.files[f"more/{k}.xyz"] = content[VALIDATION]
    server.listing = "pages"
    assert load(["more/119.xyz"]).table["file"].unique().tolist() == ["more/119.xyz"]


def test_unknown_names(server):
    with pytest.raises(
        mk.InputError,
        match="'olivine', 'olivine-li', 'olivine-free-cells', 'olivine-host', 'olivine-verdict', "
        "'electronic-entropy'",
    ):
        load_dft("nothing")
    with pytest.raises(
        mk.InputError, match=r"no frames in \['nothing\*'\].*Training_dataset/train.xyz"
    ):
        load(["nothing*"])
    with pytest.raises(mk.InputError, match="models are never loaded"):
        load(["Models/*"])


def test_damaged_frames_name_file_and_frame(server, content):
    server.files[TRAIN] = content[TRAIN][:-3000]
    with pytest.raises(mk.InputError, match=r"train.xyz: frame 14: .*(cut off|complete)"):
        load()
