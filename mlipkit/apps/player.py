"""Watch a relaxation: the crystal step by step, and beneath it which site holds which charge."""

import ipywidgets as w
import numpy as np
import traitlets as t

from mlipkit.files import InputError
from mlipkit.frames.labels import label
from mlipkit.pictures import plots
from mlipkit.pictures.crystal import Crystal
from mlipkit.pictures.live_figure import LiveFigure
from mlipkit.pictures.page import Page

INTERVAL = 250  # ms: in software a step takes a browser some 150


class PlayerState(t.HasTraits):
    """The step of a relaxation that is looked at.

    Parameters
    ----------
    relaxation : mlipkit.Relaxation

    Attributes
    ----------
    step : int
        Between 0 and ``last``.
    """

    step = t.Int()

    def __init__(self, relaxation, **kwargs):
        if not hasattr(relaxation, "frames") or not len(relaxation.frames):
            raise InputError(f"play: takes what relax returns, not {type(relaxation).__name__}")
        self.relaxation, self.last = relaxation, len(relaxation.frames) - 1
        super().__init__(**kwargs)

    @t.validate("step")
    def _within(self, proposal):
        if not 0 <= proposal["value"] <= self.last:
            raise t.TraitError(f"there is no step {proposal['value']}; the last is {self.last}")
        return proposal["value"]

    @property
    def atoms(self):
        """The frame of this step, with the oxidation states inferred from its moments."""
        frame = self.relaxation.frames[self.step]
        atoms = frame.copy()
        atoms.calc = frame.calc
        if self.relaxation.states is not None:
            atoms.arrays["oxi_states"] = self.relaxation.states[self.step]
        return atoms

    @property
    def flips(self):
        """Rows of ``relaxation.flips`` that happen at this step."""
        flips = self.relaxation.flips
        return flips[flips["step"] == self.step]

    def __str__(self):
        r, atoms = self.relaxation, self.relaxation.frames[self.step]
        flips = "".join(
            f"; {atoms.symbols[f.site]} {f.site} flips from {f.before}+ to {f.after}+"
            for f in self.flips.itertuples()
        )
        end = f"; {r.reason}" if self.step == self.last else ""
        force = np.linalg.norm(label(atoms, "forces"), axis=1).max()
        energy = f"{r.energies[self.step]:.3f} eV, largest force {force:.3f} eV/Å"
        return f"step {self.step} of {self.last}: {energy}{flips}{end}"


class PlayerView(w.VBox):
    """Widgets over a `PlayerState`."""

    def __init__(self, state, octahedra=False):
        self.state = state
        atoms = state.atoms
        self.crystal = Crystal(atoms, height="340px", octahedra=octahedra)
        self.structure, self.legend = self.crystal.view, self.crystal.legend
        self.play = w.Play(min=0, max=state.last, interval=INTERVAL, show_repeat=False)
        self.slider = w.IntSlider(
            min=0, max=state.last, description="step", layout={"width": "420px"}
        )
        self.text, self.page = w.HTML(), Page()
        self.text.add_class("mlipkit-live")
        self.figure = LiveFigure(plots.timeline(state.relaxation, state.step))
        self.figure.update_layout(width=760, height=400)
        for trace in self.figure.data:
            trace.on_click(self._click)
        # in the browser, so that they do not chase each other
        w.jslink((self.play, "value"), (self.slider, "value"))
        t.link((state, "step"), (self.slider, "value"))
        state.observe(self._refresh, "step")
        super().__init__(
            [
                self.page,
                self.crystal,
                w.HBox([self.play, self.slider], layout={"flex_flow": "row wrap"}),
                self.text,
                self.figure,
            ],
            layout={"width": "780px"},
        )
        self.add_class("mlipkit-app")
        self.add_class("mlipkit-player")
        self._tell()

    def _click(self, trace, points, selector):
        if points.xs:
            self.state.step = int(points.xs[0])

    def _refresh(self, change):
        with self.figure.batch_update():
            self.figure.layout.shapes[0].x0 = self.figure.layout.shapes[0].x1 = self.state.step
        self._tell()
        self.crystal.show(self.state.atoms)

    def _tell(self):
        self.text.value = f'<div class="mlipkit-text">{self.state}</div>'


def play(relaxation, octahedra=False):
    """Watch a relaxation.

    Parameters
    ----------
    relaxation : mlipkit.Relaxation
        As `relax` returns it.
    octahedra : bool
        Begin with the polyhedra around the redox-active metals drawn.

    Returns
    -------
    PlayerView
        ``.state.step`` is the step that is shown; Fe is coloured by the valence inferred from its
        moment at that step.
    """
    return PlayerView(PlayerState(relaxation), octahedra)
