"""The explorer: pick a charge ordering, toggle the model and the geometry, flip a valence;
structure, moments, hull and energy ladder move together."""

import itertools

import ipywidgets as w
import numpy as np
import plotly.graph_objects as go
import traitlets as t

from mlipkit.apps.explorer_state import GEOMETRIES, SERIES, ExplorerState
from mlipkit.apps.player import INTERVAL
from mlipkit.charges.references import redox_sites
from mlipkit.frames.labels import label
from mlipkit.orderings.names import arrangement
from mlipkit.pictures import plots
from mlipkit.pictures.figures import CLOSE_UP, LEVELS, TITLES
from mlipkit.pictures.structure_view import draw, legend, structure_view

WIDTH, HEIGHT, PANE = 1120, 360, 550  # px
MOVED, WRONG = "#000000", "#C00"
KINDS = {"pretrained": "CHGNet as published", "blind": "charge-blind", "aware": "charge-aware"}
WHERE = {"relaxed": "relaxed by the model", "dft": "relaxed by DFT", "host": "undistorted host"}
# px: plotly takes points that are nearer than two radii of a marker for equally near
NEAR = 10


class ExplorerView(w.VBox):
    """Widgets over an `ExplorerState`."""

    def __init__(self, state, octahedra=False):
        self.state, self.chosen, self.unconfirmed = state, None, False
        bold, row, pane = (
            {"description_width": "initial"},
            w.Layout(flex_flow="row wrap"),
            w.Layout(width=f"{PANE}px"),
        )
        self.composition = w.ToggleButtons(
            options=[(f"x = {x:g}", x) for x in state.compositions], style={"button_width": "78px"}
        )
        self.ordering = w.Dropdown(description="ordering", style=bold, layout={"width": "250px"})
        self.model = w.ToggleButtons(style={"button_width": "auto"})
        self.architecture = w.Dropdown(
            options=[(title, a) for a, title in TITLES.items()],
            description="architecture",
            style=bold,
            layout={"width": "190px"},
        )
        self.geometry = w.ToggleButtons(
            options=[(title, g) for g, title in WHERE.items()], style={"button_width": "auto"}
        )
        self.close_up = w.Checkbox(
            description="zoom to the hull", indent=False, layout={"width": "140px"}
        )
        self.here = w.ToggleButtons(style={"button_width": "auto"}, layout={"display": "none"})
        self.click = w.ToggleButtons(
            options=[("reads its moment", "read"), ("flips its valence", "flip")],
            style={"button_width": "auto"},
        )
        self.reset = w.Button(description="undo flips", disabled=True, layout={"width": "90px"})
        self.octahedra = w.Checkbox(
            value=octahedra, description="octahedra", indent=False, layout={"width": "100px"}
        )
        self.play = w.Play(interval=INTERVAL, show_repeat=False)
        self.slider = w.IntSlider(description="step", layout={"width": "330px"})
        self.steps = w.HBox([self.play, self.slider])
        self.steps.add_class("mlipkit-steps")
        self.structure = structure_view(
            self._painted(state.atoms), height="310px", octahedra=octahedra
        )
        self.story, self.legend, self.table, self.lesson, self.picked = (w.HTML() for _ in range(5))
        self.panels = {geometry: _panels(state, geometry) for geometry in GEOMETRIES}
        figure = self.panels[state.geometry]
        # before it is a widget: voila shows a widget as it was made
        self._arrange(figure)
        self.figure = go.FigureWidget(figure)
        for trace in self.figure.data:
            if "markers" in trace.mode:
                trace.on_click(self._click)
        t.link((state, "x"), (self.composition, "value"))
        t.link((state, "architecture"), (self.architecture, "value"))
        t.link((state, "geometry"), (self.geometry, "value"))
        # in the browser, so that they do not chase each other
        w.jslink((self.play, "value"), (self.slider, "value"))
        self.ordering.observe(self._choose, "value")
        self.here.observe(self._choose, "value")
        self.model.observe(self._choose_model, "value")
        self.slider.observe(self._choose_step, "value")
        self.structure.observe(self._pick, names=["picked"])
        self.reset.on_click(lambda button: state.set_trait("flips", ()))
        self.octahedra.observe(lambda change: self._draw(state.atoms), "value")
        self.close_up.observe(lambda change: self._rearrange(), "value")
        state.observe(self._refresh, ["ordering", "model", "architecture", "geometry", "flips"])
        state.observe(self._show_step, "step")
        under = w.HBox(
            [w.Label(f"a click on {state.metal}"), self.click, self.reset, self.octahedra],
            layout=row,
        )
        super().__init__(
            [
                w.HBox([self.composition, self.ordering], layout=row),
                w.HBox(
                    [self.architecture, self.model, w.Label("atoms"), self.geometry], layout=row
                ),
                self.story,
                w.HBox(
                    [
                        w.VBox([self.structure, self.legend, self.steps, under], layout=pane),
                        w.VBox([self.table, self.lesson, self.picked, self.here], layout=pane),
                    ],
                    layout=row,
                ),
                self.figure,
                self.close_up,
            ]
        )
        self.add_class("mlipkit-explorer")
        self._refresh({"name": "ordering"})

    def _choose(self, change):
        if change["new"]:
            self.state.ordering = change["new"]

    def _choose_model(self, change):
        self.state.model = change["new"]

    def _choose_step(self, change):
        if self.state.geometry == "relaxed" and not self.state.flips:
            self.state.step = min(change["new"], self.state.last)

    def _click(self, trace, points, selector):
        """Choose the ordering of a point. Where several lie on one spot their names are offered;
        the composition is kept if it can be.
        """
        if not points.point_inds:
            return
        picked, here = trace.text[points.point_inds[0]], self._near(trace, points.point_inds[0])
        same_x = [name for name in here if self.state.x == self._x(name)] or here
        if picked not in same_x:
            picked = same_x[0]
        if picked == self.state.ordering:  # once more on the same spot: the next one
            picked = same_x[(same_x.index(picked) + 1) % len(same_x)]
        self.state.ordering = picked
        self._offer(here)

    def _x(self, name):
        return self.state.ends[self.state.names.index(name)].info["x"]

    def _near(self, trace, i):
        """Names of the orderings that have a visible point within `NEAR` pixels of point `i` of a
        trace.
        """
        axes = [
            self.figure.layout[f"{name[0]}axis{name[1:]}"]
            for name in (trace.xaxis or "x", trace.yaxis or "y")
        ]
        pixels = [
            extent * (axis.domain[1] - axis.domain[0]) / abs(axis.range[1] - axis.range[0])
            # without the margins of figures.LAYOUT
            for axis, extent in zip(axes, (WIDTH - 86, HEIGHT - 96))
        ]
        found = []
        for other in self.figure.data:
            if (
                other.visible
                and other.text
                and (other.xaxis, other.yaxis) == (trace.xaxis, trace.yaxis)
            ):
                for x, y, name in zip(other.x, other.y, other.text):
                    if (
                        None not in (x, y)
                        and np.hypot((x - trace.x[i]) * pixels[0], (y - trace.y[i]) * pixels[1])
                        <= NEAR
                    ):
                        found.append(name)
        return sorted(set(found), key=self.state.names.index)

    def _offer(self, names):
        """Buttons for the orderings that lie on one spot; none for a single one."""
        if len(names) < 2:
            self.here.layout.display = "none"
            return
        _set_options(
            self.here,
            [(name.split("_", 1)[1], name) for name in names],
            self.state.ordering,
            self._choose,
        )
        self.here.layout.display = ""

    def _pick(self, change):
        i = (change["new"].get("atom1") or {}).get("index")
        if i is None:
            return
        self.chosen = i
        if self.click.value == "flip" and i in redox_sites(self.state.ends[self.state.index]):
            self.state.flip(i)
        else:
            self._tell(self.state.atoms)

    def _tell(self, atoms):
        i = self.chosen
        if i is None:
            self.picked.value = _text(
                "Click an atom, a hull point or a ladder level. Full symbols on the right: held "
                "out."
            )
            return
        magmom = label(atoms, "magmoms")[i]
        ion = _ion(atoms.symbols[i], atoms.arrays["oxi_states"][i])
        state = f", {magmom:.2f} µB by this model: {ion}" if i in redox_sites(atoms) else ""
        self.picked.value = _text(f"picked atom <b>{i}</b>: {atoms.symbols[i]}{state}")

    def _refresh(self, change):
        s = self.state
        if change["name"] == "ordering":
            _set_options(self.ordering, s.orderings(s.x), s.ordering, self._choose)
            self.chosen = None
        names = [value for _, value in self.here.options] if self.here.layout.display == "" else []
        self._offer(names if s.ordering in names else [])
        _set_options(self.model, [(KINDS[m], m) for m in s.models], s.model, self._choose_model)
        if not s.ready:
            self.lesson.value = _text(f"loading {_name(s)} ...")
        # one message, one redraw; before the rest, which is seen less
        self._rearrange()
        self.story.value = _text(_story(s))
        self.steps.layout.display = "" if s.geometry == "relaxed" and not s.flips else "none"
        self.play.playing = False
        if s.geometry == "relaxed":
            self.slider.unobserve(self._choose_step, "value")
            self.play.max = self.slider.max = s.last
            self.play.value = self.slider.value = s.last
            self.slider.observe(self._choose_step, "value")
        self.lesson.value, self.reset.disabled = _text(_lesson(s)), not s.flips
        self._show(s.atoms)

    def _show_step(self, change):
        """Another step of the relaxation: structure and moments; the plots are those of its end."""
        self._show(self.state.atoms)

    def _show(self, atoms):
        self._tell(atoms)
        self.table.value = self._html(atoms)
        self._draw(atoms)

    def _draw(self, atoms):
        marked = (
            ()
            if self.state.flips or self.state.geometry == "host"
            else tuple(self.state.changed(atoms))
        )
        painted = self._painted(atoms)
        self.legend.value = legend(painted)
        draw(self.structure, painted, self.octahedra.value, marked)

    def _painted(self, atoms):
        """With no state, so that they are grey, where the moments tell none."""
        painted = atoms.copy()
        painted.calc = atoms.calc
        if not self.state.flips:
            painted.arrays["oxi_states"][self.state.unclear(atoms)] = 0
        return painted

    def _rearrange(self):
        overtakes = self.figure._layout_edit_in_process
        with self.figure.batch_update():
            self._arrange(self.figure)
        if overtakes and not self.unconfirmed:
            self.unconfirmed = True
            self.figure.on_edits_completed(self._assert)

    def _assert(self):
        """Say everything once more. Of two edits on each other's heels the browser now and then
        drew the first one over the second.
        """
        self.unconfirmed = False
        figure, axes = self.figure, ("xaxis2", "xaxis3", "yaxis", "yaxis2", "yaxis3")
        layout = {"shapes": [shape.to_plotly_json() for shape in figure.layout.shapes]}
        layout |= {f"{axis}.range": list(figure.layout[axis].range) for axis in axes}
        data = {
            "visible": [trace.visible is not False for trace in figure.data],
            **{k: [list(t[k]) for t in figure.data] for k in "xy"},
        }
        figure._send_update_msg(restyle_data=data, relayout_data=layout)

    def _arrange(self, figure):
        """Show the present choice in a figure of `_panels`."""
        s, flip = self.state, 1e3 * self.state.change
        shown = "DFT", s.series
        dft, model = (s.hulls[series]["formation_energy"][s.index] for series in shown)
        levels = [s.levels(series) for series in shown]
        high, place, top = (
            levels[1][s.ordering],
            _place(s),
            max(max(level.values(), default=0) for level in levels),
        )
        plots.choose(figure, shown)
        for trace, other in zip(figure.data, self.panels[s.geometry].data):
            # hidden ones wait until they are shown: new data takes its time
            if trace.name in shown and trace.meta != s.geometry:
                trace.update(x=other.x, y=other.y, meta=s.geometry)
        energies = np.concatenate(
            [s.hulls[series]["formation_energy"].dropna() for series in shown]
            + [[model + s.change]]
        )
        vertices = np.concatenate(
            [s.hulls[series]["formation_energy"][s.hulls[series]["on_hull"]] for series in shown]
        )
        around = plots.padded(energies)
        figure.layout.yaxis.range = (
            [1.25 * vertices.min() - 0.005, CLOSE_UP] if self.close_up.value else around
        )
        figure.layout.xaxis2.range = [place - 0.4, place + 1.4]
        figure.layout.yaxis2.range = [
            min(0, high + flip) - 0.1 * (top + 20),
            1.1 * max(top, high + flip) + 10,
        ]
        figure.layout.xaxis3.range = figure.layout.yaxis3.range = around
        rings = [
            plots.ring(s.x, dft),
            plots.ring(s.x, model),
            plots.ring(place, levels[0].get(s.ordering, np.nan), axes=2),
            plots.ring(place + 1, high, axes=2),
            plots.ring(dft, model, axes=3),
        ]
        moved = (
            [*_moved(s.x, model, s.change), *_moved(place + 1, high, flip, axes=2)]
            if s.flips
            else []
        )
        figure.layout.shapes = [
            ring for ring in rings if np.isfinite([ring["xanchor"], ring["yanchor"]]).all()
        ] + moved

    def _html(self, atoms):
        s = self.state
        dft, model = (s.hulls[series]["formation_energy"][s.index] for series in ("DFT", s.series))
        unclear = s.unclear(atoms)
        word = "given" if s.flips else "asked"
        rows = _row(
            "th", (s.metal, "DFT µB", "model µB", "asked", *["given"] * bool(s.flips), "model")
        )
        for i, dft_moment, moment, asked, given, told in s.summary(atoms):
            symbol = atoms.symbols[i]
            flipped = [_ion(symbol, given, bold=given != asked)] * bool(s.flips)
            became = _became(symbol, given, told, i in unclear, word)
            moments = _number(dft_moment, 2), f"{moment:.2f}"
            rows += _row("td", (i, *moments, _ion(symbol, asked), *flipped, became))
        above = {name: s.hulls[name]["energy_above_hull"][s.index] for name in ("DFT", s.series)}
        difference = 1e3 * np.abs(
            s.hulls[s.series]["formation_energy"] - s.hulls["DFT"]["formation_energy"]
        )
        held = "held out of training" if s.held_out[s.index] else "in the training split"
        beside = {
            "relaxed": "each relaxed by itself",
            "host": "both on the host",
            "dft": "where DFT relaxed it",
        }[s.geometry]
        return _text(
            f'<b>{s.ordering}</b> ({held})<table style="margin:6px 0">{rows}</table>'
            f"meV per formula unit, {beside}:<br>"
            f"formation energy: DFT {_number(1e3 * dft)}, {_name(s)} "
            f"{1e3 * (model + s.change):.1f}<br>"
            f"above hull: DFT {_number(1e3 * above['DFT'])}, {_name(s)} "
            f"{1e3 * (above[s.series] + s.change):.1f}<br>"
            f"mean difference over {difference.notna().sum()} orderings: {difference.mean():.0f}"
        )


