#!/usr/bin/env python
"""Is what the label teaches the ion's or the compound's? Models of NaxFePO4 on LixFePO4.

    make_transfer.py run [RUNS]   trainings that data/models/transfer does not have (resumable)
    make_transfer.py table        data/models/transfer.csv and docs/results.md, from what is there

Zero shot, with 1, 4 and 16 frames of Li, with all of them, with all of both, and with all of both
after cells of lithium that CHGNet labelled (`pretraining.py`); blind and aware with the same
frames, start, seed and steps. The split is that of the sodium set: an ordering that
is held out there is held out here. RUNS are patterns such as 'cpainn_*_16'.
"""

import copy
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from ase.data import atomic_numbers

import mlipkit as mk
from mlipkit.analysis.errors import bootstrap, frame_errors, order_scores
from mlipkit.analysis.predictions import frame_key
from mlipkit.analysis.thermo import formation_energies
from mlipkit.files import write_atomically
from mlipkit.frames.labels import along_relaxations, well_converged
from mlipkit.models.registry import adapter
from mlipkit.models.training import train
from mlipkit.relaxation.geometries import geometry_table

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE / "dft")]
import pretraining
from collect import write_manifest
from make_folds import MODELS, stays, with_bounds
from make_models import (
    DEVICE,
    FINE_TUNING,
    PRETRAINING,
    markdown,
    nudged_starts,
    relaxed_from,
    wanted,
    write_results,
)
from make_models import rows as predicted

TRANSFER, LITHIUM = HERE / "models" / "transfer", "olivine-li"
SHARES = ("0", "1", "4", "16", "all", "both", "cells")
# as tables and figures call them
WORDS = {"0": "none", "both": "all, and Na", "cells": "pre-trained"}
STEPS = 800  # of a fine-tuning on some frames of Li, four frames each


def grown(potential, new, like):
    """A copy of a potential that knows one more element, which is to it as another one.

    cPaiNN's tables have room for every element; MACE's layers have one block of weights for each,
    and e3nn divides by the root of their number. CHGNet has seen all elements.
    """
    if potential.architecture == "chgnet":
        return potential
    z, of = atomic_numbers[new], atomic_numbers[like]
    elements = sorted([*potential.elements, new], key=atomic_numbers.get)
    if potential.architecture == "cpainn":
        found = copy.deepcopy(potential)
        with torch.no_grad():
            for table in (found.network.embedding.weight, found.network.references):
                table[z] = table[of]
        found.elements = elements
        return found
    args = {**potential.network.model_args, "elements": elements}
    network, old = adapter("mace").build(args), potential.network.state_dict()
    at = [potential.elements.index(like if e == new else e) for e in elements]
    n, channels = len(potential.elements), args["channels"]
    root = np.sqrt(len(elements) / n)
    for name, weights in network.state_dict().items():
        known = old[name]
        if name.endswith("atomic_numbers"):
            continue
        if "node_embedding.linear.weight" in name:
            known = known.view(n, channels)[at].reshape(-1) * root
        elif "skip_tp.weight" in name:
            known = known.view(-1, channels, n, channels)[:, :, at].reshape(-1) * root
        elif name.endswith("atomic_energies"):
            known = known[..., at]
        elif "symmetric_contractions" in name and known.shape[:1] == (n,):
            known = known[at]
        weights.copy_(known)
    network.model_args = args
    return type(potential)(network, potential.proxies, elements, potential.states)


def runs():
    """(name, architecture, aware, share) of all."""
    for model, how in MODELS.items():
        for share in SHARES:
            if share == "cells" and how[0] not in PRETRAINING:  # has seen lithium by CHGNet itself
                continue
            yield f"{model}_{share}", *how, share


def row_of(title):
    """Of a run, in tables: (model, what it has seen)."""
    model, share = title.rsplit("_", 1)
    return model, WORDS.get(share, share)


def parts_of(lithium, sodium, share):
    """Training and validation frames of a share. Few frames come without others to validate on, as
    in life: the last epoch counts, by validating on the same.
    """
    by = {s: [a for a in lithium if a.info["split"] == s] for s in ("train", "validation")}
    if share in ("both", "cells"):
        # FePO4 is one calculation in both sets
        known = [a for a in sodium if a.info["split"] in by and a.info["x"] > 0]
        return by["train"] + by["validation"] + known
    if share == "all":
        return by["train"] + by["validation"]
    ends = mk.end_points(by["train"])
    full = next(a for a in ends if a.info["x"] == 1)
    pool = [a for a in by["train"] if 0 < a.info["x"] < 1]
    first, *rest = [pool[k] for k in np.random.default_rng(0).permutation(len(pool))]
    chosen = [first, full, *rest][: int(share)]  # one frame alone holds both charge states
    again = [a.copy() for a in chosen]
    for copied, atoms in zip(again, chosen):
        copied.calc, copied.info = atoms.calc, {**atoms.info, "split": "validation"}
    return chosen + again


