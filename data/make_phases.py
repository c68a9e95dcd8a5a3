#!/usr/bin/env python
"""From charge-aware and charge-blind models to the temperature-composition diagram: `make phases`.

    make_phases.py sample [RUNS]   relax arrangements of ions and charges (hours; resumable)
    make_phases.py phases [RUNS]   expansions and diagrams from what was sampled (minutes each)
    make_phases.py sizes [RUNS]    the same expansion in a smaller and a larger cell (a quarter of
                                   an hour each; by default of charge-aware cPaiNN in free cells)

RUNS are patterns such as 'cpainn_*_free'. Writes data/phases, the manifest and the tables in
docs/phases.md. Relaxations in flight lie in data/checkpoints/phases.
"""

import itertools
import os
import sys
from pathlib import Path

import pandas as pd
from ase.units import kB

import mlipkit as mk
from mlipkit.frames.labels import well_converged

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE / "dft")]
from collect import write_manifest
from make_models import PRETRAINING, markdown, wanted, write_results
from make_transfer import trained

PHASES = HERE / "phases"
DOCS = "docs/phases.md"
# random arrangements of a run (a charge-blind model tells ions only; CHGNet takes six times as long
# as the others), and those added to them
N, N_BLIND, MORE, ROUNDS = {"cpainn": 450, "mace": 450, "chgnet": 320}, 250, 50, 2
# then a few at a time in cells doubled along two axes, until no ground state is invented there
DOUBLED, FEW, MOST_ROUNDS = [(2, 2, 1), (2, 1, 2), (1, 2, 2)], 6, 8
# Å, of fits to ions whose electrons follow. CHGNet tells charges apart that lie further from each
# other (docs/phases.md), so these see each other further still; others have the default
OF_IONS = {"chgnet": {2: 12.0, 3: 7.0}}
# and it takes wider cells until none is invented
WIDER = {"chgnet": [(1, 3, 2), (2, 3, 1), (2, 2, 2), (1, 3, 3), (3, 3, 1), (2, 3, 3)]}
SIZES = {"32": (2, 2, 2), "72": (2, 3, 3), "144": (3, 3, 4)}  # formula units: repeats of the cell
SIZES_OF = "cpainn_aware_free"
TEMPERATURES = (200, 300, 400, 500, 600, 700, 800, 900, 1050, 1200)
ARCHITECTURES = ("cpainn", "mace", "chgnet")
# what moves: how runs and files of a compound end, the data set of its end members
SETS = {"Na": ("", "olivine"), "Li": ("_li", "olivine-li")}
KINDS = itertools.product(SETS, ARCHITECTURES, (True, False), (True, False))
RUNS = {}  # name: (architecture, whether it is aware, whether cells are free, what moves)
for ion, name, cell, aware in KINDS:
    run = f"{name}_{'aware' if aware else 'blind'}_{'free' if cell else 'fixed'}{SETS[ion][0]}"
    RUNS[run] = name, aware, cell, ion


def model_of(name, aware, ion):
    """The shipped model; for lithium that of `make_transfer` which has seen most."""
    if ion == "Na":
        return mk.load_model(name, charge_aware=aware)
    lithium, sodium = (well_converged(mk.load_dft(SETS[i][1])) for i in ("Li", "Na"))
    share = "cells" if name in PRETRAINING else "both"
    return trained(f"{name}_{'aware' if aware else 'blind'}_{share}", lithium, sodium)


def sample(run):
    """The configurations of a run, as they are shipped: random ones, then those that an expansion
    asks for. What is there is taken up.
    """
    name, aware, cell, ion = RUNS[run]
    ends = mk.end_points(mk.load_dft(SETS[ion][1]))
    model = model_of(name, aware, ion)
    cores = int(os.environ.get("CORES", "1"))
    how = {"folder": HERE / "checkpoints" / "phases" / run, "processes": cores, "steps": 200}
    doubled = {**how, "folder": HERE / "checkpoints" / "phases" / f"{run}_doubled", "steps": 500}
    path = PHASES / f"{run}.json"
    if path.exists():
        drawn = mk.read_configurations(path)
    else:
        drawn = mk.sample_configurations(
            mk.find_host(ends),
            model,
            N[name] if aware else N_BLIND,
            mk.compound(ends),
            ends,
            cell=cell,
            **how,
        )
        drawn = mk.extend_configurations(drawn, model, MORE, ROUNDS, ends, **how)
        PHASES.mkdir(exist_ok=True)
        mk.write_configurations(path, drawn)
    doubled["supercells"] = DOUBLED + WIDER.get(name, [])
    drawn = mk.extend_configurations(drawn, model, FEW, MOST_ROUNDS, ends, **doubled)
    mk.write_configurations(path, drawn)
    print(run, drawn, flush=True)


