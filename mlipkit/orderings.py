"""Arrangements of mobile ions and charge orderings: enumerate the symmetry-distinct ones, name them, compare them.

An ordering is a choice of filled mobile-ion sites and of an oxidation state for every redox-active site of a host crystal;
two are the same when the symmetry of the undecorated host takes one to the other.

Names read x050_na01_fe02: half a Na per formula unit of the framework, Na on sites 0 and 1, Fe3+ on sites 0 and 2, all other
Fe 2+. Sites are counted per element in the order of the host's atoms, 0 to 9 and then a to z (with dots in between when there
are more than 36). States other than 2+ and 3+ carry their number (_mn4.13). In a supercell of the host its superlattice
follows (_1x3x2). Of the names that symmetry allows it is the first, so equivalent orderings have one name.
"""
import functools
import itertools
import math
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from ase import Atoms

from mlipkit.files import InputError
from mlipkit.frames import label
from mlipkit.hosts import find_host, map_onto_host, permutations, supercell, superlattice, tilings, without_vacancies

REDOX = ("V", "Cr", "Mn", "Fe", "Co", "Ni", "Cu")       # elements whose oxidation states count in a name
FIXED = {"H": 1, "Li": 1, "Na": 1, "K": 1, "Rb": 1, "Cs": 1, "Mg": 2, "Ca": 2, "Sr": 2, "Ba": 2, "Zn": 2, "Al": 3, "Ga": 3,
         "Sc": 3, "Y": 3, "La": 3, "B": 3, "Si": 4, "Zr": 4, "P": 5, "O": -2, "F": -1}      # ions of one common valence
CHUNK = 1 << 16         # configurations looked at together
BITS = 64


@dataclass(frozen=True, eq=False)
class _Sites:
    """A host supercell with the permutations of its mobile and redox sites by symmetry (both of shape (n_operations, n_sites))."""
    atoms: Atoms
    name: str
    mobile_element: str | None
    mobile: np.ndarray
    redox: np.ndarray
    mobile_perms: np.ndarray
    redox_perms: np.ndarray
    n_units: int

    @property
    def elements(self):
        return [str(e) for e in np.array(self.atoms.get_chemical_symbols())[self.redox]]

    def canonical(self, filled, states):
        """Of all equivalent (filled, states) the one whose filled sites, then whose high states come first."""
        rows = np.concatenate([np.asarray(filled, int)[self.mobile_perms], np.asarray(states, int)[self.redox_perms]], axis=1)
        n, best = len(self.mobile), max(rows.tolist())
        return np.array(best[:n], bool), np.array(best[n:], int)

    def label(self, filled, states):
        filled, states = self.canonical(filled, states)
        parts = [f"x{round(100 * filled.sum() / self.n_units):03d}"]
        if self.mobile_element:
            parts.append(self.mobile_element.lower() + _join(np.flatnonzero(filled), len(filled)))
        elements = np.array(self.elements)
        for e in dict.fromkeys(self.elements):
            mine = states[elements == e]
            parts.append(e.lower() + _join(np.flatnonzero(mine == 3), len(mine)))
            parts += [f"{e.lower()}{q}." + _join(np.flatnonzero(mine == q), len(mine)) for q in sorted(set(mine) - {2, 3})]
        return "_".join(parts) + self.name


def _join(sites, n_sites):
    if not len(sites):
        return "-"
    return "".join("0123456789abcdefghijklmnopqrstuvwxyz"[i] for i in sites) if n_sites <= 36 else ".".join(map(str, sites))


def _sites(host, matrix, mobile, redox, symprec):
    plain = host.numbers.tobytes(), host.positions.tobytes(), host.cell.array.tobytes()
    matrix = None if matrix is None else tuple(np.ravel(matrix).tolist())
    return _cached_sites(*plain, matrix, mobile, tuple(sorted(redox)), symprec)


