"""Free energies of every composition of a cell by Monte Carlo: temperature over composition."""

import itertools
import json
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from ase.units import kB

from mlipkit import arguments
from mlipkit.files import InputError, write_atomically
from mlipkit.orderings.enumeration import ways
from mlipkit.orderings.hosts import repeats
from mlipkit.orderings.lattice import Lattice, lattice_of
from mlipkit.statmech.configurations import (
    MOST_ATOMS,
    check_kind,
    crystal_content,
    crystal_from,
    read_kept,
)
from mlipkit.statmech.expansion import checked_expansion, hull
from mlipkit.statmech.sampling import chance_of, shares_of, supercell_of

TEMPERATURES = (200, 275, 350, 425, 500, 575, 650, 725, 800, 900)
BIN, N_BINS = 0.0005, 8192  # eV, of the histograms of what an ion costs, around 0
ROUNDS, FIRST = 40, 12  # of a composition, and how many of them to come to equilibrium
# K: how the electrons of a frozen arrangement of ions are heated to perfect disorder
HOT = (np.inf, 20000, 10000, 6500, 4500, 3200, 2400, 1800, 1400, 1150)
STEP = 0.5  # of 1/kT, so that an integral over it has no holes
SNAPSHOTS, EVERY = 2, 12  # arrangements of ions frozen per run; and at how many compositions
GAP = 3  # a miscibility gap is told when it is so many times as deep as the error
LEAST = 1e-5  # eV per formula unit: and at least so deep


