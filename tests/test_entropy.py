import math

import numpy as np
import pytest
from ase.units import kB

import mlipkit as mk


def test_two_levels_by_hand():
    """A state at 0 and three at 0.1 eV, in a cell of two formula units."""
    t, w = 1000.0, 3 * math.exp(-0.1 / (kB * 1000))
    found = mk.charge_entropy([0.0, 0.1], [1, 3], t, n_formula_units=2)
    assert found["log_z"] == pytest.approx(math.log(1 + w))
    assert found["energy"] == pytest.approx(0.1 * w / (1 + w) / 2)
    assert found["free_energy"] == pytest.approx(-kB * t * math.log(1 + w) / 2)
    p = np.array([1, *[w / 3] * 3]) / (1 + w)
    # Gibbs, over all four states
    assert found["entropy"] == pytest.approx(-kB * (p @ np.log(p)) / 2)
    assert found["entropy_ion"] == 0 and found["entropy_electronic"] == found["entropy"]


def test_entropy_is_minus_the_slope_of_the_free_energy():
    states = ([-186.1, -186.0, -185.7], [4, 2, 8])
    low, here, high = (mk.charge_entropy(*states, t) for t in (599, 600, 601))
    assert (low["free_energy"] - high["free_energy"]) / 2 == pytest.approx(
        here["entropy"], rel=1e-6
    )


def test_limits_of_cold_and_hot():
    cold, hot = (mk.charge_entropy([-186.1, -186.0], [4, 2], t) for t in (1.0, 1e9))
    # g of the ground state; exp(-1160) is no trouble
    assert cold["entropy"] == pytest.approx(kB * math.log(4)) and cold["energy"] == -186.1
    assert hot["entropy"] == pytest.approx(kB * math.log(6)) and hot["energy"] == pytest.approx(
        (4 * -186.1 + 2 * -186.0) / 6
    )


@pytest.mark.parametrize("x", [0.1, 0.25, 0.5])
def test_free_mixing_of_many_sites_is_ideal(x):
    n = 1000
    found = (
        mk.charge_entropy([0.0], [math.comb(n, int(x * n))], 300, n_formula_units=n)["entropy"] / kB
    )
    ideal = -(x * math.log(x) + (1 - x) * math.log(1 - x))
    assert ideal - 5e-3 < found < ideal  # Stirling: ln(2 pi n x (1 - x)) / 2n below


def test_parts_are_those_of_the_states_spelt_out():
    """Two classes of arrangements, of two and one equivalents, each with three charge orderings in
    two classes.
    """
    names, e, g = ["a", "a", "b", "b"], np.array([0.0, 0.05, 0.02, 0.12]), [2, 4, 1, 2]
    found = mk.charge_entropy(e, g, 500, names, n_orders=3)
    single = [
        ("a1", 0.0),
        ("a1", 0.05),
        ("a1", 0.05),
        ("a2", 0.0),
        ("a2", 0.05),
        ("a2", 0.05),
        ("b", 0.02),
        ("b", 0.12),
        ("b", 0.12),
    ]
    p = np.exp([-v / (kB * 500) for _, v in single])
    p /= p.sum()
    shares = {n: sum(q for (m, _), q in zip(single, p) if m == n) for n in ("a1", "a2", "b")}
    ion = -sum(q * math.log(q) for q in shares.values())
    electronic = -sum(q * math.log(q / shares[n]) for (n, _), q in zip(single, p))
    assert found["entropy_ion"] == pytest.approx(kB * ion) and found[
        "entropy_electronic"
    ] == pytest.approx(kB * electronic)


def test_table_of_the_embedded_set(ends):
    table = mk.entropy_table(ends, temperatures=(300, 1e9))
    assert (table["states"] == table["all_states"]).all() and table["states"].to_list() == [
        1,
        1,
        16,
        16,
        36,
        36,
        16,
        16,
        1,
        1,
    ]
    hot = table.xs(1e9, level="temperature")
    free = {x: kB * math.log(math.comb(4, round(4 * x))) / 4 for x in (0, 0.25, 0.5, 0.75, 1)}
    assert hot["entropy_ion"].to_list() == pytest.approx(list(free.values()), abs=1e-9)
    assert hot["entropy_electronic"].to_list() == pytest.approx(list(free.values()), abs=1e-9)
    assert (
        table["entropy_ideal"].loc[0.5].to_list() == pytest.approx([kB * math.log(2)] * 2)
        and table["entropy_ideal"].loc[1.0, 300] == 0
    )
    assert table["entropy"].to_numpy() == pytest.approx(
        (table["entropy_ion"] + table["entropy_electronic"]).to_numpy()
    )
    cold = table.xs(300, level="temperature")
    assert (cold["entropy_electronic"] < hot["entropy_electronic"] + 1e-12).all() and cold.loc[
        0.5, "entropy_electronic"
    ] < 0.6 * free[0.5]


def test_a_blind_model_has_no_electronic_order_to_lose(ends):
    """One energy for all charge orderings of an arrangement: the electronic part is that of free
    mixing, at any temperature.
    """
    lowest = {}
    for a in ends:
        name = a.info["ordering"].rsplit("_", 1)[0]
        lowest[name] = min(lowest.get(name, 0), a.get_potential_energy())
    table = mk.entropy_table(
        ends, [lowest[a.info["ordering"].rsplit("_", 1)[0]] for a in ends], temperatures=[300]
    )
    assert table["entropy_electronic"].loc[0.5].to_list() == pytest.approx([kB * math.log(6) / 4])


def test_what_cannot_be_counted_is_said(ends):
    for arguments, message in (
        (([0.0, 1.0], [1], 300), "2 energies and 1"),
        (([0.0, np.nan], [1, 1], 300), "not finite"),
        (([0.0], [0], 300), "not a positive"),
        (([0.0], [1], 0), "above 0"),
        (([], [], 300), "0 energies"),
        (([0.0], [5], 300, ["a"], 1, 6), "no multiple of 6"),
    ):
        with pytest.raises(mk.InputError, match=message):
            mk.charge_entropy(*arguments)
    with pytest.raises(mk.InputError, match="x050_na02 add up to .* some are missing"):
        mk.entropy_table([a for a in ends if a.info["ordering"] != "x050_na02_fe03"])
    bare = ends[0].copy()
    del bare.arrays["oxi_states"]
    with pytest.raises(mk.InputError, match="frame 0 .* no oxi_states"):
        mk.entropy_table([bare, *ends], [0.0] * (len(ends) + 1))


def test_names_are_not_needed_and_repeated_frames_are_one_state(ends):
    expected = mk.entropy_table(ends)
    bare = [a.copy() for a in ends]
    for atoms, labelled in zip(bare, ends):
        atoms.calc, atoms.info = labelled.calc, {}
    found = mk.entropy_table([*bare, *bare[5:9]])
    assert "ordering" not in bare[0].info  # what is analysed stays as it is
    for column in ("states", "all_states", "free_energy", "entropy", "entropy_electronic"):
        assert found[column].to_list() == pytest.approx(expected[column].to_list(), abs=1e-12)
