"""Monte Carlo on an expansion: one cell at a temperature, and a ladder of temperatures."""

from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.units import kB

from mlipkit import arguments
from mlipkit.files import InputError
from mlipkit.orderings.hosts import repeats
from mlipkit.statmech.expansion import checked_expansion

LADDER = (50, 100, 200, 350, 600, 1000, 1700, 3000)  # K
SWEEPS = 50  # in each of 20 rounds of an annealing
SIZE = 72  # formula units of the cells that are taken by default


@dataclass(frozen=True, eq=False)
class MonteCarlo:
    """What `monte_carlo` found.

    Attributes
    ----------
    atoms : ase.Atoms
        The last cell, on the places of the host, with its oxidation states.
    table : pandas.DataFrame
        A row for each of `n_blocks` blocks of trials: ``x`` and ``energy`` (formation energy, eV
        per formula unit), means over the block.
    x, energy : float
        Means over all blocks but the first fifth.
    accepted : float
        Share of the trials.
    """

    atoms: Atoms
    table: object
    x: float
    energy: float
    accepted: float

    def __str__(self):
        return (
            f"x = {self.x:.3f}, formation energy {1e3 * self.energy:.1f} meV per formula unit, "
            f"{self.accepted:.0%} of the trials accepted"
        )


def monte_carlo(
    expansion,
    temperature,
    x=None,
    mu=None,
    supercell=None,
    sweeps=2000,
    n_blocks=50,
    seed=0,
    start=None,
    progress=True,
):
    """Sample ions and charges of an expansion in one cell by neutral moves.

    An ion moves to an empty site, an electron from one metal to another, and (with `mu`) an ion
    goes in or out together with the electrons that balance it.

    Parameters
    ----------
    expansion : Expansion
    temperature : float
        K.
    x : float, optional
        Mobile ions per formula unit, which stay (canonical).
    mu : float, optional
        Chemical potential of the mobile ion with its electrons, eV, on the scale of the formation
        energies: 0 is where the end members balance (semigrand). One of `x` and `mu`.
    supercell : int, three ints or 3x3 ints, optional
        By default about 72 formula units, as compact as can be.
    sweeps : int
        Trials per site.
    n_blocks : int
    seed : int
    start : str, optional
        ``"empty"`` or ``"full"`` (where `mu` is given); by default random.
    progress : bool

    Returns
    -------
    MonteCarlo
        An interrupt ends it with what was reached.

    Raises
    ------
    InputError
        When the temperature is not above zero, x is none that the cell can have, or no move keeps
        the cell neutral.
    """
    import pandas as pd
    from tqdm.auto import tqdm

    from mlipkit.statmech import kernel

    where = "monte_carlo"
    expansion = checked_expansion(expansion, where)
    arguments.number(temperature, f"{where}: temperature (K)", above=0)
    arguments.number(x, f"{where}: x", least=0, none=True)
    arguments.number(mu, f"{where}: mu (eV)", none=True)
    sweeps = arguments.number(sweeps, f"{where}: sweeps", least=1, whole=True)
    n_blocks = arguments.number(n_blocks, f"{where}: n_blocks", least=2, whole=True)
    seed = arguments.number(seed, f"{where}: seed", least=0, whole=True)
    if (x is None) == (mu is None):
        raise InputError(f"{where}: give x (ions stay) or mu (ions come and go), one of the two")
    if start is not None:
        arguments.text(start, f"{where}: start", known=("empty", "full"))
    within = expansion.interactions(supercell_of(expansion, supercell))
    lattice, moves = within.lattice, within.moves
    if mu is not None and not within.n_mobile:
        raise InputError(f"{where}: mu: there is no mobile ion to come and go; give x=0")
    rng = np.random.default_rng(seed)
    possible = lattice.compositions
    n = {None: possible[len(possible) // 2], "empty": possible[0], "full": possible[-1]}[start]
    if x is not None:
        n = round(x * lattice.n_units)
        if n not in possible or abs(n / lattice.n_units - x) > 0.5 / lattice.n_units:
            low, high = possible[0] / lattice.n_units, possible[-1] / lattice.n_units
            raise InputError(
                f"{where}: x = {x:g} is none of the cell's {lattice.n_units} formula units, which "
                f"go from {low:g} to {high:g}"
            )
    digits = within.digits(*lattice.random(n, rng))
    on = kernel.variables_of(within.tables, digits)
    fields = kernel.fields_of(within.tables, on)
    energy, ions = within.energy(digits), float(n)
    shares = shares_of(within, exchange=mu is not None)
    n_trials = max(1, sweeps * within.n_sites // n_blocks)
    chance, rows, accepted = chance_of(seed), [], 0
    with tqdm(total=n_blocks, desc="monte_carlo", disable=not progress) as bar:
        try:
            for _ in range(n_blocks):
                mean, mean_ions, change, done = kernel.walk(
                    within.tables,
                    moves,
                    digits,
                    on,
                    fields,
                    1 / (kB * temperature),
                    mu or 0.0,
                    shares,
                    n_trials,
                    chance,
                )
                rows.append((ions + mean_ions, energy + mean))
                energy, ions = energy + change, float(digits[: moves.n_mobile].sum())
                accepted += done
                bar.update()
        except KeyboardInterrupt:
            pass
    if not rows:
        raise InputError(f"{where}: interrupted before the first block")
    table = pd.DataFrame(rows, columns=["x", "energy"]) / lattice.n_units
    late = table.iloc[len(table) // 5 :]
    filled, states = within.arrangement(digits)
    states = np.array([o[0] for o in lattice.options]) if states is None else states
    return MonteCarlo(
        lattice.decorated(filled, states),
        table,
        float(late["x"].mean()),
        float(late["energy"].mean()),
        accepted / (n_trials * len(rows)),
    )


def annealed(within, n, seeds, ions=True, start=None):
    """Cells of one composition that a ladder of temperatures from 3000 K down ends in, as digits,
    the coldest first; with `ions` False only electrons move, from `start`.
    """
    from mlipkit.statmech import kernel

    rng, chance = np.random.default_rng(seeds), chance_of(*seeds)
    betas = 1 / (kB * np.array(LADDER))
    if start is None:
        start = within.digits(*within.lattice.random(n, rng))
    cells = np.tile(start, (len(betas), 1))
    share = shares_of(within)[0] if ions else 0.0
    n_trials = SWEEPS * within.n_sites
    nothing = (0.0, 1.0, 1)
    kernel.tempered(
        within.tables, within.moves, cells, betas, share, 20, n_trials, 20, nothing, 0, 0, chance
    )
    energies = [within.energy(cell) for cell in cells]
    return cells[np.argsort(energies, kind="stable")]


def chance_of(*seeds):
    """State of the generator of the compiled walk."""
    return np.random.default_rng(seeds).integers(1, 2**63, 1).astype(np.uint64)


def shares_of(within, exchange=False):
    """Shares of the trials that move an ion and an electron; the rest exchanges ions."""
    kinds = np.array([within.n_mobile > 0, within.aware, exchange], float)
    if not kinds.any():
        raise InputError("there is no move: no mobile ion, and no charge that is told apart")
    return tuple((kinds / kinds.sum())[:2].tolist())


def supercell_of(expansion, given=None, n_units=SIZE):
    """The repeats given, or those of the most compact cell of about so many formula units."""
    if given is not None:
        return repeats(given)
    host = expansion.configurations.host
    units = expansion.configurations.lattice("1x1x1").n_units
    lengths = host.cell.lengths()
    n = max(1, round(n_units / units))
    best = None
    for cells in range(n, 2 * n + 1):
        for a in range(1, cells + 1):
            for b in range(1, cells // a + 1):
                if cells % (a * b):
                    continue
                edges = lengths * (a, b, cells // (a * b))
                score = edges.max() / edges.min() + 1.5 * (cells - n) / n
                if best is None or score < best[0]:
                    best = score, (a, b, cells // (a * b))
    return repeats(best[1])
