import html
import itertools
import re
import subprocess
import sys

import numpy as np
import pytest
import traitlets
from lab import own_memory

import mlipkit as mk
from mlipkit.apps import explorer_words


@pytest.fixture
def state():
    return mk.ExplorerState(ordering="x050_na01_fe01")


def test_composition_and_ordering_follow_each_other(state):
    state.x = 0.75
    assert state.ordering == state.orderings(0.75)[0]
    state.ordering = "x025_na0_fe012"
    assert state.x == 0.25
    energies = [
        state.hulls["DFT"]["formation_energy"][state.names.index(n)] for n in state.orderings(0.5)
    ]
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
    for architecture, model in [
        ("chgnet", "pretrained"),
        *itertools.product(("chgnet", "cpainn", "mace"), ("blind", "aware")),
    ]:
        state.architecture, state.model = architecture, model
        series = f"{architecture}_{model}"
        row = table.loc[(series, end.info["job"], end.info["step"])]
        fe = state.atoms.symbols == "Fe"
        assert state.atoms.get_magnetic_moments()[fe] == pytest.approx(
            row[[f"magmom_{i}" for i in range(4)]].to_numpy(float)
        )
        assert state.atoms.arrays["oxi_states"].sum() == 0
        assert [r[3] for r in state.summary(state.atoms)] == end.arrays["oxi_states"][fe].tolist()


def test_missing_predictions_are_named(frames):
    with pytest.raises(mk.InputError, match="no prediction of chgnet_pretrained for frame 0 .x000"):
        mk.explore(frames, predictions=mk.load_predictions().query("job != 'x000_na-_fe0123'"))


def test_the_embedded_case_is_one_call_of_the_same_code(frames):
    """Frames and shipped predictions through the front door: what the shipped explorer shows."""
    shipped = mk.ExplorerState(geometry="dft")
    mine = mk.explore(frames, predictions=mk.load_predictions()).state
    assert mine.names == shipped.names and mine.families == shipped.families
    assert mine.geometries == ["dft"]
    for series, table in shipped.hulls.items():
        other = mine.hulls[series]
        assert other["formation_energy"].to_numpy() == pytest.approx(
            table["formation_energy"].to_numpy()
        )
    for name in shipped.names:
        shipped.ordering = mine.ordering = name
        assert mine.findings() == shipped.findings()
        assert mine.summary(mine.atoms) == shipped.summary(shipped.atoms)


def test_toggle_changes_the_figures():
    app = mk.explore(ordering="x050_na01_fe01", model="blind")
    shown = lambda: [t.name for t in app.figure.data if t.visible is not False and t.name]
    # points and line of the hull, twice; ladder; parity plot
    assert shown() == ["DFT"] * 2 + ["CHGNet, charge-blind"] * 4
    app.model.value = "aware"
    assert app.state.model == "aware" and shown() == ["DFT"] * 2 + ["CHGNet, charge-aware"] * 4
    app.architecture.value = "mace"
    assert app.state.series == "mace_aware" and shown() == ["DFT"] * 2 + ["MACE, charge-aware"] * 4
    marked = app.figure.layout.shapes[1].yanchor
    assert marked == pytest.approx(
        app.state.hulls["mace_aware"]["formation_energy"][app.state.index]
    )


def test_widgets_and_state_agree_after_every_choice():
    app = mk.explore()
    for name in app.state.names:
        app.state.ordering = name
        assert (app.ordering.value, app.composition.value) == (name, app.state.x)
    app.composition.value = 0.5
    assert app.ordering.value == app.state.ordering == app.state.orderings(0.5)[0]
    assert {name for _, name in app.ordering.options} == set(app.state.orderings(0.5))
    said = dict((name, says) for says, name in app.ordering.options)
    assert said["x050_na01_fe02"] == "x050_na01_fe02  (Na on 0 and 1, Fe3+ on 0 and 2)"


def watched(widget):
    """How many callbacks hang on the traits of a widget."""
    return sum(len(v) for per_trait in widget._trait_notifiers.values() for v in per_trait.values())


