"""The shipped weights and the architectures by name."""

import importlib
import json

from mlipkit import arguments
from mlipkit.files import InputError, data_folder, embedded, manifest

ADAPTERS = {"chgnet": "CHGNetPotential", "cpainn": "CPaiNNPotential", "mace": "MACEPotential"}


def adapter(name):
    """The adapter class of an architecture."""
    return getattr(importlib.import_module(f"mlipkit.models.{name}"), ADAPTERS[name])


def load_model(name="chgnet", charge_aware=None, seed=0, device="cpu"):
    """Load a potential with its weights.

    Parameters
    ----------
    name : str
        ``"chgnet"``, ``"cpainn"`` or ``"mace"``. Or a foundation model, charge-blind, which
        mace-torch downloads on first use: ``"mace-mp-0-small"``, ``"mace-mp-0-medium"``,
        ``"mace-mp-0-large"``, ``"mace-mpa-0-medium"``, ``"mace-omat-0-small"``,
        ``"mace-omat-0-medium"``, ``"mace-matpes-pbe-0"``.
    charge_aware : bool or None
        True and False: trained on the training split of the embedded set, with and without the
        charge state as input, under one protocol. None, for ``"chgnet"``: CHGNet 0.3.0 as
        published, untouched.
    seed : int
        Which of the trained repetitions.
    device : str
        ``"cpu"``, ``"cuda"``, ``"mps"``, or ``"auto"``: a GPU where there is one.

    Returns
    -------
    mlipkit.models.potential.Potential

    Raises
    ------
    InputError
        When there are no such weights, they cannot be downloaded, or the file is not what was
        shipped.
    """
    arguments.text(name, "load_model: name")
    arguments.flag(charge_aware, "load_model: charge_aware", none=True)
    seed = arguments.number(seed, "load_model: seed", least=0, whole=True)
    if name.startswith("mace-"):
        from mlipkit.models.foundation import load_foundation

        if charge_aware:
            raise InputError(
                f"load_model: {name} is charge-blind; charge-aware models are {', '.join(ADAPTERS)}"
            )
        return load_foundation(name).to(device)
    if name not in ADAPTERS:
        raise InputError(
            f"load_model: there is no model {name!r}; there is {', '.join(map(repr, ADAPTERS))} "
            "(and 'mace-mp-0-small' and "
            "the like, which are downloaded)"
        )
    if charge_aware is None:
        if name != "chgnet":
            raise InputError(
                f"load_model: say charge_aware=True or False; {name} was trained here from "
                "scratch, there is no published one"
            )
        return adapter(name).pretrained().to(device)
    stem = weights_stem(name, charge_aware, seed)
    if f"models/{stem}.json" not in manifest():
        raise InputError(f"load_model: no weights {stem}; list_models() names what is there")
    weights, card = embedded(f"models/{stem}.safetensors"), embedded(f"models/{stem}.json")
    return adapter(name).from_weights(weights, json.loads(card.read_text())).to(device)


def weights_stem(name, charge_aware, seed):
    """File name, without suffix, of the weights of one trained model."""
    return f"{name}_{'aware' if charge_aware else 'blind'}_seed{seed}"


def cards():
    """The cards of all shipped weights: data, split, seed, epochs, errors."""
    return [
        json.loads(embedded(f"models/{path.name}").read_text())
        for path in sorted((data_folder() / "models").glob("*.json"))
    ]


def list_models():
    """The shipped weights.

    Returns
    -------
    pandas.DataFrame
        Index ``name``; ``architecture``, ``charge_aware``, ``seed``, ``parameters``, ``megabytes``,
        ``start`` (what it was trained from), ``epochs``, ``lr``, training data (``data``,
        ``data_sha256``, ``frames.train``, ``split.train``, ...), errors (``errors.test.energy`` in
        meV/atom, ``errors.test.forces`` in meV/Å, ...), ``licence``.
    """
    import pandas as pd

    table = pd.json_normalize(cards()).set_index("name")
    table["megabytes"] = [
        round((data_folder() / "models" / f"{name}.safetensors").stat().st_size / 1e6, 2)
        for name in table.index
    ]
    return table
