"""Hull, energy ladder and parity plot of the explorer in one figure."""

import itertools
from string import ascii_lowercase

import numpy as np
import plotly.graph_objects as go

from mlipkit.orderings.names import arrangement, described
from mlipkit.pictures import plots
from mlipkit.pictures.figures import CLOSE_UP, LEVELS, MODEBAR

HEIGHT = 340  # px
MOVED = "#D6278B"
APART = 5  # from ladder to ladder on their axis; a label must not reach the next one
NEAR_LABEL = 0.08  # of the height of a ladder: levels that are nearer share a line of text
WIDTHS = {"hull": 0.38, "ladder": 0.27, "parity": 0.35}


def panels(state, geometry):
    """The plots on a geometry, one figure, and ``{plot: number of its axes}``.

    There is no hull of one composition and no parity plot without a model and DFT. All models are
    there, hidden, and all arrangements, outside the range of the axes: new data would take several
    times as long. The traces of another geometry are as many and in the same order; each says in
    ``meta`` which one it shows.
    """
    hulls = state.hulls_on[geometry]
    energies = {
        name: [None if np.isnan(e) else e for e in table["formation_energy"]]
        for name, table in hulls.items()
    }
    models = {name: energies[name] for name in hulls if name != "DFT"}
    dft = state.hulls_on["dft"]["DFT"]["formation_energy"].notna().any()
    parts = {}
    if len(state.compositions) > 1:
        parts["hull"] = plots.hull(hulls)
    parts["ladder"] = _ladders(state, geometry)
    if models and dft:
        what = "formation energy" if "hull" in parts else "energy above the lowest"
        what = f"{what} (eV/f.u.)"
        parts["parity"] = plots.parity(energies["DFT"], models, state.names, state.held_out, what)
        parts["parity"].update_traces(selector={"name": ""}, x=[-1, 1], y=[-1, 1])
    widths = [WIDTHS[name] for name in parts]
    figure = plots.beside(*parts.values(), widths=[w / sum(widths) for w in widths], spacing=0.085)
    figure.update_traces(meta=geometry)
    figure.update_layout(height=HEIGHT, autosize=True, updatemenus=[])
    figure.update_layout(margin={"l": 60, "r": MODEBAR, "t": 34, "b": 46})
    # else plotly measures the labels and lays everything out twice
    small = {"size": 13}
    figure.update_xaxes(automargin=False, title_standoff=6, title_font=small)
    figure.update_yaxes(automargin=False, title_standoff=4, title_font=small)
    return figure, {name: str(k) if k > 1 else "" for k, name in enumerate(parts, start=1)}


def _ladders(state, geometry):
    """The levels of all arrangements of mobile ions on a geometry side by side, DFT left of the
    model, a trace per model.
    """
    figure = go.Figure()
    groups = list(state.groups)
    for series in list(state.hulls_on[geometry])[1:] or ["DFT"]:
        x, y, text, says, colours, symbols = [], [], [], [], [], []
        for k, group in enumerate(groups):
            dft, model = (state.levels(name, geometry, group) for name in ("DFT", series))
            labels = _level_labels(model)
            for name, (colour, symbol) in zip(model, itertools.cycle(LEVELS)):
                # DFT alone stands where the model would
                x += [APART * k if dft and series != "DFT" else None, APART * k + 1, None]
                y += [dft.get(name), model[name], None]
                text, says = text + [name] * 3, [*says, "", f"  {labels.get(name, '')}", ""]
                colours, symbols = colours + [colour] * 3, symbols + [symbol] * 3
        figure.add_scatter(
            x=x,
            y=y,
            text=text,
            customdata=says,
            name=plots.title(series),
            mode="lines+markers+text",
            texttemplate="%{customdata}",
            textposition="middle right",
            textfont={"size": 13},
            line={"color": "#777777", "width": 2, "dash": "dot"},
            marker={"size": 11, "color": colours, "symbol": symbols},
            hovertemplate="%{text}<br>%{y:.1f} meV/f.u.<extra></extra>",
        )
    names = ["DFT", "model"] if state.data.models else ["", "DFT"]
    ticks = [APART * k + at for k in range(len(groups)) for at in (0, 1)]
    figure.update_xaxes(tickvals=ticks, ticktext=names * len(groups))
    figure.update_yaxes(title_text="above the lowest (meV/f.u.)")
    return figure


