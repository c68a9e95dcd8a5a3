#!/usr/bin/env python
"""What each of the six models finds when it relaxes all orderings from the undistorted host: `make results`.

Writes data/models/relaxations, geometries.csv, ground_states.csv and the tables in README.md. The relaxations are those that the
explorer and the notebooks show; they are made again only where weights or data have changed.
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
from mlipkit.figures import TITLES
from mlipkit.files import describe, write_atomically

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE / "dft")]
from collect import write_manifest
from make_models import nudged_starts, shipped, write_readme

from mlipkit.orderings import arrangement, ordering_label

RELAXATIONS = HERE / "models" / "relaxations"
TIE = 1.0       # meV per formula unit: closer than this a model does not tell the orderings apart


def relaxed(ends):
    """{model: shipped relaxations of all orderings}, from the undistorted host in the cell of each.

    A model whose file belongs to other weights or another data set, or is not there, relaxes them again; relaxations in flight lie in
    data/checkpoints/results, so that a stop costs little.
    """
    from mlipkit.models import adapter
    models = {"chgnet_pretrained": (adapter("chgnet").pretrained, "0.3.0")}
    for name, stem in shipped():
        weights = HERE / "models" / f"{stem}.safetensors"
        models[name] = functools.partial(mk.import_checkpoint, weights), describe(weights)["sha256"][:12]
    data, (_, starts), found = describe(HERE / "dft" / "olivine.extxyz")["sha256"][:12], nudged_starts(ends), {}
    for name, (load, weights) in models.items():
        path, stamp = RELAXATIONS / f"{name}.extxyz.xz", {"weights": f"sha-{weights}", "data": f"sha-{data}"}
        if not path.exists() or any({k: r.atoms.info.get(k) for k in stamp} != stamp for r in mk.read_relaxations(path)):
            new = mk.relax_many(starts, {name: load()}, folder=HERE / "checkpoints" / "results")[name]
            RELAXATIONS.mkdir(exist_ok=True)
            mk.write_relaxations(path, [as_shipped(r, asked, ends, stamp) for r, asked in zip(new, ends)])
        found[name] = mk.read_relaxations(path)
    return found


def as_shipped(relaxation, asked, ends, stamp):
    """Rounded, without stresses, which nobody looks at in a fixed cell, and named by what its moments tell."""
    host, frames = next(a for a in ends if a.info["x"] == 1), []
    for frame in relaxation.frames:
        slim = Atoms(frame.numbers, frame.positions.round(5), cell=frame.cell, pbc=True)
        slim.set_array("oxi_states", frame.arrays["oxi_states"])
        energy, forces, magmoms = frame.get_potential_energy(), frame.get_forces(), frame.get_magnetic_moments()
        slim.calc = SinglePointCalculator(slim, energy=round(energy, 6), forces=forces.round(4), magmoms=np.round(magmoms, 4))
        slim.info = {k: asked.info[k] for k in ("x", "ordering", "degeneracy", "split")} | {"step": frame.info["step"]}
        frames.append(slim)
    found = mk.ordering_label(relaxation.inferred, host, max_distance=1.5)
    frames[-1].info |= {**stamp, "found": found}
    return replace(relaxation, frames=frames, seconds=0.0)


def geometries(ends, found):
    """The table of `mlipkit.load_geometries`."""
    host, (undistorted, _), rows = next(a for a in ends if a.info["x"] == 1), nudged_starts(ends), []
    for model, relaxations in found.items():
        name, kind = model.split("_")
        line = f"- {TITLES[name]}, charge-{kind}: {row['n']:.0f} orderings asked for, DFT keeps those charges in {row.stayed:.0f}"
        if row.stayed:
            line += (f", and finds {row.gap:+.1f} against the claim on average ({row.gap_worst:+.1f} at worst), and the structure "
                     f"{row.cost:.1f} above its own ({row.cost_worst:.1f} at worst)")
        lines.append(f"{line}; with the charges as the model has them {row.gap_found:+.1f} on average over {row.n_found:.0f} structures.")
    return lines


if __name__ == "__main__":
    ends = mk.end_points(mk.load_dft())
    found = relaxed(ends)
    write_atomically(HERE / "models" / "geometries.csv", geometries(ends, found).to_csv(index=False))
    found.pop("chgnet_pretrained")
    table = ground_states(ends, found)
    write_atomically(HERE / "models" / "ground_states.csv", table.round(3).to_csv(index=False))
    lines = [*ground_state_lines(table, list(found)), "", *stability_lines(ends, found), "", *larger_cell_lines(ends)]
    write_readme("ground states", lines)
    write_readme("verdict", verdict_lines())
    write_manifest()
    print("\n".join(lines))
