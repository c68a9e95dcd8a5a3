"""The named data sets: the one that comes with the package, and published records that are
downloaded once.
"""

import fnmatch
import hashlib
import json
import os
import re
import shutil
import time
import warnings

from mlipkit import arguments
from mlipkit.files import InputError, embedded, write_atomically

EMBEDDED = {
    "olivine": "dft/olivine.extxyz",
    "olivine-li": "dft/olivine_li.extxyz",
    "olivine-free-cells": "dft/free_cells.extxyz",
    "olivine-host": "dft/hosts.extxyz",
    "olivine-verdict": "dft/verdict.extxyz",
}
# name: DOI, figshare article, proxy elements, MD5 of what is known without asking the server
RECORDS = {
    "electronic-entropy": (
        "10.11583/DTU.31812499",
        31812499,
        {"Ga": ("Fe", 3)},
        {
            "Training_dataset/train_NaFeGaPSSiO4_adjusted_charge_magmopm.xyz": "39cbd569b372f98171112f65b21bf390",  # noqa: E501
            "Training_dataset/validation_NaFeGaPSSiO4_adjusted_charge_magmopm.xyz": "68fbe0e5f64944bae58d878553f93838",  # noqa: E501
        },
    ),
    "polyanion": ("10.11583/DTU.27202446", 27202446, None, {}),
    "polyanion-extra": ("10.11583/DTU.27411681", 27411681, None, {}),
}
FRAME_FILES = re.compile(r"\.(extxyz|xyz|db|traj|json)(\.(gz|xz|bz2))?$", re.IGNORECASE)
# of a download; PAUSE s longer after each failure, TIMEOUT s without a byte
RETRIES, PAUSE, TIMEOUT = 5, 2.0, 30.0

# the mobile ion of the embedded sets, and how their compound is named
SODIUM = "Na", "NaxFePO4"
OTHER_IONS = {"dft/olivine_li.extxyz": ("Li", "LixFePO4")}


