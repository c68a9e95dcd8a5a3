"""Fine-tuning: one loop, used for the shipped weights and for a person's own frames."""
import hashlib
import io
import json
from pathlib import Path

import numpy as np
import torch
from tqdm.auto import tqdm

from mlipkit.files import InputError, write_atomically
from mlipkit.frames import required_label, well_converged
from mlipkit.models import weights_stem
from mlipkit.models.chgnet import GPA, CHGNetPotential

SCALES = {"e": 0.005, "f": 0.1, "s": 0.5, "m": 0.05}     # what counts as an error of one: eV/atom, eV/Å, GPa, µB


def train(name, frames, charge_aware, seed=0, epochs=30, lr=1e-3, batch_size=4, folder=None, progress=True):
    """Fine-tune pretrained CHGNet on frames whose ``info["split"]`` is train; keep the epoch best on validation.

    Parameters
    ----------
    name : str
        ``"chgnet"``.
    frames : list of ase.Atoms
        With energies, forces, stress and moments, and ``info["split"]``; frames of other splits are not looked at.
        Loosely converged frames (`mlipkit.frames.well_converged`) are left out.
    charge_aware : bool
        Whether the model is given ``arrays["oxi_states"]``. Nothing else differs between the two.
    seed : int
        Order of the batches.
    epochs, lr, batch_size : int, float, int
        Adam with a learning rate that falls as a cosine to a hundredth; gradients clipped at norm 10.
    folder : str or Path, optional
        Where a checkpoint is kept after every epoch. A call with the same folder goes on from it.
    progress : bool
        Show a progress bar.

    Returns
    -------
    potential : CHGNetPotential
    history : list of dict
        Per epoch: ``train`` and ``validation`` loss (dimensionless: Huber loss of errors over `SCALES`, summed).

    Raises
    ------
    InputError
        When a label or a split is missing, or the loss is no longer finite.
    """
    if name != "chgnet":
        raise InputError(f"train: there is no model {name!r}; there is 'chgnet'")
    parts = {s: [a for a in well_converged(frames) if a.info.get("split") == s] for s in ("train", "validation")}
    for split, part in parts.items():
        if not part:
            raise InputError(f"train: no frame has info['split'] == {split!r}; give every frame the split of its charge ordering")
    potential = CHGNetPotential.pretrained(charge_aware)
    shift_references(potential, parts["train"])
    net = potential.network
    net.composition_model.requires_grad_(False)
    data = {split: [(potential.graph(a), targets(a)) for a in part] for split, part in parts.items()}
    optimizer = torch.optim.Adam([p for p in net.parameters() if p.requires_grad], lr=lr)
    history, best = [], None
    run = _fingerprint(parts, epochs, lr, batch_size)
    checkpoint = Path(folder) / f"{weights_stem(name, charge_aware, seed)}.ckpt" if folder else None
    if checkpoint and checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        if state["run"] != run:
            raise InputError(f"{checkpoint}: belongs to a run with other frames or other settings; remove it to start afresh")
        net.load_state_dict(state["net"])
        optimizer.load_state_dict(state["optimizer"])
        history, best = state["history"], state["best"]
    for epoch in tqdm(range(len(history), epochs), desc=f"{name} {'aware' if charge_aware else 'blind'}", disable=not progress,
                      initial=len(history), total=epochs):
        for group in optimizer.param_groups:
            group["lr"] = float(lr * (0.01 + 0.99 * 0.5 * (1 + np.cos(np.pi * epoch / epochs))))
        order = np.random.default_rng([seed, epoch]).permutation(len(data["train"]))
        net.train()
        batches = [[data["train"][k] for k in order[i:i + batch_size]] for i in range(0, len(order), batch_size)]
        losses = [_step(potential, batch, optimizer) for batch in batches]
        net.eval()
        validation = [float(_loss(potential, data["validation"][i:i + 4]).detach()) for i in range(0, len(data["validation"]), 4)]
        history.append({"epoch": epoch, "train": float(np.mean(losses)), "validation": float(np.mean(validation))})
        if not np.isfinite(history[-1]["train"] + history[-1]["validation"]):
            raise InputError(f"train: the loss is not finite in epoch {epoch}; lower lr, or look for frames with extreme forces")
        if history[-1]["validation"] == min(h["validation"] for h in history):
            best = {k: v.clone() for k, v in net.state_dict().items()}
        if checkpoint:
            _save(checkpoint, {"net": net.state_dict(), "optimizer": optimizer.state_dict(), "history": history, "best": best, "run": run})
    net.load_state_dict(best)
    return potential, history


