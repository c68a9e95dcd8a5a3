"""A figure of many models, one architecture at a time."""

import ipywidgets as w
import plotly.graph_objects as go
from plotly.basedatatypes import BaseFigure

from mlipkit import arguments
from mlipkit.files import InputError
from mlipkit.pictures import plots
from mlipkit.pictures.figures import TITLES
from mlipkit.pictures.live_figure import LiveFigure
from mlipkit.pictures.page import Page


class ByArchitecture(w.VBox):
    """A drop-down over a figure: it shows DFT, and what belongs to the chosen architecture.

    Parameters
    ----------
    figure : plotly.graph_objects.Figure
        Traces named ``DFT`` and after models, such as ``MACE, charge-blind``.
    architecture : str, optional
        The one to begin with, such as ``"mace"``, by default the first in the figure.

    Attributes
    ----------
    architecture : ipywidgets.Dropdown
    figure : mlipkit.pictures.live_figure.LiveFigure
    """

    def __init__(self, figure, architecture=None):
        if not isinstance(figure, BaseFigure):
            raise InputError(
                "ByArchitecture: figure is one of plotly's, such as mk.plots.hull(...), not "
                f"{arguments.shown(figure)}"
            )
        named = [t.name for t in figure.data if t.name and t.name != "DFT"]
        self.architecture = w.Dropdown(
            options=list(dict.fromkeys(map(_architecture, named))),
            description="architecture",
            style={"description_width": "initial"},
            layout={"width": "190px"},
        )
        if architecture is not None:
            arguments.text(architecture, "ByArchitecture: architecture")
            self.architecture.value = TITLES.get(architecture, architecture)
        self.figure = figure = go.Figure(figure)
        # before it is a widget: nothing then has to reach a view that is not drawn yet
        self._show()
        self.figure = LiveFigure(figure)
        self.architecture.observe(self._show, "value")
        super().__init__([Page(), self.architecture, self.figure])
        self.add_class("mlipkit-app")
        self.add_class("mlipkit-by-architecture")

    def _show(self, change=None):
        shown = "DFT", self.architecture.value
        names = {t.name for t in self.figure.data if t.name and _architecture(t.name) in shown}
        with self.figure.batch_update():
            plots.choose(self.figure, names)


def _architecture(name):
    """``CHGNet`` of ``CHGNet, charge-blind`` and of ``CHGNet as published``."""
    return name.split(", ")[0].removesuffix(" as published")
