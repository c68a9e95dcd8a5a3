"""pymatgen's objects wherever `ase.Atoms` are taken, and frames back as pymatgen's."""

import json
import subprocess
import sys

import numpy as np
import pytest
from ase.build import molecule
from pymatgen.analysis.phase_diagram import CompoundPhaseDiagram
from pymatgen.core import Composition, Lattice, Structure
from pymatgen.core.trajectory import Trajectory
from pymatgen.electronic_structure.core import Magmom
from pymatgen.entries.computed_entries import ComputedEntry, ComputedStructureEntry
from pymatgen.io.ase import AseAtomsAdaptor

import mlipkit as mk
from mlipkit.frames.taken import as_frame, as_frames

LABELS = "energy", "forces", "stress", "magmoms"


@pytest.fixture
def structures(ends):
    return [mk.to_pymatgen(a) for a in ends]


@pytest.fixture(scope="module")
def aware():
    return mk.load_model("cpainn", charge_aware=True)


def bare(atoms):
    """As a file of a structure has it: no labels, no states, no info."""
    return AseAtomsAdaptor.get_structure(
        type(atoms)(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)
    )


def test_a_frame_comes_back_from_pymatgen_and_from_its_json(mixed):
    structure = mk.to_pymatgen(mixed)
    n = mixed.arrays["oxi_states"].tolist()
    assert [s.specie.oxi_state for s in structure] == n
    assert str(structure[n.index(3)].specie) == "Fe3+"
    for there in (structure, Structure.from_dict(json.loads(structure.to_json()))):
        back = as_frame(there, "test")
        assert back.get_chemical_formula() == mixed.get_chemical_formula()
        assert np.abs(back.positions - mixed.positions).max() < 1e-12
        assert back.arrays["oxi_states"].dtype == int
        assert np.array_equal(back.arrays["oxi_states"], mixed.arrays["oxi_states"])
        for name in LABELS:
            assert np.allclose(back.calc.results[name], mixed.calc.results[name], atol=1e-14)
        assert back.info["ordering"] == mixed.info["ordering"]
        assert "energy" not in back.info and "forces" not in back.arrays


def test_what_is_not_known_is_not_made_up(mixed):
    half = mixed.copy()
    half.calc = None
    fe = np.flatnonzero(half.symbols == "Fe")
    half.arrays["oxi_states"][:] = 0
    half.arrays["oxi_states"][fe[0]] = 3
    structure = mk.to_pymatgen(half)
    assert str(structure[fe[0]].specie) == "Fe3+" and str(structure[fe[1]].specie) == "Fe"
    back = as_frame(structure, "test")
    assert back.arrays["oxi_states"].tolist() == half.arrays["oxi_states"].tolist()
    assert back.calc is None
    plain = as_frame(bare(mixed), "test")
    assert "oxi_states" not in plain.arrays and plain.calc is None


def test_moments_of_every_spelling(mixed):
    moments = np.round(np.abs(mixed.calc.results["magmoms"]), 3)
    structure = bare(mixed)
    expected = mk.infer_oxidation_states(mixed).states
    vectors = [[m, 0, 0] for m in moments]
    for given in (moments.tolist(), vectors, [Magmom(m) for m in moments]):
        there = structure.copy(site_properties={"magmom": given})
        assert np.allclose(as_frame(there, "test").calc.results["magmoms"], moments)
        assert np.array_equal(mk.infer_oxidation_states(there).states, expected)
    spins = structure.copy()
    spins.add_spin_by_site(moments.tolist())
    assert np.allclose(as_frame(spins, "test").calc.results["magmoms"], moments)
    both = structure.copy(site_properties={"magmom": [5.0] * len(mixed)})  # a guess, and the end
    both.add_site_property("final_magmom", moments.tolist())
    assert np.allclose(as_frame(both, "test").calc.results["magmoms"], moments)
    gaps = structure.copy(site_properties={"magmom": [None, *moments[1:].tolist()]})
    assert np.array_equal(mk.infer_oxidation_states(gaps).states, expected)


def test_an_entry_brings_its_energy_and_the_hull_is_that_of_pymatgen(ends, structures):
    entries = [
        ComputedStructureEntry(s, a.get_potential_energy(), correction=-0.5 * n, entry_id=f"mp-{n}")
        for n, (s, a) in enumerate(zip(structures, ends))
    ]
    one = as_frame(entries[3], "test")
    assert one.get_potential_energy() == pytest.approx(ends[3].get_potential_energy() - 1.5)
    assert one.info["correction"] == pytest.approx(-1.5) and one.info["entry_id"] == "mp-3"
    with pytest.warns(UserWarning, match="inconsistent"):
        per_unit = ComputedStructureEntry(bare(ends[3]), -4.0).normalize()
    with pytest.raises(mk.InputError, match="its structure has 26: give the entry as it was"):
        as_frame(per_unit, "test")
    plain = [ComputedStructureEntry(s, a.get_potential_energy()) for s, a in zip(structures, ends)]
    table = mk.hull(plain)
    diagram = CompoundPhaseDiagram(
        [ComputedEntry(a.get_chemical_formula(), e.energy) for a, e in zip(ends, plain)],
        [Composition("FePO4"), Composition("NaFePO4")],
        normalize_terminal_compositions=False,
    )
    on_hull = sorted(e.original_entry.energy for e in diagram.stable_entries)
    mine = sorted(e.energy for e, on in zip(plain, table["on_hull"]) if on)
    assert mine == pytest.approx(on_hull) and 2 < len(mine) < len(plain)
    assert mk.voltage_profile(plain).equals(mk.voltage_profile(ends))


