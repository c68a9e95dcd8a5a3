"""Temperature: expansions, the compiled walk and free energies against what is known exactly."""

import itertools
import json
import math
import warnings

import numpy as np
import pandas as pd
import pytest
from ase.calculators.singlepoint import SinglePointCalculator
from ase.units import kB
from compounds import layered, olivine, rhombohedral, spinel
from numba import njit
from pymatgen.core import Species, Structure
from scipy.optimize import brentq
from scipy.special import ellipk, entr

import mlipkit as mk
from mlipkit.orderings.hosts import permutations
from mlipkit.orderings.lattice import lattice_of
from mlipkit.relaxation import configurations as relaxed
from mlipkit.statmech import kernel
from mlipkit.statmech.configurations import COLUMNS, Configurations, name_of
from mlipkit.statmech.expansion import correlations_in, disordered, smol_order, subspace_of
from mlipkit.statmech.interactions import Moves, _tables
from mlipkit.statmech.phases import BIN, N_BINS, bennett, heated
from mlipkit.statmech.sampling import chance_of, shares_of

HOSTS = {
    # two states; three states and two metals; 2:1, and 2+ ions with two electrons each; olivine
    "LiCoO2": (lambda: rhombohedral(), "Li", {"Co": (3, 4)}),
    "Li3NiMnCoO6": (lambda: layered(), "Li", {"Ni": (2, 3, 4), "Mn": (3, 4)}),
    "LiMn2O4": (lambda: spinel(), "Li", {"Mn": (3, 4)}),
    "MgMn2O4": (lambda: spinel("Mg"), "Mg", {"Mn": (3, 4)}),
    "LiVO2": (lambda: rhombohedral(metal="V"), "Li", {"V": (2, 3, 4)}),
    "NaFePO4": (lambda: olivine("Na", "Fe"), "Na", {"Fe": (2, 3)}),
}


def toy(name, seed=None, scale=0.03, aware=True, cutoffs=None):
    """An expansion with random coefficients (all 0 without a seed) on a made-up crystal."""
    host, ion, redox = HOSTS[name]
    rng, fixed = np.random.default_rng(seed), {"Co": 3} if "Ni" in redox else None
    lattice = lattice_of(host(), mk.Compound(ion, redox), None, fixed)
    rows = []
    for n in (lattice.compositions[0], lattice.compositions[-1]):
        filled, states = lattice.random(n, np.random.default_rng(0))
        ions, said = "".join(map(str, filled.astype(int))), " ".join(map(str, states))
        rows.append(("1x1x1", ions, said if aware else "", n / lattice.n_units, 0.0, True, ""))
    table = pd.DataFrame(rows, columns=COLUMNS)
    made = mk.Configurations(table, lattice.host, lattice.compound, lattice.fixed, False)
    cutoffs = cutoffs or {2: 4.5, 3: 3.2}
    n = subspace_of(made, cutoffs).num_corr_functions
    coefficients = np.zeros(n) if seed is None else rng.normal(0, scale, n)
    return mk.Expansion(made, cutoffs, coefficients, 0.0, 0.0, 0.0)


def everything(within):
    """All neutral arrangements of a cell as digits, their numbers of ions and energies (eV)."""
    kinds = [range(k) for k in within.tables.n_digits]
    n, lattice = within.n_mobile, within.lattice
    found = []
    for digits in itertools.product(*kinds):
        filled, states = within.arrangement(np.array(digits))
        ions = int(filled.sum())
        if (not within.aware and ions in lattice.compositions) or (
            within.aware and sum(states) == lattice.total(ions)
        ):
            found.append(digits)
    found = np.array(found)
    return found, found[:, :n].sum(axis=1), np.array([within.energy(d) for d in found])


def free_energy(energies, beta):
    return -np.logaddexp.reduce(-beta * energies) / beta


# 1. Nothing interacts


@pytest.mark.parametrize("aware", [True, False])
def test_without_interactions_ions_and_electrons_mix_ideally(aware):
    d = mk.phase_diagram(
        toy("LiCoO2", aware=aware), (300, 600), (2, 2, 2), sweeps=10, progress=False
    )
    ways = np.array([math.log(math.comb(8, n)) for n in range(9)]) / 8
    both = 2 * ways if aware else ways
    assert d.x == pytest.approx(np.arange(9) / 8)
    assert d.free_energy / (kB * d.temperatures[:, None]) == pytest.approx(
        np.array([-both, -both]), abs=0.01
    )
    assert np.diff(d.energies, axis=2, n=2) == pytest.approx(0, abs=1e-9)
    assert d.entropy / kB == pytest.approx(np.array([both, both]), abs=0.01)
    assert d.electronic / kB == pytest.approx(np.array([ways, ways]) * aware, abs=1e-9)
    assert d.entropy_ion / kB == pytest.approx(np.array([ways, ways]), abs=0.01)
    assert not d.gaps(300)


def test_disorder_at_the_ends_is_counted():
    """One Li for Ni4+ and Mn4+ at three places; V3+ beside pairs of V2+ and V4+ without an ion."""
    for name, cell in (("Li3NiMnCoO6", (1, 1, 2)), ("LiVO2", (2, 2, 1))):
        expansion = toy(name)
        d = mk.phase_diagram(expansion, (300, 500), cell, sweeps=10, n_runs=48, progress=False)
        _, ions, _ = everything(expansion.interactions(cell))
        n = np.bincount(ions)[ions.min() :]
        assert max(n[0], n[-1]) > 1
        wanted = np.log(n) / d.n_units
        assert d.entropy / kB == pytest.approx(np.array([wanted, wanted]), abs=0.03)


