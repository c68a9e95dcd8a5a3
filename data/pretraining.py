#!/usr/bin/env python
"""Cells labelled by CHGNet 0.3.0 as published, on which the small architectures are trained before
they see DFT.

    python data/pretraining.py        writes data/checkpoints/pretraining.extxyz (not kept in git:
    made again in some minutes)
    python data/pretraining.py Li     the same of LixFePO4, pretraining_li.extxyz

NaxFePO4 hosts with Na taken out at random, the cages breathing around a random charge ordering,
rattled and strained. Of lithium half of the cells lie somewhere between its crystal and sodium's:
a model that knows sodium must be told that lithium does not like to be where sodium is. The labels
are CHGNet's; a cell is kept when the oxidation states inferred from its moments are those it was
made for. No DFT frame enters, so nothing of the held-out orderings can leak but what CHGNet knows
of them.
"""

import dataclasses
import sys
from pathlib import Path

import numpy as np
from ase.calculators.singlepoint import SinglePointCalculator
from tqdm.auto import tqdm

import mlipkit as mk

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "dft"))
import olivine

PATHS = {
    "Na": HERE / "checkpoints" / "pretraining.extxyz",
    "Li": HERE / "checkpoints" / "pretraining_li.extxyz",
}
N_CELLS, HELD_OUT = 1500, 0.1


def moved(atoms, other, share):
    """Cell and atoms that share of the way to another cell with the same sites."""
    way = other.get_scaled_positions(wrap=False) - atoms.get_scaled_positions(wrap=False)
    places = atoms.get_scaled_positions(wrap=False) + share * (way - np.round(way))
    atoms.set_cell((1 - share) * atoms.cell.array + share * other.cell.array)
    atoms.set_scaled_positions(places)


def random_cell(rng, ion):
    """A cell of random composition, arrangement of ions, charge ordering and distortion; and the
    states of its Fe.
    """
    n_ions = int(rng.integers(0, 5))
    ions = tuple(sorted(rng.choice(4, n_ions, replace=False).tolist()))
    fe3 = tuple(sorted(rng.choice(4, 4 - n_ions, replace=False).tolist()))
    job = olivine.Job("pretraining", "relax", ions, fe3, ion=ion)
    plain, breathing = olivine.undistorted(job), olivine.breathing(job)
    move = breathing.positions - plain.positions
    atoms = breathing
    atoms.positions = plain.positions + rng.uniform(0.75, 2.0) * move  # 0.045 to 0.12 Å
    if ion == "Li" and rng.random() < 0.5:
        moved(atoms, olivine.breathing(dataclasses.replace(job, ion="Na")), rng.random())
    strain = rng.uniform(-0.03, 0.03, (3, 3)) * rng.uniform(0, 1)
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + (strain + strain.T) / 2), scale_atoms=True)
    atoms.positions += rng.normal(0, rng.uniform(0.0, 0.06), atoms.positions.shape)
    return atoms, job.oxi_states


def main(ion="Na"):
    model, rng, kept = mk.load_model("chgnet"), np.random.default_rng(0), []
    for _ in tqdm(range(N_CELLS)):
        atoms, planned = random_cell(rng, ion)
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
    path = PATHS[ion]
    path.parent.mkdir(exist_ok=True)
    mk.write_frames(path, kept)
    print(f"{len(kept)} of {N_CELLS} cells kept: {path}")


def cells(ion):
    """The labelled cells, made when they are not there."""
    if not PATHS[ion].exists():
        main(ion)
    return mk.read_frames(PATHS[ion])


if __name__ == "__main__":
    main(*sys.argv[1:])