def test_a_trajectory_brings_its_frames_and_their_labels(frames):
    run = [a for a in frames if a.info["job"] == frames[0].info["job"]][:4]
    structure = bare(run[0])
    labels = [
        {
            "energy": a.get_potential_energy(),
            "forces": a.get_forces().tolist(),
            "stress": a.get_stress().tolist(),
        }
        for a in run
    ]
    made = Trajectory(
        structure.species,
        [a.get_scaled_positions(wrap=False) for a in run],
        lattice=[a.cell.array for a in run],
        constant_lattice=False,
        frame_properties=labels,
        site_properties=[{"magmom": a.get_magnetic_moments().tolist()} for a in run],
    )
    back = as_frames(made, "test")
    assert len(back) == 4 and [a.info["step"] for a in back] == [0, 1, 2, 3]
    for mine, theirs in zip(back, run):
        for name in LABELS:
            assert np.allclose(mine.calc.results[name], theirs.calc.results[name])
        assert np.allclose(mine.cell.array, theirs.cell.array)
    assert mk.frame_table(made)["energy"].tolist() == [a.get_potential_energy() for a in run]
    both = as_frames([made, run[0], structure], "test")
    assert len(both) == 6 and both[4] is run[0]
    # the ionic steps of a vasprun.xml: pressure in kbar, of the other sign
    for step in labels:
        step["e_0_energy"] = step.pop("energy")
        step["stress"] = (-1602.1766208 * np.array(step["stress"]))[
            [[0, 5, 4], [5, 1, 3], [4, 3, 2]]
        ]
    vasp = as_frames(Trajectory.from_dict(made.as_dict() | {"frame_properties": labels}), "test")
    assert np.allclose(vasp[2].get_stress(), run[2].get_stress())
    assert vasp[2].get_potential_energy() == run[2].get_potential_energy()


def test_every_function_that_takes_frames_takes_structures(ends, structures, aware, tmp_path):
    blind, host = mk.load_model("cpainn", charge_aware=False), bare(ends[-1])
    energies = [p.energy for p in aware.predict(ends)]
    assert [p.energy for p in aware.predict(structures)] == pytest.approx(energies, abs=2e-5)
    states = ends[5].arrays["oxi_states"]
    assert aware.score(structures[5], [states]) == pytest.approx([energies[5]], abs=1e-4)
    assert mk.predict(structures, {"a": aware}, progress=False)["energy"].tolist() == pytest.approx(
        energies, abs=2e-5
    )
    assert (
        str(mk.compound(structures)) == str(mk.compound(ends)) == "NaxFePO4: Na1+ moves; Fe 2+ 3+"
    )
    assert [m for _, m in mk.group_by_compound(structures)] == [list(range(len(ends)))]
    assert mk.compound(structures).x(structures[5]) == ends[5].info["x"]
    assert mk.compare_methods(structures[5], ("magmom", "given"))["agree"].all()
    assert mk.fit_references(structures)[0] == mk.fit_references(ends)[0]
    assert np.array_equal(mk.to_proxies(structures[5]), mk.to_proxies(ends[5]))
    proxied = mk.from_proxies(bare(ends[5]), {("Fe", 2): "P"})
    assert set(proxied.arrays["oxi_states"]) == {0, 2}
    label = mk.ordering_label(structures[5], ends[-1])
    assert label == mk.ordering_label(ends[5], structures[-1]) == ends[5].info["ordering"]
    assert mk.same_ordering(structures[5], ends[5]) and not mk.same_ordering(structures[5], ends[6])
    listed = [o.label for o in mk.enumerate_orderings(host, n_mobile=2)]
    assert listed == [o.label for o in mk.enumerate_orderings(ends[-1], n_mobile=2)]
    assert mk.count_orderings(host).equals(mk.count_orderings(ends[-1]))
    assert len(mk.find_host(structures)) == len(ends[-1])
    assert mk.orderings_table(structures).equals(mk.orderings_table(ends))
    assert np.allclose(
        mk.undistorted(structures[5], structures[-1]).positions,
        mk.undistorted(ends[5], ends[-1]).positions,
    )
    assert mk.formation_energies(structures) == pytest.approx(mk.formation_energies(ends))
    assert mk.energy_above_hull(structures[3:5], reference=structures) == pytest.approx(
        mk.energy_above_hull(ends[3:5], reference=ends)
    )
    assert mk.entropy_table(structures, temperatures=(300,)).equals(
        mk.entropy_table(ends, temperatures=(300,))
    )
    table = mk.score({"a": aware}, structures[3:6])
    assert table.loc["a", "energy"] == pytest.approx(
        mk.score({"a": aware}, ends[3:6]).loc["a", "energy"], abs=1e-2
    )
    predictions = mk.predict(structures, {"a": aware}, progress=False)
    assert mk.error_by(structures, predictions, "state").loc["a"]["n"].sum() == 4 * len(ends)
    assert mk.error_table(structures, predictions)["n"] == len(ends)
    assert mk.order_scores(structures, energies) == mk.order_scores(ends, energies)
    found = mk.relax(structures[5], aware, steps=1, progress=False)
    assert len(found.frames) == 2 and found.flips.empty
    many = mk.relax_many(structures[5:6], blind, steps=1, processes=1, progress=False)
    assert many[0].energies[0] == pytest.approx(blind.predict(ends[5:6])[0].energy, abs=1e-4)
    search = mk.search_charge_ordering(
        host, aware, mobile_sites=(0, 1), keep=1, steps=1, progress=False
    )
    assert len(search.table) == 1
    mk.write_frames(tmp_path / "all.extxyz", structures)
    again = mk.read_frames(tmp_path / "all.extxyz", progress=False)
    assert [a.get_potential_energy() for a in again] == pytest.approx(
        [a.get_potential_energy() for a in ends]
    )
    assert mk.show(structures[5]).crystal.legend.value