@functools.lru_cache(maxsize=32)
def _cached_sites(numbers, positions, cell, matrix, mobile, redox, symprec):
    host = Atoms(np.frombuffer(numbers, int), np.frombuffer(positions).reshape(-1, 3), cell=np.frombuffer(cell).reshape(3, 3), pbc=True)
    matrix = np.eye(3, dtype=int) if matrix is None else np.array(matrix).reshape(3, 3) if len(matrix) == 9 else matrix
    atoms = supercell(host, matrix)
    symbols = np.array(atoms.get_chemical_symbols())
    mobile_sites, redox_sites = np.flatnonzero(symbols == mobile), np.flatnonzero(np.isin(symbols, [e for e in redox if e != mobile]))
    if mobile and not len(mobile_sites):
        raise InputError(f"the host {host.get_chemical_formula()} has no {mobile}; the host is the crystal with every {mobile} site "
                         "filled (or say mobile=None)")
    both = np.concatenate([mobile_sites, redox_sites])
    perms, n = permutations(atoms, both, symprec) if len(both) else np.zeros((1, 0), int), len(mobile_sites)
    name = _lattice_name(superlattice(matrix if np.ndim(matrix) == 2 else np.diag(np.broadcast_to(matrix, 3))))
    framework = Counter(s for s in symbols.tolist() if s != mobile)
    return _Sites(atoms, name, mobile, mobile_sites, redox_sites, perms[:, :n], perms[:, n:] - n,
                  math.gcd(*framework.values()))


def _lattice_name(lattice):
    diagonal = np.array_equal(lattice, np.diag(lattice.diagonal()))
    name = "x".join(map(str, lattice.diagonal() if diagonal else lattice[np.triu_indices(3)]))
    return "" if name == "1x1x1" else f"_{name}"


