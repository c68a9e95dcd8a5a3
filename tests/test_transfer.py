"""Models of one compound taken to another: what is grown is the same, and nothing held out is seen."""

import make_transfer
import numpy as np
import pandas as pd
import pytest
from make_folds import ARCHITECTURES

import mlipkit as mk
from mlipkit.frames.labels import well_converged


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("aware", [True, False])
def test_a_grown_model_takes_the_new_ion_for_the_old_one(name, aware, ends):
    model = mk.load_model(name, charge_aware=aware)
    grown = make_transfer.grown(model, "Li", "Na")
    swapped = [a.copy() for a in ends]
    for atoms in swapped:
        atoms.numbers[atoms.symbols == "Na"] = 3
    before, after, other = (
        m.predict(f) for m, f in ((model, ends), (grown, ends), (grown, swapped))
    )
    for a, b, c in zip(before, after, other):
        assert b.energy == pytest.approx(a.energy, abs=1e-4)
        assert b.magmoms == pytest.approx(a.magmoms, abs=1e-4)
        if name == "chgnet":  # knows lithium by itself
            continue
        assert c.energy == pytest.approx(a.energy, abs=1e-4)
        assert c.forces == pytest.approx(a.forces, abs=1e-4)
    if name != "chgnet":
        with pytest.raises(mk.InputError, match="was not trained on Li"):
            model.predict(swapped[-1:])


@pytest.mark.parametrize("share", [s for s in make_transfer.SHARES if s != "0"])
def test_a_share_holds_no_frame_of_a_held_out_ordering(share, frames):
    held = {a.info["ordering"] for a in frames if a.info["split"] == "test"}
    used = make_transfer.parts_of(frames, frames, share)
    assert not held & {a.info["ordering"] for a in used}
    assert {a.info["split"] for a in used} == {"train", "validation"}
    train = [a for a in used if a.info["split"] == "train"]
    if share.isdigit():
        assert len(train) == int(share) and 0 < train[0].info["x"] < 1
        assert {2, 3} <= set(train[0].arrays["oxi_states"])  # one alone tells an aware model all
        assert share == "1" or train[1].info["x"] == 1
        longer = make_transfer.parts_of(frames, frames, "16")
        same = [np.array_equal(a.positions, b.positions) for a, b in zip(train, longer)]
        assert all(same)  # one frame, then that and three more
    assert all(a.calc is not None for a in used)


def test_the_table_is_what_the_predictions_say():
    lithium, table = well_converged(mk.load_dft("olivine-li")), mk.load_transfer()
    page = (make_transfer.HERE.parent / "docs/results.md").read_text()
    for title, *_ in make_transfer.runs():
        path = make_transfer.TRANSFER / f"{title}.csv"
        if not path.exists():
            continue
        model, seen = make_transfer.row_of(title)
        row, found = table.loc[model, seen], make_transfer.figures(pd.read_csv(path), lithium)
        assert row.to_dict() == pytest.approx(found, abs=1e-4), title
        said = " | ".join(make_transfer.written(row).values())
        assert f"| {model.replace('_', ', ')}, {seen} | {said} |" in page, title
    # blind and aware have seen the same
    shares = {"none", "1", "4", "16", "all", "all, and Na"}
    for name in ("cpainn", "mace"):
        for how in ("blind", "aware"):
            assert shares <= set(table.loc[f"{name}_{how}"].index), (name, how)


def test_charges_carry_over_to_another_ion_and_forces_do_not():
    """What notebook 04 says."""
    table = mk.load_transfer()
    for name in ("cpainn", "mace"):
        aware, blind = table.loc[f"{name}_aware"], table.loc[f"{name}_blind"]
        assert (aware["kept"] == 4).all() and (blind["kept"] <= 1).all()
        # one frame brings most of what all bring
        none, one, all_of_them = aware.loc[["none", "1", "all"], "forces"]
        assert none - one > 0.75 * (none - all_of_them)
        assert all_of_them < 0.7 * blind.loc["all", "forces"]
        formation = aware["formation_energy"]
        assert formation[["1", "4"]].min() > 0.9 * formation["none"] > formation["all"] > 0
        assert formation["all"] < 10
