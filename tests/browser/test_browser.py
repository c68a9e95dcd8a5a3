"""What a person sees of the apps in JupyterLab in headless Chromium. Screenshots go to screenshots/."""

import io
import json

import numpy as np
import pytest
from lab import ROOT, eventually, still, write_notebook
from PIL import Image

import mlipkit as mk
from mlipkit.pictures.plots import VALENCE

pytestmark = pytest.mark.browser


def pixels(element):
    """RGB image of an element, shape (height, width, 3)."""
    element.scroll_into_view_if_needed()
    return np.asarray(Image.open(io.BytesIO(element.screenshot())).convert("RGB")).astype(int)


def share_of(image, colour, tolerance=70):
    """Share of pixels whose hue is near a colour (shading changes the brightness, so compare
    directions).
    """
    rgb = np.array([int(colour[k : k + 2], 16) for k in (1, 3, 5)], float)
    norm = np.linalg.norm(image, axis=-1) + 1e-9
    cosine = image @ rgb / norm / np.linalg.norm(rgb)
    return ((cosine > 0.97) & (norm > tolerance)).mean()


def drawn(image):
    """Whether a canvas is not blank."""
    return (image < 245).any(axis=-1).mean() > 0.02 and image.std() > 10


EXPLORER = """import mlipkit as mk
app = mk.explore(ordering="x050_na01_fe02", model="blind", geometry="relaxed")
app"""


def open_explorer(show_app):
    """The explorer as the tour opens it, its page, and the app in sight."""
    notebook = show_app(EXPLORER, ".mlipkit-explorer")
    page = notebook.page
    page.set_viewport_size({"width": 1320, "height": 1150})
    explorer = page.wait_for_selector(".mlipkit-explorer")
    explorer.scroll_into_view_if_needed()
    page.wait_for_function(
        "document.querySelector('.mlipkit-explorer .js-plotly-plot')?.data?.length > 0"
    )
    canvas = page.wait_for_selector(".mlipkit-explorer canvas")
    assert eventually(page, lambda: drawn(pixels(canvas)))
    explorer.scroll_into_view_if_needed()
    still(page)
    return notebook, page, explorer


def click_button(notebook, label):
    notebook.page.evaluate(
        """(label) => [...document.querySelectorAll('.mlipkit-explorer button')].find(b => b.innerText.trim() === label).click()""",
        label,
    )


TRACES = "() => [...document.querySelectorAll('.mlipkit-explorer .js-plotly-plot')].map(g => g.data.filter(t => t.visible !== false && t.name).map(t => t.name))"


