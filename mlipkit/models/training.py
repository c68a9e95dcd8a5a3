"""Training: one loop for every architecture, used for the shipped weights and for a person's own
frames.
"""

import contextlib
import copy
import hashlib
import io
import json
from pathlib import Path

import numpy as np
import torch
from ase.data import atomic_numbers
from ase.stress import full_3x3_to_voigt_6_stress, voigt_6_to_full_3x3_stress
from tqdm.auto import tqdm

from mlipkit import arguments
from mlipkit.charges.compounds import species_of
from mlipkit.charges.species import absent, checked_proxies, named
from mlipkit.files import InputError, write_atomically
from mlipkit.frames.labels import label, required_label, well_converged
from mlipkit.frames.taken import as_frames
from mlipkit.models.checkpoints import seal
from mlipkit.models.potential import TRACING, Potential, proxies_of, seen_states
from mlipkit.models.registry import adapter, weights_stem

# what counts as an error of one: eV/atom, eV/Å, eV/Å^3 (0.5 GPa), µB
SCALES = {"energy": 0.005, "forces": 0.1, "stress": 0.5 / 160.21766208, "magmoms": 0.05}
# starts from published weights: few epochs
SETTINGS = {
    "chgnet": {"epochs": 12, "lr": 1e-3, "batch_size": 4},
    "cpainn": {"epochs": 120, "lr": 1e-3, "batch_size": 4},
    "mace": {"epochs": 120, "lr": 5e-3, "batch_size": 4},
}


