"""Pickled modules read without executing anything: every class in the file is replaced by one that
only keeps what it is given.
"""

import pickle
import struct

import torch

# plain numbers of NumPy, by the name of their dtype, as the struct module spells them
NUMBERS = {"f8": "d", "f4": "f", "f2": "e", "b1": "?"}
NUMBERS |= {"i8": "q", "i4": "i", "i2": "h", "i1": "b", "u8": "Q", "u4": "I", "u2": "H", "u1": "B"}


class Dtype:
    """Stands for numpy.dtype in a file: the name of a plain number, and nothing else.

    NumPy's own would build whatever the file says, and a scalar over an object is then a pointer of
    the file's choosing.
    """

    def __init__(self, name, align=False, copy=False):
        if not isinstance(name, str) or name not in NUMBERS:
            raise pickle.UnpicklingError("global numpy.dtype of something that is no plain number")
        self.format, self.order = NUMBERS[name], "<"

    def __setstate__(self, state):
        plain = isinstance(state, tuple) and len(state) > 4 and not any(state[2:5])
        if not plain or state[1] not in ("<", ">", "|", "="):
            raise pickle.UnpicklingError("global numpy.dtype with parts")
        self.order = {">": ">"}.get(state[1], "<")


def scalar(dtype, content):
    """Stands for numpy's scalar: the number in some bytes."""
    if not isinstance(dtype, Dtype) or not isinstance(content, bytes):
        raise pickle.UnpicklingError("global numpy scalar that is no plain number")
    try:
        return struct.unpack(dtype.order + dtype.format, content)[0]
    except struct.error:
        raise pickle.UnpicklingError("global numpy scalar of another length") from None


# by the names that NumPy 1 and 2 give them
PLAIN_NUMBERS = [
    (Dtype, "numpy.dtype"),
    (scalar, "numpy._core.multiarray.scalar"),
    (scalar, "numpy.core.multiarray.scalar"),
]


class Inert:
    """Stands for an object of a class that is not imported; answers like the torch module whose
    state it holds.
    """

    full_name = ""

    def __new__(cls, *args, **kwargs):
        return object.__new__(cls)

    def __init__(self, *args, **kwargs):
        pass

    def __setstate__(self, state):
        self.__dict__["state"] = state if isinstance(state, dict) else {}

    def __getattr__(self, name):
        state = self.__dict__.get("state", {})
        for place in (
            state,
            *(state.get(k) or {} for k in ("_modules", "_parameters", "_buffers")),
        ):
            if name in place and not name.startswith("__"):
                return place[name]
        raise AttributeError(name)

    def __iter__(self):
        state = self.__dict__.get("state", {})
        return iter(
            [*(state.get("_modules") or {}).values(), *(state.get("_parameters") or {}).values()]
        )

    def __len__(self):
        return len(list(iter(self)))

    def __getitem__(self, i):
        return list(iter(self))[i]


def read_inert(path, keep=()):
    """The object in a file of ``torch.save``, through ``weights_only=True``.

    Parameters
    ----------
    path : str or Path
    keep : iterable of type
        Classes of plain values that may stand for themselves.

    Returns
    -------
    object
        Tensors and plain containers as they are, everything else `Inert`.
    """
    real = {f"{c.__module__}.{c.__qualname__}": c for c in keep}
    names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    stands = [
        real[n] if n in real else (type(n.rsplit(".", 1)[-1], (Inert,), {"full_name": n}), n)
        for n in names
    ]
    with torch.serialization.safe_globals(stands):
        return torch.load(path, map_location="cpu", weights_only=True)


def state_dict(module, prefix=""):
    """Parameters and buffers of an inert module, named as torch names them."""
    state = module.__dict__.get("state", {})  # objects that are called into being have none
    own = {**(state.get("_parameters") or {}), **(state.get("_buffers") or {})}
    result = {
        prefix + k: v
        for k, v in own.items()
        if v is not None and k not in state.get("_non_persistent_buffers_set", ())
    }
    for name, child in (state.get("_modules") or {}).items():
        if isinstance(child, Inert):
            result |= state_dict(child, f"{prefix}{name}.")
    return result
