"""What holds for every figure: names for people, units, no mark on another, read from the last row
and by colour-blind people.
"""

import functools
import inspect
import itertools
import re

import numpy as np
import pytest
from ase.calculators.lj import LennardJones
from compounds import frames_of, olivine

import mlipkit as mk
from mlipkit.apps.temperature_figure import ELECTRONS, IONS, figure_of
from mlipkit.apps.temperature_state import TemperatureState
from mlipkit.apps.threshold import ThresholdState
from mlipkit.pictures import figures, plots

NO_UNIT = "x in .*|x = .*|epoch|step|number of sites|composition|charge ordering|site|energies by.*"
LITHIUM = mk.Compound("Li", {"Mn": (2, 3)}, metal=-1.9)


class Embedded:
    def __init__(self):
        self.frames, self.compound = mk.load_dft(), None
        self.ends = mk.end_points(self.frames)
        names = [a.info["ordering"] for a in self.ends]
        relaxed = mk.load_geometries().query("geometry == 'relaxed'").groupby("model")
        self.models = {
            model: rows.set_index("ordering")["energy"][names].tolist() for model, rows in relaxed
        }
        self.test = [a for a in self.frames if a.info["split"] == "test"]
        self.predictions = mk.load_predictions()
        self.relaxation = mk.load_relaxations("cpainn_blind")[5]

    def app(self):
        return mk.explore()


class Other:
    """Frames of another compound as a person brings them, a potential of her own."""

    def __init__(self):
        self.frames, _ = frames_of(olivine(), LITHIUM, sign=-1)
        self.ends = self.test = mk.name_orderings(self.frames, progress=False)
        self.compound = LITHIUM
        energies = np.array([a.get_potential_energy() for a in self.ends])
        noise = np.random.default_rng(0).normal(0, 0.2, len(energies))
        self.models = {"chgnet_blind": energies + noise, "my_potential": energies * 0.999}
        self.own = {"my_potential": LennardJones(rc=4)}
        self.predictions = mk.predict(self.frames, self.own, progress=False)
        self.relaxation = mk.relax(self.ends[3], LennardJones(rc=4), steps=3, progress=False)

    def app(self):
        return mk.explore(self.frames, self.own)


@functools.cache
def made(of):
    return {"embedded": Embedded, "LixMnPO4": Other}[of]()


def _tables(d, make):
    return {name: make(d.ends, e, d.compound) for name, e in {"DFT": None, **d.models}.items()}


def _parity(d):
    tables = _tables(d, mk.hull)
    energies = {name: table["formation_energy"].tolist() for name, table in tables.items()}
    names = tables["DFT"]["ordering"].tolist()
    return plots.parity(energies.pop("DFT"), energies, names, colour_by="architecture")


def _ladder(d):
    mixed = next(a.info["ordering"] for a in d.ends if a.info["x"] == 0.5)
    return plots.ladder(d.ends, d.models, "_".join(mixed.split("_")[:2]))


# every function that makes a figure, by what is in `Embedded` and `Other`
FIGURES = {
    "parity": _parity,
    "hull": lambda d: plots.hull(_tables(d, mk.hull)),
    "voltage": lambda d: plots.voltage(_tables(d, mk.voltage_profile)),
    "entropy": lambda d: plots.entropy(mk.entropy_table(d.ends, temperatures=[300, 600])),
    "error_by": lambda d: plots.error_by(mk.error_by(d.test, d.predictions, "ordering")),
    "by_composition": lambda d: plots.by_composition(
        {0.5: {"mace_blind": 1, "mace_aware": 2}}, "energy MAE (meV/atom)"
    ),
    "ladder": _ladder,
    "verdict": lambda d: plots.verdict(mk.verdict_table()),
    "learning_curve": lambda d: plots.learning_curve([{"epoch": 0, "train": 2, "validation": 3}]),
    "thresholds": lambda d: plots.thresholds(ThresholdState(d.frames).curves(), 4.0),
    "moments": lambda d: plots.moments(d.frames),
    "timeline": lambda d: plots.timeline(d.relaxation),
    "the explorer": lambda d: d.app().figure,
    "the temperature app": lambda d: figure_of(TemperatureState()),
    "errors by x": lambda d: plots.error_by(mk.error_by(d.test, d.predictions, "x", 0.95)),
}


@functools.cache
def figure(name, of):
    return FIGURES[name](made(of))


every_figure = pytest.mark.parametrize(
    "name, of", list(itertools.product(FIGURES, ["embedded", "LixMnPO4"]))
)


def test_every_function_that_makes_a_figure_is_here():
    theirs = {
        name
        for name, thing in inspect.getmembers(plots, inspect.isfunction)
        if thing.__module__ == plots.__name__ and not name.startswith("_")
    }
    assert theirs <= set(FIGURES)


def axes_of(figure):
    return [*figure.select_xaxes(), *figure.select_yaxes()]


def texts(figure):
    """All that stands in a figure before the mouse comes: an ordering's own name, which code takes,
    is for the mouse.
    """
    said = [axis.title.text for axis in axes_of(figure)]
    for axis in axes_of(figure):
        said += axis.ticktext or []
    named = [axis.tickvals for axis in axes_of(figure) if axis.ticktext]
    for trace in figure.data:
        said += [trace.name] * (trace.showlegend is not False and trace.visible is not False)
        x = list(trace.x) if trace.x is not None else []
        said += [v for v in x if isinstance(v, str) and not any(v in known for known in named)]
    said += [note.text for note in figure.layout.annotations]
    said += [button.label for menu in figure.layout.updatemenus for button in menu.buttons]
    return [text for text in said if text]