@pytest.mark.parametrize("name", ["LiCoO2", "MgMn2O4"])
def test_composition_at_a_chemical_potential_is_that_of_free_mixing(name):
    """Li goes in with one electron, Mg with two: y^(1+n) = exp(mu / kT), y of ions and electrons
    for each place."""
    expansion, t = toy(name), 500
    within = expansion.interactions((3, 3, 3) if name == "LiCoO2" else (2, 2, 2))
    ions, metals = within.n_mobile, len(within.lattice.redox)
    electrons = 1 if name == "LiCoO2" else 2
    for mu in (-0.1, 0.0, 0.06):
        found = mk.monte_carlo(
            expansion, t, mu=mu, supercell=within.lattice.matrix, sweeps=4000, progress=False
        )
        n = np.arange(ions + 1)
        weight = [math.log(math.comb(ions, k) * math.comb(metals, electrons * k)) for k in n]
        weight = np.exp(np.array(weight) + n * mu / (kB * t) - max(weight))
        exact = (n * weight).sum() / weight.sum() / ions
        assert found.x == pytest.approx(exact, abs=0.006)
        if name == "LiCoO2":  # and that of the infinite crystal
            assert found.x == pytest.approx(1 / (1 + math.exp(-mu / (2 * kB * t))), abs=0.012)
        assert found.atoms.arrays["oxi_states"].sum() == 0
        assert found.energy == pytest.approx(0, abs=1e-9)


def test_a_charge_blind_walk_keeps_to_compositions_that_charges_could_balance():
    """Li3NiMnCoO6 needs one Li at least."""
    expansion, t = toy("Li3NiMnCoO6", aware=False), 600
    cell = (1, 1, 2)
    within = expansion.interactions(cell)
    assert within.lattice.compositions == [2, 3, 4, 5, 6]
    found = mk.monte_carlo(expansion, t, mu=-0.05, supercell=cell, sweeps=40000, progress=False)
    n = np.arange(2, 7)
    weight = np.array([math.comb(6, k) for k in n]) * np.exp(-0.05 * n / (kB * t))
    assert found.x == pytest.approx((n * weight).sum() / weight.sum() / within.lattice.n_units,
                                    abs=0.01)  # fmt: skip


# 2. A chain and a square lattice

FREE = (0.0, 0.0)  # of what a trial may be: an ion goes in or out


def lattice_gas(pairs, n, single, pair):
    """Tables and moves of `n` sites that are filled or not, with energies of an ion and a pair."""
    one = np.arange(n)[:, None]
    sets = [(one, np.array([1]), np.full(n, single))]
    sets.append((pairs, np.array([1, 1]), np.full(len(pairs), pair)))
    constant, tables = _tables(sets, [2] * n)
    assert constant == 0
    return tables, Moves(n, 0, True, 0, n)


def walked(tables, moves, beta, mu, sweeps, seed=0, warm=0.1):
    """Mean energy and number of ions per site."""
    n = moves.n_mobile
    digits = np.zeros(n, np.int64)
    on = kernel.variables_of(tables, digits)
    fields = kernel.fields_of(tables, on)
    chance = chance_of(seed)
    kernel.walk(tables, moves, digits, on, fields, beta, mu, FREE, int(warm * sweeps * n), chance)
    energy, ions = kernel.energy_of(tables, on), digits.sum()
    mean, more, change, _ = kernel.walk(
        tables, moves, digits, on, fields, beta, mu, FREE, sweeps * n, chance
    )
    assert fields == pytest.approx(kernel.fields_of(tables, on), abs=1e-9)
    assert kernel.energy_of(tables, on) == pytest.approx(energy + change, abs=1e-8)
    return (energy + mean) / n, (ions + more) / n


@pytest.mark.parametrize("pair, mu", [(1.0, 0.4), (-1.0, -1.3)])
def test_a_chain_is_its_transfer_matrix(pair, mu):
    n, beta = 64, 1.5
    tables, moves = lattice_gas(np.array([[i, (i + 1) % n] for i in range(n)]), n, 0.2, pair)

    def log_z(beta_pair, beta_single):
        m = np.exp([[0, -beta_single / 2], [-beta_single / 2, -beta_single - beta_pair]])
        return math.log(np.trace(np.linalg.matrix_power(m, n)))

    h, single = 1e-5, 0.2 - mu
    up, down = log_z(beta * pair, beta * single + h), log_z(beta * pair, beta * single - h)
    density = -(up - down) / (2 * h) / n
    up, down = log_z(beta * pair + h, beta * single), log_z(beta * pair - h, beta * single)
    pairs = -(up - down) / (2 * h) / n
    energy, ions = walked(tables, moves, beta, mu, 40000)
    assert ions == pytest.approx(density, abs=0.004)
    assert energy == pytest.approx(pair * pairs + 0.2 * density, abs=0.004)


@pytest.mark.parametrize("t", [2.0, 3.0])
def test_square_lattice_is_onsagers(t):
    """Below and above 2.269, where the correlation length is far below the 32 sites: E = -sum s s',
    s = 2n - 1. Onsager, Phys. Rev. 65, 117 (1944)."""
    side = 32
    at = np.arange(side * side).reshape(side, side)
    right, below = np.roll(at, -1, axis=1), np.roll(at, -1, axis=0)
    pairs = np.concatenate([np.c_[at.ravel(), right.ravel()], np.c_[at.ravel(), below.ravel()]])
    tables, moves = lattice_gas(pairs, side * side, 8.0, -4.0)
    energy, _ = walked(tables, moves, 1 / t, 0.0, 12000)
    k = 2 / t
    kappa = 2 * math.sinh(k) / math.cosh(k) ** 2
    onsager = 1 + 2 / math.pi * (2 * math.tanh(k) ** 2 - 1) * ellipk(kappa**2)
    assert energy - 2 == pytest.approx(-onsager / math.tanh(k), abs=0.006)


