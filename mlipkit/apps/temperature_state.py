"""What is chosen in the temperature app, and what follows from it; no widget here."""

import functools
import math

import numpy as np
import traitlets as t

from mlipkit import arguments
from mlipkit.files import InputError
from mlipkit.pictures.figures import TITLES
from mlipkit.statmech.ideal import ideal_entropy
from mlipkit.statmech.phases import PhaseDiagram
from mlipkit.statmech.shipped import COUNTED, load_phases

KINDS = tuple(COUNTED)  # "with electrons" first
ONE = ""  # the architecture of what has no name
WHERE = "explore_temperature"
LITTLE = 0.05  # k per formula unit: of less no share is told


class TemperatureState(t.HasTraits):
    """A phase diagram, a temperature and a composition, and what follows from them.

    Parameters
    ----------
    diagrams : PhaseDiagram or dict, optional
        ``{architecture: {"with electrons": PhaseDiagram, "without": ..., "charge-blind": ...}}``
        with any of the three, ``{name: PhaseDiagram}``, or one; by default `load_phases`.

    Attributes
    ----------
    architecture : str
    kind : str
        ``"with electrons"``, ``"without"`` or ``"charge-blind"``.
    temperature : float
        K; one of those computed, the nearest to what is asked for.
    x : float
        Mobile ions per formula unit of the cell that is shown; the nearest of those kept.
    """

    architecture = t.Unicode()
    kind = t.Unicode()
    temperature = t.Float()
    x = t.Float()

    def __init__(self, diagrams=None, **kwargs):
        self.diagrams = checked_diagrams(load_phases() if diagrams is None else diagrams)
        self._tables = {}
        kwargs.setdefault("architecture", next(iter(self.diagrams)))
        kinds = self.diagrams.get(kwargs["architecture"], KINDS)
        kwargs.setdefault("kind", next(k for k in KINDS if k in kinds))
        super().__init__(**{name: kwargs[name] for name in ("architecture", "kind")})
        middle = {"temperature": self._middle(self.temperatures), "x": self._middle(self.kept_x)}
        for name, value in (middle | kwargs).items():
            setattr(self, name, value)

    @staticmethod
    def _middle(values):
        return float(values[len(values) // 2])

    @property
    def diagram(self):
        """The phase diagram that is chosen."""
        return self.diagrams[self.architecture][self.kind]

    @property
    def compound(self):
        return self.diagram.lattice.compound

    @property
    def kinds(self):
        """What there is of the chosen architecture."""
        return [kind for kind in KINDS if kind in self.diagrams[self.architecture]]

    @property
    def temperatures(self):
        """K; those computed."""
        return self.diagram.temperatures

    @property
    def kept_x(self):
        """Compositions of which cells were kept."""
        return self.diagram.x[self.diagram.snapshot_at]

    @property
    def row(self):
        """Index of the temperature in the arrays of the diagram."""
        return self.diagram.at(self.temperature)

    @t.validate("architecture")
    def _known_architecture(self, proposal):
        if proposal["value"] not in self.diagrams:
            raise t.TraitError(
                f"there is no architecture {proposal['value']!r}; there is "
                f"{', '.join(self.diagrams) or 'one without a name'}"
            )
        return proposal["value"]

    @t.validate("kind")
    def _there_is_one(self, proposal):
        if proposal["value"] not in self.kinds:
            raise t.TraitError(
                f"there is no diagram {proposal['value']!r} of {self.architecture or 'this'}; "
                f"there is {', '.join(self.kinds)}"
            )
        return proposal["value"]

    @t.validate("temperature")
    def _computed(self, proposal):
        value = proposal["value"]
        if not (math.isfinite(value) and value > 0):
            raise t.TraitError(f"a temperature is above 0 K, not {value:g}")
        return float(self.temperatures[self.diagram.at(value)])

    @t.validate("x")
    def _kept(self, proposal):
        value = proposal["value"]
        if not math.isfinite(value):
            raise t.TraitError(f"x is a number, not {value:g}")
        return float(self.kept_x[np.abs(self.kept_x - value).argmin()])

    @t.observe("architecture")
    def _follow_architecture(self, change):
        if self.kind not in self.kinds:
            self.kind = self.kinds[0]

    @t.observe("architecture", "kind")
    def _follow_diagram(self, change):
        if self.temperature:  # not while it is being made
            self.temperature, self.x = self.temperature, self.x

    def choose(self, x, temperature=None):
        """Set a composition and, where it is given, a temperature; told to others once."""
        with self.hold_trait_notifications():
            self.x = float(x)
            if temperature is not None:
                self.temperature = float(temperature)

    def boundaries_of(self, diagram):
        """The table of two-phase regions of one of the diagrams, made once."""
        if diagram not in self._tables:
            self._tables[diagram] = diagram.boundaries
        return self._tables[diagram]

    def boundaries(self):
        """That of the chosen diagram."""
        return self.boundaries_of(self.diagram)

    @property
    def gaps(self):
        """The rows of `boundaries` at the chosen temperature."""
        table = self.boundaries()
        return table[table["temperature"] == self.temperature]

    @property
    def phases(self):
        """Where there is one phase at the chosen temperature: ``[(x_low, x_high), ...]``."""
        x, rows = self.diagram.x, list(self.gaps.itertuples())
        lows = [float(x[0]), *(r.x_high for r in rows)]
        highs = [*(r.x_low for r in rows), float(x[-1])]
        return list(zip(lows, highs))

    def solution_from(self, architecture=None):
        """The lowest temperature computed from which on there is one phase at every x.

        NaN where the hottest one still has two; None where there is no such diagram.
        """
        name = self.architecture if architecture is None else architecture
        diagram = self.diagrams[name].get(self.kind)
        if diagram is None:
            return None
        hottest = self.boundaries_of(diagram)["temperature"].max()  # NaN of an empty table
        above = [v for v in diagram.temperatures.tolist() if not v <= hottest]
        return above[0] if above else math.nan

    @property
    def middle(self):
        """Index of the composition halfway between the ends."""
        x = self.diagram.x
        return int(np.abs(x - (x[0] + x[-1]) / 2).argmin())

    @property
    def share(self):
        """``(of the electrons, of both)``: entropies halfway, eV/K per formula unit."""
        d, k, i = self.diagram, self.row, self.middle
        return float(d.electronic[k, i]), float(d.entropy[k, i])

    def ideal(self):
        """`ideal_entropy` at all compositions; 0 for electrons that are not counted."""
        ions, electrons = _ideal(self.diagram)
        return ions, electrons if self.diagram.aware else 0 * electrons

    @property
    def atoms(self):
        """The ions and metals of a cell at the chosen temperature and x, the metals first.

        Without the framework, which is the same in all and would hide them.
        """
        return _ordered(self.diagram, self.diagram.snapshot(self.temperature, self.x))

    def __str__(self):
        from mlipkit.apps.temperature_words import plain

        return plain(self)


@functools.lru_cache(maxsize=64)
def _ideal(diagram):
    return ideal_entropy(diagram.lattice, diagram.x)


def _ordered(diagram, atoms):
    symbols = np.array(atoms.get_chemical_symbols())
    lattice = diagram.lattice
    metals = sorted({lattice.atoms.symbols[i] for i in lattice.redox})
    order = [np.flatnonzero(symbols == s) for s in (*metals, lattice.compound.mobile)]
    return atoms[np.concatenate(order)]


def title(architecture):
    return TITLES.get(architecture, architecture)


def checked_diagrams(given):
    """``{architecture: {kind: PhaseDiagram}}`` of what a person gave."""
    if isinstance(given, PhaseDiagram):
        given = {ONE: given}
    if not isinstance(given, dict) or not given:
        raise InputError(
            f"{WHERE}: diagrams is a phase diagram, as mk.phase_diagram(expansion) gives it, a "
            "dict {name: phase diagram}, or a dict {architecture: {'with electrons': ..., "
            f"'without': ..., 'charge-blind': ...}}, not {arguments.shown(given)}"
        )
    if set(given) <= set(KINDS):
        given = {ONE: given}
    found = {}
    for architecture, diagrams in given.items():
        name = architecture if architecture == ONE else arguments.text(architecture, _NAMES)
        if isinstance(diagrams, PhaseDiagram):
            diagrams = {KINDS[0] if diagrams.aware else KINDS[1]: diagrams}
        found[name] = _checked_kinds(name, diagrams)
    names = {d.lattice.compound.formula for each in found.values() for d in each.values()}
    if len(names) > 1:
        raise InputError(f"{WHERE}: diagrams of one compound, not of {', '.join(sorted(names))}")
    return found


_NAMES = f"{WHERE}: each name in diagrams"


def _checked_kinds(name, diagrams):
    what = f"diagrams[{name!r}]" if name else "diagrams"
    if not isinstance(diagrams, dict) or not diagrams:
        raise InputError(
            f"{WHERE}: {what} is a phase diagram or a dict of some of {', '.join(KINDS)}, not "
            f"{arguments.shown(diagrams)}"
        )
    for kind, diagram in diagrams.items():
        if kind not in KINDS:
            raise InputError(
                f"{WHERE}: {what} has {arguments.shown(kind)}; it can have {', '.join(KINDS)}"
            )
        if not isinstance(diagram, PhaseDiagram):
            raise InputError(
                f"{WHERE}: {what}[{kind!r}] is what mk.phase_diagram(expansion) gives, not "
                f"{arguments.shown(diagram)}"
            )
        if diagram.aware != (kind == KINDS[0]):
            counts = "counts electrons" if diagram.aware else "counts no electrons"
            raise InputError(f"{WHERE}: {what}[{kind!r}] is a diagram that {counts} (aware)")
    return {kind: diagrams[kind] for kind in KINDS if kind in diagrams}
