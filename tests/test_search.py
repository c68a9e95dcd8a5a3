"""Scoring on one graph, and the search for charge orderings: against enumeration, calculator calls
and DFT.
"""

import numpy as np
import pytest

import mlipkit as mk
from mlipkit.orderings.names import sites_of
from mlipkit.statmech.pairs import PairExpansion


@pytest.fixture(scope="module")
def host(ends):
    full, half = (next(a for a in ends if a.info["x"] == x) for x in (1, 0.5))
    host = full.copy()
    host.set_cell(half.cell, scale_atoms=True)
    return host


def assignments(atoms):
    import itertools

    fe = np.flatnonzero(atoms.symbols == "Fe")
    rows = []
    for holes in itertools.combinations(fe, 2):
        row = atoms.arrays["oxi_states"].copy()
        row[fe] = 2
        row[list(holes)] = 3
        rows.append(row)
    return np.array(rows)


@pytest.mark.parametrize("name", ["chgnet", "cpainn", "mace"])
def test_scores_are_the_energies_of_the_calculator(ends, name):
    atoms = next(a for a in ends if a.info["x"] == 0.5)
    states = assignments(atoms)
    aware, blind = (mk.load_model(name, charge_aware=aware) for aware in (True, False))
    one_by_one = []
    for row in states:
        copy = atoms.copy()
        copy.arrays["oxi_states"] = row
        one_by_one.append(aware.predict([copy])[0].energy)
    assert (
        aware.score(atoms, states, batch_size=4) == pytest.approx(one_by_one, abs=2e-3)
        and np.ptp(one_by_one) > 0.1
    )
    assert blind.score(atoms, states) == pytest.approx(
        [blind.predict([atoms])[0].energy] * 6, abs=2e-3
    )


def test_scoring_says_what_is_wrong(ends):
    aware, atoms = (
        mk.load_model("mace", charge_aware=True),
        next(a for a in ends if a.info["x"] == 0.5),
    )
    assert aware.score(atoms, np.empty((0, len(atoms)), int)).shape == (0,)
    with pytest.raises(mk.InputError, match="oxidation state of atom 2 .*not known"):
        aware.score(atoms, np.zeros((3, len(atoms)), int))


def test_aware_finds_the_ground_state_of_dft_and_blind_cannot_tell(host, ends):
    mine = [a for a in ends if a.info["ordering"].startswith("x050_na02")]
    lowest = min(mine, key=lambda a: a.get_potential_energy()).info["ordering"]
    aware, blind = (
        mk.search_charge_ordering(
            host, mk.load_model("cpainn", charge_aware=aware), mobile_sites=(0, 2), progress=False
        )
        for aware in (True, False)
    )
    # of one arrangement: 4 over 2
    assert aware.exhaustive and aware.n_scored == 4 and aware.table["degeneracy"].sum() == 6
    assert aware.table["ordering"].iloc[0] == aware.table["found"].iloc[0] == lowest
    # meV per formula unit
    assert (aware.table["ordering"] == aware.table["found"]).all() and aware.table["energy"].iloc[
        1
    ] > 2
    assert blind.table["start"].max() < 0.1 and blind.table["found"].nunique() < 4
    assert aware.atoms.get_potential_energy() == min(r.energies[-1] for r in aware.relaxations)


def test_monte_carlo_finds_what_enumeration_finds(host):
    model, setup = (
        mk.load_model("mace", charge_aware=True),
        {"n_mobile": 2, "progress": False, "keep": 3, "steps": 0},
    )
    every = mk.search_charge_ordering(host, model, **setup)
    walked = [
        mk.search_charge_ordering(host, model, limit=1, mc_steps=200, seed=seed, **setup)
        for seed in (1, 1, 2)
    ]
    assert not walked[0].exhaustive and every.exhaustive and every.n_scored == 10
    for found in walked:
        best, known = (t.table.sort_values("start").iloc[0] for t in (found, every))
        assert best["ordering"] == known["ordering"]
        assert (
            found.atoms.arrays["oxi_states"].sum() == 0 and (found.atoms.symbols == "Na").sum() == 2
        )
    # deterministic for a seed
    assert walked[0].table.equals(walked[1].table) and walked[0].n_scored == walked[1].n_scored