def test_tempered_chain_and_its_free_energies():
    """Of n ions on a ring of N in k pieces there are N/k C(n-1, k-1) C(N-n-1, k-1)."""
    n, pair, temperatures = 20, 0.08, np.array([250, 400, 700])
    betas = 1 / (kB * temperatures)
    tables, moves = lattice_gas(np.array([[i, (i + 1) % n] for i in range(n)]), n, 0.0, pair)

    def exact(ions):
        k = np.arange(1, min(ions, n - ions) + 1)
        ways = [n / p * math.comb(ions - 1, p - 1) * math.comb(n - ions - 1, p - 1) for p in k]
        e = pair * (ions - k)
        log_p = np.log(ways) - betas[:, None] * e
        p = np.exp(log_p - log_p.max(axis=1, keepdims=True))
        return (p @ e) / p.sum(axis=1), -np.logaddexp.reduce(log_p, axis=1) / betas

    edges, found = (-BIN * N_BINS / 2, BIN, N_BINS), {}
    for ions in (8, 9):
        cells = np.zeros((3, n), np.int64)
        cells[:, :ions] = 1
        mean, into, out, kept, exchanged = kernel.tempered(
            tables, moves, cells, betas, 1.0, 6000, 200, 200, edges, 200, 7, chance_of(ions)
        )
        assert mean == pytest.approx(exact(ions)[0], abs=0.003)
        assert (kept.sum(axis=2) == ions).all() and (exchanged > 0.05).all()
        found[ions] = into, out
    steps = [bennett(found[8][0][t], found[9][1][t], betas[t]) for t in range(3)]
    assert np.abs(steps - (exact(9)[1] - exact(8)[1])).max() < 0.001, (
        steps,
        exact(9)[1] - exact(8)[1],
    )


# 3. Full enumeration


def ensemble(within, t, n):
    """`mk.charge_entropy` of a composition, per formula unit."""
    states, ions, e = everything(within)
    here = ions == n
    names = ["".join(map(str, d[: within.n_mobile])) for d in states[here]]
    orders = sum(name == names[0] for name in names)
    return mk.charge_entropy(e[here], np.ones(here.sum()), t, names, within.lattice.n_units, orders)


@pytest.mark.parametrize(
    "name, cell, scale",
    [("NaFePO4", 1, 0.03), ("Li3NiMnCoO6", (1, 2, 1), 0.01), ("MgMn2O4", (1, 1, 2), 0.02)],
)
def test_phase_diagram_is_that_of_all_arrangements(name, cell, scale):
    expansion, temperatures = toy(name, seed=3, scale=scale), (300, 450, 700)
    within = expansion.interactions(cell)
    d = mk.phase_diagram(
        expansion, temperatures, supercell=cell, sweeps=30, n_runs=32, progress=False
    )
    counts = within.lattice.compositions
    rows = [[ensemble(within, t, n) for n in counts] for t in temperatures]
    share = (d.x - d.x[0]) / (d.x[-1] - d.x[0])
    exact = {k: np.array([[r[k] for r in row] for row in rows]) for k in rows[0][0]}
    free = exact["free_energy"]
    ends = (1 - share) * free[:, :1] + share * free[:, -1:]
    assert np.ptp(free - ends) > 0.02  # there is something to be found
    assert d.error.max() < 0.002
    assert np.abs(d.free_energy - (free - ends)).max() < 4 * d.error.max() + BIN / 2
    assert d.energies.mean(axis=0) == pytest.approx(exact["energy"] - ends, abs=0.002)
    assert d.entropy / kB == pytest.approx(exact["entropy"] / kB, abs=0.1)
    assert d.electronic / kB == pytest.approx(exact["entropy_electronic"] / kB, abs=0.1)


def test_one_temperature_alone_gives_the_entropy_of_electrons_too():
    """It is integrated from perfect disorder down, also where nothing lies between."""
    expansion = toy("NaFePO4", seed=3)
    within = expansion.interactions(1)
    digits = within.digits([1, 1, 0, 0], [2, 2, 3, 3])
    energies = []
    for up in itertools.combinations(range(4), 2):
        states = np.where(np.isin(range(4), up), 3, 2)
        energies.append(within.energy(within.digits([1, 1, 0, 0], states)))
    for t in (100, 200, 500):
        beta = 1 / (kB * t)
        exact = mk.charge_entropy(energies, np.ones(6), t)["entropy"]
        found = heated(within, digits, np.array([beta]), 0.0, 3000, chance_of(1))
        assert found / kB == pytest.approx(exact / kB, abs=0.03)


# 4. Energies of an expansion


def encoded(expansion, within, digits):
    """Digits as smol's own code of an arrangement."""
    from smol.moca import ClusterExpansionProcessor

    lattice = within.lattice
    processor = ClusterExpansionProcessor(
        expansion.subspace, lattice.matrix, expansion.coefficients
    )
    _, held = disordered(lattice, within.aware)
    order = smol_order(expansion.subspace, lattice)
    species = [next(iter(space)) for space in processor.allowed_species]
    sites = np.append(lattice.mobile, lattice.redox) if within.aware else lattice.mobile
    for i, d in zip(sites, digits):
        species[order[i]] = held[int(i)][d]
    return processor.encode_occupancy(species)


def smols(expansion, within, digits):
    """The energy by smol's own processor (eV per supercell)."""
    from smol.moca import ClusterExpansionProcessor

    processor = ClusterExpansionProcessor(
        expansion.subspace, within.lattice.matrix, expansion.coefficients
    )
    return processor.compute_property(encoded(expansion, within, digits))


CELLS = {
    "LiCoO2": [1, (2, 1, 1), (3, 2, 1), [[1, 1, 0], [-1, 1, 0], [0, 0, 1]]],
    "Li3NiMnCoO6": [1, (1, 1, 2)],
    "LiMn2O4": [1, (1, 2, 1)],
    "MgMn2O4": [(1, 1, 2)],
}


