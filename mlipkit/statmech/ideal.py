"""The most entropy that ions and electrons can have: free mixing in an infinite crystal."""

import math
from collections import Counter

import numpy as np

STEEP = 200.0  # of a charge's weight: the states of a metal are then all the lowest or the highest


def ideal_entropy(lattice, x):
    """Entropies of ions and of electrons where nothing holds them, each in k per formula unit.

    Ions: -k [y ln y + (1 - y) ln (1 - y)] for each site, y of them filled. Electrons: every metal
    holds its states as the charge of the crystal alone asks for, which for one metal of two states
    is the same formula.

    Parameters
    ----------
    lattice : Lattice
    x : array_like, shape (n_x,)
        Mobile ions per formula unit.

    Returns
    -------
    tuple of numpy.ndarray, shape (n_x,)
    """
    x = np.asarray(x, float)
    ions = np.array([_mixed(lattice, v * lattice.n_units) for v in x])
    electrons = np.array([_charged(lattice, v * lattice.n_units) for v in x])
    return ions / lattice.n_units, electrons / lattice.n_units


def _mixed(lattice, n):
    sites = len(lattice.mobile)
    shares = [n / sites, 1 - n / sites] if sites else []
    return -sites * sum(s * math.log(s) for s in shares if s > 1e-12)


def _charged(lattice, n):
    """Of all metals (k) when `n` ions are there: weights exp(w q), with w from the total charge."""
    from scipy.optimize import brentq

    counted = Counter(lattice.options)
    kinds, counts = [np.array(o, float) for o in counted], list(counted.values())

    def shares(w):
        raised = [w * (o - o[0]) for o in kinds]
        weights = [np.exp(r - r.max()) for r in raised]
        return [p / p.sum() for p in weights]

    def off(w):
        return sum(c * (o @ p) for c, o, p in zip(counts, kinds, shares(w))) - lattice.total(n)

    if off(-STEEP) >= 0 or off(STEEP) <= 0:
        return 0.0
    found = shares(brentq(off, -STEEP, STEEP))
    return -sum(c * sum(s * math.log(s) for s in p if s > 1e-12) for c, p in zip(counts, found))
