"""Kinds of answers. Each takes an exercise and an answer, and gives None where it is right, else a
sentence that helps and does not hold the answer.
"""

import numbers
import re
from collections.abc import Mapping, Set

import numpy as np
from ase import Atoms

from mlipkit.arguments import shown
from mlipkit.charges.compounds import compound_of
from mlipkit.charges.oxidation import infer_oxidation_states
from mlipkit.files import InputError
from mlipkit.orderings.names import arrangement, ordering_label

LARGEST = 1e100  # numbers are compared as floats

# a factor between an answer and the right one that has a name: what is said of it
SLIPS = {
    "sign": "the size is right, the sign is not",
    "eV": "that looks like eV; it is asked for in {unit}",
    "eV_cell": "that looks like eV of the whole cell; it is asked for in {unit}",
    "cell": "that looks like the value of the whole cell; it is asked for in {unit}",
    "atom": "that looks like the value per atom; it is asked for in {unit}",
    "percent": "that looks like percent; it is asked for as {unit}",
    "V": "that looks like V; it is asked for in {unit}",
    "mV": "that looks like mV; it is asked for in {unit}",
    "half": "that is about half of what is asked for: is a factor of 2 left out?",
    "double": "that is about twice what is asked for: is a factor of 1/2 left out?",
}


def unanswered(answer):
    """Whether an answer, or every part of it, is still ``...`` or None."""
    if answer is None or answer is ...:
        return True
    if isinstance(answer, Mapping):
        return bool(answer) and all(part is None or part is ... for part in answer.values())
    if isinstance(answer, (list, tuple, Set)):
        return bool(answer) and all(part is None or part is ... for part in answer)
    return False


def _plain(value):
    """A number or text of NumPy, or a table of one, as that of Python."""
    dimensions, shape = getattr(value, "ndim", None), getattr(value, "shape", None)
    single = dimensions == 0 or (dimensions == 1 and shape[0] == 1)
    return value.item() if single and hasattr(value, "item") else value


def _is_number(value):
    real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    return real and -LARGEST < value < LARGEST  # neither NaN nor infinite either


def _asks(what, answer):
    return f"the answer is {what}, not {shown(_plain(answer))}"


def _tolerance(check, right):
    return max(check.get("tolerance", 1e-9), check.get("relative", 0) * abs(right))


def _slip(check, value, right):
    """The slip that has been made with a number, in words, or None."""
    if abs(right) <= 2 * _tolerance(check, right):
        return None  # any small number is some multiple of nothing
    for slip, factor in check.get("slips", {}).items():
        if abs(value - factor * right) <= abs(factor) * _tolerance(check, right):
            return SLIPS[slip].format(unit=check["unit"])
    return None


def _size(check, value, right):
    """Whether a number is too large or too small, or None where it is right."""
    if abs(value - right) <= _tolerance(check, right):
        return None
    size = "much " if abs(value - right) > 0.5 * abs(right) else ""
    return f"{size}too {'large' if value > right else 'small'}"


def _mistaken(exercise, same):
    """What the source has to say of a certain wrong answer, where `same` tells that it is one."""
    for mistake in exercise.check.get("mistakes", []):
        value = exercise.evaluate(
            f"mistake = {mistake['is']}", "mistake", expected=exercise.expected
        )
        if same(value):
            return mistake["say"]
    return None


def number(exercise, answer):
    """One number."""
    check, right, value = exercise.check, exercise.expected, _plain(answer)
    if not _is_number(value):
        return _asks(f"one number ({check['unit']})", answer)
    size = _size(check, value, right)
    if size is None:
        return None
    mistaken = lambda: _mistaken(exercise, lambda w: _size(check, value, w) is None)
    return _slip(check, value, right) or mistaken() or size


def choice(exercise, answer):
    """One of the words of ``options``, each with what is said of it."""
    options, value = exercise.check["options"], _plain(answer)
    if not isinstance(value, str):
        return _asks(f"one of the words {', '.join(map(repr, options))}", answer)
    given = value.strip().lower()
    if given == exercise.expected.lower():
        return None
    said = {option.lower(): say for option, say in options.items()}
    return said.get(given) or f"{shown(value)} is none of {', '.join(map(repr, options))}"


def _structure(name, host):
    """The host decorated as a name says; `InputError` where it says nothing of this host."""
    head, *parts = name.strip().lower().split("_")
    if not parts or not re.fullmatch(r"x\d{3}", head):
        raise InputError("it does not begin with x and three digits")
    compound, kept = compound_of([host]), np.ones(len(host), bool)
    atoms = host.copy()
    states = atoms.arrays["oxi_states"]
    for part in parts:
        found = re.fullmatch(r"([a-z]{1,2})(-|[0-9a-z]+)", part)
        element = found[1].capitalize() if found else part
        at = np.flatnonzero(host.symbols == element) if found else []
        sites = [int(c, 36) for c in found[2] if c != "-"] if found else []
        if element not in (compound.mobile, *compound.redox) or any(n >= len(at) for n in sites):
            raise InputError(f"there is no {part}")
        if element == compound.mobile:
            kept[np.delete(at, sites)] = False
        else:
            states[at], states[at[sites]] = 2, 3
    if states[kept].sum() != host.arrays["oxi_states"].sum():
        raise InputError("its charges do not balance")
    return atoms[kept]