def load_dft(name="olivine", files=None, cache=None, progress=True, timeout=TIMEOUT):
    """A named set of DFT frames.

    Parameters
    ----------
    name : str
        ``"olivine"``: embedded, NaxFePO4, PBE+U, 28 atoms, every Na arrangement and charge
        ordering. ``"olivine-li"``: embedded, LixFePO4 by the same recipe (bcc Li: -1.9011 eV per
        atom).
        ``"olivine-free-cells"``: embedded, all sixteen orderings in
        the cells that charge-aware CHGNet relaxes them to, labelled by the same DFT (single points;
        in the main set cells are fixed). ``"olivine-host"``: embedded, all sixteen orderings with
        every atom on its site of the undistorted host, with labels where DFT's charges stay
        localised there. ``"olivine-verdict"``: embedded, single points of the same DFT on
        structures that the shipped models relaxed, the charges seeded as asked and as the model has
        them. ``info["model"]``; ``info["ordering"]``, the ordering seeded; ``info["has"]``, whether
        it is the one that the model's moments tell; ``info["verdict"]``: ``"as seeded"``,
        ``"moved"``, ``"delocalised"`` or ``"not converged"`` (no labels). `verdict_table` makes a
        table of it. ``"electronic-entropy"``: the record of arXiv 2603.26471 (doi
        10.11583/DTU.31812499, 318 MB); Ga in its files stands for Fe3+ and is read as such.
        ``"polyanion"`` (doi 10.11583/DTU.27202446) and ``"polyanion-extra"`` (doi
        10.11583/DTU.27411681): the parent data and what came with the charge-blind models; nothing
        is decoded.
    files : str or list of str, optional
        Names or patterns of a part of a record, such as ``"Training_dataset/*"``; by default all
        files with frames. Checkpoints (.pt, .pth, .model, pickles, archives) are never loaded.
    cache : str or Path, optional
        Folder for downloads, by default ``MLIPKIT_CACHE`` or the platform's cache folder.
    progress : bool
    timeout : float
        Seconds without an answer after which the server counts as gone.

    Returns
    -------
    list of ase.Atoms, or FrameSequence for records
        Labels (energy eV, forces eV/Å, stress eV/Å^3, magmoms µB) in a ``SinglePointCalculator``.
        Records: ``info["source"]`` is the DOI, ``info["file"]`` the file in the record. Olivine:
        ``arrays["oxi_states"]`` from the moments found, and in ``info``: ``x`` (Na or Li per
        formula unit), ``na_sites`` (``li_sites``) and ``fe3_sites`` (tuples, of the four 4a and 4c
        sites of the cell), ``ordering`` (name of the symmetry class), ``degeneracy``, ``job``,
        ``kind`` (relax, final, rattled_i, strained_i), ``step``, ``density`` (criterion of the
        SCF), ``split``.

    Raises
    ------
    InputError
        When a file is missing or damaged, or cannot be downloaded: then the message says where to
        put it by hand.

    Notes
    -----
    Olivine: method, settings, noise and limits are in ``data/dft/README.md``. Downloads are checked
    by MD5, go on where they were cut off, and are kept; the environment variable
    ``MLIPKIT_FIGSHARE`` names another server than api.figshare.com.
    """
    arguments.text(name, "load_dft: name", [*EMBEDDED, *RECORDS])
    if files is not None and not isinstance(files, str):
        files = arguments.entries(files, "load_dft: files", "['Training_dataset/*']")
        files = [arguments.text(file, "load_dft: each of files") for file in files]
    cache = arguments.folder_path(cache, "load_dft: cache", none=True)
    arguments.number(timeout, "load_dft: timeout", above=0)
    if name in EMBEDDED:
        return _embedded(EMBEDDED[name])
    from mlipkit.frames.store import FrameSequence, cache_folder, open_frames

    doi, _, proxies, _ = RECORDS[name]
    frames = FrameSequence([])
    for file, path in _fetch_record(name, files, cache_folder(cache), progress, timeout):
        try:
            frames += open_frames(
                path, cache, progress, {"source": f"doi:{doi}", "file": file}, proxies
            )
        except InputError as reason:
            if files is not None or ".json" not in path.suffixes:
                raise
            # settings of a model, say
            warnings.warn(f"left out, since it holds no frames: {reason}", stacklevel=2)
    return frames


def load_predictions():
    """What the shipped models predict for every frame of the embedded set.

    Returns
    -------
    pandas.DataFrame
        Columns ``model`` (chgnet_pretrained, chgnet_blind, chgnet_aware, cpainn_blind, ...),
        ``job``, ``step``, ``energy`` (eV per cell), ``force_mae`` (eV/Å)
        and ``magmom_0`` to ``magmom_3`` (µB, the four Fe in their order in the frame).
    """
    import pandas as pd

    return pd.read_csv(embedded("models/predictions.csv"))


def load_geometries():
    """What the shipped models say of every charge ordering of the embedded set where DFT did not
    put the atoms.

    Returns
    -------
    pandas.DataFrame
        Columns ``model`` (as in `load_predictions`), ``geometry`` (``"host"``: every atom on its
        site of the undistorted host of ``load_dft("olivine-host")``; ``"relaxed"``: by the model,
        see `load_relaxations`), ``ordering`` (the one asked for), ``job`` and ``step`` (of DFT's
        end point of that ordering, by which `predictions_for` and `error_by` find the rows),
        ``found`` (the one that the predicted moments tell), ``energy`` (eV per cell; of
        chgnet_pretrained on a reference of its own), ``magmom_0`` to ``magmom_3`` (µB, the four Fe
        in their order in the frame), ``kept`` (whether every Fe has the oxidation state asked for),
        ``clear`` (whether the moments, or else neutrality, leave no doubt).
    """
    import pandas as pd

    return pd.read_csv(embedded("models/geometries.csv"))