@dataclass(frozen=True, slots=True, eq=False)
class Ordering:
    """One symmetry-distinct arrangement of mobile ions with one charge ordering.

    Attributes
    ----------
    degeneracy : int
        How many equivalent ones the cell holds (with ``mobile_sites`` given: how many for that arrangement).
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
    def mobile_sites(self):
        n = len(self._problem.sites.mobile)
        return tuple(i for i in range(n) if self._mobile >> (n - 1 - i) & 1)

    @property
    def redox_sites(self):
        return self._problem.sites.redox.copy()

    @property
    def oxi_states(self):
        options, bits = self._problem.options, self._problem.bits
        last = bits * (len(options) - 1)
        return np.array([q[self._redox >> (last - bits * i) & ((1 << bits) - 1)] for i, q in enumerate(options)], int)

    @property
    def x(self):
        return len(self.mobile_sites) / self._problem.sites.n_units

    @property
    def label(self):
        sites = self._problem.sites
        if sites.name and not self._problem.first_of_its_shape:
            return ordering_label(self._decorated(), self._problem.host, sites.mobile_element, {*REDOX, *self._problem.redox})
        return sites.label(np.isin(np.arange(len(sites.mobile)), self.mobile_sites), self.oxi_states)

    def __str__(self):
        return f"{self.label} (degeneracy {self.degeneracy})"

    def atoms(self):
        """The decorated crystal on the places of the host.

        Returns
        -------
        ase.Atoms
            ``arrays["oxi_states"]`` of all atoms (when ``redox`` was given), and in ``info``: ``x``, ``ordering`` (the label),
            ``degeneracy`` and the sites as in the embedded set: ``na_sites``, ``fe3_sites`` (one for every element and state above
            its lowest), counted per element.
        """
        sites, result = self._problem.sites, self._decorated()
        result.info = {"x": self.x, "ordering": self.label, "degeneracy": self.degeneracy}
        if sites.mobile_element:
            result.info[f"{sites.mobile_element.lower()}_sites"] = self.mobile_sites
        elements, states = np.array(sites.elements), self.oxi_states
        for e, options in self._problem.redox.items():
            for q in options[1:]:
                result.info[f"{e.lower()}{q}_sites"] = tuple(np.flatnonzero(states[elements == e] == q).tolist())
        return result

    def _decorated(self):
        sites, result = self._problem.sites, self._problem.sites.atoms.copy()
        if self._problem.redox:
            charges = np.array([self._problem.fixed.get(s, 0) for s in result.symbols])
            charges[sites.redox] = self.oxi_states
            result.set_array("oxi_states", charges)
        del result[np.delete(sites.mobile, list(self.mobile_sites))]
        return result


@dataclass(frozen=True, eq=False)
class _Problem:
    """What `enumerate_orderings` and `count_orderings` were asked for, checked."""
    host: Atoms
    sites: _Sites
    redox: dict         # {element: its states, lowest first}
    options: tuple      # the states that each redox site may have, lowest first
    bits: int           # of the code of a charge ordering, per site
    fixed: dict         # {element: charge}, the mobile ion included
    charges: dict       # {number of mobile ions: what the redox sites have to sum to}
    given: int | None   # code of the arrangement asked for

    @functools.cached_property
    def first_of_its_shape(self):
        """Whether no equivalent superlattice (2x1x1 for 1x2x1 of a cubic host) gives the orderings of this cell their names."""
        lattice, _ = map_onto_host(self.sites.atoms, self.host, self.sites.mobile_element)
        return self.sites.name == _lattice_name(lattice)


def _problem(host, mobile, redox, n_mobile, supercell, mobile_sites, fixed, total_charge, symprec):
    redox = {e: tuple(sorted({int(q) for q in states})) for e, states in dict(redox or {}).items()}
    symbols = set(host.get_chemical_symbols())
    if absent := sorted(e for e in redox if e not in symbols or not redox[e] or e == mobile):
        raise InputError(f"redox={redox}: the host {host.get_chemical_formula()} needs {', '.join(absent)} with at least one state, "
                         "and the mobile ion cannot be one of them")
    sites = _sites(host, supercell, mobile, {*REDOX, *redox} if redox else (), symprec)
    charge_of = _fixed_charges(host, set(redox), fixed) if redox else {}
    options = tuple(redox.get(e) or (charge_of[e],) for e in sites.elements)
    bits = max((len(o) - 1 for o in options), default=1).bit_length() or 1
    n_sites = len(sites.mobile)
    if n_sites > BITS or bits * len(options) > BITS:
        raise InputError(f"enumerate_orderings: {n_sites} mobile and {len(options)} redox sites are too many "
                         f"(at most {BITS} and {BITS // bits}); take a smaller supercell")
    given = None
    if mobile_sites is not None:
        chosen = sorted({int(i) for i in mobile_sites})
        if len(chosen) != len(list(mobile_sites)) or not all(0 <= i < n_sites for i in chosen):
            raise InputError(f"mobile_sites={tuple(mobile_sites)}: give different numbers from 0 to {n_sites - 1}, "
                             f"which count the {mobile} of the host")
        given = sum(1 << (n_sites - 1 - i) for i in chosen)
        if n_mobile is not None and n_mobile != len(chosen):
            raise InputError(f"mobile_sites names {len(chosen)} ions, n_mobile says {n_mobile}")
        n_mobile = len(chosen)
    single = n_mobile is not None and np.ndim(n_mobile) == 0
    wanted = [n_mobile] if single else range(n_sites + 1) if n_mobile is None else list(n_mobile)
    if bad := [n for n in wanted if int(n) != n or not 0 <= n <= n_sites]:
        raise InputError(f"n_mobile={bad[0]}: the cell has {n_sites} {mobile} sites")
    low, high = (sum(pick(o) for o in options) for pick in (min, max))
    rest = total_charge - sum(charge_of.get(s, 0) for s in np.delete(sites.atoms.symbols, np.append(sites.mobile, sites.redox)))
    charges = {int(n): rest - n * charge_of.get(mobile, 0) if redox else 0 for n in wanted}
    reachable = {n: int(q) for n, q in charges.items() if not redox or (q == int(q) and _ways(options)[0].get(int(q)))}
    if not reachable or (single and not len(reachable)):
        asked = ", ".join(f"{q:g} with {n} {mobile}" for n, q in list(charges.items())[:4])
        raise InputError(f"{sites.atoms.get_chemical_formula()}: no charge ordering has the total charge {total_charge:g}: the redox sites "
                         f"would have to sum to {asked}{', ...' if len(charges) > 4 else ''}, and can to {low} to {high}; "
                         "check redox= and fixed=")
    if max(_ways(options)[0].values()) > 2**62:
        raise InputError(f"{sites.atoms.get_chemical_formula()} has too many charge orderings to go through; take a smaller supercell")
    return _Problem(host, sites, redox, options, bits, charge_of, reachable, given)


def _fixed_charges(host, redox, given):
    """Charge of every element that keeps its valence: as given, else ``arrays["oxi_states"]`` of the host, else the common one."""
    symbols, charges = np.array(host.get_chemical_symbols()), dict(given or {})
    states = host.arrays.get("oxi_states")
    for e in sorted(set(symbols) - redox - set(charges)):
        found = set() if states is None else {float(q) for q in np.asarray(states)[symbols == e]}
        if len(found) > 1:
            raise InputError(f"{e} has the oxidation states {sorted(found)} in the host: name it in redox= or give fixed={{'{e}': ...}}")
        if not found and e not in FIXED:
            raise InputError(f"which charge does {e} have? Give fixed={{'{e}': ...}}, or name it in redox=")
        charges[e] = found.pop() if found else FIXED[e]
    if odd := [e for e, q in charges.items() if not isinstance(q, (int, float, np.number)) or not float(q).is_integer()]:
        raise InputError(f"the oxidation state of {odd[0]}, {charges[odd[0]]}, is not a whole number")
    return {e: int(q) for e, q in charges.items()}


@functools.lru_cache(maxsize=8)
def _ways(options):
    """For every site, in how many ways it and those after it can sum to a charge: list of ``{charge: ways}``, {0: 1} at its end."""
    ways = [{0: 1}]
    for states in reversed(options):
        ways.append({})
        for charge, n in ways[-2].items():
            for q in states:
                ways[-1][charge + q] = ways[-1].get(charge + q, 0) + n
    return ways[::-1]


def _codes(options, bits, total):
    """All choices of one state per site that sum to `total`, as integers in falling order, in arrays of `CHUNK`.

    The first site is in the highest bits; a digit is the rank of the state. The r-th code is found without those before it:
    site by site, by how many codes go on with the highest state, the second highest, and so on.
    """
    ways = _ways(options)
    count = ways[0].get(total, 0)
    tables = []
    for table in ways[1:]:
        low = min(table)
        tables.append((low, np.array([min(table.get(c, 0), 2**62) for c in range(low, max(table) + 1)], np.int64)))
    for start in range(0, count, CHUNK):
        rank = np.arange(start, min(start + CHUNK, count), dtype=np.int64)
        left, code = np.full(len(rank), total, np.int64), np.zeros(len(rank), np.uint64)
        for states, (low, table) in zip(options, tables):
            undecided, before, code = np.ones(len(rank), bool), left, code << np.uint64(bits)
            for digit in reversed(range(len(states))):
                at = before - states[digit] - low
                n = np.where((at >= 0) & (at < len(table)), table[np.clip(at, 0, len(table) - 1)], 0)
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
    return functools.reduce(np.bitwise_or, (t[(codes >> np.uint64(8 * b)) & np.uint64(255)] for b, t in enumerate(table)))


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


def enumerate_orderings(host, mobile="Na", redox={"Fe": (2, 3)}, n_mobile=None, supercell=None, mobile_sites=None, fixed=None,  # noqa: B006
                        total_charge=0, symprec=1e-2, progress=True):
    """Symmetry-distinct arrangements of mobile ions, each with its symmetry-distinct charge orderings, one after the other.

    Every arrangement that comes first among its equivalents is combined with the charge orderings that come first under the
    operations that leave the arrangement alone; nothing is kept, so memory does not grow with their number. The degeneracies of
    one `n_mobile` sum to the number of all configurations, and there are as many orderings as Burnside's lemma says
    (`count_orderings`).

    Parameters
    ----------
    host : ase.Atoms
        The crystal with every site of the mobile ion filled, made exactly symmetric (`find_host` does).
    mobile : str or None
        The element whose sites may be empty; None for charge orderings only.
    redox : dict
        ``{element: its oxidation states}``, of any number of elements and states. Empty: arrangements only, whatever their charge.
    n_mobile : int or iterable of int, optional
        Mobile ions in the cell, by default every number from none to all that a charge ordering can balance.
    supercell : int, three ints or 3x3 ints, optional
        Repeats the host first.
    mobile_sites : iterable of int, optional
        One arrangement (filled sites, counted among the mobile-ion sites): only its charge orderings, under its own symmetry.
    fixed : dict, optional
        Charges of the other elements; those not named are taken from ``host.arrays["oxi_states"]``, else the common ones.
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
        At the call, not at the first ordering: when the host has no such sites, a charge is unknown, the charge cannot be
        reached, or the cell has more than 64 mobile sites or 64 redox sites (32 with three or four states).
    """
    return _orderings(_problem(host, mobile, redox, n_mobile, supercell, mobile_sites, fixed, total_charge, symprec), progress)


def _orderings(problem, progress):
    from tqdm.auto import tqdm
    sites, configurations = problem.sites, sum(_configurations(problem).values())
    arranged, charged = _byte_tables(sites.mobile_perms, 1), _byte_tables(sites.redox_perms, problem.bits)
    with tqdm(total=configurations, unit=" configurations", delay=3, disable=not progress) as bar:
        for n, charge in problem.charges.items():
            arrangements = [(problem.given, 1)] if problem.given is not None else \
                _distinct(_codes(((0, 1),) * len(sites.mobile), 1, n), arranged)
            for arrangement, size in arrangements:
                images = _apply(arranged.transpose(1, 2, 0), np.uint64(arrangement))
                for states, degeneracy in _distinct(_codes(problem.options, problem.bits, charge), charged[images == arrangement]):
                    yield Ordering(size * degeneracy, arrangement, states, problem)
                    bar.update(size * degeneracy)


def _configurations(problem):
    n_sites = len(problem.sites.mobile)
    return {n: (1 if problem.given is not None else math.comb(n_sites, n)) * _ways(problem.options)[0].get(charge, 0)
            for n, charge in problem.charges.items()}


def count_orderings(host, mobile="Na", redox={"Fe": (2, 3)}, n_mobile=None, supercell=None, mobile_sites=None, fixed=None,  # noqa: B006
                    total_charge=0, symprec=1e-2):
    """How many orderings `enumerate_orderings` would find, without finding them.

    Burnside's lemma: the number of orbits is the mean number of configurations that an operation leaves alone, and such a
    configuration is constant on every cycle of the operation.

    Parameters
    ----------
    host, mobile, redox, n_mobile, supercell, mobile_sites, fixed, total_charge, symprec
        As in `enumerate_orderings`.

    Returns
    -------
    pandas.DataFrame
        Per number of mobile ions: ``n_mobile``, ``x`` (per formula unit), ``configurations``, ``orderings`` (Python integers,
        exact whatever their size).
    """
    import pandas as pd
    problem = _problem(host, mobile, redox, n_mobile, supercell, mobile_sites, fixed, total_charge, symprec)
    sites, total = problem.sites, _configurations(problem)
    n_sites, unchanged, n_ops = len(sites.mobile), dict.fromkeys(total, 0), 0
    filled = np.array([bool(problem.given >> (n_sites - 1 - i) & 1) for i in range(n_sites)]) if problem.given is not None else None
    for perm, redox_perm in zip(sites.mobile_perms, sites.redox_perms):
        if filled is not None and not np.array_equal(filled[perm], filled):
            continue
        n_ops += 1
        arrangements = {sum(filled): 1} if filled is not None else _ways(tuple((0, len(c)) for c in _cycles(perm)))[0]
        charges = _ways(tuple(tuple(q * len(c) for q in problem.options[c[0]]) for c in _cycles(redox_perm)))[0]
        for n, charge in problem.charges.items():
            unchanged[n] += arrangements.get(n, 0) * charges.get(charge, 0)
    rows = [{"n_mobile": n, "x": n / sites.n_units, "configurations": total[n], "orderings": unchanged[n] // n_ops} for n in total]
    return pd.DataFrame(rows).astype({"configurations": object, "orderings": object})


def _cycles(perm):
    left, perm = set(range(len(perm))), perm.tolist()
    while left:
        cycle = [left.pop()]
        while (i := perm[cycle[-1]]) in left:
            left.remove(i)
            cycle.append(i)
        yield cycle


def ordering_label(atoms, host=None, mobile="Na", redox=REDOX, max_distance=1.0, symprec=1e-2):
    """The name of the ordering of a frame, relaxed or not: equal for equivalent orderings of a host, different for others.

    Every atom is taken to the nearest site of the undecorated host (see `map_onto_host`: order of the atoms, rotation, shift,
    strain and choice of cell do not matter; mirror images count as one, as they have one energy). The name is the first of
    all names that the symmetry of the host allows.

    Parameters
    ----------
    atoms : ase.Atoms
        With ``arrays["oxi_states"]`` when it holds redox-active elements.
    host : ase.Atoms, optional
        The crystal with every mobile-ion site filled, or a smaller cell of it; the numbers in the name are those of its sites, so
        compare names of one host only. By default it is found from the frame (`find_host`), which needs at least one mobile
        ion in each set of equivalent sites, so give it for a frame such as FePO4.
    mobile : str or None
    redox : iterable of str
        Elements whose oxidation states count (a dictionary as in `enumerate_orderings` will do).
    max_distance : float
        Å that an atom may be away from its site.
    symprec : float
        Å, for the symmetry of the host.

    Returns
    -------
    str
        Such as ``x050_na01_fe02``; how to read it is at the top of this module.

    Raises
    ------
    InputError
        When an atom has no site (names it and the distance), oxidation states are missing, or the host cannot be found.
    """
    return _located(atoms, host, mobile, redox, max_distance, symprec)[0]


def _located(atoms, host, mobile, redox, max_distance, symprec):
    """Label, degeneracy, mobile ions per formula unit, and the superlattice's part of the label."""
    atoms = without_vacancies(atoms)
    redox = {e for e in redox if e in atoms.symbols}
    states = _states(atoms, redox)
    host = find_host([atoms], mobile) if host is None else host
    lattice, at = map_onto_host(atoms, host, mobile, max_distance)
    sites = _sites(host, None if np.array_equal(lattice, np.eye(3)) else lattice, mobile, redox, symprec)
    charge = np.zeros(len(sites.atoms), int)
    charge[at] = states
    filled, charge = np.isin(sites.mobile, at), charge[sites.redox]
    same = (filled[sites.mobile_perms] == filled).all(axis=1) & (charge[sites.redox_perms] == charge).all(axis=1)
    return sites.label(filled, charge), len(same) // int(same.sum()), float(filled.sum() / sites.n_units), sites.name


