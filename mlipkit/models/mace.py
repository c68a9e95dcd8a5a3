"""MACE behind the common protocol: mace-torch's own modules, and a linear readout of the moments on
the node features.

MACE: Batatia et al., NeurIPS 2022, arXiv 2206.07697.
"""

import contextlib
import inspect
import io
import os
import pickle
import warnings

import numpy as np
import torch
from ase.data import atomic_numbers, chemical_symbols

from mlipkit.files import InputError
from mlipkit.models.potential import TRACING, Potential, neighbours, seen_elements

# mace-torch makes torch.load unpickle anything, in the whole process; e3nn needs that while it is
# imported, nobody does afterwards
_before = dict(os.environ)
# it tells of accelerators that are not there
with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
    warnings.simplefilter("ignore")
    from mace.modules import ScaleShiftMACE, interaction_classes  # isort: skip - before e3nn

    from e3nn import o3
if "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD" not in _before:
    os.environ.pop("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", None)
warnings.filterwarnings(
    "ignore", message="The TorchScript type system doesn't support instance-level annotations"
)


# largest max_ell, correlation, max_l, channels, interactions and number of elements; beyond them
# the coupling of the spherical harmonics takes hours to be worked out
MOST = (6, 4, 4, 1024, 8, 118)


def check_orders(*orders):
    """Raise an InputError for what no MACE has; the numbers are those of `MOST`."""
    orders = [max(n) if isinstance(n, list) else n for n in orders]
    if not all(0 <= n <= most for n, most in zip(orders, MOST)):
        raise InputError(
            f"a MACE of max_ell, correlation, max_l, channels, interactions and elements {orders}; "
            f"up to {list(MOST)} are built"
        )


class MACEWithMoments(torch.nn.Module):
    """mace-torch's ScaleShiftMACE and a linear readout of the magnetic moments.

    Parameters
    ----------
    elements : list of str
    r_max : float
        Cutoff, Å.
    channels, max_l, max_ell, correlation, interactions : int
        Features are ``channels`` x (0e + ... + max_l); spherical harmonics to ``max_ell``; body
        order correlation + 1.
    scale : float
        eV, of the interaction energies.
    avg_num_neighbors : float
    """

    def __init__(
        self,
        elements,
        r_max=5.0,
        channels=64,
        max_l=0,
        max_ell=2,
        correlation=2,
        interactions=2,
        scale=1.0,
        avg_num_neighbors=40.0,
    ):
        super().__init__()
        self.model_args = {
            "elements": elements,
            "r_max": r_max,
            "channels": channels,
            "max_l": max_l,
            "max_ell": max_ell,
            "correlation": correlation,
            "interactions": interactions,
            "scale": scale,
            "avg_num_neighbors": avg_num_neighbors,
        }
        irreps = (channels * o3.Irreps.spherical_harmonics(max_l)).sort()[0].simplify()
        self.mace = ScaleShiftMACE(
            atomic_inter_scale=scale,
            atomic_inter_shift=0.0,
            r_max=r_max,
            num_bessel=8,
            num_polynomial_cutoff=5,
            max_ell=max_ell,
            interaction_cls=interaction_classes["RealAgnosticResidualInteractionBlock"],
            interaction_cls_first=interaction_classes["RealAgnosticInteractionBlock"],
            num_interactions=interactions,
            num_elements=len(elements),
            hidden_irreps=irreps,
            MLP_irreps=o3.Irreps("16x0e"),
            atomic_energies=np.zeros(len(elements)),
            avg_num_neighbors=avg_num_neighbors,
            atomic_numbers=[atomic_numbers[e] for e in elements],
            correlation=correlation,
            gate=torch.nn.functional.silu,
        )
        # of the node features of each layer the scalars, which stand first: a moment must not turn
        # with the crystal
        self.scalars = [k * irreps.dim + c for k in range(interactions) for c in range(channels)]
        self.moments = torch.nn.Linear(len(self.scalars), 1)

    def forward(self, batch, training=False):
        out = self.mace(batch, training=training, compute_force=True, compute_stress=True)
        return out, self.moments(out["node_feats"][:, self.scalars])[:, 0]


