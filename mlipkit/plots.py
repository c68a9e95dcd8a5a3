"""Figures: data in, plotly figure out. Nothing here knows a widget.

Colours are those of Okabe and Ito, which colour-blind people can tell apart; every series has a symbol of its own too.
"""
import numpy as np
import plotly.graph_objects as go

VALENCE = {2: "#0072B2", 3: "#E69F00"}      # blue Fe2+, orange Fe3+
SERIES = {"DFT": ("#333333", "circle"), "pretrained": ("#CC79A7", "square"), "blind": ("#D55E00", "x"), "aware": ("#009E73", "diamond")}
OTHER = ("#56B4E9", "triangle-up")      # a series of any other name
LAYOUT = {"template": "simple_white", "font": {"family": "Arial, sans-serif", "size": 13}, "margin": {"l": 70, "r": 16, "t": 40, "b": 56},
          "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"}}


def parity(label, predicted, text=None, held_out=None, quantity="formation energy (eV/f.u.)"):
    """Predicted against DFT, with the diagonal.

    Parameters
    ----------
    label : array_like, shape (n,)
        DFT.
    predicted : dict of array_like, shape (n,)
        ``{"blind": ..., "aware": ...}``, in the same unit.
    text : list of str, optional
        Shown on hover, one per point.
    held_out : array_like of bool, shape (n,), optional
        Held-out points are drawn full, those of the training split open.
    quantity : str
        With unit, for the axes.

    Returns
    -------
    plotly.graph_objects.Figure
        One trace per model, named after it, and last the diagonal.
    """
    everything = np.concatenate([np.asarray(label, float), *(np.asarray(p, float) for p in predicted.values())])
    ends = _padded(everything)
    figure = go.Figure()
    for name, values in predicted.items():
        colour, symbol = SERIES.get(name, OTHER)
        symbols = symbol if held_out is None else [symbol if full else f"{symbol}-open" for full in held_out]
        figure.add_scatter(x=label, y=values, text=text, name=name, mode="markers",
                           marker={"size": 9, "color": colour, "symbol": symbols, "line": {"width": 1.5, "color": colour}},
                           hovertemplate="%{text}<br>DFT %{x:.3f}<br>" + name + " %{y:.3f}<extra></extra>")
    figure.add_scatter(x=ends, y=ends, mode="lines", line={"color": "#999999", "dash": "dash"}, hoverinfo="skip", showlegend=False, name="")
    figure.update_layout(LAYOUT, xaxis_title=f"DFT {quantity}", yaxis_title=f"model {quantity}")
    figure.update_xaxes(range=ends)
    figure.update_yaxes(range=ends)
    return figure


def hull(tables):
    """Formation energies and convex hulls of several methods in one figure.

    Parameters
    ----------
    tables : dict of pandas.DataFrame
        ``{"DFT": ..., "blind": ...}``, each as `mlipkit.hull` returns it.

    Returns
    -------
    plotly.graph_objects.Figure
        Two traces per method, both named after it: the points, and the line through its hull vertices.
    """
    figure = go.Figure()
    for name, table in tables.items():
        colour, symbol = SERIES.get(name, OTHER)
        vertices = table[table["on_hull"]].drop_duplicates("x").sort_values("x")
        figure.add_scatter(x=table["x"], y=table["formation_energy"], text=table["ordering"], mode="markers", name=name, legendgroup=name,
                           marker={"color": colour, "symbol": symbol, "size": 9, "line": {"width": 1, "color": "white"}},
                           hovertemplate="%{text}<br>x = %{x:.2f}<br>%{y:.4f} eV/f.u.<extra>" + name + "</extra>")
        figure.add_scatter(x=vertices["x"], y=vertices["formation_energy"], mode="lines", name=name, legendgroup=name, showlegend=False,
                           hoverinfo="skip", line={"color": colour, "width": 2, "dash": "solid" if name == "DFT" else "dot"})
    figure.update_layout(LAYOUT, xaxis_title="x in Na<sub>x</sub>FePO<sub>4</sub>", yaxis_title="formation energy (eV/f.u.)")
    figure.update_xaxes(range=[-0.05, 1.05], tickvals=[0, 0.25, 0.5, 0.75, 1])
    figure.update_yaxes(range=_padded(np.concatenate([table["formation_energy"] for table in tables.values()])))
    return figure


def choose(figure, names):
    """Let a figure of `parity` or `hull` show only the series named.

    By visibility, not by new data: axes and text stay, which makes it several times as fast.
    """
    for trace in figure.data:
        if trace.name:
            trace.visible = trace.name in names


def ring(x, y):
    """A layout shape: a circle of fixed size on the screen around a data point."""
    return {"type": "circle", "xsizemode": "pixel", "ysizemode": "pixel", "xanchor": x, "yanchor": y,
            "x0": -10, "x1": 10, "y0": -10, "y1": 10,
            "line": {"color": "#000000", "width": 2}, "fillcolor": "rgba(0,0,0,0)"}


def _padded(values):
    low, high = float(np.min(values)), float(np.max(values))
    pad = 0.08 * (high - low or 1)
    return [low - pad, high + pad]


def moments(frames):
    """Histogram of the Fe moments of labelled frames, by oxidation state.

    Returns
    -------
    plotly.graph_objects.Figure
    """
    figure = go.Figure()
    for state, colour in VALENCE.items():
        values = np.concatenate([np.abs(a.get_magnetic_moments())[(a.symbols == "Fe") & (a.arrays["oxi_states"] == state)] for a in frames])
        figure.add_histogram(x=values, name=f"Fe<sup>{state}+</sup>",
                             marker={"color": colour, "pattern": {"shape": "/" if state == 3 else ""}},
                             xbins={"start": 3.4, "end": 4.6, "size": 0.02})
    figure.update_layout(LAYOUT, barmode="overlay", xaxis_title="|magnetic moment| of Fe (µB)", yaxis_title="number of sites")
    return figure
