"""Checks of what a person hands to a function: each gives it back, or says in one sentence what is
taken, what came, and, where it helps, how to write it.
"""

import math
import numbers
import os
from pathlib import Path

from mlipkit.files import InputError


def shown(value):
    """A value as a sentence can hold it."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    text, name = repr(value), type(value).__name__
    if len(text) < 60 and " object at 0x" not in text and "\n" not in text:
        return text
    return f"{'an' if name[0] in 'AEIOUaeiou' else 'a'} {name}"


def _plain(value):
    """One of NumPy's numbers as one of Python's."""
    single = getattr(value, "ndim", None) == 0 and hasattr(value, "item")
    return value.item() if single else value


def _is_path(value):
    return isinstance(value, (str, os.PathLike)) and str(value) and "\0" not in str(value)


def number(value, what, least=None, above=None, most=None, below=None, whole=False, none=False):
    """A finite number within bounds; one of NumPy's as one of Python's.

    Parameters
    ----------
    value
    what : str
        Such as ``"relax: fmax"``.
    least, above, most, below : float, optional
        Bounds; `above` and `below` are not allowed themselves.
    whole : bool
        Only whole numbers; 3.0 is one.
    none : bool
        None is allowed too.

    Raises
    ------
    InputError
    """
    if value is None and none:
        return None
    value = _plain(value)
    good = isinstance(value, numbers.Real) and not isinstance(value, bool)
    good = good and (isinstance(value, numbers.Integral) or math.isfinite(value))
    if good and whole:
        good, value = value == int(value), int(value) if value == int(value) else value
    good = good and (least is None or value >= least) and (above is None or value > above)
    if good and (most is None or value <= most) and (below is None or value < below):
        return value
    bounds = [
        f"{word} {bound:g}"
        for word, bound in (
            ("of at least", least),
            ("above", above),
            ("up to", most),
            ("below", below),
        )
        if bound is not None
    ]
    kind = "whole number" if whole else "number"
    ends = ", or None" if none else ""
    raise InputError(
        f"{what} is a {kind} {' and '.join(bounds)}".rstrip() + f"{ends}, not {shown(value)}"
    )


def flag(value, what, none=False):
    """True or False, and nothing else that Python would take for one of them."""
    if value is None and none:
        return None
    value = _plain(value)
    if isinstance(value, numbers.Real) and value in (0, 1):
        return bool(value)
    raise InputError(f"{what} is True or False{', or None' * none}, not {shown(value)}")


def text(value, what, known=None):
    """A text, one of those `known` where there are such."""
    if isinstance(value, str) and (value if known is None else value in known):
        return value
    choice = f"one of {', '.join(map(repr, known))}" if known is not None else "a text"
    raise InputError(f"{what} is {choice}, not {shown(value)}")


def file_path(value, what, new=False):
    """A path, of a text or a path; of a `new` file one where a file can be written."""
    if not _is_path(value):
        example = "frames.extxyz" if new else "runs/OUTCAR"
        raise InputError(f"{what} is a path, such as '{example}', not {shown(value)}")
    path = Path(value)
    if new and path.is_dir():
        raise InputError(f"{what} is a file to write, and {str(path)!r} is a folder")
    if new and not path.parent.is_dir():
        raise InputError(f"{what}: there is no folder {str(path.parent)!r} to write it into")
    return path


def folder_path(value, what, none=False):
    """A folder that is there or can be made."""
    if value is None and none:
        return None
    if not _is_path(value):
        raise InputError(f"{what} is a folder, such as 'campaign', not {shown(value)}")
    path = Path(value)
    in_the_way = next((p for p in (path, *path.parents) if p.exists()), path)
    if not in_the_way.is_dir() and in_the_way.exists():
        raise InputError(f"{what} is a folder, and {str(in_the_way)!r} is a file; give a folder")
    return path


def entries(given, what, example, n=None):
    """What is in a list, a tuple, an array, a column of a table, ..., as a list, `n` of them.

    Parameters
    ----------
    given
    what, example : str
        Such as ``"charge_entropy: arrangements"`` and ``"['a', 'b']"``.
    n : int, optional

    Raises
    ------
    InputError
        For a text, a dict and what is no list.
    """
    single = isinstance(given, (str, bytes, dict, type)) or getattr(given, "ndim", 1) == 0
    if single or not hasattr(given, "__iter__"):
        raise InputError(f"{what} is a list, such as {example}, not {shown(given)}")
    found = list(given)
    if n is not None and len(found) != n:
        raise InputError(f"{what}: {n} are needed, and there are {len(found)}")
    return found


def values(given, what, n=None, finite=True):
    """Numbers in a list, `n` of them, as an array; NaN among them only where they need not be
    `finite`.
    """
    import numpy as np

    try:
        array = np.asarray(given, float)
    except (TypeError, ValueError):
        array = None
    if array is None or array.ndim != 1:
        raise InputError(f"{what} is a list of numbers, such as [0.1, 0.2], not {shown(given)}")
    if n is not None and len(array) != n:
        raise InputError(f"{what}: {n} numbers are needed, and there are {len(array)}")
    if finite and not np.isfinite(array).all():
        i = int(np.argmin(np.isfinite(array)))
        raise InputError(f"{what}: number {i} is not finite ({array[i]})")
    return array


def table(given, what, columns, made_by):
    """A pandas table with some columns.

    Parameters
    ----------
    given
    what : str
    columns : iterable of str
        In the table or in its index.
    made_by : str
        The call that makes such a table.

    Raises
    ------
    InputError
    """
    if not hasattr(given, "columns") or not hasattr(given, "iterrows"):
        raise InputError(f"{what} is the table that {made_by} makes, not {shown(given)}")
    have = {*map(str, given.columns), *map(str, given.index.names)}
    if missing := [column for column in columns if column not in have]:
        raise InputError(
            f"{what} is the table that {made_by} makes; this one has no column {', '.join(missing)}"
        )
    return given


def mapping(given, what, example):
    """A dict."""
    if isinstance(given, dict):
        return given
    raise InputError(f"{what} is a dict, such as {example}, not {shown(given)}")
