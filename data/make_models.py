#!/usr/bin/env python
"""The shipped weights and predictions, from the embedded set: `make models`.

    python data/make_models.py train [blind|aware]     resumable: a checkpoint per epoch lies in data/checkpoints
    python data/make_models.py predict                 predictions.csv, errors into the cards, manifest
"""
import datetime
import json
import sys
from pathlib import Path

import pandas as pd

import mlipkit as mk
from mlipkit.errors import align_energies, compare_models
from mlipkit.files import data_folder, describe, write_atomically
from mlipkit.frames import well_converged
from mlipkit.models import weights_stem
from mlipkit.models.chgnet import CHGNetPotential
from mlipkit.models.training import SCALES, save_weights, train

sys.path.insert(0, str(Path(__file__).parent / "dft"))
from collect import write_manifest

FOLDER = Path(__file__).parent / "models"
EPOCHS, LR, BATCH, SEED = 24, 1e-3, 4, 0


def train_one(frames, sha256, aware):
    potential, history = train("chgnet", frames, aware, seed=SEED, epochs=EPOCHS, lr=LR, batch_size=BATCH,
                               folder=FOLDER.parent / "checkpoints")
    best = min(history, key=lambda h: h["validation"])
    used = {s: [a for a in well_converged(frames) if a.info["split"] == s] for s in ("train", "validation", "test")}
    save_weights(potential, FOLDER, {
        "name": weights_stem("chgnet", aware, SEED), "architecture": "chgnet", "charge_aware": aware, "seed": SEED,
        "start": "CHGNet 0.3.0 (MPtrj)", "epochs": EPOCHS, "best_epoch": best["epoch"], "lr": LR, "batch_size": BATCH,
        "loss_scales": SCALES,
        "data": "embedded olivine set", "data_sha256": sha256,
        "frames": {s: len(part) for s, part in used.items()},
        "split": {s: sorted({a.info["ordering"] for a in part}) for s, part in used.items()},
        "date": datetime.date.today().isoformat(), "licence": "CC BY 4.0; CHGNet 0.3.0: BSD-3-Clause (modified)", "errors": {}})


def rows(model, potential, frames):
    """Predictions of one model, as load_predictions() returns them."""
    for atoms, p in zip(frames, potential.predict(frames)):
        fe = p.magmoms[atoms.symbols == "Fe"]
        yield {"model": model, "job": atoms.info["job"], "step": atoms.info["step"], "energy": round(p.energy, 5),
               "force_mae": round(float(abs(p.forces - atoms.calc.results["forces"]).mean()), 5),
               **{f"magmom_{i}": round(float(m), 4) for i, m in enumerate(fe)}}


def predict():
    frames, table = mk.load_dft(), []
    for model, aware in (("pretrained", None), ("blind", False), ("aware", True)):
        if aware is None:
            predictions = pd.DataFrame(rows(model, CHGNetPotential.pretrained(), frames))
            predictions["energy"] = align_energies(frames, predictions["energy"], [a.info["split"] == "train" for a in frames]).round(5)
        else:
            weights, card = files_of(aware)
            predictions = pd.DataFrame(rows(model, CHGNetPotential.from_weights(weights, json.loads(card.read_text())), frames))
        table.append(predictions)
    table = pd.concat(table)
    errors = {split: compare_models(frames, table, split).round(4).to_dict("index") for split in ("train", "validation", "test")}
    for model, aware in (("blind", False), ("aware", True)):
        _, path = files_of(aware)
        card = json.loads(path.read_text()) | {"errors": {split: by_model[model] for split, by_model in errors.items()}}
        write_atomically(path, json.dumps(card, indent=1) + "\n")
    write_atomically(FOLDER / "predictions.csv", table.to_csv(index=False))
    write_manifest()
    test = compare_models(frames, table, "test")
    write_readme(frames, test)
    print(test)


def write_readme(frames, errors):
    """The table of errors in README.md."""
    card = json.loads(files_of(True)[1].read_text())
    path, test = Path(__file__).parent.parent / "README.md", [a for a in well_converged(frames) if a.info["split"] == "test"]
    lines = ["| model | energy, meV/atom | forces, meV/Å | Fe moments, µB | valence right, % |", "|---|---|---|---|---|"]
    lines += [f"| {m} | {r.energy:.1f} | {r.forces:.0f} | {r.magmoms:.3f} | {r.valence_right:.1f} |" for m, r in errors.iterrows()]
    lines += ["", f"{len(test)} frames of {len({a.info['ordering'] for a in test})} held-out ordering(s); "
              f"trained on {card['frames']['train']} frames of {len(card['split']['train'])} orderings."]
    before, rest = path.read_text().split("<!-- errors: begin", 1)
    comment, after = rest.split("<!-- errors: end -->", 1)
    write_atomically(path, f"{before}<!-- errors: begin{comment.splitlines()[0]}\n" + "\n".join(lines) + f"\n<!-- errors: end -->{after}")


def files_of(aware):
    stem = weights_stem("chgnet", aware, SEED)
    return FOLDER / f"{stem}.safetensors", FOLDER / f"{stem}.json"


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["train", *which]:
            # once: both models get the same data, whatever the campaign adds meanwhile
            frames, sha256 = mk.load_dft(), describe(data_folder() / "dft/olivine.extxyz")["sha256"]
            for aware in (False, True):
                if not which or ("aware" if aware else "blind") in which:
                    train_one(frames, sha256, aware)
        case ["predict"]:
            predict()
        case _:
            sys.exit(__doc__)
