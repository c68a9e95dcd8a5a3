"""Relax a structure with a potential, and see at every step which site holds which charge."""

import contextlib
import itertools
import time
from dataclasses import dataclass

import numpy as np
from ase.calculators.singlepoint import SinglePointCalculator

from mlipkit import arguments
from mlipkit.charges.oxidation import infer_oxidation_states
from mlipkit.charges.references import redox_sites
from mlipkit.files import InputError
from mlipkit.frames.labels import label
from mlipkit.frames.taken import as_frame
from mlipkit.models.foreign import CalculatorPotential, as_potential, asked

CLOSE = 0.5  # Å: no two atoms of a solid or a molecule are nearer (H2: 0.74)
# Å: an atom without a neighbour within it interacts with nothing in any of the models
ALONE = 6.0
# eV/Å: no crystal that a model can describe has such a force; it has left what it was trained on
KEPT = "energy", "forces", "stress", "magmoms"
EXPLODED = 1e3


@dataclass(frozen=True, eq=False)
class Relaxation:
    """What `relax` found.

    Attributes
    ----------
    frames : list of ase.Atoms
        One per step, the start first, with energy, forces, stress and moments of the model (a
        `SinglePointCalculator`) and ``info["step"]``. ``arrays["oxi_states"]`` are those *given* to
        the model, where there were any.
    states : numpy.ndarray of int, shape (n_steps, n_atoms), or None
        Oxidation states *inferred from the predicted moments* at every step; None when the model
        predicts no moments.
    reason : str
        Why it stopped: ``"converged"``, ``"step limit"``, ``"time limit"``, ``"interrupted"``, or
        what went wrong.
    seconds : float
    """

    frames: list
    states: np.ndarray | None
    reason: str
    seconds: float

    @property
    def converged(self):
        return self.reason == "converged"

    @property
    def atoms(self):
        """The last frame."""
        return self.frames[-1]

    @property
    def inferred(self):
        """The last frame with the oxidation states inferred from its moments in
        ``arrays["oxi_states"]``.
        """
        atoms = self.atoms.copy()
        atoms.set_array("oxi_states", self.states[-1])
        return atoms

    @property
    def energies(self):
        """Energy of every step, eV per cell, shape (n_steps,)."""
        return np.array([label(a, "energy") for a in self.frames], float)

    @property
    def max_forces(self):
        """Largest force of every step, eV/Å, shape (n_steps,)."""
        return np.array(
            [
                np.nan
                if label(a, "forces") is None
                else np.linalg.norm(label(a, "forces"), axis=1).max()
                for a in self.frames
            ]
        )

    @property
    def magmoms(self):
        """Moments of every step, µB, shape (n_steps, n_atoms); None where none are predicted."""
        return None if self.states is None else np.array([label(a, "magmoms") for a in self.frames])

    @property
    def table(self):
        """A pandas table, one row per step: ``energy`` (eV per cell), ``max_force`` (eV/Å), and of
        each redox-active site its moment (``magmom_0`` ..., µB) and oxidation state (``state_0``
        ...), by atom index."""
        import pandas as pd

        columns = {"energy": self.energies, "max_force": self.max_forces}
        if self.states is not None:
            magmoms = self.magmoms
            for i in self.redox_sites:
                columns |= {f"magmom_{i}": magmoms[:, i], f"state_{i}": self.states[:, i]}
        return pd.DataFrame(columns).rename_axis("step")

    @property
    def redox_sites(self):
        """Indices of the atoms whose valence can change."""
        return redox_sites(self.atoms)

    @property
    def flips(self):
        """Changes of valence as a pandas table: ``site`` (atom index), ``step``, ``before``,
        ``after``.

        Step 0 is compared with the oxidation states given (``arrays["oxi_states"]`` of the start),
        if there are any: a model that does not see them may assign others at once.
        """
        import pandas as pd

        rows, given = [], self.frames[0].arrays.get("oxi_states")
        if self.states is not None:
            history = self.states if given is None else np.vstack([given, self.states])
            for step, (before, after) in enumerate(
                itertools.pairwise(history), start=1 if given is None else 0
            ):
                rows += [
                    (int(i), step, int(before[i]), int(after[i]))
                    for i in self.redox_sites
                    if after[i] and before[i] != after[i]
                ]
        return pd.DataFrame(rows, columns=["site", "step", "before", "after"])

    @property
    def flipped_sites(self):
        """Atoms whose oxidation state at the end is another than given, or than at the start where
        none was given.
        """
        if self.states is None:
            return np.array([], int)
        before, after = self.frames[0].arrays.get("oxi_states", self.states[0]), self.states[-1]
        return np.array([i for i in self.redox_sites if after[i] and before[i] != after[i]], int)

    def __str__(self):
        if label(self.atoms, "energy") is None:
            return self.reason
        n = len(self.flipped_sites)
        valences = f"{n or 'no'} site{'' if n == 1 else 's'} changed valence"
        if self.states is None:
            valences = "no moments, so valences are not known"
        elif len(self.redox_sites) and not self.states[-1][self.redox_sites].all():
            valences = "its moments do not tell the valences"
        return (
            f"{self.atoms.get_chemical_formula()}: {self.reason} after {len(self.frames) - 1} "
            f"steps, {self.energies[-1]:.4f} eV, "
            f"max. force {self.max_forces[-1]:.3f} eV/Å, {valences}"
        )


