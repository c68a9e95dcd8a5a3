"""VASP: OUTCAR (own parser) and vasprun.xml (pymatgen's, with moments from the OUTCAR of the same
run).

Why an own parser for the OUTCAR: pymatgen's `Outcar` holds the moments of the last table only and
no forces; ASE's `read_vasp_out` loses a table that VASP prints after the energy, parses all
eigenvalues, and does not say which steps converged.
"""

import re
import warnings
from itertools import islice, takewhile
from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.calculators.singlepoint import SinglePointCalculator
from ase.data import atomic_numbers

from mlipkit.files import InputError
from mlipkit.frames.readers.compressed import (
    ENDINGS,
    check_count,
    check_lines,
    open_text,
    uncompressed,
)

KBAR = 0.1 * units.GPa  # eV/Å^3
VOIGT_OF_VASP = [0, 1, 2, 4, 5, 3]  # VASP prints xx yy zz xy yz zx

_OF_INTEREST = re.compile(
    r"Iteration|aborting loop|TOTAL-FORCE|direct lattice vectors|magnetization \(|in kB |FREE "
    r"ENERGIE OF|TITEL|POTCAR:|ions per type"
    r"|NELM |NUPDOWN|LDAUU|LDAUJ|ML TOTEN"
)
# Fortran leaves no blank before a wide negative number
_NUMBER_RUN = re.compile(r"(?<=[0-9])-(?=[0-9])")


def read_outcar(path):
    """All complete ionic steps of an OUTCAR (VASP 5 or 6).

    Parameters
    ----------
    path : str or Path
        May be compressed.

    Returns
    -------
    list of ase.Atoms
        Labels ``energy`` (sigma → 0), ``free_energy`` (eV), ``forces`` (eV/Å), ``stress`` (Voigt-6,
        eV/Å^3, ASE's sign) and ``magmoms`` (µB, column "tot"; x, y and z when the run is
        non-collinear) as far as the step has them. ``info``: ``source``, ``step`` (from 0),
        ``converged`` (False when the SCF of this step hit NELM), ``nupdown`` and ``hubbard_u`` (U -
        J in eV of each element; VASP's species joined) when set.

    Raises
    ------
    InputError
        When the file holds no complete step.

    Warns
    -----
    UserWarning
        For steps left out: the last one of a killed run, and steps of VASP's own machine-learned
        force field.
    """
    with open_text(path) as lines:
        header, steps = _parse(lines, path)
    frames, left_out = [], []
    for i, step in enumerate(steps):
        missing = [
            what
            for what, key in (("cell", "cell"), ("forces", "forces"), ("energy", "energy"))
            if step.get(key) is None
        ]
        if missing:
            left_out.append((i, missing))
            continue
        # not before forces of that many were found
        symbols = np.repeat(header["species"], header["counts"])
        frames.append(
            _frame(
                symbols,
                step,
                header,
                path,
                int(step["number"]) - 1 if step["number"].isdigit() else i,
            )
        )
    if not frames:
        raise InputError(
            f"{path}: holds no complete ionic step (cell, forces and energy); was the run killed "
            "before its first?"
        )
    cut = [i for i, _ in left_out if i == len(steps) - 1]
    if cut and not header["machine_learned"]:
        _warn(
            f"{path}: the last ionic step ({cut[0]}) is cut off and was left out: no "
            f"{', '.join(left_out[-1][1])}"
        )
        left_out.pop()
    unreadable = {what for step in steps for what in step["unreadable"]}
    if unreadable:
        _warn(
            f"{path}: {' and '.join(sorted(unreadable))} of some ionic steps cannot be read (cut "
            "off, or **** for numbers too wide) "
            "and are absent there"
        )
    if left_out:
        why = (
            " (those of VASP's machine-learned force field are not DFT)"
            if header["machine_learned"]
            else ""
        )
        _warn(
            f"{path}: {len(left_out)} ionic step(s) have no readable {', '.join(left_out[0][1])} "
            f"and were left out{why}; "
            f"the first is step {left_out[0][0]}"
        )
    return frames