@pytest.mark.alone
def test_two_hundred_toggles_leave_nothing_behind():
    """Neither observers, nor NGL components and messages, nor memory: the models are loaded in the
    warm-up.
    """
    app, names = (
        mk.explore(ordering="x050_na01_fe01"),
        [n for n in mk.ExplorerState().names if n.startswith("x0")],
    )
    widgets = [w for w in vars(app).values() if hasattr(w, "_trait_notifiers")]

    def toggle(k):
        app.state.architecture = ("cpainn", "mace", "chgnet")[k % 3 if k % 2 else 0]
        app.state.model = app.state.models[k % len(app.state.models)]
        app.state.geometry = ("relaxed", "dft", "host")[k // 2 % 3]
        app.state.ordering = names[k % len(names)]
        app.octahedra.value = bool(k % 2)
        app.names.value, app.colour.value = bool(k % 3), ("state", "moment")[k % 2]
        a, *rest = np.flatnonzero(app.state.atoms.symbols == "Fe")
        app.state.swap(a, rest[k % 3])

    def count():
        view = app.structure
        return (
            *map(watched, widgets),
            len(view._ngl_component_ids),
            len(view._ngl_msg_archive),
            len(view._remote_call_thread.q),
            len(view._ngl_displayed_callbacks_before_loaded),
            len(app.figure.data),
        )

    for k in range(150):
        toggle(k)
    before, megabytes = count(), own_memory()
    for k in range(150, 350):
        toggle(k)
    toggle(149)  # the picture of the count before
    assert count() == before
    # pytest -s shows it
    print(f"memory after 200 more toggles: {own_memory() - megabytes:+.1f} MB of {megabytes:.0f}")
    assert own_memory() - megabytes < 8


def test_swaps_move_a_charge_aware_model_and_no_other(state):
    state.architecture, state.model = "cpainn", "blind"
    fe = [int(i) for i in np.flatnonzero(state.atoms.symbols == "Fe")]
    moments = state.moments(state.series)
    two, three = (next(i for i in fe if state.given[i] == q) for q in (2, 3))
    state.flip(two)
    assert (
        state.imbalance == 1
        and state.change == 0
        and state.moments(state.series) == pytest.approx(moments, abs=1e-4)
    )
    # what was flipped is seen; what the model answers is
    assert state.atoms.arrays["oxi_states"][two] == 3
    assert {r[0]: r[5] for r in state.summary(state.atoms)}[two] == 2
    # told nonsense, a charge-aware model is not asked
    state.model = "aware"
    assert np.isnan(state.change) and np.isnan(state.moments(state.series)).all()
    state.flip(three)
    assert state.flips == tuple(sorted(((two, 3), (three, 2)))) and state.imbalance == 0
    atoms, model = state.ends[state.index].copy(), mk.load_model("cpainn", charge_aware=True)
    start = model.predict([atoms])[0].energy
    atoms.arrays["oxi_states"][[two, three]] = 3, 2
    assert (
        state.change == pytest.approx((model.predict([atoms])[0].energy - start) / 4, abs=1e-6)
        and abs(state.change) > 0.01
    )
    on_dft = state.change
    # the same flips where the model put the atoms
    state.geometry = "relaxed"
    assert abs(state.change - on_dft) > 0.001 and len(state.flips) == 2
    state.geometry = "dft"
    assert {r[0]: r[5] for r in state.summary(state.atoms)}[two] == 3
    # back again, the other way
    state.swap(two, three)
    assert state.flips == () and state.change == 0
    state.swap(three, two)
    assert state.imbalance == 0 and state.change == pytest.approx(on_dft)
    # another ordering begins without
    state.ordering = "x050_na01_fe02"
    assert state.flips == ()


def test_only_fe_can_be_flipped(state):
    with pytest.raises(
        traitlets.TraitError,
        match="only the state of Fe can be changed, not that of atom 27; Fe are atoms 2, 3, 4, 5",
    ):
        state.flip(27)
    with pytest.raises(traitlets.TraitError, match="Fe of this compound is never 4.; it is 2., 3."):
        state.flips = ((2, 4),)
    with pytest.raises(traitlets.TraitError, match="atoms 2 and 27 cannot change states: two Fe"):
        state.swap(2, 27)
    assert state.flips == ()


def test_a_click_swaps_and_the_hull_point_moves():
    app = mk.explore(ordering="x050_na01_fe01", architecture="cpainn", model="aware")
    s = app.state
    fe = [int(i) for i in np.flatnonzero(s.atoms.symbols == "Fe")]
    two, three = (next(i for i in fe if s.given[i] == q) for q in (2, 3))
    o = int(np.flatnonzero(s.atoms.symbols == "O")[1])
    assert app.reset.disabled and len(app.figure.layout.shapes) == 5
    ranges = [app.figure.layout[a].range for a in ("yaxis", "yaxis2", "yaxis3")]
    app.click.value = "flip"
    app.structure.picked = {"atom1": {"index": two}}
    # told in words and not drawn into the plots
    assert s.flips == ((two, 3),) and "sum to +1" in app.lesson.value and not app.reset.disabled
    assert [app.figure.layout[a].range for a in ("yaxis", "yaxis2", "yaxis3")] == ranges
    assert len(app.figure.layout.shapes) == 5
    app.reset.click()
    app.click.value = "swap"
    app.structure.picked = {}
    app.structure.picked = {"atom1": {"index": two}}
    assert s.flips == () and "now click the one" in app.picked.value
    app.structure.picked = {"atom1": {"index": o}}  # O is only read
    assert s.flips == ()
    app.structure.picked = {"atom1": {"index": two}}
    app.page.clicked = [three, 1]  # the other one in the table, or by keyboard
    assert dict(s.flips) == {two: 3, three: 2} and "Charge-aware" in app.lesson.value
    dot = app.figure.layout.shapes[6]
    energy = s.hulls["cpainn_aware"]["formation_energy"][s.index]
    assert dot.yanchor == pytest.approx(energy + s.change) and abs(dot.yanchor - energy) > 0.01
    app.model.value = "blind"
    assert (
        "Charge-blind" in app.lesson.value
        and app.figure.layout.shapes[6].yanchor == app.figure.layout.shapes[1].yanchor
    )
    app.reset.click()
    assert s.flips == () and app.lesson.value.count("Charge") == 0
    assert len(app.figure.layout.shapes) == 5


def test_rows_and_atoms_highlight_each_other(state):
    app = mk.explore(ordering="x050_na01_fe01")
    atom = int(np.flatnonzero(app.state.atoms.symbols == "Fe")[2])
    row = f'<tr data-atom="{atom}" tabindex="0" class="mlipkit-chosen">'
    assert row not in app.table.value
    app.structure.picked = {"atom1": {"index": atom}}
    assert row in app.table.value and "chosen" in app.structure.component
    app.page.clicked = [atom + 1, 1]
    assert row not in app.table.value and app.structure.drawn["chosen"] == atom + 1


def test_labels_and_colours_on_request():
    app = mk.explore(ordering="x050_na01_fe02", model="blind", geometry="relaxed")
    assert "labels" not in app.structure.component
    app.names.value = True
    texts = [t for t in app.structure.drawn["texts"] if t]
    assert sorted(t.split(":")[0] for t in texts) == sorted(
        ["Na 0", "Na 1", "Fe 0", "Fe 1", "Fe 2", "Fe 3"]
    )
    moments = app.state.moments(app.state.series)
    numbers = app.state.numbers[app.state.atoms.symbols == "Fe"]
    for number, moment in zip(numbers, moments):
        assert any(f"Fe {number}: " in t and t.endswith(f"{moment:.2f}") for t in texts)
    app.names.value = False
    assert "labels" not in app.structure.component
    by_state = app.structure.drawn["colours"]
    app.colour.value = "moment"
    assert "|moment|" in app.legend.value and f"{max(moments):.2f} µB" in app.legend.value
    fe = np.flatnonzero(app.state.atoms.symbols == "Fe")
    colours = [app.structure.drawn["colours"][i] for i in fe]
    same = np.abs(moments[:, None] - moments) < 1e-9
    assert colours != [by_state[i] for i in fe]
    for i, j in itertools.combinations(range(len(fe)), 2):
        assert (colours[i] == colours[j]) or not same[i, j]
    app.colour.value = "error"
    assert "error of the moment 0.00" in app.legend.value
    app.colour.value = "state"
    assert app.structure.drawn["colours"] == by_state


def test_nothing_needs_torch_before_the_first_flip():
    code = (
        "import sys, mlipkit as mk; app = mk.explore(); app.state.model = 'aware'; print('torch' "
        "in sys.modules); "
        "app.state.ordering = 'x050_na01_fe01'; app.state.swap(2, 4); print('torch' in sys.modules)"
    )
    assert subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True
    ).stdout.split() == ["False", "True"]


