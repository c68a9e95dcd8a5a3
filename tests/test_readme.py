"""What the README says is true: its snippet runs, its numbers are those of the shipped files, its picture is there."""
import re
import subprocess
import sys
from pathlib import Path

import pytest

import mlipkit as mk

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


@pytest.mark.parametrize("number, says", [(0, ("aware", "0.25")), (1, ("mine", "valence_right")), (2, ("converged", "x050_na01_fe02", "found")),
                                          (3, ("balanced", "agree", "x050_na01_fe02 (degeneracy 4)"))])
def test_snippet_runs(tmp_path, number, says):
    code = re.findall(r"```python\n(.*?)```", README, re.S)[number]
    ran = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert all(text in ran.stdout for text in says), ran.stdout


def test_table_of_errors(frames):
    table = mk.compare_models(mk.along_relaxations(frames), mk.load_predictions(), "test")
    rows = re.findall(r"^\| (\w+, \w+) +\| *([\d.]+) *\| *([\d.]+) *\| *([\d.]+) *\| *([\d.]+) *\|$", README, re.M)
    assert len(rows) == 7
    for name, *numbers in rows:
        expected = table.loc[name.replace(", ", "_"), ["energy", "forces", "magmoms", "valence_right"]]
        for said, true, digits in zip(numbers, expected, (1, 0, 3, 1)):
            assert float(said) == pytest.approx(true, abs=0.51 * 10 ** -digits)
    assert f"{int(table.loc['chgnet_aware', 'n'])} frames" in README


def test_table_of_seeds():
    results = mk.load_results()
    variants = mk.seed_table(results, variants=True)
    for table in (mk.seed_table(results), variants[["MAE" in name for name in variants.index]]):
        for name, row in table.iterrows():
            assert f"| {name} | {' | '.join(row)} |" in README


def test_links_and_picture():
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
    for notebook in (ROOT / "notebooks").glob("*.ipynb"):
        assert f"`{notebook.stem}`" in README
