"""Which frames an ensemble asks for (`data/make_active.py`), and what docs/results.md says of it."""

import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import mlipkit as mk

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "data"), str(ROOT / "data" / "dft")]
import make_active


def test_models_that_are_one_do_not_disagree_and_two_do():
    frames = mk.load_dft()[:2]
    aware, blind = (mk.load_model("cpainn", charge_aware=how) for how in (True, False))
    assert make_active.disagreement([aware, aware], frames) == pytest.approx(0, abs=1e-6)
    apart = make_active.disagreement([aware, blind], frames)
    first, second = ([p.forces for p in m.predict(frames)] for m in (aware, blind))
    halves = [np.linalg.norm(a - b, axis=1).max() / 2 for a, b in zip(first, second)]
    assert apart == pytest.approx(halves, rel=1e-4)


def test_asked_for_are_those_with_the_largest_disagreement_and_chance_repeats():
    spread = np.random.default_rng(1).random(100)
    found = make_active.choices(range(100), spread)
    asked = found.pop("disagreement")
    assert len(asked) == make_active.MORE == len(set(asked))
    assert spread[asked].min() > np.delete(spread, asked).max()
    draws = [tuple(which) for which in found.values()]
    assert len(set(draws)) == make_active.DRAWS and all(len(set(d)) == len(d) for d in draws)
    again = make_active.choices(range(100), spread)
    assert all((again[name] == which).all() for name, which in found.items())


def test_what_is_said_of_them_is_in_the_table():
    table = pd.read_csv(ROOT / "data" / "models" / "active.csv").set_index(["model", "choice"])
    assert set(table.index.levels[0]) == {"cpainn", "mace"} and len(table) == 10
    for _, part in table.groupby(level="model"):
        part = part.droplevel("model")
        chance = part[part.index.str.startswith("chance")]
        asked = part.loc["disagreement"]
        assert asked["displaced"] == make_active.MORE and (chance["displaced"] < 9).all()
        for figure in ("energy_displaced", "forces_displaced"):
            assert asked[figure] < chance[figure].min()
        assert asked["forces"] > chance["forces"].max()
    text = (ROOT / "docs" / "results.md").read_text()
    said = re.search(r"\| mace, disagreement \| 32 \| ([\d.]+) \| (\d+) \|", text)
    mace = table.loc[("mace", "disagreement")]
    assert [float(v) for v in said.groups()] == pytest.approx(
        [round(mace["energy"], 2), round(mace["forces"])]
    )
