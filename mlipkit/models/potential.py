"""What every potential shares: what a model sees of a frame, predictions, weights.

An adapter (`chgnet.py`, `cpainn.py`, `mace.py`) adds how a frame becomes a graph and how a batch of
graphs is computed.
"""

import contextlib
import io
import itertools
import threading
import warnings
from dataclasses import dataclass, replace

import numpy as np
import torch
from ase.data import atomic_numbers, chemical_symbols
from ase.stress import full_3x3_to_voigt_6_stress
from torch.overrides import TorchFunctionMode
from torch.utils._device import _device_constructors

from mlipkit import arguments
from mlipkit.charges.references import redox_sites
from mlipkit.charges.species import (
    PROXIES,
    checked_proxies,
    marked,
    spins_of,
    to_proxies,
    warn_unbalanced,
)
from mlipkit.files import InputError
from mlipkit.frames.taken import as_frame, as_frames


@dataclass(frozen=True)
class Prediction:
    """What a potential says of one frame: energy (eV), forces (eV/Å), stress (eV/Å^3, Voigt-6),
    magmoms (µB, unsigned).

    ``magmoms`` is None when the model predicts none; ``charges`` (e, Bader) likewise.
    """

    energy: float
    forces: np.ndarray
    stress: np.ndarray
    magmoms: np.ndarray | None
    charges: np.ndarray | None = None


# A MACE is traced (torch.fx) while it is built or unpickled, and whatever network another thread
# calls meanwhile is traced too, and fails: one at a time. Dask unpickles beside a running task.
TRACING = threading.RLock()


class _Bounded(TorchFunctionMode):
    """Counts the numbers of tensors before they are made; a file may ask for any number."""

    def __init__(self, most):
        super().__init__()
        self.left, self.makers = most, _device_constructors()

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function in self.makers and function is not torch.tensor:
            # each takes room, however small
            self.left -= 100 + function(*args, **kwargs | {"device": "meta"}).numel()
            if self.left < 0:
                raise InputError("the network would be larger than its weights")
        return function(*args, **kwargs)


@contextlib.contextmanager
def building(seed=0, most=None):
    """Build a network in single precision from a seed, of so many numbers at `most`; torch's random
    numbers and default dtype stay as they were.

    Upstream constructors draw random numbers, take the default dtype of the moment and print.
    """
    dtype = torch.get_default_dtype()
    with (
        torch.random.fork_rng(devices=[]),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.nullcontext() if most is None else _Bounded(most),
    ):
        torch.manual_seed(seed)
        torch.set_default_dtype(torch.float32)
        try:
            yield
        finally:
            torch.set_default_dtype(dtype)


