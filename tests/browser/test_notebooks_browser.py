"""What a person sees of each notebook, opened in JupyterLab in headless Chromium and run. Screenshots
go to screenshots/.
"""

import pytest
from lab import PEAK, ROOT, eventually, still
from test_browser import drawn, pixels, share_of

from mlipkit.pictures.plots import VALENCE

pytestmark = pytest.mark.browser
NOTEBOOKS = sorted(p.name for p in (ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebook_runs_and_shows(show_notebook, name):
    notebook = show_notebook(name)
    seconds = notebook.run()
    peak = int(notebook.python(PEAK))
    # pytest -s shows it
    print(f"{name}: {seconds:.0f} s, peak memory {peak / 1e6:.2f} GB")
    assert seconds < 120 and peak < 1.5e6
    text = (ROOT / "notebooks" / name).read_text()
    calls = "mk.show(", "mk.explore(", "mk.upload(", "mk.play(", "mk.study("
    calls = *calls, "mk.explore_temperature("
    expected = sum(text.count(call) for call in calls)

    def shown():
        canvases = notebook.page.query_selector_all(".jp-OutputArea canvas")
        return [c for c in canvases if (c.bounding_box() or {}).get("height", 0) > 100]

    eventually(notebook.page, lambda: len(shown()) == expected)
    still(notebook.page)
    assert notebook.errors() == []
    views = shown()
    assert len(views) == expected, "one 3D canvas per view"
    for view in views:
        view.scroll_into_view_if_needed()
        assert eventually(notebook.page, lambda view=view: drawn(pixels(view))), "a blank canvas"
        still(notebook.page)
        image = pixels(view)
        # grey where a model's moments tell no state
        unclear = view.evaluate(
            "c => (c.closest('.mlipkit-explorer')?.innerText || '').includes(', unclear')"
        )
        told = share_of(image, VALENCE[2]) + share_of(image, VALENCE[3]) > 0.002
        assert told or unclear, "no metal in its colour"
    for k, plot in enumerate(notebook.page.query_selector_all(".js-plotly-plot")):
        plot.scroll_into_view_if_needed()
        # on a busy machine the axes may be there before the data
        full = lambda plot=plot: plot.evaluate("g => g.data.length") and pixels(plot).std() > 5
        assert eventually(notebook.page, full), f"plot {k} is blank"
    assert notebook.console == []
    for k, area in enumerate(notebook.page.query_selector_all(".jp-Cell-outputWrapper")):
        box = area.bounding_box()
        if box and box["height"] > 200:
            area.scroll_into_view_if_needed()
            still(notebook.page)
            notebook.shot(f"{name.split('.')[0]}_{k:02d}")
