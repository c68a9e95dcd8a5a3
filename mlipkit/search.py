"""Find the charge ordering (and arrangement of the mobile ions) of lowest energy with a potential."""
from dataclasses import dataclass

import numpy as np

from mlipkit.campaigns import relax_many
from mlipkit.enumeration import count_orderings, enumerate_orderings
from mlipkit.files import InputError
from mlipkit.orderings import REDOX, ordering_label, sites_of
from mlipkit.pairs import PairExpansion

KB = 8.617333262e-5     # eV/K, CODATA 2018
RATTLE = 0.01           # Å: the host is a saddle point, from which no optimiser would find the way down
SAMPLE, PER_COEFFICIENT = 100, 5     # configurations that a pair expansion is fitted to: at least so many, and so many per coefficient
WINDOW = 4              # candidates within so many errors of the expansion are scored by the potential itself


@dataclass(frozen=True, eq=False)
class Search:
    """What `search_charge_ordering` found.

    Attributes
    ----------
    table : pandas.DataFrame
        A row per relaxed candidate, the lowest first: ``ordering`` (label of what was asked for), ``degeneracy`` (NaN in a Monte Carlo
        search), ``start`` (meV per formula unit above the lowest start), ``energy`` (meV per formula unit above the lowest after
        relaxation), ``found`` (label of what the moments say at the end; where it differs, charges have moved), ``reason``.
    relaxations : list of Relaxation
        In the order of the table.
    n_scored : int
        Start geometries scored by the model.
    n_candidates : int
        Configurations looked at; where they are more than `n_scored`, the others were by a pair expansion fitted to the scored ones.
    exhaustive : bool
        Whether these were all there are.
    expansion : PairExpansion or None
        With its error, `rmse` (eV per cell).
    """
    table: object
    relaxations: list
    n_scored: int
    n_candidates: int
    exhaustive: bool
    expansion: PairExpansion | None = None

    @property
    def atoms(self):
        """The lowest one, relaxed."""
        return self.relaxations[0].atoms

    def _repr_html_(self):
        return self.table.to_html(float_format="{:.1f}".format)