@pytest.mark.parametrize("name", list(CELLS))
@pytest.mark.parametrize("aware", [True, False])
def test_correlations_are_those_of_smol(name, aware):
    """Of a structure, as its users give one to it."""
    subspace, rng = toy(name, seed=1, aware=aware).subspace, np.random.default_rng(0)
    for cell in CELLS[name]:
        lattice = toy(name, seed=1, aware=aware).interactions(cell).lattice
        functions = correlations_in(subspace, lattice, aware)
        order = smol_order(subspace, lattice)
        _, held = disordered(lattice, aware)
        for _ in range(3):
            filled, states = lattice.random(int(rng.choice(lattice.compositions)), rng)
            species = [Species(s, lattice.fixed.get(s, 0)) for s in lattice.atoms.symbols]
            for i, q in zip(lattice.redox, states) if aware else ():
                (species[i],) = (ion for ion in held[int(i)] if ion.oxi_state == q)
            there = np.setdiff1d(np.arange(len(species)), lattice.mobile[~filled])
            structure = Structure(
                lattice.atoms.cell.array,
                [species[i] for i in there],
                lattice.atoms.get_scaled_positions()[there],
            )
            expected = subspace.corr_from_structure(
                structure, scmatrix=lattice.matrix, site_mapping=order[there].tolist()
            )
            assert (functions(filled, states) == expected).all()


