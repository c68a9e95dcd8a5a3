"""What holds for every architecture, blind and aware: the laws of physics, what labels do, and
manners towards torch.
"""

import itertools
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from ase import Atoms

import mlipkit as mk
from mlipkit.charges.species import PROXIES
from mlipkit.models.registry import ADAPTERS, adapter

NAMES = sorted(ADAPTERS)


@pytest.fixture(scope="module", params=NAMES)
def aware(request):
    return mk.load_model(request.param, charge_aware=True)


@pytest.fixture(scope="module")
def blind(aware):
    return mk.load_model(aware.architecture, charge_aware=False)


def test_only_the_aware_model_sees_labels(blind, aware, mixed):
    fe = np.flatnonzero(mixed.symbols == "Fe")
    energies = {}
    for name, model in (("blind", blind), ("aware", aware)):
        atoms = mixed.copy()
        atoms.calc = model.calculator()
        before = atoms.get_potential_energy()
        # same geometry, labels swapped
        atoms.arrays["oxi_states"][fe] = 5 - atoms.arrays["oxi_states"][fe]
        energies[name] = before, atoms.get_potential_energy()
    assert energies["blind"][0] == energies["blind"][1]
    # eV per cell: the labels no longer fit the geometry
    assert energies["aware"][1] - energies["aware"][0] > 0.3


def test_calculator_caches_what_did_not_change(aware, mixed):
    atoms = mixed.copy()
    atoms.calc = aware.calculator()
    atoms.get_potential_energy()
    first = atoms.calc.results
    atoms.get_forces()
    assert atoms.calc.results is first
    assert atoms.get_magnetic_moments().shape == (len(atoms),)


@pytest.fixture
def general(mixed):
    """Rattled and sheared: forces of eV/Å and all six stresses well away from zero."""
    atoms = mixed.copy()
    strain = np.array([[0.02, 0.015, -0.01], [0.015, -0.01, 0.02], [-0.01, 0.02, 0.01]])
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
    atoms.rattle(0.08, seed=2)
    return atoms


def test_forces_and_stress_are_derivatives(aware, general):
    mixed = general
    energy = lambda a: aware.predict([a])[0].energy
    p, h = aware.predict([mixed])[0], 0.005
    assert np.abs(p.stress).min() > 1e-3 and np.abs(p.forces).max() > 1
    for atom, axis in ((2, 0), (9, 1), (15, 2)):
        plus, minus = mixed.copy(), mixed.copy()
        plus.positions[atom, axis] += h
        minus.positions[atom, axis] -= h
        assert p.forces[atom, axis] == pytest.approx(
            -(energy(plus) - energy(minus)) / (2 * h), abs=0.02, rel=0.01
        )
    for i, (a, b) in enumerate([(0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)]):
        cells = []
        for sign in (1, -1):
            strain = np.zeros((3, 3))
            strain[a, b] += sign * 0.002 / 2
            strain[b, a] += sign * 0.002 / 2
            other = mixed.copy()
            other.set_cell(mixed.cell.array @ (np.eye(3) + strain), scale_atoms=True)
            cells.append(energy(other))
        assert p.stress[i] == pytest.approx(
            (cells[0] - cells[1]) / 0.004 / mixed.get_volume(), abs=5e-4, rel=0.01
        )


def test_rotation_permutation_supercell(aware, general):
    mixed = general
    p = aware.predict([mixed])[0]
    turned = mixed.copy()
    turned.rotate(40, (1, 2, 3), rotate_cell=True)
    q = aware.predict([turned])[0]
    assert q.energy == pytest.approx(p.energy, abs=2e-3)
    rotation = np.linalg.solve(mixed.cell.array, turned.cell.array)
    assert q.forces == pytest.approx(p.forces @ rotation, abs=2e-3)
    assert q.magmoms == pytest.approx(p.magmoms, abs=1e-3)
    order = np.random.default_rng(0).permutation(len(mixed))
    r = aware.predict([mixed[order]])[0]
    assert r.energy == pytest.approx(p.energy, abs=2e-3) and r.magmoms == pytest.approx(
        p.magmoms[order], abs=1e-4
    )
    assert r.forces == pytest.approx(p.forces[order], abs=2e-3)
    big = aware.predict([mixed.repeat((1, 1, 2))])[0]
    assert big.energy == pytest.approx(2 * p.energy, abs=5e-3) and big.stress == pytest.approx(
        p.stress, abs=1e-4
    )
    assert big.forces[: len(mixed)] == pytest.approx(p.forces, abs=2e-3)


def test_a_batch_is_its_frames(aware, frames):
    some = [frames[5], frames[60], frames[-1], frames[40]]  # of different sizes
    for one, several in zip(
        [aware.predict([a])[0] for a in some], aware.predict(some, batch_size=3)
    ):
        assert several.energy == pytest.approx(one.energy, abs=1e-3)
        assert several.forces == pytest.approx(
            one.forces, abs=1e-4
        ) and several.stress == pytest.approx(one.stress, abs=1e-5)
        assert several.magmoms == pytest.approx(one.magmoms, abs=1e-4)
    assert aware.predict([]) == []


