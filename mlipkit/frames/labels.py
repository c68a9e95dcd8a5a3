"""Labelled frames: an `ase.Atoms` with a `SinglePointCalculator`; their labels, writing them, and a
table of them.
"""

import io
import lzma
import warnings

import numpy as np

from mlipkit import arguments
from mlipkit.files import InputError, write_atomically

EXAMPLE = {"Ga": ("Fe", 3)}  # how a map of proxy elements is written
UNKNOWN = "-"  # a spin state that is not told; an empty text would be no column of an extxyz file
PER_ATOM = ("forces", "magmoms", "charges", "energies", "stresses")  # labels with a row per atom


def check_cell(atoms, where):
    """Refuse a cell that is not finite, or whose vectors lie in a plane or on a line: nothing can
    be repeated by them.

    Vectors that are zero, of a direction in which nothing repeats, may be there.
    """
    if not np.isfinite(atoms.cell.array).all():
        raise InputError(f"{where}: the cell is not finite")
    vectors = atoms.cell.array[atoms.cell.array.any(axis=1)]
    if not len(vectors):
        return
    directions = vectors / np.abs(vectors).max(axis=1, keepdims=True)
    if np.linalg.matrix_rank(directions, tol=1e-6) < len(vectors):
        raise InputError(
            f"{where}: the cell is flat, its vectors {atoms.cell.array.tolist()} (Å) lie in a "
            "plane or on a line"
        )


def checked_frame(atoms, source, i):
    """Bring a frame from any reader to the conventions of the package: labels checked, vacancies
    dropped, origin noted.

    Parameters
    ----------
    atoms : ase.Atoms
        Labels in ``calc.results``, or ``forces`` and ``magmoms`` in ``arrays``. With vacancies
        (species ``X``) a label may have a row for each atom or only for each real one.
    source : str
        The file; goes to ``info["source"]`` unless the frame names another.
    i : int
        Number of the frame in the file; goes to ``info["step"]`` unless the frame has one.

    Returns
    -------
    ase.Atoms
        Without vacancies, their number in ``info["n_vacancies"]``; stress as Voigt-6.

    Raises
    ------
    InputError
        When there is no atom, a position or the cell is not finite, the cell is flat, or a label
        has the wrong shape.
    """
    from ase.calculators.singlepoint import SinglePointCalculator

    where, real = f"{source}: frame {i}", atoms.numbers != 0
    if not ((atoms.numbers >= 0) & (atoms.numbers <= 118)).all():
        raise InputError(
            f"{where}: there is no element of atomic number {max(atoms.numbers, key=abs)}"
        )
    if not real.any():
        raise InputError(f"{where}: holds no atom")
    if not np.isfinite(atoms.positions).all():
        raise InputError(
            f"{where}: atom {np.argmin(np.isfinite(atoms.positions).all(axis=1))}: a position is "
            "not a finite number"
        )
    check_cell(atoms, where)
    results = {
        name: value
        for name, value in getattr(atoms.calc, "results", {}).items()
        if value is not None
    }
    for name in ("forces", "magmoms"):
        if name in atoms.arrays and name not in results:
            results[name] = atoms.arrays.pop(name)
    for name, value in results.items():
        results[name] = checked_label(name, value, real, where)
    # non-collinear: what compares is the length
    if results.get("magmoms", np.empty(0)).ndim == 2:
        full = np.zeros((len(atoms), 3))
        full[real] = results["magmoms"]
        atoms.set_array("magmom_vectors", full)
        results["magmoms"] = np.linalg.norm(results["magmoms"], axis=1)
    if not real.all():
        atoms = atoms[real]
        atoms.info["n_vacancies"] = int((~real).sum())
    atoms.info.setdefault("source", source)
    atoms.info.setdefault("step", i)
    if real.all() and type(atoms.calc) is SinglePointCalculator and results:
        atoms.calc.results = results  # which spares a copy of the frame
    else:
        atoms.calc = SinglePointCalculator(atoms, **results) if results else None
    return atoms


