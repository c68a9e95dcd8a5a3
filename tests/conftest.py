import os
import sys
from pathlib import Path

import pytest

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
DATA = Path(__file__).parent.parent / "data"
sys.path[:0] = [str(Path(__file__).parent), str(DATA), str(DATA / "dft")]

import mlipkit as mk


@pytest.fixture(scope="session")
def frames():
    return mk.load_dft()


@pytest.fixture(scope="session")
def ends(frames):
    return mk.end_points(frames)


@pytest.fixture(scope="session")
def few(frames):
    # by name, so that they stay the same while the campaign adds frames
    train = [
        a
        for a in frames
        if (a.info["job"], a.info["step"])
        in {
            ("x000_na-_fe0123", 3),
            ("x025_na0_fe012", 9),
            ("x050_na02_fe13", 6),
            ("x075_na012_fe0", 12),
            ("x100_na0123_fe-", 4),
        }
    ]
    return (
        train
        + [a for a in frames if a.info["split"] == "validation" and a.info["density"] < 5e-4][:2]
    )


@pytest.fixture
def mixed(ends):
    """An end point with two Fe2+ and two Fe3+, safe to change."""
    atoms = next(a for a in ends if a.info["ordering"] == "x050_na01_fe01")
    copy = atoms.copy()
    copy.calc = atoms.calc
    return copy
