"""Data in, a plotly figure or an nglview widget out.

A picture computes nothing that a table could hold, and reacts to nothing: what moves together is an
app.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=["plots"],
    submod_attrs={
        "crystal": ["show"],
    },
)
