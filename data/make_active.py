#!/usr/bin/env python
"""Which frames would an ensemble ask DFT for, and is that better than chance at the same cost?

    make_active.py run     trainings and figures that data/models/active.csv lacks (resumable)
    make_active.py table   docs/results.md

From the frames that exist: charge-aware models of three architectures see the same few frames of
the training split and disagree about the others; those they disagree about most are added, or as
many drawn at random. cPaiNN and MACE are then trained on both kinds of choice.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd

import mlipkit as mk
from mlipkit.files import write_atomically
from mlipkit.frames.labels import along_relaxations, well_converged
from mlipkit.models.training import train

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE / "dft")]
from collect import write_manifest
from make_folds import ARCHITECTURES
from make_models import (
    DEVICE,
    FINE_TUNING,
    PRETRAINING,
    errors_of,
    markdown,
    pretrained_network,
    write_results,
)

PATH = HERE / "models" / "active.csv"
FEW, MORE, DRAWS = 32, 32, 3  # frames at first and added; how often chance is tried
JUDGED = ("cpainn", "mace")
FIGURES = ("energy", "forces", "energy_displaced", "forces_displaced")
STEPS = 1200  # of every training, four frames each


def trained(name, frames, validation, title):
    """A charge-aware model of some frames, with as many steps for any number of them."""
    how = {**FINE_TUNING[name], "epochs": STEPS * 4 // len(frames)}
    start = pretrained_network(name, True) if name in PRETRAINING else None
    folder = HERE / "checkpoints" / "active" / title
    how |= {"seed": 0, "start": start, "device": DEVICE, "folder": folder}
    return train(name, frames + validation, True, **how)[0]


def disagreement(models, frames):
    """The largest standard deviation of a force over the models in each frame, eV/Å."""
    forces = [[p.forces for p in model.predict(frames)] for model in models]
    return np.array([np.linalg.norm(np.std(one, axis=0), axis=1).max() for one in zip(*forces)])


def choices(pool, spread):
    """{choice: which frames of the pool}, by disagreement and by chance."""
    found = {"disagreement": np.argsort(-spread, kind="stable")[:MORE]}
    for k in range(DRAWS):
        found[f"chance {k}"] = np.random.default_rng(100 + k).permutation(len(pool))[:MORE]
    return found


def run():
    frames = well_converged(mk.load_dft())
    by = {s: [a for a in frames if a.info["split"] == s] for s in ("train", "validation", "test")}
    order = np.random.default_rng(0).permutation(len(by["train"]))
    first = [by["train"][k] for k in order[:FEW]]
    pool = [by["train"][k] for k in order[FEW:]]
    models = {n: trained(n, first, by["validation"], f"{n}_first") for n in ARCHITECTURES}
    spread = disagreement(models.values(), pool)
    done = pd.read_csv(PATH).to_dict("records") if PATH.exists() else []
    known = {(row["model"], row["choice"]) for row in done}
    for name in JUDGED:
        for choice, which in {"none": [], **choices(pool, spread)}.items():
            if (name, choice) in known:
                continue
            chosen = [pool[k] for k in which]
            model = models[name]
            if chosen:
                title = f"{name}_{choice.replace(' ', '_')}"
                model = trained(name, first + chosen, by["validation"], title)
            displaced = len(chosen) - len(along_relaxations(chosen))
            errors = errors_of(model, by["test"])
            about = {"model": name, "choice": choice, "displaced": displaced}
            done.append(about | {f: errors[f] for f in FIGURES})
            write_atomically(PATH, pd.DataFrame(done).round(4).to_csv(index=False))
            print(done[-1], flush=True)


def table():
    done, rows = pd.read_csv(PATH), {}
    done["kind"] = done["choice"].str.split().str[0]
    for (name, kind), part in done.groupby(["model", "kind"], sort=False):
        row = {"displaced among them": ", ".join(part["displaced"].astype(str))}
        for figure in FIGURES:
            values, digits = part[figure], 2 if "energy" in figure else 0
            row[figure] = f"{values.mean():.{digits}f}"
            if len(values) > 1:
                row[figure] += f" ({values.min():.{digits}f} to {values.max():.{digits}f})"
        rows[f"{name}, {kind}"] = row
    found = pd.DataFrame.from_dict(rows, orient="index")
    found.columns = found.columns.str.replace("_", ", ")
    write_results("active", markdown("model, frames added by", found))
    write_manifest()


if __name__ == "__main__":
    {"run": run, "table": table}[(sys.argv[1:] or ["run"])[0]]()
