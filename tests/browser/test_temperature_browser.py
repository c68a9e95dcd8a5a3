"""The temperature app in JupyterLab: slider, switch, clicks, the cell, both themes and two widths."""

import json

import numpy as np
import pytest
from lab import in_both_themes_and_widths, still
from test_browser import pixels, share_of

import mlipkit as mk
from mlipkit.pictures.plots import VALENCE

pytestmark = pytest.mark.browser

CELL = "import mlipkit as mk\napp = mk.explore_temperature(temperature=600)\napp"
PLOT = "document.querySelector('.mlipkit-temperature .js-plotly-plot')"
TRACE = f"(name => {PLOT}.data.find(t => t.name === name))"
LINE = f"{PLOT}.layout.shapes[0].y0"
# from a click or a key to the end of the redraw, in ms
TIMED = """async ([selector, key]) => {
    const plot = document.querySelector('.mlipkit-temperature .js-plotly-plot');
    const drawn = new Promise(done => plot.once('plotly_afterplot', done));
    const target = [...document.querySelectorAll(selector)].find(e => e.innerText.trim() === key);
    const began = performance.now(); target.click(); await drawn; return performance.now() - began }"""


@pytest.fixture
def app(show_app):
    """The app alone in a notebook, drawn: (notebook, page)."""
    opened = show_app(CELL, ".mlipkit-temperature")
    page = opened.page
    page.set_default_timeout(90_000)  # 3D is drawn in software: a busy machine takes its time
    page.wait_for_selector(".mlipkit-temperature canvas")
    page.wait_for_function(f"{PLOT}?.data?.length > 0 && {LINE} === 600")
    opened.python("app.structure._execute_js_code('window.nglStage = this.stage', keep=False)")
    page.wait_for_function("window.nglStage?.compList.some(c => c.structure)")
    still(page)
    return opened, page


def press(page, label):
    page.locator(".mlipkit-temperature button", has_text=label).first.click()


def atoms_drawn(page):
    """{element: how many} in the canvas."""
    return page.evaluate(
        """() => { const found = {}; const s = window.nglStage.compList.filter(c => c.structure).at(-1).structure;
        s.eachAtom(a => { found[a.element] = (found[a.element] || 0) + 1 }); return found }"""
    )


def wait_for_atoms(page, n, element="NA"):
    page.wait_for_function(
        f"""() => {{ let n = 0; const c = window.nglStage.compList.filter(c => c.structure);
        if (c.length !== 1) return false;
        c[0].structure.eachAtom(a => {{ n += a.element === '{element}' }}); return n === {n} }}"""
    )