def test_explorer_answers_to_clicks(show_app):
    notebook, page, explorer = open_explorer(show_app)
    # toggle: hull and parity plot change, and the time until they are redrawn is measured
    assert page.evaluate(TRACES) == [["DFT"] * 2 + ["CHGNet, charge-blind"] * 4]
    times = []
    for k in range(8):
        times.append(
            page.evaluate(
                """async (model) => {
            const plots = [...document.querySelectorAll('.mlipkit-explorer .js-plotly-plot')];
            const button = [...document.querySelectorAll('.mlipkit-explorer button')].find(b => b.innerText.trim() === 'charge-' + model);
            const drawn = Promise.all(plots.map(p => new Promise(done => p.once('plotly_afterplot', done))));
            const began = performance.now(); button.click(); await drawn; return performance.now() - began }""",
                ["aware", "blind"][k % 2],
            )
        )
        still(page)
    print(
        f"toggle to redrawn plots: median {np.median(times):.0f} ms, of {[round(t) for t in times]}"
    )
    assert page.evaluate(TRACES) == [["DFT"] * 2 + ["CHGNet, charge-blind"] * 4]
    click_button(notebook, "charge-aware")
    aware = [["DFT"] * 2 + ["CHGNet, charge-aware"] * 4]
    assert eventually(page, lambda: page.evaluate(TRACES) == aware)
    page.select_option(
        ".mlipkit-explorer .widget-dropdown:has-text('architecture') select", label="MACE"
    )
    mace = [["DFT"] * 2 + ["MACE, charge-aware"] * 4]
    assert eventually(page, lambda: page.evaluate(TRACES) == mace)

    # a click on each Fe reaches Python with its ASE index
    notebook.python("app.structure._execute_js_code('window.nglStage = this.stage')")
    page.wait_for_function("window.nglStage")
    atoms = next(a for a in mk.end_points(mk.load_dft()) if a.info["ordering"] == "x050_na01_fe02")
    ask = "print((app.structure.picked.get('atom1') or {}).get('index'))"
    right, picked = 0, "None"
    still(page)
    for i in np.flatnonzero(atoms.symbols == "Fe"):
        x, y = page.evaluate(
            """(i) => { const s = window.nglStage, a = s.compList[0].structure.getAtomProxy(i);
            const v = a.positionToVector3(), p = s.viewerControls.getPositionOnCanvas(v), r = s.viewer.renderer.domElement.getBoundingClientRect();
            return [r.left + p.x, r.bottom - p.y] }""",
            int(i),
        )
        page.mouse.move(x, y)
        still(page)
        page.mouse.click(x, y)
        # an atom in front of it answers in its place
        before = picked
        eventually(page, lambda b=before: notebook.python(ask) != b, seconds=20)
        picked = notebook.python(ask)
        right += picked == str(i)
        if picked == str(i):
            page.wait_for_selector(f".mlipkit-explorer :text('picked atom {i}')")
    assert right >= 3, "an atom in front may hide one Fe, no more"

    # a click on a point of the hull shows its structure (at x = 0 all models are at 0, so no other
    # ordering can lie on top)
    target = page.evaluate("""() => { const g = document.querySelector('.mlipkit-explorer .js-plotly-plot'), t = g.data[0];
        const k = t.text.findIndex(n => n === 'x000_na-_fe0123'), a = g._fullLayout.xaxis, b = g._fullLayout.yaxis, r = g.getBoundingClientRect();
        return [r.left + a._offset + a.d2p(t.x[k]), r.top + b._offset + b.d2p(t.y[k])] }""")
    page.mouse.move(*target)
    page.wait_for_selector(".mlipkit-explorer .hovertext")
    page.mouse.click(*target)
    chosen = lambda: notebook.python("print(app.state.ordering, app.state.x)")
    assert eventually(page, lambda: chosen() == "x000_na-_fe0123 0.0"), chosen()
    assert "x000_na-_fe0123" in page.inner_text(".mlipkit-explorer")
    still(page)
    assert notebook.errors() == [] and notebook.console == []
    explorer.screenshot(path=str(ROOT / "screenshots" / "explorer_x000.png"))


# what the browser has drawn: the model's levels in the ladder's window, the vertices of its hull,
# the halos
DRAWN = """() => { const g = document.querySelector('.mlipkit-explorer .js-plotly-plot'), shown = g.data.filter(t => t.visible !== false);
    const series = shown.map(t => t.name).find(n => n && n !== 'DFT'), [low, high] = g.layout.xaxis2.range;
    const ladder = shown.find(t => t.name === series && t.xaxis === 'x2'), line = shown.find(t => t.name === series && t.mode === 'lines' && t.xaxis !== 'x2');
    const levels = ladder.y.filter((y, k) => y !== null && ladder.x[k] > high - 1.5 && ladder.x[k] < high);
    const marks = window.nglStage.getComponentsByName('marks').list;
    return {series, window: Math.max(...levels) - Math.min(...levels), vertices: line.x, marks: marks.length} }"""


