"""Files from strangers: bombs, databases that never end, arrays that are only announced. Each is
refused in a sentence, within seconds and some hundred megabytes.
"""

import bz2
import gzip
import io
import json
import lzma
import resource
import sqlite3
import subprocess
import sys
import time

import ase.db
import numpy as np
import pytest
from ase import Atoms
from lab import PEAK

import mlipkit as mk
from mlipkit.frames.readers import compressed

H2 = Atoms("H2", [[0, 0, 0], [0, 0, 1]], cell=[3, 3, 3], pbc=True)
FRAME = (
    b'2\nLattice="3 0 0 0 3 0 0 0 3" Properties=species:S:1:pos:R:3 energy=-1\nH 0 0 0\nH 0 0 1\n'
)
PACKERS = {"gz": gzip.compress, "xz": lzma.compress, "bz2": bz2.compress}


def refused(path, match, **options):
    began = time.monotonic()
    with pytest.raises(mk.InputError, match=match) as said:
        mk.read_frames(path, progress=False, **options)
    assert str(path) in str(said.value) and time.monotonic() - began < 10
    return str(said.value)


@pytest.fixture(scope="module", params=PACKERS)
def zeros(request):
    """300 MB of zeros in one packed stream, and how it was packed."""
    made = io.BytesIO()
    opener = {"gz": gzip.open, "xz": lzma.open, "bz2": bz2.open}[request.param]
    with opener(made, "wb") as out:
        for _ in range(30):
            out.write(b"0" * 10_000_000)
    return request.param, made.getvalue()


@pytest.mark.parametrize("name", ["run.extxyz", "OUTCAR", "vasprun.xml", "unnamed"])
def test_a_line_without_end_is_refused_in_little_memory(tmp_path, zeros, name):
    """In a process of its own, so that its memory can be told."""
    ending, packed = zeros
    path = tmp_path / f"{name}.{ending}"
    head = {"OUTCAR": b"vasp.6\n", "vasprun.xml": b"<modeling>\n"}.get(name, b"")
    path.write_bytes((PACKERS[ending](head) if head else b"") + packed)
    code = (
        "import sys, mlipkit as mk\n"
        "try: mk.read_frames(sys.argv[1], progress=False)\n"
        "except mk.InputError as said: print(said)\n"
        + PEAK  # of this process; what getrusage says is that of its parent where that is more
    )
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, str(path)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    *said, peak = ran.stdout.strip().splitlines()
    assert ran.returncode == 0 and said and str(path) in said[0], ran.stderr[-500:]
    assert int(peak) < 700_000  # kB


@pytest.mark.parametrize("ending", PACKERS)
def test_a_limit_on_what_unpacks_can_be_lifted(tmp_path, ending):
    path = tmp_path / f"many.extxyz.{ending}"
    path.write_bytes(PACKERS[ending](FRAME * 8_000))
    refused(path, r"unpacks to more than 0.0005 GB.*limit=None", limit=500_000)
    assert len(mk.read_frames(path, limit=None, progress=False)) == 8_000
    assert len(mk.read_frames(path, slice(0, 10), limit=700_000, progress=False)) == 10
    # frame by frame to the disk there is no limit
    with compressed.unpacked_limit(500_000):
        assert len(mk.open_frames(path, cache=tmp_path, progress=False)) == 8_000
    for limit in ("2 GB", -1, 0, [1]):
        with pytest.raises(mk.InputError, match="limit is a number of bytes"):
            mk.read_frames(path, limit=limit)


def database(path):
    with ase.db.connect(path) as db:
        db.write(H2, key_value_pairs={"x": 1.0}, data={"y": np.ones(2)})
    return sqlite3.connect(path)


ENDLESS = (
    "CREATE VIEW {} AS WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n) "
    "SELECT kept.* FROM kept, n"
)
TAMPERED = {
    "a view in place of the table": (
        "ALTER TABLE systems RENAME TO kept",
        ENDLESS.format("systems"),
    ),
    "a view of keys": ("ALTER TABLE keys RENAME TO kept", ENDLESS.format("keys")),
    "a computed column": (
        "ALTER TABLE systems ADD COLUMN big GENERATED ALWAYS AS (hex(zeroblob(900000000))) VIRTUAL",
    ),
    "a trigger": ("CREATE TRIGGER t AFTER INSERT ON systems BEGIN DELETE FROM systems; END",),
    "a virtual table": ("CREATE VIRTUAL TABLE more USING fts5(x)",),
}


@pytest.mark.parametrize("what", TAMPERED)
def test_a_database_of_other_things_than_tables_is_refused(tmp_path, what):
    path = tmp_path / "a.db"
    connection = database(path)
    for line in TAMPERED[what]:
        connection.execute(line)
    connection.commit()
    connection.close()
    refused(path, "which no ASE database has: refused")


ANNOUNCED = '{"z": {"__ndarray__": [[400000000], "float64", [1.0]]}}'


@pytest.mark.parametrize("column", ["data", "key_value_pairs", "calculator_parameters"])
def test_an_array_that_is_only_announced_is_refused(tmp_path, column):
    path = tmp_path / "a.db"
    connection = database(path)
    connection.execute(f"UPDATE systems SET {column} = ?", (ANNOUNCED,))
    connection.commit()
    connection.close()
    refused(path, "announces an array of 400,000,000 numbers and holds 1")


def test_an_announced_array_in_json_is_refused(tmp_path):
    numbers = {"__ndarray__": [[400_000_000], "int64", [1]]}
    positions = {"__ndarray__": [[1, 3], "float64", [0, 0, 0]]}
    row = {"numbers": numbers, "positions": positions, "unique_id": "a", "ctime": 1, "mtime": 1}
    (tmp_path / "a.json").write_text(json.dumps({"1": row, "ids": [1], "nextid": 2}))
    refused(tmp_path / "a.json", "announces an array of 400,000,000 numbers")


def test_sound_databases_are_read_as_before(tmp_path):
    for name in ("a.db", "a.json"):
        with ase.db.connect(tmp_path / name) as db:
            db.write(H2, key_value_pairs={"x": 1.0}, data={"y": np.arange(2.0), "big": "n" * 9999})
        (frame,) = mk.read_frames(tmp_path / name, progress=False)
        assert frame.positions == pytest.approx(H2.positions) and frame.info["x"] == 1
        assert frame.arrays["y"].tolist() == [0, 1]


def test_the_widget_shows_the_first_of_very_many(tmp_path):
    app = mk.upload()
    app.state.load("many.extxyz.gz", gzip.compress(FRAME * 6000))
    assert len(app.state.frames) == 5000 and "first 5,000 frames" in app.state.message
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    app.state.load("bomb.extxyz.gz", gzip.compress(b"0" * 200_000_000))
    assert app.state.frames == [] and "unpacks to many times its size" in app.state.message
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000