def _set_options(widget, options, value, handler):
    """Give a selection new options and a value; new options alone would move the value to the first
    of them.
    """
    widget.unobserve(handler, "value")
    if tuple(widget.options) != tuple(options):
        widget.options = options
    widget.value = value
    widget.observe(handler, "value")


def _name(state):
    title = TITLES[state.architecture]
    return (
        f"{title} as published" if state.model == "pretrained" else f"{title}, {KINDS[state.model]}"
    )


def _story(state):
    """What the chosen model makes of all orderings on the chosen geometry, in words."""
    f = state.findings()
    mixed, kept = f["mixed"], f"{f['kept']} of {f['mixed']}"
    unclear = "" if f["clear"] == mixed else f", moments clear in {f['clear']}"
    wide = (
        f"the orderings of one arrangement of ions span up to {f['window']:.0f} meV per formula "
        f"unit (DFT: {f['dft_window']:.0f})"
    )
    said = {
        "relaxed": [
            _judged(f["kept"] == mixed, f"charges kept in {kept} mixed orderings{unclear}"),
            _judged(f["window"] > f["dft_window"] / 2, wide),
            _lowest(state.x, f),
            _on_hull(f),
        ],
        "host": [_judged(f["window"] > f["dft_window"] / 2, wide), _lowest(state.x, f)],
        "dft": [
            _judged(
                f["kept"] == mixed,
                (
                    "charges, which it was told, right in"
                    if state.model == "aware"
                    else "charges read right from DFT's bond lengths in"
                )
                + f" {kept} mixed orderings",
            ),
            _lowest(state.x, f),
            _on_hull(f),
        ],
    }[state.geometry]
    where = "undistorted host" if state.geometry == "host" else WHERE[state.geometry]
    return f"<b>{_name(state)}; atoms {where}:</b> " + "; ".join(said) + "."