def trained(title, lithium, sodium):
    """The model of a run; its checkpoint is kept."""
    name, aware, share = {title: how for title, *how in runs()}[title]
    potential = grown(mk.load_model(name, charge_aware=aware), "Li", "Na")
    if share == "0":
        return potential
    if share == "cells":
        folder = HERE / "checkpoints" / "transfer" / f"{title}_pretraining"
        how = {**PRETRAINING[name], "start": potential, "device": DEVICE, "folder": folder}
        potential, _ = train(name, pretraining.cells("Li"), aware, seed=0, **how)
    frames, how = parts_of(lithium, sodium, share), dict(FINE_TUNING[name])
    if share.isdigit():
        how["epochs"] = STEPS * 4 // max(4, int(share))
    folder = HERE / "checkpoints" / "transfer" / title
    how |= {"seed": 0, "start": potential, "device": DEVICE, "folder": folder}
    return train(name, frames, aware, **how)[0]


def run(title, lithium, sodium):
    """Write what a model trained on a share of Li says of the held-out orderings."""
    path = TRANSFER / f"{title}.csv"
    if path.exists():
        return
    potential = trained(title, lithium, sodium)
    test = [a for a in lithium if a.info["split"] == "test"]
    ends = mk.end_points(lithium)
    held = [a for a in ends if a.info["split"] == "test"]
    table = [predicted(title, potential, test).assign(geometry="frame")]
    table += [predicted(title, potential, ends).assign(geometry="dft")]
    host = next(a for a in ends if a.info["x"] == 1)
    asked = [a for a in ends if a.info["x"] in (0, 1)] + held
    relaxed = relaxed_from(nudged_starts(asked)[1], potential)
    found = geometry_table(asked, [r.atoms for r in relaxed], host).drop(columns="clear")
    table += [found.assign(geometry="relaxed")]
    TRANSFER.mkdir(exist_ok=True)
    content = pd.concat(table).drop(columns="model").round(5).to_csv(index=False)
    write_atomically(path, content)
    print(title, flush=True)


def figures(table, lithium):
    """A row of `mk.load_transfer`: what one model says of the held-out orderings of Li."""
    parts = {g: t.set_index("frame") for g, t in table.groupby("geometry")}
    test = [a for a in along_relaxations(lithium) if a.info["split"] == "test"]
    of_test = parts["frame"][~parts["frame"].index.duplicated()]
    errors = frame_errors(test, of_test.loc[[frame_key(a) for a in test]].reset_index())
    ends = mk.end_points(lithium)
    energies = parts["dft"].loc[[frame_key(a) for a in ends], "energy"].to_numpy()
    held = np.array([a.info["split"] == "test" for a in ends])
    off = formation_energies(ends, energies) - formation_energies(ends)
    score = order_scores(ends, energies, held)
    relaxed = parts["relaxed"]
    stayed = stays(relaxed[~relaxed["ordering"].str.contains("-")])  # end members have no choice
    row = {"n": len(test), "orderings": int(held.sum())}
    for column in ("forces", "magmoms", "valence_right"):
        low, high = bootstrap(errors[column], errors["ordering"])
        row |= {column: errors[column].mean(), f"{column}_low": low, f"{column}_high": high}
    return row | {
        "formation_energy": 1e3 * np.abs(off[held]).mean(),
        "tau": score["kendall_tau"],
        "pairs": score["pairs"],
        "kept": int(stayed.sum()),
        "asked": len(stayed),
    }


def written(row):
    """The same as the docs show it."""

    def with_interval(column, digits):
        return with_bounds(row[column], row[f"{column}_low"], row[f"{column}_high"], digits)

    return {
        "formation energies, meV/f.u.": f"{row['formation_energy']:.1f}",
        "forces, meV/Å": with_interval("forces", 0),
        "moments, µB": with_interval("magmoms", 3),
        "valence right, %": with_interval("valence_right", 0),
        "τ (pairs)": f"{row['tau']:.2f} ({row['pairs']:.0f})",
        "charges kept": f"{row['kept']:.0f}/{row['asked']:.0f}",
    }


def tables():
    """data/models/transfer.csv, and the same in docs/results.md."""
    lithium, rows = well_converged(mk.load_dft(LITHIUM)), {}
    for title, *_ in runs():
        path = TRANSFER / f"{title}.csv"
        if path.exists():
            rows[row_of(title)] = figures(pd.read_csv(path), lithium)
    table = pd.DataFrame.from_dict(rows, orient="index").round(4).rename_axis(["model", "seen"])
    write_atomically(TRANSFER.parent / "transfer.csv", table.to_csv())
    shown = {
        f"{model.replace('_', ', ')}, {seen}": written(row)
        for (model, seen), row in table.iterrows()
    }
    shown = pd.DataFrame.from_dict(shown, orient="index")
    write_results("transfer", markdown("model, frames of Li seen", shown))
    write_manifest()


if __name__ == "__main__":
    stage, *patterns = sys.argv[1:] or ["run"]
    if stage == "run":
        lithium, sodium = well_converged(mk.load_dft(LITHIUM)), well_converged(mk.load_dft())
        for title in wanted([title for title, *_ in runs()], patterns):
            run(title, lithium, sodium)
    else:
        tables()
