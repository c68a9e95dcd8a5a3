"""Huge files of frames: converted once into HDF5, then opened at once and read lazily through a
memory map.

In the HDF5 file a column holds the values of all frames that have it, one after the other (per-atom
columns: a row per atom); its ``start`` says at which row a frame begins, -1 where the frame lacks
it. What is not numeric is one JSON text per frame.
"""

import contextlib
import hashlib
import json
import os
import re
import tempfile
from array import array
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mlipkit import arguments
from mlipkit.files import InputError
from mlipkit.frames.labels import EXAMPLE
from mlipkit.frames.readers.compressed import (
    ENDINGS,
    UNPACKED,
    check_count,
    is_packed,
    open_text,
)
from mlipkit.frames.readers.extxyz import ATOM_LABELS, Frame, iter_records, to_atoms
from mlipkit.frames.readers.keys import LabelKeys

FORMAT = 2  # of the HDF5 files; a change makes every file be converted anew
# what goes beyond (comments that were read as keys) is kept in the JSON text
MAX_COLUMNS = 64
CHUNK = 2**20  # rows that are moved at once


def cache_folder(cache=None):
    """The folder for converted and downloaded files: the argument, or ``MLIPKIT_CACHE``, or the
    platform's cache.
    """
    folder = cache or os.environ.get("MLIPKIT_CACHE")
    if not folder:
        import pooch

        folder = pooch.os_cache("mlipkit")
    return Path(folder).expanduser().absolute()


def open_frames(path, cache=None, progress=True, info=None, proxies=None, keys=None):
    """Open a file of frames without reading it into memory.

    The first time, the file is converted with a progress bar (it may be interrupted, and then
    starts anew the next time); after that, opening is immediate as long as the file stays the same.

    Parameters
    ----------
    path : str or Path
        Extended XYZ (``.extxyz``, ``.xyz``), also compressed. Other files go through
        `mlipkit.read_frames`.
    cache : str or Path, optional
        Folder for the converted file, by default ``MLIPKIT_CACHE`` or the platform's cache folder.
    progress : bool
    info : dict, optional
        Put into ``info`` of every frame.
    proxies : dict, optional
        Such as ``{"Ga": ("Fe", 3)}``, the map of `decode_proxies`.
    keys : dict, optional
        Under which names the file has its labels, as of `mlipkit.read_frames`. What is guessed
        without it is said once, when the file is converted.

    Returns
    -------
    FrameSequence

    Raises
    ------
    InputError
        Naming file and frame, when the file is missing, empty or damaged, or when the cache folder
        cannot be written.
    """
    path = arguments.file_path(path, "open_frames: path").expanduser().absolute()
    folder = cache_folder(arguments.folder_path(cache, "open_frames: cache", none=True))
    if info is not None:
        arguments.mapping(info, "open_frames: info", "{'set': 'mine'}")
    if proxies is not None:
        arguments.mapping(proxies, "open_frames: proxies", EXAMPLE)
    LabelKeys(keys, "open_frames")  # refuses what is no map of keys
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        place, state = _digest(str(path), info, proxies, keys)[:10], _state(path)
    except OSError as reason:
        raise InputError(f"{path}: cannot be read ({reason.strerror})") from None
    stored = folder / f"{path.stem[:60]}-{place}-{state}.h5"
    # not there yet, or damaged: convert
    with contextlib.suppress(OSError, KeyError, ValueError):
        return FrameSequence([_Store(stored)])
    frames = _read(path, progress, keys)
    if info or proxies:
        frames = (_edited(frame, info or {}, proxies or {}) for frame in frames)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=stored.stem, suffix=".part", dir=folder) as aside:
            _convert(frames, Path(aside), str(path))
            if _state(path) != state:
                raise InputError(
                    f"{path} changed while it was read; open it again when it is complete"
                )
            os.replace(Path(aside) / "frames.h5", stored)
    # h5py turns some failed writes into RuntimeError
    except (OSError, RuntimeError) as reason:
        raise InputError(
            f"{path}: cannot be converted in the cache folder {folder} ({reason}); "
            "free space there, or set MLIPKIT_CACHE to another folder"
        ) from reason
    for earlier in folder.glob(f"*-{place}-*.h5"):
        if earlier != stored:
            with contextlib.suppress(OSError):
                earlier.unlink()
    return FrameSequence([_Store(stored)])


