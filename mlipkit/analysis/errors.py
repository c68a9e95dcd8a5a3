"""How far a model is from DFT."""

import numpy as np

from mlipkit import arguments
from mlipkit.analysis.predictions import MADE_BY, moments_of, predict, predictions_for
from mlipkit.charges.compounds import compound_of
from mlipkit.charges.oxidation import infer_oxidation_states
from mlipkit.charges.references import redox_sites, tellable
from mlipkit.files import InputError
from mlipkit.frames.labels import required_label, required_ordering, well_converged
from mlipkit.frames.taken import as_frames, each_frame
from mlipkit.models.foreign import as_potentials
from mlipkit.orderings.names import arrangement
from mlipkit.orderings.naming import named
from mlipkit.pictures.figures import title

ERRORS = ["energy", "forces", "magmoms", "valence_right"]
TIE = 2e-4  # eV per cell: below it, energies in single precision are equal


def align_energies(frames, energies, reference=None):
    """Take out what a different energy reference makes of a model's energies.

    A model trained on another code or functional differs from the labels by an energy per atom of
    each element, which cancels in every formation energy. Along one compound that is two numbers
    (one per formula unit, one per mobile ion); they are fitted by least squares.

    Parameters
    ----------
    frames : list of ase.Atoms
        With energy labels.
    energies : array_like, shape (n_frames,)
        The model's, eV per cell.
    reference : array_like of bool, shape (n_frames,), optional
        The frames to fit on, by default all. Give the training split, so that held-out labels stay
        unseen.

    Returns
    -------
    numpy.ndarray, shape (n_frames,)
        Shifted energies, eV per cell.
    """
    energies = np.asarray(energies, float)
    compound = compound_of(frames)
    count = [(compound.units(a), compound.n_mobile(a)) for a in frames]
    count = np.array(count, float)
    labels = np.array([required_label(a, "energy", "align_energies") for a in frames], float)
    use = np.ones(len(frames), bool) if reference is None else np.asarray(reference, bool)
    return energies + count @ np.linalg.lstsq(count[use], (labels - energies)[use], rcond=None)[0]


def error_table(frames, predictions):
    """Mean absolute errors of a model on labelled frames.

    Parameters
    ----------
    frames : list of ase.Atoms
        With labels and ``arrays["oxi_states"]``.
    predictions : pandas.DataFrame
        One row per frame in the same order: ``energy`` (eV per cell), ``force_mae`` (eV/Å),
        ``magmom_0`` ... (µB, the redox-active sites in their order).

    Returns
    -------
    dict
        ``n`` frames, ``energy`` (meV/atom), ``forces`` (meV/Å), ``magmoms`` (µB, redox-active sites
        only), ``valence_right`` (% of these sites whose oxidation state, inferred from the
        predicted moments, is that of DFT; a charge-aware model was given it). The latter two are
        NaN for a model that predicts no moments.
    """
    frames = as_frames(frames, "error_table takes")
    return {"n": len(frames), **_means(frame_errors(frames, predictions))}


