"""Files with weights: what is taken, what is refused, and that nothing in them executes."""

import contextlib
import json
import os
import pickle
import zipfile

import numpy as np
import pytest
import torch
from ase.calculators.singlepoint import SinglePointCalculator

import mlipkit as mk
from mlipkit.charges.species import PROXIES
from mlipkit.models import checkpoints
from mlipkit.models.chgnet import CHGNetPotential


class Bomb:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.fixture(scope="module")
def upstream(tmp_path_factory):
    """A checkpoint as chgnet.trainer.Trainer writes it, NumPy numbers in its history included."""
    path = tmp_path_factory.mktemp("upstream") / "epoch3_e12_f80.pth.tar"
    network = CHGNetPotential.pretrained().network
    torch.save(
        {
            "model": network.as_dict(),
            "optimizer": {},
            "scheduler": {},
            "training_history": {"e": {"train": [np.float64(0.1)], "val": [np.float32(0.2)]}},
            "trainer_args": {"targets": "efsm", "seed": 1},
        },
        path,
    )
    return path


def test_a_chgnet_checkpoint_works_with_our_labels(upstream, mixed):
    blind, aware = (
        mk.import_checkpoint(upstream, charge_aware=False),
        mk.import_checkpoint(upstream),
    )
    published = mk.load_model("chgnet")
    assert blind.predict([mixed])[0].energy == published.predict([mixed])[0].energy
    seen_as_gallium = mixed.copy()
    seen_as_gallium.symbols[(mixed.symbols == "Fe") & (mixed.arrays["oxi_states"] == 3)] = "Ga"
    assert aware.predict([mixed])[0].energy == published.predict([seen_as_gallium])[0].energy
    other = mk.import_checkpoint(upstream, proxies={("Fe", 3): "Rh"})
    seen_as_gallium.symbols[seen_as_gallium.symbols == "Ga"] = "Rh"
    assert other.predict([mixed])[0].energy == published.predict([seen_as_gallium])[0].energy


@pytest.mark.parametrize(
    "wrap",
    [
        lambda bomb: bomb,
        lambda bomb: {"model": bomb},
        lambda bomb: {"model": {"state_dict": {}, "model_args": bomb}},
    ],
)
def test_what_would_execute_is_refused_and_does_not(tmp_path, wrap):
    path, sign = tmp_path / "best_model.pth", tmp_path / "executed"
    torch.save(wrap(Bomb(sign)), path)
    with pytest.raises(
        mk.InputError, match="pickled Python object, and reading it could execute anything"
    ):
        mk.import_checkpoint(path)
    path.write_bytes(pickle.dumps(Bomb(sign)))  # a bare pickle, without torch's archive
    with pytest.raises(
        mk.InputError, match="best_model.pth: is a pickle, and reading it could execute anything"
    ):
        mk.import_checkpoint(path)
    path.rename(tmp_path / "model.safetensors")
    (tmp_path / "model.json").write_text(
        json.dumps({"architecture": "chgnet", "model_args": {}, "proxies": []})
    )
    with pytest.raises(mk.InputError, match="not the weights that its card describes"):
        mk.import_checkpoint(tmp_path / "model.safetensors")
    assert not sign.exists()


@pytest.mark.parametrize(
    "args",
    [
        {},
        {"max_l": 1, "max_ell": 3, "correlation": 3, "interactions": 3},
        {"interactions": 1, "avg_num_neighbors": 20.5},
    ],
)
def test_a_mace_model_is_built_again_without_unpickling_it(tmp_path, mixed, monkeypatch, args):
    """As mace_run_train leaves it: a pickled ScaleShiftMACE in double precision."""
    from mlipkit.models.mace import MACEPotential
    from mlipkit.models.potential import building

    path = tmp_path / "MACE.model"
    with building(3):
        model = MACEPotential.build(
            {"elements": ["O", "Na", "P", "Fe", "Ga"], "channels": 8, "r_max": 4.0, "scale": 20.0}
            | args
        ).mace
    original = MACEPotential.plain(model, PROXIES).predict([mixed])[0]
    torch.save(model.double(), path)
    # would run what the file holds
    monkeypatch.setattr("e3nn.util.codegen.CodeGenMixin.__setstate__", None)
    imported = mk.import_checkpoint(path)
    p = imported.predict([mixed])[0]
    assert p.energy == pytest.approx(original.energy, abs=2e-3) and p.forces == pytest.approx(
        original.forces, abs=1e-4
    )
    assert p.magmoms is None and imported.charge_aware
    swapped = mixed.copy()
    fe = mixed.symbols == "Fe"
    swapped.arrays["oxi_states"][fe] = 5 - mixed.arrays["oxi_states"][fe]
    assert abs(imported.predict([swapped])[0].energy - p.energy) > 1e-3
    with pytest.raises(mk.InputError, match="this MACE does not know Rh"):
        mk.import_checkpoint(path, proxies={("Fe", 3): "Rh"})
    with pytest.raises(mk.InputError, match="cannot be built again from a card"):
        mk.save_weights(imported, tmp_path, {"name": "x"})


