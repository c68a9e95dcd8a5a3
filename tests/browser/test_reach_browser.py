"""The apps without a mouse and without seeing them: every control has a name and is reached by Tab,
what changes is read out, text stands out from its ground; and what one can do with a crystal.
"""

import io

import numpy as np
import pytest
from conftest import PLAYER, on
from lab import SCREENSHOTS, eventually, still
from PIL import Image
from test_browser import drawn, pixels, share_of

from mlipkit.pictures.figures import VALENCE
from mlipkit.pictures.shapes import ARROW

pytestmark = pytest.mark.browser

START = "import mlipkit as mk\n"
HALF = "next(a for a in mk.end_points(mk.load_dft()) if a.info['ordering'] == 'x050_na01_fe02')"
UPLOAD = """app = mk.upload()
mk.write_frames("mine.extxyz", [a for a in mk.load_dft() if a.info["step"] == 0][:3])
app.state.load("mine.extxyz", open("mine.extxyz", "rb").read())
app"""
CURVE = """app = mk.LiveCurve()
app([{"epoch": k, "train": 2 / (k + 1), "validation": 3 / (k + 1)} for k in range(4)])
app"""
HULL = "mk.ByArchitecture(mk.plots.hull({n: mk.hull(mk.end_points(mk.load_dft())) for n in names}))"
APPS = {  # what to run, what it is, and whether it has words that are read out
    "show": (f"{START}mk.show({HALF})", ".mlipkit-crystal", False),
    "explorer": (f"{START}mk.explore(model='blind')", ".mlipkit-explorer", True),
    "temperature": (f"{START}mk.explore_temperature()", ".mlipkit-temperature", True),
    "player": (PLAYER.replace("steps=25", "steps=3"), ".mlipkit-player", True),
    "threshold": (f"{START}mk.explore_threshold()", ".mlipkit-threshold", True),
    "upload": (START + UPLOAD, ".mlipkit-upload", True),
    "training curve": (START + CURVE, ".mlipkit-app", False),
    "by architecture": (
        f"{START}names = ['DFT', 'mace_aware', 'chgnet_aware']\n{HULL}",
        ".mlipkit-by-architecture",
        False,
    ),
}
NAMED = {"button", "slider", "checkbox", "combobox", "listbox", "textbox", "spinbutton", "radio"}
NAMED |= {"image", "img", "Canvas", "figure", "table"}


@pytest.fixture(scope="module")
def opened(request, easel):
    """An app alone in a notebook, drawn: its name, the notebook, its page and selector."""
    name, (code, selector, _) = request.param, APPS[request.param]
    with on(easel, request.session) as show:
        notebook = show(code, selector)
        page = notebook.page
        if name in ("show", "explorer", "temperature", "player", "upload"):
            canvas = page.wait_for_selector(f"{selector} canvas")
            assert eventually(page, lambda: drawn(pixels(canvas)))
        still(page)
        yield name, notebook, page, selector


def unnamed(page, selector):
    """What of an app Chromium hands to a screen reader without a name."""
    session = page.context.new_cdp_session(page)
    root = session.send("DOM.getDocument")["root"]["nodeId"]
    query = {"nodeId": root, "selector": selector}
    app = session.send("DOM.querySelector", query)["nodeId"]
    nodes = session.send("Accessibility.queryAXTree", {"nodeId": app})["nodes"]
    by_id = {node["nodeId"]: node for node in nodes}
    role = lambda node: node.get("role", {}).get("value")

    def in_a_button(node):  # whose name it shares
        while node := by_id.get(node.get("parentId")):
            if role(node) == "button":
                return True
        return False

    seen = [node for node in nodes if not node.get("ignored") and role(node) in NAMED]
    assert seen, "nothing at all is handed on"
    nameless = [node for node in seen if not node.get("name", {}).get("value", "").strip()]
    return [role(node) for node in nameless if not in_a_button(node)]


# marks all controls that a person sees, in the order of the page
CONTROLS = """(selector) => { let n = 0;
    const seen = e => e.getClientRects().length && getComputedStyle(e).visibility === 'visible';
    const what = 'button, select, input:not([type=file]), [role=slider], [contenteditable=true], ' +
        'tr[tabindex], [role=img][tabindex]';
    for (const e of document.querySelector(selector).querySelectorAll(what))
        if (seen(e) && !e.disabled && !e.closest('.modebar')) e.dataset.reach = n++;
    return n }"""
