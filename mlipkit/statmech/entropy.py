"""Entropy of charge and ion order, from enumerated orderings."""

import math
from collections import Counter

import numpy as np
from ase.units import kB

from mlipkit import arguments
from mlipkit.analysis.thermo import per_unit
from mlipkit.charges.compounds import compound_of, listed
from mlipkit.files import InputError
from mlipkit.orderings.host_search import find_host
from mlipkit.orderings.names import arrangement, counting
from mlipkit.orderings.naming import named


def charge_entropy(
    energies, degeneracies, temperature, arrangements=None, n_formula_units=1, n_orders=None
):
    """Canonical ensemble of enumerated charge orderings, and what part of its entropy is
    electronic.

    Z = sum g exp(-E / kT), F = -kT ln Z, U = sum p E, S = (U - F) / T. With arrangements of the
    mobile ion, S(ion, e) = S(ion) + sum p(ion) S(e | ion), the chain rule; the second term is the
    electronic part: Zhou, Maxisch and Ceder, Phys. Rev. Lett. 97, 155704 (2006).

    Parameters
    ----------
    energies : array_like, shape (n_states,)
        eV per cell, one for each symmetry-distinct state of one composition.
    degeneracies : array_like of int, shape (n_states,)
        How many equivalent states each stands for.
    temperature : float
        K, above zero.
    arrangements : list, length n_states, optional
        Name of the (symmetry-distinct) arrangement of the mobile ion that a state belongs to. By
        default there is one only, and all of the entropy is electronic.
    n_formula_units : int
        Of the cell; results are per formula unit.
    n_orders : int, optional
        How many charge orderings (not reduced by symmetry) one arrangement has; the degeneracies of
        an arrangement over this is the number of its equivalents. Needed with `arrangements`.

    Returns
    -------
    dict
        ``free_energy``, ``energy`` (eV per formula unit), ``entropy``, ``entropy_ion`` and
        ``entropy_electronic`` (eV/K per formula unit), ``log_z`` (dimensionless, of the cell,
        energies counted from the lowest state).

    Raises
    ------
    InputError
        When a number is missing, not finite or not positive, or when the orderings of an
        arrangement are not complete.
    """
    e = arguments.values(energies, "charge_entropy: energies", finite=False)
    g = arguments.values(degeneracies, "charge_entropy: degeneracies", finite=False)
    if not len(e) or e.shape != g.shape:
        raise InputError(
            f"charge_entropy needs one degeneracy for each energy; got {e.size} energies and "
            f"{g.size} degeneracies"
        )
    if not np.isfinite(e).all() or not (np.isfinite(g) & (g > 0)).all():
        raise InputError(
            "charge_entropy: an energy is not finite, or a degeneracy is not a positive number"
        )
    arguments.number(temperature, "charge_entropy: temperature", above=0)
    arguments.number(n_formula_units, "charge_entropy: n_formula_units", least=1)
    arguments.number(n_orders, "charge_entropy: n_orders", least=1, none=True)
    log_weight = np.log(g) - (e - e.min()) / (kB * temperature)
    log_z = float(np.logaddexp.reduce(log_weight))
    p = np.exp(log_weight - log_z)
    energy, free = float(p @ e), float(e.min()) - kB * temperature * log_z
    ion = 0.0
    if arrangements is not None:
        arrangements = arguments.entries(
            arrangements, "charge_entropy: arrangements", "['na01', 'na02']", len(e)
        )
        for name in arrangements:
            arguments.text(name, "charge_entropy: each of arrangements")
        for name in dict.fromkeys(arrangements):
            here = [a == name for a in arrangements]
            equivalents = g[here].sum() / (n_orders or math.nan)
            if not np.isclose(equivalents, round(equivalents) if equivalents >= 0.5 else math.nan):
                raise InputError(
                    f"charge_entropy: the degeneracies of {name} add up to {g[here].sum():g}, "
                    "which is no multiple of "
                    f"{n_orders}, the charge orderings of one arrangement (n_orders): some are "
                    "missing"
                )
            if (share := float(p[here].sum())) > 0:
                ion -= kB * share * math.log(share / equivalents)
    total = (energy - free) / temperature
    return {
        k: v / n_formula_units
        for k, v in {
            "free_energy": free,
            "energy": energy,
            "entropy": total,
            "entropy_ion": ion,
            "entropy_electronic": total - ion,
        }.items()
    } | {"log_z": log_z}


