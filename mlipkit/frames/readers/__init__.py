"""Labelled frames from whatever DFT file a person has: `read_frames`, one for all formats."""

import os
import re
import warnings
from itertools import islice
from pathlib import Path

import numpy as np

from mlipkit.files import InputError
from mlipkit.frames.labels import checked_frame, decode_proxies
from mlipkit.frames.readers.compressed import open_bytes, open_text

KNOWN = (
    "VASP OUTCAR and vasprun.xml, extended XYZ, ASE database (.db, .json) and trajectory (.traj), "
    "CHGNet-style JSON; "
    "each also as .gz, .xz or .bz2, or a folder of them"
)
# read_outcar.py and the like lie beside the runs
NOT_OUTCAR = ("py", "ipynb", "sh", "png", "pdf", "svg", "tar", "tgz", "zip")


def read_frames(path, index=None, proxies=None, progress=True):
    """Read labelled frames from DFT results.

    Parameters
    ----------
    path : str or Path
        A VASP OUTCAR or vasprun.xml, extended XYZ, ASE database or trajectory, or CHGNet-style
        JSON, by name or else by content, also compressed (.gz, .xz, .bz2); or a folder, which is
        searched for such files at any depth. There a vasprun.xml beside the OUTCAR of the same run
        is read only when the OUTCAR cannot be.
    index : int, slice or str, optional
        Which frames of each file, such as ``-1``, ``slice(0, 10)`` or ``"::5"``; all by default.
    proxies : dict, optional
        What proxy elements in the file stand for, such as ``{"Ga": ("Fe", 3)}``, see
        `mlipkit.frames.labels.decode_proxies`. Nothing is decoded unless it is given.
    progress : bool
        Show a progress bar over the files of a folder.

    Returns
    -------
    list of ase.Atoms
        What a file has of ``energy`` and ``free_energy`` (eV; VASP: energy is that of sigma → 0),
        ``forces`` (eV/Å), ``stress`` (Voigt-6 xx yy zz yz xz xy, eV/Å^3) and ``magmoms`` (µB), in a
        ``SinglePointCalculator``; what it lacks is absent, see `mlipkit.frames.labels.label`.
        ``info``: ``source`` (file), ``step`` (from 0, in the file or as the file says),
        ``converged`` (the SCF, where known), for VASP ``nupdown`` and ``hubbard_u``, and what the
        file itself holds. Vacancies (species ``X``) are dropped, ``info["n_vacancies"]`` says how
        many there were.

    Raises
    ------
    InputError
        Naming file and frame, when the file is missing, damaged or of no known format. Of a folder,
        only when no file can be read.

    Warns
    -----
    UserWarning
        For each file of a folder that cannot be read, and for incomplete runs.
    """
    path, index = Path(path), _as_index(index)
    if path.is_dir():
        frames = _read_folder(path, index, progress)
    elif path.is_file():
        frames = _read_file(path, index)
    else:
        raise InputError(f"{path}: no such file")
    return frames if proxies is None else [decode_proxies(atoms, proxies) for atoms in frames]


def _read_folder(folder, index, progress):
    from tqdm.auto import tqdm

    from mlipkit.frames.readers.vasp import sibling_outcar

    files = sorted(
        Path(root, name)
        for root, _, names in os.walk(folder)
        for name in names
        if not name.startswith(".") and _format_by_name(name)
    )
    if not files:
        raise InputError(f"{folder}: holds no file that is known by its name ({KNOWN})")
    frames, read, failed = [], set(), []
    # their OUTCARs first
    files.sort(key=lambda file: _format_by_name(file.name) == "vasprun.xml")
    for file in tqdm(files, unit="file", disable=not progress):
        if _format_by_name(file.name) == "vasprun.xml" and sibling_outcar(file) in read:
            continue
        try:
            found = _read_file(file, index)
            read.add(file)
            frames.append((file, found))
        except InputError as reason:
            failed.append(str(reason))
            warnings.warn(str(reason), stacklevel=3)
    if not frames:
        raise InputError(
            f"{folder}: none of its {len(failed)} file(s) can be read; the first: {failed[0]}"
        )
    return [atoms for _, found in sorted(frames, key=lambda entry: entry[0]) for atoms in found]


