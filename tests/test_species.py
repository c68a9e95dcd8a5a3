import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator

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


SPINS = {("Co", 3, "low"): "Al", ("Co", 3, "high"): "Ga"}


@pytest.fixture
def cobaltite():
    """A perovskite with the spin states of Co3+ in rows, as LaCoO3 is thought to have them."""
    cell = bulk("LaCo", "cesiumchloride", a=3.83) + Atoms(
        "O3", 3.83 * np.array([[0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])
    )
    cell = cell.repeat(2)
    cell.rattle(0.02, seed=1)
    magmoms = np.zeros(len(cell))
    magmoms[cell.symbols == "Co"] = [0.1, 3.05, 0.05, 3.1, 3.0, 0.02, 3.1, 0.0]
    cell.calc = SinglePointCalculator(cell, magmoms=magmoms)
    found = mk.infer_oxidation_states(cell)
    cell.set_array("oxi_states", found.states)
    cell.set_array("spin_states", found.spins)
    return cell


def test_spins_are_read_from_moments(cobaltite):
    co = cobaltite.symbols == "Co"
    found = mk.infer_oxidation_states(cobaltite)
    assert found.states[co].tolist() == [3] * 8
    assert found.spins[co].tolist() == ["low", "high", "low", "high", "high", "low", "high", "low"]
    assert set(found.spins[~co]) == {"-"}
    given = mk.infer_oxidation_states(cobaltite, method="given")
    assert np.array_equal(given.spins, found.spins)


def test_spins_as_species_come_back(cobaltite, tmp_path):
    co = np.flatnonzero(cobaltite.symbols == "Co")
    assert (mk.to_proxies(cobaltite, {("Co", 3): "Ga"})[co] == 31).all()  # spins do not matter
    numbers = mk.to_proxies(cobaltite, SPINS)
    assert numbers[co].tolist() == [13, 31, 13, 31, 31, 13, 31, 13]
    one = mk.to_proxies(cobaltite, {("Co", 3, "low"): "Al"})
    assert one[co].tolist() == [13, 27, 13, 27, 27, 13, 27, 13]
    both = mk.to_proxies(cobaltite, {("Co", 3, "low"): "Al", ("Co", 3): "Ga"})
    assert np.array_equal(both, numbers)
    seen = Atoms(numbers, cobaltite.positions, cell=cobaltite.cell, pbc=True)
    mk.write_frames(tmp_path / "seen.extxyz", [seen])
    back = mk.from_proxies(seen, SPINS)
    read = mk.read_frames(
        tmp_path / "seen.extxyz", proxies={p: ion for ion, p in SPINS.items()}, progress=False
    )
    for frame in (back, read[0]):
        assert np.array_equal(frame.numbers, cobaltite.numbers)
        assert np.array_equal(frame.arrays["spin_states"], cobaltite.arrays["spin_states"])
        assert frame.arrays["oxi_states"][co].tolist() == [3] * 8
    mk.write_frames(tmp_path / "real.extxyz", [cobaltite])
    again = mk.read_frames(tmp_path / "real.extxyz", progress=False)[0]
    assert np.array_equal(mk.to_proxies(again, SPINS), numbers)


def test_spins_that_are_missing_or_alike(cobaltite):
    co = np.flatnonzero(cobaltite.symbols == "Co")
    cobaltite.arrays["spin_states"][co[2]] = "-"
    with pytest.raises(mk.InputError, match=f"spin state of atom {co[2]} .Co3.. is not known"):
        mk.to_proxies(cobaltite, SPINS)
    cobaltite.arrays["spin_states"][co[2]] = "mid"
    mk.to_proxies(cobaltite, SPINS)  # one that is left over may be plain
    cobaltite.arrays["oxi_states"][co[0]] = 2
    with pytest.raises(
        mk.InputError, match=r"Co2\+ and Co3\+ \(mid spin\) would look the same.*Co3\+ \(low spin\)"
    ):
        mk.to_proxies(cobaltite, SPINS)
    del cobaltite.arrays["spin_states"]
    with pytest.raises(mk.InputError, match="infer_oxidation_states.atoms..spins"):
        mk.to_proxies(cobaltite, SPINS)


def test_a_model_tells_spins_apart(cobaltite, tmp_path):
    frames = []
    for k in range(6):
        atoms = cobaltite.copy()
        atoms.rattle(0.02, seed=k)
        high = (atoms.arrays["spin_states"] == "high").sum()
        if k % 2:
            atoms.arrays["spin_states"][atoms.symbols == "Co"] = "low"
            high = 0
        atoms.calc = SinglePointCalculator(
            atoms, energy=-300.0 + 0.5 * high, forces=np.zeros((len(atoms), 3))
        )
        atoms.info["split"] = "validation" if k > 3 else "train"
        frames.append(atoms)
    small = {"features": 8, "interactions": 2}
    model, _ = mk.train(
        "cpainn",
        frames,
        charge_aware=True,
        proxies=SPINS,
        epochs=1,
        model_args=small,
        progress=False,
    )
    mk.save_weights(model, tmp_path, {"name": "spins"})
    loaded = mk.import_checkpoint(tmp_path / "spins.safetensors")
    assert loaded.proxies == model.proxies == SPINS
    atoms, flipped = frames[0].copy(), frames[0].copy()
    co = np.flatnonzero(atoms.symbols == "Co")
    flipped.arrays["spin_states"][co[1]] = "low"
    before, after = (p.energy for p in model.predict([atoms, flipped]))
    assert abs(after - before) > 1e-3
    assert [p.energy for p in loaded.predict([atoms, flipped])] == pytest.approx([before, after])
    atoms.calc = model.calculator()
    assert atoms.get_potential_energy() == pytest.approx(before, abs=1e-4)
    atoms.arrays["spin_states"][co[1]] = "low"
    assert atoms.get_potential_energy() == pytest.approx(after, abs=1e-4)
    states = np.tile(atoms.arrays["oxi_states"], (2, 1))
    assert model.score(atoms, states) == pytest.approx([after] * 2, abs=1e-4)
    table = mk.predict([frames[0], flipped], {"m": model}, progress=False)
    assert table["frame"].nunique() == 2  # two predictions, not one
    relaxed = mk.relax_many(
        [frames[0], flipped], model, folder=tmp_path / "runs", steps=0, processes=1, progress=False
    )
    assert [r.energies[0] for r in relaxed] == pytest.approx([before, after], abs=1e-4)
    unlabelled = frames[0].copy()
    del unlabelled.arrays["spin_states"]
    with pytest.raises(mk.InputError, match="this model tells spins apart"):
        model.predict([unlabelled])
    with pytest.raises(mk.InputError, match=r"no training frame holds Co3\+ \(odd spin\)"):
        mk.train("cpainn", frames, charge_aware=True, proxies={("Co", 3, "odd"): "Al"})
    with pytest.raises(mk.InputError, match="does not name an ion"):
        mk.train("cpainn", frames, charge_aware=True, proxies={("Co", 3, ""): "Al"})
