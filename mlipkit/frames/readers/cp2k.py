"""Outputs of CP2K, for which ASE has no parser."""

import re
from itertools import islice

import numpy as np
from ase import Atoms
from ase.cell import Cell
from ase.units import Bohr, GPa, Hartree

from mlipkit.files import InputError
from mlipkit.frames.readers.compressed import open_text
from mlipkit.frames.readers.steps import (
    frames_of,
    last,
    numbers,
    segments,
    table,
    whole_lines,
    whole_steps,
)

_ENERGY = r"^ ENERGY\| Total FORCE_EVAL.*\s(-?\d+\.\d+)\s*$"
_UNITS = {"GPa": GPa, "bar": 1e-4 * GPa, "kbar": 0.1 * GPa}


def read_cp2k(path):
    """Frames of a CP2K output, with Mulliken's moments.

    CP2K prints the positions of its first step only: those of later steps are taken from
    ``PROJECT-pos-1.xyz`` beside the output, by their energy.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    list of ase.Atoms

    Raises
    ------
    InputError
        When no step is complete.

    Warns
    -----
    UserWarning
        For steps without positions or energy.
    """
    lines = whole_lines(path)
    found = [re.search(r"GLOBAL\| Project name\s+(\S+)", line) for line in lines[:1000]]
    project = next((match[1] for match in found if match), "PROJECT")
    positions = path.with_name(f"{project}-pos-1.xyz")
    run = _Run(dict(_written(positions)) if positions.is_file() else {})
    parts = segments(lines, "SCF WAVEFUNCTION OPTIMIZATION")
    hint = f" (positions of later steps are looked for in {positions.name})"
    return frames_of(path, whole_steps(path, parts, run.step), hint)


class _Run:
    """What the steps of a run have in common: the atoms, and the cell until it changes."""

    def __init__(self, written):
        self.written, self.atoms, self.cell = written, None, np.zeros((3, 3))

    def step(self, part):
        """Structure, labels and convergence of the lines from one SCF to the next."""
        ends = [i for i, line in enumerate(part) if re.search(_ENERGY, line)]
        # the cell that follows the energy is that of the next step
        end = ends[-1] if ends else len(part)
        self._look_for_cell(part[:end])
        atoms = self.atoms
        if atoms is None:
            atoms = self.atoms = _first_atoms(part)
        else:
            energy = last(_ENERGY, part)
            there = next(
                (p for e, p in self.written.items() if abs(e - (energy or 0)) < 1e-9), None
            )
            atoms = None if there is None else self.atoms.copy()
            if atoms is not None:
                atoms.positions = there
        if atoms is not None:
            atoms.cell = self.cell
        self._look_for_cell(part[end:])
        return atoms, _labels(part, len(self.atoms)), _converged(part)

    def _look_for_cell(self, lines):
        if any(line.startswith(" CELL| Vector a") for line in lines):
            self.cell = _cell(lines)


def _first_atoms(part):
    """The atoms of the table before the first SCF, with the periodicity."""
    title = [i for i, line in enumerate(part) if "ATOMIC COORDINATES IN ANGSTROM" in line.upper()]
    rows = []
    for line in part[title[-1] + 1 :] if title else ():
        row = re.match(r"\s*\d+\s+\d+\s+[A-Za-z]\w*\s+(\d+)\s+(\S+)\s+(\S+)\s+(\S+)\s", line)
        if row:
            rows.append(row.groups())
        elif rows:
            break
    if not rows:
        raise InputError("there is no table of atomic coordinates before the first SCF")
    periodic = [re.search(r"CELL\| Periodicity\s+([XYZ]+)", line) for line in part]
    axes = next((match[1] for match in periodic[::-1] if match), "")
    return Atoms(
        numbers=[int(row[0]) for row in rows],
        positions=[[float(word) for word in row[1:]] for row in rows],
        pbc=[axis in axes for axis in "XYZ"],
    )


def _cell(lines):
    """The cell, from lengths and angles, which CP2K prints with more digits than the vectors."""
    rows = [numbers(line) for line in lines if re.match(r" CELL\| Vector [abc] ", line)][-3:]
    angles = [numbers(line)[-1] for line in lines if re.match(r" CELL\| Angle ", line)][-3:]
    vectors = np.array([row[:3] for row in rows])
    lengths = [row[-1] for row in rows]
    cell = Cell.fromcellpar([*lengths, *angles]).array
    # another orientation than a along x, b in the plane of x and y
    return cell if np.abs(cell - vectors).max() < 1e-3 else vectors


def _labels(part, n):
    energy, xyz = last(_ENERGY, part), slice(-3, None)
    forces = table(part, r"^ ATOMIC FORCES in \[a\.u\.\]", n, xyz, skip=2)
    if forces is None:  # 2025 and newer
        forces = table(part, r"^ FORCES\| Atomic forces \[hartree/bohr\]", n, slice(1, 4), skip=1)
    stress, title = None, r"^ STRESS\| (?:Analytical|Numerical) stress tensor \[(\w+)\]"
    unit = [match[1] for line in part if (match := re.search(title, line))]
    if unit and unit[-1] in _UNITS:
        # CP2K counts pressure as positive
        stress = -_UNITS[unit[-1]] * table(part, title, 3, xyz, skip=1)
        stress = stress[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
    moments = table(part, r"^ #\s+Atom\s+Element\s+Kind.*Spin moment", n, slice(-1, None))
    return {
        "energy": None if energy is None else energy * Hartree,
        "free_energy": None if energy is None else energy * Hartree,
        "forces": None if forces is None else forces * Hartree / Bohr,
        "stress": stress,
        "magmoms": None if moments is None else moments[:, 0],
    }


def _converged(part):
    said = [re.search(r"SCF (?:run|loop) (converged|NOT converged|FAILED)", s) for s in part]
    said = [match[1] for match in said if match]
    return said[-1] == "converged" if said else None


def _written(path):
    """(Energy in Hartree, positions in Å) of each frame of the trajectory that CP2K writes."""
    with open_text(path) as lines:
        for head in lines:
            n, comment = int(head), next(lines, "")
            energy = re.search(r"E =\s*(\S+)", comment)
            rows = [line.split()[1:4] for line in islice(lines, n)]
            if energy and len(rows) == n:
                yield float(energy[1]), np.array(rows, float)
