"""JupyterLab and Chromium for the browser tests."""

import contextlib
import ctypes
import gc
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from pathlib import Path

import nbformat
import psutil
import websocket

ROOT = Path(__file__).parent.parent
SCREENSHOTS = ROOT / "screenshots"
# what Binder, `make lab` and `make app` set
SETTINGS = ROOT / "binder" / "jupyter"
# the most memory that a kernel has had, in kB
PEAK = (
    "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"
)
FLAGS = [
    "--no-sandbox",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    # SwiftShader draws the crystals alone: for whole pages it takes five times the processor time
    "--disable-gpu-compositing",
]


class Address(str):
    """Where a server answers; `pid` is its process."""


@contextlib.contextmanager
def jupyterlab(folder, *settings):
    """Start JupyterLab on a folder at a free loopback port, with the shipped settings and those
    given; yields its address.
    """
    port = free_port()
    home = Path(folder) / ".jupyter-home"
    command = [
        sys.executable,
        "-m",
        "jupyterlab",
        "--no-browser",
        f"--ServerApp.port={port}",
        "--ServerApp.ip=127.0.0.1",
        "--IdentityProvider.token=",
        "--ServerApp.disable_check_xsrf=True",
        "--allow-root",
        f"--ServerApp.root_dir={folder}",
        "--LabApp.expose_app_in_browser=True",
        *settings,
    ]
    env = {
        **os.environ,
        "JUPYTER_CONFIG_PATH": str(SETTINGS),
        "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "PYTHONPATH": str(ROOT),
    }
    log = Path(folder) / "jupyterlab.log"
    with _served("JupyterLab", command, env, log, port, "/api/status") as address:
        yield address


@contextlib.contextmanager
def voila(notebook, log, *settings):
    """Serve a notebook as a page at a free loopback port, as `make app` does, with more settings if
    given; yields its address.
    """
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "voila",
        "--no-browser",
        f"--port={port}",
        "--Voila.ip=127.0.0.1",
        *settings,
        str(notebook),
    ]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "JUPYTER_CONFIG_PATH": str(SETTINGS)}
    with _served("voila", command, env, Path(log), port) as address:
        yield address


@contextlib.contextmanager
def make(target, home, **variables):
    """Run `make lab` or `make app` with a home folder of its own; yields the address it prints."""
    words = [f"{name}={value}" for name, value in variables.items()]
    env = {**os.environ, "HOME": str(home), "PYTHONPATH": str(ROOT)}
    env |= {"JUPYTER_RUNTIME_DIR": str(Path(home) / "runtime")}
    # the environment that runs the tests is ready, whatever the dates of its files
    command = ["make", "-o", ".venv/ready", target, f"PORT={free_port()}", *words]
    started = subprocess.Popen(
        command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        found = (re.search(r"http://(?:localhost|127)\S+", line) for line in started.stdout)
        yield next(match.group() for match in found if match)
    finally:
        # JupyterLab asked to end while a kernel starts waits for that, a minute at most
        family = psutil.Process(started.pid).children(recursive=True)
        started.terminate()
        _, left = psutil.wait_procs(family, timeout=10)
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        started.communicate(timeout=60)


def write_notebook(folder, name, *cells):
    """A notebook of cells of code; the name of its file."""
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    cells = [nbformat.v4.new_code_cell(code) for code in cells]
    file = f"{name}.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), Path(folder) / file)
    return file


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@contextlib.contextmanager
def _served(name, command, env, log, port, path=None):
    """Run a server until the block ends, and yield its address; it is up when it answers at `path`,
    or takes a connection where asking would start work.
    """
    with open(log, "w") as out:
        server = subprocess.Popen(command, env=env, stdout=out, stderr=subprocess.STDOUT)
    try:
        for _ in range(600):
            if server.poll() is not None:
                raise RuntimeError(f"{name} stopped: {log.read_text()[-2000:]}")
            with contextlib.suppress(OSError):
                if path:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=2)
                else:
                    socket.create_connection(("127.0.0.1", port), timeout=2).close()
                break
            time.sleep(0.1)
        else:
            raise RuntimeError(f"{name} did not answer within a minute")
        address = Address(f"http://127.0.0.1:{port}")
        address.pid = server.pid
        yield address
    finally:
        server.terminate()
        server.wait(20)


