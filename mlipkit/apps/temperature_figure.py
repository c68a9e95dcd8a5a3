"""The plots of the temperature app in one figure: T over x, G, voltage and entropy."""

import itertools

import numpy as np
import plotly.graph_objects as go
from ase.units import kB

from mlipkit.apps.temperature_state import title
from mlipkit.apps.temperature_words import at_point
from mlipkit.pictures.figures import (
    ARCHITECTURES,
    INK,
    LAYOUT,
    LEVELS,
    MODEBAR,
    padded,
    ring,
)

HEIGHT = 500  # px
IONS, ELECTRONS = "#937D10", "#B27AFF"
INNER = 0.04  # of all x at each end: there a voltage runs away, and is not what the axis shows
# axes of each plot, and where they are
PLACES = {
    "diagram": ("", [0, 0.45], [0.57, 1]),
    "free": ("2", [0, 0.45], [0, 0.38]),
    "voltage": ("3", [0.57, 1], [0.57, 1]),
    "entropy": ("4", [0.57, 1], [0, 0.38]),
}
CLICKED = ("points", "G", "V", "S ions", "S electrons")


def figure_of(state):
    """The figure with all its traces and shapes, as the present choice has them."""
    figure = go.Figure()
    for architecture in state.diagrams:
        colour = colour_of(state, architecture)
        figure.add_scatter(
            name=f"boundaries {architecture}",
            showlegend=False,
            mode="lines",
            line={"color": colour},
            hoverinfo="skip",
        )
    for architecture in state.diagrams:  # hidden traces have no entry; this one is always whole
        figure.add_scatter(
            name=title(architecture),
            x=[None],
            y=[None],
            mode="lines",
            line={"color": colour_of(state, architecture), "width": 3},
            showlegend=len(state.diagrams) > 1,
        )
    figure.add_scatter(name="two phases", mode="lines", fill="toself", line={"width": 0})
    bars = {"type": "data", "symmetric": False, "thickness": 1.2, "width": 3}
    figure.add_scatter(name="ends", mode="markers", marker={"size": 6}, error_x=bars)
    figure.update_traces(selector={"name": "two phases"}, showlegend=False, hoverinfo="skip")
    figure.update_traces(selector={"name": "ends"}, showlegend=False, hoverinfo="skip")
    figure.add_scatter(
        name="points",
        mode="none",  # answers to the mouse, and costs nothing to draw
        hovertemplate="%{text}<extra></extra>",
        showlegend=False,
    )
    _add_curves(figure)
    figure.update_layout(
        LAYOUT,
        height=HEIGHT,
        autosize=True,
        hovermode="closest",
        margin={"l": 66, "r": MODEBAR, "t": 26, "b": 44},
        legend={"orientation": "h", "x": 0, "y": 1.0, "yanchor": "bottom", "itemclick": False},
        legend2={"orientation": "h", "x": 0.57, "y": 0.385, "yanchor": "bottom"},
        shapes=_shapes(),
    )
    figure.update_layout(legend2={"itemclick": False, "itemdoubleclick": False})
    _add_axes(figure, state)
    arrange(figure, state)
    return figure


def colour_of(state, architecture):
    others = itertools.cycle(c for c, _ in LEVELS)
    named = dict(zip(state.diagrams, others))
    return ARCHITECTURES.get(architecture, named[architecture])


