"""Published checkpoints: read without executing anything in them, or refused with the reason."""

import contextlib
import hashlib
import json
import pickle
import reprlib
import zipfile

import numpy as np
import torch
from ase.data import atomic_numbers

from mlipkit import arguments
from mlipkit.charges.species import checked_proxies
from mlipkit.files import InputError
from mlipkit.frames.taken import as_frames
from mlipkit.models.inert import PLAIN_NUMBERS, read_inert, state_dict
from mlipkit.models.pickles import KNOWN, asked_for, check_tensors, is_archive
from mlipkit.models.potential import building, proxies_of
from mlipkit.models.registry import adapter

# state dicts that say nothing of the size of their network, by what their names begin with
ELSEWHERE = {
    "composition_model.": "is a bare state dict of a CHGNet, which does not say how large the "
    "network is; the checkpoints of "
    "chgnet.trainer.Trainer do (model_args)",
    "node_embedding.": "is a checkpoint of a MACE training, which does not say how large the "
    "network is; give the .model file "
    "that mace_run_train leaves beside it",
}
SEALED = "architecture", "charge_aware", "model_args", "elements", "proxies", "oxi_states", "sha256"


def seal(card):
    """Checksum of what a card says of its network; a changed cutoff would fit the weights and give
    other energies.
    """
    return hashlib.sha256(
        json.dumps({k: card.get(k) for k in SEALED}, sort_keys=True).encode()
    ).hexdigest()


def import_checkpoint(
    path, charge_aware=True, proxies=None, frames=None, cutoff=None, device="cpu"
):
    """A potential from a published checkpoint of CHGNet, MACE or cPaiNN, or from weights that
    `save_weights` wrote.

    Parameters
    ----------
    path : str or Path
        A CHGNet checkpoint (``chgnet.trainer.Trainer`` writes them, ``.pth.tar``), a MACE model
        (``mace_run_train`` writes them, ``.model``), a state dict of a PaiNN (``torch.save``, alone
        or under ``"model"``; give `frames` with it), or the ``.safetensors`` of a model trained
        here, its ``.json`` card beside it.
    charge_aware : bool
        Whether a CHGNet, MACE or PaiNN was trained with proxy elements. The file itself does not
        say; say False for one that was not, or Fe3+ will be shown to it as gallium. The card of a
        ``.safetensors`` says it.
    proxies : dict, optional
        ``{(element, oxidation state): proxy element}``, by default ``{("Fe", 3): "Ga"}`` as in doi
        10.11583/DTU.31812499: frames keep their real elements and carry ``arrays["oxi_states"]``.
    device : str
        Where the model goes: ``"cpu"``, ``"cuda"``, ``"mps"``, or ``"auto"``.
    frames : list of ase.Atoms, optional
        For a PaiNN: one or two frames whose energies and forces the model knows, from the set that
        it was trained on. A state dict does not say in which order the features are split; the
        order that reproduces these forces is found.
    cutoff : float, optional
        Å, for a PaiNN whose file does not say it.

    Returns
    -------
    mlipkit.models.potential.Potential

    Raises
    ------
    InputError
        When the file would have to execute code to be read, or holds no model that is known here.

    Notes
    -----
    Files go through ``torch.load(weights_only=True)``, which takes tensors and plain containers. A
    MACE ``.model`` is a pickled Python object: each class that it names is replaced by one that
    only keeps what it is given, sizes and weights are read off, and the network is built afresh by
    mace-torch. Other pickled objects and TorchScript programs are refused.
    """
    path = arguments.file_path(path, "import_checkpoint: path")
    arguments.flag(charge_aware, "import_checkpoint: charge_aware")
    if proxies is not None:
        checked_proxies(proxies, "import_checkpoint: proxies")
    if frames is not None:
        frames = as_frames(frames, "import_checkpoint: frames= takes")
    arguments.number(cutoff, "import_checkpoint: cutoff", above=0, below=20, none=True)
    return _imported(path, charge_aware, proxies, frames, cutoff).to(device)


