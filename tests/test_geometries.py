"""The shipped relaxations, the table of the geometries, and DFT's verdict on the structures: that
they say the same, and what they say.
"""

import json

import collect
import numpy as np
import pandas as pd
import pytest

import mlipkit as mk
from mlipkit.files import data_folder, manifest

MODELS = [
    "chgnet_blind",
    "chgnet_aware",
    "cpainn_blind",
    "cpainn_aware",
    "mace_blind",
    "mace_aware",
]


@pytest.fixture(scope="module")
def table():
    return mk.load_geometries()


@pytest.fixture(scope="module")
def relaxations():
    return {model: mk.load_relaxations(model) for model in [*MODELS, "chgnet_pretrained"]}


def test_the_table_is_what_the_relaxations_end_in(table, relaxations, ends):
    host = next(a for a in ends if a.info["x"] == 1)
    for model, found in relaxations.items():
        rows = table[(table["model"] == model) & (table["geometry"] == "relaxed")].to_dict(
            "records"
        )
        assert (
            [r["ordering"] for r in rows]
            == [a.info["ordering"] for a in ends]
            == [r.atoms.info["ordering"] for r in found]
        )
        for row, relaxation, asked in zip(rows, found, ends):
            assert (
                relaxation.converged
                and relaxation.max_forces[-1] <= 0.0501
                and (row["job"], row["step"]) == (asked.info["job"], asked.info["step"])
            )
            assert row["energy"] == pytest.approx(relaxation.energies[-1], abs=6e-6)
            assert [row[f"magmom_{k}"] for k in range(4)] == pytest.approx(
                relaxation.magmoms[-1][relaxation.redox_sites], abs=6e-5
            )
            assert row["kept"] == (len(relaxation.flipped_sites) == 0)
            assert (
                row["found"]
                == relaxation.atoms.info["found"]
                == mk.ordering_label(relaxation.inferred, host, max_distance=1.5)
            )
            assert (relaxation.frames[0].arrays["oxi_states"] == asked.arrays["oxi_states"]).all()
            assert relaxation.frames[0].cell.array == pytest.approx(asked.cell.array)


@pytest.mark.parametrize("model", ["cpainn_aware", "mace_blind"])
def test_relaxations_and_rows_belong_to_the_shipped_weights(model, table, relaxations, ends):
    name, kind = model.split("_")
    potential, shipped = mk.load_model(name, charge_aware=kind == "aware"), relaxations[model][5]
    assert (
        shipped.atoms.info["weights"]
        == "sha-" + manifest()[f"models/{model}_seed0.safetensors"]["sha256"][:12]
    )
    assert shipped.atoms.info["data"] == "sha-" + manifest()["dft/olivine.extxyz"]["sha256"][:12]
    again = mk.relax(shipped.frames[0], potential, progress=False)
    assert (
        again.energies[-1] == pytest.approx(shipped.energies[-1], abs=5e-3)
        and (again.states[-1] == shipped.states[-1]).all()
    )
    assert potential.predict([shipped.atoms])[0].energy == pytest.approx(
        shipped.energies[-1], abs=1e-3
    )
    host = mk.load_dft("olivine-host")[5]
    row = table.query("model == @model and geometry == 'host'").iloc[5]
    assert potential.predict([host])[0].energy == pytest.approx(row["energy"], abs=1e-3)


def test_make_results_takes_the_same_files(relaxations, ends, monkeypatch):
    """The relaxations of the explorer and of the tables are one: nothing is relaxed again, and
    ground_states.csv is made of them.
    """
    import make_results

    monkeypatch.setattr(mk, "relax_many", lambda *args, **options: pytest.fail("relaxed again"))
    found = make_results.relaxed(ends)
    assert {m: [r.energies[-1] for r in rs] for m, rs in found.items()} == {
        m: [r.energies[-1] for r in relaxations[m]] for m in found
    }
    del found["chgnet_pretrained"]
    shipped = pd.read_csv(data_folder() / "models" / "ground_states.csv")
    pd.testing.assert_frame_equal(
        make_results.ground_states(ends, found).round(3), shipped, check_dtype=False
    )


def test_a_blind_model_has_one_end_for_each_arrangement_and_an_aware_one_all(table, ends):
    """The paper's result in the shipped numbers."""
    rows = table.query("geometry == 'relaxed'").assign(
        arrangement=lambda t: t["ordering"].str.rsplit("_", n=1).str[0]
    )
    for model in MODELS:
        of = rows[rows["model"] == model]
        spread = 250 * of.groupby("arrangement")["energy"].agg(np.ptp)
        mixed = of[~of["ordering"].str.startswith(("x000", "x100"))]
        if model.endswith("blind"):
            assert (
                spread.max() < 0.05
                and mixed.groupby("arrangement")["found"].nunique().max() == 1
                and mixed["kept"].sum() <= 4
            )
        else:
            assert (
                mixed["kept"].all()
                and (mixed["found"] == mixed["ordering"]).all()
                and spread.max() > 90
            )
    after = mk.error_by(ends, rows, "ordering")["energy"].groupby("model").mean()
    for name in ("chgnet", "cpainn", "mace"):
        assert after[f"{name}_blind"] > 4 * after[f"{name}_aware"]


