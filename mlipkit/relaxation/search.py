"""Find the charge ordering (and the arrangement of ions) of lowest energy with a potential."""

import itertools
import warnings
from dataclasses import dataclass

import numpy as np

from mlipkit import arguments
from mlipkit.charges.compounds import compound_of
from mlipkit.files import InputError
from mlipkit.frames.taken import as_frame
from mlipkit.models.foreign import as_potential
from mlipkit.orderings.enumeration import count_orderings, enumerate_orderings
from mlipkit.orderings.names import located, sites_of
from mlipkit.relaxation.many import checked_processes, relax_many, settings_of
from mlipkit.statmech.pairs import PairExpansion

KB = 8.617333262e-5  # eV/K, CODATA 2018
# Å: the host is a saddle point, from which no optimiser would find the way down
RATTLE = 0.01
# configurations that a pair expansion is fitted to: at least so many, and so many per coefficient
SAMPLE, PER_COEFFICIENT = 100, 5
# candidates within so many errors of the expansion are scored by the model itself, at most so many
WINDOW, MOST = 4, 2000


@dataclass(frozen=True, eq=False)
class Search:
    """What `search_charge_ordering` found.

    Attributes
    ----------
    table : pandas.DataFrame
        A row per relaxed candidate, the lowest first: ``ordering`` (label of what was asked for),
        ``degeneracy`` (NaN in a Monte Carlo search), ``start`` (meV per formula unit above the
        lowest start), ``energy`` (meV per formula unit above the lowest after relaxation),
        ``found`` (label of what the moments say at the end; where it differs, charges have moved),
        ``reason``.
    relaxations : list of Relaxation
        In the order of the table.
    n_scored : int
        Start geometries scored by the model.
    n_candidates : int
        Orderings looked at, those by the pair expansion only among them; in a Monte Carlo search
        the configurations visited, which may be equal by symmetry.
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

    def __str__(self):
        return self.table.to_string(float_format="{:.1f}".format)

    def _repr_html_(self):
        return self.table.to_html(float_format="{:.1f}".format)


def search_charge_ordering(
    host,
    model,
    n_mobile=None,
    compound=None,
    supercell=None,
    mobile_sites=None,
    fixed=None,
    total_charge=0,
    keep=8,
    limit=100_000,
    mc_steps=20_000,
    temperature=(1500.0, 150.0),
    seed=0,
    processes=1,
    progress=True,
    **options,
):
    """Score all charge orderings on the undistorted host, relax the best, rank them.

    Up to a few hundred orderings (and all with a charge-blind model) are scored by the model
    itself, in batches that share one graph. Where there are more, a pair expansion is fitted to a
    random sample of them (`PairExpansion`); it predicts all, and the model scores those that come
    out lowest, down to four times the error of the fit above the last that is kept. Where there are
    more than `limit`, a Monte Carlo walk on the expansion takes the place of the enumeration: two
    redox-active ions change their charges against each other, or a mobile ion moves to an empty
    site, accepted by the Metropolis rule while the temperature falls.

    Parameters
    ----------
    host : ase.Atoms
        The crystal with every mobile-ion site filled, in the cell in which the orderings are to be
        compared.
    model : Potential or ase.calculators.calculator.Calculator
        Charge-aware, or charge-blind to see what that one finds: on the undistorted host it cannot
        tell charge orderings apart.
    n_mobile, compound, supercell, mobile_sites, fixed, total_charge
        As for `enumerate_orderings`; one composition: `n_mobile` must be one number unless
        `mobile_sites` say it. Where no compound is given, its metals have the states that the model
        was trained on.
    keep : int
        How many candidates are relaxed. The energy before relaxation is a rough guide: take as many
        as time allows.
    limit : int
        Enumerate up to so many symmetry-distinct orderings.
    mc_steps : int
        Monte Carlo trials.
    temperature : tuple of float
        K, at the first and the last trial.
    seed : int
        Of the sample, the Monte Carlo walk and the rattling by 0.01 Å from which relaxations start;
        the same seed gives the same search.
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

    Warns
    -----
    UserWarning
        When the expansion is so far off that not all candidates within its error could be scored.
    """
    import pandas as pd

    where = "search_charge_ordering"
    model, host = as_potential(model, where), as_frame(host, where)
    # before hours of scoring, not after them
    keep = arguments.number(keep, f"{where}: keep", least=1, whole=True)
    arguments.number(limit, f"{where}: limit", least=0)
    mc_steps = arguments.number(mc_steps, f"{where}: mc_steps", least=1, whole=True)
    seed = arguments.number(seed, f"{where}: seed", least=0, whole=True)
    for kelvin in arguments.values(temperature, f"{where}: temperature", 2):
        arguments.number(kelvin, f"{where}: each temperature", above=0)
    processes = checked_processes(processes, where)
    options = settings_of(options, where)
    if compound is None:
        compound = model.states_of(compound_of([host], None, host))
    compound = compound_of([host], compound, host)
    mobile = compound.mobile
    setup = {
        "host": host,
        "compound": compound,
        "supercell": supercell,
        "mobile_sites": mobile_sites,
        "fixed": fixed,
        "total_charge": total_charge,
        "n_mobile": 0 if mobile is None else n_mobile,
    }
    if mobile and mobile_sites is None and not isinstance(n_mobile, (int, np.integer)):
        raise InputError(
            "search_charge_ordering: energies of different compositions cannot be ranked; give "
            "n_mobile, the number of "
            f"{mobile} in the cell, or mobile_sites"
        )
    if not compound.redox:
        raise InputError(
            "search_charge_ordering: name the elements that change their charge and their states, "
            "such as compound=mk.Compound(mobile, {'Mn': (2, 3)})"
        )
    rng, cells = np.random.default_rng(seed), _Cells(setup, model, progress)
    exhaustive = count_orderings(**setup)["orderings"].sum() <= limit
    if exhaustive:
        orderings = list(enumerate_orderings(**setup, progress=progress))
        candidates = np.array([cells.configuration(o) for o in orderings], np.int8)
        sample = (
            rng.permutation(len(candidates))[: cells.n_sample]
            if len(candidates) > 2 * cells.n_sample
            else None
        )
    else:
        candidates, sample = _walk(
            cells, mobile_sites is None, mc_steps, temperature, rng, progress
        )
    # to a blind model all orderings of an arrangement are one
    if sample is None or not model.charge_aware:
        expansion, energies = None, cells.scored(candidates)
    else:
        expansion, energies = cells.expansion, np.full(len(candidates), np.inf)
        if exhaustive:  # the walk has fitted it already
            cells.fit(candidates[sample])
        energies[sample] = cells.scored(candidates[sample])
        predicted = expansion.energies(candidates)
        near = _lowest(
            predicted,
            keep,
            WINDOW * expansion.rmse,
            None if exhaustive else cells.label,
            candidates,
        )
        energies[near] = cells.scored(candidates[near])
    lowest = _lowest(energies, keep, -np.inf, None if exhaustive else cells.label, candidates)
    starts = [orderings[k].atoms() if exhaustive else cells.atoms(candidates[k]) for k in lowest]
    rattled = [atoms.copy() for atoms in starts]
    for k, atoms in enumerate(rattled):
        atoms.rattle(RATTLE, seed=seed + k)
    relaxations = relax_many(rattled, model, processes=processes, progress=progress, **options)
    rows = []
    for energy, atoms, r in zip(energies[lowest], starts, relaxations):
        rows.append(
            {
                "ordering": atoms.info["ordering"],
                "degeneracy": atoms.info.get("degeneracy", np.nan),
                "start": energy,
                "energy": r.energies[-1],
                "found": _found(r, setup),
                "reason": r.reason,
            }
        )
    table = pd.DataFrame(rows)
    for column in ("start", "energy"):
        table[column] = 1e3 * (table[column] - table[column].min()) / cells.sites.n_units
    order = table["energy"].argsort(kind="stable")  # NaN, what could not be relaxed, last
    return Search(
        table.iloc[order].reset_index(drop=True),
        [relaxations[k] for k in order],
        len(cells.known),
        len(candidates),
        exhaustive,
        expansion,
    )


class _Cells:
    """The host's cell as configurations, 1 or 0 per mobile site and then a charge per redox site,
    and their energies by the model.
    """

    def __init__(self, setup, model, progress):
        self.setup, self.model, self.progress, self.known = setup, model, progress, {}
        compound = setup["compound"]
        self.sites = sites_of(setup["host"], setup["supercell"], compound)
        self.expansion = PairExpansion(self.sites)
        self.n_sample = max(SAMPLE, PER_COEFFICIENT * self.expansion.n_coefficients)
        first = next(enumerate_orderings(**setup, progress=False))
        one = first.atoms()
        self.first, self.charges = (
            self.configuration(first),
            dict(zip(one.get_chemical_symbols(), one.arrays["oxi_states"])),
        )
        self.options = [
            sorted(set(compound.redox.get(e, (self.charges[e],)))) for e in self.sites.elements
        ]

    def configuration(self, ordering):
        filled = np.isin(np.arange(len(self.sites.mobile)), ordering.mobile_sites)
        return np.concatenate([filled, ordering.oxi_states]).astype(np.int8)

    def split(self, configuration):
        return configuration[: len(self.sites.mobile)].astype(bool), configuration[
            len(self.sites.mobile) :
        ].astype(int)

    def atoms(self, configuration):
        filled, states = self.split(configuration)
        atoms = self.decorated(filled, states)
        about = {"ordering": _label(atoms, self.setup), "x": filled.sum() / self.sites.n_units}
        atoms.info |= about
        return atoms

    def decorated(self, filled, states):
        about = self.setup["compound"], self.setup["total_charge"]
        return self.sites.decorated(filled, states, self.charges, *about)

    def label(self, configuration):
        """Of this cell; `_label` asks which of the equivalent supercells gives the name, and takes
        longer.
        """
        return self.sites.label(*self.split(configuration))

    def scored(self, configurations):
        """Energies (eV) by the model, each computed once; those of one arrangement of the mobile
        ions share a graph.
        """
        from tqdm.auto import tqdm

        members = {}
        for configuration in configurations:
            if configuration.tobytes() not in self.known:
                members.setdefault(configuration[: len(self.sites.mobile)].tobytes(), []).append(
                    configuration
                )
        with tqdm(
            total=sum(map(len, members.values())), desc="scored", delay=3, disable=not self.progress
        ) as bar:
            for rows in members.values():
                filled, first = self.split(rows[0])
                atoms = self.decorated(filled, first)
                at = np.searchsorted(
                    np.delete(np.arange(len(self.sites.atoms)), self.sites.mobile[~filled]),
                    self.sites.redox,
                )
                states = np.tile(atoms.arrays["oxi_states"], (len(rows), 1))
                states[:, at] = [self.split(row)[1] for row in rows]
                self.known.update(
                    zip([row.tobytes() for row in rows], self.model.score(atoms, states).tolist())
                )
                bar.update(len(rows))
        return np.array([self.known[c.tobytes()] for c in configurations])

    def fit(self, configurations):
        self.expansion.fit(configurations, self.scored(configurations))

    def moved(self, configuration, movable, rng):
        """A mobile ion on another site, or two redox-active ions in other states of the same sum;
        at times the same configuration.
        """
        n, trial = len(self.sites.mobile), configuration.copy()
        i = rng.integers(0 if movable else n, len(trial))
        j = rng.integers(n) if i < n else rng.integers(n, len(trial))
        if i < n:
            trial[[i, j]] = trial[[j, i]]
        elif i != j:
            total = trial[i] + trial[j]
            pairs = [
                p
                for p in itertools.product(self.options[i - n], self.options[j - n])
                if sum(p) == total and p[0] != trial[i]
            ]
            if pairs:
                trial[[i, j]] = pairs[rng.integers(len(pairs))]
        return trial


def _lowest(energies, keep, window, label, candidates):
    """Indices of the `keep` lowest and of those within a window (eV) above the last of them; each
    label once, where there is one.
    """
    chosen, labels = [], set()
    for k in np.argsort(energies, kind="stable").tolist():
        if len(chosen) >= keep and not energies[k] <= energies[chosen[keep - 1]] + window:
            break
        if not np.isfinite(energies[k]):
            break
        if len(chosen) == max(keep, MOST):
            n = int((energies <= energies[chosen[keep - 1]] + window).sum())
            warnings.warn(
                f"search_charge_ordering: the pair expansion is {window / WINDOW:.3f} eV per cell "
                f"off; of {n} candidates within "
                f"its error the model scored {len(chosen)}, so a lower one may have been missed",
                stacklevel=3,
            )
            break
        if label is not None:
            name = label(candidates[k])
            if name in labels:
                continue
            labels.add(name)
        chosen.append(k)
    return chosen


def _walk(cells, movable, steps, temperature, rng, progress):
    """Different configurations that a Metropolis walk on a pair expansion accepts, and which of
    them it was fitted to.
    """
    from tqdm.auto import tqdm

    at, sample = cells.first, {}
    for _ in range(40 * cells.n_sample):
        sample.setdefault(at.tobytes(), at)
        if len(sample) == cells.n_sample:
            break
        at = cells.moved(cells.moved(at, movable, rng), movable, rng)
    fitted = rng.permutation(np.array(list(sample.values())))
    cells.fit(fitted)
    seen, energy = {c.tobytes(): c for c in fitted}, cells.expansion.energies(at[None])[0]
    for step in tqdm(range(steps), desc="Monte Carlo", delay=3, disable=not progress):
        kt = KB * temperature[0] * (temperature[1] / temperature[0]) ** (step / steps)
        trial = cells.moved(at, movable, rng)
        new = cells.expansion.energies(trial[None])[0]
        if rng.random() < np.exp(min(0.0, (energy - new) / kt)):
            at, energy = trial, new
            seen[at.tobytes()] = at
    return np.array(list(seen.values())), np.arange(len(fitted))


def _label(atoms, setup, **tolerance):
    return located(atoms, setup["host"], setup["compound"], **tolerance).ordering


def _found(relaxation, setup):
    """Label of the ordering that the moments say; '' when there are none or the atoms left their
    sites.
    """
    if relaxation.states is None or (relaxation.states[-1] == 0).any():
        return ""
    try:
        return _label(relaxation.inferred, setup, max_distance=1.5)
    except InputError:
        return ""
