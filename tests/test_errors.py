import numpy as np
import pandas as pd
import pytest

import mlipkit as mk
from mlipkit.analysis.errors import align_energies
from mlipkit.analysis.predictions import frame_key


@pytest.fixture(scope="session")
def distinct(frames):
    """Of several frames of one geometry the first: to a model they are one."""
    return list({frame_key(a): a for a in reversed(frames)}.values())[::-1]


@pytest.fixture
def perfect(distinct):
    """Predictions equal to the labels."""
    rows = []
    for a in distinct:
        m = np.abs(a.get_magnetic_moments()[a.symbols == "Fe"])
        rows.append(
            {
                "model": "perfect",
                "frame": frame_key(a),
                "energy": a.get_potential_energy(),
                "force_mae": 0.0,
                **{f"magmom_{i}": v for i, v in enumerate(m)},
            }
        )
    return pd.DataFrame(rows)


def test_zero_for_labels_and_known_for_an_offset(distinct, perfect):
    assert mk.error_table(distinct, perfect) == {
        "n": len(distinct),
        "energy": 0,
        "forces": 0,
        "magmoms": 0,
        "valence_right": 100,
    }
    off = perfect.assign(
        energy=[e + 0.001 * len(a) for e, a in zip(perfect["energy"], distinct)],
        force_mae=0.05,
        magmom_0=perfect["magmom_0"] - 0.04,
    )
    found = mk.error_table(distinct, off)
    assert (
        found["energy"] == pytest.approx(1.0)
        and found["forces"] == pytest.approx(50)
        and found["magmoms"] == pytest.approx(0.01)
    )


def test_swapped_moments_are_wrong_valences(distinct, perfect):
    half = [i for i, a in enumerate(distinct) if a.info["x"] == 0.5]
    swapped = perfect.iloc[half].copy()
    swapped[[f"magmom_{i}" for i in range(4)]] = (
        8 - swapped[[f"magmom_{i}" for i in range(4)]].to_numpy()
    )
    assert mk.error_table([distinct[i] for i in half], swapped)["valence_right"] == 0


def test_alignment_takes_out_a_reference_and_nothing_else(distinct):
    energies = np.array([a.get_potential_energy() for a in distinct])
    shift = np.array(
        [3.1 * (a.symbols == "Fe").sum() - 1.7 * (a.symbols == "Na").sum() for a in distinct]
    )
    assert align_energies(distinct, energies + shift) == pytest.approx(energies, abs=1e-8)


def test_compare_models_leaves_out_loose_first_frames(distinct, perfect):
    table = mk.compare_models(distinct, perfect, "train")
    assert table.loc["perfect", "n"] == sum(
        a.info["split"] == "train" and a.info["density"] < 5e-4 for a in distinct
    )
    with pytest.raises(mk.InputError, match="no prediction of perfect for frame"):
        mk.compare_models(distinct, perfect.iloc[30:], "train")
    with pytest.raises(mk.InputError, match="no frame belongs to the split 'nothing'"):
        mk.compare_models(distinct, perfect, "nothing")