def search_charge_ordering(host, model, n_mobile=None, mobile="Na", redox={"Fe": (2, 3)}, supercell=None, mobile_sites=None,  # noqa: B006
                           keep=8, limit=100_000, mc_steps=20_000, temperature=(1500.0, 150.0), seed=0, processes=1, progress=True,
                           **options):
    """Score all charge orderings on the undistorted host, relax the best, rank them.

    Some hundred orderings are scored by the model itself, in batches that share one graph. Where there are many more, a pair expansion
    is fitted to a random sample of them (`PairExpansion`); it predicts all, and the model scores those that come out lowest, down to
    four times the error of the fit above the last that is kept. Where there are more than `limit`, a Monte Carlo walk on the expansion
    takes the place of the enumeration: two redox-active ions swap their charges, or a mobile ion moves to an empty site, accepted by
    the Metropolis rule while the temperature falls.

    Parameters
    ----------
    host : ase.Atoms
        The crystal with every mobile-ion site filled, in the cell in which the orderings are to be compared.
    model : Potential
        Charge-aware, or charge-blind to see what that one finds: on the undistorted host it cannot tell charge orderings apart.
    n_mobile, mobile, redox, supercell, mobile_sites
        As for `enumerate_orderings`; one composition: `n_mobile` must be one number unless `mobile_sites` say it.
    keep : int
        How many candidates are relaxed. The energy before relaxation is a rough guide: take as many as time allows.
    limit : int
        Enumerate up to so many symmetry-distinct orderings.
    mc_steps : int
        Monte Carlo trials.
    temperature : tuple of float
        K, at the first and the last trial.
    seed : int
        Of the sample, the Monte Carlo walk and the rattling by 0.01 Å from which relaxations start; the same seed gives the same search.
    processes, progress
        As for `relax_many`.
    **options
        Of `relax`: ``fmax``, ``steps``, ``cell``, ``optimizer``.

    Returns
    -------
    Search

    Raises
    ------
    InputError
        When the composition is not one, or no ordering can be neutral.
    """
    import pandas as pd
    setup = {"host": host, "mobile": mobile, "redox": redox, "supercell": supercell, "mobile_sites": mobile_sites}
    if mobile_sites is None and not isinstance(n_mobile, (int, np.integer)):
        raise InputError("search_charge_ordering: energies of different compositions cannot be ranked; give n_mobile, the number of "
                         f"{mobile} in the cell, or mobile_sites")
    if not redox:
        raise InputError("search_charge_ordering: name the elements that change their charge and their states, such as "
                         "redox={'Fe': (2, 3)}")
    setup["n_mobile"] = n_mobile if mobile_sites is None else None
    rng, cells = np.random.default_rng(seed), _Cells(setup, model, progress)
    exhaustive = count_orderings(**setup)["orderings"].sum() <= limit
    if exhaustive:
        orderings = list(enumerate_orderings(**setup, progress=progress))
        candidates = np.array([cells.configuration(o) for o in orderings], np.int8)
        energies, expansion = _screened(candidates, cells, keep, rng)
    else:
        walked, expansion = _walk(cells, mobile_sites is None, mc_steps, temperature, rng, progress)
        candidates = cells.distinct(walked, SAMPLE + keep)
        energies = cells.scored(candidates)
    lowest = np.argsort(energies, kind="stable")[:keep]
    starts = [orderings[k].atoms() if exhaustive else cells.atoms(candidates[k]) for k in lowest]
    rattled = [atoms.copy() for atoms in starts]
    for k, atoms in enumerate(rattled):
        atoms.rattle(RATTLE, seed=seed + k)
    relaxations = relax_many(rattled, model, processes=processes, progress=progress, **options)
    units = np.isin(starts[0].get_chemical_symbols(), list(redox)).sum()
    rows = []
    for energy, atoms, r in zip(energies[lowest], starts, relaxations):
        rows.append({"ordering": atoms.info["ordering"], "degeneracy": atoms.info.get("degeneracy", np.nan), "start": energy,
                     "energy": r.energies[-1], "found": _found(r, setup), "reason": r.reason})
    table = pd.DataFrame(rows)
    for column in ("start", "energy"):
        table[column] = 1e3 * (table[column] - table[column].min()) / units
    order = table["energy"].argsort(kind="stable")        # NaN, what could not be relaxed, last
    return Search(table.iloc[order].reset_index(drop=True), [relaxations[k] for k in order], cells.n_scored,
                  len(candidates) if exhaustive else len(walked), exhaustive, expansion)


class _Cells:
    """The host's cell as configurations, 1 or 0 per mobile site and then a charge per redox site, and their energies by the model."""

    def __init__(self, setup, model, progress):
        self.sites = sites_of(setup["host"], setup["supercell"], setup["mobile"], {*REDOX, *setup["redox"]}, 1e-2)
        self.model, self.progress, self.n_scored = model, progress, 0
        first = next(enumerate_orderings(**setup, progress=False))
        one = first.atoms()
        self.first, self.charges = self.configuration(first), dict(zip(one.get_chemical_symbols(), one.arrays["oxi_states"]))

    def configuration(self, ordering):
        filled = np.isin(np.arange(len(self.sites.mobile)), ordering.mobile_sites)
        return np.concatenate([filled, ordering.oxi_states]).astype(np.int8)

    def split(self, configuration):
        return configuration[:len(self.sites.mobile)].astype(bool), configuration[len(self.sites.mobile):].astype(int)

    def atoms(self, configuration):
        filled, states = self.split(configuration)
        atoms, charges = self.sites.atoms.copy(), np.array([self.charges.get(s, 0) for s in self.sites.atoms.symbols])
        charges[self.sites.redox] = states
        atoms.set_array("oxi_states", charges)
        del atoms[self.sites.mobile[~filled]]
        atoms.info = {"ordering": self.sites.label(filled, states), "x": filled.sum() / self.sites.n_units}
        return atoms

    def scored(self, configurations):
        """Energies (eV) by the model; those of one arrangement of the mobile ions share a graph."""
        from tqdm.auto import tqdm
        members, energies = {}, np.empty(len(configurations))
        for k, configuration in enumerate(configurations):
            members.setdefault(configuration[:len(self.sites.mobile)].tobytes(), []).append(k)
        with tqdm(total=len(energies), desc="scored", delay=3, disable=not self.progress) as bar:
            for rows in members.values():
                atoms = self.atoms(configurations[rows[0]])
                kept = np.delete(np.arange(len(self.sites.atoms)), self.sites.mobile[~self.split(configurations[rows[0]])[0]])
                states = np.tile(atoms.arrays["oxi_states"], (len(rows), 1))
                states[:, np.searchsorted(kept, self.sites.redox)] = [self.split(configurations[k])[1] for k in rows]
                energies[rows] = self.model.score(atoms, states)
                bar.update(len(rows))
        self.n_scored += len(energies)
        return energies

    def distinct(self, configurations, n):
        """The first `n` of different orderings."""
        found = {}
        for configuration in configurations:
            found.setdefault(self.sites.label(*self.split(configuration)), configuration)
            if len(found) == n:
                break
        return np.array(list(found.values()))


