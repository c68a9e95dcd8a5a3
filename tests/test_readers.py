"""`read_frames` for every format: round trips, cross-checks against ASE and pymatgen, and what real
files surprise with.
"""

import bz2
import gzip
import hashlib
import json
import lzma
import pickle
import re
import warnings
from pathlib import Path

import ase.db
import ase.io
import numpy as np
import pytest
from ase import Atoms, units
from ase.calculators.singlepoint import SinglePointCalculator
from make_vasp import KBAR, runs_of, write_outcar, write_vasprun

import mlipkit as mk
from mlipkit.frames.labels import decode_proxies, label, well_converged
from mlipkit.frames.readers import read_frames

PACK = {".gz": gzip.compress, ".xz": lzma.compress, ".bz2": bz2.compress, "": bytes}
REAL = Path(ase.__file__).parent / "test" / "testdata" / "vasp"


@pytest.fixture(scope="module")
def run(frames):
    """Four ionic steps of one relaxation, with labels as VASP has them; the free energy differs
    from the energy.
    """
    steps = [a for a in frames if a.info["job"] == "x050_na01_fe01"][:4]
    assert len(steps) == 4
    return [
        labelled(a, **{**a.calc.results, "free_energy": a.calc.results["energy"] - 0.01})
        for a in steps
    ]


def labelled(atoms, **labels):
    copy = Atoms(atoms.symbols, positions=atoms.positions, cell=atoms.cell, pbc=True)
    copy.calc = SinglePointCalculator(copy, **labels)
    return copy


