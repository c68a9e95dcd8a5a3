#!/usr/bin/env python
"""Every ordering held out once: six models, one protocol, the same folds: `make folds`.

    make_folds.py run [RUNS]   trainings that data/models/folds does not have yet (hours; resumable)
    make_folds.py table        docs/results.md, from what is there

Two kinds of folds. By *arrangement*: all orderings of one arrangement of ions leave together (five
folds, the hard test). By *ordering*: every ordering leaves once, others of its arrangement stay
(four folds, the kind of the shipped split). *Apart* is by arrangement, the cells on which cPaiNN
and MACE are trained before leaving too. RUNS are patterns such as 'arrangement*_mace_*'.
Weights are not kept, predictions are. Training in flight lies in data/checkpoints/folds.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd

import mlipkit as mk
from mlipkit.analysis.errors import bootstrap, frame_errors, order_scores
from mlipkit.analysis.predictions import frame_key
from mlipkit.files import write_atomically
from mlipkit.frames.labels import along_relaxations, well_converged
from mlipkit.models.training import train
from mlipkit.orderings.names import arrangement
from mlipkit.relaxation.geometries import geometry_table, with_predictions

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE / "dft")]
import olivine
import pretraining
from collect import write_manifest
from make_models import (
    DEVICE,
    FINE_TUNING,
    PRETRAINING,
    markdown,
    nudged_starts,
    pretrain,
    pretrained_network,
    relaxed_from,
    wanted,
    write_results,
)
from make_models import rows as predicted

FOLDS = HERE / "models" / "folds"
ARCHITECTURES = ("cpainn", "mace", "chgnet")
MODELS = {
    f"{name}_{'aware' if aware else 'blind'}": (name, aware)
    for name in ARCHITECTURES
    for aware in (True, False)
}
UNITS = {
    "energy": "energy, meV/atom",
    "forces": "forces, meV/Å",
    "magmoms": "moments, µB",
    "valence_right": "valence right, %",
}
KINDS = {"arrangement": 5, "ordering": 4, "apart": 5}
TITLES = {
    "arrangement": "By arrangement",
    "ordering": "By ordering",
    "apart": "By arrangement, the cells labelled by CHGNet too",
}


def held_out(orderings):
    """{kind: the orderings that each fold holds out}, of those that share their arrangement."""
    groups = {}
    for ordering in sorted(orderings):
        groups.setdefault(arrangement(ordering), []).append(ordering)
    groups = [group for group in groups.values() if len(group) > 1]
    # dealt out in turn, so no fold has two of an arrangement (none has more orderings than folds)
    dealt, n = [ordering for group in groups for ordering in group], KINDS["ordering"]
    by_ordering = [dealt[k::n] for k in range(n)]
    return {"arrangement": groups, "ordering": by_ordering, "apart": groups}


def with_splits(frames, kind, folds, k):
    """Copies of the frames: test, what fold `k` holds out; validation, the first ordering of each
    of the next two folds (by arrangement), or the first two of the next (by ordering).
    """
    following = [folds[(k + i) % len(folds)] for i in (1, 2)]
    by_arrangement = kind != "ordering"
    apart = {group[0] for group in following} if by_arrangement else set(following[0][:2])
    found = []
    for atoms in frames:
        copy = atoms.copy()
        copy.calc, ordering = atoms.calc, atoms.info["ordering"]
        copy.info["split"] = (
            "test" if ordering in folds[k] else "validation" if ordering in apart else "train"
        )
        found.append(copy)
    return found


def runs():
    """(name, kind, fold, architecture, aware) of all trainings."""
    for model, how in MODELS.items():
        for kind, n in KINDS.items():
            if kind == "apart" and how[0] not in PRETRAINING:
                continue
            for k in range(n):
                yield f"{kind}{k}_{model}", kind, k, *how


def without(cells, left_out):
    """The cells whose arrangement of ions is another one; sites are numbered as in the set."""
    host = olivine.host(1.0)
    return [a for a in cells if arrangement(mk.ordering_label(a, host)) != left_out]


def begun(title, kind, name, aware, left_out):
    """What a fold starts from: trained before on cells labelled by CHGNet, or None."""
    if name not in PRETRAINING:
        return None
    if kind != "apart":
        return pretrained_network(name, aware)
    cells = without(pretraining.cells("Na"), left_out)
    folder = HERE / "checkpoints" / "folds" / f"{title}_pretraining"
    return pretrain(name, aware, cells, folder, DEVICE)


def run(title, kind, k, name, aware, frames):
    """Train without a fold and write what the model says of it."""
    path = FOLDS / f"{title}.csv"
    if path.exists():
        return
    ends = mk.end_points(frames)
    folds = held_out({a.info["ordering"] for a in ends})[kind]
    split = with_splits(frames, kind, folds, k)
    potential, history = train(
        name,
        split,
        aware,
        seed=0,
        **FINE_TUNING[name],
        start=begun(title, kind, name, aware, arrangement(folds[k][0])),
        device=DEVICE,
        folder=HERE / "checkpoints" / "folds" / title,
    )
    test = [a for a in well_converged(split) if a.info["split"] == "test"]
    parts = [predicted(title, potential, test).assign(geometry="frame")]
    # an ordering is compared with the others of its arrangement, a formation energy with the ends
    touched = {arrangement(ordering) for ordering in folds[k]}
    asked = [a for a in ends if arrangement(a.info["ordering"]) in touched]
    asked += [a for a in ends if a.info["x"] in (0, 1)]
    hosts, starts = nudged_starts(asked)
    host = next(a for a in asked if a.info["x"] == 1)
    relaxed = relaxed_from(starts, potential)
    places = {
        "dft": with_predictions(asked, potential),
        "host": with_predictions(hosts, potential),
        "relaxed": [r.atoms for r in relaxed],
    }
    for geometry, structures in places.items():
        table = geometry_table(asked, structures, host).drop(columns="clear")
        parts.append(table.assign(geometry=geometry))
    table = pd.concat(parts).drop(columns="model").round(5)
    best = min(history, key=lambda h: h["validation"])["epoch"]
    FOLDS.mkdir(exist_ok=True)
    write_atomically(path, table.assign(best_epoch=best).to_csv(index=False))
    print(title, "best epoch", best, flush=True)


def read(kind, model):
    """{fold: what it predicted}, if all of them are there."""
    paths = {k: FOLDS / f"{kind}{k}_{model}.csv" for k in range(KINDS[kind])}
    if not all(path.exists() for path in paths.values()):
        return None
    return {k: pd.read_csv(path) for k, path in paths.items()}


def errors(found, frames):
    """`frame_errors` of all held-out frames of relaxations, in their order."""
    table = pd.concat(found.values()).query("geometry == 'frame'").set_index("frame")
    # an end point has the geometry of the frame before it, and labels that are converged further
    table = table[~table.index.duplicated()]
    relaxing = [a for a in along_relaxations(frames) if frame_key(a) in table.index]
    return frame_errors(relaxing, table.loc[[frame_key(a) for a in relaxing]].reset_index())


def order(found, folds, geometry, labelled):
    """Kendall tau over all pairs with a held-out ordering, each by the model that has not seen it,
    and in how many arrangements the lowest is that of DFT.
    """
    pairs = right = arrangements = ground = 0
    for k, table in found.items():
        energies = table.query("geometry == @geometry").set_index("ordering")["energy"]
        here = [a for a in labelled if a.info["ordering"] in energies.index]
        score = order_scores(
            here,
            [energies[a.info["ordering"]] for a in here],
            [a.info["ordering"] in folds[k] for a in here],
        )
        if score["pairs"]:
            pairs += score["pairs"]
            right += score["pairs"] * score["kendall_tau"]
            arrangements += score["arrangements"]
            ground += score["ground_states"]
    return f"{right / pairs:.2f} ({pairs})", f"{ground}/{arrangements}"


def stays(table):
    """Whether the charges stay, of rows as they were read: what cannot be told is no."""
    return table["kept"].astype(str) == "True"


def kept(found, folds):
    """Held-out orderings whose charges stay where they were put, after the model relaxed them."""
    tables = [
        table[(table["geometry"] == "relaxed") & table["ordering"].isin(folds[k])]
        for k, table in found.items()
    ]
    stayed = stays(pd.concat(tables))
    return f"{stayed.sum()}/{len(stayed)}"


def with_bounds(value, low, high, digits):
    return f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def interval(values, orderings, digits):
    return with_bounds(np.mean(values), *bootstrap(values, orderings), digits)


def less(these, those, digits):
    """Mean differences of two models' errors on the same frames, with intervals over orderings."""
    return {
        c: interval(these[c] - those[c], these["ordering"], digits[c])
        for c in ("energy", "forces", "magmoms")
    }


