"""What is taken as a frame: `ase.Atoms`, and what pymatgen calls a structure, an entry or a
trajectory; and frames back as pymatgen's structures.

pymatgen is imported only where something of it was given.
"""

from pathlib import Path

import numpy as np
from ase import Atoms

from mlipkit.arguments import shown
from mlipkit.files import InputError
from mlipkit.frames.labels import check_cell, checked_label, label

TAKEN = "ase.Atoms, or pymatgen's Structure, ComputedStructureEntry or Trajectory"
KILOBAR = -0.1 / 160.21766208  # eV/Å^3, and VASP counts pressure where ASE counts stress
VASP = "e_0_energy"  # of the ionic steps of a vasprun.xml, whose stress is in kbar
ENERGIES = VASP, "energy"
SITES = {"forces": "forces", "magmoms": "magmom", "charges": "final_charge"}  # label: site property


def as_frame(thing, where):
    """One frame.

    Parameters
    ----------
    thing : ase.Atoms or pymatgen object
        Of pymatgen a Structure, Molecule or ComputedStructureEntry; see `as_frames`.
    where : str
        The function that asks, for the message.

    Returns
    -------
    ase.Atoms
        The same object where it was one.

    Raises
    ------
    InputError
        For anything else.
    """
    found = _frames_of(thing, where)
    if found is None or len(found) != 1:
        raise InputError(
            f"{where}: takes one frame ({TAKEN} of one frame), not {shown(thing)}; give one at a "
            "time"
        )
    return found[0]


def as_frames(things, where, single=True):
    """Frames as a list.

    Parameters
    ----------
    things : one frame, or an iterable of them
        `ase.Atoms` are handed on as they are. pymatgen's objects are converted by pymatgen's own
        adaptor: decoration by oxidation states becomes ``arrays["oxi_states"]``, and labels are the
        site properties ``magmom`` (µB) and ``forces`` (eV/Å), ``energy`` (eV per cell) and
        ``stress`` (eV/Å^3) in the properties of the structure or of the frame of a trajectory; the
        energy of an entry is `ComputedStructureEntry.energy`, its correction included, as in
        pymatgen's phase diagrams, with the correction in ``info["correction"]`` (eV).
    where : str
        How a message begins: the function that asks, and its verb.
    single : bool
        Whether one frame alone will do as well.

    Returns
    -------
    list of ase.Atoms

    Raises
    ------
    InputError
        For what is no frame.
    """
    frames = list(each_frame(things, where))
    if not single and len(frames) == 1 and _frames_of(things, where) is not None:
        raise InputError(f"{where} a list of frames; write [atoms] for a single one")
    return frames


def each_frame(things, where):
    """As `as_frames`, one after the other: of a huge file one frame is in memory at a time."""
    whole = _frames_of(things, where)
    single = isinstance(things, (str, bytes, Path, dict, type)) or getattr(things, "ndim", 1) == 0
    if whole is None and (single or not hasattr(things, "__iter__")):
        hint = "; mk.read_frames(path) reads files" if isinstance(things, (str, Path)) else ""
        raise InputError(
            f"{where} frames ({TAKEN}), one or more in a list, not {shown(things)}{hint}"
        )
    for i, thing in enumerate(things if whole is None else whole):
        found = _frames_of(thing, where)
        if found is None:
            raise InputError(
                f"{where} frames ({TAKEN}), one or more in a list; number {i} is {shown(thing)}"
            )
        yield from found


def _frames_of(thing, where):
    """The frames of one object; None when it is none that holds frames."""
    if isinstance(thing, Atoms):
        check_cell(thing, where)
        return [thing]
    if not any(kind.__module__.split(".")[0] == "pymatgen" for kind in type(thing).__mro__):
        return None
    from pymatgen.core import SiteCollection
    from pymatgen.core.trajectory import Trajectory
    from pymatgen.entries.computed_entries import ComputedStructureEntry

    if isinstance(thing, Trajectory):
        return [_converted(one, where, {"step": i}) for i, one in enumerate(thing)]
    if isinstance(thing, ComputedStructureEntry):
        if not np.isclose(thing.composition.num_atoms, len(thing.structure)):
            raise InputError(
                f"{where}: the energy of {thing.entry_id or thing.reduced_formula} is that of "
                f"{thing.composition.num_atoms:g} atoms and its structure has "
                f"{len(thing.structure)}: give the entry as it was before normalize()"
            )
        about = {"entry_id": thing.entry_id, "correction": float(thing.correction)}
        about = {key: value for key, value in about.items() if value}
        return [_converted(thing.structure, where, about, thing.energy)]
    return [_converted(thing, where, {})] if isinstance(thing, SiteCollection) else None


