"""Formation energies and the convex hull."""
import numpy as np

from mlipkit.files import InputError
from mlipkit.frames import required_label


def formation_energies(frames, energies=None):
    """Formation energies along the line between the end members.

    E_f = E(x) - x E(NaFePO4) - (1 - x) E(FePO4), per formula unit (one Fe). The reference states are the lowest
    end members among the frames, taken with the same energies, so that a model is measured against itself.

    Parameters
    ----------
    frames : list of ase.Atoms
        With ``info["x"]``, Na per formula unit; frames at x = 0 and x = 1 among them.
    energies : array_like, shape (n_frames,), optional
        eV per cell; by default the labels.

    Returns
    -------
    numpy.ndarray, shape (n_frames,)
        eV per formula unit.

    Raises
    ------
    InputError
        When an end member or a label is missing.
    """
    x, e = _per_formula_unit(frames, energies)
    if not (np.isclose(x, 0).any() and np.isclose(x, 1).any()):
        raise InputError(f"formation_energies needs frames at x = 0 and x = 1; got x = {', '.join(f'{v:g}' for v in sorted(set(x)))}")
    return e - x * e[np.isclose(x, 1)].min() - (1 - x) * e[np.isclose(x, 0)].min()


def hull(frames, energies=None):
    """The convex hull between FePO4 and NaFePO4, by pymatgen's CompoundPhaseDiagram.

    Parameters
    ----------
    frames, energies
        As for `formation_energies`.

    Returns
    -------
    pandas.DataFrame
        One row per frame, in order: ``x``, ``ordering``, ``formation_energy`` and ``energy_above_hull`` (eV per formula
        unit), ``on_hull``.
    """
    import pandas as pd
    from pymatgen.analysis.phase_diagram import CompoundPhaseDiagram, PDEntry
    from pymatgen.core import Composition
    formation = formation_energies(frames, energies)
    x, e = _per_formula_unit(frames, energies)
    entries = [PDEntry(Composition(a.get_chemical_formula()), value * (a.symbols == "Fe").sum(), attribute=i)
               for i, (a, value) in enumerate(zip(frames, e))]
    ends = [Composition(frames[int(np.flatnonzero(np.isclose(x, v))[0])].get_chemical_formula()).reduced_composition for v in (0, 1)]
    diagram = CompoundPhaseDiagram(entries, ends, normalize_terminal_compositions=True)
    above = {entry.original_entry.attribute: diagram.get_e_above_hull(entry) for entry in diagram.entries}      # eV per atom
    distance = np.array([above[i] * len(a) / (a.symbols == "Fe").sum() for i, a in enumerate(frames)])
    return pd.DataFrame({"x": x, "ordering": [a.info.get("ordering", "") for a in frames], "formation_energy": formation,
                         "energy_above_hull": distance, "on_hull": distance < 1e-8})


def _per_formula_unit(frames, energies):
    if energies is None:
        energies = [required_label(a, "energy", "a formation energy") for a in frames]
    if len(energies) != len(frames):
        raise InputError(f"{len(frames)} frames but {len(energies)} energies")
    n_fe = np.array([(a.symbols == "Fe").sum() for a in frames])
    if not len(frames) or (n_fe == 0).any():
        raise InputError("a formation energy per formula unit needs frames with Fe in each")
    x = np.array([a.info["x"] if "x" in a.info else (a.symbols == "Na").sum() / n for a, n in zip(frames, n_fe)], float)
    return x, np.asarray(energies, float) / n_fe
