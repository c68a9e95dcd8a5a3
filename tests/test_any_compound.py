"""The explorer of compounds that it never heard of, with and without models."""

import warnings

import numpy as np
import pytest
import traitlets
from ase.calculators.lj import LennardJones
from ase.data import atomic_numbers
from compounds import frames_of, from_disk, layered, magnetite, olivine, spinel
from lab import own_memory

import mlipkit as mk

CASES = {
    "LixMnPO4": (olivine, mk.Compound("Li", {"Mn": (2, 3)}), -1, 5),
    "LixMn2O4": (spinel, mk.Compound("Li", {"Mn": (3, 4)}), 1, 3),
    "Fe3O4": (magnetite, mk.Compound(None, {"Fe": (2, 3)}), -1, 1),
    "LixCoMnNiO6": (layered, mk.Compound("Li", {"Ni": (2, 3, 4), "Mn": (4,), "Co": (3,)}), 1, 2),
}


@pytest.fixture(scope="module", params=CASES)
def case(request, tmp_path_factory):
    make, compound, sign, n_compositions = CASES[request.param]
    frames, _ = frames_of(make(), compound, sign=sign)
    path = tmp_path_factory.mktemp(request.param) / "runs.extxyz"
    return request.param, mk.name_orderings(from_disk(frames, path)), n_compositions


def test_dft_alone_is_shown(case):
    name, frames, n_compositions = case
    app = mk.explore(frames)
    s = app.state
    assert s.data.compound.formula == name and len(s.compositions) >= n_compositions
    assert s.geometries == ["dft"] and s.series == "" and s.families == {}
    lowest = {}
    for a in frames:
        key = a.info["ordering"]
        lowest[key] = min(lowest.get(key, np.inf), a.get_potential_energy())
    units = s.data.compound.units(frames[0])
    for ordering in s.names:
        s.ordering = ordering
        rows = s.summary(s.atoms)
        # states of the files' moments; the numbers in the table are those of the name
        assert all(asked == given == told for *_, asked, given, told in rows)
        assert ordering in app.table.value and "&#10007;" not in app.table.value
        levels = s.levels("DFT")
        here = {n: lowest[n] for n in levels}
        assert levels == pytest.approx(
            {n: 1e3 * (e - min(here.values())) / units for n, e in here.items()}, abs=1e-6
        )
        high = app.figure.layout[f"xaxis{s_axis(app)}"].range
        assert high[0] < high[1]
    if len(s.compositions) > 1:
        table = mk.hull(s.ends)
        assert s.hulls["DFT"]["formation_energy"].tolist() == pytest.approx(
            table["formation_energy"].tolist()
        )
        assert "hull" in app.axes
    else:
        assert "hull" not in app.axes


def s_axis(app):
    return app.axes["ladder"]


def test_sites_are_numbered_as_the_names_count_them(case):
    """Of every frame, atoms in any order: the ions that a name lists are those with its numbers."""
    _, frames, _ = case
    state = mk.explore(frames).state
    for name in state.names:
        state.ordering = name
        atoms, numbers = state.ends[state.index], state.numbers
        states = atoms.arrays["oxi_states"]
        for part in name.split("_")[1:]:
            element = next(e for e in (part[:2], part[:1]) if e.capitalize() in atomic_numbers)
            here = np.flatnonzero(atoms.symbols == element.capitalize())
            assert sorted(numbers[here]) == sorted(set(numbers[here])), "a number each"
            sites = part[len(element) :]
            state_of_part, _, listed = sites.rpartition(".")
            wanted = [] if listed == "-" else sorted(int(c, 36) for c in listed)
            if element.capitalize() == state.data.compound.mobile:
                assert sorted(numbers[here]) == wanted
            else:
                high = int(state_of_part or 3)
                assert sorted(numbers[i] for i in here if states[i] == high) == wanted


def test_states_cycle_and_swaps_stay_balanced(case):
    _, frames, _ = case
    app = mk.explore(frames)
    s = app.state
    if not s.mixed.any():
        pytest.skip("one ion of each metal in a cell: nothing to swap")
    s.ordering = next(n for n, mixed in zip(s.names, s.mixed) if mixed)
    atoms = s.ends[s.index]
    metal = next(
        i
        for i in range(len(atoms))
        if atoms.symbols[i] in s.data.compound.redox and len(s.states_of(atoms.symbols[i])) > 1
    )
    allowed, seen = s.states_of(atoms.symbols[metal]), []
    for _ in allowed:
        seen.append(int(s.given[metal]))
        s.flip(metal)
        if s.imbalance:
            assert f"sum to {s.imbalance:+d}" in app.lesson.value
    assert sorted(seen) == allowed and s.flips == ()
    other = next(
        i
        for i in range(len(atoms))
        if atoms.symbols[i] == atoms.symbols[metal] and s.given[i] != s.given[metal]
    )
    s.swap(metal, other)
    assert s.imbalance == 0 and dict(s.flips) == {
        metal: int(s.asked[other]),
        other: int(s.asked[metal]),
    }
    assert "Give models=" in app.lesson.value


