"""Write onto frames which ordering each of them has, or list the orderings of frames in a table."""

import warnings
from dataclasses import dataclass, replace

import numpy as np
from ase import Atoms

from mlipkit.charges.compounds import (
    MOBILE,
    Compound,
    checked,
    compound_of,
    group_by_compound,
    listed,
)
from mlipkit.charges.given import known_states
from mlipkit.charges.oxidation import infer_oxidation_states
from mlipkit.charges.references import tell_redox
from mlipkit.charges.species import imbalance
from mlipkit.files import InputError
from mlipkit.frames.labels import different_charge, different_u, label
from mlipkit.frames.taken import as_frames
from mlipkit.orderings.host_search import find_host
from mlipkit.orderings.hosts import best_fit, reduced, without_vacancies
from mlipkit.orderings.names import checked_lengths, host_frame, located

STRAIN = 0.04  # beyond this a frame may be of another crystal
ALIKE = 1.5  # Å that an atom of one crystal may be away from its place in another frame of it
NAMED = "ordering", "x", "degeneracy", "compound"


@dataclass(frozen=True, eq=False)
class Crystal:
    """Frames of one compound on one host."""

    compound: Compound
    host: Atoms
    members: list
    title: str


def name_orderings(
    frames,
    host=None,
    compound=None,
    validation=0.15,
    test=0.15,
    seed=0,
    max_distance=1.0,
    progress=True,
):
    """Write onto every frame which ordering of which compound it is, and to which split it belongs.

    Everything that compares orderings builds on it: errors by ordering, the order of energies,
    entropy. Frames of several compounds are grouped by their framework, and those of one framework
    by their crystal; an ordering is named within its own, and where there are several the name
    begins with the compound (``LixMnPO4:x050_li01_mn02``). Names are those of this list: to name a
    part of it anew may give its frames other ones.

    Parameters
    ----------
    frames : list of ase.Atoms
        With ``arrays["oxi_states"]``, or with moments, from which what is missing is then inferred
        and written onto the frames.
    host : ase.Atoms, optional
        As in `ordering_label`; by default found from the frames, those of the smallest cell first.
    compound : Compound, optional
    validation, test, seed
        As in `split_by_ordering`. A split that is there already in all frames is kept, and with
        fewer than three orderings there is none.
    max_distance : float
        Å that an atom may be away from its site.
    progress : bool
        A progress bar when it takes more than a few seconds.

    Returns
    -------
    list of ase.Atoms
        The same objects (of pymatgen's objects copies as `ase.Atoms`, which `to_pymatgen` turns
        back), with ``info["compound"]`` (``"LixMnPO4"``), ``info["ordering"]``,
        ``info["x"]`` (mobile ions per formula unit), ``info["degeneracy"]`` and
        ``info["split"]``; and ``info["redox"]`` (``"Fe Ti"``) where the elements alone do not tell
        whose charge changes.

    Raises
    ------
    InputError
        Naming the frame: when its oxidation states are not known, or an atom has no site.

    Warns
    -----
    UserWarning
        When moments leave it open which ion has which state (the most likely ones are taken) or
        speak against the only states that balance, and
        when no frame is filled by more than half, so that the formula unit is a guess.
    """
    from mlipkit.orderings.splits import checked_shares, split_by_ordering

    checked_lengths("name_orderings", max_distance)
    checked_shares("name_orderings", validation, test, seed)
    frames, compound = listed(frames, "name_orderings takes"), checked(compound)
    _fits(frames, host, compound)
    doubts = [i for i, a in enumerate(frames) if give_states(a, i, compound, "name_orderings")]
    if doubts:
        some = ", ".join(map(str, doubts[:10])) + (", ..." if len(doubts) > 10 else "")
        warnings.warn(
            f"name_orderings: {len(doubts)} of {len(frames)} frames hold an ion whose moment does "
            f"not tell its state for certain, frames {some}: print("
            f"mk.infer_oxidation_states(frames[{doubts[0]}])) says which; a hole may be shared, a "
            "cell charged (info['charge']), or a state be a rare one (compound=)",
            stacklevel=2,
        )
    off = [imbalance(without_vacancies(atoms)) for atoms in frames]
    if unbalanced := np.flatnonzero(off).tolist():
        i, atoms = unbalanced[0], frames[unbalanced[0]]
        warnings.warn(
            f"name_orderings: the oxidation states of {len(unbalanced)} of {len(frames)} frames do "
            f"not add up to the charge of the cell: those of frame {i} "
            f"({atoms.get_chemical_formula()}) are {off[i]:+g} off. A charged cell has "
            "info['charge']; infer_oxidation_states(atoms).states are balanced",
            stacklevel=2,
        )
    write_names(frames, host, compound, max_distance, progress)
    if compound is None or compound.framework is None:
        _say_unit(frames)
    known = all("split" in atoms.info for atoms in frames)
    if not known and len({atoms.info["ordering"] for atoms in frames}) >= 3:
        split_by_ordering(frames, validation, test, seed)
    return frames


