"""Arrangements of mobile ions and charge orderings: name them and compare them
(`mlipkit.orderings.enumeration` lists them all).

An ordering is a choice of filled mobile-ion sites and of an oxidation state for every redox-active
site of a host crystal; two are the same when the symmetry of the undecorated host takes one to the
other.

Names read x050_na01_fe02: half a Na per formula unit of the framework, Na on sites 0 and 1, Fe3+ on
sites 0 and 2, all other Fe 2+. Sites are counted per element in the order of the host's atoms, 0 to
9 and then a to z. With more than 36 sites there are dots in between, and of more than half of them
those are told that are not meant (_fenot4.17; _feall). States other than 2+ and 3+ carry their
number (_mn4.13). In a supercell of the host its superlattice follows (_1x3x2). Of the names that
symmetry allows it is the first, so equivalent orderings have one name.
"""

import functools
import re
import warnings
from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers

from mlipkit import arguments
from mlipkit.charges.compounds import REDOX, compound_of, mobile_of
from mlipkit.charges.oxidation import FIXED, OXYANION
from mlipkit.charges.references import LAST, redox_elements, tell_redox
from mlipkit.files import InputError
from mlipkit.frames.labels import require_states
from mlipkit.frames.taken import as_frame
from mlipkit.orderings.host_search import find_host
from mlipkit.orderings.hosts import (
    best_fit,
    map_onto_host,
    permutations,
    repeats,
    supercell,
    superlattice,
    tilings,
    without_vacancies,
)

SITES = re.compile(r"(-?\d+\.)?(-|[0-9a-z]+|(not)?\d+(\.\d+)*)")  # a state and a dot, then sites
DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, eq=False)
class Sites:
    """A host supercell with the permutations of its mobile and redox sites by symmetry (both of
    shape (n_operations, n_sites)).
    """

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
        """Of all equivalent (filled, states) the one whose filled sites, then whose high states
        come first.
        """
        best = self.first(filled, states)
        filled, states = np.asarray(filled, bool), np.asarray(states, int)
        return filled[self.mobile_perms[best]], states[self.redox_perms[best]]

    def first(self, filled, states):
        """Number of the operation that takes (filled, states) to the canonical one."""
        filled, states = np.asarray(filled, int), np.asarray(states, int)
        rows = np.concatenate([filled[self.mobile_perms], states[self.redox_perms]], axis=1)
        rows = rows.tolist()
        return max(range(len(rows)), key=rows.__getitem__)

    def label(self, filled, states):
        filled, states = self.canonical(filled, states)
        parts = [f"x{round(100 * filled.sum() / self.n_units):03d}"]
        if self.mobile_element:
            parts.append(self.mobile_element.lower() + _join(np.flatnonzero(filled), len(filled)))
        elements = np.array(self.elements)
        for e in dict.fromkeys(self.elements):
            mine = states[elements == e]
            parts.append(e.lower() + _join(np.flatnonzero(mine == 3), len(mine)))
            parts += [
                f"{e.lower()}{q}." + _join(np.flatnonzero(mine == q), len(mine))
                for q in sorted(set(mine) - {2, 3})
            ]
        return "_".join(parts) + self.name

    def decorated(self, filled, states, charges, compound, total_charge=0):
        """The cell with its empty mobile sites out; `states` on the redox sites, elsewhere
        `charges` by element (None: no charges), and what the compound and the charge of the cell
        say in ``info``.
        """
        atoms = self.atoms.copy()
        if charges is not None:
            oxi_states = np.array([charges.get(s, 0) for s in atoms.symbols])
            oxi_states[self.redox] = states
            atoms.set_array("oxi_states", oxi_states)
        del atoms[self.mobile[~filled]]
        tell_redox(atoms, compound)
        if charges is not None and total_charge:
            atoms.info["charge"] = total_charge
        return atoms