@pytest.mark.parametrize("name", list(CELLS))
@pytest.mark.parametrize("aware", [True, False])
def test_energies_are_those_of_smol(name, aware):
    """Also in a cell that is smaller than a cluster, where a site meets its own image."""
    expansion, rng = toy(name, seed=1, aware=aware), np.random.default_rng(0)
    host_symmetry = None
    for cell in CELLS[name]:
        within = expansion.interactions(cell)
        lattice = within.lattice
        sites = np.append(lattice.mobile, lattice.redox)
        energies = []
        for _ in range(4):
            filled, states = lattice.random(int(rng.choice(lattice.compositions)), rng)
            digits = within.digits(filled, states)
            energy = within.energy(digits)
            energies.append(energy)
            assert expansion.energy(lattice, filled, states) * lattice.n_units == pytest.approx(
                energy, abs=1e-9
            )
            assert smols(expansion, within, digits) == pytest.approx(energy, abs=1e-9)
            back = within.arrangement(digits)
            assert (back[0] == filled).all() and (not aware or (back[1] == states).all())
            host_symmetry = permutations(lattice.atoms, sites)
            everyone = np.append(filled.astype(int), states)
            for p in host_symmetry[:: max(1, len(host_symmetry) // 6)]:
                moved = (
                    everyone[[list(sites).index(i) for i in p]]
                    if p.max() >= len(sites)
                    else (everyone[p])
                )
                n = len(filled)
                turned = within.digits(moved[:n].astype(bool), moved[n:])
                assert within.energy(turned) == pytest.approx(energy, abs=1e-9)
        assert np.ptp(energies) > 0.001 or cell == 1


def test_energies_do_not_depend_on_the_supercell():
    expansion, rng = toy("NaFePO4", seed=2), np.random.default_rng(0)
    small = expansion.interactions(1)
    for cell in ((1, 2, 1), (2, 1, 2), [[1, 1, 0], [0, 1, 0], [0, 0, 2]]):
        large = expansion.interactions(cell)
        for n in (1, 2, 4):
            filled, states = small.lattice.random(n, rng)
            everyone = np.zeros(len(small.lattice.atoms), int)
            everyone[small.lattice.mobile], everyone[small.lattice.redox] = filled, states
            many = everyone[large.lattice.in_host]
            digits = large.digits(many[large.lattice.mobile] == 1, many[large.lattice.redox])
            copies = large.lattice.n_units / small.lattice.n_units
            assert large.energy(digits) == pytest.approx(
                copies * small.energy(small.digits(filled, states)), abs=1e-9
            )


def test_smol_predicts_the_same_of_a_crystal_that_it_maps_itself():
    from pymatgen.core import Species, Structure

    expansion, rng = toy("NaFePO4", seed=2), np.random.default_rng(1)
    within = expansion.interactions((1, 2, 1))
    filled, states = within.lattice.random(5, rng)
    atoms = within.lattice.decorated(filled, states)
    pairs = zip(atoms.get_chemical_symbols(), atoms.arrays["oxi_states"].tolist())
    crystal = Structure(
        atoms.cell.array, [Species(s, q) for s, q in pairs], atoms.get_scaled_positions()
    )
    wanted = within.energy(within.digits(filled, states))
    assert expansion.smol.predict(crystal) == pytest.approx(wanted, abs=1e-8)


def test_an_expansion_of_single_sites_alone_has_no_pairs():
    expansion = toy("LiCoO2", seed=1, cutoffs={2: 0.5})
    within = expansion.interactions((2, 2, 1))
    filled, states = within.lattice.random(2, np.random.default_rng(0))
    energy = within.energy(within.digits(filled, states))
    assert energy == pytest.approx(4 * expansion.energy(within.lattice, filled, states))
    assert mk.monte_carlo(expansion, 300, x=0.5, supercell=(2, 2, 1), progress=False).accepted == 1


# 5. Detailed balance


@njit
def visits(tables, moves, digits, on, fields, beta, mu, shares, n, chance, radix, n_codes):
    """How often a walk goes from each arrangement (as a number) to each."""
    flow = np.zeros((n_codes, n_codes), np.int64)
    before = (digits * radix).sum()
    for _ in range(n):
        kernel.walk(tables, moves, digits, on, fields, beta, mu, shares, 1, chance)
        now = (digits * radix).sum()
        flow[before, now] += 1
        before = now
    return flow


@pytest.mark.parametrize(
    "name, cell, aware, t, scale",
    [
        ("LiCoO2", (2, 2, 1), True, 700, 0.015),
        ("LiCoO2", (2, 2, 1), False, 500, 0.015),
        ("LiVO2", (3, 1, 1), True, 700, 0.015),
        ("Li3NiMnCoO6", 1, True, 500, 0.015),
        ("MgMn2O4", 1, True, 600, 0.05),
        ("NaFePO4", 1, True, 900, 0.08),
    ],
)
def test_flows_balance_and_visits_are_boltzmanns(name, cell, aware, t, scale):
    """Ions in and out, ions and electrons moved about, two- and three-state metals, one and two
    electrons of an ion."""
    within = toy(name, seed=5, scale=scale, aware=aware).interactions(cell)
    states, ions, energies = everything(within)
    beta, mu = 1 / (kB * t), 0.01
    radix = np.append(1, np.cumprod(within.tables.n_digits)[:-1])
    place = states @ radix
    digits = states[0].copy()
    on = kernel.variables_of(within.tables, digits)
    fields = kernel.fields_of(within.tables, on)
    shares, n = shares_of(within, exchange=True), 2_000_000
    n_codes = int(np.prod(within.tables.n_digits))
    flow = visits(
        within.tables, within.moves, digits, on, fields, beta, mu, shares, n, chance_of(7),
        radix, n_codes,
    )  # fmt: skip
    assert flow.sum() == flow[np.ix_(place, place)].sum()  # neutral ones only
    flow = flow[np.ix_(place, place)]
    log_p = -beta * (energies - mu * ions)
    p = np.exp(log_p - np.logaddexp.reduce(log_p))
    assert p.max() / p.min() > 3
    # every flow against that back: a counted difference of independent events, nearly
    there = flow + flow.T > 0
    off = (flow - flow.T)[there] / np.sqrt((flow + flow.T)[there])
    assert np.abs(off).max() < 5
    seen = flow.sum(axis=0)
    # what a walk remembers: a trial in some ten changes something
    kept = np.trace(flow) / n
    error = np.sqrt(p / n * 60 / (1 - kept))
    assert (np.abs(seen / n - p) < 4.5 * error).all(), np.abs((seen / n - p) / error).max()
    # and each flow is the share of trials that lead there times Boltzmann's: both ways alike
    busy = np.argwhere(np.triu(flow, 1) > 1500)
    assert len(busy) > 5
    for i, j in busy:
        rates = flow[i, j] / seen[i], flow[j, i] / seen[j]
        assert rates[0] * p[i] == pytest.approx(rates[1] * p[j], rel=0.12)


# 6. smol's sampler


def test_mean_energies_are_those_of_smols_sampler():
    from smol.moca import Ensemble, Sampler

    t, expansion, cell, n = 500, toy("LiCoO2", seed=4, scale=0.02), (3, 2, 2), 5
    within = expansion.interactions(cell)
    rng = np.random.default_rng(0)
    ensemble = Ensemble.from_cluster_expansion(expansion.smol, within.lattice.matrix)
    sampler = Sampler.from_ensemble(ensemble, temperature=t, step_type="swap", seeds=[1])
    occupation = encoded(expansion, within, within.digits(*within.lattice.random(n, rng)))
    sampler.run(60000, np.array([occupation]), thin_by=50, progress=False)
    theirs = sampler.samples.get_energies(discard=200) / within.lattice.n_units
    blocks = theirs[: len(theirs) // 20 * 20].reshape(20, -1).mean(axis=1)
    error = blocks.std(ddof=1) / math.sqrt(20)
    ours = mk.monte_carlo(
        expansion, t, x=n / 12, supercell=cell, sweeps=40000, n_blocks=40, progress=False
    )
    assert error < 0.002 < theirs.std()
    assert ours.energy == pytest.approx(theirs.mean(), abs=4 * error)


# 7. Free energies of histograms, and thermodynamics


@pytest.mark.parametrize("width", [0.5, 3, 12])
def test_bennett_finds_the_difference_of_gaussian_histograms(width):
    """What an ion costs is N(m, s^2) on the way in and -N(m - s^2 / kT, s^2) on the way out where
    F differs by m - s^2 / 2kT; at s = 12 kT the two lie 144 kT apart."""
    beta, m = 1 / (kB * 300), 0.7
    s = width / beta
    cost = BIN * (np.arange(N_BINS) + 0.5 - N_BINS / 2)
    into = 0.3 * np.exp(-((cost - m) ** 2) / (2 * s**2)) / s
    out = 0.3 * np.exp(-((cost + m - beta * s**2) ** 2) / (2 * s**2)) / s
    assert bennett(into, out, beta) == pytest.approx(m - beta * s**2 / 2, abs=1e-4)


def test_bennett_where_nothing_overlaps_is_half_way_and_of_nothing_is_nan():
    into, out = np.zeros(N_BINS), np.zeros(N_BINS)
    into[N_BINS // 2 + 1000], out[N_BINS // 2 - 400] = 0.1, 0.2
    for t in (20, 300):
        beta = 1 / (kB * t)
        # in costs 0.50 and out -0.20, so F lies half way; from ln(0.1 / 0.2) on
        half = 0.35 + math.log(2) / (2 * beta)
        assert bennett(into, out, beta) == pytest.approx(half, abs=BIN)
    assert np.isnan(bennett(into, 0 * out, 40.0))


@pytest.fixture(scope="module")
def diagram():
    return mk.phase_diagram(
        toy("LiCoO2", seed=4, scale=0.02),
        np.linspace(250, 700, 10),
        (2, 2, 1),
        sweeps=20,
        n_runs=8,
        progress=False,
    )


def test_energy_is_the_slope_of_free_energy_over_temperature(diagram):
    d = diagram
    beta = 1 / d.temperatures
    slope = (d.energies.mean(axis=0)[1:] + d.energies.mean(axis=0)[:-1]) / 2
    integral = (slope * np.diff(beta)[:, None]).sum(axis=0)
    change = (d.free_energy / d.temperatures[:, None])[[0, -1]]
    assert np.ptp(d.energies) > 0.02
    error = np.sqrt(((d.error / d.temperatures[:, None])[[0, -1]] ** 2).sum(axis=0))
    wanted = change[1] - change[0]
    assert np.abs(wanted).max() > 50 * 1e-6
    assert (np.abs(integral - wanted) < 4 * error + 4e-6).all(), (integral - wanted, error)


def test_runs_up_and_down_agree(diagram):
    d = diagram
    ups, downs = d.free_energies[::2], d.free_energies[1::2]
    assert d.error.max() < 0.003
    gap = ups.mean(axis=0) - downs.mean(axis=0)
    assert np.abs(gap).max() < 10 * d.error.max()  # of the difference of halves, two of a mean


def test_two_phases_lie_under_a_common_tangent():
    """Of a regular solution ln(x / (1 - x)) = w (2x - 1), w = 2.5; potential and voltage are flat
    between its two ends."""
    kt, w, x = kB * 300, 2.5, np.linspace(0, 1, 201)
    f = kt * (w * x * (1 - x) - entr(x) - entr(1 - x))
    free = np.array([[f], [f]])
    lattice = toy("LiCoO2").interactions(1).lattice
    d = mk.PhaseDiagram(
        lattice, x, np.array([300.0]), free, free, 0 * free[0], np.zeros((1, 1, 2), int),
        np.array([0]), True, 3.0,
    )  # fmt: skip
    exact = brentq(lambda y: math.log(y / (1 - y)) - w * (2 * y - 1), 0.001, 0.4)
    ((low, high, depth),) = d.gaps(300)
    assert (low, high) == pytest.approx((exact, 1 - exact), abs=0.006)
    assert depth == pytest.approx(f[100] - f[round(200 * low)], abs=1e-6)
    at, volts = d.voltage(300)
    assert volts[(at > low) & (at < high)] == pytest.approx(3.0, abs=1e-6)
    y = at[10]
    assert d.potential(300)[1][10] == pytest.approx(
        kt * (math.log(y / (1 - y)) + w * (1 - 2 * y)), abs=kt * 0.01
    )
    row = d.boundaries.iloc[0]
    assert (row.x_low, row.x_high, row.error_low) == pytest.approx((low, high, 0.005))
    assert "to" in str(d).splitlines()[1]


# 8. Files, bad input, and a real model


@pytest.fixture(scope="module")
def files(tmp_path_factory, diagram):
    """{reader: (path, what was written)}."""
    folder, expansion = tmp_path_factory.mktemp("kept"), toy("Li3NiMnCoO6", seed=1)
    c = expansion.configurations
    table = c.table.assign(energy=[-1.5, -2.25], kept=[True, False], reason=["", 'a, "b"'])
    c = mk.Configurations(table, c.host, c.compound, c.fixed, True)
    written = {
        "configurations": c,
        "expansion": mk.Expansion(c, *[getattr(expansion, k) for k in EXPANSION]),
        "phases": diagram,
    }
    for name, each in written.items():
        getattr(mk, f"write_{name}")(folder / f"{name}.json", each)
    return {name: (folder / f"{name}.json", each) for name, each in written.items()}


EXPANSION = ("cutoffs", "coefficients", "penalty", "rmse", "spread")


def test_what_was_written_is_read(files):
    path, c = files["configurations"]
    again = mk.read_configurations(path)
    pd.testing.assert_frame_equal(again.table, c.table)
    assert repr(again.compound) == repr(c.compound)
    assert (again.fixed, again.cell) == (c.fixed, True)
    assert again.host.positions == pytest.approx(c.host.positions, abs=1e-7)
    assert str(again) == str(c) and "1 of 2" in str(c)
    path, e = files["expansion"]
    again = mk.read_expansion(path)
    for name in EXPANSION:
        assert np.all(getattr(again, name) == getattr(e, name))
    lattice = e.interactions((1, 1, 2)).lattice
    filled, states = lattice.random(4, np.random.default_rng(0))
    assert again.energy(lattice, filled, states) == e.energy(lattice, filled, states)
    path, d = files["phases"]
    again = mk.read_phases(path)
    for name in ("x", "temperatures", "free_energies", "energies", "electronic", "entropy"):
        assert getattr(again, name) == pytest.approx(getattr(d, name), abs=1e-8)
    assert (again.snapshots == d.snapshots).all() and np.isnan(again.mean_voltage)
    one, other = again.snapshot(300, 0.5), d.snapshot(300, 0.5)
    assert one.info["x"] == pytest.approx(0.5) and one.arrays["oxi_states"].sum() == 0
    assert (one.arrays["oxi_states"] == other.arrays["oxi_states"]).all()
    assert str(again) == str(d)


def damaged(content, wrong):
    """Copies in which one entry, at any depth, is something else."""
    for key in content if isinstance(content, dict) else ():
        for value in wrong:
            yield f"{key}={value!r}", {**content, key: value}
        yield f"no {key}", {k: v for k, v in content.items() if k != key}
        for what, inner in damaged(content[key], wrong):
            yield f"{key}.{what}", {**content, key: inner}


@pytest.mark.parametrize("name", ["configurations", "expansion", "phases"])
def test_a_damaged_file_is_named(files, tmp_path, name):
    """Whatever is wrong with an entry, reading says which file; or takes it, as a voltage of -1."""
    good, _ = files[name]
    path, reader = tmp_path / "damaged.json", getattr(mk, f"read_{name}")
    text, taken = good.read_text(), []
    wrong = [None, [], {}, "x", -1, [[1, 2]], 1e300, [None]]
    cases = [(what, json.dumps(made)) for what, made in damaged(json.loads(text), wrong)]
    cases += [
        ("cut", text[: len(text) // 2]),
        ("empty", ""),
        ("list", "[1]"),
        ("deep", "[" * 99999),
    ]
    for old, new in {
        "11": "1", "2 4": "2 5", ",True,": ",maybe,", "-1.5": "nan", "1x1x1": "900x900x900",
    }.items():  # fmt: skip
        if old in text and name != "phases":
            cases.append((f"{old} -> {new}", text.replace(old, new)))
    for what, made in cases:
        path.write_text(made)
        try:
            reader(path)
            taken.append(what.rsplit("=", 1)[0])
        except mk.InputError as said:
            assert str(path) in str(said), what
    with pytest.raises(mk.InputError, match="no file"):
        reader(tmp_path / "another.json")
    path.write_bytes(b"\x89HDF\xff\x00")
    with pytest.raises(mk.InputError, match=r"damaged\.json"):
        reader(path)
    loose = ("cell", "fixed", "voltage", "compound", "host", "penalty", "rmse", "spread", "cutoffs",
             "coefficients", "aware", "x", "temperatures", "free_energies", "energies",
             "electronic", "supercell")  # fmt: skip
    assert all(any(word in what for word in loose) for what in taken), taken


def test_bad_input_gets_a_sentence():
    expansion = toy("LiCoO2", seed=1)
    c, cell = expansion.configurations, (2, 2, 1)

    def of(table):
        return mk.Configurations(table, c.host, c.compound, c.fixed, False)

    def said(function, *args, **named):
        with pytest.raises(mk.InputError) as wrong:
            function(
                *args, **named, **({} if function is mk.fit_expansion else {"progress": False})
            )
        return str(wrong.value)

    assert "1 of 1 configurations" in said(mk.fit_expansion, of(c.table[:1]))
    alike = pd.concat([c.table[:1]] * 12, ignore_index=True)
    assert "two compositions" in said(mk.fit_expansion, of(alike))
    assert "at least 10" in said(mk.fit_expansion, of(c.table.assign(kept=False)))
    for wrong in (0, -300, np.nan, "300", None):
        assert "above 0" in said(mk.monte_carlo, expansion, wrong, x=0.5)
        assert "above 0" in said(mk.phase_diagram, expansion, (300, wrong))
    assert "empty" in said(mk.phase_diagram, expansion, ())
    for x in (1.3, 7, -0.1):
        assert "x" in said(mk.monte_carlo, expansion, 300, x=x, supercell=cell)
    assert "go from 0 to 1" in said(mk.monte_carlo, expansion, 300, x=1.3, supercell=cell)
    for both in ({}, {"x": 0.5, "mu": 0.0}):
        assert "one of the two" in said(mk.monte_carlo, expansion, 300, supercell=cell, **both)
    for function in (mk.monte_carlo, mk.phase_diagram):
        assert "fit_expansion" in said(function, c, 300)
    assert "spans a volume" in said(mk.monte_carlo, expansion, 300, 0.5, supercell=(0, 1, 1))
    assert "sample_configurations" in said(mk.fit_expansion, expansion)


@pytest.mark.parametrize(
    "ion, redox, why",
    [
        ("Li", {"Sn": (2, 4)}, "2 apart|differ by one ion"),
        ("Li", {"V": (2, 3, 5)}, "equally far apart"),
    ],
)
def test_no_neutral_move(monkeypatch, ion, redox, why):
    metal = next(iter(redox))
    monkeypatch.setitem(HOSTS, "odd", (lambda: rhombohedral(metal=metal), ion, redox))
    host = HOSTS["odd"][0]()
    assert lattice_of(host, mk.Compound(ion, redox), (2, 1, 1)).compositions
    expansion = toy("odd", seed=0)
    for call in (
        lambda: mk.monte_carlo(expansion, 300, x=0.5, supercell=(2, 1, 1), progress=False),
        lambda: mk.phase_diagram(expansion, (300,), supercell=(2, 1, 1), progress=False),
    ):
        with pytest.raises(mk.InputError, match=why):
            call()


@pytest.fixture(scope="module")
def sampled(tmp_path_factory):
    ends = mk.end_points(mk.load_dft())
    host = next(a for a in ends if a.info["x"] == 1)
    model = mk.load_model("cpainn", charge_aware=True)
    given = {"ends": ends, "supercells": [1], "processes": 1, "progress": False, "fmax": 0.1}
    given["folder"] = tmp_path_factory.mktemp("sampled")
    return host, model, given, mk.sample_configurations(host, model, n=5, **given)


def test_sampled_energies_are_those_of_relax(sampled):
    _, model, given, c = sampled
    assert len(c.table) == 5 and c.aware and not c.cell
    assert sorted(c.table["x"])[0] == 0 and sorted(c.table["x"])[-1] == 1
    lattice, checked = c.lattice("1x1x1"), 0
    geometries = relaxed.relaxed_ends(
        lattice, given["ends"], model, {"processes": 1, "progress": False}, OPTIONS
    )
    low, high = geometries[min(geometries)], geometries[max(geometries)]
    for row in c.kept.iloc[[1, 2]].itertuples():
        filled, states = c.occupations(row)
        cell, shifts = ((1 - row.x) * a + row.x * b for a, b in zip(low, high))
        start = lattice.decorated(filled, states, cell, shifts)
        start.rattle(0.01, seed=17)  # from elsewhere into the same well
        found = mk.relax(start, model, fmax=0.1)
        assert found.converged
        assert row.energy == pytest.approx(found.energies[-1] / lattice.n_units, abs=0.004)
        assert found.atoms.cell.array == pytest.approx(lattice.matrix @ cell, abs=1e-6)
        checked += 1
    assert checked == 2


OPTIONS = {
    "fmax": 0.1,
    "steps": 500,
    "cell": False,
    "optimizer": "LBFGSLineSearch",
    "seconds": None,
}


def test_a_model_that_leaves_the_end_members_is_spoken_of(sampled):
    host, model, given, _ = sampled
    ends = [a.copy() for a in given["ends"] if a.info["x"] in (0, 1)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mk.sample_configurations(host, model, n=2, **{**given, "ends": ends})
    full = next(a for a in ends if a.info["x"] == 1)
    sodium = int(np.flatnonzero(full.symbols == "Na")[2])
    full.positions[sodium] += [0.0, 0.0, 0.5]  # not relaxed at all; the model moves it back
    with pytest.warns(
        UserWarning, match=r"Fe4Na4O16P4 as ends= gives it the model relaxes Na 0\.[345]\d Å away"
    ):
        mk.sample_configurations(host, model, n=2, **{**given, "ends": ends, "folder": None})


def test_a_longer_list_begins_with_the_shorter_one(sampled):
    host, model, given, c = sampled
    assert mk.sample_configurations(host, model, n=3, **given).table.equals(c.table[:3])
    drawn = relaxed._drawn(relaxed._lattices(c.lattice("1x1x1"), None), 40, 3, model)
    again = relaxed._drawn(relaxed._lattices(c.lattice("1x1x1"), None), 90, 3, model)[:40]
    assert all((a[1] == b[1]).all() and (a[2] == b[2]).all() for a, b in zip(drawn, again))
    assert len({(name_of(a[0].matrix), *a[1], *a[2]) for a in drawn}) == 40


def test_an_extension_adds_what_was_not_there(sampled):
    _, model, given, _ = sampled
    whole = mk.load_configurations(cells="fixed")
    single = whole.table[whole.table["supercell"] == "1x1x1"].reset_index(drop=True)
    c = Configurations(single, whole.host, whole.compound, whole.fixed, whole.cell)
    how = {**given, "folder": None, "fmax": 0.3, "supercells": [(1, 2, 1)]}
    more = mk.extend_configurations(c, model, n=3, rounds=1, **how)
    assert more.table[: len(c.table)].equals(c.table) and len(more.table) == len(c.table) + 3
    arrangements = more.table[["supercell", "ions", "states"]]
    new = arrangements[len(c.table) :]
    assert not arrangements.duplicated(keep=False)[len(c.table) :].any()
    assert "1x2x1" in set(new["supercell"])


def test_a_ground_state_invented_in_a_doubled_cell_is_met():
    # fitted to cells along one axis, cPaiNN's expansion has an order at x = 0.5 that doubles a and
    # b; the potential has it 25 meV per formula unit higher
    whole = mk.load_configurations()
    doubled = whole.table["supercell"].isin(["2x2x1", "2x1x2", "1x2x2"])
    assert doubled.any()
    before = Configurations(
        whole.table[~doubled], whole.host, whole.compound, whole.fixed, whole.cell
    )
    more = relaxed._lattices(whole.lattice("1x1x1"), [(2, 2, 1)])
    expansion = mk.fit_expansion(before)
    assert relaxed._wanted(expansion, 2, 0, [])[1]
    wanted, known = relaxed._wanted(expansion, 2, 0, more)
    lattice, filled, _ = wanted[0]
    assert name_of(lattice.matrix) == "2x2x1" and filled.mean() == 0.5 and not known
    assert relaxed._wanted(mk.fit_expansion(whole), 2, 0, more)[1]


def test_a_charge_blind_model_has_no_states(sampled):
    host, _, given, _ = sampled
    blind = mk.load_model("cpainn", charge_aware=False)
    c = mk.sample_configurations(host, blind, n=3, **{**given, "folder": None, "fmax": 0.3})
    assert not c.aware and (c.table["states"] == "").all() and c.kept["energy"].notna().all()


def test_a_cell_that_is_not_what_was_asked_for_is_marked(sampled):
    _, model, _, c = sampled
    lattice = c.lattice("1x1x1")
    filled = np.array([True, True, False, False])
    states = np.array([2, 2, 3, 3])
    start = lattice.decorated(filled, states)
    moments = np.zeros(len(start))
    irons = [i for i, s in enumerate(start.symbols) if s == "Fe"]
    right, swapped = [3.73, 3.73, 4.31, 4.31], [3.73, 4.31, 3.73, 4.31]

    def judged(of, atoms=start, reason="converged"):
        atoms = atoms.copy()
        moments[irons] = of
        atoms.calc = SinglePointCalculator(atoms, energy=-1.0, magmoms=moments.copy())
        return relaxed._wrong(
            lattice, filled, start, mk.Relaxation([atoms], None, reason, 0.0), model
        )

    assert judged(right) == ""
    assert judged(swapped) == "charges moved"
    assert judged([4.31] * 4) == "charges moved"
    assert judged(right, reason="step limit") == "step limit"
    moved = start.copy()
    moved.positions[irons[0]] += (1.8, 0.9, 1.2)
    assert judged(right, moved) == "an atom left its site"
    for stretch, says in (((1.04, 0.97, 1), ""), ((1, 1, 1.06), "the cell lost its shape")):
        strained = start.copy()
        strained.set_cell(start.cell.array * stretch, scale_atoms=True)
        assert judged(right, strained) == says
        # a cell that has only turned has kept its shape
        strained.rotate(20, (1, 2, 3), rotate_cell=True)
        assert judged(right, strained) == says
