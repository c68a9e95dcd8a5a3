"""CHGNet behind the common protocol, charge-blind or charge-aware.

CHGNet: Deng et al., Nat. Mach. Intell. 5, 1031 (2023), doi 10.1038/s42256-023-00716-3.
"""
import contextlib
import io
import warnings
from dataclasses import dataclass

import numpy as np
import torch

from mlipkit.files import InputError
from mlipkit.species import PROXIES, to_proxies

GPA = 1 / 160.21766208      # eV/Å^3
warnings.filterwarnings("ignore", message="Converting a tensor with requires_grad=True to a scalar", module="chgnet")


@contextlib.contextmanager
def _building():
    """Building a CHGNet draws random numbers and prints its size: keep both from the person who asked for a model."""
    with torch.random.fork_rng(devices=[]), contextlib.redirect_stdout(io.StringIO()):
        yield


@dataclass(frozen=True)
class Prediction:
    """What a potential says of one frame: energy (eV), forces (eV/Å), stress (eV/Å^3, Voigt-6), magmoms (µB, unsigned)."""
    energy: float
    forces: np.ndarray
    stress: np.ndarray
    magmoms: np.ndarray


class CHGNetPotential:
    """A CHGNet network and how it is fed.

    Parameters
    ----------
    network : chgnet.model.CHGNet
    proxies : dict
        The proxy map of a charge-aware model; empty for a charge-blind one.
    """

    def __init__(self, network, proxies=None):
        self.network, self.proxies = network.eval(), proxies or {}

    @property
    def charge_aware(self):
        return bool(self.proxies)

    @classmethod
    def pretrained(cls, charge_aware=False):
        """CHGNet 0.3.0 as shipped with the chgnet package.

        A charge-aware copy has the same weights; only its input differs. Fe3+ starts with what CHGNet knows of the
        proxy, and Ga3+ is a good start: an ion of nearly the same radius. (Starting Fe3+ from Fe instead was tried: on
        relaxed frames the geometry gives the valence away, and the label was hardly learned.)
        """
        from chgnet.model import CHGNet
        with _building():
            network = CHGNet.load(model_name="0.3.0", use_device="cpu", verbose=False)
        return cls(network, PROXIES if charge_aware else {})

    @classmethod
    def from_weights(cls, path, card):
        """From a safetensors file and its card."""
        from chgnet.model import CHGNet
        from safetensors.torch import load_file
        with _building():
            network = CHGNet(**card["model_args"])
        network.composition_model.fitted = True
        network.load_state_dict(load_file(path))
        return cls(network, {(e, q): p for e, q, p in card["proxies"]})

    def graph(self, atoms):
        """The CHGNet graph of a frame, with proxies in place when the model is charge-aware."""
        from pymatgen.core import Structure
        numbers = to_proxies(atoms, self.proxies) if self.proxies else atoms.numbers
        structure = Structure(atoms.cell.array, numbers, atoms.positions, coords_are_cartesian=True)
        try:
            return self.network.graph_converter(structure)
        except ValueError as reason:
            raise InputError(f"{atoms.get_chemical_formula()}: CHGNet cannot describe this cell: {reason}") from reason

    def forward(self, graphs, training=False):
        """Energy per atom (eV), forces (eV/Å), stress (GPa) and moments (µB) of a batch, as tensors.

        Upstream goes backward twice, for forces and then for stress; one call to autograd gives both.
        """
        from chgnet.model.model import BatchedGraph
        net = self.network
        batch = BatchedGraph.from_graphs(graphs, net.bond_basis_expansion, net.angle_basis_expansion, compute_stress=True)
        out = net._compute(batch, compute_magmom=True)
        total = (out["e"] * out["atoms_per_graph"]).sum()
        gradients = torch.autograd.grad(total, [*batch.atom_positions, *batch.strains], create_graph=training)
        out["f"] = [-g for g in gradients[:len(graphs)]]
        out["s"] = [g / v / GPA for g, v in zip(gradients[len(graphs):], batch.volumes)]
        out["e"] = out["e"] + net.composition_model(graphs)
        return out

    def predict(self, frames, batch_size=4):
        """Predict a list of frames.

        Parameters
        ----------
        frames : list of ase.Atoms
            With ``arrays["oxi_states"]`` when the model is charge-aware.
        batch_size : int
            Frames per forward pass; larger batches take memory and are no faster on a CPU.

        Returns
        -------
        list of Prediction

        Raises
        ------
        InputError
            When a charge-aware model misses oxidation states.
        """
        result = []
        for i in range(0, len(frames), batch_size):
            part = frames[i:i + batch_size]
            out = self.forward([self.graph(atoms) for atoms in part])
            for j, atoms in enumerate(part):
                stress = out["s"][j].numpy() * GPA
                result.append(Prediction(float(out["e"][j].detach()) * len(atoms), out["f"][j].numpy(),
                                         ((stress + stress.T) / 2)[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]], out["m"][j].detach().numpy()))
        return result

    def calculator(self):
        """An ASE calculator of this potential."""
        from mlipkit.models.calculator import PotentialCalculator
        return PotentialCalculator(self)