def api(url, where, method="GET", **fields):
    """Call the Jupyter server's REST interface."""
    request = urllib.request.Request(url + where, method=method)
    if fields:
        request.data = json.dumps(fields).encode()
    with urllib.request.urlopen(request, timeout=20) as answer:
        body = answer.read()
    return json.loads(body) if body else None


def until(check, seconds=60, pause=time.sleep):
    """What `check` says once it is true; asked again and again, and the last time what it is."""
    end = time.monotonic() + seconds
    while not (said := check()) and time.monotonic() < end:
        pause(0.05)
    return said


def memory(address):
    """GB of a server and all processes below it; pages that several share count once."""
    server = psutil.Process(address.pid)
    total = 0
    for process in [server, *server.children(recursive=True)]:
        with contextlib.suppress(OSError):  # it has ended meanwhile
            lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()
            total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1e6


def own_memory():
    """MB of this process, without what Python and its allocator keep for later."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # not the GNU C library
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    return psutil.Process().memory_info().rss / 1e6


def start_kernel(address, notebook):
    """The kernel that JupyterLab starts when a notebook is opened."""
    fields = {"path": notebook, "name": notebook, "type": "notebook", "kernel": {"name": "python3"}}
    return Kernel(address, api(address, "/api/sessions", "POST", **fields)["kernel"]["id"])


class Kernel:
    """A kernel of a server, reached as a page reaches it."""

    def __init__(self, address, name):
        self.id = name
        at = address.replace("http", "ws", 1)
        self.socket = websocket.create_connection(f"{at}/api/kernels/{name}/channels")

    def send(self, code):
        """Send code and return the identity of the message."""
        header = {"msg_id": uuid.uuid4().hex, "msg_type": "execute_request", "version": "5.3"}
        header |= {"username": "", "session": self.id, "date": "2026-01-01T00:00:00Z"}
        content = {"code": code, "silent": False, "allow_stdin": False}
        message = {"header": header, "parent_header": {}, "metadata": {}, "content": content}
        self.socket.send(json.dumps({**message, "channel": "shell"}))
        return header["msg_id"]

    def run(self, code):
        """Run code to its end, and return what it prints; an error in it is one here."""
        sent, printed = self.send(code), ""
        while True:
            message = self.socket.recv()
            if isinstance(message, bytes):  # data of a widget
                continue
            message = json.loads(message)
            if message["parent_header"].get("msg_id") != sent:
                continue
            if message["msg_type"] == "error":
                raise RuntimeError("\n".join(message["content"]["traceback"]))
            if message["content"].get("name") == "stdout":
                printed += message["content"]["text"]
            if message["content"].get("execution_state") == "idle":
                return printed

    def close(self):
        self.socket.close()


def chromium_path():
    return (
        os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    )


# nothing on the page has moved for ten frames, no structure is loading, the kernel is idle
STILL = """() => new Promise((done, failed) => {
    const seen = [], began = performance.now();
    const look = () => {
        const stage = window.nglStage, loading = stage ? stage.tasks.count : 0;
        const session = window.jupyterapp?.shell.currentWidget?.sessionContext?.session;
        const busy = session?.kernel?.status === 'busy';
        const boxes = [...document.querySelectorAll('canvas, .js-plotly-plot')].map(e => {
            const r = e.getBoundingClientRect();
            return [r.left, r.top, r.width, r.height];
        });
        seen.push(JSON.stringify([boxes, loading, busy]));
        const last = seen.slice(-10);
        const still = last.length === 10 && last.every(s => s === last[0]);
        if (still && !loading && !busy) done();
        else if (performance.now() > began + 90000)
            failed(new Error(`still moving after 90 s: ${last.slice(-2)}, ${busy}, ${loading}`));
        else requestAnimationFrame(look);
    };
    look();
})"""


def still(page):
    """Wait until nothing on the page moves any more."""
    page.evaluate(STILL)


def eventually(page, check, seconds=60):
    """As `until`, while the page goes on."""
    return until(check, seconds, lambda s: page.wait_for_timeout(1000 * s))


def in_both_themes_and_widths(page, app, name):
    """Show an app in JupyterLab's two themes at two widths, with a screenshot of each; pauses at
    each, and checks that it fits the window and that crystal and plots follow the theme.
    """
    plot = f"document.querySelector('{app} .js-plotly-plot')"
    fits = f"""() => {{ const r = document.querySelector('{app}').getBoundingClientRect();
        const s = {plot}.querySelector('.main-svg').getBoundingClientRect();
        return s.right <= r.right + 1 && s.width > 0.5 * r.width && r.right <= innerWidth }}"""
    SCREENSHOTS.mkdir(exist_ok=True)
    for theme in ("Light", "Dark"):
        page.evaluate(
            "t => window.jupyterapp.commands.execute('apputils:change-theme', {theme: t})",
            f"JupyterLab {theme}",
        )
        for width, height in ((1100, 750), (1920, 1080)):
            page.set_viewport_size({"width": width, "height": height})
            page.wait_for_function(fits)
            page.evaluate(f"document.querySelector('{app}').scrollIntoView()")
            still(page)
            page.screenshot(path=str(SCREENSHOTS / f"{name}_{theme}_{width}.png"))
            yield
        paper = page.evaluate(
            f"getComputedStyle(document.querySelector('{app} canvas')).backgroundColor"
        )
        ink = page.evaluate(f"getComputedStyle({plot}.querySelector('.xtick text')).fill")
        dark = [
            sum(map(int, c[4:-1].split(",")[:3])) < 300 for c in (paper, ink.replace("a(", "("))
        ]
        assert dark == [theme == "Dark", theme == "Light"], (paper, ink)


class Notebook:
    """A notebook open in JupyterLab in a page of headless Chromium."""

    def __init__(self, browser, url, name):
        self.url, self.name, self.console = url, name, []
        self.page = browser.new_page(viewport={"width": 1500, "height": 1000})
        self.page.on(
            "console", lambda m: self.console.append(m.text) if m.type == "error" else None
        )
        self.page.on("pageerror", lambda e: self.console.append(str(e)))
        self.page.goto(f"{url}/lab/tree/{name}?reset")
        self.page.wait_for_function(
            "window.jupyterapp && window.jupyterapp.restored", timeout=60_000
        )
        self.page.evaluate("async () => { await window.jupyterapp.restored }")
        self.page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=60_000)
        self.page.evaluate(
            "async () => { try { await "
            "window.jupyterapp.commands.execute('application:toggle-left-area') } catch (e) {} }"
        )

    @property
    def panel(self):
        return "window.jupyterapp.shell.currentWidget"

    def wait_for_kernel(self):
        """Until it is there and has nothing to do."""
        self.page.wait_for_function(
            f"{self.panel}.sessionContext.session?.kernel?.status === 'idle'", timeout=60_000
        )

    def run(self, timeout=150):
        """Run all cells and wait until the kernel has gone through them; returns the seconds it
        took.
        """
        self.wait_for_kernel()
        began = time.time()
        ok = self.page.evaluate(
            "async () => await window.jupyterapp.commands.execute('notebook:run-all-cells')"
        )
        self.page.wait_for_function(
            f"""() => {{ const c = {self.panel}.content.widgets.filter(w => w.model.type === 'code' && w.model.sharedModel.source.trim());
            return c.every(w => w.model.executionCount) && {self.panel}.sessionContext.session.kernel.status === 'idle' }}""",
            timeout=timeout * 1000,
        )
        assert ok is not False or not self.errors(), self.errors()
        return time.time() - began

    def errors(self):
        """Error outputs and broken widgets, as text."""
        return self.page.evaluate(f"""() => {self.panel}.content.widgets.filter(w => w.model.type === 'code').flatMap(w => w.model.outputs.toJSON())
            .filter(o => o.output_type === 'error').map(o => o.ename + ': ' + o.evalue)
            .concat([...document.querySelectorAll('.jupyter-widgets-error-widget, .jp-mod-error')].map(e => 'broken widget: ' + e.innerText))""")

    def python(self, code):
        """Run code in the notebook's kernel and return what it prints."""
        return self.page.evaluate(
            f"""async (code) => {{
            const future = {self.panel}.sessionContext.session.kernel.requestExecute({{code, store_history: false}});
            let text = ''; future.onIOPub = m => {{ if (m.header.msg_type === 'stream') text += m.content.text;
                if (m.header.msg_type === 'error') text += 'ERROR ' + m.content.ename + ': ' + m.content.evalue; }};
            await future.done; return text }}""",
            code,
        ).strip()

    def shot(self, name, element=None):
        SCREENSHOTS.mkdir(exist_ok=True)
        (element or self.page).screenshot(path=str(SCREENSHOTS / f"{name}.png"))

    def close(self):
        """Close the page and end the kernel, which would go on without it."""
        self.page.close()
        self.end_kernel()

    def end_kernel(self):
        for session in api(self.url, "/api/sessions"):
            if session["path"] == self.name:
                api(self.url, f"/api/sessions/{session['id']}", "DELETE")


