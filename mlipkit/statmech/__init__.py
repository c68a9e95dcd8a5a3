"""Temperature: expansions of the energy over configurations, and the entropy of ions and electrons.

Energies come in as numbers; no potential is called from here.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "configurations": [
            "Configurations",
            "read_configurations",
            "write_configurations",
        ],
        "expansion": ["Expansion", "fit_expansion", "read_expansion", "write_expansion"],
        "phases": ["PhaseDiagram", "phase_diagram", "read_phases", "write_phases"],
        "quench": ["without_electrons"],
        "sampling": ["MonteCarlo", "monte_carlo"],
        "shipped": ["load_configurations", "load_phases"],
        "entropy": ["charge_entropy", "entropy_table"],
    },
)
