"""The cells of the DFT campaign, and the gates between campaign and set. Needs no GPAW."""

from math import comb

import collect
import numpy as np
import olivine
import pytest
from ase.calculators.singlepoint import SinglePointCalculator

import mlipkit as mk


def test_degeneracies_count_every_combination():
    table = olivine.arrangements()
    assert len(table) == 16
    for n in range(5):
        assert sum(g for (na, _), g in table.items() if len(na) == n) == comb(4, n) ** 2


def test_classes_by_burnside():
    """Orbits = mean number of combinations that an operation leaves alone."""
    import itertools

    perms = olivine.permutations()
    fixed = 0
    for p in perms:
        for n in range(5):
            fixed += sum(
                set(p[list(na)]) == set(na) for na in itertools.combinations(range(4), n)
            ) * sum(
                {4 + f for f in fe} == set(p[[4 + f for f in fe]])
                for fe in itertools.combinations(range(4), 4 - n)
            )
    assert fixed / len(perms) == len(olivine.arrangements())


@pytest.mark.parametrize("ion", olivine.FULL)
def test_host_is_pnma_and_starts_have_their_cages(ion):
    import spglib

    host = olivine.host(1.0, ion)
    assert (
        spglib.get_spacegroup(
            (host.cell.array, host.get_scaled_positions(), host.numbers), symprec=1e-3
        )
        == "Pnma (62)"
    )
    # the two families have FePO4 in common
    assert olivine.host(0, ion)[4:] == olivine.host(0)[4:]
    mixed = [j for j in olivine.jobs() if j.kind == "relax" and j.ion == ion and 0 < j.x < 1]
    assert len(mixed) == 14
    for job in mixed:
        atoms = olivine.start(job)
        assert atoms.symbols.count(ion) == len(job.ions) and len(atoms) == 24 + len(job.ions)
        oxygen = np.flatnonzero(atoms.symbols == "O")
        cages = {2: [], 3: []}
        for i, state in zip(np.flatnonzero(atoms.symbols == "Fe"), job.oxi_states):
            cages[state].append(np.sort(atoms.get_distances(i, oxygen, mic=True))[:6].mean())
        assert min(cages[2]) > max(cages[3]) + 0.02, job.name  # Å


def test_displaced_cells_are_the_same_at_every_call():
    job = olivine.jobs()[3]
    relaxed = olivine.start(job)
    first = list(olivine.displaced(job, relaxed))
    again, working = [], relaxed.copy()
    for kind, atoms in olivine.displaced(job, relaxed.copy()):
        # the campaign moves its own atoms in between
        working.positions[:] = atoms.positions
        again.append((kind, atoms))
    assert len(first) == olivine.N_RATTLED + olivine.N_STRAINED
    for (kind, a), (_, b) in zip(first, again):
        assert np.array_equal(a.positions, b.positions)
        strain = np.linalg.solve(relaxed.cell.array, a.cell.array) - np.eye(3)
        assert np.abs(strain).max() < 0.0301 and (
            kind.startswith("strained") == bool(np.abs(strain).max() > 1e-9)
        )


def test_the_way_back_ends_on_the_host():
    known = {j.name: j for j in olivine.jobs()}
    job = known["x025_na0_fe013.back"]
    relaxed, host = olivine.start(known[job.tag]), olivine.undistorted(job)
    way = dict(olivine.moved_back(job, relaxed))
    assert (
        list(way) == ["back_0", "undistorted"]
        and host.get_chemical_symbols() == relaxed.get_chemical_symbols()
    )
    assert way["back_0"].positions == pytest.approx((relaxed.positions + host.positions) / 2)
    assert way["undistorted"].positions == pytest.approx(host.positions)
    # of end members too: formation energies on the host need them
    ways = {j.tag for j in known.values() if j.kind == "back"}
    assert ways == {j.tag for j in known.values() if j.kind == "relax" and j.ion == "Na"}


