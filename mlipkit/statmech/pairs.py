"""Energies of thousands of orderings from some hundred: a sum over sites and pairs of sites, fitted
to a potential.

Beside `mlipkit.statmech.expansion` it stays for the search in one cell: it takes every pair of that
cell, whatever the distance, and is fitted in milliseconds inside the loop that scores orderings.
"""

import numpy as np

HELD_OUT = 5  # one in so many tells the error of a fit


class PairExpansion:
    """A cluster expansion cut at pairs, over the mobile and the redox-active sites of a host.

    E = E0 + sum_i e_i v_i + sum_(i<=j) J_ij v_i v_j, where v is 1 or 0 on a mobile-ion site, filled
    or empty, and the oxidation state on a redox-active one. Sites and pairs that the symmetry of
    the host makes equal share their coefficient (Sanchez, Ducastelle and Gratias, Physica A 128,
    334, 1984). On a fixed geometry charges act mostly in pairs, and this is a potential's energy to
    about 1 meV per formula unit; `rmse` says how well it is in a given cell.

    Parameters
    ----------
    sites : mlipkit.orderings.names.Sites

    Attributes
    ----------
    rmse : float
        eV per cell, of a fifth of the fitted configurations, by the fit to the others.
    """

    def __init__(self, sites):
        perms = np.hstack([sites.mobile_perms, sites.redox_perms + sites.mobile_perms.shape[1]])
        n = perms.shape[1]
        self.i, self.j = np.triu_indices(n)
        low, high = (
            np.minimum(perms[:, self.i], perms[:, self.j]),
            np.maximum(perms[:, self.i], perms[:, self.j]),
        )
        self.singles, self.pairs = (
            _membership(first) for first in (perms.min(axis=0), (low * n + high).min(axis=0))
        )
        self.rmse = np.nan

    @property
    def n_coefficients(self):
        return self.singles.shape[1] + self.pairs.shape[1]

    def _features(self, configurations):
        v = np.asarray(configurations, float)
        return np.hstack([v @ self.singles, (v[:, self.i] * v[:, self.j]) @ self.pairs])

    def fit(self, configurations, energies):
        """Fit to configurations, shape (n, n_sites): mobile sites, then redox sites, and their
        energies (eV).

        The order matters for `rmse` only: every fifth is held out.
        """
        x, e = self._features(configurations), np.asarray(energies, float)
        tested = np.arange(len(e)) % HELD_OUT == HELD_OUT - 1
        self._solve(x[~tested], e[~tested])
        self.rmse = (
            float(np.sqrt(np.mean((self._of(x[tested]) - e[tested]) ** 2)))
            if tested.any()
            else np.nan
        )
        self._solve(x, e)
        return self

    def _solve(self, x, e):
        # neutrality makes sums of features constant: lstsq takes the smallest of the equivalent
        # solutions
        self._x, self._e = x.mean(axis=0), e.mean()
        self._coefficients = np.linalg.lstsq(x - self._x, e - self._e, rcond=1e-9)[0]

    def _of(self, x):
        return self._e + (x - self._x) @ self._coefficients

    def energies(self, configurations, chunk=1000):
        """Energies (eV) of configurations, shape (n,)."""
        return np.concatenate(
            [
                self._of(self._features(configurations[k : k + chunk]))
                for k in range(0, len(configurations), chunk)
            ]
        )


def _membership(first):
    """Shape (n, n_orbits): 1 where a member belongs to an orbit, of what each member's orbit has as
    its first.
    """
    orbit = np.unique(first, return_inverse=True)[1]
    return np.eye(orbit.max() + 1)[orbit]
