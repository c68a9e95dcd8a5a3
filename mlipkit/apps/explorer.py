"""The explorer: pick a charge ordering, toggle the model, see structure, errors and hull move together.

`ExplorerState` holds what is chosen and what follows from it and knows no widget; `ExplorerView` binds widgets to it.
"""
import ipywidgets as w
import numpy as np
import plotly.graph_objects as go
import traitlets as t

from mlipkit import plots, thermo
from mlipkit.datasets import load_dft, load_predictions
from mlipkit.errors import predictions_for
from mlipkit.files import InputError
from mlipkit.frames import end_points, label
from mlipkit.models import ADAPTERS
from mlipkit.oxidation import infer_oxidation_states
from mlipkit.structure_view import draw, legend, structure_view

PANE = 540       # px
MODELS = ("pretrained", "blind", "aware")
ARCHITECTURES = tuple(ADAPTERS)


class ExplorerState(t.HasTraits):
    """What is chosen, and what follows from it.

    Parameters
    ----------
    frames : list of ase.Atoms, optional
        As `load_dft` gives them (the default).
    predictions : pandas.DataFrame, optional
        As `load_predictions` gives them (the default), for these frames.

    Attributes
    ----------
    x : float
        Composition; setting it moves to its lowest ordering.
    ordering : str
        Charge ordering; setting it sets ``x`` too.
    architecture : str
        ``"chgnet"``, ``"cpainn"`` or ``"mace"``.
    model : str
        ``"pretrained"`` (CHGNet as published, whatever the architecture), ``"blind"`` or ``"aware"``.
    """
    x = t.Float()
    ordering = t.Unicode()
    architecture = t.Enum(ARCHITECTURES, default_value="chgnet")
    model = t.Enum(MODELS, default_value="blind")

    def __init__(self, frames=None, predictions=None, **kwargs):
        self.ends = end_points(load_dft() if frames is None else frames)
        found = predictions_for(self.ends, load_predictions() if predictions is None else predictions)
        wanted = ["chgnet_pretrained", *(f"{a}_{m}" for a in ARCHITECTURES for m in MODELS[1:])]
        if missing := set(wanted) - set(found):
            raise InputError(f"explore: no predictions of {', '.join(sorted(missing))}; make them with data/make_models.py predict")
        self.predictions = {m: found[m].to_dict("records") for m in wanted}
        self.hulls = {"DFT": thermo.hull(self.ends), **{m: thermo.hull(self.ends, found[m]["energy"].tolist()) for m in wanted}}
        self.names = [a.info["ordering"] for a in self.ends]
        self.held_out = [a.info["split"] != "train" for a in self.ends]
        if "ordering" not in kwargs:
            kwargs["ordering"] = self.orderings(kwargs["x"])[0] if "x" in kwargs else self.names[0]
        kwargs.pop("x", None)               # follows from the ordering
        super().__init__(**kwargs)

    @property
    def compositions(self):
        return sorted({a.info["x"] for a in self.ends})

    def orderings(self, x):
        """Names of the orderings at a composition, the lowest in energy first."""
        here = [i for i, a in enumerate(self.ends) if np.isclose(a.info["x"], x)]
        if not here:
            raise t.TraitError(f"there is no ordering at x = {x:g}; there is x = {', '.join(f'{c:g}' for c in self.compositions)}")
        return [self.names[i] for i in sorted(here, key=lambda i: self.hulls["DFT"]["formation_energy"][i])]

    @property
    def series(self):
        """Name of the chosen model in the tables and figures."""
        return "chgnet_pretrained" if self.model == "pretrained" else f"{self.architecture}_{self.model}"

    @property
    def index(self):
        return self.names.index(self.ordering)

    @t.validate("x")
    def _has_orderings(self, proposal):
        self.orderings(proposal["value"])
        return proposal["value"]

    @t.validate("ordering")
    def _known(self, proposal):
        if proposal["value"] not in self.names:
            raise t.TraitError(f"there is no ordering {proposal['value']!r}; there are {', '.join(self.names)}")
        return proposal["value"]

    @t.observe("ordering")
    def _follow_ordering(self, change):
        self.x = self.ends[self.index].info["x"]

    @t.observe("x")
    def _follow_x(self, change):
        if not np.isclose(self.ends[self.index].info["x"], self.x):
            self.ordering = self.orderings(self.x)[0]

    def moments(self, series=None):
        """Moments of the four Fe (µB) by DFT (None) or by a model."""
        atoms = self.ends[self.index]
        fe = np.flatnonzero(atoms.symbols == "Fe")
        if series is None:
            return np.abs(label(atoms, "magmoms")[fe])
        return np.array([self.predictions[series][self.index][f"magmom_{i}"] for i in range(len(fe))])

    @property
    def atoms(self):
        """The chosen ordering with the moments of the chosen model, and oxidation states inferred from them."""
        from ase.calculators.singlepoint import SinglePointCalculator
        atoms = self.ends[self.index].copy()
        magmoms = np.zeros(len(atoms))
        magmoms[atoms.symbols == "Fe"] = self.moments(self.series)
        atoms.calc = SinglePointCalculator(atoms, magmoms=magmoms)
        atoms.arrays["oxi_states"] = infer_oxidation_states(atoms).states
        return atoms

    def summary(self, now):
        """Rows (Fe index, DFT moment, model moment, DFT state, model state) of the chosen ordering, `now` being its `atoms`."""
        reference = self.ends[self.index]
        return [(int(i), float(d), float(m), int(reference.arrays["oxi_states"][i]), int(now.arrays["oxi_states"][i]))
                for i, d, m in zip(np.flatnonzero(now.symbols == "Fe"), self.moments(), self.moments(self.series))]