@pytest.mark.parametrize("ion, name", [("Na", "olivine"), ("Li", "olivine-li")])
def test_the_shipped_set_is_what_the_gates_make_of_the_campaign(ion, name):
    kept, free, _ = collect.collect(ion)
    frames = mk.load_dft(name)
    assert len(kept) == len(frames)
    if ion == "Na":
        assert len(free) == len(mk.load_dft("olivine-free-cells"))
    for a, b in zip(kept, frames):
        assert (a.info["job"], a.info["step"], a.info["ordering"], a.info["split"]) == (
            b.info["job"],
            b.info["step"],
            b.info["ordering"],
            b.info["split"],
        )
        assert a.get_potential_energy() == pytest.approx(b.get_potential_energy(), abs=1e-9)


def fake(
    energy, moments=(4.3, 4.3, 3.66, 3.66), orbital=0.9, kind="relax", step=0, net=0.0, released=0.0
):
    """A frame on a harmonic surface with its minimum at -1.4 eV, two atoms out of their places by
    what the energy says.
    """
    atoms = olivine.start(next(j for j in olivine.jobs() if j.name == "x050_na01_fe01"))
    q, k, forces = np.sqrt((energy - released + 1.4) / 10), 10.0, np.full((len(atoms), 3), net)
    for i, sign in ((-1, 1), (-2, -1)):
        atoms.positions[i, 0] += sign * q
        forces[i, 0] -= sign * k * q
    fe = atoms.symbols == "Fe"
    m, z = np.zeros(len(atoms)), np.zeros(len(atoms))
    m[fe], z[fe] = moments, orbital
    atoms.calc = SinglePointCalculator(atoms, energy=energy, magmoms=m, forces=forces)
    atoms.set_array("minority_3z2", z)
    atoms.info = {"x": 0.5, "job": "x050_na01_fe01", "kind": kind, "step": step, "density": 3e-4}
    return atoms


@pytest.mark.parametrize(
    "frames, reasons",
    [
        ([fake(-1.0), fake(-1.2), fake(-1.21)], ["", "", ""]),
        ([fake(-1.0), fake(-1.2), fake(-1.1), fake(-1.3)], ["", "", "uphill", ""]),
        ([fake(-1.0, moments=(4.18, 4.21, 3.80, 3.90)), fake(-1.2)], ["delocalised", ""]),
        ([fake(-1.0, net=0.011), fake(-1.2, net=0.009)], ["unconverged", ""]),
        (
            [fake(-1.0, orbital=1.0), fake(-1.1, orbital=0.8), fake(-1.2, orbital=0.6)],
            ["other_state", "", ""],
        ),
        # energy that no force accounts for
        (
            [fake(-1.0, released=0.06), fake(-1.18, released=0.02), fake(-1.2)],
            ["other_state", "", ""],
        ),
        # another run of this ordering ended at -1.3
        ([fake(-1.0), fake(-1.1, kind="final")], ["other_state", "other_state"]),
        ([fake(-1.0), fake(-1.25, kind="final")], ["", ""]),
    ],
)
def test_gates(frames, reasons):
    table, splits = olivine.arrangements(), {"x050_na01_fe01": "train"}
    clear = [collect.labelled(a, splits, table) for a in frames]
    assert (
        collect.gate(
            frames,
            clear,
            {"x050_na01_fe01": -1.3 if frames[-1].info["kind"] == "final" else np.inf},
            frames[-1],
        )
        == reasons
    )
    # a repeat that has not ended
    assert set(collect.gate(frames, clear, {}, None)) <= {
        "other_state",
        "delocalised",
        "unconverged",
    }


def test_frames_are_labelled_by_what_was_found():
    # seeded 3+ on sites 0 and 1, found on 2 and 3
    atoms = fake(-1.0, moments=(3.66, 3.66, 4.3, 4.3))
    collect.labelled(
        atoms, {olivine.tag_of(*olivine.canonical((0, 1), (2, 3))): "train"}, olivine.arrangements()
    )
    assert atoms.info["tag"] == "x050_na01_fe23" and atoms.info["ordering"] == olivine.tag_of(
        *olivine.canonical((0, 1), (2, 3))
    )
    assert mk.infer_oxidation_states(atoms).states[
        mk.infer_oxidation_states(atoms).sites
    ].tolist() == [2, 2, 3, 3]
