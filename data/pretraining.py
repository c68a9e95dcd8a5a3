#!/usr/bin/env python
"""Cells labelled by CHGNet 0.3.0 as published, on which the small architectures are trained before
they see DFT.

    python data/pretraining.py        writes data/checkpoints/pretraining.extxyz (not kept in git:
    made again in some minutes)

NaxFePO4 hosts with Na taken out at random, the cages breathing around a random charge ordering,
rattled and strained. The labels are CHGNet's; a cell is kept when the oxidation states inferred
from its moments are those it was made for. No DFT frame enters, so nothing of the held-out
orderings can leak but what CHGNet knows of them.
"""

import sys
from pathlib import Path

import numpy as np
from ase.calculators.singlepoint import SinglePointCalculator
from tqdm.auto import tqdm

import mlipkit as mk

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "dft"))
import olivine

PATH, N_CELLS, HELD_OUT = HERE / "checkpoints" / "pretraining.extxyz", 1500, 0.1


def random_cell(rng):
    """A cell of random composition, Na arrangement, charge ordering and distortion; and the states
    of its Fe.
    """
    n_na = int(rng.integers(0, 5))
    na = tuple(sorted(rng.choice(4, n_na, replace=False).tolist()))
    fe3 = tuple(sorted(rng.choice(4, 4 - n_na, replace=False).tolist()))
    job = olivine.Job("pretraining", "relax", na, fe3)
    plain, breathing = olivine.undistorted(job), olivine.breathing(job)
    move = breathing.positions - plain.positions
    atoms = breathing
    atoms.positions = plain.positions + rng.uniform(0.75, 2.0) * move  # 0.045 to 0.12 Å
    strain = rng.uniform(-0.03, 0.03, (3, 3)) * rng.uniform(0, 1)
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + (strain + strain.T) / 2), scale_atoms=True)
    atoms.positions += rng.normal(0, rng.uniform(0.0, 0.06), atoms.positions.shape)
    return atoms, job.oxi_states


def main():
    model, rng, kept = mk.load_model("chgnet"), np.random.default_rng(0), []
    for _ in tqdm(range(N_CELLS)):
        atoms, planned = random_cell(rng)
        p = model.predict([atoms])[0]
        atoms.calc = SinglePointCalculator(
            atoms, energy=p.energy, forces=p.forces, stress=p.stress, magmoms=p.magmoms
        )
        found = mk.infer_oxidation_states(atoms)
        if found.states[atoms.symbols == "Fe"].tolist() != planned:
            continue
        atoms.set_array("oxi_states", found.states)
        atoms.info = {"split": "validation" if rng.random() < HELD_OUT else "train"}
        kept.append(atoms)
    PATH.parent.mkdir(exist_ok=True)
    mk.write_frames(PATH, kept)
    print(f"{len(kept)} of {N_CELLS} cells kept: {PATH}")


if __name__ == "__main__":
    main()
