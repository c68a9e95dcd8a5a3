"""A cluster expansion of the energy over ions and charges, fitted with smol."""

import functools
import json
from dataclasses import dataclass

import numpy as np

from mlipkit import arguments
from mlipkit.files import InputError, write_atomically
from mlipkit.orderings.lattice import lattice_of
from mlipkit.statmech.configurations import (
    Configurations,
    as_content,
    check_kind,
    checked_configurations,
    from_content,
    read_kept,
)

# Å: diameters of the pairs and triplets; the first that has the model's ground states is taken
REACHES = ({2: 7.0, 3: 5.0}, {2: 9.0, 3: 6.0}, {2: 12.0, 3: 7.0})
FOLDS = 10
PENALTIES = np.logspace(-8, 0, 33)  # of a ridge regression; features are of order one
FEWEST = 10
# of the arrangements on the model's hull, from which everything else is counted
GROUND_WEIGHT = 300.0
# eV per formula unit: of two relaxations of one arrangement in a fixed cell 19 of 20 are closer
# (they scatter by 1.3 meV, docs/phases.md)
TIE = 3.6e-3


@dataclass(frozen=True, eq=False)
class Expansion:
    """Formation energies as a sum over clusters of the mobile-ion and redox sites (Sanchez,
    Ducastelle and Gratias, Physica A 128, 334, 1984).

    Attributes
    ----------
    configurations : Configurations
        What it was fitted to.
    cutoffs : dict
        {number of sites: largest distance in Å}.
    coefficients : numpy.ndarray, shape (n_functions,)
        Effective cluster interactions times multiplicities, eV per host cell.
    penalty : float
        Of the ridge regression, chosen by cross-validation.
    rmse : float
        Cross-validated, eV per formula unit: of arrangements that the fit did not see; those equal
        by symmetry were left out together.
    spread : float
        Standard deviation of the formation energies, eV per formula unit: what a constant is off.
    """

    configurations: Configurations
    cutoffs: dict
    coefficients: np.ndarray
    penalty: float
    rmse: float
    spread: float

    @functools.cached_property
    def subspace(self):
        """smol's ``ClusterSubspace``."""
        subspace = subspace_of(self.configurations, self.cutoffs)
        if (n := subspace.num_corr_functions) != len(self.coefficients):
            raise InputError(
                f"this expansion has {len(self.coefficients)} coefficients, and its cutoffs "
                f"{self.cutoffs} make {n} functions; fit it again"
            )
        return subspace

    @functools.cached_property
    def smol(self):
        """smol's ``ClusterExpansion``, for its own tools and samplers."""
        from smol.cofe import ClusterExpansion

        return ClusterExpansion(self.subspace, self.coefficients)

    @property
    def aware(self):
        """Whether charges are sites of it, or ions only (of a charge-blind model)."""
        return self.configurations.aware

    @functools.cached_property
    def features(self):
        """Cluster functions of the configurations that count, shape (n, n_functions)."""
        return features_of(self.configurations, self.subspace)

    @property
    def predicted(self):
        """Formation energies of the configurations that count by the expansion, eV per formula
        unit.
        """
        return self.features @ self.coefficients / self.configurations.n_units

    @functools.cached_property
    def ground_states(self):
        """A pandas table of the arrangements on the hull by the model or by the expansion: ``x``,
        ``supercell``, ``ions``, ``states``, ``model`` and ``expansion`` (formation energies, meV
        per formula unit; NaN where it lies more than 3.6 meV above that hull, which two relaxations
        do not tell apart). Arrangements equal by symmetry are one.
        """
        rows = self.configurations.kept.reset_index(drop=True)
        _, first, same = _distinct(self.features)
        x = rows["x"].to_numpy()[first]
        by = {
            "model": _lowest(self.configurations.formation_energies, same, len(first)),
            "expansion": _lowest(self.predicted, same, len(first)),
        }
        corners = {name: hull(x, energies) for name, energies in by.items()}
        either = sorted({*corners["model"], *corners["expansion"]})
        table = rows.loc[first[either], ["x", "supercell", "ions", "states"]]
        for name, energies in by.items():
            on = corners[name]
            above = energies - np.interp(x, x[on], energies[on])
            here = np.where(above < TIE, 1e3 * energies, np.nan)
            table[name] = here[either]
        return table.sort_values("x")

    @property
    def agrees(self):
        """Whether the expansion has the model's ground states: none that is not the model's, and at
        each of their compositions at least one. A diagram of one that does not is not the model's.
        """
        states = self.ground_states
        by_model, by_expansion = (states[states[of].notna()] for of in ("model", "expansion"))
        covered = set(by_model["x"]) <= set(by_expansion["x"])
        return covered and bool(by_expansion["model"].notna().all())

    def interactions(self, supercell):
        """The expansion in a supercell of the host, as `mlipkit.statmech.kernel` wants it.

        Parameters
        ----------
        supercell : int, three ints or 3x3 ints

        Returns
        -------
        Interactions
        """
        from mlipkit.statmech.interactions import interactions_of

        return interactions_of(self, supercell)

    def energy(self, lattice, filled, states=None):
        """Formation energy of one arrangement, eV per formula unit.

        Parameters
        ----------
        lattice : mlipkit.orderings.lattice.Lattice
        filled : array_like of bool
        states : array_like of int, optional
            Not looked at by the expansion of a charge-blind model.
        """
        functions = correlations_in(self.subspace, lattice, self.aware)
        return float(functions(filled, states) @ self.coefficients) / self.configurations.n_units

    def __str__(self):
        n = len(self.configurations.kept)
        truth = self.ground_states
        agree = truth[["model", "expansion"]].notna().all(axis=1).sum()
        lines = [
            f"{self.configurations}",
            f"{len(self.coefficients)} functions fitted to {n}: {1e3 * self.rmse:.1f} meV per "
            "formula unit off on arrangements left out, the spread of the formation energies being "
            f"{1e3 * self.spread:.0f}",
            f"on the hull: {truth['model'].notna().sum()} by the model, "
            f"{truth['expansion'].notna().sum()} by the expansion, {agree} the same",
        ]
        if not self.agrees:
            lines.append(
                "these are not the model's ground states, so a diagram would not be the model's: "
                f"try longer cutoffs (these are {self.cutoffs}, Å) or add arrangements "
                "(mk.extend_configurations)"
            )
        return "\n".join(lines)

    def _repr_html_(self):
        lines = str(self).replace("\n", "<br>")
        return f"<p>{lines}</p>{self.ground_states.to_html(float_format='{:.1f}'.format)}"