class FrameSequence(Sequence):
    """Frames that are read when they are asked for.

    ``frames[3]`` is an `ase.Atoms` with its labels; ``frames[10:20]``, ``frames[[1, 5]]`` and
    ``frames[frames.table["energy"] < -170]`` are again sequences and read nothing; ``a + b`` joins
    two.
    """

    def __init__(self, stores, index=None):
        self._stores = stores
        self._ends = np.cumsum([len(store) for store in stores], dtype=int)
        self._index = np.arange(sum(map(len, stores))) if index is None else index

    def __len__(self):
        return len(self._index)

    def __getitem__(self, key):
        if isinstance(key, slice):
            return FrameSequence(self._stores, self._index[key])
        if isinstance(key, (int, np.integer)) and not isinstance(key, bool):
            i = self._index[key]
            k = np.searchsorted(self._ends, i, side="right")
            return to_atoms(self._stores[k].frame(i - self._ends[k] + len(self._stores[k])))
        chosen = np.asarray(key)
        if chosen.ndim != 1 or (len(chosen) and chosen.dtype.kind not in "biu"):
            raise TypeError(
                "frames are chosen by a whole number, a slice, an array of whole numbers, or a "
                "mask of True and False"
            )
        if chosen.dtype.kind == "b" and len(chosen) != len(self):
            raise IndexError(f"the mask has {len(chosen)} entries for {len(self)} frames")
        return FrameSequence(
            self._stores, self._index[chosen if len(chosen) else chosen.astype(int)]
        )

    def __add__(self, other):
        if not isinstance(other, FrameSequence):
            return NotImplemented
        index = np.concatenate([self._index, other._index + sum(map(len, self._stores))])
        return FrameSequence([*self._stores, *other._stores], index)

    def __repr__(self):
        return f"<{len(self)} frames of {', '.join(store.source for store in self._stores)}>"

    @property
    def table(self):
        """One row per frame, as `mlipkit.frame_table` gives it, without building the frames."""
        import pandas as pd

        tables = [store.table() for store in self._stores]
        whole = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()
        return whole.iloc[self._index].reset_index(drop=True)


class _Store:
    """One converted file, mapped into memory."""

    def __init__(self, path):
        import h5py

        self.path, self._table = path, None
        with h5py.File(path) as file:
            about = json.loads(file["about"][()])
            self.source, self.keys = about["source"], about["keys"]
            self.n_atoms, self.text, self.text_ends = (
                _mapped(path, file[name]) for name in ("n_atoms", "text", "text_ends")
            )
            self.columns = [
                (
                    *column,
                    _mapped(path, file[f"columns/{i}/data"]),
                    _mapped(path, file[f"columns/{i}/start"]),
                )
                for i, column in enumerate(about["columns"])
            ]

    def __len__(self):
        return len(self.n_atoms)

    # worker processes map the file again instead of receiving a copy of it
    def __reduce__(self):
        return _Store, (self.path,)

    def frame(self, i):
        """The `Frame` at position i."""
        n_atoms, parts = (
            int(self.n_atoms[i]),
            {"frame": {}, "arrays": {}, "info": {}, "results": {}},
        )
        for part, name, per_atom, data, start in self.columns:
            row = start[i]
            if row >= 0:
                value = data[row : row + n_atoms] if per_atom else data[row]
                parts[part][name] = (
                    value.copy()
                    if value.ndim
                    else bool(value)
                    if value.dtype.kind == "b"
                    else value
                )
        for part, name, value in self.rest(i):
            parts[part][name] = value
        info = {key: parts["info"].pop(key) for key in self.keys if key in parts["info"]} | parts[
            "info"
        ]
        return Frame(
            parts["frame"]["numbers"].astype(int),
            parts["frame"]["cell"],
            parts["frame"]["pbc"],
            parts["arrays"],
            info,
            parts["results"],
        )

    def rest(self, i):
        """(part, name, value) of what frame i keeps as JSON."""
        text = self.text[self.text_ends[i] : self.text_ends[i + 1]].tobytes()
        return (
            [(part, name, _decode(value)) for part, name, value in json.loads(text)] if text else []
        )

    def table(self):
        import pandas as pd

        if self._table is not None:
            return self._table
        n, info = len(self), {key: None for key in self.keys}
        energy, max_force = np.full(n, np.nan), np.full(n, np.nan)

        def cells(name):
            if info.get(name) is None:
                info[name] = [np.nan] * n
            return info[name]

        for part, name, _, data, start in self.columns:
            here = np.flatnonzero(start >= 0)
            if (part, name) == ("frame", "numbers"):
                formula = _formulas(data, self.n_atoms)
            elif (part, name) == ("results", "energy"):
                energy[here] = data
            elif (part, name) == ("results", "forces"):
                here = here[self.n_atoms[here] > 0]
                max_force[here] = (
                    np.maximum.reduceat(np.linalg.norm(data, axis=1), start[here])
                    if len(here)
                    else np.nan
                )
            elif part == "info":
                values = cells(name)
                for i, value in zip(here, data.tolist() if data.ndim == 1 else data.copy()):
                    values[i] = value
        for i in np.flatnonzero(np.diff(self.text_ends)):
            for part, name, value in self.rest(i):
                if part == "info":
                    cells(name)[i] = value
        self._table = pd.DataFrame(
            {
                "formula": formula,
                "n_atoms": self.n_atoms,
                "energy": energy,
                "max_force": max_force,
                **{name: values for name, values in info.items() if values is not None},
            }
        )
        return self._table


