"""The house: data flows one way through ten rooms, and a room imports only from those left of it."""

import ast
import json
import re
from pathlib import Path

import pytest

import mlipkit

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "mlipkit"
UNDER = "files", "arguments"  # what all rooms stand on
ROOMS = [room.__name__.split(".")[1] for room in mlipkit._ROOMS]
MODULES = [
    str(path.relative_to(PACKAGE))
    for path in sorted(PACKAGE.rglob("*.py"))
    if path.parent != PACKAGE
]


def imported(path):
    """(module, name) of everything of the package that a file imports, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (
                (alias.name, None) for alias in node.names if alias.name.split(".")[0] == "mlipkit"
            )
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            assert node.level == 0, f"{path}: imports are absolute"
            if module.split(".")[0] == "mlipkit":
                yield from ((module, alias.name) for alias in node.names)


def test_the_rooms_are_those_of_the_house():
    assert ROOMS == [
        "frames",
        "charges",
        "orderings",
        "models",
        "pictures",
        "analysis",
        "statmech",
        "relaxation",
        "apps",
        "exercises",
    ]
    assert sorted(
        path.name for path in PACKAGE.iterdir() if path.is_dir() and (path / "__init__.py").exists()
    ) == sorted(ROOMS)
    assert sorted(path.name for path in PACKAGE.glob("*.py")) == [
        "__init__.py",
        "arguments.py",
        "files.py",
    ]


@pytest.mark.parametrize("module", MODULES)
def test_a_room_imports_only_from_those_left_of_it(module):
    room = ROOMS.index(Path(module).parts[0])
    for source, name in imported(PACKAGE / module):
        where = source.split(".")[1:] or [name]
        assert where[0] in UNDER or ROOMS.index(where[0]) <= room, f"{module} imports {source}"
        if where[0] not in (*UNDER, ROOMS[room]):
            assert not (name or "").startswith("_"), (
                f"{module} takes the private {name} out of another room"
            )


def test_files_imports_nothing_of_the_package():
    assert list(imported(PACKAGE / "files.py")) == []
    assert {module for module, _ in imported(PACKAGE / "arguments.py")} == {"mlipkit.files"}


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_says_what_it_is_for_and_hands_on_its_names(room):
    package = getattr(mlipkit, room)
    assert len(package.__doc__.split("\n\n")) == 2, "what it is for, and what may not be in it"
    assert package.__all__ and all(
        getattr(package, name) is getattr(mlipkit, name) for name in package.__all__
    )


@pytest.mark.parametrize(
    "notebook", sorted((ROOT / "notebooks").rglob("*.ipynb")), ids=lambda path: path.stem
)
def test_notebooks_use_public_names_only(notebook):
    cells = json.loads(notebook.read_text())["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    assert not re.findall(r"\bmk\.(?!plots\b)\w+\._\w+|from mlipkit|import mlipkit\.", code)
    used = set(re.findall(r"\bmk\.(\w+)", code))
    assert used and used <= set(mlipkit.__all__) | {"__version__"}


NAMES_A_COMPOUND = re.compile(r"\b(?:Na|Fe|Ga)(?![A-Za-z])|FePO4")


def _outside_of_constants(tree):
    """Texts of a module that stand neither in a docstring nor in a constant of the module."""
    constants = [n for n in tree.body if isinstance(n, (ast.Assign, ast.AnnAssign))]
    skipped = {id(part) for constant in constants for part in ast.walk(constant)}
    for node in ast.walk(tree):
        first = (
            node.body[0] if isinstance(getattr(node, "body", None), list) and node.body else None
        )
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
            skipped.add(id(first.value))
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and id(node) not in skipped
        ):
            yield node


@pytest.mark.parametrize("module", MODULES)
def test_no_compound_is_built_in(module):
    tree = ast.parse((PACKAGE / module).read_text())
    named = [n for n in _outside_of_constants(tree) if NAMES_A_COMPOUND.search(n.value)]
    assert not [(node.lineno, node.value) for node in named]


def test_the_room_of_exercises_knows_no_exercise():
    for path in (PACKAGE / "exercises").glob("*.py"):
        tree = ast.parse(path.read_text())
        known = re.compile(r"\b\d\d\.\d\b|\bx\d{3}_")  # 06.2, x050_na01_fe02
        said = [node.value for node in _outside_of_constants(tree)]
        assert not [text for text in said if known.search(text)]