def frame_errors(frames, predictions, sites=False):
    """The errors that `error_table` averages, frame by frame or site by site.

    Parameters
    ----------
    frames, predictions
        As for `error_table`.
    sites : bool
        A row for each redox-active atom instead of for each frame.

    Returns
    -------
    pandas.DataFrame
        ``x``, ``ordering`` and ``kind`` (from ``info``, if there), then ``energy``, ``forces``,
        ``magmoms``, ``valence_right`` of each frame in order, units as in `error_table`; or, with
        `sites`, ``site`` (element and its number among the redox-active atoms), ``state`` (element
        and oxidation state), ``magmoms`` and ``valence_right``. NaN where nothing was predicted.
    """
    import pandas as pd

    frames = as_frames(frames, "frame_errors takes")
    arguments.flag(sites, "frame_errors: sites")
    needed = () if sites else ("energy",)
    arguments.table(predictions, "error_table: predictions", needed, MADE_BY)
    if len(frames) != len(predictions):
        raise InputError(f"error_table: {len(frames)} frames but {len(predictions)} predictions")
    rows = []
    for i, (atoms, row) in enumerate(zip(frames, predictions.to_dict("records"))):
        if "oxi_states" not in atoms.arrays:
            raise InputError(
                f"error_table: frame {i} ({atoms.get_chemical_formula()}) has no "
                "arrays['oxi_states']; take them from "
                "infer_oxidation_states(atoms).states"
            )
        redox, predicted = redox_sites(atoms), np.zeros(len(atoms))
        predicted[redox] = moments_of(row, atoms)
        moments = right = np.full(len(redox), np.nan)
        if np.isfinite(predicted).all() and len(redox):
            moments = np.abs(
                predicted - np.abs(required_label(atoms, "magmoms", "error_table", finite=False))
            )[redox]
            if tellable(atoms):
                states = infer_oxidation_states(atoms, magmoms=predicted).states
                right = 100.0 * (states == atoms.arrays["oxi_states"])[redox]
        about = {k: atoms.info[k] for k in ("x", "ordering", "kind") if k in atoms.info}
        if "kind" in about:
            about["kind"] = str(about["kind"]).rstrip("_0123456789")
        if sites:
            rows += [
                {
                    **about,
                    "site": f"{atoms.symbols[j]} {k}",
                    "state": f"{atoms.symbols[j]} {atoms.arrays['oxi_states'][j]}+",
                    "magmoms": moments[k],
                    "valence_right": right[k],
                }
                for k, j in enumerate(redox)
            ]
        else:
            energy = (
                1e3
                * abs(row["energy"] - required_label(atoms, "energy", "error_table"))
                / len(atoms)
            )
            rows.append(
                {
                    **about,
                    "energy": energy,
                    "forces": 1e3 * row.get("force_mae", np.nan),
                    "magmoms": moments.mean() if len(redox) else np.nan,
                    "valence_right": right.mean() if len(redox) else np.nan,
                }
            )
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=ERRORS, dtype=float)


def error_by(frames, predictions, by="x", level=None):
    """Errors of every model by composition, charge ordering or site: where a mean over all frames
    comes from.

    Parameters
    ----------
    frames : list of ase.Atoms
        With labels and ``arrays["oxi_states"]``, named by `name_orderings` (or here, where they are
        not).
    predictions : pandas.DataFrame
        As `mlipkit.predict` or `mlipkit.load_predictions` gives them.
    by : str
        ``"x"``, ``"ordering"``, ``"kind"`` (relax, final, rattled, strained, ...: ``info["kind"]``
        without its number), ``"site"`` (the redox-active atoms by their number in the cell) or
        ``"state"`` (by oxidation state); the latter two have moments and valences only.
    level : float, optional
        Confidence level, such as 0.95, for columns ``..._low`` and ``..._high`` from `bootstrap`;
        not by ordering, which is what is resampled.

    Returns
    -------
    pandas.DataFrame
        Index ``model`` and `by`; ``n`` (frames or sites), ``orderings`` (their number), then the
        errors, units as in `error_table`.

    Raises
    ------
    InputError
        When `by` is none of these, or frames do not say what to sort them by.
    """
    import pandas as pd

    kinds = ("x", "ordering", "kind", "site", "state")
    if by not in kinds:
        raise InputError(f"error_by: by must be one of {', '.join(kinds)}, not {by!r}")
    _checked_level(level, "error_by", none=True)
    frames = named(frames)
    if by == "kind" and any("kind" not in a.info for a in frames):
        raise InputError("error_by: needs frames with info['kind'] to sort them by it")
    parts = {}
    for model, rows in predictions_for(frames, predictions).items():
        errors = frame_errors(frames, rows, sites=by in ("site", "state"))
        if by not in errors:
            raise InputError(
                f"error_by: no atom of these frames has a reference moment, so there is no {by} to "
                "sort by; mk.reference_table() lists the elements that have one"
            )
        for key, part in errors.groupby(by):
            means = _means(part, None if by == "ordering" else level)
            parts[model, key] = {"n": len(part), "orderings": part["ordering"].nunique(), **means}
    return pd.DataFrame.from_dict(parts, orient="index").rename_axis(["model", by])


