"""Extended XYZ, read frame by frame: what `ase.io.read` gives, several times as fast, and errors
that name frame and atom.

Rows of many frames with the same columns are parsed at once by pandas' C parser; what it does not
take for certain is parsed frame by frame in Python, which then says what is wrong. Both give the
same floating point numbers to the last bit. (The C parser on PyPI, extxyz 0.4.6, is faster still,
but crashes the interpreter on damaged files.)
"""

import csv
import functools
import io
import itertools
import json
import lzma
import re
import warnings
import zlib
from typing import NamedTuple

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers

from mlipkit.files import InputError

MAX_ATOMS = 10**8  # beyond this a count is taken for damage, not for a structure
EMPTY = 10_000  # lines between frames
BLOCK = 10_000  # rows that are read before they are parsed
WORTH = 2_000  # rows from which pandas' parser is worth its overhead
# per frame
LABELS = (
    "energy",
    "free_energy",
    "stress",
    "dipole",
    "magmom",
    "polarization",
    "dielectric_tensor",
)
# per atom
ATOM_LABELS = ("forces", "magmoms", "charges", "energies", "stresses", "born_effective_charges")
ASE_NAMES = {"pos": "positions", "Z": "numbers", "charge": "charges", "species": "symbols"}
FLAGS = {
    "T": True,
    "true": True,
    "True": True,
    "TRUE": True,
    "F": False,
    "false": False,
    "False": False,
    "FALSE": False,
}
PAIR = re.compile(
    r"""([^\s="'{}\[\]\\]+)(?:=(?:"([^"\\]*(?:\\.[^"\\]*)*)"|([^\s="'{}\[\]\\]+)))?(?:\s+|$)"""
)


class Frame(NamedTuple):
    """A frame before it is an `ase.Atoms`: what `frame_store` keeps, without the cost of building
    objects.
    """

    numbers: np.ndarray
    cell: np.ndarray
    pbc: np.ndarray
    arrays: dict  # per atom, with "positions"
    info: dict
    results: dict  # labels, per atom and per frame


def iter_frames(stream, source):
    """Frames of an extended XYZ file, one after the other.

    Parameters
    ----------
    stream : iterable of str
        Its lines, for example an open text file.
    source : str
        What errors call the file.

    Yields
    ------
    ase.Atoms
        Labels that the frame has (``energy`` eV, ``forces`` eV/Å, ``stress`` eV/Å^3 in Voigt order
        xx yy zz yz xz xy from nine or six numbers, ``magmoms`` µB, ...) in a
        ``SinglePointCalculator``, other columns in ``arrays``, other keys in ``info`` with ASE's
        types. Vacancies (species ``X``) are dropped; ``info["n_vacancies"]`` says how many there
        were.

    Raises
    ------
    InputError
        Naming source, frame and what is wrong in it. A file without any frame yields nothing.
    """
    return map(to_atoms, iter_records(stream, source))


def iter_records(stream, source):
    """Like `iter_frames`, but yields `Frame` tuples."""
    lines, i, failure = iter(stream), 0, None
    while failure is None:
        raws, failure = _block(lines)
        for (layout, width), same in itertools.groupby(raws, key=lambda raw: raw.layout):
            same = list(same)
            parsed = _parsed_at_once(same, layout, width) or itertools.repeat(None)
            for raw, columns in zip(same, parsed):
                try:
                    yield _frame(raw, *(columns or _columns(_rows(raw.lines, width), layout)))
                except InputError as reason:
                    raise InputError(f"{source}: frame {i}: {reason}") from None
                i += 1
    if isinstance(failure, InputError):
        raise InputError(f"{source}: frame {i}: {failure}") from None
    if not isinstance(failure, StopIteration):
        raise InputError(
            f"{source}: frame {i}: the file cannot be read on ({failure}); is it cut off or "
            "damaged?"
        ) from failure


def to_atoms(frame):
    """The `ase.Atoms` of a `Frame`."""
    arrays = dict(frame.arrays)
    atoms = Atoms(
        numbers=frame.numbers,
        positions=arrays.pop("positions"),
        cell=frame.cell,
        pbc=frame.pbc,
        info=frame.info,
    )
    move = arrays.pop("move_mask", None)
    if move is not None:
        from ase.constraints import FixAtoms, FixCartesian

        move = move.astype(bool)
        atoms.set_constraint(
            FixAtoms(mask=~move)
            if move.ndim == 1
            else [FixCartesian(a, ~row) for a, row in enumerate(move)]
        )
    for name, values in arrays.items():
        atoms.new_array(name, values)
    if frame.results:
        from ase.calculators.singlepoint import SinglePointCalculator

        atoms.calc = SinglePointCalculator(atoms, **frame.results)
    return atoms