def test_a_mace_model_with_a_stowaway_is_refused(tmp_path):
    path, sign = tmp_path / "MACE.model", tmp_path / "executed"
    model = mk.load_model("mace", charge_aware=True).network.mace
    model.heads = Bomb(sign)
    torch.save(model, path)
    model.heads = ["Default"]
    with pytest.raises(
        mk.InputError, match="MACE.model: is a pickled Python object.*it is refused"
    ):
        mk.import_checkpoint(path)
    assert not sign.exists()


def foreign(network, message_order, update_order, length_first):
    """The weights of our PaiNN as another program might keep them: its names, its order of the
    split features, its joins.
    """
    shuffled = lambda t, order: torch.cat([t.chunk(3)[order.index(k)] for k in range(3)])
    f, state = network.model_args["features"], {"atom_embedding.weight": network.embedding.weight}
    for k, m in enumerate(network.messages):
        state |= {
            f"message_layers.{k}.scalar.0.weight": m.phi[0].weight,
            f"message_layers.{k}.scalar.0.bias": m.phi[0].bias,
        }
        for kind in ("weight", "bias"):
            state[f"message_layers.{k}.scalar.2.{kind}"] = shuffled(
                getattr(m.phi[2], kind), message_order
            )
            state[f"message_layers.{k}.filter.{kind}"] = shuffled(
                getattr(m.filter, kind), message_order
            )
    for k, u in enumerate(network.updates):
        first = u.a[0].weight.roll(f, dims=1) if length_first else u.a[0].weight
        state |= {
            f"update_layers.{k}.U.weight": u.u.weight,
            f"update_layers.{k}.V.weight": u.v.weight,
            f"update_layers.{k}.mlp.0.weight": first,
            f"update_layers.{k}.mlp.0.bias": u.a[0].bias,
        }
        for kind in ("weight", "bias"):
            state[f"update_layers.{k}.mlp.2.{kind}"] = shuffled(getattr(u.a[2], kind), update_order)
    for name, head in (("magmom_mlp", network.heads[0]), ("readout_mlp", network.energy)):
        state |= {
            f"{name}.{i}.{kind}": getattr(head[i], kind)
            for i in (0, 2)
            for kind in ("weight", "bias")
        }
    return {k: v.detach().clone() for k, v in state.items()} | {
        "normalize_stddev": torch.tensor([network.model_args["scale"]])
    }


@pytest.mark.parametrize("ways", [((0, 1, 2), (0, 1, 2), False), ((1, 2, 0), (2, 0, 1), True)])
def test_a_painn_of_another_program_is_joined_as_its_forces_say(tmp_path, frames, mixed, ways):
    from mlipkit.models.cpainn import CPaiNNPotential

    ours, path = (
        CPaiNNPotential.fresh(frames[20:22], PROXIES, seed=5, features=16, interactions=2),
        tmp_path / "best_model.pth",
    )
    ours.elements = None
    torch.save(
        {
            "model": foreign(ours.network, *ways),
            "cutoff": ours.network.model_args["cutoff"],
            "step": 3,
        },
        path,
    )
    known = [a.copy() for a in frames[20:22]]
    for atoms, p in zip(known, ours.predict(known)):
        atoms.calc = SinglePointCalculator(atoms, energy=p.energy, forces=p.forces)
    imported = mk.import_checkpoint(path, frames=known)
    a, b = imported.predict([mixed])[0], ours.predict([mixed])[0]
    assert a.forces == pytest.approx(b.forces, abs=1e-4) and a.magmoms == pytest.approx(
        b.magmoms, abs=1e-4
    )
    # one shift per atom stands for our references
    assert a.energy == pytest.approx(b.energy, abs=1.5)
    with pytest.raises(mk.InputError, match="looks like a PaiNN.*frames=..."):
        mk.import_checkpoint(path)
    for atoms in known:
        atoms.calc.results["forces"] = atoms.calc.results["forces"][::-1]
    with pytest.raises(
        mk.InputError, match="no way to join its layers reproduces the forces of these frames"
    ):
        mk.import_checkpoint(path, frames=known)