@every_figure
def test_names_are_for_people_and_axes_have_units(name, of):
    shown = figure(name, of)
    assert not [text for text in texts(shown) if "_" in text]
    for axis in axes_of(shown):
        if axis.showticklabels is not False:
            title = (axis.title.text or "").replace("<br>", " ")
            assert re.search(r"\(.+\)$", title) or re.fullmatch(NO_UNIT, title), title


@every_figure
def test_it_is_read_from_the_last_row(name, of):
    shown = figure(name, of)
    sizes = [shown.layout.font.size]
    sizes += [axis.title.font.size or 99 for axis in axes_of(shown)]
    sizes += [axis.tickfont.size or 99 for axis in axes_of(shown)]
    sizes += [note.font.size or 99 for note in shown.layout.annotations]
    sizes += [trace.textfont.size or 99 for trace in shown.data if trace.type == "scatter"]
    assert min(sizes) >= 13
    for trace in shown.data:
        if trace.type == "scatter" and "lines" in (trace.mode or "") and not trace.fill:
            assert trace.line.width is None or trace.line.width >= 2, trace.name


@every_figure
def test_the_mode_bar_has_a_margin_of_its_own(name, of):
    bar, layout = figure(name, of).layout.modebar, figure(name, of).layout
    assert bar.orientation == "v" and "sendChartToCloud" in bar.remove
    assert layout.margin.r >= figures.MODEBAR
    assert all(menu.y <= 0 and menu.yanchor == "top" for menu in layout.updatemenus)


@every_figure
def test_light_and_dark_pages_show_through(name, of):
    layout = figure(name, of).layout
    grounds = layout.template.layout.paper_bgcolor, layout.template.layout.plot_bgcolor
    assert grounds == (figures.CLEAR, figures.CLEAR)
    assert layout.paper_bgcolor in (None, figures.CLEAR)


@pytest.mark.parametrize("of", ["embedded", "LixMnPO4"])
def test_orderings_of_one_energy_stand_side_by_side(of):
    shown = figure("hull", of)
    points = [t for t in shown.data if t.mode == "markers"]
    low, high = shown.layout.xaxis.range
    energies = np.concatenate([np.array(t.y, float) for t in points])
    for trace in points:
        # in px, of a plot of 600 x 330
        x = 600 * np.array(trace.x) / (high - low)
        y = 330 * np.array(trace.y, float) / np.ptp(energies)
        apart = np.hypot(np.subtract.outer(x, x), np.subtract.outer(y, y))
        np.fill_diagonal(apart, 99)
        assert apart.min() > 6, trace.name
        assert np.abs(np.subtract(trace.x, trace.customdata)).max() < 0.125  # half way to the next
        lowest = [
            min((e, i) for i, e in enumerate(trace.y) if trace.customdata[i] == x)[1]
            for x in set(trace.customdata)
        ]
        assert [trace.x[i] for i in lowest] == [trace.customdata[i] for i in lowest]


def test_a_table_of_points_moved_aside_has_their_x(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))  # no browser: no picture
    monkeypatch.setenv("BROWSER_PATH", str(tmp_path / "chrome"))
    import pandas as pd

    _, table = plots.export(figure("hull", "embedded"), tmp_path / "hull")
    rows = pd.read_csv(table)
    assert set(rows["x"]) == {0, 0.25, 0.5, 0.75, 1}


# Machado, Oliveira and Fernandes 2009 (doi 10.1109/TVCG.2009.113), severity 1, on linear RGB
SEEN = {
    "all colours": np.eye(3),
    "deuteranopia": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
    "protanopia": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
}
TO_XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)


def linear(colour):
    rgb = np.array([int(colour[k : k + 2], 16) for k in (1, 3, 5)]) / 255
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def lab(rgb):
    """CIE L*a*b* of linear RGB."""
    xyz = TO_XYZ @ np.clip(rgb, 0, 1) / [0.95047, 1, 1.08883]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


SETS = {
    "series": [c for c, _ in (*figures.SERIES.values(), *figures.OTHERS)],
    "valence": list(figures.VALENCE.values()),
    "architectures": [*figures.ARCHITECTURES.values(), figures.OTHERS[0][0]],
    "levels": [c for c, _ in figures.LEVELS],
    "entropies": [IONS, ELECTRONS, figures.INK],
}


@pytest.mark.parametrize("seen", SEEN)
@pytest.mark.parametrize("name", SETS)
def test_colours_of_one_figure_are_told_apart(name, seen):
    """Two colours 2.3 apart are just told apart side by side, marks apart from each other take more."""
    colours = {c: lab(SEEN[seen] @ linear(c)) for c in SETS[name]}
    assert len(colours) == len(SETS[name])
    for a, b in itertools.combinations(colours, 2):
        assert np.linalg.norm(colours[a] - colours[b]) > 15, (a, b)


@pytest.mark.parametrize("name", [name for name in SETS if name != "valence"])
def test_blue_and_orange_mean_a_valence(name):
    for colour in SETS[name]:
        for state in (2, 3):
            away = lab(linear(colour)) - lab(linear(figures.VALENCE[state]))
            assert np.linalg.norm(away) > 30, (colour, state)


@pytest.mark.parametrize("page", ["#FFFFFF", "#111111"])
def test_colours_are_seen_on_both_pages(page):
    bright = lambda c: float(TO_XYZ[1] @ linear(c)) + 0.05
    for colour in itertools.chain(*SETS.values()):
        low, high = sorted([bright(colour), bright(page)])
        assert high / low > (4 if colour == figures.INK else 2.2), colour
