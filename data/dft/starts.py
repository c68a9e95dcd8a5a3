#!/usr/bin/env python
"""Start geometries from models: orderings whose charges do not stay where the breathing alone puts
them, free cells, and the structures that models relaxed, for DFT to judge.

    .venv/bin/python data/dft/starts.py JOB ...
        writes starts/JOB.extxyz, from which campaign.py then starts the job

    .venv/bin/python data/dft/starts.py verdicts
        the ends of the shipped relaxations (make results), one for each ordering asked for and,
        where the model moved the charges, one for those that it has

The hole of an unfavourable ordering hops to another Fe before the cage has closed around it. A
geometry in which the cage is already closed holds it, and is nearer to the end: fewer steps. Only
the start comes from the model; labels are DFT.
"""

import sys

import numpy as np
from ase import Atoms
from olivine import STARTS, VERDICT_ON, breathing, jobs

import mlipkit as mk
from mlipkit.charges.oxidation import FIXED

HERE = STARTS.parent


def relaxed_by_model(job):
    atoms = (
        breathing(job)
        if job.kind != "cell"
        else mk.read_frames(HERE / "frames" / f"{job.tag}.extxyz")[-1]
    )
    fe = atoms.symbols == "Fe"
    atoms.set_array("oxi_states", [FIXED.get(s, 0) for s in atoms.symbols], dtype=int)
    atoms.arrays["oxi_states"][fe] = job.oxi_states
    free = job.kind == "cell"
    found = mk.relax(
        atoms,
        mk.load_model("chgnet", charge_aware=True),
        fmax=0.03 if free else 0.05,
        cell=free,
        optimizer="LBFGS" if free else "FIRE",
        progress=False,
    )
    # neither labels nor intended states go on: only positions and cell
    return Atoms(atoms.numbers, found.atoms.positions, cell=found.atoms.cell, pbc=True)


def write_verdicts():
    for model in VERDICT_ON:
        for relaxation in mk.load_relaxations(model):
            atoms, asked = relaxation.atoms, relaxation.atoms.info["ordering"]
            states = relaxation.states[-1][relaxation.redox_sites]
            if len(set(states)) == 1:
                continue
            has = "_".join(
                [*asked.split("_")[:2], "fe" + "".join(map(str, np.flatnonzero(states == 3)))]
            )
            for tag in {asked, has}:
                path = STARTS / f"{tag}.{model}.extxyz"
                if not path.exists():
                    mk.write_frames(
                        path, [Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)]
                    )


if __name__ == "__main__":
    if sys.argv[1:] == ["verdicts"]:
        write_verdicts()
        sys.exit()
    known = {job.name: job for job in jobs()}
    STARTS.mkdir(exist_ok=True)
    for name in sys.argv[1:]:
        mk.write_frames(STARTS / f"{name}.extxyz", [relaxed_by_model(known[name])])
        print(name, flush=True)
