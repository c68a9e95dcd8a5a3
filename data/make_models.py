#!/usr/bin/env python
"""The shipped weights, their errors and predictions, from the embedded set: `make models`.

    python data/make_models.py train [PATTERN ...]
        runs that results.csv does not have yet; PATTERN as in 'mace_*_seed0'

    python data/make_models.py predict
        predictions.csv, errors into the cards, manifest, docs/results.md

    python data/make_models.py table
        mean and spread over the seeds, from results.csv

Every run is resumable: a checkpoint per epoch lies in data/checkpoints, a finished run adds its row
to results.csv.
"""

import datetime
import fcntl
import fnmatch
import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch

import mlipkit as mk
from mlipkit.analysis.errors import (
    align_energies,
    compare_models,
    error_table,
    order_scores,
    seed_table,
)
from mlipkit.files import data_folder, describe, write_atomically
from mlipkit.frames.labels import along_relaxations, well_converged
from mlipkit.models.registry import adapter, weights_stem
from mlipkit.models.training import SCALES, SETTINGS, train

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE / "dft")]
from collect import write_manifest, write_part

FOLDER, PRETRAINED, CHECKPOINTS = HERE / "models", HERE / "pretrained", HERE / "checkpoints"
SEEDS, SHIPPED = (0, 1, 2), (0,)
DEVICE = os.environ.get("DEVICE", "cpu")  # where folds are trained; "cuda" where there is a GPU
# eV/Å and Å, of the relaxations with the models: off the saddle point that the symmetric geometry
# is
FMAX, RATTLE = 0.05, 0.01
MODEL_ARGS = {"chgnet": {}, "cpainn": {}, "mace": {"channels": 32, "r_max": 4.5, "correlation": 3}}
PRETRAINING = {"cpainn": {"epochs": 8, "lr": 1e-3}, "mace": {"epochs": 20, "lr": 1e-2}}
FINE_TUNING = {
    "chgnet": {"epochs": 9, "lr": 1e-3},
    "cpainn": {"epochs": 36, "lr": 5e-4},
    "mace": {"epochs": 28, "lr": 5e-3},
}

# from random weights, on DFT frames alone: as many steps as pre-training (1326 cells) and
# fine-tuning together
DFT_ONLY = {"cpainn": {"epochs": 78, "lr": 1e-3}, "mace": {"epochs": 130, "lr": 5e-3}}


@dataclass(frozen=True)
class Run:
    """One training. The extra ones ask what pre-training buys, and what a share (one frame in
    `thinned`) of the DFT frames would do.
    """

    architecture: str
    aware: bool
    seed: int = 0
    pretrained: bool = True
    thinned: int = 1

    @property
    def name(self):
        stem = weights_stem(self.architecture, self.aware, self.seed)
        return (
            stem
            + ("" if self.pretrained else "_dft_only")
            + (f"_1in{self.thinned}" if self.thinned > 1 else "")
        )


def runs():
    models = [(name, aware) for name in SETTINGS for aware in (False, True)]
    yield from (Run(*model, seed) for seed in SEEDS for model in models)
    for seed in SEEDS:
        for name in PRETRAINING:
            yield from (Run(name, True, seed, pretrained=False), Run(name, True, seed, thinned=4))


def pretrain(name, aware, cells, folder, device="cpu"):
    """A small network trained on cells labelled by CHGNet, from random weights."""
    how = {**PRETRAINING[name], "model_args": MODEL_ARGS[name], "device": device}
    return train(name, cells, aware, seed=0, folder=folder, **how)[0]


def pretrained_network(name, aware):
    """A small network trained on cells labelled by CHGNet; kept in data/pretrained and made when it
    is not there (7 to 17 minutes).
    """
    import pretraining

    path = PRETRAINED / f"{weights_stem(name, aware, 0)}.safetensors"
    if not path.exists():
        frames = pretraining.cells("Na")
        potential = pretrain(name, aware, frames, CHECKPOINTS / "pretrained")
        mk.save_weights(
            potential,
            PRETRAINED,
            {
                "name": path.stem,
                "seed": 0,
                "start": "random",
                **PRETRAINING[name],
                "data": "cells labelled by CHGNet 0.3.0 (data/pretraining.py)",
                "date": datetime.date.today().isoformat(),
                "licence": "CC BY 4.0",
            },
        )
    return mk.import_checkpoint(path)


