"""See charge order in mixed-valence materials, and what it does to machine-learning interatomic potentials.

Names are loaded when they are first used, so `import mlipkit` costs next to nothing and does not import torch.
"""
import importlib

_ROOM_OF = {
    "InputError": "files",
    "read_frames": "readers", "write_frames": "frames", "frame_table": "frames",
    "open_frames": "frame_store", "FrameSequence": "frame_store",
    "load_dft": "datasets", "load_predictions": "datasets", "load_results": "datasets", "load_geometries": "datasets",
    "Reference": "reference_moments", "reference_table": "reference_moments",
    "OxidationStates": "oxidation", "infer_oxidation_states": "oxidation", "fit_references": "oxidation", "compare_methods": "oxidation",
    "enumerate_orderings": "enumeration", "count_orderings": "enumeration", "find_host": "host_search",
    "ordering_label": "orderings", "same_ordering": "orderings", "orderings_table": "orderings",
    "undistorted": "orderings", "split_by_ordering": "splits",
    "to_proxies": "species", "from_proxies": "species",
    "load_model": "models", "list_models": "models", "train": "models.training", "save_weights": "models.training",
    "import_checkpoint": "models.checkpoints", "LiveCurve": "apps.training_curve",
    "error_table": "errors", "order_scores": "errors", "score": "errors", "seed_table": "errors",
    "compare_models": "errors", "predictions_for": "errors",
    "relax": "relaxation", "Relaxation": "relaxation", "relax_many": "campaigns", "relaxation_table": "campaigns",
    "load_relaxations": "campaigns", "read_relaxations": "campaigns", "write_relaxations": "campaigns",
    "search_charge_ordering": "search",
    "error_by": "errors", "frame_errors": "errors", "bootstrap": "errors",
    "end_points": "frames", "along_relaxations": "frames", "formation_energies": "thermo", "hull": "thermo", "energy_above_hull": "thermo",
    "voltage_profile": "thermo", "charge_entropy": "entropy", "entropy_table": "entropy",
    "show": "structure_view", "plots": "plots",
    "explore": "apps.explorer", "ExplorerState": "apps.explorer_state", "play": "apps.player", "PlayerState": "apps.player",
    "verdict_table": "verdict", "verdict_summary": "verdict",
    "explore_threshold": "apps.threshold", "upload": "apps.upload", "ByArchitecture": "apps.by_architecture",
}
__all__ = list(_ROOM_OF)
__version__ = "0.1.0"


def __getattr__(name):
    if name not in _ROOM_OF:
        raise AttributeError(f"mlipkit has no name {name!r}; it has {', '.join(__all__)}")
    room = importlib.import_module(f"mlipkit.{_ROOM_OF[name]}")
    return room if name == "plots" else getattr(room, name)


def __dir__():
    return __all__
