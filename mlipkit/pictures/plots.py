"""Figures: data in, plotly figure out. Nothing here knows a widget. Colours, layout and export are
in `mlipkit.pictures.figures`.
"""

import re

import numpy as np
import plotly.graph_objects as go
from ase.units import kB
from plotly.subplots import make_subplots

from mlipkit import arguments
from mlipkit.charges.compounds import compound_of, listed
from mlipkit.charges.references import redox_metals, references_of
from mlipkit.files import InputError
from mlipkit.frames.labels import required_label
from mlipkit.orderings.names import arrangement as of_ordering
from mlipkit.orderings.names import described
from mlipkit.pictures.figures import (  # noqa: F401 - mlipkit.pictures.plots gives them all
    ARCHITECTURES,
    CLEAR,
    CLOSE_UP,
    INK,
    LAYOUT,
    LEVELS,
    OTHERS,
    SERIES,
    VALENCE,
    beside,
    choose,
    export,
    padded,
    parted,
    ring,
    series_size,
    series_styles,
    spread,
    title,
)

# of the range of energies: what stands nearer than this would be drawn on each other
SIDE_BY_SIDE = 0.03
NOISE = "rgba(128, 128, 128, 0.4)"
GROUPS = {
    "x": "composition",
    "ordering": "charge ordering",
    "site": "site",
    "seen": "frames of the new compound seen",
}

# Figures hold lists: a FigureWidget sends an array as a binary buffer, and one that JupyterLab
# draws late (its cell was out of sight) then comes out empty.


def parity(
    label,
    predicted,
    text=None,
    held_out=None,
    quantity="formation energy (eV/f.u.)",
    colour_by="kind",
):
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
    colour_by : str
        ``"kind"`` (blind, aware, pretrained) or, for models such as ``mace_aware`` of several
        kinds, ``"architecture"``; the symbol always says the kind.

    Returns
    -------
    plotly.graph_objects.Figure
        One trace per model, named after it, and last the diagonal.
    """
    label = arguments.values(label, "plots.parity: label", finite=False)
    arguments.mapping(predicted, "plots.parity: predicted", '{"blind": [...], "aware": [...]}')
    predicted = {
        name: arguments.values(given, f"plots.parity: predicted[{name!r}]", len(label), False)
        for name, given in predicted.items()
    }
    ends = padded(np.concatenate([label, *predicted.values()]))
    figure, styles = go.Figure(), series_styles(predicted)
    for name, values in predicted.items():
        colour, symbol, _ = styles[name]
        if colour_by == "architecture" and not name.endswith("pretrained"):
            colour = ARCHITECTURES.get(parted(name)[0], OTHERS[0][0])
        symbols = (
            symbol
            if held_out is None
            else [symbol if full else f"{symbol}-open" for full in held_out]
        )
        figure.add_scatter(
            x=_known(label),
            y=_known(values),
            text=text,
            name=title(name),
            mode="markers",
            marker={
                "size": 9,
                "color": colour,
                "symbol": symbols,
                "line": {"width": 1.5, "color": colour},
            },
            hovertemplate="%{text}<br>DFT %{x:.3f}<br>" + title(name) + " %{y:.3f}<extra></extra>",
        )
    figure.add_scatter(
        x=ends,
        y=ends,
        mode="lines",
        line={"color": INK, "dash": "dash", "width": 2},
        hoverinfo="skip",
        showlegend=False,
        name="",
    )
    figure.update_layout(LAYOUT, xaxis_title=f"DFT {quantity}", yaxis_title=f"model {quantity}")
    figure.update_xaxes(range=ends)
    figure.update_yaxes(range=ends)
    return figure


def _known(values):
    """Numbers as a list; JSON knows no NaN."""
    return [None if np.isnan(v) else float(v) for v in values]


def _draw_noise(figure, noise, quantity):
    """A grey band from zero up: errors within it say nothing about a model."""
    if not noise:
        return
    figure.add_hrect(0, noise, fillcolor=NOISE, line_width=0, layer="below")
    figure.add_annotation(
        text=f"grey: noise of the labels, {noise:g} {quantity.partition('(')[2].removesuffix(')')}",
        xref="paper",
        yref="paper",
        x=1,
        y=1,
        xanchor="right",
        yanchor="bottom",
        yshift=28,  # above the legend, which reaches far to the right in a narrow figure
        showarrow=False,
    )
    figure.update_layout(margin_t=66, legend_y=1)


def _by_method(tables, what, columns, made_by):
    """Tables by method; one table is DFT's."""
    tables = tables if isinstance(tables, dict) else {"DFT": tables}
    for table in tables.values():
        arguments.table(table, f"{what}: each", columns, made_by)
    if not tables:
        raise InputError(f'{what} takes tables by method, such as {{"DFT": {made_by}}}')
    return tables