def test_monte_carlo_keeps_a_given_arrangement(host):
    found = mk.search_charge_ordering(
        host,
        mk.load_model("mace", charge_aware=True),
        mobile_sites=(0, 3),
        limit=1,
        mc_steps=60,
        steps=0,
        progress=False,
    )
    assert all(name.startswith("x050_na03") for name in found.table["ordering"])


LARGE = {
    "mobile_sites": (0, 2, 3, 5, 6, 7, 8, 9),
    "supercell": (1, 3, 1),
    "progress": False,
    "keep": 4,
    "steps": 0,
}


def test_a_pair_expansion_finds_couplings_that_are_pairs(host):
    sites = sites_of(host, (1, 1, 2), mk.Compound("Na", {"Fe": (2, 3)}, "FePO4"))
    cell, at = sites.atoms, np.concatenate([sites.mobile, sites.redox])
    distance = cell.get_all_distances(mic=True)[np.ix_(at, at)]
    coupling = np.exp(-distance / 3) - np.eye(len(at))
    rng = np.random.default_rng(0)
    filled = rng.random((300, 8)) < 0.5
    v = np.hstack([filled, 2 + (rng.random((300, 8)) < 0.5)]).astype(int)
    energies = 3 + 0.5 * filled.sum(axis=1) + np.einsum("ni,ij,nj->n", v, coupling, v) / 2
    expansion = PairExpansion(sites).fit(v[:200], energies[:200])
    assert expansion.n_coefficients < 40 and expansion.rmse < 1e-8
    assert (
        expansion.energies(v[200:]) == pytest.approx(energies[200:], abs=1e-8)
        and energies.std() > 0.1
    )
    for filled_perm, redox_perm in zip(sites.mobile_perms[::5], sites.redox_perms[::5]):
        image = np.hstack([v[:, :8][:, filled_perm], v[:, 8:][:, redox_perm]])
        assert expansion.energies(image) == pytest.approx(expansion.energies(v), abs=1e-9)


def test_screening_by_pairs_finds_what_scoring_all_finds(host, monkeypatch):
    model = mk.load_model("mace", charge_aware=True)
    screened = mk.search_charge_ordering(host, model, **LARGE)
    monkeypatch.setattr("mlipkit.relaxation.search.SAMPLE", 10_000)
    scored = mk.search_charge_ordering(host, model, **LARGE)
    assert (
        screened.n_candidates == scored.n_candidates == scored.n_scored == 495
        and scored.expansion is None
    )
    # meV per formula unit
    assert (
        screened.n_scored < 250 and screened.exhaustive and 1e3 * screened.expansion.rmse / 12 < 3
    )
    starts = [
        t.table.sort_values("start")[["ordering", "degeneracy", "start"]].reset_index(drop=True)
        for t in (screened, scored)
    ]
    assert (
        starts[0]["ordering"].tolist() == starts[1]["ordering"].tolist()
        and starts[0]["degeneracy"].tolist() == [1] * 4
    )
    assert starts[0]["start"].tolist() == pytest.approx(starts[1]["start"].tolist(), abs=0.01)


def test_a_monte_carlo_walk_in_a_large_cell_finds_the_lowest_of_all(host):
    model = mk.load_model("mace", charge_aware=True)
    walked = mk.search_charge_ordering(host, model, limit=10, **LARGE)
    every = mk.search_charge_ordering(host, model, **LARGE)
    best, known = (t.table.sort_values("start").iloc[0] for t in (walked, every))
    assert best["ordering"] == known["ordering"] and not walked.exhaustive and walked.n_scored < 250