def _fingerprint(parts, *settings):
    """What a checkpoint belongs to: geometries, labels, species and settings."""
    digest = hashlib.sha256(repr((settings, sorted(SCALES.items()))).encode())
    for atoms in parts["train"] + parts["validation"]:
        for values in (atoms.numbers, atoms.positions, atoms.cell.array, *targets(atoms).values(), atoms.arrays.get("oxi_states", ())):
            digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


def shift_references(potential, frames):
    """Move the model's energy references of Fe and the mobile ion onto the data by least squares.

    Two numbers only: along NaxFePO4 the composition has two degrees of freedom, and N(Fe3+) follows from N(Na),
    so a reference energy of its own for each species would not be determined. The proxies move with Fe.
    """
    from ase.data import atomic_numbers
    difference = [required_label(a, "energy", "training") - p.energy for a, p in zip(frames, potential.predict(frames))]
    count = np.array([[(a.symbols == s).sum() for s in ("Fe", "Na")] for a in frames], float)
    shift = np.linalg.lstsq(count, np.array(difference), rcond=None)[0]
    weight = potential.network.composition_model.fc.weight.data[0]
    weight[atomic_numbers["Na"] - 1] += shift[1]
    for symbol in ("Fe", *potential.proxies.values()):
        weight[atomic_numbers[symbol] - 1] += shift[0]


def targets(atoms):
    """Labels of a frame in the units in which CHGNet speaks: eV/atom, eV/Å, GPa, µB (unsigned)."""
    label = {k: np.asarray(required_label(atoms, k, "training")) for k in ("energy", "forces", "stress", "magmoms")}
    xx, yy, zz, yz, xz, xy = label["stress"] / GPA
    as_tensor = lambda values: torch.tensor(np.asarray(values), dtype=torch.float32)   # noqa: E731
    return {"e": as_tensor(label["energy"] / len(atoms)), "f": as_tensor(label["forces"]),
            "s": as_tensor([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]]), "m": as_tensor(np.abs(label["magmoms"]))}


def _loss(potential, batch, training=False):
    out = potential.forward([graph for graph, _ in batch], training)
    loss = 0.0
    for k, scale in SCALES.items():
        label = [t[k] for _, t in batch]
        found, label = (out[k], torch.stack(label)) if k == "e" else (torch.cat(list(out[k])), torch.cat(label))
        loss = loss + torch.nn.functional.huber_loss(found / scale, label / scale)
    return loss


def _step(potential, batch, optimizer):
    optimizer.zero_grad()
    loss = _loss(potential, batch, training=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(potential.network.parameters(), 10.0)
    optimizer.step()
    return float(loss.detach())


def _save(path, state):
    path.parent.mkdir(parents=True, exist_ok=True)
    content = io.BytesIO()
    torch.save(state, content)
    write_atomically(path, content.getvalue())


def save_weights(potential, folder, card):
    """Write safetensors and JSON card under ``folder``; ``card["name"]`` is the stem of both."""
    from safetensors.torch import save
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    card = {**card, "parameters": sum(p.numel() for p in potential.network.parameters()), "model_args": potential.network.model_args,
            "proxies": [[e, q, p] for (e, q), p in potential.proxies.items()]}
    write_atomically(folder / f"{card['name']}.safetensors", save({k: v.contiguous() for k, v in potential.network.state_dict().items()}))
    write_atomically(folder / f"{card['name']}.json", json.dumps(card, indent=1) + "\n")