def device_of(name):
    """The torch device of a name.

    Parameters
    ----------
    name : str
        ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``, or ``"auto"``: a GPU where there is one.

    Raises
    ------
    InputError
        When it names no device, or one that torch cannot use here.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        name = next((kind for kind, usable in there.items() if usable), "cpu")
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError):
        device = None
    if device is None or device.type not in ("cpu", *there):
        raise InputError(f"device={name!r}: take 'cpu', 'cuda', 'mps' or 'auto'")
    n = torch.cuda.device_count() if device.type == "cuda" else 1
    if not there.get(device.type, True) or (device.index or 0) >= n:
        raise InputError(
            f"device={name!r}: torch finds no such device here; 'auto' takes a GPU where there is "
            "one, and the CPU elsewhere"
        )
    return device


def check_cell(atoms):
    """Raise an InputError for a frame of which no potential can say anything."""
    what = atoms.get_chemical_formula() or "a frame"
    if not len(atoms):
        raise InputError("a frame without atoms cannot be predicted")
    if atoms.pbc.any() and abs(atoms.cell.volume) < 1e-6 and atoms.pbc.all():
        raise InputError(
            f"{what}: the frame is periodic, but its cell has no volume; set atoms.cell, or "
            "atoms.pbc = False for a molecule"
        )
    if not (np.isfinite(atoms.positions).all() and np.isfinite(atoms.cell.array).all()):
        raise InputError(f"{what}: a position or the cell is not a finite number")


def neighbours(atoms, cutoff, full_list=True):
    """Pairs within a cutoff (Å), by vesin: indices ``i`` and ``j`` and the periodic shift of ``j``,
    shape (n_pairs, 3).

    In both directions and sorted by ``i``, or every pair once.
    """
    from vesin import NeighborList

    i, j, shift = NeighborList(
        cutoff=cutoff, full_list=full_list, sorted=True, n_threads=1
    ).compute(atoms.positions, atoms.cell.array, list(atoms.pbc), "ijS")
    return i.astype(np.int64), j.astype(np.int64), shift


class Potential:
    """A network and how it is fed.

    Parameters
    ----------
    network : torch.nn.Module
        With ``model_args``, a dict from which the adapter's ``build`` makes it again.
    proxies : dict, optional
        The proxy map of a charge-aware model; empty for a charge-blind one.
    elements : iterable of str, optional
        What the model was trained on, proxies among them; None when the architecture says so
        itself.
    states : dict, optional
        ``{element: [oxidation states]}`` that a charge-aware model was trained on; others are
        refused. None when it is not known.
    """

    architecture, batch_size = "", 8
    beside_weights = 5_000_000  # numbers that are made for a moment while a network is built

    def __init__(self, network, proxies=None, elements=None, states=None):
        self.network, self.proxies, self.states = network.eval(), proxies or {}, states or {}
        self.elements = None if elements is None else sorted(elements, key=atomic_numbers.get)

    @property
    def charge_aware(self):
        return bool(self.proxies)

    @property
    def device(self):
        """Where the network is."""
        return next(self.network.parameters(), torch.empty(0)).device

    def to(self, device):
        """Move the network to a device (`device_of`); frames go in and NumPy comes out."""
        self.network.to(device_of(device))
        return self

    def on_device(self):
        """A context in which new tensors are made where the network is."""
        on_cpu = self.device.type == "cpu"  # torch's context costs time in every operation
        return contextlib.nullcontext() if on_cpu else torch.device(self.device)

    # what an adapter adds

    @classmethod
    def build(cls, model_args):
        """The network of these arguments, its weights drawn at random."""
        raise NotImplementedError

    @classmethod
    def fresh(cls, frames, proxies, seed=0, **model_args):
        """A potential to train on these frames: published weights, or random ones of this seed."""
        with building(seed):
            return cls(
                cls.build(model_args),
                proxies,
                seen_elements(frames, proxies),
                seen_states(frames, proxies),
            )

    def graph(self, atoms):
        """What the network needs of a frame."""
        raise NotImplementedError

    def forward(self, graphs, training=False):
        """Tensors of a batch.

        Returns
        -------
        dict
            ``energy`` (eV, per frame), ``forces`` (eV/Å, atoms of all frames one after the other),
            ``stress`` (eV/Å^3, (n_frames, 3, 3)), ``magmoms`` (µB) and ``charges`` (e), or None;
            differentiable when `training`.
        """
        raise NotImplementedError

    def energies_on(self, graph, numbers):
        """Energies (eV) of one graph under many assignments of species: ``numbers`` has the shape
        (n, n_atoms).
        """
        raise NotImplementedError

    def shift_references(self, shift):
        """Add to the energy references: {atomic number: eV per atom}."""
        raise NotImplementedError

    # what all share

    @classmethod
    def from_weights(cls, path, card, most=None):
        """From a safetensors file and its card; `most` as of `building`."""
        from safetensors.torch import load_file

        with building(most=most):
            network = cls.build(card["model_args"])
        network.load_state_dict(load_file(path))
        return cls(
            network,
            {tuple(ion): proxy for *ion, proxy in card["proxies"]},
            card.get("elements"),
            card.get("oxi_states"),
        )

    def numbers(self, atoms):
        """Atomic numbers as the model sees them.

        Raises
        ------
        InputError
            When a charge-aware model misses oxidation states, or an element or an ion is none that
            the model knows.

        Warns
        -----
        UserWarning
            When a charge-aware model is given oxidation states that do not sum to the charge of the
            cell.
        """
        numbers = atoms.numbers
        if self.proxies:
            numbers = to_proxies(atoms, self.proxies)
            self._check_states(atoms, atoms.arrays["oxi_states"])
            warn_unbalanced(atoms)
            self._warn_of_others(atoms)
        if self.elements is not None:
            unknown = sorted({chemical_symbols[z] for z in numbers} - set(self.elements))
            if unknown:
                raise InputError(
                    f"{atoms.get_chemical_formula()}: this {self.architecture} model was not "
                    f"trained on {', '.join(unknown)}; "
                    f"it knows {', '.join(self.elements)}"
                )
        return numbers

    def _warn_of_others(self, atoms):
        """Say which metals with a charge of their own this model has no species for."""
        known = {ion[0] for ion in self.proxies}
        blind = sorted({atoms.symbols[i] for i in redox_sites(atoms)} - known)
        if blind:
            warnings.warn(
                f"{atoms.get_chemical_formula()}: this {self.architecture} model knows the charge "
                f"of {' and '.join(sorted(known))} only; to the charge of {' and '.join(blind)} it "
                "is blind",
                stacklevel=4,
            )

    def _check_states(self, atoms, states):
        for element, known in self.states.items():
            of = np.flatnonzero(atoms.symbols == element)
            other = ~np.isin(np.asarray(states)[..., of], known)
            if other.any():
                where = tuple(np.argwhere(other)[0])
                raise InputError(
                    f"{atoms.get_chemical_formula()}: atom {of[where[-1]]} is "
                    f"{element}{states[..., of][where]:g}+; this "
                    f"model was trained on {' and '.join(f'{element}{q}+' for q in known)}"
                )

    def states_of(self, compound):
        """A compound with the states that the model was trained on, of the metals that it knows."""
        redox = {e: tuple(self.states.get(e, states)) for e, states in compound.redox.items()}
        return replace(compound, redox=redox)

    def predict(self, frames, batch_size=None):
        """Predict a list of frames.

        Parameters
        ----------
        frames : list of ase.Atoms
            With ``arrays["oxi_states"]`` when the model is charge-aware.
        batch_size : int, optional
            Frames per forward pass. Larger batches take memory and are little faster on a CPU.

        Returns
        -------
        list of Prediction

        Raises
        ------
        InputError
            When a charge-aware model misses oxidation states, or the model cannot describe a cell.
        """
        frames, result, size = (
            as_frames(frames, "predict takes", single=False),
            [],
            _batch(batch_size, "predict") or self.batch_size,
        )
        for atoms in frames:
            check_cell(atoms)
        for first in range(0, len(frames), size):
            part = frames[first : first + size]
            with TRACING, self.on_device():
                tensors = self.forward([self.graph(a) for a in part])
            out = {k: None if v is None else v.detach().cpu().numpy() for k, v in tensors.items()}
            for atoms, energy in zip(part, out["energy"]):
                if not np.isfinite(energy):
                    raise InputError(
                        f"{atoms.get_chemical_formula()}: the {self.architecture} model finds no "
                        "finite energy; do two atoms "
                        "sit in one place?"
                    )
            # trained on |m|; the linear readouts may go a little below zero
            if out["magmoms"] is not None:
                out["magmoms"] = np.abs(out["magmoms"])
            ends = np.cumsum([0, *map(len, part)])
            for i, (start, stop) in enumerate(itertools.pairwise(ends)):
                rows = {
                    k: None if out.get(k) is None else out[k][start:stop]
                    for k in ("forces", "magmoms", "charges")
                }
                result.append(
                    Prediction(
                        float(out["energy"][i]),
                        stress=full_3x3_to_voigt_6_stress(out["stress"][i]),
                        **rows,
                    )
                )
        return result

    def score(self, atoms, states, batch_size=None, progress=False):
        """Energies of one geometry under many assignments of oxidation states: one graph, no
        forces.

        Parameters
        ----------
        atoms : ase.Atoms
        states : array_like of int, shape (n, n_atoms)
            As ``arrays["oxi_states"]``, one row per assignment.
        batch_size : int, optional
            Assignments per forward pass.
        progress : bool
            A progress bar when it takes more than some seconds.

        Returns
        -------
        numpy.ndarray, shape (n,)
            eV. A charge-blind model does not see the states: all rows are equal.

        Raises
        ------
        InputError
            As `predict`, for the first assignment.
        """
        from tqdm.auto import tqdm

        states, size = (
            np.atleast_2d(states),
            _batch(batch_size, "score") or self.batch_size,
        )
        if not len(states):
            return np.empty(0)
        atoms = as_frame(atoms, "score")
        check_cell(atoms)
        first = atoms.copy()
        first.set_array("oxi_states", states[0])
        with self.on_device():
            graph = self.graph(first)
        self._check_states(atoms, states)
        given = states if self.proxies else states[:1]
        numbers = marked(atoms.numbers, given, self.proxies, spins_of(atoms))
        batches = [numbers[k : k + size] for k in range(0, len(numbers), size)]
        with torch.no_grad(), self.on_device():
            found = []
            for part in tqdm(batches, unit_scale=size, delay=3, disable=not progress):
                with TRACING:
                    found.append(self.energies_on(graph, part))
        energies = torch.cat(found).cpu().numpy().astype(float)
        if not np.isfinite(energies).all():
            raise InputError(
                f"{atoms.get_chemical_formula()}: the {self.architecture} model finds no finite "
                "energy"
            )
        return energies if self.proxies else np.repeat(energies, len(states))

    def calculator(self):
        """An ASE calculator of this potential."""
        from mlipkit.models.calculator import PotentialCalculator

        return PotentialCalculator(self)


def _batch(size, where):
    return arguments.number(size, f"{where}: batch_size", least=1, whole=True, none=True)


def proxies_of(charge_aware, proxies=None):
    """The proxy map of a model: `proxies` or the default one when it is charge-aware, none
    otherwise.
    """
    if charge_aware and isinstance(proxies, dict) and not proxies:
        raise InputError(
            "a charge-aware model needs at least one ion as a species of its own, such as "
            f"proxies={PROXIES}"
        )
    if proxies is not None:
        checked_proxies(proxies, "proxies")
    return (proxies or PROXIES) if charge_aware else {}


def seen_states(frames, proxies):
    """{element: [oxidation states]} in frames, of the elements that have proxies."""
    return {
        element: sorted(
            {int(q) for a in frames for q in a.arrays["oxi_states"][a.symbols == element]}
        )
        for element in sorted({ion[0] for ion in proxies})
    }


def seen_elements(frames, proxies):
    """Symbols that a model with this proxy map sees in frames."""
    numbers = {
        int(z)
        for atoms in frames
        for z in (to_proxies(atoms, proxies) if proxies else atoms.numbers)
    }
    return [chemical_symbols[z] for z in sorted(numbers)]
