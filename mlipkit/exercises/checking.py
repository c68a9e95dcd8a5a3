"""`check`: is an answer right, and if not, what is off."""

from mlipkit.exercises.answers import KINDS, unanswered
from mlipkit.exercises.sources import find

RIGHT = "right"


def check(id, answer):
    """Print whether an answer to an exercise is right; if not, what is off, but not the answer.

    Works offline: the right answer is computed from the embedded data. Numbers have tolerances,
    names of orderings count up to symmetry, and an answer of ``...`` or None is none yet.

    Parameters
    ----------
    id : str
        Such as ``"06.2"``, as in the notebook.
    answer
        What the exercise asks for: a number, a name, a set, a dict.

    Raises
    ------
    InputError
        When there is no such exercise; lists those of the notebook.
    """
    print(f"{id}: {verdict(find(id), answer)}")


def verdict(exercise, answer):
    """What is said of an answer: `RIGHT`, or a sentence."""
    if unanswered(answer):
        return "not answered yet"
    return KINDS[exercise.check["kind"]](exercise, answer) or RIGHT
