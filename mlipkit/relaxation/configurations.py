"""Random and low-energy arrangements of ions and charges, relaxed by a potential."""

import warnings

import numpy as np

from mlipkit import arguments
from mlipkit.charges.compounds import compound_of
from mlipkit.files import InputError
from mlipkit.frames.labels import label
from mlipkit.frames.taken import as_frame, as_frames
from mlipkit.models.foreign import CalculatorPotential, as_potential
from mlipkit.orderings.hosts import in_setting_of
from mlipkit.orderings.lattice import lattice_of
from mlipkit.relaxation.geometries import rattled, told
from mlipkit.relaxation.many import checked_processes, relax_many, settings_of
from mlipkit.statmech.configurations import (
    COLUMNS,
    Configurations,
    checked_configurations,
    name_of,
)
from mlipkit.statmech.expansion import correlations_in, features_of, fit_expansion, hull
from mlipkit.statmech.sampling import annealed

MOST_ATOMS = 120  # of the supercells that are taken by default
# a cell that stretches further than this from between the end members is another structure: in
# NaxFePO4 MACE's stretch by 2.6 % at most, CHGNet's by up to 20 %, to energies that no DFT knows
MOST_STRAIN = 0.05
# Å that a relaxed end member may be moved: by the shipped models of NaxFePO4 at most 0.17, by one
# of LixFePO4 that was trained on relaxations alone 0.43, into a structure that DFT has not
MOST_MOVED = 0.25
WHERE = "sample_configurations"


def sample_configurations(
    host,
    model,
    n=400,
    compound=None,
    ends=None,
    supercells=None,
    fixed=None,
    seed=0,
    folder=None,
    processes=None,
    client=None,
    progress=True,
    **options,
):
    """Relax random arrangements of mobile ions *and* charges over several supercells.

    Compositions are drawn evenly from all that some charge ordering balances, then ions and charges
    at random. Every arrangement starts between the two end members: its cell and the places of its
    atoms are interpolated in x (Vegard), its atoms 0.01 Å off. With fixed cells (the default) it
    keeps that cell; ``cell=True`` relaxes cells too.

    Parameters
    ----------
    host : ase.Atoms
        The crystal with every mobile-ion site filled.
    model : Potential or ASE calculator
        To a charge-blind one all charge orderings are one; then arrangements of ions are sampled.
    n : int
        How many, the two end members among them. The first 400 of 800 are the 400: a larger
        number goes on where a smaller one ended.
    compound : Compound, optional
        By default found from the host, its metals in the states that the model was trained on.
    ends : list of ase.Atoms, optional
        Relaxed frames (as of DFT) of one host cell, in any setting; of those with the least and
        with the most mobile ions the lowest are where the model's relaxation of the end members
        begins. By default that is the host, with all its ions and without: with the cell of the
        full crystal the empty one may relax into another.
    supercells : list, optional
        Repeats of the host, such as ``[(1, 1, 1), (1, 2, 1)]``; by default the host and its double
        and triple along each axis, up to 120 atoms.
    fixed : dict, optional
        Charges of the other elements, as for `enumerate_orderings`.
    seed : int
    folder, processes, client, progress
        As for `relax_many`; a campaign that was stopped goes on.
    **options
        Of `relax`: ``fmax``, ``steps``, ``cell``, ``optimizer``.

    Returns
    -------
    Configurations
        For `fit_expansion`. A warning says when the model moves the atoms of end members that were
        given by more than 0.25 Å. Cells whose charges moved, whose atoms left their sites, that
        stretched by more than 5 % or that did not converge stay in the table, marked.

    Raises
    ------
    InputError
        When nothing can be neutral, or the end members cannot be relaxed.
    """
    model, host = as_potential(model, WHERE), as_frame(host, f"{WHERE}: host")
    ends = None if ends is None else as_frames(ends, f"{WHERE}: ends")
    n = arguments.number(n, f"{WHERE}: n", least=2, whole=True)
    seed = arguments.number(seed, f"{WHERE}: seed", least=0, whole=True)
    processes = checked_processes(processes, WHERE)
    options = settings_of(options, WHERE)
    how = {"folder": folder, "processes": processes, "client": client, "progress": progress}
    if compound is None:
        compound = model.states_of(compound_of([host], None, host))
    whole = lattice_of(host, compound, None, fixed, WHERE)
    lattices = _lattices(whole, supercells)
    if isinstance(model, CalculatorPotential):
        _look_at_charges(whole, model)
    first = relaxed_ends(whole, ends, model, how, options)
    drawn = [_end(whole, which) for which in (0, -1)] + _drawn(lattices, n - 2, seed, model)
    return relaxed_configurations(whole, first, drawn, model, how, options)