# the output goes, and with it what an app has drawn
CLEAR = """async () => {
    if (document.fullscreenElement) await document.exitFullscreen();
    await window.jupyterapp.commands.execute('notebook:clear-all-cell-outputs');
    delete window.nglStage;
    await window.jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab Light'});
    window.scrollTo(0, 0) }"""
# as a kernel begins, apart from the modules and models that it has loaded
ANEW = """import ipywidgets
ipywidgets.Widget.close_all()
get_ipython().reset(new_session=True)"""


class Stand:
    """What shows one notebook after the other in one page; a class of it says how."""

    def __init__(self, browser, url):
        self.browser, self.url, self.notebook = browser, url, None

    def close(self):
        """What is shown next gets a page and a kernel of its own."""
        if self.notebook:
            self.notebook.close()
        self.notebook = None


class Easel(Stand):
    """A page and its kernel that show one app after the other: JupyterLab is loaded once, and so is
    the package.
    """

    def __init__(self, browser, url, folder):
        super().__init__(browser, url)
        self.folder = folder

    def show(self, code, app=".mlipkit-app"):
        """The notebook in which the app, known by a selector, stands alone."""
        if self.notebook:
            cell = f"{self.notebook.panel}.content.widgets[0].model.sharedModel"
            self.notebook.page.evaluate(f"code => {cell}.setSource(code)", code)
        else:
            file = write_notebook(self.folder, "easel", code)
            self.notebook = Notebook(self.browser, self.url, file)
        notebook = self.notebook
        notebook.run()
        notebook.page.wait_for_selector(app)
        return notebook

    def clear(self):
        """Make page and kernel ready for the next app."""
        page = self.notebook.page
        page.evaluate(CLEAR)
        said = self.notebook.python(ANEW)
        assert not said, said
        page.set_default_timeout(30_000)
        page.set_viewport_size({"width": 1500, "height": 1000})
        page.mouse.move(0, 0)
        still(page)
        self.notebook.console.clear()


class Desk(Stand):
    """A page in which one notebook lies after the other, each with a kernel of its own: JupyterLab
    is loaded once.
    """

    def show(self, name):
        """The notebook of that name."""
        if not self.notebook:
            self.notebook = Notebook(self.browser, self.url, name)
            return self.notebook
        notebook = self.notebook
        notebook.name = name
        notebook.page.evaluate(
            "async path => { await window.jupyterapp.commands.execute('docmanager:open', {path}) }",
            name,
        )
        notebook.page.wait_for_function(f"{notebook.panel}?.context?.path === '{name}'")
        notebook.page.wait_for_selector(".jp-Notebook .jp-Cell")
        return notebook

    def clear(self):
        """Put the notebook away, without what was run in it."""
        page = self.notebook.page
        page.evaluate(CLEAR)
        page.evaluate(f"() => {self.notebook.panel}.dispose()")
        self.notebook.end_kernel()
        self.notebook.console.clear()
