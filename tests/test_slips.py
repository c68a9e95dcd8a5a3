"""A slip in any argument of any public function ends in a sentence: InputError, or traitlets'
TraitError for the choices of the explorer.

`pytest -s tests/test_slips.py` prints every message, for a person to read.
"""

import inspect
import warnings

import numpy as np
import pandas as pd
import pytest
import traitlets
from compounds import rhombohedral

import mlipkit as mk
from mlipkit.orderings.lattice import lattice_of
from mlipkit.statmech.configurations import COLUMNS, matrix_of

WITHOUT = {  # of what can be called those without a base below
    "InputError": "is the error itself",
    "load_geometries": "takes no argument",
    "load_predictions": "takes no argument",
    "load_results": "takes no argument",
    "load_transfer": "takes no argument",
    "list_models": "takes no argument",
    "LiveCurve": "takes no argument",
    "upload": "takes no argument",
    "FrameSequence": "is what open_frames and load_dft return",
    "OxidationStates": "is what infer_oxidation_states returns",
    "Relaxation": "is what relax returns",
    "Configurations": "is what sample_configurations returns",
    "Expansion": "is what fit_expansion returns",
    "MonteCarlo": "is what monte_carlo returns",
    "PhaseDiagram": "is what phase_diagram returns",
    "Reference": "holds what it is given; checked where references are used",
}
FUNCTIONS = [name for name in mk.__all__ if callable(getattr(mk, name)) and name not in WITHOUT]


def made_up_expansion():
    """Fitted to some arrangements of LiCoO2 with a made-up energy."""
    lattice = lattice_of(rhombohedral(), mk.Compound("Li", {"Co": (3, 4)}))
    rng, rows = np.random.default_rng(0), []
    for k in range(16):
        name = ("1x1x1", "2x1x1", "2x2x1")[k % 3]
        cell = lattice_of(lattice.host, lattice.compound, matrix_of(name))
        n = (0, len(cell.mobile))[k] if k < 2 else int(rng.choice(cell.compositions))
        filled, states = cell.random(n, rng)
        ions, said = "".join(map(str, filled.astype(int))), " ".join(map(str, states))
        x = n / cell.n_units
        rows.append((name, ions, said, x, -3.5 * x + rng.normal(0, 0.01), True, ""))
    table = pd.DataFrame(rows, columns=COLUMNS)
    made = mk.Configurations(table, lattice.host, lattice.compound, lattice.fixed, False)
    return mk.fit_expansion(made, {2: 4.0})


def made_up_samples(ends):
    """Arrangements of NaxFePO4 in one cell with made-up energies."""
    host, rng = next(a for a in ends if a.info["x"] == 1), np.random.default_rng(0)
    lattice, rows = lattice_of(host), []
    for k in range(12):
        filled, states = lattice.random((0, 4, 2, 1, 3)[k % 5], rng)
        ions, said = "".join(map(str, filled.astype(int))), " ".join(map(str, states))
        x = filled.sum() / lattice.n_units
        rows.append(("1x1x1", ions, said, x, -3.0 * x + rng.normal(0, 0.01), True, ""))
    table = pd.DataFrame(rows, columns=COLUMNS)
    return mk.Configurations(table, lattice.host, lattice.compound, lattice.fixed, False)