def _read_file(path, index):
    frames = []
    try:
        kind = _format_by_name(path.name) or _format_by_content(path)
        if kind is None:
            raise InputError(f"{path}: cannot tell what this file is; known are {KNOWN}")
        for i, atoms in _chosen(enumerate(_reader(kind)(path)), index):
            frames.append(checked_frame(atoms, str(path), i))
    except InputError:
        raise
    except Exception as reason:  # parsers raise many kinds, none of them for people
        raise InputError(
            f"{path}: frame {len(frames)} cannot be read ({type(reason).__name__}: {reason}); "
            "is the file cut off, damaged or of another format?"
        ) from reason
    if not frames and not isinstance(index, slice):
        raise InputError(
            f"{path}: holds no frame" + ("" if index is None else f" of index {index}")
        )
    return frames


def _reader(kind):
    if kind in ("OUTCAR", "vasprun.xml"):
        from mlipkit.frames.readers import vasp

        return {"OUTCAR": vasp.read_outcar, "vasprun.xml": vasp.read_vasprun}[kind]
    if kind == "extxyz":
        return _iter_extxyz
    from mlipkit.frames.readers import databases

    return {"db": databases.iter_db, "traj": databases.iter_traj, "json": databases.iter_json}[kind]


def _iter_extxyz(path):
    from mlipkit.frames.readers.extxyz import iter_frames

    with open_text(path) as lines:
        yield from iter_frames(lines, str(path))


def _as_index(index):
    """None, a whole number or a slice, from an index in one of ASE's notations."""
    if isinstance(index, str) and re.fullmatch(r"-?\d+|(-?\d*):(-?\d*)(:-?\d*)?", index):
        index = (
            slice(*(int(part) if part else None for part in index.split(":")))
            if ":" in index
            else int(index)
        )
    if not (index is None or isinstance(index, int | np.integer | slice)) or (
        isinstance(index, slice) and index.step == 0
    ):
        raise InputError(
            f"read_frames: index must be a number or a slice such as '::5', not {index!r}"
        )
    return index


def _chosen(frames, index):
    if index is None:
        return frames
    part = index if isinstance(index, slice) else slice(index, index + 1 or None)
    if all(end is None or end >= 0 for end in (part.start, part.stop, part.step)):
        # what comes after is not even read
        return islice(frames, part.start, part.stop, part.step)
    return list(frames)[part]


def _format_by_name(name):
    name = re.sub(r"\.(gz|xz|bz2)$", "", name.lower())
    ending = name.rpartition(".")[2]
    if ending in ("extxyz", "xyz", "db", "traj", "json"):
        return {"xyz": "extxyz"}.get(ending, ending)
    if "vasprun" in name and ".xml" in name:
        return "vasprun.xml"
    return "OUTCAR" if "outcar" in name and ending not in NOT_OUTCAR else None


def _format_by_content(path):
    with open_bytes(path) as file:
        head = file.read(100_000)
    start = head.lstrip()[:2000]
    if head.startswith(b"SQLite format 3\0"):
        return "db"
    if head.startswith((b"- of Ulm", b"PickleTrajectory")):
        return "traj"
    if start.startswith((b"{", b"[")):
        return "json"
    if start.startswith(b"<") and b"<modeling>" in start:
        return "vasprun.xml"
    if start.startswith(b"vasp.") or (b"POTCAR:" in head and b"INCAR" in head):
        return "OUTCAR"
    if re.match(rb"\d+\s*\n.*(Lattice|Properties|pbc|energy)=", start):
        return "extxyz"
    return None
