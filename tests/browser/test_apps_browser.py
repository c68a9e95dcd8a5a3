"""Clicks in the apps: flip a valence, choose by the ladder, play a relaxation, the explorer as a
page of its own.
"""

import numpy as np
import pytest
from lab import ROOT, SCREENSHOTS, voila
from test_browser import click_button, open_explorer, pixels, share_of

import mlipkit as mk
from mlipkit.pictures.plots import VALENCE

pytestmark = pytest.mark.browser


def click_at(page, x, y):
    page.mouse.move(x, y)
    page.wait_for_timeout(500)
    page.mouse.click(x, y)
    page.wait_for_timeout(2000)


def click_point(page, app, trace, point):
    """Click on a point of a plot; `trace` and `point` are JavaScript conditions on `t`, a trace,
    and `k`, one of its points.
    """
    click_at(
        page,
        *page.evaluate(f"""() => {{
        const g = document.querySelector('{app} .js-plotly-plot'), r = g.getBoundingClientRect();
        const t = g._fullData.find(t => t.visible === true && {trace}), k = [...Array(t.x.length).keys()].find(k => {point});
        const axis = name => g._fullLayout[name[0] + 'axis' + name.slice(1)], a = axis(t.xaxis), b = axis(t.yaxis);
        return [r.left + a._offset + a.d2p(t.x[k]), r.top + b._offset + b.d2p(t.y[k])] }}"""),
    )


def click_atom(page, i):
    """Click on an atom in the canvas whose stage is `window.nglStage`."""
    click_at(
        page,
        *page.evaluate(
            """(i) => { const s = window.nglStage, a = s.compList.find(c => c.structure).structure.getAtomProxy(i);
        const p = s.viewerControls.getPositionOnCanvas(a.positionToVector3()), r = s.viewer.renderer.domElement.getBoundingClientRect();
        return [r.left + p.x, r.bottom - p.y] }""",
            i,
        ),
    )


def test_a_click_on_iron_flips_it_and_a_click_on_a_level_chooses(open_notebook):
    notebook, page, explorer = open_explorer(open_notebook)
    page.select_option(
        ".mlipkit-explorer .widget-dropdown:has-text('architecture') select", label="cPaiNN"
    )
    # there is none of cPaiNN
    page.wait_for_function(
        "!document.querySelector('.mlipkit-explorer').innerText.includes('CHGNet as published')"
    )
    click_button(notebook, "charge-aware")
    # the page has its new shape: nothing moves under the mouse
    page.wait_for_selector(".mlipkit-explorer :text('cPaiNN, charge-aware; atoms')")
    page.locator(".mlipkit-explorer .widget-checkbox:has-text('octahedra') input").check()
    click_button(notebook, "flips its valence")
    notebook.python("app.structure._execute_js_code('window.nglStage = this.stage', keep=False)")
    page.wait_for_function(
        "window.nglStage && window.nglStage.getComponentsByName('octahedra').list.length === 1"
    )
    page.wait_for_timeout(1500)
    iron = [
        int(i)
        for i in np.flatnonzero(
            next(
                a for a in mk.end_points(mk.load_dft()) if a.info["ordering"] == "x050_na01_fe02"
            ).symbols
            == "Fe"
        )
    ]
    # an atom in front may hide one of them; the octahedra around must not
    for i in iron:
        click_atom(page, i)
        page.wait_for_timeout(2500 if i == iron[0] else 0)  # the model is loaded
    flipped = eval(notebook.python("print(app.state.flips)"))
    assert len(flipped) >= 3 and set(flipped) <= set(iron)
    for i in flipped[2:]:  # the same atom again: back
        click_atom(page, i)
    assert eval(notebook.python("print(app.state.flips)")) == flipped[:2]
    text = page.inner_text(".mlipkit-explorer")
    change = float(notebook.python("print(app.state.change)"))
    assert abs(change) > 0.01 and f"energy {1e3 * change:+.0f} meV/f.u." in text
    dots = "() => document.querySelector('.mlipkit-explorer .js-plotly-plot').layout.shapes.map(s => s.yanchor)"
    shapes = page.evaluate(dots)
    assert shapes[6] == pytest.approx(shapes[1] + change)
    explorer.screenshot(path=str(SCREENSHOTS / "explorer_flipped.png"))
    click_button(notebook, "charge-blind")
    page.wait_for_timeout(2500)
    shapes = page.evaluate(dots)
    assert shapes[6] == shapes[1] and "Charge-blind: the valence is no input" in page.inner_text(
        ".mlipkit-explorer"
    )
    click_button(notebook, "undo flips")
    page.wait_for_timeout(1500)
    assert len(page.evaluate(dots)) == 5 and notebook.python("print(app.state.flips)") == "()"

    click_point(page, ".mlipkit-explorer", "t.xaxis === 'x2'", "t.text[k] === 'x050_na01_fe03'")
    assert notebook.python(
        "print(app.state.ordering)"
    ) == "x050_na01_fe03" and "x050_na01_fe03" in page.inner_text(".mlipkit-explorer")
    # a point that no other is near: blind models put the two orderings of x = 0.25 on top of each
    # other
    click_point(page, ".mlipkit-explorer", "t.xaxis === 'x'", "t.text[k] === 'x050_na02_fe01'")
    assert notebook.python("print(app.state.ordering)") == "x050_na02_fe01"
    explorer.screenshot(path=str(SCREENSHOTS / "explorer_ladder.png"))
    assert notebook.errors() == [] and notebook.console == []