def relax(
    atoms,
    model,
    fmax=0.05,
    steps=300,
    cell=False,
    optimizer="LBFGSLineSearch",
    seconds=None,
    progress=True,
):
    """Relax a structure with an ASE optimiser, keeping every step.

    Parameters
    ----------
    atoms : ase.Atoms
        Not changed. With ``arrays["oxi_states"]`` for a charge-aware model. Constraints are kept.
    model : Potential or ase.calculators.calculator.Calculator
        As `load_model` or `train` give it; any ASE calculator is taken as a charge-blind model.
    fmax : float
        eV/Å: converged when no force is larger (with `cell`: nor the stress times the volume, as
        ASE's filters count it).
    steps : int
        Limit on the steps.
    cell : bool
        Relax the cell as well (ASE's ``FrechetCellFilter``).
    optimizer : str or class
        A name in ``ase.optimize`` (``"LBFGS"``, ``"FIRE"``, ``"BFGS"``, ...), ``"PreconLBFGS"``, or
        an optimiser class. Without a line search LBFGS is a little faster, but can swing to and fro
        where neighbours pass the cutoff of a model.
    seconds : float, optional
        Limit on the time, looked at after every step.
    progress : bool
        Show a progress bar with energy and largest force.

    Returns
    -------
    Relaxation
        An interrupt (Ctrl-C, the stop button) or a limit ends it with what was reached.

    Raises
    ------
    InputError
        When the structure cannot be relaxed: atoms that overlap or stand alone, an element the
        model does not know, missing oxidation states, an optimiser that does not exist. A model
        that goes astray later ends the relaxation; ``reason`` says so.
    """
    from tqdm.auto import tqdm

    settings = {"fmax": fmax, "steps": steps, "cell": cell, "optimizer": optimizer}
    steps = checked_settings("relax", **settings, seconds=seconds)["steps"]
    atoms, model = as_frame(atoms, "relax"), as_potential(model, "relax")
    check_structure(atoms)
    atoms, began = atoms.copy(), time.monotonic()
    # what the model cannot describe is said before anything runs
    atoms.calc = model.calculator()
    asked(atoms, atoms.get_potential_energy)
    if cell:
        asked(atoms, atoms.get_stress)
    failures = (InputError, ArithmeticError, np.linalg.LinAlgError, RuntimeError)
    if isinstance(model, CalculatorPotential):
        failures = Exception  # anybody's calculator may raise anything
    frames, states, reason, prepared = [], [], "step limit", _optimizer(optimizer, atoms, cell)
    fixed = _of_one_valence(atoms)

    def record():
        atoms.get_forces()  # of these positions, whatever an optimiser tried last
        p = atoms.calc.results
        frame = atoms.copy()
        frame.info["step"] = len(frames)
        frame.calc = SinglePointCalculator(frame, **{k: p[k] for k in KEPT if k in p})
        frames.append(frame)
        if "magmoms" in p:
            states.append(_states(frame, p["magmoms"], fixed))
        largest = np.linalg.norm(p["forces"], axis=1).max()
        bar.set_postfix(energy=f"{p['energy']:.3f} eV", max_force=f"{largest:.3f} eV/Å")
        if len(frames) > 1:
            bar.update(1)
        if largest > EXPLODED:
            raise InputError(
                f"the model goes astray: a force of {largest:.0f} eV/Å after {len(frames) - 1} "
                "steps"
            )

    with tqdm(
        total=steps, desc=atoms.get_chemical_formula(), disable=not progress, leave=False
    ) as bar:
        try:
            with prepared as run:
                for done in run.irun(fmax=fmax, steps=steps):
                    if len(frames) <= run.nsteps:
                        record()
                    if done:
                        reason = "converged"
                    elif seconds is not None and time.monotonic() - began > seconds:
                        reason = "time limit"
                        break
        except KeyboardInterrupt:
            reason = "interrupted"
        except failures as wrong:
            reason = str(wrong) or type(wrong).__name__
        if reason in ("converged", "time limit"):
            bar.total = bar.n  # what ends before its last step is drawn as a failure, in red
    return Relaxation(
        frames, np.array(states) if states else None, reason, time.monotonic() - began
    )


