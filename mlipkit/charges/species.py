"""Charge-aware input: an oxidation state becomes a species of its own, marked by a proxy element.

Every architecture takes it without surgery: the model sees Ga where the crystal has Fe3+. People
never do: `from_proxies` restores the real elements.
"""

import functools
import math
import warnings

import numpy as np
from ase.data import atomic_numbers

from mlipkit import arguments
from mlipkit.files import InputError
from mlipkit.frames.labels import UNKNOWN, cell_charge, decode_proxies
from mlipkit.frames.taken import as_frame

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


def checked_proxies(proxies, what):
    """A proxy map, ``{(element, state): proxy element}``; a sentence for anything else."""
    for ion, proxy in arguments.mapping(proxies, what, PROXIES).items():
        whole = (
            isinstance(ion, tuple)
            and len(ion) in (2, 3)
            and isinstance(ion[0], str)
            and ion[0] in atomic_numbers
            and isinstance(ion[1], int | np.integer)
            and all(isinstance(spin, str) and spin not in ("", UNKNOWN) for spin in ion[2:])
        )
        if not whole or not isinstance(proxy, str) or proxy not in atomic_numbers:
            raise InputError(
                f"{what}: {ion!r}: {proxy!r} does not name an ion and the element that stands "
                f"for it; write it as {PROXIES}, with a spin state as "
                '("Co", 3, "low") if spins are to be told apart'
            )
    if len(set(proxies.values())) < len(proxies):
        raise InputError(
            f"{what}: every ion needs a proxy of its own, not {', '.join(proxies.values())}"
        )
    return proxies


def to_proxies(atoms, proxies=None):
    """Atomic numbers as a charge-aware model sees them.

    Parameters
    ----------
    atoms : ase.Atoms
        With ``arrays["oxi_states"]``; for a map that tells spins apart also with
        ``arrays["spin_states"]``, texts such as ``"high"`` and ``"low"`` (`OxidationStates.spins`).
    proxies : dict, optional
        ``{(element, oxidation state): proxy element}``, by default ``{("Fe", 3): "Ga"}``. An ion of
        one spin state is a species of its own as ``("Co", 3, "low")``.

    Returns
    -------
    numpy.ndarray of int, shape (n_atoms,)

    Raises
    ------
    InputError
        When oxidation or spin states are missing, not known (0) or no whole numbers, when two
        states of an element would look the same to the model, or when the proxy is itself an
        element of the crystal.
    """
    atoms = as_frame(atoms, "to_proxies")
    proxies = PROXIES if proxies is None else checked_proxies(proxies, "to_proxies: proxies")
    what = atoms.get_chemical_formula()
    if "oxi_states" not in atoms.arrays:
        raise InputError(
            f"{what}: a charge-aware model needs atoms.arrays['oxi_states']; "
            "set them by hand, or take them from infer_oxidation_states(atoms).states"
        )
    states, spins = atoms.arrays["oxi_states"], spins_of(atoms)
    if len(part := np.flatnonzero(states != np.round(states))):  # NaN, too
        raise InputError(
            f"{what}: the oxidation state of atom {part[0]} ({atoms.symbols[part[0]]}) is "
            f"{states[part[0]]:g}; a charge-aware model knows ions with whole charges"
        )
    for ion, proxy in proxies.items():
        if atomic_numbers[proxy] in atoms.numbers:
            raise InputError(f"{proxy} cannot stand for {named(ion)}: {what} holds {proxy} itself")
    split = {ion[:2] for ion in proxies if len(ion) == 3}  # ions that the map tells apart by spin
    numbers = marked(atoms.numbers, states, proxies, spins)
    for element in {ion[0] for ion in proxies}:
        plain = np.flatnonzero(numbers == atomic_numbers[element])  # what no proxy stands for
        if (states[plain] == 0).any():
            raise InputError(
                f"{what}: the oxidation state of atom {plain[states[plain] == 0][0]} ({element}) "
                "is not known (0); set it in atoms.arrays['oxi_states'], or take all from "
                "infer_oxidation_states(atoms).states"
            )
        ions = [(element, int(states[i])) for i in plain]
        ions = [(*ion, spins[i]) if ion in split else ion for ion, i in zip(ions, plain)]
        if unknown := [i for ion, i in zip(ions, plain) if ion[2:] == (UNKNOWN,)]:
            raise InputError(
                f"{what}: the spin state of atom {unknown[0]} ({element}{states[unknown[0]]:g}+) "
                "is not known, and this model tells spins apart; set atoms.arrays['spin_states'], "
                "such as infer_oxidation_states(atoms).spins"
            )
        if len(there := sorted(set(ions))) > 1:
            known = ", ".join(named(ion) for ion in proxies if ion[0] == element)
            raise InputError(
                f"{what}: {' and '.join(map(named, there))} would look the same to this "
                f"model, which knows {known} and one other state of {element}"
            )
    return numbers


def named(ion):
    """An ion for people: Co3+, or Co3+ (low spin)."""
    element, state, *spin = ion
    return f"{element}{state}+" + "".join(f" ({s} spin)" for s in spin)


def spins_of(atoms):
    """Spin states of all atoms; what is not known is `UNKNOWN`."""
    given = atoms.arrays.get("spin_states")
    if given is None:
        return np.full(len(atoms), UNKNOWN, dtype=object)
    return np.array([str(s) or UNKNOWN for s in given], dtype=object)


def marked(numbers, states, proxies, spins=None):
    """Atomic numbers with proxies in the place of their ions; `states` of shape (n_atoms,) or (n,
    n_atoms), a row per assignment; `spins` of shape (n_atoms,), as `spins_of` gives them.
    """
    result = np.array(np.broadcast_to(numbers, np.shape(states)))
    # an ion of one spin after the ion of any spin
    for (element, state, *spin), proxy in sorted(proxies.items(), key=lambda item: len(item[0])):
        here = (numbers == atomic_numbers[element]) & (states == state)
        if spin:
            here = here & (np.asarray(spins) == spin[0])
        result[here] = atomic_numbers[proxy]
    return result


def absent(frames, proxies):
    """Ions that no frame holds, of those that are a species of their own."""

    def holds(atoms, ion):
        if "oxi_states" not in atoms.arrays:
            return False
        states, one = atoms.arrays["oxi_states"], {ion: proxies[ion]}
        return (marked(atoms.numbers, states, one, spins_of(atoms)) != atoms.numbers).any()

    return [ion for ion in proxies if not any(holds(atoms, ion) for atoms in frames)]


def imbalance(atoms):
    """By how much oxidation states, all of them known, miss the charge of the cell,
    ``info["charge"]`` or 0; 0 where one is not known.
    """
    states = np.asarray(atoms.arrays["oxi_states"])
    charge = cell_charge(atoms, atoms.get_chemical_formula())
    return states.sum() - charge if (states != 0).all() else 0


def warn_unbalanced(atoms):
    """Warn when oxidation states, all of them known, do not sum to the charge of the cell,
    ``info["charge"]`` or 0.
    """
    if off := imbalance(atoms):
        charge = cell_charge(atoms, atoms.get_chemical_formula())
        warnings.warn(
            f"{atoms.get_chemical_formula()}: the oxidation states sum to {charge + off:+g}, not "
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
        proxy names and keeps what was there for the others (0 where nothing was known); likewise
        ``arrays["spin_states"]``, where the map names spins ("-" where nothing was known).
    """
    atoms = as_frame(atoms, "from_proxies")
    proxies = PROXIES if proxies is None else checked_proxies(proxies, "from_proxies: proxies")
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
