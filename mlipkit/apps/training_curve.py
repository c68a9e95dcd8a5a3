"""A loss curve that grows while a model trains."""

from copy import deepcopy

import plotly.graph_objects as go

from mlipkit.pictures import plots


class LiveCurve(go.FigureWidget):
    """Training and validation loss by epoch, drawn as they come: ``train(..., on_epoch=curve)``.

    Called with the history after every epoch; put it on display in a cell before the one that
    trains.
    """

    def __init__(self):
        super().__init__(plots.learning_curve([]))

    def __call__(self, history):
        with self.batch_update():
            for trace in self.data:
                trace.x, trace.y = (
                    [h["epoch"] + 1 for h in history],
                    [h[trace.name] for h in history],
                )
        # changes go to the page as messages; a notebook run without one keeps what stands here
        self._widget_data = deepcopy(self._data)