def test_anybodys_models_on_two_geometries(case):
    """A calculator without moments, under names as people write them."""
    _, frames, _ = case
    calculators = {"LJ, mine": LennardJones(rc=4.0), "MACE-MP": LennardJones(sigma=1.1, rc=4.0)}
    app = mk.explore(frames, models=calculators)
    s = app.state
    assert s.families == {"": list(calculators)} and s.geometries == ["dft", "host"]
    assert app.architecture.layout.display == "none"
    for model in calculators:
        app.model.value = model
        shown = {t.name for t in app.figure.data if t.visible is not False and t.name}
        assert shown - {"DFT"} == {model}
        assert ("no moments" in app.story.value) == bool(s.mixed.any())
        atoms = s.atoms.copy()
        atoms.calc = calculators[model]
        energy = s.hulls[model]["energy_per_fu"].iloc[s.index] * s.data.compound.units(atoms)
        assert energy == pytest.approx(atoms.get_potential_energy(), abs=1e-6)
    app.geometry.value = "host"
    # a charge-blind model has one level for each arrangement of ions there
    assert np.ptp(list(s.levels("MACE-MP").values())) == pytest.approx(0, abs=1e-3)
    with pytest.raises(traitlets.TraitError, match="relaxations= or relax=True"):
        s.geometry = "relaxed"
    assert "clicked" in app.page.trait_names()