def train(
    name,
    frames,
    charge_aware,
    seed=0,
    epochs=None,
    lr=None,
    batch_size=None,
    start=None,
    model_args=None,
    proxies=None,
    device="cpu",
    patience=None,
    folder=None,
    progress=True,
    on_epoch=None,
):
    """Train a potential on the frames whose ``info["split"]`` is train; keep the epoch that is best
    on validation.

    Parameters
    ----------
    name : str
        ``"chgnet"`` (fine-tuned from CHGNet 0.3.0), ``"cpainn"`` or ``"mace"`` (from random weights
        of this seed).
    frames : list of ase.Atoms
        With energies and forces, stress and moments where there are any, and ``info["split"]``
        (`split_by_ordering` makes it); frames of other splits are not looked at. Loosely converged
        frames (`mlipkit.frames.labels.well_converged`) are left out.
    charge_aware : bool
        Whether the model is given ``arrays["oxi_states"]``. Nothing else differs between the two.
    seed : int
        Of the first weights, where they are random, and of the order of the batches. On one machine
        with one number of threads, the same seed gives the same model.
    epochs, lr, batch_size : int, float, int, optional
        The budget; what each architecture gets by default is in `SETTINGS`. Adam, with a learning
        rate that falls as a cosine to a hundredth; gradients clipped at norm 10.
    start : Potential, optional
        Go on from a copy of this one instead; its energy references are moved onto the data.
    model_args : dict, optional
        Size of a model that starts from random weights, such as ``{"features": 32, "interactions":
        3}``.
    proxies : dict, optional
        ``{(element, oxidation state): proxy element}`` of a charge-aware model; by default chosen
        for the compound of the frames (`Compound.species`: Ga marks Fe3+).
    device : str
        ``"cpu"``, ``"cuda"``, ``"mps"``, or ``"auto"``: a GPU where there is one. The model that
        comes back is on the same device.
    patience : int, optional
        Stop after so many epochs without a better validation loss.
    folder : str or Path, optional
        Where a checkpoint is kept after every epoch. A call with the same folder goes on from it.
    progress : bool
        Show a progress bar.
    on_epoch : callable, optional
        Called with the history after every epoch; ``mlipkit.LiveCurve()`` draws it.

    Returns
    -------
    potential : Potential
    history : list of dict
        Per epoch: ``train`` and ``validation`` loss (dimensionless: Huber loss of the errors over
        `SCALES`, summed over energy per atom, forces, stress and moments). An interrupt without
        `folder` returns what was reached.

    Raises
    ------
    InputError
        When a label or a split is missing, an argument or the checkpoint in `folder` makes no
        sense, or the loss is no longer finite.
    """
    arguments.text(name, "train: name", SETTINGS)
    arguments.flag(charge_aware, "train: charge_aware")
    seed = arguments.number(seed, "train: seed", least=0, whole=True)
    given = {
        "epochs": arguments.number(epochs, "train: epochs", least=1, whole=True, none=True),
        "lr": arguments.number(lr, "train: lr", above=0, none=True),
        "batch_size": arguments.number(
            batch_size, "train: batch_size", least=1, whole=True, none=True
        ),
    }
    given = {k: v for k, v in given.items() if v is not None}
    arguments.number(patience, "train: patience", least=0, whole=True, none=True)
    arguments.folder_path(folder, "train: folder", none=True)
    if start is not None and not isinstance(start, Potential):
        raise InputError(
            "train: start is a model, such as mk.load_model('cpainn', charge_aware=True), not "
            f"{arguments.shown(start)}"
        )
    if model_args is not None:
        arguments.mapping(model_args, "train: model_args", '{"features": 32, "interactions": 3}')
    if proxies is not None:
        checked_proxies(proxies, "train: proxies")
    if on_epoch is not None and not callable(on_epoch):
        raise InputError(
            "train: on_epoch is called with the history, such as mk.LiveCurve(); "
            f"{arguments.shown(on_epoch)} cannot be"
        )
    if (model_args or {}).get("n_heads", 1) > 1:
        raise InputError(
            "train: a head for Bader charges has nothing to learn from, frames have no such "
            "labels; leave n_heads out"
        )
    frames = as_frames(frames, "train takes", single=False)
    epochs, lr, batch_size = (SETTINGS[name] | given).values()
    parts = {
        s: [a for a in well_converged(frames) if a.info.get("split") == s]
        for s in ("train", "validation")
    }
    for split, part in parts.items():
        if not part:
            raise InputError(
                f"train: no frame has info['split'] == {split!r}; give every frame the split of "
                "its charge ordering "
                "(split_by_ordering does)"
            )
    given_proxies = proxies is not None
    if charge_aware and proxies is None:
        known = start.proxies if start is not None else species_of(frames)
        proxies = known or None
    proxies = proxies_of(charge_aware, proxies)
    for ion in absent(parts["train"], proxies):
        if not given_proxies and not any(ion[0] in a.symbols for a in parts["train"]):
            raise InputError(
                "train: no metal that is known here has two oxidation states in these frames; say "
                "which ion is a species, proxies= (compound.species of "
                "compound = mk.Compound(mobile, {metal: its states}) chooses)"
            )
        if ion not in absent(frames, {ion: proxies[ion]}):
            raise InputError(
                f"train: {named(ion)} is in frames that are held out only, so a charge-aware model "
                "would be blind to it; frames of more charge orderings are needed, or a split of "
                "your own in info['split']"
            )
        where = "arrays['oxi_states']" + " and ['spin_states']" * (len(ion) == 3)
        raise InputError(
            f"train: no training frame holds {named(ion)} (in {where}), so a charge-aware model "
            "would be blind; take them from infer_oxidation_states, or say which ion is a "
            "species with proxies= (mk.compound(frames).species)"
        )
    wanted = {split: [targets(a) for a in part] for split, part in parts.items()}
    potential = starting_point(name, parts["train"], proxies, seed, start, model_args or {})
    net = potential.to(device).network
    with potential.on_device():
        data = {
            split: [
                (potential.graph(atoms), {k: v.to(potential.device) for k, v in labels.items()})
                for atoms, labels in zip(part, wanted[split])
            ]
            for split, part in parts.items()
        }
    optimizer = torch.optim.Adam(
        [p for p in net.parameters() if p.requires_grad], lr=lr, fused=True
    )
    history, best = [], None
    run = _fingerprint(
        parts,
        wanted,
        start,
        name,
        sorted(proxies.items()),
        seed,
        model_args,
        epochs,
        lr,
        batch_size,
    )
    checkpoint = Path(folder) / f"{weights_stem(name, charge_aware, seed)}.ckpt" if folder else None
    if checkpoint and checkpoint.exists():
        try:
            state = torch.load(checkpoint, weights_only=True, map_location=potential.device)
            found = state["run"]
        # torch raises whatever a damaged archive makes it stumble over
        except Exception as reason:
            raise InputError(
                f"{checkpoint}: is no checkpoint of train, or a damaged one "
                f"({type(reason).__name__}); remove it to start "
                "afresh"
            ) from None
        if found != run:
            raise InputError(
                f"{checkpoint}: belongs to a run with other frames or other settings; remove it "
                "to start afresh"
            )
        net.load_state_dict(state["net"])
        optimizer.load_state_dict(state["optimizer"])
        history, best = state["history"], state["best"]
    bar = tqdm(
        range(len(history), epochs),
        desc=f"{name} {'aware' if charge_aware else 'blind'}",
        disable=not progress,
        initial=len(history),
        total=epochs,
    )
    try:
        for epoch in bar:
            if (
                patience
                and history
                and epoch - min(history, key=lambda h: h["validation"])["epoch"] > patience
            ):
                break
            with _deterministic(), potential.on_device():
                history.append(
                    _epoch(potential, data, optimizer, seed, epoch, epochs, lr, batch_size)
                )
            bar.set_postfix(validation=f"{history[-1]['validation']:.3g}")
            if history[-1]["validation"] == min(h["validation"] for h in history):
                best = {k: v.clone() for k, v in net.state_dict().items()}
            if checkpoint:
                _save(
                    checkpoint,
                    {
                        "net": net.state_dict(),
                        "optimizer": optimizer.state_dict(),
                        "history": history,
                        "best": best,
                        "run": run,
                    },
                )
            if on_epoch:
                on_epoch(history)
    except KeyboardInterrupt:
        if checkpoint or best is None:
            raise  # a call with the same folder goes on
    bar.close()
    net.load_state_dict(best)
    net.eval()
    return potential, history


