"""What is chosen in the explorer, and what follows from it; no widget here."""

import functools
import warnings

import numpy as np
import traitlets as t

from mlipkit.analysis.predictions import moments_of, predictions_for
from mlipkit.charges.compounds import compound_of
from mlipkit.charges.oxidation import infer_oxidation_states
from mlipkit.charges.references import redox_sites
from mlipkit.files import InputError
from mlipkit.frames.datasets import load_dft, load_geometries, load_predictions
from mlipkit.frames.labels import cell_charge, end_points, label
from mlipkit.models.registry import load_model
from mlipkit.orderings.names import arrangement, ordering_label, site_numbers
from mlipkit.pictures.figures import joined, parted
from mlipkit.relaxation.geometries import GEOMETRIES, Geometries, told
from mlipkit.relaxation.many import load_relaxations

# meV per formula unit: closer than this a model does not tell two orderings apart (single
# precision, end of a relaxation)
SAME = 0.05
CHARGE_AWARE = {"pretrained": None, "blind": False, "aware": True}  # of load_model


def shipped():
    """The embedded set and what the shipped models say of it, as `compare_geometries` would have
    it; weights and relaxations are loaded when they are first asked for.
    """
    ends = end_points(load_dft())
    names = [a.info["ordering"] for a in ends]
    on_host = {a.info["ordering"]: a for a in load_dft("olivine-host")}
    found = predictions_for(ends, load_predictions())
    tables = {"dft": {name: rows.reset_index(drop=True) for name, rows in found.items()}}
    for (geometry, name), rows in load_geometries().groupby(["geometry", "model"]):
        rows = rows.set_index("ordering").loc[names].reset_index()
        tables.setdefault(geometry, {})[name] = rows

    def potential(name):
        architecture, kind = parted(name)
        return load_model(architecture, charge_aware=CHARGE_AWARE[kind])

    return Geometries(
        compound_of(ends),
        ends,
        [on_host[name] for name in names],
        next(a for a in ends if a.info["x"] == 1),
        tables,
        load_relaxations,
        potential,
        {name: name.endswith("aware") for name in tables["dft"]},
    )


