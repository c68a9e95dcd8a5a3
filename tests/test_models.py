"""The CHGNet adapter against upstream CHGNet, finite differences, and the laws that any potential
obeys.
"""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.stress import voigt_6_to_full_3x3_stress
from chgnet.model import CHGNet
from pymatgen.io.ase import AseAtomsAdaptor

import mlipkit as mk
from mlipkit.charges.species import PROXIES
from mlipkit.models.chgnet import CHGNetPotential

GPA = 1 / 160.21766208  # eV/Å^3


@pytest.fixture(scope="module")
def published():
    return mk.load_model("chgnet", charge_aware=None)


@pytest.fixture(scope="module")
def aware():
    return mk.load_model("chgnet", charge_aware=True)


@pytest.fixture(scope="module")
def blind():
    return mk.load_model("chgnet", charge_aware=False)


def test_equals_upstream(published, frames):
    some = frames[3::25]
    upstream = CHGNet.load(verbose=False, use_device="cpu").predict_structure(
        [AseAtomsAdaptor.get_structure(a) for a in some], batch_size=2
    )
    for atoms, ours, theirs in zip(some, published.predict(some, batch_size=3), upstream):
        assert ours.energy / len(atoms) == pytest.approx(theirs["e"], abs=1e-5)
        # single precision, forces of several eV/Å
        assert ours.forces == pytest.approx(theirs["f"], rel=1e-5, abs=5e-5)
        assert voigt_6_to_full_3x3_stress(ours.stress) / GPA == pytest.approx(theirs["s"], abs=5e-4)
        assert ours.magmoms == pytest.approx(theirs["m"], abs=1e-5)


def described(graph):
    """What a CHGNet graph says, whatever the order and numbers of its bonds."""
    edges = [
        (*map(int, pair), *map(int, image))
        for pair, image in zip(graph.atom_graph, graph.neighbor_image)
    ]
    bonds = [set() for _ in graph.undirected2directed]
    for edge, bond in zip(edges, graph.directed2undirected):
        bonds[bond].add(edge)
    assert all(edges[d] in bonds[k] for k, d in enumerate(graph.undirected2directed))
    angles = [
        (
            int(atom),
            *(
                part
                for bond, edge in ((a, b), (c, d))
                for part in (frozenset(bonds[bond]), edges[edge])
            ),
        )
        for atom, a, b, c, d in graph.bond_graph
    ]
    assert len(set(angles)) == len(angles) and len(set(edges)) == len(edges)
    return set(edges), set(map(frozenset, bonds)), set(angles)


@pytest.mark.parametrize(
    "which", ["mixed", "one atom", "sheared", "outside", "supercell", "no angles"]
)
def test_the_graph_is_the_one_of_chgnets_own_converter(published, mixed, which):
    atoms = {
        "mixed": mixed,
        "one atom": bulk("Cu"),
        "sheared": bulk("NaCl", "rocksalt", 5.6),
        "outside": mixed.copy(),
        "supercell": mixed.repeat((1, 2, 1)),
        "no angles": bulk("Na", a=4.2),
    }[which]
    if which == "sheared":
        atoms.set_cell(
            atoms.cell.array @ [[1, 0.1, 0], [0, 1.05, -0.2], [0, 0, 1]], scale_atoms=True
        )
    if which == "outside":
        atoms.positions[::3] += 2 * atoms.cell[0] - atoms.cell[2]
    converter = published.network.graph_converter
    ours, theirs = published.graph(atoms), converter(AseAtomsAdaptor.get_structure(atoms))
    assert described(ours) == described(theirs) and (len(ours.bond_graph) > 0) == (
        which != "no angles"
    )
    assert published.score(atoms, np.zeros((2, len(atoms)), int)) == pytest.approx(
        published.predict([atoms])[0].energy, rel=1e-6
    )
    for name in ("atomic_number", "atom_frac_coord", "lattice"):
        a, b = (getattr(graph, name).detach() for graph in (ours, theirs))
        assert torch.allclose(a, b, atol=1e-6) and a.dtype == b.dtype


def test_untrained_blind_and_aware_agree_where_there_is_no_fe3(published, ends):
    fresh, full = CHGNetPotential.pretrained(PROXIES), next(a for a in ends if a.info["x"] == 1)
    assert fresh.predict([full])[0].energy == published.predict([full])[0].energy
    empty = next(a for a in ends if a.info["x"] == 0)
    assert abs(fresh.predict([empty])[0].energy - published.predict([empty])[0].energy) > 1


