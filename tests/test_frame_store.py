"""Converted frames against what ase.io.read gives, and conversions that are disturbed."""

import gzip
import io
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time

import ase.io
import numpy as np
import pandas as pd
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_extxyz import assert_same, labelled, written

import mlipkit as mk
from mlipkit.frames import store as frame_store
from mlipkit.frames.readers import extxyz
from mlipkit.frames.store import FrameSequence, open_frames


def mixed():
    """Frames of different sizes, columns and keys."""
    rng, frames = np.random.default_rng(3), []
    for k in range(40):
        n = 1 + k % 7
        atoms = Atoms(
            numbers=rng.choice([8, 11, 15, 26], n),
            positions=rng.normal(size=(n, 3)),
            info={"number": k},
        )
        if k % 2:
            atoms.cell, atoms.pbc = np.diag([4, 5, 6.5]), (True, k % 4 == 1, True)
            atoms.set_array("bader_charge", rng.normal(size=n).round(6))
            atoms.info |= {
                "job": f'run {k} "é"',
                "done": k % 4 == 1,
                "x": k / 3,
                "list": [True, False],
                "many": np.arange(12.0),
            }
        if k % 3 == 0:
            atoms.set_array("oxi_states", rng.integers(-2, 4, n).astype(np.int32))
            atoms.set_array("site", np.array([f"s{i}" for i in range(n)], object))
            atoms.info |= {
                "number": k + 0.5,
                "cells": np.array([1, 2, k]),
                "nested": {"a": [1, "b"]},
                f"only_{k}": k,
            }
        labels = {
            "energy": -1.5 * k,
            "forces": rng.normal(size=(n, 3)).round(6),
            "magmoms": rng.normal(size=n).round(6),
        }
        atoms.calc = (
            SinglePointCalculator(atoms, **{name: labels[name] for name in sorted(labels)[: k % 4]})
            if k % 4
            else None
        )
        frames.append(atoms)
    return frames


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "mine.extxyz"
    path.write_text(written(mixed()))
    return path


@pytest.fixture
def opened(path, tmp_path):
    return open_frames(path, cache=tmp_path / "cache", progress=False)


def test_every_frame_is_what_ase_reads(path, opened, tmp_path):
    for sequence in opened, open_frames(path, cache=tmp_path / "cache", progress=False):
        assert len(sequence) == 40
        for a, b in zip(sequence, ase.io.read(path, ":"), strict=True):
            assert_same(a, b)
    assert [p.suffix for p in (tmp_path / "cache").iterdir()] == [".h5"]


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(labelled(), min_size=1, max_size=4))
def test_any_frames_come_back(tmp_path, frames):
    path = tmp_path / "any.extxyz"
    path.write_text(written(frames))
    with open(path) as lines:
        try:
            direct = list(extxyz.iter_frames(lines, "any"))
        except mk.InputError:  # what ASE writes in a way that nobody can read
            return
    for a, b in zip(open_frames(path, cache=tmp_path, progress=False), direct, strict=True):
        assert_same(a, b)


def test_more_keys_than_columns(tmp_path, monkeypatch):
    monkeypatch.setattr(frame_store, "MAX_COLUMNS", 6)
    frames = mixed()
    path = tmp_path / "wide.extxyz"
    path.write_text(written(frames))
    for a, b in zip(
        open_frames(path, cache=tmp_path, progress=False), ase.io.read(path, ":"), strict=True
    ):
        assert_same(a, b)


def test_slices_arrays_masks_and_sums_stay_lazy(opened, monkeypatch):
    built = []
    monkeypatch.setattr(
        frame_store, "to_atoms", lambda frame: built.append(1) or extxyz.to_atoms(frame)
    )
    number = lambda sequence: [int(a.info["number"]) for a in sequence]
    table = opened.table
    parts = [
        opened[5:20:3],
        opened[np.array([7, -1, 7])],
        opened[[1, 2]],
        opened[table["n_atoms"] > 5],
        opened[::-1][:2],
        opened[[]],
        opened[3:6] + opened[10:12],
        (opened + opened)[38:42],
        (opened + opened)[np.arange(80) % 40 == 1],
    ]
    assert all(isinstance(part, FrameSequence) for part in parts) and not built
    assert (
        number(parts[0]) == [5, 8, 11, 14, 17]
        and number(parts[1]) == [7, 39, 7]
        and number(parts[2]) == [1, 2]
    )
    assert (
        number(parts[3]) == [k for k in range(40) if 1 + k % 7 > 5]
        and number(parts[4]) == [39, 38]
        and number(parts[5]) == []
    )
    assert (
        number(parts[6]) == [3, 4, 5, 10, 11]
        and number(parts[7]) == [38, 39, 0, 1]
        and number(parts[8]) == [1, 1]
    )
    assert int(opened[-1].info["number"]) == 39 and opened[np.int64(2)].info["number"] == 2
    assert (
        parts[0].table["number"].astype(int).tolist() == [5, 8, 11, 14, 17]
        and len(parts[5].table) == 0
    )
    for wrong, error in (
        (40, IndexError),
        (-41, IndexError),
        ([99], IndexError),
        ([True], IndexError),
        ("a", TypeError),
        (1.5, TypeError),
    ):
        with pytest.raises(error):
            opened[wrong]
    with pytest.raises(IndexError):
        opened[5:10][5]


