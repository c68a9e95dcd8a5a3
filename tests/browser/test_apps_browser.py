"""Clicks in the apps: swap charges, choose by the ladder, play a relaxation, the explorer as a
page of its own.
"""

import contextlib
import json
import re

import ase.io
import pytest
from compounds import frames_of, magnetite, olivine
from conftest import PLAYER
from lab import (
    SCREENSHOTS,
    api,
    eventually,
    in_both_themes_and_widths,
    make,
    still,
)
from test_browser import click_button, drawn, open_explorer, pixels, share_of

import mlipkit as mk
from mlipkit.pictures.plots import VALENCE

pytestmark = pytest.mark.browser


def click_at(page, where, argument=None):
    """Click at the point that the JavaScript `where` gives, once nothing moves any more: a line of
    words that grows pushes a picture away from under the mouse.
    """
    still(page)
    page.mouse.move(*page.evaluate(where, argument))
    still(page)  # what the mouse is over is told in words, and they may need a line more
    x, y = page.evaluate(where, argument)
    page.mouse.move(x, y)
    still(page)
    page.mouse.click(x, y)


def click_point(page, app, trace, point):
    """Click on a point of a plot; `trace` and `point` are JavaScript conditions on `t`, a trace,
    and `k`, one of its points.
    """
    click_at(
        page,
        f"""() => {{
        const g = document.querySelector('{app} .js-plotly-plot'), r = g.getBoundingClientRect();
        const t = g._fullData.find(t => t.visible === true && {trace}), k = [...Array(t.x.length).keys()].find(k => {point});
        const axis = name => g._fullLayout[name[0] + 'axis' + name.slice(1)], a = axis(t.xaxis), b = axis(t.yaxis);
        return [r.left + a._offset + a.d2p(t.x[k]), r.top + b._offset + b.d2p(t.y[k])] }}""",
    )


def click_atom(page, i):
    """Click on an atom in the canvas whose stage is `window.nglStage`."""
    click_at(
        page,
        """(i) => { const s = window.nglStage, a = s.compList.find(c => c.structure).structure.getAtomProxy(i);
        const p = s.viewerControls.getPositionOnCanvas(a.positionToVector3()), r = s.viewer.renderer.domElement.getBoundingClientRect();
        return [r.left + p.x, r.bottom - p.y] }""",
        i,
    )