def test_a_relaxation_plays_and_the_timeline_answers(open_notebook):
    notebook = open_notebook("player.ipynb")
    page = notebook.page
    notebook.run()
    player = page.wait_for_selector(".mlipkit-player")
    page.wait_for_timeout(4000)
    step = lambda: int(notebook.python("print(player.state.step)"))
    page.click(".mlipkit-player .widget-play button:visible >> nth=0")
    page.wait_for_function(
        "document.querySelector('.mlipkit-player').innerText.includes('step 25 of 25')",
        timeout=60_000,
    )
    page.wait_for_timeout(2500)
    assert step() == 25
    page.mouse.move(5, 5)
    last = pixels(page.query_selector(".mlipkit-player canvas"))
    click_point(page, ".mlipkit-player", "t.name === 'Fe 3'", "k === 7")
    assert step() == 7
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
    with voila(ROOT / "notebooks" / "app" / "explorer.ipynb", tmp_path / "voila.log") as url:
        page = browser.new_page(viewport={"width": 1250, "height": 1000})
        page.goto(url, timeout=90_000)
        page.wait_for_selector(".mlipkit-explorer canvas", timeout=90_000)
        page.wait_for_function(
            "document.querySelector('.mlipkit-explorer .js-plotly-plot')?.data?.length > 0",
            timeout=60_000,
        )
        page.wait_for_timeout(4000)
        assert not page.query_selector_all(
            ".jupyter-widgets-error-widget"
        ) and "Traceback" not in page.inner_text("body")
        image = pixels(page.query_selector(".mlipkit-explorer canvas"))
        assert share_of(image, VALENCE[2]) > 0.002 and share_of(image, VALENCE[3]) > 0.002
        page.screenshot(path=str(SCREENSHOTS / "app.png"))
        shown = "() => document.querySelector('.mlipkit-explorer .js-plotly-plot').data.filter(t => t.visible !== false && t.name).map(t => t.name)"
        assert set(page.evaluate(shown)) == {"DFT", "chgnet_blind"}
        page.click(".mlipkit-explorer button:has-text('charge-aware')")
        page.wait_for_timeout(2500)
        assert set(page.evaluate(shown)) == {"DFT", "chgnet_aware"}
        page.close()
