"""Relaxing many: the same results however it is run, killed or resumed."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import mlipkit as mk
from mlipkit.relaxation import many as campaigns

# far from `fmax` at the last step: at the default of 0.05 eV/Å a MACE converges in step 12 with
# 0.045, and the last digits decide whether it has
QUICK = {"steps": 12, "fmax": 0.01}


@pytest.fixture(scope="module")
def models():
    return {
        "aware": mk.load_model("cpainn", charge_aware=True),
        "blind": mk.load_model("cpainn", charge_aware=False),
    }


@pytest.fixture(scope="module")
def starts(ends):
    host = next(a for a in ends if a.info["x"] == 1)
    starts = [mk.undistorted(a, host) for a in ends[1:4]]
    for atoms in starts:
        atoms.rattle(0.01, seed=0)
    return starts


@pytest.fixture(scope="module")
def reference(starts, models):
    return mk.relax_many(starts, models, processes=1, progress=False, **QUICK)


def same(a, b):
    """One thread or two, now or from a file: single precision, so the paths differ in the last
    digits and may in a step.
    """
    return told(a) == expected(b)


def told(r):
    assert r.states is not None, r.reason
    return r.reason, float(r.energies[-1]), r.states[-1].tolist()


def expected(r):
    return r.reason, pytest.approx(float(r.energies[-1]), abs=5e-3), r.states[-1].tolist()


def test_as_one_by_one(starts, models, reference):
    for name, model in models.items():
        for atoms, found in zip(starts, reference[name]):
            assert same(found, mk.relax(atoms, model, progress=False, **QUICK))
    table = mk.relaxation_table(reference)
    assert (
        len(table) == 6 and set(table["model"]) == set(models) and table["ordering"].nunique() == 3
    )
    assert (
        table.query("model == 'aware'")["flips"].max()
        == 0
        < table.query("model == 'blind'")["flips"].max()
    )


def test_in_processes_and_from_files(starts, models, reference, tmp_path):
    found = mk.relax_many(starts, models, folder=tmp_path, processes=2, progress=False, **QUICK)
    assert all(same(a, b) for name in models for a, b in zip(found[name], reference[name]))
    times = {p: p.stat().st_mtime_ns for p in tmp_path.iterdir()}
    assert len(times) == 6 and not [p for p in times if p.suffix != ".extxyz"]
    again = mk.relax_many(starts, models, folder=tmp_path, processes=2, progress=False, **QUICK)
    # nothing was done twice
    assert {p: p.stat().st_mtime_ns for p in tmp_path.iterdir()} == times
    for a, b in zip(found["blind"], again["blind"]):
        assert (
            (a.energies == b.energies).all()
            and (a.magmoms == b.magmoms).all()
            and (a.states == b.states).all()
        )
        assert (
            a.seconds == b.seconds
            and a.atoms.info["ordering"] == b.atoms.info["ordering"]
            and [f.info["step"] for f in b.frames] == list(range(len(b.frames)))
        )
        assert (a.atoms.arrays["oxi_states"] == b.atoms.arrays["oxi_states"]).all()


def test_a_mace_in_another_process(starts):
    """It is compiled while it runs, in every process anew."""
    model = mk.load_model("mace", charge_aware=True)
    # of one job the caller's process would do all
    found = mk.relax_many(starts[:2], model, processes=2, progress=False, steps=2)
    assert same(found[0], mk.relax(starts[0], model, progress=False, steps=2))


def test_anything_that_matters_makes_another_job(starts, models, tmp_path):
    other = starts[1].copy()
    fe = np.flatnonzero(other.symbols == "Fe")
    other.arrays["oxi_states"][fe] = other.arrays["oxi_states"][fe][::-1]
    for frames, model, options in (
        ([starts[1]], models["aware"], {}),
        ([other], models["aware"], {}),
        ([starts[1]], models["blind"], {}),
        ([starts[1]], models["aware"], {"fmax": 0.1}),
        ([starts[1], starts[1].copy()], models["aware"], {}),
    ):
        mk.relax_many(
            frames, model, folder=tmp_path, processes=1, progress=False, **{**QUICK, **options}
        )
    assert len(list(tmp_path.iterdir())) == 4


def test_a_damaged_file_is_made_again(starts, models, reference, tmp_path):
    mk.relax_many(
        starts[:1], models["aware"], folder=tmp_path, processes=1, progress=False, **QUICK
    )
    path = next(tmp_path.iterdir())
    path.write_text(path.read_text()[:-400])
    with pytest.warns(UserWarning, match="cannot be used and is made again"):
        found = mk.relax_many(
            starts[:1], models["aware"], folder=tmp_path, processes=1, progress=False, **QUICK
        )
    assert same(found[0], reference["aware"][0])


def test_bad_structures_end_no_campaign(starts, models, reference, tmp_path):
    far, foreign, empty = starts[0].copy(), starts[0].copy(), starts[0][:0]
    far.positions[0] += 0.2 - far.positions[0] + far.positions[9]
    foreign.symbols[0] = "K"
    for _ in range(2):
        found = mk.relax_many(
            [far, foreign, empty, starts[0]],
            models["aware"],
            folder=tmp_path,
            processes=2,
            progress=False,
            **QUICK,
        )
        assert (
            "Å apart" in found[0].reason
            and "not trained on K" in found[1].reason
            and "without atoms" in found[2].reason
        )
        assert same(found[3], reference["aware"][0])
    assert mk.relaxation_table(found)["energy"].isna().tolist() == [True, True, True, False]
    with pytest.raises(mk.InputError, match="no option is called force"):
        mk.relax_many(starts, models, force=0.1)


CAMPAIGN = """
import sys, mlipkit as mk
starts = mk.read_frames(sys.argv[1])
models = {"aware": mk.load_model("cpainn", charge_aware=True), "blind": mk.load_model("cpainn", charge_aware=False)}
mk.relax_many(starts, models, folder=sys.argv[2], processes=int(sys.argv[3]), progress=False, steps=12, fmax=0.01)
"""


@pytest.mark.parametrize("processes", [1, 2])
def test_killed_and_resumed(starts, models, reference, tmp_path, processes):
    path, folder = tmp_path / "starts.extxyz", tmp_path / "out"
    plain = [a.copy() for a in starts]
    mk.write_frames(path, plain)
    given = mk.read_frames(path)  # positions as the file rounds them
    run = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", CAMPAIGN, path, folder, str(processes)],
        start_new_session=True,
    )
    while run.poll() is None and len(list(folder.glob("*.extxyz"))) < 2:
        time.sleep(0.02)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    before = {p.name: p.read_bytes() for p in folder.glob("*.extxyz")}
    assert 2 <= len(before) < 6
    found = mk.relax_many(
        given, models, folder=folder, processes=processes, progress=False, **QUICK
    )
    assert all(same(a, b) for name in models for a, b in zip(found[name], reference[name]))
    after = {p.name: p.read_bytes() for p in folder.glob("*.extxyz")}
    assert len(after) == 6 and all(after[name] == content for name, content in before.items())


KILLS = int(os.environ.get("MLIPKIT_KILLS", "2"))


def test_two_campaigns_into_one_folder_killed_at_random_moments(starts, tmp_path):
    """`MLIPKIT_KILLS=20 pytest -s` kills more often, and prints at which stages."""
    path, rng = tmp_path / "starts.extxyz", np.random.default_rng(20)
    many = [starts[k % 3].copy() for k in range(3 + 2 * KILLS)]
    for k, atoms in enumerate(many):
        atoms.rattle(0.01, seed=k)
    mk.write_frames(path, many)

    def campaign(folder):
        command = [sys.executable, "-W", "ignore", "-c", CAMPAIGN, path, folder, "1"]
        env = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(command, env=env, start_new_session=True)

    def found(folder):
        # how long it took is no result
        return {
            p.name: re.sub(rb"seconds=\S+", b"", p.read_bytes()) for p in folder.glob("*.extxyz")
        }

    began = time.monotonic()
    assert campaign(tmp_path / "undisturbed").wait() == 0
    whole, folder = time.monotonic() - began, tmp_path / "out"
    runs, stages = [campaign(folder), campaign(folder)], []
    for _ in range(KILLS):
        victims = [[0], [1], [0, 1]][rng.integers(3)]
        waited = rng.uniform(0, 6 + 1.2 * whole / KILLS)
        with contextlib.suppress(subprocess.TimeoutExpired):
            runs[victims[0]].wait(waited)
        for k in victims:
            alive = runs[k].poll() is None
            if alive:
                os.killpg(runs[k].pid, signal.SIGKILL)
                runs[k].wait()
            parts = len(list(folder.glob("*.part")))
            stages.append((alive, round(waited, 1), len(found(folder)), parts))
            runs[k] = campaign(folder)
    assert [run.wait() for run in runs] == [0, 0]
    print(f"undisturbed {whole:.0f} s, {2 * len(many)} files; (alive, s, files, aside): {stages}")
    assert found(folder) == found(tmp_path / "undisturbed") and len(found(folder)) == 2 * len(many)
    assert sum(alive for alive, *_ in stages) >= min(KILLS, 2)


class Deadly:
    """A model that takes its process down the first time that it is asked, as running out of memory
    does.
    """

    def __init__(self, model, marker):
        self.proxies = model.proxies
        self.model, self.marker = model, marker

    @property
    def network(self):
        return self.model.network

    def calculator(self):
        if not self.marker.exists():
            self.marker.write_text("")
            os.kill(os.getpid(), signal.SIGKILL)
        return self.model.calculator()


def test_a_process_that_dies_is_replaced(starts, models, reference, tmp_path):
    found = mk.relax_many(
        starts,
        Deadly(models["blind"], tmp_path / "died"),
        folder=tmp_path / "out",
        processes=2,
        progress=False,
        **QUICK,
    )
    assert (tmp_path / "died").exists() and all(
        same(a, b) for a, b in zip(found, reference["blind"])
    )


def test_dask_cluster_with_a_worker_killed(starts, models, reference, tmp_path):
    from distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, processes=True
        ) as cluster,
        Client(cluster) as client,
    ):
        died = tmp_path / "died"
        both = {"aware": models["aware"], "blind": Deadly(models["blind"], died)}
        found = mk.relax_many(
            starts, both, folder=tmp_path / "out", client=client, progress=False, **QUICK
        )
    assert died.exists()
    for name in models:
        assert [told(r) for r in found[name]] == [expected(r) for r in reference[name]]
    assert len(list((tmp_path / "out").iterdir())) == 6


def test_an_interrupt_keeps_what_is_done(starts, models, tmp_path, monkeypatch):
    def interrupted(key, *job, real=campaigns._relaxed, seen=[]):  # noqa: B006
        seen.append(key)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return real(key, *job)

    monkeypatch.setattr(campaigns, "_relaxed", interrupted)
    found = mk.relax_many(
        starts, models["blind"], folder=tmp_path, processes=1, progress=False, **QUICK
    )
    assert [r is None for r in found] == [False, False, True] and len(list(tmp_path.iterdir())) == 2


def test_charges_are_not_known_of_a_model_without_moments(ends):
    from ase.calculators.lj import LennardJones

    start = ends[4].copy()
    found = {
        "mine": [mk.relax(start, LennardJones(rc=4.0), steps=1, progress=False)],
        "blind": mk.load_relaxations("cpainn_blind")[4:5],
    }
    with pytest.warns(UserWarning, match="relaxation_table: mine gives no magnetic moments"):
        table = mk.relaxation_table(found)
    assert table["flips"].isna().tolist() == [True, False]
    assert table["flips"][1] == len(found["blind"][0].flipped_sites)
