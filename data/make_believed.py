#!/usr/bin/env python
"""The table of docs/believed.md: each claim of the paper, our figure with its interval, over how
many orderings, and whether it held. From the folds, DFT's verdict and the phase diagrams.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd

import mlipkit as mk
from mlipkit.analysis.errors import bootstrap, order_scores
from mlipkit.orderings.names import arrangement
from mlipkit.pictures.figures import TITLES

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE / "dft")]
import make_folds
from make_folds import ARCHITECTURES, interval, stays
from make_models import markdown, write_results

DOCS = "docs/believed.md"
HOWS = ("blind", "aware")
NEAR = 1e-3  # eV per formula unit: nearer than this to the hull the labels do not tell
ERRORS = {"energy": ("energies", "meV/atom", 2), "forces": ("forces", "meV/Å", 0)}
ERRORS["magmoms"] = ("moments", "µB", 3)


def relaxed_by(found, folds, ends):
    """Each held-out ordering as a model that has not seen it relaxes it: ``kept``, and
    ``formation``, its formation energy (eV per formula unit) against the end members by the same
    model.
    """
    parts = []
    for k, table in found.items():
        table = table[table["geometry"] == "relaxed"].set_index("ordering")
        asked = [a for a in ends if a.info["ordering"] in table.index]
        names = [a.info["ordering"] for a in asked]
        formation = mk.formation_energies(asked, table.loc[names, "energy"].tolist())
        table = table.assign(kept=stays(table), formation=pd.Series(formation, names))
        parts.append(table.loc[folds[k]])
    return pd.concat(parts)


def near_hull(ends, formation=None):
    """The mixed orderings within NEAR of the hull of formation energies (eV per formula unit), by
    default of DFT's.
    """
    energies = None
    if formation is not None:  # the end members are at 0
        units = mk.compound(ends).units
        energies = [units(a) * formation.get(a.info["ordering"], 0.0) for a in ends]
    above = mk.hull(ends, energies).query("0 < x < 1")
    return set(above.loc[above["energy_above_hull"] < NEAR, "ordering"])


def tau_of(found, folds, ends):
    """Kendall tau after relaxation with its interval over arrangements, and its pairs."""
    taus, arrangements = [], []
    for k, table in found.items():
        energies = table[table["geometry"] == "relaxed"].set_index("ordering")["energy"]
        energies = energies[folds[k]]
        here = [a for a in ends if a.info["ordering"] in energies.index]
        score = order_scores(here, [energies[a.info["ordering"]] for a in here])
        taus += [score["kendall_tau"]] * score["pairs"]
        arrangements += [arrangement(folds[k][0])] * score["pairs"]
    return np.array(taus), arrangements


def from_folds(name, frames):
    """{claim: (figure, whether it held)} of an architecture, or {} where its folds are missing."""
    ends = mk.end_points(frames)
    folds = make_folds.held_out({a.info["ordering"] for a in ends})["arrangement"]
    found = {how: make_folds.read("arrangement", f"{name}_{how}") for how in HOWS}
    if None in found.values():
        return {}
    made = {how: relaxed_by(found[how], folds, ends) for how in HOWS}
    errors = {how: make_folds.errors(found[how], frames) for how in HOWS}
    claims = {}

    stayed = {how: 100.0 * made[how]["kept"] for how in HOWS}
    text = {how: interval(stayed[how], made[how].index.tolist(), 0) for how in HOWS}
    claims["charges"] = (both(text), stayed["aware"].min() == 100 and stayed["blind"].mean() < 50)

    tau = {how: tau_of(found[how], folds, ends) for how in HOWS}
    text = {how: interval(*tau[how], 2) for how in HOWS}
    claims["order"] = (both(text), tau["aware"][0].mean() > 0.5 > tau["blind"][0].mean())

    stable = near_hull(ends)
    hulls = {how: near_hull(ends, made[how]["formation"]) for how in HOWS}
    text = {
        how: f"{len(h & stable)} of DFT's {len(stable)}, {len(h - stable)} others"
        for how, h in hulls.items()
    }
    claims["hull"] = (both(text), hulls["aware"] == stable != hulls["blind"])

    for column, (_, _, digits) in ERRORS.items():
        gained, by = errors["blind"][column] - errors["aware"][column], errors["blind"]["ordering"]
        claims[column] = (interval(gained, by, digits), bootstrap(gained, by)[0] > 0)

    right = {how: errors[how]["valence_right"] for how in HOWS}
    text = {how: interval(right[how], errors[how]["ordering"], 1) for how in HOWS}
    claims["valence"] = (both(text), right["blind"].mean() < 99)
    return claims


def both(text):
    return f"blind {text['blind']}; aware {text['aware']}"


def from_verdict(name):
    """What DFT finds above the energy that the models claim, meV per formula unit."""
    summary = mk.verdict_summary(mk.verdict_table())
    complete = summary[summary["n"] == summary["n"].max()]
    rows = {h: complete.loc[f"{name}_{h}"] for h in HOWS if f"{name}_{h}" in complete.index}
    if not rows:
        return {}
    text = dict.fromkeys(HOWS, "not run yet") | {
        how: f"charges kept in {row.stayed:.0f} of {row['n']:.0f}, {row.gap:+.0f} above the claim"
        for how, row in rows.items()
    }
    if len(rows) < len(HOWS):
        return {"verdict": (both(text), None)}
    good = rows["aware"].stayed == rows["aware"]["n"] and rows["blind"].stayed < rows["blind"]["n"]
    return {"verdict": (both(text), good)}


def from_phases(claim, kinds):
    """The lowest temperature that was computed with one phase at every composition, K."""
    if not {"with electrons", "without"} <= kinds.keys():
        return {}
    least, said = {}, []
    for counted, diagram in kinds.items():
        mixed = [t for t in diagram.temperatures if not diagram.gaps(t)]
        least[counted] = min(mixed, default=np.inf)
        hottest = diagram.temperatures.max()
        said.append(f"{counted} {least[counted]:.0f}" if mixed else f"{counted} >{hottest:.0f}")
    return {claim: (", ".join(said), least["with electrons"] < least["without"])}


CLAIMS = {
    "charges": (
        "A charge-blind potential relaxes charges onto other sites, a charge-aware one keeps them. "
        "Orderings that keep theirs, %",
        "14 orderings",
    ),
    "order": (
        "The blind one loses the order of the orderings' energies, the aware one has it. Kendall τ "
        "after relaxation by the model",
        "14 pairs in 5 arrangements",
    ),
    "hull": (
        "So with the convex hull. Mixed orderings within 1 meV per formula unit of the model's",
        "14 orderings",
    ),
    "verdict": (
        "Asked of DFT, the blind one's structures do not hold the charges. Single points on them, "
        "meV per formula unit",
        "14 orderings",
    ),
    "valence": (
        "The blind one takes Fe2+ for Fe3+ on DFT's own structures too. Valences told right, %",
        "269 frames of 14 orderings",
    ),
    **{
        column: (f"Errors of {what} fall on DFT's own structures: blind less aware, {unit}", "")
        for column, (what, unit, _) in ERRORS.items()
    },
    "entropy": (
        "Electronic entropy makes the solid solution. One phase at every composition from, K",
        "one diagram each, free cells",
    ),
    "fixed": (
        "The same in cells of fixed size. One phase at every composition from, K",
        "one diagram each, fixed cells",
    ),
    "lithium": (
        "The same of Li<sub>x</sub>FePO<sub>4</sub>, of which it was first said. One phase at "
        "every composition from, K",
        "one diagram each, fixed cells",
    ),
}
DIAGRAMS = {
    "entropy": ("free", "NaxFePO4"),
    "fixed": ("fixed", "NaxFePO4"),
    "lithium": ("fixed", "LixFePO4"),
}
# sampled, and the expansion has other ground states than the model
REFUSED = {"entropy": ("chgnet",)}


def table(frames):
    """The lines of the table."""
    said = {n: from_folds(n, frames) | from_verdict(n) for n in ARCHITECTURES}
    for claim, which in DIAGRAMS.items():
        for name, kinds in mk.load_phases(*which).items():
            said[name] |= from_phases(claim, kinds)
    rows = {}
    for claim, (words, over) in CLAIMS.items():
        held = [said[name][claim][1] for name in ARCHITECTURES if claim in said[name]]
        held = [good for good in held if good is not None]
        absent = {n: "no diagram ([why](phases.md))" for n in REFUSED.get(claim, ())}
        figures = {n: said[n].get(claim, (absent.get(n, "not run yet"), None)) for n in TITLES}
        row = {TITLES[n]: figure for n, (figure, _) in figures.items()}
        row["over"] = over or CLAIMS["valence"][1]
        rows[words] = row | {"held": f"{sum(held)} of {len(held)}" if held else "open"}
    return markdown("claim", pd.DataFrame.from_dict(rows, orient="index"))


if __name__ == "__main__":
    write_results("believed", table(mk.load_dft()), DOCS)
