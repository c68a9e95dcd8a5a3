"""PaiNN weights of other programs: the layers are told apart by their shapes, what shapes cannot
say by frames with known forces.

A state dict does not say in which order a program splits the features of a layer or joins its
inputs. There are a few hundred ways; the right one reproduces the forces of labelled frames, all
others are far off.
"""

import itertools
import re

import numpy as np
import torch

from mlipkit.files import InputError
from mlipkit.frames.labels import required_label
from mlipkit.models.cpainn import CPaiNNPotential
from mlipkit.models.potential import building

# force error over the rms force of the frames; how much worse the next best must be
GOOD = 0.5, 3.0


def painn_from(state, cutoff, frames, proxies, where):
    """A `CPaiNNPotential` from a foreign state dict.

    Parameters
    ----------
    state : dict of tensor
    cutoff : float
        Å.
    frames : list of ase.Atoms
        With energies and forces (labels that the model was trained on, or like them) and, when
        there are proxies, oxidation states.
    proxies : dict
    where : str
        The file, for messages.

    Raises
    ------
    InputError
        When the layers are none of a PaiNN, or no way to join them reproduces the frames.
    """
    parts = _parts(state, where)
    scores = []
    for way in itertools.product(
        itertools.permutations(range(3)),
        itertools.permutations(range(3)),
        (False, True),
        (False, True),
    ):
        potential = _assembled(parts, cutoff, proxies, *way)
        scores.append((_force_error(potential, frames), way))
    scores.sort(key=lambda pair: pair[0])
    # ways that are one and the same tie
    (best, way), following = scores[0], [e for e, _ in scores if e > 1.001 * scores[0][0]]
    if not best < GOOD[0] or (following and following[0] < GOOD[1] * best):
        raise InputError(
            f"{where}: no way to join its layers reproduces the forces of these frames (best: off "
            f"by {100 * best:.0f} % of "
            "the rms force); are they frames of this model, with oxidation states, and is the "
            "cutoff right?"
        )
    potential = _assembled(parts, cutoff, proxies, *way)
    energy = [
        (required_label(a, "energy", "import_checkpoint") - p.energy) / len(a)
        for a, p in zip(frames, potential.predict(frames))
    ]
    mean = float(np.mean(energy))
    if np.ptp(energy) > 0.1:
        raise InputError(
            f"{where}: the forces come out right, the energies do not (they scatter by "
            f"{np.ptp(energy):.2f} eV/atom)"
        )
    # a shift per atom that a program keeps outside its weights
    potential.shift_references({z: mean for z in range(1, 119)})
    return potential


def _parts(state, where):
    """Layers by their part: embedding, messages, updates, heads (energy first), scale."""
    tensors = {
        k.removeprefix("module."): v.float()
        for k, v in state.items()
        if torch.is_tensor(v) and v.is_floating_point()
    }
    layers = {
        k.removesuffix(".weight"): (v, tensors.get(k.removesuffix("weight") + "bias"))
        for k, v in tensors.items()
        if k.endswith(".weight") and v.ndim == 2
    }
    embedding = next((name for name in layers if "embed" in name.lower()), None)
    if embedding is None:
        raise InputError(f"{where}: has no embedding of elements, so it is no PaiNN")
    f = layers[embedding][0].shape[1]
    blocks = {}
    for name, layer in layers.items():
        # message_layers.0.filter, message_layers.0.mlp.2: one block; readout.0, readout.2 too
        if name != embedding:
            block = re.match(r"(.*?\.\d+(?=\.)|[^.]+)", name).group(1)
            blocks.setdefault(block, []).append(layer)
    messages, updates, heads = [], [], []
    for name, found in blocks.items():
        shapes = sorted(tuple(w.shape) for w, _ in found)
        pick = lambda shape, found=found: [
            layer for layer in found if tuple(layer[0].shape) == shape
        ]
        if len(found) == 3 and pick((f, f)) and pick((3 * f, f)):
            messages.append(
                (
                    pick((f, f))[0],
                    pick((3 * f, f))[0],
                    next(la for la in found if la[0].shape[1] != f),
                )
            )
        elif shapes == sorted([(f, f), (f, f), (f, 2 * f), (3 * f, f)]):
            updates.append((*pick((f, f)), pick((f, 2 * f))[0], pick((3 * f, f))[0]))
        elif len(found) == 2 and found[1][0].shape[0] == 1:
            heads.append((name, found))
    if not messages or len(messages) != len(updates) or not heads:
        raise InputError(
            f"{where}: its layers are not those of a PaiNN (found {len(messages)} messages, "
            f"{len(updates)} updates, "
            f"{len(heads)} readouts)"
        )
    heads.sort(
        key=lambda head: (
            ("charge" in head[0].lower() or "bader" in head[0].lower()) * 2
            + ("mag" in head[0].lower())
        )
    )
    scale = next(
        (
            float(v)
            for k, v in tensors.items()
            if v.numel() == 1 and re.search("std|scale", k.lower())
        ),
        1.0,
    )
    return layers[embedding][0], messages, updates, [found for _, found in heads], scale


def _assembled(parts, cutoff, proxies, message_order, update_order, length_first, swapped):
    embedding, messages, updates, heads, scale = parts
    f = embedding.shape[1]
    with building():
        network = CPaiNNPotential.build(
            {
                "features": f,
                "interactions": len(messages),
                "cutoff": cutoff,
                "n_radial": messages[0][2][0].shape[1],
                "scale": scale,
                "n_heads": len(heads) - 1,
                "n_hidden": heads[0][0][0].shape[0],
                "vector_bias": updates[0][0][1] is not None,
            }
        )
    with torch.no_grad():
        rows = min(len(embedding), 119)
        network.embedding.weight[:rows] = embedding[:rows]
        for ours, (a, b, radial) in zip(network.messages, messages):
            _fill(ours.phi[0], a)
            _fill(ours.phi[2], b, message_order)
            _fill(ours.filter, radial, message_order)
        for ours, (u, v, a, b) in zip(network.updates, updates):
            _fill(ours.u, v if swapped else u)
            _fill(ours.v, u if swapped else v)
            _fill(ours.a[0], (a[0].roll(f, dims=1), a[1]) if length_first else a)
            _fill(ours.a[2], b, update_order)
        for ours, (a, b) in zip([network.energy, *network.heads], heads):
            _fill(ours[0], a)
            _fill(ours[2], b)
    return CPaiNNPotential(network, proxies)


def _fill(linear, layer, order=None):
    for ours, theirs in zip((linear.weight, linear.bias), layer):
        if theirs is not None:
            ours.copy_(theirs if order is None else torch.cat([theirs.chunk(3)[k] for k in order]))


def _force_error(potential, frames):
    forces = [required_label(a, "forces", "import_checkpoint") for a in frames]
    found = np.concatenate([p.forces for p in potential.predict(frames)])
    label = np.concatenate(forces)
    error = float(np.sqrt(((found - label) ** 2).mean() / (label**2).mean()))
    return error if np.isfinite(error) else np.inf
