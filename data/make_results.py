#!/usr/bin/env python
"""What each of the six models finds when it relaxes all orderings from the undistorted host:
`make results`.

Writes data/models/relaxations, geometries.csv, ground_states.csv and the tables in
docs/results.md. The relaxations are those that the explorer and the notebooks show; they are made
again only where weights or data have changed.
"""

import functools
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

import mlipkit as mk
from mlipkit.files import describe, write_atomically
from mlipkit.pictures.figures import TITLES

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE / "dft")]
from collect import write_manifest
from make_models import nudged_starts, shipped, write_results

from mlipkit.orderings.names import arrangement, ordering_label
from mlipkit.pictures.figures import parted
from mlipkit.relaxation.geometries import geometry_table, with_predictions

RELAXATIONS = HERE / "models" / "relaxations"
TIE = 1.0  # meV per formula unit: closer than this a model does not tell the orderings apart


def relaxed(ends):
    """{model: shipped relaxations of all orderings}, from the undistorted host in the cell of each.

    A model whose file belongs to other weights or another data set, or is not there, relaxes them
    again; relaxations in flight lie in data/checkpoints/results, so that a stop costs little.
    """
    from mlipkit.models.registry import adapter

    models = {"chgnet_pretrained": (adapter("chgnet").pretrained, "0.3.0")}
    for name, stem in shipped():
        weights = HERE / "models" / f"{stem}.safetensors"
        models[name] = (
            functools.partial(mk.import_checkpoint, weights),
            describe(weights)["sha256"][:12],
        )
    data, (_, starts), found = (
        describe(HERE / "dft" / "olivine.extxyz")["sha256"][:12],
        nudged_starts(ends),
        {},
    )
    for name, (load, weights) in models.items():
        path, stamp = (
            RELAXATIONS / f"{name}.extxyz.xz",
            {"weights": f"sha-{weights}", "data": f"sha-{data}"},
        )
        if not path.exists() or any(
            {k: r.atoms.info.get(k) for k in stamp} != stamp for r in mk.read_relaxations(path)
        ):
            new = mk.relax_many(starts, {name: load()}, folder=HERE / "checkpoints" / "results")[
                name
            ]
            RELAXATIONS.mkdir(exist_ok=True)
            mk.write_relaxations(
                path, [as_shipped(r, asked, ends, stamp) for r, asked in zip(new, ends)]
            )
        found[name] = mk.read_relaxations(path)
    return found


def as_shipped(relaxation, asked, ends, stamp):
    """Rounded, without stresses, which nobody looks at in a fixed cell, and named by what its
    moments tell.
    """
    host, frames = next(a for a in ends if a.info["x"] == 1), []
    for frame in relaxation.frames:
        slim = Atoms(frame.numbers, frame.positions.round(5), cell=frame.cell, pbc=True)
        slim.set_array("oxi_states", frame.arrays["oxi_states"])
        energy, forces, magmoms = (
            frame.get_potential_energy(),
            frame.get_forces(),
            frame.get_magnetic_moments(),
        )
        slim.calc = SinglePointCalculator(
            slim, energy=round(energy, 6), forces=forces.round(4), magmoms=np.round(magmoms, 4)
        )
        slim.info = {k: asked.info[k] for k in ("x", "ordering", "degeneracy", "split")} | {
            "step": frame.info["step"]
        }
        frames.append(slim)
    found = mk.ordering_label(relaxation.inferred, host, max_distance=1.5)
    frames[-1].info |= {**stamp, "found": found}
    return replace(relaxation, frames=frames, seconds=0.0)


def geometries(ends, found):
    """The table of `mlipkit.load_geometries`."""
    host, on_host, tables = (
        next(a for a in ends if a.info["x"] == 1),
        mk.load_dft("olivine-host"),
        [],
    )
    about = pd.DataFrame([{key: a.info[key] for key in ("job", "step")} for a in ends])
    for model, relaxations in found.items():
        name, kind = parted(model)
        potential = mk.load_model(
            name, charge_aware={"pretrained": None, "blind": False, "aware": True}[kind]
        )
        frames = {
            "host": with_predictions(on_host, potential),
            "relaxed": [r.atoms for r in relaxations],
        }
        for geometry, structures in frames.items():
            table = geometry_table(ends, structures, host).round(4).join(about)
            table["energy"] = [round(a.get_potential_energy(), 5) for a in structures]
            tables.append(table.assign(model=model, geometry=geometry))
    moments = [column for column in tables[0] if column.startswith("magmom_")]
    about = ["model", "geometry", "ordering", "job", "step", "frame", "found", "energy"]
    return pd.concat(tables)[[*about, *moments, "kept", "clear"]]