def test_other_files_are_refused_with_the_reason(tmp_path, upstream):
    path = tmp_path / "x.pth"
    for content, reason in (
        (
            {"model": {"message_layers.0.weight": torch.zeros(2)}},
            "no model that is known here .found: message_layers.0.weight",
        ),
        (
            {"model": {"node_embedding.linear.weight": torch.zeros(2)}},
            "checkpoint of a MACE training.*the .model file",
        ),
        (
            CHGNetPotential.pretrained().network.state_dict(),
            "bare state dict of a CHGNet.*chgnet.trainer.Trainer do",
        ),
        ([1, 2, 3], "no model that is known here .found: list"),
        (
            {"model": {"state_dict": {}, "model_args": {"nonsense": 1}}},
            "is no CHGNet of this version",
        ),
    ):
        torch.save(content, path)
        with pytest.raises(mk.InputError, match=reason):
            mk.import_checkpoint(path)
    with pytest.raises(mk.InputError, match="there is no such file"):
        mk.import_checkpoint(tmp_path / "nothing.pth")
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(path))
    with pytest.raises(mk.InputError, match="x.pth: is a TorchScript program"):
        mk.import_checkpoint(path)
    whole = upstream.read_bytes()
    rng = np.random.default_rng(0)
    for cut in rng.integers(0, len(whole), 20):
        path.write_bytes(whole[:cut])
        with pytest.raises(mk.InputError, match="x.pth"):
            mk.import_checkpoint(path)
    # one byte changed: refused, or what was read
    for k in (*rng.integers(0, len(whole), 20), *range(len(whole) - 40, len(whole), 4)):
        path.write_bytes(whole[:k] + bytes([whole[k] ^ 0x55]) + whole[k + 1 :])
        with contextlib.suppress(mk.InputError):
            mk.import_checkpoint(path)
    path.write_text("energy 1.0")
    with pytest.raises(mk.InputError, match="x.pth"):
        mk.import_checkpoint(path)
    with zipfile.ZipFile(path, "w") as z:
        z.writestr("notes.txt", "hello")
    with pytest.raises(mk.InputError, match="x.pth"):
        mk.import_checkpoint(path)