def test_ladder_shows_the_levels_of_the_chosen_arrangement():
    app = mk.explore(ordering="x050_na01_fe02", model="aware")
    ladder = next(
        t for t in app.figure.data if t.xaxis == "x2" and t.name == "CHGNet, charge-aware"
    )
    for ordering in ("x050_na01_fe02", "x025_na0_fe013"):
        app.state.ordering = ordering
        high = app.figure.layout.xaxis2.range[1]
        shown = {
            name: y
            for x, y, name in zip(ladder.x, ladder.y, ladder.text)
            if x is not None and x > high - 1.5 and x < high
        }
        assert shown == pytest.approx(app.state.levels("chgnet_aware"))
        assert app.figure.layout.shapes[3].yanchor == pytest.approx(shown[ordering])


def test_picking_an_atom_reads_its_moment():
    app = mk.explore(ordering="x050_na01_fe01")
    fe = int(np.flatnonzero(app.state.atoms.symbols == "Fe")[1])
    app.structure.picked = {"atom1": {"index": fe}}
    assert f"<b>{fe}</b>: Fe" in app.picked.value
    before = app.picked.value
    app.state.model = "pretrained"
    # the moment of the other model
    assert f"<b>{fe}</b>" in app.picked.value and app.picked.value != before
    app.structure.picked = {"bond": 1}  # a picked bond has no atom1
    assert f"<b>{fe}</b>: Fe" in app.picked.value


