"""Potentials behind one protocol, `predict(frames)` and `calculator()`: one adapter per
architecture, training, checkpoints.

No figures and no tables of errors. Importing the room does not import torch; `load_model` does.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "registry": ["load_model", "list_models"],
        "training": ["train", "save_weights"],
        "checkpoints": ["import_checkpoint"],
    },
)
