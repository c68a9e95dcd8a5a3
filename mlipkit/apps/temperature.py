"""Temperature: a phase diagram with a slider through it, free energy, voltage, entropy of ions and
electrons, and the cell, with a switch for the electrons.
"""

import ipywidgets as w

from mlipkit.apps import temperature_words as words
from mlipkit.apps.temperature_figure import CLICKED, arrange, figure_of
from mlipkit.apps.temperature_state import TemperatureState, title
from mlipkit.pictures.crystal import Crystal
from mlipkit.pictures.live_figure import LiveFigure
from mlipkit.pictures.page import Page

BOLD, ROW = {"description_width": "initial"}, {"flex_flow": "row wrap", "align_items": "center"}
AUTO = {"button_width": "auto"}
SIZE = "380px"  # of the cell


class TemperatureView(w.VBox):
    """Widgets over a `TemperatureState`."""

    def __init__(self, state):
        self.state, self.unconfirmed, self.following = state, False, False
        self._make_controls()
        self.lattice = state.diagram.lattice
        self.crystal = Crystal(state.atoms, height=SIZE)
        self.structure, self.legend = self.crystal.view, self.crystal.legend
        self.line, self.table = w.HTML(), w.HTML()
        self.line.add_class("mlipkit-live")
        self.figure = LiveFigure(figure_of(state))
        self.figure._config = {**self.figure._config, "responsive": True, "displaylogo": False}
        for trace in self.figure.data:
            if trace.name in CLICKED:
                trace.on_click(self._click)
        self._bind()
        super().__init__([self.page, *self._laid_out()])
        self.add_class("mlipkit-app")
        self.add_class("mlipkit-explorer")  # whose style it has
        self.add_class("mlipkit-temperature")
        self._tell()

    def _make_controls(self):
        state = self.state
        several = {True: "", False: "none"}
        self.architecture = w.ToggleButtons(style=AUTO, tooltip="architecture")
        self.kind = w.ToggleButtons(style=AUTO, tooltip="electrons")
        self.architecture.layout.display = several[len(state.diagrams) > 1]
        self.kind.layout.display = several[max(map(len, state.diagrams.values())) > 1]
        layout = {"width": "420px"}
        # not before there are options
        self.temperature, self.x = (
            w.SelectionSlider(options=[("", 0.0)], description=says, style=BOLD, layout=layout)
            for says in ("temperature", "cell at")
        )
        self.page = Page()
        self._offer()

    def _bind(self):
        state = self.state
        for name in ("architecture", "kind", "temperature", "x"):
            getattr(self, name).observe(self._choose, "value")
        state.observe(self._refresh, ["architecture", "kind", "temperature", "x"])

    def _laid_out(self):
        controls = [
            w.HBox([self.kind, self.architecture], layout=ROW),
            w.HBox([self.temperature, self.x], layout=ROW),
            self.line,
        ]
        panes = {
            "plots": w.VBox([self.figure]),
            "crystal": self.crystal,
            "text": w.VBox([self.table]),
        }
        for name, pane in panes.items():
            pane.add_class(f"mlipkit-pane-{name}")
        beside = w.HBox(list(panes.values()))
        beside.add_class("mlipkit-panes")
        return [*controls, beside]

    def _offer(self):
        """The choices that there are, and what is chosen of them."""
        s = self.state
        options = {
            self.architecture: ([(title(a), a) for a in s.diagrams], s.architecture),
            self.kind: ([(words.SEES[kind], kind) for kind in s.kinds], s.kind),
            self.temperature: (
                [(f"{v:g} K", float(v)) for v in s.temperatures],
                s.temperature,
            ),
            self.x: ([(f"x = {v:.2f}", float(v)) for v in s.kept_x], s.x),
        }
        self.following = True  # what follows is no choice of a person
        try:
            for widget, (choices, chosen) in options.items():
                if tuple(widget.options) != tuple(choices):
                    widget.options = choices
                widget.value = chosen
        finally:
            self.following = False

    def _choose(self, change):
        if self.following or change["new"] is None:
            return
        name = next(
            n
            for n in ("architecture", "kind", "temperature", "x")
            if getattr(self, n) is change.owner
        )
        setattr(self.state, name, change["new"])

    def _click(self, trace, points, selector):
        if points.xs:
            temperature = points.ys[0] if trace.name == "points" else None
            self.state.choose(points.xs[0], temperature)

    def _refresh(self, change):
        self._offer()
        # one message, one redraw; before the rest, which is seen less
        self._redraw(change["name"] in ("architecture", "kind"))
        self._tell()
        if self.lattice is not self.state.diagram.lattice:
            self.lattice = self.state.diagram.lattice
            self.crystal.look()

    def _tell(self):
        s = self.state
        self.line.value = f'<div class="mlipkit-text">{words.line(s)}</div>'
        self.table.value = f'<div class="mlipkit-text">{words.table(s)}</div>'
        self.crystal.bar.name = words.file_name(s)
        self.crystal.show(s.atoms, note=f'<div class="mlipkit-text">{words.cell(s)}</div>')

    def _redraw(self, all_of_it):
        overtakes = self.figure._layout_edit_in_process
        with self.figure.batch_update():
            arrange(self.figure, self.state, all_of_it)
        if overtakes and not self.unconfirmed:
            self.unconfirmed = True
            self.figure.on_edits_completed(self._say_again)

    def _say_again(self):
        """Say everything once more: of two edits on each other's heels the browser now and then
        draws the first one over the second.
        """
        self.unconfirmed, figure = False, self.figure
        layout = {"shapes": [shape.to_plotly_json() for shape in figure.layout.shapes]}
        for axis in (f"{xy}axis{n}" for n in ("", "2", "3", "4") for xy in "xy"):
            layout[f"{axis}.range"] = list(figure.layout[axis].range)
        data = {name: [list(trace[name] or ()) for trace in figure.data] for name in "xy"}
        figure._send_update_msg(restyle_data=data, relayout_data=layout)


def explore_temperature(diagrams=None, **choice):
    """Open the phase diagram: a slider for the temperature, a switch for the electrons.

    Parameters
    ----------
    diagrams : PhaseDiagram or dict, optional
        ``{architecture: {"with electrons": PhaseDiagram, "without": ..., "charge-blind": ...}}``
        with any of the three; ``{name: PhaseDiagram}``; or one. By default `load_phases`.
    **choice
        What to begin with: ``architecture=``, ``kind=`` (one of the three), ``temperature=`` (K),
        ``x=``.

    Returns
    -------
    TemperatureView
        ``.state`` holds what is chosen.
    """
    return TemperatureView(TemperatureState(diagrams, **choice))
