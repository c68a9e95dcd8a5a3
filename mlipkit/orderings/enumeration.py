"""Every symmetry-distinct arrangement of mobile ions and charge ordering of a host crystal, with
its degeneracy.

An arrangement or a charge ordering is an integer, one digit per site, and each symmetry operation a
table that says where each byte of it goes; of equivalent ones the largest is kept.
"""

import functools
import itertools
import math
from dataclasses import dataclass, field, replace

import numpy as np
from ase import Atoms

from mlipkit import arguments
from mlipkit.charges.compounds import Compound, checked, compound_of
from mlipkit.charges.oxidation import FIXED, OXYANION, checked_fixed, oxyanion_states
from mlipkit.files import InputError
from mlipkit.frames.taken import as_frame
from mlipkit.orderings.hosts import map_onto_host
from mlipkit.orderings.names import Sites, lattice_name, located, sites_of

CHUNK = 1 << 16  # configurations looked at together
BITS = 64


@dataclass(frozen=True, slots=True, eq=False)
class Ordering:
    """One symmetry-distinct arrangement of mobile ions with one charge ordering.

    Attributes
    ----------
    degeneracy : int
        How many equivalent ones the cell holds (with ``mobile_sites`` given: how many for that
        arrangement).
    mobile_sites : tuple of int
        Filled sites, counted among the mobile-ion sites of the host.
    redox_sites : numpy.ndarray of int
        The redox-active atoms of the fully occupied (super)cell, as atom indices.
    oxi_states : numpy.ndarray of int
        Oxidation state of each of the `redox_sites`.
    x : float
        Mobile ions per formula unit of the framework.
    label : str
        Canonical name, see `ordering_label`.
    """

    degeneracy: int
    _mobile: int = field(repr=False)
    _redox: int = field(repr=False)
    _problem: object = field(repr=False)

    @property
    def _filled(self):
        n = len(self._problem.sites.mobile)
        return np.array([self._mobile >> (n - 1 - i) & 1 for i in range(n)], bool)

    @property
    def mobile_sites(self):
        return tuple(np.flatnonzero(self._filled).tolist())

    @property
    def redox_sites(self):
        return self._problem.sites.redox.copy()

    @property
    def oxi_states(self):
        options, bits = self._problem.options, self._problem.bits
        last = bits * (len(options) - 1)
        return np.array(
            [
                q[self._redox >> (last - bits * i) & ((1 << bits) - 1)]
                for i, q in enumerate(options)
            ],
            int,
        )

    @property
    def x(self):
        return len(self.mobile_sites) / self._problem.sites.n_units

    @property
    def label(self):
        sites = self._problem.sites
        if sites.name and not self._problem.first_of_its_shape:
            problem = self._problem
            return located(self._decorated(), problem.host, problem.compound).ordering
        return sites.label(self._filled, self.oxi_states)

    def __str__(self):
        return f"{self.label} (degeneracy {self.degeneracy})"

    def atoms(self):
        """The decorated crystal on the places of the host.

        Returns
        -------
        ase.Atoms
            ``arrays["oxi_states"]`` of all atoms (when ``redox`` was given), and in ``info``:
            ``x``, ``ordering`` (the label), ``degeneracy``, ``charge`` where it is not 0, and the
            sites as in the embedded set: ``na_sites``, ``fe3_sites`` (one for every element and
            state above its lowest), counted per element.
        """
        sites, result = self._problem.sites, self._decorated()
        result.info |= {"x": self.x, "ordering": self.label, "degeneracy": self.degeneracy}
        if sites.mobile_element:
            result.info[f"{sites.mobile_element.lower()}_sites"] = self.mobile_sites
        elements, states = np.array(sites.elements), self.oxi_states
        for e, options in self._problem.redox.items():
            for q in options[1:]:
                result.info[f"{e.lower()}{q}_sites"] = tuple(
                    np.flatnonzero(states[elements == e] == q).tolist()
                )
        return result

    def _decorated(self):
        problem = self._problem
        charges = problem.fixed if problem.redox else None
        about = problem.compound, problem.total_charge
        return problem.sites.decorated(self._filled, self.oxi_states, charges, *about)