def test_the_toggle_shows_the_papers_result(show_app):
    """Relaxed by the model, blind and aware: charges kept, spread of the ladder and vertices of the
    hull are those of the shipped tables.
    """
    notebook, page, explorer = open_explorer(show_app)
    notebook.python("app.structure._execute_js_code('window.nglStage = this.stage', keep=False)")
    page.wait_for_function(
        "window.nglStage && window.nglStage.getComponentsByName('marks').list.length === 1"
    )
    table, ends = mk.load_geometries().query("geometry == 'relaxed'"), mk.end_points(mk.load_dft())
    red = {}
    for kind in ("blind", "aware"):
        click_button(notebook, f"charge-{kind}")
        rows = table[table["model"] == f"chgnet_{kind}"]
        kept = int(rows[~rows["ordering"].str.startswith(("x000", "x100"))]["kept"].sum())
        page.wait_for_function(
            "document.querySelector('.mlipkit-explorer').innerText.includes('charges kept in "
            f"{kept} of 14 mixed orderings')"
        )
        page.wait_for_function(
            f"window.nglStage.getComponentsByName('marks').list.length === {int(kind == 'blind')}"
        )
        still(page)
        seen = page.evaluate(DRAWN)
        levels = rows[rows["ordering"].str.startswith("x050_na01")]["energy"]
        assert seen["series"] == f"CHGNet, charge-{kind}"
        assert seen["window"] == pytest.approx(250 * np.ptp(levels), abs=0.01)
        hull = mk.hull(ends, rows["energy"].tolist())
        assert seen["vertices"] == sorted(set(hull[hull["on_hull"]]["x"]))
        became = [
            n for n in ("asked 3+, became 2+", "asked 2+, became 3+") if n in explorer.inner_text()
        ]
        assert len(became) == (2 if kind == "blind" else 0)
        page.mouse.move(5, 5)
        image = pixels(page.query_selector(".mlipkit-explorer canvas"))
        red[kind] = (
            (image[..., 0] > image[..., 1] + 60) & (abs(image[..., 1] - image[..., 2]) < 25)
        ).mean()
        # `make screenshot` copies them into the README
        explorer.screenshot(path=str(ROOT / "screenshots" / f"explorer_{kind}.png"))
    assert kept == 14 and red["blind"] > 0.004 > 10 * red["aware"]

    # its relaxation plays to the end
    last = int(notebook.python("print(app.state.last)"))
    page.click(".mlipkit-explorer .widget-play button:visible >> nth=0")
    # it has begun anew
    page.wait_for_function(
        "(last) => !document.querySelector('.mlipkit-explorer .mlipkit-steps').innerText.trim()"
        ".endsWith(last)",
        arg=str(last),
    )
    page.wait_for_function(
        "document.querySelector('.mlipkit-explorer "
        f".mlipkit-steps').innerText.trim().endsWith('{last}')",
        timeout=60_000,
    )
    # the page plays ahead of the kernel
    assert eventually(page, lambda: notebook.python("print(app.state.step)") == "None")
    assert notebook.errors() == [] and notebook.console == []


# what the browser shows and what Python has, in the same terms
IN_BROWSER = """() => { const g = document.querySelector('.mlipkit-explorer .js-plotly-plot');
    return {visible: g.data.map(t => t.visible !== false), full: g._fullData.map(t => t.visible === true), ring_count: g.querySelectorAll('.shapelayer path').length,
            drawn: [...new Set([...g.querySelectorAll('.scatterlayer .trace')].map(x => x.__data__[0].trace.index))].sort((a, b) => a - b),
            rings: g.layout.shapes.map(s => [s.xanchor, s.yanchor]), range: g.layout.yaxis.range} }"""
IN_PYTHON = """import json
print(json.dumps({"visible": [t.visible is not False for t in app.figure.data], "range": [float(v) for v in app.figure.layout.yaxis.range],
                  "rings": [[float(s.xanchor), float(s.yanchor)] for s in app.figure.layout.shapes]}))"""


def differences(notebook):
    """What the browser shows otherwise than Python has it."""
    there, here = notebook.page.evaluate(IN_BROWSER), json.loads(notebook.python(IN_PYTHON))
    same = {
        "visible": there["visible"] == there["full"] == here["visible"],
        "drawn": set(there["drawn"]) == set(np.flatnonzero(here["visible"])),
        "rings": there["rings"] == [pytest.approx(ring) for ring in here["rings"]],
        "rings drawn": there["ring_count"] == len(here["rings"]),
        "range": there["range"] == pytest.approx(here["range"]),
    }
    return {name: (there, here) for name, right in same.items() if not right}


