"""The exercises' sources: one TOML file per notebook, from which `make workshop` writes the cells
too, so that question, check and solution cannot drift apart.
"""

import functools
import importlib
import tomllib
from dataclasses import dataclass, field

from mlipkit.files import MEND, InputError, data_folder


@dataclass(frozen=True, eq=False)
class Exercise:
    """One exercise; code is Python in text.

    Attributes
    ----------
    id : str
        Such as ``"06.2"``: number of the notebook and of the exercise.
    goal, text, hint : str
        Markdown.
    start : str
        What the student finds in the code cell.
    solution : str
        Runs by itself and leaves the answer in ``answer``.
    check : dict
        ``kind`` (see `mlipkit.exercises.answers`), ``expected``: code that leaves the right answer
        in ``expected``, and what that kind takes.
    crystal : str
        Code that leaves in ``host`` the crystal in whose site numbers orderings are named.
    wrong : list of dict
        ``give``: an expression for a wrong answer, in which ``expected`` is known; ``says``: a
        word of what it is told. For the tests.
    """

    id: str
    goal: str
    text: str
    hint: str
    start: str
    solution: str
    check: dict = field(repr=False)
    wrong: list = field(repr=False)
    crystal: str = ""

    def evaluate(self, code, name, **known):
        """Run code of the source; what it leaves in `name`."""
        import numpy as np
        import pandas as pd

        mk = importlib.import_module("mlipkit")  # all its public names, as in a notebook
        space = {"mk": mk, "np": np, "pd": pd, **known}
        exec(compile(code, f"exercise {self.id}", "exec"), space)  # as much ours as this module
        return space[name]

    @functools.cached_property
    def expected(self):
        """The right answer, computed from the embedded data when it is first asked for."""
        return self.evaluate(self.check["expected"], "expected")

    @functools.cached_property
    def host(self):
        """The crystal in whose site numbers orderings are named."""
        return self.evaluate(self.crystal, "host")


def folder():
    """Where the sources lie: inside an installed package, or in a checkout."""
    inside = data_folder() / "exercises"
    return inside if inside.is_dir() else data_folder().parent / "workshop" / "exercises"


@functools.cache
def sources():
    """The sources of all notebooks, ``{"06": {"notebook": ..., "next": ..., "exercises": [...]}}``.

    Raises
    ------
    InputError
        When they are missing or damaged.
    """
    found = {}
    for path in sorted(folder().glob("*.toml")):
        try:
            source = tomllib.loads(path.read_text())
            crystal = source.get("host", "")
            exercises = [Exercise(**given, crystal=crystal) for given in source["exercise"]]
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path} is damaged ({error}): {MEND}") from None
        found[path.stem[:2]] = {
            "notebook": path.stem,
            "next": source["next"],
            "exercises": exercises,
        }
    if not found:
        raise InputError(f"there are no exercises in {folder()}: {MEND}")
    return found


def find(id):
    """The exercise with an id; `InputError` with the ids that there are."""
    notebooks, id = sources(), str(id)
    notebook = id.partition(".")[0]
    if notebook not in notebooks:
        raise InputError(
            f"check: there is no exercise {id!r}; the first part is that of the notebook, one of "
            f"{', '.join(notebooks)}, as in '{next(iter(notebooks))}.1'"
        )
    exercises = {e.id: e for e in notebooks[notebook]["exercises"]}
    if id not in exercises:
        raise InputError(
            f"check: there is no exercise {id!r}; {notebooks[notebook]['notebook']} has "
            f"{', '.join(exercises)}"
        )
    return exercises[id]