@pytest.fixture(scope="module")
def told():
    """The shipped table of the geometries, an independent way to what the explorer says."""
    return mk.load_geometries().set_index(["geometry", "model", "ordering"]).sort_index()


def mixed(state):
    return [name for name in state.names if not name.startswith(("x000", "x100"))]


@pytest.mark.parametrize("architecture", ["chgnet", "cpainn", "mace"])
@pytest.mark.parametrize("model", ["blind", "aware"])
def test_relaxed_by_the_model_everything_is_of_that_geometry(state, told, architecture, model):
    state.architecture, state.model, state.geometry = architecture, model, "relaxed"
    relaxations = mk.load_relaxations(state.series)
    ends = [r.energies[-1] for r in relaxations]
    assert state.hulls[state.series]["formation_energy"].to_numpy() == pytest.approx(
        mk.formation_energies(state.ends, ends), abs=3e-6
    )
    for name, relaxation in zip(state.names, relaxations):
        state.ordering = name
        fe = relaxation.redox_sites
        assert state.atoms.positions == pytest.approx(relaxation.atoms.positions)
        assert state.moments(state.series) == pytest.approx(relaxation.magmoms[-1][fe], abs=1e-4)
        assert np.array_equal(state.inferred(state.atoms).states, relaxation.states[-1])
        wrong = [
            i
            for i in fe
            if relaxation.states[-1][i] != relaxation.frames[0].arrays["oxi_states"][i]
        ]
        assert set(wrong) <= set(state.changed(state.atoms)) and (model == "blind" or wrong == [])
    found = state.findings()
    assert (
        found["kept"] == told.loc["relaxed"].loc[state.series].loc[mixed(state), "kept"].sum()
        and found["mixed"] == 14
    )
    hull = mk.hull(state.ends, ends)
    rows = told.loc["relaxed"].loc[state.series]
    vertices = {
        rows.loc[name, "found"]
        for name in hull[hull["on_hull"]]["ordering"]
        if name in mixed(state)
    }
    assert set(found["vertices"]) == vertices
    if model == "aware":
        assert (
            found["kept"] == 14
            and found["window"] > 0.6 * found["dft_window"]
            and vertices == set(found["dft_vertices"]) == {"x050_na03_fe02"}
        )
    # cPaiNN has DFT's ordering on its hull, whichever was asked for
    else:
        assert (
            found["kept"] <= 4
            and found["window"] < 0.1
            and vertices == ({"x050_na03_fe02"} if architecture == "cpainn" else set())
        )


