#!/usr/bin/env python
"""From charge-aware and charge-blind models to the temperature-composition diagram: `make phases`.

    make_phases.py sample [RUNS]   relax arrangements of ions and charges (hours; resumable)
    make_phases.py phases [RUNS]   expansions and diagrams from what was sampled (minutes each)

RUNS are patterns such as 'cpainn_*_free'. Writes data/phases, the manifest and the tables in
docs/phases.md. Relaxations in flight lie in data/checkpoints/phases.
"""

import fnmatch
import sys
from pathlib import Path

import pandas as pd

import mlipkit as mk

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE / "dft")]
from collect import write_manifest
from make_models import markdown, write_results

PHASES = HERE / "phases"
DOCS = "docs/phases.md"
# random arrangements of a run (a charge-blind model tells ions only), and those added to them
N, N_BLIND, MORE, ROUNDS = 450, 250, 50, 2
TEMPERATURES = (200, 300, 400, 500, 600, 700, 800, 900, 1050, 1200)
ARCHITECTURES = ("cpainn", "mace", "chgnet")
RUNS = {
    f"{name}_{'aware' if aware else 'blind'}_{'free' if cell else 'fixed'}": (name, aware, cell)
    for name in ARCHITECTURES
    for cell in (True, False)
    for aware in (True, False)
}


def sample(run):
    """The configurations of a run, as they are shipped: random ones, then those that an expansion
    asks for.
    """
    name, aware, cell = RUNS[run]
    ends = mk.end_points(mk.load_dft())
    model = mk.load_model(name, charge_aware=aware)
    how = {"folder": HERE / "checkpoints" / "phases" / run, "processes": 1, "steps": 200}
    path = PHASES / f"{run}.json"
    drawn = mk.sample_configurations(
        mk.find_host(ends),
        model,
        N if aware else N_BLIND,
        mk.compound(ends),
        ends,
        cell=cell,
        **how,
    )
    drawn = mk.extend_configurations(drawn, model, MORE, ROUNDS, ends, **how)
    PHASES.mkdir(exist_ok=True)
    mk.write_configurations(path, drawn)
    print(run, drawn, flush=True)


def phases(run):
    """The diagrams of a run: an aware one gives that with the electrons and that without."""
    name, aware, cell = RUNS[run]
    path = PHASES / f"{run}.json"
    if not path.exists():
        print(f"{run}: not sampled yet")
        return
    expansion = mk.fit_expansion(mk.read_configurations(path))
    print(run, expansion, flush=True)
    kinds = {"with": expansion} if aware else {"blind": expansion}
    if aware:
        kinds["without"] = mk.fit_expansion(mk.without_electrons(expansion, progress=False))
        print(run, "ions alone:", kinds["without"], flush=True)
    for kind, fitted in kinds.items():
        diagram = mk.phase_diagram(fitted, TEMPERATURES, n_runs=4)
        written = f"phases_{name}_{kind}_{'free' if cell else 'fixed'}.json"
        mk.write_phases(PHASES / written, diagram)
        print(written, diagram, flush=True)


def tables():
    """docs/phases.md: the expansions, and the boundaries of all diagrams."""
    fits, rows = [], []
    for run, (name, aware, cell) in RUNS.items():
        path = PHASES / f"{run}.json"
        if not path.exists():
            continue
        c = mk.read_configurations(path)
        e = mk.fit_expansion(c)
        states = e.ground_states
        fits.append(
            {
                "model": f"{name}, {'charge-aware' if aware else 'charge-blind'}",
                "cells": "free" if cell else "fixed",
                "configurations": len(c.kept),
                "left out": len(c.table) - len(c.kept),
                "functions": len(e.coefficients),
                "error": f"{1e3 * e.rmse:.1f}",
                "spread": f"{1e3 * e.spread:.0f}",
                "hull of the model at x": ", ".join(
                    f"{x:.2f}" for x in states.loc[states["model"].notna(), "x"]
                ),
                "of the expansion": ", ".join(
                    f"{x:.2f}" for x in states.loc[states["expansion"].notna(), "x"]
                ),
            }
        )
    for path in sorted(PHASES.glob("phases_*.json")):
        _, name, kind, cell = path.stem.split("_")
        d = mk.read_phases(path)
        row = {"model": name, "electrons": kind, "cells": cell}
        for t in d.temperatures:
            gaps = d.gaps(t)
            row[f"{t:g} K"] = "; ".join(f"{a:.2f}–{b:.2f}" for a, b, _ in gaps) or "one phase"
        rows.append(row)
    for part, found in (("expansions", fits), ("diagrams", rows)):
        table = pd.DataFrame(found, dtype=str).set_index("model")
        write_results(part, markdown("model", table), DOCS)


if __name__ == "__main__":
    stage, *patterns = sys.argv[1:] or ["phases"]
    for run in RUNS:
        if any(fnmatch.fnmatch(run, p) for p in patterns or ["*"]):
            {"sample": sample, "phases": phases}[stage](run)
    if stage == "phases":
        write_manifest()
        tables()
