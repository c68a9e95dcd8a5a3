import os
import sys
from pathlib import Path

import pytest

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent / "data" / "dft")]

import mlipkit as mk


@pytest.fixture(scope="session")
def frames():
    return mk.load_dft()


@pytest.fixture(scope="session")
def ends(frames):
    return mk.end_points(frames)


@pytest.fixture
def mixed(ends):
    """An end point with two Fe2+ and two Fe3+, safe to change."""
    atoms = next(a for a in ends if a.info["ordering"] == "x050_na01_fe01")
    copy = atoms.copy()
    copy.calc = atoms.calc
    return copy