def fit_expansion(configurations, cutoffs=None, folds=FOLDS, seed=0):
    """Fit a cluster expansion over mobile ions *and* charge states to computed energies.

    Ridge regression on smol's cluster functions, its penalty chosen by cross-validation. What lies
    on the model's hull, the end members among it, has a larger weight: every free energy is counted
    from there. Arrangements equal by symmetry are one, the lowest of them. Of a charge-blind
    model's configurations it is an expansion over the ions alone.

    Parameters
    ----------
    configurations : Configurations
        As `sample_configurations` or `read_configurations` give them. Cells whose charges moved,
        whose atoms left their sites, that stretched or that did not converge are left out, and
        counted in what it prints.
    cutoffs : dict, optional
        Largest distance (Å) in clusters of two sites, of three, ... By default the shortest of
        ``{2: 7.0, 3: 5.0}``, ``{2: 9.0, 3: 6.0}`` and ``{2: 12.0, 3: 7.0}`` with which the
        expansion has the model's ground states (`Expansion.agrees`); where none has them, or longer
        ones would have more functions than half of the configurations, the one that errs least.
    folds : int
        Of the cross-validation.
    seed : int
        Of the folds.

    Returns
    -------
    Expansion

    Raises
    ------
    InputError
        When too few configurations count, or they are of one composition.
    """
    c = checked_configurations(configurations, "fit_expansion")
    folds = arguments.number(folds, "fit_expansion: folds", least=2, whole=True)
    seed = arguments.number(seed, "fit_expansion: seed", least=0, whole=True)
    given = None if cutoffs is None else _checked_cutoffs(cutoffs)
    n = len(c.kept)
    if n < FEWEST:
        raise InputError(
            f"fit_expansion: {n} of {len(c.table)} configurations count, and at least {FEWEST} "
            f"are needed; {c}"
        )
    if c.kept["x"].nunique() < 2:
        raise InputError(
            f"fit_expansion: all {n} configurations are at x = {c.kept['x'].iloc[0]:g}; formation "
            "energies need two compositions or more"
        )
    tried = []
    for reach in REACHES if given is None else (given,):
        # a longer reach has more functions, and takes long to set up
        if tried and len(tried[-1].coefficients) > n / 2:
            break
        subspace = subspace_of(c, reach)
        if tried and subspace.num_corr_functions > n / 2:
            break
        tried.append(_fitted(c, reach, subspace, folds, seed))
        if given is None and tried[-1].agrees:
            return tried[-1]
    return min(tried, key=lambda expansion: expansion.rmse)


