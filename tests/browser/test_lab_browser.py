"""The address that `make lab` prints, opened in a browser."""

import contextlib
import os
import re
import shutil
import subprocess

import pytest
from lab import ROOT, SCREENSHOTS, free_port

pytestmark = pytest.mark.browser


@contextlib.contextmanager
def make(target, home, **variables):
    """Run `make lab` or `make app` with a home folder of its own; yields its lines."""
    words = [f"{name}={value}" for name, value in variables.items()]
    env = {**os.environ, "HOME": str(home), "PYTHONPATH": str(ROOT)}
    env |= {"JUPYTER_RUNTIME_DIR": str(home / "runtime")}
    # the environment that runs the tests is ready, whatever the dates of its files
    command = ["make", "-o", ".venv/ready", target, f"PORT={free_port()}", *words]
    started = subprocess.Popen(
        command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        yield started.stdout
    finally:
        started.terminate()
        started.stdout.close()
        started.wait(20)


def test_make_lab_opens_on_the_tour(browser, tmp_path):
    """The printed address: the tour with its table of notebooks, no pop-up, nothing from elsewhere,
    nothing written into the home folder.
    """
    home, served = tmp_path / "home", tmp_path / "served"
    home.mkdir()
    shutil.copytree(ROOT / "notebooks", served / "notebooks")
    said = f"--no-browser --ServerApp.root_dir={served}"
    with make("lab", home, LAB_ARGS=said) as lines:
        found = (re.search(r"http://(?:localhost|127)\S+", line) for line in lines)
        address = next(match.group() for match in found if match)
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