class ExplorerState(t.HasTraits):
    """What is chosen, and what follows from it.

    Parameters
    ----------
    data : Geometries, optional
        As `compare_geometries` makes it; by default the embedded set and the shipped models.

    Attributes
    ----------
    x : float
        Composition; setting it moves to its lowest ordering.
    ordering : str
        Charge ordering asked for; setting it sets ``x`` too.
    architecture, model : str
        The two parts of a model's name, such as ``"chgnet"`` and ``"blind"``, ``"aware"`` or
        ``"pretrained"`` of ``chgnet_blind``; of a name without such a part the first is empty.
        Both are empty when there is no model: then DFT is shown alone.
    geometry : str
        Where the atoms are: ``"dft"``, where DFT relaxed them; ``"host"``, on their sites of the
        undistorted host, where labels are all that tells orderings apart; ``"relaxed"``, where the
        model relaxes them from there. Those that there are stand in ``geometries``.
    step : int or None
        Of the model's relaxation; None for its end, and on the other geometries.
    flips : tuple of (int, int)
        Atoms with another oxidation state, and which, in what the model is given; another ordering
        begins without.
    """

    x = t.Float()
    ordering = t.Unicode()
    architecture = t.Unicode()
    model = t.Unicode()
    geometry = t.Enum(GEOMETRIES, default_value="dft")
    step = t.Int(None, allow_none=True)
    flips = t.Tuple()

    def __init__(self, data=None, **kwargs):
        self.data = shipped() if data is None else data
        if not isinstance(self.data, Geometries):
            raise InputError(
                "ExplorerState takes what mk.compare_geometries(frames, models) returns; "
                "mk.explore(frames, models) takes frames"
            )
        self.ends, self.tables = self.data.ends, self.data.tables
        self.names = [a.info["ordering"] for a in self.ends]
        self._x = np.array([a.info["x"] for a in self.ends], float)
        self.held_out = [a.info.get("split", "train") != "train" for a in self.ends]
        self.mixed = np.array([_is_mixed(a) for a in self.ends])
        self.geometries = [g for g in GEOMETRIES if g in self.tables]
        self.hulls_on = {geometry: self._hulls_of(geometry) for geometry in self.geometries}
        self._inferred, self._findings = (None, None), {}
        self._potentials, self._live, self._relaxations, self._told_on_dft = {}, {}, {}, {}
        self._numbers = {}
        if "ordering" not in kwargs:
            kwargs["ordering"] = self.orderings(kwargs.get("x", self._fullest))[0]
        kwargs.pop("x", None)  # follows from the ordering
        kwargs.setdefault("architecture", next(iter(self.families), ""))
        kwargs.setdefault("model", self._usual(kwargs["architecture"]))
        super().__init__(**kwargs)

    def _hulls_of(self, geometry):
        """{series: hull}, a row per ordering, in order."""
        models = {name: self.data.hull(geometry, name) for name in self.tables[geometry]}
        return {"DFT": self.data.hull(geometry), **models}

    @property
    def _fullest(self):
        """The composition of which there are the most orderings."""
        return max(self.compositions, key=lambda x: sum(np.isclose(self._x, x)))

    @property
    def families(self):
        """``{architecture: its kinds}`` of the models that there are."""
        found = {}
        for name in self.data.models:
            architecture, kind = parted(name)
            found.setdefault(architecture, []).append(kind)
        return found

    def _usual(self, architecture):
        kinds = self.families.get(architecture, [""])
        return "blind" if "blind" in kinds else kinds[0]

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
        energy = self.hulls_on["dft"]["DFT"]["energy_per_fu"].fillna(np.inf)
        return [self.names[i] for i in sorted(here, key=lambda i: energy[i])]

    @property
    def series(self):
        """Name of the chosen model in the tables and figures; empty when there is none."""
        return joined(self.architecture, self.model)

    @property
    def shown(self):
        """The series that the figures show: DFT and the chosen model."""
        return ["DFT", *[self.series] * bool(self.series)]

    @property
    def models(self):
        """The kinds of model that there are of the chosen architecture."""
        return self.families.get(self.architecture, [])

    @property
    def aware(self):
        """Whether the chosen model is told the charges."""
        return self.data.aware.get(self.series, False)

    @property
    def index(self):
        return self.names.index(self.ordering)

    @property
    def asked(self):
        """Oxidation states of the chosen ordering."""
        return self.ends[self.index].arrays["oxi_states"]

    @property
    def numbers(self):
        """Number of every atom of the chosen ordering as its name counts them, -1 for those that no
        name counts.
        """
        if self.ordering not in self._numbers:
            self._numbers[self.ordering] = self._counted(self.ends[self.index])
        return self._numbers[self.ordering]

    def _counted(self, atoms):
        host, compound = self.data.host, self.data.compound
        name = self.ordering.rpartition(":")[2]
        try:
            if host is not None and ordering_label(atoms, host, compound, 1.5) == name:
                return site_numbers(atoms, host, compound)
        except InputError:
            pass
        # named by another host: in the order of the atoms
        numbers, symbols = np.full(len(atoms), -1), np.array(atoms.get_chemical_symbols())
        for element in {symbols[i] for i in redox_sites(atoms)} | {compound.mobile}:
            here = np.flatnonzero(symbols == element)
            numbers[here] = np.arange(len(here))
        return numbers

    @t.validate("x")
    def _has_orderings(self, proposal):
        self.orderings(proposal["value"])
        return proposal["value"]

    @t.validate("ordering")
    def _known(self, proposal):
        if proposal["value"] not in self.names:
            raise t.TraitError(
                f"there is no ordering {proposal['value']!r}; there are {_some(self.names)}"
            )
        return proposal["value"]

    @t.validate("geometry")
    def _there(self, proposal):
        if proposal["value"] not in self.geometries:
            raise t.TraitError(
                f"geometry {proposal['value']!r} is not at hand, but {_some(self.geometries)}: "
                "'host' takes models=, 'relaxed' takes relaxations= or relax=True"
            )
        return proposal["value"]

    @t.validate("architecture")
    def _known_architecture(self, proposal):
        if proposal["value"] not in self.families and self.families:
            raise t.TraitError(
                f"there is no model {proposal['value']!r}; there are {_some(self.data.models)}"
            )
        return proposal["value"]

    @t.validate("model")
    def _there_is_one(self, proposal):
        if proposal["value"] not in self.models and self.families:
            of = f" of {self.architecture}" if self.architecture else ""
            raise t.TraitError(
                f"there is no {proposal['value']} model{of}; there are {_some(self.models)}"
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
        atoms, flips = self.ends[self.index], dict(proposal["value"])
        for i, state in flips.items():
            if i not in redox_sites(atoms):
                raise t.TraitError(
                    f"only the state of {self.metal} can be changed, not that of atom {i}; "
                    f"{self.metal} are atoms {', '.join(map(str, redox_sites(atoms)))}"
                )
            if state not in (states := self.states_of(atoms.symbols[i])):
                raise t.TraitError(
                    f"{atoms.symbols[i]} of this compound is never {state}+; it is "
                    f"{', '.join(f'{q}+' for q in states)}"
                )
        return tuple(sorted((i, q) for i, q in flips.items() if q != self.asked[i]))

    def states_of(self, element):
        """The oxidation states of an element in these orderings."""
        seen = {
            int(q)
            for atoms in self.ends
            for q in atoms.arrays["oxi_states"][atoms.symbols == element]
        }
        return sorted(
            seen if len(seen) > 1 else seen | {*self.data.compound.redox.get(element, ())}
        )

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
            self.model = self._usual(self.architecture)

    @t.observe("x")
    def _follow_x(self, change):
        if not np.isclose(self.ends[self.index].info["x"], self.x):
            self.ordering = self.orderings(self.x)[0]

    def flip(self, atom):
        """Give a redox-active atom the next of its states, and after the last the first."""
        atom, atoms = int(atom), self.ends[self.index]
        states = self.states_of(atoms.symbols[atom]) if 0 <= atom < len(atoms) else []
        now = int(self.given[atom]) if states else 0
        following = states[(states.index(now) + 1) % len(states)] if now in states else now
        self.flips = tuple((dict(self.flips) | {atom: following}).items())

    def swap(self, a, b):
        """Let two atoms of one element change states, so that the cell stays balanced."""
        a, b, atoms = int(a), int(b), self.ends[self.index]
        sites = redox_sites(atoms)
        if a not in sites or b not in sites or atoms.symbols[a] != atoms.symbols[b]:
            raise t.TraitError(
                f"atoms {a} and {b} cannot change states: two {self.metal} of one element can, "
                f"which are atoms {', '.join(map(str, sites))}"
            )
        given = self.given
        change = {a: int(given[b]), b: int(given[a])}
        self.flips = tuple((dict(self.flips) | change).items())

    @property
    def given(self):
        """Oxidation states that the model is given: those of the ordering asked for, with the
        flips.
        """
        states = self.asked.copy()
        for i, q in self.flips:
            states[i] = q
        return states

    @property
    def imbalance(self):
        """What the oxidation states that the model is given sum to, less the charge of the cell; 0
        when they balance.
        """
        return int(self.given.sum()) - cell_charge(self.ends[self.index], "explorer")

    @property
    def told_nonsense(self):
        """Whether the model is charge-aware and was given states that do not balance: no model has
        seen a charged cell, so nothing that it says is shown.
        """
        return bool(self.aware and self.flips and self.imbalance)

    @property
    def relaxation(self):
        """The relaxation of the chosen ordering by the chosen model."""
        # together, so that the toggle between them has nothing to read
        for kind in self.models:
            name = joined(self.architecture, kind)
            wanted = name == self.series or kind in ("blind", "aware")
            if wanted and name in self.tables["relaxed"] and name not in self._relaxations:
                self._relaxations[name] = list(self.data.relaxations(name))
        return self._relaxations[self.series][self.index]

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
        return (self.ends if self.geometry == "dft" else self.data.hosts)[self.index]

    @property
    def potential(self):
        """The chosen model, loaded; None when only its predictions are known."""
        if self.series not in self._potentials:
            found = self.data.potentials(self.series) if self.series else None
            self._potentials[self.series] = found
        return self._potentials[self.series]

    @property
    def ready(self):
        """Whether the present choice is shown without loading a model."""
        return not self.flips or self.told_nonsense or self.series in self._potentials

    def _predict(self, flips):
        """Energy (eV per cell) and moments of the redox-active atoms (µB) with some states changed,
        on the chosen geometry; NaN where the model is not at hand.
        """
        key = self.series, self.geometry, self.ordering, flips
        if key not in self._live:
            sites = redox_sites(self.ends[self.index])
            if self.potential is None:
                return np.nan, np.full(len(sites), np.nan)
            atoms = self.structure.copy()
            atoms.set_array("oxi_states", self.given if flips else self.asked)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that it does not balance is said by the view
                found = self.potential.predict([atoms])[0]
            moments = np.full(len(sites), np.nan) if found.magmoms is None else found.magmoms[sites]
            self._live[key] = float(found.energy), moments
        return self._live[key]

    @property
    def change(self):
        """What the flips do to the energy of the chosen model, eV per formula unit; NaN when it was
        told nonsense or is not at hand.
        """
        if not self.flips:
            return 0.0
        if self.told_nonsense:
            return np.nan
        units = self.data.compound.units(self.ends[self.index])
        return (self._predict(self.flips)[0] - self._predict(())[0]) / units

    def levels(self, series, geometry=None, group=None):
        """Energies of the orderings of an arrangement of mobile ions (the chosen one) on a geometry
        (the chosen one) from the lowest of them, meV per formula unit, by name; orderings without
        an energy are left out.
        """
        group = arrangement(self.ordering) if group is None else group
        energy = self.hulls_on[geometry or self.geometry][series]["energy_per_fu"].to_numpy()
        here = {name: energy[i] for name, i in self.groups[group] if np.isfinite(energy[i])}
        return {name: 1e3 * float(e - min(here.values())) for name, e in here.items()}

    @functools.cached_property
    def groups(self):
        """``{arrangement: [(ordering, its number)]}``."""
        found = {}
        for i, name in enumerate(self.names):
            found.setdefault(arrangement(name), []).append((name, i))
        return found

    def moments(self, series=None):
        """|Moments| of the redox-active atoms (µB) by DFT (None), NaN where it has none on this
        geometry, or by a model, the chosen one with the flips.
        """
        atoms = self.ends[self.index]
        sites = redox_sites(atoms)
        nothing = np.full(len(sites), np.nan)
        if not series or series == "DFT":
            there = self.data.hosts[self.index] if self.geometry == "host" else atoms
            magmoms = label(there, "magmoms")
            return nothing if magmoms is None else np.abs(magmoms[sites])
        if self.flips and series == self.series:
            return nothing if self.told_nonsense else self._predict(self.flips)[1]
        if self.step is not None:
            magmoms = label(self.structure, "magmoms")
            return nothing if magmoms is None else np.abs(magmoms[sites])
        row = self.tables[self.geometry][series].iloc[self.index]
        return moments_of(row, atoms)

    @property
    def atoms(self):
        """The chosen ordering on the chosen geometry with the moments of the chosen model, or of
        DFT where there is none.

        Its oxidation states are inferred from these moments; with flips they are those given, so
        that a person sees what was changed, and without moments those asked for.
        """
        from ase.calculators.singlepoint import SinglePointCalculator

        atoms = self.structure.copy()
        moments = self.moments(self.series)
        magmoms = np.zeros(len(atoms))
        magmoms[redox_sites(atoms)] = np.nan_to_num(moments)
        if not self.series and label(self.structure, "magmoms") is not None:
            magmoms = label(self.structure, "magmoms")  # with the signs of DFT
        known = np.isfinite(moments).all() and len(moments)
        atoms.calc = SinglePointCalculator(atoms, **({"magmoms": magmoms} if known else {}))
        states = None if self.flips else self.inferred(atoms)
        states = self.given if states is None else states.states
        atoms.set_array("oxi_states", np.array(states))
        return atoms

    def inferred(self, atoms):
        """What the moments of `atoms` tell, as `infer_oxidation_states` returns it; None where they
        tell nothing.
        """
        # a charge-aware model answers for the charge it was given, a charge-blind one cannot know
        # of it
        moments, charge = label(atoms, "magmoms"), int(self.given.sum()) if self.aware else None
        if moments is None:
            return None
        last, result = self._inferred
        # asked for several times in a row
        if last is None or last[0] != charge or not np.array_equal(last[1], moments):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # said when the frames were read
                try:
                    result = infer_oxidation_states(atoms, charge, **self.data.compound.inference)
                except InputError:
                    result = None
            self._inferred = (charge, moments), result
        return result

    def summary(self, now):
        """Rows (index, DFT moment, model moment, state asked for, given, told by the moments or
        None), a row for each redox-active atom, `now` being `atoms`.
        """
        told, rows = self.inferred(now), []
        for i, d, m in zip(redox_sites(now), self.moments(), self.moments(self.series)):
            found = None if told is None else int(told.states[i])
            rows.append((int(i), d, m, int(self.asked[i]), int(self.given[i]), found))
        return rows

    def changed(self, now):
        """Indices of the redox-active atoms whose moment does not clearly tell the state that was
        given, `now` being `atoms`.
        """
        unclear = self.unclear(now)
        rows = self.summary(now)
        return [i for i, *_, given, found in rows if found not in (None, given) or i in unclear]

    def unclear(self, now):
        """Indices of the redox-active atoms whose moment tells no state, where neutrality alone
        does not either; `now` being `atoms`.
        """
        found = self.inferred(now)
        return [] if found is None else found.undecided.tolist()

    def findings(self):
        """What the chosen model makes of all orderings on the chosen geometry, beside DFT.

        Returns
        -------
        dict
            ``mixed``: orderings with a metal in two states; ``kept``, in how many of them every ion
            has the state asked for, and ``clear``, in how many the moments leave no doubt (on a
            geometry that DFT relaxed: by the moments predicted there); None for a model without
            moments. ``window`` and ``dft_window``: the widest span of the orderings of one
            arrangement of ions, meV per formula unit, of the orderings that DFT has. ``vertices``
            and ``dft_vertices``: orderings on the hull between the end members. ``lowest`` and
            ``dft_lowest``: the lowest at the chosen composition. Orderings are named as the model's
            moments tell them.
        """
        key = self.series, self.geometry, self.x
        if key not in self._findings:
            self._findings[key] = self._found()
        return self._findings[key]

    def _found(self):
        groups = {arrangement(name) for name, m in zip(self.names, self.mixed) if m}
        window = dict.fromkeys(self.shown, 0.0)
        for group in groups:
            dft = self.levels("DFT", group=group)
            # of the orderings that DFT has, where it has any
            for series in window:
                levels = self.levels(series, group=group)
                values = [e for name, e in levels.items() if name in dft or not dft]
                window[series] = max(window[series], float(np.ptp(values or [0.0])))
        result = {
            "mixed": int(self.mixed.sum()),
            "kept": None,
            "clear": None,
            "window": window[self.shown[-1]],
            "dft_window": window["DFT"],
        }
        told = self.names
        if self.series:
            table = self._told()
            if table["kept"].notna().all():
                result["kept"] = int(table["kept"][self.mixed].sum())
                result["clear"] = int(table["clear"][self.mixed].sum())
                # a charge-aware model was told them; a tie of a charge-blind one means nothing
                sure = table["clear"] | (table["kept"] & self.aware)
                told = [
                    name if known else f"{arrangement(name)} with unclear charges"
                    for name, known in zip(table["found"], sure)
                ]
        for prefix, series, names in (("dft_", "DFT", self.names), ("", self.shown[-1], told)):
            hull = self.hulls[series]
            between = (hull["x"] > hull["x"].min()) & (hull["x"] < hull["x"].max())
            on_hull = [names[i] for i in np.flatnonzero(hull["on_hull"] & between)]
            energy = 1e3 * hull["energy_per_fu"].to_numpy()
            here = np.flatnonzero(np.isclose(hull["x"], self.x) & np.isfinite(energy))
            least = energy[here].min(initial=np.inf)
            lowest = [names[i] for i in here if energy[i] <= least + SAME]
            result |= {
                f"{prefix}vertices": list(dict.fromkeys(on_hull)),
                f"{prefix}lowest": list(dict.fromkeys(lowest)),
            }
        return result

    def _told(self):
        """``found``, ``kept`` and ``clear`` of every ordering for the chosen model and geometry."""
        if self.geometry != "dft":
            return self.tables[self.geometry][self.series]
        # together, so that the toggle between them has nothing to work out
        for name in (joined(self.architecture, kind) for kind in self.models):
            if name not in self._told_on_dft:
                self._told_on_dft[name] = self._told_by(self.tables["dft"][name])
        return self._told_on_dft[self.series]

    def _told_by(self, table):
        import pandas as pd

        rows = []
        for atoms, row in zip(self.ends, table.to_dict("records")):
            magmoms = np.zeros(len(atoms))
            magmoms[redox_sites(atoms)] = moments_of(row, atoms)
            said = told(atoms, magmoms, self.data.compound)
            said["found"] = atoms.info["ordering"] if said["kept"] else "another"
            rows.append(said)
        return pd.DataFrame(rows)


def _is_mixed(atoms):
    """Whether a metal of a frame is in two states."""
    states, symbols = atoms.arrays["oxi_states"], np.array(atoms.get_chemical_symbols())
    metals = {symbols[i] for i in redox_sites(atoms)}
    return any(len(np.unique(states[symbols == e])) > 1 for e in metals)


def _some(names):
    names = list(names)
    return ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
