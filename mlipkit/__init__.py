"""See charge order in mixed-valence materials, and what it does to machine-learning interatomic
potentials.

Names are loaded when they are first used, so `import mlipkit` costs next to nothing and does not
import torch.
"""

from mlipkit import (
    analysis,
    apps,
    charges,
    exercises,
    files,
    frames,
    models,
    orderings,
    pictures,
    relaxation,
    statmech,
)

# data flows one way: a room imports only from those left of it, and all from `files`
_ROOMS = (
    frames,
    charges,
    orderings,
    models,
    pictures,
    analysis,
    statmech,
    relaxation,
    apps,
    exercises,
)
_ROOM_OF = {"InputError": files, **{name: room for room in _ROOMS for name in room.__all__}}
__all__ = list(_ROOM_OF)
__version__ = "0.1.0"


def __getattr__(name):
    if name not in _ROOM_OF:
        raise AttributeError(f"mlipkit has no name {name!r}; it has {', '.join(__all__)}")
    return getattr(_ROOM_OF[name], name)


def __dir__():
    return __all__
