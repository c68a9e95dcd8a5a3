"""What a compound is: the ion that moves, the metals whose charge changes, and the framework.

All that the other rooms ask about a material they ask here, so nothing else names an element.
"""

import functools
import math
import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace

import numpy as np
from ase.data import atomic_numbers
from ase.formula import Formula

from mlipkit import arguments
from mlipkit.charges.oxidation import FIXED, checked_fixed, infer_oxidation_states
from mlipkit.charges.references import (
    LAST,
    REDOX,
    counted,
    redox_metals,
    references_for,
    told_redox,
)
from mlipkit.charges.species import checked_proxies, choose_proxies
from mlipkit.files import InputError
from mlipkit.frames.labels import label
from mlipkit.frames.taken import as_frame, as_frames

MOBILE = ("Li", "Na", "K", "Rb", "Cs", "Mg", "Ca", "Zn")  # ions that electrodes take up
ALKALI = MOBILE[:5]
WHOLE = (1, 2, 3)  # a formula unit is at most so many times the reduced framework
# eV per atom, bcc, by the method of the embedded set: the lowest energy at 16x16x16 k-points in
# data/dft/frames/na_bcc.extxyz
METALS = {"Na": -1.3227059751475096}
TITLE = r"(?:([A-Z][a-z]?)x)?([A-Z][A-Za-z0-9()]*)(?: \(\d+\))?"  # of a compound: LixMn2O4 (2)
REFERENCES = '{("Fe", 2): 3.7, ("Fe", 3): 4.3}'
LINE = 'compound=mk.Compound(mobile="{}", redox={{"{}": {}}})'