def starting_point(name, frames, proxies, seed, start, model_args):
    """The potential before its first epoch, its references moved onto the training frames."""
    if start is not None:
        if start.network.model_args is None or model_args:
            raise InputError(
                "train: start must be a model of load_model('chgnet' | 'cpainn' | 'mace') or of "
                "train, without model_args: "
                "one from elsewhere has no head for moments, and a model that is there has its size"
            )
        if start.architecture != name or start.proxies != proxies:
            raise InputError(
                f"train: start is a {start.architecture} with the proxies "
                f"{start.proxies or 'none'}; "
                f"it must be a {name} with {proxies or 'none'}"
            )
        potential = copy.deepcopy(start)
        new = seen_states(frames, proxies)
        potential.states = {e: sorted({*known, *new[e]}) for e, known in start.states.items()}
    else:
        if name != "chgnet":  # a size for atomic energies that the first epoch need not find
            forces = np.concatenate([required_label(a, "forces", "training") for a in frames])
            model_args = {"scale": float(np.sqrt((forces**2).mean())) or 1.0} | model_args
        try:
            potential = adapter(name).fresh(frames, proxies, seed, **model_args)
        except InputError:
            raise
        except (TypeError, ValueError, RuntimeError) as reason:
            raise InputError(
                f"train: model_args do not fit a {name}: {str(reason).split(') ')[-1]}"
            ) from None
    shift_references(potential, frames)
    return potential


def shift_references(potential, frames):
    """Move the energy references of a potential onto frames by least squares, the shortest solution
    of them.

    One number per element of the crystal. Along NaxFePO4 only two combinations of them are
    determined, and N(Fe3+) follows from N(Na), so a proxy moves with the element that it stands
    for: a reference of its own would be arbitrary.
    """
    elements = sorted({int(z) for a in frames for z in a.numbers})
    count = np.array([[(a.numbers == z).sum() for z in elements] for a in frames], float)
    residual = [
        required_label(a, "energy", "training") - p.energy
        for a, p in zip(frames, potential.predict(frames))
    ]
    shift = dict(zip(elements, np.linalg.lstsq(count, np.array(residual), rcond=1e-8)[0].tolist()))
    for (element, *_), proxy in potential.proxies.items():
        if atomic_numbers[element] in shift:
            shift[atomic_numbers[proxy]] = shift[atomic_numbers[element]]
    potential.shift_references(shift)


def targets(atoms):
    """Labels of a frame as tensors: energy per atom, forces, stress (3x3) and unsigned moments;
    what it lacks is NaN.

    Stress and moments may be missing, single moments not finite (training then leaves them out);
    energy and forces may not.
    """
    energy, forces = (required_label(atoms, k, "training") for k in ("energy", "forces"))
    stress, magmoms = (
        np.full(shape, np.nan)
        if label(atoms, k) is None
        else np.asarray(required_label(atoms, k, "training", finite=k != "magmoms"), float)
        for k, shape in (("stress", 6), ("magmoms", len(atoms)))
    )
    if stress.shape == (3, 3):
        stress = full_3x3_to_voigt_6_stress(stress)
    return {
        "energy": torch.tensor(energy / len(atoms), dtype=torch.float64),
        "forces": torch.tensor(forces, dtype=torch.float32),
        "stress": torch.tensor(voigt_6_to_full_3x3_stress(stress)[None], dtype=torch.float32),
        "magmoms": torch.tensor(np.abs(magmoms), dtype=torch.float32),
    }


