#!/usr/bin/env python
"""Gates between the campaign and the sets: frames/*.extxyz -> olivine.extxyz, olivine_li.extxyz,
free_cells.extxyz, hosts.extxyz, verdict.extxyz, kept_apart.extxyz, manifest.

    python data/dft/collect.py       (in the project's environment; `make collect`)

A frame is labelled by the moments found in it, never by those seeded. It enters the set when
- its SCF converged (the campaign writes no other);
- its Fe moments form two clear groups with the count that neutrality asks for (else: delocalised);
- its sixth electrons sit in the lowest orbital state known: they are in the orbital in which its
  run ends (a rattled or strained copy: its relaxed cell), the energy between it and that end is the
  work of the forces
  on the way, nothing released by electrons, and the run does not end clearly above the lowest run
  of the same ordering; repeats and runs with another orbital count once they have ended
  (else: other_state);
- the energy falls along its relaxation (else: uphill).
"""

import json
import sys
from collections import Counter
from pathlib import Path

import numpy as np

from mlipkit.analysis.thermo import formation_energies
from mlipkit.charges.oxidation import FIXED, infer_oxidation_states
from mlipkit.files import data_folder, describe, write_atomically
from mlipkit.frames.datasets import EMBEDDED, load_dft
from mlipkit.frames.labels import end_points, write_frames
from mlipkit.frames.readers import read_frames
from mlipkit.relaxation.many import load_relaxations

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
from olivine import arrangements, canonical, host, jobs, tag_of, undistorted

# eV per cell between two runs of one ordering; another orbital costs 0.2 to 0.6
HIGHER_STATE = 0.10
# difference in the occupation of 3z2-r2 on an Fe2+ that makes another orbital state
TURNED = 0.25
# eV per cell, and share of the work (anharmonicity; 2 % at 1.8 eV): energy that no force accounts
# for
RELEASED = 0.03, 0.05
# eV/Å: mean force on the atoms of a crystal, which is zero when the density is converged
DRIFT = 0.01
UPHILL = 0.02  # eV per cell; the optimiser takes steps without line search


def sites_of_ions(atoms, x, ion):
    """Which of the four 4a sites are occupied, from the positions."""
    sites = host(x, ion).get_scaled_positions()[:4]
    ions = atoms.get_scaled_positions()[atoms.symbols == ion]
    distance = sites[None] - ions[:, None]
    return tuple(sorted(np.abs(distance - np.round(distance)).sum(-1).argmin(axis=1).tolist()))


def labelled(atoms, splits, table, ion="Na"):
    """The frame with oxidation states, names and split; and whether its moments are clear."""
    found = infer_oxidation_states(atoms)
    atoms.set_array("oxi_states", found.states)
    fe = atoms.symbols == "Fe"
    ions = sites_of_ions(atoms, atoms.info["x"], ion)
    fe3 = tuple(np.flatnonzero(found.states[fe] == 3).tolist())
    key = canonical(ions, fe3)
    ordering = tag_of(*key, ion)
    atoms.info = {
        "tag": tag_of(ions, fe3, ion),
        "ordering": ordering,
        "degeneracy": table[key],
        "x": float(atoms.info["x"]),
        "job": atoms.info["job"],
        "kind": atoms.info["kind"],
        "step": int(atoms.info["step"]),
        "density": float(atoms.info["density"]),
        # an ordering of Li has the split of the same one of Na
        "split": splits[tag_of(*key)],
    }
    return found.clear


def released(atoms, end):
    """Energy (eV per cell) that the electrons gave off between a frame and the end of its
    relaxation, and the work of the forces.

    On one electronic surface the energies differ by the work of the forces on the straight way,
    trapezium rule, exact where the surface is harmonic. An orbital that turns shows as energy
    beyond that, however little the occupations tell.
    """
    work = 0.5 * float(
        ((atoms.get_forces() + end.get_forces()) * (end.positions - atoms.positions)).sum()
    )
    return atoms.get_potential_energy() - end.get_potential_energy() - work, work


def turned(atoms, end):
    fe2 = (atoms.symbols == "Fe") & (atoms.arrays["oxi_states"] == 2)
    return (
        np.abs((atoms.arrays["minority_3z2"] - end.arrays["minority_3z2"])[fe2]).max(initial=0)
        > TURNED
    )


def surface_left(atoms, end):
    energy, work = released(atoms, end)
    return abs(energy) > RELEASED[0] + RELEASED[1] * abs(work)