def load_results():
    """Errors of every training run behind the shipped models: each architecture, blind and aware,
    seed by seed.

    Returns
    -------
    pandas.DataFrame
        A row per run: ``architecture``, ``charge_aware``, ``seed``, ``pretrained`` (False: without
        the pre-training on CHGNet's labels), ``thinned`` (n: trained on one DFT frame in n),
        ``epochs``, ``best_epoch``, ``n_train``, ``data_sha256``, ``seconds``; on the held-out
        frames ``energy`` (meV/atom), ``forces`` (meV/Å), ``magmoms`` (µB), ``valence_right`` (%),
        along relaxations and, ``..._displaced``, off them; ``tau_*`` and ``ground_*``
        (`order_scores`) on DFT-relaxed geometries (``dft``), at undistorted ones against DFT there
        (``undistorted``) and against relaxed DFT (``start``), and relaxed from there by the model
        (``relaxed``), over all orderings and over pairs with a held-out one; ``valence_kept``,
        orderings whose Fe have their states after that relaxation.
    """
    import pandas as pd

    return pd.read_csv(embedded("models/results.csv"), dtype={"data_sha256": str})


def load_transfer():
    """What models of NaxFePO4 say of LixFePO4, once they have seen some of it.

    Returns
    -------
    pandas.DataFrame
        Index ``model`` (cpainn_blind, cpainn_aware, ...) and ``seen``: how many frames of LixFePO4
        the shipped model was trained on further (``"none"``, ``"1"``, ``"4"``, ``"16"``, ``"all"``,
        ``"all, and Na"``: with those of NaxFePO4, or ``"pre-trained"``: the same after cells of
        LixFePO4 that CHGNet labelled). On the held-out charge orderings of LixFePO4:
        ``n`` (frames of relaxations), ``orderings``, ``forces`` (meV/Å), ``magmoms`` (µB) and
        ``valence_right`` (%), each with its 95 % interval over orderings, ``..._low`` and
        ``..._high``; ``formation_energy`` (meV per formula unit, mean absolute error on DFT's
        structures, against the end members by the same model); ``tau`` and ``pairs``
        (`order_scores`); ``kept`` of ``asked`` orderings whose charges stayed where they were put
        when the model relaxed them.
    """
    import pandas as pd

    table = pd.read_csv(embedded("models/transfer.csv"), dtype={"seen": str})
    return table.set_index(["model", "seen"])


def _embedded(file):
    from mlipkit.frames.readers import read_frames

    ion, compound = OTHER_IONS.get(file, SODIUM)
    frames = read_frames(embedded(file))
    for atoms in frames:
        info = atoms.info
        _, ions, fe = info.pop("tag").split("_")
        atoms.info = {
            "compound": compound,
            "x": float(info["x"]),
            f"{ion.lower()}_sites": _sites(ions),
            "fe3_sites": _sites(fe),
            "ordering": str(info["ordering"]),
            "degeneracy": int(info["degeneracy"]),
            "job": str(info["job"]),
            "kind": str(info["kind"]),
            "step": int(info["step"]),
            "density": float(info["density"]),
            "split": str(info["split"]),
            **{
                k: type_(info[k])
                for k, type_ in (("model", str), ("verdict", str), ("has", bool))
                if k in info
            },
        }
    return frames


def _sites(text):
    return tuple(int(c) for c in text[2:] if c != "-")


