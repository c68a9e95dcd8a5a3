"""ASE databases, ASE trajectories, and JSON in the style of CHGNet (MPtrj)."""

import json
import math
import re
import sqlite3
import time
from urllib.parse import quote

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.data import atomic_numbers
from ase.db.row import AtomsRow
from ase.io.jsonio import fix_int_keys_in_dicts, numpyfy, object_hook

from mlipkit.files import InputError
from mlipkit.frames.readers.compressed import open_bytes, open_text, uncompressed, unlimited
from mlipkit.frames.readers.vasp import KBAR

# statements that make what an ASE database is made of: tables of columns, and indices of columns
_USUAL = re.compile(r"CREATE (TABLE \S+\s*\(|(UNIQUE )?INDEX \S+ ON)", re.I)
PATIENCE = 5  # s: no row of a database takes as long


def iter_traj(path):
    """Frames of an ASE trajectory (ASE's ulm format; the pickles of before 2015 are refused, for
    they can run code).
    """
    from ase.io.trajectory import TrajectoryReader

    with uncompressed(path) as plain:
        _check_traj(path, plain)
        with TrajectoryReader(str(plain)) as trajectory:
            yield from trajectory


def _check_traj(path, plain):
    with open(plain, "rb") as file:
        magic, size = file.read(16), plain.stat().st_size
        file.seek(32)
        n_items, first = (int.from_bytes(file.read(8), "little", signed=True) for _ in range(2))
    if not magic.startswith(b"- of Ulm"):
        raise InputError(
            f"{path}: is not an ASE trajectory"
            + (
                " of today's format but a pickle, which is never read because it can run code; "
                "convert it where it comes from, with "
                "`python -m ase.io.trajectory FILE`"
                if b"Pickle" in magic
                else " (it does not start with '- of Ulm')"
            )
        )
    if not 0 <= 8 * n_items <= size:
        raise InputError(
            f"{path}: announces {n_items} frames, more than {size} bytes can hold; it is damaged "
            "or cut off"
        )
    with open(plain, "rb") as file:
        file.seek(int(first))
        places = np.fromfile(file, "<i8", int(n_items))
        if len(set(places.tolist())) < n_items or (places < 0).any():
            raise InputError(f"{path}: its frames do not lie one after the other; it is damaged")
        for place in places.tolist():
            file.seek(place)
            length = int.from_bytes(file.read(8), "little")
            json.loads(
                file.read(min(length, size)), object_hook=lambda found: _on_disk(found, size)
            )


def _on_disk(found, size):
    """An object in a trajectory, whose arrays lie elsewhere in the file."""
    announced = found.get("ndarray")
    if isinstance(announced, list) and len(announced) == 3:
        shape, name, offset = announced
        numbers = math.prod(shape) * np.dtype(name).itemsize
        if min(shape, default=0) < 0 or not 0 <= offset <= offset + numbers <= size:
            raise InputError(f"announces an array of shape {shape} that it does not hold")
    return _bounded(found)


def iter_db(path):
    """Frames of an ASE database (SQLite or JSON), opened for reading only.

    ``key_value_pairs`` go to ``info``; of ``data``, arrays with a row per atom go to ``arrays``,
    the rest to ``info``.
    """
    with open_bytes(path) as file:
        head = file.read(1000)
    if head.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"{"):
        yield from iter_json(path)
        return
    with uncompressed(path) as plain:
        db = _open_db(path, plain.resolve())
        rows = iter(db.select())
        while True:
            db.began = time.monotonic()
            try:
                row = next(rows, None)
            except sqlite3.OperationalError as reason:
                if "interrupted" not in str(reason):
                    raise
                raise InputError(
                    f"{path}: a row takes more than {PATIENCE} s to be read: it is damaged, or no "
                    "ASE database"
                ) from None
            if row is None:
                return
            yield _frame_of_row(row)


def _open_db(path, plain):
    from ase.db import connect

    with open(plain, "rb") as file:
        head = file.read(20)
    if head.startswith(b"SQLite format 3\0"):
        db = connect(plain, type="db", use_lock_file=False)
        # ASE opens for writing and adds its tables to a file without them. A file left in WAL mode
        # is only readable as immutable
        mode = (
            "immutable=1"
            if 2 in head[18:20] and not plain.with_name(plain.name + "-wal").exists()
            else "mode=ro"
        )
        db.began = time.monotonic()

        def connected():
            found = sqlite3.connect(f"file:{quote(str(plain))}?{mode}", uri=True)
            late = lambda: time.monotonic() - db.began > PATIENCE
            found.set_progress_handler(late, 100_000)
            _check_tables(path, found)
            found.text_factory = _bounded_text
            return found

        db._connect = connected
        return db
    raise InputError(f"{path}: is not an ASE database (neither SQLite nor JSON)")