def test_order_scores_by_hand(ends):
    here = [a for a in ends if a.info["ordering"].startswith(("x050_na01_", "x050_na02_"))]
    truth = np.array([a.get_potential_energy() for a in here])
    n = [sum(a.info["ordering"].startswith(p) for a in here) for p in ("x050_na01_", "x050_na02_")]
    pairs = sum(k * (k - 1) // 2 for k in n)
    assert mk.order_scores(here, truth) == {
        "pairs": pairs,
        "kendall_tau": 1.0,
        "arrangements": 2,
        "ground_states": 2,
    }
    assert mk.order_scores(here, -truth)["kendall_tau"] == -1.0
    blind = mk.order_scores(here, np.full(len(here), -3.0))
    assert (blind["kendall_tau"], blind["ground_states"]) == (0.0, 0)
    # only within an arrangement
    shifted = truth + np.where([a.info["ordering"].startswith("x050_na01") for a in here], 5.0, 0.0)
    assert mk.order_scores(here, shifted)["kendall_tau"] == 1.0
    from scipy.stats import kendalltau

    part, noisy = [a for a in here if "na02" in a.info["ordering"]], [3.0, 1.0, 2.0, 4.0]
    assert mk.order_scores(part, noisy)["kendall_tau"] == pytest.approx(
        kendalltau([a.get_potential_energy() for a in part], noisy)[0]
    )
    counts = [a.info["ordering"] == "x050_na01_fe02" for a in here]
    assert (
        mk.order_scores(here, truth, counts)["pairs"] == n[0] - 1
        and mk.order_scores(here, truth, counts)["arrangements"] == 1
    )


def test_seed_table_is_mean_and_spread():
    results = mk.load_results()
    one = results[
        results["pretrained"] & (results["architecture"] == "chgnet") & results["charge_aware"]
    ].iloc[[0]]
    three = pd.concat(
        [
            one.assign(energy=e, seed=k, ground_dft_held_out=f"{k}/4")
            for k, e in enumerate((1.0, 2.0, 3.0))
        ]
    )
    column = mk.seed_table(three)["chgnet aware"]
    assert (
        column["energy MAE, meV/atom"] == "2.00 ± 1.00"
        and column["ground states right, DFT-relaxed"] == "0/4, 1/4, 2/4"
        and column["seeds"] == "3"
    )
    alone = (
        one.assign(pretrained=False, energy=7.0),
        one.assign(thinned=4, energy=8.0),
        one.assign(architecture="mace", energy=9.0),
    )
    both = pd.concat(
        [one.assign(data_sha256="older", energy=99.0, pretrained=False), *alone, three]
    )
    assert mk.seed_table(both).loc["energy MAE, meV/atom"].to_dict() == {
        "chgnet aware": "2.00 ± 1.00",
        "mace aware": "9.00",
    }
    # mace has no such run
    assert mk.seed_table(both, variants=True).loc["energy MAE, meV/atom"].to_dict() == {
        "chgnet aware": "2.00 ± 1.00",
        "chgnet aware, 1 frame in 4": "8.00",
        "chgnet aware, DFT only": "7.00",
    }


def test_score_predicts_and_measures(distinct):
    test = [a for a in distinct if a.info["split"] == "test" and a.info["density"] < 5e-4][:4]
    model = mk.load_model("mace", charge_aware=True)
    row, p = mk.score({"mine": model}, test).loc["mine"], model.predict(test)
    assert row["forces"] == pytest.approx(
        1e3 * np.mean([np.abs(a.get_forces() - b.forces).mean() for a, b in zip(test, p)])
    )
    assert row["n"] == 4 and row["energy"] == pytest.approx(
        1e3 * np.mean([abs(a.get_potential_energy() - b.energy) / len(a) for a, b in zip(test, p)])
    )


def shifted(distinct, perfect, offset):
    """Energies off by offset(atoms), meV/atom."""
    return perfect.assign(
        energy=[e + 1e-3 * offset(a) * len(a) for e, a in zip(perfect["energy"], distinct)]
    )


def test_errors_by_composition_and_ordering_are_those_put_in(distinct, perfect):
    table = mk.error_by(
        distinct, shifted(distinct, perfect, lambda a: 1 + 4 * a.info["x"]), "x"
    ).loc["perfect"]
    assert table["energy"].to_list() == pytest.approx([1, 2, 3, 4, 5]) and table["n"].sum() == len(
        distinct
    )
    assert table["orderings"].to_list() == [1, 2, 10, 2, 1]
    table = mk.error_by(
        distinct, shifted(distinct, perfect, lambda a: a.info["degeneracy"]), "ordering"
    ).loc["perfect"]
    assert table.loc["x050_na02_fe02", "energy"] == pytest.approx(2) and table.loc[
        "x025_na0_fe012", "energy"
    ] == pytest.approx(8)


def test_errors_by_kind_tell_rattled_frames_from_relaxed_ones(distinct, perfect):
    table = mk.error_by(
        distinct,
        shifted(distinct, perfect, lambda a: 7 * a.info["kind"].startswith("rattled")),
        "kind",
    ).loc["perfect"]
    assert table["energy"].to_dict() == pytest.approx(
        {k: 7.0 * (k == "rattled") for k in table.index}, abs=1e-9
    )
    relaxing = mk.along_relaxations(distinct)
    kinds = sorted({a.info["kind"] for a in relaxing})
    assert set(kinds) <= {"relax", "final"}
    assert table.loc[kinds, "n"].sum() == len(relaxing) < len(distinct) == table["n"].sum()


def test_errors_by_site_find_the_site(distinct, perfect):
    table = mk.error_by(distinct, perfect.assign(magmom_2=perfect["magmom_2"] - 0.04), "site").loc[
        "perfect"
    ]
    assert table["magmoms"].to_list() == pytest.approx([0, 0, 0.04, 0], abs=1e-12) and list(
        table.index
    ) == ["Fe 0", "Fe 1", "Fe 2", "Fe 3"]
    table = mk.error_by(distinct, perfect, "state").loc["perfect"]
    assert table["n"].to_dict() == {
        s: sum((a.arrays["oxi_states"][a.symbols == "Fe"] == int(s[3])).sum() for a in distinct)
        for s in ("Fe 2+", "Fe 3+")
    }
    with pytest.raises(mk.InputError, match="by must be one of x, ordering"):
        mk.error_by(distinct, perfect, "spin")
    with pytest.raises(mk.InputError, match="takes frames"):
        mk.error_by([], perfect)


def test_an_energy_that_is_missing_is_not_skipped(distinct, perfect):
    perfect.loc[3, "energy"] = np.nan
    assert np.isnan(mk.error_table(distinct, perfect)["energy"])


def test_bootstrap_resamples_orderings_not_frames():
    values, orderings = [0.0] * 30 + [1.0] * 10, ["a"] * 30 + ["b"] * 10
    # aa and bb come up in a quarter of the draws each
    assert mk.bootstrap(values, orderings, 0.95) == (0.0, 1.0)
    # as if every frame were on its own
    assert mk.bootstrap(values, range(40), 0.95)[1] < 0.45
    assert mk.bootstrap([3.0] * 5, list("aabbc")) == (3.0, 3.0)
    assert np.isnan(mk.bootstrap(values[:30], orderings[:30])).all()
    assert mk.bootstrap([1.0, 2.0, np.nan], ["a", "b", "c"]) == (1.0, 2.0)


def test_bootstrap_of_many_orderings_is_the_normal_interval():
    rng = np.random.default_rng(1)
    means = rng.normal(size=200)
    low, high = mk.bootstrap(np.repeat(means, 5), np.repeat(np.arange(200), 5), 0.95, seed=3)
    assert (high - low) / 2 == pytest.approx(
        1.96 * means.std() / 200**0.5, rel=0.08
    ) and low < means.mean() < high
    assert (low, high) == mk.bootstrap(
        np.repeat(means, 5), np.repeat(np.arange(200), 5), 0.95, seed=3
    )
    with pytest.raises(mk.InputError, match="above 0 and below 1"):
        mk.bootstrap([1.0], ["a"], 95)
    with pytest.raises(mk.InputError, match="one ordering for each value"):
        mk.bootstrap([1.0], ["a", "b"])


def test_compare_models_with_intervals(distinct):
    table, plain = (
        mk.compare_models(distinct, mk.load_predictions(), "test", level) for level in (0.9, None)
    )
    assert (
        table[list(plain)].equals(plain)
        and (table["energy_low"] <= table["energy"]).all()
        and (table["energy"] <= table["energy_high"]).all()
    )
    by_x = mk.error_by(
        [a for a in distinct if a.info["split"] == "test"], mk.load_predictions(), "x", 0.9
    )
    assert np.isnan(by_x.loc[("mace_aware", 0.25), "energy_low"]) and np.isfinite(
        by_x.loc[("mace_aware", 0.5), "energy_low"]
    )


def test_tables_for_people_have_names_units_and_whole_numbers(frames):
    table = mk.compare_models(mk.along_relaxations(frames), mk.load_predictions(), "test", 0.95)
    shown = mk.with_units(table)
    assert shown["n"].dtype == int and list(shown.index)[:2] == [
        "CHGNet as published",
        "CHGNet, charge-blind",
    ]
    for name, column in {
        "energy (meV/atom)": "energy",
        "energy low (meV/atom)": "energy_low",
        "forces (meV/Å)": "forces",
        "magmoms high (µB)": "magmoms_high",
        "valence right (%)": "valence_right",
    }.items():
        assert shown[name].tolist() == table[column].tolist()
    by_x = mk.with_units(mk.error_by(frames, mk.load_predictions(), "x"))
    assert by_x.index.names == ["model", "x"] and "MACE, charge-aware" in by_x.index.levels[0]
    # names of one's own stay
    own = mk.with_units(table.rename(index={"mace_aware": "my MACE"}))
    assert "my MACE" in own.index
