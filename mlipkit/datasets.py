"""The named data sets that come with the package."""
from mlipkit.files import InputError, embedded
from mlipkit.frames import read_frames


def load_dft(name="olivine"):
    """The embedded DFT set: olivine NaxFePO4, PBE+U, 28 atoms, every Na arrangement and charge ordering.

    Parameters
    ----------
    name : str
        ``"olivine"`` is the only set so far.

    Returns
    -------
    list of ase.Atoms
        Labels (energy eV, forces eV/Å, stress eV/Å^3, magmoms µB) in a ``SinglePointCalculator``,
        ``arrays["oxi_states"]`` from the moments found, and in ``info``: ``x`` (Na per formula unit),
        ``na_sites`` and ``fe3_sites`` (tuples, of the four 4a and 4c sites of the cell), ``ordering`` (name of the
        symmetry class), ``degeneracy``, ``job``, ``kind`` (relax, final, rattled_i, strained_i), ``step``, ``density``
        (criterion of the SCF), ``split``.

    Raises
    ------
    InputError
        When the file is missing or damaged.

    Notes
    -----
    Method, settings, noise and limits: ``data/dft/README.md``.
    """
    if name != "olivine":
        raise InputError(f"load_dft: there is no data set {name!r}; there is 'olivine'")
    frames = read_frames(embedded("dft/olivine.extxyz"))
    for atoms in frames:
        info = atoms.info
        _, na, fe = info.pop("tag").split("_")
        atoms.info = {"x": float(info["x"]), "na_sites": _sites(na), "fe3_sites": _sites(fe), "ordering": str(info["ordering"]),
                      "degeneracy": int(info["degeneracy"]), "job": str(info["job"]), "kind": str(info["kind"]),
                      "step": int(info["step"]), "density": float(info["density"]), "split": str(info["split"])}
    return frames


def load_predictions():
    """What the shipped models predict for every frame of the embedded set.

    Returns
    -------
    pandas.DataFrame
        Columns ``model`` (pretrained, blind, aware), ``job``, ``step``, ``energy`` (eV per cell), ``force_mae`` (eV/Å)
        and ``magmom_0`` to ``magmom_3`` (µB, the four Fe in their order in the frame).
    """
    import pandas as pd
    return pd.read_csv(embedded("models/predictions.csv"))


def _sites(text):
    return tuple(int(c) for c in text[2:] if c != "-")
