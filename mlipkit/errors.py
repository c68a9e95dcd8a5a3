"""How far a model is from DFT."""
import numpy as np

from mlipkit.files import InputError
from mlipkit.frames import required_label, well_converged
from mlipkit.oxidation import infer_oxidation_states
from mlipkit.reference_moments import redox_sites

TIE = 2e-4      # eV per cell: below it, energies in single precision are equal


def align_energies(frames, energies, reference=None):
    """Take out what a different energy reference makes of a model's energies.

    A model trained on another code or functional differs from the labels by an energy per atom of each element, which
    cancels in every formation energy. Along NaxFePO4 that is two numbers (one per formula unit, one per Na); they are
    fitted by least squares.

    Parameters
    ----------
    frames : list of ase.Atoms
        With energy labels.
    energies : array_like, shape (n_frames,)
        The model's, eV per cell.
    reference : array_like of bool, shape (n_frames,), optional
        The frames to fit on, by default all. Give the training split, so that held-out labels stay unseen.

    Returns
    -------
    numpy.ndarray, shape (n_frames,)
        Shifted energies, eV per cell.
    """
    energies = np.asarray(energies, float)
    count = np.array([[(a.symbols == s).sum() for s in ("Fe", "Na")] for a in frames], float)
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
        One row per frame in the same order: ``energy`` (eV per cell), ``force_mae`` (eV/Å), ``magmom_0`` ... (µB, the
        redox-active sites in their order).

    Returns
    -------
    dict
        ``n`` frames, ``energy`` (meV/atom), ``forces`` (meV/Å), ``magmoms`` (µB, redox-active sites only),
        ``valence_right`` (% of these sites whose oxidation state, inferred from the predicted moments, is that of DFT; a
        charge-aware model was given it). The latter two are NaN for a model that predicts no moments.
    """
    if len(frames) != len(predictions):
        raise InputError(f"error_table: {len(frames)} frames but {len(predictions)} predictions")
    energy, moments, right = [], [], []
    for i, (atoms, row) in enumerate(zip(frames, predictions.to_dict("records"))):
        if "oxi_states" not in atoms.arrays:
            raise InputError(f"error_table: frame {i} ({atoms.get_chemical_formula()}) has no arrays['oxi_states']; take them from "
                             "infer_oxidation_states(atoms).states")
        energy.append(abs(row["energy"] - required_label(atoms, "energy", "error_table")) / len(atoms))
        redox, predicted = redox_sites(atoms), np.zeros(len(atoms))
        predicted[redox] = [row.get(f"magmom_{i}", np.nan) for i in range(len(redox))]
        if np.isfinite(predicted).all() and len(redox):
            moments.append(np.abs(predicted - np.abs(required_label(atoms, "magmoms", "error_table", finite=False)))[redox].mean())
            right.append((infer_oxidation_states(atoms, magmoms=predicted).states == atoms.arrays["oxi_states"])[redox].mean())
    mean = lambda values: float(np.mean(values)) if len(values) else np.nan       # noqa: E731 - a model without moments has none of the latter
    return {"n": len(frames), "energy": 1e3 * mean(energy), "forces": 1e3 * mean(predictions.get("force_mae", [])),
            "magmoms": mean(moments), "valence_right": 100 * mean(right)}


def score(potentials, frames):
    """One row of `error_table` per potential, predicted now.

    Parameters
    ----------
    potentials : dict
        ``{name: potential}``, as `load_model` and `train` give them.
    frames : list of ase.Atoms
        With energies, forces, moments and ``arrays["oxi_states"]``; held out of training, if the numbers are to mean anything.

    Returns
    -------
    pandas.DataFrame
        Index ``model``; columns as the keys of `error_table`.
    """
    import pandas as pd
    rows = {name: error_table(frames, pd.DataFrame(prediction_rows(p, frames))) for name, p in potentials.items()}
    return pd.DataFrame(rows).T.rename_axis("model")


def prediction_rows(potential, frames):
    """What `error_table` needs of the predictions of a potential, a dict per frame."""
    for atoms, p in zip(frames, potential.predict(frames)):
        redox = [] if p.magmoms is None else p.magmoms[redox_sites(atoms)]
        yield {"energy": p.energy, "force_mae": float(np.abs(p.forces - required_label(atoms, "forces", "an error of forces")).mean()),
               **{f"magmom_{i}": float(m) for i, m in enumerate(redox)}}


def order_scores(frames, energies, counts=None):
    """Whether a model puts charge orderings of one Na arrangement into the order of DFT.

    Parameters
    ----------
    frames : list of ase.Atoms
        One per ordering (`end_points`), with energy labels, ``info["x"]`` and ``info["ordering"]``.
    energies : array_like, shape (n_frames,)
        The model's, eV per cell.
    counts : array_like of bool, shape (n_frames,), optional
        Only pairs and arrangements with at least one of these frames count: give the held-out ones. By default all.

    Returns
    -------
    dict
        ``pairs``, and ``kendall_tau`` over them: pairs in the right order minus pairs in the wrong one, over all; a tie counts
        as neither, so a model that cannot tell orderings apart has 0. ``arrangements`` with two orderings or more, and
        ``ground_states``, in how many of them the model's lowest ordering is that of DFT (a tie is a miss).
    """
    label, energies = np.array([required_label(a, "energy", "order_scores") for a in frames], float), np.asarray(energies, float)
    counts = np.ones(len(frames), bool) if counts is None else np.asarray(counts, bool)
    groups = {}
    for i, atoms in enumerate(frames):      # x050_na01_fe02 without its last part
        groups.setdefault(atoms.info["ordering"].rsplit("_", 1)[0], []).append(i)
    score = pairs = right = arrangements = 0
    for members in groups.values():
        if len(members) < 2 or not counts[members].any():
            continue
        for n, i in enumerate(members):
            for j in members[:n]:
                if counts[i] or counts[j]:
                    difference = energies[i] - energies[j]
                    score += np.sign(label[i] - label[j]) * np.sign(difference) * (abs(difference) > TIE)
                    pairs += 1
        e = energies[members]
        arrangements += 1
        right += int(e.argmin() == label[members].argmin() and (e < e.min() + TIE).sum() == 1)
    return {"pairs": pairs, "kendall_tau": float(score / pairs) if pairs else np.nan, "arrangements": arrangements, "ground_states": right}


def seed_table(results):
    """Mean and spread over the seeds of every trained model.

    Parameters
    ----------
    results : pandas.DataFrame
        As `mlipkit.load_results` gives it.

    Returns
    -------
    pandas.DataFrame of str
        A row per figure, on held-out orderings (named in the index with its unit), a column per model: mean ± standard
        deviation over the seeds; ground states as right/all for each seed. "relaxed by the model" starts at the undistorted
        geometry, where labels alone tell orderings apart; "valences kept" counts orderings whose Fe keep their states there.
    """
    import pandas as pd
    figures = {"energy": "energy MAE, meV/atom", "forces": "force MAE, meV/Å", "magmoms": "Fe moment MAE, µB",
               "valence_right": "valence right, % of Fe", "tau_dft_held_out": "Kendall τ, DFT-relaxed geometry",
               "tau_start_held_out": "Kendall τ, undistorted geometry", "tau_relaxed_held_out": "Kendall τ, relaxed by the model",
               "ground_dft_held_out": "ground states right, DFT-relaxed", "ground_start_held_out": "ground states right, undistorted",
               "ground_relaxed_held_out": "ground states right, relaxed by the model", "valence_kept": "valences kept, orderings"}
    newest = results["data_sha256"].iloc[-1]        # seeds trained on different data must not be averaged
    table, whole = {}, results[results["pretrained"].astype(bool) & (results["thinned"] == 1) & (results["data_sha256"] == newest)]
    for (name, aware), rows in whole.sort_values("seed").groupby(["architecture", "charge_aware"]):
        column = {label: ", ".join(rows[k]) if k.startswith(("ground", "valence_kept")) else
                  _mean_and_spread(rows[k].astype(float), {"forces": 0, "magmoms": 3, "valence_right": 1}.get(k, 2))
                  for k, label in figures.items()}
        table[f"{name} {'aware' if aware else 'blind'}"] = {**column, "seeds": str(len(rows))}
    return pd.DataFrame(table)


def _mean_and_spread(values, digits):
    return f"{values.mean():.{digits}f}" + (f" ± {values.std():.{digits}f}" if len(values) > 1 else "")


def predictions_for(frames, predictions):
    """The rows of a table of predictions that belong to frames, model by model.

    Parameters
    ----------
    frames : list of ase.Atoms
        With ``info["job"]`` and ``info["step"]``.
    predictions : pandas.DataFrame
        As `mlipkit.load_predictions` gives them.

    Returns
    -------
    dict of pandas.DataFrame
        By model, in the order of the frames.

    Raises
    ------
    InputError
        Naming model, job and step, when a prediction is missing.
    """
    table, keys = predictions.set_index(["model", "job", "step"]), [(a.info["job"], a.info["step"]) for a in frames]
    result = {}
    for model in predictions["model"].unique():
        wanted = [(model, *key) for key in keys]
        if missing := [key for key in wanted if key not in table.index]:
            raise InputError("no prediction of {} for job {}, step {}; predict again (make models)".format(*missing[0]))
        result[model] = table.loc[wanted]
    return result


def compare_models(frames, predictions, split="test"):
    """One row of `error_table` per model, on the frames of one split.

    Loosely converged frames are left out, as in training (`mlipkit.frames.well_converged`).

    Parameters
    ----------
    frames : list of ase.Atoms
        As `mlipkit.load_dft` gives them.
    predictions : pandas.DataFrame
        As `mlipkit.load_predictions` gives them.
    split : str
        ``"train"``, ``"validation"`` or ``"test"``.

    Returns
    -------
    pandas.DataFrame
        Index ``model``; columns as the keys of `error_table`.
    """
    import pandas as pd
    chosen = [a for a in well_converged(frames) if a.info["split"] == split]
    if not chosen:
        raise InputError(f"compare_models: no frame belongs to the split {split!r}")
    rows = {model: error_table(chosen, found) for model, found in predictions_for(chosen, predictions).items()}
    return pd.DataFrame(rows).T.rename_axis("model")
