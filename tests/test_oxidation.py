import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mlipkit as mk


def test_agrees_with_the_bond_lengths_of_relaxed_cells(ends):
    """Other evidence than the moments: Fe2+ is the larger ion."""
    for atoms in ends:
        found = mk.infer_oxidation_states(atoms)
        oxygen = np.flatnonzero(atoms.symbols == "O")
        mean = np.array([np.sort(atoms.get_distances(i, oxygen, mic=True))[:6].mean() for i in found.sites])
        fe2, fe3 = (mean[found.states[found.sites] == q] for q in (2, 3))
        assert found.clear and fe2.min(initial=3.0) > fe3.max(initial=0.0) + 0.03       # Å


HALF = next(a for a in mk.load_dft() if a.info["x"] == 0.5)


@given(st.permutations(range(26)), st.lists(st.sampled_from([-1, 1]), min_size=26, max_size=26), st.floats(-0.15, 0.15))
def test_order_sign_and_sphere_do_not_matter(order, signs, offset):
    atoms = HALF
    expected = mk.infer_oxidation_states(atoms).states
    order, signs = np.array(order), np.array(signs)
    other = atoms[order]
    moments = ((np.abs(atoms.get_magnetic_moments()) + offset) * signs)[order]
    assert np.array_equal(mk.infer_oxidation_states(other, magmoms=moments).states, expected[order])


def test_supercell(mixed):
    big = mixed.repeat((1, 2, 1))
    found = mk.infer_oxidation_states(big, magmoms=np.tile(mixed.get_magnetic_moments(), 2))
    assert np.array_equal(found.states, np.tile(mixed.arrays["oxi_states"], 2))


def test_delocalised_hole_balances_and_says_so(frames):
    atoms = next(a for a in frames if a.info["x"] == 0.75)
    moments = np.zeros(len(atoms))
    moments[atoms.symbols == "Fe"] = [3.85, 3.97, 3.96, 3.85]
    found = mk.infer_oxidation_states(atoms, magmoms=moments)
    assert found.states.sum() == 0 and not found.clear
    assert found.states[found.sites].tolist() == [2, 3, 2, 2]
    assert found.margin == pytest.approx([0.40625, -0.03125, 0.0625, 0.40625])      # (2|m| - 3.66 - 4.30) / 0.64, by hand


def test_bad_input_says_what_is_needed(mixed):
    bare = mixed.copy()
    with pytest.raises(mk.InputError, match="no magmoms.*POSCAR"):
        mk.infer_oxidation_states(bare)
    with pytest.raises(mk.InputError, match="26 finite moments"):
        mk.infer_oxidation_states(bare, magmoms=[1, 2])
    with pytest.raises(mk.InputError, match="26 finite moments"):
        mk.infer_oxidation_states(bare, magmoms=[np.nan] * 26)
    with pytest.raises(mk.InputError, match="has no Fe"):
        mk.infer_oxidation_states(bare[bare.symbols == "O"])
    with pytest.raises(mk.InputError, match="not Mn"):
        bare.symbols[bare.symbols == "Fe"] = "Mn"
        mk.infer_oxidation_states(bare)


def test_unreachable_charge(mixed):
    magmoms = mixed.get_magnetic_moments()
    lost = np.flatnonzero(mixed.symbols == "P")[0]          # five positive charges fewer: two Fe3+ would have to be seven
    del mixed[lost]
    with pytest.raises(mk.InputError, match="neutrality asks for 7 Fe3\\+ among 4 Fe"):
        mk.infer_oxidation_states(mixed, magmoms=np.delete(magmoms, lost))