class _Raw(NamedTuple):
    """A frame of which only the first two lines are understood so far."""

    info: dict
    layout: tuple
    lines: list


def _block(lines):
    """The next frames of the file, and why there are not more (StopIteration at its end, None when
    the block is full).
    """
    raws, rows = [], 0
    try:
        while rows < BLOCK:
            raws.append(_raw(_head(lines), lines))
            rows += len(raws[-1].lines)
    except (
        InputError,
        StopIteration,
        OSError,
        EOFError,
        UnicodeError,
        zlib.error,
        lzma.LZMAError,
    ) as reason:
        return raws, reason
    return raws, None


def _head(lines):
    """The next line that is not empty."""
    found = (line for line in itertools.islice(lines, EMPTY) if not line.isspace())
    head = next(found, None)
    if head is None and next(lines, None) is not None:
        raise InputError(f"{EMPTY:,} empty lines follow one another; is this extended XYZ?")
    if head is None:
        raise StopIteration
    return head


def _raw(head, lines):
    try:
        count = int(head) if len(head) < 40 else -1
    except ValueError:
        count = -1
    if not 0 <= count <= MAX_ATOMS:
        raise InputError(
            f"expected the number of atoms, found {_short(head)}; is this extended XYZ, and was "
            "the count before right?"
        )
    comment = next(lines, None)
    if comment is None:
        raise InputError("the file ends after the number of atoms; it is cut off")
    info = _key_values(comment.strip())
    layout, atoms = _layout(str(info.pop("Properties", "species:S:1:pos:R:3"))), []
    # in portions: a wrong count must not pull a whole file into memory
    while len(atoms) < count:
        portion = list(itertools.islice(lines, min(count - len(atoms), BLOCK)))
        if not portion:
            # a line of the next frame among them says more than the end of the file
            _rows(atoms, layout[1])
            raise InputError(
                f"{count} atoms are announced, but the file ends after {len(atoms)}; it is cut off"
            )
        if count > BLOCK:
            _rows(portion, layout[1])
        atoms += portion
    return _Raw(info, layout, atoms)


def _rows(lines, width):
    rows = [line.split() for line in lines]
    if rows and min(map(len, rows)) < width:
        short = next(k for k, row in enumerate(rows) if len(row) < width)
        raise InputError(
            f"atom {short} has too few columns ({len(rows[short])}, Properties asks for {width}); "
            "is the number of atoms right, and the file complete?"
        )
    return rows


def _frame(raw, numbers, arrays):
    info = raw.info
    cell = _cell(info.pop("Lattice", True))
    pbc = _pbc(info.pop("pbc", cell is not None))
    if not np.isfinite(arrays["positions"]).all():
        raise InputError(
            f"atom {np.isfinite(arrays['positions']).all(axis=1).argmin()}: a position is not a "
            "finite number"
        )
    if not numbers.all():
        info["n_vacancies"] = int((numbers == 0).sum())
        arrays, numbers = (
            {name: values[numbers != 0] for name, values in arrays.items()},
            numbers[numbers != 0],
        )
    results = {name: _numeric(name, arrays.pop(name)) for name in ATOM_LABELS if name in arrays}
    for name in LABELS:
        value = info.pop(name, None)
        if (
            value is not None
            and value is not True
            and not (isinstance(value, str) and value in ("None", "null"))
        ):
            results[name] = _stress(value) if name == "stress" else _numeric(name, value)
    return Frame(numbers, np.zeros((3, 3)) if cell is None else cell, pbc, arrays, info, results)


@functools.lru_cache(64)
def _layout(properties):
    """(ASE name, kind, first column, number of columns) of each property, and the number of columns
    of all.
    """
    fields, start, layout = properties.split(":"), 0, []
    for name, kind, columns in zip(fields[::3], fields[1::3], fields[2::3]):
        if (
            kind not in ("R", "I", "S", "L")
            or not columns.isdecimal()
            or not 1 <= int(columns[:6]) <= 9999
            or len(columns) > 4
        ):
            raise InputError(
                f"Properties: {_short(f'{name}:{kind}:{columns}')} is not name:type:columns with "
                "type R, I, S or L"
            )
        layout.append((ASE_NAMES.get(name, name), kind, start, int(columns)))
        start += int(columns)
    shapes = {name: (kind, columns) for name, kind, _, columns in layout}
    if (
        len(fields) % 3
        or len(shapes) < len(layout)
        or shapes.get("positions") not in (("R", 3), ("I", 3))
        or not (shapes.get("symbols") == ("S", 1) or shapes.get("numbers") == ("I", 1))
    ):
        raise InputError(
            f"Properties={_short(properties)} must be name:type:columns triples without repeats, "
            "with pos:R:3 and "
            "species:S:1; is the line complete?"
        )
    return tuple(layout), start


