"""Threshold and upload: what their state classes say; how they look is for the browser tests."""
import gzip

import numpy as np
import pytest

import mlipkit as mk
from mlipkit.apps.threshold import GRID, ThresholdState


@pytest.fixture(scope="module")
def threshold():
    return ThresholdState(mk.load_dft())


def test_threshold_fits_one_code_only(threshold):
    assert threshold.balanced("as computed", 4.0) == 100
    assert threshold.balanced("other spheres", 4.0) == 0                # 4.30 - 0.35: no Fe is above 4.0
    assert threshold.balanced("other spheres", 3.6) == 100
    assert not any(threshold.balanced("as computed", x) == 100 and threshold.balanced("other spheres", x) == 100
                   and threshold.balanced("smeared holes", x) == 100 for x in GRID)


def test_neutrality_balances_all_and_doubts_where_it_should(threshold):
    assert threshold.by_neutrality("as computed") == (100, 100, 100)
    assert threshold.by_neutrality("other spheres") == (100, 100, 0)    # right, but the references are for other spheres: says so
    assert threshold.by_neutrality("smeared holes") == (100, 100, 0)


def test_moving_the_slider_moves_line_and_table(threshold):
    view = mk.explore_threshold(mk.load_dft())
    before = view.table.value
    view.slider.value = 3.5
    assert view.state.threshold == 3.5 and view.figure.layout.shapes[0].x0 == 3.5 and view.table.value != before
    view.state.threshold = 4.2
    assert view.slider.value == 4.2


def test_upload_reads_a_file_and_names_its_charges(frames, tmp_path):
    mk.write_frames(tmp_path / "mine.extxyz", frames[40:44])
    content = gzip.compress((tmp_path / "mine.extxyz").read_bytes())
    view = mk.upload()
    view.state.load("mine.extxyz.gz", content)
    assert len(view.state.frames) == 4 and view.state.index == 3 and view.state.message == ""
    assert np.array_equal(view.state.states.states, frames[43].arrays["oxi_states"])
    assert view.frame.max == 3 and "<table" in view.table.value and "confidence" in view.charges.value
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
    assert len(view.state.frames) == 1 and "no magmoms" in view.message.value and view.charges.value == ""


def test_upload_keeps_what_the_reader_warned_of_and_forgets_the_frame_before(mixed, frames, tmp_path):
    bare = frames[40].copy()
    mk.write_frames(tmp_path / "two.extxyz", [frames[40], bare])
    view = mk.upload()
    view.state.load("two.extxyz", (tmp_path / "two.extxyz").read_bytes())
    assert "no magmoms" in view.message.value                       # the last frame has none
    view.frame.value = 0
    assert view.message.value == "" and "confidence" in view.charges.value
    from make_vasp import write_outcar
    write_outcar(tmp_path / "OUTCAR", frames[40:42])
    content = (tmp_path / "OUTCAR").read_bytes()
    view.state.load("OUTCAR", content[:content.rindex(b"TOTAL-FORCE")])
    assert "cut off" in view.message.value and len(view.state.frames) == 1


def test_the_live_curve_grows():
    curve = mk.LiveCurve()
    history = []
    for epoch in range(3):
        history.append({"epoch": epoch, "train": 1.0 / (epoch + 1), "validation": 2.0})
        curve(history)
    assert [list(t.y) for t in curve.data] == [[1.0, 0.5, 1 / 3], [2.0] * 3]


def test_drop_down_shows_one_architecture(ends):
    table = mk.hull(ends)
    app = mk.ByArchitecture(mk.plots.hull({"DFT": table, "mace_blind": table, "mace_aware": table, "cpainn_blind": table}), "cpainn")
    shown = lambda: {t.name for t in app.figure.data if t.visible}       # noqa: E731
    assert [v for _, v in app.architecture.options] == ["mace", "cpainn"] and shown() == {"DFT", "cpainn_blind"}
    app.architecture.value = "mace"
    assert shown() == {"DFT", "mace_blind", "mace_aware"}
