"""Folds: every ordering held out once, nothing of it left in, and figures of models that are known."""

import make_folds
import numpy as np
import olivine
import pandas as pd
import pretraining
import pytest

import mlipkit as mk
from mlipkit.analysis.predictions import frame_key
from mlipkit.frames.labels import along_relaxations
from mlipkit.orderings.names import arrangement


@pytest.mark.parametrize("kind", make_folds.KINDS)
def test_every_ordering_is_held_out_once_and_nothing_of_it_stays(kind, frames, ends):
    folds = make_folds.held_out({a.info["ordering"] for a in ends})[kind]
    mixed = sorted(a.info["ordering"] for a in ends if 0 < a.info["x"] < 1)
    assert sorted(ordering for fold in folds for ordering in fold) == mixed and len(mixed) == 14
    assert len(folds) == make_folds.KINDS[kind]
    before = [a.info["split"] for a in frames]
    for k, fold in enumerate(folds):
        parts = {"train": set(), "validation": set(), "test": set()}
        for atoms in make_folds.with_splits(frames, kind, folds, k):
            parts[atoms.info["split"]].add(atoms.info["ordering"])
        assert parts["test"] == set(fold) and len(parts["validation"]) == 2
        assert not parts["train"] & (parts["test"] | parts["validation"])
        seen = {arrangement(ordering) for ordering in parts["train"] | parts["validation"]}
        held = {arrangement(ordering) for ordering in fold}
        # the hard test: nothing of that arrangement; the other one: each arrangement is known
        assert held <= seen if kind == "ordering" else not (seen & held)
    assert [a.info["split"] for a in frames] == before


def test_cells_of_an_arrangement_leave_with_it():
    """Told by the cells themselves, strained and rattled; against the sites they were made with."""
    rng, cells, made = np.random.default_rng(1), [], []
    places = olivine.host(1.0).get_scaled_positions()[:4]
    for _ in range(60):
        atoms, states = pretraining.random_cell(rng, "Na")
        oxi_states = atoms.get_atomic_numbers() * 0
        oxi_states[atoms.symbols == "Fe"] = states
        atoms.set_array("oxi_states", oxi_states)
        fe3 = tuple(i for i, state in enumerate(states) if state == 3)
        away = atoms.get_scaled_positions()[atoms.symbols == "Na"][:, None] - places
        sites = np.abs(away - np.round(away)).sum(-1).argmin(1)
        made.append(arrangement(olivine.tag_of(*olivine.canonical(sites, fe3))))
        cells.append(atoms)
    for left_out in ("x025_na0", "x050_na01", "x050_na02", "x050_na03", "x075_na012"):
        stay = make_folds.without(cells, left_out)
        apart = {id(a) for a in cells} - {id(a) for a in stay}
        assert apart == {id(a) for a, name in zip(cells, made) if name == left_out} != set()


def written(folder, kind, model, frames, ends, off=0.0, sign=1.0):
    """Predictions as a fold leaves them: DFT's own, `off` eV per atom wrong, or upside down."""
    folds = make_folds.held_out({a.info["ordering"] for a in ends})[kind]
    for k, fold in enumerate(folds):
        held = [a for a in along_relaxations(frames) if a.info["ordering"] in fold]
        rows = []
        for geometry, part in (("frame", held), ("dft", ends), ("host", ends), ("relaxed", ends)):
            for atoms in part:
                moments = np.abs(atoms.get_magnetic_moments()[atoms.symbols == "Fe"])
                row = {"frame": frame_key(atoms), "ordering": atoms.info["ordering"]}
                row |= {"geometry": geometry, "force_mae": 0.05, "kept": True}
                row["energy"] = sign * atoms.get_potential_energy() + off * len(atoms)
                rows.append(row | {f"magmom_{i}": m for i, m in enumerate(moments)})
        pd.DataFrame(rows).to_csv(folder / f"{kind}{k}_{model}.csv", index=False)
    return folds


@pytest.mark.parametrize("kind", make_folds.KINDS)
def test_figures_of_models_that_are_known(kind, frames, ends, tmp_path, monkeypatch):
    monkeypatch.setattr(make_folds, "FOLDS", tmp_path)
    assert make_folds.read(kind, "mace_aware") is None
    folds = written(tmp_path, kind, "mace_aware", frames, ends, off=0.003)
    found = make_folds.read(kind, "mace_aware")
    e = make_folds.errors(found, frames)
    assert e["ordering"].nunique() == 14
    # an end point and the frame before it share their geometry, not the labels to the last digit
    assert e["energy"].median() == pytest.approx(3.0) and (e["energy"] - 3).abs().mean() < 0.05
    assert e["forces"].to_numpy() == pytest.approx(50)
    assert e["magmoms"].max() < 0.01 and e["valence_right"].min() == 100
    # all pairs of orderings that share an arrangement; by ordering each is asked of two models
    pairs = 1 + 3 + 6 + 3 + 1
    asked = 2 * pairs if kind == "ordering" else pairs
    tau, ground = make_folds.order(found, folds, "dft", ends)
    assert tau == f"1.00 ({asked})" and ground.split("/")[0] == ground.split("/")[1]
    assert make_folds.kept(found, folds) == "14/14"
    written(tmp_path, kind, "mace_blind", frames, ends, sign=-1.0)
    tau, ground = make_folds.order(make_folds.read(kind, "mace_blind"), folds, "relaxed", ends)
    assert tau == f"-1.00 ({asked})" and ground.startswith("0/")


def test_an_interval_holds_the_mean_and_is_by_orderings():
    values, orderings = [1.0, 1.0, 3.0, 3.0], ["a", "a", "b", "b"]
    assert make_folds.interval(values, orderings, 1) == "2.0 [1.0, 3.0]"
    assert mk.bootstrap(values, orderings) == (1.0, 3.0)


def test_what_can_be_believed_is_what_the_files_say(frames):
    import make_believed

    page = (make_folds.HERE.parent / make_believed.DOCS).read_text()
    assert "\n".join(make_believed.table(frames)) in page


def test_claims_are_judged_by_their_figures(frames, ends, tmp_path, monkeypatch):
    import make_believed

    monkeypatch.setattr(make_folds, "FOLDS", tmp_path)
    written(tmp_path, "arrangement", "mace_aware", frames, ends)
    assert make_believed.from_folds("mace", frames) == {}
    written(tmp_path, "arrangement", "mace_blind", frames, ends, off=0.003)
    claims = make_believed.from_folds("mace", frames)
    # as good as DFT, both of them: nothing is lost without the label but 3 meV/atom everywhere
    assert claims["charges"] == ("blind 100 [100, 100]; aware 100 [100, 100]", False)
    assert claims["order"] == ("blind 1.00 [1.00, 1.00]; aware 1.00 [1.00, 1.00]", False)
    assert claims["hull"] == (
        "blind 1 of DFT's 1, 0 others; aware 1 of DFT's 1, 0 others",
        False,
    )
    gained, held = claims["energy"]
    assert held and float(gained.split()[0]) == pytest.approx(3.0, abs=0.05)
    assert not claims["forces"][1] and not claims["valence"][1]
    # upside down
    written(tmp_path, "arrangement", "mace_blind", frames, ends, sign=-1.0)
    claims = make_believed.from_folds("mace", frames)
    assert claims["order"][1] and claims["order"][0].startswith("blind -1.00")
    assert claims["hull"][1]
