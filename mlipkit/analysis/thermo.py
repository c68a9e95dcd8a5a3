"""Formation energies, the convex hull and voltages.

All along the line between two end members, the host without the mobile ion (x = 0) and with one for
each redox-active metal atom (x = 1). A formula unit holds one redox-active atom.
"""

from collections import Counter

import numpy as np

from mlipkit.files import InputError
from mlipkit.frames.labels import required_label

# eV per atom, bcc, by the method of the embedded set: the lowest energy at 16x16x16 k-points in
# data/dft/frames/na_bcc.extxyz
METALS = {"Na": -1.3227059751475096}


def formation_energies(frames, energies=None, mobile="Na", redox="Fe"):
    """Formation energies along the line between the end members.

    E_f = E(x) - x E(NaFePO4) - (1 - x) E(FePO4), per formula unit (one Fe). The reference states
    are the lowest end members among the frames, taken with the same energies, so that a model is
    measured against itself.

    Parameters
    ----------
    frames : list of ase.Atoms
        Frames at x = 0 and x = 1 among them.
    energies : array_like, shape (n_frames,), optional
        eV per cell; by default the labels.
    mobile : str
        The mobile ion; x is its number per redox-active atom.
    redox : str or tuple of str
        The redox-active metal, or several whose numbers add up.

    Returns
    -------
    numpy.ndarray, shape (n_frames,)
        eV per formula unit.

    Raises
    ------
    InputError
        When an end member or an energy is missing, an energy is not finite, or a frame is off the
        line between the end members.
    """
    x, e = along_the_line(frames, energies, mobile, redox)
    return _formation(x, e, x, e)


def hull(frames, energies=None, mobile="Na", redox="Fe"):
    """The convex hull between the end members (FePO4 and NaFePO4), by pymatgen's
    CompoundPhaseDiagram.

    Parameters
    ----------
    frames, energies, mobile, redox
        As for `formation_energies`.

    Returns
    -------
    pandas.DataFrame
        One row per frame, in order: ``x``, ``ordering``, ``formation_energy`` and
        ``energy_above_hull`` (eV per formula unit), ``on_hull``.

    Raises
    ------
    InputError
        As `formation_energies`.
    """
    import pandas as pd
    from pymatgen.analysis.phase_diagram import CompoundPhaseDiagram, PDEntry
    from pymatgen.core import Composition

    x, e = along_the_line(frames, energies, mobile, redox)
    formation, n = _formation(x, e, x, e), formula_units(frames, redox)
    entries = [
        PDEntry(Composition(a.get_chemical_formula()), value * units, attribute=i)
        for i, (a, value, units) in enumerate(zip(frames, e, n))
    ]
    ends = [
        Composition(
            frames[int(np.flatnonzero(np.isclose(x, v))[0])].get_chemical_formula()
        ).reduced_composition
        for v in (0, 1)
    ]
    diagram = CompoundPhaseDiagram(entries, ends, normalize_terminal_compositions=True)
    # eV per atom
    above = {
        entry.original_entry.attribute: diagram.get_e_above_hull(entry) for entry in diagram.entries
    }
    distance = np.array([above[i] * len(a) / units for i, (a, units) in enumerate(zip(frames, n))])
    return pd.DataFrame(
        {
            "x": x,
            "ordering": [a.info.get("ordering", "") for a in frames],
            "formation_energy": formation,
            "energy_above_hull": distance,
            "on_hull": distance < 1e-8,
        }
    )


def energy_above_hull(
    frames, energies=None, reference=None, reference_energies=None, mobile="Na", redox="Fe"
):
    """Distance from the convex hull.

    Parameters
    ----------
    frames, energies, mobile, redox
        As for `formation_energies`; with `reference` no end members are needed among the frames.
    reference : list of ase.Atoms, optional
        The frames that make the hull, by default `frames` themselves.
    reference_energies : array_like, shape (n_reference,), optional
        Theirs, eV per cell, by default their labels. To measure a model against itself give its
        energies for both.

    Returns
    -------
    numpy.ndarray, shape (n_frames,)
        eV per formula unit; negative below the hull of the reference.

    Raises
    ------
    InputError
        As `formation_energies`, or when the frames are of another compound than the reference.
    """
    if reference is None:
        return hull(frames, energies, mobile, redox)["energy_above_hull"].to_numpy()
    table = hull(reference, reference_energies, mobile, redox)
    x, e = along_the_line(frames, energies, mobile, redox, like=reference[0])
    vertices = _vertices(table)
    return _formation(
        x, e, *along_the_line(reference, reference_energies, mobile, redox)
    ) - np.interp(x, vertices["x"], vertices["formation_energy"])


