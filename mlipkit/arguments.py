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
    text = repr(value)
    return text if len(text) < 60 and " object at 0x" not in text else f"a {type(value).__name__}"


def number(value, what, least=None, above=None, most=None, whole=False, none=False):
    """A finite number within bounds.

    Parameters
    ----------
    value
    what : str
        Such as ``"relax: fmax"``.
    least, above, most : float, optional
        Bounds; `above` is not allowed itself.
    whole : bool
        Only whole numbers.
    none : bool
        None is allowed too.

    Raises
    ------
    InputError
    """
    if value is None and none:
        return None
    kind = numbers.Integral if whole else numbers.Real
    good = isinstance(value, kind) and not isinstance(value, bool) and math.isfinite(value)
    good = good and (least is None or value >= least) and (above is None or value > above)
    if good and (most is None or value <= most):
        return value
    bounds = [
        f"{word} {bound:g}"
        for word, bound in (("of at least", least), ("above", above), ("up to", most))
        if bound is not None
    ]
    kind = "whole number" if whole else "number"
    ends = ", or None" if none else ""
    raise InputError(
        f"{what} is a {kind} {' and '.join(bounds)}".rstrip() + f"{ends}, not {shown(value)}"
    )


def text(value, what, known=None):
    """A text, one of those `known` where there are such."""
    if isinstance(value, str) and (known is None or value in known):
        return value
    choice = f"one of {', '.join(map(repr, known))}" if known is not None else "a text"
    raise InputError(f"{what} is {choice}, not {shown(value)}")


def file_path(value, what):
    """A path, of a text or a path."""
    if isinstance(value, (str, os.PathLike)) and str(value):
        return Path(value)
    raise InputError(f"{what} is a path, such as 'runs/OUTCAR', not {shown(value)}")


def folder_path(value, what):
    """A folder that is there or can be made."""
    if isinstance(value, (str, os.PathLike)) and str(value):
        path = Path(value)
        in_the_way = next((p for p in (path, *path.parents) if p.exists()), path)
        if not in_the_way.is_dir() and in_the_way.exists():
            raise InputError(f"{what} is a folder, and {str(in_the_way)!r} is a file")
        return path
    raise InputError(f"{what} is a folder, such as 'campaign', not {shown(value)}")


def values(given, what, n=None):
    """Finite numbers in a list, `n` of them, as an array."""
    import numpy as np

    try:
        array = np.asarray(given, float)
    except (TypeError, ValueError):
        array = None
    if array is None or array.ndim != 1:
        raise InputError(f"{what} are numbers in a list, not {shown(given)}")
    if n is not None and len(array) != n:
        raise InputError(f"{what}: {n} are needed, and there are {len(array)}")
    if not np.isfinite(array).all():
        i = int(np.argmin(np.isfinite(array)))
        raise InputError(f"{what}: number {i} is not finite ({array[i]})")
    return array


def table(given, what, columns=()):
    """A pandas table with some columns."""
    if not hasattr(given, "columns") or not hasattr(given, "iterrows"):
        raise InputError(f"{what} is a pandas table, not {shown(given)}")
    have = {*map(str, given.columns), *map(str, given.index.names)}
    if missing := [column for column in columns if column not in have]:
        raise InputError(f"{what}: the table has no column {', '.join(missing)}")
    return given


def mapping(given, what, example):
    """A dict."""
    if isinstance(given, dict):
        return given
    raise InputError(f"{what} is a dict, such as {example}, not {shown(given)}")
