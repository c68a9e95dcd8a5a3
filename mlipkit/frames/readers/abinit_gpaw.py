"""Outputs of ABINIT (9 and newer) and GPAW (26, tables with bars), parsed here: ASE has no parser
for the second, and does not multiply the lattice vectors of the first by their lengths (``acell``).
"""

import re

from ase import Atoms
from ase.units import Bohr, Hartree

from mlipkit.frames.readers.steps import (
    frames_of,
    last,
    segments,
    table,
    whole_lines,
    whole_steps,
)

VOIGT = ([0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1])


def read_abinit(path):
    """Frames of an ABINIT main output (.abo): its documents "ResultsGS", one per step, of all data
    sets. Energies are free energies (with -TS); moments are those in spheres (``ratsph``).
    """
    lines = whole_lines(path)
    return frames_of(
        path, whole_steps(path, segments(lines, "^--- !BeginCycle"), _read_abinit_step)
    )


def _read_abinit_step(part):
    xred = [i for i, line in enumerate(part) if line.startswith("xred ")]
    if not xred:
        return None, {}, None
    symbols = []
    for line in part[xred[-1] + 1 :]:
        found = re.match(r"- \[.*,\s*([A-Z][a-z]?)\s*\]", line)
        if not found:
            break
        symbols.append(found[1])
    n, xyz = len(symbols), slice(0, 3)
    cell = table(part, "^lattice_vectors", 3, xyz) * Bohr
    atoms = Atoms(symbols, cell=cell, pbc=True)
    atoms.set_scaled_positions(table(part, "^xred ", n, xyz))
    # xred has five digits, these have fourteen, but not every run prints them
    precise = table(part, r"^ Cartesian coordinates \(xcart\) \[bohr\]", n, xyz)
    at_end = table(part, r"^ cartesian coordinates \(angstrom\) at end", n, slice(1, 4))
    if precise is not None or at_end is not None:
        atoms.positions = at_end if precise is None else precise * Bohr
    energy = last(r"^ ETOT\s+\d+\s+(\S+)", part)
    forces = table(part, "^cartesian_forces", n, xyz)
    stress = table(part, "^cartesian_stress_tensor", 3, xyz)
    spheres = r"^\s*Atom\s+Radius\s.*Diff\(up-dn\)"
    moments = table(part, spheres, n, slice(-1, None))
    labels = {
        "energy": None if energy is None else energy * Hartree,
        "free_energy": None if energy is None else energy * Hartree,
        "forces": None if forces is None else forces * Hartree / Bohr,
        "stress": None if stress is None else stress[VOIGT] * Hartree / Bohr**3,
        "magmoms": None if moments is None else moments[:, 0],
    }
    return atoms, labels, not any("was not enough SCF cycles" in line for line in part)


def read_gpaw_tables(path, lines):
    """Frames of the text output of newer GPAW; energies are relative to GPAW's reference atoms."""
    return frames_of(path, whole_steps(path, segments(lines, r"^Atoms  #"), _read_gpaw_step))


def _read_gpaw_step(part):
    first = next(i for i, line in enumerate(part) if line.startswith("Atoms  #")) + 3
    rows = []
    for line in part[first:]:
        if not line.startswith("|"):
            break
        rows.append([word.strip() for word in line.split("|")[1:6]])
    n, xyz = len(rows), slice(0, 3)
    cell_rows = [line for line in part if re.match(r"\|\s+(yes|no) \|", line)]
    atoms = Atoms(
        [row[1] for row in rows],
        positions=[[float(word) for word in row[2:]] for row in rows],
        cell=table(part, "^Unit cell  #", 3, xyz, skip=2),
        pbc=["yes" in row.split("|")[1] for row in cell_rows[:3]],
    )
    stress = table(part, "^Stress tensor  #", 3, xyz, skip=2)
    # up to the "#" with the number of the atom
    plain = [line.split("# ")[0] + "\n" if line.startswith("| ") else line for line in part]
    moments = table(plain, "^Local magnetic moments", n, xyz, skip=2)
    labels = {
        "energy": last(r"^\s+Extrapolated:\s+(\S+)", part),
        "free_energy": last(r"^\s+Free energy:\s+(\S+)", part),
        "forces": table(plain, "^Forces  #", n, xyz, skip=2),
        "stress": None if stress is None else stress[VOIGT],
        "magmoms": moments,
    }
    if moments is not None and not moments[:, :2].any():
        labels["magmoms"] = moments[:, 2]
    return atoms, labels, any(line.startswith("Converged in") for line in part)
