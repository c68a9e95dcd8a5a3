"""Relax one cell or many, and search the charge ordering that a model finds lowest.

What was relaxed is kept and can be read again; how it compares is for `analysis`, how it looks for
`pictures`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "one": ["relax", "Relaxation"],
        "many": [
            "relax_many",
            "relaxation_table",
            "load_relaxations",
            "read_relaxations",
            "write_relaxations",
        ],
        "geometries": ["compare_geometries", "on_host"],
        "configurations": ["extend_configurations", "sample_configurations"],
        "search": ["search_charge_ordering"],
    },
)
