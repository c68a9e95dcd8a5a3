"""Our CHGNet against upstream's, energy + forces + stress + moments, 28-atom cells, one run on one machine.

    python tests/benchmarks/bench_predict.py
"""
import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
import time

import numpy as np
from pymatgen.io.ase import AseAtomsAdaptor

import mlipkit as mk

frames = [a for a in mk.load_dft() if a.info["x"] == 1][-4:]
structures = [AseAtomsAdaptor.get_structure(a) for a in frames]
model = mk.load_model("chgnet", charge_aware=None)


def seconds(call, repeats=5):
    call()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return np.median(times) / len(frames)


ours, upstream = seconds(lambda: model.predict(frames, batch_size=1)), seconds(lambda: model.network.predict_structure(structures, batch_size=1))
difference = max(abs(a.energy / len(f) - float(b["e"])) for a, b, f in
                 zip(model.predict(frames), model.network.predict_structure(structures), frames))
print(f"mlipkit {1e3 * ours:.0f} ms, upstream {1e3 * upstream:.0f} ms per frame: ratio {upstream / ours:.1f}; energies agree to {difference:.1e} eV/atom")