def _check_tables(path, connection):
    """Only plain tables are read: a view, a virtual table or a computed column could go on for
    ever.
    """
    for name, kind, sql in connection.execute("SELECT name, type, sql FROM sqlite_master"):
        # what the statement says counts: the other columns may say anything
        usual = _USUAL.match(sql or "CREATE INDEX i ON")
        computed = kind == "table" and any(
            hidden for *_, hidden in connection.execute(f"PRAGMA table_xinfo({_quoted(name)})")
        )
        if not usual or computed or kind not in ("table", "index"):
            words = " ".join(str(sql).split()[1:2]).lower()
            what = f"the {kind if kind in ('view', 'trigger') else words or kind}"
            what = "a computed column in" if computed else what
            what = "a virtual" if words == "virtual" else what
            raise InputError(
                f"{path}: holds {what} {name[:60]!r}, which no ASE database has: refused, since "
                "reading it could run anything"
            )


def _quoted(name):
    return '"' + name.replace('"', '""') + '"'


def _bounded(found):
    """An object in a JSON file; refused where it announces an array that it does not hold."""
    announced = found.get("__ndarray__")
    if isinstance(announced, list) and len(announced) == 3:
        shape, dtype, data = announced
        shape = shape if isinstance(shape, list) else [shape]
        wanted = abs(math.prod(n for n in shape if isinstance(n, int)))
        if np.dtype(dtype).itemsize > 1000 or np.dtype(dtype).hasobject:
            raise InputError(f"announces an array of {str(dtype)[:60]!r}; it is damaged")
        if wanted > max(1000, 2 * _held(data)):
            raise InputError(
                f"announces an array of {wanted:,} numbers and holds {_held(data):,}; it is damaged"
            )
    return found


def _bounded_text(content):
    """A text cell of a database; ASE makes arrays of what such a cell announces."""
    text = content.decode("utf-8", "replace")
    if text.startswith(("{", "[")) and ("__ndarray__" in text or "\\" in text):
        json.loads(text, object_hook=_bounded)
    return text


def _parsed(path):
    """The content of a JSON file, with arrays and ASE's objects where it has them."""
    with open_text(path, line=None, ratio=20) as file:
        text = file.read()
    # brackets around nothing take sixty times their room in memory
    if text.count("[") + text.count("{") > 100_000 + len(text) / 6 and not unlimited():
        raise InputError(f"{path}: this JSON is made of brackets around nothing; it is damaged")
    return json.loads(text, object_hook=lambda found: object_hook(_bounded(found)))


def _held(data):
    if not isinstance(data, list):
        return 1
    return sum(_held(part) if isinstance(part, list) else 1 for part in data)


def _frame_of_row(row):
    atoms = row.toatoms()
    atoms.info = dict(row.key_value_pairs)
    rows_of_atoms = (len(atoms), int((atoms.numbers != 0).sum()))
    results = {}
    for key, value in (row.data or {}).items():
        array = (
            np.asarray(value)
            if isinstance(value, np.ndarray) or (isinstance(value, list) and _is_plain(value))
            else None
        )
        if (
            array is None
            or array.dtype.kind not in "ifb"
            or array.ndim not in (1, 2)
            or len(array) not in rows_of_atoms
        ):
            atoms.info.setdefault(key, value)
        elif key in ("forces", "magmoms"):
            results[key] = array
        elif key not in atoms.arrays:
            if len(array) < len(atoms):  # without the vacancies, as labels may be
                full = np.zeros((len(atoms), *array.shape[1:]), array.dtype)
                full[atoms.numbers != 0] = array
                array = full
            atoms.set_array(key, array)
    if results:  # labels of the calculator itself come first
        atoms.calc = SinglePointCalculator(
            atoms, **{**results, **getattr(atoms.calc, "results", {})}
        )
    return atoms


def _is_plain(values):
    """Whether a list is one of numbers or of rows of three; `np.asarray` raises on ragged ones."""
    return all(isinstance(v, int | float) for v in values) or all(
        isinstance(v, list) and len(v) == 3 for v in values
    )


def iter_json(path):
    """Frames of a JSON file: an ASE database, or records in the style of CHGNet.

    Records may lie at any depth (MPtrj: material → frame → record), in a list, or be one record of
    lists. A record holds ``structure`` (pymatgen) and, where known, ``uncorrected_total_energy``,
    ``energy``, ``energy_per_atom`` or ``corrected_total_energy`` (eV; the first of these becomes
    ``energy``, all but ``energy`` stay in ``info``), ``force`` (eV/Å), ``stress`` (kbar with VASP's
    sign, as CHGNet's data loader takes it: -0.1 makes GPa of it) and ``magmom`` (µB; else that of
    the sites). The keys on the way to a record are kept as ``info["mp_id"]`` and
    ``info["graph_id"]``. A ``ComputedStructureEntry`` of pymatgen is such a record too: its
    ``energy`` is that of before the ``correction``.

    Objects are built from their numbers, never from class names found in the file.
    """
    data = _parsed(path)
    if isinstance(data, dict) and ("nextid" in data or "numbers" in data.get("1", ())):
        yield from map(_frame_of_row, _rows(data))
        return
    found = False
    for i, (keys, record) in enumerate(_records(data, f"{path}")):
        found = True
        yield _chgnet_frame(record, keys, f"{path}: frame {i}")
    if not found:
        raise InputError(
            f"{path}: this JSON holds neither an ASE database nor records with a 'structure' "
            "(CHGNet style)"
        )