def test_fast_clicks_leave_nothing_behind(show_app):
    """Bursts of clicks: in the end traces, rings and axes in the browser are those of the last
    choice.
    """
    notebook, page, _ = open_explorer(show_app)
    labels, rng = (
        [
            "charge-blind",
            "charge-aware",
            "undistorted host",
            "relaxed by DFT",
            "relaxed by the model",
            "x = 0.25",
            "x = 0.5",
            "x = 0.75",
        ],
        np.random.default_rng(0),
    )
    for _ in range(8):
        burst = [[str(rng.choice(labels)), int(rng.choice([0, 0, 20, 60, 120]))] for _ in range(6)]
        page.evaluate(
            """async (burst) => { for (const [label, ms] of burst) {
            [...document.querySelectorAll('.mlipkit-explorer button')].find(b => b.innerText.trim() === label).click();
            if (ms) await new Promise(done => setTimeout(done, ms)); } }""",
            burst,
        )
        page.wait_for_function(
            "window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.status === 'idle'"
        )
        # on a busy machine the browser lags behind
        eventually(page, lambda: not differences(notebook))
        still(page)
        assert not (found := differences(notebook)), (burst, found)
    assert notebook.errors() == [] and notebook.console == []


CRYSTAL = """import mlipkit as mk
mk.show(mk.load_dft()[0])"""
STAGE = "[...document.querySelectorAll('.mlipkit-3d *')].map(e => e.mlipkitStage).find(s => s?.compList.length)"
# whether it has given back its WebGL context, and how often it was drawn
STATE = "s => { const r = s.viewer.renderer; return [r.getContext().isContextLost(), r.info.render.frame] }"


def test_a_crystal_that_left_the_page_hears_and_draws_nothing(show_app):
    """A cell that is run again leaves no older crystal behind, which would pick with each click,
    draw what is sent and hold a WebGL context, of which a browser has sixteen.
    """
    notebook = show_app(CRYSTAL, ".mlipkit-3d canvas")
    page = notebook.page

    def click():
        page.wait_for_function(STAGE)
        still(page)
        box = page.query_selector(".mlipkit-3d canvas").bounding_box()
        page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        still(page)

    click()
    page.evaluate(f"() => {{ window.before = {STAGE} }}")
    lost, frames = page.evaluate(f"({STATE})(before)")
    assert not lost and frames > 0
    notebook.run()
    click()
    assert page.evaluate(f"({STATE})(before)") == [True, frames]
    assert page.evaluate(f"({STATE})({STAGE})")[0] is False
    assert notebook.errors() == [] and notebook.console == []


def test_threshold_slider_moves_the_line(show_app):
    notebook = show_app("import mlipkit as mk\nmk.explore_threshold(mk.load_dft())")
    app = notebook.page.wait_for_selector(".mlipkit-threshold")
    app.scroll_into_view_if_needed()
    line = "() => document.querySelector('.mlipkit-threshold .js-plotly-plot')?.layout?.shapes?.[0]?.x0"
    notebook.page.wait_for_function(f"({line})() === 4")
    before = app.inner_text()
    handle = app.query_selector(".noUi-handle")
    handle.focus()
    for _ in range(20):
        notebook.page.keyboard.press("ArrowLeft")
    still(notebook.page)
    moved = notebook.page.evaluate(line)
    assert eventually(notebook.page, lambda: f"{moved:.2f} µB" in app.inner_text())
    assert moved < 4 and app.inner_text() != before
    assert notebook.errors() == [] and notebook.console == []
    app.screenshot(path=str(ROOT / "screenshots" / "threshold.png"))


HULL = """import mlipkit as mk
names = ["DFT", *(f"{a}_{kind}" for a in ("chgnet", "mace", "cpainn") for kind in ("blind", "aware"))]
mk.ByArchitecture(mk.plots.hull({n: mk.hull(mk.end_points(mk.load_dft())) for n in names}))"""


SHOWN = """() => [...new Set([...document.querySelectorAll('.mlipkit-by-architecture .js-plotly-plot')]
    .flatMap(plot => plot.data).filter(t => t.visible).map(t => t.name))]"""


