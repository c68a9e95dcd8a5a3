"""The undecorated crystal behind frames when nobody gives it: pseudo-symmetry, mobile-ion sites, a
setting that is always the same.
"""

import contextlib
import functools
import itertools
from collections import Counter

import numpy as np
from ase import Atoms
from ase.cell import Cell

from mlipkit import arguments
from mlipkit.charges.compounds import mobile_of
from mlipkit.files import InputError
from mlipkit.frames.taken import each_frame
from mlipkit.orderings.hosts import (
    ANGLES,
    FAR,
    best_fit,
    fits,
    is_group,
    reduced,
    without_vacancies,
)

NOISE = 0.3, 0.2, 0.1  # Å; what relaxation and thermal motion leave after averaging
# 1/Å; any numbers without a pattern
WAVES = np.array([[0.71, -0.29, 0.43], [0.37, 0.83, -0.61], [0.53, 0.47, 0.97]])


def find_host(frames, compound=None, tolerance=0.9, progress=True):
    """The host behind frames that have one cell: their framework made symmetric, with every site on
    which a mobile ion was seen.

    Symmetry takes the mobile ions of each frame to all equivalent sites, so one frame with one ion
    may be enough. A set of sites that is empty in all frames stays unknown: then give the host by
    hand. Sites are numbered by their place, not by the order of the atoms, so another choice of
    frames of the same crystal gives (nearly always) the same numbers.

    Parameters
    ----------
    frames : list of ase.Atoms
        Relaxed or not; the one with the most mobile ions is made symmetric.
    compound : Compound, optional
        By default found from the frames.
    tolerance : float
        Å. Operations are taken that move no framework atom farther than this from the place of
        another.
    progress : bool
        A count of the operations tried, when it takes more than a few seconds (some hundred atoms).

    Returns
    -------
    ase.Atoms
        Mobile ions first.

    Raises
    ------
    InputError
        When no frame holds a mobile ion, or the frames are not of one crystal and cell.
    """
    arguments.number(tolerance, "find_host: tolerance", above=0)
    frames = [without_vacancies(a) for a in each_frame(frames, "find_host takes")]
    if not frames:
        raise InputError("find_host: no frame was given")
    mobile = mobile_of(frames, compound)
    fullest = max(frames, key=lambda a: a.get_chemical_symbols().count(mobile))
    if mobile and mobile not in fullest.symbols:
        raise InputError(
            f"find_host: no frame holds {mobile}, so its sites cannot be told; give the crystal "
            f"with all {mobile} sites "
            "filled as host="
        )
    fullest = reduced(fullest, "frame")
    framework = fullest[[symbol != mobile for symbol in fullest.symbols]]
    operations = _pseudo_symmetry(framework, tolerance, progress)
    s = framework.get_scaled_positions()
    images = [s[sites] @ w + origin for w, origin, sites in operations]
    s = s + np.mean([d - np.rint(d) for d in images - s], axis=0)
    operations = [(w, _mean(s - s[sites] @ w), sites) for w, _, sites in operations]
    metric = fullest.cell.array @ fullest.cell.array.T
    metric = np.mean([w @ metric @ w.T for w, *_ in operations], axis=0)
    cell = np.linalg.cholesky(metric)
    framework = Atoms(framework.numbers, cell=cell, scaled_positions=s, pbc=True)
    found = np.empty((0, 3))
    for atoms in frames if mobile else ():
        if mobile not in atoms.symbols:
            continue
        whole = reduced(atoms, "frame")
        ions, rest = (
            whole[np.flatnonzero((whole.symbols == mobile) == here)] for here in (True, False)
        )
        if len(rest) != len(framework):
            raise InputError(
                f"find_host: {atoms.get_chemical_formula()} has another cell than "
                f"{fullest.get_chemical_formula()}; "
                "frames of different sizes need a common host="
            )
        _, (_, matrix, origin, *_) = best_fit(rest, framework, None, quick=len(frames) > 1)
        for r in (ions.get_scaled_positions() - origin) @ matrix:
            if not len(found) or _distances(found, r, cell).min() > FAR:
                found = np.vstack([found, _orbit(r, operations, cell)])
    host = Atoms([mobile] * len(found), cell=cell, scaled_positions=found, pbc=True) + framework
    _refine(host)
    return _canonical_setting(host, mobile)


def _refine(host):
    """Take out what noise of the frames has left: the cell and the places of the symmetry that
    spglib finds within the largest `NOISE` at which it finds one.
    """
    from ase.spacegroup.symmetrize import refine_symmetry

    for symprec in NOISE:
        refined = host.copy()
        with contextlib.suppress(Exception):  # spglib has errors of its own for each thing amiss
            refine_symmetry(refined, symprec=symprec)
            host.cell, host.positions = refined.cell, refined.positions
            return


def _distances(s, point, cell):
    d = s - point
    return np.linalg.norm((d - np.rint(d)) @ cell, axis=1)


def _mean(s):
    """Mean of fractional vectors that are equal up to noise and whole numbers."""
    return s[0] + np.mean(s - s[0] - np.rint(s - s[0]), axis=0)


def _orbit(point, operations, cell):
    """The places to which symmetry takes a point, after the operations that hardly move it have
    centred it.
    """
    images = np.array([point @ w + origin for w, origin, _ in operations])
    point = point + np.mean(
        [d - np.rint(d) for d in (images - point)[_distances(images, point, cell) < FAR]], axis=0
    )
    orbit = []
    for w, origin, _ in operations:
        image = point @ w + origin
        if not orbit or _distances(np.array(orbit), image, cell).min() > 0.1:
            orbit.append(image)
    return np.array(orbit)


