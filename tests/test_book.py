"""The book: the snippets of its how-to pages run."""

import os
import re
import subprocess
import sys

import pytest
from compounds import frames_of, olivine
from lab import ROOT
from make_vasp import write_outcar

import mlipkit as mk

BOOK = ROOT / "docs/book"
HOW_TO = sorted((BOOK / "howto").glob("*.md"))


@pytest.mark.parametrize("page", HOW_TO, ids=lambda p: p.stem)
def test_snippets_of_a_how_to_page_run(page, tmp_path, ends):
    frames, asked = frames_of(olivine(), mk.Compound("Li", {"Mn": (2, 3)}), sign=-1)
    for atoms, ordering in zip(frames, asked):  # what the pages take to be there
        folder = tmp_path / "runs" / ordering.label
        folder.mkdir(parents=True)
        write_outcar(folder / "OUTCAR", [atoms])
    theirs = [atoms.copy() for atoms in ends]
    for atoms, real in zip(theirs, ends):
        atoms.numbers = mk.to_proxies(real)
        del atoms.arrays["oxi_states"]
        atoms.calc = real.calc
    mk.write_frames(tmp_path / "theirs.extxyz", theirs)
    code = "\n".join(re.findall(r"```python\n(.*?)```", page.read_text(), re.S))
    (tmp_path / "page.py").write_text(code)
    ran = subprocess.run(
        [sys.executable, "page.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert len(ran.stdout.splitlines()) >= 2