def _named(exercise, given):
    """The name of an ordering, given by a name that symmetry allows or by a structure.

    Raises
    ------
    InputError
        When it is none.
    """
    text = isinstance(given, str)
    atoms = _structure(given, exercise.host) if text else given.copy()
    if "oxi_states" not in atoms.arrays:
        atoms.set_array("oxi_states", infer_oxidation_states(given).states)
    name = ordering_label(atoms, exercise.host)
    if text and name.split("_")[0] != given.strip().lower().split("_")[0]:
        raise InputError("x and the sites of the mobile ion disagree")
    return name


ORDERING = (
    "the name of a charge ordering as in the tables (x in percent, sites of the mobile ion, sites "
    "of the metal ions of higher charge), or such a structure"
)


def ordering(exercise, answer):
    """The name of an ordering, up to symmetry, or a structure that has it."""
    given = answer if isinstance(answer, Atoms) else _plain(answer)
    if not isinstance(given, (str, Atoms)):
        return _asks(ORDERING, answer)
    try:
        name = _named(exercise, given)
    except InputError as error:
        return f"{shown(answer)} is no ordering of this crystal ({error}); the answer is {ORDERING}"
    right = _named(exercise, exercise.expected)
    if name == right:
        other = exercise.check.get("listed") and given != name
        if other and isinstance(given, Atoms):
            return "the right ordering; give its name, as a text"
        return "the same ordering, by another name than that in the list" if other else None
    if said := _mistaken(exercise, lambda wrong: _named(exercise, wrong) == name):
        return said
    if name.split("_")[0] != right.split("_")[0]:
        return "another composition: there is more, or less, of the mobile ion in the right one"
    if arrangement(name) != arrangement(right):
        return "the composition is right, the arrangement of the mobile ions is not"
    return "composition and mobile ions are right, the charges lie on other sites"


def several(exercise, answer):
    """A set, in any order, of what is in ``known``."""
    check = exercise.check
    given = answer.tolist() if hasattr(answer, "tolist") else answer
    plural = isinstance(given, (list, tuple, Set))  # the keys of a dict are a Set
    given = [_plain(part) for part in given] if plural else [answer]
    if not plural or not all(isinstance(part, (str, numbers.Real)) for part in given):
        return _asks(f"a set of {check['of']}, such as {{..., ...}}", answer)
    if given and all(isinstance(part, bool) for part in given):
        return (
            "that is a mask, one True or False for each; np.flatnonzero(mask) says which are True"
        )
    known = exercise.evaluate(check["known"], "known")
    spelled = {part.lower(): part for part in known if isinstance(part, str)}
    small = lambda part: part.strip().lower() if isinstance(part, str) else part
    given, right = {spelled.get(small(part), part) for part in given}, set(exercise.expected)
    if strange := [part for part in given if part not in known]:
        among = ", ".join(map(str, known)) if len(known) < 12 else f"{known[0]} to {known[-1]}"
        return f"{shown(strange[0])} is none of {among}; the answer is a set of {check['of']}"
    if given == right:
        return None
    if said := _mistaken(exercise, lambda wrong: set(wrong) == given):
        return said
    extra, missing = len(given - right), bool(right - given)
    parts = [f"{extra} of your {len(given)} do{'es' * (extra == 1)} not belong there"] * bool(extra)
    return " and ".join(parts + ["something is missing"] * missing)


def table(exercise, answer):
    """Numbers with names: a dict, or a Series."""
    check, right = exercise.check, exercise.expected
    given = answer.squeeze() if getattr(answer, "ndim", None) == 2 else answer
    given = given.to_dict() if hasattr(given, "to_dict") else given
    rows = ", ".join(f"{key!r}: ..." for key in right)
    if not isinstance(given, Mapping) or not all(key in given for key in right):
        return _asks(f"a dict, {{{rows}}}, of numbers ({check['unit']})", answer)
    if missing := [key for key in right if given[key] is None or given[key] is ...]:
        return f"not answered yet: {', '.join(map(str, missing))}"
    values = {key: _plain(given[key]) for key in right}
    if wrong := [key for key, value in values.items() if not _is_number(value)]:
        return f"{wrong[0]}: " + _asks(f"one number ({check['unit']})", values[wrong[0]])
    sizes = {key: _size(check, values[key], right[key]) for key in right}
    off = [key for key in right if sizes[key]]
    if not off:
        return None
    swapped = dict(zip(right, reversed(right.values())))
    if len(right) == 2 and all(_size(check, values[key], swapped[key]) is None for key in right):
        return "the numbers are right, but the other way round"
    slips = {key: _slip(check, values[key], right[key]) for key in off}
    same = lambda wrong: all(_size(check, values[key], wrong[key]) is None for key in right)
    if not any(slips.values()) and (said := _mistaken(exercise, same)):
        return said
    return "; ".join(f"{key}: {slips.get(key) or sizes[key] or 'right'}" for key in right)


KINDS = {
    "number": number,
    "choice": choice,
    "ordering": ordering,
    "several": several,
    "table": table,
}