def _lowest(x, f):
    if not f["dft_lowest"]:
        return f"DFT has no state there that keeps its charges at x = {x:g}"
    right = f["lowest"] == f["dft_lowest"]
    told = f["lowest"][0] if len(f["lowest"]) == 1 else f"a tie of {len(f['lowest'])}"
    return _judged(
        right,
        f"the lowest at x = {x:g} is "
        + (f"DFT's, {told}" if right else f"{told}, not {f['dft_lowest'][0]}"),
    )


def _on_hull(f):
    right, told, dft = (
        f["vertices"] == f["dft_vertices"],
        ", ".join(f["vertices"]),
        ", ".join(f["dft_vertices"]),
    )
    return _judged(
        right,
        f"on the hull between the end members: {told or 'nothing'}"
        + ("" if right else f" (DFT: {dft or 'nothing'})"),
    )


def _judged(right, text):
    colour, sign = ("#007A53", "&#10003;") if right else (WRONG, "&#10007;")
    return f'<span style="color:{colour};white-space:nowrap">{sign} {text}</span>'


def _lesson(state):
    """One line on what the flips did, and a warning when the oxidation states do not balance."""
    if not state.flips:
        return ""
    warning = (
        ""
        if not state.imbalance
        else (
            f'<br><b style="color:{WRONG}">&#9888; The oxidation states sum to '
            f"{state.imbalance:+d}, not 0: flip another ion to balance them. "
            "No model has seen a charged cell, so its energy means nothing here.</b>"
        )
    )
    if state.model == "aware":
        change = f"{1e3 * state.change:+.0f} meV/f.u."
        said = f"Charge-aware: the valence is an input. Same geometry, energy {change}"
        return f"<b>{said}</b>{warning}"
    return (
        "<b>Charge-blind: the valence is no input. Flip what you like: energy, moments and hull "
        "point stay "
        f"({abs(1e3 * state.change):.0f} meV/f.u.).</b>{warning}"
    )