def _fits(frames, host, compound):
    """Refuse a compound that none of the frames is of."""
    if compound is None:
        return
    there = {e for atoms in frames for e in atoms.symbols}
    if compound.redox and not there & {*compound.redox}:
        raise InputError(
            f"name_orderings: compound= names {' and '.join(compound.redox)} as redox-active, and "
            f"no frame holds it; there are {', '.join(sorted(there))}"
        )
    others = sorted(there & {*MOBILE})
    if compound.mobile and host is None and compound.mobile not in there and others:
        warnings.warn(
            f"name_orderings: compound= names {compound.mobile} as the ion that moves, and no "
            f"frame holds it; is it {' or '.join(others)}?",
            stacklevel=3,
        )


def _say_unit(frames):
    """Half-empty frames fit a formula unit of half the size too: x is then a matter of choice."""
    most = {}
    for atoms in frames:
        title = atoms.info["compound"]
        most[title] = max(most.get(title, 0.0), atoms.info["x"])
    for title, x in most.items():
        if 0 < x <= 0.5:
            warnings.warn(
                f"name_orderings: no frame of {title} has more than x = {x:g}, so its formula unit "
                "is a guess; where it is another one say so, such as compound=mk.Compound(..., "
                'framework="Mn2O4"), for x and names to be those of your other frames',
                stacklevel=3,
            )


def named(frames, compound=None):
    """Frames that have a name and oxidation states each: the same ones, or, where one has none,
    copies that are all named anew, so that an ordering has one name.
    """
    frames = listed(frames, "naming orderings takes")
    known = all(key in atoms.info for atoms in frames for key in NAMED[:3])
    if known and all("oxi_states" in atoms.arrays for atoms in frames):
        return frames
    copies = [atoms.copy() for atoms in frames]
    for i, (copy, atoms) in enumerate(zip(copies, frames)):
        copy.calc = atoms.calc
        give_states(copy, i, compound, "naming orderings")
    write_names(copies, None, compound)
    return copies


def host_of(frames, compound=None):
    """The crystal on which frames of one compound lie, in the setting in which `name_orderings`
    counts its sites.

    Raises
    ------
    InputError
        When there is none, or there are several.
    """
    crystals = _crystals(frames, None, compound)
    if len(crystals) > 1:
        raise InputError(
            f"these frames lie on {len(crystals)} crystals: {', '.join(c.title for c in crystals)}"
        )
    return crystals[0].host