def _join(sites, n_sites):
    if not len(sites):
        return "-"
    if n_sites <= len(DIGITS):
        return "".join(DIGITS[i] for i in sites)
    if 2 * len(sites) <= n_sites:
        return ".".join(map(str, sites))
    others = sorted({*range(n_sites)} - {*sites})
    return "not" + ".".join(map(str, others)) if others else "all"


def sites_of(host, matrix, compound, symprec=1e-2, redox=None):
    """The sites of a host (supercell); of a compound, its metals with others that count in names.

    A formula unit is that of the compound.
    """
    redox = counting(compound) if redox is None else redox
    mobile, unit = compound.mobile, sum(compound.counts.values())
    plain = host.numbers.tobytes(), host.positions.tobytes(), host.cell.array.tobytes()
    matrix = tuple(repeats(matrix).ravel().tolist())
    return _cached_sites(*plain, matrix, mobile, tuple(sorted(redox)), symprec, unit)


@functools.lru_cache(maxsize=32)
def _cached_sites(numbers, positions, cell, matrix, mobile, redox, symprec, unit):
    host = Atoms(
        np.frombuffer(numbers, int),
        np.frombuffer(positions).reshape(-1, 3),
        cell=np.frombuffer(cell).reshape(3, 3),
        pbc=True,
    )
    matrix = np.array(matrix).reshape(3, 3)
    atoms = supercell(host, matrix)
    symbols = np.array(atoms.get_chemical_symbols())
    mobile_sites, redox_sites = (
        np.flatnonzero(symbols == mobile),
        np.flatnonzero(np.isin(symbols, [e for e in redox if e != mobile])),
    )
    if mobile and not len(mobile_sites):
        raise InputError(
            f"the host {host.get_chemical_formula()} has no {mobile}; the host is the crystal "
            f"with every {mobile} site filled (or say compound=mk.Compound(mobile=None, ...))"
        )
    both = np.concatenate([mobile_sites, redox_sites])
    perms, n = (
        permutations(atoms, both, symprec) if len(both) else np.zeros((1, 0), int),
        len(mobile_sites),
    )
    name = lattice_name(superlattice(matrix))
    n_units = int((symbols != mobile).sum()) // unit
    return Sites(
        atoms, name, mobile, mobile_sites, redox_sites, perms[:, :n], perms[:, n:] - n, n_units
    )


def lattice_name(lattice):
    diagonal = np.array_equal(lattice, np.diag(lattice.diagonal()))
    name = "x".join(map(str, lattice.diagonal() if diagonal else lattice[np.triu_indices(3)]))
    return "" if name == "1x1x1" else f"_{name}"


def ordering_label(atoms, host=None, compound=None, max_distance=1.0, symprec=1e-2):
    """The name of the ordering of a frame, relaxed or not: equal for equivalent orderings of a
    host, different for others.

    Every atom is taken to the nearest site of the undecorated host (see `map_onto_host`: order of
    the atoms, rotation, shift, strain and choice of cell do not matter; mirror images count as one,
    as they have one energy). The name is the first of all names that the symmetry of the host
    allows.

    Parameters
    ----------
    atoms : ase.Atoms
        With ``arrays["oxi_states"]`` when it holds redox-active elements.
    host : ase.Atoms, optional
        The crystal with every mobile-ion site filled, or a smaller cell of it; the numbers in the
        name are those of its sites, so compare names of one host only. By default it is found from
        the frame (`find_host`), which needs at least one mobile ion in each set of equivalent
        sites, so give it for a frame such as FePO4. Give it too for the names of a data set: those
        of the embedded one are on ``end_points(load_dft())[-1]``.
    compound : Compound, optional
        By default found from the frame and the host. The states of its redox metals count in the
        name, and those of every other metal whose charge may change (`redox_elements`).
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
        When an atom has no site (names it and the distance), oxidation states are missing, or the
        host cannot be found.

    Warns
    -----
    UserWarning
        When no host is given and the frame carries another name (``info["ordering"]``).
    """
    checked_lengths("ordering_label", max_distance, symprec)
    atoms, host = as_frame(atoms, "ordering_label"), host_frame(host)
    compound = compound_of([atoms], compound, host)
    name = located(atoms, host, compound, max_distance, symprec).ordering
    carried = str(atoms.info.get("ordering", name)).rpartition(":")[2]
    if host is None and carried != name:
        warnings.warn(
            f"ordering_label: {name} counts the sites of the crystal that was found from this "
            f"frame alone, {carried}, which the frame carries, perhaps those of another: the "
            "names are not to be compared. Give host=, a frame of the data set with every "
            "mobile-ion site filled, for its numbers",
            stacklevel=2,
        )
    return name


