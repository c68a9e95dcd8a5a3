"""What all figures share: colours, symbols and layout; and what can be done to any figure: choose
series, join two, export.

Colours of one set are told apart by colour-blind people too (a test measures it); every series has
a symbol and a dash pattern of its own, which are told apart in grey.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import plotly.io as pio
from plotly.subplots import make_subplots

from mlipkit.files import write_atomically

# by oxidation state: blue 2+, orange 3+
VALENCE = {1: "#CC79A7", 2: "#0072B2", 3: "#E69F00", 4: "#009E73", 5: "#D55E00"}
SERIES = {
    "DFT": ("#757575", "circle"),
    "pretrained": ("#CC79A7", "square"),
    "blind": ("#D55E00", "x"),
    "aware": ("#00A870", "diamond"),
}
TITLES = {"chgnet": "CHGNet", "cpainn": "cPaiNN", "mace": "MACE"}
KINDS = {"pretrained": "as published", "blind": "charge-blind", "aware": "charge-aware"}
# blue and orange are kept for oxidation states, here and below
ARCHITECTURES = {"chgnet": "#8458B3", "cpainn": "#D6278B", "mace": "#937D10"}
LEVELS = (
    ("#8458B3", "circle"),
    ("#D6278B", "square"),
    ("#937D10", "diamond"),
    ("#6A00FF", "triangle-up"),
    ("#F28888", "x"),
    ("#913030", "star"),
)
DASHES = {"DFT": "solid", "pretrained": "longdash", "blind": "dot", "aware": "dash"}
CLOSE_UP = 0.04  # eV per formula unit above the end members: what a close-up of a hull shows
# a series of any other name
OTHERS = (("#913030", "triangle-up"), ("#B27AFF", "triangle-down"), ("#6A00FF", "star"))
OTHER_DASHES = "longdashdot", "dashdot", "10px,3px,2px,3px,2px,3px"

INK, CLEAR = "#757575", "rgba(0,0,0,0)"  # read on a white page and on a black one
MODEBAR = 40  # px to the right of a figure


def _template():
    """plotly's simple_white for light and dark pages."""
    template = go.layout.Template(pio.templates["simple_white"])
    template.layout.update(paper_bgcolor=CLEAR, plot_bgcolor=CLEAR, font_color=INK)
    for axis in (template.layout.xaxis, template.layout.yaxis):
        axis.update(linecolor=INK, tickcolor=INK)
    return template


LAYOUT = {
    "template": _template(),
    # upright in a margin of its own, where it covers neither legend nor buttons; nothing that
    # sends a chart to somebody's cloud
    "modebar": {
        "remove": ["sendChartToCloud", "lasso2d", "select2d"],
        "orientation": "v",
        "bgcolor": CLEAR,
        "color": INK,
        "activecolor": LEVELS[1][0],
    },
    "font": {"family": "Arial, sans-serif", "size": 14},
    "margin": {"l": 70, "r": MODEBAR, "t": 40, "b": 56},
    "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
}


def parted(name):
    """Architecture and kind in the name of a model: ``("mace", "aware")`` of ``mace_aware``,
    ``("", "MACE-MP")`` of a name without a kind.
    """
    architecture, _, kind = name.rpartition("_")
    return (architecture, kind) if kind in KINDS and architecture else ("", name)


def joined(architecture, kind):
    """The name of a model from its two parts, see `parted`."""
    return f"{architecture}_{kind}" if architecture else kind


def title(name):
    """The name of a model as people write it: ``CHGNet, charge-blind`` for ``chgnet_blind``."""
    architecture, kind = parted(name)
    said = KINDS.get(kind, kind.replace("_", " "))
    if not architecture:
        return said
    return TITLES.get(architecture, architecture) + (" " if kind == "pretrained" else ", ") + said


def series_styles(names):
    """Colour, symbol and dash pattern of each series of a figure, ``{name: (...)}``.

    ``DFT``, or a model such as ``mace_aware``, goes by whether it is pretrained, blind or aware. A
    series of any other name has the same wherever it stands alone, and another than one before it
    in the same figure while there are some left.
    """
    styles, taken = {}, []
    for name in dict.fromkeys(names):
        kind = parted(name)[1]
        if kind in SERIES:
            styles[name] = (*SERIES[kind], DASHES[kind])
            continue
        order = [(sum(name.encode()) + k) % len(OTHERS) for k in range(len(OTHERS))]
        taken.append(min(order, key=taken.count))
        styles[name] = (*OTHERS[taken[-1]], OTHER_DASHES[taken[-1]])
    return styles


def series_size(name):
    """Size of the symbols and width of the lines of a series: DFT, drawn first, looks out from
    under a model that agrees with it.
    """
    return (13, 5) if name == "DFT" else (9, 2.5)


