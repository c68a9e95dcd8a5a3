import numpy as np
import pytest
import torch

import mlipkit as mk
from mlipkit.models import training
from mlipkit.models.chgnet import CHGNetPotential


@pytest.fixture(scope="module")
def few(frames):
    # by name, so that they stay the same while the campaign adds frames
    train = [a for a in frames if (a.info["job"], a.info["step"]) in
             {("x000_na-_fe0123", 3), ("x025_na0_fe012", 9), ("x050_na02_fe13", 6), ("x075_na012_fe0", 12), ("x100_na0123_fe-", 4)}]
    return train + [a for a in frames if a.info["split"] == "validation" and a.info["density"] < 5e-4][:2]


def test_resumed_equals_uninterrupted(few, tmp_path, monkeypatch):
    kwargs = {"charge_aware": True, "epochs": 3, "lr": 2e-4, "progress": False}
    _, straight = mk.train("chgnet", few, **kwargs)
    saves = []
    monkeypatch.setattr(training, "_save", lambda path, state, save=training._save: (save(path, state), saves.append(1), len(saves) == 2 and 1 / 0))
    with pytest.raises(ZeroDivisionError):                  # dies right after the second epoch was saved
        mk.train("chgnet", few, folder=tmp_path, **kwargs)
    monkeypatch.undo()
    _, resumed = mk.train("chgnet", few, folder=tmp_path, **kwargs)
    assert [h["train"] for h in resumed] == pytest.approx([h["train"] for h in straight], rel=1e-3)
    assert straight[-1]["train"] < straight[0]["train"]
    with pytest.raises(mk.InputError, match="belongs to a run with other frames or other settings"):
        mk.train("chgnet", few, folder=tmp_path, **{**kwargs, "epochs": 5})


def test_references_are_shifted_by_least_squares(few):
    potential = CHGNetPotential.pretrained(charge_aware=True)
    training.shift_references(potential, few)
    residual = np.array([a.get_potential_energy() - p.energy for a, p in zip(few, potential.predict(few))])
    count = np.array([[(a.symbols == s).sum() for s in ("Fe", "Na")] for a in few])
    assert np.abs(count.T @ residual).max() < 0.05          # normal equations
    assert np.abs(residual).max() < 2                       # eV per cell, from 11 to 13 before
    before = CHGNetPotential.pretrained().network.composition_model.fc.weight[0]
    moved = potential.network.composition_model.fc.weight[0] - before
    assert moved[30] == pytest.approx(float(moved[25]), abs=1e-4) and (moved != 0).sum() == 3      # Ga with Fe, and Na


def test_targets_are_in_the_units_of_chgnet(frames):
    atoms = frames[10]
    t = training.targets(atoms)
    assert float(t["e"]) == pytest.approx(atoms.get_potential_energy() / len(atoms), rel=1e-6)
    assert t["s"].numpy() == pytest.approx(atoms.get_stress(voigt=False) * 160.21766208, rel=1e-5)
    assert (t["m"] >= 0).all() and torch.is_tensor(t["f"])


def test_weights_round_trip(frames, tmp_path):
    potential = mk.load_model("chgnet", charge_aware=True)
    training.save_weights(potential, tmp_path, {"name": "mine"})
    import json
    again = CHGNetPotential.from_weights(tmp_path / "mine.safetensors", json.loads((tmp_path / "mine.json").read_text()))
    assert again.predict(frames[-1:])[0].energy == potential.predict(frames[-1:])[0].energy and again.proxies == potential.proxies


def test_missing_split_or_label(few):
    with pytest.raises(mk.InputError, match="no frame has info\\['split'\\] == 'validation'"):
        mk.train("chgnet", [a for a in few if a.info["split"] == "train"], charge_aware=False, epochs=1)
    bare = [a.copy() for a in few]
    with pytest.raises(mk.InputError, match="has no energy"):
        mk.train("chgnet", bare, charge_aware=False, epochs=1)