def _panels(state, geometry):
    """Hull, energy ladder and parity plot on a geometry in one figure.

    All models are there, hidden, and all arrangements, outside the range of the axes: new data
    would take several times as long. The traces of another geometry are as many and in the same
    order; each says in ``meta`` which one it shows.
    """
    hulls = state.hulls_on[geometry]
    energies = {
        name: [None if np.isnan(e) else e for e in table["formation_energy"]]
        for name, table in hulls.items()
    }
    models = {name: energies[name] for name in SERIES}
    parity = plots.parity(energies["DFT"], models, state.names, state.held_out)
    figure = plots.beside(
        plots.hull(hulls),
        _ladders(state, geometry),
        parity,
        widths=[0.4, 0.23, 0.37],
        spacing=0.085,
    )
    figure.update_traces(meta=geometry)
    # the diagonal, farther than any axis
    figure.update_traces(x=[-1, 1], y=[-1, 1], selector={"name": ""})
    figure.update_layout(width=WIDTH, height=HEIGHT)
    # else plotly measures the labels and lays everything out twice
    figure.update_xaxes(automargin=False)
    figure.update_yaxes(automargin=False, title_standoff=4)
    return figure


def _ladders(state, geometry):
    """The levels of all Na arrangements on a geometry side by side, DFT left of the model, a trace
    per model.
    """
    figure, groups = go.Figure(), list(dict.fromkeys(map(arrangement, state.names)))
    for series in SERIES:
        x, y, text, colours, symbols = [], [], [], [], []
        for k, group in enumerate(groups):
            dft, model = (state.levels(name, geometry, group) for name in ("DFT", series))
            for name, (colour, symbol) in zip(model, itertools.cycle(LEVELS)):
                x += [2 * k, 2 * k + 1, None]
                y += [dft.get(name), model[name], None]
                text, colours, symbols = (
                    text + [name] * 3,
                    colours + [colour] * 3,
                    symbols + [symbol] * 3,
                )
        figure.add_scatter(
            x=x,
            y=y,
            text=text,
            name=series,
            mode="lines+markers",
            line={"color": "#777777", "width": 1, "dash": "dot"},
            marker={"size": 11, "color": colours, "symbol": symbols},
            hovertemplate="%{text}<br>%{y:.1f} meV/f.u.<extra></extra>",
        )
    figure.update_xaxes(
        tickvals=list(range(2 * len(groups))), ticktext=["DFT", "model"] * len(groups)
    )
    figure.update_yaxes(title_text="above the lowest (meV/f.u.)")
    return figure