def _fitted(c, cutoffs, subspace, folds, seed):
    """The expansion of configurations with one set of cutoffs."""
    features = features_of(c, subspace)
    x, first, same = _distinct(features)
    y = _lowest(c.formation_energies, same, len(x))
    at = c.kept["x"].to_numpy()[first]
    weights = np.ones(len(x))
    weights[hull(at, y)] = GROUND_WEIGHT
    fold = np.random.default_rng(seed).permutation(len(x)) % folds
    errors = np.zeros((len(PENALTIES), len(x)))
    for k in range(folds):
        out = fold == k
        if out.any() and not out.all():
            known = _ridge(x[~out], y[~out], weights[~out], PENALTIES)
            errors[:, out] = known @ _with_one(x[out]).T - y[out]
    rmse = np.sqrt((errors**2).mean(axis=1))
    best = int(rmse.argmin())
    solution = _ridge(x, y, weights, PENALTIES[[best]])[0]
    coefficients = solution[:-1].copy()
    coefficients[0] += solution[-1]  # smol's first function is one
    expansion = Expansion(
        c,
        cutoffs,
        coefficients * c.n_units,
        float(PENALTIES[best]),
        float(rmse[best]),
        float(y.std()),
    )
    # they took most of the time; made anew they would be the same
    vars(expansion).update(subspace=subspace, features=features)
    return expansion


def write_expansion(path, expansion):
    """Keep an expansion and the configurations it was fitted to as JSON, written in one step."""
    path = arguments.file_path(path, "write_expansion: path", new=True)
    e = checked_expansion(expansion, "write_expansion")
    content = {
        "mlipkit": "expansion 1",
        "cutoffs": [[k, v] for k, v in e.cutoffs.items()],
        "coefficients": e.coefficients.tolist(),
        "penalty": e.penalty,
        "rmse": e.rmse,
        "spread": e.spread,
        "configurations": as_content(e.configurations),
    }
    write_atomically(path, json.dumps(content, indent=1))


def read_expansion(path):
    """An expansion that `write_expansion` kept.

    Raises
    ------
    InputError
        When the file is none of these.
    """
    return read_kept(path, "expansion", "expansion", _from_content)


def _from_content(content):
    check_kind(content, "expansion")
    coefficients = np.array(content["coefficients"], float)
    if coefficients.ndim != 1 or not np.isfinite(coefficients).all():
        raise InputError("coefficients are finite numbers")
    return Expansion(
        from_content(content["configurations"]),
        _checked_cutoffs({k: v for k, v in content["cutoffs"]}),
        coefficients,
        *(float(content[name]) for name in ("penalty", "rmse", "spread")),
    )


def checked_expansion(given, where):
    """Raise an InputError unless this is an `Expansion`."""
    if not isinstance(given, Expansion):
        raise InputError(
            f"{where}: an expansion is what mk.fit_expansion(configurations) gives, not "
            f"{arguments.shown(given)}"
        )
    return given


def _checked_cutoffs(cutoffs):
    example = "{2: 7.0, 3: 5.0}"
    arguments.mapping(cutoffs, "fit_expansion: cutoffs", example)
    what = f"fit_expansion: cutoffs ({example})"
    sizes = [arguments.number(k, f"{what}: each size", least=2, most=6, whole=True)
             for k in cutoffs]  # fmt: skip
    reach = [arguments.number(v, f"{what}: each distance", above=0, most=20.0)
             for v in cutoffs.values()]  # fmt: skip
    return dict(sorted(zip(sizes, reach)))


def _distinct(features):
    """Features of the arrangements that symmetry does not make equal, the first of each, and which
    of them each arrangement is.
    """
    _, first, same = np.unique(features.round(6), axis=0, return_index=True, return_inverse=True)
    return features[first], first, same.ravel()


def _lowest(energies, same, n):
    """The lowest energy of each of `n` distinct arrangements."""
    lowest = np.full(n, np.inf)
    np.minimum.at(lowest, same, energies)
    return lowest


def _ridge(x, y, weights, penalties):
    """Coefficients and intercept of ridge regressions, shape (n_penalties, n + 1)."""
    share = weights / weights.sum()
    mean, level, root = share @ x, share @ y, np.sqrt(weights)
    u, s, vt = np.linalg.svd(root[:, None] * (x - mean), full_matrices=False)
    s[s < 1e-9 * s.max(initial=1e-300)] = 0  # neutrality makes sums of features constant
    scale = s / (s**2 + len(y) * np.asarray(penalties)[:, None])
    coefficients = (scale * (u.T @ (root * (y - level)))) @ vt
    return np.hstack([coefficients, level - coefficients @ mean[:, None]])