def _parsed_at_once(raws, layout, width):
    """(numbers, arrays) of many frames by pandas' C parser; None when it is not worth it, or not
    sure to mean what we mean.
    """
    ends = np.cumsum([len(raw.lines) for raw in raws])
    kinds = {name: kind for name, kind, _, _ in layout}
    if (
        ends[-1] < WORTH
        or kinds.pop("symbols", None) is None
        or not set(kinds.values()) <= {"R", "I"}
    ):
        return None
    import pandas as pd

    types = {
        k: {"R": float, "I": np.int64, "S": "category"}[kind]
        for _, kind, start, n in layout
        for k in range(start, start + n)
    }
    text = io.StringIO("".join(itertools.chain.from_iterable(raw.lines for raw in raws)))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            table = pd.read_csv(
                text,
                sep=r"\s+",
                header=None,
                names=range(width),
                index_col=False,
                dtype=types,
                engine="c",
                na_filter=False,
                quoting=csv.QUOTE_NONE,
                skip_blank_lines=False,
                low_memory=False,
            )
    # too few columns, not a number, ...: the slow way says where
    except (ValueError, OverflowError, Warning):
        return None
    if len(table) != ends[-1]:
        return None
    arrays = {}
    for name, kind, start, n in layout:
        if name == "symbols":
            elements = [
                atomic_numbers.get(str(s).capitalize()) for s in table[start].cat.categories
            ]
            if None in elements:
                return None
            numbers = np.array(elements, np.int64)[table[start].cat.codes]
            continue
        values = np.ascontiguousarray(table.iloc[:, start : start + n].to_numpy())
        if kind == "I" and (values != values.astype(np.int32)).any():
            return None
        values = (
            values.astype(np.int32)
            if kind == "I" and name != "positions"
            else values.astype(float, copy=False)
        )
        arrays[name] = values[:, 0] if n == 1 else values
    numbers = _numbers(None, arrays.pop("numbers")) if "numbers" in arrays else numbers
    return [
        (
            numbers[end - len(raw.lines) : end],
            {name: values[end - len(raw.lines) : end] for name, values in arrays.items()},
        )
        for raw, end in zip(raws, ends)
    ]


def _columns(rows, layout):
    """(numbers, arrays) of one frame."""
    columns = list(zip(*rows)) if rows else [()] * sum(entry[3] for entry in layout)
    arrays = {}
    try:
        for name, kind, start, width in layout:
            texts = columns[start : start + width]
            if kind == "R":
                values = np.array([list(map(float, column)) for column in texts])
            elif kind == "I":
                values = np.array([list(map(_whole, column)) for column in texts], np.int32)
            elif kind == "L":
                values = np.array([[FLAGS[text] for text in column] for column in texts], bool)
            else:
                values = np.empty((width, len(rows)), object)
                values[:] = texts
            arrays[name] = values[0] if width == 1 else np.ascontiguousarray(values.T)
    except (ValueError, OverflowError, KeyError):
        raise InputError(_wrong_cell(columns, layout)) from None
    arrays["positions"] = arrays["positions"].astype(float, copy=False)
    return _numbers(arrays.pop("symbols", None), arrays.pop("numbers", None)), arrays


def _whole(text):
    try:
        return int(text)
    except ValueError:
        if float(text).is_integer():  # 3.0, as some programs write
            return int(float(text))
        raise


def _wrong_cell(columns, layout):
    means = {
        "R": (float, "a number"),
        "I": (lambda text: np.int32(_whole(text)), "a whole number (32 bit)"),
        "L": (FLAGS.__getitem__, "T or F"),
    }
    for name, kind, start, width in layout:
        for column in columns[start : start + width] if kind in means else ():
            for atom, text in enumerate(column):
                try:
                    means[kind][0](text)
                except (ValueError, OverflowError, KeyError):
                    return f"atom {atom}: {name}: {_short(text)} is not {means[kind][1]}"
    return "a column cannot be read"


