"""The address that `make lab` prints, opened in a browser."""

import re
import shutil

import pytest
from lab import ROOT, SCREENSHOTS, make

pytestmark = pytest.mark.browser


def test_make_lab_opens_on_the_tour(browser, tmp_path):
    """The printed address: the tour with its table of notebooks, no pop-up, nothing from elsewhere,
    nothing written into the home folder.
    """
    home, served = tmp_path / "home", tmp_path / "served"
    home.mkdir()
    shutil.copytree(ROOT / "notebooks", served / "notebooks")
    said = f"--no-browser --ServerApp.root_dir={served}"
    with make("lab", home, LAB_ARGS=said) as address:
        page, asked = browser.new_page(viewport={"width": 1500, "height": 1000}), []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(address)
        page.wait_for_selector(".jp-Notebook h1:has-text('the tour')", timeout=60_000)
        page.wait_for_selector(".jp-Notebook-ExecutionIndicator[data-status='idle']")
        names = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
        links = page.locator(".jp-Notebook table a")
        assert links.all_inner_texts() == names
        SCREENSHOTS.mkdir(exist_ok=True)
        page.screenshot(path=str(SCREENSHOTS / "lab.png"))
        links.nth(1).click()
        page.wait_for_selector(".jp-Notebook h1:has-text('data')")
        assert page.query_selector_all(".Toastify__toast, .jp-Dialog") == []
        own = re.match(r"http://[^/]+/", address).group()
        assert [u for u in asked if not u.startswith((own, "data:", "blob:"))] == []
        assert not [u for u in asked if "/api/news" in u or "/api/update" in u]
        page.close()
    written = [p for p in (home / ".jupyter").rglob("*") if p.is_file()]
    assert all("workspaces" in p.parts for p in written), written
