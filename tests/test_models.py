"""The CHGNet adapter against upstream CHGNet, finite differences, and the laws that any potential obeys."""
import numpy as np
import pytest
import torch
from ase.stress import voigt_6_to_full_3x3_stress
from pymatgen.io.ase import AseAtomsAdaptor

import mlipkit as mk
from mlipkit.models.chgnet import GPA, CHGNetPotential


@pytest.fixture(scope="module")
def published():
    return mk.load_model("chgnet", charge_aware=None)


@pytest.fixture(scope="module")
def aware():
    return mk.load_model("chgnet", charge_aware=True)


@pytest.fixture(scope="module")
def blind():
    return mk.load_model("chgnet", charge_aware=False)


def test_equals_upstream(published, frames):
    some = frames[3::25]
    upstream = published.network.predict_structure([AseAtomsAdaptor.get_structure(a) for a in some], batch_size=2)
    for atoms, ours, theirs in zip(some, published.predict(some, batch_size=3), upstream):
        assert ours.energy / len(atoms) == pytest.approx(theirs["e"], abs=1e-5)
        assert ours.forces == pytest.approx(theirs["f"], abs=2e-4)      # single precision, forces of several eV/Å
        assert voigt_6_to_full_3x3_stress(ours.stress) / GPA == pytest.approx(theirs["s"], abs=5e-3)
        assert ours.magmoms == pytest.approx(theirs["m"], abs=1e-5)


def test_untrained_blind_and_aware_agree_where_there_is_no_fe3(published, ends):
    fresh, full = CHGNetPotential.pretrained(charge_aware=True), next(a for a in ends if a.info["x"] == 1)
    assert fresh.predict([full])[0].energy == published.predict([full])[0].energy
    empty = next(a for a in ends if a.info["x"] == 0)
    assert abs(fresh.predict([empty])[0].energy - published.predict([empty])[0].energy) > 1


def test_only_the_aware_model_sees_labels(blind, aware, mixed):
    fe = np.flatnonzero(mixed.symbols == "Fe")
    energies = {}
    for name, model in (("blind", blind), ("aware", aware)):
        atoms = mixed.copy()
        atoms.calc = model.calculator()
        before = atoms.get_potential_energy()
        atoms.arrays["oxi_states"][fe] = 5 - atoms.arrays["oxi_states"][fe]     # same geometry, labels swapped
        energies[name] = before, atoms.get_potential_energy()
    assert energies["blind"][0] == energies["blind"][1]
    assert energies["aware"][1] - energies["aware"][0] > 0.5        # eV per cell: the labels no longer fit the geometry


def test_calculator_caches_what_did_not_change(aware, mixed):
    atoms = mixed.copy()
    atoms.calc = aware.calculator()
    atoms.get_potential_energy()
    first = atoms.calc.results
    atoms.get_forces()
    assert atoms.calc.results is first


def test_forces_and_stress_are_derivatives(aware, mixed):
    energy = lambda a: aware.predict([a])[0].energy     # noqa: E731
    p, h = aware.predict([mixed])[0], 0.01
    for atom, axis in ((2, 0), (9, 1), (15, 2)):
        plus, minus = mixed.copy(), mixed.copy()
        plus.positions[atom, axis] += h
        minus.positions[atom, axis] -= h
        assert p.forces[atom, axis] == pytest.approx(-(energy(plus) - energy(minus)) / (2 * h), abs=0.02)
    for i, (a, b) in enumerate([(0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)]):
        cells = []
        for sign in (1, -1):
            strain = np.zeros((3, 3))
            strain[a, b] += sign * 0.002 / 2
            strain[b, a] += sign * 0.002 / 2
            other = mixed.copy()
            other.set_cell(mixed.cell.array @ (np.eye(3) + strain), scale_atoms=True)
            cells.append(energy(other))
        assert p.stress[i] == pytest.approx((cells[0] - cells[1]) / 0.004 / mixed.get_volume(), abs=2e-3)


def test_rotation_permutation_supercell(aware, mixed):
    p = aware.predict([mixed])[0]
    turned = mixed.copy()
    turned.rotate(40, (1, 2, 3), rotate_cell=True)
    q = aware.predict([turned])[0]
    assert q.energy == pytest.approx(p.energy, abs=2e-3)
    rotation = np.linalg.solve(mixed.cell.array, turned.cell.array)
    assert q.forces == pytest.approx(p.forces @ rotation, abs=2e-3)
    order = np.random.default_rng(0).permutation(len(mixed))
    r = aware.predict([mixed[order]])[0]
    assert r.energy == pytest.approx(p.energy, abs=2e-3) and r.magmoms == pytest.approx(p.magmoms[order], abs=1e-4)
    big = aware.predict([mixed.repeat((1, 1, 2))])[0]
    assert big.energy == pytest.approx(2 * p.energy, abs=5e-3) and big.stress == pytest.approx(p.stress, abs=1e-4)


def test_shipped_predictions_are_those_of_the_shipped_weights(frames, blind, aware):
    table = mk.load_predictions().set_index(["model", "job", "step"])
    some = frames[4::20]
    for name, model in (("blind", blind), ("aware", aware)):
        for atoms, p in zip(some, model.predict(some)):
            row = table.loc[(name, atoms.info["job"], atoms.info["step"])]
            assert p.energy == pytest.approx(row["energy"], abs=2e-3)
            assert p.magmoms[atoms.symbols == "Fe"] == pytest.approx(row[[f"magmom_{i}" for i in range(4)]].to_numpy(float), abs=1e-3)


def test_loading_leaves_torch_as_it_was(frames):
    before = torch.get_default_dtype(), torch.get_num_threads(), torch.get_rng_state()
    mk.load_model("chgnet", charge_aware=True).predict(frames[:1])
    assert (torch.get_default_dtype(), torch.get_num_threads()) == before[:2] and torch.equal(torch.get_rng_state(), before[2])


def test_cards_state_data_split_seed_and_errors():
    table = mk.list_models()
    assert set(table.index) >= {"chgnet_blind_seed0", "chgnet_aware_seed0"}
    blind, aware = (table.loc[f"chgnet_{k}_seed0"] for k in ("blind", "aware"))
    for column in ("seed", "epochs", "lr", "batch_size", "data_sha256", "frames.train", "parameters"):
        assert blind[column] == aware[column]                       # the two differ in the input alone
    assert aware["errors.test.energy"] > 0 and set(aware["split.train"]).isdisjoint(aware["split.test"])


def test_bad_input_is_a_sentence(aware, mixed):
    with pytest.raises(mk.InputError, match="there is no model 'mace'"):
        mk.load_model("mace")
    with pytest.raises(mk.InputError, match="seed7"):
        mk.load_model("chgnet", charge_aware=True, seed=7)
    far = mixed[:1].copy()
    far.set_cell([30, 30, 30])
    with pytest.raises(mk.InputError, match="CHGNet cannot describe this cell"):
        aware.predict([far])
    del mixed.arrays["oxi_states"]
    with pytest.raises(mk.InputError, match="infer_oxidation_states"):
        aware.predict([mixed])
