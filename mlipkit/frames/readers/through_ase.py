"""Outputs that ASE parses (Quantum ESPRESSO, CASTEP, FHI-aims, older GPAW), with what it leaves
out: moments, which steps converged, and the complete steps of a run that was killed.
"""

import io
import re
import warnings

from mlipkit.files import InputError
from mlipkit.frames.readers.abinit_gpaw import read_gpaw_tables
from mlipkit.frames.readers.steps import (
    frames_of,
    last,
    segments,
    table,
    warn,
    whole_lines,
    whole_steps,
)

LABELS = ("energy", "free_energy", "forces", "stress", "magmoms")


def read_espresso(path):
    """Frames of a pw.x output. The energy is pw.x's "total energy" F = E - TS, as forces follow it;
    moments are those of the last "Magnetic moment per site" of a step.
    """
    from ase.io.espresso import read_espresso_out

    def parse(part):
        frames = list(read_espresso_out(io.StringIO("".join(part)), index=slice(None)))
        return [atoms for atoms in frames if atoms.calc.results.get("energy") is not None]

    lines, starts = whole_lines(path), r"Program PWSCF|ATOMIC_POSITIONS"
    _prepare(lines)
    frames = _whole_steps(path, lines, starts, parse)
    parts = [
        part
        for part in segments(lines, starts)
        if any(line.startswith("!    total energy") for line in part)
    ]
    steps, threshold = [], last(r"scf convergence threshold =\s*(\S+)", lines)
    for atoms, part in zip(frames, parts):
        # ASE takes the first table and its last column, which in pw.x 6 is the constraint's
        moments = [
            float(found[1])
            for line in part
            if (found := re.search(r"^\s*atom\b.*magn[:=]\s*(\S+)", line))
        ]
        labels = _labels(atoms, magmoms=moments[-len(atoms) :] or None)
        # with scf_must_converge = .false. pw.x claims that each SCF has converged
        accuracy = last(r"^     estimated scf accuracy\s+<\s+(\S+)", part)
        failed = any("convergence NOT achieved" in line for line in part)
        good = accuracy is None or threshold is None or accuracy <= threshold + 1e-8
        steps.append((atoms, labels, good and not failed))
    return frames_of(path, steps)


def _prepare(lines):
    """Mark the last energy of each SCF that did not converge with the "!" that pw.x reserves for
    those that did, as ASE reads no other; and take out k-points and bands, over which it stumbles.
    """
    energy = None
    for i, line in enumerate(lines):
        if line.startswith("     total energy  "):
            energy = i
        elif line.startswith("!"):
            energy = None
        elif "convergence NOT achieved" in line and energy is not None:
            lines[energy], energy = "!" + lines[energy][1:], None
        elif re.search(r"End of (self-|band )|number of k points=", line):
            lines[i] = "\n"


def read_castep(path):
    """Frames of a .castep file: energy of 0 K, with the dispersion correction where there is one;
    Mulliken's moments, which CASTEP prints for the last step.
    """
    from ase.io.castep import read_castep_castep

    def parse(part):
        file = io.StringIO("".join(part))
        file.name = str(path)  # ASE's errors ask for it
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # ASE repeats those of CASTEP
            return read_castep_castep(file, index=slice(None))

    lines = whole_lines(path)
    starts = r"BFGS: (starting|improving) iteration|Starting MD iteration"
    if not any("Finalisation time   =" in line for line in lines):
        whole = [i for i, line in enumerate(lines) if re.search(starts, line)]
        if not whole:
            raise InputError(f"{path}: this CASTEP run did not end, and holds no complete step")
        warn(f"{path}: the run did not end; its last step was left out")
        # what follows the last start is not known to be whole
        lines[whole[-1] :] = ["Finalisation time   =\n"]
    frames, steps = parse(lines), []
    # the step before the first start is one too
    parts = segments(lines, rf"CASTEP version|{starts}")[-len(frames) :]
    for atoms, part in zip(frames, parts if len(parts) == len(frames) else [[]] * len(frames)):
        labels = _labels(atoms)
        dispersion = "(?:NB dispersion corrected est. 0K|Dispersion corrected final) energy"
        energy = last(rf"{dispersion}.*=\s*(\S+)\s+eV", part)
        if energy is not None:  # ASE looks for it under another name than it stores it
            free = last(r"Dispersion corrected final free energy.*=\s*(\S+)\s+eV", part)
            labels.update(energy=energy, free_energy=energy if free is None else free)
        failed = any("has not reached the groundstate" in line for line in part)
        steps.append((atoms, labels, not failed if part else None))
    return frames_of(path, steps)


def read_aims(path):
    """Frames of an FHI-aims output. The energy is the "total energy corrected" (sigma → 0) of a
    metal; moments are Mulliken's, which need ``output mulliken``.
    """
    from ase.io.aims import get_aims_out_chunks, get_header_chunk

    lines = iter(whole_lines(path))
    header = get_header_chunk(lines)
    chunks = list(get_aims_out_chunks(lines, header))
    if header.is_relaxation:
        chunks = chunks[:-1]  # what follows the last step

    def read(chunk):
        atoms, scf = chunk.atoms, [s for s in chunk.lines if "Self-consistency cycle" in s]
        marks = re.compile(r"Begin self-consistency|(Total energy uncorrected)")
        found = [match for line in chunk.lines if (match := marks.search(line))]
        # killed within an SCF, or between the first and the second try of one
        if not found or not found[-1][1] or (scf and "restarting" in scf[-1]):
            return atoms, {}, None
        labels = _labels(atoms, energy=chunk.total_energy, magmoms=_mulliken(chunk))
        return atoms, labels, "cycle converged" in scf[-1] if scf else None

    return frames_of(path, whole_steps(path, chunks, read))


def _mulliken(chunk):
    moments = table(
        chunk.lines, "^Summary of the per-atom spin", chunk.n_atoms, slice(1, 2), skip=2
    )
    return None if moments is None else moments[:, 0]


def read_gpaw(path):
    """Frames of GPAW's text output; energies are relative to GPAW's reference atoms."""
    from ase.io.gpaw_out import read_gpaw_out

    lines, starts = whole_lines(path), "^Positions:"
    if not any(line.startswith("Positions:") for line in lines):
        return read_gpaw_tables(path, lines)
    parse = lambda part: read_gpaw_out(io.StringIO("".join(part)), slice(None))
    frames = _whole_steps(path, lines, starts, parse)
    steps = []
    for atoms, part in zip(frames, segments(lines, starts)):
        free = last(r"^Free energy:\s+(\S+)", part)
        labels = _labels(atoms, free_energy=free)
        if not any(line.startswith("Local magnetic moments") for line in part):
            labels.pop("magmoms")  # those that the run began with
        steps.append((atoms, labels, any(line.startswith("Converged") for line in part)))
    return frames_of(path, steps)


def _labels(atoms, **ours):
    results = getattr(atoms.calc, "results", {})
    return {name: results.get(name) for name in LABELS} | {
        name: value for name, value in ours.items() if value is not None
    }


def _whole_steps(path, lines, starts, parse):
    """What a parser makes of all lines or, when the last step is cut off, of those before it."""
    try:
        return parse(lines)
    except Exception:
        begins = [i for i, line in enumerate(lines) if re.search(starts, line)]
        if len(begins) < 2:
            raise
        frames = parse(lines[: begins[-1]])
        warn(f"{path}: the last step cannot be read, is it cut off? It was left out")
        return frames