def bootstrap(values, orderings, level=0.95, n_resamples=2000, seed=0):
    """Confidence interval of a mean error by resampling whole charge orderings.

    Frames of one relaxation are nearly alike, so resampling frames would promise far more certainty
    than there is. Percentile method: Efron and Tibshirani, An Introduction to the Bootstrap (1993),
    over clusters. With few orderings the interval is still too narrow, and of three or four it says
    little more than how much they differ.

    Parameters
    ----------
    values : array_like, shape (n_frames,)
        Errors (or differences of errors of two models on the same frames) in any unit; those that
        are NaN are left out.
    orderings : array_like of str, shape (n_frames,)
        The ordering of each.
    level : float
        Between 0 and 1.
    n_resamples, seed : int

    Returns
    -------
    low, high : float
        NaN when there are fewer than two orderings.

    Raises
    ------
    InputError
        When the lengths differ, or the level is not between 0 and 1.
    """
    import pandas as pd

    values = arguments.values(values, "bootstrap: values", finite=False)
    orderings = arguments.entries(orderings, "bootstrap: orderings", "['x050_fe01', 'x050_fe02']")
    if len(values) != len(orderings):
        raise InputError(
            f"bootstrap: needs one ordering for each value; got {values.size} values and "
            f"{len(orderings)} orderings"
        )
    _checked_level(level, "bootstrap")
    n_resamples = arguments.number(n_resamples, "bootstrap: n_resamples", least=1, whole=True)
    seed = arguments.number(seed, "bootstrap: seed", least=0, whole=True, none=True)
    groups = pd.Series(values).groupby(orderings, sort=True).agg(["sum", "count"])
    total, count = groups[groups["count"] > 0].to_numpy(float).T
    if len(total) < 2:
        return np.nan, np.nan
    drawn = np.random.default_rng(seed).integers(len(total), size=(n_resamples, len(total)))
    low, high = np.quantile(
        total[drawn].sum(axis=1) / count[drawn].sum(axis=1), [(1 - level) / 2, (1 + level) / 2]
    )
    return float(low), float(high)


def _checked_level(level, where, none=False):
    arguments.number(level, f"{where}: level", above=0, below=1, none=none)


def _means(errors, level=None):
    """Mean of each kind of error in a table of `frame_errors`, with its interval when there is a
    level.
    """
    result = {}
    # an energy that a model could not give must show; moments are not for every model
    for kind in [k for k in ERRORS if k in errors]:
        result[kind] = float(errors[kind].mean(skipna=kind in ("magmoms", "valence_right")))
        if level is not None:
            result[f"{kind}_low"], result[f"{kind}_high"] = bootstrap(
                errors[kind], errors["ordering"], level
            )
    return result


def score(potentials, frames):
    """One row of `error_table` per potential, predicted now.

    Parameters
    ----------
    potentials : dict
        ``{name: model}``, as `load_model` and `train` give them, or ASE calculators.
    frames : list of ase.Atoms
        With energies, forces, moments and ``arrays["oxi_states"]``; held out of training, if the
        numbers are to mean anything.

    Returns
    -------
    pandas.DataFrame
        Index ``model``; columns as the keys of `error_table`.
    """
    import pandas as pd

    frames = as_frames(frames, "score takes", single=False)
    potentials = as_potentials(potentials, "score")
    if not frames:
        raise InputError("score: there are no frames to predict")
    for atoms in frames:
        required_label(atoms, "forces", "an error of forces")
    table = predict(frames, potentials, progress=False)
    found = {name: table[table["model"] == name] for name in potentials}
    rows = {name: error_table(frames, part) for name, part in found.items()}
    table = pd.DataFrame(rows).T.rename_axis("model")
    return table.astype({"n": int})


