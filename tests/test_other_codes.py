"""Outputs of codes other than VASP, and vaspout.h5: real files (tests/data/outputs/README.md), whose
numbers are read from their text here once more.
"""

import lzma
import re
import shutil
import signal
import tempfile
import warnings
from pathlib import Path

import ase
import h5py
import numpy as np
import pytest
from ase.units import Bohr, GPa, Hartree, Rydberg
from test_fuzz import _alarm, complaint, damaged

import mlipkit as mk
from mlipkit.frames.labels import label, well_converged
from mlipkit.frames.readers import read_frames

OURS = Path(__file__).parent / "data" / "outputs"
ASES = Path(ase.__file__).parent / "test" / "testdata"
FILES = {path.name.removesuffix(".xz"): path for path in sorted(OURS.glob("*.xz"))} | {
    path.name: path
    for path in [
        *(ASES / "aims" / f"{name}.out" for name in ("md", "relax", "singlepoint")),
        ASES / "castep" / "md.castep",
        ASES / "gpaw_expected_text_output",
    ]
}
STEPS = {
    "abinit_fe.abo": 1,
    "abinit_si.abo": 2,
    "abinit_unconverged.abo": 1,
    "cp2k_cell.out": 3,
    "cp2k_geo.out": 3,
    "espresso_fe.out": 3,
    "espresso_forced.out": 1,
    "espresso_unconverged.out": 1,
    "gpaw_expected_text_output": 1,
    "gpaw_o2.txt": 2,
    "gpaw_o2_older.txt": 2,
    "md.castep": 3,
    "md.out": 5,
    "relax.out": 8,
    "singlepoint.out": 1,
}


def text(name):
    path = FILES[name]
    return lzma.decompress(path.read_bytes()).decode() if path.suffix == ".xz" else path.read_text()


