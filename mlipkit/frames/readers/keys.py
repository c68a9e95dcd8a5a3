"""Labels under the names that training sets give them: REF_energy, dft_forces, virials ..."""

import re
import warnings

import numpy as np

from mlipkit.arguments import shown
from mlipkit.files import InputError

# label: what it is made from
DIRECT = ("energy", "free_energy", "forces", "stress", "magmoms")
MADE_FROM = {"energy_per_atom": "energy", "virials": "stress"}
PER_ATOM = ("forces", "magmoms")
EXAMPLE = {"energy": "REF_energy", "forces": "REF_forces"}

_SPELLINGS = {"force": "forces", "virial": "virials", "magmom": "magmoms", "total_energy": "energy"}
# of several candidates the first; a model's outputs (MACE_energy) are no labels
_ORIGINS = ("ref", "dft", "vasp", "qe", "cp2k", "aims")
_GUESS = re.compile(
    rf"(?:(?P<before>{'|'.join(_ORIGINS)})_)?(?P<what>\w+?)(?:_(?P<after>{'|'.join(_ORIGINS)}))?"
)
# taken without an origin in their name as well, unless the label itself is there
_PLAIN = ("force", "virial", "virials", "energy_per_atom")


class LabelKeys:
    """Finds the labels of the frames of one file, and says at its end what was guessed.

    Parameters
    ----------
    keys : dict or None
        ``{label: name in the file}``; labels are those of `DIRECT`, ``energy_per_atom`` (eV) and
        ``virials`` (eV; stress = -virials / volume, as MACE has it). None: names are guessed.
    source : str
        What errors and warnings call the file.

    Raises
    ------
    InputError
        When `keys` is not such a dict.
    """

    def __init__(self, keys, source):
        known = (*DIRECT, *MADE_FROM)
        if keys is not None and not (
            isinstance(keys, dict)
            and keys
            and all(label in known and isinstance(name, str) for label, name in keys.items())
        ):
            raise InputError(
                f"keys must look like {EXAMPLE} (label: its name in the file) with labels among "
                f"{', '.join(known)}, not {shown(keys)}"
            )
        self.source, self.given, self.plans = source, keys, {}
        self.taken, self.left, self.missing, self.seen = {}, {}, set(keys or ()), set()

    def of_frame(self, frame):
        """A `mlipkit.frames.readers.extxyz.Frame` with its labels among its results."""
        self.take(frame.info, frame.arrays, frame.results, len(frame.numbers), frame.cell)
        return frame

    def of_atoms(self, atoms):
        """An `ase.Atoms` with its labels in its calculator."""
        from ase.calculators.singlepoint import SinglePointCalculator

        results = dict(getattr(atoms.calc, "results", {}))
        before = len(results)
        self.take(atoms.info, atoms.arrays, results, len(atoms), atoms.cell.array)
        if len(results) > before or self.given is not None:
            atoms.calc = SinglePointCalculator(atoms, **results)
        return atoms

    def take(self, info, arrays, results, n, cell):
        """Move labels from `info` and `arrays` (n rows) to `results`, in place; `cell` is 3 x 3."""
        layout = (*info, None, *arrays, None, *results)
        plan = self.plans.get(layout)
        if plan is None:
            plan = self.plans[layout] = self._plan(info, arrays, results)
        for label, name in plan:
            place = arrays if label in PER_ATOM else info
            try:
                value = _as_label(label, place[name], n, cell)
            except InputError as reason:
                if self.given is not None:
                    raise InputError(f"{name} cannot be taken for {label}: {reason}") from None
                self.left[name] = f"{name} is not {label} ({reason})"
                continue
            del place[name]
            results[MADE_FROM.get(label, label)] = value
            if self.given is None:
                self.taken[name] = label

    def _plan(self, info, arrays, results):
        """(Label, name) pairs for frames with these names."""
        if self.given is not None:
            self.seen.update(
                info, (name for name in arrays if name not in ("numbers", "positions"))
            )
            here = [
                (label, name)
                for label, name in self.given.items()
                if name in (arrays if label in PER_ATOM else info)
            ]
            self.missing -= {label for label, _ in here}
            return here
        found = {}
        for names, per_atom in ((info, False), (arrays, True)):
            for name in names:
                label, rank = _guessed(name, per_atom)
                if label is not None:
                    found.setdefault(MADE_FROM.get(label, label), []).append((rank, label, name))
        plan = []
        for label, candidates in found.items():
            candidates.sort()
            if label not in results:
                plan.append(candidates.pop(0)[1:])
            # a plain virial beside a stress says nothing new
            others = [name for rank, _, name in candidates if rank[0] < len(_ORIGINS)]
            known = plan[-1][1] if label not in results else label
            for name in others:
                self.left[name] = f"{name} is there beside {known} and was not taken"
        return plan

    def finish(self):
        """Say what was guessed, once.

        Raises
        ------
        InputError
            When a name that was given is in no frame.

        Warns
        -----
        UserWarning
            When labels were guessed, or there was more than one candidate.
        """
        if self.missing and self.plans:
            label = min(self.missing)
            raise InputError(
                f"{self.source}: no frame has {self.given[label]!r} (keys: {label}) as a "
                f"{'column per atom' if label in PER_ATOM else 'value of the frame'}; there are "
                f"{', '.join(sorted(map(str, self.seen))) or 'none'}"
            )
        told = []
        if self.taken:
            told.append(f"labels were taken from {', '.join(map(_told, self.taken.items()))}")
        told += list(self.left.values())
        if told:
            warnings.warn(
                f"{self.source}: {'; '.join(told)}; say keys={{...}} for others", stacklevel=4
            )


def _guessed(name, per_atom):
    """(Label, rank) that a name is likely to mean, or (None, None)."""
    match = _GUESS.fullmatch(name.lower().replace("-", "_")) if isinstance(name, str) else None
    if match is None:
        return None, None
    what, origin = match["what"], match["before"] or match["after"]
    label = _SPELLINGS.get(what, what)
    if (
        label not in (*DIRECT, *MADE_FROM)
        or per_atom != (label in PER_ATOM)
        or (origin is None and what not in _PLAIN)
    ):
        return None, None
    origin = len(_ORIGINS) if origin is None else _ORIGINS.index(origin)
    return label, (origin, label in MADE_FROM)


def _told(item):
    name, label = item
    note = {"virials": " (stress = -virials/volume)", "energy_per_atom": " (times atoms)"}
    return name + note.get(label, "")


def _as_label(label, value, n, cell):
    """The value as ASE keeps this label, or an InputError that says what is wrong with it."""
    array = np.asarray(value)
    if array.dtype.kind not in "if":
        raise InputError("it is not numeric")
    if label in PER_ATOM:
        if label == "magmoms" and array.shape == (n, 1):
            array = array[:, 0]
        if array.shape not in ((n, 3), (n,))[: 1 if label == "forces" else 2]:
            raise InputError(f"it is of shape {array.shape} for {n} atoms")
        return array.astype(float)
    if label in ("stress", "virials"):
        if array.size not in (6, 9):
            raise InputError(f"it has {array.size} numbers, not six or nine")
        if array.size == 9:
            array = array.reshape(3, 3)[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
        volume = abs(np.linalg.det(cell))
        if label == "virials" and not volume:
            raise InputError("a virial gives a stress only with a cell")
        return array.ravel() / (-volume if label == "virials" else 1.0)
    if array.size != 1:
        raise InputError(f"it is {array.size} numbers, not one")
    return float(array.ravel()[0]) * (n if label == "energy_per_atom" else 1)