def train_one(frames, sha256, run):
    """Train, measure, and write weights (of the shipped seeds) and a row of results.csv."""
    name = run.architecture
    settings = dict((FINE_TUNING if run.pretrained else DFT_ONLY)[name])
    settings["epochs"] *= run.thinned  # the same number of steps on fewer frames
    start = pretrained_network(name, run.aware) if run.pretrained and name in PRETRAINING else None
    used = {
        s: [a for a in well_converged(frames) if a.info["split"] == s]
        for s in ("train", "validation", "test")
    }
    used["train"] = used["train"][:: run.thinned]
    began = time.time()
    potential, history = train(
        name,
        used["train"] + used["validation"],
        run.aware,
        seed=run.seed,
        **settings,
        start=start,
        model_args=None if start else MODEL_ARGS[name],
        folder=CHECKPOINTS / run.name,
    )
    best = min(history, key=lambda h: h["validation"])
    row = {
        "run": run.name,
        "architecture": name,
        "charge_aware": run.aware,
        "seed": run.seed,
        "pretrained": run.pretrained,
        "thinned": run.thinned,
        "epochs": settings["epochs"],
        "best_epoch": best["epoch"],
        "n_train": len(used["train"]),
        "data_sha256": sha256[:12],
        "seconds": round(time.time() - began),
        **measured(potential, frames),
    }
    if run.pretrained and run.thinned == 1 and run.seed in SHIPPED:
        start_says = (
            "CHGNet 0.3.0 (MPtrj)"
            if name == "chgnet"
            else "random, then cells labelled by CHGNet 0.3.0 (data/pretraining.py)"
        )
        licence = "CC BY 4.0" + (
            "; CHGNet 0.3.0: BSD-3-Clause (modified)" if name == "chgnet" else ""
        )
        mk.save_weights(
            potential,
            FOLDER,
            {
                "name": run.name,
                "seed": run.seed,
                "start": start_says,
                **settings,
                "best_epoch": best["epoch"],
                "batch_size": SETTINGS[name]["batch_size"],
                "loss_scales": SCALES,
                "data": "embedded olivine set",
                "data_sha256": sha256,
                "frames": {s: len(part) for s, part in used.items()},
                "split": {
                    s: sorted({a.info["ordering"] for a in part}) for s, part in used.items()
                },
                "date": datetime.date.today().isoformat(),
                "licence": licence,
                "errors": {},
            },
        )
    add_row(row)
    print(
        f"{run.name}: test {row['energy']:.2f} meV/atom, {row['forces']:.0f} meV/Å, "
        f"{row['seconds']} s",
        flush=True,
    )


def read_results():
    path = FOLDER / "results.csv"
    return (
        pd.read_csv(path, dtype={"data_sha256": str})
        if path.exists()
        else pd.DataFrame(columns=["run", "data_sha256"])
    )