class _Column:
    """Values collected in a temporary file, because their number is known only at the end."""

    def __init__(self, path, dtype, shape=()):
        self.path, self.dtype, self.shape, self.values, self.frames = (
            path,
            dtype,
            shape,
            [],
            array("q"),
        )
        self.file = open(path, "wb")  # noqa: SIM115 - closed by `store` or `_convert`

    def flush(self):
        self.file.write(b"".join([value.tobytes() for value in self.values]))
        self.values.clear()

    def store(self, group, name):
        """As a contiguous data set, which can be mapped."""
        self.flush()
        self.file.close()
        per_row = int(np.prod(self.shape, dtype=int))
        rows = self.path.stat().st_size // (per_row * self.dtype.itemsize) if per_row else 0
        target = group.create_dataset(name, (rows, *self.shape), self.dtype)
        with open(self.path, "rb") as file:
            for row in range(0, rows, CHUNK):
                target[row : row + CHUNK] = np.fromfile(
                    file, self.dtype, min(CHUNK, rows - row) * per_row
                ).reshape(-1, *self.shape)
        self.path.unlink()


def _convert(frames, folder, source):
    import h5py

    columns, keys, n_atoms, text_ends, waiting = {}, {}, array("q"), array("q", [0]), 0
    text = _Column(folder / "text", np.dtype("u1"))
    try:
        for i, frame in enumerate(frames):
            count, rest = len(frame.numbers), []
            for part, name, per_atom, value in _values(frame):
                cell = np.asarray(value) if isinstance(value, (bool, int, float)) else value
                column = None
                if isinstance(cell, (np.ndarray, np.generic)):
                    shape = cell.shape[1:] if per_atom else cell.shape
                    key = (part, name, per_atom, cell.dtype, shape)
                    column = columns.get(key)
                    if (
                        column is None
                        and len(columns) < MAX_COLUMNS
                        and _fits_column(cell, shape, per_atom)
                    ):
                        column = columns[key] = _Column(
                            folder / str(len(columns)), cell.dtype, shape
                        )
                if column is None or (per_atom and len(cell) != count):
                    rest.append((part, name, _encode(value)))
                else:
                    column.frames.append(i)
                    column.values.append(cell)
            if len(keys) < 10 * MAX_COLUMNS:
                keys.update(dict.fromkeys(frame.info))
            words = np.frombuffer(json.dumps(rest, default=str).encode() if rest else b"", "u1")
            text.values.append(words)
            text_ends.append(text_ends[-1] + len(words))
            n_atoms.append(count)
            waiting += count + 10
            if waiting > CHUNK // 16:
                waiting = 0
                for column in (text, *columns.values()):
                    column.flush()
        if not n_atoms:
            raise InputError(f"{source}: holds no frame")
        for column in (text, *columns.values()):
            column.flush()
        size = sum(os.fstat(c.file.fileno()).st_size for c in (text, *columns.values()))
        _reserve(folder / "room", size + 8 * len(n_atoms) * (2 + len(columns)))
        with h5py.File(folder / "frames.h5", "w") as file:
            counts = file["n_atoms"] = np.array(n_atoms)
            file["text_ends"] = np.array(text_ends)
            text.store(file, "text")
            for k, ((_, _, per_atom, _, _), column) in enumerate(columns.items()):
                column.store(file, f"columns/{k}/data")
                here, start = np.array(column.frames), np.full(len(counts), -1)
                start[here] = (
                    np.cumsum(counts[here]) - counts[here] if per_atom else np.arange(len(here))
                )
                file[f"columns/{k}/start"] = start
            file["about"] = json.dumps(
                {"source": source, "keys": list(keys), "columns": [key[:3] for key in columns]}
            )
    finally:
        for column in (text, *columns.values()):
            column.file.close()


