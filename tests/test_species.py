import numpy as np
import pytest

import mlipkit as mk


def test_round_trip(frames):
    for atoms in frames[::7]:
        seen = atoms.copy()
        seen.numbers = mk.to_proxies(atoms)
        assert (seen.symbols == "Ga").sum() == len(atoms.info["fe3_sites"])
        back = mk.from_proxies(seen)
        assert np.array_equal(back.numbers, atoms.numbers)
        assert np.array_equal(back.arrays["oxi_states"], atoms.arrays["oxi_states"])


def test_another_map_of_proxies(mixed):
    proxies = {("Fe", 3): "Rh", ("Fe", 2): "Tc"}
    mixed.numbers = mk.to_proxies(mixed, proxies)
    assert (
        (mixed.symbols == "Rh").sum() == 2
        and (mixed.symbols == "Tc").sum() == 2
        and "Fe" not in mixed.symbols
    )
    del mixed.arrays["oxi_states"]
    back = mk.from_proxies(mixed, proxies)
    assert sorted(back.arrays["oxi_states"][back.symbols == "Fe"]) == [2, 2, 3, 3]


def test_missing_states_and_clashing_proxy(mixed):
    with pytest.raises(mk.InputError, match="O cannot stand for Fe3\\+"):
        mk.to_proxies(mixed, {("Fe", 3): "O"})
    del mixed.arrays["oxi_states"]
    with pytest.raises(mk.InputError, match="infer_oxidation_states"):
        mk.to_proxies(mixed)


def test_states_may_be_floats_but_must_be_whole(mixed):
    floats = mixed.copy()
    floats.arrays["oxi_states"] = mixed.arrays["oxi_states"].astype(float)
    assert np.array_equal(mk.to_proxies(floats), mk.to_proxies(mixed))
    floats.arrays["oxi_states"][floats.symbols == "Fe"] += 1
    with pytest.warns(UserWarning, match="oxidation states sum to \\+4, not to \\+0"):
        from mlipkit.charges.species import warn_unbalanced

        warn_unbalanced(floats)
    for wrong in (2.5, np.nan):
        floats.arrays["oxi_states"][np.flatnonzero(floats.symbols == "Fe")[1]] = wrong
        with pytest.raises(
            mk.InputError,
            match="the oxidation state of atom 3 .Fe. is (2.5|nan); a charge-aware model knows "
            "ions with whole charges",
        ):
            mk.to_proxies(floats)