FOCUSED = """() => { const e = document.activeElement, s = getComputedStyle(e);
    const ring = s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) > 0;
    return [e.dataset.reach === undefined ? null : Number(e.dataset.reach), ring] }"""


@pytest.mark.parametrize("opened", APPS, indirect=True)
def test_every_control_has_a_name_and_is_reached_by_tab(opened):
    name, notebook, page, app = opened
    # an app gives its names 0.2 s after the last change, and that nothing moves is seen sooner
    assert eventually(page, lambda: not unnamed(page, app)), unnamed(page, app)
    live = page.evaluate(
        "a => [...document.querySelectorAll(a + ' [aria-live=polite]')].map(e => e.innerText)", app
    )
    assert any(live) == APPS[name][2]
    pressed = page.evaluate(
        """a => [...document.querySelectorAll(a + ' button.widget-toggle-button')].map(b =>
            b.getAttribute('aria-pressed') === String(b.classList.contains('mod-active')))""",
        app,
    )
    assert all(pressed)
    n = page.evaluate(CONTROLS, app)
    if n:
        page.evaluate(f"document.querySelector('{app} [data-reach=\"0\"]').focus()")
        reached = [(0, True)]
        for _ in range(n + 60):  # plotly's own buttons lie between
            if reached[-1][0] == n - 1:
                break
            page.keyboard.press("Tab")
            at, ring = page.evaluate(FOCUSED)
            reached += [(at, ring)] * (at is not None)
        assert [i for i, _ in reached] == list(range(n)), "not reached, or out of order"
        assert all(ring for _, ring in reached), "where the focus is, is not seen"
    assert notebook.errors() == [] and notebook.console == []


# [ratio, text] of each text of an app, its colour against what lies under it
CONTRAST = """(selector) => {
    const parse = c => { const v = c.match(/[\\d.]+/g).map(Number);
        return c.startsWith('color(srgb') ? [v[0] * 255, v[1] * 255, v[2] * 255, v[3] ?? 1]
            : [v[0], v[1], v[2], v[3] ?? 1] };
    const over = (top, under) => [0, 1, 2].map(k => top[3] * top[k] + (1 - top[3]) * under[k]);
    const ground = e => { if (!e) return [255, 255, 255];
        const c = parse(getComputedStyle(e).backgroundColor);
        return c[3] === 1 ? c.slice(0, 3) : over(c, ground(e.parentElement)) };
    const light = rgb => { const [r, g, b] = rgb.map(v => v / 255).map(
            v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b };
    const walk = document.createTreeWalker(document.querySelector(selector), NodeFilter.SHOW_TEXT);
    const found = [];
    while (walk.nextNode()) {
        const e = walk.currentNode.parentElement, text = walk.currentNode.data.trim();
        if (!text || e.closest('svg, style, script, option, [hidden]')) continue;
        if (e.closest(':disabled') || !e.getClientRects().length) continue;
        if (getComputedStyle(e).visibility !== 'visible') continue;
        const under = ground(e), ink = over(parse(getComputedStyle(e).color), under);
        const [a, b] = [light(ink), light(under)].sort((p, q) => q - p);
        found.push([(a + 0.05) / (b + 0.05), text.slice(0, 40)]) }
    // buttons within a plot: their text has what is drawn under it for a ground
    for (const button of document.querySelectorAll(selector + ' .updatemenu-button')) {
        const [box, words] = ['rect', 'text'].map(e => button.querySelector(e));
        const fill = e => { const c = parse(getComputedStyle(e).fill);
            return [...c.slice(0, 3), c[3] * getComputedStyle(e).fillOpacity] };
        const under = over(fill(box), ground(button.closest('div')));
        const [a, b] = [light(over(fill(words), under)), light(under)].sort((p, q) => q - p);
        found.push([(a + 0.05) / (b + 0.05), words.textContent]) }
    return found }"""


