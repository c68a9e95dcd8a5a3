"""The undecorated crystal behind a frame (its host): symmetry, supercells, and which host site each
atom sits on.
"""

import functools
import itertools
import math
import warnings
from collections import Counter

import numpy as np
from ase import Atoms
from ase.cell import Cell

from mlipkit.arguments import number, shown
from mlipkit.files import InputError

FAR = 1.0  # Å: an atom farther than this from every site of its element has no site
# how much a frame's cell may differ from the host's: share of a length, degrees
LENGTHS, ANGLES = 0.15, 10.0


def superlattice(matrix):
    """Hermite normal form of an integer 3x3 matrix: the same for all cells (rows) of one
    superlattice.

    Hart and Forcade, Phys. Rev. B 77, 224115 (2008), name superlattices of a crystal in this way.

    Returns
    -------
    numpy.ndarray of int, shape (3, 3)
        Upper triangular; entries above the diagonal are at least 0 and less than the diagonal entry
        of their column.
    """
    h = [[int(v) for v in row] for row in np.asarray(matrix)]
    for j in range(3):
        while any(h[i][j] for i in range(j + 1, 3)):
            pivot = min((i for i in range(j, 3) if h[i][j]), key=lambda i: abs(h[i][j]))
            h[j], h[pivot] = h[pivot], h[j]
            for i in range(j + 1, 3):
                h[i] = [a - h[i][j] // h[j][j] * b for a, b in zip(h[i], h[j])]
        if h[j][j] < 0:
            h[j] = [-a for a in h[j]]
        for i in range(j):
            h[i] = [a - h[i][j] // h[j][j] * b for a, b in zip(h[i], h[j])]
    return np.array(h)


def supercell(host, matrix=None):
    """The host repeated: a cell with the rows of `matrix` (in units of the host's cell vectors) as
    its edges.

    Atoms are ordered by superlattice, not by `matrix`: two matrices of one superlattice give the
    same crystal with the same atom numbers, the first host cell first.

    Parameters
    ----------
    host : ase.Atoms
    matrix : int, three ints or 3x3 ints, optional
        ``(1, 3, 2)`` repeats along the cell vectors.

    Raises
    ------
    InputError
        When the matrix is not of integers or spans no volume, or the host has no cell.
    """
    from ase.build import make_supercell

    check_crystal(host, "host")
    matrix = repeats(matrix)
    plain = Atoms(host.numbers, host.positions, cell=host.cell, pbc=True)
    if np.array_equal(matrix, np.eye(3)):
        return plain
    result = make_supercell(plain, superlattice(matrix))
    result.set_cell(matrix @ host.cell.array)
    result.wrap(eps=1e-6)
    return result


def repeats(matrix):
    """The argument of `supercell` as a 3x3 matrix of whole numbers.

    Raises
    ------
    InputError
    """
    try:
        given = np.asarray(1 if matrix is None else matrix, float)
    except (TypeError, ValueError):
        given = np.empty(0)
    if given.ndim < 2 and given.size in (1, 3):
        given = np.diag(np.broadcast_to(given, 3))
    whole = given.shape == (3, 3) and np.isfinite(given).all()
    if not whole or not np.array_equal(given, np.rint(given)) or abs(np.linalg.det(given)) < 0.5:
        raise InputError(
            "supercell: give three integers or a 3x3 matrix of integers that spans a volume, such "
            f"as (1, 1, 2), not {shown(matrix)}"
        )
    return np.rint(given).astype(int)


def permutations(host, sites, symprec=1e-2):
    """How the symmetry of a crystal, lattice translations of a supercell included, permutes some of
    its atoms.

    Parameters
    ----------
    host : ase.Atoms
    sites : array_like of int, shape (n,)
        Atoms that symmetry only takes into each other (all atoms of one or several elements).
    symprec : float
        Tolerance in Å, as in spglib.

    Returns
    -------
    numpy.ndarray of int, shape (n_operations, n)
        Positions in `sites`; each distinct permutation once.

    Raises
    ------
    InputError
        When spglib finds no symmetry, or what it finds at `symprec` is not a group (a host that is
        not quite symmetric).
    """
    import spglib

    number(symprec, "symprec", above=0, most=1)  # spglib crashes on what is none
    s, sites = host.get_scaled_positions(), np.asarray(sites, int)
    try:
        found = spglib.get_symmetry((host.cell.array, s, host.numbers), symprec=symprec)
    except spglib.SpglibError:
        found = None
    if found is None:
        raise InputError(
            f"{host.get_chemical_formula()}: spglib finds no symmetry at symprec={symprec} Å; "
            "does the host have a cell, and no two atoms on one place?"
        )
    result, numbers = [], host.numbers[sites]
    for rotation, translation in zip(found["rotations"], found["translations"]):
        d = (s[sites] @ rotation.T + translation)[:, None] - s[sites]
        d = np.linalg.norm((d - np.rint(d)) @ host.cell.array, axis=2)
        d[numbers[:, None] != numbers] = np.inf
        result.append(d.argmin(1) if len(sites) else np.empty(0, int))
    looser = (
        spglib.get_symmetry((host.cell.array, s, host.numbers), symprec=0.1)
        if symprec < 0.1
        else None
    )
    if looser is not None and len(looser["rotations"]) > len(found["rotations"]):
        warnings.warn(
            f"the host {host.get_chemical_formula()} has {len(found['rotations'])} symmetry "
            f"operations within {symprec:g} Å "
            f"and {len(looser['rotations'])} within 0.1 Å: if it should have the latter, "
            "find_host(host) makes it exact",
            stacklevel=2,
        )
    result = np.unique(np.array(result), axis=0)
    if not is_group(result):
        raise InputError(
            f"{host.get_chemical_formula()}: the operations found at symprec={symprec} Å are not "
            "a group; "
            "make the host exactly symmetric (find_host does), or give another symprec"
        )
    return result


def is_group(perms, checked=64):
    """Whether permutations are a group; of large sets, products with `checked` members only are
    looked at.
    """
    known = {p.tobytes() for p in perms}
    right = perms[np.unique(np.linspace(0, len(perms) - 1, checked).astype(int))]
    return np.array_equal(
        np.sort(perms, axis=1), np.broadcast_to(np.arange(perms.shape[1]), perms.shape)
    ) and all(
        product.tobytes() in known for q in right for product in np.ascontiguousarray(perms[:, q])
    )


def _lattice_matches(cell, host_cell, multiple):
    """Integer 3x3 matrices of determinant ±multiple that take the host's cell to `cell`, up to
    rotation, mirror and strain.
    """
    reach = np.linalg.norm(cell, axis=1).max() * (1 + LENGTHS)
    bound = np.floor(reach * np.linalg.norm(np.linalg.inv(host_cell), axis=0) + 1e-9).astype(int)
    if np.prod(2 * bound + 1.0) > 1e6:
        return  # a needle or a sheet of many host cells
    grid = np.stack(np.meshgrid(*(np.arange(-b, b + 1) for b in bound), indexing="ij"), -1).reshape(
        -1, 3
    )
    vectors = grid @ host_cell
    lengths = np.linalg.norm(vectors, axis=1)
    near = [
        np.flatnonzero(np.abs(lengths / length - 1) < LENGTHS)
        for length in np.linalg.norm(cell, axis=1)
    ]

    def angles(u, v):
        return np.degrees(
            np.arccos(
                np.clip(
                    (u * v).sum(-1) / np.linalg.norm(u, axis=-1) / np.linalg.norm(v, axis=-1), -1, 1
                )
            )
        )

    fit = {
        (i, j): np.abs(
            angles(vectors[near[i]][:, None], vectors[near[j]][None]) - angles(cell[i], cell[j])
        )
        < ANGLES
        for i, j in ((0, 1), (0, 2), (1, 2))
    }
    for i, j in np.argwhere(fit[0, 1]):
        third = near[2][fit[0, 2][i] & fit[1, 2][j]]
        matrices = np.stack(
            [
                np.broadcast_to(grid[near[0][i]], (len(third), 3)),
                np.broadcast_to(grid[near[1][j]], (len(third), 3)),
                grid[third],
            ],
            axis=1,
        )
        yield from (
            matrices[np.abs(np.abs(np.linalg.det(matrices)) - multiple) < 0.5] if len(third) else ()
        )


def without_vacancies(atoms):
    """The frame less the placeholders (X) by which some files mark vacant sites."""
    return atoms[atoms.numbers > 0]


def _counts(atoms, mobile):
    return {s: n for s, n in Counter(atoms.get_chemical_symbols()).items() if s != mobile}


def _multiple(atoms, host, mobile):
    """How many host cells a frame holds, by its atoms other than the mobile ions."""
    mine, whole, n = _counts(atoms, mobile), _counts(host, mobile), atoms.get_chemical_formula()
    multiple = max((mine.get(s, 0) / whole[s] for s in whole), default=0)
    wrong = [
        f"{mine.get(s, 0)} {s}"
        for s in sorted(set(mine) | set(whole))
        if mine.get(s, 0) != multiple * whole.get(s, 0)
    ]
    if not whole:
        raise InputError(f"the host {host.get_chemical_formula()} has no atoms but {mobile}")
    if wrong or multiple != int(multiple):
        raise InputError(
            f"{n} is no multiple of the host {host.get_chemical_formula()} (found "
            f"{', '.join(wrong) or 'part of a cell'}): "
            f"{f'apart from {mobile} ' if mobile else ''}every site of the host must be filled; "
            "is it the right host?"
        )
    return int(multiple)


def fits(atoms, host, mobile):
    """All ways to lay a frame on its host that a lattice match and an atom of the rarest framework
    element suggest; the cells that are strained least first.

    Yields (superlattice, matrix, origin, sites, vectors): ``s = r @ inv(matrix) + origin`` takes
    fractional coordinates of the host (r) to those of the frame; `sites` is the nearest host site
    of every atom, `vectors` its displacement in Å. The origin makes the median displacement of the
    framework zero, so a rigid drift counts for nothing.
    """
    multiple, symbols = _multiple(atoms, host, mobile), np.array(atoms.get_chemical_symbols())
    s, cell = atoms.get_scaled_positions(), atoms.cell.array
    counts, framework = _counts(host, mobile), symbols != mobile
    rarest = min(counts, key=lambda e: (counts[e], e))
    mine, cells = {e: np.flatnonzero(symbols == e) for e in sorted(set(symbols))}, {}
    matrices = []
    for m in _lattice_matches(cell, host.cell.array, multiple):
        edges = m @ host.cell.array
        strain = np.abs(edges @ edges.T - cell @ cell.T).max()  # Å^2
        matrices.append((round(strain, 6), tuple(superlattice(m).ravel().tolist()), m))
    for _, key, matrix in sorted(matrices, key=lambda item: item[:2]):
        if key not in cells:
            big = supercell(host, np.reshape(key, (3, 3)))
            r = np.linalg.solve(host.cell.array.T, big.positions.T).T
            cells[key] = r, {e: np.flatnonzero(big.symbols == e) for e in mine}
        r, theirs = cells[key]
        t = r @ np.linalg.inv(matrix)
        places = {e: Places(t[theirs[e]], cell) for e in mine if len(theirs[e])}
        for origin in _origins(s[mine[rarest]], places[rarest]):
            for _ in range(2):
                sites, d = np.full(len(s), -1), np.full((len(s), 3), np.inf)
                for e in places:
                    best, d[mine[e]] = places[e].nearest(s[mine[e]] - origin)
                    sites[mine[e]] = theirs[e][best]
                drift = np.median(d[framework], axis=0)
                origin = origin + drift
            yield key, matrix, origin, sites, (d - drift) @ cell


class Places:
    """Points of a periodic cell, in fractions of it, among which to find the nearest."""

    def __init__(self, s, cell):
        from scipy.spatial import KDTree

        self.s, self.cell = s, cell
        around = np.array(list(itertools.product((-1, 0, 1), repeat=3)))
        self.images = (around[:, None] + s % 1).reshape(-1, 3)
        self.tree = KDTree(self.images @ cell)

    def nearest(self, s):
        """For each of the points `s`, of shape (..., 3), which place is nearest, and the fractional
        vector from there.
        """
        inside = s % 1
        image = self.tree.query(inside @ self.cell)[1]
        return image % len(self.s), inside - self.images[image]


def _origins(s, places):
    """Shifts that bring the points `s` near some places in the mean; at least the best one."""
    origins = (s[:2, None] - places.s).reshape(-1, 3)  # two atoms, as one may have left its place
    for _ in range(2):
        d = places.nearest(s - origins[:, None])[1]
        origins = origins + np.median(d, axis=1)
    misfit = np.minimum(np.linalg.norm(d @ places.cell, axis=2), FAR).mean(axis=1)
    good = origins[(misfit < 0.7 * FAR) | (misfit == misfit.min())]
    return good[np.sort(np.unique(np.round(good % 1, 6) % 1, axis=0, return_index=True)[1])]


def check_crystal(atoms, name):
    """Raise an InputError for what is no crystal: no atoms, no cell, numbers that are not finite or
    absurd.
    """
    size = np.abs(np.concatenate([atoms.positions, atoms.cell.array]))
    volume = atoms.cell.volume if np.isfinite(size).all() and size.max() < 1e6 else np.nan
    if not len(atoms) or not 0.5 < volume / len(atoms) < 1e4:
        raise InputError(
            f"the {name} {atoms.get_chemical_formula()} is no crystal: it has no atoms, no cell "
            "(or one of an absurd volume), "
            "or positions that are not finite numbers"
        )


def tilings(small, large):
    """The supercells of a frame, arrays included, that have the cell of another, up to rotation and
    strain.

    Raises
    ------
    InputError
        When the other cell is no supercell.
    """
    from ase.build import make_supercell

    cell, unit = reduced(large, "frame").cell.array, reduced(small, "frame").cell.array
    to_unit = np.rint(unit @ np.linalg.inv(small.cell.array)).astype(int)
    found = {
        tuple(superlattice(m @ to_unit).ravel())
        for m in _lattice_matches(cell, unit, len(large) // len(small))
    }
    if not found:
        raise InputError(
            f"the cell of {large.get_chemical_formula()} is no supercell of that of "
            f"{small.get_chemical_formula()}: "
            "to compare them, repeat both to a common cell"
        )
    for matrix in sorted(found):
        yield make_supercell(small, np.array(matrix).reshape(3, 3))


def reduced(atoms, name):
    """Number, position and cell only, in the Minkowski-reduced cell; raises when there is no cell
    to reduce.
    """
    from ase.geometry import minkowski_reduce

    check_crystal(atoms, name)
    try:
        cell = minkowski_reduce(atoms.cell.array)[0]
    except RuntimeError:
        cell = atoms.cell.array
    return Atoms(atoms.numbers, atoms.positions, cell=cell, pbc=True)


def _misfit(vectors):
    """Root mean square displacement in Å, of which no atom counts for more than `FAR`."""
    return math.sqrt((np.minimum(np.linalg.norm(vectors, axis=1), FAR) ** 2).mean())


@functools.lru_cache(maxsize=32)
def _ambiguity(numbers, positions, cell, mobile):
    """The least misfit of a host laid on itself in another way than its symmetry does.

    A frame that fits to less than half of this fits no other way as well, but for symmetry
    (triangle inequality).
    """
    host = Atoms(
        np.frombuffer(numbers, int),
        np.frombuffer(positions).reshape(-1, 3),
        cell=np.frombuffer(cell).reshape(3, 3),
        pbc=True,
    )
    return min(
        (m for *_, vectors in fits(host, host, mobile) if (m := _misfit(vectors)) > 0.02),
        default=FAR,
    )


def best_fit(atoms, host, mobile, quick=True):
    """The frame in its reduced cell, and the one of its `fits` that has the least misfit (of equal
    ones the first superlattice).

    `quick`: find out once how ambiguous the host is, and from then on stop at the first fit that no
    other can beat.
    """
    frame, least, found = reduced(atoms, "frame"), np.inf, []
    for fit in fits(frame, host, mobile):
        misfit = _misfit(fit[-1])
        if misfit < least + 1e-3:
            least, found = min(least, misfit), [*found, (misfit, fit)]
            # one atom on a place far off says more than the mean: a few Sr among La
            if quick and misfit < 0.45 * FAR and np.linalg.norm(fit[-1], axis=1).max() < FAR:
                big = reduced(supercell(host, np.reshape(fit[0], (3, 3))), "host")
                if misfit < 0.45 * _ambiguity(
                    big.numbers.tobytes(), big.positions.tobytes(), big.cell.array.tobytes(), mobile
                ):
                    return frame, fit
    if not found:
        raise InputError(
            f"frame {atoms.get_chemical_formula()}: no supercell of the host has its cell "
            f"({', '.join(f'{v:.2f}' for v in frame.cell.lengths())} Å when reduced; the host "
            f"{host.get_chemical_formula()} "
            f"has {', '.join(f'{v:.2f}' for v in host.cell.lengths())} Å); is it the right host?"
        )
    return frame, min(
        (fit for misfit, fit in found if misfit < least + 1e-3), key=lambda fit: fit[0]
    )


def map_onto_host(atoms, host, mobile, max_distance=FAR):
    """Which site of the undecorated host each atom of a (relaxed) frame sits on.

    The frame may be rotated, mirrored, shifted, strained (15 % in a length, 10° in an angle), given
    in another cell of its lattice, in a supercell of the host, and with its atoms in any order. Of
    all ways to lay it on the host the one of the smallest displacements is taken.

    Parameters
    ----------
    atoms : ase.Atoms
    host : ase.Atoms
        The crystal with every site of the mobile ion filled.
    mobile : str or None
        The element that may be missing on some of its sites.
    max_distance : float
        Å, after the mean drift is taken out.

    Returns
    -------
    superlattice : numpy.ndarray of int, shape (3, 3)
        ``supercell(host, superlattice)`` has the sites (`superlattice` in the sense of the function
        of that name).
    sites : numpy.ndarray of int, shape (n_atoms,)
        The atom of that supercell whose place each atom of the frame has.

    Raises
    ------
    InputError
        When the frame is not of this host, an atom is far from every site, or two atoms share one;
        names the atoms.
    """
    frame, (key, _, _, sites, vectors) = best_fit(atoms, host, mobile)
    distance, symbols, name = (
        np.linalg.norm(vectors, axis=1),
        frame.symbols,
        frame.get_chemical_formula(),
    )
    worst = int(distance.argmax())
    if not distance[worst] <= max_distance:
        where = (
            f"{distance[worst]:.2f} Å from the nearest {symbols[worst]} site"
            if np.isfinite(distance[worst])
            else "of an element"
        )
        raise InputError(
            f"{name}: atom {worst} ({symbols[worst]}) is {where} "
            f"{'of' if np.isfinite(distance[worst]) else 'that has no site in'} "
            f"the host (at most {max_distance:g} Å): is it the right host, or has the ion left "
            "its site?"
        )
    twice = [np.flatnonzero(sites == i) for i, n in Counter(sites.tolist()).items() if n > 1]
    if twice:
        a, b = (int(i) for i in twice[0][:2])
        raise InputError(
            f"{name}: atoms {a} and {b} ({symbols[a]}) sit on one site of the host, "
            f"{distance[a]:.2f} and "
            f"{distance[b]:.2f} Å from it; is it the right host?"
        )
    return np.array(key).reshape(3, 3), sites


def in_setting_of(atoms, host, mobile):
    """A frame of one host cell in the setting of its host: how its cell is strained and where its
    atoms are, by site.

    Parameters
    ----------
    atoms, host, mobile
        As for `map_onto_host`; the frame is of one cell of the host, in any setting of it.

    Returns
    -------
    cell : numpy.ndarray, shape (3, 3)
        The cell vectors (Å) that answer to those of the host, turned into ASE's standard position.
    shifts : numpy.ndarray, shape (n_host_atoms, 3)
        Where the atom of each site of the host is, less that site, in fractions of the cell and
        without drift; NaN where the site is empty.

    Raises
    ------
    InputError
        As `map_onto_host`, or when the frame is of several host cells.
    """
    lattice, sites = map_onto_host(atoms, host, mobile)
    frame = without_vacancies(atoms)
    if round(np.linalg.det(lattice)) != 1:
        raise InputError(
            f"{frame.get_chemical_formula()} is a supercell of the host "
            f"{host.get_chemical_formula()}; give a frame of one host cell"
        )
    s, t = frame.get_scaled_positions(), supercell(host, lattice).get_scaled_positions()[sites]
    best = None
    for matrix in _lattice_matches(frame.cell.array, host.cell.array, 1):
        d = s @ matrix - t
        d -= np.round(d - d[0])
        d -= d.mean(axis=0)
        largest = np.linalg.norm(d @ host.cell.array, axis=1).max()
        if best is None or largest < best[0]:
            best = largest, matrix, d
    _, matrix, d = best
    cell = Cell.fromcellpar(Cell(np.linalg.inv(matrix) @ frame.cell.array).cellpar()).array
    shifts = np.full((len(host), 3), np.nan)
    shifts[sites] = d
    return cell, shifts
