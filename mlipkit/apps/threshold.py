"""Why a threshold on the moments fails where neutrality does not: a slider, and the cells that it
gets wrong.
"""

import ipywidgets as w
import numpy as np
import traitlets as t

from mlipkit import arguments
from mlipkit.charges.oxidation import infer_oxidation_states
from mlipkit.charges.references import redox_sites
from mlipkit.files import InputError
from mlipkit.frames.datasets import load_dft
from mlipkit.frames.labels import required_label
from mlipkit.frames.taken import as_frames
from mlipkit.pictures import plots
from mlipkit.pictures.live_figure import LiveFigure
from mlipkit.pictures.page import Page

GRID = np.arange(330, 461) / 100  # µB
# µB less in other spheres; part of the difference from the mean that a smeared hole keeps
SMALLER, SMEARED = 0.35, 0.25


class ThresholdState(t.HasTraits):
    """A threshold, and what it makes of the Fe in mixed cells.

    Parameters
    ----------
    frames : list of ase.Atoms, optional
        By default the embedded set; only cells with both Fe2+ and Fe3+ count.

    Attributes
    ----------
    threshold : float
        µB; an Fe with a larger |moment| is called 3+.
    """

    threshold = t.Float(4.0)

    def __init__(self, frames=None, **kwargs):
        frames = load_dft() if frames is None else as_frames(frames, "explore_threshold takes")
        for i, atoms in enumerate(frames):
            if "oxi_states" not in atoms.arrays:
                raise InputError(
                    f"explore_threshold: frame {i} ({atoms.get_chemical_formula()}) has no "
                    "arrays['oxi_states']; mk.name_orderings(frames) writes them"
                )
        self.cells = [(a, redox_sites(a)) for a in frames]
        self.cells = [(a, fe) for a, fe in self.cells if len(set(a.arrays["oxi_states"][fe])) == 2]
        if not self.cells:
            raise InputError(
                "explore_threshold: none of these frames has redox-active atoms in two oxidation "
                "states, so there is nothing to tell apart"
            )
        self.moments = {
            "as computed": [
                np.abs(required_label(a, "magmoms", "ThresholdState")[fe]) for a, fe in self.cells
            ]
        }
        self.moments["other spheres"] = [m - SMALLER for m in self.moments["as computed"]]
        self.moments["smeared holes"] = [
            m.mean() + SMEARED * (m - m.mean()) for m in self.moments["as computed"]
        ]
        self.needed = np.array([(a.arrays["oxi_states"][fe] == 3).sum() for a, fe in self.cells])
        super().__init__(**kwargs)

    def balanced(self, name, threshold):
        """Share of cells, in %, where the threshold finds as many Fe3+ as neutrality asks for."""
        counts = np.array([(m > threshold).sum() for m in self.moments[name]])
        return 100 * float((counts == self.needed).mean())

    def curves(self):
        return {name: (GRID, [self.balanced(name, x) for x in GRID]) for name in self.moments}

    def by_neutrality(self, name):
        """Shares of cells, in %, that `infer_oxidation_states` balances, gets right, and calls
        clear.
        """
        found = [self._inferred(a, fe, m) for (a, fe), m in zip(self.cells, self.moments[name])]
        right = [
            np.array_equal(f.states, a.arrays["oxi_states"]) for f, (a, _) in zip(found, self.cells)
        ]
        return tuple(
            100 * float(np.mean(x))
            for x in ([f.balanced for f in found], right, [f.clear for f in found])
        )

    @staticmethod
    def _inferred(atoms, fe, moments):
        magmoms = np.zeros(len(atoms))
        magmoms[fe] = moments
        return infer_oxidation_states(atoms, magmoms=magmoms)


class ThresholdView(w.VBox):
    """Widgets over a `ThresholdState`."""

    def __init__(self, state):
        self.state = state
        self.slider = w.FloatSlider(
            min=GRID[0],
            max=GRID[-1],
            step=0.01,
            description="threshold (µB)",
            readout_format=".2f",
            style={"description_width": "initial"},
            layout={"width": "560px"},
        )
        self.figure = LiveFigure(plots.thresholds(state.curves(), state.threshold))
        self.figure.update_layout(width=640, height=320)
        self.table = w.HTML()
        self.neutral = {name: state.by_neutrality(name) for name in state.moments}
        t.link((state, "threshold"), (self.slider, "value"))
        state.observe(self._refresh, "threshold")
        self.page = Page()
        self.table.add_class("mlipkit-live")
        super().__init__([self.page, self.slider, self.figure, self.table])
        self.add_class("mlipkit-app")
        self.add_class("mlipkit-threshold")
        self._refresh()

    def _refresh(self, change=None):
        s = self.state
        if change:  # a relayout sent before the figure has been drawn leaves it empty
            self.figure.layout.shapes = [
                {
                    **self.figure.layout.shapes[0].to_plotly_json(),
                    "x0": s.threshold,
                    "x1": s.threshold,
                }
            ]
        head = "".join(
            f'<th scope="col">{h}</th>'
            for h in (
                f"{len(s.cells)} mixed cells",
                f"balanced by threshold {s.threshold:.2f} µB",
                "by neutrality",
                "and right",
                "and sure",
            )
        )
        rows = ""
        for name in s.moments:
            shares = (s.balanced(name, s.threshold), *self.neutral[name])
            row = "".join(f"<td>{x:.0f} %</td>" for x in shares)
            rows += f'<tr><th scope="row">{name}</th>{row}</tr>'
        self.table.value = (
            '<table class="mlipkit-text mlipkit-ions">'
            f"<caption>Share of cells</caption><tr>{head}</tr>{rows}</table>"
        )


def explore_threshold(frames=None, threshold=4.0):
    """Open the slider; `frames` as for `ThresholdState`."""
    arguments.number(threshold, "explore_threshold: threshold")
    return ThresholdView(ThresholdState(frames, threshold=threshold))