def _frame(symbols, step, header, path, i):
    positions, forces = np.hsplit(step["forces"], 2)
    atoms = Atoms(symbols, positions=positions, cell=step["cell"], pbc=True)
    atoms.info = {"source": str(path), "step": i}
    converged = step["converged"]
    if converged is None and header["nelm"] and step["cycles"] >= header["nelm"]:
        converged = False  # VASP 5 prints nothing when it gives up
    if converged is not None:
        atoms.info["converged"] = converged
    if header["nupdown"] is not None and header["nupdown"] >= 0:  # -1: the total moment is free
        atoms.info["nupdown"] = header["nupdown"]
    if header["hubbard_u"]:
        atoms.info["hubbard_u"] = header["hubbard_u"]
    labels = {"energy": step["energy"], "free_energy": step["free_energy"], "forces": forces}
    if step["stress"] is not None:
        labels["stress"] = step["stress"]
    if "x" in step["moments"]:
        components = [step["moments"][axis] for axis in "xyz" if axis in step["moments"]]
        labels["magmoms"] = components[0] if len(components) == 1 else np.transpose(components)
    atoms.calc = SinglePointCalculator(atoms, **labels)
    return atoms


def _parse(lines, path):
    header = {
        "species": [],
        "counts": [],
        "nelm": None,
        "nupdown": None,
        "hubbard_u": {},
        "machine_learned": False,
    }
    listed, u, steps, cell = {"TITEL": [], "POTCAR:": []}, {}, [], None
    # what stands before the first cycle of the SCF is read into a step that is not kept
    step = _new_step()
    for line in lines:
        found = _OF_INTEREST.search(line)
        if not found:
            continue
        what = found.group()
        if what == "Iteration":
            numbers = re.search(r"Iteration\s*([\d*]+)\s*\(\s*([\d*]+)\s*\)", line)
            if not numbers:
                continue
            ionic, cycle = numbers.groups()
            if not steps or ionic != step["number"] or (cycle == "1" and step["cycles"]):
                step = _new_step(ionic, cell)
                steps.append(step)
                check_count(len(steps), path)
            step["cycles"] += 1
        elif what == "aborting loop":
            step["converged"] = "EDIFF is reached" in line
        elif step["energy"] is not None and what in (
            "direct lattice vectors",
            "in kB ",
            "TOTAL-FORCE",
            "FREE ENERGIE OF",
        ):
            # the step is complete; what follows is not DFT
            header["machine_learned"] |= "(ML)" in line
        elif what == "direct lattice vectors":
            cell = step["cell"] = _rows(islice(lines, 3), 3, 6)
            cell = step["cell"] = None if cell is None else cell[:, :3]
        elif what == "in kB ":
            stress = _rows([line.split("in kB", 1)[1]], 1, 6)
            if stress is None:
                step["unreadable"].add("stress")
            else:
                step["stress"] = -KBAR * stress[0, VOIGT_OF_VASP]
        elif what == "magnetization (":
            axis = line.split("(", 1)[1][:1]
            table = _table(islice(lines, 3, None), sum(header["counts"]))
            if table is not None and table.shape[1] > 2:
                step["moments"][axis] = table[:, -1]
            elif axis not in step["moments"]:
                step["unreadable"].add("magmoms")
        elif what == "TOTAL-FORCE":
            if "(ML)" in line:
                header["machine_learned"] = True
            else:
                step["forces"] = _table(islice(lines, 1, None), sum(header["counts"]), 6)
        elif what == "FREE ENERGIE OF":
            # else its last number may lack digits
            text = "".join(line for line in islice(lines, 5) if line.endswith("\n"))
            free = re.search(r"TOTEN\s*=\s*(\S+)", text)
            zero = re.search(r"energy\(sigma->0\)\s*=\s*(\S+)", text)
            if free and zero and "ML TOTEN" not in text:
                energies = _rows([f"{free[1]} {zero[1]}"], 1, 2)
                if energies is not None:
                    step["free_energy"], step["energy"] = energies[0]
            header["machine_learned"] |= "ML TOTEN" in text
        elif steps:
            continue  # what follows is written once, before the first cycle
        elif what in ("TITEL", "POTCAR:"):
            listed[what].append(_element(line, path))
            # POTCAR: comes twice each
            header["species"] = (
                listed["TITEL"] or listed["POTCAR:"][: (len(listed["POTCAR:"]) + 1) // 2]
            )
        elif what == "ions per type":
            header["counts"] = _values(line, lines, len(header["species"]), int)
        elif what == "NELM " and (nelm := re.search(r"NELM\s*=\s*(\d+)", line)):
            header["nelm"] = int(nelm[1])
        elif what == "NUPDOWN" and (nupdown := re.search(r"NUPDOWN\s*=\s*(-?[\d.]+)", line)):
            header["nupdown"] = float(nupdown[1])
        elif what in ("LDAUU", "LDAUJ") and "=" in line:
            u[what] = _values(line, lines, len(header["species"]), float)
    if not header["species"] or len(header["counts"]) != len(header["species"]):
        raise InputError(
            f"{path}: lacks the species (TITEL, POTCAR) or how many ions there are of each (ions "
            "per type); "
            "is it a whole OUTCAR, with its head?"
        )
    js = u.get("LDAUJ", [0.0] * len(header["species"]))
    for element, value, j in zip(header["species"], u.get("LDAUU", []), js):
        if value - j:
            header["hubbard_u"][element] = value - j
    return header, steps


def _warn(text):
    warnings.warn(text, stacklevel=3)


def _new_step(number=None, cell=None):
    return {
        "number": number,
        "cycles": 0,
        "converged": None,
        "cell": cell,
        "stress": None,
        "moments": {},
        "forces": None,
        "energy": None,
        "free_energy": None,
        "unreadable": set(),
    }


def _table(lines, n, columns=None):
    """What stands up to the next rule of dashes, when it is n rows of numbers, else None."""
    return _rows(
        takewhile(
            lambda line: (
                line.endswith("\n") and line.strip() and not line.lstrip().startswith("--")
            ),
            lines,
        ),
        n,
        columns,
    )


def _rows(lines, n, columns=None):
    """An array of n rows, or None when one is missing, cut off or holds what VASP could not print
    (****).
    """
    try:
        rows = [[float(word) for word in _NUMBER_RUN.sub(" -", line).split()] for line in lines]
        table = np.array(rows)
    except ValueError:
        return None
    if (
        table.ndim != 2
        or len(table) != n
        or (columns and table.shape[1] != columns)
        or not np.isfinite(table).all()
    ):
        return None
    return table


def _values(line, lines, n, kind):
    """The n numbers after the ``=``; Fortran breaks long lists over several lines."""
    words = line.split("=", 1)[1].split()
    while (
        len(words) < n
        and (more := next(lines, "").split())
        and all(re.fullmatch(r"-?[\d.]+", w) for w in more)
    ):
        words += more
    try:
        return [kind(word) for word in words[:n]]
    except ValueError:
        return []


def _element(line, path):
    """The element of ``TITEL  = PAW_PBE Fe_pv 02Aug2007``, ``PAW H1.25 07Sep2000`` or ``H  1/r
    potential``.
    """
    words = re.split("[=:]", line, maxsplit=1)[-1].split()
    for word in words[1:2] + words[:1]:
        symbol = re.match(r"[A-Za-z]*", word.split("_")[0])[0]
        if atomic_numbers.get(symbol):
            return symbol
    raise InputError(f"{path}: no element can be read from {line.strip()!r}")


def read_vasprun(path):
    """All complete ionic steps of a vasprun.xml, with the moments of the OUTCAR beside it.

    Parameters
    ----------
    path : str or Path
        The OUTCAR is looked for in the same folder under the matching name
        (``vasprun.relax2.xml.gz``: ``OUTCAR.relax2``, compressed or not), then as ``OUTCAR``; it
        counts as the same run when species and energies agree.

    Returns
    -------
    list of ase.Atoms
        As of `read_outcar`, with more digits.

    Raises
    ------
    InputError
        When the file holds no complete step.

    Warns
    -----
    UserWarning
        When there is no OUTCAR to take moments from, and when the last step is cut off.
    """
    from pymatgen.io.vasp.outputs import Vasprun

    check_lines(path, 1_000_000)
    with uncompressed(path) as plain, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            run = Vasprun(
                str(plain),
                parse_dos=False,
                parse_eigen=False,
                parse_potcar_file=False,
                exception_on_bad_xml=False,
            )
        # pymatgen asks the last step whether it converged
        except (AttributeError, IndexError):
            raise InputError(
                f"{path}: holds no complete ionic step; was the run killed before, or is the file "
                "damaged?"
            ) from None
    cut = any("malformed" in str(w.message) for w in caught)
    frames, hubbard_u = [], {element: u for element, u in run.hubbards.items() if u}
    nupdown, nelm = (
        run.parameters.get("NUPDOWN", run.incar.get("NUPDOWN")),
        run.parameters.get("NELM"),
    )
    for i, step in enumerate(run.ionic_steps):
        cycles = step["electronic_steps"]
        if (
            step["structure"] is None
            or "forces" not in step
            or "e_fr_energy" not in step
            or not cycles
        ):
            cut |= i == len(run.ionic_steps) - 1
            continue
        structure, last = step["structure"], cycles[-1]
        # VASP writes the entropy where the energy(sigma->0) of the step belongs; that of the last
        # cycle is right but lacks what is added after the SCF (dispersion): take the difference
        # from there. With PSTRESS it writes E + pV
        free = step["e_fr_energy"] - run.parameters.get("PSTRESS", 0.0) * KBAR * structure.volume
        energy = free + last["e_0_energy"] - last["e_fr_energy"]
        labels = {"energy": energy, "free_energy": free, "forces": np.array(step["forces"], float)}
        if "stress" in step:
            xx, yy, zz, yz, xz, xy = (
                -KBAR * np.array(step["stress"], float)[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
            )
            labels["stress"] = [xx, yy, zz, yz, xz, xy]
        if not all(np.isfinite(value).all() for value in labels.values()):
            _warn(
                f"{path}: ionic step {i} holds numbers that VASP could not print (****) and was "
                "left out"
            )
            continue
        atoms = Atoms(
            run.atomic_symbols,
            cell=structure.lattice.matrix,
            scaled_positions=structure.frac_coords,
            pbc=True,
        )
        atoms.info = {"source": str(path), "step": i}
        if nelm:
            atoms.info["converged"] = len(cycles) < nelm
        if nupdown is not None and nupdown >= 0:
            atoms.info["nupdown"] = float(nupdown)
        if hubbard_u:
            atoms.info["hubbard_u"] = hubbard_u
        atoms.calc = SinglePointCalculator(atoms, **labels)
        frames.append(atoms)
    if not frames:
        raise InputError(
            f"{path}: holds no complete ionic step (cell, forces and energy); was the run killed "
            "before its first?"
        )
    if cut:
        _warn(f"{path}: the last ionic step is cut off and was left out")
    if run.parameters.get("ISPIN", run.incar.get("ISPIN")) != 1 or run.parameters.get(
        "LNONCOLLINEAR"
    ):
        _add_moments(frames, path)
    return frames


def sibling_outcar(path):
    """The OUTCAR that belongs to a vasprun.xml by its name (``vasprun.relax2.xml.gz``:
    ``OUTCAR.relax2``, compressed or not), or None.
    """
    path = Path(path)
    name = path.name.removesuffix(path.suffix) if path.suffix in ENDINGS else path.name
    name = re.sub("vasprun", "OUTCAR", name, flags=re.I).replace(".xml", "")
    files = [path.with_name(name + ending) for ending in ("", *ENDINGS)]
    return next((file for file in files if file != path and file.is_file()), None)


def _add_moments(frames, path):
    """Moments (and what is known of convergence) from the OUTCAR of the same run; a warning when
    there is none.
    """
    outcar = sibling_outcar(path) or sibling_outcar(Path(path).with_name("vasprun.xml"))
    if outcar is None:
        _warn(
            f"{path}: a vasprun.xml holds no moments, and there is no OUTCAR of the same run "
            "beside it: frames have no magmoms"
        )
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the vasprun.xml has warned of the same
            others = {a.info["step"]: a for a in read_outcar(outcar)}
    # whatever is wrong with it, the vasprun.xml itself is good
    except Exception as reason:
        _warn(
            f"{path}: moments cannot be taken from {outcar.name} ({reason}): frames have no magmoms"
        )
        return
    missing = []
    for atoms in frames:
        other = others.get(atoms.info["step"])
        if (
            other is None
            or not np.array_equal(atoms.numbers, other.numbers)
            or abs(atoms.calc.results["free_energy"] - other.calc.results["free_energy"]) > 1e-5
        ):
            missing.append(atoms.info["step"])
            continue
        if "converged" in other.info:
            atoms.info["converged"] = other.info["converged"]
        if "magmoms" in other.calc.results:
            atoms.calc.results["magmoms"] = other.calc.results["magmoms"]
    if missing:
        _warn(
            f"{path}: {outcar.name} beside it is not of the same run at step {missing[0]} (atoms "
            "or energy differ): "
            f"{len(missing)} of {len(frames)} frames have no magmoms"
        )
    elif not any("magmoms" in a.calc.results for a in frames):
        _warn(
            f"{path}: neither it nor {outcar.name} holds moments (VASP writes them with LORBIT >= "
            "10)"
        )