def _with_one(x):
    return np.hstack([x, np.ones((len(x), 1))])


def hull(x, energies):
    """Indices of the points on the lower convex hull, by x; of several equal ones the first."""
    order = np.lexsort((energies, x))
    chain = []
    for k in order:
        if chain and x[k] == x[chain[-1]]:
            continue
        while len(chain) > 1:
            i, j = chain[-2:]
            cross = (x[j] - x[i]) * (energies[k] - energies[i])
            cross -= (energies[j] - energies[i]) * (x[k] - x[i])
            if cross > 0:
                break
            chain.pop()
        chain.append(int(k))
    return chain


def subspace_of(configurations, cutoffs):
    """smol's ``ClusterSubspace`` over the sites of a host that carry order."""
    from smol.cofe import ClusterSubspace

    lattice = lattice_of(configurations.host, configurations.compound, None, configurations.fixed)
    structure, _ = disordered(lattice, configurations.aware)
    return ClusterSubspace.from_cutoffs(structure, cutoffs, basis="sinusoid")


def disordered(lattice, aware):
    """The supercell as pymatgen's ``Structure``, with what each site may hold, and for the sites
    that carry order, by atom, what its digits 0, 1, ... stand for.
    """
    from pymatgen.core import Species, Structure
    from smol.cofe.space.domain import Vacancy

    symbols = lattice.atoms.get_chemical_symbols()
    held = {int(i): [Vacancy(), _ion(symbols[i], lattice)] for i in lattice.mobile}
    if aware:
        for i, states in zip(lattice.redox, lattice.options):
            held[int(i)] = [Species(symbols[i], q) for q in states]
    species = []
    for i, symbol in enumerate(symbols):
        here = held.get(i, [_ion(symbol, lattice)])
        share = 1 / len(here)
        species.append({s: share for s in here if not isinstance(s, Vacancy)})
    structure = Structure(
        lattice.atoms.cell.array, species, lattice.atoms.get_scaled_positions(wrap=False)
    )
    return structure, held


def _ion(symbol, lattice):
    from pymatgen.core import Species

    return Species(symbol, lattice.fixed.get(symbol, 0))


def features_of(configurations, subspace):
    """Correlation functions of the configurations that count, shape (n, n_functions)."""
    functions, rows = {}, []
    for row in configurations.kept.itertuples():
        if row.supercell not in functions:
            lattice = configurations.lattice(row.supercell)
            functions[row.supercell] = correlations_in(subspace, lattice, configurations.aware)
        rows.append(functions[row.supercell](*configurations.occupations(row)))
    return np.array(rows)


def correlations_in(subspace, lattice, aware):
    """The function of ``(filled, states)`` that gives the correlation functions of an arrangement
    in one supercell, shape (n_functions,). Unless `aware`, states are not looked at.
    """
    from smol.cofe.space.domain import Vacancy, get_allowed_species

    # what smol's corr_from_structure does with each structure, done once for the supercell
    supercell = subspace.structure.copy()
    supercell.make_supercell(lattice.matrix)
    order = smol_order(subspace, lattice).tolist()
    allowed = get_allowed_species(supercell)
    digits = [{held: k for k, held in enumerate(allowed[site])} for site in order]
    indices = subspace.get_orbit_indices(lattice.matrix).container
    _, held = disordered(lattice, aware)
    species = [_ion(s, lattice) for s in lattice.atoms.get_chemical_symbols()]

    def functions(filled, states=None):
        here = list(species)
        if aware:
            for i, q, options in zip(lattice.redox, states, lattice.options):
                here[i] = held[int(i)][options.index(int(q))]
        for i in lattice.mobile[~np.asarray(filled, bool)]:
            here[i] = Vacancy()
        occupied = np.zeros(len(allowed), np.int32)
        occupied[order] = [of[ion] for of, ion in zip(digits, here)]
        return subspace.evaluator.correlations_from_occupancy(occupied, indices)

    return functions


def smol_order(subspace, lattice):
    """Which site of smol's supercell each atom of the lattice's supercell is."""
    from pymatgen.util.coord import coord_list_mapping_pbc

    supercell = subspace.structure.copy()
    supercell.make_supercell(lattice.matrix)
    ours = lattice.atoms.get_scaled_positions(wrap=False)
    return coord_list_mapping_pbc(ours, supercell.frac_coords, atol=1e-4)