def _imported(path, charge_aware, proxies, frames, cutoff):
    if not path.is_file():
        raise InputError(f"{path}: there is no such file")
    if path.suffix == ".safetensors":
        return _own(path)
    content = _tensors(path)
    if content is path:
        return _mace(path, proxies_of(charge_aware, proxies))
    model = content.get("model", content) if isinstance(content, dict) else content
    if isinstance(model, dict) and {"state_dict", "model_args"} <= set(model):
        return _chgnet(path, model, proxies_of(charge_aware, proxies))
    state = model.get("state_dict", model) if isinstance(model, dict) else {}
    state = state if isinstance(state, dict) else {}
    for part, remedy in ELSEWHERE.items():
        if any(isinstance(k, str) and k.startswith(part) for k in state):
            raise InputError(f"{path}: {remedy}")
    if any(isinstance(k, str) and "embedding" in k for k in state) and all(
        torch.is_tensor(v) for v in state.values()
    ):
        cutoff = cutoff or content.get("cutoff")
        if not frames or not cutoff:
            raise InputError(
                f"{path}: is a state dict that looks like a PaiNN. It does not say in which order "
                "the features are split"
                f"{'' if cutoff else ', nor its cutoff'}: give one or two frames with energies "
                "and forces that the model was "
                f"trained on, frames=...{'' if cutoff else ', and cutoff=... (Å)'}"
            )
        from mlipkit.models.foreign_painn import painn_from

        if not isinstance(cutoff, int | float) or not 0 < cutoff < 20:
            raise InputError(
                f"{path}: the cutoff must be a length in Å, not {reprlib.repr(cutoff)}"
            )
        return painn_from(
            state, float(cutoff), frames, proxies_of(charge_aware, proxies), str(path)
        )
    keys = type(model).__name__
    if isinstance(model, dict):
        keys = ", ".join(sorted(key[:60] for key in model if isinstance(key, str))[:6])
    raise InputError(
        f"{path}: holds no model that is known here (found: {keys}, ...). A bare state dict does "
        "not say how large the "
        "network is; CHGNet checkpoints do (model_args), MACE's .model files do, and .safetensors "
        "made here"
    )


def _tensors(path):
    inside = []
    with (
        contextlib.suppress(zipfile.BadZipFile, OSError, ValueError),
        zipfile.ZipFile(path) as archive,
    ):
        inside = archive.namelist()  # older files are no archives; what is damaged is told below
    if any(name.endswith("constants.pkl") for name in inside):
        raise InputError(f"{path}: is a TorchScript program, not weights; it is not run here")
    archive = is_archive(path)
    strange = sorted(name for name in asked_for(path) if not KNOWN.fullmatch(name))
    if strange and archive and _is_mace(strange):
        return path
    if strange:
        raise _refused(path, archive, f"GLOBAL {strange[0]}")
    try:
        with torch.serialization.safe_globals(PLAIN_NUMBERS):
            found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as reason:
        needs = [line for line in str(reason).splitlines() if "GLOBAL" in line or "global" in line]
        what = needs[0].strip() if needs else "not plain tensors"
        raise _refused(path, archive, what) from None
    except Exception as reason:  # torch raises whatever a damaged archive makes it stumble over
        raise InputError(
            f"{path}: cannot be read as a checkpoint ({type(reason).__name__}: "
            f"{_first_line(reason)})"
        ) from None
    check_tensors(found, path)
    return found


def _first_line(reason):
    return str(reason).partition("\n")[0][:160]


def _refused(path, archive, what):
    if not archive:
        return InputError(
            f"{path}: is a pickle, and reading it could execute anything that somebody put "
            "into it: refused"
        )
    return InputError(
        f"{path}: is a pickled Python object, and reading it could execute anything that "
        "somebody put into it, so it is "
        f"refused ({what}). Ask for weights as plain tensors, or train the model again with "
        "train(...)"
    )


def _most(path, potential):
    """How many numbers the network may have whose weights are in a file."""
    return potential.beside_weights + path.stat().st_size


def _check_sizes(sizes):
    """Raise a ValueError for arguments of a network of which one is beyond all reason."""
    for name, value in sizes.items():
        for number in value if isinstance(value, (list, tuple)) else [value]:
            if isinstance(number, (int, float)) and not abs(number) < 100_000:
                raise ValueError(f"{name} of {number}")


