"""Every notebook: stored without outputs, short cells, top to bottom in time and memory."""

import json
import os
import re
import time
from itertools import pairwise
from pathlib import Path

import nbformat
import pytest
from lab import PEAK, chromium_path
from nbclient import NotebookClient

FOLDER = Path(__file__).parent.parent / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_stored_without_outputs_and_in_short_cells(path):
    notebook = json.loads(path.read_text())
    assert notebook["cells"][0]["cell_type"] == "markdown"
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert not cell["outputs"] and cell["execution_count"] is None
            assert len(cell["source"]) <= 12, "".join(cell["source"])


def test_the_tour_lists_all_and_each_leads_to_the_next():
    """The tour's table is the README's."""
    read = lambda path: json.loads(path.read_text())["cells"]
    readme = (FOLDER.parent / "README.md").read_text()
    rows = re.findall(r"^\| `(\d\d_\w+)` \| (.+) \|$", readme, re.M)
    assert [name for name, _ in rows] == [path.stem for path in NOTEBOOKS]
    table = "\n".join(f"| [{name}]({name}.ipynb) | {says} |" for name, says in rows)
    assert table in "".join(read(NOTEBOOKS[0])[0]["source"])
    for path, following in pairwise(NOTEBOOKS):
        last = "".join(read(path)[-1]["source"])
        assert f"Next: [{following.stem}]({following.name})" in last


@pytest.mark.alone
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_runs_top_to_bottom(path):
    """In `make test` the browser's tests run each notebook, with the same limits."""
    if os.environ.get("NOTEBOOKS_IN") == "browser" and chromium_path():
        pytest.skip("tests/browser/test_notebooks_browser.py runs it")
    notebook = nbformat.read(path, 4)
    notebook.cells.append(nbformat.v4.new_code_cell(PEAK))
    began = time.time()
    NotebookClient(
        notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(FOLDER)}}
    ).execute()
    seconds, peak = time.time() - began, int(notebook.cells[-1].outputs[0].text)
    # pytest -s shows it
    print(f"{path.stem}: {seconds:.0f} s, peak memory {peak / 1e6:.2f} GB")
    assert seconds < 120 and peak < 1.5e6