def _look_at_charges(whole, model):
    """Let a calculator say (`CalculatorPotential.score`) that two orderings of the charges have two
    energies and that it does not read the charges: energies would be kept under the ions alone.
    """
    filled, states = whole.random(
        whole.compositions[len(whole.compositions) // 2], np.random.default_rng(0)
    )
    two = [whole.decorated(filled, order) for order in (states, np.sort(states)[::-1])]
    if not np.array_equal(*(atoms.arrays["oxi_states"] for atoms in two)):
        model.score(two[0], [atoms.arrays["oxi_states"] for atoms in two])


def extend_configurations(
    configurations,
    model,
    n=50,
    rounds=3,
    ends=None,
    supercells=None,
    cutoffs=None,
    seed=0,
    folder=None,
    processes=None,
    client=None,
    progress=True,
    **options,
):
    """Add the arrangements that an expansion needs most (active learning).

    In every round an expansion is fitted and walked down in temperature in each supercell at each
    composition. Of what it meets, two thirds of the new arrangements are those nearest to its hull
    that were not computed, ground states first, and one third those of which it is least certain
    (the largest leverage). The rounds end early when all arrangements on the expansion's hull have
    been computed.

    Parameters
    ----------
    configurations : Configurations
        As `sample_configurations` gave them.
    model : Potential or ASE calculator
        The same as there.
    n : int
        Arrangements of a round.
    rounds : int
    ends
        As for `sample_configurations`, the same as there.
    supercells : list, optional
        Further repeats of the host to walk in, beside those of `configurations`. An expansion may
        invent a ground state that fits into none of the cells that it was fitted to: then its
        diagrams differ with the shape of the cell.
    cutoffs : dict, optional
        As for `fit_expansion`.
    seed : int
    folder, processes, client, progress, **options
        As for `sample_configurations`; ``cell`` is that of `configurations`.

    Returns
    -------
    Configurations

    Raises
    ------
    InputError
        When the model tells charges apart and the configurations do not, or the reverse.
    """
    import pandas as pd

    where = "extend_configurations"
    c, model = checked_configurations(configurations, where), as_potential(model, where)
    n = arguments.number(n, f"{where}: n", least=1, whole=True)
    rounds = arguments.number(rounds, f"{where}: rounds", least=1, whole=True)
    seed = arguments.number(seed, f"{where}: seed", least=0, whole=True)
    ends = None if ends is None else as_frames(ends, f"{where}: ends")
    whole = c.lattice("1x1x1")
    more = [] if supercells is None else _lattices(whole, supercells, where)
    processes = checked_processes(processes, where)
    if model.charge_aware != c.aware:
        kinds = ("charge-blind", "charge-aware")
        raise InputError(
            f"{where}: the model is {kinds[model.charge_aware]} and the configurations are those "
            f"of a {kinds[c.aware]} one"
        )
    options = settings_of({**options, "cell": c.cell}, where)
    how = {"folder": folder, "processes": processes, "client": client, "progress": progress}
    geometries = relaxed_ends(whole, ends, model, how, options)
    for turn in range(rounds):
        expansion = fit_expansion(c, cutoffs)
        wanted, known = _wanted(expansion, n, seed + turn, more)
        if not wanted:
            break
        new = relaxed_configurations(whole, geometries, wanted, model, how, options)
        table = pd.concat([c.table, new.table], ignore_index=True)
        c = Configurations(table, c.host, c.compound, c.fixed, c.cell)
        if known:
            break
    return c


def _wanted(expansion, n, seed, more):
    """Arrangements ``(lattice, filled, states)`` to compute next, and whether all on the hull of
    the expansion were computed.
    """
    c = expansion.configurations
    features, drawn = [], []
    sampled = {name: c.lattice(name) for name in c.table["supercell"].unique()}
    for lattice in {**sampled, **{name_of(m.matrix): m for m in more}}.values():
        within = expansion.interactions(lattice.matrix)
        functions = correlations_in(expansion.subspace, lattice, c.aware)
        for count in lattice.compositions:
            for digits in annealed(within, count, (seed, count, len(drawn))):
                filled, states = within.arrangement(digits)
                features.append(functions(filled, states))
                if states is None:  # to a charge-blind model any will do
                    states = lattice.random(count, np.random.default_rng(0))[1]
                drawn.append((lattice, filled, states))
    features = np.array(features).round(6)
    _, first = np.unique(features, axis=0, return_index=True)
    # whatever was tried, kept or not, is not tried again
    tried = Configurations(c.table.assign(kept=True), c.host, c.compound, c.fixed, c.cell)
    computed = {f.tobytes() for f in features_of(tried, expansion.subspace).round(6) + 0.0}
    x = np.array([d[1].sum() / d[0].n_units for d in drawn])
    energies = features @ expansion.coefficients / c.n_units
    at, e = np.append(c.kept["x"], x), np.append(expansion.predicted, energies)
    corners = hull(at, e)
    above = energies - np.interp(x, at[corners], e[corners])
    fresh = np.array([k for k in first if (features[k] + 0.0).tobytes() not in computed], int)
    if not len(fresh):
        return [], True
    lowest = fresh[np.argsort(above[fresh])]
    known = above[lowest[0]] > 1e-6
    known_features = expansion.features
    inverse = np.linalg.pinv(
        known_features.T @ known_features
        + len(known_features) * expansion.penalty * np.eye(features.shape[1])
    )
    leverage = np.einsum("ij,jk,ik->i", features, inverse, features)
    chosen = lowest[: n - n // 3].tolist()
    unsure = [k for k in fresh[np.argsort(-leverage[fresh])].tolist() if k not in chosen]
    chosen += unsure[: n - len(chosen)]
    return [drawn[k] for k in chosen], known


def relaxed_ends(whole, frames, model, how, options):
    """The two end members as the model relaxes them, cells too:
    ``{x: (cell, shifts)}`` as `in_setting_of` gives them.
    """
    starts = []
    for which in (0, -1):
        _, filled, states = _end(whole, which)
        known = {}
        if frames is not None:
            known = dict(zip(("cell", "shifts"), _geometry(whole, frames, filled)))
        starts.append(whole.decorated(filled, states, **known))
    relaxed = relax_many([rattled(a) for a in starts], model, **how, **{**options, "cell": True})
    ends = {}
    for start, r in zip(starts, relaxed):
        if r is None or label(r.atoms, "energy") is None:
            reason = "interrupted" if r is None else r.reason
            raise InputError(
                f"{WHERE}: the end member {start.get_chemical_formula()} cannot be relaxed: "
                f"{reason}"
            )
        if frames is not None:
            _warn_of_another_crystal(start, r.atoms)
        try:
            ends[start.info["x"]] = in_setting_of(r.atoms, whole.host, whole.compound.mobile)
        except InputError as reason:
            before, after = (
                "x".join(f"{v:.2f}" for v in a.cell.lengths()) for a in (start, r.atoms)
            )
            raise InputError(
                f"{WHERE}: the model relaxes the end member {start.get_chemical_formula()} from "
                f"{before} Å to {after} Å, which is no cell of the host any more ({reason}); give "
                "ends=, or a model that knows this crystal"
            ) from None
    full = ends[max(ends)][1]
    return {x: (cell, np.where(np.isnan(d), full, d)) for x, (cell, d) in ends.items()}


def _warn_of_another_crystal(given, relaxed):
    """A model that leaves the relaxed structure that it was given invents minima, and an expansion
    of its energies is one of these.
    """
    shifts = relaxed.get_scaled_positions(wrap=False) - given.get_scaled_positions(wrap=False)
    shifts = (shifts - shifts.mean(axis=0)) @ given.cell.array
    moved = np.linalg.norm(shifts, axis=1)
    if moved.max() > MOST_MOVED:
        i = int(moved.argmax())
        warnings.warn(
            f"from the end member {given.get_chemical_formula()} as ends= gives it the model "
            f"relaxes {given.symbols[i]} {moved[i]:.2f} Å away. A model that knows the crystal "
            "stays within 0.2 Å; what this one samples may be another. Train it on displaced and "
            "strained cells too, or give other ends",
            stacklevel=4,
        )


def _geometry(whole, frames, filled):
    """Cell and shifts of the lowest of the frames with as many mobile ions."""
    x = filled.sum() / whole.n_units
    here = [a for a in frames if np.isclose(whole.compound.x(a), x)]
    if not here:
        raise InputError(f"{WHERE}: ends holds no frame of x = {x:g}, an end member")
    energies = [label(a, "energy") for a in here]
    lowest = 0 if None in energies else int(np.argmin([e / len(a) for e, a in zip(energies, here)]))
    cell, shifts = in_setting_of(here[lowest], whole.host, whole.compound.mobile)
    return cell, np.nan_to_num(shifts)


def relaxed_configurations(whole, ends, drawn, model, how, options):
    """`Configurations` of arrangements ``(lattice, filled, states)``, relaxed from between the end
    members.
    """
    import pandas as pd

    x0, x1 = min(ends), max(ends)
    starts = []
    for k, (lattice, filled, states) in enumerate(drawn):
        x = filled.sum() / lattice.n_units
        share = (x - x0) / (x1 - x0) if x1 > x0 else 0.0
        cell, shifts = ((1 - share) * a + share * b for a, b in zip(ends[x0], ends[x1]))
        starts.append(rattled(lattice.decorated(filled, states, cell, shifts), seed=k))
    relaxations = relax_many(starts, model, **how, **options)
    rows = []
    for (lattice, filled, states), start, r in zip(drawn, starts, relaxations):
        if r is None:  # interrupted: what is done counts
            continue
        reason = _wrong(lattice, filled, start, r, model)
        energy = label(r.atoms, "energy")
        rows.append(
            {
                "supercell": name_of(lattice.matrix),
                "ions": "".join("01"[int(f)] for f in filled),
                "states": " ".join(map(str, states)) if model.charge_aware else "",
                "x": start.info["x"],
                "energy": np.nan if energy is None else round(energy / lattice.n_units, 7),
                "kept": not reason,
                "reason": reason,
            }
        )
    table = pd.DataFrame(rows, columns=COLUMNS)
    return Configurations(table, whole.host, whole.compound, whole.fixed, options["cell"])


def _wrong(lattice, filled, start, relaxation, model):
    """Why a relaxed cell is not the arrangement that was asked for, or ''."""
    if not relaxation.converged:
        return relaxation.reason
    if not lattice.holds(relaxation.atoms, filled):
        return "an atom left its site"
    stretched = np.linalg.solve(start.cell.array, relaxation.atoms.cell.array)
    if np.abs(np.linalg.svd(stretched, compute_uv=False) - 1).max() > MOST_STRAIN:
        return "the cell lost its shape"
    moments = label(relaxation.atoms, "magmoms")
    if model.charge_aware and told(start, moments, lattice.compound)["kept"] is False:
        return "charges moved"
    return ""


def _end(whole, which):
    """An end member: ``(lattice, filled, states)`` with the least or the most mobile ions."""
    n = whole.compositions[which]
    return whole, *whole.random(n, np.random.default_rng(0))


def _lattices(whole, supercells, where=WHERE):
    if supercells is None:
        largest = max(1, MOST_ATOMS // len(whole.atoms))
        along = [(m, 1, 1) for m in (1, 2, 3)] + [(1, m, 1) for m in (2, 3)]
        supercells = [s for s in along + [(1, 1, m) for m in (2, 3)] if max(s) <= largest]
    supercells = arguments.entries(supercells, f"{where}: supercells", "[(1, 1, 1), (1, 2, 1)]")
    if not supercells:
        raise InputError(f"{where}: supercells is empty; give one or more, such as [(1, 1, 1)]")
    return [lattice_of(whole.host, whole.compound, s, whole.fixed, where) for s in supercells]


def _drawn(lattices, n, seed, model):
    """`n` different random arrangements; a longer list begins with the shorter ones."""
    drawn, known = [], set()
    for k in range(50 * n):
        if len(drawn) == n:
            break
        rng = np.random.default_rng([seed, k])
        lattice = lattices[rng.integers(len(lattices))]
        filled, states = lattice.random(int(rng.choice(lattice.compositions)), rng)
        key = name_of(lattice.matrix), filled.tobytes()
        key += (states.tobytes(),) if model.charge_aware else ()
        if key not in known:
            known.add(key)
            drawn.append((lattice, filled, states))
    if len(drawn) < n:
        cells = ", ".join(name_of(lattice.matrix) for lattice in lattices)
        warnings.warn(
            f"{WHERE}: {n} arrangements were wanted beside the end members, and in the supercells "
            f"{cells} of the host {len(drawn)} different ones were found; give larger supercells=",
            stacklevel=3,
        )
    return drawn