def ground_states(ends, found):
    """A row per Na arrangement with two orderings or more: DFT's lowest, the energy window, and
    what each model has.
    """
    host = next(a for a in ends if a.info["x"] == 1)
    arrangements = {}
    for i, atoms in enumerate(ends):
        arrangements.setdefault(arrangement(atoms.info["ordering"]), []).append(i)
    rows = []
    for name, members in arrangements.items():
        if len(members) < 2:
            continue
        dft = np.array([ends[i].get_potential_energy() for i in members]) / 4
        row = {
            "arrangement": name,
            "orderings": len(members),
            "DFT": ends[members[dft.argmin()]].info["ordering"].rsplit("_", 1)[1],
            "DFT window": 1e3 * np.ptp(dft),
        }
        for model, relaxations in found.items():
            e = 1e3 * np.array([relaxations[i].energies[-1] for i in members]) / 4
            lowest = relaxations[members[e.argmin()]]
            row |= {
                model: ordering_label(lowest.inferred, host, max_distance=1.5).rsplit("_", 1)[1],
                f"{model} window": np.ptp(e),
                f"{model} told apart": bool((np.diff(np.sort(e)) > TIE).all()),
                f"{model} kept": sum(not len(relaxations[i].flipped_sites) for i in members),
            }
        rows.append(row)
    return pd.DataFrame(rows)


def ground_state_lines(table, models):
    lines = [
        "| Na arrangement | DFT | " + " | ".join(m.replace("_", " ") for m in models) + " |",
        "|---" * (len(models) + 2) + "|",
    ]
    for r in table.to_dict("records"):
        cells = [f"{r['DFT']} ({r['DFT window']:.0f})"]
        for m in models:
            right = r[m] == r["DFT"] and r[f"{m} kept"] == r["orderings"]
            cells.append(
                f"{r[m]}{' ✓' if right else ''} ({r[f'{m} window']:.0f}; "
                f"{r[f'{m} kept']}/{r['orderings']})"
            )
        lines.append(f"| {r['arrangement']} | " + " | ".join(cells) + " |")
    return [
        *lines,
        "",
        "The lowest ordering of each Na arrangement (its Fe³⁺ sites), by the moments at the end "
        "of relaxations from the "
        "undistorted host. In brackets: the energy window of all its orderings in meV per formula "
        "unit, and in how many of them the "
        "charges stayed where they were put. ✓: the lowest is that of DFT and all charges stayed. "
        "Fixed cells; seed 0.",
    ]


def stability_lines(ends, found):
    """Hull vertices and voltages, DFT and each model on what it relaxed itself."""
    energies = {"DFT": [a.get_potential_energy() for a in ends]}
    energies |= {name: [r.energies[-1] for r in relaxations] for name, relaxations in found.items()}
    lines = [
        "| | hull vertices between the end members | steps, V | mean voltage, V |",
        "|---|---|---|---|",
    ]
    for name, e in energies.items():
        hull, profile = mk.hull(ends, e), mk.voltage_profile(ends, e)
        inside = hull[hull["on_hull"] & (hull["x"] > 0) & (hull["x"] < 1)]["ordering"].tolist()
        steps = ", ".join(f"{r.voltage:.2f}" for r in profile.itertuples())
        lines.append(
            f"| {name.replace('_', ' ')} | {', '.join(inside) or 'none'} | {steps} | "
            f"{profile['mean_voltage'].iloc[0]:.2f} |"
        )
    return [
        *lines,
        "",
        "Cells are fixed on a Vegard line, so formation energies of mixed compositions are upper "
        "bounds. Voltages against "
        "bcc Na.",
    ]


