"""What oxidation states are read from: one number per redox site, by magnetic moment, bond valence
sum or Bader charge.
"""

import numpy as np

from mlipkit.files import InputError
from mlipkit.frames.labels import label, required_label

# PBE+U bonds are some 1.5 % long. With this factor the end points of the embedded set give 2.01 +-
# 0.12 (Fe2+) and 2.78 +- 0.08 (Fe3+)
GGA = 0.985


def moments(atoms, symbols, sites, given, what):
    return finite(all_moments(atoms, given, what)[sites], symbols, sites, "moment", what)


def all_moments(atoms, given, what):
    """|moment| of every atom; codes may leave those of ions without any as NaN."""
    if given is None:
        given = required_label(atoms, "magmoms", "infer_oxidation_states", finite=False)
    values = _per_atom(given, "magmoms", "moments", ((len(atoms),), (len(atoms), 3)), what)
    return np.linalg.norm(values, axis=1) if values.ndim == 2 else np.abs(values)


def _per_atom(given, argument, name, shapes, what):
    try:
        values = np.asarray(given, float)
    except (TypeError, ValueError):
        raise InputError(f"{what}: {argument} are not numbers") from None
    if values.shape not in shapes:
        raise InputError(
            f"{what}: needs {shapes[0][0]} {name}, one per atom; got shape {values.shape}"
        )
    return values


def bond_valence_sums(atoms, symbols, sites, given, what):
    from pymatgen.analysis.bond_valence import calculate_bv_sum
    from pymatgen.io.ase import AseAtomsAdaptor

    # without vacancies
    bare, mine = atoms[atoms.numbers > 0], (np.cumsum(atoms.numbers > 0) - 1)[sites].tolist()
    for name in set(bare.arrays) - {"numbers", "positions"}:
        del bare.arrays[name]
    if bare.cell.rank < 3:
        raise InputError(f"{what}: bond valence sums need a periodic cell")
    structure = AseAtomsAdaptor.get_structure(bare)
    around = structure.get_all_neighbors(4.0, sites=[structure[i] for i in mine])
    sums = [
        calculate_bv_sum(structure[i], near, GGA) if near else np.nan
        for i, near in zip(mine, around)
    ]
    return finite(np.array(sums, float), symbols, sites, "bond valence sum", what)


def bader_charges(atoms, symbols, sites, given, what):
    if given is None:
        given = next(
            (
                atoms.arrays[name]
                for name in ("bader_charge", "bader_charges", "bader")
                if name in atoms.arrays
            ),
            label(atoms, "charges"),
        )
    if given is None:
        raise InputError(
            f"{what}: method 'bader' needs atoms.arrays['bader_charge'], in e, one per atom (or "
            "'bader_charges', 'bader', "
            "the charges of an ASE calculator); or give charges="
        )
    charges = _per_atom(given, "charges", "Bader charges", ((len(atoms),),), what)
    finite(charges, symbols, np.arange(len(atoms)), "Bader charge", what)
    anions = np.isin(symbols, ["O", "F", "Cl", "Br", "I"]) | (
        np.isin(symbols, ["S", "Se", "N"]) & ~np.any(symbols == "O")
    )
    mean = charges[anions].mean() if anions.any() else 0.0
    # two conventions are about: the anions are negative
    sign = -np.sign(mean)
    if sign == 0 or (sign * charges[~anions]).mean() <= 0:
        raise InputError(
            f"{what}: the Bader charges of anions and cations have the same sign (or there are no "
            "anions); "
            "net charges are needed, valence electrons minus Bader population, of either sign"
        )
    return sign * charges[sites]


def finite(values, symbols, sites, name, what):
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        raise InputError(
            f"{what}: the {name} of atom {sites[bad[0]]} ({symbols[sites[bad[0]]]}) is missing or "
            "not finite"
        )
    return values


EVIDENCE = {"magmom": moments, "bond-valence": bond_valence_sums, "bader": bader_charges}
