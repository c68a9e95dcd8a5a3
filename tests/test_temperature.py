"""The temperature app without a browser: what is chosen, said and drawn, against the diagrams."""

import numpy as np
import pytest
import traitlets
from ase.units import kB

import mlipkit as mk
from mlipkit.apps.temperature_state import TemperatureState


@pytest.fixture(scope="module")
def diagrams():
    return mk.load_phases()


def test_the_shipped_diagrams_hold_together(diagrams):
    for kinds in diagrams.values():
        for kind, d in kinds.items():
            assert d.aware == (kind == "with electrons")
            assert (d.x[0], d.x[-1], len(d.x)) == (0, 1, 73)
            assert abs(d.free_energy[:, [0, -1]]).max() < 1e-6
            # both ends are single arrangements: the chain of ratios from one to the other closes
            assert (abs(d.entropy[:, [0, -1]]) * d.temperatures[:, None]).max() < 0.001
            inside = d.temperatures >= 700  # below, cells are frozen in single orderings
            assert (d.entropy[inside] > -0.02 * kB).all()
            # never more than free mixing of both
            assert d.entropy.max() < 2 * np.log(2) * kB
            # runs up and down agree
            assert d.error[inside].max() < 0.001
            assert d.aware or not d.electronic.any()


def test_electrons_lower_the_temperature_of_the_solid_solution(diagrams):
    for kinds in diagrams.values():
        ones = {kind: d.boundaries for kind, d in kinds.items()}
        hottest = {kind: table["temperature"].max() for kind, table in ones.items()}
        assert hottest["with electrons"] <= hottest["without"]
        at = kinds["with electrons"].at(800)
        # by half their own entropy and more the electrons stabilise the middle
        gained = kinds["without"].free_energy[at] - kinds["with electrons"].free_energy[at]
        assert gained[len(gained) // 2] > 0.005


def test_what_is_said_is_in_the_diagram(diagrams):
    state = TemperatureState(diagrams)
    state.temperature = 612.0
    assert state.temperature == 600  # the nearest computed
    said = str(state)
    for low, high, _ in state.diagram.gaps(600):
        assert f"{low:.2f} to {high:.2f}" in said
    part, whole = state.share
    assert f"{part / whole:.0%} of the entropy" in said
    state.kind = "without"
    assert "electrons is left out" in str(state)


def test_a_cell_holds_what_x_says(diagrams):
    state = TemperatureState(diagrams)
    for x in (0.0, 0.25, 1.0):
        state.choose(x, 900)
        atoms = state.atoms
        n = state.diagram.n_units
        assert (atoms.symbols == "Na").sum() == round(state.x * n)
        assert atoms.arrays["oxi_states"][atoms.symbols == "Fe"].sum() == round((3 - state.x) * n)


def test_an_architecture_without_a_kind_falls_back(diagrams):
    few = {"a": diagrams["cpainn"], "b": {"without": diagrams["mace"]["without"]}}
    state = TemperatureState(few, kind="charge-blind")
    state.architecture = "b"
    assert state.kind == "without"
    with pytest.raises(traitlets.TraitError, match="there is no diagram 'charge-blind' of b"):
        state.kind = "charge-blind"


@pytest.mark.parametrize("wrong", ["cpainn", [], {}, {"a": 1}, {"a": {"warm": 2}}, 3.0])
def test_what_is_no_diagram_is_told(wrong):
    with pytest.raises(mk.InputError, match="explore_temperature"):
        mk.explore_temperature(wrong)


def test_the_app_follows_its_state(diagrams):
    app = mk.explore_temperature(diagrams)
    app.state.temperature = 900.0
    assert "900 K" in app.line.value and app.temperature.value == 900
    app.state.kind = "without"
    assert app.kind.value == "without" and "left out" in app.line.value
