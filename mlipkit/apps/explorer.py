"""The explorer: pick a charge ordering, toggle the model and the geometry, change or swap charges;
structure, moments, hull and energy ladder move together.
"""

import ipywidgets as w
import numpy as np
import plotly.graph_objects as go
import traitlets as t

from mlipkit.apps import explorer_words as words
from mlipkit.apps.explorer_figure import HEIGHT, arrange, panels
from mlipkit.apps.explorer_state import ExplorerState
from mlipkit.apps.player import INTERVAL
from mlipkit.charges.compounds import listed
from mlipkit.charges.references import redox_sites
from mlipkit.models.foreign import as_potentials
from mlipkit.pictures.crystal import Crystal
from mlipkit.pictures.figures import KINDS, TITLES
from mlipkit.pictures.live_figure import LiveFigure
from mlipkit.pictures.page import Page
from mlipkit.pictures.shapes import scaled_colours
from mlipkit.relaxation.geometries import compare_geometries

LARGE = 520  # px, for a projector
WIDTH = 960  # px that the plots are taken to have when a click is looked up
# px: plotly takes points that are nearer than two radii of a marker for equally near
NEAR = 10
MANY = 9  # compositions: more do not fit as buttons
GEOMETRY_ORDER = ("relaxed", "dft", "host")
CLICKS = [("reads its moment", "read"), ("changes its state", "flip"), ("swaps (two)", "swap")]
COLOUR_BY = [("state", "state"), ("|moment|", "moment"), ("error of the moment", "error")]
BOLD, ROW = {"description_width": "initial"}, {"flex_flow": "row wrap", "align_items": "center"}
AUTO = {"button_width": "auto"}