def add_row(row):
    """Add or replace the row of a run; several trainings may run side by side."""
    with open(CHECKPOINTS / "results.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        table = read_results().query("run != @row['run']")
        table = pd.concat([table, pd.DataFrame([row])]) if len(table) else pd.DataFrame([row])
        write_atomically(FOLDER / "results.csv", table.to_csv(index=False))


def measured(potential, frames):
    """Errors on held-out frames; the order of orderings.

    dft: on DFT-relaxed geometries; start: on undistorted ones, against DFT's relaxed order;
    undistorted: there, against DFT's order there; relaxed: by the model, from there.
    """
    test = [a for a in well_converged(frames) if a.info["split"] == "test"]
    result = errors_of(potential, test)
    ends = mk.end_points(frames)
    undistorted, starts = nudged_starts(ends)
    relaxed = relaxed_from(starts, potential)
    # where DFT's electrons stay localised on the host
    there = [a for a in frames if a.info["kind"] == "undistorted"]
    geometries = {
        "dft": (ends, [p.energy for p in potential.predict(ends)]),
        "start": (ends, [p.energy for p in potential.predict(undistorted)]),
        "undistorted": (there, [p.energy for p in potential.predict(there)]),
        "relaxed": (ends, [r.energies[-1] for r in relaxed]),
    }
    for geometry, (labelled, energies) in geometries.items():
        for which, counts in (
            ("", None),
            ("_held_out", [a.info["split"] == "test" for a in labelled]),
        ):
            score = order_scores(labelled, energies, counts)
            result |= {
                f"tau_{geometry}{which}": score["kendall_tau"],
                f"ground_{geometry}{which}": f"{score['ground_states']}/{score['arrangements']}",
            }
    result["converged"] = f"{sum(r.converged for r in relaxed)}/{len(relaxed)}"
    kept = sum(not len(r.flipped_sites) for r in relaxed)
    return {k: round(v, 4) if isinstance(v, float) else v for k, v in result.items()} | {
        "valence_kept": f"{kept}/{len(relaxed)}"
    }


def errors_of(potential, test):
    """Errors along relaxations, and (``_displaced``) of the frames that belong to none."""
    relaxing = along_relaxations(test)
    displaced = [a for a in test if not along_relaxations([a])]
    result = error_table(relaxing, rows("new", potential, relaxing))
    off = error_table(displaced, rows("new", potential, displaced))
    return result | {f"{k}_displaced": off[k] for k in ("n", "energy", "forces", "valence_right")}


def relaxed_from(starts, potential):
    """Relaxations in fixed cells, the same for every model that is judged."""
    return mk.relax_many(
        starts, potential, processes=1, progress=False, fmax=FMAX, steps=150, optimizer="FIRE"
    )


def nudged_starts(ends):
    """Every ordering on the undistorted host, and rattled by `RATTLE`, from where a relaxation
    finds its way.
    """
    host = next(a for a in ends if a.info["x"] == 1)
    undistorted = [mk.undistorted(a, host) for a in ends]
    starts = [a.copy() for a in undistorted]
    for atoms in starts:
        atoms.rattle(RATTLE, seed=0)
    return undistorted, starts


def rows(model, potential, frames):
    """Predictions of one model, as load_predictions() returns them."""
    return mk.predict(frames, {model: potential}, progress=False).round(5)


def shipped():
    """(row name in predictions.csv, stem) of the shipped models that there are weights of."""
    for name in SETTINGS:
        for aware in (False, True):
            if (FOLDER / f"{weights_stem(name, aware, 0)}.json").exists():
                yield f"{name}_{'aware' if aware else 'blind'}", weights_stem(name, aware, 0)


def predict():
    frames, untouched = mk.load_dft(), adapter("chgnet").pretrained()
    published = rows("chgnet_pretrained", untouched, frames)
    published["energy"] = align_energies(
        frames,
        published["energy"],
        [a.info["split"] == "train" and bool(along_relaxations([a])) for a in frames],
    ).round(5)
    found = list(shipped())
    potentials = [
        (model, mk.import_checkpoint(FOLDER / f"{stem}.safetensors")) for model, stem in found
    ]
    table = pd.concat([published, *(rows(*pair, frames) for pair in potentials)])
    relaxing = along_relaxations(frames)
    compared = {
        split: compare_models(relaxing, table, split) for split in ("train", "validation", "test")
    }
    errors = {split: by_model.round(4).to_dict("index") for split, by_model in compared.items()}
    results = read_results()
    for model, stem in found:
        path = FOLDER / f"{stem}.json"
        card = json.loads(path.read_text()) | {
            "errors": {split: by_model[model] for split, by_model in errors.items()}
        }
        of = {
            "architecture": card["architecture"],
            "charge_aware": card["charge_aware"],
            "data_sha256": card["data_sha256"][:12],
            "pretrained": False,
            "thinned": 1,
        }
        alone = results[(results[list(of)] == list(of.values())).all(axis=1)]
        if len(alone):
            card["test_errors_without_pretraining"] = {
                **alone[["energy", "forces"]].mean().round(4).to_dict(),
                "seeds": len(alone),
            }
        write_atomically(path, json.dumps(card, indent=1) + "\n")
    write_atomically(FOLDER / "predictions.csv", table.to_csv(index=False))
    write_manifest()
    write_results("errors", errors_text(relaxing, compared["test"]))
    write_results("results", results_text(results))
    print(compared["test"])


def errors_text(frames, errors):
    """The table of errors in docs/results.md."""
    card, test = (
        mk.list_models().iloc[0],
        [a for a in well_converged(frames) if a.info["split"] == "test"],
    )
    lines = [
        "| model | energy, meV/atom | forces, meV/Å | Fe moments, µB | valence right, % |",
        "|---|---|---|---|---|",
    ]
    for m, r in errors.iterrows():
        lines.append(
            f"| {m.replace('_', ', ')} | {r.energy:.1f} | {r.forces:.0f} | {r.magmoms:.3f} | "
            f"{r.valence_right:.1f} |"
        )
    return [
        *lines,
        "",
        f"{len(test)} frames of relaxations of {len({a.info['ordering'] for a in test})} held-out "
        "orderings; "
        f"trained on {card['frames.train']} frames of {len(card['split.train'])} orderings.",
    ]


def write_results(part, lines, file="docs/results.md"):
    """As `write_part`, in a file of the repository."""
    write_part(HERE.parent / file, part, lines)


def results_text(results):
    """Mean and spread over the seeds as Markdown: the models, and what pre-training and more frames
    buy.
    """
    variants = seed_table(results, variants=True)
    figures = [
        name
        for name in variants.index
        if any(part in name for part in ("MAE", "DFT-relaxed", "DFT there", "seeds"))
    ]
    says = (
        "What pre-training and the number of DFT frames buy: *DFT only* starts from random "
        "weights (others for each seed, so "
        "the spread is larger by construction) and takes as many steps as pre-training and "
        "fine-tuning together; *1 frame in 4* "
        "is fine-tuned on a quarter of the frames, the same for each seed, for as many steps."
    )
    lines = markdown("held-out orderings", seed_table(results))
    return (
        [*lines, "", says, "", *markdown("held-out orderings", variants.loc[figures])]
        if len(variants)
        else lines
    )


def markdown(corner, table):
    lines = [
        f"| {corner} | " + " | ".join(table.columns) + " |",
        "|---" * (1 + table.shape[1]) + "|",
    ]
    return lines + [
        f"| {name} | " + " | ".join(row) + " |" for name, row in zip(table.index, table.to_numpy())
    ]


def wanted(names, patterns):
    """The names that a pattern asks for, all of them without one.

    Raises
    ------
    SystemExit
        When nothing has such a name.
    """
    found = [n for n in names if any(fnmatch.fnmatch(n, p) for p in patterns or ["*"])]
    if not found:
        sys.exit(f"no run is named {' or '.join(patterns)}; there is {', '.join(names)}")
    return found


def train_all(patterns):
    # once: all models get the same data, whatever the campaign adds meanwhile
    frames, sha256 = mk.load_dft(), describe(data_folder() / "dft/olivine.extxyz")["sha256"]
    by_name = {run.name: run for run in runs()}
    for name in wanted(by_name, patterns):
        done = set(read_results().query(f"data_sha256 == '{sha256[:12]}'")["run"])
        if name not in done:
            train_one(frames, sha256, by_name[name])


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["train", *patterns]:
            # small cells: a second thread gains little, two runs side by side gain all
            torch.set_num_threads(1)
            train_all(patterns)
        case ["predict"]:
            predict()
        case ["table"]:
            print("\n".join(results_text(read_results())))
        case _:
            sys.exit(__doc__)
