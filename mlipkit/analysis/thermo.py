"""Formation energies, the convex hull and voltages.

All along the line between two end members of one compound, the framework with the least and with
the most mobile ions; x is mobile ions per formula unit.
"""

import warnings

import numpy as np

from mlipkit import arguments
from mlipkit.charges.compounds import compound as compound_with_states
from mlipkit.charges.compounds import compound_of, listed
from mlipkit.files import InputError
from mlipkit.frames.labels import different_charge, different_u, required_label


def formation_energies(frames, energies=None, compound=None):
    """Formation energies along the line between the end members.

    E_f = E(x) - y E(x2) - (1 - y) E(x1) with y = (x - x1) / (x2 - x1), per formula unit. The
    reference states are the lowest end members among the frames, taken with the same energies, so
    that a model is measured against itself.

    Parameters
    ----------
    frames : list of ase.Atoms
        Of one compound, its end members among them.
    energies : array_like, shape (n_frames,), optional
        eV per cell; by default the labels.
    compound : Compound, optional
        By default found from the frames; its ``ends`` name the end members, x1 and x2, otherwise
        they are the ends of the data.

    Returns
    -------
    numpy.ndarray, shape (n_frames,)
        eV per formula unit.

    Raises
    ------
    InputError
        When nothing moves, an end member or an energy is missing, an energy is not finite, a frame
        is off the line between the end members, or the labels were computed with different U
        (``info["hubbard_u"]``).
    """
    frames = listed(frames, "formation_energies takes")
    compound = compound_of(frames, compound)
    x, e = along_the_line(frames, energies, compound)
    return _formation(x, e, x, e, _ends(x, compound))


def hull(frames, energies=None, compound=None):
    """The convex hull between the end members, by pymatgen's CompoundPhaseDiagram.

    Parameters
    ----------
    frames, energies, compound
        As for `formation_energies`.

    Returns
    -------
    pandas.DataFrame
        One row per frame, in order: ``x``, ``ordering``, ``formation_energy`` and
        ``energy_above_hull`` (eV per formula unit), ``on_hull``. ``attrs`` name the compound for
        the axes of `plots.hull`.

    Raises
    ------
    InputError
        As `formation_energies`.
    """
    import pandas as pd
    from pymatgen.analysis.phase_diagram import CompoundPhaseDiagram, PDEntry
    from pymatgen.core import Composition

    frames = listed(frames, "hull takes")
    compound = compound_of(frames, compound)
    x, e = along_the_line(frames, energies, compound)
    ends = _ends(x, compound)
    formation = _formation(x, e, x, e, ends)
    # one entry for each composition, the lowest: pymatgen takes its time with every one
    lowest, rounded = {}, x.round(9).tolist()
    for i, value in enumerate(rounded):
        if value not in lowest or e[i] < e[lowest[value]]:
            lowest[value] = i
    unit = {value: _of_a_unit(compound, value) for value in lowest}
    entries = [
        PDEntry(Composition(unit[value]), e[i], attribute=value) for value, i in lowest.items()
    ]
    at = [min(lowest, key=lambda value: abs(value - end)) for end in ends]
    terminal = [Composition(unit[value]).reduced_composition for value in at]
    diagram = CompoundPhaseDiagram(entries, terminal, normalize_terminal_compositions=True)
    above = {}  # eV per formula unit, of the lowest of each composition
    for entry in diagram.entries:
        value = entry.original_entry.attribute
        above[value] = diagram.get_e_above_hull(entry) * sum(unit[value].values())
    over = np.array([formation[i] - formation[lowest[value]] for i, value in enumerate(rounded)])
    distance = np.array([above[value] for value in rounded]) + over
    table = pd.DataFrame(
        {
            "x": x,
            "ordering": [a.info.get("ordering", "") for a in frames],
            "formation_energy": formation,
            "energy_above_hull": distance,
            "on_hull": distance < 1e-8,
        }
    )
    table.attrs |= {"compound": compound.html, "mobile": compound.mobile}
    return table


