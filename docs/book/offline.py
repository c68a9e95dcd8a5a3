"""What makes the pages work without a network and without a kernel."""

import inspect
import json
import re
import shutil
import subprocess
import sys
import tarfile
from html import escape
from pathlib import Path

import latex2mathml.converter
from docutils import nodes
from myst_nb.core.render import WIDGET_VIEW_MIMETYPE
from myst_nb.sphinx_ import NbMetadataCollector

from mlipkit.pictures.live_figure import BUNDLE, LOADED

NBEXTENSIONS = Path(sys.prefix) / "share/jupyter/nbextensions"
# from the npm registry: what no wheel brings
NPM = {"requirejs@2.3.7": "require.js", "@jupyter-widgets/html-manager@1.0.15": "embed-amd.js"}
ICONS = "@jupyter-widgets", "@jupyter-widgets/html-manager/dist"
WIDGET_SCRIPTS = "runtime/plotly-widget.js", "runtime/require.js", "widgets.js"
FROM_CDN = re.compile(r"<script(?:[^>]*src=.https?:|[^>]*>\s*import .https?:).*?</script>", re.S)
TYPE = "{type: 'text/javascript'}"
CONTROLS = {
    f"{name}Model"
    for name in (
        *("Button", "ToggleButton", "ToggleButtons", "Dropdown", "Checkbox", "Play"),
        *("IntSlider", "FloatSlider", "SelectionSlider", "Select", "RadioButtons", "Text"),
    )
}
NEEDS_KERNEL = (
    '<div class="admonition note"><p>Buttons, menus and sliders need a kernel, and this page has '
    "none: they are alive in JupyterLab and on Binder. Here figures answer to the mouse, and "
    "crystals turn.</p></div>"
)


def gather(folder, downloads):
    """Put the scripts of the pages into a folder: from npm, and those of the installed wheels."""
    import plotly

    folder.mkdir(parents=True, exist_ok=True)
    downloads.mkdir(parents=True, exist_ok=True)
    for package, script in NPM.items():
        archive = downloads / (package.lstrip("@").replace("/", "-").replace("@", "-") + ".tgz")
        if not archive.exists():
            _download(package, downloads)
        with tarfile.open(archive) as packed:
            for member in packed.getmembers():
                name = Path(member.name).name
                # the icons are asked for beside each of the two modules that want them
                if name == script or name.endswith(".woff2"):
                    text = packed.extractfile(member).read()
                    for place in (".",) if name == script else ICONS:
                        (folder / place).mkdir(parents=True, exist_ok=True)
                        (folder / place / name).write_bytes(text)
    for name in ("nglview-js-widgets", "anywidget"):
        text = (NBEXTENSIONS / name / "index.js").read_text()
        # its pictures lie beside it, not beside the page
        text = text.replace('__webpack_require__.p = ""', "__webpack_require__.p = window.runtime")
        (folder / f"{name}.js").write_text(text)
    for picture in NBEXTENSIONS.glob("nglview-js-widgets/*.png"):
        shutil.copy(picture, folder)
    scripts = Path(plotly.__file__).parent / "package_data"
    shutil.copy(scripts / "plotly.min.js", folder)
    # a page opened as a file may not import modules that lie beside it
    blob = f"new Blob([{json.dumps(BUNDLE.read_text())}], {TYPE})"
    widget = f"window.{LOADED} = import(URL.createObjectURL({blob}))"
    (folder / "plotly-widget.js").write_text(widget)


def _download(package, folder):
    try:
        subprocess.run(["npm", "pack", "--silent", package], cwd=folder, check=True)
    except FileNotFoundError:
        raise SystemExit("mlipkit: the book needs npm (Debian: apt-get install npm)") from None
    except subprocess.CalledProcessError:
        raise SystemExit(f"mlipkit: npm cannot get {package}; is the registry reachable?") from None