@dataclass(frozen=True, eq=False)
class PhaseDiagram:
    """Free energies over composition and temperature.

    Attributes
    ----------
    lattice : Lattice
        The cell.
    x : numpy.ndarray, shape (n_x,)
        Mobile ions per formula unit.
    temperatures : numpy.ndarray, shape (n_temperatures,)
        K.
    free_energies, energies : numpy.ndarray, shape (n_runs, n_temperatures, n_x)
        Of independent runs, eV per formula unit, against the end members: the first is that of
        mixing where both ends are single arrangements.
    electronic : numpy.ndarray, shape (n_temperatures, n_x)
        Entropy of the electrons given the ions, eV/K per formula unit.
    snapshots : numpy.ndarray of int, shape (n_temperatures, n_snapshots, n_sites)
        Cells of one run as digits, see `Interactions`.
    snapshot_at : numpy.ndarray of int, shape (n_snapshots,)
        Which composition each is of.
    aware : bool
        Whether electrons are counted.
    mean_voltage : float
        V, between the end members; NaN where the energy of the metal is not known.
    """

    lattice: Lattice
    x: np.ndarray
    temperatures: np.ndarray
    free_energies: np.ndarray
    energies: np.ndarray
    electronic: np.ndarray
    snapshots: np.ndarray
    snapshot_at: np.ndarray
    aware: bool
    mean_voltage: float

    @property
    def n_units(self):
        """Formula units of the cell."""
        return self.lattice.n_units

    @property
    def free_energy(self):
        """Mean over the runs, eV per formula unit, shape (n_temperatures, n_x)."""
        return self.free_energies.mean(axis=0)

    @property
    def error(self):
        """Standard error of `free_energy`, from the runs; NaN of one run."""
        n = len(self.free_energies)
        if n < 2:
            return np.full(self.free_energies.shape[1:], np.nan)
        return self.free_energies.std(axis=0, ddof=1) / math.sqrt(n)

    @property
    def entropy(self):
        """(U - F) / T, eV/K per formula unit, shape (n_temperatures, n_x)."""
        gap = (self.energies - self.free_energies).mean(axis=0)
        return gap / self.temperatures[:, None]

    @property
    def entropy_ion(self):
        """What the electrons leave of `entropy`: that of the ions, by the chain rule."""
        return self.entropy - self.electronic

    def at(self, temperature):
        """Index of a temperature that was computed, the nearest."""
        arguments.number(temperature, "PhaseDiagram: temperature", above=0)
        return int(np.abs(self.temperatures - temperature).argmin())

    def gaps(self, temperature):
        """Two-phase regions at a temperature: common tangents of the free energy.

        Returns
        -------
        list of tuple
            ``(x_low, x_high, depth)``; depth in eV per formula unit, how far the free energy lies
            above the tangent at most. What is not deeper than three times the error
            (the root of its mean square over x) is none, nor what is narrower than three
            compositions.
        """
        k = self.at(temperature)
        noise = float(np.sqrt(np.nanmean(self.error[k] ** 2))) if len(self.energies) > 1 else 0.0
        return _gaps(self.x, self.free_energy[k], max(GAP * noise, LEAST))

    @property
    def boundaries(self):
        """A pandas table of all two-phase regions: ``temperature``, ``x_low``, ``x_high``,
        ``depth`` (meV per formula unit), and ``error_low`` and ``error_high``: the larger of the
        spread over the runs and of the distance of compositions in the cell.
        """
        import pandas as pd

        step, rows = float(np.diff(self.x).max(initial=0)), []
        for k, temperature in enumerate(self.temperatures):
            runs = [_gaps(self.x, f[k], LEAST) for f in self.free_energies]
            for low, high, depth in self.gaps(temperature):
                ends = [_nearest(low, high, found) for found in runs]
                ends = np.array([e for e in ends if e is not None]).reshape(-1, 2)
                spread = ends.std(axis=0) if len(ends) > 1 else np.zeros(2)
                rows.append((float(temperature), low, high, 1e3 * depth, *np.maximum(spread, step)))
        columns = ["temperature", "x_low", "x_high", "depth", "error_low", "error_high"]
        return pd.DataFrame(rows, columns=columns)

    def potential(self, temperature):
        """Chemical potential of the mobile ion in equilibrium, eV, on the scale of the formation
        energies, between neighbouring compositions: ``(x, mu)``, flat where phases are side by
        side.
        """
        f = self.free_energy[self.at(temperature)]
        corners = hull(self.x, f)
        flat = np.interp(self.x, self.x[corners], f[corners])
        return (self.x[1:] + self.x[:-1]) / 2, np.diff(flat) / np.diff(self.x)

    def voltage(self, temperature):
        """Equilibrium voltage against the metal of the mobile ion, ``(x, V)``: minus `potential`,
        from `mean_voltage` (or from 0 where that is not known).
        """
        x, mu = self.potential(temperature)
        return x, np.nan_to_num(self.mean_voltage) - mu

    def snapshot(self, temperature, x):
        """A cell that was met, on the places of the host, the nearest in temperature and x.

        Returns
        -------
        ase.Atoms
            With its oxidation states; those of a charge-blind model's or of an ions-only expansion
            are all 0 on the metals.
        """
        arguments.number(x, "PhaseDiagram.snapshot: x")
        k = int(np.abs(self.x[self.snapshot_at] - x).argmin())
        digits, n = self.snapshots[self.at(temperature), k], len(self.lattice.mobile)
        states = np.zeros(len(self.lattice.redox), int)
        if self.aware:
            states = np.array([o[d] for o, d in zip(self.lattice.options, digits[n:])])
        return self.lattice.decorated(digits[:n].astype(bool), states)

    def __str__(self):
        low, high = self.temperatures.min(), self.temperatures.max()
        how = "ions and electrons" if self.aware else "ions only"
        table = self.boundaries
        lines = [
            f"{how}, cell of {self.n_units} formula units, {low:g} to {high:g} K, "
            f"{len(self.free_energies)} runs"
        ]
        for temperature in self.temperatures:
            here = table[table["temperature"] == temperature]
            said = [f"{r.x_low:.2f} to {r.x_high:.2f}" for r in here.itertuples()]
            lines.append(f"{temperature:g} K: {', '.join(said) or 'one phase at all x'}")
        return "\n".join(lines)

    def _repr_html_(self):
        return f"<p>{str(self).replace(chr(10), '<br>')}</p>"


