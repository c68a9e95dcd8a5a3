"""Models of one compound taken to another: what is grown is the same, and nothing held out is seen."""

import make_transfer
import numpy as np
import pytest
from make_folds import ARCHITECTURES

import mlipkit as mk


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
        assert len(train) == int(share) and train[0].info["x"] == 1
        longer = make_transfer.parts_of(frames, frames, "16")
        same = [np.array_equal(a.positions, b.positions) for a, b in zip(train, longer)]
        assert all(same)  # one frame, then that and three more
    assert all(a.calc is not None for a in used)
