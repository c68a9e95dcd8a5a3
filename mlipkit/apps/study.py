"""From frames to the explorer in one call; every step is a call of its own too."""

import inspect
import os

from mlipkit import arguments
from mlipkit.apps.explorer import ExplorerView
from mlipkit.apps.explorer_state import ExplorerState
from mlipkit.charges.compounds import compound_of, listed, species_of
from mlipkit.charges.species import absent, named
from mlipkit.files import InputError, write_atomically
from mlipkit.frames.labels import different_charge
from mlipkit.frames.readers import read_frames
from mlipkit.models.registry import ADAPTERS
from mlipkit.orderings.naming import name_orderings
from mlipkit.pictures.figures import joined
from mlipkit.relaxation.geometries import compare_geometries

KINDS = {"blind": False, "aware": True}
# arguments of `train` that it decides itself
OF_STUDY = "name", "frames", "charge_aware", "seed", "folder", "progress", "start"


def study(
    frames,
    folder="study",
    architecture="chgnet",
    relax=True,
    compound=None,
    host=None,
    seed=0,
    progress=True,
    octahedra=False,
    **training,
):
    """Infer the charges in DFT frames of a compound, name and split its orderings, train a
    charge-blind and a charge-aware model on the same frames, let both relax every ordering, and
    open the explorer.

    The same as `read_frames`, `name_orderings`, `train` (twice), `compare_geometries` and `explore`
    one after the other. A call with the same frames and folder goes on where an earlier one was
    stopped.

    Parameters
    ----------
    frames : list of ase.Atoms, or str or Path
        With energies, forces and moments; or a file or folder that `read_frames` reads.
    folder : str or Path
        Checkpoints, relaxations, ``predictions.csv`` and the weights of the models are kept there
        (``chgnet_aware.safetensors``: `import_checkpoint` brings them back).
    architecture : str or sequence of str
        ``"chgnet"`` (fine-tuned), ``"cpainn"`` or ``"mace"`` (from random weights), or several.
    relax : bool
        Relax all orderings with the models, from the undistorted host: what shows best whether a
        model keeps the charges.
    compound, host
        As for `name_orderings`.
    seed, **training
        As for `train`: ``epochs=``, ``batch_size=``, ``device=`` ...
    progress : bool
        Progress bars.
    octahedra : bool
        As for `explore`.

    Returns
    -------
    ExplorerView
        ``.frames`` and ``.models`` are what it was made from.

    Raises
    ------
    InputError
        As the steps do; when there are too few orderings to hold some out.
    """
    folder = arguments.folder_path(folder, "study: folder")
    architectures = [architecture] if isinstance(architecture, str) else architecture
    architectures = arguments.entries(architectures, "study: architecture", "'chgnet', or a list")
    for name in architectures:
        arguments.text(name, "study: architecture", ADAPTERS)
    if not architectures:
        raise InputError(f"study: architecture is one of {', '.join(ADAPTERS)}, or several")
    arguments.flag(relax, "study: relax")
    seed = arguments.number(seed, "study: seed", least=0, whole=True)
    from mlipkit.models.training import save_weights, train

    known = [name for name in inspect.signature(train).parameters if name not in OF_STUDY]
    if unknown := [name for name in training if name not in known]:
        raise InputError(
            f"study: {unknown[0]}= is no argument of study or of train ({', '.join(known)}); to "
            "relax in another way call mk.compare_geometries and mk.explore yourself"
        )
    if isinstance(frames, (str, os.PathLike)):
        frames = read_frames(frames, progress=progress)
    frames = listed(frames, "study takes")
    if mixed := different_charge(frames):
        raise InputError(f"study: {mixed}")
    compound = compound_of(frames, compound)  # of several it is said before anything is trained
    frames = name_orderings(frames, host, compound, progress=progress)
    _check_splits(frames, training.get("proxies"))
    models = {}
    for name in architectures:
        for kind, aware in KINDS.items():
            models[joined(name, kind)], _ = train(
                name, frames, aware, seed, folder=folder, progress=progress, **training
            )
            save_weights(models[joined(name, kind)], folder, {"name": joined(name, kind)})
    data = compare_geometries(
        frames,
        models,
        relax=relax,
        folder=folder / "relaxations",
        compound=compound,
        progress=progress,
    )
    _write_predictions(folder / "predictions.csv", data)
    start = {"geometry": "relaxed"} if "relaxed" in data.tables else {}
    app = ExplorerView(ExplorerState(data, **start), octahedra)
    app.frames, app.models = frames, models
    return app


def _check_splits(frames, proxies):
    there = {a.info.get("split") for a in frames}
    if missing := [split for split in ("train", "validation") if split not in there]:
        orderings = {a.info["ordering"] for a in frames}
        raise InputError(
            f"study: {len(orderings)} charge orderings leave none for {' and '.join(missing)}: "
            "frames of three or more are needed, or a split of your own in info['split']"
        )
    # train would say it too, but after the blind model
    learned = [a for a in frames if a.info.get("split") == "train"]
    if not proxies and (ions := absent(learned, species_of(frames))):
        names = ", ".join(sorted({a.info["ordering"] for a in learned}))
        raise InputError(
            f"study: of the training split ({names}) none holds {' or '.join(map(named, ions))}; "
            "frames of more charge orderings are needed, or a split of your own in info['split']"
        )


def _write_predictions(path, data):
    import pandas as pd

    tables = [rows.assign(model=name) for name, rows in data.tables["dft"].items()]
    write_atomically(path, pd.concat(tables).to_csv(index=False))