def checked_settings(where, fmax, steps, cell, optimizer, seconds):
    """How to relax, as a dict; what makes no sense is told before anything runs."""
    import ase.optimize

    known = isinstance(optimizer, str) and (
        optimizer == "PreconLBFGS" or callable(getattr(ase.optimize, optimizer, None))
    )
    made = callable(optimizer) and (hasattr(optimizer, "irun") or not isinstance(optimizer, type))
    if isinstance(optimizer, str) and not known:
        raise InputError(
            f"{where}: there is no optimiser {optimizer!r} in ase.optimize; there are LBFGS, BFGS, "
            "FIRE, PreconLBFGS and others"
        )
    if not known and not made:
        raise InputError(
            f"{where}: optimizer is a name in ase.optimize, such as 'LBFGS', or a class, "
            f"not {arguments.shown(optimizer)}"
        )
    return {
        "fmax": arguments.number(fmax, f"{where}: fmax", least=0),
        "steps": arguments.number(steps, f"{where}: steps", least=0, whole=True),
        "cell": arguments.flag(cell, f"{where}: cell"),
        "optimizer": optimizer,
        "seconds": arguments.number(seconds, f"{where}: seconds", least=0, none=True),
    }


def _states(frame, magmoms, fixed):
    """Inferred oxidation states; what cannot be told (no redox-active element, no balanced
    assignment) is 0.
    """
    with contextlib.suppress(InputError):
        return infer_oxidation_states(frame, magmoms=magmoms, fixed=fixed).states
    return np.zeros(len(frame), int)


def _of_one_valence(atoms):
    """{element: state} of the elements that are not redox-active and have one state, which is known
    (not 0), as the atoms have it.
    """
    given = atoms.arrays.get("oxi_states")
    if given is None:
        return None
    symbols, found = np.array(atoms.get_chemical_symbols()), {}
    for element in {*symbols.tolist()} - {*symbols[redox_sites(atoms)].tolist()}:
        state, *others = np.unique(given[symbols == element]).tolist()
        if not others and state and state == round(state):
            found[element] = int(state)
    return found


def _optimizer(name, atoms, cell):
    import ase.optimize
    from ase.filters import FrechetCellFilter

    target = FrechetCellFilter(atoms) if cell else atoms
    if name == "PreconLBFGS":
        from ase.optimize.precon import Exp, PreconLBFGS

        return PreconLBFGS(target, precon=Exp(A=3), use_armijo=True, logfile=None)
    kind = getattr(ase.optimize, name, None) if isinstance(name, str) else name
    made = None
    with contextlib.suppress(TypeError, ValueError, AttributeError):  # what is no optimiser
        made = kind(target, logfile=None)
    if not hasattr(made, "irun"):
        raise InputError(
            f"relax: there is no optimiser {arguments.shown(name)} in ase.optimize; there are "
            "LBFGS, BFGS, FIRE, PreconLBFGS and others"
        )
    return made


def check_structure(atoms):
    """Raise an InputError, with atom indices, when atoms overlap or one is out of reach of all
    others.
    """
    from mlipkit.models.potential import check_cell, neighbours

    check_cell(atoms)
    what = atoms.get_chemical_formula()
    i, j, shift = neighbours(atoms, ALONE)
    if len(atoms) > 1 and len(alone := np.setdiff1d(np.arange(len(atoms)), i)):
        raise InputError(
            f"{what}: atom {alone[0]} ({atoms.symbols[alone[0]]}) has no neighbour within "
            f"{ALONE:g} Å; is the cell right, "
            "or an atom out of place?"
        )
    distance = np.linalg.norm(
        atoms.positions[j] + shift @ atoms.cell.array - atoms.positions[i], axis=1
    )
    if len(distance) and distance.min() < CLOSE:
        k = distance.argmin()
        raise InputError(
            f"{what}: atoms {i[k]} ({atoms.symbols[i[k]]}) and {j[k]} ({atoms.symbols[j[k]]}) are "
            f"{distance[k]:.2f} Å apart; "
            "is one there twice, or the cell wrong?"
        )
