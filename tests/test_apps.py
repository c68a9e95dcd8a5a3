"""Threshold and upload: what their state classes say; how they look is for the browser tests."""

import dataclasses
import gzip
from pathlib import Path

import numpy as np
import pytest
import traitlets

import mlipkit as mk
from mlipkit.apps.threshold import GRID, ThresholdState
from mlipkit.pictures import plots


@pytest.fixture(scope="module")
def threshold():
    return ThresholdState(mk.load_dft())


def test_threshold_fits_one_code_only(threshold):
    assert threshold.balanced("as computed", 4.0) == 100
    # 4.30 - 0.35: no Fe is above 4.0
    assert threshold.balanced("other spheres", 4.0) == 0
    assert threshold.balanced("other spheres", 3.6) == 100
    assert not any(
        threshold.balanced("as computed", x) == 100
        and threshold.balanced("other spheres", x) == 100
        and threshold.balanced("smeared holes", x) == 100
        for x in GRID
    )


def test_neutrality_balances_all_and_doubts_where_it_should(threshold):
    assert threshold.by_neutrality("as computed") == (100, 100, 100)
    # right, but the references are for other spheres: says so
    assert threshold.by_neutrality("other spheres") == (100, 100, 0)
    assert threshold.by_neutrality("smeared holes") == (100, 100, 0)


def test_moving_the_slider_moves_line_and_table(threshold):
    view = mk.explore_threshold(mk.load_dft())
    before = view.table.value
    view.slider.value = 3.5
    assert (
        view.state.threshold == 3.5
        and view.figure.layout.shapes[0].x0 == 3.5
        and view.table.value != before
    )
    view.state.threshold = 4.2
    assert view.slider.value == 4.2


def test_upload_reads_a_file_and_names_its_charges(frames, tmp_path):
    mk.write_frames(tmp_path / "mine.extxyz", frames[40:44])
    content = gzip.compress((tmp_path / "mine.extxyz").read_bytes())
    view = mk.upload()
    view.state.load("mine.extxyz.gz", content)
    assert len(view.state.frames) == 4 and view.state.index == 3 and view.state.message == ""
    assert np.array_equal(view.state.states.states, frames[43].arrays["oxi_states"])
    assert (
        view.frame.max == 3 and "<table" in view.table.value and "confidence" in view.charges.value
    )
    view.frame.value = 0
    assert np.array_equal(view.state.states.states, frames[40].arrays["oxi_states"])


def test_upload_says_what_is_wrong_and_shows_nothing(mixed, tmp_path):
    view = mk.upload()
    view.state.load("notes.txt", b"this is not a calculation")
    assert "notes.txt" in view.message.value and not view.state.frames and not view.picture.children
    view.state.load("../../OUTCAR", b"")
    assert "OUTCAR" in view.message.value and "/tmp" not in view.message.value
    mk.write_frames(tmp_path / "bare.extxyz", [mixed.copy()])
    view.state.load("bare.extxyz", (tmp_path / "bare.extxyz").read_bytes())
    assert (
        len(view.state.frames) == 1
        and "no magmoms" in view.message.value
        and view.charges.value == ""
    )


def test_upload_keeps_what_the_reader_warned_of_and_forgets_the_frame_before(
    mixed, frames, tmp_path
):
    bare = frames[40].copy()
    mk.write_frames(tmp_path / "two.extxyz", [frames[40], bare])
    view = mk.upload()
    view.state.load("two.extxyz", (tmp_path / "two.extxyz").read_bytes())
    assert "no magmoms" in view.message.value  # the last frame has none
    view.frame.value = 0
    assert view.message.value == "" and "confidence" in view.charges.value
    from make_vasp import write_outcar

    write_outcar(tmp_path / "OUTCAR", frames[40:42])
    content = (tmp_path / "OUTCAR").read_bytes()
    view.state.load("OUTCAR", content[: content.rindex(b"TOTAL-FORCE")])
    assert "cut off" in view.message.value and len(view.state.frames) == 1


