"""Where an epoch's time goes, and what the size of a batch does to it: CPU ms per frame, one thread.

python tests/benchmarks/bench_epoch.py
"""

import os

os.environ.update({"OMP_WAIT_POLICY": "passive", "OMP_NUM_THREADS": "1"})
import time
import warnings

import torch

import mlipkit as mk
from mlipkit.models.training import loss_of, targets

torch.set_num_threads(1)
warnings.simplefilter("ignore")
N = 32
frames = [a for a in mk.load_dft() if a.info["split"] == "train"][:N]


def spent(call):
    """What a call gives, and CPU ms per frame."""
    began = time.process_time()
    found = call()
    return found, 1e3 * (time.process_time() - began) / N


def epoch(potential, data, optimizer, batch_size):
    """Milliseconds in forward (energies, forces), backward and step."""
    total = {"forward": 0.0, "backward": 0.0, "step": 0.0}
    for i in range(0, N, batch_size):
        optimizer.zero_grad()
        loss, ms = spent(lambda: loss_of(potential, data[i : i + batch_size], training=True))  # noqa: B023
        total["forward"] += ms
        total["backward"] += spent(loss.backward)[1]
        total["step"] += spent(optimizer.step)[1]
    return total


for name in ("chgnet", "cpainn", "mace"):
    potential = mk.load_model(name, charge_aware=True)
    net = potential.network
    net.train()
    data, made = spent(lambda: [(potential.graph(a), targets(a)) for a in frames])  # noqa: B023
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-5, fused=True)
    epoch(potential, data, optimizer, 4)
    found = {size: epoch(potential, data, optimizer, size) for size in (4, 1, 2, 8, 16)}
    parts = ", ".join(f"{part} {ms:.1f}" for part, ms in found[4].items())
    by_size = ", ".join(f"{size}: {sum(found[size].values()):.0f}" for size in sorted(found))
    print(f"{name}: graph, once {made:.1f}; {parts}; by size of batch {by_size}", flush=True)
