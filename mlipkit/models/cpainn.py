"""cPaiNN behind the common protocol: PaiNN with a magnetic-moment head, and a Bader-charge head
when wanted.
"""

from dataclasses import dataclass

import numpy as np
import torch

from mlipkit.models.painn import PaiNN
from mlipkit.models.potential import Potential, neighbours


@dataclass(frozen=True)
class Graph:
    """A frame as PaiNN takes it."""

    numbers: torch.Tensor
    i: torch.Tensor
    j: torch.Tensor
    vectors: torch.Tensor  # Å, from i to j
    # Å^3; infinite where the frame is not periodic in three directions: it has no stress
    volume: float


class CPaiNNPotential(Potential):
    """cPaiNN: PaiNN (64 features, 4 interactions, cutoff 4 Å, as published) that also predicts
    moments.
    """

    architecture, batch_size = "cpainn", 16

    @classmethod
    def build(cls, model_args):
        return PaiNN(**model_args)

    def graph(self, atoms):
        i, j, shift = neighbours(atoms, self.network.model_args["cutoff"])
        vectors = atoms.positions[j] - atoms.positions[i] + shift @ atoms.cell.array
        return Graph(
            torch.as_tensor(self.numbers(atoms), dtype=torch.int64),
            torch.as_tensor(i),
            torch.as_tensor(j),
            torch.as_tensor(vectors, dtype=torch.float32),
            atoms.cell.volume if atoms.pbc.all() else np.inf,
        )

    def forward(self, graphs, training=False):
        counts = [len(g.numbers) for g in graphs]
        first = [sum(counts[:k]) for k in range(len(counts))]
        i, j = (torch.cat([getattr(g, name) + n for g, n in zip(graphs, first)]) for name in "ij")
        frame = torch.repeat_interleave(torch.arange(len(graphs)), torch.tensor(counts))
        vectors = torch.cat([g.vectors for g in graphs]).requires_grad_()
        energies, heads = self.network(torch.cat([g.numbers for g in graphs]), i, j, vectors)
        energy = energies.new_zeros(len(graphs)).index_add(0, frame, energies)
        # forces and stress both come from the pull of each pair: no second backward pass, no
        # strained cell
        (pull,) = torch.autograd.grad(energies.sum(), vectors, create_graph=training)
        forces = pull.new_zeros(len(frame), 3).index_add(0, i, pull).index_add(0, j, -pull)
        virial = pull.new_zeros(len(graphs), 3, 3).index_add(
            0, frame[i], pull[:, :, None] * vectors[:, None, :]
        )
        stress = virial / pull.new_tensor([g.volume for g in graphs])[:, None, None]
        magmoms, charges = (heads[k] if k < len(heads) else None for k in range(2))
        return {
            "energy": energy,
            "forces": forces,
            "stress": stress,
            "magmoms": magmoms,
            "charges": charges,
        }

    def energies_on(self, graph, numbers):
        (n, atoms), pairs = numbers.shape, len(graph.i)
        first = torch.arange(n).repeat_interleave(pairs) * atoms
        species = torch.as_tensor(numbers, dtype=torch.int64).reshape(-1)
        energies, _ = self.network(
            species,
            graph.i.repeat(n) + first,
            graph.j.repeat(n) + first,
            graph.vectors.repeat(n, 1),
        )
        return energies.reshape(n, atoms).sum(dim=1)

    def shift_references(self, shift):
        for z, value in shift.items():
            self.network.references[z] += value