def checked_label(name, value, real, where):
    try:
        value = np.array(value, float)
    except (TypeError, ValueError):
        raise InputError(f"{where}: {name} is not numeric") from None
    if name in ("energy", "free_energy"):
        if value.size != 1:
            raise InputError(f"{where}: {name} must be one number, not {value.size}")
        return float(value.ravel()[0])
    if name == "stress":
        if value.shape in ((9,), (3, 3)):
            value = value.reshape(3, 3)[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
        if value.shape != (6,):
            raise InputError(
                f"{where}: stress must be six numbers (Voigt) or nine, not of shape {value.shape}"
            )
    if name in PER_ATOM:
        n, n_real = len(real), int(real.sum())
        if name == "magmoms" and value.shape[1:] == (1,):
            value = value[:, 0]
        columns = {"forces": ((3,),), "magmoms": ((), (3,)), "stresses": ((6,), (3, 3))}.get(
            name, ((),)
        )
        if value.ndim == 0 or len(value) not in (n, n_real) or value.shape[1:] not in columns:
            raise InputError(
                f"{where}: {name} of shape {value.shape} do not fit {n} atoms"
                + (f", nor the {n_real} that are not vacancies" if n_real < n else "")
            )
        if len(value) == n:
            value = value[real]
    return value


def decode_proxies(atoms, proxies):
    """Real elements for proxy elements, in a copy.

    Parameters
    ----------
    atoms : ase.Atoms
    proxies : dict
        ``{proxy element: (element, oxidation state)}``: ``{"Ga": ("Fe", 3)}`` for doi
        10.11583/DTU.31812499; another published database needs ``{"Rh": ("Fe", 3), "Tc": ("Fe",
        2)}``. ``("Co", 3, "low")`` names a spin state as well.

    Returns
    -------
    ase.Atoms
        With the same labels; ``arrays["oxi_states"]`` holds the state of each atom that was a proxy
        and keeps what was there for the others (0 where nothing was known); where the map names
        spins, likewise ``arrays["spin_states"]`` ("-" where nothing was known).

    Raises
    ------
    InputError
        When the map is not of this form.
    """
    from ase.calculators.singlepoint import SinglePointCalculator
    from ase.data import atomic_numbers

    result, numbers = atoms.copy(), atoms.numbers.copy()
    states = np.array(atoms.arrays.get("oxi_states", np.zeros(len(atoms))), int)
    try:
        ions = [
            (atomic_numbers[proxy], atomic_numbers[element], int(state), *map(str, spin))
            for proxy, (element, state, *spin) in proxies.items()
        ]
    except (AttributeError, KeyError, TypeError, ValueError):
        raise InputError(
            f"proxies must look like {EXAMPLE} (proxy element: element and oxidation state), "
            f"not {proxies!r}"
        ) from None
    spins = np.array(atoms.arrays.get("spin_states", np.full(len(atoms), UNKNOWN)), object)
    for proxy, element, state, *spin in ions:
        here = atoms.numbers == proxy
        numbers[here], states[here] = element, state
        if spin:
            spins[here] = spin[0]
    result.numbers = numbers
    result.set_array("oxi_states", states)
    if any(len(ion) > 3 for ion in ions):
        result.set_array("spin_states", spins.astype(str))
    results = getattr(atoms.calc, "results", {})
    # the old one belongs to the old elements
    result.calc = SinglePointCalculator(result, **results) if results else None
    return result


def write_frames(path, frames):
    """Write frames with their labels as extended XYZ, compressed when the name ends in .xz; an
    interrupt leaves the old file or the new.
    """
    import ase.io

    from mlipkit.frames.taken import as_frames

    path, text = arguments.file_path(path, "write_frames: path", new=True), io.StringIO()
    ase.io.write(text, as_frames(frames, "write_frames takes"), format="extxyz")
    content = text.getvalue()
    write_atomically(
        path, lzma.compress(content.encode(), preset=9) if str(path).endswith(".xz") else content
    )


def label(atoms, name):
    """A label of a frame ('energy', 'forces', 'stress', 'magmoms'), or None when the frame has
    none.

    Never calculates: only what is stored counts as a label.
    """
    return getattr(atoms.calc, "results", {}).get(name)


def required_label(atoms, name, purpose, finite=True):
    """Like `label`, but one that is missing, or not `finite` throughout, raises an InputError that
    says what needed it.
    """
    value = label(atoms, name)
    what = atoms.info.get("job", atoms.get_chemical_formula())
    if value is None:
        alike = [key for key in atoms.arrays if name == "magmoms" and "mag" in key.lower()]
        hint = (
            f"; arrays[{alike[0]!r}] may hold them: give magmoms=atoms.arrays[{alike[0]!r}]"
            if alike
            else ("; VASP writes them with ISPIN = 2 and LORBIT >= 10" if name == "magmoms" else "")
        )
        raise InputError(
            f"{what}: the frame has no {name}, which {purpose} needs; "
            "a geometry file such as POSCAR or CIF has none: read a DFT result (OUTCAR, extxyz, "
            f"ASE db) instead{hint}"
        )
    if finite and not np.isfinite(value).all():
        raise InputError(
            f"{what}: {name} of the frame is not finite (NaN or infinite), so {purpose} is not "
            "possible"
        )
    return value


def cell_charge(atoms, where):
    """Charge of a cell in e, ``info["charge"]``; 0 where nobody told it."""
    charge = atoms.info.get("charge")
    told = "info['charge'], the charge of the cell,"
    return arguments.number(0 if charge is None else charge, f"{where}: {told}", whole=True)


def require_states(atoms, sites):
    """Raise an InputError where ``oxi_states`` of one of `sites` is not known: 0, as is everything
    else that is no proxy.
    """
    states = np.asarray(atoms.arrays["oxi_states"])
    unknown, others = np.asarray(sites, int)[states[sites] == 0], np.delete(states, sites)
    if len(unknown) and len(others) and not others.any():
        i, element = unknown[0], atoms.symbols[unknown[0]]
        raise InputError(
            f"{atoms.get_chemical_formula()}: the oxidation state of atom {i} ({element}) is not "
            "known (0): the proxies "
            f"decoded name other ions only. Name it as well, proxies={{..., {element!r}: "
            f"({element!r}, 2)}}, or take all from "
            "infer_oxidation_states(atoms).states"
        )


def well_converged(frames):
    """The frames whose SCF was not stopped early; frames that do not say are kept.

    Dropped are those with ``info["converged"]`` False (VASP: the SCF hit NELM) or
    ``info["density"]`` above 5e-4. While forces are large the campaign converges the density to
    1e-3 only; such frames are to be seen, not learned from.
    """
    return [a for a in frames if a.info.get("converged", True) and a.info.get("density", 0) <= 5e-4]


def along_relaxations(frames):
    """The frames on the way to a relaxed cell and its end, ``info["kind"]`` relax or final; not
    those rattled, strained or moved back.
    """
    from mlipkit.frames.taken import each_frame

    frames = each_frame(frames, "along_relaxations takes")
    return [a for a in frames if a.info.get("kind") in ("relax", "final")]


def frame_table(frames):
    """One row per frame.

    Parameters
    ----------
    frames : list of ase.Atoms

    Returns
    -------
    pandas.DataFrame
        ``formula``, ``n_atoms``, ``energy`` (eV per cell), ``max_force`` (eV/Å), then what
        ``atoms.info`` holds (``x``, ``ordering``, ``kind``, ``step``, ``split``, ...). Missing
        labels are NaN.
    """
    import pandas as pd

    from mlipkit.frames.taken import each_frame

    rows = []
    for atoms in each_frame(frames, "frame_table takes"):
        energy, forces = label(atoms, "energy"), label(atoms, "forces")
        rows.append(
            {
                "formula": atoms.get_chemical_formula(),
                "n_atoms": len(atoms),
                "energy": np.nan if energy is None else float(energy),
                "max_force": np.nan
                if forces is None
                else float(np.linalg.norm(forces, axis=1).max()),
                **atoms.info,
            }
        )
    return pd.DataFrame(rows)


def required_ordering(atoms, index, where):
    """``info["ordering"]`` of a frame, or an InputError that names the frame by its index."""
    if "ordering" not in atoms.info:
        raise InputError(
            f"{where}: frame {index} ({atoms.get_chemical_formula()}) has no info['ordering'], "
            "the name of its charge "
            "ordering; ordering_label makes it"
        )
    return atoms.info["ordering"]


def end_points(frames, fmax=0.05):
    """The end of the relaxation of every charge ordering (``info["ordering"]``), in the order of
    their names.

    Parameters
    ----------
    frames : list of ase.Atoms
        With energies and forces.
    fmax : float
        A frame counts as relaxed when no force is larger, eV/Å, or when its ``info["kind"]`` says
        ``final``. Orderings without such a frame are left out.

    Returns
    -------
    list of ase.Atoms
        Of several relaxed frames of an ordering the lowest, those marked ``final`` (converged
        tighter) first.

    Warns
    -----
    UserWarning
        Naming the orderings that are left out, with the largest force that is left on each.
    """
    from mlipkit.frames.taken import each_frame

    arguments.number(fmax, "end_points: fmax", least=0)
    best, left = {}, {}
    for i, atoms in enumerate(each_frame(frames, "end_points takes")):
        name = required_ordering(atoms, i, "end_points")
        for needed in ("energy", "forces"):
            required_label(atoms, needed, "end_points")
        rank = _rank(atoms, fmax)
        unrelaxed = rank[0]
        if unrelaxed:
            force = float(np.linalg.norm(label(atoms, "forces"), axis=1).max())
            left[name] = min(force, left.get(name, np.inf))
        elif name not in best or rank < best[name][0]:
            best[name] = rank, atoms
    _say_unrelaxed({name: left[name] for name in sorted(set(left) - set(best))}, fmax)
    return [best[name][1] for name in sorted(best)]


def _say_unrelaxed(forces, fmax):
    """Warn of the orderings that are left out; `forces` has what is left on them, eV/Å."""
    if forces:
        some = [f"{name} ({force:.2g} eV/Å)" for name, force in list(forces.items())[:10]]
        more = ", ..." if len(forces) > len(some) else ""
        warnings.warn(
            f"end_points: {len(forces)} ordering{'s' if len(forces) > 1 else ''} left out, since "
            f"no frame has all forces below {fmax:g} eV/Å: {', '.join(some)}{more}; with a larger "
            "fmax= they are taken",
            stacklevel=3,
        )


def different_u(frames):
    """What frames computed with different Hubbard U (``info["hubbard_u"]``, from VASP's outputs)
    say of it, as a sentence; None where each element has one U.
    """
    seen = {}  # element: {U: the first frame that has it}
    for i, atoms in enumerate(frames):
        values = atoms.info.get("hubbard_u")
        for element, u in values.items() if isinstance(values, dict) else ():
            seen.setdefault(element, {}).setdefault(round(float(u), 3), i)
    for element, found in sorted(seen.items()):
        if len(found) > 1:
            told = ", ".join(f"{u:g} eV (such as frame {i})" for u, i in sorted(found.items()))
            return (
                f"these frames were computed with different U of {element}: {told}; their energies "
                "must not be compared. Keep those of one, such as [a for a in frames if "
                f"a.info['hubbard_u'][{element!r}] == {min(found):g}]"
            )
    return None


def different_charge(frames):
    """What cells of different charge (``info["charge"]``) say of it, as a sentence; None where all
    have one.
    """
    seen = {}  # charge: the first frame that has it
    for i, atoms in enumerate(frames):
        seen.setdefault(cell_charge(atoms, f"frame {i} ({atoms.get_chemical_formula()})"), i)
    if len(seen) < 2:
        return None
    told = ", ".join(f"{q:+d} (such as frame {i})".replace("+0", "0") for q, i in seen.items())
    return (
        f"these frames are of cells of different charge: {told}; where the missing electron is "
        "would have to be said to compare their energies. Keep those of one charge, such as [a for "
        "a in frames if a.info.get('charge', 0) == 0]"
    )


def _rank(atoms, fmax):
    """How a frame stands among those of its ordering, the least first: whether it is not relaxed,
    not converged tighter, and its energy.
    """
    energy, forces = label(atoms, "energy"), label(atoms, "forces")
    final = atoms.info.get("kind") == "final"
    force = np.inf if forces is None else np.linalg.norm(forces, axis=1).max()
    relaxed = energy is not None and (final or force <= fmax)
    return not relaxed, not final, np.inf if energy is None else energy


def one_of_each(frames, fmax=0.05):
    """One frame of each charge ordering (``info["ordering"]``), in the order of their names.

    Parameters
    ----------
    frames : list of ase.Atoms
        Labels are not needed.
    fmax : float
        eV/Å, as in `end_points`, whose choice is taken for an ordering that has been relaxed; of
        others the frame of lowest energy, or the first.

    Returns
    -------
    list of ase.Atoms
    """
    best = {}
    for i, atoms in enumerate(frames):
        name = required_ordering(atoms, i, "one_of_each")
        rank = _rank(atoms, fmax)
        if name not in best or rank < best[name][0]:
            best[name] = rank, atoms
    return [best[name][1] for name in sorted(best)]
