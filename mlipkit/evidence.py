"""What oxidation states are read from: one number per redox site, by magnetic moment, bond valence sum or Bader charge."""
import numpy as np

from mlipkit.files import InputError
from mlipkit.frames import required_label

# PBE+U bonds are some 1.5 % long. With this factor the end points of the embedded set give 2.01 +- 0.12 (Fe2+) and 2.78 +- 0.08 (Fe3+)
GGA = 0.985


def moments(atoms, symbols, sites, magmoms, what):
    if magmoms is None:
        magmoms = required_label(atoms, "magmoms", "infer_oxidation_states")
    try:
        values = np.asarray(magmoms, float)
    except (TypeError, ValueError):
        raise InputError(f"{what}: magmoms are not numbers") from None
    if values.shape not in ((len(atoms),), (len(atoms), 3)):
        raise InputError(f"{what}: needs {len(atoms)} moments, one per atom; got shape {values.shape}")
    values = np.linalg.norm(values, axis=1) if values.ndim == 2 else np.abs(values)
    return finite(values[sites], symbols, sites, "moment", what)


def bond_valence_sums(atoms, symbols, sites, magmoms, what):
    from pymatgen.analysis.bond_valence import calculate_bv_sum
    from pymatgen.io.ase import AseAtomsAdaptor
    bare, mine = atoms[atoms.numbers > 0], (np.cumsum(atoms.numbers > 0) - 1)[sites].tolist()       # without vacancies
    for name in set(bare.arrays) - {"numbers", "positions"}:
        del bare.arrays[name]
    if bare.cell.rank < 3:
        raise InputError(f"{what}: bond valence sums need a periodic cell")
    structure = AseAtomsAdaptor.get_structure(bare)
    around = structure.get_all_neighbors(4.0, sites=[structure[i] for i in mine])
    sums = [calculate_bv_sum(structure[i], near, GGA) if near else np.nan for i, near in zip(mine, around)]
    return finite(np.array(sums, float), symbols, sites, "bond valence sum", what)


def bader_charges(atoms, symbols, sites, magmoms, what):
    name = next((n for n in ("bader_charge", "bader_charges") if n in atoms.arrays), None)
    if name is None:
        raise InputError(f"{what}: method 'bader' needs atoms.arrays['bader_charge'], in e, one per atom")
    charges = np.asarray(atoms.arrays[name], float)
    finite(charges, symbols, np.arange(len(atoms)), "Bader charge", what)
    anions = np.isin(symbols, ["O", "F", "Cl", "Br", "I"]) | (np.isin(symbols, ["S", "Se", "N"]) & ~np.any(symbols == "O"))
    mean = charges[anions].mean() if anions.any() else 0.0
    sign = -np.sign(mean)                               # two conventions are about: the anions are negative
    if sign == 0 or (sign * charges[~anions]).mean() <= 0:
        raise InputError(f"{what}: the Bader charges of anions and cations have the same sign (or there are no anions); "
                         "net charges are needed, valence electrons minus Bader population, of either sign")
    return sign * charges[sites]


def finite(values, symbols, sites, name, what):
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        raise InputError(f"{what}: the {name} of atom {sites[bad[0]]} ({symbols[sites[bad[0]]]}) is missing or not finite")
    return values


EVIDENCE = {"magmom": moments, "bond-valence": bond_valence_sums, "bader": bader_charges}