def test_missing_unknown_and_unbalanced_labels(aware, mixed):
    fe = np.flatnonzero(mixed.symbols == "Fe")
    one_less = mixed.copy()
    one_less.arrays["oxi_states"][fe[mixed.arrays["oxi_states"][fe] == 3][0]] = 2
    with pytest.warns(UserWarning, match="oxidation states sum to -1, not to"):
        aware.predict([one_less])
    unknown = mixed.copy()
    unknown.arrays["oxi_states"][fe[1]] = 0
    with pytest.raises(mk.InputError, match=f"atom {fe[1]} \\(Fe\\) is not known"):
        aware.predict([unknown])
    two = mixed.copy()
    two.arrays["oxi_states"][fe] = [2, 4, 2, 3]
    with pytest.raises(mk.InputError, match="Fe2\\+ and Fe4\\+ would look the same"):
        aware.predict([two])
    bare = mixed.copy()
    del bare.arrays["oxi_states"]
    bare.calc = aware.calculator()
    with pytest.raises(mk.InputError, match="infer_oxidation_states"):
        bare.get_potential_energy()


@pytest.mark.parametrize("name", ["cpainn", "mace"])
def test_an_element_that_was_not_in_training_is_named(name, mixed):
    atoms = mixed.copy()
    atoms.symbols[0] = "Li"
    with pytest.raises(
        mk.InputError, match=f"this {name} model was not trained on Li; it knows O, Na, P, Fe"
    ):
        mk.load_model(name, charge_aware=False).predict([atoms])


def test_all_six_in_one_kernel_in_every_order_say_the_same_and_leave_torch_alone(mixed):
    six = list(itertools.product(NAMES, (False, True)))
    state = lambda: (
        torch.get_default_dtype(),
        torch.get_num_threads(),
        torch.get_rng_state().tolist(),
    )
    before, said = state(), {}
    for dtype in (torch.float32, torch.float64):  # whatever a person set
        torch.set_default_dtype(dtype)
        for order in (six, six[::-1], six[1::2] + six[::2]):
            for key in order:
                p = mk.load_model(key[0], charge_aware=key[1]).predict([mixed])[0]
                numbers = np.concatenate([[p.energy], p.forces.ravel(), p.stress, p.magmoms])
                # threads sum in any order
                assert np.allclose(said.setdefault(key, numbers), numbers, rtol=0, atol=1e-4), key
        assert torch.get_default_dtype() == dtype
        torch.set_default_dtype(torch.float32)
    assert state() == before and len({v[0] for v in said.values()}) == 6


def test_importing_mace_does_not_make_torch_unpickle():
    code = "import os, mlipkit as mk; mk.load_model('mace', charge_aware=False); print('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD' in os.environ)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.stdout == "False\n" and "Warning" not in ran.stderr, ran.stdout + ran.stderr


@pytest.mark.parametrize("name", NAMES)
def test_untrained_models_come_from_their_seed(name, frames):
    same = [
        adapter(name).fresh(frames[:2], PROXIES, seed=3).predict(frames[:1])[0].energy
        for _ in range(2)
    ]
    other = adapter(name).fresh(frames[:2], PROXIES, seed=4).predict(frames[:1])[0].energy
    # CHGNet starts from published weights
    assert same[0] == same[1] and (other != same[0] or name == "chgnet")


def test_painn_of_two_atoms_by_hand():
    """One pair at a distance r: the message is phi(s_j) * W(r) * f_cut(r), the force acts along the
    pair.
    """
    from mlipkit.models.cpainn import CPaiNNPotential
    from mlipkit.models.potential import building

    with building(1):
        model = CPaiNNPotential(
            CPaiNNPotential.build({"features": 8, "interactions": 2, "cutoff": 4.0, "n_heads": 2})
        )
    pair = Atoms("NaO", [[0, 0, 0], [1.0, 2.0, 0.5]])
    p = model.predict([pair])[0]
    assert p.forces[0] == pytest.approx(-p.forces[1], abs=1e-7)
    assert np.cross(p.forces[0], pair.positions[1]) == pytest.approx(np.zeros(3), abs=1e-7)
    assert p.charges.shape == p.magmoms.shape == (2,)
    far = Atoms("NaO", [[0, 0, 0], [4.001, 0, 0]])
    alone = [model.predict([far[[k]]])[0].energy for k in (0, 1)]
    assert model.predict([far])[0].energy == pytest.approx(sum(alone), abs=1e-6)
    far.positions[1, 0] = 3.999  # the cutoff is smooth
    assert model.predict([far])[0].energy == pytest.approx(sum(alone), abs=1e-6)