def quietly(path, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return read_frames(path, progress=False, **kwargs)


def printed(pattern, name, unit=1.0):
    """The first group of all matches in a file, as numbers."""
    return [unit * float(found) for found in re.findall(pattern, text(name), re.M)]


def rows(title, name, n, first, skip=0):
    """Three columns of each table with this title, as an array per table."""
    lines = text(name).splitlines()
    starts = [i + 1 + skip for i, line in enumerate(lines) if title in line]
    pick = [[re.findall(r"-?\d+\.\d+(?:E[-+]\d+)?", s) for s in lines[i : i + n]] for i in starts]
    return [np.array([row[first : first + 3] for row in part], float) for part in pick]


def values(frames, name):
    return [label(atoms, name) for atoms in frames]


def pressures(frames):
    return [-atoms.calc.results["stress"][:3].mean() / GPa for atoms in frames]


def beside(tmp_path, name, content, kind="run.dat"):
    """A file under a name that says nothing, with what CP2K keeps beside it."""
    path = tmp_path / kind
    path.write_text(content)
    for positions in OURS.glob("*-pos-1.xyz") if "cp2k" in name else ():
        shutil.copy(positions, tmp_path)
    return path


def test_espresso():
    name = "espresso_fe.out"
    frames = quietly(FILES[name])
    energies = printed(r"^!    total energy\s+=\s+(\S+) Ry", name, Rydberg)
    assert values(frames, "energy") == pytest.approx(energies, rel=1e-7) and len(energies) == 3
    forces = rows("Forces acting on atoms", name, 2, 0, skip=1)
    for atoms, expected in zip(frames, forces, strict=True):
        assert atoms.calc.results["forces"] == pytest.approx(expected * Rydberg / Bohr, abs=1e-5)
    moments = np.reshape(printed(r"^     atom: .*magn:\s+(\S+)", name), (-1, 2))
    ends = [2.3314, 2.2687], [2.6564, 2.6485], [2.5964, 2.5951]
    assert all(moment in moments.tolist() for moment in ends)
    assert np.array(values(frames, "magmoms")).tolist() == [*map(list, ends)]
    assert pressures(frames) == pytest.approx(printed(r"P=\s+(\S+)", name, 0.1), abs=2e-3)
    volumes = [2.87**2 * 2.9, *printed(r"new unit-cell volume.*\(\s+(\S+) Ang", name)]
    assert [a.get_volume() for a in frames] == pytest.approx(volumes[:3], abs=1e-4)
    assert frames[1].cell[2, 2] == pytest.approx(2.839426769) and frames[1].pbc.all()
    assert frames[1].get_scaled_positions()[1, 2] == pytest.approx(0.4581816891)
    assert [a.info["converged"] for a in frames] == [True] * 3
    assert str(frames[0].symbols) == "Fe2"


def test_espresso_7_prints_moments_in_other_words(tmp_path):
    words = r"atom   \1 (R=0.357)  charge=  \2  magn=  \3"
    new = re.sub(r"atom: +(\d) +charge: +(\S+) +magn: +(\S+) .*", words, text("espresso_fe.out"))
    frames = quietly(beside(tmp_path, "espresso", new))
    assert label(frames[2], "magmoms").tolist() == [2.5964, 2.5951]


def test_cp2k():
    for name in ("cp2k_geo.out", "cp2k_cell.out"):
        frames = quietly(FILES[name])
        energies = printed(r"^ ENERGY\|.*\s(\S+)$", name, Hartree)
        assert values(frames, "energy") == pytest.approx(energies, abs=1e-8) and len(energies) == 3
        forces = rows("ATOMIC FORCES in [a.u.]", name, 4, 0, skip=2)
        for atoms, expected in zip(frames, forces, strict=True):
            assert label(atoms, "forces") == pytest.approx(expected * Hartree / Bohr, abs=1e-9)
        spins = np.reshape(printed(r"^ +\d+ +[OH] +[12] +\d\.\d{6} .* (\S+)$", name), (-1, 4))
        assert np.array(values(frames, "magmoms")).tolist() == spins.tolist()
        assert pressures(frames) == pytest.approx(printed(r"1/3 Trace\s+(\S+)", name), rel=1e-6)
        assert [a.info["converged"] for a in frames] == [False, True, True]
        assert all(a.pbc.all() and str(a.symbols) == "O2H2" for a in frames)
    volumes = printed(r"CELL\| Volume.*\s(\S+)$", name)
    assert [a.get_volume() for a in frames] == pytest.approx(volumes[1:], rel=2e-6)
    assert frames[0].positions[1].tolist() == [0.1, 0.2, 1.3]
    last = (OURS / "cell-pos-1.xyz").read_text().splitlines()[-1].split()[1:]
    assert frames[2].positions[3].tolist() == [float(word) for word in last]


def test_cp2k_stress_is_the_slope_of_its_energy():
    # of CP2K runs with c = 5.46 and 5.54 Å and the same fractional coordinates, tighter converged
    slope = (-32.932308146175245 + 32.926742651842396) * Hartree / 0.08
    stress = label(quietly(FILES["cp2k_geo.out"])[0], "stress")
    assert stress[2] == pytest.approx(slope * 5.5 / 137.5, abs=5e-4)


def test_cp2k_of_2025(tmp_path):
    name = "cp2k_geo.out"
    new = re.sub(r"energy \[a\.u\.\]: ", "energy [hartree] ", text(name))
    new = new.replace(
        " ATOMIC FORCES in [a.u.]\n\n # Atom   Kind   Element          X              Y              Z",
        " FORCES| Atomic forces [hartree/bohr]\n FORCES|   Atom     x      y      z      |f|",
    )
    new = re.sub(
        r"^ +(\d) +\d +[OH]( +\S+ +\S+ +-?\d\.\d{8})$", r" FORCES| \1\2  1.0", new, flags=re.M
    )
    assert new.count("FORCES| 4 ") == 3
    for before, after in zip(
        quietly(FILES[name]), quietly(beside(tmp_path, name, new)), strict=True
    ):
        assert label(after, "energy") == label(before, "energy")
        assert (label(after, "forces") == label(before, "forces")).all()


def test_cp2k_without_its_trajectory(tmp_path):
    path = tmp_path / "cp2k.out"
    path.write_text(text("cp2k_geo.out"))
    with pytest.warns(UserWarning, match=r"cp2k\.out: 2 step\(s\) lack structure.* geo-pos-1\.xyz"):
        frames = read_frames(path)
    assert len(frames) == 1 and frames[0].info["step"] == 0


def test_abinit():
    fe, si = quietly(FILES["abinit_fe.abo"]), quietly(FILES["abinit_si.abo"])
    assert label(fe[0], "magmoms").tolist() == [3.623191, -3.620398]
    assert [label(a, "magmoms") for a in si] == [None, None]
    for name, frames in (("abinit_fe.abo", fe), ("abinit_si.abo", si)):
        exact = printed(r"^ +etotal\d? +(-\S+)$", name, Hartree)
        assert label(frames[-1], "energy") == pytest.approx(exact[-1], abs=1e-7)
        forces = rows("cartesian forces (eV/Angstrom) at end", name, 2, 0)
        assert label(frames[-1], "forces") == pytest.approx(forces[-1], abs=1e-7)
        positions = rows("cartesian coordinates (angstrom) at end", name, 2, 0)
        assert frames[-1].positions == pytest.approx(positions[-1], abs=1e-8)
        volume = printed(r"ucvol=\s+(\S+)", name, Bohr**3)
        assert frames[-1].get_volume() == pytest.approx(volume[-1], rel=1e-6)
        pressure = printed(r"^pressure_GPa:\s+(\S+)", name)
        assert pressures(frames) == pytest.approx(pressure, rel=1e-4)
    # a primitive cell, which ASE's parser gets wrong
    assert si[0].cell.cellpar()[3:] == pytest.approx([60, 60, 60])
    assert si[0].get_scaled_positions()[1] == pytest.approx([0.27, 0.25, 0.25])
    assert len(si) == 2 and label(si[0], "forces")[0, 0] == pytest.approx(
        -2.12099945e-03 * Hartree / Bohr
    )


@pytest.mark.parametrize("name", ["gpaw_o2.txt", "gpaw_o2_older.txt"])
def test_gpaw(name):
    frames = quietly(FILES[name])
    assert values(frames, "energy") == printed(r"^\s*Extrapolated:\s+(\S+)", name)
    assert values(frames, "free_energy") == printed(r"^\s*Free energy:\s+(\S+)", name)
    tables = name == "gpaw_o2.txt"
    forces = rows("Forces  # eV/Ang" if tables else "Forces in eV/Ang", name, 2, 0, 2 * tables)
    assert np.array(values(frames, "forces")) == pytest.approx(np.array(forces))
    title = "Local magnetic moments"
    moments = np.array([table[:, -1] for table in rows(title, name, 2, 0, 2 * tables)])
    assert np.array(values(frames, "magmoms")) == pytest.approx(moments)
    assert moments[0] == pytest.approx([0.5306, 0.5306], abs=1e-4)
    # as the calculator said when it wrote the file
    assert label(frames[1], "stress")[:3] == pytest.approx([0.7273, 0.7251, 0.6431], abs=1e-4)
    assert frames[1].positions[1].tolist() == [0.1, 0.2, 1.55] and frames[1].pbc.all()
    assert frames[0].cell.lengths().tolist() == [4, 4, 4.5]
    assert [a.info["converged"] for a in frames] == [True, True]


def test_gpaw_without_spin_has_no_moments():
    (atoms,) = quietly(FILES["gpaw_expected_text_output"])
    assert label(atoms, "energy") == -6.70731 and label(atoms, "magmoms") is None
    assert label(atoms, "forces")[1, 2] == -0.44504 and not atoms.pbc.any()


def test_castep():
    frames = quietly(FILES["md.castep"])
    energies = printed(r"^NB est. 0K energy.*=\s+(\S+)\s+eV", "md.castep")[-3:]
    assert values(frames, "energy") == energies and len(set(energies)) == 3
    # the fourth table repeats the third
    forces = rows(" Forces ***", "md.castep", 8, 0, skip=5)[:3]
    assert np.array(values(frames, "forces")) == pytest.approx(np.array(forces))
    assert pressures(frames[2:]) == pytest.approx(printed(r"Pressure:\s+(\S+)", "md.castep"), 1e-3)
    assert str(frames[0].symbols) == "Si8" and frames[2].info == {
        "source": str(FILES["md.castep"]),
        "step": 2,
        "converged": True,
    }


def test_a_killed_castep_run_keeps_its_whole_steps(tmp_path):
    lines = text("md.castep").splitlines(keepends=True)
    path = beside(tmp_path, "castep", "".join(lines[:530]))  # in the second step of MD
    with pytest.warns(UserWarning, match="did not end"):
        frames = read_frames(path)
    assert values(frames, "energy") == values(quietly(FILES["md.castep"]), "energy")[:2]


def test_aims():
    for name in ("md.out", "relax.out", "singlepoint.out"):
        frames = quietly(FILES[name])
        free = printed(r"\| Electronic free energy +: +(\S+E\S+) eV$", name)
        # the first SCF of each was begun anew; what it had reached is no step
        assert set(values(frames, "free_energy")) <= set(free)
        assert len(set(free) - set(values(frames, "free_energy"))) == 1
        assert all(a.info["converged"] for a in frames)
    frames = quietly(FILES["singlepoint.out"])
    forces = rows("Total atomic forces", "singlepoint.out", 3, 0)
    assert label(frames[0], "forces") == pytest.approx(forces[-1]) and not frames[0].pbc.any()
    pressure = printed(r"Pressure: +(\S+) +\[eV/A\*\*3\]", "relax.out")
    stress = quietly(FILES["relax.out"])[-1].calc.results["stress"]
    assert -stress[:3].mean() == pytest.approx(pressure[-1], abs=1e-7)


def test_aims_moments_are_mullikens(tmp_path):
    # a real run with spin, to which the table that `output mulliken` adds is added
    path = ASES / "aims" / "issue_3345_spin_md_light.out"
    table = """  Summary of the per-atom spin analysis:
  |
  |  atom       spin             l=0
  |     1    0.987654    0.987654
  |
  | Total    0.987654
"""
    words = "          Have a nice day."
    content = path.read_text().replace(words, table + words)
    (atoms,) = quietly(beside(tmp_path, "aims", content))
    assert label(atoms, "magmoms").tolist() == [0.987654]
    assert label(quietly(path)[0], "magmoms") is None


@pytest.mark.parametrize(
    "name", ["espresso_unconverged.out", "espresso_forced.out", "abinit_unconverged.abo"]
)
def test_an_scf_that_did_not_converge_is_marked(name):
    (atoms,) = quietly(FILES[name])
    assert atoms.info["converged"] is False and well_converged([atoms]) == []
    last = {"e": r"total energy +=\s+(\S+) Ry", "a": r"^ ETOT.*?(-\S+)"}[name[0]]
    energy = printed(last, name, Rydberg if name[0] == "e" else Hartree)[-1]
    assert label(atoms, "energy") == pytest.approx(energy, rel=1e-7)


def test_a_run_without_energy_ends_in_a_sentence():
    with pytest.raises(mk.InputError, match=r"gpaw_unconverged\.txt.*no complete step.*SCF"):
        read_frames(FILES["gpaw_unconverged.txt"])


@pytest.mark.parametrize("name", STEPS)
def test_told_by_content_and_index(tmp_path, name):
    path = beside(tmp_path, name, text(name))
    frames = quietly(path)
    assert len(frames) == STEPS[name] and frames[-1].info["source"] == str(path)
    (alone,) = quietly(path, index=-1)
    assert label(alone, "energy") == label(frames[-1], "energy")


@pytest.mark.parametrize("name", [name for name, n in STEPS.items() if n > 1 and name[:2] != "re"])
def test_a_killed_run_keeps_its_whole_steps(tmp_path, name):
    whole = values(quietly(beside(tmp_path, name, text(name))), "energy")
    lines, seen = text(name).splitlines(keepends=True), set()
    for share in np.linspace(0.3, 0.98, 18):
        cut = "".join(lines)[: int(share * len("".join(lines)))]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                frames = read_frames(beside(tmp_path, name, cut))
            except mk.InputError as reason:
                assert str(tmp_path / "run.dat") in str(reason)
                continue
        assert values(frames, "energy") == whole[: len(frames)]
        forces = [label(a, "forces") is not None for a in frames]
        assert all(forces) or len(frames) == 1  # of a single step they may not be wanted
        seen.add(len(frames))
    assert len(seen) > 1


@pytest.mark.parametrize("name", STEPS)
def test_damaged_files(tmp_path, name):
    folder = tmp_path / "files"
    folder.mkdir()
    path = beside(folder, name, text(name))
    content, bad = path.read_bytes(), []
    before = signal.signal(signal.SIGALRM, _alarm)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for seed in range(60):
                path.write_bytes(damaged(content, np.random.default_rng(seed)))
                bad += [(seed, wrong) for wrong in [complaint(path)] if wrong]
    finally:
        signal.signal(signal.SIGALRM, before)
    assert not bad


def test_a_folder_reads_each_run_once(tmp_path):
    for run, name in {"a": "cp2k_geo.out", "b": "gpaw_o2.txt", "c": "espresso_fe.out"}.items():
        (tmp_path / run).mkdir()
        beside(tmp_path / run, name, text(name), kind=f"run{Path(name).suffix}")
    (tmp_path / "c" / "slurm-1.out").write_text("srun: job 1 has been allocated resources\n")
    (tmp_path / "c" / "notes.txt").write_text("k-points to be converged\n")
    frames = quietly(tmp_path)
    kinds = [Path(a.info["source"]).parent.name for a in frames]
    assert kinds == ["a"] * 3 + ["b"] * 2 + ["c"] * 3


# ---------------------------------------------------------------- vaspout.h5

RELAX = ("free energy    TOTEN   ", "energy without entropy ", "energy(sigma->0)       ")
MD = ("ion-electron   TOTEN   ", "kinetic energy EKIN    ", "temperature    TEIN    ")


def write_vaspout(path, tags=RELAX, components=2, old=False):
    """A file laid out as py4vasp 0.11.3 reads it; returns what was put in."""
    rng, n, steps = np.random.default_rng(1), 3, 4
    given = {
        "energies": rng.normal(-20, 1, (steps, 3)),
        "lattice_vectors": np.eye(3) + rng.normal(0, 0.05, (steps, 3, 3)),
        "position_ions": rng.uniform(0, 1, (steps, n, 3)),
        "forces": rng.normal(size=(steps, n, 3)),
        "stress": rng.normal(size=(steps, 1, 3)) * np.ones((3, 1)),
        "moments": rng.normal(size=(steps, components, n, 4)),
        "failed": np.array([0, 0, 1, 0]),
    }
    given["stress"] = given["stress"] + given["stress"].transpose(0, 2, 1)
    with h5py.File(path, "w") as file:
        dynamics = file.create_group("intermediate/ion_dynamics")
        dynamics["scale"], dynamics["energies_tags"] = 4.2, np.array(tags, "S")
        for name in ("energies", "lattice_vectors", "position_ions", "forces", "stress"):
            dynamics[name] = given[name]
        moments = "magnetism/moments" if old else "magnetism/spin_moments/values"
        dynamics[moments] = given["moments"]
        if not old:
            dynamics["electronic_step_converged"] = given["failed"]
        file["results/positions/ion_types"] = np.array(["Fe_pv", "O"], "S5")
        file["results/positions/number_ion_types"] = [1, 2]
    return given


@pytest.mark.parametrize("old", [False, True])
def test_vaspout(tmp_path, old):
    given = write_vaspout(tmp_path / "vaspout.h5", old=old)
    frames = quietly(tmp_path / "vaspout.h5")
    assert len(frames) == 4 and all(str(a.symbols) == "FeO2" for a in frames)
    kbar = 0.1 * GPa
    for i, atoms in enumerate(frames):
        labels = atoms.calc.results
        assert labels["free_energy"] == given["energies"][i, 0]
        assert labels["energy"] == given["energies"][i, 2]
        assert (labels["forces"] == given["forces"][i]).all()
        assert labels["stress"][[0, 5]] == pytest.approx(-kbar * given["stress"][i][[0, 0], [0, 1]])
        assert labels["magmoms"] == pytest.approx(given["moments"][i, 1].sum(axis=1))
        assert atoms.cell.array == pytest.approx(4.2 * given["lattice_vectors"][i])
        assert atoms.positions == pytest.approx(given["position_ions"][i] @ atoms.cell.array)
        assert atoms.info.get("converged") == (None if old else i != 2)


def test_vaspout_of_noncollinear_spins_and_of_molecular_dynamics(tmp_path):
    path = tmp_path / "vaspout.h5"
    given = write_vaspout(path, components=4)
    atoms = quietly(path)[1]
    vectors = given["moments"][1, 1:].sum(axis=-1).T
    assert atoms.arrays["magmom_vectors"] == pytest.approx(vectors)
    given = write_vaspout(path, MD, components=1)
    with pytest.warns(UserWarning, match="energies are TOTEN"):
        atoms = read_frames(path)[1]
    assert label(atoms, "energy") == given["energies"][1, 0]
    assert label(atoms, "magmoms") is None


def test_vaspout_is_read_only_when_there_is_no_outcar(tmp_path, frames):
    from make_vasp import write_outcar

    write_vaspout(tmp_path / "vaspout.h5")
    assert len(quietly(tmp_path)) == 4
    write_outcar(tmp_path / "OUTCAR", frames[:2])
    assert {Path(a.info["source"]).name for a in quietly(tmp_path)} == {"OUTCAR"}


def test_other_and_damaged_hdf5(tmp_path, monkeypatch):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["intermediate/ion_dynamics/energies"] = [[1.0]]
    with pytest.raises(mk.InputError, match="not a vaspout.h5 with ionic steps .*energies_tags"):
        read_frames(path)
    write_vaspout(path)
    content, bad = path.read_bytes(), []
    before = signal.signal(signal.SIGALRM, _alarm)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    try:
        for seed in range(150):
            path.write_bytes(damaged(content, np.random.default_rng(seed)))
            bad += [(seed, wrong) for wrong in [complaint(path)] if wrong]
    finally:
        signal.signal(signal.SIGALRM, before)
    assert not bad