@dataclass(frozen=True, eq=False)
class Compound:
    """A mixed-valence compound.

    What is not given is found from the frames that a function is called with.

    Parameters
    ----------
    mobile : str or None
        The element whose number varies; None where nothing moves (magnetite).
    redox : dict
        ``{element: its oxidation states}`` of the metals whose charge changes.
    framework : str, optional
        What a formula unit holds besides the mobile ion, such as ``"Mn2O4"``. By default the
        reduced composition, doubled or tripled where the fullest frame has a half or a third of an
        ion for it (Mn2O4 of LiMn2O4, not MnO2). Frames filled half at most cannot tell FePO4 from
        Fe2P2O8: `name_orderings` then looks at the sites, and what it writes onto the frames holds
        from then on; or give the framework.
    charge : int, optional
        Of the mobile ion, by default the usual one (Li, Na, K 1; Mg, Ca, Zn 2).
    ends : tuple of float, optional
        x of the end members of formation energy, hull and voltage; by default the least and the
        most in the data.
    metal : float, optional
        Energy of the metal of the mobile ion, eV per atom, by the method of the frames: what a
        voltage is measured against. Known for bcc Na by the method of the embedded set.
    proxies : dict, optional
        ``{(element, state): proxy element}``, what a charge-aware model sees; by default chosen
        (see `species`). ``(element, state, "low")`` is a species of its own where spin states are
        to be told apart (`to_proxies`).
    references : dict or iterable of Reference, optional
        Moments that `infer_oxidation_states` expects.
    fixed : dict, optional
        Oxidation states of the other elements, where the usual ones do not hold.

    Raises
    ------
    InputError
        When an argument names no element, no state or no formula.
    """

    mobile: str | None
    redox: dict
    framework: str | None = None
    charge: int | None = None
    ends: tuple | None = None
    metal: float | None = None
    proxies: dict | None = None
    references: object = None
    fixed: dict | None = None
    elements: tuple = field(default=(), repr=False)

    def __post_init__(self):
        def write(name, value):
            object.__setattr__(self, name, value)

        if self.mobile is not None and not _is_element(self.mobile):
            raise InputError(
                "Compound: mobile is an element, such as 'Li', or None, not "
                f"{arguments.shown(self.mobile)}"
            )
        write("redox", _states_of(self.redox, self.mobile))
        if self.charge is None and self.mobile is not None:
            write("charge", FIXED.get(self.mobile))
            if not self.charge:
                said = f"Compound: which charge has {self.mobile}? Give charge="
                raise InputError(said)
        write("charge", arguments.number(self.charge, "Compound: charge", whole=True, none=True))
        arguments.number(self.metal, "Compound: metal", none=True)
        if self.proxies is not None:
            checked_proxies(self.proxies, "Compound: proxies")
        if self.references is not None and not isinstance(self.references, dict):
            given = arguments.entries(self.references, "Compound: references", REFERENCES)
            write("references", tuple(given))
        references_for("bond-valence", self.references)  # refuses what are none
        checked_fixed(self.fixed, "Compound: fixed")
        if self.framework is not None:
            counts = _counted(self.framework)
            if self.mobile in counts:
                raise InputError(
                    f"Compound: framework={self.framework!r} is what stays: write it without "
                    f"{self.mobile}, the mobile ion"
                )
            write("framework", _written(counts, self.redox))
        if self.ends is not None:
            write("ends", _checked_ends(self.ends))
        write("metal", METALS.get(self.mobile) if self.metal is None else self.metal)

    @functools.cached_property
    def counts(self):
        """Atoms of the framework in a formula unit: {element: number}."""
        if self.framework is None:
            raise InputError("Compound: no framework was given; mk.compound(frames) finds it")
        return _counted(self.framework)

    @functools.cached_property
    def species(self):
        """The proxy map of a charge-aware model: every state of a metal but its lowest is marked
        by an element that the frames do not hold and whose ion of that charge has a like radius.
        """
        if self.proxies:
            return dict(self.proxies)
        there = {*self.elements, self.mobile, *(self.counts if self.framework else ())}
        return choose_proxies(self.redox, there - {None})

    @functools.cached_property
    def inference(self):
        """What `infer_oxidation_states` is told of the moments of the compound, as a dict. A state
        that `redox` names counts at all times, also one that is rare elsewhere, and so does a metal
        that beside others is mostly inert (Ti).
        """
        told, named = list(references_for("magmom", self.references)), False
        for k, r in enumerate(told):
            if (not r.common or r.element in LAST) and r.state in self.redox.get(r.element, ()):
                told[k], named = counted(r, (r.state,)), True
        return {"references": tuple(told) if named else self.references, "fixed": self.fixed}

    @property
    def formula(self):
        """As text: ``"LixMnPO4"``."""
        return f"{self.mobile}x{self._unit}" if self.mobile else self._unit

    @property
    def html(self):
        """As HTML, for axes and tables: ``"Li<sub>x</sub>MnPO<sub>4</sub>"``."""
        unit = Formula(self._unit).format("html")
        return f"{self.mobile}<sub>x</sub>{unit}" if self.mobile else unit

    @property
    def _unit(self):
        return self.framework or "..."

    def units(self, atoms):
        """Formula units of a frame.

        Raises
        ------
        InputError
            When the frame is of another framework.
        """
        atoms = as_frame(atoms, "Compound.units")
        rest = _composition(atoms)
        rest.pop(self.mobile, None)
        first, one = next(iter(self.counts.items()))
        whole = all(rest.get(e, 0) * one == rest.get(first, 0) * m for e, m in self.counts.items())
        n = rest.get(first, 0) / one
        if not n or not whole or set(rest) != set(self.counts):
            but = f"without {self.mobile}, " if self.mobile else ""
            raise InputError(
                f"{atoms.get_chemical_formula()} is no {self.formula}: {but}"
                f"{_written(rest, self.redox)} is no multiple of {self.framework}"
            )
        return n

    def x(self, atoms):
        """Mobile ions per formula unit of a frame."""
        return self.n_mobile(atoms) / self.units(atoms)

    def n_mobile(self, atoms):
        """Mobile ions of a frame."""
        return as_frame(atoms, "Compound.x").get_chemical_symbols().count(self.mobile)

    def _proxies_html(self):
        try:
            pairs = self.species.items()
        except InputError:
            return "no element is left for one of the ions"
        return ", ".join(
            f"{proxy} for {e}<sup>{q}+</sup>{' '.join(('', *spin))}"
            for (e, q, *spin), proxy in pairs
        )

    def __str__(self):
        ions = [f"{e} {' '.join(f'{q}+' for q in states)}" for e, states in self.redox.items()]
        moves = f"{self.mobile}{self.charge}+ moves" if self.mobile else "nothing moves"
        return f"{self.formula}: {moves}; {', '.join(ions) or 'no redox-active metal'}"

    def _repr_html_(self):
        rows = {
            "compound": self.html,
            "mobile ion": f"{self.mobile}<sup>{self.charge}+</sup>" if self.mobile else "none",
            "redox-active": ", ".join(
                f"{e}<sup>{q}+</sup>" for e, states in self.redox.items() for q in states
            ),
            "end members": "ends of the data" if self.ends is None else f"x = {self.ends}",
            "proxies": self._proxies_html(),
        }
        cells = "".join(f"<tr><th>{k}</th><td>{v}</td></tr>" for k, v in rows.items())
        return f"<table>{cells}</table>"