def hull(tables):
    """Formation energies and convex hulls of several methods in one figure.

    Parameters
    ----------
    tables : dict of pandas.DataFrame, or one
        ``{"DFT": ..., "blind": ...}``, each as `mlipkit.hull` returns it; a single table is taken
        for DFT's.

    Returns
    -------
    plotly.graph_objects.Figure
        Two traces per method, both named after it: the points, and the line through its hull
        vertices. Symbols and dash patterns tell DFT, blind and aware apart without colour.
        Orderings of one energy stand side by side, and ``customdata`` has their x. The y axis spans
        what is shown; a button zooms to the hull.
    """
    columns = "x", "ordering", "formation_energy", "on_hull"
    figure, tables = go.Figure(), _by_method(tables, "plots.hull", columns, "mk.hull(frames)")
    energies = np.concatenate([table["formation_energy"] for table in tables.values()])
    near = SIDE_BY_SIDE * (np.nanmax(energies) - np.nanmin(energies) or 1)
    shown, styles = [], series_styles(tables)
    for name, table in tables.items():
        (colour, symbol, dash), (size, width) = styles[name], series_size(name)
        shown.append(spread(table["x"], table["formation_energy"], near))
        vertices = table[table["on_hull"]].drop_duplicates("x").sort_values("x")
        points, line = (
            {c: t[c].tolist() for c in ("x", "formation_energy", "ordering")}
            for t in (table, vertices)
        )
        # not everywhere has DFT a state that keeps its charges; JSON knows no NaN
        points["formation_energy"] = _known(points["formation_energy"])
        figure.add_scatter(
            x=shown[-1].tolist(),
            y=points["formation_energy"],
            text=points["ordering"],
            customdata=points["x"],
            mode="markers",
            name=title(name),
            legendgroup=name,
            marker={"color": colour, "symbol": symbol, "size": size},
            hovertemplate="%{text}<br>x = %{customdata:.2f}<br>%{y:.4f} eV/f.u.<extra>"
            + title(name)
            + "</extra>",
        )
        figure.add_scatter(
            x=line["x"],
            y=line["formation_energy"],
            mode="lines",
            name=title(name),
            legendgroup=name,
            showlegend=False,
            hoverinfo="skip",
            line={"color": colour, "width": width, "dash": dash},
        )
    figure.update_layout(
        LAYOUT,
        xaxis_title=_x_title(tables),
        yaxis_title="formation energy (eV/f.u.)",
    )
    _x_axis(figure, np.concatenate([t["x"] for t in tables.values()]), np.concatenate(shown))
    top = min(CLOSE_UP, 1.1 * np.nanmax(energies) + 0.001)
    close = [1.15 * np.nanmin(energies) - 0.1 * top, top]
    near = {"yaxis.range": close, "yaxis.autorange": False}
    buttons = [
        {"label": says, "method": "relayout", "args": [axis]}
        for says, axis in (("all", {"yaxis.autorange": True}), ("zoom to the hull", near))
    ]
    figure.update_layout(
        updatemenus=[
            {
                "type": "buttons",
                "direction": "right",
                "buttons": buttons,
                "x": 1,
                "xanchor": "right",
                "y": 0,
                "yanchor": "top",
                "pad": {"t": 30},  # under the numbers, beside the title of the axis
                "bgcolor": CLEAR,
                "bordercolor": INK,
            }
        ]
    )
    return figure


