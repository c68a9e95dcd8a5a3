"""An expansion in one supercell, as flat arrays that a compiled walk reads."""

import functools
import itertools
from collections import namedtuple
from dataclasses import dataclass

import numpy as np

from mlipkit.files import InputError
from mlipkit.orderings.lattice import Lattice, lattice_of
from mlipkit.statmech.expansion import disordered, smol_order

# Arrays of a walk. Each digit that a site may hold is a variable, 1 where it does, from base[site]
# on; the last variable of all is always 1. The energy is a sum over sets of variables (of first
# digits in none) of a coefficient times their product. alone: coefficients of single variables.
# Variable v is in a pair with pair_of[k], of coefficient pair[k], for k from pair_first[v] to
# pair_first[v + 1], and in larger sets with the variables more_of[k]. near: a bit for each two
# sites that share a set.
Tables = namedtuple(
    "Tables", "base n_digits alone pair_first pair_of pair more_first more_of more near"
)


MOST_METALS = 3  # that one move changes

# What a walk may do. The states of all metals are equally far apart: an electron that goes from one
# to another moves both by one digit, and so do n_metals of them when a mobile ion goes in. again:
# whether every metal has two states; fewest, most: ions that charges can balance, told apart or
# not.
Moves = namedtuple("Moves", "n_mobile n_metals again fewest most")