def phase_diagram(
    expansion,
    temperatures=TEMPERATURES,
    supercell=None,
    sweeps=60,
    n_runs=2,
    electrons=True,
    seed=0,
    progress=True,
):
    """Free energies of all compositions of a cell at all temperatures.

    Every composition is sampled at all temperatures side by side (parallel tempering). What it
    costs to put an ion, with its electrons, into the cells of one composition and to take one out
    of those of the next gives the difference of their free energies (Bennett, J. Comput. Phys. 22,
    245, 1976): no boundary is read off a hysteresis loop. Runs go from empty to full and from full
    to empty, by turns; where they differ they have not come to equilibrium, and the error says so.
    The entropy of the electrons given the ions is integrated over temperature for frozen
    arrangements of ions, from perfect disorder.

    Parameters
    ----------
    expansion : Expansion
    temperatures : iterable of float
        K.
    supercell : int, three ints or 3x3 ints, optional
        By default about 72 formula units, as compact as can be.
    sweeps : int
        Trials per site in each of 40 rounds, of which 12 come before what counts.
    n_runs : int
        Independent runs; two are done at a time.
    electrons : bool
        Whether the entropy of the electrons is told apart (a fifth of the time).
    seed : int
    progress : bool

    Returns
    -------
    PhaseDiagram

    Raises
    ------
    InputError
        When a temperature is not above zero, no move keeps a cell neutral, or it was interrupted.
    """
    from tqdm.auto import tqdm

    where = "phase_diagram"
    expansion = checked_expansion(expansion, where)
    given = arguments.entries(temperatures, f"{where}: temperatures", "(300, 600, 900)")
    for t in given:
        arguments.number(t, f"{where}: each of temperatures (K)", above=0)
    if not given:
        raise InputError(f"{where}: temperatures is empty; give one or more, in K")
    temperatures = np.unique(np.asarray(given, float))
    sweeps = arguments.number(sweeps, f"{where}: sweeps", least=1, whole=True)
    n_runs = arguments.number(n_runs, f"{where}: n_runs", least=1, whole=True)
    arguments.flag(electrons, f"{where}: electrons")
    seed = arguments.number(seed, f"{where}: seed", least=0, whole=True)
    within = expansion.interactions(supercell_of(expansion, supercell))
    if not within.n_mobile:
        raise InputError(f"{where}: no mobile ion, so there is one composition only")
    counts = np.array(within.lattice.compositions)
    if len(counts) < 2 or (np.diff(counts) != 1).any():
        raise InputError(
            f"{where}: the cell can hold {counts.tolist()} mobile ions; free energies need "
            "compositions that differ by one ion"
        )
    _ = within.moves  # what cannot be balanced is told before anything runs
    betas = 1 / (kB * temperatures)
    with tqdm(total=n_runs * len(counts), desc="phase_diagram", disable=not progress) as bar:
        stop = []

        def run(r):
            return _run(within, counts, betas, sweeps, electrons, (seed, r), r % 2, bar, stop)

        with ThreadPoolExecutor(2) as pool:
            jobs = [pool.submit(run, r) for r in range(n_runs)]
            try:
                found = [job.result() for job in jobs]
            except KeyboardInterrupt:
                stop.append(True)
                raise InputError(f"{where}: interrupted; nothing is kept") from None
    units = within.lattice.n_units
    x = counts / units
    free = np.array([run[0] for run in found]) / units
    energies = np.array([run[1] for run in found]) / units
    electronic = np.mean([run[2] for run in found], axis=0) / units
    if not np.isfinite(free).all():
        raise InputError(
            f"{where}: no ion can go in or out at some composition of this cell; take a larger "
            "supercell"
        )
    share = (x - x[0]) / (x[-1] - x[0])
    ends = (1 - share) * free[..., :1] + share * free[..., -1:]
    return PhaseDiagram(
        within.lattice,
        x,
        temperatures,
        free - ends,
        energies - ends,
        electronic,
        found[0][3],
        np.array(_coarse(len(x))),
        within.aware,
        _mean_voltage(expansion.configurations),
    )


def _mean_voltage(c):
    """V between the end members, as their energies say."""
    (low, first), (high, last) = c.ends
    if c.compound.metal is None or high == low:
        return math.nan
    return c.compound.metal - (last - first) / (high - low)


def _run(within, counts, betas, sweeps, electrons, seeds, downwards, bar, stop):
    """Free energies, energies (eV) and entropies of the electrons (eV/K) of one cell, each of shape
    (n_temperatures, n_x).
    """
    from mlipkit.statmech import kernel

    rng, chance = np.random.default_rng(seeds), chance_of(*seeds)
    tables, moves = within.tables, within.moves
    share = shares_of(within)[0]
    n_trials = sweeps * within.n_sites
    n_ghosts = n_trials // 4
    order = range(len(counts))[:: -1 if downwards else 1]
    coarse = _coarse(len(counts))
    frozen = coarse if electrons and within.aware else ()
    snapshots = np.zeros((len(betas), len(coarse), within.n_sites), np.int8)
    shape = len(betas), len(counts)
    steps, energies, electronic = np.zeros(shape), np.zeros(shape), np.full(shape, np.nan)
    cells, before = None, None
    for k in order:
        if stop:
            raise KeyboardInterrupt
        if cells is None:
            cells = [within.digits(*within.lattice.random(counts[k], rng)) for _ in betas]
            cells = np.array(cells)
        else:
            for digits in cells:
                _step(digits, moves, tables.n_digits, int(downwards), rng)
        mean, into, out, kept, _ = kernel.tempered(
            tables,
            moves,
            cells,
            betas,
            share,
            ROUNDS,
            n_trials,
            FIRST,
            (-BIN * N_BINS / 2, BIN, N_BINS),
            n_ghosts,
            SNAPSHOTS,
            chance,
        )
        energies[:, k] = within.constant + mean
        if before is not None:
            low, high = (into, before[1]) if downwards else (before[0], out)
            at = k if downwards else k - 1
            for t, beta in enumerate(betas):
                steps[t, at] = bennett(low[t], high[t], beta)
        before = into, out
        if k in coarse:
            snapshots[:, coarse.index(k)] = kept[:, -1]
        if k in frozen:
            for t in range(len(betas)):
                found = [
                    heated(within, digits.astype(np.int64), betas[t:], 0.0, sweeps, chance)
                    for digits in kept[t]
                ]
                electronic[t, k] = np.mean(found)
        bar.update()
    if len(frozen):
        for row in electronic:
            row[:] = np.interp(range(len(counts)), frozen, row[list(frozen)])
    else:
        electronic[:] = 0
    at_first = _entropy_at_the_end(within, counts[0], betas, sweeps, chance, rng)
    first = energies[:, 0] - at_first / betas
    free = first[:, None] + np.hstack([np.zeros((len(betas), 1)), steps[:, :-1].cumsum(axis=1)])
    return free, energies, electronic, snapshots


