import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from ase.calculators.singlepoint import SinglePointCalculator

import mlipkit as mk
from mlipkit.charges.species import PROXIES
from mlipkit.models import training
from mlipkit.models.chgnet import CHGNetPotential


def test_resumed_equals_uninterrupted(few, tmp_path, monkeypatch):
    kwargs = {"charge_aware": True, "epochs": 3, "lr": 2e-4, "progress": False}
    whole, straight = mk.train("chgnet", few, **kwargs)
    saves = []
    monkeypatch.setattr(
        training,
        "_save",
        lambda path, state, save=training._save: (
            save(path, state),
            saves.append(1),
            len(saves) == 2 and 1 / 0,
        ),
    )
    # dies right after the second epoch was saved
    with pytest.raises(ZeroDivisionError):
        mk.train("chgnet", few, folder=tmp_path, **kwargs)
    monkeypatch.undo()
    continued, resumed = mk.train("chgnet", few, folder=tmp_path, **kwargs)
    for part in ("train", "validation"):
        assert [h[part] for h in resumed] == pytest.approx([h[part] for h in straight], rel=1e-3)
    assert continued.predict(few[:1])[0].energy == pytest.approx(
        whole.predict(few[:1])[0].energy, abs=1e-3
    )
    assert straight[-1]["train"] < straight[0]["train"]
    with pytest.raises(mk.InputError, match="belongs to a run with other frames or other settings"):
        mk.train("chgnet", few, folder=tmp_path, **{**kwargs, "epochs": 5})


def test_references_are_shifted_by_least_squares(few):
    potential = CHGNetPotential.pretrained(PROXIES)
    training.shift_references(potential, few)
    residual = np.array(
        [a.get_potential_energy() - p.energy for a, p in zip(few, potential.predict(few))]
    )
    count = np.array([[(a.symbols == s).sum() for s in ("Fe", "Na")] for a in few])
    assert np.abs(count.T @ residual).max() < 0.05  # normal equations
    assert np.abs(residual).max() < 2  # eV per cell, from 11 to 13 before
    before = CHGNetPotential.pretrained().network.composition_model.fc.weight[0]
    moved = (potential.network.composition_model.fc.weight[0] - before).detach().numpy()
    assert moved[30] == pytest.approx(moved[25], abs=1e-4)  # Ga with Fe
    assert sorted(np.flatnonzero(moved) + 1) == [8, 11, 15, 26, 31]
    # the framework is one unit here: the shortest solution deals its part out to Fe, P and O4 by
    # their numbers
    assert moved[14] == pytest.approx(moved[25], abs=1e-3) and moved[7] == pytest.approx(
        4 * moved[25], abs=1e-3
    )


def test_targets_and_what_is_missing(frames):
    atoms = frames[10].copy()
    atoms.calc = frames[10].calc
    t = training.targets(atoms)
    assert float(t["energy"]) == pytest.approx(atoms.get_potential_energy() / len(atoms), rel=1e-6)
    assert t["stress"][0].numpy() == pytest.approx(atoms.get_stress(voigt=False), rel=1e-5)
    assert (t["magmoms"] >= 0).all() and torch.is_tensor(t["forces"])
    atoms.calc = SinglePointCalculator(
        atoms, **{k: atoms.calc.results[k] for k in ("energy", "forces")}
    )
    bare = training.targets(atoms)
    assert (
        bare["stress"].isnan().all()
        and bare["magmoms"].isnan().all()
        and bare["stress"].shape == t["stress"].shape
    )


def test_a_perfect_model_has_no_loss_and_missing_labels_do_not_count(frames):
    atoms = frames[10].copy()
    model = mk.load_model("cpainn", charge_aware=True)
    p = model.predict([atoms])[0]
    labels = {"energy": p.energy, "forces": p.forces, "stress": p.stress, "magmoms": p.magmoms}
    atoms.calc = SinglePointCalculator(atoms, **labels)
    loss = lambda: float(
        training.loss_of(model, [(model.graph(atoms), training.targets(atoms))]).detach()
    )
    assert loss() < 1e-3
    atoms.calc = SinglePointCalculator(atoms, **{**labels, "magmoms": p.magmoms + 0.05})
    assert loss() == pytest.approx(0.5, abs=0.05)  # an error of one scale: Huber of 1
    atoms.calc = SinglePointCalculator(atoms, **{k: v for k, v in labels.items() if k != "magmoms"})
    assert loss() < 1e-3