def arrangement(ordering):
    """The arrangement of mobile ions in the name of an ordering: x050_na01 of x050_na01_fe02."""
    parts = ordering.split("_")
    return "_".join([parts[0], *(part for part in parts[1:] if not _of_a_metal(part))])


def _of_a_metal(part):
    """Whether a part of a name, such as fe02, mn4.13 or v-, tells the states of a metal."""
    for length in (2, 1):
        element, sites = part[:length].capitalize(), part[length:]
        # a metal that is in no table, such as Pr, is there since somebody named its states
        metal = element in REDOX or FIXED.get(element, 0) > 2
        metal = metal or element in atomic_numbers.keys() - FIXED.keys() - OXYANION.keys()
        if metal and SITES.fullmatch(sites):
            return True
    return False


@dataclass(frozen=True)
class Place:
    """What the host says of a frame."""

    ordering: str
    degeneracy: int
    x: float  # mobile ions per formula unit
    lattice: str  # the part of the name that tells the supercell
    n_units: int


def checked_lengths(where, max_distance, symprec=1e-2):
    """Refuse what are no lengths in Å; spglib takes no larger tolerance than 1."""
    arguments.number(max_distance, f"{where}: max_distance", above=0)
    arguments.number(symprec, f"{where}: symprec", above=0, most=1)


def host_frame(host):
    """A host as `ase.Atoms`, or None."""
    return None if host is None else as_frame(host, "host")


def counting(compound):
    """Elements whose oxidation states count in a name."""
    return {*redox_elements(compound.counts), *compound.redox}


def located(atoms, host, compound, max_distance=1.0, symprec=1e-2):
    """Name, degeneracy and x of a frame; the host is found from the frame where it is None."""
    atoms = without_vacancies(atoms)
    redox = {e for e in counting(compound) if e in atoms.symbols}
    if "oxi_states" not in atoms.arrays:
        redox -= {*LAST}  # of one valence, unless the frame says otherwise
    states = _states(atoms, redox)
    if host is None:
        host = find_host([atoms], compound)
        compound = compound_of([atoms], replace(compound, framework=None), host)
    sites, _, filled, charge = _on_sites(
        atoms, host, compound, states, redox, max_distance, symprec
    )
    same = (filled[sites.mobile_perms] == filled).all(axis=1)
    same &= (charge[sites.redox_perms] == charge).all(axis=1)
    x = float(filled.sum() / sites.n_units)
    degeneracy = len(same) // int(same.sum())
    return Place(sites.label(filled, charge), degeneracy, x, sites.name, sites.n_units)


def _on_sites(atoms, host, compound, states, redox, max_distance, symprec):
    """The sites of a frame's host, the site of each atom, and what is on the mobile and the redox
    sites.
    """
    lattice, at = map_onto_host(atoms, host, compound.mobile, max_distance)
    matrix = None if np.array_equal(lattice, np.eye(3)) else lattice
    sites = sites_of(host, matrix, compound, symprec, redox)
    charge = np.zeros(len(sites.atoms), int)
    charge[at] = states
    return sites, at, np.isin(sites.mobile, at), charge[sites.redox]


