"""One list of versions, files that launch, and what an installed package carries."""

import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
CONDA = {"pytorch-cpu": "torch"}


@pytest.fixture(scope="module")
def lock():
    lines = [
        line.split("#")[0].strip() for line in (ROOT / "requirements.lock").read_text().splitlines()
    ]
    pins = [line.split("==") for line in lines if line]
    assert all(len(p) == 2 for p in pins), "every line of the lock pins one version"
    return {canonicalize_name(name): version for name, version in pins}


def test_lock_satisfies_pyproject(lock):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for line in project["dependencies"] + project["optional-dependencies"]["test"]:
        r = Requirement(line)
        assert r.specifier.contains(lock[canonicalize_name(r.name)]), line


def test_conda_and_lock_name_the_same_versions(lock):
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert environment["channels"] == ["conda-forge"] and environment["variables"] == {
        "OMP_WAIT_POLICY": "passive"
    }
    conda = [d for d in environment["dependencies"] if isinstance(d, str)]
    pip = next(d["pip"] for d in environment["dependencies"] if isinstance(d, dict))
    seen = set()
    for line in conda + pip:
        if line in ("pip", "-e ."):
            continue
        name, version = re.fullmatch(r"([a-z0-9_-]+)={1,2}([\d.]+)", line).groups()
        if name == "python":
            continue
        name = canonicalize_name(CONDA.get(name, name))
        assert lock[name] == version, line
        seen.add(name)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {canonicalize_name(Requirement(d).name) for d in project["dependencies"]} <= seen


def test_binder_builds_from_the_lock():
    printed = subprocess.run(
        [str(Path(sys.executable).parent / "jupyter-repo2docker"), "--no-build", "--debug", "."],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    text = printed.stdout + printed.stderr
    assert printed.returncode == 0, text[-2000:]
    assert (
        "binder/requirements.txt" in text and "binder/postBuild" in text and "binder/start" in text
    )
    assert "3.11" in text
    lines = [
        line
        for line in (ROOT / "binder/requirements.txt").read_text().splitlines()
        if not line.startswith("#")
    ]
    assert lines[-1] == "-r ../requirements.lock" and len(lines) == 2  # no version of its own
    for script in ("postBuild", "start"):
        assert (
            os.access(ROOT / "binder" / script, os.X_OK)
            and "passive" in (ROOT / "binder" / script).read_text()
        )


def test_kernels_wait_passively():
    spec = json.loads((Path(sys.prefix) / "share/jupyter/kernels/python3/kernel.json").read_text())
    assert spec["env"]["OMP_WAIT_POLICY"] == "passive"


def test_import_costs_nothing():
    code = "import sys, mlipkit; print([m for m in ('torch', 'ase', 'nglview', 'pymatgen', 'plotly', 'pandas') if m in sys.modules])"
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
        == "[]"
    )


def test_every_public_name_exists():
    import mlipkit as mk

    for name in mk.__all__:
        assert getattr(mk, name) is not None
    with pytest.raises(AttributeError, match="no name 'nothing'"):
        _ = mk.nothing


def test_imports_go_one_way():
    """A room imports only from those left of it in the layout."""
    order = [
        "files",
        "frames",
        "readers",
        "frame_store",
        "datasets",
        "balance",
        "reference_moments",
        "evidence",
        "oxidation",
        "hosts",
        "host_search",
        "orderings",
        "pairs",
        "splits",
        "enumeration",
        "species",
        "models",
        "relaxation",
        "campaigns",
        "search",
        "errors",
        "thermo",
        "entropy",
        "verdict",
        "figures",
        "plots",
        "structure_view",
        "apps",
    ]
    for path in (ROOT / "mlipkit").rglob("*.py"):
        room = path.relative_to(ROOT / "mlipkit").parts[0].removesuffix(".py")
        if room == "__init__":
            continue
        for target in re.findall(
            r"^\s*from mlipkit(?:\.(\w+))?[\w.]* import (\w+)", path.read_text(), re.M
        ):
            other = target[0] or target[1]
            assert order.index(other) <= order.index(room), f"{path.name} imports {other}"


@pytest.mark.install
def test_installed_wheel_carries_the_data(tmp_path):
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--no-deps", "-q", "-w", str(tmp_path), str(ROOT)],
        check=True,
        capture_output=True,
    )
    wheel = next(tmp_path.glob("mlipkit-*.whl"))
    with zipfile.ZipFile(wheel) as z:
        names = z.namelist()
        assert (
            "mlipkit/data/dft/olivine.extxyz" in names
            and "mlipkit/data/models/chgnet_aware_seed0.safetensors" in names
        )
        assert not [n for n in names if "data/checkpoints" in n or n.endswith((".pyc", ".ckpt"))]
        z.extractall(tmp_path / "site")
    code = "import mlipkit as mk; assert 'site' in mk.__file__; print(len(mk.load_dft()), mk.load_model('chgnet', charge_aware=True).charge_aware)"
    ran = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path / "site",
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0 and ran.stdout.strip().endswith("True"), ran.stderr[-2000:]


@pytest.mark.install
@pytest.mark.parametrize(
    "setup, says",
    [
        ({"PYTHON": "no-such-python"}, "there is no 'no-such-python'"),
        ({"PYTHON": "./old-python"}, "Python 3.9.2 is too old; Python 3.11 or newer is needed"),
        ({"NEED": "999999999"}, "the disk is nearly full"),
        (
            {"LOCK": "no-such-package-mlipkit==1.0\n"},
            "a package cannot be had: no-such-package-mlipkit==1.0",
        ),
    ],
)
def test_make_venv_fails_with_a_sentence(tmp_path, setup, says):
    old = tmp_path / "old-python"
    old.write_text('#!/bin/sh\ncase "$1" in --version) echo "Python 3.9.2";; *) exit 1;; esac\n')
    old.chmod(0o755)
    (tmp_path / "requirements.lock").write_text(setup.get("LOCK", "\n"))
    ran = subprocess.run(
        ["bash", str(ROOT / ".ci/make-venv"), setup.get("PYTHON", sys.executable)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "MLIPKIT_NEED_MB": setup.get("NEED", "1")},
    )
    assert ran.returncode == 1 and says in ran.stderr, ran.stderr
    assert not (tmp_path / ".venv/ready").exists()