def test_slider_switch_and_clicks(app):
    notebook, page = app
    diagrams = mk.load_phases()["cpainn"]
    aware = diagrams["with electrons"]

    def tangents(diagram, temperature):
        return [x for low, high, _ in diagram.gaps(temperature) for x in (low, high)]

    def wait_for_tangents(expected):
        given = json.dumps(expected)
        page.wait_for_function(
            f"""() => {{ const x = {TRACE}('common tangents').x.filter(v => v !== null), e = {given};
            return x.length === e.length && x.every((v, k) => Math.abs(v - e[k]) < 1e-6) }}"""
        )

    assert page.inner_text(".mlipkit-temperature").count("600 K") >= 2
    wait_for_tangents(tangents(aware, 600))
    # the slider, by keyboard: the line goes up, and two phases become fewer
    handle = page.locator(".mlipkit-temperature .noUi-handle").first
    for temperature in (700, 800, 900):
        handle.press("ArrowRight")
        page.wait_for_function(f"{LINE} === {temperature}")
        wait_for_tangents(tangents(aware, temperature))
        page.wait_for_selector(f".mlipkit-temperature :text(', {temperature} K:')")
    page.wait_for_selector(".mlipkit-temperature :text('one phase at every x')")
    g = page.evaluate(f"Array.from({TRACE}('G').y)")
    assert np.allclose(g, 1e3 * aware.free_energy[aware.at(900)])
    # the switch: at 900 K two phases without the electrons
    press(page, "without electrons")
    wait_for_tangents(tangents(diagrams["without"], 900))
    page.wait_for_selector(".mlipkit-temperature :text('electrons is left out')")
    assert page.evaluate(f"{TRACE}('S electrons').x.length") == 0
    press(page, "as a charge-blind potential sees it")
    page.wait_for_selector(".mlipkit-temperature :text('one energy for each arrangement')")
    wait_for_tangents(tangents(diagrams["charge-blind"], 900))
    still(page)
    image = pixels(page.query_selector(".mlipkit-temperature canvas"))
    # it knows no states; and sodium is there
    assert share_of(image, VALENCE[2]) < 0.002 and image.std() > 10
    press(page, "with electrons")
    wait_for_tangents(tangents(aware, 900))
    still(page)
    image = pixels(page.query_selector(".mlipkit-temperature canvas"))
    assert share_of(image, VALENCE[2]) > 0.002 and share_of(image, VALENCE[3]) > 0.002
    # a click into the phase diagram: that temperature, and the cell kept nearest to that x
    kept = aware.x[aware.snapshot_at]
    x = float(kept[len(kept) // 4])
    where = page.evaluate(
        f"""x => {{ const g = {PLOT}, r = g.getBoundingClientRect(), l = g._fullLayout;
        return [r.left + l.xaxis._offset + l.xaxis.d2p(x), r.top + l.yaxis._offset + l.yaxis.d2p(500)] }}""",
        x,
    )
    page.mouse.move(where[0] + 4, where[1] + 4)
    page.mouse.move(*where)
    page.wait_for_selector(".mlipkit-temperature .hovertext:has-text('500 K')")
    page.mouse.click(*where)
    page.wait_for_function(f"{LINE} === 500")
    n_na = round(x * aware.n_units)
    wait_for_atoms(page, n_na)
    assert atoms_drawn(page) == {"FE": aware.n_units, "NA": n_na}
    # the second slider: to the last composition, without an electron gone
    page.locator(".mlipkit-temperature .noUi-handle").nth(1).press("End")
    wait_for_atoms(page, aware.n_units)
    still(page)
    image = pixels(page.query_selector(".mlipkit-temperature canvas"))
    assert share_of(image, VALENCE[2]) > 0.002 and share_of(image, VALENCE[3]) < 0.002
    # the other architecture: shaded is now its own
    before = page.evaluate(f"{TRACE}('two phases').fillcolor")
    press(page, "MACE")
    page.wait_for_function(f"{TRACE}('two phases').fillcolor !== {json.dumps(before)}")
    times = []
    for label in ["cPaiNN", "MACE"] * 4:
        times.append(page.evaluate(TIMED, [".mlipkit-temperature button", label]))
        still(page)
    # pytest -s shows it
    print(f"toggle to redrawn plots: median {np.median(times):.0f} ms of {np.round(times)}")
    assert notebook.errors() == [] and notebook.console == []


def overlaps(page):
    """Pairs of texts of the figure that lie over each other."""
    return page.evaluate(
        f"""() => {{ const seen = [...{PLOT}.querySelectorAll('text')].filter(t => t.textContent.trim() && !t.closest('.hoverlayer'))
            .map(t => [t.textContent, t.getBoundingClientRect()]).filter(([_, r]) => r.width > 0);
        return seen.flatMap(([a, p], i) => seen.slice(i + 1).filter(([_, q]) =>
            Math.min(p.right, q.right) - Math.max(p.left, q.left) > 1 && Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top) > 2)
            .map(([b]) => [a, b])) }}"""
    )


def test_both_themes_and_two_widths(app):
    notebook, page = app
    for _ in in_both_themes_and_widths(page, ".mlipkit-temperature", "temperature"):
        assert overlaps(page) == []
        # the switch, the slider and all plots on one screen
        assert page.evaluate(f"{PLOT}.getBoundingClientRect().bottom <= innerHeight")
    assert notebook.errors() == [] and notebook.console == []
