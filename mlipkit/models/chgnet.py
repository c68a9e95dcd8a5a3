"""CHGNet behind the common protocol, charge-blind or charge-aware.

CHGNet: Deng et al., Nat. Mach. Intell. 5, 1031 (2023), doi 10.1038/s42256-023-00716-3.
"""

import warnings

import numpy as np
import torch

from mlipkit.files import InputError
from mlipkit.models.potential import Potential, building, neighbours, seen_states

warnings.filterwarnings(
    "ignore", message="Converting a tensor with requires_grad=True to a scalar", module="chgnet"
)


class CHGNetPotential(Potential):
    """CHGNet 0.3.0, as published or fine-tuned."""

    architecture, batch_size = "chgnet", 4

    def __init__(self, network, proxies=None, elements=None, states=None):
        from mlipkit.models.chgnet_layers import accelerate

        super().__init__(accelerate(network), proxies, elements, states)

    @classmethod
    def build(cls, model_args):
        from chgnet.model import CHGNet

        network = CHGNet(**model_args)
        network.composition_model.fitted = True
        network.composition_model.requires_grad_(False)
        return network

    @classmethod
    def pretrained(cls, proxies=None):
        """CHGNet 0.3.0 as shipped with the chgnet package.

        A charge-aware copy has the same weights; only its input differs. Fe3+ starts with what
        CHGNet knows of the proxy, and Ga3+ is a good start: an ion of nearly the same radius.
        (Starting Fe3+ from Fe instead was tried: on relaxed frames the geometry gives the valence
        away, and the label was hardly learned.)
        """
        from chgnet.model import CHGNet

        with building():
            network = CHGNet.load(model_name="0.3.0", use_device="cpu", verbose=False)
        network.composition_model.requires_grad_(False)
        return cls(network, proxies)

    @classmethod
    def fresh(cls, frames, proxies, seed=0):
        potential = cls.pretrained(proxies)
        potential.states = seen_states(frames, proxies)
        return potential

    def graph(self, atoms):
        if not atoms.pbc.all():
            raise InputError(
                f"{atoms.get_chemical_formula()}: CHGNet describes crystals only, and this frame "
                "is not periodic in all "
                "directions (atoms.pbc)"
            )
        if not 1 <= min(atoms.numbers) <= max(atoms.numbers) <= 94:
            raise InputError(
                f"{atoms.get_chemical_formula()}: CHGNet knows the elements from H (1) to Pu (94)"
            )
        converter = self.network.graph_converter
        return crystal_graph(
            atoms, self.numbers(atoms), converter.atom_graph_cutoff, converter.bond_graph_cutoff
        )

    def forward(self, graphs, training=False):
        # upstream goes backward twice, for forces and then for stress; one call to autograd gives
        # both
        from chgnet.model.model import BatchedGraph

        net = self.network
        batch = BatchedGraph.from_graphs(
            graphs, net.bond_basis_expansion, net.angle_basis_expansion, compute_stress=True
        )
        out = net._compute(batch, compute_magmom=True)
        counts = out["atoms_per_graph"]
        gradients = torch.autograd.grad(
            (out["e"] * counts).sum(),
            [*batch.atom_positions, *batch.strains],
            create_graph=training,
        )
        n = len(graphs)
        return {
            "energy": (out["e"] + net.composition_model(graphs)) * counts,
            "forces": -torch.cat(gradients[:n]),
            "stress": torch.stack([g / v for g, v in zip(gradients[n:], batch.volumes)]),
            "magmoms": torch.cat(list(out["m"])),
        }

    def energies_on(self, graph, numbers):
        from chgnet.model.model import BatchedGraph

        net, (n, atoms) = self.network, numbers.shape
        one = BatchedGraph.from_graphs([graph], net.bond_basis_expansion, net.angle_basis_expansion)
        bonds, copies = len(one.bond_bases_ag), torch.arange(n)

        # the indices of every copy, moved on by its place in the batch
        def tiled(index, steps):
            return (index[None] + copies[:, None, None] * torch.tensor(steps)).reshape(
                -1, index.shape[1]
            )

        species = torch.as_tensor(numbers, dtype=torch.int32)
        batch = BatchedGraph(
            atomic_numbers=species.reshape(-1),
            bond_bases_ag=one.bond_bases_ag.repeat(n, 1),
            bond_bases_bg=one.bond_bases_bg.repeat(n, 1),
            angle_bases=torch.cat([one.angle_bases] * n),
            batched_atom_graph=tiled(one.batched_atom_graph, [atoms, atoms]),
            # upstream's has one axis when empty
            batched_bond_graph=tiled(one.batched_bond_graph.reshape(-1, 3), [atoms, bonds, bonds]),
            atom_owners=copies.repeat_interleave(atoms).to(torch.int32),
            directed2undirected=tiled(one.directed2undirected[:, None], [bonds])[:, 0],
            atom_positions=[],
            strains=[],
            volumes=[],
        )
        share = (
            torch.stack(
                [
                    torch.bincount(row - 1, minlength=net.composition_model.max_num_elements)
                    for row in species
                ]
            )
            / atoms
        )
        return (net._compute(batch)["e"] + net.composition_model._get_energy(share)) * atoms

    def shift_references(self, shift):
        weight = self.network.composition_model.fc.weight
        with torch.no_grad():
            for z, value in shift.items():
                weight[0, z - 1] += value