def test_shipped_predictions_are_those_of_the_shipped_weights(frames, blind, aware):
    table = mk.load_predictions().set_index(["model", "job", "step"])
    some = frames[4::20]
    models = {
        "chgnet_blind": blind,
        "chgnet_aware": aware,
        **{
            f"{n}_{k}": mk.load_model(n, charge_aware=k == "aware")
            for n in ("cpainn", "mace")
            for k in ("blind", "aware")
        },
    }
    for name, model in models.items():
        for atoms, p in zip(some, model.predict(some)):
            row = table.loc[(name, atoms.info["job"], atoms.info["step"])]
            assert p.energy == pytest.approx(row["energy"], abs=2e-3)
            assert p.magmoms[atoms.symbols == "Fe"] == pytest.approx(
                row[[f"magmom_{i}" for i in range(4)]].to_numpy(float), abs=1e-3
            )


def test_cards_state_data_split_seed_and_errors():
    table = mk.list_models()
    assert set(table.index) >= {"chgnet_blind_seed0", "chgnet_aware_seed0"}
    blind, aware = (table.loc[f"chgnet_{k}_seed0"] for k in ("blind", "aware"))
    for column in (
        "seed",
        "epochs",
        "lr",
        "batch_size",
        "data_sha256",
        "frames.train",
        "parameters",
    ):
        # the two differ in the input alone
        assert blind[column] == aware[column]
    assert aware["errors.test.energy"] > 0 and set(aware["split.train"]).isdisjoint(
        aware["split.test"]
    )


def test_bad_input_is_a_sentence(aware, mixed):
    with pytest.raises(mk.InputError, match="predict takes a list of frames; write .atoms."):
        aware.predict(mixed)
    with pytest.raises(
        mk.InputError, match="batch_size is a whole number of at least 1, or None, not -1"
    ):
        aware.predict([mixed], batch_size=-1)
    with pytest.raises(
        mk.InputError, match="there is no model 'schnet'; there is 'chgnet', 'cpainn', 'mace'"
    ):
        mk.load_model("schnet")
    with pytest.raises(mk.InputError, match="mace-mp-0-small is charge-blind"):
        mk.load_model("mace-mp-0-small", charge_aware=True)
    with pytest.raises(
        mk.InputError, match="there is no foundation model 'mace-xl'; there is mace-mp-0-small"
    ):
        mk.load_model("mace-xl")
    with pytest.raises(mk.InputError, match="say charge_aware=True or False"):
        mk.load_model("mace")
    with pytest.raises(mk.InputError, match="seed7"):
        mk.load_model("chgnet", charge_aware=True, seed=7)
    far = mixed[:1].copy()
    far.set_cell([30, 30, 30])
    with pytest.raises(
        mk.InputError,
        match="CHGNet cannot describe this cell: atom 0 .Na. has no neighbour within 6 Å",
    ):
        aware.predict([far])
    with pytest.raises(mk.InputError, match="CHGNet knows the elements from H"):
        mk.load_model("chgnet", charge_aware=False).predict(
            [Atoms("FeX", [[0, 0, 0], [0, 0, 2]], cell=[4, 4, 4], pbc=True)]
        )
    del mixed.arrays["oxi_states"]
    with pytest.raises(mk.InputError, match="infer_oxidation_states"):
        aware.predict([mixed])


@pytest.mark.parametrize("name", ["mace", "cpainn"])
def test_a_mace_that_another_thread_unpickles_disturbs_nobody(name, ends):
    # torch.fx traces it, and would trace what is called meanwhile: "module is not installed as a
    # submodule" ended a relaxation on a Dask worker in one campaign of four
    import pickle
    import sys
    import threading

    running, sent = (
        mk.load_model(name, charge_aware=True),
        pickle.dumps(mk.load_model("mace", charge_aware=False)),
    )
    known, done, wrong = running.predict(ends[:1])[0].energy, threading.Event(), []

    def predicting():
        while not done.is_set():
            try:
                assert running.predict(ends[:1])[0].energy == pytest.approx(known, abs=1e-4)
            except Exception as reason:
                wrong.append(repr(reason))
                return

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    thread = threading.Thread(target=predicting)
    try:
        thread.start()
        copies = [pickle.loads(sent) for _ in range(20)]
    finally:
        done.set()
        thread.join()
        sys.setswitchinterval(interval)
    assert not wrong
    here = mk.load_model("mace", charge_aware=False).predict(ends[:1])[0].energy
    assert copies[-1].predict(ends[:1])[0].energy == pytest.approx(here, abs=1e-4)