def _screened(candidates, cells, keep, rng):
    """Energies of candidates, infinite for those that a pair expansion puts too high to be scored; and the expansion, if one was needed."""
    expansion = PairExpansion(cells.sites)
    n = max(SAMPLE, PER_COEFFICIENT * expansion.n_coefficients)
    if len(candidates) <= 2 * n:
        return cells.scored(candidates), None
    energies, sample = np.full(len(candidates), np.inf), rng.choice(len(candidates), n, replace=False)
    energies[sample] = cells.scored(candidates[sample])
    predicted = expansion.fit(candidates[sample], energies[sample]).energies(candidates)
    order = np.argsort(predicted, kind="stable")
    near = np.searchsorted(predicted[order], predicted[order[keep - 1]] + WINDOW * expansion.rmse, side="right")
    rest = np.setdiff1d(order[:min(near, keep + n)], sample)
    energies[rest] = cells.scored(candidates[rest])
    return energies, expansion


def _walk(cells, movable, steps, temperature, rng, progress):
    """Different configurations that a Metropolis walk on a pair expansion accepts, the lowest first, and the expansion."""
    from tqdm.auto import tqdm
    n_mobile = len(cells.sites.mobile)
    elements = np.array(["mobile"] * n_mobile + cells.sites.elements)

    def moved(configuration):
        trial = configuration.copy()
        i = rng.integers(0 if movable else n_mobile, len(trial))
        others = np.flatnonzero((trial != trial[i]) & (elements == elements[i]))
        if len(others):
            j = rng.choice(others)
            trial[[i, j]] = trial[[j, i]]
        return trial

    expansion, sample, at = PairExpansion(cells.sites), {}, cells.first
    n = max(SAMPLE, PER_COEFFICIENT * expansion.n_coefficients)
    for _ in range(20 * n):
        sample.setdefault(at.tobytes(), at)
        if len(sample) == n:
            break
        at = moved(moved(at))
    sample = np.array(list(sample.values()))
    expansion.fit(sample, cells.scored(sample))
    energy = expansion.energies(at[None])[0]
    seen = {at.tobytes(): (energy, at)}
    for step in tqdm(range(steps), desc="Monte Carlo", delay=3, disable=not progress):
        kt = KB * temperature[0] * (temperature[1] / temperature[0]) ** (step / steps)
        trial = moved(at)
        new = expansion.energies(trial[None])[0]
        if rng.random() < np.exp(min(0.0, (energy - new) / kt)):
            at, energy = trial, new
            seen[at.tobytes()] = energy, at
    return np.array([c for _, c in sorted(seen.values(), key=lambda s: s[0])]), expansion


def _found(relaxation, setup):
    """Label of the ordering that the moments say; '' when there are none or the atoms left their sites."""
    if relaxation.states is None or (relaxation.states[-1] == 0).any():
        return ""
    try:
        return ordering_label(relaxation.inferred, setup["host"], setup["mobile"], setup["redox"], max_distance=1.5)
    except InputError:
        return ""