def test_names_are_written_onto_copies(structures, ends):
    undecorated, copies = [s.copy() for s in structures], []
    for s, a in zip(undecorated, ends):
        s.remove_oxidation_states()
        s.properties = {"energy": s.properties["energy"]}
        copies.append(a.copy())
        copies[-1].info, copies[-1].calc = {}, a.calc
    named = mk.name_orderings(undecorated, progress=False)
    for mine, theirs in zip(named, mk.name_orderings(copies, progress=False)):
        assert mine.info["ordering"] == theirs.info["ordering"]
        assert mine.info["split"] == theirs.info["split"]
    assert all("ordering" not in s.properties for s in undecorated)
    back = [mk.to_pymatgen(a) for a in named]
    assert [str(site.specie) for site in back[5]] == [str(site.specie) for site in structures[5]]
    assert back[5].properties["x"] == structures[5].properties["x"]


def test_a_model_is_trained_on_structures(structures):
    small = {"features": 8, "interactions": 1}
    parts = [s.copy() for s in structures[4:10]]
    for s, split in zip(parts, ("train", "train", "train", "train", "validation", "test")):
        s.properties["split"] = split
    model, history = mk.train(
        "cpainn", parts, charge_aware=True, epochs=1, model_args=small, progress=False
    )
    assert model.charge_aware and len(history) == 1 and np.isfinite(model.predict(parts)[0].energy)


def test_a_molecule_and_a_vacancy():
    water = mk.to_pymatgen(molecule("H2O"))
    assert not as_frame(water, "test").pbc.any() and len(water) == 3
    cell = Structure(Lattice.cubic(4), ["X0+", "Na"], [[0, 0, 0], [0.5] * 3])
    assert as_frame(cell, "test").get_chemical_symbols() == ["X", "Na"]


def test_what_is_no_frame_is_told_what_is(ends, structures, aware):
    disordered = structures[0].copy()
    disordered.replace(0, {"Fe": 0.5, "Mn": 0.5})
    for call, says in (
        (lambda: mk.hull("runs"), "not 'runs'; mk.read_frames.path. reads files"),
        (lambda: mk.compound([ends[0], 3]), "ase.Atoms, or pymatgen's .*number 1 is 3"),
        (lambda: mk.compound(Composition("FePO4")), "number 0 is "),
        (lambda: mk.compound([]), "this one is empty"),
        (lambda: mk.infer_oxidation_states(structures), "takes one frame .*not a list"),
        (lambda: mk.infer_oxidation_states(ComputedEntry("FePO4", -1)), "not a ComputedEntry"),
        (lambda: mk.relax(None, aware), "relax: takes one frame .*not None"),
        (lambda: aware.predict(structures[0]), "predict takes a list of frames; write .atoms."),
        (lambda: mk.show(disordered), "ordered structures; order it first"),
        (lambda: mk.predict(7, {"a": aware}), "not 7"),
        (lambda: mk.frame_table([1]), "frame_table takes frames"),
    ):
        with pytest.raises(mk.InputError, match=says):
            call()


def test_pymatgen_is_not_imported_for_atoms():
    code = (
        "import sys, mlipkit as mk; ends = mk.end_points(mk.load_dft());"
        "mk.compound(ends); mk.infer_oxidation_states(ends[3]);"
        "mk.frame_table(ends); assert 'pymatgen' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