class PlainMACE(torch.nn.Module):
    """A MACE model from elsewhere: no readout of moments, and no card from which it could be built
    again.
    """

    model_args = None

    def __init__(self, model):
        super().__init__()
        self.mace = model
        for parameter in model.parameters():
            parameter.requires_grad_(False)

    def forward(self, batch, training=False):
        return self.mace(batch, training=training, compute_force=True, compute_stress=True), None


class MACEPotential(Potential):
    """MACE: a small one that also predicts moments, or a model from elsewhere without."""

    architecture, batch_size = "mace", 16
    beside_weights = 500_000_000

    @classmethod
    def build(cls, model_args):
        given = inspect.signature(MACEWithMoments).bind(**model_args)
        given.apply_defaults()
        names = ("max_ell", "correlation", "max_l", "channels", "interactions")
        sizes = [given.arguments[name] for name in names]
        check_orders(*sizes, len(given.arguments["elements"]))
        with TRACING:
            return MACEWithMoments(**model_args)

    def __reduce__(self):
        return _unpickled, (type(self), pickle.dumps(self.__dict__))

    @classmethod
    def fresh(cls, frames, proxies, seed=0, **model_args):
        return super().fresh(
            frames, proxies, seed, **{"elements": seen_elements(frames, proxies), **model_args}
        )

    @classmethod
    def plain(cls, model, proxies=None):
        """Around a MACE model from elsewhere, in single precision."""
        heads = getattr(model, "heads", None) or ["default"]
        if len(heads) > 1:
            raise InputError(
                f"a MACE model with several heads ({', '.join(heads)}) is not supported; take one "
                "out of it with mace-torch"
            )
        return cls(
            PlainMACE(model.float()),
            proxies,
            [chemical_symbols[z] for z in model.atomic_numbers.tolist()],
        )

    def graph(self, atoms):
        i, j, shift = neighbours(atoms, float(self.network.mace.r_max))
        species = self.network.mace.atomic_numbers.cpu().numpy()
        single = {"dtype": torch.float32}
        return {
            "positions": torch.tensor(atoms.positions, **single),
            "cell": torch.tensor(atoms.cell.array, **single),
            "node_attrs": torch.tensor(self.numbers(atoms)[:, None] == species, **single),
            "edge_index": torch.tensor(np.stack([i, j])),
            "unit_shifts": torch.tensor(shift, **single),
            "shifts": torch.tensor(shift @ atoms.cell.array, **single),
        }

    def energies_on(self, graph, numbers):
        species = self.network.mace.atomic_numbers.cpu().numpy()
        attributes = torch.tensor(numbers[..., None] == species, dtype=torch.float32)
        batch = _batch([graph | {"node_attrs": part} for part in attributes])
        return self.network.mace(batch, training=False, compute_force=False)["energy"]

    def forward(self, graphs, training=False):
        out, magmoms = self.network(_batch(graphs), training)
        return {
            "energy": out["energy"],
            "forces": out["forces"],
            "stress": out["stress"],
            "magmoms": magmoms,
        }

    def shift_references(self, shift):
        table = self.network.mace.atomic_energies_fn.atomic_energies
        for k, z in enumerate(self.network.mace.atomic_numbers.tolist()):
            table[..., k] += shift.get(z, 0.0)


def _unpickled(cls, state):
    """A potential in another process of a campaign, see `TRACING`."""
    potential = cls.__new__(cls)
    with TRACING:
        potential.__dict__.update(pickle.loads(state))
    return potential


def _batch(graphs):
    counts = torch.tensor([len(g["positions"]) for g in graphs])
    ptr = torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)])
    batch = {
        key: torch.cat([g[key] for g in graphs])
        for key in ("positions", "cell", "node_attrs", "unit_shifts", "shifts")
    }
    return batch | {
        "edge_index": torch.cat([g["edge_index"] + n for g, n in zip(graphs, ptr)], dim=1),
        "ptr": ptr,
        "batch": torch.repeat_interleave(torch.arange(len(graphs)), counts),
    }