def _chgnet(path, model, proxies):
    name = adapter("chgnet")
    if isinstance(model["model_args"], dict) and not model["model_args"].get("is_intensive", True):
        raise InputError(
            f"{path}: a CHGNet that gives total energies (is_intensive=False) is not supported"
        )
    try:
        _check_sizes(model["model_args"])
        with building(most=_most(path, name)):
            network = name.build(model["model_args"])
        network.load_state_dict(model["state_dict"])
    except (TypeError, ValueError, RuntimeError, KeyError, AttributeError) as reason:
        raise InputError(f"{path}: is no CHGNet of this version ({_first_line(reason)})") from None
    return name(network, proxies)


def _is_mace(names):
    """Whether a pickled object is a MACE model and names nothing but what such a model needs."""
    rooms = (
        "mace.modules.",
        "e3nn.",
        "torch.nn.",
        "torch.fx.",
        "torch.jit.",
        "builtins.set",
        "builtins.slice",
    )
    return "mace.modules.models.ScaleShiftMACE" in names and all(n.startswith(rooms) for n in names)


def _mace(path, proxies):
    from mlipkit.models import mace  # before e3nn, which does not import on its own

    plain_values = mace.o3.Irreps, mace.o3.Irrep, mace.o3._irreps._MulIr
    from mace import modules
    from mace.tools.scripts_utils import extract_config_mace_model

    try:
        found = read_inert(path, plain_values)
        check_tensors(found, path)
        config = extract_config_mace_model(found)
        for key in ("interaction_cls", "interaction_cls_first", "readout_cls"):
            config[key] = getattr(modules, config[key].__name__)
        config |= {
            "gate": modules.gate_dict[config["gate"].__name__] if config["gate"] else None,
            "cueq_config": None,
            "atomic_numbers": config["atomic_numbers"].tolist(),
            "atomic_energies": np.asarray(config["atomic_energies"]),
            "distance_transform": config["distance_transform"] or "None",
        }
        mace.check_orders(config["max_ell"], config["correlation"], config["hidden_irreps"].lmax)
        with building(most=_most(path, mace.MACEPotential)):
            model = modules.ScaleShiftMACE(**config)
        # what generated code keeps for itself (Wigner 3j symbols) is made anew with it
        missing, unexpected = model.load_state_dict(state_dict(found), strict=False)
        if unexpected or [k for k in missing if "_w3j_" not in k]:
            raise ValueError(f"{[*unexpected, *missing][0]} does not fit")
    except InputError:
        raise
    # what a foreign object lacks shows in as many ways as it has parts
    except Exception as reason:
        what = f"{type(reason).__name__}: {_first_line(reason)}"
        raise InputError(
            f"{path}: is a MACE model, but not one that this mace-torch can build ({what})"
        ) from None
    if absent := [p for p in proxies.values() if atomic_numbers[p] not in config["atomic_numbers"]]:
        raise InputError(
            f"{path}: this MACE does not know {', '.join(absent)}, so it was not trained with "
            "that proxy; say "
            "charge_aware=False, or proxies="
        )
    return mace.MACEPotential.plain(model, proxies)


def _no_number(text):
    raise ValueError(f"{text} is no number")


def _own(path):
    try:
        card = json.loads(path.with_suffix(".json").read_text(), parse_constant=_no_number)
        if hashlib.sha256(path.read_bytes()).hexdigest() != card.get("sha256"):
            raise ValueError("checksum differs")
        if card.get("seal", seal(card)) != seal(card):
            raise ValueError("the card was changed")
        found = adapter(card["architecture"])
        _check_sizes(card["model_args"])
        return found.from_weights(path, card, _most(path, found))
    except FileNotFoundError:
        raise InputError(
            f"{path.with_suffix('.json')}: the card of {path.name} is missing; it says how large "
            "the network is"
        ) from None
    except Exception as reason:
        what = f"{type(reason).__name__}: {_first_line(reason)}"
        raise InputError(f"{path}: not the weights that its card describes ({what})") from None
