"""A training on a GPU against the same on the CPU: seconds per epoch, and how far the loss curves
part, beside how far those of the CPU part with another number of threads; one run on one machine,
which needs a GPU.

python tests/benchmarks/bench_device.py
"""

import os
import sys
import time
import warnings

import torch

import mlipkit as mk
from mlipkit.models.potential import device_of

warnings.simplefilter("ignore")
GPU, CORES = device_of("auto"), os.cpu_count()
if GPU.type == "cpu":
    sys.exit("bench_device: torch finds no GPU here, so there is nothing to compare")
frames = mk.load_dft()
by = {s: [a for a in frames if a.info["split"] == s] for s in ("train", "validation")}
few = by["train"][::16][:16] + by["validation"][:4]
EPOCHS = 3


def trained(name, batch_size, device, threads=CORES):
    """Seconds per epoch, the mean of all but the first, and the loss curve."""
    torch.set_num_threads(threads)
    times, start = [], mk.load_model(name, charge_aware=True, device=device)
    _, history = mk.train(
        name,
        few,
        True,
        epochs=EPOCHS,
        lr=1e-4,
        batch_size=batch_size,
        start=start,
        device=device,
        progress=False,
        on_epoch=lambda history: times.append(time.perf_counter()),
    )
    return (times[-1] - times[0]) / (EPOCHS - 1), [h["train"] for h in history]


def apart(one, other):
    """How far two curves part in each epoch, per cent."""
    return ", ".join(f"{100 * abs(a - b) / b:.2g}" for a, b in zip(one, other))


print(f"{torch.cuda.get_device_name() if GPU.type == 'cuda' else GPU}; {CORES} cores")
for name in ("mace", "cpainn", "chgnet"):
    there, curve = trained(name, 4, str(GPU))
    one, expected = trained(name, 4, "cpu", 1)
    all_cores, again = trained(name, 4, "cpu")
    print(
        f"{name}, batches of 4: GPU {there:.2f} s per epoch, CPU {one:.2f} s on one thread (ratio "
        f"{one / there:.1f}), {all_cores:.2f} s on {CORES} ({all_cores / there:.1f}); losses "
        f"{apart(curve, expected)} % apart, CPU with itself {apart(again, expected)} %",
        flush=True,
    )
    there, all_cores = (trained(name, 16, device)[0] for device in (str(GPU), "cpu"))
    print(
        f"{name}, batches of 16: GPU {there:.2f} s, CPU {all_cores:.2f} s on {CORES} "
        f"({all_cores / there:.1f})",
        flush=True,
    )
