"""Published checkpoints: read without executing anything in them, or refused with the reason."""
import pickle
import zipfile
from pathlib import Path

import numpy as np
import torch

from mlipkit.files import InputError
from mlipkit.models import adapter
from mlipkit.models.potential import building, proxies_of

# plain NumPy numbers in a training history, which torch's restricted reader does not know by itself
_NUMBERS = [np.dtype, *{type(np.dtype(t)) for t in (np.float64, np.float32, np.int64, np.int32, np.bool_)},
            np._core.multiarray.scalar, (np._core.multiarray.scalar, "numpy.core.multiarray.scalar")]


def import_checkpoint(path, charge_aware=True, proxies=None):
    """A potential from a checkpoint file of CHGNet, or from weights that `save_weights` wrote.

    Parameters
    ----------
    path : str or Path
        A CHGNet checkpoint (``chgnet.trainer.Trainer`` writes them, ``.pth.tar``), or the ``.safetensors`` of a model trained here,
        its ``.json`` card beside it.
    charge_aware : bool
        Whether a CHGNet was trained with proxy elements. The file itself does not say.
    proxies : dict, optional
        ``{(element, oxidation state): proxy element}``, by default ``{("Fe", 3): "Ga"}`` as in doi 10.11583/DTU.31812499: frames
        keep their real elements and carry ``arrays["oxi_states"]``.

    Returns
    -------
    mlipkit.models.potential.Potential

    Raises
    ------
    InputError
        When the file would have to execute code to be read (a pickled model), or holds no model that is known here.

    Notes
    -----
    Files go through ``torch.load(weights_only=True)``, which takes tensors and plain containers. MACE's ``.model`` files and
    ``torch.save(model)`` of cPaiNN are pickled Python objects; so are TorchScript archives of a kind. They are refused.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: there is no such file")
    if path.suffix == ".safetensors":
        return _own(path)
    content = _tensors(path)
    model = content.get("model", content) if isinstance(content, dict) else {}
    if isinstance(model, dict) and {"state_dict", "model_args"} <= set(model):
        return _chgnet(path, model, proxies_of(charge_aware, proxies))
    keys = ", ".join(sorted(map(str, model))[:6]) if isinstance(model, dict) else type(content).__name__
    raise InputError(f"{path}: holds no model that is known here (found: {keys}, ...). A bare state dict says neither how large the "
                     "network is nor in which order it splits its features; CHGNet checkpoints do (model_args), and .safetensors made here")


def _tensors(path):
    try:
        with torch.serialization.safe_globals(_NUMBERS):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as reason:
        if zipfile.is_zipfile(path) and any(name.endswith("constants.pkl") for name in zipfile.ZipFile(path).namelist()):
            raise InputError(f"{path}: is a TorchScript program, not weights; it is not run here") from None
        needs = [line for line in str(reason).splitlines() if "GLOBAL" in line or "global" in line]
        what = needs[0].strip() if needs else "not plain tensors"
        raise InputError(f"{path}: is a pickled Python object, and reading it could execute anything that somebody put into it, so it is "
                         f"refused ({what}). Ask for weights as plain tensors, or train the model again with train(...)") from None
    except Exception as reason:     # torch raises whatever a damaged archive makes it stumble over
        raise InputError(f"{path}: cannot be read as a checkpoint ({type(reason).__name__}: {str(reason).splitlines()[0][:120]})") from None


def _chgnet(path, model, proxies):
    name = adapter("chgnet")
    try:
        with building():
            network = name.build(model["model_args"])
        network.load_state_dict(model["state_dict"])
    except (TypeError, ValueError, RuntimeError, KeyError, AttributeError) as reason:
        raise InputError(f"{path}: is no CHGNet of this version ({str(reason).splitlines()[0][:160]})") from None
    return name(network, proxies)


def _own(path):
    import json
    try:
        card = json.loads(path.with_suffix(".json").read_text())
        return adapter(card["architecture"]).from_weights(path, card)
    except FileNotFoundError:
        raise InputError(f"{path.with_suffix('.json')}: the card of {path.name} is missing; it says how large the network is") from None
    except Exception as reason:
        what = f"{type(reason).__name__}: {str(reason).splitlines()[0][:160]}"
        raise InputError(f"{path}: not the weights that its card describes ({what})") from None
