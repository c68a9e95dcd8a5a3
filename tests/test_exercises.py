"""Exercises that answer: every solution is right, every usual mistake is told what is off and not
the answer, and the notebooks are what their sources make of them.
"""

import importlib.util
import json
import re
import shutil
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import mlipkit as mk
from mlipkit.exercises.answers import KINDS
from mlipkit.exercises.checking import RIGHT, verdict
from mlipkit.exercises.sources import sources

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
EXERCISES = {e.id: e for source in sources().values() for e in source["exercises"]}
spec = importlib.util.spec_from_file_location("make_workshop", ROOT / "workshop" / "make.py")
make = importlib.util.module_from_spec(spec)
spec.loader.exec_module(make)


def each(*ids):
    return pytest.mark.parametrize(
        "exercise", [EXERCISES[i] for i in ids or EXERCISES], ids=ids or list(EXERCISES)
    )


def cells(path):
    return json.loads(path.read_text())["cells"]


def test_every_notebook_has_two_to_four_in_order():
    assert [source["notebook"] for source in sources().values()] == NOTEBOOKS
    for number, source in sources().items():
        n = len(source["exercises"])
        assert [e.id for e in source["exercises"]] == [f"{number}.{k}" for k in range(1, n + 1)]
        assert 2 <= n <= 4
        for e in source["exercises"]:
            assert e.check["kind"] in KINDS and e.goal.endswith(".") and e.hint and e.text
            assert len(e.wrong) >= 3


@each()
def test_the_solution_is_right(exercise, capsys):
    """The cells of the teacher's notebook: the import, and the solution by itself."""
    number = exercise.id[:2]
    path = ROOT / "notebooks" / "solutions" / f"{sources()[number]['notebook']}.ipynb"
    code = {c["id"]: "".join(c["source"]) for c in cells(path) if c["cell_type"] == "code"}
    space = {}
    exec(code[f"exercise-{number}-import"], space)
    exec(code[f"exercise-{exercise.id.replace('.', '-')}"], space)
    assert capsys.readouterr().out.splitlines()[-1] == f"{exercise.id}: {RIGHT}"


def told(value):
    """How a right answer could be written."""
    if isinstance(value, Mapping):
        return [form for part in value.values() for form in told(part)]
    if isinstance(value, set):
        return [", ".join(sorted(map(str, value))), str(value)]
    if isinstance(value, str) or value == round(value):
        return [str(value)]
    return [str(value), *(f"{value:.{digits}g}" for digits in (2, 3, 4))]


@each()
def test_a_wrong_answer_is_told_what_is_off_and_not_the_answer(exercise, capsys):
    said = []
    for wrong in exercise.wrong:
        answer = exercise.evaluate(f"wrong = {wrong['give']}", "wrong", expected=exercise.expected)
        mk.check(exercise.id, answer)
        said.append(capsys.readouterr().out.removeprefix(f"{exercise.id}: ").strip())
        assert said[-1] != RIGHT and re.search(wrong["says"], said[-1]), said[-1]
        # what the student has written, and the words to choose from, may be named
        new = said[-1].replace(repr(answer), "").replace(str(answer), "")
        listed = [*exercise.check.get("options", {}), *map(str, known(exercise))]
        for right in told(exercise.expected):
            named = re.search(rf"(?<![\w.]){re.escape(right)}(?![\w.]*\w)", new)
            all_named = bool(listed) and all(word in said[-1] for word in listed)
            assert not named or all_named, (right, said[-1])
    assert len(set(said)) >= min(3, len(said)), "of different kinds"


def known(exercise):
    code = exercise.check.get("known")
    return exercise.evaluate(code, "known") if code else []


@each()
def test_no_answer_is_no_mistake(exercise, capsys):
    start = exercise.evaluate(exercise.start, "answer")
    for answer in (start, None, ..., {"a": ...}, {...}):
        mk.check(exercise.id, answer)
        assert capsys.readouterr().out == f"{exercise.id}: not answered yet\n"


STRANGE = {
    "a text": "nothing like it",
    "NaN": float("nan"),
    "infinite": np.inf,
    "huge": 10**400,
    "complex": 1j,
    "a fraction": Fraction(1, 3),
    "True": True,
    "nothing": [],
    "an empty dict": {},
    "lists in a list": [[1], [2]],
    "an array": np.zeros((2, 3)),
    "a table": pd.DataFrame({"a": [1, 2], "b": [3, 4]}),
    "a series of texts": pd.Series(["a", "b"]),
    "a function": print,
    "a class": dict,
    "an object": object(),
    "bytes": b"x050",
    "an odd name": "x050_na99_fe7",
    "of another ion": "x050_na01_p02",
    "no x": "na01_fe02",
    "half a name": "x050_",
}


@each("00.1", "00.2", "01.2", "02.2", "06.2")
@pytest.mark.parametrize("name", STRANGE)
def test_what_is_no_answer_at_all_gets_a_sentence(exercise, name, capsys):
    assert verdict(exercise, STRANGE[name]) != RIGHT
    mk.check(exercise.id, STRANGE[name])
    assert len(capsys.readouterr().out) > len(exercise.id) + 10


