"""A figure of many models, one architecture at a time."""

import ipywidgets as w
import plotly.graph_objects as go

from mlipkit.pictures import plots
from mlipkit.pictures.figures import TITLES


class ByArchitecture(w.VBox):
    """A drop-down over a figure: it shows DFT, and what belongs to the chosen architecture.

    Parameters
    ----------
    figure : plotly.graph_objects.Figure
        Traces named ``DFT`` and after models, such as ``mace_blind`` and ``mace_aware``.
    architecture : str, optional
        The one to begin with, by default the first in the figure.

    Attributes
    ----------
    architecture : ipywidgets.Dropdown
    figure : plotly.graph_objects.FigureWidget
    """

    def __init__(self, figure, architecture=None):
        found = dict.fromkeys(
            t.name.rsplit("_", 1)[0] for t in figure.data if "_" in (t.name or "")
        )
        self.architecture = w.Dropdown(
            options=[(TITLES.get(a, a), a) for a in found],
            description="architecture",
            style={"description_width": "initial"},
            layout={"width": "190px"},
        )
        if architecture is not None:
            self.architecture.value = architecture
        self.figure = figure = go.Figure(figure)
        # before it is a widget: nothing then has to reach a view that is not drawn yet
        self._show()
        self.figure = go.FigureWidget(figure)
        self.architecture.observe(self._show, "value")
        super().__init__([self.architecture, self.figure])
        self.add_class("mlipkit-by-architecture")

    def _show(self, change=None):
        names = {
            t.name
            for t in self.figure.data
            if t.name and t.name.rsplit("_", 1)[0] in ("DFT", self.architecture.value)
        }
        with self.figure.batch_update():
            plots.choose(self.figure, names)
