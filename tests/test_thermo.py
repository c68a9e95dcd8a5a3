import numpy as np
import pytest
from scipy.spatial import ConvexHull

import mlipkit as mk


def test_formation_energy_by_hand(ends):
    e0, e1 = (min(a.get_potential_energy() for a in ends if a.info["x"] == x) for x in (0, 1))
    for atoms, ef in zip(ends, mk.formation_energies(ends)):
        x = atoms.info["x"]
        assert ef == pytest.approx((atoms.get_potential_energy() - x * e1 - (1 - x) * e0) / 4, abs=1e-12)


def test_formation_energy_of_a_supercell_is_the_same(ends):
    big = [a.repeat((1, 1, 2)) for a in ends]
    assert mk.formation_energies(big, [2 * a.get_potential_energy() for a in ends]) == pytest.approx(mk.formation_energies(ends), abs=1e-12)


def test_reference_shift_cancels(ends):
    shifted = [a.get_potential_energy() + 7.0 * 4 - 3.0 * (a.symbols == "Na").sum() for a in ends]
    assert mk.formation_energies(ends, shifted) == pytest.approx(mk.formation_energies(ends), abs=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_hull_against_scipy(ends, seed):
    energies = [a.get_potential_energy() + 0.3 * np.random.default_rng(seed).normal(size=len(ends))[i] for i, a in enumerate(ends)]
    table = mk.hull(ends, energies)
    points = np.array([[a.info["x"], e] for a, e in zip(ends, mk.formation_energies(ends, energies))])
    lower = [s for s, eq in zip(ConvexHull(points).simplices, ConvexHull(points).equations) if eq[1] < -1e-12]
    vertices = np.array(sorted(points[list({i for s in lower for i in s})].tolist()))
    floor = np.interp(points[:, 0], vertices[:, 0], vertices[:, 1])
    assert table["energy_above_hull"].to_numpy() == pytest.approx(points[:, 1] - floor, abs=1e-6)
    assert table["on_hull"].to_numpy().tolist() == (points[:, 1] - floor < 1e-8).tolist()


def test_missing_end_member_and_wrong_length(ends):
    with pytest.raises(mk.InputError, match="x = 0 and x = 1"):
        mk.formation_energies([a for a in ends if a.info["x"] > 0])
    with pytest.raises(mk.InputError, match="1 energies"):
        mk.hull(ends, [0.0])
    with pytest.raises(mk.InputError, match="has no energy"):
        mk.hull([a.copy() for a in ends])