def hand_over(widget, name, content, piece):
    """Play the page: send a file as `SentFile` asks for it; what it was asked and told."""
    asked = []
    widget.send = lambda said, buffers=None: asked.append(said)
    widget._hear(widget, {"turn": 0.5, "at": 0, "name": name, "size": len(content)}, [])
    while asked and "at" in asked[-1]:
        at = asked[-1]["at"]
        widget._hear(widget, {"turn": 0.5, "at": at}, [memoryview(content[at : at + piece])])
    return asked


@pytest.mark.parametrize("piece", [1000, 10**9])
def test_a_file_arrives_in_pieces(frames, tmp_path, piece):
    mk.write_frames(tmp_path / "mine.extxyz", frames[40:42])
    content = (tmp_path / "mine.extxyz").read_bytes()
    view = mk.upload(limit=len(content))
    asked = hand_over(view.file, "../mine.extxyz", content, piece)
    assert [said.get("at") for said in asked] == [*range(0, len(content), piece), None]
    assert len(view.state.frames) == 2 and view.state.frames[0].info["source"] == "mine.extxyz"
    assert view.file.folder is None


def begun(limit=1000, size=10, turn=1):
    """An upload with a file on its way, its `SentFile`, and what that says to the page."""
    view, said = mk.upload(limit=limit), []
    view.file.send = lambda content, buffers=None: said.append(content)
    view.file._hear(view.file, {"turn": turn, "at": 0, "name": "a.xyz", "size": size}, [])
    return view, view.file, said


def test_a_file_too_large_or_empty():
    _, file, said = begun(size=1001)
    assert file.folder is None and "too large" in said[0]["says"]
    file._hear(file, {"turn": 1, "at": 0}, [memoryview(b"0" * 100)])
    assert file.folder is None and len(said) == 1
    view = mk.upload()
    assert hand_over(view.file, "OUTCAR", b"", 100) == [{"turn": 0.5, "says": ""}]
    assert "OUTCAR" in view.state.message
    with pytest.raises(mk.InputError, match="limit"):
        mk.upload(limit=0)


def test_pieces_out_of_turn_are_not_taken():
    _, file, said = begun()
    first = file.folder.name
    for wrong in (
        ({"turn": 2, "at": 0}, b"0" * 5),
        ({"turn": 1, "at": 3}, b"0" * 5),
        ({"turn": 1, "at": 0}, b"0" * 11),  # more than was promised
        ({"turn": 1, "at": 0}, b""),
    ):
        file._hear(file, wrong[0], [memoryview(wrong[1])])
        assert file.at == 0 and said == [{"turn": 1, "at": 0}]
    # another file is chosen, and that one is given up
    file._hear(file, {"turn": 2, "at": 0, "name": "second", "size": 10}, [])
    assert said[1:] == [{"turn": 1, "says": ""}, {"turn": 2, "at": 0}]
    assert not Path(first).exists()
    file._hear(file, {"turn": 2, "stop": True}, [])
    assert file.folder is None and len(said) == 3
    _, file, _ = begun()
    folder = file.folder.name
    file.close()
    assert not Path(folder).exists()


def test_what_goes_wrong_with_a_file_is_told_and_nothing_is_left(frames, tmp_path):
    view, file, said = begun()
    folder = file.folder.name
    file.path = Path(folder)  # no file can be written there
    file._hear(file, {"turn": 1, "at": 0}, [memoryview(b"0" * 5)])
    assert "cannot be kept" in said[-1]["says"] and not Path(folder).exists()
    mk.write_frames(tmp_path / "good.extxyz", frames[:2])
    view.state.read(tmp_path / "good.extxyz")

    def fails(path):
        view.state.frames = []
        raise MemoryError

    file.take = fails
    for message in ({"turn": 3, "at": 0, "name": "b.xyz", "size": 1}, {"turn": 3, "at": 0}):
        pieces = [memoryview(b"0")] * ("name" not in message)
        if pieces:
            with pytest.raises(MemoryError):
                file._hear(file, message, pieces)
        else:
            file._hear(file, message, pieces)
    assert "could not be read" in said[-1]["says"] and file.folder is None


def test_the_live_curve_grows():
    curve = mk.LiveCurve()
    history = []
    for epoch in range(3):
        history.append({"epoch": epoch, "train": 1.0 / (epoch + 1), "validation": 2.0})
        curve(history)
    assert [list(t.y) for t in curve.figure.data] == [[1.0, 0.5, 1 / 3], [2.0] * 3]
    kept = curve.figure.get_state()["_widget_data"]  # what a page of the book is made from
    assert [list(t["y"]) for t in kept] == [[1.0, 0.5, 1 / 3], [2.0] * 3]