def _rows(data):
    """Rows of an ASE database in JSON, as `ase.db.jsondb` makes them."""
    data = numpyfy(fix_int_keys_in_dicts(data))
    ids = data.get("ids", sorted(key for key in data if isinstance(key, int)))
    for i in dict.fromkeys(np.asarray(ids).tolist()):
        row = AtomsRow(data[i])
        row.id = i
        yield row


def _records(data, source, keys=()):
    if isinstance(data, dict) and isinstance(data.get("structure"), list):
        columns = {key: values for key, values in data.items() if isinstance(values, list)}
        # [] for a label that no frame has
        lengths = {key: len(values) for key, values in columns.items() if values}
        if len(set(lengths.values())) > 1:
            raise InputError(f"{source}: the lists of this JSON differ in length: {lengths}")
        for i in range(len(data["structure"])):
            yield keys, {key: values[i] for key, values in columns.items() if values}
    elif isinstance(data, dict) and "structure" in data:
        yield keys, data
    elif isinstance(data, dict | list) and len(keys) < 3:
        for key, value in data.items() if isinstance(data, dict) else enumerate(data):
            yield from _records(value, source, (*keys, str(key)))


def _chgnet_frame(record, keys, source):
    atoms = _atoms_of_structure(record["structure"], source)
    n, labels = len(atoms), {}
    names = ("uncorrected_total_energy", "energy", "energy_per_atom", "corrected_total_energy")
    atoms.info = {
        name: value
        for name, value in record.items()
        if isinstance(value, str | int | float | bool) and name != "energy"
    }
    atoms.info.update(zip(("mp_id", "graph_id") if len(keys) > 1 else ("graph_id",), keys))
    for name in names:
        if "energy" not in labels and record.get(name) is not None:
            labels["energy"] = float(record[name]) * (n if name == "energy_per_atom" else 1)
    for key, label in (
        ("force", "forces"),
        ("forces", "forces"),
        ("magmom", "magmoms"),
        ("magmoms", "magmoms"),
    ):
        if record.get(key) is not None:
            labels[label] = np.array(record[key], float)
    if "magmoms" not in labels and "magmom" in atoms.arrays:
        labels["magmoms"] = atoms.arrays.pop("magmom")
    if record.get("stress") is not None:
        stress = np.array(record["stress"], float)
        if stress.shape != (3, 3):
            raise InputError(f"{source}: stress must be 3 x 3 (kbar), not of shape {stress.shape}")
        labels["stress"] = -KBAR * stress[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
    if labels:
        atoms.calc = SinglePointCalculator(atoms, **labels)
    return atoms


def _atoms_of_structure(structure, source):
    """`ase.Atoms` of a pymatgen Structure as a dict (`Structure.from_dict` would import classes
    named in site properties).
    """
    if isinstance(structure, str):  # some writers store JSON within JSON
        structure = json.loads(structure)
    try:
        lattice, sites = np.array(structure["lattice"]["matrix"], float), structure["sites"]
        species = [site["species"] for site in sites]
        scaled = np.array([site["abc"] for site in sites], float)
    except (KeyError, TypeError, ValueError) as reason:
        raise InputError(
            f"{source}: 'structure' is not a pymatgen Structure as a dict (lattice matrix, sites "
            "with species and abc): "
            f"{reason!r}"
        ) from None
    mixed = next(
        (i for i, s in enumerate(species) if len(s) != 1 or s[0].get("occu", 1) != 1), None
    )
    if mixed is not None:
        raise InputError(
            f"{source}: atom {mixed} is partially occupied; only ordered structures have DFT labels"
        )
    # "X0+" is pymatgen's vacancy
    symbols = [s[0]["element"].rstrip("0123456789+-") for s in species]
    unknown = next((s for s in symbols if s not in atomic_numbers), None)
    if unknown is not None:
        raise InputError(f"{source}: {unknown!r} is not an element")
    atoms = Atoms(
        symbols, cell=lattice, scaled_positions=scaled, pbc=structure["lattice"].get("pbc", True)
    )
    states = [s[0].get("oxidation_state") for s in species]
    if None not in states and all(state == int(state) for state in states):
        atoms.set_array("oxi_states", np.array(states, int))
    for name in sites[0].get("properties") or {}:
        values = [(site.get("properties") or {}).get(name) for site in sites]
        if name not in atoms.arrays and all(isinstance(v, int | float) for v in values):
            atoms.set_array(name, np.array(values))
    return atoms