def _numbers(symbols, numbers):
    if numbers is None:
        numbers = list(map(atomic_numbers.get, symbols))
        if None in numbers:  # other upper and lower case, as ASE takes it
            numbers = [atomic_numbers.get(s.capitalize()) for s in symbols]
        if None in numbers:
            raise InputError(
                f"atom {numbers.index(None)}: {_short(symbols[numbers.index(None)])} is not an "
                "element"
            )
        return np.array(numbers, np.int64)
    numbers = numbers.astype(np.int64)
    wrong = (numbers < 0) | (numbers > 118)
    if wrong.any():
        raise InputError(
            f"atom {wrong.argmax()}: there is no element of atomic number {numbers[wrong.argmax()]}"
        )
    return numbers


def _cell(value):
    if value is True:  # no Lattice, or the bare word in a comment
        return None
    cell = np.ravel(value, order="F")  # ASE's parser gives 3x3, ours the nine numbers
    if cell.size != 9 or cell.dtype.kind not in "if" or not np.isfinite(cell).all():
        raise InputError(f"Lattice must be nine finite numbers, not {_short(value)}")
    return cell.reshape(3, 3).astype(float)


def _pbc(value):
    if value is True or value is False:
        return np.array((value, value, value))
    pbc = np.array(value)
    if pbc.dtype.kind not in "bi" or pbc.shape not in ((), (3,)):
        raise InputError(f"pbc must be three of T and F, not {_short(value)}")
    return np.broadcast_to(pbc.astype(bool), 3).copy()


def _stress(value):
    values = np.ravel(_numeric("stress", value), order="F")
    if values.size not in (6, 9):
        raise InputError(
            f"stress has {values.size} numbers; it must be nine, or six in the order xx yy zz yz "
            "xz xy"
        )
    return values if values.size == 6 else values[[0, 4, 8, 7, 6, 3]]


def _numeric(name, value):
    scalar = name in ("energy", "free_energy")
    if (
        isinstance(value, (str, bool, list, dict))
        or np.asarray(value).dtype.kind not in "if"
        or (scalar and np.ndim(value))
    ):
        raise InputError(f"{name}={_short(value)} is not {'a number' if scalar else 'numeric'}")
    return value


def _key_values(comment):
    """The comment line as a dict, with ASE's conventions."""
    pairs, end = {}, 0
    for match in iter(PAIR.scanner(comment).match, None):
        key, quoted, bare = match.groups()
        text = (
            bare
            if quoted is None
            else re.sub(r"\\(.)", r"\1", quoted)
            if "\\" in quoted
            else quoted
        )
        pairs[key], end = text, match.end()
    try:
        if end == len(comment):
            return {key: True if text is None else _value(key, text) for key, text in pairs.items()}
        # rare notations: nested brackets, single quotes, spaces around '='
        from ase.io.extxyz import key_val_str_to_dict

        return key_val_str_to_dict(comment)
    except InputError:
        raise
    except (
        ValueError,
        RecursionError,
        OverflowError,
        TypeError,
        IndexError,
        MemoryError,
    ) as reason:
        raise InputError(f"the comment line cannot be read ({reason})") from None


def _value(key, text):
    if key.lower() == "uid":
        return text
    value = json.loads(text[6:]) if text.startswith("_JSON ") else _plain_value(text)
    if text.startswith("_JSON "):
        try:
            array = np.array(value)
        except ValueError:  # ragged lists stay lists
            return value
        return array if array.dtype.kind in "ifb" else value
    if isinstance(value, np.ndarray):
        return (
            value.reshape((3, 3), order="F").copy()
            if key == "virial" and value.size == 9
            else value.copy()
        )
    return list(value) if isinstance(value, tuple) else value


# the same words, cells and small numbers come back in frame after frame
@functools.lru_cache(4096)
def _plain_value(text):
    parts = text.replace(",", " ").split()
    try:
        numbers = [int(part) for part in parts]
        values = np.array(numbers, np.int64)
    except (ValueError, OverflowError):
        try:
            values = np.array([float(part) for part in parts])
        except ValueError:
            if all(part in FLAGS for part in parts):
                return tuple(FLAGS[part] for part in parts) if len(parts) > 1 else FLAGS[parts[0]]
            return text
    return values[0] if len(parts) == 1 else values


def _short(text):
    text = str(text).strip()
    return repr(text if len(text) <= 40 else text[:37] + "...")
