"""Chromium, JupyterLab on the notebooks, a notebook opened in it, and a place to show apps."""

import contextlib
import os
import shutil

import pytest
from lab import FLAGS, ROOT, Desk, Easel, Notebook, chromium_path, jupyterlab, write_notebook

PLAYER = """import mlipkit as mk
ends = mk.end_points(mk.load_dft())
start = mk.undistorted(next(a for a in ends if a.info['ordering'] == 'x050_na02_fe13'), ends[-1])
player = mk.play(mk.relax(start, mk.load_model('cpainn', charge_aware=False), steps=25, progress=False), octahedra=True)
player"""


@pytest.fixture(scope="session")
def browser():
    if not chromium_path():
        message = "no chromium here (Debian: apt-get install chromium; or set CHROMIUM)"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as p:
        chromium = p.chromium.launch(executable_path=chromium_path(), args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def lab_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("lab")


@pytest.fixture(scope="session")
def lab(lab_folder):
    folder = lab_folder
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        shutil.copy(path, folder)
    with jupyterlab(folder) as url:
        yield url


@pytest.fixture
def open_notebook(browser, lab):
    with contextlib.ExitStack() as opened:

        def open_it(name):
            return opened.enter_context(contextlib.closing(Notebook(browser, lab, name)))

        yield open_it


@pytest.fixture
def open_app(open_notebook, lab_folder):
    """Open an app alone in a notebook of its own, given its code and the selector that it is known
    by.
    """

    def open_it(code, app=".mlipkit-app"):
        notebook = open_notebook(write_notebook(lab_folder, "alone", code))
        notebook.run()
        notebook.page.wait_for_selector(app)
        return notebook

    return open_it


@pytest.fixture(scope="session")
def easel(browser, lab, lab_folder):
    """One page and one kernel for many apps, each alone in the notebook while it is there."""
    with contextlib.closing(Easel(browser, lab, lab_folder)) as one:
        yield one


@contextlib.contextmanager
def on(stand, session):
    """A function that shows an app on an easel, or a notebook on a desk; what is shown when a test
    fails is not used again.
    """
    failed = session.testsfailed
    try:
        yield stand.show
    except BaseException:
        stand.close()
        raise
    if session.testsfailed > failed:
        stand.close()
    else:
        stand.clear()


@pytest.fixture
def show_app(request, easel):
    """As `open_app`, on the easel: for tests that leave the page and the kernel alive."""
    with on(easel, request.session) as show:
        yield show


@pytest.fixture(scope="session")
def desk(browser, lab):
    with contextlib.closing(Desk(browser, lab)) as one:
        yield one


@pytest.fixture
def show_notebook(request, desk):
    """As `open_notebook`, on the desk."""
    with on(desk, request.session) as show:
        yield show
