"""Models on a GPU say what they say on the CPU; on a machine without one, what is asked for is told."""

import numpy as np
import pytest
import torch

import mlipkit as mk
from mlipkit.models.potential import device_of

GPU = next(
    (
        kind
        for kind, usable in (
            ("cuda", torch.cuda.is_available()),
            ("mps", torch.backends.mps.is_available()),
        )
        if usable
    ),
    None,
)


@pytest.mark.parametrize("name", ["chgnet", "cpainn", "mace"])
@pytest.mark.skipif(GPU is None, reason="torch finds no GPU on this machine")
def test_a_gpu_gives_the_numbers_of_the_cpu(ends, name):
    on_cpu = mk.load_model(name, charge_aware=True)
    on_gpu = mk.load_model(name, charge_aware=True, device=GPU)
    assert on_gpu.device.type == GPU
    for ours, theirs in zip(on_cpu.predict(ends[:3]), on_gpu.predict(ends[:3])):
        assert isinstance(theirs.forces, np.ndarray)
        assert theirs.energy == pytest.approx(ours.energy, abs=1e-3)
        assert theirs.forces == pytest.approx(ours.forces, abs=1e-3)
        assert theirs.magmoms == pytest.approx(ours.magmoms, abs=1e-3)
    states = np.array([ends[3].arrays["oxi_states"]] * 2)
    assert on_gpu.score(ends[3], states) == pytest.approx(on_cpu.score(ends[3], states), abs=1e-3)


@pytest.mark.skipif(GPU is None, reason="torch finds no GPU on this machine")
def test_training_on_a_gpu_follows_the_curve_of_the_cpu(few):
    options = {"epochs": 2, "model_args": {"features": 16, "interactions": 2}, "progress": False}
    _, here = mk.train("cpainn", few, True, **options)
    _, there = mk.train("cpainn", few, True, device=GPU, **options)
    assert [h["train"] for h in there] == pytest.approx([h["train"] for h in here], rel=0.02)


def test_auto_is_a_device_that_is_there():
    assert device_of("auto").type == (GPU or "cpu")
    # torch says cuda:0 of what was moved to cuda
    assert mk.load_model("cpainn", charge_aware=True, device="auto").device.type == (GPU or "cpu")


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "meta", None, 3])
def test_a_device_that_is_not_there_is_told(name):
    with pytest.raises(mk.InputError, match="device="):
        mk.load_model("cpainn", charge_aware=True, device=name)


def test_graphs_are_made_where_the_network_is(ends):
    """On the meta device torch makes no numbers: a tensor left behind on the CPU would be an error."""
    model = mk.load_model("cpainn", charge_aware=True)
    model.network.to("meta")
    with model.on_device():
        graph = model.graph(ends[3])
    tensors = [value for value in vars(graph).values() if torch.is_tensor(value)]
    assert tensors and {value.device.type for value in tensors} == {"meta"}