def order_scores(frames, energies, counts=None):
    """Whether a model puts the charge orderings of an arrangement of ions into the order of DFT.

    Parameters
    ----------
    frames : list of ase.Atoms
        One per ordering (`end_points`), with energy labels, ``info["x"]`` and ``info["ordering"]``.
    energies : array_like, shape (n_frames,)
        The model's, eV per cell.
    counts : array_like of bool, shape (n_frames,), optional
        Only pairs and arrangements with at least one of these frames count: give the held-out ones.
        By default all.

    Returns
    -------
    dict
        ``pairs``, and ``kendall_tau`` over them: pairs in the right order minus pairs in the wrong
        one, over all; a tie counts as neither, so a model that cannot tell orderings apart has 0.
        ``arrangements`` with two orderings or more, and ``ground_states``, in how many of them the
        model's lowest ordering is that of DFT (a tie is a miss).
    """
    frames = as_frames(frames, "order_scores takes")
    energies = arguments.values(energies, "order_scores: energies", len(frames))
    counts = np.ones(len(frames)) if counts is None else counts
    counts = arguments.values(counts, "order_scores: counts", len(frames)).astype(bool)
    label = np.array([required_label(a, "energy", "order_scores") for a in frames], float)
    groups = {}
    for i, atoms in enumerate(frames):
        groups.setdefault(arrangement(required_ordering(atoms, i, "order_scores")), []).append(i)
    score = pairs = right = arrangements = 0
    for members in groups.values():
        if len(members) < 2 or not counts[members].any():
            continue
        for n, i in enumerate(members):
            for j in members[:n]:
                if counts[i] or counts[j]:
                    difference = energies[i] - energies[j]
                    score += (
                        np.sign(label[i] - label[j]) * np.sign(difference) * (abs(difference) > TIE)
                    )
                    pairs += 1
        e = energies[members]
        arrangements += 1
        right += int(e.argmin() == label[members].argmin() and (e < e.min() + TIE).sum() == 1)
    return {
        "pairs": pairs,
        "kendall_tau": float(score / pairs) if pairs else np.nan,
        "arrangements": arrangements,
        "ground_states": right,
    }


def seed_table(results, variants=False):
    """Mean and spread over the seeds of every model of the table that was trained on the data of
    its last row.

    Parameters
    ----------
    results : pandas.DataFrame
        As `mlipkit.load_results` gives it.
    variants : bool
        False: the runs with pre-training on all frames. True: the models that were also trained
        without pre-training, from random weights of each seed ("DFT only"), or on a share of the
        frames (the same for each seed), with these runs beside them.

    Returns
    -------
    pandas.DataFrame of str
        A row per figure, on held-out orderings (named in the index with its unit), a column per
        model: mean ± standard deviation over the seeds; ground states as right/all for each seed.
        "displaced" are the frames that belong to no relaxation; "relaxed by the model" starts at
        the undistorted geometry, where labels alone tell orderings apart; "valences kept" counts
        orderings whose Fe keep their states there.
    """
    import pandas as pd

    figures = {
        "energy": "energy MAE, meV/atom",
        "forces": "force MAE, meV/Å",
        "magmoms": "moment MAE, µB",
        "valence_right": "valence right, % of sites",
        "energy_displaced": "energy MAE, displaced frames, meV/atom",
        "forces_displaced": "force MAE, displaced frames, meV/Å",
        "tau_dft_held_out": "Kendall τ, DFT-relaxed geometry",
        "tau_undistorted_held_out": "Kendall τ, undistorted geometry, against DFT there",
        "tau_start_held_out": "Kendall τ, undistorted geometry, against relaxed DFT",
        "tau_relaxed_held_out": "Kendall τ, relaxed by the model",
        "ground_dft_held_out": "ground states right, DFT-relaxed",
        "ground_undistorted_held_out": "ground states right, undistorted, against DFT there",
        "ground_start_held_out": "ground states right, undistorted, against relaxed DFT",
        "ground_relaxed_held_out": "ground states right, relaxed by the model",
        "valence_kept": "valences kept, orderings",
    }
    arguments.flag(variants, "seed_table: variants")
    needed = ["architecture", "charge_aware", "seed", "pretrained", "thinned", "data_sha256"]
    arguments.table(results, "seed_table: results", needed, "mk.load_results()")
    of, table = ["architecture", "charge_aware"], {}
    if not len(results):
        return pd.DataFrame(table)
    # seeds trained on different data must not be averaged
    newest = results[results["data_sha256"] == results["data_sha256"].iloc[-1]]
    plain = newest["pretrained"].astype(bool) & (newest["thinned"] == 1)
    shown = (
        newest[(~plain).groupby([newest[k] for k in of]).transform("any")]
        if variants
        else newest[plain]
    )
    shown = shown.sort_values(
        [*of, "pretrained", "thinned", "seed"], ascending=[True, True, False, True, True]
    )
    for (name, aware, pretrained, thinned), rows in shown.groupby(
        [*of, "pretrained", "thinned"], sort=False
    ):
        title = f"{name} {'aware' if aware else 'blind'}" + ("" if pretrained else ", DFT only")
        title += f", 1 frame in {thinned}" if thinned > 1 else ""
        column = {
            label: ", ".join(rows[k])
            if k.startswith(("ground", "valence_kept"))
            else _mean_and_spread(
                rows[k].astype(float),
                {"forces": 0, "forces_displaced": 0, "magmoms": 3, "valence_right": 1}.get(k, 2),
            )
            for k, label in figures.items()
            if k in rows
        }
        table[title] = {**column, "seeds": str(len(rows))}
    return pd.DataFrame(table)