@dataclass(frozen=True, eq=False)
class _Problem:
    """What `enumerate_orderings` and `count_orderings` were asked for, checked."""

    host: Atoms
    sites: Sites
    redox: dict  # {element: its states, lowest first}
    options: tuple  # the states that each redox site may have, lowest first
    bits: int  # of the code of a charge ordering, per site
    fixed: dict  # {element: charge}, the mobile ion included
    charges: dict  # {number of mobile ions: what the redox sites have to sum to}
    given: int | None  # code of the arrangement asked for
    compound: Compound
    total_charge: int

    @functools.cached_property
    def first_of_its_shape(self):
        """Whether no equivalent superlattice (2x1x1 for 1x2x1 of a cubic host) gives the orderings
        of this cell their names.
        """
        lattice, _ = map_onto_host(self.sites.atoms, self.host, self.sites.mobile_element)
        return self.sites.name == lattice_name(lattice)


def _problem(
    where, host, compound, n_mobile, supercell, mobile_sites, fixed, total_charge, symprec
):
    host, redox = (
        as_frame(host, f"{where}: host"),
        {} if checked(compound) is None else compound.redox,
    )
    fixed = checked_fixed(fixed, f"{where}: fixed")
    total_charge = arguments.number(total_charge, f"{where}: total_charge", whole=True)
    arguments.number(symprec, f"{where}: symprec", above=0, most=1)
    symbols = set(host.get_chemical_symbols())
    if absent := sorted(e for e in redox if e not in symbols):
        raise InputError(
            f"redox={redox}: the host {host.get_chemical_formula()} has no {', '.join(absent)}"
        )
    compound = compound_of([host], compound, host)
    if fixed:  # a metal of one valence is none whose charge changes
        redox = {e: states for e, states in compound.redox.items() if e not in fixed}
        compound = replace(compound, redox=redox)
    mobile, redox = compound.mobile, compound.redox
    sites = sites_of(host, supercell, compound, symprec, None if redox else ())
    fixed = {**(compound.fixed or {}), **(fixed or {})}
    charge_of = fixed_charges(host, set(redox), fixed) if redox else {}
    options = tuple(redox.get(e) or (charge_of[e],) for e in sites.elements)
    bits = max((len(o) - 1 for o in options), default=1).bit_length() or 1
    n_sites = len(sites.mobile)
    if n_sites > BITS or bits * len(options) > BITS:
        fewer = "take a smaller supercell"
        if n_sites <= BITS and len(options) <= BITS and any(len(q) > 2 for q in redox.values()):
            element = max(redox, key=lambda e: len(redox[e]))
            two = {element: redox[element][-2:]}
            fewer += f", or name two states, such as compound=mk.Compound({mobile!r}, {two})"
        raise InputError(
            f"{where}: {n_sites} mobile and {len(options)} redox sites are too many "
            f"(at most {BITS} and {BITS // bits}); {fewer}"
        )
    given = None
    if mobile_sites is not None:
        mobile_sites = arguments.entries(mobile_sites, f"{where}: mobile_sites", "(0, 1)")
        what = f"{where}: each of mobile_sites"
        mobile_sites = [arguments.number(i, what, whole=True) for i in mobile_sites]
        chosen = sorted(set(mobile_sites))
        if len(chosen) != len(mobile_sites) or not all(0 <= i < n_sites for i in chosen):
            raise InputError(
                f"mobile_sites={tuple(mobile_sites)}: give different numbers from 0 to "
                f"{n_sites - 1}, "
                f"which count the {mobile} of the host"
            )
        given = sum(1 << (n_sites - 1 - i) for i in chosen)
        if n_mobile is not None and n_mobile != len(chosen):
            raise InputError(f"mobile_sites names {len(chosen)} ions, n_mobile says {n_mobile}")
        n_mobile = len(chosen)
    several = isinstance(n_mobile, (list, tuple, range, set)) or getattr(n_mobile, "ndim", 0) == 1
    single = n_mobile is not None and not several
    wanted = [n_mobile] if single else range(n_sites + 1) if n_mobile is None else list(n_mobile)
    what = f"{where}: n_mobile" if single else f"{where}: each of n_mobile"
    wanted = [arguments.number(n, what, least=0, whole=True) for n in wanted]
    if bad := [n for n in wanted if n > n_sites]:
        raise InputError(f"n_mobile={bad[0]}: the cell has {n_sites} {mobile} sites")
    low, high = (sum(pick(o) for o in options) for pick in (min, max))
    rest = total_charge - sum(
        charge_of.get(s, 0)
        for s in np.delete(sites.atoms.symbols, np.append(sites.mobile, sites.redox))
    )
    charges = {int(n): rest - n * charge_of.get(mobile, 0) if redox else 0 for n in wanted}
    reachable = {
        n: int(q)
        for n, q in charges.items()
        if not redox or (q == int(q) and ways(options)[0].get(int(q)))
    }
    if not reachable or (single and not len(reachable)):
        asked = ", ".join(f"{q:g} with {n} {mobile}" for n, q in list(charges.items())[:4])
        raise InputError(
            f"{sites.atoms.get_chemical_formula()}: no charge ordering has the total charge "
            f"{total_charge:g}: the redox sites "
            f"would have to sum to {asked}{', ...' if len(charges) > 4 else ''}, and can to {low} "
            f"to {high}; "
            "check compound.redox and fixed="
        )
    if max(ways(options)[0].values()) > 2**62:
        raise InputError(
            f"{sites.atoms.get_chemical_formula()} has too many charge orderings to go through; "
            "take a smaller supercell"
        )
    return _Problem(
        host, sites, redox, options, bits, charge_of, reachable, given, compound, total_charge
    )


