"""What the readers of other codes' outputs share: whole lines, blocks of numbers, and frames of the
steps that are complete.
"""

import contextlib
import re
import sys
import warnings
from itertools import islice

import numpy as np
from ase.calculators.singlepoint import SinglePointCalculator

from mlipkit.files import InputError
from mlipkit.frames.readers.compressed import open_text, unlimited

# bytes of a line, and lines, of an output that is read as a whole
LINE, LINES = 100_000, 1_000_000


def whole_lines(path):
    """The lines of a text file without one that is cut off, whose last number may lack digits."""
    with open_text(path, line=LINE) as file:
        # equal lines are one string in memory: outputs repeat their titles, rules and blanks
        lines = [sys.intern(line) for line in islice(file, None if unlimited() else LINES + 1)]
    if len(lines) > LINES and not unlimited():
        raise InputError(
            f"{path}: holds more than {LINES:,} lines, which are all taken into memory; say "
            "read_frames(..., limit=None) if that is what you expect, or cut it into parts"
        )
    return lines if not lines or lines[-1].endswith("\n") else lines[:-1]


def segments(lines, starts):
    """Parts of the lines from each that a pattern matches to the next; what stands before the first
    belongs to it.
    """
    begins = [i for i, line in enumerate(lines) if re.search(starts, line)]
    return [
        lines[begin:end]
        for begin, end in zip([0, *begins[1:]], [*begins[1:], len(lines)])
        if begins
    ]


def numbers(line):
    """The words of a line that are numbers; blanks, commas, bars and brackets part words."""
    found = []
    for word in re.split(r"[\s|,()\[\]]+", line):
        with contextlib.suppress(ValueError):
            found.append(float(word))
    return found


def table(lines, title, n, pick, skip=0):
    """n rows of numbers below the last line that a pattern matches, or None when there is none.

    Parameters
    ----------
    lines : list of str
    title : str
    n : int
    pick : slice
        Which numbers of a row.
    skip : int
        Lines between the title and the first row.

    Raises
    ------
    ValueError
        When a row is missing or damaged.
    """
    titles = [i for i, line in enumerate(lines) if re.search(title, line)]
    if not titles:
        return None
    first = titles[-1] + 1 + skip
    rows = [numbers(line)[pick] for line in lines[first : first + n]]
    if len(rows) != n or len(set(map(len, rows))) != 1 or not rows[0]:
        raise ValueError(f"the {n} rows of {lines[titles[-1]].strip()!r} are not complete")
    return np.array(rows)


def last(pattern, lines):
    """The number in the group of the last line that a pattern matches, or None."""
    found = [match for line in lines if (match := re.search(pattern, line))]
    return float(found[-1][1]) if found else None


def whole_steps(path, parts, read):
    """What `read` makes of each part of a file; a last one that is cut off is left out and said."""
    steps = []
    for i, part in enumerate(parts):
        try:
            steps.append(read(part))
        except Exception as reason:
            if not steps or i < len(parts) - 1:
                raise
            warn(f"{path}: the last step ({i}) is cut off and was left out ({reason})")
    return steps


def frames_of(path, steps, hint=""):
    """Frames of the steps that have a structure, an energy, and forces where the others have them.

    Parameters
    ----------
    path : str or Path
    steps : list of (ase.Atoms or None, dict, bool or None)
        Structure, labels (None for what a step lacks), and whether the SCF converged, where known.
    hint : str
        Added to what is said of steps that are left out.

    Returns
    -------
    list of ase.Atoms

    Raises
    ------
    InputError
        When there is no such step, or a label is not finite.

    Warns
    -----
    UserWarning
        For steps left out.
    """
    frames, left_out = [], []
    for i, (atoms, labels, converged) in enumerate(steps):
        labels = {name: value for name, value in labels.items() if value is not None}
        if atoms is None or "energy" not in labels:
            left_out.append(i)
            continue
        for name, value in labels.items():
            if not np.isfinite(np.array(value, float)).all():
                raise InputError(f"{path}: step {i}: {name} holds what is not a finite number")
        atoms.info = {"step": i}
        if converged is not None:
            atoms.info["converged"] = converged
        atoms.calc = SinglePointCalculator(atoms, **labels)
        frames.append(atoms)
    # killed between the SCF and the forces
    if len(frames) > 1 and len({"forces" in a.calc.results for a in (frames[0], frames[-1])}) > 1:
        left_out.append(frames.pop().info["step"])
    if not frames:
        raise InputError(
            f"{path}: holds no complete step (structure and energy); was the run killed before "
            f"its first, or did its SCF not converge?{hint}"
        )
    if left_out:
        warn(
            f"{path}: {len(left_out)} step(s) lack structure, energy or forces and were left "
            f"out, the first is step {left_out[0]}; was the run killed, or did the SCF not "
            f"converge?{hint}"
        )
    return frames


def warn(text):
    warnings.warn(text, stacklevel=3)
