"""The explorer: pick a charge ordering, toggle the model, flip a valence; structure, moments, hull and energy ladder move together."""
import ipywidgets as w
import numpy as np
import plotly.graph_objects as go
import traitlets as t
from plotly.subplots import make_subplots

from mlipkit import plots
from mlipkit.apps.explorer_state import ExplorerState, arrangement
from mlipkit.frames import label
from mlipkit.structure_view import draw, legend, structure_view

WIDTH, PANE = 1120, 550       # px
FLIPPED = "flipped"


class ExplorerView(w.VBox):
    """Widgets over an `ExplorerState`."""

    def __init__(self, state, octahedra=False):
        self.state, self.chosen = state, None
        bold, row, pane = {"description_width": "initial"}, w.Layout(flex_flow="row wrap"), w.Layout(width=f"{PANE}px")
        self.composition = w.ToggleButtons(options=[(f"x = {x:g}", x) for x in state.compositions], style={"button_width": "78px"})
        self.ordering = w.Dropdown(description="ordering", style=bold, layout={"width": "250px"})
        self.model = w.ToggleButtons(options=[("CHGNet as published", "pretrained"), ("charge-blind", "blind"), ("charge-aware", "aware")],
                                     style={"button_width": "auto"})
        self.architecture = w.Dropdown(options=[("CHGNet", "chgnet"), ("cPaiNN", "cpainn"), ("MACE", "mace")], description="architecture",
                                       style=bold, layout={"width": "190px"})
        self.click = w.ToggleButtons(options=[("reads its moment", "read"), ("flips its valence", "flip")], description="a click on Fe",
                                     style={"button_width": "auto", **bold})
        self.reset = w.Button(description="undo flips", disabled=True, layout={"width": "90px"})
        self.octahedra = w.Checkbox(value=octahedra, description="octahedra", indent=False, layout={"width": "100px"})
        self.structure = structure_view(state.atoms, height="310px", octahedra=octahedra)
        self.legend, self.table, self.lesson, self.picked = w.HTML(), w.HTML(), w.HTML(), w.HTML()
        self.figure = go.FigureWidget(_panels(state))
        self.range = list(self.figure.layout.yaxis.range)
        for trace in self.figure.data:
            if "markers" in trace.mode and trace.name != FLIPPED:
                trace.on_click(self._click)
        t.link((state, "x"), (self.composition, "value"))
        t.link((state, "model"), (self.model, "value"))
        t.link((state, "architecture"), (self.architecture, "value"))
        self.ordering.observe(self._choose, "value")
        self.structure.observe(self._pick, names=["picked"])
        self.reset.on_click(lambda button: state.set_trait("flips", ()))
        self.octahedra.observe(lambda change: draw(self.structure, state.atoms, change["new"]), "value")
        state.observe(self._refresh, ["ordering", "model", "architecture", "flips"])
        under = w.HBox([self.click, self.reset, self.octahedra], layout=row)
        super().__init__([
            w.HBox([self.composition, self.ordering], layout=row), w.HBox([self.architecture, self.model], layout=row),
            w.HBox([w.VBox([self.structure, self.legend, under], layout=pane), w.VBox([self.table, self.lesson, self.picked], layout=pane)],
                   layout=row), self.figure])
        self.add_class("mlipkit-explorer")
        self._refresh({"name": "ordering"})
        self._refresh({"name": "model"})

    def _choose(self, change):
        self.state.ordering = change["new"]

    def _click(self, trace, points, selector):
        if points.point_inds:
            self.state.ordering = trace.name if trace.name in self.state.names else self.state.names[points.point_inds[0]]

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
            self.picked.value = _text("Click an atom, a point of the hull, a level of the ladder. Full symbols on the right: held out.")
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
        i, flip = s.index, s.change
        dft, model = s.hulls["DFT"]["formation_energy"][i], s.hulls[s.series]["formation_energy"][i]
        levels = {name: [level, s.levels(s.series)[name]] for name, level in s.levels("DFT").items()}
        low, high = levels[s.ordering]
        with self.figure.batch_update():            # one message, one redraw; before the rest, which is seen less
            plots.choose(self.figure, ("DFT", s.series, *levels, *([FLIPPED] if s.flips else [])))
            for trace in self.figure.data:
                if trace.name in levels:
                    trace.y = levels[trace.name]
                elif trace.name == FLIPPED and s.flips:
                    in_hull = trace.xaxis == "x"
                    trace.x = [s.x if in_hull else "model"] * 2
                    trace.y = [model, model + flip] if in_hull else [high, high + 1e3 * flip]
            self.figure.layout.yaxis.range = [min(self.range[0], model + flip - 0.05), max(self.range[1], model + flip + 0.05)]
            self.figure.layout.shapes = [plots.ring(s.x, dft), plots.ring(s.x, model), plots.ring("DFT", low, axes=2),
                                         plots.ring("model", high, axes=2), plots.ring(dft, model, axes=3)]
        atoms = s.atoms
        self._tell(atoms)
        self.table.value, self.lesson.value = self._html(atoms, dft, model, flip), _text(_lesson(s, flip))
        self.legend.value, self.reset.disabled = legend(atoms), not s.flips
        draw(self.structure, atoms, self.octahedra.value)

    def _html(self, atoms, dft, model, flip):
        s = self.state
        rows = _row("th", ("Fe", "DFT µB", "model µB", "DFT", *(["given"] if s.flips else []), "model")) + "".join(
            _row("td", (i, f"{d:.2f}", f"{m:.2f}", _ion(qd), *([_ion(qg, bold=qg != qd)] if s.flips else []), _ion(qm, wrong=qg != qm)))
            for i, d, m, qd, qg, qm in s.summary(atoms))
        above = {name: table["energy_above_hull"][s.index] for name, table in s.hulls.items()}
        error = 1e3 * np.abs(s.hulls[s.series]["formation_energy"] - s.hulls["DFT"]["formation_energy"]).mean()
        held = "held out of training" if s.held_out[s.index] else "in the training split"
        return _text(f'<b>{s.ordering}</b> ({held})<table style="margin:6px 0">{rows}</table>'
                     f"formation energy: DFT {1e3 * dft:.1f}, {s.series} {1e3 * (model + flip):.1f} meV per formula unit<br>"
                     f"above hull: DFT {1e3 * above['DFT']:.1f}, {s.series} {1e3 * (above[s.series] + flip):.1f} meV per formula unit<br>"
                     f"mean error of {s.series} over all orderings: {error:.0f} meV per formula unit")


