"""Labelled frames from whatever DFT file a person has: `read_frames`, one for all formats."""

import os
import re
import warnings
from importlib import import_module
from itertools import islice
from pathlib import Path

import numpy as np

from mlipkit import arguments
from mlipkit.files import InputError, plain
from mlipkit.frames.labels import checked_frame, decode_proxies, different_u
from mlipkit.frames.readers.compressed import (
    UNPACKED,
    check_count,
    open_bytes,
    open_text,
    unpacked_limit,
)
from mlipkit.frames.readers.keys import LabelKeys

KNOWN = (
    "VASP OUTCAR, vasprun.xml and vaspout.h5, outputs of Quantum ESPRESSO, CP2K, FHI-aims, GPAW, "
    "ABINIT and CASTEP, extended XYZ, ASE database (.db, .json) and trajectory (.traj), "
    "CHGNet-style JSON; each also as .gz, .xz or .bz2, or a folder of them"
)
# (module, function, how the first 100 kB are told) of each code's output
OUTPUTS = {
    "Quantum ESPRESSO": ("through_ase", "read_espresso", rb"Program PWSCF"),
    "CP2K": ("cp2k", "read_cp2k", rb"CP2K\| version string"),
    "FHI-aims": (
        "through_ase",
        "read_aims",
        rb"Invoking FHI-aims|Begin self-consistency loop: Init",
    ),
    "GPAW": ("through_ase", "read_gpaw", rb" ___ ___ ___ _ _ _ |\|__\|\|  \| \|\|/\\\|"),
    "ABINIT": ("abinit_gpaw", "read_abinit", rb"\.Version\s+\S+\s+of ABINIT"),
    "CASTEP": ("through_ase", "read_castep", rb"(Welcome|Materials Studio).{0,200}CASTEP"),
    "vaspout.h5": ("vaspout", "read_vaspout", rb"^\x89HDF\r\n\x1a\n"),
}
# formats whose labels may be under any name
KEYED = ("extxyz", "db", "traj", "json")
# of files with these endings the content decides whether a folder's search reads them
MAYBE = ("out", "pwo", "abo", "castep", "log", "txt", "h5")
# read_outcar.py and the like lie beside the runs
NOT_OUTCAR = ("py", "ipynb", "sh", "png", "pdf", "svg", "tar", "tgz", "zip")


def read_frames(path, index=None, proxies=None, progress=True, keys=None, limit=UNPACKED):
    """Read labelled frames from DFT results.

    Parameters
    ----------
    path : str or Path
        A VASP OUTCAR, vasprun.xml or vaspout.h5, an output of Quantum ESPRESSO (pw.x), CP2K,
        FHI-aims, GPAW, ABINIT or CASTEP, extended XYZ, ASE database or trajectory, or CHGNet-style
        JSON, by name or else by content, also compressed (.gz, .xz, .bz2); or a folder, which is
        searched for such files at any depth. Of the files of one VASP run the first that can be
        read counts: OUTCAR, vaspout.h5, vasprun.xml. Of other codes each file counts: keep no
        trajectory beside the output of the same run.
    index : int, slice or str, optional
        Which frames of each file, such as ``-1``, ``slice(0, 10)`` or ``"::5"``; all by default.
    proxies : dict, optional
        What proxy elements in the file stand for, such as ``{"Ga": ("Fe", 3)}``, see
        `mlipkit.frames.labels.decode_proxies`. Nothing is decoded unless it is given.
    progress : bool
        Show a progress bar over the files of a folder.
    keys : dict, optional
        For extended XYZ, ASE databases and trajectories: under which name the file has a label,
        such as ``{"energy": "REF_energy", "forces": "REF_forces", "virials": "REF_virials"}``, see
        `mlipkit.frames.readers.keys.LabelKeys`. Without it, labels that are not under their own
        names are looked for under usual ones (REF_energy, forces_dft, virial), with a warning that
        says what was taken.

    limit : float or None
        Bytes that a compressed file may unpack to; None: any number, and anything else that a file
        of its size does not hold by right.

    Returns
    -------
    list of ase.Atoms
        What a file has of ``energy`` and ``free_energy`` (eV; energy is that of sigma → 0, but for
        Quantum ESPRESSO, CP2K and ABINIT, which print free energies),
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
        For each file of a folder that cannot be read, for incomplete runs, for labels taken from
        names that were guessed, and for runs with different U.
    """
    path, index = arguments.file_path(path, "read_frames: path"), _as_index(index)
    LabelKeys(keys, "read_frames")  # refuses what is no map of keys
    if not (limit is None or (isinstance(limit, (int, float)) and limit > 0)):
        raise InputError(f"read_frames: limit is a number of bytes, or None, not {limit!r}")
    with unpacked_limit(limit):
        if path.is_dir():
            frames = _read_folder(path, index, progress, keys)
        elif path.is_file():
            frames = _read_file(path, index, keys, progress)
        else:
            raise InputError(f"{path}: no such file")
    if mixed := different_u(frames):
        warnings.warn(f"{path}: {mixed}", stacklevel=2)
    return frames if proxies is None else [decode_proxies(atoms, proxies) for atoms in frames]