def _states(atoms, redox):
    """Oxidation states of the redox-active atoms, 0 for the others."""
    if "oxi_states" not in atoms.arrays:
        if not redox:
            return np.zeros(len(atoms), int)
        raise InputError(f"{atoms.get_chemical_formula()}: an ordering needs atoms.arrays['oxi_states']; "
                         "set them by hand, or take them from infer_oxidation_states(atoms).states")
    states, symbols = np.asarray(atoms.arrays["oxi_states"], float), np.array(atoms.get_chemical_symbols())
    counts = np.isin(symbols, sorted(redox))
    if len(bad := np.flatnonzero(counts & (states != np.rint(states)))):
        raise InputError(f"{atoms.get_chemical_formula()}: atom {bad[0]} ({symbols[bad[0]]}) has the oxidation state "
                         f"{states[bad[0]]:g}; an ordering needs whole numbers, such as infer_oxidation_states(atoms).states")
    for e in sorted(set(symbols) - redox):
        if len(found := np.unique(states[symbols == e])) > 1:
            raise InputError(f"{atoms.get_chemical_formula()}: {e} has the oxidation states {', '.join(f'{q:g}' for q in found)}; "
                             f"name it in redox= for them to count")
    return np.where(counts, states, 0).astype(int)


def same_ordering(a, b, host=None, mobile="Na", redox=REDOX, max_distance=1.0, symprec=1e-2):
    """Whether two frames, relaxed or not, hold the same arrangement of mobile ions and the same charge ordering.

    Parameters
    ----------
    a, b : ase.Atoms
        With ``arrays["oxi_states"]``. One may be a supercell of the other: the smaller is then repeated.
    host, mobile, redox, max_distance, symprec
        As in `ordering_label`; the host is by default found from both frames.

    Returns
    -------
    bool
        False when the compositions differ.

    Raises
    ------
    InputError
        As `ordering_label`, and when the cells are different supercells of the host, neither a multiple of the other.
    """
    small, large = sorted((without_vacancies(a), without_vacancies(b)), key=len)
    times = len(large) / max(len(small), 1)
    if {e: times * n for e, n in Counter(small.symbols).items()} != Counter(large.symbols):
        return False
    if host is None:
        host = find_host([a, b] if times == 1 else [small], mobile)
    located = [_located(atoms, host, mobile, redox, max_distance, symprec)
               for atoms in (large, *(tilings(small, large) if times > 1 else [small]))]
    if not any(found[3] == located[0][3] for found in located[1:]):
        raise InputError(f"{a.get_chemical_formula()} and {b.get_chemical_formula()} have different supercells of the host; "
                         "to compare them, repeat both to a common cell")
    return any(found[0] == located[0][0] for found in located[1:])


