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
    assert (mixed.symbols == "Rh").sum() == 2 and (mixed.symbols == "Tc").sum() == 2 and "Fe" not in mixed.symbols
    del mixed.arrays["oxi_states"]
    back = mk.from_proxies(mixed, proxies)
    assert sorted(back.arrays["oxi_states"][back.symbols == "Fe"]) == [2, 2, 3, 3]


def test_missing_states_and_clashing_proxy(mixed):
    with pytest.raises(mk.InputError, match="O cannot stand for Fe3\\+"):
        mk.to_proxies(mixed, {("Fe", 3): "O"})
    del mixed.arrays["oxi_states"]
    with pytest.raises(mk.InputError, match="infer_oxidation_states"):
        mk.to_proxies(mixed)