def _lesson(state, change):
    """One line on what the flips did, and a warning when the oxidation states do not balance."""
    if not state.flips:
        return ""
    warning = "" if not state.imbalance else (
        f'<br><b style="color:#C00">&#9888; The oxidation states sum to {state.imbalance:+d}, not 0: flip another Fe to balance them. '
        "No model has seen a charged cell, so its energy means nothing here.</b>")
    if state.model == "aware":
        return f"<b>Charge-aware: the valence is an input. Same geometry, energy {1e3 * change:+.0f} meV per formula unit.</b>{warning}"
    return ("<b>Charge-blind: the valence is no input. Flip what you like: energy, moments and hull point stay "
            f"({1e3 * change:+.0f} meV).</b>{warning}")


def _panels(state):
    """Hull, energy ladder and parity plot in one figure: plotly redraws a figure in some 40 ms, whatever changed in it."""
    energies = {name: table["formation_energy"] for name, table in state.hulls.items()}
    hull, parity = plots.hull(state.hulls), plots.parity(energies["DFT"], {n: e for n, e in energies.items() if n != "DFT"}, state.names,
                                                         state.held_out)
    ladder = go.Figure()
    for name in dict.fromkeys(map(arrangement, state.names)):
        part = plots.ladder(state.ends, {"model": energies["DFT"]}, name)         # the view fills in the chosen model
        ladder.add_traces(part.data).update_layout(part.layout)
    for panel in (hull, ladder):
        panel.add_scatter(x=[], y=[], name=FLIPPED, mode="lines+markers", hovertemplate="%{y:.4g}<extra>flipped</extra>",
                          line={"color": "#000000", "width": 2}, marker={"size": [6, 14], "symbol": ["circle", "star"], "color": "#000000"})
    figure = make_subplots(1, 3, horizontal_spacing=0.08, column_widths=[0.4, 0.23, 0.37])
    for column, panel in enumerate((hull, ladder, parity), start=1):
        figure.add_traces(panel.data, rows=1, cols=column)
        figure.update_xaxes(panel.layout.xaxis, row=1, col=column)
        figure.update_yaxes(panel.layout.yaxis, row=1, col=column)
        if column > 1:
            figure.update_traces(showlegend=False, row=1, col=column)
    figure.update_layout(plots.LAYOUT, width=WIDTH, height=360)
    figure.update_yaxes(title_standoff=4)
    figure.update_xaxes(range=[-0.4, 1.4], row=1, col=2)
    return figure


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