def _pseudo_symmetry(crystal, tolerance, progress):
    """The largest group of operations (matrix, origin, sites) that move no atom farther than
    `tolerance` from a like one.
    """
    from tqdm.auto import tqdm

    ways, found = fits(crystal, crystal, None), {}
    for _, matrix, origin, sites, vectors in tqdm(
        ways, desc="symmetry", unit=" operations", delay=3, disable=not progress
    ):
        distance = np.linalg.norm(vectors, axis=1).max()
        if (
            distance < tolerance
            and len(set(sites)) == len(sites)
            and distance < found.get(sites.tobytes(), (np.inf,))[0]
        ):
            found[sites.tobytes()] = (
                distance,
                (np.rint(np.linalg.inv(matrix)).astype(int), origin, sites),
            )
    if not found:
        raise InputError(f"find_host: {crystal.get_chemical_formula()} has two atoms on one place")
    found = sorted(found.values(), key=lambda item: item[0])
    while not is_group(np.array([op[2] for _, op in found]), len(found)):
        found.pop()
    return [op for _, op in found]


def _canonical_setting(host, mobile):
    """The host in a reduced cell, a mobile site as origin, its atoms in an order that depends on
    the crystal only.

    Every origin and every choice of axes is scored by a smooth function without symmetry of the
    surroundings of the origin; the best is taken, and those that tie with it are symmetry. Being
    smooth, the score hardly minds small displacements.
    """
    from ase.neighborlist import neighbor_list

    # ASE gives the reduced cell turned into a setting of its own: only the operation is of use
    host.set_cell(host.cell.niggli_reduce(eps=1e-4)[1].T @ host.cell.array)
    counts, cell = Counter(host.get_chemical_symbols()), host.cell.array
    axes = _axes()
    metric = axes @ cell @ cell.T @ axes.transpose(0, 2, 1)
    lengths = np.sqrt(np.diagonal(metric, axis1=1, axis2=2))
    angles = np.degrees(np.arccos(np.clip(metric / lengths[:, None] / lengths[..., None], -1, 1)))
    axes = axes[
        (np.abs(lengths / host.cell.lengths() - 1) < 0.1).all(axis=1)
        & (np.abs(angles[:, [1, 0, 0], [2, 2, 1]] - host.cell.angles()) < ANGLES).all(axis=1)
    ]
    rank = np.array(
        [
            (symbol != mobile, counts[symbol], number)
            for symbol, number in zip(host.symbols, host.numbers)
        ]
    )
    first = (rank == min(map(tuple, rank))).all(axis=1)
    i, j, distance, vector = neighbor_list("ijdD", host, reach := 6.0)  # Å
    i, j, distance, vector = (v[first[i]] for v in (i, j, distance, vector))
    weight = host.numbers[j] * (1 - (distance / reach) ** 2) ** 2
    best = -np.inf
    for w in axes:
        standard = Cell.fromcellpar(Cell(w @ cell).cellpar()).array
        waves = np.sin(vector @ np.linalg.inv(w @ cell) @ standard @ WAVES + [0.3, 1.1, 2.3])
        score = np.bincount(i, weight * waves.sum(1), minlength=len(host)).astype(float)
        score[~first] = -np.inf
        if score.max() > best:
            best, origin, basis = score.max(), int(score.argmax()), w @ cell
    s = (host.positions - host.positions[origin]) @ np.linalg.inv(basis)
    steps = np.zeros(s.shape)
    for group, axis in itertools.product(np.unique(rank, axis=0), range(3)):
        these = (rank == group).all(axis=1)
        steps[these, axis] = _steps(s[these, axis], 0.4 / np.linalg.norm(basis[axis]))
    order = np.lexsort((*(s % 1).T[::-1], *steps.T[::-1], *rank.T[::-1]))
    return Atoms(
        host.numbers[order], cell=Cell(basis).cellpar(), scaled_positions=s[order] % 1, pbc=True
    )


@functools.cache
def _axes():
    """All choices of axes whose edges are sums and differences of the vectors of a cell."""
    axes = np.array(list(itertools.product((-1, 0, 1), repeat=9))).reshape(-1, 3, 3)
    return axes[np.abs(np.abs(np.linalg.det(axes)) - 1) < 0.1]


def _steps(values, eps):
    """Number the groups of periodic coordinates (period 1) that lie within `eps` of the next, from
    the one nearest to 0.
    """
    order = np.argsort(values % 1)
    sorted_ = values[order] % 1
    jumps = np.diff(sorted_, append=sorted_[0] + 1) > eps
    if jumps.sum() < 2:
        return np.zeros(len(values), int)
    start = int(np.flatnonzero(jumps)[0]) + 1
    order, group = (
        np.roll(order, -start),
        np.cumsum(np.roll(jumps, -start)) - np.roll(jumps, -start),
    )
    unrolled = np.roll(sorted_ + (np.arange(len(values)) < start), -start)
    mean = np.array([unrolled[group == g].mean() for g in range(group[-1] + 1)])
    mean -= np.rint(mean)
    near = np.flatnonzero(np.abs(mean) < np.abs(mean).min() + eps)
    result = np.empty(len(values), int)
    result[order] = (group - near[mean[near].argmax()]) % len(mean)
    return result
