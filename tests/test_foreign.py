"""Anybody's model: an ASE calculator serves wherever a model is taken, and is charge-blind."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.calculators.mixing import SumCalculator
from ase.optimize import LBFGSLineSearch
from chgnet.model.dynamics import CHGNetCalculator

import mlipkit as mk


def test_emt_relaxes_as_ase_does():
    start = bulk("Cu", cubic=True)
    start.rattle(0.1, seed=1)
    ours = mk.relax(start, EMT(), fmax=0.01, progress=False)
    theirs = start.copy()
    theirs.calc = EMT()
    LBFGSLineSearch(theirs, logfile=None).run(fmax=0.01)
    assert ours.converged and ours.states is None and ours.magmoms is None
    assert ours.energies[-1] == pytest.approx(theirs.get_potential_energy(), abs=1e-9)
    assert ours.atoms.get_forces() == pytest.approx(theirs.get_forces(), abs=1e-9)


def test_upstream_chgnet_gives_what_ours_gives(ends):
    models = {"theirs": CHGNetCalculator(use_device="cpu", verbose=False), "ours": mk.load_model()}
    table = mk.predict(ends[3:5], models, progress=False).set_index("model")
    theirs, ours = table.loc["theirs"], table.loc["ours"]
    assert theirs["energy"].to_numpy() == pytest.approx(ours["energy"].to_numpy(), abs=1e-4)
    assert theirs["force_mae"].to_numpy() == pytest.approx(ours["force_mae"].to_numpy(), abs=1e-5)
    for k in range(4):
        name = f"magmom_{k}"
        assert theirs[name].to_numpy() == pytest.approx(ours[name].to_numpy(), abs=1e-4)


def test_a_campaign_with_calculators_goes_on_where_it_was(tmp_path):
    starts = [bulk("Cu", cubic=True), bulk("Al", cubic=True)]
    for atoms in starts:
        atoms.rattle(0.05, seed=2)
    models = {"emt": EMT(), "lj": LennardJones(sigma=2.3, epsilon=0.4, rc=6.0)}
    options = {"folder": tmp_path, "processes": 1, "progress": False, "steps": 5}
    first = mk.relax_many(starts, models, **options)
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert len(files) == 4
    again = mk.relax_many(starts, models, **options)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == files
    for name in models:
        assert [r.energies[-1] for r in again[name]] == [r.energies[-1] for r in first[name]]
    other = {"lj": LennardJones(sigma=2.4, epsilon=0.4, rc=6.0)}
    mk.relax_many(starts, other, **options)
    assert len(list(tmp_path.iterdir())) == 6  # another parameter is another model


def test_a_calculator_is_blind_to_charges(ends):
    host = ends[-1]
    search = mk.search_charge_ordering(
        host, LennardJones(sigma=1.5, epsilon=0.01, rc=4.0), n_mobile=2, keep=2, steps=1,
        progress=False,
    )  # fmt: skip
    arrangement = search.table["ordering"].str.rsplit("_", n=1).str[0]
    assert search.table.groupby(arrangement)["start"].nunique().eq(1).all()
    table = mk.score({"lj": LennardJones(rc=4.0)}, ends[3:5])
    assert np.isnan(table.loc["lj", "magmoms"]) and table.loc["lj", "n"] == 2


def test_a_calculator_that_fails_says_so_in_a_sentence(ends):
    with pytest.raises(mk.InputError, match="EMT cannot describe it"):
        mk.relax(ends[3], EMT(), progress=False)
    with pytest.raises(mk.InputError, match="predict: emt, among frames 0 to 0: .*EMT"):
        mk.predict(ends[3:4], {"emt": EMT()}, progress=False)


def test_calculators_inside_calculators_count(tmp_path):
    start = bulk("Cu", cubic=True)
    options = {"folder": tmp_path, "processes": 1, "progress": False, "steps": 1}
    for sigma in (2.0, 2.2):
        inner = [LennardJones(sigma=2.1, rc=5.0), LennardJones(sigma=sigma, rc=5.0)]
        mk.relax_many([start], SumCalculator(inner), **options)
    assert len(list(tmp_path.iterdir())) == 2


class Failing(EMT):
    """Gives up at the fourth geometry."""

    def calculate(self, *args, **kwargs):
        self.calls = getattr(self, "calls", 0) + 1
        if self.calls > 3:
            raise KeyError("the cluster is full")
        super().calculate(*args, **kwargs)


class NoStress(EMT):
    """Energies and forces only."""

    implemented_properties = ("energy", "forces")

    def get_property(self, name, *args, **kwargs):
        if name == "stress":
            raise NotImplementedError("no stress here")
        return super().get_property(name, *args, **kwargs)


def test_a_calculator_that_fails_on_the_way_keeps_what_there_is():
    start = bulk("Cu", cubic=True)
    start.rattle(0.1, seed=1)
    result = mk.relax(start, Failing(), fmax=1e-4, progress=False)
    assert "cluster is full" in result.reason and len(result.frames) >= 1
    assert "no moments, so valences are not known" in str(result)
    with pytest.raises(mk.InputError, match="no stress here"):
        mk.relax(start, NoStress(), cell=True, progress=False)


CALLS = {
    "relax": lambda model: mk.relax(bulk("Cu"), model),
    "relax_many": lambda model: mk.relax_many([bulk("Cu")], model),
    "relax_many by name": lambda model: mk.relax_many([bulk("Cu")], {"a": model}),
    "predict": lambda model: mk.predict([bulk("Cu")], {"a": model}),
    "score": lambda model: mk.score({"a": model}, [bulk("Cu")]),
    "search": lambda model: mk.search_charge_ordering(bulk("Cu"), model),
}


NO_MODEL = {
    "name": "chgnet",
    "none": None,
    "class": EMT,
    "list": [EMT()],
    "3": 3,
    "Cu": Atoms("Cu"),
}
NO_MODELS = {"bare": EMT(), "list": [EMT()], "empty": {}, "3": {3: EMT()}, "": {"": EMT()}}


@pytest.mark.parametrize("model", NO_MODEL.values(), ids=NO_MODEL)
@pytest.mark.parametrize("call", CALLS)
def test_what_is_no_model_is_told(call, model):
    with pytest.raises(mk.InputError, match="takes a model, such as mk.load_model"):
        CALLS[call](model)


@pytest.mark.parametrize("models", [*NO_MODELS.values(), None], ids=[*NO_MODELS, "none"])
def test_models_want_names(models):
    with pytest.raises(mk.InputError, match="by name|name of a model is a text"):
        mk.predict([bulk("Cu")], models)