def test_what_an_answer_may_look_like(ends):
    right = {i: EXERCISES[i].expected for i in ("00.1", "01.2", "02.2", "02.4", "06.2")}
    said = lambda i, answer: verdict(EXERCISES[i], answer)
    for answer in (np.float64(right["01.2"]), np.array([right["01.2"]]), np.array(right["01.2"])):
        assert said("01.2", answer) == RIGHT
    assert said("01.2", pd.Series([right["01.2"]])) == RIGHT
    assert said("00.1", pd.Series(right["00.1"])) == RIGHT
    assert said("00.1", pd.DataFrame({"kept": right["00.1"]})) == RIGHT
    for answer in (list(right["02.2"]), np.array(list(right["02.2"])), {3: "", 5: ""}.keys()):
        assert said("02.2", answer) == RIGHT
    assert said("06.2", f" {right['06.2'].upper()} ") == RIGHT


def test_orderings_count_up_to_symmetry(ends):
    """On each Na arrangement of one exercise: the names that symmetry joins, and a structure."""
    said = lambda answer: verdict(EXERCISES["01.1"], answer)
    name = EXERCISES["01.1"].expected
    (structure,) = (a for a in ends if a.info["ordering"] == name)
    assert said(name) == said(name.upper()) == said(structure) == RIGHT
    bare = structure.copy()
    del bare.arrays["oxi_states"]
    bare.calc = structure.calc  # its moments tell
    assert said(bare) == RIGHT
    right = set()
    for na in ("02", "13"):
        for fe in ("01", "02", "03", "12", "13", "23"):
            answer = f"x050_na{na}_fe{fe}"
            if said(answer) == RIGHT:
                right.add(answer)
    # of the class of four that has the name, these have Na on 0 and 2, or on 1 and 3
    assert name in right and len(right) == structure.info["degeneracy"]


@pytest.mark.parametrize(
    "answer, says",
    [
        ("x050_na01_fe0", "do not balance"),
        ("x025_na01_fe01", "disagree"),
        ("x050_na05_fe01", "there is no na05"),
        ("x050_p01_fe01", "there is no p01"),
        ("fe02", "begin with x"),
    ],
)
def test_a_name_of_no_ordering_is_told_why(answer, says):
    assert re.search(says, verdict(EXERCISES["01.1"], answer))


def test_a_name_that_is_asked_for_as_listed():
    exercise = EXERCISES["02.4"]
    assert "another name" in verdict(exercise, exercise.expected)


def test_numbers_that_stand_elsewhere_too(ends):
    """By hand, from the prose of the notebooks and docs/results.md."""
    expected = {i: e.expected for i, e in EXERCISES.items()}
    assert expected["00.1"] == {"charge-blind": 4, "charge-aware": 14}
    assert expected["00.2"] == "x050_na03_fe02"
    assert expected["01.2"] == pytest.approx(292, abs=0.5)
    assert (expected["02.1"], expected["02.2"]) == (5, {3, 5})
    assert expected["03.1"] == "x050_na01_fe03"
    assert expected["06.1"] == {"cpainn", "mace"}
    assert expected["07.3"] == pytest.approx(4 * 26, abs=4)
    assert expected["07.4"] == pytest.approx(0.0861733 * 300 * 0.45, rel=0.01)
    assert expected["09.2"] == pytest.approx({300: 17.9, 900: 53.8}, rel=0.01)


def test_an_id_that_is_none_is_told_those_there_are():
    with pytest.raises(mk.InputError, match=r"06\.9.*06_energy_errors has 06\.1, 06\.2, 06\.3"):
        mk.check("06.9", 1)
    for id in ("12.1", "nothing", 6.2, None, ...):
        with pytest.raises(mk.InputError, match=r"one of 00, 01, .*, 10"):
            mk.check(id, 1)


def test_the_generator_changes_nothing():
    for path, text in make.files().items():
        assert path.read_text() == text, f"{path}: run make workshop"
    made = {path.name for path in make.files() if path.parent.name == "solutions"}
    assert made == {path.name for path in (ROOT / "notebooks" / "solutions").glob("*.ipynb")}


def test_a_used_notebook_becomes_as_new(tmp_path):
    """Answers and outputs go, what a student or an author added stays."""
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        shutil.copy(path, tmp_path)
    path = next(tmp_path.glob("06_*"))
    notebook = json.loads(path.read_text())
    at = next(i for i, c in enumerate(notebook["cells"]) if c["id"] == "exercise-06-3")
    notebook["cells"][at]["source"] = ["answer = 16"]
    notebook["cells"][at]["outputs"] = [{"output_type": "stream", "name": "stdout", "text": ["x"]}]
    del notebook["cells"][at + 1]
    path.write_text(json.dumps(notebook))
    assert make.files(tmp_path)[path] == (ROOT / "notebooks" / path.name).read_text()
    notebook["cells"].insert(
        0, {"cell_type": "markdown", "id": "a", "metadata": {}, "source": ["mine"]}
    )
    path.write_text(json.dumps(notebook))
    again = json.loads(make.files(tmp_path)[path])["cells"]
    assert again[0]["source"] == ["mine"] and again[1:] == cells(ROOT / "notebooks" / path.name)