def _mean_and_spread(values, digits):
    return f"{values.mean():.{digits}f}" + (
        f" ± {values.std():.{digits}f}" if len(values) > 1 else ""
    )


def compare_models(frames, predictions, split="test", level=None):
    """One row of `error_table` per model, on the frames of one split.

    Loosely converged frames are left out, as in training (`mlipkit.frames.labels.well_converged`).

    Parameters
    ----------
    frames : list of ase.Atoms
        With ``info["split"]``, which `mlipkit.name_orderings` writes.
    predictions : pandas.DataFrame
        As `mlipkit.predict` or `mlipkit.load_predictions` gives them.
    split : str
        ``"train"``, ``"validation"`` or ``"test"``.
    level : float, optional
        Confidence level, such as 0.95, for columns ``..._low`` and ``..._high`` from `bootstrap`
        over orderings.

    Returns
    -------
    pandas.DataFrame
        Index ``model``; columns as the keys of `error_table`.
    """
    import pandas as pd

    _checked_level(level, "compare_models", none=True)
    arguments.text(split, "compare_models: split")
    chosen = [
        a
        for a in well_converged(each_frame(frames, "compare_models takes"))
        if a.info.get("split") == split
    ]
    if not chosen:
        raise InputError(f"compare_models: no frame belongs to the split {split!r}")
    rows = {
        model: {"n": len(chosen), **_means(frame_errors(chosen, found), level)}
        for model, found in predictions_for(chosen, predictions).items()
    }
    table = pd.DataFrame(rows).T.rename_axis("model")
    return table.astype({"n": int})


def with_units(table):
    """A table of errors for people: its models under their names, its columns with their units.

    Parameters
    ----------
    table : pandas.DataFrame
        As `compare_models`, `error_by` or `seed_table` return it.

    Returns
    -------
    pandas.DataFrame
        A copy; columns such as ``energy (meV/atom)``.
    """
    arguments.table(table, "with_units: table", (), "mk.compare_models or mk.error_by")
    units = {"energy": "meV/atom", "forces": "meV/Å", "magmoms": "µB", "valence_right": "%"}

    def said(column):
        for name, unit in units.items():
            end = str(column).removeprefix(name)
            if str(column).startswith(name) and end in ("", "_low", "_high"):
                return f"{name.replace('_', ' ')}{end.replace('_', ' ')} ({unit})"
        return column

    table = table.rename(columns=said)
    level = "model" if table.index.nlevels > 1 else None
    return table.rename(index=title, level=level) if "model" in table.index.names else table
