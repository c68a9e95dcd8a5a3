"""Chromium, JupyterLab on the notebooks, and a notebook opened in it."""

import os
import shutil

import pytest
from lab import FLAGS, ROOT, Notebook, chromium_path, jupyterlab, write_notebook

PLAYER = """import mlipkit as mk
ends = mk.end_points(mk.load_dft())
start = mk.undistorted(next(a for a in ends if a.info['ordering'] == 'x050_na02_fe13'), ends[-1])
player = mk.play(mk.relax(start, mk.load_model('cpainn', charge_aware=False), steps=25, progress=False), octahedra=True)
player"""


@pytest.fixture(scope="module")
def browser():
    if not chromium_path():
        message = "no chromium here (Debian: apt-get install chromium; or set CHROMIUM)"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as p:
        chromium = p.chromium.launch(executable_path=chromium_path(), args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def lab_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("lab")


@pytest.fixture(scope="module")
def lab(lab_folder):
    folder = lab_folder
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        shutil.copy(path, folder)
    with jupyterlab(folder) as url:
        yield url


@pytest.fixture
def open_notebook(browser, lab):
    opened = []

    def open_it(name):
        opened.append(Notebook(browser, lab, name))
        return opened[-1]

    yield open_it
    for notebook in opened:
        notebook.close()


def run_alone(browser, lab, folder, code, app):
    """An app alone in a notebook, run."""
    notebook = Notebook(browser, lab, write_notebook(folder, "alone", code))
    notebook.run()
    notebook.page.wait_for_selector(app)
    return notebook


@pytest.fixture
def open_app(browser, lab, lab_folder):
    """Open an app alone in a notebook, given its code and the selector that it is known by."""
    opened = []

    def open_it(code, app=".mlipkit-app"):
        opened.append(run_alone(browser, lab, lab_folder, code, app))
        return opened[-1]

    yield open_it
    for notebook in opened:
        notebook.close()