def gate(frames, clear, lowest, end):
    """Reason to keep each frame of one job apart, '' for those that enter the set.

    `lowest`: energy of the lowest finished run by ordering. `end`: the frame whose orbital state
    counts for this job, None for a run that has to end before it counts.
    """
    reasons, least = [], np.inf
    too_high = (
        end is None
        or end.get_potential_energy() > lowest.get(end.info["ordering"], np.inf) + HIGHER_STATE
    )
    for atoms, ok in zip(frames, clear):
        relaxing = atoms.info["kind"] in ("relax", "final")
        if not ok:
            reason = "delocalised"
        elif np.abs(atoms.get_forces().mean(axis=0)).max() > DRIFT:
            reason = "unconverged"
        elif too_high or turned(atoms, end) or (relaxing and surface_left(atoms, end)):
            reason = "other_state"
        elif relaxing and atoms.get_potential_energy() > least + UPHILL:
            reason = "uphill"
        else:
            reason = ""
        if relaxing and not reason:
            least = min(least, atoms.get_potential_energy())
        reasons.append(reason)
    return reasons


def ordering_splits():
    """{ordering: split}."""
    return {
        tag: split
        for split, tags in json.loads((HERE / "splits.json").read_text()).items()
        if split != "note"
        for tag in tags
    }


def collect(ion):
    """The set of an ion, its free cells, and the frames kept apart, in the order of the campaign.

    FePO4 is calculated once, and stands in every set.
    """
    splits, table, runs, lowest, ends = ordering_splits(), arrangements(), [], {}, {}
    for job in jobs():
        path = HERE / "frames" / f"{job.name}.extxyz"
        if job.kind in ("metal", "verdict") or not path.exists() or (job.ions and job.ion != ion):
            continue
        frames = read_frames(path)
        clear = [labelled(atoms, splits, table, ion) for atoms in frames]
        final = frames[-1] if frames[-1].info["kind"] == "final" and clear[-1] else None
        if job.kind == "relax" and not final:
            continue  # under way: where its orbital ends is not known yet
        end = ends.get(job.tag) if job.kind in ("cell", "back", "displaced") else final
        ends[job.name] = end
        runs.append((frames, clear, end))
        if final:
            key = final.info["ordering"]
            lowest[key] = min(lowest.get(key, np.inf), final.get_potential_energy())
    kept, free, apart = [], [], []
    for frames, clear, end in runs:
        for atoms, reason in zip(frames, gate(frames, clear, lowest, end)):
            if reason:
                atoms.info["reason"] = reason
            (apart if reason else free if atoms.info["kind"] == "cell" else kept).append(atoms)
    return kept, free, apart


def verdicts():
    """DFT on the structures that models relaxed, and what became of the charges seeded; nothing is
    held back.

    ``verdict``: as seeded; moved (localised, on other Fe); delocalised; not converged. ``has``:
    whether the charges were seeded where the moments of the model have them.
    """
    splits, table, relaxed, found = ordering_splits(), arrangements(), {}, []
    for job in jobs():
        path = HERE / "frames" / f"{job.name}.extxyz"
        if job.kind != "verdict" or not path.exists():
            continue
        atoms, model = read_frames(path)[-1], job.name.rsplit(".", 1)[1]
        fe, seeded = np.flatnonzero(atoms.symbols == "Fe"), np.array(job.oxi_states)
        given = dict(atoms.info)
        if "converged" in given:
            atoms.info |= {"density": 1.0}
            atoms.set_array("oxi_states", np.zeros(len(atoms), int))
            clear = None
        else:
            clear = labelled(atoms, splits, table, job.ion)
        verdict = judgement(atoms.arrays["oxi_states"][fe], seeded, clear)
        asked = tag_of(*canonical(job.ions, job.fe3))
        atoms.info = {
            "tag": job.tag,
            "ordering": asked,
            "degeneracy": table[canonical(job.ions, job.fe3)],
            "x": float(given["x"]),
            "job": job.name,
            "kind": "verdict",
            "step": 0,
            "density": float(atoms.info["density"]),
            "split": splits[asked],
            "model": model,
            "verdict": verdict,
            "has": bool((seeded == has(atoms, model, relaxed)[fe]).all()),
        }
        found.append(atoms)
    return found