def loss_of(potential, batch, training=False):
    """Huber loss of a batch of (graph, targets), summed over what is labelled."""
    with TRACING:
        out = potential.forward([graph for graph, _ in batch], training)
    label = {
        k: torch.cat([t[k].reshape(1) if k == "energy" else t[k] for _, t in batch]) for k in SCALES
    }
    out["energy"] = out["energy"] / torch.tensor([len(t["forces"]) for _, t in batch])
    loss = 0.0
    for k, scale in SCALES.items():
        there = ~torch.isnan(label[k])
        if out[k] is not None and there.any():
            loss = loss + torch.nn.functional.huber_loss(
                out[k][there] / scale, (label[k][there] / scale).to(out[k].dtype)
            )
    return loss


@contextlib.contextmanager
def _deterministic():
    """Threads that add into one tensor do so in a fixed order; torch's setting is restored."""
    before = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])


def _epoch(potential, data, optimizer, seed, epoch, epochs, lr, batch_size):
    net = potential.network
    for group in optimizer.param_groups:
        group["lr"] = float(lr * (0.01 + 0.99 * 0.5 * (1 + np.cos(np.pi * epoch / epochs))))
    order, losses = np.random.default_rng([seed, epoch]).permutation(len(data["train"])), []
    net.train()
    for i in range(0, len(order), batch_size):
        optimizer.zero_grad()
        loss = loss_of(
            potential, [data["train"][k] for k in order[i : i + batch_size]], training=True
        )
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 10.0)
        optimizer.step()
        losses.append(float(loss.detach()))
    net.eval()
    validation = [
        float(loss_of(potential, data["validation"][i : i + 4]).detach())
        for i in range(0, len(data["validation"]), 4)
    ]
    result = {
        "epoch": epoch,
        "train": float(np.mean(losses)),
        "validation": float(np.mean(validation)),
    }
    if not np.isfinite(result["train"] + result["validation"]):
        raise InputError(
            f"train: the loss is not finite in epoch {epoch}; lower lr, or look for frames with "
            "extreme forces"
        )
    return result


def _fingerprint(parts, wanted, start, *settings):
    """What a checkpoint belongs to: geometries, labels, species, settings and the weights given.

    Not the first weights themselves: they hold energies computed here, whose last digits another
    processor or number of threads changes.
    """
    digest = hashlib.sha256(repr((settings, sorted(SCALES.items()))).encode())
    for split, frames in parts.items():
        for atoms, labels in zip(frames, wanted[split]):
            for values in (
                atoms.numbers,
                atoms.positions,
                atoms.cell.array,
                *labels.values(),
                atoms.arrays.get("oxi_states", ()),
            ):
                digest.update(np.ascontiguousarray(values).tobytes())
    for tensor in start.network.state_dict().values() if start else ():
        digest.update(tensor.cpu().numpy().tobytes())
    return digest.hexdigest()


def _save(path, state):
    path.parent.mkdir(parents=True, exist_ok=True)
    content = io.BytesIO()
    torch.save(state, content)
    write_atomically(path, content.getvalue())


def save_weights(potential, folder, card):
    """Write safetensors and JSON card under ``folder``; ``card["name"]`` is the stem of both."""
    from safetensors.torch import save

    if not isinstance(potential, Potential):
        raise InputError(
            "save_weights: potential is a model of mk.train or mk.load_model, not "
            f"{arguments.shown(potential)}"
        )
    folder = arguments.folder_path(folder, "save_weights: folder")
    arguments.mapping(card, "save_weights: card", "{'name': 'mine'}")
    arguments.text(card.get("name"), "save_weights: card['name'], the stem of the files,")
    if potential.network.model_args is None:
        raise InputError(
            "save_weights: a model from elsewhere cannot be built again from a card; keep its own "
            "file and import that"
        )
    card = {
        **card,
        "architecture": potential.architecture,
        "charge_aware": potential.charge_aware,
        "parameters": sum(p.numel() for p in potential.network.parameters()),
        "model_args": potential.network.model_args,
        "elements": potential.elements,
        "proxies": [[*ion, proxy] for ion, proxy in potential.proxies.items()],
        "oxi_states": potential.states,
    }
    try:
        json.dumps(card)
    except (TypeError, ValueError) as reason:
        raise InputError(f"save_weights: card holds what JSON cannot keep: {reason}") from None
    state = {k: v.contiguous().clone() for k, v in potential.network.state_dict().items()}
    content = save(state)
    card["sha256"] = hashlib.sha256(content).hexdigest()
    card["seal"] = seal(card)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / f"{card['name']}.safetensors", content)
    write_atomically(folder / f"{card['name']}.json", json.dumps(card, indent=1) + "\n")