def _fetch_record(name, patterns, cache, progress, timeout):
    """(name in the record, local path) of the chosen files, downloaded where they are not here."""
    doi, article, _, known = RECORDS[name]
    folder = cache / f"DTU.{article}"
    by_hand = f"download it from https://doi.org/{doi} and put it there by hand"
    listed, reason = _file_list(article, cache / f"DTU.{article}.json", timeout)
    if listed is None:  # not reached, now or earlier: take what was put there by hand
        here = [
            path.relative_to(folder).as_posix()
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        ]
        listed = {file: {"md5": known.get(file), "size": 0, "url": None} for file in here}
        if not any(_matching(listed, patterns)):
            example = next(iter(_matching(known, patterns)), patterns or "the file that you need")
            raise InputError(
                f"{name} (doi {doi}) cannot be reached ({reason}), and {example} is not in "
                f"{folder}: {by_hand}"
            )
    wanted = _matching(listed, patterns)
    if not wanted:
        raise InputError(
            f"{name} (doi {doi}) has no frames in {patterns or 'its files'} (models are never "
            "loaded); it has "
            f"{', '.join(listed)}"
        )
    paths = {file: _good(folder, file, listed[file]["md5"]) for file in wanted}
    missing = [file for file in wanted if paths[file] is None]
    _check_space(folder, sum(listed[file]["size"] for file in missing), name)
    for file in missing:
        paths[file] = folder / file
        wrong = " (what lies there has another MD5)" if paths[file].is_file() else ""
        try:
            if listed[file]["url"] is None:
                raise OSError(reason)
            _download(listed[file], paths[file], progress, timeout)
        # OSError: all that requests and the disk raise; ValueError: pooch, wrong MD5
        except (OSError, ValueError) as failure:
            raise InputError(
                f"{file} of {name} (doi {doi}) cannot be downloaded into {folder}{wrong}: "
                f"{_said(failure)}; try again later "
                f"(it goes on where it stopped), or {by_hand}"
            ) from failure
    return list(paths.items())


def _file_list(article, stored, timeout):
    """{name in the record: size, md5, url}, kept for later; or None and why the server does not
    give it.
    """
    try:
        return json.loads(stored.read_text()), None  # a published version does not change
    except (OSError, ValueError):
        pass
    url = f"{os.environ.get('MLIPKIT_FIGSHARE', 'https://api.figshare.com').rstrip('/')}/v2/articles/{article}"
    try:
        about = _get(url, timeout).json()
        entries = about["files"]
        # the API names ten files at most here, and all of them page by page
        if len(entries) == 10:
            entries = _all_pages(f"{url}/files", timeout) or entries
        folders = about.get("folder_structure") or {}
        listed = {}
        for entry in entries:
            if not entry.get("is_link_only"):
                file = _safe(
                    folders.get(str(entry.get("id"))) if isinstance(folders, dict) else None,
                    entry["name"],
                )
                md5 = entry.get("computed_md5") or entry.get("supplied_md5") or None
                listed[file] = {
                    "size": int(entry.get("size") or 0),
                    "md5": md5,
                    "url": entry["download_url"],
                }
    except InputError:
        raise
    except OSError as failure:
        return None, _said(failure)
    except (ValueError, KeyError, TypeError, AttributeError) as failure:
        return None, f"its answer is not a list of files ({type(failure).__name__})"
    try:
        stored.parent.mkdir(parents=True, exist_ok=True)
    except OSError as failure:
        raise InputError(
            f"{stored.parent} cannot be used as cache ({_said(failure)}): choose another folder "
            "with cache= or "
            "MLIPKIT_CACHE"
        ) from None
    write_atomically(stored, json.dumps(listed, indent=1))
    return listed, None


def _all_pages(url, timeout):
    import requests

    entries, page = [], 0
    while len(entries) == 100 * page and page < 100:
        page += 1
        try:
            entries += _get(f"{url}?page_size=100&page={page}", timeout).json()
        except requests.HTTPError:
            break
    return entries


def _get(url, timeout, **options):
    import requests

    response = requests.get(url, timeout=timeout, **options)
    response.raise_for_status()
    return response


def _safe(folder, name):
    """Folder and name of a file as the server gives them, as a path that stays inside the folder of
    the record.
    """
    parts = [part for part in re.split(r"[/\\]", f"{folder or ''}/{name}") if part not in ("", ".")]
    if not parts or any(part == ".." or ":" in part or not part.isprintable() for part in parts):
        raise InputError(
            f"the server offers a file called {name!r} in folder {folder!r}, which is no safe "
            "name; nothing was loaded"
        )
    return "/".join(parts)