@pytest.fixture(scope="module")
def relaxation():
    """A charge-blind model on the undistorted cell assigns the valences anew."""
    ends = mk.end_points(mk.load_dft())
    start = mk.undistorted(
        next(a for a in ends if a.info["ordering"] == "x050_na02_fe13"), ends[-1]
    )
    return mk.relax(start, mk.load_model("cpainn", charge_aware=False), steps=25, progress=False)


def test_timeline_shows_moments_energy_and_flips(relaxation):
    figure = plots.timeline(relaxation, step=4)
    traces = {t.name: t for t in figure.data}
    assert list(traces) == ["Fe 2", "Fe 3", "Fe 4", "Fe 5", "flip", "energy"] and len(
        relaxation.flips
    )
    assert list(traces["Fe 3"].y) == pytest.approx(np.abs(relaxation.magmoms[:, 3]))
    assert sorted(traces["flip"].x) == sorted(relaxation.flips["step"])
    assert min(traces["energy"].y) == 0 and max(traces["energy"].y) == pytest.approx(
        1e3 * np.ptp(relaxation.energies) / 4
    )
    assert figure.layout.shapes[0].x0 == figure.layout.shapes[0].x1 == 4
    looks = [(t.marker.symbol, t.line.dash) for t in figure.data[:4]]
    assert len(set(looks)) == 4  # told apart without colours


def test_timeline_of_a_model_without_moments(relaxation):
    bare = dataclasses.replace(relaxation, states=None)
    assert [t.name for t in plots.timeline(bare).data] == ["energy"]
    assert mk.play(bare).state.atoms.positions == pytest.approx(relaxation.frames[0].positions)


def test_player_shows_the_step(relaxation):
    view = mk.play(relaxation)
    flips = relaxation.flips
    step = int(flips["step"].iloc[-1])
    view.slider.value = step
    assert (
        view.state.step == step
        and view.figure.layout.shapes[0].x0 == step
        and f"step {step} of {view.state.last}" in view.text.value
    )
    assert f"flips from {flips['before'].iloc[-1]}+" in view.text.value
    atoms = view.structure.drawn["atoms"]
    assert atoms.positions == pytest.approx(relaxation.frames[step].positions)
    assert np.array_equal(atoms.arrays["oxi_states"], relaxation.states[step])
    component = view.structure.component["atoms"]
    view.state.step = view.state.last
    assert view.slider.value == view.state.last and relaxation.reason in view.text.value
    assert view.structure.component["atoms"] == component  # moved in place


def test_player_leaves_nothing_behind(relaxation):
    view = mk.play(relaxation, octahedra=True)
    count = lambda: (
        len(view.structure._ngl_component_ids),
        len(view.structure._ngl_msg_archive),
        len(view.figure.data),
        sum(
            len(v) for per_trait in view.state._trait_notifiers.values() for v in per_trait.values()
        ),
    )
    view.state.step = 1
    before = count()
    for k in range(100):
        view.state.step = k % (view.state.last + 1)
    view.state.step = 1
    assert count() == before


def test_player_refuses_what_it_cannot_play(relaxation, mixed):
    with pytest.raises(mk.InputError, match="takes what relax returns, not Atoms"):
        mk.play(mixed)
    with pytest.raises(traitlets.TraitError, match="no step 26; the last is 25"):
        mk.PlayerState(relaxation).step = 26


def test_drop_down_shows_one_architecture(ends):
    table = mk.hull(ends)
    app = mk.ByArchitecture(
        mk.plots.hull(
            {"DFT": table, "mace_blind": table, "mace_aware": table, "cpainn_blind": table}
        ),
        "cpainn",
    )
    shown = lambda: {t.name for t in app.figure.data if t.visible}
    assert app.architecture.options == ("MACE", "cPaiNN")
    assert shown() == {"DFT", "cPaiNN, charge-blind"}
    app.architecture.value = "MACE"
    assert shown() == {"DFT", "MACE, charge-blind", "MACE, charge-aware"}
