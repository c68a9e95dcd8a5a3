"""Relax many structures with one or several models: side by side, resumable, on one machine or on
many.
"""

import hashlib
import inspect
import re
import time
import warnings

import numpy as np

from mlipkit import arguments
from mlipkit.files import InputError, embedded, manifest
from mlipkit.frames.labels import label, write_frames
from mlipkit.frames.taken import as_frames
from mlipkit.models.foreign import CalculatorPotential, as_potential, as_potentials
from mlipkit.relaxation.one import Relaxation, checked_settings, relax

LONGEST = 100  # letters of an ordering in the name of a file
RETRIES = 3  # how often a structure is begun again after the process that worked on it died


def relax_many(frames, model, folder=None, processes=None, client=None, progress=True, **options):
    """Relax structures with a model, or with several, in processes of one thread each or on a Dask
    cluster.

    Parameters
    ----------
    frames : list of ase.Atoms
        As for `relax`. ``info["ordering"]`` or ``info["job"]``, where there is one, goes into the
        names of the files.
    model : Potential, ASE calculator, or a dict of them
        ``{name: model}`` relaxes every structure with every model.
    folder : str or Path, optional
        Every relaxed structure is written there, in one step, as extended XYZ with all its frames.
        A call with the same structures, models and options takes what lies there and does the rest:
        a campaign that was stopped or killed goes on and loses at most the structures in flight.
    processes : int, optional
        Processes on this machine, by default one per core this process may use; 1: in this process.
    client : distributed.Client, optional
        A Dask cluster to work on instead. Its workers need mlipkit; only this process writes to
        `folder`.
    progress : bool
        Show a progress bar over the structures.
    **options
        Of `relax`: ``fmax``, ``steps``, ``cell``, ``optimizer``, ``seconds``.

    Returns
    -------
    list of Relaxation, or dict of such lists
        In the order of `frames`; a dict when `model` was one. What could not be relaxed is there
        too: `Relaxation.reason` says why. After an interrupt, structures that were not finished are
        None.

    Raises
    ------
    InputError
        When a structure killed its process again and again, naming it.
    """
    from tqdm.auto import tqdm

    frames = as_frames(frames, "relax_many takes", single=False)
    several = isinstance(model, dict)
    models = (
        as_potentials(model, "relax_many") if several else {"": as_potential(model, "relax_many")}
    )
    options = settings_of(options, "relax_many")
    folder = arguments.folder_path(folder, "relax_many: folder", none=True)
    processes = checked_processes(processes, "relax_many")
    if client is not None and not hasattr(client, "submit"):
        raise InputError(
            f"relax_many: client is a dask.distributed.Client, not {arguments.shown(client)}"
        )
    prints = {name: _fingerprint(m) for name, m in models.items()}
    results, waiting = {}, {}
    for name in models:
        for i, atoms in enumerate(frames):
            key = _key(atoms, name, prints[name], options)
            path = folder and folder / f"{key}.extxyz"
            if path and path.exists() and (found := _read(path)):
                results[name, i] = found
            else:
                # the same structure twice is relaxed once
                waiting.setdefault(key, []).append((name, i))
    with tqdm(
        total=len(models) * len(frames),
        initial=len(results),
        desc="relax_many",
        disable=not progress,
    ) as bar:
        try:
            jobs = {
                key: (frames[which[0][1]], models[which[0][0]], options)
                for key, which in waiting.items()
            }
            for key, result in _run(jobs, processes, client):
                # what could not begin is told again in no time
                if folder and label(result.atoms, "energy") is not None:
                    folder.mkdir(parents=True, exist_ok=True)
                    write_relaxations(folder / f"{key}.extxyz", [result])
                    # the numbers are then those of a campaign that was resumed
                    result = _read(folder / f"{key}.extxyz")
                results |= dict.fromkeys(waiting[key], result)
                bar.update(len(waiting[key]))
        except KeyboardInterrupt:
            pass
    lists = {name: [results.get((name, i)) for i in range(len(frames))] for name in models}
    return lists if several else lists[""]


def settings_of(options, where):
    """All options of `relax`: those given, checked, and the defaults of the others; they go into
    the key of a job too, since a default that changes makes another job.
    """
    settings = {
        name: p.default
        for name, p in inspect.signature(relax).parameters.items()
        if name not in ("atoms", "model", "progress")
    }
    if unknown := set(options) - set(settings):
        raise InputError(
            f"{where}: no option is called {', '.join(sorted(unknown))}; there are "
            f"{', '.join(settings)}"
        )
    return checked_settings(where, **settings | options)