def _said(tables, key, default):
    """What tables of one compound say of it in their ``attrs``."""
    known = {table.attrs[key] for table in tables.values() if table.attrs.get(key)}
    return known.pop() if len(known) == 1 else default


def _x_title(tables):
    compound = _said(tables, "compound", None)
    return f"x in {compound}" if compound else "x"


def _x_axis(figure, values, shown=None):
    """The range of what is shown with a margin, a tick at each composition where they are few."""
    values = sorted({round(float(v), 6) for v in values})
    margin = 0.05 * (values[-1] - values[0] or 1)
    shown = values if shown is None else shown
    figure.update_xaxes(range=[float(min(shown)) - margin, float(max(shown)) + margin])
    if len(values) <= 9:
        figure.update_xaxes(tickvals=values, ticktext=[f"{v:.3g}" for v in values])


def voltage(profiles):
    """Voltage over composition, a staircase per method.

    Parameters
    ----------
    profiles : dict of pandas.DataFrame, or one
        ``{"DFT": ..., "mace_blind": ...}``, each as `mlipkit.voltage_profile` returns it; a single
        one is taken for DFT's.

    Returns
    -------
    plotly.graph_objects.Figure
        A trace per method, named after it: both ends of each step; on hover the orderings between
        which the step lies.
    """
    figure, columns = go.Figure(), ("x1", "x2", "voltage", "mean_voltage", "ordering1", "ordering2")
    tables = _by_method(profiles, "plots.voltage", columns, "mk.voltage_profile(frames)")
    styles = series_styles(tables)
    for name, table in tables.items():
        (colour, symbol, dash), (size, width) = styles[name], series_size(name)
        ends = [(step, step[end]) for step in table.to_dict("records") for end in ("x1", "x2")]
        figure.add_scatter(
            x=[x for _, x in ends],
            y=[s["voltage"] for s, _ in ends],
            name=title(name),
            text=[
                f"{s['ordering1']} to {s['ordering2']}, mean of all {s['mean_voltage']:.3f} V"
                for s, _ in ends
            ],
            mode="lines+markers",
            line={"color": colour, "width": width, "dash": dash},
            marker={"color": colour, "symbol": symbol, "size": size},
            hovertemplate="%{y:.3f} V<br>%{text}<extra>" + title(name) + "</extra>",
        )
    figure.update_layout(
        LAYOUT,
        xaxis_title=_x_title(tables),
        yaxis_title=f"voltage against {_said(tables, 'mobile', 'the metal')} (V)",
    )
    _x_axis(figure, np.concatenate([np.r_[t["x1"], t["x2"]] for t in tables.values()]))
    return figure


def _ideal_mixing(table):
    """x and the entropy of free mixing (k): a smooth curve where one metal mixes two states."""
    rows = table["entropy_ideal"].groupby("x").first() / kB
    x = np.linspace(0, 1, 101)[1:-1]  # the ends by hand: x ln x goes to 0 there
    smooth = [0, *(-x * np.log(x) - (1 - x) * np.log(1 - x)).tolist(), 0]
    x = [0, *x.tolist(), 1]
    if np.allclose(np.interp(rows.index, x, smooth), rows, atol=1e-3):
        return x, smooth
    return rows.index.tolist(), rows.tolist()


