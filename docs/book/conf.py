"""The book: `make book` runs the notebooks and writes a site that needs no server and no network.

The pages are those of the repository, where they lie: Sphinx's source folder is the root.
"""

import hashlib
import os
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "site"
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

import offline  # noqa: E402

import mlipkit as mk  # noqa: E402

# a kernel started for a notebook runs this copy of the package, and its figures leave plotly.js out
os.environ["PYTHONPATH"] = str(ROOT)
os.environ["PLOTLY_RENDERER"] = "notebook_connected"
os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def fingerprint():
    """Outputs in the cache are good for as long as neither the package nor its data change."""
    known = hashlib.sha256()
    for what in ("mlipkit/**/*.py", "data/manifest.json", "data/models/*", "data/phases/*"):
        for path in sorted(p for p in ROOT.glob(what) if p.is_file()):
            known.update(path.read_bytes())
    return known.hexdigest()[:12]


project, author, version = "mlipkit", "the mlipkit authors", mk.__version__
copyright = "the authors; code MIT, data and weights CC BY 4.0"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
root_doc = "docs/book/index"
include_patterns = [
    "docs/*.md",
    "docs/book/**",
    "data/dft/README.md",
    "notebooks/*.ipynb",
    "notebooks/solutions/*.ipynb",
]
exclude_patterns = [".*", "site", "mlipkit", "tests", "data/dft/frames", "data/dft/log"]

nb_execution_mode = "cache"
nb_execution_cache_path = str(BUILD / f"outputs-{fingerprint()}")
nb_execution_timeout = 600
# the test runs some only, so that links between them hold: BOOK_NOTEBOOKS="00_tour 01_dft_data"
run = os.environ.get("BOOK_NOTEBOOKS", "").split()
nb_execution_excludepatterns = ["notebooks/solutions/*"]
nb_execution_excludepatterns += [
    f"notebooks/{path.name}"
    for path in sorted((ROOT / "notebooks").glob("*.ipynb"))
    if run and path.stem not in run
]
nb_execution_raise_on_error = True
nb_merge_streams = True
nb_ipywidgets_js = {}
myst_enable_extensions = ["dollarmath", "attrs_block", "colon_fence", "substitution"]
# where a reader gets the notebooks: make book REPOSITORY=https://github.com/someone/mlipkit
repository = os.environ.get("REPOSITORY", "").rstrip("/").removesuffix(".git")
binder = repository.replace("https://github.com/", "https://mybinder.org/v2/gh/")
myst_substitutions = {
    "lab": "`make lab` in a copy of the repository",
    "binder": "point [mybinder.org](https://mybinder.org) at the repository",
}
if repository:
    myst_substitutions["lab"] = f"`git clone {repository}`, and in the folder `make lab`"
if binder != repository:
    tour = f"{binder}/HEAD?urlpath=lab/tree/notebooks/00_tour.ipynb"
    myst_substitutions["binder"] = f"[open the tour on Binder]({tour})"
myst_heading_anchors = 3
myst_update_mathjax = False
html_math_renderer = "mathml"
default_role = "py:obj"
rst_prolog = ".. |moment| replace:: \\|moment\\|\n.. |Moments| replace:: \\|Moments\\|\n"
autodoc_default_options = {"members": True}
autodoc_typehints = "none"
autodoc_member_order = "bysource"
napoleon_google_docstring = False
napoleon_use_rtype = False

html_theme = "furo"
html_title = "mlipkit"
html_static_path = ["_static", str(BUILD / "static")]
html_extra_path = ["root"]
html_css_files = ["book.css"]
html_js_files = ["figures.js"]
html_show_search_summary = False  # it would fetch pages, which a page opened as a file may not
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {"top_of_page_buttons": []}
pygments_style, pygments_dark_style = "friendly", "github-dark-high-contrast"

for outdated in set(BUILD.glob("outputs-*")) - {Path(nb_execution_cache_path)}:
    shutil.rmtree(outdated)
offline.gather(BUILD / "static" / "runtime", BUILD / "npm")
offline.write_reference(Path(__file__).parent / "api", mk)


def setup(app):
    app.connect("doctree-read", offline.clean_outputs)
    app.add_html_math_renderer("mathml", (offline.mathml, None), (offline.mathml, None))
    app.connect("html-page-context", offline.add_scripts)
