"""The sites of a host supercell that carry order, ions and charges, and what each may hold."""

import functools
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from mlipkit.charges.compounds import Compound, checked, compound_of
from mlipkit.charges.oxidation import checked_fixed
from mlipkit.charges.references import tell_redox
from mlipkit.files import InputError
from mlipkit.frames.taken import as_frame
from mlipkit.orderings.enumeration import fixed_charges, ways
from mlipkit.orderings.hosts import map_onto_host, repeats, supercell


@dataclass(frozen=True, eq=False)
class Lattice:
    """Mobile-ion sites, then redox-active sites, of a supercell of the host.

    A configuration is ``(filled, states)``: bool per mobile-ion site, oxidation state per redox
    site.

    Attributes
    ----------
    host : ase.Atoms
        Every mobile-ion site filled.
    matrix : numpy.ndarray of int, shape (3, 3)
        Of the supercell.
    compound : Compound
    atoms : ase.Atoms
        The filled supercell.
    mobile, redox : numpy.ndarray of int
        Atoms of the supercell.
    options : tuple of tuple of int
        The oxidation states that each redox site may have, lowest first.
    fixed : dict
        Charge of each other element, the mobile ion included.
    """

    host: Atoms
    matrix: np.ndarray
    compound: Compound
    atoms: Atoms
    mobile: np.ndarray
    redox: np.ndarray
    options: tuple
    fixed: dict

    @functools.cached_property
    def n_units(self):
        """Formula units of the supercell."""
        return round(self.compound.units(self.atoms))

    @functools.cached_property
    def rest(self):
        """Charge of all atoms that carry no order."""
        others = np.delete(np.arange(len(self.atoms)), np.append(self.mobile, self.redox))
        return sum(self.fixed.get(s, 0) for s in self.atoms.symbols[others])

    def total(self, n):
        """What the states sum to beside so many mobile ions."""
        return -self.rest - n * self.fixed.get(self.compound.mobile, 0)

    @functools.cached_property
    def compositions(self):
        """Numbers of mobile ions that some charge ordering balances."""
        possible = ways(self.options)[0]
        return [n for n in range(len(self.mobile) + 1) if self.total(n) in possible]

    def random(self, n, rng):
        """A random arrangement of `n` mobile ions with a random neutral charge ordering; each is as
        likely as any other.
        """
        filled = np.zeros(len(self.mobile), bool)
        filled[rng.permutation(len(filled))[:n]] = True
        left, states, counts = self.total(n), [], ways(self.options)
        for options, after in zip(self.options, counts[1:]):
            ways_on = [after.get(left - q, 0) for q in options]  # may be more than a float holds
            states.append(int(rng.choice(options, p=[w / sum(ways_on) for w in ways_on])))
            left -= states[-1]
        return filled, np.array(states)

    def decorated(self, filled, states, cell=None, shifts=None):
        """The crystal on the places of the host, with ``oxi_states``.

        Parameters
        ----------
        filled, states
            The configuration.
        cell : array_like, shape (3, 3), optional
            Å: what the host cell becomes.
        shifts : array_like, shape (n_host_atoms, 3), optional
            Where atoms are, less the sites of the host, in fractions of the host cell.
        """
        atoms = self.atoms.copy()
        charges = np.array([self.fixed.get(s, 0) for s in atoms.symbols])
        charges[self.redox] = states
        atoms.set_array("oxi_states", charges)
        if shifts is not None:
            atoms.positions += np.asarray(shifts)[self.in_host] @ self.host.cell.array
        if cell is not None:
            atoms.set_cell(self.matrix @ cell, scale_atoms=True)
        del atoms[self.mobile[~np.asarray(filled, bool)]]
        atoms.info["x"] = float(np.sum(filled)) / self.n_units
        tell_redox(atoms, self.compound)
        return atoms

    @functools.cached_property
    def in_host(self):
        """Which atom of the host cell each atom of the supercell repeats."""
        s = self.atoms.positions @ np.linalg.inv(self.host.cell.array)
        away = s[:, None] - self.host.get_scaled_positions()
        away = np.linalg.norm((away - np.round(away)) @ self.host.cell.array, axis=2)
        return away.argmin(axis=1)

    def holds(self, atoms, filled):
        """Whether a relaxed `decorated` cell still has its atoms on their sites."""
        try:
            _, sites = map_onto_host(atoms, self.host, self.compound.mobile)
        except InputError:
            return False
        return len(sites) == len(self.atoms) - int(np.sum(~np.asarray(filled, bool)))


def lattice_of(host, compound=None, matrix=None, fixed=None, where="lattice_of"):
    """The `Lattice` of a supercell of a host.

    Parameters
    ----------
    host : ase.Atoms
        The crystal with every mobile-ion site filled.
    compound : Compound, optional
        By default found from the host.
    matrix : int, three ints or 3x3 ints, optional
        Repeats the host.
    fixed : dict, optional
        Charges of the other elements, as for `enumerate_orderings`.

    Raises
    ------
    InputError
        When nothing can be neutral, or nothing in the host carries order.
    """
    host, fixed = as_frame(host, f"{where}: host"), checked_fixed(fixed, f"{where}: fixed")
    redox = {} if checked(compound) is None else compound.redox
    symbols = set(host.get_chemical_symbols())
    if absent := sorted(e for e in redox if e not in symbols):
        raise InputError(
            f"{where}: redox={redox}: the host {host.get_chemical_formula()} has no "
            f"{', '.join(absent)}"
        )
    compound = compound_of([host], compound, host)
    matrix, atoms = repeats(matrix), supercell(host, matrix)
    given = {**(compound.fixed or {}), **(fixed or {})}
    redox = {e: tuple(sorted(q)) for e, q in compound.redox.items() if e not in given}
    names = np.array(atoms.get_chemical_symbols())
    mobile = np.flatnonzero(names == compound.mobile)
    sites = np.flatnonzero(np.isin(names, list(redox)))
    if not len(sites):
        raise InputError(
            f"{where}: no element of {host.get_chemical_formula()} changes its charge; name them, "
            "such as compound=mk.Compound('Li', {'Mn': (2, 3)})"
        )
    options = tuple(redox[names[i]] for i in sites)
    charges = fixed_charges(host, set(redox), given)
    result = Lattice(host, matrix, compound, atoms, mobile, sites, options, charges)
    if not result.compositions:
        low, high = (sum(pick(o) for o in options) for pick in (min, max))
        raise InputError(
            f"{where}: no charge ordering of {atoms.get_chemical_formula()} is neutral: the redox "
            f"sites can sum to {low} to {high}, and would have to sum to {result.total(0)} without "
            f"{compound.mobile or 'a mobile ion'}; check redox= and fixed="
        )
    return result
