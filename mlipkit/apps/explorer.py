"""The explorer: pick a charge ordering, toggle the model, flip a valence; structure, moments, hull and energy ladder move together."""
import ipywidgets as w
import numpy as np
import plotly.graph_objects as go
import traitlets as t

from mlipkit import plots
from mlipkit.apps.explorer_state import ExplorerState
from mlipkit.figures import TITLES
from mlipkit.frames import label
from mlipkit.orderings import arrangement
from mlipkit.reference_moments import redox_sites
from mlipkit.structure_view import draw, legend, structure_view

WIDTH, PANE = 1120, 550       # px
MOVED = "#000000"


class ExplorerView(w.VBox):
    """Widgets over an `ExplorerState`."""

    def __init__(self, state, octahedra=False):
        self.state, self.chosen = state, None
        bold, row, pane = {"description_width": "initial"}, w.Layout(flex_flow="row wrap"), w.Layout(width=f"{PANE}px")
        self.composition = w.ToggleButtons(options=[(f"x = {x:g}", x) for x in state.compositions], style={"button_width": "78px"})
        self.ordering = w.Dropdown(description="ordering", style=bold, layout={"width": "250px"})
        self.model = w.ToggleButtons(options=[("CHGNet as published", "pretrained"), ("charge-blind", "blind"), ("charge-aware", "aware")],
                                     style={"button_width": "auto"})
        self.architecture = w.Dropdown(options=[(title, a) for a, title in TITLES.items()], description="architecture", style=bold,
                                       layout={"width": "190px"})
        self.click = w.ToggleButtons(options=[("reads its moment", "read"), ("flips its valence", "flip")], style={"button_width": "auto"})
        self.reset = w.Button(description="undo flips", disabled=True, layout={"width": "90px"})
        self.octahedra = w.Checkbox(value=octahedra, description="octahedra", indent=False, layout={"width": "100px"})
        self.structure = structure_view(state.atoms, height="310px", octahedra=octahedra)
        self.legend, self.table, self.lesson, self.picked = w.HTML(), w.HTML(), w.HTML(), w.HTML()
        figure = _panels(state)
        self.range = list(figure.layout.yaxis.range)
        self._arrange(figure)                       # before it is a widget: voila shows a widget as it was made
        self.figure = go.FigureWidget(figure)
        for trace in self.figure.data:
            if "markers" in trace.mode:
                trace.on_click(self._click)
        t.link((state, "x"), (self.composition, "value"))
        t.link((state, "model"), (self.model, "value"))
        t.link((state, "architecture"), (self.architecture, "value"))
        self.ordering.observe(self._choose, "value")
        self.structure.observe(self._pick, names=["picked"])
        self.reset.on_click(lambda button: state.set_trait("flips", ()))
        self.octahedra.observe(lambda change: draw(self.structure, state.atoms, change["new"]), "value")
        state.observe(self._refresh, ["ordering", "model", "architecture", "flips"])
        under = w.HBox([w.Label("a click on Fe"), self.click, self.reset, self.octahedra], layout=row)
        super().__init__([
            w.HBox([self.composition, self.ordering], layout=row), w.HBox([self.architecture, self.model], layout=row),
            w.HBox([w.VBox([self.structure, self.legend, under], layout=pane), w.VBox([self.table, self.lesson, self.picked], layout=pane)],
                   layout=row), self.figure])
        self.add_class("mlipkit-explorer")
        self._refresh({"name": "ordering"})

    def _choose(self, change):
        self.state.ordering = change["new"]

    def _click(self, trace, points, selector):
        if points.point_inds:
            self.state.ordering = trace.text[points.point_inds[0]]

    def _pick(self, change):
        i = (change["new"].get("atom1") or {}).get("index")
        if i is None:
            return
        self.chosen = i
        if self.click.value == "flip" and self.state.ends[self.state.index].symbols[i] == "Fe":
            self.state.flip(i)
        else:
            self._tell(self.state.atoms)

    def _tell(self, atoms):
        i = self.chosen
        if i is None:
            self.picked.value = _text("Click an atom, a hull point or a ladder level. Full symbols on the right: held out.")
            return
        magmom = label(atoms, "magmoms")[i]
        state = f", {magmom:.2f} µB by this model: Fe<sup>{atoms.arrays['oxi_states'][i]}+</sup>" if atoms.symbols[i] == "Fe" else ""
        self.picked.value = _text(f"picked atom <b>{i}</b>: {atoms.symbols[i]}{state}")

    def _refresh(self, change):
        s = self.state
        if change["name"] == "ordering":
            options = s.orderings(s.x)
            if tuple(self.ordering.options) != tuple(options):
                self.ordering.unobserve(self._choose, "value")      # new options move the value to the first of them
                self.ordering.options = options
                self.ordering.observe(self._choose, "value")
            self.ordering.value = s.ordering
            self.chosen = None
        if not s.ready:
            self.lesson.value = _text(f"loading {s.series} ...")
        with self.figure.batch_update():            # one message, one redraw; before the rest, which is seen less
            self._arrange(self.figure)
        atoms = s.atoms
        self._tell(atoms)
        self.table.value, self.lesson.value = self._html(atoms), _text(_lesson(s))
        self.legend.value, self.reset.disabled = legend(atoms), not s.flips
        draw(self.structure, atoms, self.octahedra.value)

    def _arrange(self, figure):
        """Show the present choice in a figure of `_panels`."""
        s, flip = self.state, 1e3 * self.state.change
        dft, model = (s.hulls[series]["formation_energy"][s.index] for series in ("DFT", s.series))
        levels = [s.levels(series) for series in ("DFT", s.series)]
        (low, high), place = (level[s.ordering] for level in levels), _place(s)
        top = max(max(level.values()) for level in levels)
        plots.choose(figure, ("DFT", s.series))
        figure.layout.yaxis.range = [min(self.range[0], model + s.change - 0.05), max(self.range[1], model + s.change + 0.05)]
        figure.layout.xaxis2.range = [place - 0.4, place + 1.4]
        figure.layout.yaxis2.range = [min(0, high + flip) - 0.1 * (top + 20), 1.1 * max(top, high + flip) + 10]
        moved = [*_moved(s.x, model, s.change), *_moved(place + 1, high, flip, axes=2)] if s.flips else []
        figure.layout.shapes = [plots.ring(s.x, dft), plots.ring(s.x, model), plots.ring(place, low, axes=2),
                                plots.ring(place + 1, high, axes=2), plots.ring(dft, model, axes=3), *moved]

    def _html(self, atoms):
        s = self.state
        dft, model = (s.hulls[series]["formation_energy"][s.index] for series in ("DFT", s.series))
        rows = _row("th", ("Fe", "DFT µB", "model µB", "DFT", *(["given"] if s.flips else []), "model")) + "".join(
            _row("td", (i, f"{d:.2f}", f"{m:.2f}", _ion(qd), *([_ion(qg, bold=qg != qd)] if s.flips else []), _ion(qm, wrong=qg != qm)))
            for i, d, m, qd, qg, qm in s.summary(atoms))
        above = {name: table["energy_above_hull"][s.index] for name, table in s.hulls.items()}
        error = 1e3 * np.abs(s.hulls[s.series]["formation_energy"] - s.hulls["DFT"]["formation_energy"]).mean()
        held = "held out of training" if s.held_out[s.index] else "in the training split"
        return _text(f'<b>{s.ordering}</b> ({held})<table style="margin:6px 0">{rows}</table>'
                     f"formation energy: DFT {1e3 * dft:.1f}, {s.series} {1e3 * (model + s.change):.1f} meV per formula unit<br>"
                     f"above hull: DFT {1e3 * above['DFT']:.1f}, {s.series} {1e3 * (above[s.series] + s.change):.1f} meV per formula unit"
                     "<br>"
                     f"mean error of {s.series} over all orderings: {error:.0f} meV per formula unit")