def _add_curves(figure):
    at = {name: {"xaxis": f"x{n}", "yaxis": f"y{n}"} for name, (n, *_) in PLACES.items()}
    say = "x = %{x:.2f}: %{y:.1f} meV/f.u.<extra></extra>"
    # a band: error bars would be a line each, and cost a third of the time of a redraw
    band = {"mode": "lines", "fill": "toself", "line": {"width": 0}}
    figure.add_scatter(**at["free"], **band, name="error of G", showlegend=False)
    figure.update_traces(selector={"name": "error of G"}, hoverinfo="skip")
    figure.add_scatter(**at["free"], name="G", mode="lines", hovertemplate=say, showlegend=False)
    figure.add_scatter(
        **at["free"],
        name="common tangents",
        mode="lines+markers",
        line={"color": INK, "width": 2, "dash": "dash"},
        marker={"size": 9, "symbol": "circle-open", "line": {"width": 2}},
        hoverinfo="skip",
        showlegend=False,
    )
    say = "x = %{x:.2f}: %{y:.3f} V<extra></extra>"
    figure.add_scatter(**at["voltage"], name="V", mode="lines", hovertemplate=say, showlegend=False)
    say = "x = %{x:.2f}: %{y:.2f} k of %{meta}<extra></extra>"
    for name, colour in (("ions", IONS), ("electrons", ELECTRONS)):
        for kind, dash, width in (("S", "solid", 2.5), ("ideal", "dot", 2)):
            figure.add_scatter(
                **at["entropy"],
                name=f"{kind} {name}",
                meta=name,
                mode="lines",
                line={"color": colour, "width": width, "dash": dash},
                hovertemplate=say if kind == "S" else None,
                hoverinfo=None if kind == "S" else "skip",
                showlegend=False,
            )
    for name, style in (
        ("ions", {"color": IONS, "width": 2.5}),
        ("electrons", {"color": ELECTRONS, "width": 2.5}),
        ("free mixing", {"color": INK, "width": 2, "dash": "dot"}),
    ):
        nothing = {"x": [None], "y": [None], "mode": "lines"}
        figure.add_scatter(**at["entropy"], **nothing, name=name, line=style, legend="legend2")


def _add_axes(figure, state):
    c = state.compound
    against = f"voltage against {c.mobile}<br>(V)"
    if np.isnan(state.diagram.mean_voltage):
        against = "voltage less its<br>mean (V)"
    titles = {
        "diagram": "temperature (K)",
        "free": "ΔG against the end<br>members (meV/f.u.)",
        "voltage": against,
        "entropy": "entropy<br>(k per f.u.)",
    }
    small = {"size": 13}
    for name, (n, across, up) in PLACES.items():
        axis = {"automargin": False, "title_font": small}
        figure.layout[f"xaxis{n}"] = {
            **axis,
            "domain": across,
            "anchor": f"y{n}",
            "title": {"text": f"x in {c.html}", "standoff": 4},
        }
        figure.layout[f"yaxis{n}"] = {
            **axis,
            "domain": up,
            "anchor": f"x{n}",
            "title": {"text": titles[name], "standoff": 4},
        }
    figure.layout.yaxis.nticks = 8


def _shapes():
    """The temperature as a line, the composition as a ring there and a line in the other plots."""
    shapes = [
        {
            "type": "line",
            "xref": "x domain",
            "x0": 0,
            "x1": 1,
            "y0": 0,
            "y1": 0,
            "line": {"color": "#000000", "width": 2},
            "opacity": 1,
        },
        {**ring(0, 0), "opacity": 1},
    ]
    for n, _, _ in list(PLACES.values())[1:]:
        line = {"color": INK, "width": 1, "dash": "dot"}
        where = {"xref": f"x{n}", "yref": f"y{n} domain", "x0": 0, "x1": 0, "y0": 0, "y1": 1}
        shapes.append({"type": "line", **where, "line": line, "layer": "below", "opacity": 1})
    return shapes


def arrange(figure, state, all_of_it=True):
    """Show the present choice in a figure of `figure_of`; without `all_of_it` the phase diagram
    stays, and only temperature and composition are others.
    """
    traces = {trace.name: trace for trace in figure.data}
    if all_of_it:
        _arrange_diagram(figure, traces, state)
    for name, values in curves(state).items():
        traces[name].update(values)
    for name, (low, high) in ranges(state).items():
        figure.layout[f"yaxis{PLACES[name][0]}"].range = [low, high]
    line, dot, *others = figure.layout.shapes
    line.y0 = line.y1 = dot.yanchor = state.temperature
    dot.xanchor = state.x
    for shape in others:
        shape.x0 = shape.x1 = state.x