def tables():
    """docs/results.md: errors with intervals, differences of blind and aware, order, charges."""
    frames = mk.load_dft()
    ends = mk.end_points(frames)
    there = [a for a in frames if a.info["kind"] == "undistorted"]
    geometries = {"dft": ends, "host": there, "relaxed": ends}
    folds = held_out({a.info["ordering"] for a in ends})
    digits = {"energy": 2, "forces": 0, "magmoms": 3, "valence_right": 1}
    lines, by_kind = [], {}
    for kind in KINDS:
        rows, differences = [], []
        by_kind[kind] = by_model = {}
        for model in MODELS:
            if (found := read(kind, model)) is None:
                continue
            by_model[model] = e = errors(found, frames)
            row = {"model": model.replace("_", ", ")}
            row |= {c: interval(e[c], e["ordering"], n) for c, n in digits.items()}
            for geometry, labelled in geometries.items():
                tau, ground = order(found, folds[kind], geometry, labelled)
                row |= {f"τ, {geometry}": tau, f"lowest, {geometry}": ground}
            rows.append(row | {"charges kept": kept(found, folds[kind])})
        for name in ARCHITECTURES:
            pair = [by_model.get(f"{name}_{how}") for how in ("blind", "aware")]
            if all(e is not None for e in pair):
                differences.append({"blind less aware": name} | less(*pair, digits))
        if rows:
            n = by_model[next(iter(by_model))]
            lines += [
                f"**{TITLES[kind]}**: {KINDS[kind]} folds, {len(n)} frames of relaxations of "
                f"{n['ordering'].nunique()} orderings.",
                "",
                *markdown("model", pd.DataFrame(rows).set_index("model").rename(columns=UNITS)),
                "",
            ]
        if differences:
            table = pd.DataFrame(differences).set_index("blind less aware").rename(columns=UNITS)
            lines += [*markdown("blind less aware", table), ""]
    with_cells = by_kind["arrangement"]
    changes = {
        model.replace("_", ", "): less(without_cells, with_cells[model], digits)
        for model, without_cells in by_kind["apart"].items()
    }
    if changes:
        table = pd.DataFrame.from_dict(changes, orient="index").rename(columns=UNITS)
        lines += [*markdown("cells left out too, less by arrangement", table), ""]
    if lines:
        write_results("folds", lines[:-1])


if __name__ == "__main__":
    stage, *patterns = sys.argv[1:] or ["run"]
    if stage == "run":
        frames, by_name = mk.load_dft(), {title: how for title, *how in runs()}
        for title in wanted(by_name, patterns):
            run(title, *by_name[title], frames)
    else:
        tables()
        write_manifest()