def test_on_the_host_a_blind_model_has_one_level_and_dft_what_it_has(state, frames):
    state.geometry, state.ordering = "host", "x050_na02_fe13"
    assert list(state.levels("chgnet_blind").values()) == pytest.approx([0, 0, 0, 0], abs=0.05)
    aware = state.levels("chgnet_aware")
    assert len(aware) == 4 and max(aware.values()) > 50
    there = {a.info["ordering"]: a for a in frames if a.info["kind"] == "undistorted"}
    assert state.atoms.positions == pytest.approx(there[state.ordering].positions), (
        "models and DFT on the same atoms"
    )
    aware_there = mk.load_predictions().query(
        "model == 'chgnet_aware' and job == @state.ordering + '.back' and step == 1"
    )
    row = state.tables["host"]["chgnet_aware"].iloc[state.index]
    assert row["energy"] == pytest.approx(aware_there["energy"].item(), abs=1e-3)
    here = {name: there[name].get_potential_energy() for name in aware if name in there}
    assert (
        state.levels("DFT")
        == pytest.approx({n: 250 * (e - min(here.values())) for n, e in here.items()})
        and len(here) == 3
    )
    assert state.moments() == pytest.approx(
        np.abs(there[state.ordering].get_magnetic_moments()[state.atoms.symbols == "Fe"])
    )
    # its electron spreads over two Fe: DFT has no such state there
    state.ordering = "x025_na0_fe013"
    assert np.isnan(state.moments()).all() and state.levels("DFT") == {}
    bonds = [
        np.sort(state.atoms.get_distances(i, np.flatnonzero(state.atoms.symbols == "O"), mic=True))[
            :6
        ]
        for i in np.flatnonzero(state.atoms.symbols == "Fe")
    ]
    # nothing tells one Fe from another
    assert np.ptp(bonds, axis=0).max() < 1e-4


def test_one_step_of_a_relaxation_after_the_other(state):
    with pytest.raises(traitlets.TraitError, match="no relaxation"):
        state.step = 0
    state.geometry, state.ordering = "relaxed", "x050_na01_fe02"
    for step in range(state.last):
        state.step = step
        frame = state.relaxation.frames[step]
        assert state.atoms.positions == pytest.approx(frame.positions)
        assert state.moments(state.series) == pytest.approx(
            frame.get_magnetic_moments()[frame.symbols == "Fe"]
        )
    with pytest.raises(
        traitlets.TraitError, match=f"there is no step {state.last + 1}; the last is {state.last}"
    ):
        state.step = state.last + 1
    state.step = state.last
    assert state.step is None  # the end
    state.step = 3
    state.model = "aware"
    # another relaxation is looked at from its end
    assert state.step is None


def test_a_model_that_was_never_published_cannot_be_chosen():
    app = mk.explore(architecture="chgnet", model="pretrained")
    assert [value for _, value in app.model.options] == ["pretrained", "blind", "aware"]
    app.architecture.value = "mace"
    assert [value for _, value in app.model.options] == [
        "blind",
        "aware",
    ] and app.state.model == app.model.value == "blind"
    with pytest.raises(traitlets.TraitError, match="there is no pretrained model of mace"):
        app.state.model = "pretrained"


@pytest.mark.parametrize("geometry", ["relaxed", "host", "dft"])
def test_a_click_on_any_point_chooses_it_or_offers_it(geometry):
    """All visible points of the three plots: the ordering of each is chosen, or stands on a button;
    the composition stays on a tie.
    """
    app = mk.explore(ordering="x075_na012_fe0", model="blind", geometry=geometry)
    clicked = 0
    for arrangement in ("x050_na02_fe13", "x000_na-_fe0123", "x025_na0_fe013"):
        app.state.ordering = arrangement
        for trace in [t for t in app.figure.data if t.visible and t.text and "markers" in t.mode]:
            for i, (x, y, name) in enumerate(zip(trace.x, trace.y, trace.text)):
                on_screen = (
                    x is not None
                    and y is not None
                    and (
                        trace.xaxis != "x2"
                        or app.figure.layout.xaxis2.range[0] < x < app.figure.layout.xaxis2.range[1]
                    )
                )
                if not on_screen:
                    continue
                before = app.state.ordering
                app._click(trace, Points([i]), None)
                offered = (
                    [value for _, value in app.here.options]
                    if app.here.layout.display == ""
                    else []
                )
                assert name == app.state.ordering or name in offered
                if before in app._near(trace, i):
                    assert app._x(app.state.ordering) == app._x(before)
                app.state.ordering, clicked = arrangement, clicked + 1
    assert clicked > 100


class Points:
    def __init__(self, inds):
        self.point_inds = inds