def test_clicks_swap_charges_and_a_click_on_a_level_chooses(show_app):
    notebook, page, explorer = open_explorer(show_app)
    page.select_option(
        ".mlipkit-explorer .widget-dropdown:has-text('architecture') select", label="cPaiNN"
    )
    # there is none of cPaiNN
    page.wait_for_function(
        "![...document.querySelectorAll('.mlipkit-explorer button')]"
        ".some(b => b.innerText === 'as published')"
    )
    # new buttons come in one message and which is pressed in the next: between the two the second
    # of three is still pressed, now the second of two, and a click on it is none
    page.wait_for_selector(".mlipkit-explorer [aria-pressed=true]:has-text('charge-blind')")
    click_button(notebook, "charge-aware")
    # the page has its new shape: nothing moves under the mouse
    page.wait_for_selector(".mlipkit-explorer :text('cPaiNN, charge-aware; atoms')")
    page.locator(".mlipkit-explorer .widget-checkbox:has-text('octahedra') input").check()
    click_button(notebook, "swaps (two)")
    notebook.python("app.structure._execute_js_code('window.nglStage = this.stage', keep=False)")
    page.wait_for_function(
        "window.nglStage && window.nglStage.getComponentsByName('octahedra').list.length === 1"
    )
    page.wait_for_selector(".mlipkit-explorer [aria-pressed=true]:has-text('swaps (two)')")
    pressed = lambda: notebook.python("print(app.click.value)")
    # the page shows what is pressed before the kernel has heard of it
    assert eventually(page, lambda: pressed() == "swap"), pressed()
    ends = {a.info["ordering"]: a for a in mk.end_points(mk.load_dft())}
    states = ends["x050_na01_fe02"].arrays["oxi_states"]
    # these two are in front of what else is there; the octahedra around must not hide them
    three, two = 2, 3
    assert (states[three], states[two]) == (3, 2)
    click_atom(page, three)
    page.wait_for_selector(".mlipkit-explorer :text('now click the one')")
    click_atom(page, two)
    page.wait_for_selector(".mlipkit-explorer :text('Charge-aware: the valence is an input')")
    assert dict(eval(notebook.python("print(app.state.flips)"))) == {three: 2, two: 3}
    text = page.inner_text(".mlipkit-explorer")
    change = float(notebook.python("print(app.state.change)"))
    assert abs(change) > 0.01 and f"energy {1e3 * change:+.0f} meV/f.u." in text
    dots = "() => document.querySelector('.mlipkit-explorer .js-plotly-plot').layout.shapes.map(s => s.yanchor)"
    page.wait_for_function(f"({dots})().length === 9")
    shapes = page.evaluate(dots)
    assert shapes[6] == pytest.approx(shapes[1] + change)
    explorer.screenshot(path=str(SCREENSHOTS / "explorer_swapped.png"))
    click_button(notebook, "charge-blind")
    page.wait_for_selector(".mlipkit-explorer :text('Charge-blind: the valence is no input')")
    page.wait_for_function(f"(() => {{ const s = ({dots})(); return s[6] === s[1] }})()")
    # one alone is told in words, and no plot shows it
    click_button(notebook, "charge-aware")
    click_button(notebook, "changes its state")
    page.wait_for_selector(".mlipkit-explorer [aria-pressed=true]:has-text('changes its state')")
    page.wait_for_selector(".mlipkit-explorer :text('Charge-aware: the valence is an input')")
    assert eventually(page, lambda: pressed() == "flip"), pressed()
    click_atom(page, two)
    page.wait_for_selector(".mlipkit-explorer :text('sum to -1')")
    page.wait_for_function(f"({dots})().length === 5")
    click_button(notebook, "undo")
    page.wait_for_function(
        "!document.querySelector('.mlipkit-explorer').innerText.includes('sum to')"
    )
    assert notebook.python("print(app.state.flips)") == "()"

    click_point(page, ".mlipkit-explorer", "t.xaxis === 'x2'", "t.text[k] === 'x050_na01_fe03'")
    chosen = lambda: notebook.python("print(app.state.ordering)")
    assert eventually(page, lambda: chosen() == "x050_na01_fe03"), chosen()
    assert "x050_na01_fe03" in page.inner_text(".mlipkit-explorer")
    # a point that no other is near: blind models put the two orderings of x = 0.25 on top of each
    # other
    click_point(page, ".mlipkit-explorer", "t.xaxis === 'x'", "t.text[k] === 'x050_na02_fe01'")
    assert eventually(page, lambda: chosen() == "x050_na02_fe01"), chosen()
    still(page)
    explorer.screenshot(path=str(SCREENSHOTS / "explorer_ladder.png"))
    assert notebook.errors() == [] and notebook.console == []


def test_a_relaxation_plays_and_the_timeline_answers(show_app):
    notebook = show_app(PLAYER, ".mlipkit-player")
    page = notebook.page
    player = page.wait_for_selector(".mlipkit-player")
    canvas = page.wait_for_selector(".mlipkit-player canvas")
    assert eventually(page, lambda: drawn(pixels(canvas)))
    still(page)
    step = lambda: int(notebook.python("print(player.state.step)"))
    page.click(".mlipkit-player .widget-play button:visible >> nth=0")
    page.wait_for_function(
        "document.querySelector('.mlipkit-player').innerText.includes('step 25 of 25')",
        timeout=60_000,
    )
    assert eventually(page, lambda: step() == 25)
    page.mouse.move(5, 5)
    still(page)
    last = pixels(page.query_selector(".mlipkit-player canvas"))
    click_point(page, ".mlipkit-player", "t.name === 'Fe 3'", "k === 7")
    assert eventually(page, lambda: step() == 7)
    page.wait_for_selector(".mlipkit-player :text('step 7 of 25')")
    still(page)
    line = page.evaluate(
        "() => document.querySelector('.mlipkit-player .js-plotly-plot').layout.shapes[0].x0"
    )
    assert line == 7 and "step 7 of 25" in player.inner_text()
    page.mouse.move(5, 5)
    image = pixels(page.query_selector(".mlipkit-player canvas"))
    assert (
        share_of(image, VALENCE[2]) > 0.002
        and share_of(image, VALENCE[3]) > 0.002
        and (image != last).any(axis=-1).mean() > 0.01
    )
    assert (
        notebook.python(
            "print(len(player.structure._ngl_component_ids), player.structure.n_components)"
        )
        == "4 4"
    )
    player.screenshot(path=str(SCREENSHOTS / "player.png"))
    assert notebook.errors() == [] and notebook.console == []