def _arrange_diagram(figure, traces, state):
    chosen = state.architecture
    for architecture in state.diagrams:
        trace, here = traces[f"boundaries {architecture}"], architecture == chosen
        diagram = state.diagrams[architecture].get(state.kind)
        sides = regions(state, diagram)[1] if diagram is not None else []
        trace.update(**_xy(sides), opacity=1 if here else 0.55)
        trace.line.update(width=2.5 if here else 2, dash="solid" if here else "dash")
    colour = colour_of(state, chosen)
    areas = regions(state, state.diagram)[0]
    red, green, blue = (int(colour[k : k + 2], 16) for k in (1, 3, 5))
    traces["two phases"].update(_xy(areas))
    for name, opacity in (("two phases", 0.22), ("error of G", 0.35)):
        traces[name].fillcolor = f"rgba({red},{green},{blue},{opacity})"
    traces["ends"].update(ends(state.boundaries(), state.diagram))
    for name in ("ends", "two phases", "G", "V"):
        traces[name].marker.color = traces[name].line.color = colour
    traces["ends"].error_x.color = colour
    traces["points"].update(points(state))
    temperatures, x = state.temperatures, state.diagram.x
    figure.layout.yaxis.range = padded(temperatures)
    for n, _, _ in PLACES.values():
        pad = 0.03 * (x[-1] - x[0])
        figure.layout[f"xaxis{n}"].range = [float(x[0] - pad), float(x[-1] + pad)]


def curves(state):
    """``{trace: its data}`` of what belongs to the chosen temperature: x as it is; G in meV,
    entropy in k, both per formula unit; V in V.
    """
    d, k = state.diagram, state.row
    x = d.x.tolist()
    g, error = 1e3 * d.free_energy[k], 1e3 * np.nan_to_num(d.error[k])
    at = [(r.x_low, r.x_high) for r in state.gaps.itertuples()]
    tangents = [[(v, float(np.interp(v, d.x, g))) for v in pair] for pair in at]
    voltages = d.voltage(state.temperature)
    free = state.ideal()
    found = {
        "G": {"x": x, "y": g.tolist()},
        "error of G": {"x": x + x[::-1], "y": [*(g + error), *(g - error)[::-1]]},
        "common tangents": _xy(tangents),
        "V": {"x": voltages[0].tolist(), "y": voltages[1].tolist(), "line": {"shape": "hvh"}},
        "S ions": {"x": x, "y": (d.entropy_ion[k] / kB).tolist()},
        "ideal ions": {"x": x, "y": free[0].tolist()},
    }
    electrons = {"S electrons": d.electronic[k] / kB, "ideal electrons": free[1]}
    for name, values in electrons.items():  # those that are not counted have no line
        found[name] = {"x": x, "y": values.tolist()} if d.aware else _xy([])
    return found


def ranges(state):
    """``{plot: (low, high)}`` of what `curves` gives, eV and V at their own scale."""
    data, found = curves(state), {}
    x, v = (np.array(data["V"][name]) for name in "xy")
    edge = INNER * (x[-1] - x[0]) if len(x) > 20 else 0
    inner = v[(x >= x[0] + edge) & (x <= x[-1] - edge)]
    middle, spread = (np.nanmax(inner) + np.nanmin(inner)) / 2, max(0.05, np.ptp(inner))
    g = np.append(data["G"]["y"], 0)
    names = ("S ions", "ideal ions", "S electrons", "ideal electrons")
    entropies = np.array([y for name in names for y in data[name]["y"]])
    found["free"] = padded(g[np.isfinite(g)])
    found["voltage"] = (float(middle - 0.6 * spread), float(middle + 0.6 * spread))
    found["entropy"] = padded(np.append(entropies[np.isfinite(entropies)], 0))
    return found