def _coarse(n):
    return np.unique(np.linspace(0, n - 1, min(n, EVERY + 1)).round().astype(int)).tolist()


def _step(digits, moves, n_digits, state, rng):
    """Put an ion on a random site whose digit is `state`, and the metals to balance it."""
    n = moves.n_mobile
    digits[rng.choice(np.flatnonzero(digits[:n] == state))] = 1 - state
    by = 1 if state else -1
    for _ in range(moves.n_metals):
        at = n + rng.permutation(len(digits) - n)
        new = digits[at] + by
        able = [i for i, d in zip(at, new) if 0 <= d < n_digits[i]]
        digits[able[0]] += by


def bennett(into, out, beta):
    """F(n + 1) - F(n) in eV, of histograms of what it costs to put an ion in and to take one out,
    each over all blind choices, by the acceptance ratio of least error.
    """
    from scipy.optimize import brentq
    from scipy.special import log_expit, logsumexp

    if not (into.any() and out.any()):
        return np.nan
    cost = beta * BIN * (np.arange(len(into)) + 0.5 - len(into) / 2)
    enters, leaves = into > 0, out > 0
    log_into, log_out, cost_out = np.log(into[enters]), np.log(out[leaves]), cost[leaves]
    cost_into = cost[enters]

    def more(shift):  # of those that would go in than out; it rises
        into = logsumexp(log_into + log_expit(shift - cost_into))
        return into - logsumexp(log_out + log_expit(-shift - cost_out))

    # where the two do not overlap it is as good as flat at 0, and iterating would not end
    low, high = cost[0], cost[-1]
    while more(low) > 0:
        low *= 2
    while more(high) < 0:
        high *= 2
    return brentq(more, low, high, xtol=1e-6) / beta


def _entropy_at_the_end(within, n, betas, sweeps, chance, rng):
    """Entropy (in k) at the first composition: none of a single arrangement."""
    filled, _ = within.lattice.random(n, rng)
    ions = math.comb(within.n_mobile, int(n))
    if ions * _charge_orderings(within, filled) == 1:
        return 0.0
    digits = within.digits(filled, within.lattice.random(n, rng)[1])
    share = shares_of(within)[0]
    result = [
        heated(within, digits, betas[t:], share, sweeps, chance) / kB for t in range(len(betas))
    ]
    return np.array(result)


def _charge_orderings(within, filled):
    if not within.aware:
        return 1
    return ways(within.options)[0][within.lattice.total(int(np.sum(filled)))]