@pytest.mark.parametrize("name", ["chgnet", "cpainn", "mace"])
def test_own_weights_round_trip_and_tampering_is_told(tmp_path, frames, name):
    model = mk.load_model(name, charge_aware=True)
    mk.save_weights(model, tmp_path, {"name": "mine"})
    again = mk.import_checkpoint(tmp_path / "mine.safetensors")
    assert again.predict(frames[-1:])[0].energy == model.predict(frames[-1:])[0].energy
    assert (again.proxies, again.elements, again.architecture) == (
        model.proxies,
        model.elements,
        name,
    )
    whole = (tmp_path / "mine.safetensors").read_bytes()
    for damaged in (
        whole[: len(whole) // 2],
        b"",
        whole[:100] + bytes([whole[100] ^ 1]) + whole[101:],
        whole[:-5] + bytes([whole[-5] ^ 1]) + whole[-4:],
    ):
        (tmp_path / "mine.safetensors").write_bytes(damaged)
        with pytest.raises(
            mk.InputError, match="mine.safetensors: not the weights that its card describes"
        ):
            mk.import_checkpoint(tmp_path / "mine.safetensors")
    (tmp_path / "mine.safetensors").write_bytes(whole)
    card = json.loads((tmp_path / "mine.json").read_text())
    (tmp_path / "mine.json").write_text(
        json.dumps({**card, "model_args": {"features" if name == "cpainn" else "atom_fea_dim": 3}})
    )
    with pytest.raises(mk.InputError, match="not the weights that its card describes"):
        mk.import_checkpoint(tmp_path / "mine.safetensors")
    other = {
        "cpainn": {"cutoff": 5.2},
        "mace": {"r_max": 5.2},
        "chgnet": {"atom_graph_cutoff": 5.0},
    }[name]
    for change in (
        {"model_args": {**card["model_args"], **other}},
        {"proxies": [["Fe", 2, "Ga"]]},
        {"oxi_states": {"Fe": [2, 3, 4]}},
    ):
        # would fit the weights, and give other energies
        (tmp_path / "mine.json").write_text(json.dumps({**card, **change}))
        with pytest.raises(mk.InputError, match="the card was changed"):
            mk.import_checkpoint(tmp_path / "mine.safetensors")
    (tmp_path / "mine.json").write_text(json.dumps({**card, "note": "mine", "errors": {}}))
    assert (
        mk.import_checkpoint(tmp_path / "mine.safetensors").predict(frames[-1:])[0].energy
        == model.predict(frames[-1:])[0].energy
    )
    (tmp_path / "mine.json").unlink()
    with pytest.raises(mk.InputError, match="the card of mine.safetensors is missing"):
        mk.import_checkpoint(tmp_path / "mine.safetensors")


def test_a_damaged_checkpoint_is_told_and_executes_nothing(few, tmp_path):
    kwargs = {
        "charge_aware": False,
        "epochs": 1,
        "model_args": {"features": 8, "interactions": 1},
        "progress": False,
        "folder": tmp_path,
    }
    mk.train("cpainn", few, **kwargs)
    path, sign = tmp_path / "cpainn_blind_seed0.ckpt", tmp_path / "executed"
    whole = path.read_bytes()
    for content in (b"", whole[: len(whole) // 2], pickle.dumps(Bomb(sign)), b"no archive"):
        path.write_bytes(content)
        with pytest.raises(
            mk.InputError,
            match="cpainn_blind_seed0.ckpt: is no checkpoint of train, or a damaged one",
        ):
            mk.train("cpainn", few, **kwargs)
    torch.save({"run": Bomb(sign)}, path)
    with pytest.raises(mk.InputError, match="is no checkpoint of train"):
        mk.train("cpainn", few, **kwargs)
    assert not sign.exists()


class Made:
    """Pickles as a call of something with arguments of the file's choosing."""

    def __init__(self, call, *args, state=None):
        self.call = (call, args) if state is None else (call, args, state)

    def __reduce__(self):
        return self.call


SCALAR = np._core.multiarray.scalar
NOT_NUMBERS = {
    "fields": Made(np.dtype, [("a", "f8")]),
    "an object": Made(np.dtype, "O8", False, True),
    "bytes": Made(np.dtype, "V16"),
    "text": Made(np.dtype, "U4"),
    "a subarray": Made(np.dtype, ("f8", (2,))),
    "a class": Made(np.dtype, float),
    "a made-up state": Made(
        np.dtype, "f8", False, True, state=(3, "<", ("f8", (2,)), ("a",), {"a": 1}, 16, 1, 0)
    ),
    "an order that is none": Made(
        np.dtype, "f8", False, True, state=(3, "x", None, None, None, -1, -1, 0)
    ),
    "a state that is none": Made(np.dtype, "f8", False, True, state={"a": 1}),
}


@pytest.mark.parametrize("name", NOT_NUMBERS)
def test_nothing_but_plain_numbers_is_built_of_numpy(tmp_path, name):
    for k, content in enumerate((NOT_NUMBERS[name], Made(SCALAR, NOT_NUMBERS[name], bytes(8)))):
        path = tmp_path / f"{k}.pth.tar"
        torch.save({"model": {"state_dict": {}, "model_args": {"cutoff": content}}}, path)
        with pytest.raises(mk.InputError, match="it is refused"):
            mk.import_checkpoint(path)


def test_a_number_of_another_length_is_refused(tmp_path):
    content = Made(SCALAR, np.dtype("f8"), bytes(3))
    torch.save({"model": {"state_dict": {}, "model_args": {"cutoff": content}}}, tmp_path / "a")
    with pytest.raises(mk.InputError, match="another length"):
        mk.import_checkpoint(tmp_path / "a")


def test_plain_numbers_of_numpy_come_out_as_they_went_in(tmp_path):
    numbers = [np.float64(0.1), np.float32(0.5), np.float16(2), np.bool_(True), np.bool_(False)]
    numbers += [kind(-7) for kind in (np.int64, np.int32, np.int16, np.int8)]
    numbers += [kind(200) for kind in (np.uint64, np.uint32, np.uint16, np.uint8)]
    numbers += [np.array([1.25], ">f8")[0], np.array([258], ">i4")[0]]
    torch.save({"numbers": numbers}, tmp_path / "a.pth.tar")
    found = checkpoints._tensors(tmp_path / "a.pth.tar")["numbers"]
    assert found == [n.item() for n in numbers]
    assert not any(isinstance(n, np.generic) for n in found)
