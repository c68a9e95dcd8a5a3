"""What models say of frames, in one table that can be kept and that every error is taken from."""

import hashlib

import numpy as np

from mlipkit import arguments
from mlipkit.charges.references import redox_sites
from mlipkit.files import InputError
from mlipkit.frames.labels import label
from mlipkit.frames.taken import as_frames
from mlipkit.models.foreign import as_potentials

MADE_BY = "mk.predict(frames, {name: model})"  # a table of predictions
BATCH = 8  # frames that a model is given at once


def predict(frames, models, progress=True):
    """What models predict for frames.

    Parameters
    ----------
    frames : list of ase.Atoms
        With ``arrays["oxi_states"]`` where a model is charge-aware. Labels are needed for errors
        only.
    models : dict
        ``{name: model}``; a model is a Potential (`load_model`, `train`) or any ASE calculator.
    progress : bool
        A progress bar.

    Returns
    -------
    pandas.DataFrame
        A row per model and frame: ``model``, ``frame`` (a key of the geometry and its oxidation
        states, by which a frame finds its row again), ``job`` and ``step`` where frames say them,
        ``energy`` (eV per cell), ``force_mae`` (eV/Å, NaN without labels) and ``magmom_0``,
        ``magmom_1`` ... (µB, the redox-active atoms in their order). ``to_csv`` keeps it,
        ``pandas.read_csv`` brings it back.

    Raises
    ------
    InputError
        Naming model and frame, when a model cannot describe a frame.
    """
    import pandas as pd
    from tqdm.auto import tqdm

    frames = as_frames(frames, "predict takes", single=False)
    models = as_potentials(models, "predict")
    rows = []
    for name, model in models.items():
        with tqdm(
            total=len(frames), desc=name, unit=" frames", delay=1, disable=not progress
        ) as bar:
            for first in range(0, len(frames), BATCH):
                part = frames[first : first + BATCH]
                try:
                    found = model.predict(part)
                except InputError as reason:
                    last = first + len(part) - 1
                    raise InputError(
                        f"predict: {name}, among frames {first} to {last}: {reason}"
                    ) from None
                rows += [prediction_row(name, *pair) for pair in zip(part, found)]
                bar.update(len(part))
    return pd.DataFrame(rows)


def prediction_row(model, atoms, predicted):
    """A row of the table of `predict`, as a dict."""
    about = {key: atoms.info[key] for key in ("job", "step") if key in atoms.info}
    forces = label(atoms, "forces")
    error = np.nan if forces is None else float(np.abs(predicted.forces - forces).mean())
    magmoms = [] if predicted.magmoms is None else predicted.magmoms[redox_sites(atoms)]
    row = {"model": model, "frame": frame_key(atoms), **about}
    row |= {"energy": predicted.energy, "force_mae": error}
    return row | {f"magmom_{k}": float(m) for k, m in enumerate(magmoms)}


def moments_of(row, atoms):
    """The moments (µB) in a row of the table of `predict`, or in a dict of it, of the redox-active
    atoms in their order; NaN where there are none.
    """
    return np.array([row.get(f"magmom_{k}", np.nan) for k in range(len(redox_sites(atoms)))], float)


def frame_key(atoms):
    """Twelve letters that tell a frame from others: of its elements, places, cell, charge,
    oxidation and spin states, to the digits that extended XYZ keeps.
    """
    digest = hashlib.sha256(atoms.numbers.astype(np.int64).tobytes())
    for values, digits in ((atoms.positions, 8), (atoms.cell.array, 6)):
        digest.update((np.round(values, digits) + 0.0).tobytes())  # + 0.0: no negative zero
    states = atoms.arrays.get("oxi_states")
    if states is not None:
        digest.update(np.round(np.asarray(states, float)).astype(np.int64).tobytes())
    digest.update(" ".join(map(str, atoms.arrays.get("spin_states", ()))).encode())
    if charge := atoms.info.get("charge"):
        digest.update(f"charge {charge}".encode())
    return (
        "f" + digest.hexdigest()[:11]
    )  # a letter first: a table that was kept must not read as numbers


def predictions_for(frames, predictions):
    """The rows of a table of predictions that belong to frames, model by model.

    Parameters
    ----------
    frames : list of ase.Atoms
    predictions : pandas.DataFrame
        As `predict` or `load_predictions` gives them.

    Returns
    -------
    dict of pandas.DataFrame
        By model, in the order of the frames.

    Raises
    ------
    InputError
        Naming model and frame, when a prediction is missing.
    """
    arguments.table(predictions, "predictions_for: predictions", ("model", "frame"), MADE_BY)
    frames = as_frames(frames, "predictions_for takes")
    keys = [frame_key(atoms) for atoms in frames]
    table = predictions.drop_duplicates(["model", "frame"]).set_index(["model", "frame"])
    result = {}
    for model in predictions["model"].unique():
        wanted = [(model, key) for key in keys]
        if missing := [i for i, key in enumerate(wanted) if key not in table.index]:
            atoms = frames[missing[0]]
            what = atoms.info.get("job", atoms.get_chemical_formula())
            raise InputError(
                f"no prediction of {model} for frame {missing[0]} ({what}, step "
                f"{atoms.info.get('step', '?')}), as it is now with its oxidation states; predict "
                "again: mk.predict(frames, {name: model})"
            )
        result[model] = table.loc[wanted]
    return result