def ends(table, diagram):
    """Where the two-phase regions end, with errors that stay between the end members."""
    x = np.concatenate([table["x_low"], table["x_high"]])
    error = np.concatenate([table["error_low"], table["error_high"]])
    low, high = diagram.x[0], diagram.x[-1]
    apart = (x > low) & (x < high)  # an end member is exact
    x, error = x[apart], error[apart]
    y = np.tile(table["temperature"], 2)[apart]
    bars = {"array": np.minimum(error, high - x), "arrayminus": np.minimum(error, x - low)}
    bars = {name: values.tolist() for name, values in bars.items()}
    return {"x": x.tolist(), "y": y.tolist(), "error_x": bars}


def points(state):
    """What can be clicked: every temperature at every composition of which a cell was kept."""
    pairs = list(itertools.product(state.temperatures.tolist(), state.kept_x.tolist()))
    rows = {temperature: [] for temperature in state.temperatures.tolist()}
    for r in state.boundaries().itertuples():
        rows[r.temperature].append(r)
    return {
        "x": [x for _, x in pairs],
        "y": [temperature for temperature, _ in pairs],
        "text": [at_point(rows[temperature], x, temperature) for temperature, x in pairs],
    }


def regions(state, diagram):
    """The two-phase regions of one of the diagrams as areas and their sides, lists of
    ``[(x, T), ...]``.

    Regions at neighbouring temperatures that lie over each other are one. Where one ends, or two
    become one, that happens between the two temperatures: it is drawn halfway.
    """
    temperatures = diagram.temperatures.tolist()
    at = {temperature: [] for temperature in temperatures}
    for r in state.boundaries_of(diagram).itertuples():
        at[r.temperature].append((r.x_low, r.x_high))
    areas, sides = [], []
    for cold, hot in itertools.pairwise(temperatures):
        for below, above in _together(at[cold], at[hot]):
            if len(below) == len(above):
                parts = [(a, cold, b, hot) for a, b in zip(below, above)]
            else:
                half, parts = (cold + hot) / 2, []
                span = _between(below, above)
                if below and above:
                    sides.append([(span[0], half), (span[1], half)])
                parts += [(a, cold, m, half) for a, m in zip(below, _met(below, span))]
                parts += [(m, half, b, hot) for b, m in zip(above, _met(above, span))]
            for (a, b), low, (c, d), high in parts:
                areas.append([(a, low), (b, low), (d, high), (c, high), (a, low)])
                sides += [[(a, low), (c, high)], [(b, low), (d, high)]]
    return areas, sides


def _together(below, above):
    """Groups of regions at two temperatures that lie over each other."""
    groups = []
    for k, region in [*((0, r) for r in below), *((1, r) for r in above)]:
        over = [g for g in groups if any(_over(region, other) for other in g[1 - k])]
        merged = ([], [])
        for group in over:
            groups.remove(group)
            merged[0].extend(group[0])
            merged[1].extend(group[1])
        merged[k].append(region)
        groups.append(merged)
    return [tuple(sorted(part) for part in group) for group in groups]


def _over(a, b):
    return min(a[1], b[1]) > max(a[0], b[0])


def _between(below, above):
    """Where a group stands halfway: a point where it ends."""
    if not (below and above):
        only = below or above
        middle = (only[0][0] + only[-1][1]) / 2
        return middle, middle
    return (below[0][0] + above[0][0]) / 2, (below[-1][1] + above[-1][1]) / 2


def _met(regions, span):
    """The regions of a group at the halfway temperature: side by side, without a gap."""
    if not regions:
        return []
    inner = [(a[1] + b[0]) / 2 for a, b in itertools.pairwise(regions)]
    if span[0] == span[1]:
        inner = [span[0]] * len(inner)
    return list(itertools.pairwise([span[0], *inner, span[1]]))


def _xy(lines):
    """Lines of points as one, with gaps between them."""
    points = [p for line in lines for p in (*line, (None, None))][:-1]
    return {"x": [x for x, _ in points], "y": [y for _, y in points]}