def test_relaxations_round_trip_and_what_is_none_is_told(relaxations, tmp_path):
    two = relaxations["mace_aware"][:2]
    for path in (tmp_path / "two.extxyz", tmp_path / "two.extxyz.xz"):
        mk.write_relaxations(path, two)
        for a, b in zip(two, mk.read_relaxations(path), strict=True):
            assert (
                (a.energies == b.energies).all()
                and (a.states == b.states).all()
                and a.reason == b.reason
                and a.atoms.info == b.atoms.info | {"source": a.atoms.info["source"]}
            )
            assert (
                a.atoms.positions == pytest.approx(b.atoms.positions, abs=1e-8)
                and (a.magmoms == b.magmoms).all()
            )
    assert (tmp_path / "two.extxyz.xz").stat().st_size < (
        tmp_path / "two.extxyz"
    ).stat().st_size / 5
    mk.write_frames(tmp_path / "frames.extxyz", two[0].frames[:2])
    with pytest.raises(mk.InputError, match="no whole relaxation"):
        mk.read_relaxations(tmp_path / "frames.extxyz")
    with pytest.raises(
        mk.InputError, match="there are none of 'orb'; there are chgnet_aware, chgnet_blind"
    ):
        mk.load_relaxations("orb")


def test_verdicts_are_of_the_shipped_structures(relaxations):
    judged = mk.load_dft("olivine-verdict")
    made = {a.info["job"]: a for a in collect.verdicts()}
    assert len(judged) == len(made) >= 9
    for atoms in judged:
        model = atoms.info["model"]
        assert (
            atoms.info["job"].endswith(f".{model}")
            and made[atoms.info["job"]].info["verdict"] == atoms.info["verdict"]
        )
        ends = [
            r
            for r in relaxations[model]
            if len(r.atoms) == len(atoms)
            and np.abs(r.atoms.positions - atoms.positions).max() < 2e-5
        ]
        assert ends, f"{atoms.info['job']} is no structure of {model}"
        if atoms.info["verdict"] == "as seeded":
            found = mk.infer_oxidation_states(atoms)
            fe3 = "".join(str(k) for k, i in enumerate(found.sites) if found.states[i] == 3)
            assert found.clear and atoms.info["job"].split(".")[0].endswith(f"_fe{fe3}")
            assert atoms.info["has"] == bool((ends[0].states[-1] == found.states).all())
            assert atoms.info["density"] <= 3e-4


@pytest.mark.parametrize(
    "found, clear, says",
    [
        ([3, 2, 3, 2], True, "as seeded"),
        ([3, 3, 2, 2], True, "moved"),
        ([3, 2, 3, 2], False, "delocalised"),
        ([0, 0, 0, 0], None, "not converged"),
    ],
)
def test_what_became_of_the_charges(found, clear, says):
    assert collect.judgement(np.array(found), np.array([3, 2, 3, 2]), clear) == says


def test_the_host_is_that_of_dft(frames, ends):
    """Every ordering once, in the order of the end points, on the positions at which DFT was done,
    labels where DFT has a state.
    """
    there = {a.info["ordering"]: a for a in frames if a.info["kind"] == "undistorted"}
    hosts = mk.load_dft("olivine-host")
    assert [a.info["ordering"] for a in hosts] == [a.info["ordering"] for a in ends]
    for atoms, end in zip(hosts, ends):
        name = atoms.info["ordering"]
        assert (atoms.arrays["oxi_states"] == end.arrays["oxi_states"]).all() and (
            atoms.numbers == end.numbers
        ).all()
        assert atoms.cell.array == pytest.approx(end.cell.array)
        assert (atoms.calc is not None) == (name in there)
        if name in there:
            assert (
                atoms.positions == pytest.approx(there[name].positions)
                and atoms.get_potential_energy() == there[name].get_potential_energy()
            )
        fe = np.flatnonzero(atoms.symbols == "Fe")
        bonds = [
            np.sort(atoms.get_distances(i, np.flatnonzero(atoms.symbols == "O"), mic=True))[:6]
            for i in fe
        ]
        assert np.ptp(bonds, axis=0).max() < 1e-4
    assert 10 <= len(there) < 16


def test_the_verdict_in_numbers(ends, table):
    found = mk.verdict_table()
    judged = {a.info["job"]: a for a in mk.load_dft("olivine-verdict")}
    for row in found.itertuples():
        own = next(a for a in ends if a.info["ordering"] == row.ordering).get_potential_energy()
        claim = table.query(
            "model == @row.model and geometry == 'relaxed' and ordering == @row.ordering"
        ).iloc[0]
        assert (
            row.claimed == pytest.approx(250 * (claim["energy"] - own))
            and row.kept == claim["kept"]
        )
        atoms = judged[f"{row.ordering}.{row.model}"]
        if row.verdict == "as seeded":
            assert row.as_asked == pytest.approx(
                250 * (atoms.get_potential_energy() - own)
            ) and row.gap == pytest.approx(row.as_asked - row.claimed)
            assert row.as_asked > -4, (
                "DFT relaxed it lower than a model did, but for what is left of the forces"
            )
        else:
            assert np.isnan(row.as_asked) and np.isnan(row.gap)
    aware = found.query("model == 'chgnet_aware'")
    assert (
        aware["kept"].all()
        and (aware["verdict"] == "as seeded").all()
        and aware["as_asked"].max() < 15
    )
    summary = mk.verdict_summary(found)
    assert summary.loc["chgnet_aware", "gap"] == pytest.approx(aware["gap"].mean()) and summary.loc[
        "chgnet_aware", "n"
    ] == len(aware)
    worst = aware["gap"].iloc[aware["gap"].abs().argmax()]
    assert summary.loc["chgnet_aware", "gap_worst"] == worst
    figure = mk.plots.verdict(found)
    claims = next(t for t in figure.data if t.name == "CHGNet, charge-aware: claims")
    assert dict(zip(claims.x, claims.y)) == pytest.approx(
        aware.set_index("ordering")["claimed"].to_dict()
    )
    json.loads(figure.to_json())
