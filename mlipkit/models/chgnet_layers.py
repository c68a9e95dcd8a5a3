"""CHGNet's message passing with fewer operations: the same layers, weights and results, for
prediction and training.

A gated MLP on concatenated features of bond, centre and neighbour starts with one matrix product
over 2,000 directed bonds of a 28-atom cell. The product with each part can be taken before the part
is gathered onto the bonds: over 28 atoms and 1,000 undirected bonds. Half of CHGNet's time goes
into these products.
"""

import torch
from chgnet.model.functions import aggregate
from chgnet.model.layers import AngleUpdate, AtomConv, BondConv


def gated(mlp, parts):
    """chgnet's GatedMLP of the concatenation of ``values[index]`` for (values, index) in `parts`;
    an index of None takes all rows.
    """
    core, gate = mlp.mlp_core.layers, mlp.mlp_gate.layers
    first = next(i for i, layer in enumerate(core) if isinstance(layer, torch.nn.Linear))
    weight = torch.cat([core[first].weight, gate[first].weight])
    bias = torch.cat([core[first].bias, gate[first].bias])
    total = None
    for (values, index), columns in zip(
        parts, weight.split([values.shape[1] for values, _ in parts], dim=1)
    ):
        product = values @ columns.T if total is not None else torch.addmm(bias, values, columns.T)
        product = product if index is None else product.index_select(0, index)
        total = product if total is None else total + product
    core_out, gate_out = (
        layers[first + 1 :](part) for layers, part in zip((core, gate), total.chunk(2, dim=1))
    )
    if mlp.norm is not None:
        core_out, gate_out = mlp.bn1(core_out), mlp.bn2(gate_out)
    return mlp.activation(core_out) * mlp.sigmoid(gate_out)


def updated(layer, messages, owners, features, norm):
    """What a convolution does with its messages."""
    new = aggregate(messages, owners, average=False, num_owner=len(features))
    if layer.use_mlp_out:
        new = layer.mlp_out(new)
    if layer.resnet:
        new = new + features
    return new if norm is None else norm(new)


class FastAtomConv(AtomConv):
    def forward(self, atom_feas, bond_feas, bond_weights, atom_graph, directed2undirected):
        center, neighbor = atom_graph.T
        messages = gated(
            self.twoBody_atom,
            [(atom_feas, center), (bond_feas, directed2undirected), (atom_feas, neighbor)],
        )
        messages = messages * bond_weights.index_select(0, directed2undirected)
        return updated(self, messages, center, atom_feas, self.atom_norm)


class FastBondConv(BondConv):
    def forward(self, atom_feas, bond_feas, bond_weights, angle_feas, bond_graph):
        center, first, second = bond_graph.T
        messages = gated(
            self.twoBody_bond,
            [(bond_feas, first), (bond_feas, second), (angle_feas, None), (atom_feas, center)],
        )
        messages = (
            messages * bond_weights.index_select(0, first) * bond_weights.index_select(0, second)
        )
        return updated(self, messages, first, bond_feas, self.bond_norm)


class FastAngleUpdate(AngleUpdate):
    def forward(self, atom_feas, bond_feas, angle_feas, bond_graph):
        center, first, second = bond_graph.T
        new = gated(
            self.twoBody_bond,
            [(bond_feas, first), (bond_feas, second), (angle_feas, None), (atom_feas, center)],
        )
        if self.resnet:
            new = new + angle_feas
        return new if self.angle_norm is None else self.angle_norm(new)


FAST = {AtomConv: FastAtomConv, BondConv: FastBondConv, AngleUpdate: FastAngleUpdate}


def accelerate(network):
    """Let the layers of a CHGNet, whose weights and names stay as they are, work the fast way."""
    for module in network.modules():
        module.__class__ = FAST.get(type(module), type(module))
    return network