def described(ordering):
    """The name of an ordering in words.

    Parameters
    ----------
    ordering : str
        Such as ``x050_na01_fe02``.

    Returns
    -------
    str
        Such as ``x = 0.5, Na on 0 and 1, Fe3+ on 0 and 2``; sites are counted per element as in the
        name (`site_numbers`). What is no such name comes back as it is.
    """
    head, *parts = ordering.rpartition(":")[2].split("_")
    if not re.fullmatch(r"x\d{3,}", head):
        return ordering
    said, before = [f"x = {int(head[1:]) / 100:g}"], None
    for part in parts:
        if re.fullmatch(r"\d+(x\d+)+", part):
            said.append(f"in a cell of {part.replace('x', '×')}")
            continue
        element = _element(part)
        if element is None:
            return ordering
        said.append(_said(element, part[len(element) :], again=element == before and "." in part))
        before = element
    return ", ".join(said)


def _element(part):
    """The element that a part of a name begins with, such as Fe of fe02."""
    for length in (2, 1):
        element = part[:length].capitalize()
        if element in atomic_numbers and element != "X" and SITES.fullmatch(part[length:]):
            return element
    return None


def _said(element, sites, again):
    """'Fe3+ on 0 and 2' of Fe and 02; 'Mn4+ on 1 and 3' of Mn and 4.13, where another part has told
    its 3+ before.
    """
    ion = f"{element}3+" if _of_a_metal(element.lower() + sites) else element
    if again:
        state, _, sites = sites.partition(".")
        ion = f"{element}{int(state)}+"
    if sites == "-":
        return f"no {ion}"
    if sites == "all":  # no three sites: their numbers would rise
        return f"{ion} on all"
    if all_but := re.fullmatch(r"not([\d.]+)", sites):
        return f"{ion} on all but {_listed(all_but[1].split('.'))}"
    return f"{ion} on " + _listed(
        sites.split(".") if "." in sites else [str(int(c, 36)) for c in sites]
    )


def _listed(numbers):
    *front, last = numbers
    return f"{', '.join(front)} and {last}" if front else last


def site_numbers(atoms, host, compound=None, max_distance=1.5, symprec=1e-2):
    """The numbers that the name of a frame's ordering has for its atoms.

    Parameters
    ----------
    atoms, host, compound, max_distance, symprec
        As for `ordering_label`.

    Returns
    -------
    numpy.ndarray of int, shape (n_atoms,)
        For mobile ions and redox-active atoms, counted per element; -1 for all others.
    """
    atoms, compound = without_vacancies(atoms), compound_of([atoms], compound, host)
    redox = {e for e in counting(compound) if e in atoms.symbols}
    sites, at, filled, charge = _on_sites(
        atoms, host, compound, _states(atoms, redox), redox, max_distance, symprec
    )
    best = sites.first(filled, charge)
    number = np.full(len(sites.atoms), -1)
    number[sites.mobile[sites.mobile_perms[best]]] = np.arange(len(sites.mobile))
    turned, elements = sites.redox[sites.redox_perms[best]], np.array(sites.elements)
    for element in set(sites.elements):
        mine = turned[elements == element]
        number[mine] = np.arange(len(mine))
    return number[at]


def _states(atoms, redox):
    """Oxidation states of the redox-active atoms, 0 for the others."""
    if "oxi_states" not in atoms.arrays:
        if not redox:
            return np.zeros(len(atoms), int)
        raise InputError(
            f"{atoms.get_chemical_formula()}: an ordering needs atoms.arrays['oxi_states']; "
            "set them by hand, or take them from infer_oxidation_states(atoms).states"
        )
    states, symbols = (
        np.asarray(atoms.arrays["oxi_states"], float),
        np.array(atoms.get_chemical_symbols()),
    )
    counts = np.isin(symbols, sorted(redox))
    if len(bad := np.flatnonzero(counts & (states != np.rint(states)))):
        raise InputError(
            f"{atoms.get_chemical_formula()}: atom {bad[0]} ({symbols[bad[0]]}) has the oxidation "
            "state "
            f"{states[bad[0]]:g}; an ordering needs whole numbers, such as "
            "infer_oxidation_states(atoms).states"
        )
    require_states(atoms, np.flatnonzero(counts))
    for e in sorted(set(symbols) - redox):
        if len(found := np.unique(states[symbols == e])) > 1:
            raise InputError(
                f"{atoms.get_chemical_formula()}: {e} has the oxidation states "
                f"{', '.join(f'{q:g}' for q in found)}; "
                f"name it in compound=mk.Compound(redox=...) for them to count"
            )
    return np.where(counts, states, 0).astype(int)