class Made:
    """What is made once."""

    def __init__(self, folder):
        self.folder, self.ends = folder, mk.end_points(mk.load_dft())
        mk.write_frames(folder / "a.extxyz", self.ends[3:6])
        self.aware = mk.load_model("cpainn", charge_aware=True)
        self.predictions = mk.load_predictions()
        self.own = mk.predictions_for(self.ends[3:6], self.predictions)["cpainn_aware"]
        self.relaxations = mk.load_relaxations("cpainn_aware")[:2]
        mk.write_relaxations(folder / "r.extxyz", self.relaxations)
        self.results, self.verdict = mk.load_results(), mk.verdict_table()
        self.errors = mk.compare_models(self.ends, self.predictions, "test")
        self.expansion = made_up_expansion()
        self.sampled = made_up_samples(self.ends)
        cell = {"supercell": (2, 1, 1), "progress": False}
        self.phases = mk.phase_diagram(self.expansion, (300, 600), sweeps=1, **cell)
        mk.write_configurations(folder / "c.json", self.expansion.configurations)
        mk.write_expansion(folder / "e.json", self.expansion)
        mk.write_phases(folder / "p.json", self.phases)
        self.figure = mk.plots.hull(mk.hull(self.ends))

    def frames(self):
        """Copies: some functions write onto frames."""
        found = [atoms.copy() for atoms in self.ends]
        for copy, atoms in zip(found, self.ends):
            copy.calc = atoms.calc
        return found


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return Made(tmp_path_factory.mktemp("slips"))


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """A slip in a path may be a name of a folder; and a slip must never ask the network."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLIPKIT_FIGSHARE", "http://127.0.0.1:9")
    monkeypatch.setenv("MLIPKIT_CACHE", str(tmp_path / "cache"))


def bases(made):
    """A valid call of every function, with all arguments that a person may get wrong."""
    ends, folder, aware, predictions = made.frames(), made.folder, made.aware, made.predictions
    few, atoms, host = ends[3:6], ends[3], ends[-1]
    e, relaxations = [a.get_potential_energy() for a in ends], made.relaxations
    start = mk.undistorted(atoms, host)
    lengths = {"max_distance": 1.0, "symprec": 0.01}
    on_host = {"host": host, "compound": None}
    cell = {"n_mobile": 2, "supercell": None, "mobile_sites": None, "fixed": None}
    cell |= on_host | {"total_charge": 0, "symprec": 0.01}
    split = {"validation": 0.15, "test": 0.15, "seed": 0, "compound": None}
    energies = {"frames": ends, "energies": e, "compound": None}
    relax = {"fmax": 0.1, "steps": 1, "cell": False, "optimizer": "LBFGS", "seconds": None}
    charges = {"references": None, "method": "magmom", "total_charge": 0, "fixed": None}
    geometries = {"frames": ends, "models": None, "predictions": None, "relaxations": None}
    geometries |= {"relax": False, "folder": None, "compound": None}
    opened = {"proxies": None, "keys": None}
    return {
        "along_relaxations": {"frames": few},
        "end_points": {"frames": few, "fmax": 0.05},
        "frame_table": {"frames": few},
        "load_dft": {"name": "olivine", "files": None, "cache": None, "timeout": 30.0},
        "open_frames": {"path": folder / "a.extxyz", "cache": "cache", "info": None, **opened},
        "read_frames": {"path": folder / "a.extxyz", "index": None, "limit": None, **opened},
        "to_pymatgen": {"atoms": atoms},
        "write_frames": {"path": "o.extxyz", "frames": few},
        "Compound": {
            "mobile": "Li",
            "redox": {"Mn": (2, 3)},
            "framework": None,
            "charge": None,
            "ends": None,
            "metal": None,
            "proxies": None,
            "references": None,
            "fixed": None,
        },
        "compare_methods": {"atoms": atoms, "methods": ("magmom",)},
        "compound": {"frames": few},
        "fit_references": {"frames": few, **charges},
        "from_proxies": {"atoms": atoms, "proxies": None},
        "group_by_compound": {"frames": few, "compound": None},
        "infer_oxidation_states": {"atoms": atoms, "magmoms": None, "charges": None, **charges},
        "reference_table": {"method": "magmom"},
        "to_proxies": {"atoms": atoms, "proxies": None},
        "count_orderings": cell,
        "enumerate_orderings": cell,
        "find_host": {"frames": few, "compound": None, "tolerance": 0.9},
        "name_orderings": {"frames": few, "host": None, "max_distance": 1.0, **split},
        "ordering_label": {"atoms": atoms, **on_host, **lengths},
        "orderings_table": {"frames": few, **on_host, **lengths},
        "same_ordering": {"a": atoms, "b": ends[4], **on_host, **lengths},
        "split_by_ordering": {"frames": few, "group": None, **split},
        "undistorted": {"atoms": atoms, **on_host, "max_distance": 1.0},
        "import_checkpoint": {
            "path": mk.files.data_folder() / "models/cpainn_aware_seed0.safetensors",
            "charge_aware": True,
            "proxies": None,
            "frames": None,
            "cutoff": None,
            "device": "cpu",
        },
        "load_model": {"name": "cpainn", "charge_aware": True, "seed": 0, "device": "cpu"},
        "save_weights": {"potential": aware, "folder": "weights", "card": {"name": "x"}},
        "train": {
            "name": "cpainn",
            "frames": ends,
            "charge_aware": True,
            "seed": 0,
            "epochs": 1,
            "lr": 1e-3,
            "batch_size": 4,
            "start": None,
            "model_args": {"features": 8, "interactions": 1},
            "proxies": None,
            "device": "cpu",
            "patience": None,
            "folder": None,
        },
        "show": {"atoms": atoms, "width": "100%", "height": "300px"},
        "bootstrap": {
            "values": [1.0, 2.0, 3.0],
            "orderings": ["a", "b", "b"],
            "level": 0.9,
            "n_resamples": 50,
            "seed": 0,
        },
        "compare_models": {
            "frames": ends,
            "predictions": predictions,
            "split": "test",
            "level": None,
        },
        "energy_above_hull": {**energies, "reference": None, "reference_energies": None},
        "error_by": {"frames": few, "predictions": predictions, "by": "x", "level": None},
        "error_table": {"frames": few, "predictions": made.own},
        "formation_energies": energies,
        "frame_errors": {"frames": few, "predictions": made.own, "sites": False},
        "hull": energies,
        "order_scores": {"frames": ends, "energies": e, "counts": None},
        "predict": {"frames": few, "models": {"a": aware}},
        "predictions_for": {"frames": few, "predictions": predictions},
        "score": {"potentials": {"a": aware}, "frames": few},
        "seed_table": {"results": made.results, "variants": False},
        "verdict_summary": {"table": made.verdict},
        "verdict_table": {"judged": None},
        "voltage_profile": energies,
        "with_units": {"table": made.errors},
        "charge_entropy": {
            "energies": [0, 0.1],
            "degeneracies": [1, 2],
            "temperature": 300,
            "arrangements": None,
            "n_formula_units": 1,
            "n_orders": None,
        },
        "entropy_table": {**energies, "temperatures": (300,)},
        "fit_expansion": {
            "configurations": made.expansion.configurations,
            "cutoffs": None,
            "folds": 3,
            "seed": 0,
        },
        "monte_carlo": {
            "expansion": made.expansion,
            "temperature": 300,
            "x": None,
            "mu": 0.0,
            "supercell": (2, 1, 1),
            "sweeps": 2,
            "n_blocks": 2,
            "seed": 0,
            "start": None,
        },
        "phase_diagram": {
            "expansion": made.expansion,
            "temperatures": (300, 600),
            "supercell": (2, 1, 1),
            "sweeps": 1,
            "n_runs": 2,
            "electrons": True,
            "seed": 0,
        },
        "without_electrons": {"expansion": made.expansion, "seed": 0},
        "load_configurations": {
            "architecture": "cpainn",
            "charge_aware": True,
            "cells": "free",
            "compound": "NaxFePO4",
        },
        "load_phases": {"cells": "free", "compound": "NaxFePO4"},
        "read_configurations": {"path": folder / "c.json"},
        "read_expansion": {"path": folder / "e.json"},
        "read_phases": {"path": folder / "p.json"},
        "write_configurations": {
            "path": "c2.json",
            "configurations": made.expansion.configurations,
        },
        "write_expansion": {"path": "e2.json", "expansion": made.expansion},
        "write_phases": {"path": "p2.json", "diagram": made.phases},
        "sample_configurations": {
            **on_host,
            "model": aware,
            "n": 2,
            "ends": ends,
            "supercells": [1],
            "fixed": None,
            "seed": 0,
            "folder": None,
            "processes": 1,
            "client": None,
            **relax,
        },
        "extend_configurations": {
            "configurations": made.sampled,
            "model": aware,
            "n": 1,
            "rounds": 1,
            "ends": ends,
            "supercells": [1],
            "cutoffs": {2: 4.0},
            "seed": 0,
            "folder": None,
            "processes": 1,
            "client": None,
            **{k: v for k, v in relax.items() if k != "cell"},
        },
        "compare_geometries": geometries,
        "load_relaxations": {"model": "cpainn_aware"},
        "on_host": {"frames": few, "compound": None},
        "read_relaxations": {"path": folder / "r.extxyz"},
        "relax": {"atoms": start, "model": aware, **relax},
        "relax_many": {
            "frames": [start],
            "model": aware,
            "folder": None,
            "processes": 1,
            "client": None,
            **relax,
        },
        "relaxation_table": {"relaxations": relaxations},
        "search_charge_ordering": {
            **on_host,
            "model": aware,
            "n_mobile": 2,
            "supercell": None,
            "mobile_sites": (0, 1),
            "fixed": None,
            "keep": 1,
            "limit": 100,
            "mc_steps": 10,
            "temperature": (1500.0, 150.0),
            "seed": 0,
            "processes": 1,
            "steps": 1,
        },
        "write_relaxations": {"path": "r2.extxyz", "relaxations": relaxations},
        "ByArchitecture": {"figure": made.figure, "architecture": None},
        "ExplorerState": {"data": None},
        "PlayerState": {"relaxation": relaxations[0]},
        "explore": geometries,
        "explore_temperature": {"diagrams": {"cpainn": {"with electrons": made.phases}}},
        "TemperatureState": {"diagrams": {"cpainn": {"with electrons": made.phases}}},
        "explore_threshold": {"frames": few, "threshold": 4.0},
        "play": {"relaxation": relaxations[0]},
        "check": {"id": "02.1", "answer": 5},
        "study": {
            "frames": few,
            "folder": "study",
            "architecture": "cpainn",
            "relax": False,
            "compound": None,
            "host": None,
            "seed": 0,
        },
    }


def slips(atoms):
    """What a person may hand over in the place of something else."""
    bare = atoms.copy()
    bare.calc, bare.info = None, {}
    bare.arrays.pop("oxi_states", None)
    return {
        "None": None,
        "a name": "nothing like it",
        "NaN": float("nan"),
        "negative": -1,
        "empty list": [],
        "empty dict": {},
        "a list of None": [None],
        "one Atoms": atoms,
        "unlabelled": [bare],
        "an object": object(),
        "a class": dict,
        "wrong length": [1.0, 2.0],
    }


def called(function, arguments):
    found = function(**arguments)
    return list(found) if inspect.isgenerator(found) else found


def test_every_public_callable_has_a_base_or_a_reason(made):
    assert set(FUNCTIONS) == set(bases(made))
    assert set(WITHOUT) <= set(mk.__all__)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_slip_gets_a_sentence(name, made):
    function, base = getattr(mk, name), bases(made)[name]
    silent = {"progress": False} if "progress" in inspect.signature(function).parameters else {}
    wrong = []
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        if name != "study":  # three orderings are too few for a split; its slips come before
            called(function, base | silent)
        for argument in base:
            for slip, value in slips(made.frames()[3]).items():
                where = f"{name}({argument}={slip})"
                try:
                    called(function, base | silent | {argument: value})
                    print(f"{where} is taken")
                except (mk.InputError, traitlets.TraitError) as said:
                    print(f"{where}: {said}")
                    assert len(str(said)) > 20, where
                except Exception as raised:
                    wrong.append(f"{where}: {type(raised).__name__}: {raised}")
    assert not wrong, "\n".join(wrong)