def _place(state):
    """Where on its axis the ladder of the chosen arrangement stands."""
    return 2 * list(dict.fromkeys(map(arrangement, state.names))).index(arrangement(state.ordering))


def _moved(x, y, by, axes=""):
    """Layout shapes: where a point has gone, a full dot at the end of a line."""
    axis = {
        "xref": f"x{axes}",
        "yref": f"y{axes}",
        "line": {"color": MOVED, "width": 3},
        "opacity": 1,
    }
    dot = {
        **plots.ring(x, y + by, axes),
        "x0": -6,
        "x1": 6,
        "y0": -6,
        "y1": 6,
        "fillcolor": MOVED,
        "opacity": 1,
    }
    return [{"type": "line", "x0": x, "x1": x, "y0": y, "y1": y + by, **axis}, dot]


def _text(html):
    return f'<div style="font:13px Arial,sans-serif;line-height:1.5">{html}</div>'


def _row(tag, cells):
    return (
        "<tr>"
        + "".join(
            f'<{tag} style="padding:2px 12px;text-align:center">{cell}</{tag}>' for cell in cells
        )
        + "</tr>"
    )


def _number(value, digits=1):
    return f"{value:.{digits}f}" if np.isfinite(value) else "&ndash;"


def _ion(symbol, state, bold=False):
    ion = f"{symbol}<sup>{state}+</sup>"
    return f"<b>{ion}</b>" if bold else ion


def _became(symbol, given, found, unclear, word):
    if given == found and not unclear:
        return _ion(symbol, found)
    became = "now unclear" if unclear else f"became {found}+"
    return f'<b style="color:{WRONG};white-space:nowrap">&#10007; {word} {given}+, {became}</b>'


def explore(frames=None, predictions=None, octahedra=False, **choice):
    """Open the explorer.

    Parameters
    ----------
    frames, predictions
        As for `ExplorerState`; by default the embedded set.
    octahedra : bool
        Begin with the FeO6 octahedra drawn.
    **choice
        What to begin with: ``ordering=``, ``architecture=``, ``model=``, ``geometry=``.

    Returns
    -------
    ExplorerView
        ``.state`` holds what is chosen.
    """
    return ExplorerView(ExplorerState(frames, predictions, **choice), octahedra)
