"""What the explorer says, as HTML: the story, the table of an ordering, what a flip did."""

import html

import numpy as np

from mlipkit.orderings.names import described
from mlipkit.pictures.figures import title

WHERE = {"relaxed": "relaxed by the model", "dft": "relaxed by DFT", "host": "undistorted host"}


def name_of(state):
    return html.escape(title(state.series)) if state.series else "DFT"


def story(state):
    """What the chosen model makes of all orderings on the chosen geometry, in words."""
    f = state.findings()
    if not state.series:
        return _story_of_dft(state, f)
    mixed, said = f["mixed"], []
    if f["kept"] is not None and mixed:
        kept = f"{f['kept']} of {mixed} mixed orderings"
        right = f["kept"] == mixed == f["clear"]
        unclear = "" if f["clear"] == mixed else f", moments clear in {f['clear']}"
        if state.geometry == "relaxed":
            said.append(judged(right, f"charges kept in {kept}{unclear}"))
        elif state.geometry == "dft":
            how = (
                "charges, which it was told, right in"
                if state.aware
                else "charges read right from DFT's bond lengths in"
            )
            said.append(judged(right, f"{how} {kept}{unclear}"))
    elif mixed:
        said.append("this model predicts no moments, so it tells no charges")
    if state.geometry != "dft" and f["mixed"]:
        said.append(_window(f, f["kept"] is not None))
    several = len(state.compositions) > 1
    said.append(_lowest(state.x if several else None, f))
    if state.geometry != "host" and len(state.compositions) > 2:
        said.append(_on_hull(f))
    where = WHERE[state.geometry]
    where = f"on the {where}" if state.geometry == "host" else where
    return f"<b>{name_of(state)}; atoms {where}:</b> " + "; ".join(filter(None, said)) + "."


def _story_of_dft(state, f):
    n, compositions = len(state.names), len(state.compositions)
    at = f" at {compositions} compositions" if compositions > 1 else ""
    said = [f"{n} ordering{'s' * (n > 1)}{at}, {f['mixed']} of them mixed"]
    if f["dft_lowest"]:
        at = f" at x = {state.x:g}" if compositions > 1 else ""
        said.append(f"the lowest{at}: {f['dft_lowest'][0]}")
    if compositions > 2:
        said.append("on the hull between the end members: " + (_names(f["dft_vertices"])))
    return f"<b>DFT, {state.data.compound.html}:</b> " + "; ".join(said) + "."


def _names(names, most=6):
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more if names else "nothing"


def _window(f, judge):
    """How far the orderings of one arrangement lie apart; too far is as wrong as too near."""
    wide = (
        f"the orderings of one arrangement of ions span up to {f['window']:.0f} meV per formula "
        "unit"
    )
    if not f["dft_window"]:
        return wide
    wide += f" (DFT: {f['dft_window']:.0f})"
    right = 0.5 < f["window"] / f["dft_window"] < 2
    return judged(right, wide) if judge else wide


def _lowest(x, f):
    at = "" if x is None else f" at x = {x:g}"
    if not f["dft_lowest"]:
        return f"DFT has no energy here{at}"
    told, dft = _tie(f["lowest"]), _tie(f["dft_lowest"])
    if f["lowest"] == f["dft_lowest"]:
        return judged(True, f"the lowest{at} is DFT's, {told}")
    # where DFT has several, one of them is as right as can be
    if set(f["lowest"]) <= set(f["dft_lowest"]):
        return judged(True, f"the lowest{at} is {told}, one of {dft} by DFT")
    return judged(False, f"the lowest{at} is {told}, not {dft}")


def _tie(names):
    return names[0] if len(names) == 1 else f"a tie of {len(names)}"


def _on_hull(f):
    right = f["vertices"] == f["dft_vertices"]
    dft = "" if right else f" (DFT: {_names(f['dft_vertices'])})"
    return judged(right, f"on the hull between the end members: {_names(f['vertices'])}{dft}")


def judged(right, text):
    kind, sign = ("right", "&#10003;") if right else ("wrong", "&#10007;")
    return f'<span class="mlipkit-{kind}">{sign} {text}</span>'


def lesson(state):
    """One line on what the flips did, and a warning when the oxidation states do not balance."""
    if not state.flips:
        return ""
    warning = (
        ""
        if not state.imbalance
        else (
            '<br><b class="mlipkit-wrong">&#9888; The oxidation states sum to '
            f"{state.imbalance:+d}, not 0: change another ion to balance them, or swap two. "
            "No model has seen a charged cell, so no energy is shown.</b>"
        )
    )
    if not state.series:
        return f"<b>Give models= to see what this does to an energy.</b>{warning}"
    if state.told_nonsense:
        return f"<b>Charge-aware: the valence is an input.</b>{warning}"
    change = 1e3 * state.change
    if not np.isfinite(change):
        return (
            f"<b>Only predictions of {name_of(state)} are at hand: give the model itself "
            f"(models=) to see what this does to its energy.</b>{warning}"
        )
    if state.aware:
        said = (
            f"Charge-aware: the valence is an input. Same geometry, energy {change:+.0f} meV/f.u."
        )
        return f"<b>{said}</b>{warning}"
    return (
        "<b>Charge-blind: the valence is no input. Flip what you like: energy, moments and hull "
        f"point stay ({abs(change):.0f} meV/f.u.).</b>{warning}"
    )


