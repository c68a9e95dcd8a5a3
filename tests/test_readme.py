"""What the README says is true: its snippet runs, its numbers are those of the shipped files, its
picture is there.
"""

import io
import os
import re
import runpy
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from compounds import frames_of, olivine
from make_vasp import write_outcar

import mlipkit as mk

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
RESULTS = (ROOT / "docs/results.md").read_text()
MAKE = r"make (?:\w+=\S+ )?([a-z-]+)\b"


@pytest.mark.parametrize(
    "number, says",
    [
        (1, ("balanced", "NaxFePO4: Na1+ moves", "on_hull", "voltage", "aware")),
        (2, ("mine", "valence_right", "converged", "x050_na01_fe02", "found")),
    ],
)
def test_snippet_runs(tmp_path, number, says):
    code = re.findall(r"```python\n(.*?)```", README, re.S)[number]
    ran = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert all(text in ran.stdout for text in says), ran.stdout


def test_five_lines_from_outcars_to_the_explorer(tmp_path):
    code = re.findall(r"```python\n(.*?)```", README, re.S)[0]
    assert len([line for line in code.splitlines() if line.strip()]) <= 5
    frames, asked = frames_of(olivine(), mk.Compound("Li", {"Mn": (2, 3)}), sign=-1)
    for k, atoms in enumerate(frames[::5]):  # the ends and two between, to be quick
        folder = tmp_path / "runs" / asked[5 * k].label
        folder.mkdir(parents=True)
        write_outcar(folder / "OUTCAR", [atoms])
    says = (
        "print(app.state.data.compound.formula, app.state.geometries, app.state.data.models, "
        "len(app.state.names))"
    )
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code + says],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert ran.stdout.strip() == (
        "LixMnPO4 ['dft', 'host', 'relaxed'] ['chgnet_blind', 'chgnet_aware'] 4"
    )
    assert (tmp_path / "study" / "predictions.csv").exists()


def test_table_of_errors(frames):
    table = mk.compare_models(mk.along_relaxations(frames), mk.load_predictions(), "test")
    rows = re.findall(
        r"^\| (\w+, \w+) +\| *([\d.]+) *\| *([\d.]+) *\| *([\d.]+) *\| *([\d.]+) *\|$",
        RESULTS,
        re.M,
    )
    assert len(rows) == 7
    for name, *numbers in rows:
        expected = table.loc[
            name.replace(", ", "_"), ["energy", "forces", "magmoms", "valence_right"]
        ]
        for said, true, digits in zip(numbers, expected, (1, 0, 3, 1)):
            assert float(said) == pytest.approx(true, abs=0.51 * 10**-digits)
    assert f"{int(table.loc['chgnet_aware', 'n'])} frames" in RESULTS


def test_table_of_seeds():
    results = mk.load_results()
    for name, row in mk.seed_table(results).iterrows():
        assert f"| {name} | {' | '.join(row)} |" in RESULTS
    assert (
        "\n".join(runpy.run_path(str(ROOT / "data/make_models.py"))["results_text"](results))
        in RESULTS
    )


def test_verdict():
    from make_results import verdict_lines

    lines = verdict_lines()
    of_chgnet = [line for line in lines if line.startswith("- CHGNet")]
    assert "\n".join(lines) in RESULTS and len(of_chgnet) == 2
    assert "\n".join(of_chgnet) in README


@pytest.mark.parametrize("job, before", [("x050_na02_fe02", 5), ("x050_na02_fe03", 4)])
def test_no_model_sees_the_orbital_turn(job, before):
    pair = mk.read_frames(ROOT / f"data/dft/frames/{job}.extxyz")[before : before + 2]
    for atoms in pair:
        atoms.set_array("oxi_states", mk.infer_oxidation_states(atoms).states)
    turned = [
        ", ".join(
            f"{v:.2f}"
            for v in a.arrays["minority_3z2"][(a.symbols == "Fe") & (a.arrays["oxi_states"] == 2)]
        )
        for a in pair
    ]
    dft = [250 * a.get_potential_energy() for a in pair]  # meV per formula unit
    models = [
        [250 * p.energy for p in mk.load_model(name, charge_aware=True).predict(pair)]
        for name in ("chgnet", "cpainn", "mace")
    ]
    lines = (ROOT / "data/dft/README.md").read_text().splitlines()
    at = next(
        k
        for k, line in enumerate(lines)
        if line.startswith(
            f"| {job}, {before} and {before + 1}: change of energy | {' to '.join(turned)} |"
        )
    )
    changes, offsets = (
        [float(n) for n in re.findall(r"-?\d+(?= *[|,])", line.split("|", 3)[3])]
        for line in lines[at : at + 2]
    )
    assert changes == pytest.approx([after - first for first, after in (dft, *models)], abs=0.6)
    assert offsets == pytest.approx(
        [m - d for model in models for m, d in zip(model, dft)], abs=0.6
    )


def test_links_and_picture():
    for text, folder in ((README, ROOT), (RESULTS, ROOT / "docs")):
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", text):
            assert (folder / target).exists(), target
    for notebook in (ROOT / "notebooks").glob("*.ipynb"):
        assert f"`{notebook.stem}`" in README


def test_a_newcomer_reads_it_in_one_go():
    assert len(README.splitlines()) <= 120


def test_every_command_is_there():
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M))
    asked = [set(re.findall(MAKE, "\n".join(_commands(text)))) for text in (README, RESULTS)]
    # those of the README are run: by browser tests, below, and by CI
    assert asked[0] == {"lab", "app", "book", "collect", "test"}
    assert asked[1] >= {"dft", "dft-list", "models", "folds", "results", "sample", "phases"}
    for target in sorted(asked[0] | asked[1]):
        assert target in targets
        command = ["make", "-n", "-o", ".venv/ready", "-o", ".venv-gpaw/ready", target]
        dry = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert dry.returncode == 0, dry.stderr


def test_collect_makes_the_shipped_files(tmp_path):
    """To the byte, in a copy of what git has."""
    archive = ["git", "archive", "HEAD", "Makefile", "pyproject.toml", "mlipkit", "data"]
    packed = subprocess.run(archive, cwd=ROOT, capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(packed)) as files:
        files.extractall(tmp_path, filter="data")
    manifest = (tmp_path / "data/manifest.json").read_bytes()
    sets = {path: path.read_bytes() for path in (tmp_path / "data/dft").glob("*.extxyz")}
    for path in sets:
        path.unlink()
    command = ["make", "-o", ".venv/ready", "collect", f"BIN={Path(sys.executable).parent}"]
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    made = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    assert len(sets) == 6
    for path, content in sets.items():
        assert path.read_bytes() == content, path.name
    assert (tmp_path / "data/manifest.json").read_bytes() == manifest


def _commands(text):
    """Lines of the shell blocks and of what stands in backticks and begins with make."""
    blocks = re.findall(r"```bash\n(.*?)```", text, re.S)
    yield from ("\n".join(blocks)).splitlines()
    yield from re.findall(r"`(make[^`]*)`", text)
