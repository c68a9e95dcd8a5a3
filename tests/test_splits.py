from collections import Counter

import pytest

import mlipkit as mk


def fresh(frames):
    copies = [a.copy() for a in frames]
    for a in copies:
        a.info.pop("split", None)
    return copies


def test_orderings_stay_together_and_end_members_are_trained_on(frames):
    for seed in range(5):
        some = mk.split_by_ordering(fresh(frames), validation=0.15, test=0.2, seed=seed)
        parts = {}
        for a in some:
            parts.setdefault(a.info["ordering"], set()).add(a.info["split"])
        assert all(len(p) == 1 for p in parts.values())
        share = {k: n / len(some) for k, n in Counter(a.info["split"] for a in some).items()}
        # groups are not cut
        largest = max(Counter(a.info["ordering"] for a in some).values()) / len(some)
        assert share["test"] == pytest.approx(0.2, abs=largest) and share[
            "validation"
        ] == pytest.approx(0.15, abs=largest)
        assert parts["x000_na-_fe0123"] == parts["x100_na0123_fe-"] == {"train"}
    assert (
        len(
            {
                tuple(a.info["split"] for a in mk.split_by_ordering(fresh(frames), seed=s))
                for s in range(5)
            }
        )
        > 1
    )


def test_orderings_are_named_where_they_are_not(ends):
    bare = fresh(ends)
    for a in bare:
        del a.info["ordering"]
    mk.split_by_ordering(bare)
    assert len({a.info["ordering"] for a in bare}) == 16


def test_small_groups_leave_each_part_one(frames):
    names = ["a"] * 40 + ["b"] * 3 + ["c"] * 3 + ["d"] * 40
    some = fresh(frames)[: len(names)]
    for atoms, name in zip(some, names):
        atoms.info["group"] = name
    for seed in range(4):
        mk.split_by_ordering(some, seed=seed, group=lambda a: a.info["group"])
        assert {a.info["split"] for a in some} == {"train", "validation", "test"}


def test_groups_of_ones_own_and_too_few(frames):
    some = mk.split_by_ordering(fresh(frames), group=lambda a: a.info["x"])
    assert len({(a.info["x"], a.info["split"]) for a in some}) == 5 and {
        a.info["split"] for a in some
    } == {"train", "validation", "test"}
    with pytest.raises(mk.InputError, match="needs three groups or more; these .* are of 1: x100"):
        mk.split_by_ordering([a for a in fresh(frames) if a.info["x"] == 1])
