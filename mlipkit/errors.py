"""How far a model is from DFT."""
import numpy as np

from mlipkit.files import InputError
from mlipkit.frames import required_label, well_converged
from mlipkit.oxidation import infer_oxidation_states


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
        One row per frame in the same order: ``energy`` (eV per cell), ``force_mae`` (eV/Å), ``magmom_0`` ... (µB).

    Returns
    -------
    dict
        ``n`` frames, ``energy`` (meV/atom), ``forces`` (meV/Å), ``magmoms`` (µB, Fe only), ``valence_right`` (% of Fe
        whose oxidation state, inferred from the predicted moments, is that of DFT; a charge-aware model was given it).
    """
    if len(frames) != len(predictions):
        raise InputError(f"error_table: {len(frames)} frames but {len(predictions)} predictions")
    energy, moments, right = [], [], []
    for atoms, row in zip(frames, predictions.to_dict("records")):
        fe = np.flatnonzero(atoms.symbols == "Fe")
        predicted = np.zeros(len(atoms))
        predicted[fe] = [row[f"magmom_{i}"] for i in range(len(fe))]
        energy.append(abs(row["energy"] - required_label(atoms, "energy", "error_table")) / len(atoms))
        moments.append(np.abs(predicted - np.abs(required_label(atoms, "magmoms", "error_table")))[fe].mean())
        right.append((infer_oxidation_states(atoms, magmoms=predicted).states == atoms.arrays["oxi_states"])[fe].mean())
    return {"n": len(frames), "energy": 1e3 * np.mean(energy), "forces": 1e3 * predictions["force_mae"].mean(),
            "magmoms": np.mean(moments), "valence_right": 100 * np.mean(right)}


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