def test_table_is_that_of_the_frames(frames, opened, tmp_path):
    path = tmp_path / "olivine.extxyz"
    path.write_text(written(frames))
    for sequence in opened, open_frames(path, cache=tmp_path, progress=False), opened + opened[::2]:
        expected = mk.frame_table(list(sequence))
        assert set(sequence.table.columns) == set(expected.columns)
        assert list(sequence.table.columns[:4]) == ["formula", "n_atoms", "energy", "max_force"]
        plain = [
            c
            for c in expected.columns
            if not expected[c].map(lambda v: isinstance(v, (list, dict, np.ndarray))).any()
        ]
        pd.testing.assert_frame_equal(
            sequence.table[plain], expected[plain], check_dtype=False, rtol=1e-12
        )
        for name in set(expected.columns) - set(plain):
            assert [str(v) for v in sequence.table[name]] == [str(v) for v in expected[name]]


def test_changing_a_frame_changes_nothing_else(opened):
    atoms = opened[1]
    atoms.positions += 1
    atoms.arrays["bader_charge"][:] = 9
    atoms.calc.results["forces"] = None
    assert (
        not np.allclose(opened[1].positions, atoms.positions)
        and 9 not in opened[1].arrays["bader_charge"]
    )


def test_a_changed_file_is_converted_again(path, opened, tmp_path):
    assert len(opened) == 40
    path.write_text(written(mixed()[:7]))
    assert len(open_frames(path, cache=tmp_path / "cache", progress=False)) == 7
    assert (
        len(list((tmp_path / "cache").iterdir())) == 1
        and len(opened) == 40
        and opened[39].info["number"] is not None
    )


def test_a_changed_file_of_same_size_and_time_is_converted_again(tmp_path):
    path, text = tmp_path / "a.xyz", "1\nenergy=1.0\nFe 0 0 0\n"
    for energy in ("1.0", "2.0"):
        path.write_text(text.replace("1.0", energy))
        os.utime(path, (1e9, 1e9))
        assert open_frames(path, cache=tmp_path, progress=False)[0].get_potential_energy() == float(
            energy
        )


