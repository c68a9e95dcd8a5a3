"""Labelled frames: an `ase.Atoms` with a `SinglePointCalculator`; reading, writing, and a table of them."""
import io
from pathlib import Path

import numpy as np

from mlipkit.files import InputError, write_atomically


def read_frames(path):
    """Read all labelled frames of an extended XYZ file.

    Parameters
    ----------
    path : str or Path
        File with energies in eV, forces in eV/Å, stress in eV/Å^3 and magmoms in µB.

    Returns
    -------
    list of ase.Atoms
        Each with a ``SinglePointCalculator`` that holds the labels found in the file.

    Raises
    ------
    InputError
        Naming file and frame, when the file is missing, cut off or of another format.
    """
    import ase.io
    path, frames = Path(path), []
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        for atoms in ase.io.iread(path, index=":", format="extxyz"):
            if not np.isfinite(atoms.positions).all():
                raise InputError(f"{path}: frame {len(frames)}: a position is not a finite number")
            frames.append(atoms)
    except InputError:
        raise
    except Exception as reason:     # ASE's parser raises many kinds; none of them names the frame
        raise InputError(f"{path}: frame {len(frames)} cannot be read as extended XYZ ({reason}); "
                         "is the file cut off, or of another format?") from reason
    if not frames:
        raise InputError(f"{path}: holds no frame")
    return frames


def write_frames(path, frames):
    """Write frames with their labels as extended XYZ; an interrupt leaves the old file or the new one."""
    import ase.io
    text = io.StringIO()
    ase.io.write(text, frames, format="extxyz")
    write_atomically(path, text.getvalue())


def label(atoms, name):
    """A label of a frame ('energy', 'forces', 'stress', 'magmoms'), or None when the frame has none.

    Never calculates: only what is stored counts as a label.
    """
    return getattr(atoms.calc, "results", {}).get(name)


def required_label(atoms, name, purpose):
    """Like `label`, but a missing or non-finite one raises an InputError that says what needed it."""
    value = label(atoms, name)
    what = atoms.info.get("job", atoms.get_chemical_formula())
    if value is None:
        raise InputError(f"{what}: the frame has no {name}, which {purpose} needs; "
                         "a geometry file such as POSCAR or CIF has none: read a DFT result (OUTCAR, extxyz, ASE db) instead")
    if not np.isfinite(value).all():
        raise InputError(f"{what}: {name} of the frame is not finite (NaN or infinite), so {purpose} is not possible")
    return value


def well_converged(frames):
    """The frames whose SCF was not stopped early (``info["density"]`` at most 5e-4; frames that do not say are kept).

    While forces are large the campaign converges the density to 1e-3 only; such frames are to be seen, not learned from.
    """
    return [a for a in frames if a.info.get("density", 0) <= 5e-4]


def frame_table(frames):
    """One row per frame.

    Parameters
    ----------
    frames : list of ase.Atoms

    Returns
    -------
    pandas.DataFrame
        ``formula``, ``n_atoms``, ``energy`` (eV per cell), ``max_force`` (eV/Å), then what ``atoms.info`` holds
        (``x``, ``ordering``, ``kind``, ``step``, ``split``, ...). Missing labels are NaN.
    """
    import pandas as pd
    rows = []
    for atoms in frames:
        energy, forces = label(atoms, "energy"), label(atoms, "forces")
        rows.append({"formula": atoms.get_chemical_formula(), "n_atoms": len(atoms),
                     "energy": np.nan if energy is None else float(energy),
                     "max_force": np.nan if forces is None else float(np.linalg.norm(forces, axis=1).max()),
                     **atoms.info})
    return pd.DataFrame(rows)


def end_points(frames, fmax=0.05):
    """The end of the relaxation of every charge ordering (``info["ordering"]``), in the order of their names.

    Parameters
    ----------
    frames : list of ase.Atoms
        With energies and forces.
    fmax : float
        A frame counts as relaxed when no force is larger, eV/Å, or when its ``info["kind"]`` says ``final``.
        Orderings without such a frame are left out.

    Returns
    -------
    list of ase.Atoms
        Of several relaxed frames of an ordering the lowest, those marked ``final`` (converged tighter) first.
    """
    best = {}
    for i, atoms in enumerate(frames):
        if "ordering" not in atoms.info:
            raise InputError(f"end_points: frame {i} ({atoms.get_chemical_formula()}) has no info['ordering'], "
                             "the name of its charge ordering")
        energy, forces = (required_label(atoms, name, "end_points") for name in ("energy", "forces"))
        final = atoms.info.get("kind") == "final"
        rank, name = (not final, energy), atoms.info["ordering"]
        if (final or np.linalg.norm(forces, axis=1).max() <= fmax) and (name not in best or rank < best[name][0]):
            best[name] = rank, atoms
    return [best[name][1] for name in sorted(best)]
