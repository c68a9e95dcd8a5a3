"""PaiNN, the polarizable atom interaction network, with heads for magnetic moments and Bader
charges.

Written from the paper: Schütt, Unke, Gastegger, ICML 2021, arXiv 2102.03150; equation numbers refer
to it. The heads on the scalar features of the second-last interaction follow cPaiNN (doi
10.1002/aidi.202500065) as its paper describes them.
"""

import torch
from torch import nn


def mlp(n_in, n_hidden, n_out):
    return nn.Sequential(nn.Linear(n_in, n_hidden), nn.SiLU(), nn.Linear(n_hidden, n_out))


class Message(nn.Module):
    """Equations 7 and 8: each atom hears of its neighbours, through filters over the distance."""

    def __init__(self, features, n_radial):
        super().__init__()
        self.phi, self.filter = (
            mlp(features, features, 3 * features),
            nn.Linear(n_radial, 3 * features),
        )

    def forward(self, s, v, i, j, radial, cutoff, unit):
        weights = self.phi(s)[j] * (self.filter(radial) * cutoff)
        from_s, from_v, from_r = weights.chunk(3, dim=-1)
        ds = torch.zeros_like(s).index_add(0, i, from_s)
        dv = torch.zeros_like(v).index_add(
            0, i, v[j] * from_v[:, None] + from_r[:, None] * unit[..., None]
        )
        return s + ds, v + dv


class Update(nn.Module):
    """Equations 9 and 10: scalars and vectors of one atom mix."""

    def __init__(self, features, bias):
        super().__init__()
        self.u, self.v = (
            nn.Linear(features, features, bias=bias),
            nn.Linear(features, features, bias=bias),
        )
        self.a = mlp(2 * features, features, 3 * features)

    def forward(self, s, v):
        uv, vv = self.u(v), self.v(v)
        length = torch.sqrt((vv**2).sum(dim=1) + 1e-8)
        a_vv, a_sv, a_ss = self.a(torch.cat([s, length], dim=-1)).chunk(3, dim=-1)
        return s + a_ss + a_sv * (uv * vv).sum(dim=1), v + a_vv[:, None] * uv


class PaiNN(nn.Module):
    """PaiNN over periodic graphs.

    Parameters
    ----------
    features : int
        Scalar and vector features per atom.
    interactions : int
        Pairs of message and update.
    cutoff : float
        Å.
    n_radial : int
        Radial functions sin(n pi r / cutoff) / r (equation 11).
    scale : float
        eV, of the atomic energies that the network puts out.
    n_heads : int
        1: magnetic moments; 2: Bader charges too; 0: energies only.
    n_hidden : int, optional
        Of the readouts, by default `features`.
    vector_bias : bool
        A bias on the mixing of vectors, which breaks the symmetry under rotations; some programs
        have it, PaiNN has not.
    """

    def __init__(
        self,
        features=64,
        interactions=4,
        cutoff=4.0,
        n_radial=20,
        scale=1.0,
        n_heads=1,
        n_hidden=None,
        vector_bias=False,
    ):
        super().__init__()
        self.model_args = {
            "features": features,
            "interactions": interactions,
            "cutoff": cutoff,
            "n_radial": n_radial,
            "scale": scale,
            "n_heads": n_heads,
            "n_hidden": n_hidden or features,
            "vector_bias": vector_bias,
        }
        # a row per element: a proxy has one of its own
        self.embedding = nn.Embedding(119, features)
        self.messages = nn.ModuleList(Message(features, n_radial) for _ in range(interactions))
        self.updates = nn.ModuleList(Update(features, vector_bias) for _ in range(interactions))
        self.energy, self.heads = (
            mlp(features, n_hidden or features, 1),
            nn.ModuleList(mlp(features, n_hidden or features, 1) for _ in range(n_heads)),
        )
        self.register_buffer("references", torch.zeros(119))  # eV per atom by atomic number

    def forward(self, numbers, i, j, vectors):
        """Energy (eV) and head outputs of each atom.

        Parameters
        ----------
        numbers : tensor of int, shape (n_atoms,)
        i, j : tensors of int, shape (n_pairs,)
        vectors : tensor, shape (n_pairs, 3)
            From atom i to atom j, Å.
        """
        args = self.model_args
        r = vectors.norm(dim=-1, keepdim=True)
        n = torch.arange(1, args["n_radial"] + 1, dtype=r.dtype)
        radial = torch.sin(n * torch.pi * r / args["cutoff"]) / r
        cutoff = 0.5 * (torch.cos(torch.pi * r / args["cutoff"]) + 1)
        s = self.embedding(numbers)
        v = s.new_zeros(len(s), 3, s.shape[1])
        scalars = []
        for message, update in zip(self.messages, self.updates):
            s, v = update(*message(s, v, i, j, radial, cutoff, vectors / r))
            scalars.append(s)
        before_last = scalars[max(len(scalars) - 2, 0)]
        energies = args["scale"] * self.energy(s)[:, 0] + self.references[numbers]
        return energies, [head(before_last)[:, 0] for head in self.heads]