def orderings_table(frames, host=None, mobile="Na", redox=REDOX, max_distance=1.0, symprec=1e-2, progress=True):
    """The orderings in a list of frames, one row each.

    Parameters
    ----------
    frames : list of ase.Atoms
        With ``arrays["oxi_states"]``; energies (eV per cell) where there are any.
    host, mobile, redox, max_distance, symprec
        As in `ordering_label`; the host is by default found from all frames (then they must be of one cell).
    progress : bool
        A progress bar when it takes more than a few seconds.

    Returns
    -------
    pandas.DataFrame
        Sorted by x and energy: ``ordering`` (the label), ``x`` (mobile ions per formula unit of the framework), ``formula``,
        ``degeneracy``, ``n_frames``, ``energy_per_fu`` (lowest, eV per formula unit), ``above_lowest`` (meV per formula unit above
        the lowest ordering of that x), ``lowest_frame`` (its number in `frames`). Energies are NaN where no frame has one.
    """
    import pandas as pd
    from tqdm.auto import tqdm
    columns = ["ordering", "x", "formula", "degeneracy", "n_frames", "energy_per_fu", "above_lowest", "lowest_frame"]
    frames, rows = list(frames), {}
    host = find_host(frames, mobile) if host is None and frames else host
    for i, atoms in enumerate(tqdm(frames, unit=" frames", delay=3, disable=not progress)):
        try:
            name, degeneracy, x, _ = _located(atoms, host, mobile, redox, max_distance, symprec)
        except InputError as reason:
            raise InputError(f"orderings_table: frame {i}: {reason}") from None
        energy, n_units = label(atoms, "energy"), math.gcd(*(n for e, n in Counter(atoms.symbols).items() if e != mobile))
        energy = np.nan if energy is None else float(energy) / n_units
        row = rows.setdefault(name, dict(zip(columns, (name, x, atoms.get_chemical_formula(), degeneracy, 0, np.nan, np.nan, i))))
        row["n_frames"] += 1
        if energy < row["energy_per_fu"] or (np.isnan(row["energy_per_fu"]) and np.isfinite(energy)):
            row.update(energy_per_fu=energy, lowest_frame=i)
    table = pd.DataFrame(list(rows.values()), columns=columns).sort_values(["x", "energy_per_fu", "ordering"], ignore_index=True)
    table["above_lowest"] = 1000 * (table["energy_per_fu"] - table.groupby("x")["energy_per_fu"].transform("min"))
    return table
