"""What DFT says of the structures that models relaxed: the energy that a model claims against the
one that DFT finds there.
"""

import numpy as np

from mlipkit import arguments
from mlipkit.charges.references import redox_sites
from mlipkit.files import InputError
from mlipkit.frames.datasets import load_dft, load_geometries
from mlipkit.frames.labels import end_points, label
from mlipkit.frames.taken import as_frames

TOLD = "model", "ordering", "job", "has", "verdict"  # of a frame that DFT was asked about
SAME = 1e-3  # Å: one structure, written to the digits of a file


def verdict_table(judged=None):
    """What each model claims for a charge ordering, and what DFT finds for the structure that it
    built.

    Parameters
    ----------
    judged : list of ase.Atoms, optional
        As ``load_dft("olivine-verdict")`` gives them (the default).

    Returns
    -------
    pandas.DataFrame
        A row per model and charge ordering that DFT was asked about, with mixed valence: ``model``,
        ``ordering`` (asked for), ``kept`` (the model left all charges where they were asked).
        Energies in meV per formula unit above the energy of the structure that DFT itself relaxed
        for that ordering: ``claimed`` (the model's, of the structure that it relaxed), ``as_asked``
        (DFT's, of that structure with the charges asked for; NaN where they do not stay there),
        ``as_found`` (DFT's, with the charges where the model has them; NaN where that was not
        computed or they do not stay). ``verdict``: what became of the charges seeded as asked
        (``"as seeded"``, ``"moved"``, ``"delocalised"``, ``"not converged"``); ``gap``:
        ``as_asked`` minus ``claimed``; ``max_force`` (eV/Å), by DFT with the charges as asked;
        ``density``, the criterion to which its SCF came (5e-5 at end points); ``structure``: the
        job of ``as_found``, the same for orderings that a model sent into one structure.
    """
    import pandas as pd

    judged = load_dft("olivine-verdict") if judged is None else judged
    judged = as_frames(judged, "verdict_table takes")
    for i, atoms in enumerate(judged):
        if missing := [key for key in TOLD if key not in atoms.info]:
            raise InputError(
                f"verdict_table takes what load_dft('olivine-verdict') gives: frame {i} "
                f"({atoms.get_chemical_formula()}) has no info[{missing[0]!r}]"
            )
    own = {a.info["ordering"]: a for a in end_points(load_dft())}
    claims = (
        load_geometries()
        .query("geometry == 'relaxed'")
        .set_index(["model", "ordering"])
        .sort_index()
    )
    rows = []
    for atoms in judged:
        model, ordering = atoms.info["model"], atoms.info["ordering"]
        # charges of another labelling, seeded only because the model has them there
        if atoms.info["job"] != f"{ordering}.{model}":
            continue
        if (model, ordering) not in claims.index or ordering not in own:
            raise InputError(
                f"verdict_table: load_geometries() knows nothing that {model} claims for {ordering}"
            )
        reference, claim, there = (
            own[ordering].get_potential_energy(),
            claims.loc[model, ordering],
            _as_found(atoms, judged),
        )
        energies = {
            "claimed": claim["energy"],
            "as_asked": _kept_energy(atoms),
            "as_found": _kept_energy(there),
        }
        row = {
            name: 1e3 * (energy - reference) / len(redox_sites(atoms))
            for name, energy in energies.items()
        }
        forces = label(atoms, "forces")
        rows.append(
            {
                "model": model,
                "ordering": ordering,
                "kept": bool(claim["kept"]),
                **row,
                "gap": row["as_asked"] - row["claimed"],
                "verdict": atoms.info["verdict"],
                "density": np.nan if forces is None else atoms.info["density"],
                "structure": None if there is None else there.info["job"],
                "max_force": np.nan
                if forces is None
                else float(np.linalg.norm(forces, axis=1).max()),
            }
        )
    return pd.DataFrame(rows)


def _as_found(atoms, judged):
    """The frame of the same structure in which the charges were seeded where the model has them, or
    None.
    """
    for other in judged:
        same = (
            other.info["model"] == atoms.info["model"]
            and other.info["has"]
            and len(other) == len(atoms)
        )
        if same and np.allclose(other.positions, atoms.positions, atol=SAME):
            return other
    return None


def _kept_energy(atoms):
    """Energy (eV per cell) of a frame whose charges stayed where they were seeded, else NaN."""
    return (
        label(atoms, "energy")
        if atoms is not None and atoms.info["verdict"] == "as seeded"
        else np.nan
    )


def verdict_summary(table):
    """The table of `verdict_table` in a row per model.

    Parameters
    ----------
    table : pandas.DataFrame
        As `verdict_table` returns it.

    Returns
    -------
    pandas.DataFrame
        Index ``model``; ``n`` orderings computed; ``stayed``, in how many DFT keeps the charges
        asked for on the model's structure. In meV per formula unit, of those that stayed, mean and
        largest by size: ``gap``, ``gap_worst``, what DFT finds above the claim; ``cost``,
        ``cost_worst``, what it finds above its own structure. ``n_found``, ``gap_found``,
        ``gap_found_worst``: structures, and the gap, with the charges where the model has them,
        each structure once.
    """
    import pandas as pd

    needed = ["model", "verdict", "claimed", "as_asked", "as_found", "gap", "structure"]
    arguments.table(table, "verdict_summary: table", needed, "mk.verdict_table()")
    rows = {}
    for model, part in table.groupby("model"):
        stayed = part[part["verdict"] == "as seeded"]
        found = (
            part.assign(gap_found=part["as_found"] - part["claimed"])
            .dropna(subset="gap_found")
            .drop_duplicates("structure")
        )
        rows[model] = {
            "n": len(part),
            "stayed": len(stayed),
            "gap": stayed["gap"].mean(),
            "gap_worst": _worst(stayed["gap"]),
            "cost": stayed["as_asked"].mean(),
            "cost_worst": _worst(stayed["as_asked"]),
            "n_found": len(found),
            "gap_found": found["gap_found"].mean(),
            "gap_found_worst": _worst(found["gap_found"]),
        }
    return (
        pd.DataFrame(rows).T.rename_axis("model").astype({"n": int, "stayed": int, "n_found": int})
    )


def _worst(values):
    return values.iloc[values.abs().argmax()] if len(values) else np.nan
