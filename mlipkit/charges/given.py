"""Oxidation states of frames on which some are known already, as where proxies named a part."""

import numpy as np

from mlipkit.charges.oxidation import FIXED, infer_oxidation_states
from mlipkit.charges.references import redox_sites
from mlipkit.files import InputError
from mlipkit.frames.labels import cell_charge, label


def known_states(atoms, references=None, fixed=None):
    """Oxidation states of all atoms: those on the frame, and what is missing (0) on redox-active
    atoms from the moments or, where there are none, from neutrality.

    Without moments the missing ions must be of one element, which then has one state.

    Parameters
    ----------
    atoms : ase.Atoms
    references, fixed
        As for `infer_oxidation_states`.

    Returns
    -------
    numpy.ndarray of int, shape (n_atoms,)

    Raises
    ------
    InputError
        When neither tells them, or they contradict what is there.
    """
    given = atoms.arrays.get("oxi_states")
    sites = redox_sites(atoms)
    if given is None:
        return infer_oxidation_states(atoms, references=references, fixed=fixed).states
    missing = sites[np.asarray(given)[sites] == 0]
    if not len(missing):
        return given
    if label(atoms, "magmoms") is not None:
        inferred = infer_oxidation_states(atoms, references=references, fixed=fixed).states
        states = np.where(np.asarray(given) == 0, inferred, given)
        if states.sum() == inferred.sum():
            return states
        raise InputError(
            f"{atoms.get_chemical_formula()}: the oxidation states given and those that the "
            "moments tell of the other atoms do not balance; take all from "
            "infer_oxidation_states(atoms).states"
        )
    return _by_neutrality(atoms, np.asarray(given), missing, FIXED | (fixed or {}))


def _by_neutrality(atoms, given, missing, charges):
    symbols = atoms.get_chemical_symbols()
    states = np.array([q or charges.get(s, 0) for q, s in zip(given.tolist(), symbols)])
    elements = sorted({symbols[i] for i in missing})
    charge = cell_charge(atoms, atoms.get_chemical_formula())
    left = charge - np.delete(states, missing).sum()
    if len(elements) > 1 or left % len(missing) or left <= 0:
        raise InputError(
            f"{atoms.get_chemical_formula()}: the oxidation states of {' and '.join(elements)} are "
            f"not known (0), and neutrality alone does not tell them: {len(missing)} atoms share "
            f"{left:+g}; set them in atoms.arrays['oxi_states'], or name them with proxies= where "
            "the file is read"
        )
    states[missing] = left // len(missing)
    return states