def _matching(files, patterns):
    """The files with frames among the given ones; those that match one of the patterns, if there
    are any.
    """
    patterns = ["*"] if patterns is None else [patterns] if isinstance(patterns, str) else patterns
    return [
        file
        for file in files
        if FRAME_FILES.search(file)
        and any(
            fnmatch.fnmatchcase(file, p) or fnmatch.fnmatchcase(file.rpartition("/")[2], p)
            for p in patterns
        )
    ]


def _good(folder, file, md5):
    """Where a file lies, in its folder of the record or just put there, with the right MD5 if that
    is known; or None.
    """
    for path in (folder / file, folder / file.rpartition("/")[2]):
        if path.is_file():
            with open(path, "rb") as content:
                if not md5 or hashlib.file_digest(content, "md5").hexdigest() == md5.lower():
                    return path
    return None


def _check_space(folder, needed, name):
    existing = next(parent for parent in (folder, *folder.parents) if parent.is_dir())
    free = shutil.disk_usage(existing).free
    if needed > free:
        raise InputError(
            f"{name} needs {needed / 1e6:.0f} MB, and only {free / 1e6:.0f} MB are free in "
            f"{existing}: free some, take "
            "fewer files with files=, or choose another folder with cache= or MLIPKIT_CACHE"
        )


def _download(entry, path, progress, timeout):
    """By pooch, which checks the MD5 before the file gets its name; ours is only that it goes on
    where it stopped.
    """
    import pooch

    pooch.get_logger().setLevel("WARNING")

    def downloader(url, target, _):
        part = path.with_name(path.name + ".part")
        _resume(url, part, entry["size"], progress, timeout)
        os.replace(part, target)

    pooch.retrieve(
        entry["url"],
        entry["md5"] and f"md5:{entry['md5']}",
        path.name,
        path.parent,
        downloader=downloader,
    )


def _resume(url, part, size, progress, timeout):
    import requests
    import urllib3
    from tqdm.auto import tqdm

    failures = 0
    part.touch()
    with tqdm(
        total=size or None, unit="B", unit_scale=True, desc=part.stem, disable=not progress
    ) as bar:
        while not (0 < size <= (done := part.stat().st_size)):
            asked = {"Accept-Encoding": "identity", **({"Range": f"bytes={done}-"} if done else {})}
            try:
                with _get(url, timeout, headers=asked, stream=True) as response:
                    resumed = response.headers.get("Content-Range", "").startswith(f"bytes {done}-")
                    # "wb": the server sends it from the start
                    with open(part, "ab" if resumed else "wb") as file:
                        bar.update((done if resumed else 0) - bar.n)
                        # what has come; `iter_content` would lose the last part
                        while chunk := response.raw.read1(2**20):
                            file.write(chunk)
                            bar.update(len(chunk))
                # 0 when the server did not say how much to expect
                if part.stat().st_size >= size:
                    return
                failure = requests.ConnectionError("the connection was closed early")
            except (requests.RequestException, urllib3.exceptions.HTTPError) as reason:
                failure = reason
            failures = 1 if part.stat().st_size > done else failures + 1
            status = getattr(getattr(failure, "response", None), "status_code", 500)
            if failures >= RETRIES or (400 <= status < 500 and status not in (408, 429)):
                raise (
                    failure
                    if isinstance(failure, OSError)
                    else requests.ConnectionError(str(failure))
                )
            time.sleep(PAUSE * failures)


def _said(failure):
    """Why it failed, in few words."""
    import requests

    if isinstance(failure, requests.HTTPError):
        return f"the server says {failure.response.status_code} {failure.response.reason}"
    if isinstance(failure, requests.Timeout) or "timed out" in str(failure):
        return "the server did not answer in time"
    if isinstance(failure, requests.ConnectionError):
        return f"no connection: {str(failure)[:150]}"
    return getattr(failure, "strerror", None) or str(failure)[:300]