def energy_above_hull(
    frames, energies=None, reference=None, reference_energies=None, compound=None
):
    """Distance from the convex hull.

    Parameters
    ----------
    frames, energies, compound
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
    if reference is None and reference_energies is not None:
        raise InputError(
            "energy_above_hull: reference_energies are those of reference=, the frames that make "
            "the hull; give both"
        )
    if reference is None:
        return hull(frames, energies, compound)["energy_above_hull"].to_numpy()
    frames = listed(frames, "energy_above_hull takes")
    reference = listed(reference, "energy_above_hull: reference= takes")
    together = [*frames, *reference]
    mixed = different_u(together) if energies is reference_energies is None else None
    if mixed := mixed or different_charge(together):
        raise InputError(f"energy_above_hull: of frames and reference together, {mixed}")
    compound = compound_of(reference, compound)
    table = hull(reference, reference_energies, compound)
    x, e = along_the_line(frames, energies, compound)
    reference_x, reference_e = along_the_line(reference, reference_energies, compound)
    vertices, ends = _vertices(table), _ends(reference_x, compound)
    _check_inside(x, ends)
    formation = _formation(x, e, reference_x, reference_e, ends)
    return formation - np.interp(x, vertices["x"], vertices["formation_energy"])


def voltage_profile(frames, energies=None, compound=None):
    """Average voltages of the steps between the vertices of the convex hull, against the metal of
    the mobile ion.

    V = -[E(x2) - E(x1) - (x2 - x1) E(metal)] / z (x2 - x1), energies per formula unit, z the charge
    of the ion: Aydinol, Kohan, Ceder, Cho and Joannopoulos, Phys. Rev. B 56, 1354 (1997). Volume
    and vibrations are left out (0 K).

    Parameters
    ----------
    frames, energies, compound
        As for `formation_energies`; ``compound.metal`` is the energy of the metal, eV per atom, on
        the same footing as the other energies. The one of bcc Na by the method of the embedded set
        is known and also serves models trained on that set; for the labels of frames that
        `read_frames` read it is taken with a warning.

    Returns
    -------
    pandas.DataFrame
        One row per step, from the first end member on: ``x1``, ``x2``, ``voltage`` (V),
        ``ordering1``, ``ordering2`` (names of the two vertices), and ``mean_voltage`` (V, from end
        to end, the same in all rows).

    Raises
    ------
    InputError
        As `formation_energies`, and when the energy of the metal is not known.
    """
    import pandas as pd

    frames, given = listed(frames, "voltage_profile takes"), getattr(compound, "metal", None)
    compound = compound_of(frames, compound)
    table = hull(frames, energies, compound)
    metal, mobile, z = compound.metal, compound.mobile, compound.charge
    if metal is None or not np.isfinite(metal):
        redox = compound_with_states(frames).redox
        raise InputError(
            f"voltage_profile needs the energy of {mobile} metal, eV per atom, by the method of "
            f"the frames: compound=mk.Compound({mobile!r}, {redox}, metal=...)"
        )
    if given is None and energies is None and any("source" in a.info for a in frames):
        warnings.warn(
            f"voltage_profile: measured against bcc {mobile} by the method of the embedded set, "
            f"{metal:.4f} eV per atom. If these frames are of another code or functional, all "
            "voltages are shifted by the difference: give the energy of the metal by their method, "
            f"mk.Compound({mobile!r}, ..., metal=...)",
            stacklevel=2,
        )
    table["e"] = along_the_line(frames, energies, compound)[1]
    v = _vertices(table)
    x, e, name = (v[c].to_numpy() for c in ("x", "e", "ordering"))
    profile = pd.DataFrame(
        {
            "x1": x[:-1],
            "x2": x[1:],
            "voltage": (metal - np.diff(e) / np.diff(x)) / z,
            "ordering1": name[:-1],
            "ordering2": name[1:],
            "mean_voltage": (metal - (e[-1] - e[0]) / (x[-1] - x[0])) / z,
        }
    )
    profile.attrs |= {"compound": compound.html, "mobile": mobile}
    return profile


def _of_a_unit(compound, x):
    """{element: number} in a formula unit."""
    return compound.counts | ({compound.mobile: x} if x else {})


def along_the_line(frames, energies, compound):
    """x and energy per formula unit (eV) of every frame; all must be of the compound."""
    if compound.mobile is None:
        raise InputError(
            f"no ion moves in {compound.formula}, so there is no x: formation energies, hull and "
            "voltage need frames with different numbers of one ion; energies of charge orderings "
            "are in mk.orderings_table(frames)"
        )
    return per_unit(frames, energies, compound)


def per_unit(frames, energies, compound):
    """x (0 where nothing moves) and energy per formula unit (eV) of every frame."""
    if mixed := different_charge(frames):
        raise InputError(mixed)
    if energies is None:
        if mixed := different_u(frames):
            raise InputError(mixed)
        energies = [required_label(a, "energy", "an energy per formula unit") for a in frames]
    e = arguments.values(energies, "energies (eV per cell, one for each frame)", finite=False)
    if len(e) != len(frames):
        raise InputError(f"{len(frames)} frames but {len(e)} energies")
    if not np.isfinite(e).all():
        i = int(np.argmin(np.isfinite(e)))
        raise InputError(
            f"the energy of frame {i} ({frames[i].get_chemical_formula()}) is not a finite number"
        )
    n = []
    for i, atoms in enumerate(frames):
        try:
            n.append(compound.units(atoms))
        except InputError as reason:
            raise InputError(
                f"frame {i} ({atoms.get_chemical_formula()}) is not on the line between the end "
                f"members: {reason}"
            ) from None
    n_ions = np.array([compound.n_mobile(a) for a in frames])
    return n_ions / n, e / n


def _ends(x, compound):
    """x of the two end members: as named, or the ends of the data."""
    ends = (float(np.min(x)), float(np.max(x))) if compound.ends is None else compound.ends
    if ends[0] == ends[1] or not all(np.isclose(x, end).any() for end in ends):
        missing = [end for end in ends if not np.isclose(x, end).any()]
        needs = f"x = {missing[0]:g}" if missing else "two different x"
        raise InputError(
            f"an end member is missing: formation energies of {compound.formula} need frames at "
            f"{needs}; got x = {_told(x)}"
        )
    _check_inside(x, ends)
    return ends


def _check_inside(x, ends):
    if min(x) < ends[0] - 1e-9 or max(x) > ends[1] + 1e-9:
        raise InputError(
            f"frames at x = {_told(x)} lie outside the end members, x = {ends[0]:g} and "
            f"{ends[1]:g} (Compound.ends)"
        )


def _told(x):
    return ", ".join(f"{v:g}" for v in sorted(set(np.round(x, 6))))


def _formation(x, e, reference_x, reference_e, ends):
    low, high = (reference_e[np.isclose(reference_x, end)].min() for end in ends)
    y = (x - ends[0]) / (ends[1] - ends[0])
    return e - y * high - (1 - y) * low


def _vertices(table):
    return table[table["on_hull"]].drop_duplicates("x").sort_values("x")