@pytest.mark.parametrize(
    "name, args",
    [("cpainn", {"features": 16, "interactions": 2}), ("mace", {"channels": 8, "r_max": 4.0})],
)
def test_small_models_learn_resume_and_repeat(few, tmp_path, monkeypatch, name, args):
    kwargs = {"charge_aware": True, "epochs": 8, "lr": 1e-2, "model_args": args, "progress": False}
    _, first = mk.train(name, few, **kwargs)
    potential, again = mk.train(name, few, **kwargs)
    # deterministic, and it learns
    assert first == again and first[-1]["train"] < 0.97 * first[0]["train"]
    assert mk.train(name, few, **kwargs, seed=1)[1] != first
    saves = []
    monkeypatch.setattr(
        training,
        "_save",
        lambda path, state, save=training._save: (
            save(path, state),
            saves.append(1),
            len(saves) == 3 and 1 / 0,
        ),
    )
    with pytest.raises(ZeroDivisionError):
        mk.train(name, few, folder=tmp_path, **kwargs)
    monkeypatch.undo()
    resumed, history = mk.train(name, few, folder=tmp_path, **kwargs)
    assert history == first
    assert resumed.predict(few[:1])[0].energy == potential.predict(few[:1])[0].energy


def test_a_charge_aware_model_needs_something_to_see(few):
    manganese = [a.copy() for a in few]
    for a, b in zip(manganese, few):
        a.symbols[a.symbols == "Fe"] = "Mn"
        a.calc = b.calc
    with pytest.raises(mk.InputError, match="no training frame holds Fe3\\+.*proxies="):
        mk.train("cpainn", manganese, True, epochs=1, proxies={("Fe", 3): "Ga"})
    model, _ = mk.train(
        "cpainn", manganese, True, epochs=1, model_args={"features": 8}, progress=False
    )
    assert model.proxies == {("Mn", 3): "Ga"}  # chosen for the compound
    assert model.states == {"Mn": [2, 3]}
    four = manganese[0].copy()
    four.arrays["oxi_states"][np.flatnonzero(four.symbols == "Mn")[2]] = 4
    for ask in (
        lambda: model.predict([four]),
        lambda: model.score(
            manganese[0], [manganese[0].arrays["oxi_states"], four.arrays["oxi_states"]]
        ),
    ):
        with pytest.raises(
            mk.InputError, match="is Mn4\\+; this model was trained on Mn2\\+ and Mn3\\+"
        ):
            ask()
    assert (
        "Ga" in model.elements
        and mk.score({"it": model}, few[:2] and manganese[:2]).loc["it", "magmoms"] > 0
    )
    with pytest.raises(mk.InputError, match="model_args do not fit a cpainn.*colour"):
        mk.train("cpainn", few, True, epochs=1, model_args={"colour": 3})
    with pytest.raises(mk.InputError, match="model_args do not fit a chgnet.*features"):
        mk.train("chgnet", few, True, epochs=1, model_args={"features": 3})
    with pytest.raises(mk.InputError, match="epochs is a whole number of at least 1"):
        mk.train("cpainn", few, True, epochs=0)
    for kwargs, says in (
        ({"proxies": {}}, "at least one ion"),
        ({"proxies": {"Ga": ("Fe", 3)}}, "'Ga': \\('Fe', 3\\) does not name an ion"),
        ({"proxies": {("Fe", 3): "Xx"}}, "does not name an ion"),
        ({"proxies": {("Fe", 3): "Ga", ("Fe", 4): "Ga"}}, "a proxy of its own"),
        ({"batch_size": 0}, "batch_size is a whole number of at least 1"),
        ({"batch_size": -1}, "batch_size is a whole number of at least 1"),
        ({"lr": -1.0}, "lr is a number above 0"),
        ({"lr": float("nan")}, "lr is a number above 0"),
        ({"seed": -1}, "seed is a whole number of at least 0"),
        ({"model_args": {"n_heads": 2}}, "Bader charges has nothing to learn from"),
    ):
        with pytest.raises(mk.InputError, match=says):
            mk.train("cpainn", few, True, **{"epochs": 1, "progress": False, **kwargs})
    with pytest.raises(mk.InputError, match="train takes a list of frames"):
        mk.train("cpainn", few[0], True)