def test_the_explorer_is_served_as_a_page(browser, tmp_path):
    """By `make app`: nothing is fetched from elsewhere, the kernel ends with the page, and the page
    says when its kernel has ended.
    """
    with (
        make("app", tmp_path, APP_ARGS="--no-browser") as url,
        contextlib.closing(browser.new_context(viewport={"width": 1250, "height": 1000})) as window,
    ):
        page, elsewhere = window.new_page(), {}
        own = (url, url.replace("http", "ws", 1), "data:", "blob:")
        page.on("request", lambda r: r.url.startswith(own) or elsewhere.update({r: None}))
        page.on("requestfailed", lambda r: r in elsewhere and elsewhere.update({r: r.failure}))
        page.goto(url, timeout=90_000)
        page.wait_for_selector(".mlipkit-explorer canvas", timeout=90_000)
        page.wait_for_function(
            "document.querySelector('.mlipkit-explorer .js-plotly-plot')?.data?.length > 0",
            timeout=60_000,
        )
        canvas = page.query_selector(".mlipkit-explorer canvas")
        assert eventually(page, lambda: drawn(pixels(canvas)))
        still(page)
        assert not page.query_selector_all(
            ".jupyter-widgets-error-widget"
        ) and "Traceback" not in page.inner_text("body")
        image = pixels(page.query_selector(".mlipkit-explorer canvas"))
        assert share_of(image, VALENCE[2]) > 0.002 and share_of(image, VALENCE[3]) > 0.002
        page.screenshot(path=str(SCREENSHOTS / "app.png"))
        shown = "() => document.querySelector('.mlipkit-explorer .js-plotly-plot').data.filter(t => t.visible !== false && t.name).map(t => t.name)"
        assert set(page.evaluate(shown)) == {"DFT", "CHGNet, charge-blind"}
        page.click(".mlipkit-explorer button:has-text('charge-aware')")
        aware = {"DFT", "CHGNet, charge-aware"}
        assert eventually(page, lambda: set(page.evaluate(shown)) == aware)
        # what its template asks for elsewhere the browser did not send
        assert set(elsewhere.values()) <= {"csp"}
        icons = "document.fonts.check('900 12px \"Font Awesome 5 Free\"')"
        assert page.evaluate(icons)
        config = "JSON.parse(document.getElementById('jupyter-config-data').textContent)"
        kernel = f"{url}api/kernels/{page.evaluate(f'{config}.kernelId')}"
        answers = lambda: window.request.get(kernel).status
        assert answers() == 200
        other = window.new_page()
        page.close(run_before_unload=True)
        assert eventually(other, lambda: answers() == 404)
        # a kernel that the server has ended: the page says so when it is used
        other.goto(url, timeout=90_000)
        other.wait_for_selector(".mlipkit-explorer canvas", timeout=90_000)
        ended = f"{url}api/kernels/{other.evaluate(f'{config}.kernelId')}"
        assert window.request.delete(ended).status == 204
        other.click(".mlipkit-explorer button:has-text('charge-aware')")
        other.wait_for_selector(".mlipkit-dead")


UPLOAD = """import mlipkit as mk
mk.upload(limit=30_000_000)"""
HEARD = """() => { const told = document.querySelector('.mlipkit-file [role=status]');
    window.heard = [];
    new MutationObserver(() => window.heard.push(told.innerText)).observe(told, {childList: true}) }"""
MESSAGE = 10 * 2**20  # bytes that a server takes in one
DROP = """name => { const box = document.querySelector('.mlipkit-file');
    const carried = new DataTransfer(); carried.items.add(new File(['no calculation'], name));
    for (const kind of ['dragover', 'drop'])
        box.dispatchEvent(new DragEvent(kind, {dataTransfer: carried, bubbles: true})) }"""