def entropy(table, part="entropy_electronic"):
    """Entropy over composition, a line per temperature, with the limit of ideal mixing.

    Parameters
    ----------
    table : pandas.DataFrame
        As `mlipkit.entropy_table` returns it (eV/K).
    part : str
        Its column: ``"entropy"``, ``"entropy_ion"`` or ``"entropy_electronic"``.

    Returns
    -------
    plotly.graph_objects.Figure
        In k per formula unit; a trace per temperature, and ``ideal mixing``.
    """
    arguments.table(
        table, "plots.entropy: table", ("x", "temperature", part), "mk.entropy_table(frames)"
    )
    figure = go.Figure()
    for (t, rows), (colour, symbol) in zip(table.groupby("temperature"), LEVELS):
        figure.add_scatter(
            x=rows.index.get_level_values("x").tolist(),
            y=(rows[part] / kB).tolist(),
            name=f"{t:g} K",
            mode="lines+markers",
            line={"color": colour, "width": 2, "dash": "dot"},
            marker={"color": colour, "symbol": symbol, "size": 9},
            hovertemplate=f"x = %{{x:.2f}}: %{{y:.3f}} k<extra>{t:g} K</extra>",
        )
    x, ideal = _ideal_mixing(table)
    figure.add_scatter(
        x=x,
        y=ideal,
        name="ideal mixing",
        mode="lines",
        line={"color": INK, "width": 2},
    )
    figure.update_layout(
        LAYOUT,
        xaxis_title=_x_title({"": table}),
        yaxis_title="entropy (k per formula unit)",
    )
    return figure


def error_by(table, quantity="energy", noise=None):
    """Errors of several models, a bar for each composition, ordering, site or share of data.

    Parameters
    ----------
    table : pandas.DataFrame
        As `mlipkit.error_by` or `mlipkit.load_transfer` returns it; with ``energy_low`` and
        ``energy_high`` the bars get their intervals.
    quantity : str
        A column of it: ``"energy"``, ``"forces"``, ``"magmoms"``, ``"valence_right"`` or
        ``"formation_energy"``.
    noise : float, optional
        How far the labels themselves may be off, in the unit of the axis: drawn as a band, within
        which no model is to be praised.

    Returns
    -------
    plotly.graph_objects.Figure
        A trace per model, named after it; blind models are hatched.
    """
    arguments.table(table, "plots.error_by: table", (quantity,), "mk.error_by(frames, predictions)")
    if table.index.nlevels < 2:
        raise InputError(
            "plots.error_by: table is that of mk.error_by, of models and groups; this one has no "
            "groups"
        )
    arguments.number(noise, "plots.error_by: noise", least=0, none=True)
    figure, by = go.Figure(), table.index.names[1]
    for name in table.index.unique(0):
        rows = table.loc[name]
        bars = {}
        if f"{quantity}_low" in rows:  # a group of one ordering has no interval: no line
            up, down = (
                rows[f"{quantity}_high"] - rows[quantity],
                rows[quantity] - rows[f"{quantity}_low"],
            )
            bars = {
                "type": "data",
                "symmetric": False,
                "color": INK,
                "thickness": 2,
                "width": 4,
                "array": up.fillna(0).tolist(),
                "arrayminus": down.fillna(0).tolist(),
            }
        figure.add_bar(
            x=[f"x = {v:g}" if by == "x" else str(v) for v in rows.index],
            y=rows[quantity].tolist(),
            name=title(name),
            error_y=bars,
            marker=_bar_style(name),
            hovertemplate="%{x}<br>%{y:.3f}<extra>" + title(name) + "</extra>",
        )
    titles = {
        "energy": "energy MAE (meV/atom)",
        "forces": "force MAE (meV/Å)",
        "magmoms": "moment MAE (µB)",
        "valence_right": "valence right (% of sites)",
        "formation_energy": "formation energy MAE (meV per formula unit)",
    }
    figure.update_layout(LAYOUT, yaxis_title=titles[quantity], barmode="group")
    figure.update_xaxes(title_text=GROUPS.get(by, by))
    _draw_noise(figure, noise, titles[quantity])
    if by == "ordering":
        _name_orderings(figure, table.index.unique(1))
    return figure


def _name_orderings(figure, names):
    """Orderings along the x axis, in words."""
    names = sorted(names)
    figure.update_xaxes(
        title_text=GROUPS["ordering"],
        type="category",
        categoryorder="array",
        categoryarray=names,
        tickvals=names,
        ticktext=[_brief(name) for name in names],
        tickangle=-45,
    )
    figure.update_layout(height=560)  # the names take a third of it