def orderings_table(
    frames, host=None, compound=None, max_distance=1.0, symprec=1e-2, progress=True
):
    """The orderings in a list of frames, one row each.

    Parameters
    ----------
    frames : list of ase.Atoms
        With ``arrays["oxi_states"]``; energies (eV per cell) where there are any. Several
        compounds are listed one after the other.
    host, compound, max_distance, symprec
        As in `ordering_label`; the host is by default found from all frames.
    progress : bool
        A progress bar when it takes more than a few seconds.

    Returns
    -------
    pandas.DataFrame
        Sorted by compound, x and energy: ``ordering`` (the label), ``x`` (mobile ions per formula
        unit of the framework), ``formula``, ``degeneracy``, ``n_frames``, ``energy_per_fu``
        (lowest, eV per formula unit), ``above_lowest`` (meV per formula unit above the lowest
        ordering of that x), ``lowest_frame`` (its number in `frames`), ``compound``. Energies are
        NaN where no frame has one; all are, with a warning, where the frames were computed with
        different U (``info["hubbard_u"]``) or are of cells of different charge
        (``info["charge"]``).
    """
    import pandas as pd

    checked_lengths("orderings_table", max_distance, symprec)
    columns = "ordering x formula degeneracy n_frames energy_per_fu above_lowest lowest_frame"
    columns = [*columns.split(), "compound"]
    frames, rows = as_frames(frames, "orderings_table takes"), {}
    if not frames:
        return pd.DataFrame(columns=columns)
    if mixed := different_u(frames) or different_charge(frames):
        warnings.warn(f"orderings_table: {mixed}", stacklevel=2)
    for i, crystal, place in _places(frames, host, compound, max_distance, symprec, progress):
        atoms, key = frames[i], (crystal.title, place.ordering)
        energy = label(atoms, "energy")
        energy = np.nan if energy is None or mixed else float(energy) / place.n_units
        start = {"ordering": place.ordering, "x": place.x, "degeneracy": place.degeneracy}
        start |= {"formula": atoms.get_chemical_formula(), "compound": crystal.title}
        start |= {"n_frames": 0, "energy_per_fu": np.nan, "lowest_frame": i}
        row = rows.setdefault(key, start)
        row["n_frames"] += 1
        first = np.isnan(row["energy_per_fu"]) and np.isfinite(energy)
        if first or energy < row["energy_per_fu"]:
            row.update(energy_per_fu=energy, lowest_frame=i)
    table = pd.DataFrame(list(rows.values()), columns=columns)
    table = table.sort_values(["compound", "x", "energy_per_fu", "ordering"], ignore_index=True)
    lowest = table.groupby(["compound", "x"])["energy_per_fu"].transform("min")
    table["above_lowest"] = 1000 * (table["energy_per_fu"] - lowest)
    return table


def give_states(atoms, i, compound, where):
    """Give a frame the oxidation states that it lacks, and whether they are in doubt."""
    known, bare = {} if compound is None else compound.inference, atoms
    if compound is not None:  # what an earlier one told does not count
        bare = atoms.copy()
        bare.calc = atoms.calc
        tell_redox(bare, compound)
    try:
        if "oxi_states" in atoms.arrays:
            atoms.set_array("oxi_states", known_states(bare, **known))
            return False
        found = infer_oxidation_states(bare, **known)
        atoms.set_array("oxi_states", found.states)
        return bool(len(found.undecided) or len(found.contradicted))
    except InputError as reason:
        raise InputError(f"{where}: frame {i}: {reason}") from None


def write_names(frames, host=None, compound=None, max_distance=1.0, progress=True):
    """Write the names of `NAMED` onto frames, onto all or none."""
    for i, crystal, place in list(_places(frames, host, compound, max_distance, 1e-2, progress)):
        prefix = "" if len(crystal.members) == len(frames) else f"{crystal.title}:"
        frames[i].info |= {"ordering": prefix + place.ordering, "compound": crystal.title}
        frames[i].info |= {"x": place.x, "degeneracy": place.degeneracy}
        tell_redox(frames[i], crystal.compound)


def _places(frames, host, compound, max_distance, symprec, progress):
    """(number of the frame, its crystal, its place) of every frame."""
    from tqdm.auto import tqdm

    crystals = _crystals(frames, host, compound, progress)
    with tqdm(total=len(frames), unit=" frames", delay=3, disable=not progress) as bar:
        for crystal in crystals:
            for i in crystal.members:
                try:
                    place = located(
                        frames[i], crystal.host, crystal.compound, max_distance, symprec
                    )
                except InputError as reason:
                    raise InputError(f"orderings: frame {i}: {reason}") from None
                yield i, crystal, place
                bar.update()