@pytest.mark.alone
def test_two_hundred_toggles_of_own_frames_leave_nothing_behind():
    frames, _ = frames_of(layered(), CASES["LixCoMnNiO6"][1])
    app = mk.explore(frames, models={"a": LennardJones(rc=4.0), "b": LennardJones(rc=4.1)})
    s = app.state
    widgets = [w for w in vars(app).values() if hasattr(w, "_trait_notifiers")]

    def toggle(k):
        s.model = "ab"[k % 2]
        s.geometry = ("host", "dft")[k // 2 % 2]
        s.ordering = s.names[k % len(s.names)]
        app.octahedra.value, app.names.value = bool(k % 2), bool(k % 3)
        app.colour.value = ("state", "moment", "error")[k % 3]
        app.page.clicked = [k % len(s.structure), k]

    def count():
        view = app.structure
        watched = [
            sum(len(v) for per_trait in w._trait_notifiers.values() for v in per_trait.values())
            for w in widgets
        ]
        sent = len(view._ngl_msg_archive), len(view._remote_call_thread.q)
        return [*watched, len(view._ngl_component_ids), *sent, len(app.figure.data)]

    for k in range(24):
        toggle(k)
    before, megabytes = count(), own_memory()
    for k in range(24, 224):
        toggle(k)
    toggle(23)
    assert count() == before
    assert own_memory() - megabytes < 8


def test_a_study_from_a_folder_of_outcars_to_the_explorer(tmp_path):
    from make_vasp import write_outcar

    compound = mk.Compound("Li", {"Mn": (2, 3)})
    frames, asked = frames_of(olivine(), compound, sign=-1)
    for k, atoms in enumerate(frames):
        (tmp_path / "runs" / f"{k:02d}").mkdir(parents=True)
        write_outcar(tmp_path / "runs" / f"{k:02d}" / "OUTCAR", [atoms])
    small = {"features": 8, "interactions": 1}
    options = {"architecture": "cpainn", "epochs": 2, "model_args": small, "progress": False}
    app = mk.study(tmp_path / "runs", tmp_path / "study", **options)
    s = app.state
    assert s.geometries == ["dft", "host", "relaxed"] and s.geometry == "relaxed"
    assert s.data.models == ["cpainn_blind", "cpainn_aware"] == list(app.models)
    assert app.models["cpainn_aware"].charge_aware and not app.models["cpainn_blind"].charge_aware
    assert {"train", "validation", "test"} == {a.info["split"] for a in app.frames}
    assert len(s.names) == len({o.label for o in asked}) and s.data.compound.formula == "LixMnPO4"
    for model in s.data.models:
        _, s.model = model.split("_")
        assert s.relaxation.atoms.positions == pytest.approx(s.structure.positions)
        energy = s.tables["relaxed"][model]["energy"].iloc[s.index]
        assert energy == pytest.approx(s.relaxation.energies[-1])
    # what it trained can be taken out again
    weights = tmp_path / "study" / "cpainn_aware.safetensors"
    mine, theirs = mk.import_checkpoint(weights), app.models["cpainn_aware"]
    energies = [m.predict(s.ends[:1])[0].energy for m in (mine, theirs)]
    assert energies[0] == pytest.approx(energies[1], abs=1e-6) and mine.charge_aware
    # once more: nothing is trained or relaxed anew
    content = {p: p.read_bytes() for p in (tmp_path / "study").rglob("*") if p.is_file()}
    relaxed = {p: p.stat().st_mtime_ns for p in content if p.suffix in (".extxyz", ".ckpt")}
    again = mk.study(tmp_path / "runs", tmp_path / "study", **options)
    for model in s.data.models:
        assert again.state.tables["relaxed"][model].equals(s.tables["relaxed"][model])
    assert len(relaxed) == 2 + 2 * len(s.names)
    assert relaxed == {p: p.stat().st_mtime_ns for p in relaxed}
    assert content == {p: p.read_bytes() for p in content}


def test_a_study_of_too_little_says_so(tmp_path):
    frames, _ = frames_of(olivine(), mk.Compound("Li", {"Mn": (2, 3)}), n_mobile=4)
    with pytest.raises(mk.InputError, match="1 charge orderings leave none for train"):
        mk.study(frames, tmp_path, progress=False)
    few, _ = frames_of(olivine(), mk.Compound("Li", {"Mn": (2, 3)}))
    # the split takes one of three, and Mn3+ with it: before anything is trained
    with pytest.raises(mk.InputError, match=r"training split \(.*\) none holds Mn3\+; frames of"):
        mk.study([few[0], few[5], few[-1]], tmp_path / "few", progress=False)
    assert not (tmp_path / "few").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(mk.InputError, match="is a file; give a folder"):
        mk.study(frames, tmp_path / "file", progress=False)


def test_frames_of_two_compounds_are_told_apart(frames, tmp_path):
    other, _ = frames_of(olivine(), mk.Compound("Li", {"Mn": (2, 3)}))
    both = [*mk.end_points(frames), *other]
    with pytest.raises(mk.InputError, match="of 2 compounds: "):
        mk.explore(both)
    with pytest.raises(mk.InputError, match="of 2 compounds: "):
        mk.study(both, tmp_path / "study", progress=False)
    assert not (tmp_path / "study").exists()  # before anything is trained


@pytest.mark.parametrize("models", ["chgnet", LennardJones(), ["chgnet"], {"x": "chgnet"}, {}])
def test_explore_says_what_models_are(frames, models):
    with pytest.raises(mk.InputError, match="^explore takes"):
        mk.explore(mk.end_points(frames), models)


def test_a_shared_hole_is_said_once_for_all_frames():
    frames, _ = frames_of(olivine(), CASES["LixMnPO4"][1], n_mobile=3, copies=3)
    for k in (1, 4):
        moments = frames[k].get_magnetic_moments()
        shared = np.flatnonzero(frames[k].symbols == "Mn")
        moments[shared[np.argsort(np.abs(moments[shared]))[:2]]] = 4.28
        frames[k].calc.results["magmoms"] = moments
    with pytest.warns(UserWarning, match=rf"2 of {len(frames)} frames .* frames 1, 4: print"):
        mk.name_orderings(frames, progress=False)


def test_a_kept_ordering_keeps_its_name_though_moments_are_unclear():
    state = mk.ExplorerState(architecture="mace", model="aware", geometry="relaxed")
    table = state.tables["relaxed"]["mace_aware"]
    table["clear"] = False
    found = state.findings()
    assert found["kept"] == found["mixed"] and found["clear"] == 0
    assert found["lowest"] == found["dft_lowest"]
    state.model = "blind"
    state.tables["relaxed"]["mace_blind"]["clear"] = False
    assert all("unclear" in name for name in state.findings()["lowest"])


def test_half_empty_frames_say_that_their_formula_unit_is_a_guess():
    compound = mk.Compound("Li", {"Mn": (3, 4)})
    few, _ = frames_of(spinel(), compound, n_mobile=1)
    with pytest.warns(UserWarning, match='no frame of LixMn.* has more than x = .*framework="Mn2'):
        mk.name_orderings(few, progress=False)
    for atoms in few:
        atoms.info.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        known = mk.Compound("Li", {"Mn": (3, 4)}, framework="Mn2O4")
        mk.name_orderings(few, compound=known, progress=False)
        full, _ = frames_of(spinel(), compound)
        mk.name_orderings(full, progress=False)
    assert {a.info["x"] for a in few} == {0.5}