def test_the_same_spot_again_goes_on_to_the_next_ordering():
    app = mk.explore(ordering="x050_na01_fe02", model="blind", geometry="relaxed")
    # the hull has them side by side, the ladder on one level
    ladder = next(
        t
        for t in app.figure.data
        if t.visible and t.name == "CHGNet, charge-blind" and t.xaxis == "x2"
    )
    spot = Points([list(ladder.text).index("x050_na01_fe01") + 1])  # the model's end
    app._click(ladder, spot, None)
    assert app.state.ordering == "x050_na01_fe01"
    app._click(ladder, spot, None)
    assert app.state.ordering != "x050_na01_fe01"
    offered = [value for _, value in app.here.options]
    assert {"x050_na01_fe01", "x050_na01_fe02", "x050_na01_fe03"} <= set(
        offered
    ) and app.here.value == app.state.ordering
    app.here.value = "x050_na01_fe03"
    assert app.state.ordering == "x050_na01_fe03"
    # elsewhere: nothing to choose from
    app.state.ordering = "x025_na0_fe012"
    assert app.here.layout.display == "none"


def test_the_axes_follow_what_is_shown():
    app = mk.explore(ordering="x050_na01_fe02", model="blind", geometry="dft")
    shown = lambda: np.concatenate(
        [app.state.hulls[s]["formation_energy"] for s in ("DFT", app.state.series)]
    )
    # the published CHGNet goes down to -0.1 eV, the others do not
    for model in ("pretrained", "blind", "aware"):
        app.state.model = model
        low, high = app.figure.layout.yaxis.range
        span = np.ptp(shown())
        assert low < shown().min() < low + 0.2 * span and high - 0.2 * span < shown().max() < high
    app.close_up.value = True
    low, high = app.figure.layout.yaxis.range
    vertices = min(
        t["formation_energy"][t["on_hull"]].min()
        for t in (app.state.hulls[s] for s in ("DFT", app.state.series))
    )
    assert low < vertices and high == pytest.approx(0.04) and high - low < 0.07


def test_edits_on_each_others_heels_are_said_once_more():
    app = mk.explore(ordering="x050_na01_fe02", model="blind", geometry="relaxed")
    sent = []
    app.figure._send_update_msg = lambda restyle_data, relayout_data, **more: sent.append(
        (restyle_data, relayout_data)
    )
    app.figure._layout_edit_in_process = app.figure._trace_edit_in_process = False
    app.state.model = "aware"
    assert len(sent) == 1 and not app.unconfirmed
    # the browser has not answered yet
    app.figure._layout_edit_in_process = True
    app.state.model = "blind"
    app.state.ordering = "x050_na03_fe02"
    assert len(sent) == 3 and len(app.figure._waiting_edit_callbacks) == 1
    app.figure._waiting_edit_callbacks.pop()()
    style, layout = sent[-1]
    assert (
        style["visible"] == [t.visible is not False for t in app.figure.data]
        and not app.unconfirmed
    )
    assert (
        layout["shapes"] == [s.to_plotly_json() for s in app.figure.layout.shapes]
        and len(layout["shapes"]) == 5
    )
    assert layout["yaxis.range"] == list(app.figure.layout.yaxis.range)


@pytest.mark.parametrize(
    ("lowest", "of_dft", "says"),
    [
        (["a"], ["a"], "✓ the lowest at x = 0.5 is DFT's, a"),
        (["a"], ["a", "b"], "✓ the lowest at x = 0.5 is a, one of a tie of 2 by DFT"),
        (["a", "b"], ["a", "b"], "✓ the lowest at x = 0.5 is DFT's, a tie of 2"),
        (["c"], ["a", "b"], "✗ the lowest at x = 0.5 is c, not a tie of 2"),
        (["a", "b"], ["a"], "✗ the lowest at x = 0.5 is a tie of 2, not a"),
        (["b"], ["a"], "✗ the lowest at x = 0.5 is b, not a"),
    ],
)
def test_a_tie_is_told_as_one(lowest, of_dft, says):
    # an explorer of own frames said "the lowest is x050_li03_mn01, not x050_li03_mn01"
    words = explorer_words._lowest(0.5, {"lowest": lowest, "dft_lowest": of_dft})
    assert html.unescape(re.sub("<[^>]*>", "", words)) == says
