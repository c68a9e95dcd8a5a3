"""Anybody's model: an ASE calculator behind the protocol of a Potential, charge-blind."""

import hashlib
import re

import numpy as np
from ase.calculators.calculator import BaseCalculator, PropertyNotImplementedError

from mlipkit.arguments import shown
from mlipkit.files import InputError
from mlipkit.frames.taken import as_frames

SHARED = "predict", "score", "calculator"  # of a Potential: each function asks for its own


class CalculatorPotential:
    """An ASE calculator as a model, a charge-blind one unless it says otherwise.

    Parameters
    ----------
    calculator : ase.calculators.calculator.BaseCalculator
        It is used as it is: its device, its precision, its cutoffs. One that reads
        ``arrays["oxi_states"]`` says so, ``calculator.charge_aware = True``.
    """

    elements = None

    def __init__(self, calculator):
        self._calculator, self.proxies, self.states = calculator, {}, {}
        self.charge_aware = bool(getattr(calculator, "charge_aware", False))

    def states_of(self, compound):
        """As of a `Potential`; it knows no states."""
        return compound

    @property
    def architecture(self):
        return type(self._calculator).__name__

    def calculator(self):
        """The calculator itself; what it remembers of a frame does not count for the next, since
        ASE looks at atoms and cell, and not at oxidation states and charge.
        """
        if hasattr(self._calculator, "reset"):
            self._calculator.reset()
        return self._calculator

    def predict(self, frames, batch_size=None):
        """As `Potential.predict`, one frame after the other; stress and moments are None where the
        calculator gives none.
        """
        from mlipkit.models.potential import check_cell

        frames = as_frames(frames, "predict takes", single=False)
        for atoms in frames:
            check_cell(atoms)
        return [self._predicted(atoms) for atoms in frames]

    def _predicted(self, atoms):
        from mlipkit.models.potential import Prediction

        mine = atoms.copy()
        mine.calc = self.calculator()
        energy = float(asked(mine, mine.get_potential_energy))
        forces = np.array(asked(mine, mine.get_forces), float)
        if not (np.isfinite(energy) and np.isfinite(forces).all()):
            raise InputError(
                f"{atoms.get_chemical_formula()}: {self.architecture} finds no finite energy; do "
                "two atoms sit in one place?"
            )
        found = {"stress": mine.get_stress, "magmoms": mine.get_magnetic_moments}
        for name, get in found.items():
            known = name in self._calculator.implemented_properties
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
        """As `Potential.score`; to a charge-blind calculator all rows are equal.

        Raises
        ------
        InputError
            When a calculator gives two charge orderings two energies and does not say that it reads
            the charges.
        """
        states = np.atleast_2d(states)
        if not len(states):
            return np.empty(0)
        rows = states if self.charge_aware else states[sorted({0, len(states) - 1})]
        frames = [atoms.copy() for _ in rows]
        for frame, row in zip(frames, rows):
            frame.set_array("oxi_states", row)
        energies = np.array([p.energy for p in self.predict(frames)])
        if self.charge_aware:
            return energies
        if np.ptp(energies) > 1e-4:
            raise InputError(
                f"{atoms.get_chemical_formula()}: {self.architecture} gives two charge orderings "
                f"of one geometry energies {np.ptp(energies):.3f} eV apart, and does not say that "
                "it reads arrays['oxi_states']: set charge_aware = True on the calculator"
            )
        return np.full(len(states), energies[0])

    def fingerprint(self):
        """A hash of what the calculator is: its class, its parameters and the weights of its
        networks.
        """
        digest = hashlib.sha256()
        for part in _parts(self._calculator):
            digest.update(part)
        return digest.hexdigest()


def _parts(thing, depth=4):
    """What a calculator is, in bytes: parameters and weights, also of calculators inside it. What
    it has computed last is no part of it.
    """
    if isinstance(thing, BaseCalculator):
        yield f"{type(thing).__module__}.{type(thing).__name__}".encode()
        yield from _bytes_of(getattr(thing, "parameters", {}))
    for name, tensor in getattr(thing, "state_dict", dict)().items():
        if hasattr(tensor, "detach"):
            yield name.encode() + tensor.detach().cpu().numpy().tobytes()
    inside = getattr(thing, "__dict__", {})
    inside = thing if isinstance(thing, (list, tuple)) else [inside[k] for k in sorted(inside)]
    for value in inside if depth and not hasattr(thing, "state_dict") else ():
        if isinstance(value, (list, tuple)) or hasattr(value, "__dict__"):
            yield from _parts(value, depth - 1)


def _bytes_of(value):
    if isinstance(value, dict):
        for key in sorted(value, key=str):
            yield str(key).encode()
            yield from _bytes_of(value[key])
    elif isinstance(value, np.ndarray):
        yield value.tobytes()
    else:
        yield re.sub(r" at 0x[0-9a-f]+", "", repr(value)).encode()


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
    if isinstance(model, BaseCalculator):
        return _own(model) or CalculatorPotential(model)
    if not isinstance(model, type) and any(hasattr(model, name) for name in SHARED):
        return model
    name = f"load_model({model!r})" if isinstance(model, str) else "load_model(...)"
    raise InputError(
        f"{where} takes a model, such as mk.{name} or an ASE calculator, not {shown(model)}"
    )


def _own(calculator):
    """The potential behind a calculator of this package."""
    potential = getattr(calculator, "potential", None)
    return potential if hasattr(potential, "predict") else None


def as_potentials(models, where):
    """``{name: model}`` with each as a Potential."""
    if not isinstance(models, dict) or not models:
        raise InputError(
            f'{where} takes models by name, such as {{"mine": model}}, not {shown(models)}'
        )
    for name in models:
        if not isinstance(name, str) or not name:
            raise InputError(f"{where}: the name of a model is a text, not {name!r}")
    return {name: as_potential(model, where) for name, model in models.items()}