def expansion_of(run):
    """The expansion of what a run has sampled; None when there is nothing yet."""
    path = PHASES / f"{run}.json"
    if path.exists():
        return mk.fit_expansion(mk.read_configurations(path))


def two_phases(diagram, temperature):
    """Where two phases lie side by side, as tables show it."""
    gaps = [f"{low:.2f}–{high:.2f}" for low, high, _ in diagram.gaps(temperature)]
    return "; ".join(gaps) or "one phase"


def phases(run):
    """The diagrams of a run: an aware one gives that with the electrons and that without."""
    name, aware, cell, ion = RUNS[run]
    expansion = expansion_of(run)
    if expansion is None:
        print(f"{run}: not sampled yet")
        return
    print(run, expansion, flush=True)
    if not expansion.agrees:
        print(f"{run}: model and expansion have other ground states, so there is no diagram")
        return
    kinds = {"with": expansion} if aware else {"blind": expansion}
    if aware:
        alone = mk.without_electrons(expansion, progress=False)
        kinds["without"] = mk.fit_expansion(alone, OF_IONS.get(name))
        print(run, "ions alone:", kinds["without"], flush=True)
    for kind, fitted in kinds.items():
        diagram = mk.phase_diagram(fitted, TEMPERATURES, n_runs=4)
        written = f"phases_{name}_{kind}_{'free' if cell else 'fixed'}{SETS[ion][0]}.json"
        mk.write_phases(PHASES / written, diagram)
        print(written, diagram, flush=True)


def sizes(run):
    """What a cell of another size changes, as the table of docs/phases.md."""
    expansion, rows = expansion_of(run), []
    for units, supercell in SIZES.items():
        d = mk.phase_diagram(expansion, TEMPERATURES, supercell=supercell)
        for t in (300, 600, 800):
            k, half = d.at(t), len(d.x) // 2
            rows.append(
                {
                    "T (K)": f"{t}",
                    "formula units": units,
                    "two phases": two_phases(d, t),
                    "G at x = 0.5": f"{1e3 * d.free_energy[k, half]:.1f}",
                    "± of two runs": f"{1e3 * d.error[k, half]:.1f}",
                    "S ions": f"{d.entropy_ion[k, half] / kB:.2f}",
                    "S electrons": f"{d.electronic[k, half] / kB:.2f}",
                }
            )
        print(run, units, d, flush=True)
    table = pd.DataFrame(rows).sort_values("T (K)", kind="stable").set_index("T (K)")
    write_results("sizes", markdown("T (K)", table), DOCS)


def tables():
    """docs/phases.md: the expansions, and the boundaries of all diagrams."""
    fits, rows = [], []
    for run, (name, aware, cell, ion) in RUNS.items():
        e = expansion_of(run)
        if e is None:
            continue
        c, states = e.configurations, e.ground_states
        on_hull = {of: states.loc[states[of].notna(), "x"] for of in ("model", "expansion")}
        corners = {of: ", ".join(f"{x:.2f}" for x in at.unique()) for of, at in on_hull.items()}
        fits.append(
            {
                "model": f"{name}, {'charge-aware' if aware else 'charge-blind'}",
                "compound": f"{ion}xFePO4",
                "cells": "free" if cell else "fixed",
                "configurations": len(c.kept),
                "left out": len(c.table) - len(c.kept),
                "functions": len(e.coefficients),
                "error": f"{1e3 * e.rmse:.1f}",
                "spread": f"{1e3 * e.spread:.0f}",
                "hull of the model at x": corners["model"],
                "of the expansion": corners["expansion"],
            }
        )
    for path in sorted(PHASES.glob("phases_*.json")):
        _, name, kind, cell, *ion = path.stem.split("_")
        d = mk.read_phases(path)
        compound = "LixFePO4" if ion else "NaxFePO4"
        row = {"model": name, "compound": compound, "electrons": kind, "cells": cell}
        row |= {f"{t:g} K": two_phases(d, t) for t in d.temperatures}
        rows.append(row)
    for part, found in (("expansions", fits), ("diagrams", rows)):
        table = pd.DataFrame(found, dtype=str).set_index("model")
        write_results(part, markdown("model", table), DOCS)


if __name__ == "__main__":
    stage, *patterns = sys.argv[1:] or ["phases"]
    for run in wanted(RUNS, patterns or ([SIZES_OF] if stage == "sizes" else [])):
        {"sample": sample, "phases": phases, "sizes": sizes}[stage](run)
    if stage == "phases":
        write_manifest()
        tables()