def _lesson(state):
    """One line on what the flips did, and a warning when the oxidation states do not balance."""
    if not state.flips:
        return ""
    warning = "" if not state.imbalance else (
        f'<br><b style="color:#C00">&#9888; The oxidation states sum to {state.imbalance:+d}, not 0: flip another Fe to balance them. '
        "No model has seen a charged cell, so its energy means nothing here.</b>")
    if state.model == "aware":
        return f"<b>Charge-aware: the valence is an input. Same geometry, energy {1e3 * state.change:+.0f} meV/f.u.</b>{warning}"
    return ("<b>Charge-blind: the valence is no input. Flip what you like: energy, moments and hull point stay "
            f"({abs(1e3 * state.change):.0f} meV/f.u.).</b>{warning}")


def _panels(state):
    """Hull, energy ladder and parity plot in one figure.

    All that a choice can show is there, hidden or outside the range of the axes: new data would take several times as long.
    """
    energies = {name: table["formation_energy"].tolist() for name, table in state.hulls.items()}
    models = {name: energy for name, energy in energies.items() if name != "DFT"}
    parity = plots.parity(energies["DFT"], models, state.names, state.held_out)
    figure = plots.beside(plots.hull(state.hulls), _ladders(state, models), parity, widths=[0.4, 0.23, 0.37], spacing=0.085)
    figure.update_layout(width=WIDTH, height=360)
    figure.update_yaxes(title_standoff=4)
    return figure