class Ideal:
    """Stands for a potential in cells that no shipped model knows: energies from the oxidation
    states alone.
    """

    charge_aware = True

    def __init__(self, energy_of):
        self.energy_of = energy_of

    def score(self, atoms, states):
        return np.array([self.energy_of(atoms, row) for row in np.atleast_2d(states)], float)

    def states_of(self, compound):
        return compound


def screened(monkeypatch, host, energy_of, **setup):
    """What is chosen, without relaxing it."""
    from types import SimpleNamespace

    monkeypatch.setattr(
        "mlipkit.relaxation.search.relax_many",
        lambda starts, model, **_: [
            SimpleNamespace(
                energies=[model.energy_of(a, a.arrays["oxi_states"])],
                states=None,
                reason="",
                atoms=a,
            )
            for a in starts
        ],
    )
    return mk.search_charge_ordering(host, Ideal(energy_of), progress=False, **setup)


def test_monte_carlo_moves_charges_between_elements_and_reaches_every_state(host, monkeypatch):
    mixed = host.copy()
    mixed.symbols[np.flatnonzero(mixed.symbols == "Fe")[2:]] = "Mn"
    del mixed.arrays["oxi_states"]
    found = screened(
        monkeypatch,
        mixed,
        lambda atoms, q: -(q[atoms.symbols == "Fe"] == 3).sum(),
        limit=1,
        supercell=(1, 1, 2),
        n_mobile=4,
        compound=mk.Compound("Na", {"Fe": (2, 3), "Mn": (2, 3)}),
        mc_steps=2000,
    )
    # all holes on Fe
    assert found.atoms.arrays["oxi_states"][found.atoms.symbols == "Fe"].tolist() == [3] * 4
    manganese = host.copy()
    manganese.symbols[manganese.symbols == "Fe"] = "Mn"
    del manganese.arrays["oxi_states"]
    found = screened(
        monkeypatch,
        manganese,
        lambda atoms, q: ((q[atoms.symbols == "Mn"] - 2.5) ** 2).sum(),
        limit=1,
        supercell=(1, 1, 2),
        n_mobile=4,
        compound=mk.Compound("Na", {"Mn": (2, 3, 4)}),
        mc_steps=2000,
    )
    # no Mn4+
    assert (
        sorted(found.atoms.arrays["oxi_states"][found.atoms.symbols == "Mn"]) == [2] * 4 + [3] * 4
    )


def test_an_expansion_that_is_far_off_is_said_to_be(host, monkeypatch):
    def not_of_pairs(atoms, q):
        return np.random.default_rng(int(q.astype(int) @ np.arange(len(q)) ** 3) % 2**32).random()

    monkeypatch.setattr("mlipkit.relaxation.search.MOST", 200)
    with pytest.warns(UserWarning, match="of 4.. candidates within its error the model scored 200"):
        screened(
            monkeypatch,
            host,
            not_of_pairs,
            **{k: v for k, v in LARGE.items() if k not in ("progress", "steps")},
        )


def test_keep_may_be_more_than_there_are_and_not_less_than_one(host, monkeypatch):
    found = screened(monkeypatch, host, lambda atoms, q: 0.0, mobile_sites=(0, 2), keep=50)
    assert len(found.table) == 4
    with pytest.raises(mk.InputError, match="keep is a whole number of at least 1"):
        mk.search_charge_ordering(
            host, mk.load_model("mace", charge_aware=True), mobile_sites=(0, 2), keep=0
        )


def test_one_composition_at_a_time(host):
    with pytest.raises(mk.InputError, match="give n_mobile"):
        mk.search_charge_ordering(host, mk.load_model("mace", charge_aware=True))
    with pytest.raises(mk.InputError):
        mk.search_charge_ordering(host, mk.load_model("mace", charge_aware=True), n_mobile=9)
    with pytest.raises(mk.InputError, match="compound="):
        mk.search_charge_ordering(
            host,
            mk.load_model("mace", charge_aware=True),
            n_mobile=2,
            compound=mk.Compound("Na", {}),
        )