class ExplorerView(w.VBox):
    """Widgets over an `ExplorerState`."""

    def __init__(self, state, octahedra=False):
        self.state, self.chosen, self.unconfirmed, self.refused = state, None, False, ""
        self._make_controls()
        atoms = state.atoms
        self.crystal = Crystal(self._painted(atoms), height="330px", octahedra=octahedra)
        self.structure, self.legend = self.crystal.view, self.crystal.legend
        self.names, self.octahedra = self.crystal.labels, self.crystal.octahedra
        self.story, self.table, self.lesson, self.picked = (w.HTML() for _ in range(4))
        for told in (self.story, self.lesson, self.picked):
            told.add_class("mlipkit-live")
        made = {geometry: panels(state, geometry) for geometry in state.geometries}
        self.panels = {geometry: figure for geometry, (figure, _) in made.items()}
        self.axes = next(iter(made.values()))[1]
        figure = go.Figure(self.panels[state.geometry])
        # before it is a widget: voila shows a widget as it was made
        self._arrange(figure)
        self.figure = LiveFigure(figure)
        self.figure._config = {**self.figure._config, "responsive": True, "displaylogo": False}
        for trace in self.figure.data:
            if "markers" in trace.mode:
                trace.on_click(self._click)
        self._bind()
        super().__init__([self.page, *self._laid_out()])
        self.add_class("mlipkit-app")
        self.add_class("mlipkit-explorer")
        self._refresh({"name": "ordering"})

    def _make_controls(self):
        state = self.state
        compositions = [(f"x = {x:.3g}", x) for x in state.compositions]
        if len(compositions) > MANY:
            self.composition = w.SelectionSlider(options=compositions, description="x", style=BOLD)
        else:
            self.composition = w.ToggleButtons(
                options=compositions, style=AUTO, tooltip="composition"
            )
        self.composition.layout.display = "" if len(compositions) > 1 else "none"
        self.ordering = w.Dropdown(description="ordering", style=BOLD, layout={"width": "440px"})
        self.model = w.ToggleButtons(style=AUTO, tooltip="model")
        families = state.families
        self.architecture = w.Dropdown(
            options=[(TITLES.get(a, a) or "others", a) for a in families],
            description="architecture",
            style=BOLD,
            layout={"width": "auto", "display": "" if len(families) > 1 else "none"},
        )
        geometries = [g for g in GEOMETRY_ORDER if g in state.geometries]
        self.geometry = w.ToggleButtons(
            options=[(words.WHERE[g], g) for g in geometries],
            style=AUTO,
            tooltip="atoms",
        )
        self.close_up, self.large = (
            w.Checkbox(description=says, indent=False, layout={"width": "auto"})
            for says in ("zoom to the hull", "large")
        )
        self.close_up.layout.display = self.composition.layout.display
        self.here = w.ToggleButtons(
            style=AUTO, layout={"display": "none"}, tooltip="orderings on this spot"
        )
        self.click = w.ToggleButtons(
            options=CLICKS, style=AUTO, tooltip=f"a click on {state.metal}"
        )
        self.colour = w.Dropdown(
            options=COLOUR_BY if state.series else COLOUR_BY[:2],
            description="colour by",
            style=BOLD,
            layout={"width": "210px"},
        )
        self.reset = w.Button(description="undo", disabled=True, layout={"width": "auto"})
        self.play = w.Play(interval=INTERVAL, show_repeat=False)
        self.slider = w.IntSlider(description="step", layout={"width": "330px"})
        self.steps = w.HBox([self.play, self.slider])
        self.steps.add_class("mlipkit-steps")
        self.page = Page()

    def _bind(self):
        state = self.state
        t.link((state, "x"), (self.composition, "value"))
        if state.families:
            t.link((state, "architecture"), (self.architecture, "value"))
        t.link((state, "geometry"), (self.geometry, "value"))
        # in the browser, so that they do not chase each other
        w.jslink((self.play, "value"), (self.slider, "value"))
        self.ordering.observe(self._choose, "value")
        self.here.observe(self._choose, "value")
        self.model.observe(self._choose_model, "value")
        self.slider.observe(self._choose_step, "value")
        self.structure.observe(self._pick, names=["picked"])
        self.page.observe(lambda change: self._take(change["new"][0]), "clicked")
        self.click.observe(self._forget, "value")
        self.reset.on_click(lambda button: state.set_trait("flips", ()))
        self.colour.observe(lambda change: self._draw(state.atoms), "value")
        self.close_up.observe(lambda change: self._rearrange(), "value")
        self.large.observe(self._resize, "value")
        state.observe(self._refresh, ["ordering", "model", "architecture", "geometry", "flips"])
        state.observe(self._show_step, "step")

    def _laid_out(self):
        """Controls and words, then plots and structure: beside each other where there is room."""
        models = [self.architecture, self.model] * bool(self.state.series)
        several = len(self.state.geometries) > 1
        geometry = [w.HBox([w.Label("atoms"), self.geometry])] * several
        under = [w.Label(f"a click on {self.state.metal}"), self.click, self.reset]
        shown = [self.colour, self.large]
        controls = [
            w.HBox([self.composition, self.ordering], layout=ROW),
            w.HBox([*models, *geometry], layout=ROW),
            self.story,
        ]
        crystal = w.VBox(
            [
                self.crystal,
                self.steps,
                *(w.HBox(row, layout=ROW) for row in (under, shown)),
            ]
        )
        text = w.VBox([self.table, self.lesson, self.picked, self.here])
        panes = {"plots": w.VBox([self.figure, self.close_up]), "crystal": crystal, "text": text}
        for name, pane in panes.items():  # where each goes, by the width of the page: page.STYLE
            pane.add_class(f"mlipkit-pane-{name}")
        beside = w.HBox(list(panes.values()))
        beside.add_class("mlipkit-panes")
        return [*controls, beside]

    def _choose(self, change):
        if change["new"]:
            self.state.ordering = change["new"]

    def _choose_model(self, change):
        self.state.model = change["new"]

    def _choose_step(self, change):
        if self.state.geometry == "relaxed" and not self.state.flips:
            self.state.step = min(change["new"], self.state.last)

    def _resize(self, change):
        large = change["new"]
        (self.add_class if large else self.remove_class)("mlipkit-large")
        self.structure.layout.height = "520px" if large else "330px"
        with self.figure.batch_update():
            self.figure.layout.height = LARGE if large else HEIGHT
            size = 18 if large else 13
            self.figure.layout.font.size = size
            margins = {"l": 82, "b": 66} if large else {"l": 60, "b": 46}
            self.figure.layout.margin.update(margins)
            self.figure.update_xaxes(title_font_size=size)
            self.figure.update_yaxes(title_font_size=size)
        # plotly takes a height for the end of fitting the page
        self.figure._send_relayout_msg({"autosize": True})

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
            # without the margins
            for axis, extent in zip(axes, (WIDTH - 72, self.figure.layout.height - 76))
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
        options = [(name.split("_", 1)[-1], name) for name in names]
        _set_options(self.here, options, self.state.ordering, self._choose)
        self.here.layout.display = ""

    def _pick(self, change):
        self._take((change["new"].get("atom1") or {}).get("index"))

    def _take(self, i):
        """An atom was clicked, in the picture or in the table: read it, or change its charge."""
        if i is None or not 0 <= i < len(self.state.structure):
            return
        s, before, self.chosen = self.state, self.chosen, i
        same = self.click.value == "swap" and before not in (None, i)
        self.refused = "; these two have no states to change" if same else ""
        can = i in redox_sites(s.ends[s.index])
        if self.click.value == "flip" and can:
            s.flip(i)
        elif self.click.value == "swap" and can and self._can_swap(before, i):
            self.chosen = None
            s.swap(before, i)
        else:
            self._show(s.atoms)

    def _forget(self, change):
        self.chosen = None
        self._show(self.state.atoms)

    def _can_swap(self, a, b):
        atoms, given = self.state.ends[self.state.index], self.state.given
        return (
            a is not None
            and a in redox_sites(atoms)
            and atoms.symbols[a] == atoms.symbols[b]
            and given[a] != given[b]
        )

    def _tell(self, atoms):
        said = words.picked(self.state, atoms, self.chosen)
        sites = redox_sites(self.state.ends[self.state.index])
        if self.click.value == "swap" and self.chosen in sites:
            said += f"{self.refused}; now click the one that it changes states with"
        self.picked.value = words.text(said)

    def _refresh(self, change):
        s = self.state
        if change["name"] == "ordering":
            _set_options(self.ordering, words.ordering_options(s), s.ordering, self._choose)
            self.chosen = None
        names = [value for _, value in self.here.options] if self.here.layout.display == "" else []
        self._offer(names if s.ordering in names else [])
        kinds = [(KINDS.get(kind, kind), kind) for kind in s.models]
        if kinds:
            _set_options(self.model, kinds, s.model, self._choose_model)
        waits = not s.ready
        if waits:
            self.lesson.value = words.text(f"loading {words.name_of(s)} ...")
            self.add_class("mlipkit-busy")
        # one message, one redraw; before the rest, which is seen less
        self._rearrange()
        self.story.value = words.text(words.story(s))
        self.steps.layout.display = "" if s.geometry == "relaxed" and not s.flips else "none"
        self.play.playing = False
        if s.geometry == "relaxed":
            self.slider.unobserve(self._choose_step, "value")
            self.play.max = self.slider.max = s.last
            self.play.value = self.slider.value = s.last
            self.slider.observe(self._choose_step, "value")
        self.lesson.value, self.reset.disabled = words.text(words.lesson(s)), not s.flips
        self._show(s.atoms)
        if waits:
            self.remove_class("mlipkit-busy")

    def _show_step(self, change):
        """Another step of the relaxation: structure and moments; the plots are those of its end."""
        self._show(self.state.atoms)

    def _show(self, atoms):
        self._tell(atoms)
        self.table.value = words.text(words.table(self.state, atoms, self.chosen))
        self._draw(atoms)

    def _draw(self, atoms):
        s = self.state
        marked = () if s.flips or s.geometry == "host" else tuple(s.changed(atoms))
        painted = self._painted(atoms)
        says = words.tooltips(s, atoms)
        colours, scale = self._coloured(atoms)
        halo = '<span class="mlipkit-wrong">&#9673; not as asked, or unclear</span>'
        self.crystal.bar.name = s.ordering.replace(":", "_")
        self.crystal.show(
            painted,
            [text if n >= 0 else "" for text, n in zip(says, s.numbers)],
            scale,
            words.text(halo if marked else ""),
            marked=marked,
            chosen=self.chosen,
            colours=colours,
            says=says,
        )

    def _coloured(self, atoms):
        """Colours of all atoms and the scale they are on; both None for colours by state."""
        if self.colour.value == "state":
            return None, None
        rows = self.state.summary(atoms)
        if self.colour.value == "moment":
            values = {i: m if self.state.series else d for i, d, m, *_ in rows}
            what, palette = "|moment|", "Viridis"
        else:
            values = {i: abs(m - d) for i, d, m, *_ in rows}
            what, palette = "error of the moment", "YlOrRd"
        known = [v for v in values.values() if np.isfinite(v)] or [0.0]
        low = 0.0 if palette == "YlOrRd" else min(known)
        high = max(known) if max(known) > low else low + 0.1
        return scaled_colours(atoms, values, low, high, palette), (what, low, high, palette)

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
        figure = self.figure
        layout = {"shapes": [shape.to_plotly_json() for shape in figure.layout.shapes]}
        for axis in (f"{xy}axis{n}" for n in self.axes.values() for xy in "xy"):
            if figure.layout[axis].range:
                layout[f"{axis}.range"] = list(figure.layout[axis].range)
        data = {
            "visible": [trace.visible is not False for trace in figure.data],
            **{k: [list(t[k]) for t in figure.data] for k in "xy"},
        }
        figure._send_update_msg(restyle_data=data, relayout_data=layout)

    def _arrange(self, figure):
        here = self.panels[self.state.geometry]
        arrange(figure, self.axes, here, self.state, self.close_up.value)


