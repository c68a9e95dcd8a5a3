"""What is chosen in the explorer, and what follows from it; no widget here."""

import warnings

import numpy as np
import traitlets as t

from mlipkit.analysis import thermo
from mlipkit.analysis.errors import predictions_for
from mlipkit.charges.oxidation import infer_oxidation_states
from mlipkit.charges.references import redox_sites
from mlipkit.files import InputError
from mlipkit.frames.datasets import load_dft, load_geometries, load_predictions
from mlipkit.frames.labels import end_points, label
from mlipkit.models.registry import ADAPTERS, load_model
from mlipkit.orderings.names import arrangement
from mlipkit.relaxation.many import load_relaxations

MODELS = {"pretrained": None, "blind": False, "aware": True}  # -> charge_aware of load_model
ARCHITECTURES = tuple(ADAPTERS)
# the architecture that there is a published model of
PUBLISHED = "chgnet"
SERIES = (
    f"{PUBLISHED}_pretrained",
    *(f"{a}_{m}" for a in ARCHITECTURES for m in ("blind", "aware")),
)
GEOMETRIES = ("dft", "host", "relaxed")
# meV per formula unit: closer than this a model does not tell two orderings apart (single
# precision, end of a relaxation)
SAME = 0.05


class ExplorerState(t.HasTraits):
    """What is chosen, and what follows from it.

    Parameters
    ----------
    frames : list of ase.Atoms, optional
        As `load_dft` gives them (the default).
    predictions : pandas.DataFrame, optional
        As `load_predictions` gives them (the default), for these frames.

    Attributes
    ----------
    x : float
        Composition; setting it moves to its lowest ordering.
    ordering : str
        Charge ordering asked for; setting it sets ``x`` too.
    architecture : str
        ``"chgnet"``, ``"cpainn"`` or ``"mace"``.
    model : str
        ``"blind"``, ``"aware"`` or, of CHGNet only, ``"pretrained"``: as published.
    geometry : str
        Where the atoms are: ``"dft"``, where DFT relaxed them; ``"host"``, on their sites of the
        undistorted host, where labels are all that tells orderings apart; ``"relaxed"``, where the
        model relaxes them from there (`load_relaxations`).
    step : int or None
        Of the model's relaxation; None for its end, and on the other geometries.
    flips : tuple of int
        Indices of the Fe whose oxidation state is turned over, 2+ to 3+ or back, in what the model
        is given; another ordering begins without.
    """

    x = t.Float()
    ordering = t.Unicode()
    architecture = t.Enum(ARCHITECTURES, default_value=PUBLISHED)
    model = t.Enum(tuple(MODELS), default_value="blind")
    geometry = t.Enum(GEOMETRIES, default_value="dft")
    step = t.Int(None, allow_none=True)
    flips = t.Tuple()

    def __init__(self, frames=None, predictions=None, **kwargs):
        frames = load_dft() if frames is None else frames
        self.ends = end_points(frames)
        self.names = [a.info["ordering"] for a in self.ends]
        self.held_out = [a.info["split"] != "train" for a in self.ends]
        self.tables = self._tables(load_predictions() if predictions is None else predictions)
        self._hosts = {a.info["ordering"]: a for a in load_dft("olivine-host")}
        self.hulls_on = {geometry: self._hulls_of(geometry) for geometry in GEOMETRIES}
        self._inferred = None, None
        self._potentials, self._live, self._relaxations, self._told_on_dft = {}, {}, {}, {}
        if "ordering" not in kwargs:
            kwargs["ordering"] = self.orderings(kwargs["x"])[0] if "x" in kwargs else self.names[0]
        kwargs.pop("x", None)  # follows from the ordering
        super().__init__(**kwargs)

    def _tables(self, predictions):
        """{geometry: {series: a row per ordering, in order}}, each with the energy (eV per cell)
        and the moments of the Fe (µB).
        """
        found = predictions_for(self.ends, predictions)
        if missing := set(SERIES) - set(found):
            raise InputError(
                f"explore: no predictions of {', '.join(sorted(missing))}; make them with "
                "data/make_models.py predict"
            )
        tables = {"dft": {series: found[series].reset_index(drop=True) for series in SERIES}}
        elsewhere = load_geometries()
        for geometry in ("host", "relaxed"):
            tables[geometry] = {}
            for series, rows in elsewhere[elsewhere["geometry"] == geometry].groupby("model"):
                if unknown := set(self.names) - set(rows["ordering"]):
                    raise InputError(
                        f"explore: {series} has not relaxed {', '.join(sorted(unknown))}; make "
                        "results does it"
                    )
                tables[geometry][series] = rows.set_index("ordering").loc[self.names].reset_index()
        return tables

    def _hulls_of(self, geometry):
        """{series: hull}, a row per ordering, in order; NaN where DFT has no state on the host that
        keeps its charges.
        """
        models = {
            series: thermo.hull(self.ends, self.tables[geometry][series]["energy"].tolist())
            for series in SERIES
        }
        dft = thermo.hull(self.ends)
        if geometry == "host":
            there = thermo.hull([a for a in self._hosts.values() if label(a, "energy") is not None])
            there = there.set_index("ordering").reindex(self.names).reset_index()
            dft = there.assign(x=dft["x"], on_hull=there["on_hull"].eq(True))
        return {"DFT": dft, **models}

    @property
    def hulls(self):
        """Hull of DFT and of every model on the chosen geometry, by series. A model's relaxed cells
        stand beside DFT's relaxed cells.
        """
        return self.hulls_on[self.geometry]

    @property
    def compositions(self):
        return sorted({a.info["x"] for a in self.ends})

    def orderings(self, x):
        """Names of the orderings at a composition, the lowest in energy first (DFT, relaxed)."""
        here = [i for i, a in enumerate(self.ends) if np.isclose(a.info["x"], x)]
        if not here:
            raise t.TraitError(
                f"there is no ordering at x = {x:g}; there is x = "
                f"{', '.join(f'{c:g}' for c in self.compositions)}"
            )
        return [
            self.names[i]
            for i in sorted(here, key=lambda i: self.hulls_on["dft"]["DFT"]["formation_energy"][i])
        ]

    @property
    def series(self):
        """Name of the chosen model in the tables and figures."""
        return f"{self.architecture}_{self.model}"

    @property
    def models(self):
        """The kinds of model that there are of the chosen architecture."""
        return [m for m in MODELS if f"{self.architecture}_{m}" in SERIES]

    @property
    def index(self):
        return self.names.index(self.ordering)

    @t.validate("x")
    def _has_orderings(self, proposal):
        self.orderings(proposal["value"])
        return proposal["value"]

    @t.validate("ordering")
    def _known(self, proposal):
        if proposal["value"] not in self.names:
            raise t.TraitError(
                f"there is no ordering {proposal['value']!r}; there are {', '.join(self.names)}"
            )
        return proposal["value"]

    @t.validate("model")
    def _there_is_one(self, proposal):
        if proposal["value"] not in self.models:
            raise t.TraitError(
                f"there is no {proposal['value']} model of {self.architecture}; there are "
                f"{', '.join(self.models)}"
            )
        return proposal["value"]

    @t.validate("step")
    def _within(self, proposal):
        step = proposal["value"]
        if step is not None and (self.geometry != "relaxed" or not 0 <= step <= self.last):
            raise t.TraitError(
                f"there is no step {step}"
                + (
                    f"; the last is {self.last}"
                    if self.geometry == "relaxed"
                    else " on a geometry that is no relaxation"
                )
            )
        return None if self.geometry == "relaxed" and step == self.last else step

    @property
    def metal(self):
        """The redox-active metals, for people."""
        return " or ".join(sorted({a.symbols[i] for a in self.ends for i in redox_sites(a)}))

    @t.validate("flips")
    def _can_flip(self, proposal):
        atoms = self.ends[self.index]
        if wrong := [i for i in proposal["value"] if i not in redox_sites(atoms)]:
            raise t.TraitError(
                f"only the valence of {self.metal} can be flipped, not that of atom {wrong[0]}; "
                f"{self.metal} are atoms {', '.join(map(str, redox_sites(atoms)))}"
            )
        return tuple(sorted(set(proposal["value"])))

    @t.observe("ordering")
    def _follow_ordering(self, change):
        self.x = self.ends[self.index].info["x"]
        self.flips = ()

    @t.observe("ordering", "architecture", "model", "geometry", "flips")
    def _to_the_end(self, change):
        self.step = None

    @t.observe("architecture")
    def _follow_architecture(self, change):
        if self.model not in self.models:
            self.model = "blind"

    @t.observe("x")
    def _follow_x(self, change):
        if not np.isclose(self.ends[self.index].info["x"], self.x):
            self.ordering = self.orderings(self.x)[0]

    def flip(self, atom):
        """Turn the valence of an Fe over, or back."""
        self.flips = tuple(set(self.flips) ^ {int(atom)})

    @property
    def given(self):
        """Oxidation states that the model is given: those of the ordering asked for, with the
        flips.
        """
        states = self.ends[self.index].arrays["oxi_states"].copy()
        flips = list(self.flips)
        states[flips] = 5 - states[flips]  # 2 and 3 change places
        return states

    @property
    def imbalance(self):
        """Sum of the oxidation states that the model is given; 0 when they balance."""
        return int(self.given.sum())

    @property
    def relaxation(self):
        """The relaxation of the chosen ordering by the chosen model."""
        # together, so that the toggle between them has nothing to read
        for model in {"blind", "aware", self.model}:
            series = f"{self.architecture}_{model}"
            if series not in self._relaxations:
                self._relaxations[series] = {
                    r.atoms.info["ordering"]: r for r in load_relaxations(series)
                }
        return self._relaxations[self.series][self.ordering]

    @property
    def last(self):
        """Number of the last step of `relaxation`."""
        return len(self.relaxation.frames) - 1

    @property
    def structure(self):
        """The atoms of the chosen ordering where the chosen geometry has them; labels are whatever
        came with them.
        """
        if self.geometry == "relaxed":
            return self.relaxation.frames[-1 if self.step is None else self.step]
        if self.geometry == "dft":
            return self.ends[self.index]
        return self._hosts[self.ordering]

    @property
    def ready(self):
        """Whether the present choice is shown without loading a model."""
        return not self.flips or self.series in self._potentials

    def _predict(self, flips):
        """Energy (eV per cell) and moments of the Fe (µB) with some flipped, on the chosen
        geometry.
        """
        key = self.series, self.geometry, self.ordering, flips
        if key not in self._live:
            if self.series not in self._potentials:
                self._potentials[self.series] = load_model(
                    self.architecture, charge_aware=MODELS[self.model]
                )
            atoms = self.structure.copy()
            atoms.arrays["oxi_states"] = (
                self.given if flips else self.ends[self.index].arrays["oxi_states"]
            )
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that it does not balance is said by the view
                found = self._potentials[self.series].predict([atoms])[0]
            self._live[key] = float(found.energy), found.magmoms[redox_sites(atoms)]
        return self._live[key]

    @property
    def change(self):
        """What the flips do to the energy of the chosen model, eV per formula unit."""
        return (
            (self._predict(self.flips)[0] - self._predict(())[0])
            / len(redox_sites(self.ends[self.index]))
            if self.flips
            else 0.0
        )

    def levels(self, series, geometry=None, group=None):
        """Energies of the orderings of a Na arrangement (the chosen one) on a geometry (the chosen
        one) from the lowest of them, meV per formula unit, by name; orderings without an energy are
        left out."""
        group = arrangement(self.ordering) if group is None else group
        energy = self.hulls_on[geometry or self.geometry][series]["formation_energy"]
        here = {
            name: energy[i]
            for i, name in enumerate(self.names)
            if arrangement(name) == group and np.isfinite(energy[i])
        }
        return {name: 1e3 * float(e - min(here.values())) for name, e in here.items()}

    def moments(self, series=None):
        """Moments of the Fe (µB) by DFT (None), NaN where it has none on this geometry, or by a
        model, the chosen one with the flips.
        """
        atoms = self.ends[self.index]
        fe = redox_sites(atoms)
        if series is None:
            magmoms = label(
                self._hosts[self.ordering] if self.geometry == "host" else atoms, "magmoms"
            )
            return np.full(len(fe), np.nan) if magmoms is None else np.abs(magmoms[fe])
        if self.flips and series == self.series:
            return self._predict(self.flips)[1]
        if self.step is not None:
            return np.abs(label(self.structure, "magmoms")[fe])
        row = self.tables[self.geometry][series].iloc[self.index]
        return row[[f"magmom_{i}" for i in range(len(fe))]].to_numpy(float)

    @property
    def atoms(self):
        """The chosen ordering on the chosen geometry with the moments of the chosen model.

        Its oxidation states are inferred from these moments; with flips they are those given, so
        that a person sees what was flipped.
        """
        from ase.calculators.singlepoint import SinglePointCalculator

        atoms = self.structure.copy()
        magmoms = np.zeros(len(atoms))
        magmoms[redox_sites(atoms)] = self.moments(self.series)
        atoms.calc = SinglePointCalculator(atoms, magmoms=magmoms)
        atoms.arrays["oxi_states"] = self.given if self.flips else self.inferred(atoms).states
        return atoms

    def inferred(self, atoms):
        """What the moments of `atoms` tell, as `infer_oxidation_states` returns it."""
        # a charge-aware model answers for the charge it was given, a charge-blind one cannot know
        # of it
        moments, charge = label(atoms, "magmoms"), self.imbalance if self.model == "aware" else 0
        last, result = self._inferred
        # asked for several times in a row
        if last is None or last[0] != charge or not np.array_equal(last[1], moments):
            result = infer_oxidation_states(atoms, charge)
            self._inferred = (charge, moments), result
        return result

    def summary(self, now):
        """Rows (Fe index, DFT moment, model moment, DFT state, given state, model state), `now`
        being `atoms`.
        """
        reference, found = self.ends[self.index].arrays["oxi_states"], self.inferred(now).states
        return [
            (int(i), float(d), float(m), int(reference[i]), int(self.given[i]), int(found[i]))
            for i, d, m in zip(redox_sites(now), self.moments(), self.moments(self.series))
        ]

    def changed(self, now):
        """Indices of the Fe whose moment does not clearly tell the state that was given, `now`
        being `atoms`.
        """
        unclear = self.unclear(now)
        return [
            i for i, _, _, _, given, found in self.summary(now) if given != found or i in unclear
        ]

    def unclear(self, now):
        """Indices of the Fe whose moment tells no state, where neutrality alone does not either;
        `now` being `atoms`.
        """
        return self.inferred(now).undecided.tolist()

    def findings(self):
        """What the chosen model makes of all orderings on the chosen geometry, beside DFT.

        Returns
        -------
        dict
            ``mixed``: orderings with Fe2+ and Fe3+; ``kept``, in how many of them every Fe has the
            state asked for, and ``clear``, in how many the moments leave no doubt (on a geometry
            that DFT relaxed: by the moments predicted there). ``window`` and ``dft_window``: the
            widest span of the orderings of one Na arrangement, meV per formula unit, of the
            orderings that DFT has. ``vertices`` and ``dft_vertices``: orderings on the hull between
            the end members. ``lowest`` and ``dft_lowest``: the lowest at the chosen composition.
            Orderings are named as the model's moments tell them.
        """
        table, mixed = self._told(), np.array([0 < a.info["x"] < 1 for a in self.ends])
        groups = sorted({arrangement(name) for name, m in zip(self.names, mixed) if m})
        window = dict.fromkeys(("DFT", self.series), 0.0)
        for group in groups:
            dft, model = (self.levels(series, group=group) for series in window)
            # of the orderings that DFT has
            for series, levels in zip(window, (dft, {name: model[name] for name in dft})):
                window[series] = max(window[series], float(np.ptp(list(levels.values()) or [0.0])))
        result = {
            "mixed": sum(mixed),
            "kept": int(table["kept"][mixed].sum()),
            "clear": int(table["clear"][mixed].sum()),
            "window": window[self.series],
            "dft_window": window["DFT"],
        }
        told = [
            name if clear else f"{arrangement(name)} with unclear charges"
            for name, clear in zip(table["found"], table["clear"])
        ]
        for prefix, series, names in (("dft_", "DFT", self.names), ("", self.series, told)):
            hull = self.hulls[series]
            on_hull = [names[i] for i in np.flatnonzero(hull["on_hull"].to_numpy() & mixed)]
            here = np.flatnonzero(np.isclose(hull["x"], self.x) & hull["formation_energy"].notna())
            energy = 1e3 * hull["formation_energy"].to_numpy()[here]
            lowest = [names[i] for i in here[energy <= energy.min(initial=np.inf) + SAME]]
            result |= {
                f"{prefix}vertices": list(dict.fromkeys(on_hull)),
                f"{prefix}lowest": list(dict.fromkeys(lowest)),
            }
        return result

    def _told(self):
        """``found``, ``kept`` and ``clear`` of every ordering for the chosen model and geometry."""
        if self.geometry != "dft":
            return self.tables[self.geometry][self.series]
        if self.series in self._told_on_dft:
            return self._told_on_dft[self.series]
        import pandas as pd

        rows = []
        for atoms, row in zip(self.ends, self.tables["dft"][self.series].to_dict("records")):
            magmoms = np.zeros(len(atoms))
            magmoms[redox_sites(atoms)] = [
                row[f"magmom_{k}"] for k in range(len(redox_sites(atoms)))
            ]
            told = infer_oxidation_states(atoms, magmoms=magmoms)
            kept = np.array_equal(told.states, atoms.arrays["oxi_states"])
            rows.append(
                {
                    "found": atoms.info["ordering"] if kept else "another",
                    "kept": kept,
                    "clear": not len(told.undecided),
                }
            )
        self._told_on_dft[self.series] = pd.DataFrame(rows)
        return self._told_on_dft[self.series]