@dataclass(frozen=True, eq=False)
class Interactions:
    """Sites of a supercell, mobile ones first, each with a digit: 0 or 1 on a mobile-ion site,
    empty or filled, and the rank of its oxidation state on a redox site.

    Attributes
    ----------
    lattice : Lattice
    tables : Tables
    constant : float
        eV per supercell.
    aware : bool
        Whether redox sites are there.
    """

    lattice: Lattice
    tables: Tables
    constant: float
    aware: bool

    @property
    def n_mobile(self):
        """Mobile-ion sites."""
        return len(self.lattice.mobile)

    @property
    def options(self):
        """Oxidation states of each redox site."""
        return self.lattice.options if self.aware else ()

    def digits(self, filled, states=None):
        """An arrangement as digits, shape (n_sites,)."""
        ranks = []
        if self.aware:
            ranks = [o.index(int(q)) for o, q in zip(self.options, states)]
        return np.concatenate([np.asarray(filled, np.int64), np.array(ranks, np.int64)])

    def arrangement(self, digits):
        """The inverse of `digits`: ``(filled, states)``."""
        filled, ranks = digits[: self.n_mobile].astype(bool), digits[self.n_mobile :]
        states = np.array([o[r] for o, r in zip(self.options, ranks)]) if self.aware else None
        return filled, states

    @functools.cached_property
    def moves(self):
        """The `Moves` that keep a cell neutral.

        Raises
        ------
        InputError
            When no number of metals balances a mobile ion, or electrons cannot go from any metal to
        any other.
        """
        mobile, possible = self.lattice.compound.mobile, self.lattice.compositions
        charge = self.lattice.fixed.get(mobile, 0)
        if not self.aware:
            return Moves(self.n_mobile, 0, True, possible[0], possible[-1])
        steps = {b - a for states in self.options for a, b in itertools.pairwise(states)}
        if not steps:
            raise InputError("every metal has one state only: there is no charge to order")
        if len(steps) > 1:  # one electron from a metal would have to go to several, or never move
            raise InputError(
                f"no charge-neutral move: the metals' states are {sorted(steps)} apart, and a walk "
                "needs all to be equally far apart; leave some out of the compound's redox"
            )
        step = steps.pop()
        if self.n_mobile and (charge < 0 or charge % step or charge // step > MOST_METALS):
            raise InputError(
                f"no charge-neutral move: {mobile} of charge {charge:+d} goes in with {charge} "
                f"electron(s), and the metals' states are {step} apart"
            )
        again = all(len(states) == 2 for states in self.options)
        return Moves(self.n_mobile, charge // step, again, possible[0], possible[-1])

    @property
    def n_sites(self):
        """All sites."""
        return len(self.tables.n_digits)

    def energy(self, digits):
        """Formation energy, eV per supercell."""
        from mlipkit.statmech.kernel import energy_of, variables_of

        on = variables_of(self.tables, np.asarray(digits, np.int64))
        return self.constant + float(energy_of(self.tables, on))


def interactions_of(expansion, supercell):
    """See `Expansion.interactions`."""
    c = expansion.configurations
    lattice = lattice_of(c.host, c.compound, supercell, c.fixed, "interactions")
    subspace, aware = expansion.subspace, expansion.aware
    active = np.concatenate([lattice.mobile, lattice.redox] if aware else [lattice.mobile])
    order = smol_order(subspace, lattice)
    site_of = np.full(len(order), -1)
    site_of[order[active]] = np.arange(len(active))
    _, held = disordered(lattice, aware)
    species_of = [held[int(a)] for a in active]
    n_cells = abs(round(np.linalg.det(lattice.matrix)))
    tensors = expansion.smol.cluster_interaction_tensors
    sets = []
    for orbit, clusters, tensor in zip(
        subspace.orbits, subspace.supercell_orbit_mappings(lattice.matrix), tensors[1:]
    ):
        clusters = site_of[clusters]
        ours = _in_our_digits(tensor, orbit, [species_of[i] for i in clusters[0]])
        sets += _sets(clusters, ours)
    constant, tables = _tables(sets, [len(s) for s in species_of])
    return Interactions(lattice, tables, float(tensors[0]) * n_cells + constant, aware)


def _in_our_digits(tensor, orbit, species):
    """A cluster's energies with axes in our order of what a site may hold, not in smol's, and
    against the first that it may hold.
    """
    for axis, (space, ours) in enumerate(zip(orbit.site_spaces, species)):
        names = [str(s) for s in space]
        tensor = np.take(tensor, [names.index(str(s)) for s in ours], axis=axis)
        first = np.take(tensor, [0], axis=axis)
        rest = np.take(tensor, range(1, len(ours)), axis=axis)
        tensor = np.concatenate([first, rest - first], axis=axis)
    return tensor


def _sets(clusters, tensor):
    """``(sites, digits, coefficients)`` of the sets of variables of an orbit, digits from 1 on."""
    found = []
    for digits in np.ndindex(*tensor.shape):
        on = np.flatnonzero(digits)
        values = np.full(len(clusters), tensor[digits])
        found.append((clusters[:, on], np.array(digits)[on], values))
    return found


def _tables(sets, n_digits):
    """The constant and the `Tables` of sets of variables; those equal to each other are joined."""
    base = np.concatenate([[0], np.cumsum(n_digits)]).astype(np.int64)
    n, widest = base[-1], max(2, *(sites.shape[1] for sites, _, _ in sets))
    rows, values = [], []
    for sites, digits, coefficients in sets:
        variables = base[sites] + digits
        # in a small cell a cluster may hold a site and its image: of one digit they are one
        # variable, of two digits never both
        order = np.argsort(variables, axis=1)
        variables = np.take_along_axis(variables, order, axis=1)
        sites = np.take_along_axis(sites, order, axis=1)
        same_site = sites[:, 1:] == sites[:, :-1]
        same = variables[:, 1:] == variables[:, :-1]
        possible = ~(same_site & ~same).any(axis=1)
        variables[:, 1:][same] = n
        padded = np.full((len(variables), widest), n)
        padded[:, : variables.shape[1]] = np.sort(variables, axis=1)
        rows.append(padded[possible])
        values.append(coefficients[possible])
    rows, inverse = np.unique(np.concatenate(rows), axis=0, return_inverse=True)
    values = np.bincount(inverse.ravel(), np.concatenate(values))
    size = (rows < n).sum(axis=1)
    constant = float(values[size == 0].sum())
    alone = np.zeros(n + 1)
    alone[rows[size == 1, 0]] = values[size == 1]
    pair_first, pair_of, pair = _listed(rows[size == 2, :2], values[size == 2], n)
    large = size > 2
    more_first, more_of, more = _listed(rows[large], values[large], n)
    near = np.zeros((len(base), len(base)), bool)
    site_of = np.append(np.repeat(np.arange(len(n_digits)), n_digits), len(n_digits))
    for k in range(widest):
        for m in range(widest):
            near[site_of[rows[:, k]], site_of[rows[:, m]]] = True
    near = np.packbits(near, axis=1, bitorder="little")
    tables = Tables(
        base,
        np.array(n_digits, np.int64),
        alone,
        pair_first,
        pair_of[:, 0].copy(),
        pair,
        more_first,
        more_of,
        more,
        near,
    )
    return constant, tables


def _listed(rows, values, n):
    """Sets of variables by each of their members: where those of a member begin, the others of each
    and its coefficient.
    """
    width = rows.shape[1]
    members, others, coefficients = [], [], []
    for k in range(width):
        there = rows[:, k] < n
        members.append(rows[there, k])
        others.append(np.delete(rows[there], k, axis=1))
        coefficients.append(values[there])
    members = np.concatenate(members)
    order = np.argsort(members, kind="stable")
    first = np.concatenate([[0], np.cumsum(np.bincount(members, minlength=n + 1))])
    others = np.concatenate(others)[order].astype(np.int32)
    return first.astype(np.int64), others, np.concatenate(coefficients)[order]
