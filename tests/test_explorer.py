import gc
import itertools
import os
import subprocess
import sys
from pathlib import Path

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
    shown = lambda: [t.name for t in app.figure.data if t.visible is not False and t.name]    # noqa: E731
    assert shown() == ["DFT"] * 2 + ["chgnet_blind"] * 4      # points and line of the hull, twice; ladder; parity plot
    app.model.value = "aware"
    assert app.state.model == "aware" and shown() == ["DFT"] * 2 + ["chgnet_aware"] * 4
    app.architecture.value = "mace"
    assert app.state.series == "mace_aware" and shown() == ["DFT"] * 2 + ["mace_aware"] * 4
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


def watched(widget):
    """How many callbacks hang on the traits of a widget."""
    return sum(len(v) for per_trait in widget._trait_notifiers.values() for v in per_trait.values())


def test_two_hundred_toggles_leave_nothing_behind():
    """Neither observers, nor NGL components and messages, nor memory: the models are loaded in the warm-up."""
    app, names = mk.explore(ordering="x050_na01_fe01"), [n for n in mk.ExplorerState().names if n.startswith("x0")]
    widgets = [w for w in vars(app).values() if hasattr(w, "_trait_notifiers")]

    def toggle(k):
        app.state.model = ("blind", "aware", "pretrained")[k % 3]
        app.state.architecture = ("cpainn", "mace", "chgnet")[k % 3 if k % 2 else 0]
        app.state.ordering = names[k % len(names)]
        app.octahedra.value = bool(k % 2)
        app.state.flip(int(np.flatnonzero(app.state.atoms.symbols == "Fe")[k % 4]))

    def memory():
        gc.collect()
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

    def count():
        view = app.structure
        return (*map(watched, widgets), len(view._ngl_component_ids), len(view._ngl_msg_archive), len(view._remote_call_thread.q),
                len(view._ngl_displayed_callbacks_before_loaded), len(app.figure.data))
    for k in range(90):
        toggle(k)
    before, megabytes = count(), memory()
    for k in range(90, 290):
        toggle(k)
    toggle(89)          # the picture of the count before
    assert count() == before
    print(f"memory after 200 more toggles: {memory() - megabytes:+.1f} MB of {megabytes:.0f}")      # pytest -s shows it
    assert memory() - megabytes < 8


def test_flips_move_a_charge_aware_model_and_no_other(state):
    state.architecture, state.model = "cpainn", "blind"
    fe = [int(i) for i in np.flatnonzero(state.atoms.symbols == "Fe")]
    moments = state.moments(state.series)
    two, three = (next(i for i in fe if state.given[i] == q) for q in (2, 3))
    state.flip(two)
    assert state.imbalance == 1 and state.change == 0 and state.moments(state.series) == pytest.approx(moments, abs=1e-4)
    assert state.atoms.arrays["oxi_states"][two] == 3               # what was flipped is seen; what the model answers is
    assert {r[0]: r[5] for r in state.summary(state.atoms)}[two] == 2
    state.model = "aware"
    state.flip(three)
    assert state.flips == tuple(sorted((two, three))) and state.imbalance == 0
    atoms, model = state.ends[state.index].copy(), mk.load_model("cpainn", charge_aware=True)
    start = model.predict([atoms])[0].energy
    atoms.arrays["oxi_states"][[two, three]] = 3, 2
    assert state.change == pytest.approx((model.predict([atoms])[0].energy - start) / 4, abs=1e-6) and abs(state.change) > 0.01
    assert {r[0]: r[5] for r in state.summary(state.atoms)}[two] == 3
    state.flip(two)
    state.flip(three)
    assert state.flips == () and state.change == 0
    state.flip(two)
    state.ordering = "x050_na01_fe02"                               # another ordering begins without
    assert state.flips == ()


def test_only_fe_can_be_flipped(state):
    with pytest.raises(traitlets.TraitError, match="only the valence of Fe can be flipped, not that of atom 27; Fe are atoms 2, 3, 4, 5"):
        state.flip(27)
    assert state.flips == ()


def test_a_click_flips_and_the_hull_point_moves():
    app = mk.explore(ordering="x050_na01_fe01", architecture="cpainn", model="aware")
    fe, o = (int(np.flatnonzero(app.state.atoms.symbols == s)[1]) for s in ("Fe", "O"))
    assert app.reset.disabled and len(app.figure.layout.shapes) == 5
    app.click.value = "flip"
    app.structure.picked = {"atom1": {"index": fe}}
    assert app.state.flips == (fe,) and "sum to" in app.lesson.value and "Charge-aware" in app.lesson.value and not app.reset.disabled
    dot = app.figure.layout.shapes[6]
    energy = app.state.hulls["cpainn_aware"]["formation_energy"][app.state.index]
    assert dot.yanchor == pytest.approx(energy + app.state.change) and abs(dot.yanchor - energy) > 0.01
    app.structure.picked = {}
    app.structure.picked = {"atom1": {"index": o}}
    assert app.state.flips == (fe,)                                 # O is only read
    app.model.value = "blind"
    assert "Charge-blind" in app.lesson.value and app.figure.layout.shapes[6].yanchor == app.figure.layout.shapes[1].yanchor
    app.reset.click()
    assert app.state.flips == () and app.lesson.value.count("Charge") == 0 and len(app.figure.layout.shapes) == 5


def test_nothing_needs_torch_before_the_first_flip():
    code = ("import sys, mlipkit as mk; app = mk.explore(); app.state.model = 'aware'; print('torch' in sys.modules); "
            "app.state.ordering = 'x050_na01_fe01'; app.state.flip(3); print('torch' in sys.modules)")
    assert subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True).stdout.split() == ["False", "True"]


def test_ladder_shows_the_levels_of_the_chosen_arrangement():
    app = mk.explore(ordering="x050_na01_fe02", model="aware")
    ladder = next(t for t in app.figure.data if t.xaxis == "x2" and t.name == app.state.series)
    for ordering in ("x050_na01_fe02", "x025_na0_fe013"):
        app.state.ordering = ordering
        high = app.figure.layout.xaxis2.range[1]
        shown = {name: y for x, y, name in zip(ladder.x, ladder.y, ladder.text) if x is not None and x > high - 1 and x < high}
        assert shown == pytest.approx(app.state.levels("chgnet_aware"))
        assert app.figure.layout.shapes[3].yanchor == pytest.approx(shown[ordering])


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
