"""The host crystal, names of charge orderings up to its symmetry, their enumeration, and splits
that keep them apart.

No energies: a room for symmetry and counting only.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "enumeration": ["enumerate_orderings", "count_orderings"],
        "host_search": ["find_host"],
        "naming": ["name_orderings", "orderings_table"],
        "names": ["ordering_label", "same_ordering", "undistorted"],
        "splits": ["split_by_ordering"],
    },
)