def fixed_charges(host, redox, given):
    """Charge of every element that keeps its valence: as given, else ``arrays["oxi_states"]`` of
    the host, else the common one.
    """
    symbols, charges = np.array(host.get_chemical_symbols()), dict(given or {})
    states = host.arrays.get("oxi_states")
    for e in sorted(set(symbols) - redox - set(charges)):
        found = set() if states is None else {float(q) for q in np.asarray(states)[symbols == e]}
        if not found and e in OXYANION:
            found = set(
                oxyanion_states(
                    host, symbols, e, np.flatnonzero(symbols == e), host.get_chemical_formula()
                )
            )
        if len(found) > 1:
            raise InputError(
                f"{e} has the oxidation states {sorted(found)} in the host: name it in "
                f"compound.redox or give fixed={{'{e}': ...}}"
            )
        if not found and e not in FIXED:
            raise InputError(
                f"which charge does {e} have? Give fixed={{'{e}': ...}}, or "
                "name it in compound.redox"
            )
        charges[e] = found.pop() if found else FIXED[e]
    if odd := [
        e
        for e, q in charges.items()
        if not isinstance(q, (int, float, np.number)) or not float(q).is_integer()
    ]:
        raise InputError(
            f"the oxidation state of {odd[0]}, {charges[odd[0]]}, is not a whole number"
        )
    return {e: int(q) for e, q in charges.items()}


@functools.lru_cache(maxsize=8)
def ways(options):
    """For every site, in how many ways it and those after it can sum to a charge: list of
    ``{charge: ways}``, {0: 1} at its end.
    """
    ways = [{0: 1}]
    for states in reversed(options):
        ways.append({})
        for charge, n in ways[-2].items():
            for q in states:
                ways[-1][charge + q] = ways[-1].get(charge + q, 0) + n
    return ways[::-1]