def compound(frames):
    """What the compound of some frames is.

    The mobile ion is the one whose number varies while the framework stays (or the only alkali
    metal there is); redox-active metals are those of `reference_table` (Ti, Nb, Mo and W
    where there is no other or one of them is seen reduced), or those that `name_orderings` was
    told of, with the states that are on the frames or that their moments tell.

    Parameters
    ----------
    frames : list of ase.Atoms
        Of one framework.

    Returns
    -------
    Compound

    Raises
    ------
    InputError
        When two ions vary, or the frames are of several frameworks; it names them.
    """
    frames = listed(frames)
    found = compound_of(frames)
    return replace(found, redox=found.redox | _seen(frames, found))


def group_by_compound(frames, compound=None):
    """The compounds in a list of frames, by framework.

    Parameters
    ----------
    frames : list of ase.Atoms
    compound : Compound, optional
        What is known of all of them; its framework is left open.

    Returns
    -------
    list of (Compound, list of int)
        Each with the numbers of its frames.
    """
    frames, groups = listed(frames), {}
    given = checked(compound)
    for i, (mobile, framework) in enumerate(_series(frames, given)):
        groups.setdefault((mobile, framework), []).append(i)
    return [
        (_complete([frames[i] for i in members], mobile, dict(framework), given), members)
        for (mobile, framework), members in groups.items()
    ]


def compound_of(frames, compound=None, host=None):
    """The one compound of frames (and of a host), what was given completed from them.

    Raises
    ------
    InputError
        When they are of several frameworks.
    """
    frames = listed(frames) + ([] if host is None else [as_frame(host, "host")])
    given = checked(compound)
    if given is not None and given.framework is not None:
        for atoms in frames:
            given.units(atoms)
        return replace(given, elements=_elements(frames))
    found = group_by_compound(frames, given)
    if host is not None and len(found) > 1:  # a frame of something else: the host tells where
        found = group_by_compound([host], given)
    if host is not None and found[0][0].mobile is None and given is None:
        # every mobile site of a host is filled: what else may leave it
        ions = [e for e in MOBILE if e in host.symbols]
        if len(ions) == 1:
            return compound_of(frames, replace(found[0][0], mobile=ions[0], framework=None))
    if len(found) > 1:
        raise InputError(
            f"these {len(frames)} frames are of {len(found)} compounds: "
            f"{', '.join(c.formula for c, _ in found[:8])}{', ...' if len(found) > 8 else ''}; "
            "take those of one, such as [a for a in mk.name_orderings(frames) if "
            f'a.info["compound"] == "{found[0][0].formula}"]'
        )
    return found[0][0]


def species_of(frames):
    """A proxy map for all metals of frames, of one compound or of several, by the oxidation states
    on them; empty where no metal has two.
    """
    frames, redox = listed(frames), {}
    for found, members in group_by_compound(frames):
        labelled = [frames[i] for i in members if "oxi_states" in frames[i].arrays]
        for element, states in _seen(labelled, found).items():
            redox[element] = tuple(sorted({*redox.get(element, ()), *states}))
    return choose_proxies(dict(sorted(redox.items())), _elements(frames))


def mobile_of(frames, compound=None, host=None):
    """The mobile ion of frames, all of one host."""
    return compound_of(frames, compound, host).mobile


def listed(frames, says="a compound is found from"):
    """Frames as a list, one frame too; a sentence, which begins with what it `says`, for an empty
    list and anything else.
    """
    frames = as_frames(frames, says)
    if not frames:
        raise InputError(f"{says} frames, one or more in a list; this one is empty")
    return frames


def checked(compound):
    """A compound, or None; a sentence for anything else."""
    if compound is not None and not isinstance(compound, Compound):
        raise InputError(
            'compound= takes a Compound, such as mk.Compound(mobile="Li", redox={"Mn": (2, 3)}), '
            f"not {arguments.shown(compound)}"
        )
    return compound