def _read_folder(folder, index, progress, keys):
    from tqdm.auto import tqdm

    files = sorted(
        Path(root, name)
        for root, _, names in os.walk(folder)
        for name in names
        if not name.startswith(".") and _format_by_name(name, maybe=True)
    )
    files = [file for file in files if file.is_file()]  # no pipes, which wait for a writer
    kinds = {file: _format_by_name(file.name) or _output(file) for file in files}
    kinds = {file: kind for file, kind in kinds.items() if kind}
    if not kinds:
        raise InputError(f"{folder}: holds no file that is known by its name ({KNOWN})")
    frames, read, failed = [], set(), []
    # the richest of each run first
    files = sorted(kinds, key=lambda file: (_LATE.get(kinds[file], 0), file))
    for file in tqdm(files, unit="file", disable=not progress):
        if _is_read(file, kinds, read):
            continue
        try:
            found = _read_file(file, index, keys if kinds[file] in KEYED else None)
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


# what holds less of a run than other files of it comes after them
_LATE = {"vaspout.h5": 1, "vasprun.xml": 2, "extxyz": 3}


def _is_read(file, kinds, read):
    """Whether another file of the same run has been read."""
    from mlipkit.frames.readers.vasp import sibling_outcar

    if kinds[file] == "vasprun.xml":
        return sibling_outcar(file) in read or file.with_name("vaspout.h5") in read
    if kinds[file] == "vaspout.h5":
        return file.with_name("OUTCAR") in read
    return re.search(r"-pos-\d+\.xyz$", file.name) is not None and any(
        kinds[other] == "CP2K" for other in read if other.parent == file.parent
    )


def _read_file(path, index, keys=None, progress=False):
    from tqdm.auto import tqdm

    frames, labels = [], LabelKeys(keys, str(path))
    try:
        kind = _format_by_name(path.name) or _format_by_content(path)
        if kind is None:
            raise InputError(f"{path}: cannot tell what this file is; known are {KNOWN}")
        if keys is not None and kind not in KEYED:
            raise InputError(
                f"{path}: keys= is for extended XYZ, ASE databases and trajectories; an output of "
                f"a code ({kind}) has its labels under names of its own"
            )
        found = _chosen(enumerate(_reader(kind, labels)(path)), index)
        bar = {"desc": path.name, "unit": " frames", "delay": 3, "disable": not progress}
        for i, atoms in tqdm(found, **bar):
            check_count(len(frames), path)
            frames.append(checked_frame(atoms, str(path), i))
        labels.finish()
    except InputError as reason:
        if plain(path) in str(reason):
            raise
        raise InputError(f"{path}: {reason}") from None
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


def _reader(kind, labels):
    if kind in ("OUTCAR", "vasprun.xml"):
        from mlipkit.frames.readers import vasp

        return {"OUTCAR": vasp.read_outcar, "vasprun.xml": vasp.read_vasprun}[kind]
    if kind == "extxyz":
        return lambda path: _iter_extxyz(path, labels)
    if kind in OUTPUTS:
        module, function, _ = OUTPUTS[kind]
        return getattr(import_module(f"mlipkit.frames.readers.{module}"), function)
    from mlipkit.frames.readers import databases

    readers = {"db": databases.iter_db, "traj": databases.iter_traj, "json": databases.iter_json}
    return lambda path: map(labels.of_atoms, readers[kind](path))


def _iter_extxyz(path, labels):
    from mlipkit.frames.readers.extxyz import iter_records, to_atoms

    with open_text(path) as lines:
        yield from map(to_atoms, map(labels.of_frame, iter_records(lines, str(path))))


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


def _format_by_name(name, maybe=False):
    """What a name says that a file is; with `maybe`, also that its content may."""
    name = re.sub(r"\.(gz|xz|bz2)$", "", name.lower())
    ending = name.rpartition(".")[2]
    if ending in ("extxyz", "xyz", "db", "traj", "json"):
        return {"xyz": "extxyz"}.get(ending, ending)
    if "vasprun" in name and ".xml" in name:
        return "vasprun.xml"
    if "outcar" in name and ending not in NOT_OUTCAR:
        return "OUTCAR"
    return "maybe" if maybe and ending in MAYBE else None


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
    return next((kind for kind, (*_, sign) in OUTPUTS.items() if re.search(sign, head)), None)


def _output(path):
    """Which code's output a file is by its content, or None."""
    try:
        kind = _format_by_content(path)
    except Exception:  # a damaged archive, no permission: nothing that is known to be ours
        return None
    return kind if kind in OUTPUTS else None
