"""Checks of the answers to the notebooks' exercises, in words that do not give the answer away.

Nothing of a compound: what is asked, and how the right answer is computed, stands in the exercises'
sources (`workshop/exercises` of a checkout).
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs={"checking": ["check"]})