def test_a_damaged_conversion_is_made_again(path, opened, tmp_path):
    [stored] = (tmp_path / "cache").iterdir()
    good = stored.read_bytes()
    for damage in (b"", good[: len(good) // 2], b"no HDF5" * 100, good[:-8]):
        stored.unlink()
        stored.write_bytes(damage)
        assert_same(open_frames(path, cache=tmp_path / "cache", progress=False)[7], opened[7])


@pytest.mark.parametrize(
    "content, says",
    [
        ("", "holds no frame"),
        ("no frames\n", "frame 0"),
        ("1\n\nFe 0 0 0\n2\n\nFe 0 0 0\n", "frame 1"),
    ],
)
def test_bad_files_leave_nothing_behind(tmp_path, content, says):
    path = tmp_path / "bad.xyz"
    path.write_text(content)
    for _ in range(2):
        with pytest.raises(mk.InputError, match=rf"bad.xyz: .*{says}|bad.xyz: {says}"):
            open_frames(path, cache=tmp_path / "cache", progress=False)
    assert list((tmp_path / "cache").iterdir()) == []
    with pytest.raises(mk.InputError, match="no such file"):
        open_frames(tmp_path / "missing.xyz")


@pytest.mark.parametrize(
    "packer, ending", [(gzip.compress, ".gz"), (__import__("lzma").compress, ".xz")]
)
def test_compressed(path, opened, packer, ending, tmp_path):
    packed = path.with_name(path.name + ending)
    packed.write_bytes(packer(path.read_bytes()))
    assert_same(open_frames(packed, cache=tmp_path, progress=False)[33], opened[33])


def test_other_formats_and_the_decoded_proxies(tmp_path, frames):
    marked = [
        Atoms(mk.to_proxies(a), a.positions, cell=a.cell, pbc=True, info={"k": k})
        for k, a in enumerate(frames[:4])
    ]
    for a, b in zip(marked, frames):
        a.calc = SinglePointCalculator(a, **b.calc.results)
    ase.io.write(tmp_path / "a.traj", marked)
    ase.io.write(tmp_path / "a.extxyz", marked)
    for name in ("a.traj", "a.extxyz"):
        plain = open_frames(tmp_path / name, cache=tmp_path, progress=False)
        decoded = open_frames(
            tmp_path / name,
            cache=tmp_path,
            progress=False,
            proxies={"Ga": ("Fe", 3)},
            info={"source": "here"},
        )
        for a, b, c in zip(plain, decoded, frames):
            assert (
                str(b.symbols) == str(c.symbols)
                and str(a.symbols) != str(b.symbols)
                and b.info["source"] == "here"
            )
            assert ((b.arrays["oxi_states"] == 3) == (a.symbols == "Ga")).all()
            np.testing.assert_allclose(b.get_forces(), c.get_forces(), atol=1e-7)
            np.testing.assert_allclose(b.get_stress(), c.get_stress())
        assert decoded.table["formula"].tolist() == [a.get_chemical_formula() for a in frames[:4]]


def test_environment_names_the_cache(path, tmp_path, monkeypatch):
    monkeypatch.setenv("MLIPKIT_CACHE", str(tmp_path / "elsewhere"))
    open_frames(path, progress=False)
    assert len(list((tmp_path / "elsewhere").glob("mine-*.h5"))) == 1
    (tmp_path / "a file").write_text("")
    monkeypatch.setenv("MLIPKIT_CACHE", str(tmp_path / "a file"))
    with pytest.raises(
        mk.InputError, match="cannot be converted in the cache folder .*MLIPKIT_CACHE"
    ):
        open_frames(path, progress=False)


def test_vacancies_and_workers(tmp_path):
    path = tmp_path / "v.xyz"
    path.write_text("2\nProperties=species:S:1:pos:R:3:magmoms:R:1\nFe 0 0 0 4.3\nX 1 1 1 0\n" * 2)
    sequence = open_frames(path, cache=tmp_path, progress=False)
    copy = pickle.loads(pickle.dumps(sequence[1:]))  # as worker processes receive it
    assert len(copy) == 1 and str(copy[0].symbols) == "Fe" and copy[0].info == {"n_vacancies": 1}
    assert sequence.table["n_vacancies"].tolist() == [1, 1]


LONG = """
import sys, resource, signal
signal.signal(signal.SIGINT, signal.default_int_handler)    # a shell's background job, as CI may be, starts with it ignored
from mlipkit.frames.store import open_frames
if len(sys.argv) > 3: resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]),) * 2)
try:
    print(len(open_frames(sys.argv[1], cache=sys.argv[2], progress=False)))
except ValueError as reason:
    print(reason)
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_conversion_does_not_count(tmp_path, frames, how):
    path, cache = tmp_path / "long.extxyz", tmp_path / "cache"
    text = written(frames)
    path.write_text(text * 40)
    for _ in range(3):
        run = subprocess.Popen([sys.executable, "-c", LONG, path, cache], stderr=subprocess.PIPE)
        while run.poll() is None and not list(cache.glob("*.part/*")):
            time.sleep(0.01)
        time.sleep(0.2)
        run.send_signal(how)
        run.communicate()
        if run.returncode:
            break
        # a Ctrl-C that arrives while C code calls back is lost now and then: press it again
        shutil.rmtree(cache)
    assert run.returncode != 0 and not list(cache.glob("*.h5"))
    assert how == signal.SIGKILL or not list(cache.iterdir())
    assert len(open_frames(path, cache=cache, progress=False)) == 40 * len(frames)


def test_disk_full_while_converting(tmp_path, frames):
    path, cache = tmp_path / "long.extxyz", tmp_path / "cache"
    path.write_text(written(frames) * 5)
    for limit in ("20000", "400000"):  # in a column, and in the HDF5 file
        run = subprocess.run(
            [sys.executable, "-c", LONG, path, cache, limit], capture_output=True, text=True
        )
        assert (
            "cannot be converted in the cache folder" in run.stdout
            and "free space there" in run.stdout
        ), run.stdout + run.stderr
        assert not list(cache.iterdir())


def test_progress_goes_to_the_end(path, tmp_path, monkeypatch):
    import tqdm.auto

    bars = []
    monkeypatch.setattr(
        tqdm.auto,
        "tqdm",
        lambda *args, real=tqdm.auto.tqdm, **kwargs: (
            bars.append(real(*args, **kwargs, file=io.StringIO())) or bars[-1]
        ),
    )
    open_frames(path, cache=tmp_path)
    assert [bar.n for bar in bars] == [path.stat().st_size] == [bars[0].total]
