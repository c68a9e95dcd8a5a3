"""The page of `make app` with the shipped settings: what it gives away, what a visitor may use."""

import contextlib
import re
import urllib.error
import urllib.request

import nbformat
import psutil
import pytest
import websocket
from lab import ROOT, Kernel, api, memory, until, voila

# as the explorer to the server, a kernel that starts, widgets, a megabyte, and quick to do
SMALL = """import ipywidgets as w
w.VBox([w.IntSlider(), w.HTML("<p>" + 2**20 * "x" + "</p>")])"""


def visit(address):
    """Load a page as a browser does; its text and the name of its kernel."""
    with urllib.request.urlopen(address, timeout=90) as answer:
        text = answer.read().decode()
    return text, re.search(r'"kernelId": "([^"]+)"', text).group(1)


def leave(address, kernel):
    """What a page says to the server when it is closed, form and cookie left out as there."""
    urllib.request.urlopen(f"{address}/voila/api/shutdown/{kernel}", b"_xsrf=", timeout=30).close()


def refused(address):
    """The status and the reason of an answer that is an error."""
    with pytest.raises(urllib.error.HTTPError) as told:
        urllib.request.urlopen(address, timeout=90)
    return told.value.code, told.value.reason


def alive(address, kernel):
    try:
        return bool(api(address, f"/api/kernels/{kernel}"))
    except urllib.error.HTTPError as told:
        assert told.code == 404
        return False


@pytest.fixture
def served(tmp_path):
    """Serve a notebook of one cell."""

    @contextlib.contextmanager
    def serve(code, *settings):
        path = tmp_path / "page.ipynb"
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        cells = [nbformat.v4.new_code_cell(code)]
        notebook = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
        nbformat.write(notebook, path)
        with voila(path, tmp_path / "voila.log", *settings) as address:
            yield address

    return serve


@pytest.mark.alone
def test_fifty_visits_leave_memory_flat(served):
    """The server lets go of a page's sockets at its next ping; what counts is what is left then."""
    with served(SMALL) as address:
        server = psutil.Process(address.pid)

        def visits(n):
            for _ in range(n):
                _, kernel = visit(address)
                with contextlib.closing(Kernel(address, kernel)):  # the page's connection
                    leave(address, kernel)
                assert not alive(address, kernel)
            return memory(address), server.num_fds()

        ten, files = visits(10)
        fifty, _ = visits(40)
        # pytest -s shows it
        print(f"memory after 10 visits: {ten:.3f} GB, after 50: {fifty:.3f}; files {files}")
        assert fifty < ten + 0.01
        assert until(lambda: server.num_fds() <= files, seconds=90)


def test_the_explorer_shows_no_source_and_runs_no_code(tmp_path):
    with voila(ROOT / "notebooks/app/explorer.ipynb", tmp_path / "voila.log") as address:
        text, kernel = visit(f"{address}/?template=reveal")
        assert "mk.explore" not in text and "setrlimit" not in text and "reveal.js" not in text
        assert "widget-view+json" in text and "Traceback" not in text
        assert refused(f"{address}/voila/files/explorer.ipynb")[0] == 403
        ignored = lambda: (tmp_path / "voila.log").read_text().count('"execute_request"')
        with contextlib.closing(Kernel(address, kernel)) as page:
            page.send("open('/dev/null')")
            assert until(lambda: ignored() == 1)
            page.send("9" * (9 * 2**20))
            assert until(lambda: ignored() == 2)
            # larger than a message may be: the connection is closed
            with pytest.raises((OSError, websocket.WebSocketException)):
                page.send("9" * (11 * 2**20))
                while page.socket.recv():
                    pass


def test_a_visitor_has_limits_and_a_seat(served, monkeypatch):
    """Memory and processor time are those of the settings; one more visitor than seats is told."""
    monkeypatch.setenv("VISITORS", "1")
    show = "import os, resource; print('limits', resource.getrlimit(resource.RLIMIT_DATA), "
    show += "resource.getrlimit(resource.RLIMIT_CPU), os.environ['OMP_NUM_THREADS'])\n"
    show += "try:\n    x = bytearray(2 * 10**9)\nexcept MemoryError:\n    print('too much')"
    with served(show) as address:
        text, kernel = visit(address)
        assert "limits (1500000000, 1500000000) (600, 600) 1" in text and "too much" in text
        code, reason = refused(address)
        assert code == 503 and "seats are taken" in reason
        leave(address, kernel)
        visit(address)


# as the system ends one that has used up its processor time, at work
USED_UP = """import os, signal, threading
threading.Timer(1, lambda: os.kill(os.getpid(), signal.SIGXCPU)).start()"""


@pytest.mark.parametrize("code", ["x = 1", USED_UP], ids=["left open", "used up"])
def test_a_seat_is_free_again(served, code):
    """The shipped settings, with seconds for minutes."""
    seconds = [f"--MappingKernelManager.cull_{name}=3" for name in ("idle_timeout", "interval")]
    with served(code, *seconds) as address:
        _, kernel = visit(address)
        with contextlib.closing(Kernel(address, kernel)):
            assert until(lambda: not alive(address, kernel))