def checked_processes(processes, where):
    """A number of processes, or None: as many as there are cores."""
    return arguments.number(processes, f"{where}: processes", least=1, whole=True, none=True)


def _relaxations(given, what, gaps=False):
    """A list of relaxations; with `gaps`, None among them for those that were not finished."""
    found = arguments.entries(given, what, "what mk.relax_many returns")
    for i, one in enumerate(found):
        if not isinstance(one, Relaxation) and not (gaps and one is None):
            raise InputError(
                f"{what} is a list of what mk.relax or mk.relax_many returns; number {i} is "
                f"{arguments.shown(one)}"
            )
    return found


def relaxation_table(relaxations):
    """A row per relaxation.

    Parameters
    ----------
    relaxations : list of Relaxation, or dict of such lists
        As `relax_many` returns them.

    Returns
    -------
    pandas.DataFrame
        ``model``, ``ordering``, ``reason``, ``steps``, ``energy`` (eV per cell), ``max_force``
        (eV/Å), ``flips`` (changes of valence between the oxidation states given, or else the start,
        and the end; not known, ``<NA>``, of a model without moments), ``seconds``.

    Warns
    -----
    UserWarning
        Naming the models without moments.
    """
    import pandas as pd

    rows, untold = [], []
    for model, results in (
        relaxations if isinstance(relaxations, dict) else {"": relaxations}
    ).items():
        for r in _relaxations(results, "relaxation_table: relaxations", gaps=True):
            if r is not None:
                if r.states is None and label(r.atoms, "energy") is not None:
                    untold.append(model or "the model")
                rows.append(
                    {
                        "model": model,
                        "ordering": r.atoms.info.get("ordering", r.atoms.get_chemical_formula()),
                        "reason": r.reason,
                        "steps": len(r.frames) - 1,
                        "energy": r.energies[-1],
                        "max_force": r.max_forces[-1],
                        "flips": pd.NA if r.states is None else len(r.flipped_sites),
                        "seconds": r.seconds,
                    }
                )
    if untold:
        names = ", ".join(dict.fromkeys(untold))
        warnings.warn(
            f"relaxation_table: {names} gives no magnetic moments, so whether a charge "
            "moved is not known: flips is blank there",
            stacklevel=2,
        )
    table = pd.DataFrame(rows)
    return table.astype({"flips": "Int64"}) if len(table) else table


def _run(jobs, processes, client):
    """Yield (key, Relaxation) as they are done."""
    if client is not None:
        yield from _on_dask(jobs, client)
        return
    import joblib
    from joblib.externals.loky.process_executor import BrokenProcessPool

    n = min(processes or joblib.cpu_count(), len(jobs))
    if n <= 1:
        for key, job in jobs.items():
            yield _relaxed(key, *job)
        return
    left, lives = dict(jobs), RETRIES
    while left:
        try:
            # one that waits holds 0.2 GB, and by default for five minutes
            idle = {"idle_worker_timeout": 10}
            with joblib.parallel_config("loky", inner_max_num_threads=1, **idle):
                calls = [joblib.delayed(_relaxed)(key, *job) for key, job in left.items()]
                for key, result in joblib.Parallel(n, return_as="generator_unordered")(calls):
                    del left[key]
                    yield key, result
        except BrokenProcessPool:
            lives -= 1
            if not lives:
                raise InputError(
                    f"relax_many: processes died {RETRIES} times (out of memory?); not done: "
                    f"{', '.join(left)}. "
                    "Call again with processes=1; what is done is kept in folder"
                ) from None


def _on_dask(jobs, client):
    from dask.distributed import as_completed

    shared = {}  # a model goes to the cluster once
    for _, model, _ in jobs.values():
        if id(model) not in shared:
            shared[id(model)] = client.scatter(model, broadcast=True)
    futures = [
        client.submit(
            _relaxed,
            key,
            atoms,
            shared[id(model)],
            options,
            key=f"relax-{key}",
            pure=False,
            retries=RETRIES,
        )
        for key, (atoms, model, options) in jobs.items()
    ]
    try:
        for future in as_completed(futures):
            yield future.result()
            future.release()
    finally:
        client.cancel(futures)


def _relaxed(key, atoms, model, options):
    """What runs in a worker. Bad input is a result, so that it ends no campaign."""
    began = time.monotonic()
    try:
        return key, relax(atoms, model, progress=False, **options)
    except InputError as wrong:
        return key, Relaxation([atoms.copy()], None, str(wrong), time.monotonic() - began)


def _fingerprint(model):
    if isinstance(model, CalculatorPotential):
        return model.fingerprint()
    digest = hashlib.sha256(repr(sorted(model.proxies.items())).encode())
    for name, tensor in model.network.state_dict().items():
        digest.update(name.encode() + tensor.detach().cpu().numpy().tobytes())
    return digest.hexdigest()


