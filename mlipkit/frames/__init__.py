"""What a labelled frame is, how it is read and written, the store of huge files, and the named data
sets.

Nothing here knows what the labels mean: no oxidation state is inferred, no ordering named, no model
run.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "readers": ["read_frames"],
        "labels": ["write_frames", "frame_table", "end_points", "along_relaxations"],
        "taken": ["to_pymatgen"],
        "store": ["open_frames", "FrameSequence"],
        "datasets": [
            "load_dft",
            "load_predictions",
            "load_results",
            "load_geometries",
            "load_transfer",
        ],
    },
)