def test_a_file_larger_than_a_message_is_sent_and_one_too_large_is_not(show_app, tmp_path):
    from make_vasp import write_outcar

    atoms = next(a for a in mk.end_points(mk.load_dft()) if a.info["ordering"] == "x050_na01_fe02")
    write_outcar(tmp_path / "OUTCAR", [atoms])
    step = (tmp_path / "OUTCAR").read_text()
    (tmp_path / "large").mkdir()
    repeats = round(2.5 * MESSAGE / len(step))
    (tmp_path / "large" / "OUTCAR").write_text(step + "\n" * (repeats * len(step)))
    (tmp_path / "huge.xyz").write_bytes(b"0" * 31_000_000)
    page = show_app(UPLOAD).page
    told = lambda: page.inner_text(".mlipkit-upload")
    choose = lambda path: page.set_input_files(".mlipkit-file input", path)
    choose(tmp_path / "huge.xyz")
    assert eventually(page, lambda: "huge.xyz has 31 MB, and at most 30 MB are taken" in told())
    page.evaluate(HEARD)
    choose(tmp_path / "large" / "OUTCAR")
    assert eventually(page, lambda: "2 Fe2+, 2 Fe3+" in told()), told()
    said = page.evaluate("window.heard")
    assert any(text.startswith("sending OUTCAR: 1") for text in said), said
    page.wait_for_function("document.querySelector('.mlipkit-file [role=status]').innerText === ''")
    page.evaluate(DROP, "notes.txt")
    assert eventually(page, lambda: "notes.txt" in told() and "2 Fe2+" not in told()), told()


def test_a_line_says_that_the_kernel_computes_and_another_that_it_has_ended(open_app):
    notebook = open_app(UPLOAD)
    page, kernel = notebook.page, f"{notebook.panel}.sessionContext.session.kernel"
    said = ".mlipkit-upload .mlipkit-status"
    page.evaluate(f"{kernel}.requestExecute({{code: 'import time; time.sleep(600)'}}), null")
    page.wait_for_selector(f"{said}:text('computing')")
    page.evaluate(f"{kernel}.interrupt()")
    page.wait_for_function(f"document.querySelector('{said}').innerText === ''")
    # as a server does that ends an idle kernel
    name = page.evaluate(f"{kernel}.id")
    api(notebook.url, f"/api/kernels/{name}", "DELETE")
    page.wait_for_selector(".mlipkit-upload .mlipkit-dead")


# frames as a person brings them: files without names, written by ASE, read by the package
OWN = """import mlipkit as mk
app = mk.explore(mk.read_frames("{name}.extxyz", progress=False){models})
app"""


LJ = ', models={"LJ, mine": __import__("ase.calculators.lj").calculators.lj.LennardJones(rc=4)}'