@pytest.mark.parametrize("opened", [a for a in APPS if a != "training curve"], indirect=True)
def test_text_stands_out_from_its_ground_in_both_themes(opened):
    name, _, page, app = opened
    SCREENSHOTS.mkdir(exist_ok=True)
    for theme in ("Dark", "Light"):
        page.evaluate(
            "t => window.jupyterapp.commands.execute('apputils:change-theme', {theme: t})",
            f"JupyterLab {theme}",
        )
        there = f"body[data-jp-theme-light={str(theme == 'Light').lower()}]"
        page.wait_for_selector(there, state="attached")
        still(page)
        page.screenshot(path=str(SCREENSHOTS / f"reach_{name.replace(' ', '_')}_{theme}.png"))
        texts = page.evaluate(CONTRAST, app)
        assert texts and not [text for text in texts if text[0] < 4.5], theme


def extent(image):
    """The share of a picture's height and of its width over which something is drawn."""
    there = np.abs(image - image[0, 0]).max(axis=-1) > 40
    shares = []
    for axis in (1, 0):
        at = np.flatnonzero(there.any(axis=axis))
        shares.append((at[-1] - at[0]) / there.shape[1 - axis])
    return shares


@pytest.mark.parametrize("opened", ["show"], indirect=True)
def test_a_crystal_fills_the_screen_turns_by_keys_and_is_kept_as_a_picture(opened):
    _, notebook, page, app = opened
    size = "() => { const c = document.querySelector('.mlipkit-3d canvas'); return [c.clientWidth, c.clientHeight] }"
    before = page.evaluate(size)
    canvas = page.query_selector(f"{app} canvas")
    assert max(extent(pixels(canvas))) > 0.7
    assert share_of(pixels(canvas), ARROW) > 0.002, "no arrow is seen"
    page.get_by_role("button", name="full screen").click()
    page.wait_for_function("document.fullscreenElement")
    still(page)
    width, height = page.evaluate(size)
    assert width > 0.95 * 1500 and height > 0.8 * 1000
    full = np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB")).astype(int)
    assert max(extent(full[: int(height), 40:-40])) > 0.65
    assert page.get_by_text("Fe2+: 2").is_visible() and page.get_by_text("4 µB").is_visible()
    page.screenshot(path=str(SCREENSHOTS / "crystal_full_screen.png"))
    page.get_by_role("button", name="full screen").click()
    page.wait_for_function("!document.fullscreenElement")
    assert eventually(page, lambda: page.evaluate(size) == before)
    # the keyboard: turned, and back to the first view
    still(page)
    first = pixels(canvas)
    page.focus(f"{app} [role=img]")
    for key in ("ArrowLeft", "ArrowUp", "+"):
        at = pixels(canvas)
        page.keyboard.press(key)
        assert eventually(page, lambda at=at: (pixels(canvas) != at).any(axis=-1).mean() > 0.01)
    page.get_by_role("button", name="reset").press("Enter")
    assert eventually(page, lambda: (pixels(canvas) != first).any(axis=-1).mean() < 0.01)
    with page.expect_download() as download:
        page.get_by_role("button", name="picture").press("Enter")
    assert download.value.suggested_filename.endswith(".png")
    # the glossary has it, and the last one
    download.value.save_as(SCREENSHOTS / "ordering.png")
    kept = np.asarray(Image.open(download.value.path()).convert("RGB")).astype(int)
    assert kept.shape[:2] == (2 * before[1], 2 * before[0])
    for colour in (VALENCE[2], VALENCE[3], ARROW):
        assert share_of(kept, colour) > 0.002
    # labels on request
    at = pixels(canvas)
    page.get_by_role("checkbox", name="labels").check()
    still(page)
    # dark letters on chips of their own; nothing else is drawn anew (white on white is no change)
    fresh = lambda: (pixels(canvas) != at).any(axis=-1)
    assert eventually(page, lambda: fresh().mean() > 0.005)
    assert fresh().mean() < 0.02
    assert (fresh() & (pixels(canvas).max(axis=-1) < 90)).mean() > 0.001
    notebook.shot("crystal_labels")
    page.get_by_role("checkbox", name="labels").uncheck()
    at = pixels(canvas)
    page.get_by_role("checkbox", name="octahedra").check()
    assert eventually(page, lambda: (pixels(canvas) != at).any(axis=-1).mean() > 0.002)
    still(page)
    with page.expect_download() as download:
        page.get_by_role("button", name="picture").press("Enter")
    download.value.save_as(SCREENSHOTS / "polaron.png")
    assert notebook.errors() == [] and notebook.console == []