def _codes(options, bits, total):
    """All choices of one state per site that sum to `total`, as integers in falling order, in
    arrays of `CHUNK`.

    The first site is in the highest bits; a digit is the rank of the state. The r-th code is found
    without those before it: site by site, by how many codes go on with the highest state, the
    second highest, and so on.
    """
    counts = ways(options)
    count = counts[0].get(total, 0)
    tables = []
    for table in counts[1:]:
        low = min(table)
        tables.append(
            (
                low,
                np.array(
                    [min(table.get(c, 0), 2**62) for c in range(low, max(table) + 1)], np.int64
                ),
            )
        )
    for start in range(0, count, CHUNK):
        rank = np.arange(start, min(start + CHUNK, count), dtype=np.int64)
        left, code = np.full(len(rank), total, np.int64), np.zeros(len(rank), np.uint64)
        for states, (low, table) in zip(options, tables):
            undecided, before, code = np.ones(len(rank), bool), left, code << np.uint64(bits)
            for digit in reversed(range(len(states))):
                at = before - states[digit] - low
                n = np.where(
                    (at >= 0) & (at < len(table)), table[np.clip(at, 0, len(table) - 1)], 0
                )
                take = undecided & (rank < n)
                code[take] |= np.uint64(digit)
                left = np.where(take, before - states[digit], left)
                undecided &= ~take
                rank = np.where(undecided, rank - n, rank)
        yield code