def spread(x, y, near):
    """x of points so that those nearer than `near` in y stand side by side, the lowest in place.

    Parameters
    ----------
    x, y : array_like, shape (n,)
        y may be NaN.
    near : float

    Returns
    -------
    numpy.ndarray, shape (n,)
        No point comes nearer to another x than to its own.
    """
    x, y = np.asarray(x, float), np.asarray(y, float)
    places, rows = np.unique(x.round(6)), []
    for place in places:
        row = []
        for i in np.flatnonzero(x.round(6) == place)[np.argsort(y[x.round(6) == place])]:
            if not row or not y[i] - y[row[0]] < near:
                row = []
                rows.append(row)
            row.append(i)
    gaps = np.diff(places) if len(places) > 1 else np.ones(1)
    longest = max(map(len, rows), default=1)
    step = min(0.032 * gaps.sum(), 0.8 * gaps.min() / longest)
    moved = x.copy()
    for row in rows:
        for k, i in enumerate(row):
            moved[i] += (k + 1) // 2 * (-1) ** k * step
    return moved


def x_of(trace):
    """x of the points of a trace, where they are spread as it was before."""
    spread_out = trace.mode == "markers" and trace.customdata is not None
    return trace.customdata if spread_out else trace.x


def choose(figure, names):
    """Let a figure of `parity` or `hull` show only the series named.

    By visibility, not by new data: axes and text stay, which makes it several times as fast.
    """
    names = {title(name) for name in names}
    for trace in figure.data:
        if trace.name:
            trace.visible = trace.name in names


def beside(*figures, widths=None, spacing=0.1):
    """Figures in a row in one, with one legend: plotly redraws a figure in some 40 ms, whatever
    changed in it, so one is the fastest.

    Parameters
    ----------
    *figures : plotly.graph_objects.Figure
        Traces of the second are on axes ``x2`` and ``y2``, and so on; the legend is that of the
        first.
    widths : list of float, optional
        Their shares of the width.
    spacing : float
        Between two of them, as a share of the width.
    """
    row = make_subplots(1, len(figures), horizontal_spacing=spacing, column_widths=widths)
    for column, part in enumerate(figures, start=1):
        row.add_traces(part.data, rows=1, cols=column)
        row.update_xaxes(part.layout.xaxis, row=1, col=column)
        row.update_yaxes(part.layout.yaxis, row=1, col=column)
        if column > 1:
            row.update_traces(showlegend=False, row=1, col=column)
    row.update_layout(LAYOUT)
    return row


def ring(x, y, axes=""):
    """A layout shape: a circle of fixed size on the screen at a data point; ``axes=2`` for axes
    ``x2``, ``y2``.
    """
    return {
        "type": "circle",
        "xref": f"x{axes}",
        "yref": f"y{axes}",
        "xsizemode": "pixel",
        "ysizemode": "pixel",
        "xanchor": x,
        "yanchor": y,
        "x0": -10,
        "x1": 10,
        "y0": -10,
        "y1": 10,
        "line": {"color": "#000000", "width": 2},
        "fillcolor": "rgba(0,0,0,0)",
    }


def padded(values):
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    pad = 0.08 * (high - low or 1)
    return [low - pad, high + pad]


def export(figure, path_stem):
    """Write a figure as a page, its numbers as a table, and a picture.

    Parameters
    ----------
    figure : plotly.graph_objects.Figure
    path_stem : str or Path
        Without ending; folders are made.

    Returns
    -------
    list of pathlib.Path
        ``.html`` (whole, works without a network), ``.csv`` (a row per point: number and name of
        the trace, x, y, text) and ``.png``. A picture needs a Chrome or Chromium (kaleido draws
        with it); without one a sentence is printed that says so.
    """
    stem = Path(path_stem)
    stem = stem.with_suffix("") if stem.suffix in (".html", ".csv", ".png") else stem
    stem.parent.mkdir(parents=True, exist_ok=True)
    # on paper
    black = "#242424"
    figure = go.Figure(figure).update_layout(paper_bgcolor="white", font_color=black)
    figure.update_xaxes(linecolor=black, tickcolor=black)
    figure.update_yaxes(linecolor=black, tickcolor=black)
    page, table, picture = (
        stem.with_name(stem.name + ending) for ending in (".html", ".csv", ".png")
    )
    parts = []
    for k, trace in enumerate(figure.data):
        # a histogram has no y, one text may stand for all points
        columns = {c: getattr(trace, c, None) for c in ("x", "y", "text")}
        if trace.type == "scatter":
            columns["x"] = x_of(trace)
        columns = {
            c: pd.Series(v) for c, v in columns.items() if v is not None and not isinstance(v, str)
        }
        parts.append(pd.DataFrame(columns).assign(trace=k, name=trace.name))
    numbers = pd.concat(parts or [pd.DataFrame()]).reindex(
        columns=["trace", "name", "x", "y", "text"]
    )
    write_atomically(table, numbers.to_csv(index=False))
    write_atomically(page, figure.to_html(include_plotlyjs=True))
    try:
        picture_bytes = figure.to_image("png", width=900, height=550, scale=2)
    except Exception as reason:  # kaleido raises errors of its own when there is no browser
        says = (str(reason).strip() or type(reason).__name__).splitlines()[0]
        print(f"{picture.name} was not written (it takes a Chrome or Chromium): {says}")
        return [page, table]
    write_atomically(picture, picture_bytes)
    return [page, table, picture]
