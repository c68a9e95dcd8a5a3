"""Charge-aware input: an oxidation state becomes a species of its own, marked by a proxy element.

Every architecture takes it without surgery: the model sees Ga where the crystal has Fe3+. People
never do: `from_proxies` restores the real elements.
"""

import functools
import math
import warnings

import numpy as np
from ase.data import atomic_numbers

from mlipkit.files import InputError
from mlipkit.frames.labels import decode_proxies

# as in the published record (doi 10.11583/DTU.31812499); others use Rh or Tc
PROXIES = {("Fe", 3): "Ga"}


# Ions of one valence that may stand for another ion of the same charge
STAND_INS = {
    1: ("Ag", "Tl", "Rb", "Cs"),
    2: ("Zn", "Mg", "Cd", "Ca", "Sr", "Ba"),
    3: ("Ga", "Al", "Sc", "In", "Y", "La"),
    4: ("Ge", "Ti", "Sn", "Hf", "Zr"),
    5: ("Sb", "Nb", "Ta"),
    6: ("Te", "W", "Mo"),
}


def to_proxies(atoms, proxies=None):
    """Atomic numbers as a charge-aware model sees them.

    Parameters
    ----------
    atoms : ase.Atoms
        With ``arrays["oxi_states"]``.
    proxies : dict, optional
        ``{(element, oxidation state): proxy element}``, by default ``{("Fe", 3): "Ga"}``.

    Returns
    -------
    numpy.ndarray of int, shape (n_atoms,)

    Raises
    ------
    InputError
        When oxidation states are missing, not known (0) or no whole numbers, when two states of an
        element would look the same to the model, or when the proxy is itself an element of the
        crystal.
    """
    proxies = PROXIES if proxies is None else proxies
    if "oxi_states" not in atoms.arrays:
        raise InputError(
            f"{atoms.get_chemical_formula()}: a charge-aware model needs "
            "atoms.arrays['oxi_states']; "
            "set them by hand, or take them from infer_oxidation_states(atoms).states"
        )
    states = atoms.arrays["oxi_states"]
    if len(part := np.flatnonzero(states != np.round(states))):  # NaN, too
        raise InputError(
            f"{atoms.get_chemical_formula()}: the oxidation state of atom {part[0]} "
            f"({atoms.symbols[part[0]]}) is "
            f"{states[part[0]]:g}; a charge-aware model knows ions with whole charges"
        )
    for (element, state), proxy in proxies.items():
        if atomic_numbers[proxy] in atoms.numbers:
            raise InputError(
                f"{proxy} cannot stand for {element}{state}+: {atoms.get_chemical_formula()} "
                f"holds {proxy} itself"
            )
    numbers = marked(atoms.numbers, states, proxies)
    for element in {element for element, _ in proxies}:
        plain = np.flatnonzero(numbers == atomic_numbers[element])  # what no proxy stands for
        if (states[plain] == 0).any():
            raise InputError(
                f"{atoms.get_chemical_formula()}: the oxidation state of atom "
                f"{plain[states[plain] == 0][0]} ({element}) is "
                "not known (0); set it in atoms.arrays['oxi_states'], or take all from "
                "infer_oxidation_states(atoms).states"
            )
        if len(there := sorted(set(states[plain].tolist()))) > 1:
            known = ", ".join(f"{e}{q}+" for e, q in proxies if e == element)
            raise InputError(
                f"{atoms.get_chemical_formula()}: {' and '.join(f'{element}{q}+' for q in there)} "
                "would look the same to this "
                f"model, which knows {known} and one other state of {element}"
            )
    return numbers


def marked(numbers, states, proxies):
    """Atomic numbers with proxies in the place of their ions; `states` of shape (n_atoms,) or (n,
    n_atoms), a row per assignment.
    """
    result = np.array(np.broadcast_to(numbers, np.shape(states)))
    for (element, state), proxy in proxies.items():
        result[(numbers == atomic_numbers[element]) & (states == state)] = atomic_numbers[proxy]
    return result


def warn_unbalanced(atoms):
    """Warn when oxidation states, all of them known, do not sum to the charge of the cell,
    ``info["charge"]`` or 0.
    """
    states, charge = np.asarray(atoms.arrays["oxi_states"]), atoms.info.get("charge", 0)
    if (states != 0).all() and states.sum() != charge:
        warnings.warn(
            f"{atoms.get_chemical_formula()}: the oxidation states sum to {states.sum():+g}, not "
            f"to {charge:+g}, the charge of "
            "the cell; infer_oxidation_states(atoms).states are balanced",
            stacklevel=4,
        )


def from_proxies(atoms, proxies=None):
    """The inverse of `to_proxies`, for files written with proxy elements.

    Returns
    -------
    ase.Atoms
        A copy with real elements; ``arrays["oxi_states"]`` holds the state of each atom that a
        proxy names and keeps what was there for the others (0 where nothing was known).
    """
    proxies = PROXIES if proxies is None else proxies
    return decode_proxies(atoms, {proxy: ion for ion, proxy in proxies.items()})


def choose_proxies(redox, elements):
    """A proxy map for a compound: every state of a metal but its lowest gets a stand-in.

    Of the ions of one valence (`STAND_INS`) with the charge of the state, of which the frames hold
    none, the one of the nearest radius: Shannon, Acta Cryst. A 32, 751 (1976), octahedral and high
    spin where known, by pymatgen.

    Parameters
    ----------
    redox : dict
        ``{element: states}``.
    elements : iterable of str
        Of the frames; none of them may be a proxy.

    Returns
    -------
    dict
        ``{(element, state): proxy}``.

    Raises
    ------
    InputError
        When no element is left for an ion.
    """
    taken, proxies = {*elements, *redox}, {}
    for element, states in redox.items():
        for state in states[1:]:
            free = [e for e in STAND_INS.get(state, ()) if e not in taken]
            if not free:
                raise InputError(
                    f"no element is left to stand for {element}{state}+: give proxies="
                    f"{{({element!r}, {state}): ...}}, an element that the frames do not hold"
                )
            radius = shannon_radius(element, state)
            distance = {e: abs(shannon_radius(e, state) - radius) for e in free}
            proxies[element, state] = min(free, key=distance.get)
            taken.add(proxies[element, state])
    return proxies


@functools.cache
def shannon_radius(element, state):
    """Radius of an ion, Å: octahedral, high spin where there are two; NaN where it is not known."""
    from pymatgen.core import Species

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # another spin or coordination than asked for
        for coordination in ("VI", "IV", "VIII"):
            for spin in ("High Spin", "", "Low Spin"):
                try:
                    return Species(element, state).get_shannon_radius(coordination, spin)
                except KeyError:
                    continue
    return math.nan