def _reserve(path, size):
    """Raise an OSError when there is no room for a file of this size: HDF5 that runs out of it can
    take the process down.
    """
    if hasattr(os, "posix_fallocate"):  # not on macOS
        with open(path, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, size)
        path.unlink()


def _values(frame):
    """(part, name, has a row per atom, value) of all that a frame holds."""
    yield "frame", "numbers", True, frame.numbers.astype("u1")
    yield "frame", "cell", False, frame.cell
    yield "frame", "pbc", False, frame.pbc
    for name, value in frame.arrays.items():
        yield "arrays", name, True, value
    for name, value in frame.info.items():
        yield "info", name, False, value
    for name, value in frame.results.items():
        yield "results", name, name in ATOM_LABELS, value


def _fits_column(value, shape, per_atom):
    """Whether a value goes into a column of its own; long arrays, texts and lists go into the JSON
    text.
    """
    return value.dtype.kind in "biuf" and 0 not in shape and (per_atom or value.size <= 9)


def _encode(value):
    if isinstance(value, (np.ndarray, np.generic)):
        return {"array": value.tolist(), "dtype": value.dtype.str, "shape": value.shape}
    return {"value": value}


def _decode(stored):
    if "array" not in stored:
        return stored["value"]
    return np.array(stored["array"], np.dtype(stored["dtype"])).reshape(stored["shape"])[()]


def _mapped(path, dataset):
    if not dataset.size:
        return np.empty(dataset.shape, dataset.dtype)
    return np.asarray(np.memmap(path, dataset.dtype, "r", dataset.id.get_offset(), dataset.shape))


def _formulas(numbers, n_atoms):
    from ase import Atoms

    elements, codes = np.unique(numbers, return_inverse=True)
    frame = np.repeat(np.arange(len(n_atoms)), n_atoms)
    counts = np.bincount(
        frame * len(elements) + codes, minlength=len(n_atoms) * len(elements)
    ).reshape(len(n_atoms), -1)
    kinds, which = np.unique(counts, axis=0, return_inverse=True)
    names = [Atoms(np.repeat(elements, kind)).get_chemical_formula() for kind in kinds]
    return np.array(names, object)[which.ravel()]


def _digest(*what):
    return hashlib.sha256(repr(what).encode()).hexdigest()


def _state(path):
    """Changes when the file does: size, time, and both ends of its content."""
    stat = path.stat()
    with open(path, "rb") as file:
        head = file.read(2**16)
        file.seek(max(0, stat.st_size - 2**16))
        return _digest(FORMAT, stat.st_size, stat.st_mtime_ns, head, file.read())[:16]


def _read(path, progress, keys):
    if not re.search(r"\.(ext)?xyz(\.(gz|xz|bz2))?$", path.name.lower()):
        from mlipkit.frames.readers import read_frames

        limit = UNPACKED if is_packed(path) else None
        yield from map(_taken_apart, read_frames(path, keys=keys, progress=progress, limit=limit))
        return
    from tqdm.auto import tqdm

    labels = LabelKeys(keys, str(path))
    size = None if path.suffix.lower() in ENDINGS else path.stat().st_size
    with (
        open_text(path, limited=False) as lines,
        tqdm(total=size, unit="B", unit_scale=True, desc=path.name, disable=not progress) as bar,
    ):
        for i, frame in enumerate(iter_records(lines, path)):
            check_count(i, path)
            yield labels.of_frame(frame)
            if i % 256 == 0:
                bar.update(lines.buffer.tell() - bar.n)
        bar.update(lines.buffer.tell() - bar.n)
    labels.finish()


def _taken_apart(atoms):
    arrays = {name: values for name, values in atoms.arrays.items() if name != "numbers"}
    results = {
        name: value
        for name, value in getattr(atoms.calc, "results", {}).items()
        if value is not None
    }
    return Frame(atoms.numbers, atoms.cell.array, atoms.pbc, arrays, atoms.info, results)


def _edited(frame, info, proxies):
    if proxies:
        from mlipkit.frames.labels import decode_proxies

        held = {name: values for name, values in frame.arrays.items() if name == "move_mask"}
        frame = _taken_apart(decode_proxies(to_atoms(frame), proxies))
        frame.arrays.update(held)
    return frame._replace(info={**frame.info, **info})