def _set_options(widget, options, value, handler):
    """Give a selection new options and a value; new options alone would move the value to the first
    of them.
    """
    widget.unobserve(handler, "value")
    if tuple(widget.options) != tuple(options):
        widget.options = options
    widget.value = value
    widget.observe(handler, "value")


def explore(
    frames=None,
    models=None,
    predictions=None,
    relaxations=None,
    relax=False,
    folder=None,
    compound=None,
    octahedra=False,
    **choice,
):
    """Open the explorer.

    Parameters
    ----------
    frames : list of ase.Atoms, optional
        Of one compound; what has no name yet is named (`name_orderings`). By default the embedded
        set, with the shipped models. Without models DFT is shown: structure, moments, states, hull
        and ladder.
    models, predictions, relaxations, relax, folder, compound
        As for `compare_geometries`: models by name (``{"blind": a, "aware": b, "MACE-MP": calc}``),
        what they predict where they are not at hand, and where they relax the orderings to.
    octahedra : bool
        Begin with the polyhedra around the redox-active metals drawn.
    **choice
        What to begin with: ``ordering=``, ``x=``, ``architecture=``, ``model=``, ``geometry=``.

    Returns
    -------
    ExplorerView
        ``.state`` holds what is chosen.
    """
    if frames is None:
        return ExplorerView(ExplorerState(None, **choice), octahedra)
    frames = listed(frames, "explore takes")
    models = as_potentials(models, "explore") if models is not None else None
    data = compare_geometries(frames, models, predictions, relaxations, relax, folder, compound)
    return ExplorerView(ExplorerState(data, **choice), octahedra)