def test_interrupt_patience_and_start(few):
    args = {"features": 8, "interactions": 1}
    calls = []

    def stop(history):
        calls.append(len(history))
        if len(history) == 2:
            raise KeyboardInterrupt

    potential, history = mk.train(
        "cpainn", few, False, epochs=5, model_args=args, progress=False, on_epoch=stop
    )
    assert calls == [1, 2] and len(history) == 2  # what was reached comes back
    _, history = mk.train(
        "cpainn", few, False, epochs=40, lr=0.3, patience=3, model_args=args, progress=False
    )
    best = min(history, key=lambda h: h["validation"])["epoch"]
    assert len(history) < 40 and history[-1]["epoch"] - best == 4 - 1
    before = [p.clone() for p in potential.network.parameters()]
    further, _ = mk.train("cpainn", few, False, epochs=1, start=potential, progress=False)
    # a copy was trained
    assert all(torch.equal(a, b) for a, b in zip(before, potential.network.parameters()))
    assert further.network.model_args == potential.network.model_args
    with pytest.raises(mk.InputError, match="start is a cpainn with the proxies none"):
        mk.train("cpainn", few, True, epochs=1, start=potential)


RUN = """
import sys, mlipkit as mk
frames = mk.read_frames(sys.argv[1])
mk.train("cpainn", frames, True, epochs=8, lr=1e-2, model_args={"features": 8, "interactions": 1}, folder=sys.argv[2], progress=False,
         on_epoch=lambda history: print("epoch", flush=True))
"""


def test_a_killed_training_goes_on_in_another_process(few, tmp_path):
    mk.write_frames(tmp_path / "few.extxyz", few)
    read = mk.read_frames(tmp_path / "few.extxyz")
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, str(tmp_path / "few.extxyz"), str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        # as on an older processor
        env={**os.environ, "OMP_NUM_THREADS": "1", "ATEN_CPU_CAPABILITY": "default"},
    )
    for _ in range(3):
        assert process.stdout.readline() == "epoch\n"
    process.kill()
    process.wait()
    kwargs = {
        "epochs": 8,
        "lr": 1e-2,
        "model_args": {"features": 8, "interactions": 1},
        "progress": False,
    }
    epochs = []
    resumed, history = mk.train(
        "cpainn", read, True, **kwargs, folder=tmp_path, on_epoch=lambda h: epochs.append(len(h))
    )
    whole, straight = mk.train("cpainn", read, True, **kwargs)
    assert epochs == list(range(epochs[0], 9)) and epochs[0] >= 3
    assert [h["validation"] for h in history] == pytest.approx(
        [h["validation"] for h in straight], rel=2e-3
    )
    assert resumed.predict(read[:1])[0].energy == pytest.approx(
        whole.predict(read[:1])[0].energy, abs=5e-3
    )


def test_weights_round_trip(frames, tmp_path):
    potential = mk.load_model("chgnet", charge_aware=True)
    training.save_weights(potential, tmp_path, {"name": "mine"})
    import json

    again = CHGNetPotential.from_weights(
        tmp_path / "mine.safetensors", json.loads((tmp_path / "mine.json").read_text())
    )
    assert (
        again.predict(frames[-1:])[0].energy == potential.predict(frames[-1:])[0].energy
        and again.proxies == potential.proxies
    )


def test_missing_split_or_label(few):
    with pytest.raises(mk.InputError, match="no frame has info\\['split'\\] == 'validation'"):
        mk.train(
            "chgnet", [a for a in few if a.info["split"] == "train"], charge_aware=False, epochs=1
        )
    bare = [a.copy() for a in few]
    with pytest.raises(mk.InputError, match="has no energy"):
        mk.train("chgnet", bare, charge_aware=False, epochs=1)