def undistorted(atoms, host, compound=None, max_distance=1.0):
    """A frame with every atom moved back onto its site of the undecorated host, in the frame's own
    cell.

    What is left of the ordering are the filled sites and the labels: bond lengths no longer tell
    which ion is which.

    Parameters
    ----------
    atoms : ase.Atoms
        Relaxed or not; keeps its cell, the order of its atoms, ``oxi_states`` and ``info``, and
        loses its labels.
    host : ase.Atoms
        The crystal with every site of the mobile ion filled, such as relaxed NaFePO4.
    compound : Compound, optional
        By default found from the frame and the host.
    max_distance
        As in `map_onto_host`; the frame may be in any setting of the host or of a supercell of it.

    Returns
    -------
    ase.Atoms
    """
    checked_lengths("undistorted", max_distance)
    atoms, host = as_frame(atoms, "undistorted"), as_frame(host, "undistorted")
    mobile = mobile_of([atoms], compound, host)
    lattice, at = map_onto_host(atoms, host, mobile, max_distance)
    sites, result = supercell(host, lattice), atoms.copy()
    s = sites.get_scaled_positions(wrap=False)[at] - atoms.get_scaled_positions(wrap=False)
    s -= np.round(s)
    if np.linalg.norm((s - s.mean(axis=0)) @ atoms.cell.array, axis=1).max() > 2 * max_distance:
        # another setting than the host's: from where each atom is seen to have moved
        vectors = best_fit(atoms, host, mobile)[1][-1]
        result.positions = atoms.positions - vectors
        return result
    result.set_scaled_positions(atoms.get_scaled_positions(wrap=False) + s)
    return result


def same_ordering(a, b, host=None, compound=None, max_distance=1.0, symprec=1e-2):
    """Whether two frames, relaxed or not, hold the same arrangement of mobile ions and the same
    charge ordering.

    Parameters
    ----------
    a, b : ase.Atoms
        With ``arrays["oxi_states"]``. One may be a supercell of the other: the smaller is then
        repeated.
    host, compound, max_distance, symprec
        As in `ordering_label`; the host is by default found from both frames.

    Returns
    -------
    bool
        False when the compositions differ.

    Raises
    ------
    InputError
        As `ordering_label`, and when the cells are different supercells of the host, neither a
        multiple of the other.
    """
    checked_lengths("same_ordering", max_distance, symprec)
    a, b, host = *(as_frame(one, "same_ordering") for one in (a, b)), host_frame(host)
    small, large = sorted((without_vacancies(a), without_vacancies(b)), key=len)
    times = len(large) / max(len(small), 1)
    if {e: times * n for e, n in Counter(small.symbols).items()} != Counter(large.symbols):
        return False
    compound = compound_of([a, b], compound, host)
    if host is None:
        host = find_host([a, b] if times == 1 else [small], compound)
    others = tilings(small, large) if times > 1 else [small]
    first, *placed = [
        located(atoms, host, compound, max_distance, symprec) for atoms in (large, *others)
    ]
    if not any(found.lattice == first.lattice for found in placed):
        raise InputError(
            f"{a.get_chemical_formula()} and {b.get_chemical_formula()} have different supercells "
            "of the host; "
            "to compare them, repeat both to a common cell"
        )
    return any(found.ordering == first.ordering for found in placed)
