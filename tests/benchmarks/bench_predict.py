"""Our CHGNet against upstream's, energy + forces + stress + moments, 28-atom cells, one run on one
machine; the others beside it.

    python tests/benchmarks/bench_predict.py
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
import subprocess
import sys
import time

import numpy as np
from chgnet.model import CHGNet
from pymatgen.io.ase import AseAtomsAdaptor

import mlipkit as mk

frames = [a for a in mk.load_dft() if a.info["x"] == 1][-4:]
structures = [AseAtomsAdaptor.get_structure(a) for a in frames]
model = mk.load_model("chgnet", charge_aware=None)
upstream_model = CHGNet.load(use_device="cpu", verbose=False)


def seconds(call, repeats=5):
    call()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return np.median(times) / len(frames)


ours, upstream = (
    seconds(lambda: model.predict(frames, batch_size=1)),
    seconds(lambda: upstream_model.predict_structure(structures, batch_size=1)),
)
pairs = list(zip(model.predict(frames), upstream_model.predict_structure(structures), frames))
energy = max(abs(a.energy / len(f) - float(b["e"])) for a, b, f in pairs)
forces = max(np.abs(a.forces - b["f"]).max() for a, b, _ in pairs)
print(
    f"CHGNet: mlipkit {1e3 * ours:.0f} ms, upstream {1e3 * upstream:.0f} ms per frame: ratio "
    f"{upstream / ours:.1f}; "
    f"equal to {energy:.1e} eV/atom and {forces:.1e} eV/Å"
)
for name in ("cpainn", "mace"):
    other = mk.load_model(name, charge_aware=True)
    print(f"{name}: {1e3 * seconds(lambda m=other: m.predict(frames)):.0f} ms per frame")

MEMORY = """
import sys, mlipkit as mk
mk.load_model(sys.argv[1], charge_aware=True).predict((mk.load_dft() * 3)[:500])
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""
# each in a process of its own: upstream's batches above take more than all of ours
for name in ("cpainn", "mace", "chgnet"):
    peak = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", MEMORY, name],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    print(f"peak memory of predicting 500 frames with {name}: {int(peak) / 1e6:.2f} GB")