def crystal_graph(atoms, numbers, cutoff, angle_cutoff):
    """The graph that chgnet's own converter makes, by whole arrays instead of loops over bonds,
    which take a fifth of a prediction.

    Parameters
    ----------
    atoms : ase.Atoms
    numbers : array_like of int, shape (n_atoms,)
        Atomic numbers as the model sees them.
    cutoff, angle_cutoff : float
        Å, of bonds, and of the bonds that make angles.

    Raises
    ------
    InputError
        When an atom has no neighbour.
    """
    from chgnet.graph.crystalgraph import CrystalGraph

    # every bond once; then its way back as well
    one, other, shift = neighbours(atoms, cutoff, full_list=False)
    i, j, image, bond = (
        np.concatenate(pair)
        for pair in ((one, other), (other, one), (shift, -shift), [np.arange(len(one))] * 2)
    )
    order = np.argsort(i, kind="stable")
    i, j, image, bond = i[order], j[order], image[order], bond[order]
    length = np.linalg.norm(
        atoms.positions[j] - atoms.positions[i] + image @ atoms.cell.array, axis=1
    )
    count = np.bincount(i, minlength=len(atoms))
    if not count.all():
        alone = int(np.argmin(count))
        raise InputError(
            f"{atoms.get_chemical_formula()}: CHGNet cannot describe this cell: atom {alone} "
            f"({atoms.symbols[alone]}) has no "
            f"neighbour within {cutoff:g} Å"
        )
    short = np.flatnonzero(length < angle_cutoff)
    # the short bonds of each one's atom
    start, stop = (np.searchsorted(i[short], i[short], side) for side in ("left", "right"))
    legs = stop - start
    left = np.repeat(short, legs)
    right = short[np.arange(len(left)) + np.repeat(start - (np.cumsum(legs) - legs), legs)]
    left, right = left[left != right], right[left != right]

    def indices(*columns):
        return torch.as_tensor(np.stack(columns, axis=-1), dtype=torch.int32)

    scaled, cell = (
        torch.tensor(values, dtype=torch.float32, requires_grad=True)
        for values in (atoms.get_scaled_positions(wrap=False), atoms.cell.array)
    )
    return CrystalGraph(
        torch.as_tensor(numbers, dtype=torch.int32),
        scaled,
        lattice=cell,
        atom_graph_cutoff=cutoff,
        bond_graph_cutoff=angle_cutoff,
        atom_graph=indices(i, j),
        neighbor_image=torch.as_tensor(image, dtype=torch.float32),
        directed2undirected=torch.as_tensor(bond, dtype=torch.int32),
        undirected2directed=torch.as_tensor(np.argsort(order)[: len(one)], dtype=torch.int32),
        bond_graph=indices(i[left], bond[left], left, bond[right], right),
    )