def _level_labels(levels):
    """A short text for the levels of an arrangement; those on one height share one."""
    step = NEAR_LABEL * (max(levels.values(), default=0) + 20)
    labels, last = {}, None
    for name, energy in sorted(levels.items(), key=lambda item: item[1]):
        short = name.removeprefix(arrangement(name)).strip("_").replace("_", " ")
        if last is not None and energy - levels[last] < step:
            labels[last] += f", {short.lstrip(ascii_lowercase)}"
        else:
            last, labels[name] = name, short
    most = 10  # letters; what is longer would run out of the plot in a narrow window
    return {n: t if len(t) <= most else f"{t[: most - 2]} …" for n, t in labels.items()}


def place(state):
    """Where on its axis the ladder of the chosen arrangement stands."""
    return APART * list(state.groups).index(arrangement(state.ordering))


def arrange(figure, axes, of_geometry, state, close_up=False):
    """Show the present choice in a figure of `panels`; `of_geometry` has the data of the chosen
    geometry.
    """
    s, shown = state, state.shown
    plots.choose(figure, shown)
    visible = {plots.title(name) for name in shown}
    for trace, other in zip(figure.data, of_geometry.data):
        # hidden ones wait until they are shown: new data takes its time
        if trace.name in visible and trace.meta != s.geometry:
            trace.update(x=other.x, y=other.y, meta=s.geometry)
            if other.customdata is not None:
                trace.customdata = other.customdata
    flip = s.change if np.isfinite(s.change) else 0.0
    here = {name: float(s.hulls[name]["formation_energy"].iloc[s.index]) for name in shown}
    levels = {name: s.levels(name) for name in shown}
    model, height = here[shown[-1]], levels[shown[-1]].get(s.ordering, np.nan)
    energies = np.concatenate(
        [s.hulls[name]["formation_energy"].dropna() for name in shown] + [[model + flip]]
    )
    energies = energies[np.isfinite(energies)]
    around = plots.padded(energies if len(energies) else np.zeros(1))
    rings, moved = [], []
    if "hull" in axes:
        n = axes["hull"]
        vertices = [t["formation_energy"][t["on_hull"]] for t in (s.hulls[v] for v in shown)]
        low = np.concatenate(vertices).min(initial=0.0)
        near = [1.25 * low - 0.005, CLOSE_UP]
        figure.layout[f"yaxis{n}"].range = near if close_up else around
        points = {t.name: t.x for t in of_geometry.data if t.xaxis == f"x{n}" and t.text}
        x = {name: points[plots.title(name)][s.index] for name in shown}  # moved aside, or not
        rings += [plots.ring(x[name], e, axes=n) for name, e in here.items()]
        moved += _moved(x[shown[-1]], model, flip, n)
    at, n = place(s), axes["ladder"]
    ends = [e for level in levels.values() for e in level.values()] or [0.0]
    if np.isfinite(height):
        ends = [*ends, height + 1e3 * flip]
    top = max(ends)
    figure.layout[f"xaxis{n}"].range = [at - 0.35 + (len(shown) == 1), at + 2.3]
    title = described(arrangement(s.ordering)) if len(s.compositions) > 1 else ""
    figure.layout[f"xaxis{n}"].title.text = title or s.data.compound.html
    figure.layout[f"yaxis{n}"].range = [min(0, *ends) - 0.1 * (top + 20), 1.1 * top + 10]
    places = {name: at + (k or len(shown) == 1) for k, name in enumerate(shown)}
    rings += [
        plots.ring(places[name], levels[name].get(s.ordering, np.nan), axes=n) for name in shown
    ]
    moved += _moved(at + 1, height, 1e3 * flip, n)
    if "parity" in axes:
        n = axes["parity"]
        figure.layout[f"xaxis{n}"].range = figure.layout[f"yaxis{n}"].range = around
        rings.append(plots.ring(here["DFT"], model, axes=n))
    figure.layout.shapes = [
        ring for ring in rings if np.isfinite([ring["xanchor"], ring["yanchor"]]).all()
    ] + (moved if s.flips and np.isfinite(s.change) and np.isfinite(model) else [])


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
        "line": {"color": MOVED, "width": 2},
        "opacity": 1,
    }
    return [{"type": "line", "x0": x, "x1": x, "y0": y, "y1": y + by, **axis}, dot]