def voltage_profile(frames, energies=None, mobile="Na", redox="Fe", metal=None):
    """Average voltages of the steps between the vertices of the convex hull, against the metal of
    the mobile ion.

    V = -[E(x2) - E(x1) - (x2 - x1) E(metal)] / (x2 - x1), energies per formula unit, one electron
    for each ion: Aydinol, Kohan, Ceder, Cho and Joannopoulos, Phys. Rev. B 56, 1354 (1997). Volume
    and vibrations are left out (0 K).

    Parameters
    ----------
    frames, energies, mobile, redox
        As for `formation_energies`; the ion is singly charged (Li, Na, K).
    metal : float, optional
        Energy of the metal, eV per atom, on the same footing as the other energies. By default that
        of bcc Na by the method of the embedded set, -1.3227 eV, which also serves models trained on
        that set.

    Returns
    -------
    pandas.DataFrame
        One row per step, from x = 0 on: ``x1``, ``x2``, ``voltage`` (V), ``ordering1``,
        ``ordering2`` (names of the two vertices), and ``mean_voltage`` (V, from x = 0 to x = 1, the
        same in all rows).

    Raises
    ------
    InputError
        As `formation_energies`, and when the energy of the metal is not known.
    """
    import pandas as pd

    metal = METALS.get(mobile) if metal is None else metal
    if metal is None or not np.isfinite(metal):
        raise InputError(
            f"voltage_profile needs the energy of {mobile} metal: give metal=, eV per atom, by "
            "the method of the frames"
        )
    table = hull(frames, energies, mobile, redox)
    table["e"] = along_the_line(frames, energies, mobile, redox)[1]
    v = _vertices(table)
    x, e, name = (v[c].to_numpy() for c in ("x", "e", "ordering"))
    return pd.DataFrame(
        {
            "x1": x[:-1],
            "x2": x[1:],
            "voltage": metal - np.diff(e) / np.diff(x),
            "ordering1": name[:-1],
            "ordering2": name[1:],
            "mean_voltage": metal - (e[-1] - e[0]),
        }
    )


def along_the_line(frames, energies, mobile, redox, like=None):
    """x and energy per formula unit (eV) of every frame; all must be hosts of one composition, that
    of `like` if given.
    """
    if energies is None:
        energies = [required_label(a, "energy", "a formation energy") for a in frames]
    if len(energies) != len(frames):
        raise InputError(f"{len(frames)} frames but {len(energies)} energies")
    n, e = formula_units(frames, redox), np.asarray(energies, float)
    if not np.isfinite(e).all():
        i = int(np.argmin(np.isfinite(e)))
        raise InputError(
            f"the energy of frame {i} ({frames[i].get_chemical_formula()}) is not a finite number"
        )
    x = np.array([(a.symbols == mobile).sum() for a in frames]) / n
    like = frames[0] if like is None else like
    expected = _host(like, mobile, redox)
    for i, atoms in enumerate(frames):
        if x[i] > 1 + 1e-9 or _host(atoms, mobile, redox) != expected:
            raise InputError(
                f"frame {i} ({atoms.get_chemical_formula()}) is not on the line between the end "
                f"members: {mobile} may vary "
                f"from 0 to 1 per {_names(redox)}, and the rest must be that of "
                f"{like.get_chemical_formula()}"
            )
    return x, e / n


def _host(atoms, mobile, redox):
    """What a frame holds of every element but the mobile one, per formula unit."""
    n = formula_units([atoms], redox)[0]
    return {
        symbol: round(count / n, 6)
        for symbol, count in Counter(atoms.get_chemical_symbols()).items()
        if symbol != mobile
    }


def formula_units(frames, redox):
    n = np.array([np.isin(a.get_chemical_symbols(), redox).sum() for a in frames])
    if not len(n) or (n == 0).any():
        raise InputError(
            f"a formation energy per formula unit needs frames with {_names(redox)} in each"
        )
    return n


def _names(redox):
    return redox if isinstance(redox, str) else " + ".join(redox)


def _formation(x, e, reference_x, reference_e):
    empty, full = np.isclose(reference_x, 0), np.isclose(reference_x, 1)
    if not (empty.any() and full.any()):
        raise InputError(
            "an end member is missing: formation energies need frames at x = 0 and x = 1; got x = "
            f"{', '.join(f'{v:g}' for v in sorted(set(reference_x)))}"
        )
    return e - x * reference_e[full].min() - (1 - x) * reference_e[empty].min()


def _vertices(table):
    return table[table["on_hull"]].drop_duplicates("x").sort_values("x")