def shows_architecture(page, label):
    expected = ["DFT", f"{label}, charge-blind", f"{label}, charge-aware"]
    return eventually(page, lambda: page.evaluate(SHOWN) == expected)


def test_drop_down_of_architectures_changes_the_figure(show_app):
    notebook = show_app(HULL, ".mlipkit-by-architecture")
    app = notebook.page.wait_for_selector(".mlipkit-by-architecture")
    app.scroll_into_view_if_needed()
    for label in ("CHGNet", "MACE", "cPaiNN"):
        notebook.page.select_option(".mlipkit-by-architecture select", label=label)
        assert shows_architecture(notebook.page, label)
    assert notebook.errors() == [] and notebook.console == []


# a computer on which what is larger than 1 MB takes three seconds to compile, and which is busy for
# nearly as long when it begins to load a widget
SLOW = """() => { const give = URL.createObjectURL;
URL.createObjectURL = blob => {
    const large = blob.size > 1e6, end = Date.now() + 2500;
    while (!large && Date.now() < end);
    return give.call(URL, !large ? blob : new Blob(
        ["await new Promise(done => setTimeout(done, 3000));", blob], {type: blob.type})) } }"""


def test_figures_follow_where_plotly_takes_seconds_to_load(open_notebook, lab_folder):
    app = HULL.replace("mk.ByArchitecture", "app = mk.ByArchitecture")
    code = f"{app}\napp", "app.architecture.value = 'MACE'\nsecond = mk.LiveCurve()\nsecond"
    notebook = open_notebook(write_notebook(lab_folder, "slow", *code))
    page = notebook.page
    notebook.wait_for_kernel()
    notebook.python("from mlipkit.pictures import page")
    page.wait_for_function("AbortSignal.timeout.patient")
    page.evaluate(SLOW)
    notebook.run()
    # the choice was made before plotly was there
    assert shows_architecture(page, "MACE"), page.evaluate(SHOWN)
    page.select_option(".mlipkit-by-architecture select", label="cPaiNN")
    assert shows_architecture(page, "cPaiNN"), page.evaluate(SHOWN)
    notebook.python("second([{'epoch': k, 'train': 2, 'validation': 3} for k in range(4)])")
    drawn_epochs = """() => [...document.querySelectorAll('.js-plotly-plot')].at(-1)
        .data.map(t => (t.x || []).length)"""
    assert eventually(page, lambda: page.evaluate(drawn_epochs) == [4, 4])
    assert notebook.errors() == [] and notebook.console == []


def test_a_file_dropped_in_is_read_and_shown(show_app, tmp_path):
    """An OUTCAR, and a file that is no calculation."""
    from make_vasp import write_outcar

    atoms = next(a for a in mk.end_points(mk.load_dft()) if a.info["ordering"] == "x050_na01_fe02")
    write_outcar(tmp_path / "OUTCAR", [atoms])
    (tmp_path / "notes.txt").write_text("not a calculation")
    notebook = show_app("import mlipkit as mk\nmk.upload()")
    page = notebook.page
    app = page.wait_for_selector(".mlipkit-upload")
    app.scroll_into_view_if_needed()
    for name, says in (("OUTCAR", "2 Fe2+, 2 Fe3+"), ("notes.txt", "notes.txt")):
        with page.expect_file_chooser() as chooser:
            app.query_selector(".mlipkit-file button").click()
        chooser.value.set_files(str(tmp_path / name))
        told = lambda says=says: says in app.inner_text()
        assert eventually(page, told), app.inner_text()
        if name == "OUTCAR":
            canvas = page.wait_for_selector(".mlipkit-upload canvas")
            canvas.scroll_into_view_if_needed()
            assert eventually(page, lambda c=canvas: drawn(pixels(c)))
            still(page)
            image = pixels(canvas)
            assert share_of(image, VALENCE[2]) > 0.002 and share_of(image, VALENCE[3]) > 0.002
            app.screenshot(path=str(ROOT / "screenshots" / "upload.png"))
    page.wait_for_function("!document.querySelector('.mlipkit-upload canvas')")
    assert notebook.errors() == [] and notebook.console == []