class ExplorerView(w.VBox):
    """Widgets over an `ExplorerState`."""

    def __init__(self, state):
        self.state, self.chosen = state, None
        bold = {"description_width": "initial"}
        self.composition = w.ToggleButtons(options=[(f"x = {x:g}", x) for x in state.compositions], style={"button_width": "78px"})
        self.ordering = w.Dropdown(description="ordering", style=bold, layout={"width": "250px"})
        self.model = w.ToggleButtons(options=[("CHGNet as published", "pretrained"), ("charge-blind", "blind"), ("charge-aware", "aware")],
                                     style={"button_width": "auto"})
        self.architecture = w.Dropdown(options=[("CHGNet", "chgnet"), ("cPaiNN", "cpainn"), ("MACE", "mace")], description="architecture",
                                       style=bold, layout={"width": "190px"})
        self.structure = structure_view(state.atoms, height="310px")
        self.legend, self.table, self.picked = w.HTML(), w.HTML(), w.HTML()
        energies = {name: table["formation_energy"] for name, table in state.hulls.items()}
        parity = plots.parity(energies.pop("DFT"), energies, state.names, state.held_out)
        self.figure = go.FigureWidget(plots.beside(plots.hull(state.hulls), parity))
        self.figure.update_layout(width=2 * PANE, height=360)
        for trace in self.figure.data:
            if trace.mode == "markers":
                trace.on_click(self._click)
        t.link((state, "x"), (self.composition, "value"))
        t.link((state, "model"), (self.model, "value"))
        t.link((state, "architecture"), (self.architecture, "value"))
        self.ordering.observe(self._choose, "value")
        self.structure.observe(self._pick, names=["picked"])
        state.observe(self._refresh, ["ordering", "model", "architecture"])
        pane, row = w.Layout(width=f"{PANE}px"), w.Layout(flex_flow="row wrap")
        super().__init__([
            w.HBox([self.composition, self.ordering], layout=row), w.HBox([self.architecture, self.model], layout=row),
            w.HBox([w.VBox([self.structure, self.legend], layout=pane), w.VBox([self.table, self.picked], layout=pane)], layout=row),
            self.figure])
        self.add_class("mlipkit-explorer")
        self._refresh({"name": "ordering"})
        self._refresh({"name": "model"})

    def _choose(self, change):
        self.state.ordering = change["new"]

    def _click(self, trace, points, selector):
        if points.point_inds:
            self.state.ordering = self.state.names[points.point_inds[0]]

    def _pick(self, change):
        i = (change["new"].get("atom1") or {}).get("index")
        if i is not None:
            self.chosen = i
            self._tell(self.state.atoms)

    def _tell(self, atoms):
        i = self.chosen
        if i is None:
            self.picked.value = _text("Click an atom, or a point in the plots.<br>Full symbols on the right: held out of training.")
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
        i = s.index
        dft, model = s.hulls["DFT"]["formation_energy"][i], s.hulls[s.series]["formation_energy"][i]
        with self.figure.batch_update():            # one message, one redraw; before the rest, which is seen less
            if change["name"] != "ordering":
                plots.choose(self.figure, ("DFT", s.series))
            self.figure.layout.shapes = [plots.ring(s.x, dft), plots.ring(s.x, model), plots.ring(dft, model, axes=2)]
        atoms = s.atoms
        self._tell(atoms)
        self.table.value = self._html(atoms, dft, model)
        self.legend.value = legend(atoms)
        draw(self.structure, atoms)

    def _html(self, atoms, dft, model):
        s = self.state
        rows = _row("th", ("Fe", "DFT µB", "model µB", "DFT", "model")) + "".join(
            _row("td", (i, f"{d:.2f}", f"{m:.2f}", _ion(qd), _ion(qm, wrong=qd != qm))) for i, d, m, qd, qm in s.summary(atoms))
        above = {name: table["energy_above_hull"][s.index] for name, table in s.hulls.items()}
        error = 1e3 * np.abs(s.hulls[s.series]["formation_energy"] - s.hulls["DFT"]["formation_energy"]).mean()
        held = "held out of training" if s.held_out[s.index] else "in the training split"
        return _text(f'<b>{s.ordering}</b> ({held})<table style="margin:6px 0">{rows}</table>'
                     f"formation energy: DFT {1e3 * dft:.1f}, {s.series} {1e3 * model:.1f} meV per formula unit<br>"
                     f"above hull: DFT {1e3 * above['DFT']:.1f}, {s.series} {1e3 * above[s.series]:.1f} meV per formula unit<br>"
                     f"mean error of {s.series} over all orderings: {error:.0f} meV per formula unit")


def _text(html):
    return f'<div style="font:13px Arial,sans-serif;line-height:1.5">{html}</div>'


def _row(tag, cells):
    return "<tr>" + "".join(f'<{tag} style="padding:2px 12px;text-align:center">{cell}</{tag}>' for cell in cells) + "</tr>"


def _ion(state, wrong=False):
    return f'<b style="color:#C00">Fe<sup>{state}+</sup> &#10007;</b>' if wrong else f"Fe<sup>{state}+</sup>"


def explore(frames=None, predictions=None, **choice):
    """Open the explorer.

    Parameters
    ----------
    frames, predictions
        As for `ExplorerState`; by default the embedded set.
    **choice
        What to begin with: ``ordering=``, ``architecture=``, ``model=``.

    Returns
    -------
    ExplorerView
        ``.state`` holds what is chosen.
    """
    return ExplorerView(ExplorerState(frames, predictions, **choice))
