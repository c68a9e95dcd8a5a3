"""What is chosen in the explorer, and what follows from it; no widget here."""
import warnings

import numpy as np
import traitlets as t

from mlipkit import thermo
from mlipkit.datasets import load_dft, load_predictions
from mlipkit.errors import predictions_for
from mlipkit.files import InputError
from mlipkit.frames import end_points, label
from mlipkit.models import ADAPTERS, load_model
from mlipkit.orderings import arrangement
from mlipkit.oxidation import infer_oxidation_states
from mlipkit.reference_moments import redox_sites

MODELS = {"pretrained": None, "blind": False, "aware": True}        # -> charge_aware of load_model
ARCHITECTURES = tuple(ADAPTERS)


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
        Charge ordering; setting it sets ``x`` too.
    architecture : str
        ``"chgnet"``, ``"cpainn"`` or ``"mace"``.
    model : str
        ``"pretrained"`` (CHGNet as published, whatever the architecture), ``"blind"`` or ``"aware"``.
    flips : tuple of int
        Indices of the Fe whose oxidation state is turned over, 2+ to 3+ or back, in what the model is given; another ordering
        begins without.
    """
    x = t.Float()
    ordering = t.Unicode()
    architecture = t.Enum(ARCHITECTURES, default_value="chgnet")
    model = t.Enum(tuple(MODELS), default_value="blind")
    flips = t.Tuple()

    def __init__(self, frames=None, predictions=None, **kwargs):
        self.ends = end_points(load_dft() if frames is None else frames)
        found = predictions_for(self.ends, load_predictions() if predictions is None else predictions)
        wanted = ["chgnet_pretrained", *(f"{a}_{m}" for a in ARCHITECTURES for m in ("blind", "aware"))]
        if missing := set(wanted) - set(found):
            raise InputError(f"explore: no predictions of {', '.join(sorted(missing))}; make them with data/make_models.py predict")
        self.predictions = {m: found[m].to_dict("records") for m in wanted}
        self.hulls = {"DFT": thermo.hull(self.ends), **{m: thermo.hull(self.ends, found[m]["energy"].tolist()) for m in wanted}}
        self.names = [a.info["ordering"] for a in self.ends]
        self.held_out = [a.info["split"] != "train" for a in self.ends]
        self._potentials, self._live = {}, {}
        if "ordering" not in kwargs:
            kwargs["ordering"] = self.orderings(kwargs["x"])[0] if "x" in kwargs else self.names[0]
        kwargs.pop("x", None)               # follows from the ordering
        super().__init__(**kwargs)

    @property
    def compositions(self):
        return sorted({a.info["x"] for a in self.ends})

    def orderings(self, x):
        """Names of the orderings at a composition, the lowest in energy first."""
        here = [i for i, a in enumerate(self.ends) if np.isclose(a.info["x"], x)]
        if not here:
            raise t.TraitError(f"there is no ordering at x = {x:g}; there is x = {', '.join(f'{c:g}' for c in self.compositions)}")
        return [self.names[i] for i in sorted(here, key=lambda i: self.hulls["DFT"]["formation_energy"][i])]

    @property
    def series(self):
        """Name of the chosen model in the tables and figures."""
        return "chgnet_pretrained" if self.model == "pretrained" else f"{self.architecture}_{self.model}"

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
            raise t.TraitError(f"there is no ordering {proposal['value']!r}; there are {', '.join(self.names)}")
        return proposal["value"]

    @t.validate("flips")
    def _can_flip(self, proposal):
        atoms = self.ends[self.index]
        if wrong := [i for i in proposal["value"] if i not in redox_sites(atoms)]:
            raise t.TraitError(f"only the valence of Fe can be flipped, not that of atom {wrong[0]}; "
                               f"Fe are atoms {', '.join(map(str, redox_sites(atoms)))}")
        return tuple(sorted(set(proposal["value"])))

    @t.observe("ordering")
    def _follow_ordering(self, change):
        self.x = self.ends[self.index].info["x"]
        self.flips = ()

    @t.observe("x")
    def _follow_x(self, change):
        if not np.isclose(self.ends[self.index].info["x"], self.x):
            self.ordering = self.orderings(self.x)[0]

    def flip(self, atom):
        """Turn the valence of an Fe over, or back."""
        self.flips = tuple(set(self.flips) ^ {int(atom)})

    @property
    def given(self):
        """Oxidation states that the model is given: those of DFT, with the flips."""
        states = self.ends[self.index].arrays["oxi_states"].copy()
        flips = list(self.flips)
        states[flips] = 5 - states[flips]           # 2 and 3 change places
        return states

    @property
    def imbalance(self):
        """Sum of the oxidation states that the model is given; 0 when they balance."""
        return int(self.given.sum())

    @property
    def ready(self):
        """Whether the present choice is shown without loading a model."""
        return not self.flips or self.series in self._potentials

    def _predict(self, flips):
        """Energy (eV per cell) and moments of the Fe (µB) with some flipped, on the geometry that DFT relaxed."""
        key = self.series, self.ordering, flips
        if key not in self._live:
            if self.series not in self._potentials:
                name = "chgnet" if self.model == "pretrained" else self.architecture
                self._potentials[self.series] = load_model(name, charge_aware=MODELS[self.model])
            atoms = self.ends[self.index].copy()
            atoms.arrays["oxi_states"] = self.given if flips else self.ends[self.index].arrays["oxi_states"]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")     # that it does not balance is said by the view
                found = self._potentials[self.series].predict([atoms])[0]
            self._live[key] = float(found.energy), found.magmoms[redox_sites(atoms)]
        return self._live[key]

    @property
    def change(self):
        """What the flips do to the energy of the chosen model, eV per formula unit, computed now."""
        return (self._predict(self.flips)[0] - self._predict(())[0]) / len(redox_sites(self.ends[self.index])) if self.flips else 0.0

    def levels(self, series):
        """Energies of the orderings of the chosen Na arrangement from the lowest of them, meV per formula unit, by name."""
        energy = self.hulls[series]["formation_energy"]
        here = {name: energy[i] for i, name in enumerate(self.names) if arrangement(name) == arrangement(self.ordering)}
        return {name: 1e3 * float(e - min(here.values())) for name, e in here.items()}

    def moments(self, series=None):
        """Moments of the Fe (µB) by DFT (None) or by a model, the chosen one with the flips."""
        atoms = self.ends[self.index]
        fe = redox_sites(atoms)
        if series is None:
            return np.abs(label(atoms, "magmoms")[fe])
        if self.flips and series == self.series:
            return self._predict(self.flips)[1]
        return np.array([self.predictions[series][self.index][f"magmom_{i}"] for i in range(len(fe))])

    @property
    def atoms(self):
        """The chosen ordering with the moments of the chosen model.

        Its oxidation states are inferred from these moments; with flips they are those given, so that a person sees what was flipped.
        """
        from ase.calculators.singlepoint import SinglePointCalculator
        atoms = self.ends[self.index].copy()
        magmoms = np.zeros(len(atoms))
        magmoms[redox_sites(atoms)] = self.moments(self.series)
        atoms.calc = SinglePointCalculator(atoms, magmoms=magmoms)
        atoms.arrays["oxi_states"] = self.given if self.flips else self.inferred(atoms)
        return atoms

    def inferred(self, atoms):
        """Oxidation states that the moments of `atoms` tell."""
        # a charge-aware model answers for the charge it was given, a charge-blind one cannot know of it
        return infer_oxidation_states(atoms, self.imbalance if self.model == "aware" else 0).states

    def summary(self, now):
        """Rows (Fe index, DFT moment, model moment, DFT state, given state, model state), `now` being `atoms`."""
        reference, found = self.ends[self.index].arrays["oxi_states"], self.inferred(now)
        return [(int(i), float(d), float(m), int(reference[i]), int(self.given[i]), int(found[i]))
                for i, d, m in zip(redox_sites(now), self.moments(), self.moments(self.series))]
