"""What answers to clicks: for each app a traitlets state that knows no widget, and a view that only
binds to it.

No physics: an app calls the rooms before it.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "explorer": ["explore"],
        "explorer_state": ["ExplorerState"],
        "study": ["study"],
        "player": ["play", "PlayerState"],
        "threshold": ["explore_threshold"],
        "temperature": ["explore_temperature"],
        "temperature_state": ["TemperatureState"],
        "upload": ["upload"],
        "by_architecture": ["ByArchitecture"],
        "training_curve": ["LiveCurve"],
    },
)