def _ladders(state, models):
    """`plots.ladder` of all Na arrangements side by side, a trace per model."""
    figure, groups = go.Figure(), list(dict.fromkeys(map(arrangement, state.names)))
    for series, energy in models.items():
        x, y, text, colour, symbol = [], [], [], [], []
        for k, group in enumerate(groups):
            cell = [e * len(redox_sites(a)) for e, a in zip(energy, state.ends)]
            for level in plots.ladder(state.ends, {series: cell}, group).data:
                x, y, text = [*x, 2 * k, 2 * k + 1, None], [*y, *level.y, None], text + [level.name] * 3
                colour, symbol = colour + [level.marker.color] * 3, symbol + [level.marker.symbol] * 3
        figure.add_scatter(x=x, y=y, text=text, name=series, mode="lines+markers", line={"color": "#777777", "width": 1, "dash": "dot"},
                           marker={"size": 11, "color": colour, "symbol": symbol},
                           hovertemplate="%{text}<br>%{y:.1f} meV/f.u.<extra></extra>")
    figure.update_xaxes(tickvals=list(range(2 * len(groups))), ticktext=["DFT", "model"] * len(groups))
    figure.update_yaxes(title_text="above the lowest (meV/f.u.)")
    return figure


def _place(state):
    """Where on its axis the ladder of the chosen arrangement stands."""
    return 2 * list(dict.fromkeys(map(arrangement, state.names))).index(arrangement(state.ordering))


def _moved(x, y, by, axes=""):
    """Layout shapes: where a point has gone, a full dot at the end of a line."""
    axis = {"xref": f"x{axes}", "yref": f"y{axes}", "line": {"color": MOVED, "width": 3}, "opacity": 1}
    dot = {**plots.ring(x, y + by, axes), "x0": -6, "x1": 6, "y0": -6, "y1": 6, "fillcolor": MOVED, "opacity": 1}
    return [{"type": "line", "x0": x, "x1": x, "y0": y, "y1": y + by, **axis}, dot]


def _text(html):
    return f'<div style="font:13px Arial,sans-serif;line-height:1.5">{html}</div>'


def _row(tag, cells):
    return "<tr>" + "".join(f'<{tag} style="padding:2px 12px;text-align:center">{cell}</{tag}>' for cell in cells) + "</tr>"


def _ion(state, wrong=False, bold=False):
    if wrong:
        return f'<b style="color:#C00">Fe<sup>{state}+</sup> &#10007;</b>'
    return f"<b>Fe<sup>{state}+</sup></b>" if bold else f"Fe<sup>{state}+</sup>"


def explore(frames=None, predictions=None, octahedra=False, **choice):
    """Open the explorer.

    Parameters
    ----------
    frames, predictions
        As for `ExplorerState`; by default the embedded set.
    octahedra : bool
        Begin with the FeO6 octahedra drawn.
    **choice
        What to begin with: ``ordering=``, ``architecture=``, ``model=``.

    Returns
    -------
    ExplorerView
        ``.state`` holds what is chosen.
    """
    return ExplorerView(ExplorerState(frames, predictions, **choice), octahedra)