def quietly(path, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return read_frames(path, progress=False, **kwargs)


def assert_same(before, after, position=1e-7, force=1e-6, moment=1e-6, stress=1e-7):
    assert np.array_equal(before.numbers, after.numbers) and after.pbc.all()
    assert np.abs(before.cell.array - after.cell.array).max() < 1e-7
    assert np.abs(before.positions - after.positions).max() <= position
    assert label(after, "energy") == pytest.approx(label(before, "energy"), abs=2e-8)
    assert np.abs(label(after, "forces") - label(before, "forces")).max() <= force
    assert np.abs(label(after, "stress") - label(before, "stress")).max() <= stress
    assert np.abs(label(after, "magmoms") - label(before, "magmoms")).max() <= moment


OUTCAR_DIGITS = {"position": 5.1e-6, "force": 5.1e-7, "moment": 5.1e-4, "stress": 1e-8}


# ---------------------------------------------------------------- OUTCAR


@pytest.mark.parametrize("version", ["5.4.4", "6.3.0"])
@pytest.mark.parametrize("ending", PACK)
def test_outcar_has_all_steps_with_their_own_moments(run, tmp_path, version, ending):
    write_outcar(tmp_path / "plain", run, version=version, nupdown=18, u=[0, 5.3, 0, 0])
    path = tmp_path / f"OUTCAR{ending}"
    path.write_bytes(PACK[ending]((tmp_path / "plain").read_bytes()))
    got = quietly(path)
    assert len(got) == 4
    for i, (before, after) in enumerate(zip(run, got)):
        assert_same(before, after, **OUTCAR_DIGITS)
        assert label(after, "free_energy") == pytest.approx(label(before, "free_energy"), abs=1e-8)
        assert after.info == {
            "source": str(path),
            "step": i,
            "converged": True,
            "nupdown": 18.0,
            "hubbard_u": {"Fe": 5.3},
        }
    # each step its own
    assert np.abs(label(got[0], "magmoms") - label(got[3], "magmoms")).max() > 1e-3


def test_outcar_agrees_with_ase_and_pymatgen(run, tmp_path):
    from pymatgen.io.vasp.outputs import Outcar

    write_outcar(tmp_path / "OUTCAR", run)
    got, ase_frames, pymatgen = (
        quietly(tmp_path / "OUTCAR"),
        ase.io.read(tmp_path / "OUTCAR", ":"),
        Outcar(tmp_path / "OUTCAR"),
    )
    assert len(got) == len(ase_frames)
    for ours, theirs in zip(got, ase_frames):
        assert np.array_equal(ours.positions, theirs.positions) and np.array_equal(
            ours.numbers, theirs.numbers
        )
        for name in ("energy", "free_energy", "forces", "stress", "magmoms"):
            assert np.allclose(label(ours, name), theirs.calc.results[name], rtol=0, atol=1e-12), (
                name
            )
    assert [m["tot"] for m in pymatgen.magnetization] == list(label(got[-1], "magmoms"))
    assert pymatgen.final_fr_energy == label(
        got[-1], "free_energy"
    ) and pymatgen.final_energy == label(got[-1], "energy")


@pytest.mark.skipif(
    not (REAL / "OUTCAR_example_1").exists(), reason="this ASE comes without its test data"
)
@pytest.mark.parametrize(
    "name, form",
    [
        ("OUTCAR_example_1", "vasp-out"),
        ("vasprun_dfpt.xml", "vasp-xml"),
        ("vasprun_pstress.xml", "vasp-xml"),
    ],
)
def test_files_of_real_runs_agree_with_ase(name, form):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        got, expected = read_frames(REAL / name), ase.io.read(REAL / name, ":", format=form)
    assert len(got) == len(expected) > 0
    for ours, theirs in zip(got, expected):
        assert np.array_equal(ours.numbers, theirs.numbers) and np.allclose(
            ours.positions, theirs.positions, atol=1e-8
        )
        for key in ("energy", "free_energy", "forces", "stress"):
            assert np.allclose(label(ours, key), theirs.calc.results[key], rtol=0, atol=1e-8), key
        assert label(ours, "magmoms") is None and ours.info["converged"] is True


@pytest.mark.parametrize("version", ["5.4.4", "6.3.0"])
def test_steps_that_hit_nelm_are_marked_and_dropped(run, tmp_path, version):
    write_outcar(tmp_path / "OUTCAR", run, version=version, nelm=5, unconverged=[1, 3])
    got = quietly(tmp_path / "OUTCAR")
    assert [a.info["converged"] for a in got] == [True, False, True, False]
    assert [a.info["step"] for a in well_converged(got)] == [0, 2]


def test_killed_run_keeps_its_complete_steps(run, tmp_path):
    write_outcar(tmp_path / "whole", run, killed=True)
    text = (tmp_path / "whole").read_text()
    last = text.index("Iteration    4(   1)")
    for cut in (
        last + 30,
        text.index("TOTAL-FORCE", last) + 400,
        text.rindex("energy(sigma->0)"),
        text.rindex("energy(sigma->0)") + 32,
    ):
        (tmp_path / "OUTCAR").write_text(text[:cut])
        with pytest.warns(UserWarning, match=r"OUTCAR: the last ionic step \(3\) is cut off"):
            got = read_frames(tmp_path / "OUTCAR")
        assert len(got) == 3
        for before, after in zip(run, got):
            assert_same(before, after, **OUTCAR_DIGITS)
    (tmp_path / "OUTCAR").write_text(text[: text.index("TOTAL-FORCE")])
    with pytest.raises(mk.InputError, match="no complete ionic step"):
        read_frames(tmp_path / "OUTCAR")


def test_numbers_that_ran_into_each_other_or_over(run, tmp_path):
    write_outcar(tmp_path / "OUTCAR", run)
    text = (tmp_path / "OUTCAR").read_text()
    start = text.index("TOTAL-FORCE")
    row = text[start:].splitlines()[2]
    _, _, z, *force = row.split()
    glued = f"   -11.00000-111.00000{float(z):13.5f}  " + "".join(
        f"{float(f):14.6f}" for f in force
    )
    (tmp_path / "OUTCAR").write_text(text.replace(row, glued, 1))
    assert quietly(tmp_path / "OUTCAR")[0].positions[0] == pytest.approx([-11, -111, float(z)])
    (tmp_path / "OUTCAR").write_text(text.replace(row, row[:-10] + "*" * 10, 1))
    with pytest.warns(UserWarning, match="1 ionic step.* no readable forces .* step 0"):
        assert [a.info["step"] for a in read_frames(tmp_path / "OUTCAR")] == [1, 2, 3]


def test_unreadable_labels_are_absent_and_said_to_be(run, tmp_path):
    write_outcar(tmp_path / "OUTCAR", run)
    text = (tmp_path / "OUTCAR").read_text()
    at = text.index("magnetization (x)", text.index("Iteration    2("))
    (tmp_path / "OUTCAR").write_text(text[:at] + re.sub(r"    3 .*\n", "", text[at:], count=1))
    with pytest.warns(UserWarning, match="magmoms of some ionic steps cannot be read"):
        got = read_frames(tmp_path / "OUTCAR")
    assert [label(a, "magmoms") is None for a in got] == [False, True, False, False]
    (tmp_path / "OUTCAR").write_text(
        re.sub(r"in kB  ( *\S+)", "in kB  ************", text, count=1)
    )
    with pytest.warns(UserWarning, match="stress of some ionic steps cannot be read"):
        assert [label(a, "stress") is None for a in read_frames(tmp_path / "OUTCAR")] == [
            True,
            False,
            False,
            False,
        ]


def test_wrong_counts_give_no_wrong_frames(run, tmp_path):
    write_outcar(tmp_path / "OUTCAR", run)
    text = (tmp_path / "OUTCAR").read_text()
    for counts in (
        "   2   4   4  15",
        "   2   4   4  17",
        "   2   4   4",
        "   2   4   4  -1",
        "   2   4   4999999999999",
    ):
        (tmp_path / "OUTCAR").write_text(text.replace("   2   4   4  16", counts))
        with pytest.raises(mk.InputError, match="OUTCAR"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            read_frames(tmp_path / "OUTCAR")


def test_no_moments_is_none_not_zero(run, tmp_path):
    write_outcar(tmp_path / "OUTCAR", run, moments=False)
    # LORBIT = 11 writes charges alone
    write_outcar(tmp_path / "OUTCAR_nospin", run, ispin=1)
    unlabelled = [
        labelled(a, **{k: v for k, v in a.calc.results.items() if k != "stress"}) for a in run
    ]
    write_outcar(tmp_path / "OUTCAR_nostress", unlabelled)
    for atoms in quietly(tmp_path / "OUTCAR") + quietly(tmp_path / "OUTCAR_nospin"):
        assert label(atoms, "magmoms") is None and label(atoms, "stress") is not None
        assert "nupdown" not in atoms.info and "hubbard_u" not in atoms.info
    assert label(quietly(tmp_path / "OUTCAR_nostress")[0], "stress") is None


def test_moments_written_only_at_the_end_belong_to_the_last_step(run, tmp_path):
    write_outcar(tmp_path / "OUTCAR", run, moments_at_end=True)
    got = quietly(tmp_path / "OUTCAR")
    assert [label(a, "magmoms") is None for a in got] == [True, True, True, False]
    assert np.abs(label(got[-1], "magmoms") - label(run[-1], "magmoms")).max() < 6e-4


def test_a_last_moment_that_lost_digits_is_not_taken(run, tmp_path):
    write_outcar(tmp_path / "OUTCAR", run, moments_at_end=True)
    text = (tmp_path / "OUTCAR").read_text()
    rows = text[text.rindex("magnetization (x)") :].splitlines()
    (tmp_path / "OUTCAR").write_text(
        text[: text.rindex(rows[3 + len(run[0])]) + len(rows[3 + len(run[0])]) - 2]
    )
    with pytest.warns(UserWarning, match="magmoms of some ionic steps cannot be read"):
        assert label(read_frames(tmp_path / "OUTCAR")[-1], "magmoms") is None


def test_noncollinear_moments_are_lengths_and_the_components_are_kept(run, tmp_path):
    vectors = np.random.default_rng(0).normal(size=(4, len(run[0]), 3)).round(3)
    write_outcar(tmp_path / "OUTCAR", run, vectors=vectors)
    for expected, atoms in zip(vectors, quietly(tmp_path / "OUTCAR")):
        assert np.allclose(atoms.arrays["magmom_vectors"], expected)
        assert np.allclose(label(atoms, "magmoms"), np.linalg.norm(expected, axis=1))


def test_large_cell_many_species_of_the_same_element(tmp_path):
    rng = np.random.default_rng(1)
    symbols = ["Na"] * 6 + ["Fe"] * 12 + ["Fe"] * 11 + ["P"] * 24 + ["O"] * 92
    atoms = Atoms(
        symbols,
        cell=[[20.1, 0, 0], [-3, 12.3, 0], [0, 0.5, 14.8]],
        scaled_positions=rng.uniform(-0.2, 1.2, (145, 3)),
        pbc=True,
    )
    magmoms = np.where(np.array(symbols) == "Fe", 4.32, 0.01)
    # a single Fe2+, antiferromagnetic
    magmoms[7] = -3.76
    atoms = labelled(
        atoms,
        energy=-987.654321,
        forces=rng.normal(size=(145, 3)),
        stress=rng.normal(size=6) * 0.01,
        magmoms=magmoms,
    )
    write_outcar(tmp_path / "all", [atoms], titles=["Na_pv", "Fe_pv", "P", "O_s"], u=[0, 5.3, 0, 0])
    text = (tmp_path / "all").read_text()
    # two POTCARs of iron, with the long list of counts broken over two lines
    text = text.replace(
        "ions per type =               6  23  24  92",
        "ions per type =               6  12  11\n  24  92",
    )
    text = text.replace(
        "   TITEL  = PAW_PBE P ", "   TITEL  = PAW_PBE Fe_sv 02Aug2007\n   TITEL  = PAW_PBE P "
    )
    text = re.sub("LDAUU = .*", "LDAUU =   0.0  5.3  5.3  0.0\n  0.0", text).replace(
        "LDAUJ =   0.0", "LDAUJ =   0.0  0.0"
    )
    (tmp_path / "OUTCAR").write_text(text)
    (got,) = quietly(tmp_path / "OUTCAR")
    assert_same(atoms, got, **OUTCAR_DIGITS)
    assert got.info["hubbard_u"] == {"Fe": 5.3} and label(got, "magmoms")[7] == -3.76
    assert np.sum(np.abs(label(got, "magmoms")) > 3) == 23


@pytest.mark.parametrize(
    "potcar, element",
    [
        ("PAW_PBE Fe_pv 02Aug2007", "Fe"),
        ("PAW_PBE H1.25 07Sep2000", "H"),
        ("PAW H.5 1Jan2000", "H"),
        ("PAW_PBE C_GW_new 19Mar2012", "C"),
        ("H  1/r potential", "H"),
        ("PAW_PBE Na_sv 28Sep2000", "Na"),
    ],
)
def test_element_of_a_potcar(run, tmp_path, potcar, element):
    write_outcar(tmp_path / "OUTCAR", run)
    text = (tmp_path / "OUTCAR").read_text()
    (tmp_path / "OUTCAR").write_text(
        re.sub("(TITEL  =|POTCAR:   ) PAW_PBE Na .*", rf"\1 {potcar}", text)
    )
    assert quietly(tmp_path / "OUTCAR")[0].symbols[0] == element


def test_steps_of_vasps_own_force_field_are_left_out(run, tmp_path):
    write_outcar(tmp_path / "OUTCAR", run)
    text = (tmp_path / "OUTCAR").read_text()
    learned = text[
        text.index("  FORCE on cell", text.index("Iteration    2")) : text.index("Iteration    3(")
    ]
    learned = learned.replace("TOTAL-FORCE (eV/Angst)", "TOTAL-FORCE (eV/Angst) (ML)").replace(
        "free  energy   TOTEN", "free  energy ML TOTEN"
    )
    learned = learned.replace("    9.971", "    8.971")
    at = text.index("Iteration    2(") - 41
    (tmp_path / "OUTCAR").write_text(text[:at] + learned + text[at:])
    for before, after in zip(run, quietly(tmp_path / "OUTCAR"), strict=True):
        assert_same(before, after, **OUTCAR_DIGITS)


# ---------------------------------------------------------------- vasprun.xml


@pytest.mark.parametrize("ending", PACK)
@pytest.mark.parametrize("fixed", [True, False])
def test_vasprun_with_the_moments_of_its_outcar(run, tmp_path, ending, fixed):
    write_vasprun(
        tmp_path / "plain.xml",
        run,
        u=[0, 5.3, 0, 0],
        nupdown=18,
        fixed=fixed,
        nelm=7,
        unconverged=[1],
    )
    write_outcar(tmp_path / "plain", run, nelm=7, unconverged=[1])
    path = tmp_path / f"vasprun.relax2.xml{ending}"
    path.write_bytes(PACK[ending]((tmp_path / "plain.xml").read_bytes()))
    (tmp_path / "OUTCAR.relax2.gz").write_bytes(gzip.compress((tmp_path / "plain").read_bytes()))
    got = quietly(path)
    for i, (before, after) in enumerate(zip(run, got, strict=True)):
        assert_same(before, after, position=1e-6, force=1e-8, moment=5.1e-4, stress=1e-9)
        assert label(after, "free_energy") == pytest.approx(label(before, "free_energy"), abs=1e-8)
        assert after.info == {
            "source": str(path),
            "step": i,
            "converged": i != 1,
            "nupdown": 18.0,
            "hubbard_u": {"Fe": 5.3},
        }


def test_vasprun_agrees_with_pymatgen_and_ase(run, tmp_path):
    from pymatgen.io.vasp.outputs import Vasprun

    write_vasprun(tmp_path / "vasprun.xml", run, fixed=False)
    with pytest.warns(UserWarning, match="no moments, and there is no OUTCAR"):
        got = read_frames(tmp_path / "vasprun.xml")
    theirs, reference = (
        ase.io.read(tmp_path / "vasprun.xml", ":"),
        Vasprun(tmp_path / "vasprun.xml", parse_potcar_file=False),
    )
    for a, b in zip(got, theirs, strict=True):
        assert label(a, "magmoms") is None
        for name in ("energy", "free_energy", "forces", "stress"):
            assert np.allclose(label(a, name), b.calc.results[name], rtol=0, atol=1e-9), name
    assert label(got[-1], "energy") == pytest.approx(float(reference.final_energy), abs=1e-8)


def test_vasprun_beside_the_outcar_of_another_run(run, tmp_path):
    write_vasprun(tmp_path / "vasprun.xml", run)
    write_outcar(tmp_path / "OUTCAR", run[::-1])
    with pytest.warns(
        UserWarning, match="not of the same run at step 0 .*4 of 4 frames have no magmoms"
    ):
        got = read_frames(tmp_path / "vasprun.xml")
    assert all(label(a, "magmoms") is None for a in got)
    (tmp_path / "OUTCAR").write_text("nonsense")
    with pytest.warns(UserWarning, match="moments cannot be taken from OUTCAR"):
        read_frames(tmp_path / "vasprun.xml")
    write_outcar(tmp_path / "OUTCAR", run, moments=False)
    with pytest.warns(UserWarning, match="LORBIT"):
        read_frames(tmp_path / "vasprun.xml")


def test_vasprun_of_a_killed_run(run, tmp_path):
    write_vasprun(tmp_path / "vasprun.xml", run)
    write_outcar(tmp_path / "OUTCAR", run)
    text = (tmp_path / "vasprun.xml").read_text()
    (tmp_path / "vasprun.xml").write_text(text[: text.rindex("</calculation>") - 200])
    with pytest.warns(UserWarning, match="last ionic step is cut off"):
        got = read_frames(tmp_path / "vasprun.xml")
    assert len(got) == 3
    assert_same(run[2], got[2], position=1e-6, moment=5.1e-4)


# ---------------------------------------------------------------- extended XYZ


def published(vacancies=""):
    """A frame with the columns of doi 10.11583/DTU.31812499."""
    return (
        f"{3 + vacancies.count('X ')}\n"
        'Lattice="5 0 0 0 6 0 0 0 7" '
        "Properties=species:S:1:pos:R:3:bader_charge:R:1:forces:R:3:magmoms:R:1 energy=-10.5 "
        'free_energy=-10.6 stress="1 6 5 6 2 4 5 4 3" magmom=9.0 pbc="T T T"\n'
        f"{vacancies}"
        "Fe 0.0 0.0 0.0 -1.48 0.1 0.2 0.3 3.75\nGa 1.0 1.0 1.0 -1.90 0.0 0.0 0.0 -4.30\nO 2.0 2.0 "
        "2.0 1.20 -0.1 -0.2 -0.3 0.05\n"
    )


@pytest.mark.parametrize("ending", PACK)
def test_published_columns(tmp_path, ending):
    path = tmp_path / f"train.xyz{ending}"
    path.write_bytes(PACK[ending](published().encode() * 3))
    got = quietly(path)
    assert len(got) == 3 and [a.info["step"] for a in got] == [0, 1, 2]
    atoms = got[2]
    # nothing is decoded unless asked for
    assert atoms.get_chemical_formula() == "FeGaO"
    assert list(atoms.arrays["bader_charge"]) == [-1.48, -1.90, 1.20]
    assert label(atoms, "forces").tolist() == [[0.1, 0.2, 0.3], [0, 0, 0], [-0.1, -0.2, -0.3]]
    assert label(atoms, "magmoms").tolist() == [3.75, -4.30, 0.05]
    assert label(atoms, "stress").tolist() == [1, 2, 3, 4, 5, 6]
    assert (label(atoms, "energy"), label(atoms, "free_energy")) == (-10.5, -10.6)
    assert atoms.get_forces().shape == (3, 3) and atoms.info["source"] == str(path)


@pytest.mark.parametrize("kind", ["extxyz", "db", "json", "traj"])
def test_vacancies_are_dropped(tmp_path, kind):
    path = tmp_path / f"vacant.{kind}"
    if kind == "extxyz":
        path.write_text(published("X 9 9 9 0 0 0 0 0\n"))
    else:
        full = Atoms("FeXGaXO", positions=np.arange(15).reshape(5, 3), cell=[5, 6, 7], pbc=True)
        few = {"forces": np.arange(9).reshape(3, 3), "magmoms": [3.75, -4.3, 0.05]}
        write_ase(
            path,
            [
                labelled(full, energy=-10.5, **few),
                labelled(
                    full,
                    energy=-10.5,
                    forces=np.arange(15).reshape(5, 3),
                    magmoms=[3.75, 0, -4.3, 0, 0.05],
                ),
            ],
        )
    for i, atoms in enumerate(quietly(path)):
        assert atoms.get_chemical_formula() == "FeGaO" and label(atoms, "energy") == -10.5
        assert label(atoms, "magmoms").tolist() == [3.75, -4.3, 0.05]
        assert atoms.info["n_vacancies"] == (1 if kind == "extxyz" else 2)
        if kind != "extxyz":
            assert atoms.positions[:, 0].tolist() == [0, 6, 12]
            assert label(atoms, "forces")[:, 0].tolist() == ([0, 3, 6] if i == 0 else [0, 6, 12])


@pytest.mark.parametrize("kind", ["db", "json", "traj"])
@pytest.mark.parametrize(
    "name, shape",
    [
        ("forces", (4, 3)),
        ("magmoms", (2,)),
        ("magmoms", (3, 2)),
        ("forces", (3, 2)),
        ("stress", (5,)),
    ],
)
def test_labels_that_do_not_fit_are_named(tmp_path, kind, name, shape):
    write_ase(
        tmp_path / f"odd.{kind}",
        [labelled(Atoms("FeGaO"), energy=1.0), labelled(Atoms("FeGaO"), **{name: np.ones(shape)})],
    )
    with pytest.raises(mk.InputError, match=rf"odd.{kind}: frame (1|0 cannot).*({name}|reshape)"):
        read_frames(tmp_path / f"odd.{kind}")


def write_ase(path, frames, **more):
    if path.suffix == ".traj":
        with ase.io.Trajectory(path, "w") as trajectory:
            for atoms in frames:
                trajectory.write(atoms)
        return
    with ase.db.connect(path) as db:
        for atoms in frames:
            db.write(atoms, **more)


# ---------------------------------------------------------------- ASE databases and trajectories


@pytest.mark.parametrize("kind", ["extxyz", "db", "json", "traj"])
@pytest.mark.parametrize("ending", PACK)
def test_round_trip_and_the_file_is_left_alone(frames, tmp_path, kind, ending):
    plain, path = tmp_path / f"plain.{kind}", tmp_path / f"my.{kind}{ending}"
    write_ase(plain, frames[:5]) if kind != "extxyz" else mk.write_frames(plain, frames[:5])
    path.write_bytes(PACK[ending](plain.read_bytes()))
    plain.unlink()
    path.chmod(0o444)
    before = hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns
    for a, b in zip(frames, quietly(path), strict=False):
        assert_same(a, b)
    assert len(quietly(path)) == 5 and quietly(path)[0].info["source"] == str(path)
    assert before == (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("kind", ["db", "json"])
def test_what_a_database_row_holds_besides(tmp_path, kind):
    atoms = labelled(Atoms("FeXO"), energy=-3.0, magmoms=[4.3, 0.1])
    data = {
        "bader_charge": np.array([1.5, 0.0, -1.2]),
        "bader_real": np.array([1.5, -1.2]),
        "forces": [[1, 0, 0], [0, 2, 0]],
        "notes": ["a", "b", "c"],
        "spectrum": np.arange(7.0),
        "ragged": [[1], [2, 3]],
    }
    write_ase(
        tmp_path / f"my.{kind}",
        [atoms],
        key_value_pairs={"uid": "cell7", "x": 0.5, "relaxed": True},
        data=data,
    )
    (got,) = quietly(tmp_path / f"my.{kind}")
    assert got.get_chemical_formula() == "FeO" and got.info["n_vacancies"] == 1
    assert (got.info["uid"], got.info["x"], bool(got.info["relaxed"])) == ("cell7", 0.5, True)
    assert got.arrays["bader_charge"].tolist() == [1.5, -1.2] == got.arrays["bader_real"].tolist()
    assert label(got, "forces").tolist() == [[1, 0, 0], [0, 2, 0]] and label(
        got, "magmoms"
    ).tolist() == [4.3, 0.1]
    assert (
        label(got, "stress") is None
        and list(got.info["notes"]) == ["a", "b", "c"]
        and len(got.info["spectrum"]) == 7
    )


def test_a_foreign_or_empty_database_gets_no_tables(tmp_path):
    import sqlite3

    with sqlite3.connect(tmp_path / "other.db") as db:
        db.execute("CREATE TABLE mine (x)")
    db.close()
    content = (tmp_path / "other.db").read_bytes()
    with pytest.raises(mk.InputError, match="other.db"):
        read_frames(tmp_path / "other.db")
    assert (tmp_path / "other.db").read_bytes() == content
    (tmp_path / "none.db").write_bytes(b"")
    with pytest.raises(mk.InputError, match="none.db: is not an ASE database"):
        read_frames(tmp_path / "none.db")
    assert (tmp_path / "none.db").read_bytes() == b""


def test_pickles_are_refused_not_loaded(tmp_path):
    class Bomb:
        def __reduce__(self):
            return Path.touch, (tmp_path / "exploded",)

    for name, start in (
        ("old.traj", b"PickleTrajectory"),
        ("odd.traj", b""),
        ("frames.pkl", b""),
        ("OUTCAR", b""),
        ("a.db", b""),
    ):
        (tmp_path / name).write_bytes(start + pickle.dumps(Bomb()))
        with pytest.raises(mk.InputError, match=re.escape(name)):
            read_frames(tmp_path / name)
    assert not (tmp_path / "exploded").exists()


# ---------------------------------------------------------------- CHGNet-style JSON


def chgnet_record(atoms, **more):
    from pymatgen.io.ase import AseAtomsAdaptor

    structure = AseAtomsAdaptor.get_structure(
        Atoms(atoms.symbols, positions=atoms.positions, cell=atoms.cell, pbc=True)
    ).as_dict()
    # kbar with VASP's sign
    xx, yy, zz, yz, xz, xy = atoms.calc.results["stress"] / units.GPa * -10
    return {
        "structure": structure,
        "force": atoms.calc.results["forces"].tolist(),
        "magmom": atoms.calc.results["magmoms"].tolist(),
        "stress": [[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]],
        **more,
    }


@pytest.mark.parametrize("shape", ["mptrj", "lists", "records"])
def test_chgnet_json(run, tmp_path, shape):
    records = [chgnet_record(a, energy_per_atom=a.calc.results["energy"] / len(a)) for a in run]
    data = {
        "mptrj": {
            "mp-1": {"mp-1-0-0": records[0], "mp-1-0-1": records[1]},
            "mp-2": {"mp-2-0-0": records[2], "mp-2-0-1": records[3]},
        },
        "lists": {key: [r[key] for r in records] for key in records[0]},
        "records": records,
    }[shape]
    (tmp_path / "my.json").write_text(json.dumps(data))
    got = quietly(tmp_path / "my.json")
    for before, after in zip(run, got, strict=True):
        assert_same(before, after)
    if shape == "mptrj":
        assert (got[2].info["mp_id"], got[2].info["graph_id"]) == ("mp-2", "mp-2-0-0")


def test_chgnet_json_is_what_chgnet_takes_it_for(run, tmp_path):
    """Energy per atom, forces, stress in GPa and |moments| as CHGNet's own loader hands them to its
    training.
    """
    from chgnet.data.dataset import StructureJsonData
    from chgnet.graph import CrystalGraphConverter

    record = chgnet_record(run[0], energy_per_atom=run[0].calc.results["energy"] / len(run[0]))
    (tmp_path / "my.json").write_text(json.dumps({"mp-1": {"mp-1-0-0": record}}))
    (got,) = quietly(tmp_path / "my.json")
    _, targets = StructureJsonData(
        str(tmp_path / "my.json"), CrystalGraphConverter(), targets="efsm"
    )[0]
    assert label(got, "energy") / len(got) == pytest.approx(float(targets["e"]), rel=1e-6)
    assert np.allclose(label(got, "forces"), targets["f"], atol=1e-6)
    assert np.allclose(
        label(got, "stress")[[0, 1, 2, 3, 4, 5]] / units.GPa,
        targets["s"].numpy()[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]],
        atol=1e-5,
    )
    assert np.allclose(np.abs(label(got, "magmoms")), targets["m"], atol=1e-6)


def test_chgnet_json_energies_missing_labels_and_vacancies(run, tmp_path):
    record = chgnet_record(
        run[0],
        uncorrected_total_energy=-100.0,
        corrected_total_energy=-120.0,
        energy_per_atom=-120.0 / 26,
        magmom=None,
    )
    del record["stress"]
    bare = {"structure": json.loads(json.dumps(record["structure"]))}
    bare["structure"]["sites"][0]["species"] = [{"element": "X0+", "occu": 1}]
    (tmp_path / "my.json").write_text(json.dumps({"a": {"1": record, "2": bare}}))
    full, empty = quietly(tmp_path / "my.json")
    assert label(full, "energy") == -100.0 and full.info["corrected_total_energy"] == -120.0
    assert label(full, "magmoms") is None and label(full, "stress") is None and empty.calc is None
    assert empty.info["n_vacancies"] == 1 and len(empty) == len(full) - 1


def test_json_total_energy_and_the_moments_of_the_sites(run, tmp_path):
    record = chgnet_record(run[0], energy=-100.0)
    moments = record.pop("magmom")
    for site, moment in zip(record["structure"]["sites"], moments):
        site["properties"] = {"magmom": moment}
    other = {**record, "magmom": [1.0] * len(moments), "uncorrected_total_energy": -99.0}
    (tmp_path / "my.json").write_text(json.dumps([record, other]))
    first, second = quietly(tmp_path / "my.json")
    assert label(first, "energy") == -100.0 and label(first, "magmoms").tolist() == moments
    # the record comes first
    assert label(second, "energy") == -99.0 and label(second, "magmoms").tolist() == [1.0] * len(
        moments
    )
    # ASE refuses an energy that is in info as well
    mk.write_frames(tmp_path / "again.extxyz", [first])
    (again,) = quietly(tmp_path / "again.extxyz")
    assert label(again, "energy") == -100.0 and label(again, "magmoms").tolist() == pytest.approx(
        moments
    )


def test_computed_structure_entry_of_pymatgen(tmp_path):
    from monty.json import MontyEncoder
    from pymatgen.core import Lattice, Structure
    from pymatgen.entries.computed_entries import ComputedStructureEntry

    structure = Structure(
        Lattice.cubic(4.2),
        ["Fe", "O"],
        [[0, 0, 0], [0.5, 0.5, 0.5]],
        site_properties={"magmom": [3.7, 0.1]},
    )
    (tmp_path / "entries.json").write_text(
        json.dumps(
            [ComputedStructureEntry(structure, -10.0, correction=-1.5, entry_id="mp-1")],
            cls=MontyEncoder,
        )
    )
    (atoms,) = quietly(tmp_path / "entries.json")
    assert (
        label(atoms, "energy") == -10.0
        and atoms.info["correction"] == -1.5
        and atoms.info["entry_id"] == "mp-1"
    )
    assert label(atoms, "magmoms").tolist() == [3.7, 0.1]


def test_json_imports_no_class_that_it_names(run, tmp_path):
    record = chgnet_record(run[0], energy_per_atom=-1.0)
    for site in record["structure"]["sites"]:
        site["properties"] = {"evil": {"@module": "antigravity", "@class": "Anything"}}
    (tmp_path / "my.json").write_text(json.dumps(record))
    import sys

    assert len(quietly(tmp_path / "my.json")) == 1 and "antigravity" not in sys.modules


@pytest.mark.parametrize(
    "change, says",
    [
        (lambda r: r["structure"].pop("sites"), "is not a pymatgen Structure"),
        (
            lambda r: r["structure"]["sites"][1].update(species=[{"element": "Fe", "occu": 0.5}]),
            "atom 1 is partially occupied",
        ),
        (
            lambda r: r["structure"]["sites"][1].update(species=[{"element": "Qq", "occu": 1}]),
            "'Qq' is not an element",
        ),
        (lambda r: r["force"].pop(), "forces of shape"),
        (lambda r: r.update(stress=[1, 2, 3, 4, 5, 6]), "stress must be 3 x 3"),
        (lambda r: r.pop("structure"), "neither an ASE database nor records"),
    ],
)
def test_bad_chgnet_json(run, tmp_path, change, says):
    record = chgnet_record(run[0], energy_per_atom=-1.0)
    change(record)
    (tmp_path / "my.json").write_text(json.dumps({"mp-1": {"g": record}}))
    with pytest.raises(mk.InputError, match=f"my.json.*{says}"):
        read_frames(tmp_path / "my.json")


# ---------------------------------------------------------------- folders, names, indices, proxies


def test_folder_reads_each_run_once_and_warns_of_each_that_it_cannot(run, tmp_path, capfd):
    for name in ("a", "b/deep", "c", "d"):
        (tmp_path / name).mkdir(parents=True)
    write_outcar(tmp_path / "a" / "OUTCAR", run)
    write_vasprun(tmp_path / "a" / "vasprun.xml", run)
    write_outcar(tmp_path / "b" / "deep" / "OUTCAR", run[:2])
    (tmp_path / "c" / "OUTCAR").write_text("nothing")
    write_vasprun(tmp_path / "c" / "vasprun.xml", run[:1])
    mk.write_frames(tmp_path / "d" / "more.extxyz", run[:3])
    (tmp_path / "d" / "POSCAR").write_text("not looked at")
    with pytest.warns(UserWarning) as caught:
        got = read_frames(tmp_path)
    assert [
        (Path(a.info["source"]).relative_to(tmp_path).as_posix(), a.info["step"]) for a in got
    ] == [
        *(("a/OUTCAR", i) for i in range(4)),
        *(("b/deep/OUTCAR", i) for i in range(2)),
        ("c/vasprun.xml", 0),
        *(("d/more.extxyz", i) for i in range(3)),
    ]
    unread = [
        str(w.message) for w in caught if str(w.message).startswith(str(tmp_path / "c" / "OUTCAR"))
    ]
    assert len(unread) == 1 and "TITEL" in unread[0]
    assert "file" in capfd.readouterr().err  # the progress bar
    with pytest.warns(UserWarning):
        assert [a.info["step"] for a in read_frames(tmp_path, index=-1, progress=False)] == [
            3,
            1,
            0,
            2,
        ]
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    "name", ["OUTCAR", "Na1Fe24_OUTCAR", "relax.OUTCAR", "OUTCAR_3", "my-outcar.txt"]
)
@pytest.mark.parametrize("ending", PACK)
def test_folder_knows_an_outcar_by_any_name_that_says_so(run, tmp_path, name, ending):
    write_outcar(tmp_path / "plain", run[:1])
    path = tmp_path / f"{name}{ending}"
    path.write_bytes(PACK[ending]((tmp_path / "plain").read_bytes()))
    for beside in ("read_outcar.py", "outcar.png", "OUTCARs.tar.gz"):
        (tmp_path / beside).write_text("neither read nor warned of")
    assert [a.info["source"] for a in quietly(tmp_path)] == [str(path)]


def test_folder_knows_runs_by_their_common_prefix(run, tmp_path):
    write_vasprun(tmp_path / "cell7_vasprun.xml", run)
    write_outcar(tmp_path / "cell7_OUTCAR", run)
    assert {a.info["source"] for a in quietly(tmp_path)} == {str(tmp_path / "cell7_OUTCAR")}


def test_folder_without_anything_readable(tmp_path):
    with pytest.raises(mk.InputError, match="holds no file that is known"):
        read_frames(tmp_path)
    (tmp_path / "OUTCAR").write_text("nothing")
    with (
        pytest.warns(UserWarning, match="OUTCAR"),
        pytest.raises(mk.InputError, match=r"none of its 1 file\(s\) can be read"),
    ):
        read_frames(tmp_path)


@pytest.mark.parametrize(
    "kind", ["OUTCAR", "vasprun.xml", "extxyz", "db", "traj", "json", "chgnet"]
)
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_odd_names_are_told_by_content(run, tmp_path, kind, ending):
    write = {
        "OUTCAR": lambda p: write_outcar(p, run),
        "vasprun.xml": lambda p: write_vasprun(p, run, ispin=1),
        "extxyz": lambda p: mk.write_frames(p, run),
        "chgnet": lambda p: p.write_text(
            json.dumps([chgnet_record(a, energy_per_atom=1.0) for a in run])
        ),
    }
    made = tmp_path / f"made.{kind}"
    write.get(kind, lambda p: write_ase(p, run))(made)
    odd = tmp_path / "my results"
    # compressed without a name that says so
    odd.write_bytes(PACK[ending](made.read_bytes()))
    assert np.allclose(
        [label(a, "forces") for a in quietly(odd)], [label(a, "forces") for a in run], atol=1e-6
    )


@pytest.mark.parametrize(
    "text",
    [
        "1\n\nFe 0 0 0\n",
        '[{"structure": {"lattice": {"matrix": [[5, 0, 0], [0, 5, 0], [0, 0, 5]]}, '
        '"sites": [{"species": [{"element": "Fe"}], "abc": [0, 0, 0]}]}, "energy_per_atom": -1}]',
    ],
)
def test_the_byte_order_mark_of_windows_editors_is_skipped(tmp_path, text):
    path = tmp_path / ("a.json" if text[0] == "[" else "a.xyz")
    path.write_text(text, encoding="utf-8-sig")
    assert [str(atoms.symbols) for atoms in mk.read_frames(path)] == ["Fe"]


def test_unknown_files_are_refused_in_a_sentence(tmp_path):
    (tmp_path / "POSCAR").write_text("Fe\n1.0\n1 0 0\n0 1 0\n0 0 1\nFe\n1\nDirect\n0 0 0\n")
    with pytest.raises(mk.InputError, match="cannot tell what this file is; known are VASP OUTCAR"):
        read_frames(tmp_path / "POSCAR")
    with pytest.raises(mk.InputError, match="no such file"):
        read_frames(tmp_path / "none.xyz")
    (tmp_path / "cut.xyz.gz").write_bytes(gzip.compress(published().encode())[:-9])
    with pytest.raises(mk.InputError, match=r"cut.xyz.gz: frame \d.*cut off"):
        read_frames(tmp_path / "cut.xyz.gz")


@pytest.mark.parametrize(
    "index, steps",
    [
        (None, [0, 1, 2, 3]),
        (0, [0]),
        (-1, [3]),
        (slice(1, 3), [1, 2]),
        ("::2", [0, 2]),
        ("-2:", [2, 3]),
        ("1", [1]),
        (slice(None, None, -1), [3, 2, 1, 0]),
        (slice(9, None), []),
    ],
)
def test_index(run, tmp_path, index, steps):
    write_outcar(tmp_path / "OUTCAR", run)
    assert [a.info["step"] for a in quietly(tmp_path / "OUTCAR", index=index)] == steps


@pytest.mark.parametrize(
    "index, says",
    [
        (4, "no frame of index 4"),
        (-5, "no frame of index -5"),
        ("x", "number or a slice"),
        (1.5, "number or a slice"),
    ],
)
def test_bad_index(run, tmp_path, index, says):
    write_outcar(tmp_path / "OUTCAR", run)
    with pytest.raises(mk.InputError, match=says):
        read_frames(tmp_path / "OUTCAR", index=index)


def test_index_stops_reading(tmp_path):
    (tmp_path / "a.xyz").write_text(published() * 2 + "then damage")
    assert len(quietly(tmp_path / "a.xyz", index=slice(0, 2))) == 2
    with pytest.raises(mk.InputError, match="frame 2"):
        read_frames(tmp_path / "a.xyz")


def test_proxies_are_decoded_only_with_a_map(tmp_path):
    (tmp_path / "a.xyz").write_text(published())
    (atoms,) = quietly(tmp_path / "a.xyz", proxies={"Ga": ("Fe", 3)})
    assert list(atoms.symbols) == ["Fe", "Fe", "O"] and atoms.arrays["oxi_states"].tolist() == [
        0,
        3,
        0,
    ]
    assert label(atoms, "magmoms").tolist() == [3.75, -4.30, 0.05]
    # ASE takes the labels for those of the new elements
    assert atoms.get_potential_energy() == -10.5
    (tmp_path / "b.xyz").write_text(published().replace("Ga", "Rh").replace("Fe", "Tc"))
    (atoms,) = quietly(tmp_path / "b.xyz", proxies={"Rh": ("Fe", 3), "Tc": ("Fe", 2)})
    assert list(atoms.symbols) == ["Fe", "Fe", "O"] and atoms.arrays["oxi_states"].tolist() == [
        2,
        3,
        0,
    ]
    again = decode_proxies(atoms, {"Ga": ("Fe", 3)})
    # what is known stays
    assert again.arrays["oxi_states"].tolist() == [2, 3, 0] and again is not atoms


@pytest.mark.parametrize(
    "proxies",
    [{("Fe", 3): "Ga"}, {"Ga": "Fe"}, {"Qq": ("Fe", 3)}, {"Ga": ("Fe", "three")}, ["Ga"], "Ga"],
)
def test_bad_proxy_maps(tmp_path, proxies):
    (tmp_path / "a.xyz").write_text(published())
    with pytest.raises(mk.InputError, match="proxies must look like"):
        read_frames(tmp_path / "a.xyz", proxies=proxies)


def test_what_is_read_can_be_written_and_read_again(run, tmp_path):
    write_outcar(tmp_path / "OUTCAR", run, u=[0, 5.3, 0, 0], nupdown=18, unconverged=[1], nelm=4)
    got = quietly(tmp_path / "OUTCAR")
    mk.write_frames(tmp_path / "again.extxyz", got)
    for before, after in zip(got, quietly(tmp_path / "again.extxyz"), strict=True):
        assert_same(before, after)
        # source: where it came from at first
        assert before.info == after.info
    assert [a.info["step"] for a in well_converged(quietly(tmp_path / "again.extxyz"))] == [0, 2, 3]
    assert list(mk.frame_table(got)["converged"]) == [True, False, True, True]


def test_kbar_is_ases():
    assert pytest.approx(units.GPa / 10) == KBAR and runs_of(Atoms("FeFeOFe")) == [
        ("Fe", 2),
        ("O", 1),
        ("Fe", 1),
    ]
