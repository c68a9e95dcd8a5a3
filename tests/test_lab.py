"""JupyterLab with the shipped settings: its memory, and kernels that end."""

import contextlib
import os
import subprocess
import sys
import threading
import time

import nbformat
import pytest
from lab import ROOT, api, jupyterlab, memory, start_kernel, until

# of all three in a row these want the most; an idle kernel ends after twenty minutes, and a student
# who does a notebook in ten has three
THREE = ("08_your_own_material.ipynb", "09_electronic_entropy.ipynb", "10_train_your_own.ipynb")


@pytest.fixture
def binders_environment(monkeypatch):
    """The variables that Binder's start script sets."""
    said = subprocess.run(
        [ROOT / "binder" / "start", "env"], capture_output=True, text=True, check=True
    ).stdout
    for line in said.splitlines():
        name, _, value = line.partition("=")
        if os.environ.get(name) != value and name != "_":
            monkeypatch.setenv(name, value)


@pytest.fixture
def compiled_by_binder(binders_environment):
    """As `postBuild` leaves it."""
    commands = (ROOT / "binder" / "postBuild").read_text().splitlines()
    assert "binder/start python binder/compile.py" in commands
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, ROOT / "binder" / "compile.py"], check=True, env=env)


# printed by a kernel: which functions it had to compile itself
COMPILED = """from mlipkit.statmech import kernel as k
print("compiled:", [n for n, f in vars(k).items() if hasattr(f, "stats") and f.stats.cache_misses])
"""


@pytest.mark.alone
def test_three_notebooks_at_once_fit_on_binder(tmp_path, compiled_by_binder):
    most, failed, said = [0.0], [], []

    def run(address, name):
        try:
            with contextlib.closing(start_kernel(address, name)) as kernel:
                for cell in nbformat.read(ROOT / "notebooks" / name, 4).cells:
                    if cell.cell_type == "code":
                        kernel.run(cell.source)
                if "electronic_entropy" in name:
                    said.append(kernel.run(COMPILED).strip())
        except Exception as error:
            failed.append((name, error))

    with jupyterlab(tmp_path) as address:
        threads = [threading.Thread(target=run, args=(address, name)) for name in THREE]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            most[0] = max(most[0], memory(address))
            time.sleep(0.5)
        assert not failed, failed
        assert len(api(address, "/api/kernels")) == 3
        left = memory(address)
    assert said == ["compiled: []"]
    # pytest -s shows it
    print(f"server and three kernels: {left:.2f} GB, at most {most[0]:.2f} GB")
    assert most[0] < 1.8


@pytest.mark.alone
def test_an_idle_kernel_ends_and_a_busy_one_goes_on(tmp_path):
    """The shipped settings, with seconds for minutes: the page is still open, and says nothing."""
    seconds = [f"--MappingKernelManager.cull_{name}=1" for name in ("idle_timeout", "interval")]
    with (
        jupyterlab(tmp_path, *seconds) as address,
        contextlib.closing(start_kernel(address, "idle.ipynb")) as idle,
        contextlib.closing(start_kernel(address, "busy.ipynb")) as busy,
    ):
        busy.send("while True: pass")
        idle.run("x = 1")
        kernels = lambda: {k["id"]: k["connections"] for k in api(address, "/api/kernels")}
        assert kernels()[idle.id] == 1
        assert until(lambda: idle.id not in kernels())
        assert kernels() == {busy.id: 1}


def test_binder_and_make_lab_take_the_settings(binders_environment):
    """Twenty minutes on Binder, where memory is small; a day on a machine of one's own."""
    asked = "import jupyter_core.paths as p; print(p.jupyter_config_path()[0])"
    first = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True).stdout
    assert first.strip() == str(ROOT / "binder" / "jupyter")
    made = subprocess.run(["make", "-n", "lab"], cwd=ROOT, capture_output=True, text=True).stdout
    assert "cull_idle_timeout=86400" in made