@pytest.mark.parametrize("max_l", [0, 1])
def test_moments_of_mace_do_not_turn_with_the_crystal(general, max_l):
    from mlipkit.models.mace import MACEPotential

    model = MACEPotential.fresh([general], PROXIES, channels=8, max_l=max_l, r_max=4.0)
    turned = general.copy()
    turned.rotate(50, (1, -2, 3), rotate_cell=True)
    p, q = model.predict([general, turned])
    assert np.ptp(p.magmoms) > 1e-3 and q.magmoms == pytest.approx(p.magmoms, abs=2e-5)


def test_what_no_potential_can_describe(aware, mixed):
    two = mixed.copy()
    two.positions[5] = two.positions[4]
    flat = mixed.copy()
    flat.set_cell([0, 0, 0])
    lost = mixed.copy()
    lost.positions[3, 0] = np.nan
    for atoms, says in (
        (two, "no finite energy"),
        (flat, "its cell has no volume"),
        (lost, "not a finite number"),
        (mixed[:0], "without atoms"),
    ):
        with pytest.raises(mk.InputError, match=says):
            aware.predict([atoms])
    molecule = mixed.copy()
    molecule.pbc = False
    if aware.architecture == "chgnet":
        with pytest.raises(mk.InputError, match="crystals only"):
            aware.predict([molecule])
    else:
        assert (
            aware.predict([molecule])[0].stress == pytest.approx(np.zeros(6), abs=1e-12)
            or aware.architecture == "mace"
        )


def test_neighbours_are_those_of_ase(mixed):
    from ase.neighborlist import neighbor_list

    from mlipkit.models.potential import neighbours

    i, j, shift = neighbours(mixed, 5.0)
    theirs = set(
        zip(
            *(x.tolist() for x in neighbor_list("ij", mixed, 5.0)),
            map(tuple, neighbor_list("S", mixed, 5.0).tolist()),
        )
    )
    assert set(zip(i.tolist(), j.tolist(), map(tuple, shift.tolist()))) == theirs and len(i) == len(
        theirs
    )


def test_mace_is_what_mace_torch_says(mixed, general):
    """Our graph and batch against mace-torch's own data pipeline, on one set of weights."""
    model = mk.load_model("mace", charge_aware=True)
    from mace import data, tools
    from mace.tools import torch_geometric

    args = model.network.model_args
    mixed = general
    seen = mixed.copy()
    seen.numbers = model.numbers(mixed)
    table = tools.AtomicNumberTable(model.network.mace.atomic_numbers.tolist())
    config = data.config_from_atoms(seen)
    batch = next(
        iter(
            torch_geometric.dataloader.DataLoader(
                [data.AtomicData.from_config(config, table, cutoff=args["r_max"])], batch_size=1
            )
        )
    )
    theirs = model.network.mace(batch.to_dict(), compute_stress=True)
    ours = model.predict([mixed])[0]
    assert ours.energy == pytest.approx(float(theirs["energy"]), abs=1e-3)
    assert ours.forces == pytest.approx(theirs["forces"].detach().numpy(), abs=1e-4)
    assert ours.stress == pytest.approx(
        theirs["stress"][0].detach().numpy()[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]], abs=1e-5
    )


def test_foundation_model_offline_and_from_the_cache(tmp_path, mixed):
    """mace-torch's loader: a sentence without a network; with the file in its cache (here a small
    model of ours) it loads.
    """
    code = """
import sys, torch, numpy as np, mlipkit as mk
from pathlib import Path
from mlipkit.models.mace import MACEPotential
from mlipkit.models.potential import building
atoms = mk.end_points(mk.load_dft())[-1]
try:
    mk.load_model("mace-mp-0-small")
except mk.InputError as reason:
    print(reason)
    file = Path(str(reason).rsplit("here: ", 1)[1])
with building(0):
    small = MACEPotential.build({"elements": ["O", "Na", "P", "Fe"], "channels": 8, "r_max": 4.0}).mace
file.parent.mkdir(parents=True, exist_ok=True)
torch.save(small, file)
model = mk.load_model("mace-mp-0-small")
p = model.predict([atoms])[0]
import os
print(p.magmoms, p.forces.shape, torch.get_default_dtype(), os.environ.get("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"))
print(mk.score({"it": model}, [atoms]).loc["it", "magmoms"])
try:
    mk.train("mace", [atoms], False, start=model)
except mk.InputError as reason:
    print(reason)
"""
    env = {
        **os.environ,
        "XDG_CACHE_HOME": str(tmp_path),
        "https_proxy": "http://127.0.0.1:9",
        "HTTPS_PROXY": "http://127.0.0.1:9",
    }
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, env=env
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert "mace-mp-0-small cannot be downloaded" in ran.stdout and str(tmp_path) in ran.stdout
    assert ran.stdout.splitlines()[-3:-1] == ["None (28, 3) torch.float32 None", "nan"]
    assert "no frame has info['split']" in ran.stdout.splitlines()[-1]
