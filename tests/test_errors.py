import numpy as np
import pandas as pd
import pytest

import mlipkit as mk
from mlipkit.errors import align_energies


@pytest.fixture
def perfect(frames):
    """Predictions equal to the labels."""
    rows = []
    for a in frames:
        m = np.abs(a.get_magnetic_moments()[a.symbols == "Fe"])
        rows.append({"model": "perfect", "job": a.info["job"], "step": a.info["step"], "energy": a.get_potential_energy(), "force_mae": 0.0,
                     **{f"magmom_{i}": v for i, v in enumerate(m)}})
    return pd.DataFrame(rows)


def test_zero_for_labels_and_known_for_an_offset(frames, perfect):
    assert mk.error_table(frames, perfect) == {"n": len(frames), "energy": 0, "forces": 0, "magmoms": 0, "valence_right": 100}
    off = perfect.assign(energy=[e + 0.001 * len(a) for e, a in zip(perfect["energy"], frames)], force_mae=0.05, magmom_0=perfect["magmom_0"] - 0.04)
    found = mk.error_table(frames, off)
    assert found["energy"] == pytest.approx(1.0) and found["forces"] == pytest.approx(50) and found["magmoms"] == pytest.approx(0.01)


def test_swapped_moments_are_wrong_valences(frames, perfect):
    half = [i for i, a in enumerate(frames) if a.info["x"] == 0.5]
    swapped = perfect.iloc[half].copy()
    swapped[[f"magmom_{i}" for i in range(4)]] = 8 - swapped[[f"magmom_{i}" for i in range(4)]].to_numpy()
    assert mk.error_table([frames[i] for i in half], swapped)["valence_right"] == 0


def test_alignment_takes_out_a_reference_and_nothing_else(frames):
    energies = np.array([a.get_potential_energy() for a in frames])
    shift = np.array([3.1 * (a.symbols == "Fe").sum() - 1.7 * (a.symbols == "Na").sum() for a in frames])
    assert align_energies(frames, energies + shift) == pytest.approx(energies, abs=1e-8)


def test_compare_models_leaves_out_loose_first_frames(frames, perfect):
    table = mk.compare_models(frames, perfect, "train")
    assert table.loc["perfect", "n"] == sum(a.info["split"] == "train" and a.info["density"] < 5e-4 for a in frames)
    with pytest.raises(mk.InputError, match="no prediction of perfect for job"):
        mk.compare_models(frames, perfect[perfect["step"] > 2], "train")
    with pytest.raises(mk.InputError, match="no frame belongs to the split 'nothing'"):
        mk.compare_models(frames, perfect, "nothing")