def _brief(ordering):
    """``x = 0.5, Na 0/1, Fe3+ 0/2`` of ``x050_na01_fe02``."""
    return re.sub(r"(?<=\d)(, | and )(?=\d)", "/", described(ordering)).replace(" on ", " ")


def _bar_style(name):
    return {
        "color": ARCHITECTURES.get(parted(name)[0], OTHERS[0][0]),
        "pattern": {"shape": "/" if name.endswith("blind") else ""},
    }


def by_composition(tables, quantity, noise=None):
    """A quantity of several models over the composition.

    Parameters
    ----------
    tables : dict of dict
        ``{x: {model: value}}``.
    quantity : str
        With unit, for the axis.
    noise : float, optional
        As for `error_by`.

    Returns
    -------
    plotly.graph_objects.Figure
        A group of bars per composition; blind models are hatched.
    """
    arguments.number(noise, "plots.by_composition: noise", least=0, none=True)
    figure, models = go.Figure(), list(next(iter(tables.values())))
    for name in models:
        figure.add_bar(
            x=[f"x = {x:g}" for x in tables],
            y=[float(row[name]) for row in tables.values()],
            name=title(name),
            marker=_bar_style(name),
        )
    figure.update_layout(LAYOUT, xaxis_title=GROUPS["x"], yaxis_title=quantity, barmode="group")
    _draw_noise(figure, noise, quantity)
    return figure


def ladder(frames, energies, arrangement):
    """The orderings of one arrangement of ions as levels, each method from its own lowest.

    Parameters
    ----------
    frames : list of ase.Atoms
        One per ordering, with energy labels and ``info["ordering"]``.
    energies : dict of array_like, shape (n_frames,)
        eV per cell, by model.
    arrangement : str
        The arrangement to show, such as ``"x050_na01"`` (a name without its charges).

    Returns
    -------
    plotly.graph_objects.Figure
        A trace per ordering, named after its charges (``text`` has the ordering's name): its level
        with every method, meV per formula unit.
    """
    frames = listed(frames, "plots.ladder takes")
    arguments.mapping(energies, "plots.ladder: energies", '{"aware": [...]}')
    energies = {
        name: arguments.values(given, f"plots.ladder: energies[{name!r}]", len(frames), False)
        for name, given in energies.items()
    }
    if unnamed := [i for i, a in enumerate(frames) if "ordering" not in a.info]:
        raise InputError(
            f"plots.ladder: frame {unnamed[0]} has no info['ordering']; mk.name_orderings(frames) "
            "writes it"
        )
    here = [i for i, a in enumerate(frames) if of_ordering(a.info["ordering"]) == arrangement]
    if not here:
        there = sorted({of_ordering(a.info["ordering"]) for a in frames})
        raise InputError(
            f"plots.ladder: no frame has the arrangement {arrangement!r}; there is "
            f"{', '.join(there[:20])}"
        )
    columns = {"DFT": [required_label(frames[i], "energy", "plots.ladder") for i in here]}
    columns |= {
        title(model).replace(", ", "<br>"): [e[i] for i in here] for model, e in energies.items()
    }
    where = described(arrangement)
    figure, one = go.Figure(), [frames[i] for i in here]
    units = compound_of(one).units(one[0])
    for k, i in enumerate(here):
        levels = [1e3 * float(e[k] - min(e)) / units for e in columns.values()]
        colour, symbol = LEVELS[k % len(LEVELS)]
        figure.add_scatter(
            x=list(columns),
            y=levels,
            name=described(frames[i].info["ordering"]).removeprefix(f"{where}, "),
            text=[frames[i].info["ordering"]] * len(columns),
            mode="lines+markers",
            marker={"size": 11, "color": colour, "symbol": symbol},
            line={"color": colour, "width": 2, "dash": "dot"},
            hovertemplate="%{text}<br>%{y:.1f} meV/f.u.<extra></extra>",
        )
    figure.update_layout(
        LAYOUT,
        xaxis_title=f"energies by, for {where}",
        yaxis_title="above the lowest (meV/f.u.)",
    )
    return figure