def write_reference(folder, mk):
    """One page for each room, its public names as they are called: mlipkit.read_frames."""
    folder.mkdir(exist_ok=True)
    outdated = set(folder.glob("*.rst"))
    for number, room in enumerate(mk._ROOMS, start=1):
        title = room.__name__.removeprefix("mlipkit.")
        lines = [title, "=" * len(title), "", inspect.getdoc(room), ""]
        lines += [".. autoexception:: mlipkit.InputError", ""] * (number == 1)
        for name in room.__all__:
            thing, path = getattr(room, name), f"mlipkit.{name}"
            if inspect.ismodule(thing):
                lines += [f".. automodule:: {thing.__name__}", ""]
            else:
                lines += [
                    f".. auto{'class' if inspect.isclass(thing) else 'function'}:: {path}",
                    "",
                ]
        page, text = folder / f"{number:02}_{title}.rst", "\n".join(lines)
        outdated.discard(page)
        if not page.exists() or page.read_text() != text:  # else Sphinx would read it again
            page.write_text(text)
    for page in outdated:
        page.unlink()


def clean_outputs(app, doctree):
    """Outputs without what a CDN or a kernel would be needed for, and with a name for screen
    readers.
    """
    scripts = NbMetadataCollector.get_js_files(app.env, app.env.docname)
    whole, kept = {"state": {}}, {}
    if "ipywidgets_state" in scripts:
        whole = json.loads(scripts["ipywidgets_state"][1]["body"])
    for raw in list(doctree.findall(nodes.raw)):
        text = raw.astext()
        if WIDGET_VIEW_MIMETYPE in text:
            view = json.loads(re.search(r">(.*)</script>", text, re.S)[1])["model_id"]
            models = _models(whole["state"], view)
            kept |= models
            # a crystal's own buttons turn it without a kernel
            parts = _models(whole["state"], view, without="mlipkit-crystal")
            if any(map(_is_control, parts.values())):
                text = NEEDS_KERNEL + _named("An app, as it looks when it is opened", text)
            elif any(model["model_name"] == "NGLModel" for model in models.values()):
                text = _named("A crystal in 3D: drag to turn it, scroll to zoom", text)
            else:
                text = _named("Output of the cell", text)
        elif "plotly-graph-div" in text:
            titles = dict.fromkeys(re.findall(r'"title":\{"text":"(.*?)"', text))
            text = _named(f"Figure: {'; '.join(titles)}", FROM_CDN.sub("", text))
        elif "PlotlyConfig" in text:  # nothing but the address of plotly.js
            text = ""
        else:
            continue
        raw.children[:] = [nodes.Text(text)]
    if whole["state"]:
        state = json.dumps({**whole, "state": kept}).replace("</", "<\\/")
        scripts["ipywidgets_state"][1]["body"] = state


def _named(name, html):
    plain = re.sub(r"<[^>]*>|\\u003c.*?\\u003e", "", name)
    return f'<div role="group" aria-label="{escape(plain)}">{html}</div>'


def _models(state, view, without=None):
    """A widget and those it is made of, but for the parts of those of one CSS class. Controls
    cannot answer and say so; plotly's module, 5 MB, is read from the site and not in every page.
    """
    todo, found = [view], {}
    while todo:
        name = todo.pop()
        if name in state and name not in found:
            found[name] = model = state[name]
            if without not in model["state"].get("_dom_classes", ()):
                todo += re.findall(r"IPY_MODEL_(\w+)", json.dumps(model))
            if _is_control(model):
                model["state"]["disabled"] = True
            if model["model_name"] == "WidgetModel" and "code" in model["state"]:
                model["state"]["code"] = ""
    return found


def _is_control(model):
    sent = model["state"].get("_anywidget_id", "").endswith(".SentFile")
    return sent or model["model_name"] in CONTROLS


def add_scripts(app, pagename, templatename, context, doctree):
    """Only where they are needed. Once require.js is there, a script that looks for AMD no longer
    runs as such, so it comes after all others.
    """
    if doctree is None:
        return
    if "plotly-graph-div" in context["body"]:  # in the head: figures are drawn as they are read
        script = context["pathto"]("_static/runtime/plotly.min.js", 1)
        context["metatags"] += f'<script src="{script}"></script>'
    if WIDGET_VIEW_MIMETYPE in context["body"]:
        for place, script in enumerate(WIDGET_SCRIPTS, start=900):
            app.add_js_file(script, priority=place)


def mathml(self, node):
    """Formulas as MathML, which browsers draw by themselves."""
    display = "block" if isinstance(node, nodes.math_block) else "inline"
    self.body.append(latex2mathml.converter.convert(node.astext(), display=display))
    raise nodes.SkipNode