def _key(atoms, model, fingerprint, options):
    """Name of a job: what can be read of it, and a hash of all that its result follows from."""
    digest = hashlib.sha256(
        repr(
            (fingerprint, sorted(options.items(), key=str), [c.todict() for c in atoms.constraints])
        ).encode()
    )
    for values in (
        atoms.numbers,
        atoms.positions,
        atoms.cell.array,
        atoms.pbc,
        atoms.arrays.get("oxi_states", ()),
        [ord(letter) for spin in atoms.arrays.get("spin_states", ()) for letter in f"{spin} "],
    ):
        digest.update(np.ascontiguousarray(values).tobytes())
    for key in ("charge", "redox"):
        if told := atoms.info.get(key):
            digest.update(f"{key} {told}".encode())
    name = str(atoms.info.get("ordering") or atoms.info.get("job") or atoms.get_chemical_formula())
    return "_".join(
        filter(
            None,
            (
                re.sub(r"[^\w.-]", "-", model),
                re.sub(r"[^\w.-]", "-", name)[:LONGEST],
                digest.hexdigest()[:12],
            ),
        )
    )


def write_relaxations(path, relaxations):
    """Write relaxations, one after the other, into one file of extended XYZ.

    Parameters
    ----------
    path : str or Path
        A name that ends in ``.xz`` makes a compressed file.
    relaxations : list of Relaxation
        As `relax_many` returns them, none of them None.
    """
    path, frames = arguments.file_path(path, "write_relaxations: path", new=True), []
    for result in _relaxations(relaxations, "write_relaxations: relaxations"):
        frames += [a.copy() for a in result.frames]
        for i, (copy, frame) in enumerate(zip(frames[-len(result.frames) :], result.frames)):
            copy.calc = frame.calc
            if result.states is not None:
                copy.set_array("inferred_oxi_states", result.states[i])
        frames[-1].info |= {"reason": result.reason, "seconds": round(result.seconds, 3)}
    write_frames(path, frames)


def read_relaxations(path):
    """Read what `write_relaxations`, or `relax_many` with a folder, has written.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    list of Relaxation

    Raises
    ------
    InputError
        When the file cannot be read, or holds frames that are no relaxations.
    """
    from mlipkit.frames.readers import read_frames

    path = arguments.file_path(path, "read_relaxations: path")
    runs, relaxations = [], []
    for atoms in read_frames(path, progress=False):
        if atoms.info.get("step") == 0 or not runs:
            runs.append([])
        runs[-1].append(atoms)
    for frames in runs:
        states, last = [a.arrays.pop("inferred_oxi_states", None) for a in frames], frames[-1].info
        if not {"reason", "seconds"} <= set(last):
            raise InputError(
                f"{path}: frames that are no whole relaxation (one has no reason why it ended); "
                "is the file cut off?"
            )
        relaxations.append(
            Relaxation(
                frames,
                None if states[0] is None else np.array(states),
                str(last.pop("reason")),
                float(last.pop("seconds")),
            )
        )
    return relaxations


def _read(path):
    """The relaxation in a file; None, with a warning, when it cannot be read, so that it is done
    again.
    """
    try:
        return read_relaxations(path)[0]
    except InputError as wrong:
        warnings.warn(f"{path} cannot be used and is made again: {wrong}", stacklevel=3)
        return None


def load_relaxations(model):
    """The shipped relaxations of a model: every charge ordering of the embedded set, from the
    undistorted host.

    Parameters
    ----------
    model : str
        ``"chgnet_blind"``, ``"chgnet_aware"``, ``"cpainn_blind"``, ..., or ``"chgnet_pretrained"``.

    Returns
    -------
    list of Relaxation
        In the order of ``end_points(load_dft())``; the cell of each composition is fixed, every
        atom begins 0.01 Å off its site, to 0.05 eV/Å. Positions are rounded to 1e-5 Å, energies to
        1e-6 eV; made by ``make results``. ``info["found"]`` of the last frame names the charge
        ordering that its moments tell.

    Raises
    ------
    InputError
        When there are none of that model, or the file is not what was shipped.
    """
    arguments.text(model, "load_relaxations: model")
    name = f"models/relaxations/{model}.extxyz.xz"
    if name not in manifest():
        there = [
            entry.split("/")[-1].split(".")[0]
            for entry in manifest()
            if entry.startswith("models/relaxations/")
        ]
        raise InputError(
            f"load_relaxations: there are none of {model!r}; there are {', '.join(there)}"
        )
    return read_relaxations(embedded(name))