def test_fresh_overwrites_nothing(tmp_path):
    target = tmp_path / "mine.ipynb"
    make.fresh("06", target)
    assert cells(target) == cells(ROOT / "notebooks" / "06_energy_errors.ipynb")
    with pytest.raises(SystemExit, match="there already"):
        make.fresh("06", target)
    with pytest.raises(SystemExit, match="no notebook 12"):
        make.fresh("12", tmp_path / "other.ipynb")


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_the_student_finds_hint_check_and_the_way_on_but_no_answer(notebook):
    found = cells(ROOT / "notebooks" / f"{notebook}.ipynb")
    text = {c["id"]: "".join(c["source"]) for c in found}
    assert len(text) == len(found), "ids are unique"
    for e in sources()[notebook[:2]]["exercises"]:
        tag = e.id.replace(".", "-")
        assert "<details><summary>Hint</summary>" in text[f"exercise-{tag}-text"]
        assert text[f"exercise-{tag}"].endswith(f'mk.check("{e.id}", answer)')
        assert "..." in text[f"exercise-{tag}"]
        assert e.solution.strip() not in "\n".join(text.values())
    last = "".join(found[-1]["source"])
    (linked, *_) = re.findall(r"\]\(([^)]+\.ipynb)\)", last)
    assert last.startswith("Next: [") and (ROOT / "notebooks" / linked).exists()
    assert linked != f"{notebook}.ipynb"
    for c in cells(ROOT / "notebooks" / "solutions" / f"{notebook}.ipynb"):
        if c["cell_type"] == "code":
            assert not c["outputs"] and len(c["source"]) <= 12


WORKSHOP = (ROOT / "docs" / "workshop.md").read_text()


def test_the_plans_name_exercises_and_notebooks_that_there_are():
    assert set(re.findall(r"`(\d\d_\w+)`", WORKSHOP)) == set(NOTEBOOKS)
    assert set(re.findall(r"(?<![\d.])(?:0\d|10)\.\d(?![\d.])", WORKSHOP)) - {*EXERCISES} == set()
    for number, count in re.findall(r"\| `(\d\d)_\w+` \|[^|]+\|[^|]+\| (\d) \|", WORKSHOP):
        assert int(count) == len(sources()[number]["exercises"])


def test_each_word_of_the_glossary_has_its_picture():
    glossary = WORKSHOP.partition("## Glossary")[2]
    words = re.findall(r"^\*\*(.+?)\.\*\* [^\n]+\n\n!\[([^]]+)\]\((.+?)\)$", glossary, re.M)
    asked = ["Oxidation state", "Charge ordering", "Hull", "Polaron", "Electronic entropy"]
    assert [word for word, *_ in words] == asked
    shown = {path for _, _, path in words}
    there = {f"glossary/{path.name}" for path in (ROOT / "docs" / "glossary").iterdir()}
    assert shown == there and all(len(alt) > 40 for _, alt, _ in words)


def test_the_glossary_has_the_numbers_of_the_package(ends):
    moments = {2: [], 3: []}
    for atoms in ends:
        iron = atoms.symbols == "Fe"
        for state, moment in zip(
            atoms.arrays["oxi_states"][iron], atoms.get_magnetic_moments()[iron]
        ):
            moments[int(state)].append(moment)
    assert "{:.2f} µB on Fe<sup>2+</sup> and {:.2f} µB".format(*map(np.mean, moments.values())) in (
        WORKSHOP
    )
    half = 1e3 * mk.hull(ends).query("x == 0.5")["formation_energy"]
    assert f"from −{-half.min():.1f} to {half.max():.0f} meV" in WORKSHOP
    (atoms,) = (a for a in ends if a.info["ordering"] == "x050_na01_fe02")
    bonds = {}
    for i in np.flatnonzero(atoms.symbols == "Fe"):
        oxygen = np.flatnonzero(atoms.symbols == "O")
        nearest = np.sort(atoms.get_distances(i, oxygen, mic=True))[:6]
        bonds.setdefault(int(atoms.arrays["oxi_states"][i]), []).append(nearest.mean())
    assert f"{np.mean(bonds[2]):.2f} Å long on average around Fe<sup>2+</sup>" in WORKSHOP
    assert f"{np.mean(bonds[3]):.2f} Å around Fe<sup>3+</sup>" in WORKSHOP
    mixing = EXERCISES["09.2"].expected
    assert f"{mixing[300]:.1f} meV at 300 K and {mixing[900]:.1f} meV at 900 K" in WORKSHOP
    table = mk.entropy_table(ends, temperatures=(300,))["entropy_electronic"]
    most, found = EXERCISES["07.4"].expected, 3e5 * table.loc[(0.5, 300)]
    assert f"{most:.1f} meV at 300 K; with the energies of DFT it is {found:.1f}" in WORKSHOP
    kept = EXERCISES["00.1"].expected
    assert f"of {kept['charge-aware']} of 14 mixed orderings, the blind one of 4" in WORKSHOP
    assert kept["charge-blind"] == 4
