"""Train, validation and test: whole charge orderings, never frames of one trajectory."""

from collections import Counter

import numpy as np

from mlipkit import arguments
from mlipkit.charges.compounds import checked
from mlipkit.files import InputError
from mlipkit.frames.taken import as_frames


def split_by_ordering(frames, validation=0.15, test=0.15, seed=0, compound=None, group=None):
    """Give every frame ``info["split"]``: all frames of one arrangement and charge ordering go
    to the same part.

    Frames of one relaxation are nearly alike, so a model tested on some after training on others is
    praised for its memory.

    Parameters
    ----------
    frames : list of ase.Atoms
        With ``info["ordering"]``, or with oxidation states, from which `ordering_label` then makes
        it (and stores it).
    validation, test : float
        Shares of the frames that these two should reach, as nearly as whole groups allow; each gets
        at least one group.
    seed : int
    compound : Compound, optional
        For frames without a name, see `name_orderings`.
    group : callable, optional
        Another name for the group of a frame: ``lambda atoms: atoms.info["material"]``.

    Returns
    -------
    list of ase.Atoms
        The same objects (of pymatgen's objects copies, as of `name_orderings`). A group that is the
        only one of its composition goes to the training part: without an end member no model has a
        reference.

    Raises
    ------
    InputError
        When there are fewer than three groups, or too few that may be held out, or `group` cannot
        tell that of a frame.
    """
    from mlipkit.orderings.naming import write_names

    checked_shares("split_by_ordering", validation, test, seed)
    checked(compound)
    if group is not None and not callable(group):
        raise InputError(
            'split_by_ordering: group is a function, such as lambda atoms: atoms.info["material"], '
            f"not {arguments.shown(group)}"
        )
    frames = as_frames(frames, "split_by_ordering takes")
    if group is None and not all("ordering" in atoms.info for atoms in frames):
        write_names(frames, None, compound)
    group = group or (lambda atoms: atoms.info["ordering"])
    names = [_named(group, i, atoms) for i, atoms in enumerate(frames)]
    size = Counter(names)
    if len(size) < 3:
        raise InputError(
            f"split_by_ordering: a split needs three groups or more; these {len(frames)} frames "
            f"are of {len(size)}: "
            f"{', '.join(map(str, size))}"
        )
    composition = {
        name: atoms.get_chemical_formula(empirical=True) for name, atoms in zip(names, frames)
    }
    alone = {name for name in size if list(composition.values()).count(composition[name]) == 1}
    free = sorted(set(size) - alone) if len(set(size) - alone) >= 2 else sorted(size)
    free = [free[i] for i in np.random.default_rng(seed).permutation(len(free))]
    wanted = {
        name: share * len(frames)
        for name, share in (("test", test), ("validation", validation))
        if share
    }
    part, taken = dict.fromkeys(size, "train"), dict.fromkeys(wanted, 0)
    # one group each first, then up to their shares; the last group is for training
    for name in (*wanted, *wanted):
        while (
            free
            and list(part.values()).count("train") > 1
            and (not taken[name] or taken[name] + size[free[-1]] / 2 <= wanted[name])
        ):
            first = not taken[name]
            taken[name] += size[free[-1]]
            part[free.pop()] = name
            if first:
                break
    for atoms, name in zip(frames, names):
        atoms.info["split"] = part[name]
    return frames


def checked_shares(where, validation, test, seed):
    """Refuse what are no shares of the frames, and what is no seed; None: another one each time."""
    for name, share in (("validation", validation), ("test", test)):
        arguments.number(share, f"{where}: {name}", least=0, below=1)
    arguments.number(seed, f"{where}: seed", least=0, whole=True, none=True)


def _named(group, i, atoms):
    """The group of a frame; anybody's function may raise anything, or return what is no name."""
    try:
        name = group(atoms)
        hash(name)
    except Exception as reason:
        raise InputError(
            f"split_by_ordering: group cannot tell the group of frame {i} "
            f"({atoms.get_chemical_formula()}): {type(reason).__name__}: {reason}"
        ) from reason
    return name
