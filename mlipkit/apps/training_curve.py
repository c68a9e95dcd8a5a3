"""A loss curve that grows while a model trains."""

from copy import deepcopy

import ipywidgets as w

from mlipkit.pictures import plots
from mlipkit.pictures.live_figure import LiveFigure
from mlipkit.pictures.page import Page


class LiveCurve(w.VBox):
    """Training and validation loss by epoch, drawn as they come: ``train(..., on_epoch=curve)``.

    Called with the history after every epoch; put it on display in a cell before the one that
    trains.

    Attributes
    ----------
    figure : mlipkit.pictures.live_figure.LiveFigure
    """

    def __init__(self):
        self.figure = LiveFigure(plots.learning_curve([]))
        super().__init__([Page(), self.figure])
        self.add_class("mlipkit-app")

    def __call__(self, history):
        with self.figure.batch_update():
            for trace in self.figure.data:
                trace.x, trace.y = (
                    [h["epoch"] + 1 for h in history],
                    [h[trace.name] for h in history],
                )
        # changes go to the page as messages; a notebook run without one keeps what stands here
        self.figure._widget_data = deepcopy(self.figure._data)
