"""What the temperature app says, as HTML."""

import html
import math
import re

from ase.units import kB

from mlipkit.apps.temperature_state import KINDS, LITTLE, title

SEES = dict(
    zip(KINDS, ("with electrons", "without electrons", "as a charge-blind potential sees it"))
)


def plain(state):
    """`line` without markup."""
    return html.unescape(re.sub("<[^>]+>", "", line(state)))


def line(state):
    """What is seen, in one line."""
    name = f"{html.escape(title(state.architecture))}, " if state.architecture else ""
    head = f"<b>{name}{SEES[state.kind]}, {state.temperature:g} K:</b>"
    return f"{head} {_phases(state)}; {_electrons(state)}. {_solution(state)}."


def _phases(state):
    """Two phases from where to where, and where there is one."""
    two = [f"{r.x_low:.2f} to {r.x_high:.2f}" for r in state.gaps.itertuples()]
    if not two:
        return "one phase at every x"
    first, last = float(state.diagram.x[0]), float(state.diagram.x[-1])
    one = []
    for low, high in state.phases:
        if low == high:  # an end member is a phase, which goes without saying
            one += [f"at x = {low:.2f}"] * (first < low < last)
        elif low == first:
            one.append(f"up to x = {high:.2f}")
        elif high == last:
            one.append(f"from x = {low:.2f} on")
        else:
            one.append(f"for x = {low:.2f} to {high:.2f}")
    alone = f", one phase {_joined(one)}" if one else ""
    return f"two phases for x = {_joined(two)}{alone}"


def _electrons(state):
    if not state.diagram.aware:
        if state.kind == "charge-blind":
            return "one energy for each arrangement of ions, no entropy of electrons"
        return "the entropy of the electrons is left out"
    part, whole = (s / kB for s in state.share)
    at = f"at x = {state.diagram.x[state.middle]:.2f}"
    if not whole > LITTLE:
        return f"{at} there is next to no entropy"
    share = min(part / whole, 1)  # both have their noise
    return (
        f"{at} the electrons have {share:.0%} of the entropy ({part:.2f} of {whole:.2f} k "
        "per formula unit)"
    )


def _solution(state):
    """From which temperature on all mixes, by each architecture."""
    said = _from(state, state.architecture)
    others = [a for a in state.diagrams if a != state.architecture]
    others = [(a, state.solution_from(a)) for a in others]
    spread = [f"{html.escape(title(a))} {_above(state, a, v)}" for a, v in others if v is not None]
    return said + (f" ({', '.join(spread)})" if spread else "")


def _from(state, architecture):
    value = state.solution_from(architecture)
    if math.isnan(value):
        return f"No solid solution throughout up to {state.temperatures[-1]:g} K"
    return f"One phase at every x from {value:g} K on"


def _above(state, architecture, value):
    if math.isnan(value):
        hottest = state.diagrams[architecture][state.kind].temperatures[-1]
        return f"above {hottest:g} K"
    return f"{value:g} K"


def _joined(parts):
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def table(state):
    """The two-phase regions at the chosen temperature, with their errors."""
    rows = "".join(
        f"<tr><td>{r.x_low:.2f} ± {r.error_low:.2f}</td><td>{r.x_high:.2f} ± {r.error_high:.2f}"
        f"</td><td>{r.depth:.1f}</td></tr>"
        for r in state.gaps.itertuples()
    )
    if not rows:
        return ""
    names = "x of one phase", "x of the other", "gain (meV/f.u.)"
    head = "".join(f'<th scope="col">{name}</th>' for name in names)
    said = f"<caption>Two phases at {state.temperature:g} K</caption>"
    return f'<table class="mlipkit-ions">{said}<tr>{head}</tr>{rows}</table>'


def cell(state):
    """Of what the picture is."""
    d = state.diagram
    said = f"a cell of {d.n_units} formula units at {state.temperature:g} K, x = {state.x:.2f}"
    said += f": {state.compound.mobile} and metals only"
    return f"{said}; states unknown to it" if not d.aware else said


def file_name(state):
    """Of a picture of the cell."""
    return f"{state.compound.formula}_{state.temperature:g}K_x{state.x:.2f}"


def at_point(regions, x, temperature):
    """What is there at a point of the phase diagram; `regions` are the rows of its table there."""
    said = f"{temperature:g} K, x = {x:.2f}: "
    for r in regions:
        if r.x_low < x < r.x_high:
            share = (x - r.x_low) / (r.x_high - r.x_low)
            return (
                f"{said}two phases<br>x = {r.x_low:.2f} ({1 - share:.0%}) and {r.x_high:.2f} "
                f"({share:.0%})"
            )
    return f"{said}one phase"
