"""Relaxing one structure: against ASE alone, limits, cells, valences, and what cannot be relaxed."""

import numpy as np
import pytest
from ase import Atoms
from ase.optimize import LBFGS

import mlipkit as mk


@pytest.fixture(scope="module")
def aware():
    return mk.load_model("cpainn", charge_aware=True)


@pytest.fixture(scope="module")
def blind():
    return mk.load_model("cpainn", charge_aware=False)


@pytest.fixture(scope="module")
def smooth():
    """With cPaiNN plain LBFGS swings without end from these starts, where a neighbour passes the
    cutoff; with MACE it converges.
    """
    return mk.load_model("mace", charge_aware=True)


@pytest.fixture(scope="module")
def start(ends):
    host = next(a for a in ends if a.info["x"] == 1)
    atoms = mk.undistorted(next(a for a in ends if a.info["ordering"] == "x050_na01_fe02"), host)
    atoms.rattle(0.01, seed=0)
    return atoms


def test_same_path_as_ase_alone(start, smooth):
    found = mk.relax(start, smooth, optimizer="LBFGS", progress=False)
    atoms = start.copy()
    atoms.calc = smooth.calculator()
    alone = LBFGS(atoms, logfile=None)
    alone.run(fmax=0.05, steps=300)  # a swing must not hang the suite
    assert (
        found.converged
        and len(found.frames) == alone.nsteps + 1
        and found.atoms.positions == pytest.approx(atoms.positions, abs=2e-4)
    )
    assert found.max_forces[-1] <= 0.05 < found.max_forces[-2]
    assert (
        found.energies[0] == smooth.predict([start])[0].energy
        and found.energies[-1] < found.energies[0]
    )


def test_steps_hold_what_the_model_says(start, aware):
    found = mk.relax(start, aware, steps=3, progress=False)
    assert found.reason == "step limit" and [a.info["step"] for a in found.frames] == [0, 1, 2, 3]
    for atoms, p in zip(found.frames, aware.predict(found.frames)):
        assert atoms.get_potential_energy() == pytest.approx(
            p.energy, abs=1e-5
        ) and atoms.get_magnetic_moments() == pytest.approx(p.magmoms, abs=1e-4)
    assert (
        found.table.shape == (4, 2 + 2 * 4) and (found.table["state_4"] == found.states[:, 4]).all()
    )
    assert "oxi_states" in start.arrays and start.calc is None


def test_given_charges_stay_with_the_aware_model_and_flip_without(start, aware, blind):
    kept, lost = (mk.relax(start, m, optimizer="FIRE", progress=False) for m in (aware, blind))
    assert not len(kept.flipped_sites) and not len(kept.flips)
    # the same crystal with the holes on the other two Fe: a blind model cannot know
    other = start.copy()
    fe = np.flatnonzero(other.symbols == "Fe")
    other.arrays["oxi_states"][fe] = 5 - other.arrays["oxi_states"][fe]
    again = mk.relax(other, blind, optimizer="FIRE", progress=False)
    assert (
        again.energies[:10] == pytest.approx(lost.energies[:10], abs=1e-3)
        and (again.states[-1] == lost.states[-1]).all()
    )
    # wherever it puts them, in one of the two every site is wrong
    assert len(lost.flipped_sites) + len(again.flipped_sites) == 4
    flips = (lost if len(lost.flipped_sites) else again).flips
    assert flips["step"].iloc[0] == 0 and set(flips["before"]) | set(flips["after"]) == {2, 3}


def test_limits(start, aware):
    assert mk.relax(start, aware, seconds=0, progress=False).reason == "time limit"
    assert len(mk.relax(start, aware, steps=0, progress=False).frames) == 1


def test_interrupt_keeps_what_was_reached(start, aware):
    class Stopping(LBFGS):
        def step(self, *args):
            if self.nsteps == 2:
                raise KeyboardInterrupt
            return super().step(*args)

    found = mk.relax(start, aware, optimizer=Stopping, progress=False)
    assert found.reason == "interrupted" and len(found.frames) == 3


@pytest.mark.parametrize("optimizer", ["FIRE", "LBFGS", "PreconLBFGS", "BFGSLineSearch"])
def test_optimisers_end_in_one_place(start, smooth, optimizer):
    found, usual = (
        mk.relax(start, smooth, optimizer=optimizer, progress=False),
        mk.relax(start, smooth, progress=False),
    )
    # eV per cell: 1 meV/atom
    assert found.converged and found.energies[-1] == pytest.approx(usual.energies[-1], abs=0.028)


def test_converges_where_neighbours_pass_the_cutoff(ends, aware):
    """Plain LBFGS swings to and fro here for 300 steps."""
    host = next(a for a in ends if a.info["x"] == 1)
    atoms = mk.undistorted(next(a for a in ends if a.info["ordering"] == "x050_na02_fe13"), host)
    atoms.rattle(0.01, seed=0)
    found = mk.relax(atoms, aware, progress=False)
    assert found.converged and len(found.frames) < 80


def test_with_the_cell(start, aware):
    small = start.copy()
    small.set_cell(small.cell * 0.98, scale_atoms=True)
    found = mk.relax(small, aware, cell=True, steps=150, progress=False)
    assert found.converged and found.atoms.get_volume() > 1.01 * small.get_volume()
    # eV per atom, as the filter counts it
    assert np.abs(found.atoms.get_stress()).max() * found.atoms.get_volume() / len(small) < 0.05


def test_fixed_atoms_stay(start, aware):
    from ase.constraints import FixAtoms

    held = start.copy()
    held.set_constraint(FixAtoms([0, 5]))
    found = mk.relax(held, aware, steps=5, progress=False)
    moved = np.linalg.norm(found.atoms.positions - start.positions, axis=1)
    assert moved[[0, 5]].max() == 0 and moved.max() > 0.01


def test_what_cannot_be_relaxed_is_a_sentence(start, aware):
    twice = start + start[[7]]
    with pytest.raises(mk.InputError, match=r"atoms 7 \(P|atoms 7 \(Fe\) and 26|0.00 Å apart"):
        mk.relax(twice, aware, progress=False)
    far = Atoms("FeO2", [(0, 0, 0), (1.9, 0, 0), (15, 15, 15)], cell=[30, 30, 30], pbc=True)
    with pytest.raises(mk.InputError, match=r"atom 2 \(O\) has no neighbour within 6 Å"):
        mk.relax(far, aware, progress=False)
    foreign = start.copy()
    foreign.symbols[0] = "K"
    with pytest.raises(mk.InputError, match="was not trained on K"):
        mk.relax(foreign, aware, progress=False)
    unlabelled = start.copy()
    del unlabelled.arrays["oxi_states"]
    with pytest.raises(mk.InputError, match="infer_oxidation_states"):
        mk.relax(unlabelled, aware, progress=False)
    with pytest.raises(mk.InputError, match="there is no optimiser 'Newton'"):
        mk.relax(start, aware, optimizer="Newton", progress=False)


def test_a_model_that_explodes_ends_the_relaxation_with_a_reason(start):
    import torch

    broken = mk.load_model("cpainn", charge_aware=True)
    with torch.no_grad():
        for name, parameter in broken.network.named_parameters():
            if name.startswith("energy"):
                parameter.mul_(100.0)
    found = mk.relax(start, broken, progress=False, steps=20)
    assert "stray" in found.reason and not found.converged
    with torch.no_grad():
        next(p for name, p in broken.network.named_parameters() if name.startswith("energy")).fill_(
            float("nan")
        )
    with pytest.raises(mk.InputError, match="no finite energy"):
        mk.relax(start, broken, progress=False)