@pytest.mark.parametrize(
    "name, host, compound, sign",
    [
        ("LixMnPO4", olivine, mk.Compound("Li", {"Mn": (2, 3)}), -1),
        ("Fe3O4", magnetite, mk.Compound(None, {"Fe": (2, 3)}), -1),
    ],
)
def test_the_explorer_of_own_frames(show_app, lab_folder, name, host, compound, sign):
    """Structure, geometry toggle, swap, hull or ladder, by mouse and by keyboard."""
    frames, _ = frames_of(host(), compound, sign=sign)
    ase.io.write(lab_folder / f"{name}.extxyz", frames, format="extxyz")
    notebook = show_app(OWN.format(name=name, models=LJ), ".mlipkit-explorer canvas")
    page = notebook.page
    page.set_default_timeout(90_000)  # 3D is drawn in software: a busy machine takes its time
    plot = "document.querySelector('.mlipkit-explorer .js-plotly-plot')"
    page.wait_for_function(f"{plot}?.data?.length > 0")
    canvas = page.query_selector(".mlipkit-explorer canvas")
    assert eventually(page, lambda: drawn(pixels(canvas)))
    still(page)
    image = pixels(canvas)
    assert share_of(image, VALENCE[2]) > 0.002 and share_of(image, VALENCE[3]) > 0.002
    # the mouse over an atom says what it is
    notebook.python("app.structure._execute_js_code('window.nglStage = this.stage', keep=False)")
    page.wait_for_function("window.nglStage")
    says = page.evaluate("window.nglStage.mlipkitSays")
    metal = next(iter(compound.redox))
    told = re.compile(rf"{metal} \d+: [23]\+, \d\.\d\d µB \(DFT\)")
    assert sum(bool(told.fullmatch(text)) for text in says) > 2
    # the geometry toggle: on the host a charge-blind model has one level
    click_button(notebook, "undistorted host")
    page.wait_for_selector(".mlipkit-explorer :text('atoms on the undistorted host')")
    levels = f"""() => {{ const t = {plot}.data.findLast(t => t.visible !== false && t.mode.includes('text'));
        const [low, high] = {plot}.layout['xaxis' + t.xaxis.slice(1)].range;
        return t.y.filter((y, k) => t.x[k] !== null && t.x[k] > low && t.x[k] < high) }}"""
    page.wait_for_function(f"({levels})().filter(y => y !== null).every(y => Math.abs(y) < 1e-3)")
    click_button(notebook, "relaxed by DFT")
    page.wait_for_selector(".mlipkit-explorer :text('atoms relaxed by DFT')")
    # a swap, by keyboard alone
    click_button(notebook, "swaps (two)")
    rows = page.evaluate(
        "[...document.querySelectorAll('.mlipkit-ions tr[data-atom]')].map(r => [r.dataset.atom, r.cells[3].innerText])"
    )
    first, ion = rows[0]
    second = next(atom for atom, other in rows if other[:2] == ion[:2] and other != ion)
    for atom in (first, second):
        page.focus(f".mlipkit-ions tr[data-atom='{atom}']")
        page.keyboard.press("Enter")
        still(page)
    eventually(page, lambda: len(eval(notebook.python("print(app.state.flips)"))) == 2)
    flips = dict(eval(notebook.python("print(app.state.flips)")))
    assert set(flips) == {int(first), int(second)}
    assert notebook.python("print(app.state.imbalance)") == "0"
    page.wait_for_selector(".mlipkit-explorer :text('Charge-blind: the valence is no input')")
    # a level, or a point of the hull, chooses its ordering
    other = notebook.python(
        "print(next(n for n in app.state.levels('DFT') if n != app.state.ordering))"
    )
    click_point(
        page,
        ".mlipkit-explorer",
        "t.mode.includes('text')",
        f"t.text[k] === '{other}' && t.y[k] !== null",
    )
    where = "print(app.state.ordering, [v for _, v in app.here.options])"
    assert eventually(page, lambda: other in notebook.python(where))
    assert (notebook.python("print('hull' in app.axes)") == "True") == bool(compound.mobile)
    bar = page.evaluate(
        "[...document.querySelectorAll('.mlipkit-explorer .modebar-btn')].map(b => b.dataset.title)"
    )
    assert bar and not any("hare" in title or "loud" in title for title in bar)
    # views along the axes: what is drawn turns, and the beginning comes back
    turned = "window.nglStage.viewer.rotationGroup.quaternion.toArray().map(v => +v.toFixed(4))"
    began = page.evaluate(turned)
    for axis in "abc":
        click_button(notebook, axis)
        page.wait_for_function(f"JSON.stringify({turned}) !== {json.dumps(json.dumps(began))}")
        click_button(notebook, "reset")
        page.wait_for_function(f"{turned}.every((v, k) => Math.abs(v - {began}[k]) < 1e-3)")
    with page.expect_download() as download:
        click_button(notebook, "picture")
    assert (
        download.value.suggested_filename == f"{notebook.python('print(app.state.ordering)')}.png"
    )
    page.locator(".mlipkit-explorer button", has_text="full screen").click()
    page.wait_for_function(
        "document.querySelector('.mlipkit-3d canvas').getBoundingClientRect().width >= innerWidth"
    )
    page.evaluate("document.exitFullscreen()")
    page.wait_for_function(
        "document.querySelector('.mlipkit-3d canvas').getBoundingClientRect().width < innerWidth / 2 + 200"
    )
    # the page fits its window, in both themes
    for _ in in_both_themes_and_widths(page, ".mlipkit-explorer", name):
        pass
    # a toggle and the hull on one screen at 1100 x 750
    page.set_viewport_size({"width": 1100, "height": 750})
    page.evaluate("document.querySelector('.mlipkit-explorer').scrollIntoView()")
    still(page)
    seen = page.evaluate(
        f"""[document.querySelector('.mlipkit-explorer [aria-pressed=true]'), {plot}]
            .map(e => e.getBoundingClientRect()).every(r => r.top >= 0 && r.bottom <= innerHeight)"""
    )
    assert seen
    # the kernel goes: the page says so
    page.evaluate("window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()")
    page.wait_for_selector(".mlipkit-dead")
    assert notebook.errors() == []