def table(state, atoms, chosen=None):
    """The redox-active ions of the chosen ordering, and its energies."""
    s, numbers, unclear = state, state.numbers, state.unclear(atoms)
    head = ["ion", "DFT |m| (µB)"]
    head += (
        ["model |m| (µB)"] * bool(s.series)
        + ["asked" if s.series else "state"]
        + ["given"] * bool(s.flips)
    )
    head += ["model says"] if s.series else ["moment says"]
    rows = "".join(f'<th scope="col">{name}</th>' for name in head)
    rows = f"<tr>{rows}</tr>"
    by_number = sorted(s.summary(atoms), key=lambda row: (atoms.symbols[row[0]], numbers[row[0]]))
    for i, dft, moment, asked, given, told in by_number:
        symbol = atoms.symbols[i]
        number = f"{symbol} {numbers[i]}" if numbers[i] >= 0 else f"{symbol} (atom {i})"
        cells = [number, _number(dft, 2)] + [_number(moment, 2)] * bool(s.series)
        cells += [ion(symbol, asked)] + [ion(symbol, given, given != asked)] * bool(s.flips)
        if s.series or i in unclear:
            word = "given" if s.flips else "asked" if s.series else "taken for"
            cells.append(_became(symbol, given, told, i in unclear, word))
        else:  # DFT's moment, whatever was changed by hand
            cells.append("&ndash;" if told is None else ion(symbol, told))
        cells = "".join(f"<td>{cell}</td>" for cell in cells)
        picked = ' class="mlipkit-chosen"' if i == chosen else ""
        rows += f'<tr data-atom="{i}" tabindex="0"{picked}>{cells}</tr>'
    held = "held out of training" if s.held_out[s.index] else "in the training split"
    held = f" ({held})" if s.series else ""
    return (
        f'<table class="mlipkit-ions"><caption><b>{html.escape(s.ordering)}</b>: '
        f"{described(s.ordering)}{held}</caption>{rows}</table>{_energies(s)}"
    )


def _energies(s):
    hulls = {name: s.hulls[name] for name in s.shown}
    names = {name: "DFT" if name == "DFT" else name_of(s) for name in hulls}
    flip = {name: 0.0 if name == "DFT" or not np.isfinite(s.change) else s.change for name in hulls}
    one = len(s.compositions) == 1
    lines = [("above the lowest" if one else "formation energy", "formation_energy")]
    lines += [] if one else [("above the hull", "energy_above_hull")]
    said = []
    for what, column in lines:
        values = {n: t[column].iloc[s.index] + flip[n] for n, t in hulls.items()}
        told = ", ".join(f"{names[n]} {_number(1e3 * v)}" for n, v in values.items())
        said.append(f"{what}: {told}")
    if s.series:
        difference = hulls[s.series]["formation_energy"] - hulls["DFT"]["formation_energy"]
        difference = 1e3 * np.abs(difference.dropna())
        if len(difference):
            n = len(difference)
            said.append(f"mean difference over {n} orderings: {difference.mean():.0f}")
    beside = {
        "relaxed": "each relaxed by itself",
        "host": "both on the host",
        "dft": "where DFT relaxed it",
    }[s.geometry]
    return f"meV per formula unit, {beside}:<br>" + "<br>".join(said)


def picked(state, atoms, i):
    """What is known of an atom that was clicked."""
    if i is None:
        held = " Full symbols on the right: held out." if state.series else ""
        return f"Click an atom, a row of the table, a hull point or a level.{held}"
    symbol, number = atoms.symbols[i], state.numbers[i]
    says = f"picked atom <b>{i}</b>: {symbol}"
    says += f" {number}, as the names count" if number >= 0 else ""
    rows = {row[0]: row for row in state.summary(atoms)}
    if i not in rows:
        return says
    _, dft, moment, *_, told = rows[i]
    by = "this model" if state.series else "DFT"
    value = moment if state.series else dft
    if not np.isfinite(value):
        return f"{says}; no moment is known"
    says = f"{says}, {value:.2f} µB by {by}"
    if _unclear(state, atoms, i):
        return f"{says}: unclear"
    return says + ("" if told is None else f": {ion(symbol, told)}")


def _unclear(state, atoms, i):
    """Whether the moment of this atom tells no state; a charge that was set by hand is clear."""
    return not state.flips and i in state.unclear(atoms)


def tooltips(state, atoms):
    """What the mouse over an atom tells: ``Fe 3: 2+, 3.67 µB``."""
    rows = {row[0]: row for row in state.summary(atoms)}
    said = []
    for i, symbol in enumerate(atoms.get_chemical_symbols()):
        number = state.numbers[i]
        name = f"{symbol} {number if number >= 0 else i}"
        if i in rows:
            _, dft, moment, _, given, told = rows[i]
            state_now = given if state.flips or told is None else told
            value, by = (
                (moment, "") if np.isfinite(moment) else (dft, " (DFT)" * bool(state.series))
            )
            says = "unclear" if _unclear(state, atoms, i) else f"{state_now}+"
            name += f": {says}" + (f", {value:.2f} µB{by}" if np.isfinite(value) else "")
        said.append(name)
    return said


def ordering_options(state):
    """The orderings at the chosen composition for a drop-down, in words."""
    return [
        (f"{name}  ({described(name).split(', ', 1)[-1]})", name)
        for name in state.orderings(state.x)
    ]


def text(content):
    return f'<div class="mlipkit-text">{content}</div>'


def ion(symbol, state, bold=False):
    said = f"{symbol}<sup>{state}+</sup>"
    return f"<b>{said}</b>" if bold else said


def _number(value, digits=1):
    return f"{value:.{digits}f}" if np.isfinite(value) else "&ndash;"


def _became(symbol, given, found, unclear, word):
    if found is None:
        return "&ndash;"
    if given == found and not unclear:
        return ion(symbol, found)
    became = "now unclear" if unclear else f"became {found}+"
    return f'<b class="mlipkit-wrong">&#10007; {word} {given}+, {became}</b>'