def _byte_tables(perms, bits):
    """Where each byte of a code goes under each permutation: shape (n_operations, n_bytes, 256)."""
    n_ops, n = perms.shape
    table = np.zeros((n_ops, max(1, -(-n * bits // 8)), 256), np.uint64)
    value = np.arange(256)
    for g, perm in enumerate(perms):
        for i, k in itertools.product(range(n), range(bits)):
            old, new = bits * (n - 1 - int(perm[i])) + k, bits * (n - 1 - i) + k
            table[g, old // 8] |= (value >> (old % 8) & 1).astype(np.uint64) << np.uint64(new)
    return table


def _apply(table, codes):
    return functools.reduce(
        np.bitwise_or,
        (t[(codes >> np.uint64(8 * b)) & np.uint64(255)] for b, t in enumerate(table)),
    )


def _distinct(chunks, tables):
    """Of all codes those that no operation makes larger, each with the size of its orbit."""
    for codes in chunks:
        fixed_by = np.zeros(len(codes), int)
        for table in tables:
            image = _apply(table, codes)
            keep = image <= codes
            fixed_by += image == codes
            codes, fixed_by = codes[keep], fixed_by[keep]
        yield from zip(codes.tolist(), (len(tables) // fixed_by).tolist())


def enumerate_orderings(
    host,
    compound=None,
    n_mobile=None,
    supercell=None,
    mobile_sites=None,
    fixed=None,
    total_charge=0,
    symprec=1e-2,
    progress=True,
):
    """Symmetry-distinct arrangements of mobile ions, each with its symmetry-distinct charge
    orderings, one after the other.

    Every arrangement that comes first among its equivalents is combined with the charge orderings
    that come first under the operations that leave the arrangement alone; nothing is kept, so
    memory does not grow with their number. The degeneracies of one `n_mobile` sum to the number of
    all configurations, and there are as many orderings as Burnside's lemma says
    (`count_orderings`).

    Parameters
    ----------
    host : ase.Atoms
        The crystal with every site of the mobile ion filled, made exactly symmetric (`find_host`
        does).
    compound : Compound, optional
        By default found from the host, its metals with all their usual states. The sites of
        ``mobile`` may be empty (None: charge orderings only); ``redox`` has any number of metals
        and states (empty: arrangements only, whatever their charge).
    n_mobile : int or iterable of int, optional
        Mobile ions in the cell, by default every number from none to all that a charge ordering can
        balance.
    supercell : int, three ints or 3x3 ints, optional
        Repeats the host first.
    mobile_sites : iterable of int, optional
        One arrangement (filled sites, counted among the mobile-ion sites): only its charge
        orderings, under its own symmetry.
    fixed : dict, optional
        Charges of the other elements; those not named are taken from ``host.arrays["oxi_states"]``,
        else the common ones.
    total_charge : int
        Of the cell.
    symprec : float
        Å, for the symmetry of the host (spglib).
    progress : bool
        A progress bar (in configurations) when it takes more than a few seconds.

    Returns
    -------
    generator of Ordering

    Raises
    ------
    InputError
        At the call, not at the first ordering: when the host has no such sites, a charge is
        unknown, the charge cannot be reached, or the cell has more than 64 mobile sites or 64 redox
        sites (32 with three or four states).
    """
    return _orderings(
        _problem(
            "enumerate_orderings",
            host,
            compound,
            n_mobile,
            supercell,
            mobile_sites,
            fixed,
            total_charge,
            symprec,
        ),
        progress,
    )


def _orderings(problem, progress):
    from tqdm.auto import tqdm

    sites, configurations = problem.sites, sum(_configurations(problem).values())
    arranged, charged = (
        _byte_tables(sites.mobile_perms, 1),
        _byte_tables(sites.redox_perms, problem.bits),
    )
    with tqdm(total=configurations, unit=" configurations", delay=3, disable=not progress) as bar:
        for n, charge in problem.charges.items():
            arrangements = (
                [(problem.given, 1)]
                if problem.given is not None
                else _distinct(_codes(((0, 1),) * len(sites.mobile), 1, n), arranged)
            )
            for arrangement, size in arrangements:
                images = _apply(arranged.transpose(1, 2, 0), np.uint64(arrangement))
                for states, degeneracy in _distinct(
                    _codes(problem.options, problem.bits, charge), charged[images == arrangement]
                ):
                    yield Ordering(size * degeneracy, arrangement, states, problem)
                    bar.update(size * degeneracy)


def _configurations(problem):
    n_sites = len(problem.sites.mobile)
    return {
        n: (1 if problem.given is not None else math.comb(n_sites, n))
        * ways(problem.options)[0].get(charge, 0)
        for n, charge in problem.charges.items()
    }


def count_orderings(
    host,
    compound=None,
    n_mobile=None,
    supercell=None,
    mobile_sites=None,
    fixed=None,
    total_charge=0,
    symprec=1e-2,
):
    """How many orderings `enumerate_orderings` would find, without finding them.

    Burnside's lemma: the number of orbits is the mean number of configurations that an operation
    leaves alone, and such a configuration is constant on every cycle of the operation.

    Parameters
    ----------
    host, compound, n_mobile, supercell, mobile_sites, fixed, total_charge, symprec
        As in `enumerate_orderings`.

    Returns
    -------
    pandas.DataFrame
        Per number of mobile ions: ``n_mobile``, ``x`` (per formula unit), ``configurations``,
        ``orderings`` (Python integers, exact whatever their size).
    """
    import pandas as pd

    problem = _problem(
        "count_orderings",
        host,
        compound,
        n_mobile,
        supercell,
        mobile_sites,
        fixed,
        total_charge,
        symprec,
    )
    sites, total = problem.sites, _configurations(problem)
    n_sites, unchanged, n_ops = len(sites.mobile), dict.fromkeys(total, 0), 0
    filled = (
        np.array([bool(problem.given >> (n_sites - 1 - i) & 1) for i in range(n_sites)])
        if problem.given is not None
        else None
    )
    for perm, redox_perm in zip(sites.mobile_perms, sites.redox_perms):
        if filled is not None and not np.array_equal(filled[perm], filled):
            continue
        n_ops += 1
        arrangements = (
            {sum(filled): 1}
            if filled is not None
            else ways(tuple((0, len(c)) for c in _cycles(perm)))[0]
        )
        charges = ways(
            tuple(tuple(q * len(c) for q in problem.options[c[0]]) for c in _cycles(redox_perm))
        )[0]
        for n, charge in problem.charges.items():
            unchanged[n] += arrangements.get(n, 0) * charges.get(charge, 0)
    rows = [
        {
            "n_mobile": n,
            "x": n / sites.n_units,
            "configurations": total[n],
            "orderings": unchanged[n] // n_ops,
        }
        for n in total
    ]
    return pd.DataFrame(rows).astype({"configurations": object, "orderings": object})


def _cycles(perm):
    left, perm = set(range(len(perm))), perm.tolist()
    while left:
        cycle = [left.pop()]
        while (i := perm[cycle[-1]]) in left:
            left.remove(i)
            cycle.append(i)
        yield cycle