def _series(frames, given):
    """(mobile ion, reduced framework) of every frame; the framework as sorted pairs."""
    compositions = [_composition(atoms) for atoms in frames]
    if given is not None:
        return [(given.mobile, _rest(c, given.mobile)[0]) for c in compositions]
    titles = [_title(a) for a in frames]
    if all(titles):
        return [(title[0], _rest(c, title[0])[0]) for title, c in zip(titles, compositions)]
    ions = [e for e in MOBILE if any(e in c for c in compositions)]
    contents = defaultdict(list)  # (ion, framework): how much of the ion each frame has
    for c in compositions:
        for e in ions:
            rest, n = _rest(c, e)
            contents[e, rest].append(c.get(e, 0) / n if n else math.nan)
    varies = {key: len(found) for key, found in contents.items() if len(set(found)) > 1 and key[1]}
    moving = {e for e, _ in varies}
    return [_series_of(c, ions, varies, moving) for c in compositions]


def _series_of(composition, ions, varies, moving):
    options = [(e, _rest(composition, e)[0]) for e in ions]
    options = [key for key in options if key in varies]
    inside = [key for key in options if key[0] in composition]
    if len(inside) > 1:
        names = [e for e, _ in inside]
        metal = next((e for e in composition if e in REDOX), REDOX[0])
        line = LINE.format(names[0], metal, _common(metal))
        raise InputError(
            f"the numbers of {' and '.join(names)} both vary in these frames: say which ion moves, "
            f"{line}"
        )
    if options:
        return inside[0] if inside else max(options, key=varies.get)
    here = [e for e in ALKALI if e in composition]
    mobile = here[0] if len(here) == 1 else None
    if mobile is None and len(moving) == 1 and moving <= set(composition):
        mobile = next(iter(moving))
    return mobile, _rest(composition, mobile)[0]


def _title(atoms):
    """(mobile ion or None, framework) as `name_orderings` wrote it onto a frame; None elsewhere."""
    found = re.fullmatch(TITLE, str(atoms.info.get("compound", "")))
    if found is None or not {"ordering", "x", "degeneracy"} <= set(atoms.info):
        return None  # somebody else's word
    mobile, framework = found.groups()
    try:
        counts = _counted(framework)
    except InputError:
        return None
    told = _rest(_composition(atoms), mobile)[0]  # a stale title tells of another compound
    return (mobile, framework) if told == _rest(counts, None)[0] else None


def _composition(atoms):
    """{element: number}, vacancies left out."""
    return Counter(s for s in atoms.get_chemical_symbols() if s != "X")


