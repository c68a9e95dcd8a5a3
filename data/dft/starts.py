#!/usr/bin/env python
"""Start geometries from the charge-aware model, for orderings whose charges do not stay where the breathing alone puts them.

    .venv/bin/python data/dft/starts.py JOB ...      writes starts/JOB.extxyz, from which campaign.py then starts the job

The hole of an unfavourable ordering hops to another Fe before the cage has closed around it. A geometry in which the
cage is already closed holds it, and is nearer to the end: fewer steps. Only the start comes from the model; labels are DFT.
"""
import sys

from ase.optimize import FIRE
from olivine import STARTS, breathing, jobs

import mlipkit as mk
from mlipkit.oxidation import FIXED


def relaxed_by_model(job):
    atoms = breathing(job)
    fe = atoms.symbols == "Fe"
    atoms.set_array("oxi_states", [FIXED.get(s, 0) for s in atoms.symbols], dtype=int)
    atoms.arrays["oxi_states"][fe] = job.oxi_states
    atoms.calc = mk.load_model("chgnet", charge_aware=True).calculator()
    FIRE(atoms, logfile=None).run(fmax=0.05, steps=300)
    atoms.calc = None                # neither labels nor intended states go on: only positions
    del atoms.arrays["oxi_states"]
    return atoms


if __name__ == "__main__":
    known = {job.name: job for job in jobs()}
    STARTS.mkdir(exist_ok=True)
    for name in sys.argv[1:]:
        mk.write_frames(STARTS / f"{name}.extxyz", [relaxed_by_model(known[name])])
        print(name, flush=True)