def larger_cell_lines(ends, n_units=12, supercell=(1, 3, 1), found_by="cpainn"):
    """Ground states at x = 2/3 and 5/6, where DFT studies find them, in a cell of twelve formula
    units: predictions.
    """
    empty, full = (next(a for a in ends if a.info["x"] == x) for x in (0, 1))
    model, lines = mk.load_model(found_by, charge_aware=True), []
    for n_na in (8, 10):
        host = full.copy()
        host.set_cell(
            empty.cell.array + n_na / n_units * (full.cell.array - empty.cell.array),
            scale_atoms=True,
        )
        search = mk.search_charge_ordering(
            host, model, n_mobile=n_na, supercell=supercell, keep=12, steps=150, processes=None
        )
        scored = (
            "all scored by the model"
            if search.expansion is None
            else f"{search.n_scored} scored by the model, the others by a pair expansion "
            f"({1e3 * search.expansion.rmse / n_units:.1f} meV off)"
        )
        best = search.table.iloc[0]
        second = search.table[search.table["found"] != best["found"]].iloc[0]
        na = search.atoms[search.atoms.symbols == "Na"].get_scaled_positions()
        sites = (host[host.symbols == "Na"] * supercell).get_scaled_positions()
        distance = np.abs((d := sites[:, None] - na[None]) - np.round(d)).sum(-1).min(axis=1)
        vacancies = sites[np.sort(np.argsort(distance)[n_na:])] * supercell
        where = ", ".join("(" + ", ".join(f"{v:.1f}" for v in site) + ")" for site in vacancies)
        lines.append(
            f"- x = {n_na}/{n_units}: `{best['found']}`, vacancies at {where} in units of a, b, "
            f"c; next, `{second['found']}`, "
            f"{second['energy']:.1f} meV per formula unit higher; {search.n_candidates} orderings "
            f"({'all' if search.exhaustive else 'Monte Carlo'}), {scored}."
        )
    return [
        "In a cell of twelve formula units (1x3x1, Vegard lattice), by charge-aware cPaiNN, which "
        "has seen no such cell: "
        "a prediction, not a proof. The literature finds ground states at these compositions with "
        "vacancies along the diagonal of the "
        "ab plane (Saracibar 2016, doi 10.1039/C6CP00762G).",
        "",
        *lines,
    ]


def verdict_lines():
    """What DFT says of the structures that models relaxed, a line per model."""
    lines = []
    for model, row in mk.verdict_summary(mk.verdict_table()).iterrows():
        title, kind = TITLES[model.split("_")[0]], model.split("_")[1]
        line = (
            f"- {title}, charge-{kind}: {row['n']:.0f} orderings asked for, "
            f"DFT keeps those charges in {row.stayed:.0f}"
        )
        if row.stayed:
            line += (
                f", and finds {row.gap:+.1f} against the claim on average ({row.gap_worst:+.1f} "
                "at worst), and the structure "
                f"{row.cost:.1f} above its own ({row.cost_worst:.1f} at worst)"
            )
        if row.n_found:
            line += (
                f"; with the charges as the model has them {row.gap_found:+.1f} "
                f"on average over {row.n_found:.0f} structures"
            )
        lines.append(f"{line}.")
    return lines


def write_verdict():
    """All models into the tables, the first architecture into the README."""
    lines = verdict_lines()
    write_results("verdict", lines, "docs/results.md")
    write_results("verdict", [line for line in lines if line.startswith("- CHGNet")], "README.md")


if __name__ == "__main__":
    ends = mk.end_points(mk.load_dft())
    found = relaxed(ends)
    write_atomically(
        HERE / "models" / "geometries.csv", geometries(ends, found).to_csv(index=False)
    )
    found.pop("chgnet_pretrained")
    table = ground_states(ends, found)
    write_atomically(HERE / "models" / "ground_states.csv", table.round(3).to_csv(index=False))
    write_manifest()  # what follows reads the tables
    lines = [
        *ground_state_lines(table, list(found)),
        "",
        *stability_lines(ends, found),
        "",
        *larger_cell_lines(ends),
    ]
    write_results("ground states", lines)
    write_verdict()
    write_manifest()
    print("\n".join(lines))
