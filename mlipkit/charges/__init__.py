"""From moments, bond lengths or Bader charges to oxidation states, and from those to the proxy
elements that a model sees.

One frame at a time: what a site is among its neighbours in other frames (orderings) is not decided
here.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "compounds": ["Compound", "compound", "group_by_compound"],
        "references": ["Reference", "reference_table"],
        "oxidation": [
            "OxidationStates",
            "infer_oxidation_states",
            "fit_references",
            "compare_methods",
        ],
        "species": ["to_proxies", "from_proxies"],
    },
)
