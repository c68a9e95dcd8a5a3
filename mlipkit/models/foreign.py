"""Anybody's model: an ASE calculator behind the protocol of a Potential, charge-blind."""

import hashlib

import numpy as np
from ase.calculators.calculator import BaseCalculator, PropertyNotImplementedError

from mlipkit.files import InputError

OPTIONAL = "stress", "magmoms"
SHARED = "predict", "score", "calculator", "charge_aware"


class CalculatorPotential:
    """An ASE calculator as a charge-blind model.

    Parameters
    ----------
    calculator : ase.calculators.calculator.BaseCalculator
        It is used as it is: its device, its precision, its cutoffs.
    """

    charge_aware, elements = False, None

    def __init__(self, calculator):
        self._calculator, self.proxies, self.states = calculator, {}, {}

    @property
    def architecture(self):
        return type(self._calculator).__name__

    def calculator(self):
        """The calculator itself."""
        return self._calculator

    def predict(self, frames, batch_size=None):
        """As `Potential.predict`, one frame after the other; stress and moments are None where the
        calculator gives none.
        """
        from mlipkit.models.potential import as_list, check_cell

        frames = as_list(frames, "predict")
        for atoms in frames:
            check_cell(atoms)
        return [self._predicted(atoms) for atoms in frames]

    def _predicted(self, atoms):
        from mlipkit.models.potential import Prediction

        mine = atoms.copy()
        mine.calc = self._calculator
        energy = float(asked(mine, mine.get_potential_energy))
        forces = np.array(asked(mine, mine.get_forces), float)
        if not (np.isfinite(energy) and np.isfinite(forces).all()):
            raise InputError(
                f"{atoms.get_chemical_formula()}: {self.architecture} finds no finite energy; do "
                "two atoms sit in one place?"
            )
        found = {"stress": mine.get_stress, "magmoms": mine.get_magnetic_moments}
        for name, get in found.items():
            known = name in getattr(self._calculator, "implemented_properties", OPTIONAL)
            found[name] = self._optional(get) if known else None
        if found["magmoms"] is not None:
            found["magmoms"] = np.abs(found["magmoms"])
        return Prediction(energy, forces, found["stress"], found["magmoms"])

    def _optional(self, get):
        try:
            return np.array(get(), float)
        except (PropertyNotImplementedError, NotImplementedError):
            return None

    def score(self, atoms, states, batch_size=None, progress=False):
        """As `Potential.score`: a calculator does not see the states, so all rows are equal."""
        states = np.atleast_2d(states)
        if not len(states):
            return np.empty(0)
        return np.full(len(states), self.predict([atoms])[0].energy)

    def fingerprint(self):
        """A hash of what the calculator is: its class, its parameters and the weights of its
        networks.
        """
        calculator, digest = self._calculator, hashlib.sha256()
        digest.update(f"{type(calculator).__module__}.{type(calculator).__name__}".encode())
        digest.update(repr(sorted(getattr(calculator, "parameters", {}).items())).encode())
        held = [value for _, value in sorted(vars(calculator).items(), key=lambda pair: pair[0])]
        for value in (each for v in held for each in (v if isinstance(v, list) else [v])):
            for name, tensor in getattr(value, "state_dict", dict)().items():
                if hasattr(tensor, "detach"):
                    digest.update(name.encode() + tensor.detach().cpu().numpy().tobytes())
        return digest.hexdigest()


def asked(atoms, get):
    """What a calculator answers; whatever it raises becomes a sentence."""
    try:
        return get()
    except InputError:
        raise
    except Exception as reason:  # an element, a file, a device: a calculator may raise anything
        says, name = str(reason) or type(reason).__name__, type(atoms.calc).__name__
        raise InputError(
            f"{atoms.get_chemical_formula()}: {name} cannot describe it: {says}"
        ) from reason


def as_potential(model, where):
    """A model as a Potential: one of this package as it is, an ASE calculator wrapped.

    Raises
    ------
    InputError
        When it is neither.
    """
    foreign = hasattr(model, "get_potential_energy") and not hasattr(model, "positions")
    if not isinstance(model, type) and (isinstance(model, BaseCalculator) or foreign):
        return _own(model) or CalculatorPotential(model)
    if not isinstance(model, type) and all(hasattr(model, name) for name in SHARED):
        return model
    name = f"load_model({model!r})" if isinstance(model, str) else "load_model(...)"
    raise InputError(
        f"{where} takes a model, such as mk.{name} or an ASE calculator, not {_what(model)}"
    )


def _own(calculator):
    """The potential behind a calculator of this package."""
    potential = getattr(calculator, "potential", None)
    return potential if all(hasattr(potential, name) for name in SHARED) else None


def as_potentials(models, where):
    """``{name: model}`` with each as a Potential."""
    if not isinstance(models, dict) or not models:
        raise InputError(
            f'{where} takes models by name, such as {{"mine": model}}, not {_what(models)}'
        )
    for name in models:
        if not isinstance(name, str) or not name:
            raise InputError(f"{where}: the name of a model is a text, not {name!r}")
    return {name: as_potential(model, where) for name, model in models.items()}


def _what(value):
    text = repr(value)
    if isinstance(value, type):
        return f"the class {value.__name__}"
    return text if len(text) < 60 else f"a {type(value).__name__}"
