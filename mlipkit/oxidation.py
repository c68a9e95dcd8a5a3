"""From magnetic moments to oxidation states that balance."""
from dataclasses import dataclass

import numpy as np

from mlipkit.files import InputError
from mlipkit.frames import required_label

FIXED = {"Li": 1, "Na": 1, "K": 1, "P": 5, "O": -2}      # ions of one valence
REFERENCES = {("Fe", 2): 3.66, ("Fe", 3): 4.30}           # µB; GPAW PBE+U 5.3 eV, the embedded set (VASP: 3.71 to 3.82 and 4.30 to 4.35)


@dataclass(frozen=True)
class OxidationStates:
    """What `infer_oxidation_states` found.

    Attributes
    ----------
    states : numpy.ndarray of int, shape (n_atoms,)
        Oxidation state of every atom.
    sites : numpy.ndarray of int, shape (n_sites,)
        Indices of the redox-active atoms.
    margin : numpy.ndarray, shape (n_sites,)
        How clearly the moment speaks for the state assigned: 1 on the reference moment or beyond it, 0 halfway
        between the two references, negative when neutrality overruled the moment.
    """
    states: np.ndarray
    sites: np.ndarray
    margin: np.ndarray

    @property
    def clear(self):
        """Whether every site lies in the quarter of the gap next to its own reference."""
        return bool((self.margin >= 0.5).all())


def infer_oxidation_states(atoms, magmoms=None, references=None):
    """Assign Fe2+ and Fe3+ from the moments so that the cell is neutral.

    The Fe with the largest |moments| become Fe3+, as many as neutrality asks for; with two states this is the
    assignment of least total misfit, whatever the absolute size of the moments.

    Parameters
    ----------
    atoms : ase.Atoms
        Fe with ions of one valence (Li, Na, K, P, O).
    magmoms : array_like, shape (n_atoms,), optional
        Moments in µB, signs do not matter; by default those stored with the frame.
    references : dict, optional
        Expected |moment| in µB of ``("Fe", 2)`` and ``("Fe", 3)``; only the margin depends on them.

    Returns
    -------
    OxidationStates

    Raises
    ------
    InputError
        When moments are missing, an element is not known, or no assignment is neutral.
    """
    refs = references or REFERENCES
    symbols = np.array(atoms.get_chemical_symbols())
    unknown = sorted(set(symbols) - set(FIXED) - {"Fe"})
    sites = np.flatnonzero(symbols == "Fe")
    if unknown:
        raise InputError(f"infer_oxidation_states knows {', '.join(FIXED)} and Fe, not {', '.join(unknown)}")
    if not len(sites):
        raise InputError(f"infer_oxidation_states: {atoms.get_chemical_formula()} has no Fe, so nothing can change valence")
    if magmoms is None:
        magmoms = required_label(atoms, "magmoms", "infer_oxidation_states")
    moments = np.abs(np.asarray(magmoms, float))
    if moments.shape != (len(atoms),) or not np.isfinite(moments).all():
        raise InputError(f"infer_oxidation_states needs {len(atoms)} finite moments, one per atom; got shape {moments.shape}")
    states = np.array([FIXED.get(s, 2) for s in symbols])
    n_fe3 = -int(states.sum())
    if not 0 <= n_fe3 <= len(sites):
        raise InputError(f"{atoms.get_chemical_formula()}: neutrality asks for {n_fe3} Fe3+ among {len(sites)} Fe; "
                         "are all ions there, and is the cell neutral?")
    by_moment = sites[np.argsort(-moments[sites], kind="stable")]
    states[by_moment[:n_fe3]] = 3
    low, high = refs["Fe", 2], refs["Fe", 3]
    toward_fe3 = (2 * moments[sites] - low - high) / (high - low)
    margin = np.clip(np.where(states[sites] == 3, toward_fe3, -toward_fe3), None, 1.0)
    return OxidationStates(states, sites, margin)
