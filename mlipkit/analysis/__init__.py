"""Errors of predictions, the order of energies, formation energies, the hull and the voltage, DFT's
verdict on relaxations.

Tables at 0 K from energies that are there already: nothing is relaxed, sampled or drawn.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "errors": [
            "error_table",
            "order_scores",
            "score",
            "seed_table",
            "compare_models",
            "error_by",
            "frame_errors",
            "bootstrap",
            "with_units",
        ],
        "predictions": ["predict", "predictions_for"],
        "thermo": ["formation_energies", "hull", "energy_above_hull", "voltage_profile"],
        "verdict": ["verdict_table", "verdict_summary"],
    },
)
