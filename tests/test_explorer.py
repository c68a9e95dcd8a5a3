import itertools

import numpy as np
import pytest
import traitlets

import mlipkit as mk


@pytest.fixture
def state():
    return mk.ExplorerState(ordering="x050_na01_fe01")


def test_composition_and_ordering_follow_each_other(state):
    state.x = 0.75
    assert state.ordering == state.orderings(0.75)[0]
    state.ordering = "x025_na0_fe012"
    assert state.x == 0.25
    energies = [state.hulls["DFT"]["formation_energy"][state.names.index(n)] for n in state.orderings(0.5)]
    assert energies == sorted(energies)


def test_unknown_choices_are_refused(state):
    with pytest.raises(traitlets.TraitError, match="there is no ordering 'nothing'"):
        state.ordering = "nothing"
    with pytest.raises(traitlets.TraitError):
        state.model = "psychic"
    with pytest.raises(traitlets.TraitError, match="no ordering at x = 0.3"):
        state.x = 0.3
    assert (state.ordering, state.x) == ("x050_na01_fe01", 0.5)
    assert mk.ExplorerState(x=0.75).x == 0.75


def test_atoms_carry_what_the_model_predicts(state):
    table = mk.load_predictions().set_index(["model", "job", "step"])
    end = state.ends[state.index]
    for architecture, model in itertools.product(("chgnet", "cpainn", "mace"), ("pretrained", "blind", "aware")):
        state.architecture, state.model = architecture, model
        series = "chgnet_pretrained" if model == "pretrained" else f"{architecture}_{model}"
        row = table.loc[(series, end.info["job"], end.info["step"])]
        fe = state.atoms.symbols == "Fe"
        assert state.atoms.get_magnetic_moments()[fe] == pytest.approx(row[[f"magmom_{i}" for i in range(4)]].to_numpy(float))
        assert state.atoms.arrays["oxi_states"].sum() == 0
        assert [r[3] for r in state.summary(state.atoms)] == end.arrays["oxi_states"][fe].tolist()


def test_missing_predictions_are_named(frames):
    with pytest.raises(mk.InputError, match="no prediction of chgnet_pretrained for job x000"):
        mk.ExplorerState(frames, mk.load_predictions().query("job != 'x000_na-_fe0123'"))
    with pytest.raises(mk.InputError, match="no predictions of chgnet_aware, chgnet_blind, cpainn_aware"):
        mk.ExplorerState(frames, mk.load_predictions().query("model == 'chgnet_pretrained'"))


def test_toggle_changes_the_figures():
    app = mk.explore(ordering="x050_na01_fe01", model="blind")
    shown = lambda: [t.name for t in app.figure.data if t.visible is not False and t.name and t.xaxis != "x2"]    # noqa: E731
    assert shown() == ["DFT"] * 2 + ["chgnet_blind"] * 3      # points and line of the hull, twice, and the parity plot
    app.model.value = "aware"
    assert app.state.model == "aware" and shown() == ["DFT"] * 2 + ["chgnet_aware"] * 3
    app.architecture.value = "mace"
    assert app.state.series == "mace_aware" and shown() == ["DFT"] * 2 + ["mace_aware"] * 3
    marked = app.figure.layout.shapes[1].yanchor
    assert marked == pytest.approx(app.state.hulls["mace_aware"]["formation_energy"][app.state.index])


def test_widgets_and_state_agree_after_every_choice():
    app = mk.explore()
    for name in app.state.names:
        app.state.ordering = name
        assert (app.ordering.value, app.composition.value) == (name, app.state.x)
    app.composition.value = 0.5
    assert app.ordering.value == app.state.ordering == app.state.orderings(0.5)[0]
    assert set(app.ordering.options) == set(app.state.orderings(0.5))


def test_toggling_leaves_nothing_behind():
    app = mk.explore(ordering="x050_na01_fe01")
    count = lambda: (len(app.structure._ngl_component_ids), len(app.figure.data),     # noqa: E731
                     sum(len(v) for per_trait in app.state._trait_notifiers.values() for v in per_trait.values()))
    before = count()
    for k in range(60):
        app.state.model = ("blind", "aware", "pretrained")[k % 3]
        app.state.architecture = ("chgnet", "mace", "cpainn", "mace")[k % 4]
        app.state.ordering = app.state.names[k % len(app.state.names)]
    assert count() == before


def test_picking_an_atom_reads_its_moment():
    app = mk.explore(ordering="x050_na01_fe01")
    fe = int(np.flatnonzero(app.state.atoms.symbols == "Fe")[1])
    app.structure.picked = {"atom1": {"index": fe}}
    assert f"<b>{fe}</b>: Fe" in app.picked.value
    before = app.picked.value
    app.state.model = "pretrained"
    assert f"<b>{fe}</b>" in app.picked.value and app.picked.value != before        # the moment of the other model
    app.structure.picked = {"bond": 1}                          # a picked bond has no atom1
    assert f"<b>{fe}</b>: Fe" in app.picked.value