def _crystals(frames, host, compound, progress=False):
    crystals, host = [], host_frame(host)
    for found, members in group_by_compound(frames, compound):
        if host is not None:
            one = _smaller_unit(found, host, compound)
            crystals.append(Crystal(one, host, members, one.formula))
            continue
        left, n = members, 0
        while left:
            one, whole, mine = _one_crystal(frames, left, found, progress)
            one, n = _smaller_unit(one, whole, compound), n + 1
            title = one.formula + (f" ({n})" if n > 1 else "")
            crystals.append(Crystal(one, whole, mine, title))
            taken = set(mine)
            left = [i for i in left if i not in taken]
    return crystals


def _smaller_unit(compound, host, given):
    """The compound; of its formula unit and the one that the host makes the smaller."""
    if given is not None and given.framework is not None:
        return compound
    by_host = compound_of([host], replace(compound, framework=None), host)
    units = sum(compound.counts.values()), sum(by_host.counts.values())
    return replace(compound, framework=by_host.framework) if units[1] < units[0] else compound


def _one_crystal(frames, members, compound, progress):
    """The host of the smallest and fullest frame, and the frames that lie on it."""
    size = {i: len(frames[i]) - compound.n_mobile(frames[i]) for i in members}
    smallest = [i for i in members if size[i] == min(size.values())]
    if not any(compound.n_mobile(frames[i]) for i in smallest):
        larger = [i for i in members if compound.n_mobile(frames[i])]
        if not larger:  # empty sites of which no frame tells where they are
            compound = replace(compound, mobile=None, charge=None)
        else:
            least = min(size[i] for i in larger)
            smallest = [i for i in members if size[i] == least]
    first = frames[max(smallest, key=lambda i: compound.n_mobile(frames[i]))]
    try:
        mine, host = smallest, find_host([frames[i] for i in smallest], compound, progress=progress)
        strained = [i for i in smallest if _strain(frames[i], host) > STRAIN]
        one = all(_alike(frames[i], host, compound) for i in strained)
        one = one and not any(_decorated_otherwise(frames[i], first, compound) for i in smallest)
    except InputError:
        one = False
    if not one:
        mine = [i for i in smallest if frames[i] is first or _alike(frames[i], first, compound)]
        host = find_host([frames[i] for i in mine], compound, progress=progress)
    taken, n_framework = set(smallest), len(host) - compound.n_mobile(host)
    larger = [i for i in members if i not in taken and size[i] >= n_framework]
    return compound, host, mine + [i for i in larger if _alike(frames[i], host, compound)]


def _strain(atoms, host):
    """By how much the lengths of the reduced cell differ from those of the host."""
    mine, theirs = (np.sort(a.cell.minkowski_reduce()[0].lengths()) for a in (atoms, host))
    return np.abs(mine / theirs - 1).max()


def _decorated_otherwise(atoms, other, compound):
    """Whether the framework of a frame has the places of another one in the same setting, and other
    elements on some of them, such as Sr on other sites of La.
    """
    mine, theirs = (
        a[[symbol not in (compound.mobile, "X") for symbol in a.symbols]] for a in (atoms, other)
    )
    if len(mine) != len(theirs) or not np.allclose(
        mine.cell.cellpar(), theirs.cell.cellpar(), rtol=STRAIN
    ):
        return False
    between = mine.get_scaled_positions()[:, None] - theirs.get_scaled_positions()
    distances = np.linalg.norm((between - between.round()) @ theirs.cell.array, axis=-1)
    place = distances.argmin(axis=1)
    in_place = distances.min(axis=1).max() < ALIKE and len(set(place.tolist())) == len(place)
    return bool(in_place and (mine.numbers != theirs.numbers[place]).any())


def _alike(atoms, other, compound):
    """Whether the framework of a frame lies on that of another."""
    mine, theirs = (_framework(a, compound) for a in (atoms, other))
    try:
        _, (_, _, _, _, vectors) = best_fit(mine, theirs, None)
    except InputError:
        return False
    return bool(np.linalg.norm(vectors, axis=1).max() < ALIKE)


def _framework(atoms, compound):
    atoms = without_vacancies(atoms)
    return reduced(atoms[[symbol != compound.mobile for symbol in atoms.symbols]], "frame")