def hosts(kept):
    """Every ordering on the undistorted host, in the order of the names; with DFT's labels where
    its charges stay there.
    """
    splits, table = ordering_splits(), arrangements()
    labelled_there = {a.info["ordering"]: a for a in kept if a.info["kind"] == "undistorted"}
    found = []
    relaxed = [job for job in jobs() if job.kind == "relax" and job.ion == "Na"]
    for job in sorted(relaxed, key=lambda job: job.tag):
        atoms = undistorted(job)
        if job.tag in labelled_there:
            there = labelled_there[job.tag]
            if not np.allclose(there.positions, atoms.positions, atol=1e-6):
                sys.exit(f"{there.info['job']}: its undistorted frame is not on the host")
            found.append(there)
            continue
        states = np.array([FIXED.get(symbol, 0) for symbol in atoms.symbols])
        states[atoms.symbols == "Fe"] = job.oxi_states
        atoms.set_array("oxi_states", states)
        atoms.info = {
            "tag": job.tag,
            "ordering": job.tag,
            "degeneracy": table[job.ions, job.fe3],
            "x": job.x,
            "job": f"{job.tag}.back",
            "kind": "undistorted",
            "step": 1,
            "density": 1.0,
            "split": splits[job.tag],
        }
        found.append(atoms)
    return found


def judgement(found, seeded, clear):
    """What became of charges seeded; `clear` (whether the moments found leave no doubt) is None
    where the SCF did not converge.
    """
    if clear is None:
        return "not converged"
    if not clear:
        return "delocalised"
    return "as seeded" if np.array_equal(found, seeded) else "moved"


def has(atoms, model, relaxed):
    """Oxidation states that the model has on this structure, one of those that it ended in."""
    if model not in relaxed:
        relaxed[model] = load_relaxations(model)
    same = [
        r
        for r in relaxed[model]
        if len(r.atoms) == len(atoms) and np.allclose(r.atoms.positions, atoms.positions, atol=1e-3)
    ]
    if not same:
        sys.exit(
            f"{atoms.info['job']}: not a structure that {model} relaxed; remove the frame and its "
            "start, starts.py verdicts"
        )
    return same[0].states[-1]


def write_manifest():
    """Checksums of everything embedded; called by whatever writes an embedded file."""
    folder = data_folder()
    made = sorted(
        p.relative_to(folder).as_posix()
        for room in ("models", "phases")
        for p in (folder / room).rglob("*")
        if p.is_file()
    )
    names = [*EMBEDDED.values(), *made]
    write_atomically(
        folder / "manifest.json",
        json.dumps({n: describe(folder / n) for n in names}, indent=1) + "\n",
    )


def write_part(path, part, lines):
    """Replace what stands in a file between the two comments of that part."""
    before, rest = path.read_text().split(f"<!-- {part}: begin", 1)
    comment, after = rest.split(f"<!-- {part}: end -->", 1)
    begin = f"<!-- {part}: begin{comment.splitlines()[0]}"
    write_atomically(path, before + "\n".join([begin, *lines, f"<!-- {part}: end -->"]) + after)


def write_comparison():
    """The table of lithium beside sodium in README.md."""
    energies = {}
    for name in ("olivine-li", "olivine"):
        ends = end_points(load_dft(name))
        for atoms, energy in zip(ends, formation_energies(ends)):
            energies[atoms.info["ordering"]] = f"{1e3 * energy:.1f}"
    rows = [
        f"| {name} | {energy} | {energies[name.replace('_li', '_na')]} |"
        for name, energy in energies.items()
        if "_li" in name and not name.startswith(("x000", "x100"))
    ]
    table = ["| ordering | Li | Na |", "|---|---|---|", *rows]
    write_part(HERE / "README.md", "lithium", table)


if __name__ == "__main__":
    kept, free, apart = collect("Na")
    lithium, _, apart_li = collect("Li")
    apart += [atoms for atoms in apart_li if "Li" in atoms.symbols]
    judged = verdicts()  # may refuse; then nothing has been written
    write_frames(HERE / "olivine.extxyz", kept)
    write_frames(HERE / "olivine_li.extxyz", lithium)
    write_frames(HERE / "free_cells.extxyz", free)
    write_frames(HERE / "hosts.extxyz", hosts(kept))
    if apart:
        write_frames(HERE / "kept_apart.extxyz", apart)
    write_frames(HERE / "verdict.extxyz", judged)
    write_manifest()
    write_comparison()
    print(
        f"{len(kept)} frames in the set, {len(lithium)} in that of Li, {len(free)} free cells, "
        "kept apart: "
        f"{dict(Counter(a.info['reason'] for a in apart)) or 'none'}"
    )
    print("by composition:", dict(sorted(Counter(a.info["x"] for a in kept).items())))
    print(
        f"{len(judged)} verdicts on structures of models:",
        dict(Counter(a.info["verdict"] for a in judged)),
    )
    print("by split:", dict(Counter(a.info["split"] for a in kept)))