def verdict(table):
    """What models claim for the structures that they relaxed, and what DFT finds there.

    Parameters
    ----------
    table : pandas.DataFrame
        As `mlipkit.verdict_table` returns it.

    Returns
    -------
    plotly.graph_objects.Figure
        Over the orderings asked for, meV per formula unit above the structure that DFT relaxed for
        each (the line at 0). Three traces per model, named after it: ``claims``, full; ``DFT,
        charges as asked``, open; ``DFT, charges as the model has them``, a dash. An ordering
        without the second: the charges asked for do not stay on that structure. Models stand side
        by side; the legend has each of them, and each kind of mark.
    """
    columns = "model", "ordering", "claimed", "as_asked", "as_found"
    arguments.table(table, "plots.verdict: table", columns, "mk.verdict_table()")
    figure = go.Figure()
    kinds = (
        ("claimed", "claims", ""),
        ("as_asked", "DFT, charges as asked", "-open"),
        ("as_found", "DFT, charges as the model has them", None),
    )
    styles = series_styles(table["model"].unique())
    for model, rows in table.groupby("model"):
        colour, symbol, _ = styles[model]
        nothing = {"x": [None], "y": [None], "mode": "markers", "legendgroup": model}
        figure.add_scatter(
            **nothing, name=title(model), marker={"color": colour, "symbol": symbol, "size": 11}
        )
        for column, says, style in kinds:
            known = rows[rows[column].notna()]
            figure.add_scatter(
                x=known["ordering"].tolist(),
                y=known[column].tolist(),
                name=f"{title(model)}: {says}",
                mode="markers",
                legendgroup=model,
                offsetgroup=model,
                showlegend=False,
                text=known["verdict"].tolist(),
                marker={
                    "color": colour,
                    "size": 11 if style is not None else 16,
                    "line": {"width": 2, "color": colour},
                    "symbol": "line-ew-open" if style is None else symbol + style,
                },
                hovertemplate="%{x}<br>%{y:.1f} meV/f.u.; seeded as asked: %{text}<extra>"
                + says
                + "</extra>",
            )
    for says, symbol in (
        ("model's claim", "circle"),
        (kinds[1][1], "circle-open"),
        (kinds[2][1], "line-ew-open"),
    ):
        mark = {"color": INK, "symbol": symbol, "size": 11, "line": {"width": 2, "color": INK}}
        figure.add_scatter(x=[None], y=[None], mode="markers", name=says, marker=mark)
    figure.add_hline(y=0, line={"color": SERIES["DFT"][0], "width": 2}, opacity=1)
    figure.update_layout(LAYOUT, yaxis_title="above DFT's own structure (meV/f.u.)")
    figure.update_layout(scattermode="group", scattergap=0.4)
    _name_orderings(figure, table["ordering"].unique())
    return figure


def learning_curve(history):
    """Training and validation loss (dimensionless) by epoch.

    Parameters
    ----------
    history : list of dict
        As `mlipkit.train` returns it.

    Returns
    -------
    plotly.graph_objects.Figure
        Traces ``train`` and ``validation``; logarithmic in the loss.
    """
    what = "plots.learning_curve: history"
    history = arguments.entries(history, what, "what mk.train returns beside the model")
    if not all(isinstance(h, dict) and {"epoch", "train", "validation"} <= {*h} for h in history):
        raise InputError(f"{what} is what mk.train returns beside the model, a dict for each epoch")
    figure = go.Figure()
    for name, colour, dash in (
        ("train", LEVELS[0][0], "dot"),
        ("validation", LEVELS[1][0], "solid"),
    ):
        figure.add_scatter(
            x=[h["epoch"] + 1 for h in history],
            y=[h[name] for h in history],
            name=name,
            mode="lines+markers",
            line={"color": colour, "dash": dash, "width": 2},
            marker={"size": 6},
            hovertemplate="epoch %{x}: %{y:.3g}<extra>" + name + "</extra>",
        )
    figure.update_layout(
        LAYOUT, xaxis_title="epoch", yaxis_title="loss (errors over their scales)", height=320
    )
    # plotly's own labels between powers of ten are single digits, a 2 for 20
    figure.update_yaxes(
        type="log",
        tickvals=[factor * 10.0**power for power in range(-4, 5) for factor in (1, 2, 5)],
        tickformat="~g",
    )
    return figure


