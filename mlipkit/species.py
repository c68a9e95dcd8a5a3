"""Charge-aware input: an oxidation state becomes a species of its own, marked by a proxy element.

Every architecture takes it without surgery: the model sees Ga where the crystal has Fe3+. People never do:
`from_proxies` restores the real elements.
"""
from ase.data import atomic_numbers

from mlipkit.files import InputError
from mlipkit.frames import decode_proxies

PROXIES = {("Fe", 3): "Ga"}     # as in the published record (doi 10.11583/DTU.31812499); others use Rh or Tc


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
        When oxidation states are missing, or the proxy is itself an element of the crystal.
    """
    proxies = PROXIES if proxies is None else proxies
    numbers = atoms.numbers.copy()
    if "oxi_states" not in atoms.arrays:
        raise InputError(f"{atoms.get_chemical_formula()}: a charge-aware model needs atoms.arrays['oxi_states']; "
                         "set them by hand, or take them from infer_oxidation_states(atoms).states")
    states = atoms.arrays["oxi_states"]
    for (element, state), proxy in proxies.items():
        if atomic_numbers[proxy] in atoms.numbers:
            raise InputError(f"{proxy} cannot stand for {element}{state}+: {atoms.get_chemical_formula()} holds {proxy} itself")
        numbers[(atoms.numbers == atomic_numbers[element]) & (states == state)] = atomic_numbers[proxy]
    return numbers


def from_proxies(atoms, proxies=None):
    """The inverse of `to_proxies`, for files written with proxy elements.

    Returns
    -------
    ase.Atoms
        A copy with real elements; ``arrays["oxi_states"]`` holds the state of each atom that a proxy names and keeps what
        was there for the others (0 where nothing was known).
    """
    proxies = PROXIES if proxies is None else proxies
    return decode_proxies(atoms, {proxy: ion for ion, proxy in proxies.items()})
