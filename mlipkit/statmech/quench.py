"""Ions whose electrons are in their ground state: what is left without electronic entropy."""

from mlipkit import arguments
from mlipkit.files import InputError
from mlipkit.statmech.configurations import COLUMNS, Configurations
from mlipkit.statmech.expansion import checked_expansion
from mlipkit.statmech.sampling import annealed


def without_electrons(expansion, seed=0, progress=True):
    """Energies of arrangements of ions with the lowest charge ordering of each.

    An expansion over the ions alone is fitted to them (`fit_expansion`): electrons follow the ions
    and have no entropy. The charges of an arrangement are cooled on the expansion, ions held.

    Parameters
    ----------
    expansion : Expansion
        Over ions and charges.
    seed : int
    progress : bool

    Returns
    -------
    Configurations
        As of a charge-blind model: the arrangements of ions that `expansion` was fitted to, and
        those that the whole ends in when it is cooled.

    Raises
    ------
    InputError
        When the expansion knows no charges.
    """
    import pandas as pd
    from tqdm.auto import tqdm

    where = "without_electrons"
    expansion = checked_expansion(expansion, where)
    seed = arguments.number(seed, f"{where}: seed", least=0, whole=True)
    if not expansion.aware:
        raise InputError(f"{where}: this expansion is over the ions alone already")
    c = expansion.configurations
    rows = []
    names = c.table["supercell"].unique().tolist()
    for name in tqdm(names, desc=where, disable=not progress):
        lattice = c.lattice(name)
        within = expansion.interactions(lattice.matrix)
        here = [c.occupations(r) for r in c.kept[c.kept["supercell"] == name].itertuples()]
        cells = [within.digits(*known) for known in here]
        for n in lattice.compositions:
            cells += list(annealed(within, n, (seed, n))[:3])
        n_mobile = within.n_mobile
        distinct = {cell[:n_mobile].tobytes(): cell for cell in cells}
        for k, cell in enumerate(distinct.values()):
            n = int(cell[:n_mobile].sum())
            lowest = annealed(within, n, (seed, n, k), ions=False, start=cell)[0]
            x = n / lattice.n_units
            first, last = c.shares_of_ends(x)
            rows.append(
                {
                    "supercell": name,
                    "ions": "".join(map(str, cell[:n_mobile])),
                    "states": "",
                    "x": x,
                    "energy": within.energy(lowest) / lattice.n_units + first + last,
                    "kept": True,
                    "reason": "",
                }
            )
    return Configurations(pd.DataFrame(rows, columns=COLUMNS), c.host, c.compound, c.fixed, c.cell)