def thresholds(curves, chosen):
    """Share of cells that a threshold on the moments balances, over the threshold.

    Parameters
    ----------
    curves : dict of (array_like, array_like)
        Thresholds (µB) and shares (%) by name.
    chosen : float
        The threshold that is marked.

    Returns
    -------
    plotly.graph_objects.Figure
    """
    figure = go.Figure()
    for (name, (x, y)), colour, dash in zip(
        curves.items(), [colour for colour, _ in LEVELS], ("solid", "dash", "dot")
    ):
        figure.add_scatter(
            x=[float(v) for v in x],
            y=list(y),
            name=name,
            mode="lines",
            line={"color": colour, "dash": dash, "width": 3, "shape": "hv"},
        )
    figure.add_vline(x=chosen, line={"color": INK, "width": 3}, opacity=1)
    figure.update_layout(
        LAYOUT,
        xaxis_title="threshold: a site with more than this is called 3+ (µB)",
        yaxis_title="cells that balance (%)",
    )
    figure.update_yaxes(range=[-4, 104])
    return figure


def moments(frames, references=None):
    """Histogram of the moments on the redox sites of frames, by oxidation state, with the
    references drawn in.

    Parameters
    ----------
    frames : list of ase.Atoms
        With moments and ``arrays["oxi_states"]``.
    references : iterable of mlipkit.Reference, optional
        By default those that `mlipkit.infer_oxidation_states` takes; a dashed line each, the band
        is the spread.

    Returns
    -------
    plotly.graph_objects.Figure
    """
    frames = listed(frames, "plots.moments takes")
    references = references_of(frames[0], "magmom", references)
    values = {}
    for i, atoms in enumerate(frames):
        there = {r.element for r in references} & set(atoms.get_chemical_symbols())
        there |= {*redox_metals(atoms)}
        if there and "oxi_states" not in atoms.arrays:
            raise InputError(
                f"plots.moments: frame {i} ({atoms.get_chemical_formula()}) has no "
                "arrays['oxi_states']; mk.name_orderings(frames) writes them"
            )
        magmoms = np.abs(required_label(atoms, "magmoms", "plots.moments"))
        for element in sorted(there):
            for state in np.unique(atoms.arrays["oxi_states"][atoms.symbols == element]):
                here = (atoms.symbols == element) & (atoms.arrays["oxi_states"] == state)
                values.setdefault((element, int(state)), []).extend(magmoms[here])
    if not values:
        known = ", ".join(sorted({r.element for r in references}))
        raise InputError(
            f"plots.moments: these frames hold no ion of {known}; give references= for theirs, "
            "such as {('Pr', 3): 2.0, ('Pr', 4): 1.0} (µB)"
        )
    low, high = min(map(min, values.values())), max(map(max, values.values()))
    figure = go.Figure()
    for (element, state), found in sorted(values.items()):
        figure.add_histogram(
            x=found,
            name=f"{element}<sup>{state}+</sup>",
            xbins={"size": 0.02},
            marker={
                "color": VALENCE.get(state, "#777777"),
                "pattern": {"shape": "/" if state == 3 else ""},
            },
        )
    near = [
        r for r in references if (r.element, r.state) in values and low - 0.3 < r.value < high + 0.3
    ]
    for r in near:
        colour = VALENCE.get(r.state, "#777777")
        figure.add_vrect(
            x0=r.value - r.spread,
            x1=r.value + r.spread,
            fillcolor=colour,
            opacity=0.15,
            line_width=0,
        )
        figure.add_vline(
            x=r.value,
            line={"color": colour, "dash": "dash", "width": 2},
            opacity=1,
            annotation_text=f"{r.element}{r.state}+ {r.value:.2f}",
            annotation_position="top",
        )
    figure.update_layout(
        LAYOUT,
        barmode="overlay",
        xaxis_title="|magnetic moment| (µB)",
        yaxis_title="number of sites",
    )
    figure.update_layout(
        margin_t=64,  # the names of the references, and over them the legend
        legend_y=1.1,
    )
    edges = [low, high, *(r.value - r.spread for r in near), *(r.value + r.spread for r in near)]
    figure.update_xaxes(range=[min(edges) - 0.05, max(edges) + 0.05])
    return figure


