"""Potentials behind one protocol: `predict(frames)` and `calculator()`.

Importing this module does not import torch; `load_model` does.
"""
import json

from mlipkit.files import InputError, data_folder, embedded, manifest


def load_model(name="chgnet", charge_aware=None, seed=0):
    """Load a potential with its weights.

    Parameters
    ----------
    name : str
        ``"chgnet"``.
    charge_aware : bool or None
        True and False: fine-tuned on the training split of the embedded set, with and without the charge state as
        input, under one protocol. None: CHGNet 0.3.0 as published, untouched.
    seed : int
        Which of the trained repetitions.

    Returns
    -------
    mlipkit.models.chgnet.CHGNetPotential

    Raises
    ------
    InputError
        When there are no such weights, or the file is not what was shipped.
    """
    if name != "chgnet":
        raise InputError(f"load_model: there is no model {name!r}; there is 'chgnet'")
    if charge_aware is None:
        from mlipkit.models.chgnet import CHGNetPotential
        return CHGNetPotential.pretrained()
    stem = weights_stem(name, charge_aware, seed)
    if f"models/{stem}.json" not in manifest():
        raise InputError(f"load_model: no weights {stem}; list_models() names what is there")
    weights, card = embedded(f"models/{stem}.safetensors"), embedded(f"models/{stem}.json")
    from mlipkit.models.chgnet import CHGNetPotential
    return CHGNetPotential.from_weights(weights, json.loads(card.read_text()))


def weights_stem(name, charge_aware, seed):
    """File name, without suffix, of the weights of one trained model."""
    return f"{name}_{'aware' if charge_aware else 'blind'}_seed{seed}"


def cards():
    """The cards of all shipped weights: data, split, seed, epochs, errors."""
    return [json.loads(embedded(f"models/{path.name}").read_text()) for path in sorted((data_folder() / "models").glob("*.json"))]


def list_models():
    """A table of the shipped weights: model, charge_aware, seed, parameters, training data, errors, licence."""
    import pandas as pd
    return pd.json_normalize(cards()).set_index("name")
