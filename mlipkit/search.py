"""Find the charge ordering (and arrangement of the mobile ions) of lowest energy with a potential."""
from dataclasses import dataclass

import numpy as np

from mlipkit.campaigns import relax_many
from mlipkit.enumeration import count_orderings, enumerate_orderings
from mlipkit.files import InputError
from mlipkit.orderings import ordering_label, sites_of

KB = 8.617333262e-5     # eV/K, CODATA 2018
SWAPS = 8               # swaps of charges that are scored together
RATTLE = 0.01           # Å: the host is a saddle point, from which no optimiser would find the way down


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
        Start geometries scored.
    exhaustive : bool
        Whether these were all there are.
    """
    table: object
    relaxations: list
    n_scored: int
    exhaustive: bool

    @property
    def atoms(self):
        """The lowest one, relaxed."""
        return self.relaxations[0].atoms

    def _repr_html_(self):
        return self.table.to_html(float_format="{:.1f}".format)


def search_charge_ordering(host, model, n_mobile=None, mobile="Na", redox={"Fe": (2, 3)}, supercell=None, mobile_sites=None,  # noqa: B006
                           keep=8, limit=2000, mc_steps=2000, temperature=(1500.0, 150.0), seed=0, processes=1, progress=True, **options):
    """Score all charge orderings on the undistorted host, relax the best, rank them.

    Where there are more than `limit`, a Monte Carlo search takes the place of the enumeration: two redox-active ions swap their
    charges, or a mobile ion moves to an empty site, accepted by the Metropolis rule while the temperature falls; the best
    different ones that it meets are relaxed.

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
        Enumerate up to so many orderings.
    mc_steps : int
        Monte Carlo trials.
    temperature : tuple of float
        K, at the first and the last trial.
    seed : int
        Of the Monte Carlo search and the rattling by 0.01 Å from which relaxations start; the same seed gives the same search.
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
    setup["n_mobile"] = n_mobile if mobile_sites is None else None
    exhaustive = count_orderings(**setup)["orderings"].sum() <= limit
    if exhaustive:
        scored = _score_all(enumerate_orderings(**setup, progress=False), model, progress)
    else:
        scored = _monte_carlo(next(enumerate_orderings(**setup, progress=False)), setup, model, mc_steps, temperature, seed, progress)
    chosen = sorted(scored, key=lambda s: s[0])[:keep]
    starts = [atoms.copy() for _, atoms in chosen]
    for k, atoms in enumerate(starts):
        atoms.rattle(RATTLE, seed=seed + k)
    relaxations = relax_many(starts, model, processes=processes, progress=progress, **options)
    units = np.isin(chosen[0][1].get_chemical_symbols(), list(redox)).sum()
    rows = []
    for (energy, atoms), r in zip(chosen, relaxations):
        rows.append({"ordering": atoms.info["ordering"], "degeneracy": atoms.info.get("degeneracy", np.nan), "start": energy,
                     "energy": r.energies[-1], "found": _found(r, setup), "reason": r.reason})
    table = pd.DataFrame(rows)
    for column in ("start", "energy"):
        table[column] = 1e3 * (table[column] - table[column].min()) / units
    order = table["energy"].argsort(kind="stable")        # NaN, what could not be relaxed, last
    return Search(table.iloc[order].reset_index(drop=True), [relaxations[k] for k in order], len(scored), exhaustive)


def _score_all(orderings, model, progress):
    """(energy, atoms) of every ordering; those of one arrangement of the mobile ions share a graph."""
    by_arrangement = {}
    for ordering in orderings:
        by_arrangement.setdefault(ordering.mobile_sites, []).append(ordering.atoms())
    scored = []
    for members in by_arrangement.values():
        energies = model.score(members[0], [a.arrays["oxi_states"] for a in members], progress=progress)
        scored += zip(energies.tolist(), members)
    return scored


def _monte_carlo(first, setup, model, steps, temperature, seed, progress):
    """(energy, atoms) of the different orderings that a Metropolis walk accepts."""
    from tqdm.auto import tqdm
    rng = np.random.default_rng(seed)
    sites = sites_of(setup["host"], setup["supercell"], setup["mobile"], setup["redox"], 1e-2)
    filled = np.isin(np.arange(len(sites.mobile)), first.mobile_sites)
    one, states = first.atoms(), first.oxi_states
    fixed = dict(zip(one.get_chemical_symbols(), one.arrays["oxi_states"]))
    elements = np.array(sites.elements)
    movable = setup["mobile_sites"] is None and 0 < filled.sum() < len(filled)

    def built(filled):
        atoms, charges = sites.atoms.copy(), np.array([fixed.get(s, 0) for s in sites.atoms.symbols])
        atoms.set_array("oxi_states", charges)
        kept = np.delete(np.arange(len(atoms)), sites.mobile[~filled])
        return atoms[kept], np.searchsorted(kept, sites.redox)

    def with_states(charges, at, states):
        rows = np.tile(charges, (len(states), 1))
        rows[:, at] = states
        return rows

    atoms, at = built(filled)
    energy = model.score(atoms, with_states(atoms.arrays["oxi_states"], at, states[None]))[0]
    seen, done = {}, 0
    with tqdm(total=steps, desc="Monte Carlo", disable=not progress) as bar:
        while done < steps:
            kt = KB * temperature[0] * (temperature[1] / temperature[0]) ** (done / steps)
            name = sites.label(filled, states)
            if name not in seen:
                best = atoms.copy()
                best.arrays["oxi_states"] = with_states(atoms.arrays["oxi_states"], at, states[None])[0]
                best.info = {"ordering": name, "x": filled.sum() / sites.n_units}
                seen[name] = energy, best
            if movable and rng.random() < 0.3:
                trial = filled.copy()
                trial[[rng.choice(np.flatnonzero(filled)), rng.choice(np.flatnonzero(~filled))]] = False, True
                there, where = built(trial)
                new = model.score(there, with_states(there.arrays["oxi_states"], where, states[None]))[0]
                done += 1
                if rng.random() < np.exp(min(0.0, (energy - new) / kt)):
                    filled, atoms, at, energy = trial, there, where, new
            else:       # trials until the first that is accepted start from one state, so they can be scored together
                trials = np.tile(states, (SWAPS, 1))
                for row in trials:
                    i = rng.integers(len(row))
                    others = np.flatnonzero((row != row[i]) & (elements == elements[i]))
                    if len(others):
                        j = rng.choice(others)
                        row[[i, j]] = row[[j, i]]
                found = model.score(atoms, with_states(atoms.arrays["oxi_states"], at, trials))
                accepted = rng.random(SWAPS) < np.exp(np.minimum(0.0, (energy - found) / kt))
                k = int(accepted.argmax()) if accepted.any() else None
                done += SWAPS if k is None else k + 1
                if k is not None:
                    states, energy = trials[k], found[k]
            bar.update(min(done, steps) - bar.n)
    return list(seen.values())


def _found(relaxation, setup):
    """Label of the ordering that the moments say; '' when there are none or the atoms left their sites."""
    if relaxation.states is None or (relaxation.states[-1] == 0).any():
        return ""
    try:
        return ordering_label(relaxation.inferred, setup["host"], setup["mobile"], setup["redox"], max_distance=1.5)
    except InputError:
        return ""