def entropy_table(frames, energies=None, temperatures=(300, 450, 600, 750, 900), compound=None):
    """`charge_entropy` of every composition, at several temperatures.

    Parameters
    ----------
    frames : list of ase.Atoms
        With ``arrays["oxi_states"]``, named by `name_orderings` (or here, where they are not); of
        several frames of an ordering the lowest counts. Every ordering of the cell must be there:
        a composition that lacks some is refused.
    energies : array_like, shape (n_frames,), optional
        eV per cell; by default the labels.
    temperatures : iterable of float
        K.
    compound : Compound, optional
        By default found from the frames.

    Returns
    -------
    pandas.DataFrame
        Index ``x`` and ``temperature`` (K); ``states`` (sum of the degeneracies) out of
        ``all_states`` that the cell has, ``free_energy``, ``energy`` (eV per formula unit),
        ``entropy``, ``entropy_ion``, ``entropy_electronic`` and ``entropy_ideal`` (eV/K per formula
        unit). The latter is the limit of free mixing of charges in an infinite crystal, -k sum y
        ln y over the oxidation states of each metal, with the charges of the lowest state.

    Raises
    ------
    InputError
        As `charge_entropy`, or when a frame lacks its oxidation states.
    """
    import pandas as pd

    temperatures = arguments.entries(temperatures, "entropy_table: temperatures", "(300, 600)")
    if not temperatures:
        raise InputError("entropy_table: temperatures is empty; give one or more, in K")
    for temperature in temperatures:
        arguments.number(temperature, "entropy_table: each of temperatures", above=0)
    frames = listed(frames, "entropy_table takes")
    compound = compound_of(frames, compound)
    for i, a in enumerate(frames):
        if "oxi_states" not in a.arrays:
            raise InputError(
                f"entropy_table: frame {i} ({a.get_chemical_formula()}) has no oxi_states"
            )
    frames = named(frames, compound)
    x, e = per_unit(frames, energies, compound)
    lowest = {}  # of several frames of an ordering the lowest counts
    for i, atoms in enumerate(frames):
        key = atoms.info["ordering"], len(atoms)
        if key not in lowest or e[i] < e[lowest[key]]:
            lowest[key] = i
    kept = sorted(lowest.values())
    frames, x, e = [frames[i] for i in kept], x[kept], e[kept]
    n = [compound.units(a) for a in frames]
    charges, rows = [_charges(a, compound) for a in frames], {}
    host = find_host(frames, compound) if compound.mobile else None
    for value in sorted(set(x.round(6))):
        here = np.flatnonzero(np.isclose(x, value, atol=1e-6))
        totals = {sum(q * k for (_, q), k in charges[i]) for i in here}
        if len({n[i] for i in here}) > 1 or len(totals) > 1:
            raise InputError(
                f"entropy_table: the frames at x = {value:g} are of cells of different size or "
                "charge"
            )
        units = round(n[here[0]])
        names = [arrangement(frames[i].info["ordering"]) for i in here]
        g = [frames[i].info["degeneracy"] for i in here]
        orders = sum(_orders(kinds) for kinds in {charges[i] for i in here})
        sites = 0 if host is None else _n_sites(host, compound, units)
        ideal = -kB * sum(
            k / units * math.log(k / m) for k, m in _shares(charges[here[e[here].argmin()]])
        )
        for temperature in temperatures:
            found = charge_entropy(e[here] * units, g, temperature, names, units, orders)
            del found["log_z"]
            rows[value, temperature] = {
                "states": sum(g),
                "all_states": math.comb(sites, round(value * units)) * orders,
                **found,
                "entropy_ideal": ideal,
            }
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis(["x", "temperature"])
    table.attrs["compound"] = compound.html
    return table


def _charges(atoms, compound):
    """((metal, state), number) of a frame, sorted."""
    pairs = zip(atoms.get_chemical_symbols(), atoms.arrays["oxi_states"].tolist())
    return tuple(sorted(Counter(pair for pair in pairs if pair[0] in counting(compound)).items()))


def _shares(charges):
    """(number of a metal in a state, number of that metal) of what `_charges` counts."""
    metals = Counter()
    for (metal, _), k in charges:
        metals[metal] += k
    return [(k, metals[metal]) for (metal, _), k in charges]


def _orders(charges):
    """In how many ways the states can be put on the sites of their metals."""
    metals = dict.fromkeys((metal for (metal, _), _ in charges), 1)
    for metal in metals:
        counts = [k for (element, _), k in charges if element == metal]
        metals[metal] = math.factorial(sum(counts)) // math.prod(map(math.factorial, counts))
    return math.prod(metals.values())


def _n_sites(host, compound, units):
    """Sites of the mobile ion in a cell of so many formula units."""
    return round(compound.n_mobile(host) / compound.units(host) * units)