DASHES = ("solid", "dash", "dot", "dashdot", "longdash")


def timeline(relaxation, step=None):
    """The course of a relaxation: moments of the redox-active sites and energy by step, changes of
    valence marked.

    Parameters
    ----------
    relaxation : mlipkit.Relaxation
    step : int, optional
        Where the vertical line is drawn, by default at the last step.

    Returns
    -------
    plotly.graph_objects.Figure
        A trace per site (``Fe 2``; it has a symbol and a dash of its own), ``flip`` (when there are
        any) and ``energy``, the latter on axes ``x2``, ``y2`` below, meV per redox-active site
        above the lowest. A model without moments shows its energy alone.
    """
    if not hasattr(relaxation, "redox_sites"):
        raise InputError(
            "plots.timeline takes a Relaxation, as mk.relax(atoms, model) gives it, not "
            f"{arguments.shown(relaxation)}"
        )
    steps, energies, moments, flips = (
        list(range(len(relaxation.frames))),
        relaxation.energies,
        relaxation.magmoms,
        relaxation.flips,
    )
    sites = {int(i): f"{relaxation.atoms.symbols[i]} {i}" for i in relaxation.redox_sites}
    figure = make_subplots(2, 1, shared_xaxes=True, vertical_spacing=0.06, row_heights=[0.62, 0.38])
    for k, (i, name) in enumerate(sites.items() if moments is not None else []):
        colour, symbol = LEVELS[k % len(LEVELS)]
        figure.add_scatter(
            x=steps,
            y=np.abs(moments[:, i]).tolist(),
            name=name,
            mode="lines+markers",
            text=relaxation.states[:, i].tolist(),
            line={"color": colour, "dash": DASHES[k % len(DASHES)], "width": 2},
            marker={"symbol": symbol, "size": 7, "maxdisplayed": 25},
            hovertemplate="step %{x}<br>%{y:.2f} µB: %{text}+<extra>" + name + "</extra>",
            row=1,
            col=1,
        )
    if len(flips):
        height = [float(abs(moments[f.step, f.site])) for f in flips.itertuples()]
        text = [f"{sites[f.site]}: {f.before}+ to {f.after}+" for f in flips.itertuples()]
        figure.add_scatter(
            x=flips["step"].tolist(),
            y=height,
            name="flip",
            mode="markers",
            text=text,
            marker={"symbol": "circle-open", "size": 17, "color": INK, "line": {"width": 2}},
            hovertemplate="step %{x}<br>%{text}<extra>flip</extra>",
            row=1,
            col=1,
        )
    figure.add_scatter(
        x=steps,
        y=(1e3 * (energies - energies.min()) / max(1, len(sites))).tolist(),
        name="energy",
        mode="lines+markers",
        line={"color": INK, "width": 2},
        marker={"size": 4},
        showlegend=False,
        hovertemplate="step %{x}<br>%{y:.1f} meV<extra>energy</extra>",
        row=2,
        col=1,
    )
    step = steps[-1] if step is None else step
    figure.add_shape(
        type="line",
        xref="x2",
        yref="paper",
        x0=step,
        x1=step,
        y0=0,
        y1=1,
        opacity=1,
        line={"color": INK, "dash": "dash", "width": 2},
    )
    figure.update_layout(LAYOUT, height=420)
    margin = 0.3 + 0.02 * len(steps)
    figure.update_xaxes(range=[-margin, len(steps) - 1 + margin])
    figure.update_xaxes(title_text="step", row=2, col=1)
    figure.update_yaxes(title_text="|moment| (µB)", row=1, col=1)
    figure.update_yaxes(title_text="energy<br>(meV per site)", row=2, col=1)
    return figure