def _rest(composition, mobile):
    """The reduced framework as sorted pairs, and how often a frame holds it."""
    rest = {e: n for e, n in composition.items() if e != mobile}
    n = math.gcd(*rest.values()) if rest else 0
    return tuple(sorted((e, m // n) for e, m in rest.items())), n


def _complete(frames, mobile, framework, given):
    if not framework:
        raise InputError(
            f"{frames[0].get_chemical_formula() or 'a frame without atoms'} holds nothing but "
            f"{mobile or 'vacancies'}: a compound has a framework; leave such frames out"
        )
    elements = _elements(frames)
    known = given is not None and given.framework is not None
    if known and _rest(given.counts, None)[0] == _rest(framework, None)[0]:
        return replace(given, elements=elements)
    if given is None:
        metals = dict.fromkeys(e for atoms in frames for e in redox_metals(atoms) if e != mobile)
        states = {e: _told(frames, e) or _common(e) or _labelled(frames, e) for e in metals}
        given = Compound(mobile, {e: known for e, known in states.items() if known})
    redox = {e: states for e, states in given.redox.items() if e in framework}
    times = _times(frames, mobile, framework)
    counts = {e: n * times for e, n in framework.items()}
    return replace(given, redox=redox, framework=_written(counts, redox), elements=elements)


def _times(frames, mobile, framework):
    """How many reduced frameworks make a formula unit.

    Frames that have a name already say it, as do the numbers of ions over their x.
    """
    first = next(iter(framework))
    title = _title(frames[0])
    if title and title[0] == mobile:
        return _counted(title[1])[first] // framework[first]
    most = 0.0
    for atoms in frames:
        n_ions = atoms.get_chemical_symbols().count(mobile)
        reduced = (atoms.symbols == first).sum() / framework[first]
        x = atoms.info.get("x")
        if n_ions and isinstance(x, (int, float, np.number)) and x > 0 and "ordering" in atoms.info:
            times = reduced * float(x) / n_ions
            return round(times) if abs(times - round(times)) < 1e-3 and round(times) else 1
        most = max(most, n_ions / reduced)
    whole = [n for n in WHOLE if most and abs(most * n - round(most * n)) < 1e-6]
    return whole[0] if whole else 1


def _seen(frames, found):
    """{metal: its states} in frames; of metals that are mostly inert beside others (`LAST`) those
    only that are not in these frames.
    """
    seen = defaultdict(set)
    for atoms in frames:
        for element, state in _seen_states(atoms, found):
            seen[element].add(state)
    usual = {e for e in LAST if e not in found.redox and seen.get(e, set()) <= {FIXED[e]}}
    return {e: tuple(sorted(states)) for e, states in seen.items() if e not in usual}


def _seen_states(atoms, found):
    """(metal, state) pairs of a frame: as labelled, or else as its moments tell."""
    states = atoms.arrays.get("oxi_states")
    if states is None and label(atoms, "magmoms") is not None:
        try:
            inferred = infer_oxidation_states(atoms, **found.inference)
        except InputError:
            return []
        states = inferred.states
    if states is None:
        return []
    pairs = zip(atoms.get_chemical_symbols(), np.asarray(states, float))
    metals = {*found.redox, *LAST} - {found.mobile}
    return {(e, int(q)) for e, q in pairs if e in metals and q and q == round(q)}


def _elements(frames):
    return tuple(sorted({e for a in frames for e in set(a.get_chemical_symbols())}))


def _common(element):
    """The states of an element that are considered at all times."""
    references = references_for("bond-valence")  # of all metals, those without a moment too
    return tuple(sorted({r.state for r in references if r.element == element and r.common}))


def _told(frames, element):
    """The states of an element that `tell_redox` wrote onto frames."""
    return tuple(sorted({q for atoms in frames for q in told_redox(atoms).get(element, ())}))


def _labelled(frames, element):
    """The states of an element that are on frames."""
    there = [
        a.arrays["oxi_states"][a.symbols == element] for a in frames if "oxi_states" in a.arrays
    ]
    return tuple(sorted({int(q) for states in there for q in states if q}))


def _is_element(name):
    return isinstance(name, str) and name in atomic_numbers


def _states_of(redox, mobile):
    try:
        states = {
            e: tuple(sorted({arguments.number(q, "a state", whole=True) for q in qs}))
            for e, qs in dict(redox or {}).items()
        }
    except (TypeError, ValueError):
        raise InputError(
            'Compound: redox is a dict, such as {"Mn": (2, 3)} (metal: its states), not '
            f"{arguments.shown(redox)}"
        ) from None
    for element, numbers in states.items():
        if element not in atomic_numbers or element == mobile or not numbers:
            raise InputError(
                f"Compound: redox={redox!r}: {element} must be an element with at least one state, "
                "and not the mobile ion"
            )
    return states


def _counted(framework):
    try:
        counts = dict(Formula(framework).count()) if isinstance(framework, str) else {}
    except (ValueError, TypeError, AttributeError):
        counts = {}
    if not counts or not set(counts) <= set(atomic_numbers):
        raise InputError(
            f"Compound: framework is a formula, such as 'Mn2O4', not {arguments.shown(framework)}"
        )
    return counts


def _checked_ends(ends):
    try:
        low, high = map(float, ends)
    except (TypeError, ValueError):
        low = high = math.nan
    if not 0 <= low < high < math.inf:
        raise InputError(
            "Compound: ends are two values of x, the lower one first, such as (0, 1), not "
            f"{arguments.shown(ends)}"
        )
    return low, high


def _written(counts, redox):
    """A formula with metals first, oxyanions together and oxygen last: V2(PO4)3."""
    left = dict(counts)
    metals = [e for e in counts if e in redox]
    centres = [e for e in ("P", "S", "Si", "As", "B", "C") if e in left and e not in metals]
    text = ""
    for e in sorted(metals) + sorted(set(left) - set(metals) - set(centres) - {"O"}):
        text += _times_of(e, left.pop(e))
    if len(centres) == 1 and left.get("O", 0) and left["O"] % left[centres[0]] == 0:
        n, oxygens = left[centres[0]], left["O"] // left[centres[0]]
        anion = centres[0] + _times_of("O", oxygens)
        return text + (f"({anion}){n}" if n > 1 else anion)
    return text + "".join(_times_of(e, left[e]) for e in [*centres, "O"] if e in left)


def _times_of(element, n):
    return f"{element}{n if n > 1 else ''}"