def _converted(structure, where, about, energy=None):
    from ase.calculators.calculator import all_properties
    from ase.calculators.singlepoint import SinglePointCalculator
    from pymatgen.io.ase import AseAtomsAdaptor

    what = f"{where}: {structure.formula}"
    try:
        atoms = AseAtomsAdaptor.get_atoms(structure, msonable=False)
    except (KeyError, TypeError, ValueError) as reason:
        hint = "" if structure.is_ordered else "; order it first: one species on every site"
        raise InputError(f"{what}: {reason}{hint}") from None
    found = {k: v for k, v in getattr(atoms.calc, "results", {}).items() if k in all_properties}
    found |= _labels(atoms, structure)
    if energy is not None:
        found["energy"] = energy
    real = np.ones(len(atoms), bool)
    results = {k: checked_label(k, v, real, what) for k, v in found.items() if v is not None}
    _whole_states(atoms)
    atoms.info = about | atoms.info
    atoms.calc = SinglePointCalculator(atoms, **results) if results else None
    return atoms


def _labels(atoms, structure):
    """Labels that are kept as properties of the sites or of the structure; they are taken off."""
    found = {"forces": atoms.info.pop("forces", atoms.arrays.pop("forces", None))}
    atoms.arrays.pop("initial_magmoms", None)  # where the adaptor puts magmom
    if "final_magmom" not in structure.site_properties:
        found["magmoms"] = _moments(structure)
    name = next((name for name in ENERGIES if name in atoms.info), None)
    if name:
        found |= {"energy": atoms.info.pop(name), "stress": atoms.info.pop("stress", None)}
        if name == VASP and found["stress"] is not None:
            found["stress"] = KILOBAR * np.asarray(found["stress"], float)
    return {name: value for name, value in found.items() if value is not None}


def _moments(structure):
    """Site property ``magmom``, or else the spin of the species; lengths where they are vectors."""
    given = structure.site_properties.get("magmom")
    if given is None:
        given = [getattr(site.specie, "spin", None) for site in structure]
    if all(m is None for m in given):
        return None
    given = [np.asarray(getattr(m, "moment", np.nan if m is None else m), float) for m in given]
    return [float(np.linalg.norm(m) if m.ndim else m) for m in given]


def _whole_states(atoms):
    """``oxi_states`` as whole numbers, 0 where the species has none."""
    if "oxi_states" not in atoms.arrays:
        return
    states = np.array([q or 0 for q in atoms.arrays.pop("oxi_states")], float)
    whole = np.array_equal(states, np.rint(states))
    atoms.set_array("oxi_states", states.astype(int) if whole else states)


def to_pymatgen(atoms):
    """A frame as pymatgen's Structure, decorated; the inverse of what functions do with one.

    Parameters
    ----------
    atoms : ase.Atoms
        Periodic, or else it becomes a Molecule.

    Returns
    -------
    pymatgen.core.Structure or pymatgen.core.Molecule
        By pymatgen's own adaptor. Species carry the oxidation states of ``arrays["oxi_states"]``
        (``Fe2+``; none where a state is not known), labels are the site properties ``magmom`` (µB)
        and ``forces`` (eV/Å) and the properties ``energy`` (eV per cell) and ``stress`` (eV/Å^3),
        which `as_dict` keeps; ``info`` and other arrays come along.
    """
    from pymatgen.core import Molecule, Structure
    from pymatgen.io.ase import AseAtomsAdaptor

    bare = as_frame(atoms, "to_pymatgen").copy()
    states = bare.arrays.pop("oxi_states", None)
    kind = Structure if bare.pbc.any() else Molecule
    structure = AseAtomsAdaptor.get_structure(bare, cls=kind)
    if states is not None:
        states = [float(q) or None for q in states]
        structure.add_oxidation_state_by_site([int(q) if q and q == int(q) else q for q in states])
    for name, key in SITES.items():
        if (value := label(atoms, name)) is not None:
            structure.add_site_property(key, np.asarray(value, float).tolist())
    for name in ("energy", "stress"):
        if (value := label(atoms, name)) is not None:
            structure.properties[name] = np.asarray(value, float).tolist()
    return structure
