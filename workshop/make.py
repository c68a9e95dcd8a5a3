"""Write the exercises into the notebooks, and their solutions, from `workshop/exercises`.

    make.py                       the exercise cells of all notebooks, and notebooks/solutions
    make.py fresh 06 mine.ipynb   a student's copy of a notebook as new: no answers, no outputs

Cells that it writes carry ``metadata["exercise"]``; it replaces these and leaves all others alone.
"""

import json
import sys
from pathlib import Path

from mlipkit.exercises.sources import sources
from mlipkit.files import write_atomically

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
HEAD = """## Exercises

Write your answer in place of `...` and run the cell: it says *right*, or what is off. \
Solutions, for afterwards: [solutions/{name}](solutions/{name}.ipynb)."""
SOLUTIONS = """# Solutions: {name}

For teachers, and for afterwards. Each cell runs by itself. The notebook: \
[{name}](../{name}.ipynb)."""
KERNEL = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def cell(kind, tag, source):
    """A cell of ours; its id is that of the exercise, so that it stays the same."""
    made = {
        "cell_type": kind,
        "id": f"exercise-{tag.replace('.', '-')}",
        "metadata": {"exercise": tag},
        "source": source.strip().splitlines(keepends=True),
    }
    return made | ({"execution_count": None, "outputs": []} if kind == "code" else {})


def question(exercise, level="###"):
    """Text of an exercise, with the hint folded."""
    number = exercise.id.partition(".")[2]
    hint = f"<details><summary>Hint</summary>\n\n{exercise.hint.strip()}\n\n</details>"
    title = f"{level} Exercise {number}\n\n*{exercise.goal.strip()}*"
    return f"{title}\n\n{exercise.text.strip()}\n\n{hint}"


def with_check(code, exercise):
    return f'{code.strip()}\nmk.check("{exercise.id}", answer)'


def student_cells(source):
    """The exercises of a notebook, without answers."""
    number = source["notebook"][:2]
    yield cell("markdown", number, HEAD.format(name=source["notebook"]))
    for e in source["exercises"]:
        yield cell("markdown", f"{e.id}-text", question(e))
        yield cell("code", e.id, with_check(e.start, e))


def solution_cells(source):
    """The same exercises, solved."""
    number = source["notebook"][:2]
    yield cell("markdown", number, SOLUTIONS.format(name=source["notebook"]))
    yield cell("code", f"{number}-import", "import mlipkit as mk")
    for e in source["exercises"]:
        yield cell("markdown", f"{e.id}-text", question(e, "##"))
        yield cell("code", e.id, with_check(e.solution, e))


def with_exercises(notebook, source):
    """A notebook with its exercises where they stood, at its end where there were none, and the
    way to the next notebook as the last cell.
    """
    ours = [i for i, c in enumerate(notebook["cells"]) if "exercise" in c["metadata"]]
    theirs = [c for c in notebook["cells"] if "exercise" not in c["metadata"]]
    at = ours[0] if ours and ours[0] < len(theirs) else len(theirs)
    following = cell("markdown", f"{source['notebook'][:2]}-next", f"Next: {source['next']}")
    cells = [*theirs[:at], *student_cells(source), *theirs[at:], following]
    return notebook | {"cells": cells}


def bare(notebook):
    """A notebook without what a run has left in it."""
    for c in notebook["cells"]:
        if c["cell_type"] == "code":
            c["outputs"], c["execution_count"] = [], None
    return notebook


def written(notebook):
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def files(folder=NOTEBOOKS):
    """What the exercises' sources make of the notebooks of a folder, ``{path: text}``."""
    made = {}
    for source in sources().values():
        path = folder / f"{source['notebook']}.ipynb"
        notebook = json.loads(path.read_text(encoding="utf-8"))
        made[path] = written(bare(with_exercises(notebook, source)))
        solved = {"cells": [*solution_cells(source)], "metadata": KERNEL}
        solved |= {"nbformat": 4, "nbformat_minor": 5}
        made[folder / "solutions" / path.name] = written(solved)
    return made


def fresh(number, target):
    """A notebook as new, beside the student's own, which it does not touch."""
    target = Path(target)
    if number not in sources():
        sys.exit(f"there is no notebook {number}; there are {', '.join(sources())}")
    if target.exists():
        sys.exit(f"{target} is there already; give a new name")
    path = NOTEBOOKS / f"{sources()[number]['notebook']}.ipynb"
    write_atomically(target, files()[path])


if __name__ == "__main__":
    match sys.argv[1:]:
        case []:
            (NOTEBOOKS / "solutions").mkdir(exist_ok=True)
            for path, text in files().items():
                write_atomically(path, text)
        case ["fresh", number, target]:
            fresh(number, target)
        case _:
            sys.exit(__doc__)