def heated(within, digits, betas, share, sweeps, chance):
    """Entropy of a cell at the coldest of `betas`, eV/K: of its electrons where no trial moves an
    ion (`share` 0), else of both.

    S = k ln(number of arrangements) + U/T - k times the integral of U over 1/kT from 0.
    """
    from scipy.interpolate import CubicSpline

    from mlipkit.statmech import kernel

    filled, _ = within.arrangement(digits)
    states = _charge_orderings(within, filled)
    if share > 0:
        states *= math.comb(within.n_mobile, int(filled.sum()))
    if states == 1:
        return 0.0
    hot = 1 / (kB * np.array(HOT))
    grid = np.unique(np.concatenate([hot[hot < betas.min()], betas]))
    holes = [
        np.linspace(a, b, math.ceil((b - a) / (STEP * max(a, hot[-1]))), endpoint=False)
        for a, b in itertools.pairwise(grid)
        if a > 0
    ]
    grid = np.unique(np.concatenate([[0.0], *holes, grid[-1:]]))
    cells = np.tile(digits, (len(grid), 1))
    mean, *_ = kernel.tempered(
        within.tables,
        within.moves,
        cells,
        grid,
        share,
        12,
        max(1, sweeps * within.n_sites // 4),
        3,
        (0.0, 1.0, 1),
        0,
        0,
        chance,
    )
    mean = mean - mean[-1]
    area = float(CubicSpline(grid, mean).integrate(grid[0], grid[-1]))
    return kB * (math.log(states) - area)  # U/T is in the zero of the energies


def _gaps(x, f, depth):
    """Two-phase regions of a free energy deeper than `depth`, and wider than two compositions."""
    corners, found = hull(x, f), []
    above = f - np.interp(x, x[corners], f[corners])
    for low, high in itertools.pairwise(corners):
        if high - low > 2 and (deepest := above[low + 1 : high].max()) > depth:
            found.append((float(x[low]), float(x[high]), float(deepest)))
    return found


def _nearest(low, high, found):
    """Of the two-phase regions of a run the one that lies most over another."""
    over = [min(high, b) - max(low, a) for a, b, _ in found]
    return found[int(np.argmax(over))][:2] if over and max(over) > 0 else None


def write_phases(path, diagram):
    """Keep a phase diagram as JSON, written in one step."""
    path = arguments.file_path(path, "write_phases: path", new=True)
    d = checked_phases(diagram, "write_phases")
    content = {
        "mlipkit": "phases 1",
        **crystal_content(d.lattice.host, d.lattice.compound, d.lattice.fixed),
        "supercell": d.lattice.matrix.tolist(),
        "aware": d.aware,
        "mean_voltage": None if math.isnan(d.mean_voltage) else d.mean_voltage,
        **{name: np.round(getattr(d, name), 9).tolist() for name in ARRAYS},
        "snapshots": [["".join(map(str, c)) for c in row] for row in d.snapshots.tolist()],
        "snapshot_at": d.snapshot_at.tolist(),
    }
    write_atomically(path, json.dumps(content))


ARRAYS = ("x", "temperatures", "free_energies", "energies", "electronic")


def read_phases(path):
    """A phase diagram that `write_phases` kept.

    Raises
    ------
    InputError
        When the file is none.
    """
    return read_kept(path, "phases", "phase diagram", _from_content)


def _from_content(content):
    check_kind(content, "phases")
    host, compound, fixed = crystal_from(content)
    if np.abs(content["supercell"]).max() > MOST_ATOMS:
        raise ValueError
    cells = abs(np.linalg.det(repeats(content["supercell"]).astype(float)))
    if cells * len(host) > MOST_ATOMS:
        raise ValueError
    lattice = lattice_of(host, compound, content["supercell"], fixed)
    arrays = [np.array(content[name], float) for name in ARRAYS]
    x, t, free, energies, electronic = arrays
    snapshots = np.array([[[int(d) for d in c] for c in row] for row in content["snapshots"]])
    at = np.array(content["snapshot_at"], int)
    aware, voltage = bool(content["aware"]), content["mean_voltage"]
    n_sites = len(lattice.mobile) + aware * len(lattice.redox)
    if (
        x.ndim != 1
        or t.ndim != 1
        or free.shape[1:] != (len(t), len(x))
        or energies.shape != free.shape
        or electronic.shape != free.shape[1:]
        or snapshots.shape != (len(t), len(at), n_sites)
        or not np.isin(at, range(len(x))).all()
        or not (np.isfinite(free).all() and np.isfinite(energies).all() and (t > 0).all())
        or len(x) < 2
        or not (np.diff(x) > 0).all()
    ):
        raise ValueError
    ranks = [2] * len(lattice.mobile) + [len(o) for o in lattice.options] * aware
    if snapshots.min(initial=0) < 0 or (snapshots >= ranks).any():
        raise ValueError
    voltage = math.nan if voltage is None else float(voltage)
    return PhaseDiagram(lattice, *arrays, snapshots, at, aware, voltage)


def checked_phases(given, where):
    """Raise an InputError unless this is a `PhaseDiagram`."""
    if not isinstance(given, PhaseDiagram):
        raise InputError(
            f"{where}: a phase diagram is what mk.phase_diagram(expansion) gives, not "
            f"{arguments.shown(given)}"
        )
    return given
