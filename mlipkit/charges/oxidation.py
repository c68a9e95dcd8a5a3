"""From magnetic moments (or bond valence sums, or Bader charges) to oxidation states that balance
and say how sure they are.
"""

import warnings
from dataclasses import dataclass, replace

import numpy as np
from ase.data import atomic_numbers

from mlipkit import arguments
from mlipkit.charges import balance
from mlipkit.charges.evidence import EVIDENCE, all_moments, finite
from mlipkit.charges.references import (
    DEFAULTS,
    LAST,
    STANDARD,
    WITHOUT_MOMENT,
    redox_elements,
    references_for,
    references_of,
    told_fixed,
)
from mlipkit.charges.species import spins_of
from mlipkit.files import InputError
from mlipkit.frames.labels import UNKNOWN, cell_charge, require_states
from mlipkit.frames.taken import as_frame, as_frames

# Ce and Eu change their charge
LANTHANIDES = ("La", "Pr", "Nd", "Pm", "Sm", "Gd", "Tb", "Dy", "Ho", "Er", "Tm", "Yb", "Lu")
# Ions of one valence, unless nothing else in a compound can change its charge (`LAST`)
FIXED = {
    "H": 1,
    "Li": 1,
    "Na": 1,
    "K": 1,
    "Rb": 1,
    "Cs": 1,
    "Ag": 1,
    "Be": 2,
    "Mg": 2,
    "Ca": 2,
    "Sr": 2,
    "Ba": 2,
    "Zn": 2,
    "Cd": 2,
    "Pb": 2,
    "B": 3,
    "Al": 3,
    "Ga": 3,
    "In": 3,
    "Sc": 3,
    "Y": 3,
    **dict.fromkeys(LANTHANIDES, 3),
    "Bi": 3,
    "Si": 4,
    "Ge": 4,
    "Ti": 4,
    "Zr": 4,
    "Hf": 4,
    # X: a vacancy
    "P": 5,
    "Nb": 5,
    "Ta": 5,
    "Mo": 6,
    "W": 6,
    "O": -2,
    "F": -1,
    "Cl": -1,
    "Br": -1,
    "I": -1,
    "X": 0,
}
# bonded to O, and not
OXYANION = {"S": (6, -2), "Se": (6, -2), "Te": (6, -2), "N": (5, -3), "As": (5, -3), "C": (4, None)}
PROXY_HINT = "where an element stands for another ion, read the file with proxies={...}"
MAGNETIC = 2.0  # µB, more than any ion of FIXED has without f electrons
BONDED = 2.0  # Å: S-O 1.5, N-O 1.2, C-O 1.3, As-O 1.7
# µB, v.u., e: unit of misfit, one for all states: the nearest fits best
SCALE = {"magmom": 0.15, "bond-valence": 0.3, "bader": 0.12}
NAME = {
    "magmom": "|moment| (µB)",
    "bond-valence": "bond valence sum",
    "bader": "Bader charge (e)",
    "given": "given",
}
# spreads from its reference at which the value is as likely to mean nothing
OUTLIER = 3.0
SURE = 0.95  # a site of less confidence is ambiguous
AGAINST = 0.01  # a value this far from its reference, 4.3 spreads, speaks against the state


@dataclass(frozen=True)
class OxidationStates:
    """What `infer_oxidation_states` found; prints as a sentence, and in Jupyter as a table.

    Attributes
    ----------
    states : numpy.ndarray of int, shape (n_atoms,)
        Oxidation state of every atom.
    sites : numpy.ndarray of int, shape (n_sites,)
        Indices of the redox-active atoms.
    elements : list of str
        Their elements.
    evidence : numpy.ndarray, shape (n_sites,)
        What was assigned from: |moment| in µB, bond valence sum, or Bader charge in e.
    confidence : numpy.ndarray, shape (n_sites,)
        From 0 to 1: the probability of the state among all balanced assignments, or against the
        best of those that give the site another state if that is less (0.5 in a tie, however many
        sites share it), times how well the value fits the reference of the state (1 on it, 0.95 at
        1.9 spreads, 0.5 at 3).
    ambiguous : numpy.ndarray of int
        Indices of the atoms whose confidence is below 0.95.
    balanced : bool
        Whether the states add up to the charge of the cell; False only for states that were given.
    runner_up : numpy.ndarray of int, shape (n_atoms,), or None
        The next best balanced assignment.
    runner_up_cost : float
        How much more it costs, in units of squared misfit over twice the scale; 0 is a tie, inf
        when there is no other.
    method : str
    formula : str
    note : str
        What else to look at, such as an inert ion with a moment; mostly empty.
    spins : numpy.ndarray of str, shape (n_atoms,)
        ``"high"`` or ``"low"``, as the reference that the value fits best (`reference_table`) says,
        and ``"-"`` where it says nothing. As ``arrays["spin_states"]`` of a frame it is what a
        model sees whose proxy map tells spins apart (`to_proxies`).
    """

    states: np.ndarray
    sites: np.ndarray
    elements: list
    evidence: np.ndarray
    confidence: np.ndarray
    balanced: bool
    runner_up: np.ndarray | None
    runner_up_cost: float
    method: str
    formula: str
    note: str = ""
    spins: np.ndarray | None = None

    @property
    def ambiguous(self):
        return self.sites[self.confidence < SURE]

    @property
    def undecided(self):
        """Those of the ambiguous atoms that neutrality does not settle either: where no other
        assignment balances, none.
        """
        return self.ambiguous if self.runner_up is not None else self.ambiguous[:0]

    @property
    def contradicted(self):
        """Atoms whose value speaks against the state that they must have for the cell to balance:
        a charge of the cell that nobody told, or a state that is none of the usual ones.
        """
        return self.sites[self.confidence < AGAINST]

    @property
    def clear(self):
        """Whether no site is ambiguous."""
        return not len(self.ambiguous)

    @property
    def summary(self):
        """One paragraph for people."""
        ions = [f"{e}{q}+" for e, q in zip(self.elements, self.states[self.sites])]
        counted = ", ".join(f"{ions.count(ion)} {ion}" for ion in sorted(set(ions)))
        text = (
            f"{self.formula}: {counted} from {self.method}; "
            + ("balanced" if self.balanced else "NOT balanced")
            + ". "
        )
        doubts = [f"{e} {i} ({c:.2f})" for i, e, c in self._doubts()]
        if self.clear:
            n = len(self.sites)
            clear = f"All {n} sites are clear" if n > 1 else "Its one site is clear"
            text += f"{clear} (lowest confidence {self.confidence.min():.2f})."
        else:
            more = f" and {len(doubts) - 12} more" if len(doubts) > 12 else ""
            text += f"Ambiguous: {', '.join(doubts[:12])}{more}."
        if self.runner_up is not None:
            moved = [
                f"atom {i} {self.states[i]}+ to {self.runner_up[i]}+"
                for i in np.flatnonzero(self.runner_up != self.states)
            ]
            changes = ", ".join(moved[:6]) + (" ..." if len(moved) > 6 else "")
            text += (
                f" Runner-up ({changes}): misfit larger by {self.runner_up_cost:.1f} (0 is a tie)."
            )
        return f"{text} {self.note}".rstrip()

    def _doubts(self):
        return [
            (i, e, c) for i, e, c in zip(self.sites, self.elements, self.confidence) if c < SURE
        ]

    def __str__(self):
        return self.summary

    def _repr_html_(self):
        shown = (
            np.arange(len(self.sites))
            if len(self.sites) <= 30
            else np.flatnonzero(self.confidence < SURE)[:30]
        )
        head = "".join(
            f'<th scope="col">{h}</th>'
            for h in ("atom", "ion", NAME[self.method], "confidence", "runner-up")
        )
        rows = "".join(self._row(n) for n in shown)
        table = f'<table aria-label="oxidation states"><tr>{head}</tr>{rows}</table>'
        return f'<div style="font:13px Arial,sans-serif"><p>{self.summary}</p>{table}</div>'

    def _row(self, n):
        i, e = self.sites[n], self.elements[n]
        other = (
            ""
            if self.runner_up is None or self.runner_up[i] == self.states[i]
            else f"{e}<sup>{self.runner_up[i]}+</sup>"
        )
        doubt = ' style="background:#FBE3D6;color:#212121"' if self.confidence[n] < SURE else ""
        return (
            f"<tr{doubt}><td>{i}</td><td>{e}<sup>{self.states[i]}+</sup></td><td>{self.evidence[n]:.2f}</td>"
            f"<td>{self.confidence[n]:.2f}</td><td>{other}</td></tr>"
        )


def infer_oxidation_states(
    atoms,
    total_charge=None,
    references=None,
    method="magmom",
    *,
    magmoms=None,
    charges=None,
    fixed=None,
):
    """Oxidation states of all atoms: of all assignments that balance, the one of least total
    misfit.

    The misfit of a site is the squared distance of its |moment| from the nearest reference of the
    state (over its spin states), and the sum over all redox sites is minimised exactly under the
    condition that the states add up to `total_charge`, for several redox elements at once. With one
    element and two states this ranks the sites by |moment|, whatever the absolute size of the
    moments.

    Parameters
    ----------
    atoms : ase.Atoms
    total_charge : int, optional
        Charge of the cell in e, by default ``atoms.info["charge"]``, or 0.
    references : dict or iterable of Reference, optional
        Expected values, such as ``{("Fe", 2): 3.7, ("Fe", 3): 4.3}`` or what `fit_references`
        returns; they replace the defaults (`mlipkit.reference_table`) of the elements they name.
    method : str
        ``"magmom"``; ``"bond-valence"``, from bond valence sums (pymatgen) of the geometry alone;
        ``"bader"``, from ``arrays["bader_charge"]`` (or ``"bader_charges"``, ``"bader"``, or the
        ``charges`` of its calculator) of either sign; ``"given"``, ``arrays["oxi_states"]`` taken
        as they are and checked (where it is 0, as where only proxies were named, ions of one
        valence get theirs).
    magmoms : array_like, shape (n_atoms,) or (n_atoms, 3), optional
        Moments in µB, signs do not matter; by default those stored with the frame.
    charges : array_like, shape (n_atoms,), optional
        Bader charges in e, net, of either sign; by default those stored with the frame.
    fixed : dict, optional
        Oxidation states of elements of one valence, ``{"Ti": 3}``, added to and before those known
        here.

    Returns
    -------
    OxidationStates

    Raises
    ------
    InputError
        When the evidence is missing or not finite, an element is not known, or no assignment has
        the charge.

    Warns
    -----
    UserWarning
        When an ion that is taken as inert has a moment above 2 µB, as proxy elements do, or that of
        a lower state.

    Notes
    -----
    States that are rare (``common`` is False in `reference_table`: V2+, Cr2+, Fe4+, Co1+ and
    others) are tried only where the usual ones cannot balance, unless `references` name them.

    Ti, Nb, Mo and W are taken as Ti4+, Nb5+, Mo6+ and W6+ beside other redox-active metals; their
    states are assigned where there is no other, where the others cannot balance without them, or
    where `references` name them.
    """
    atoms = as_frame(atoms, "infer_oxidation_states")
    what = f"infer_oxidation_states: {atoms.get_chemical_formula()}"
    arguments.text(method, "infer_oxidation_states: method", NAME)
    if total_charge is None:
        total_charge = cell_charge(atoms, "infer_oxidation_states")
    total_charge = arguments.number(
        total_charge, "infer_oxidation_states: total_charge", whole=True
    )
    fixed = told_fixed(atoms) | checked_fixed(fixed, "infer_oxidation_states: fixed")
    if charges is not None:
        said = "infer_oxidation_states: charges"
        n = None if method == "bader" else len(atoms)  # which says more of what it needs
        charges = arguments.values(charges, said, n, finite=False)
    # given states need no moment to expect
    refs = references_of(atoms, "bond-valence" if method == "given" else method, references)
    symbols = np.array(atoms.get_chemical_symbols())
    first, *more = _redox(symbols, refs, fixed, what)
    if method == "given":
        states, sites = _fixed_states(atoms, symbols, first, fixed, what)
        return _given(atoms, states, sites, symbols[sites].tolist(), total_charge, what)
    evidence, given = EVIDENCE[method], {"magmom": magmoms, "bader": charges}.get(method)
    # rare states, and metals that are mostly inert, only where the others cannot balance
    ways = [(redox, rare) for rare in (False, True) for redox in (first, *more)]
    for redox, rare in ways:
        states, sites = _fixed_states(atoms, symbols, redox, fixed, what)
        elements, needed = symbols[sites].tolist(), total_charge - int(states.sum())
        values = evidence(atoms, symbols, sites, given, what)
        options = [[r for r in refs if r.element == e and (r.common or rare)] for e in elements]
        costs, lowest = _costs(options, values, SCALE[method])
        total = needed - lowest * len(sites)
        levels, cost = balance.assign(costs, total)
        if levels is not None:
            break
    else:
        known = ", ".join(
            f"{e}{q}+"
            for e, q in sorted({(r.element, r.state) for r in refs if r.element in elements})
        )
        raise InputError(
            f"{what}: for a charge of {total_charge:+d} its {len(sites)} redox sites would have "
            f"to add up to {needed:+d} "
            f"({needed / len(sites):+.2f} each), which no combination of {known} "
            f"does{_assumed(symbols, states, sites)}; "
            "are all ions there? Else give total_charge=, fixed= for other states, or references= "
            f"for the missing one{_without_moment(symbols, refs)}"
        )
    note = ""
    if method == "magmom":
        moments = all_moments(atoms, magmoms, what)
        note = _proxy_note(symbols, states, sites, moments, fixed)
        note = note or _reduced_note(symbols, states, sites, moments, refs, fixed)
    if note:
        warnings.warn(f"{what}: {note}", stacklevel=2)
    states[sites] = levels + lowest
    other, other_cost = balance.runner_up(costs, levels, total)
    second = None
    if other is not None:
        second = states.copy()
        second[sites] = other + lowest
    probability = balance.probabilities(costs, total)[np.arange(len(sites)), levels]
    probability = np.minimum(probability, 1 / (1 + np.exp(-balance.margins(costs, levels, total))))
    nearest = _nearest(elements, states[sites], values, refs)
    spins = np.full(len(atoms), UNKNOWN, dtype=object)
    spins[sites] = [r.spin or UNKNOWN for r in nearest]
    return OxidationStates(
        states,
        sites,
        elements,
        values,
        probability * _fit(values, nearest),
        True,
        second,
        other_cost - cost if second is not None else np.inf,
        method,
        atoms.get_chemical_formula(),
        note,
        spins.astype(str),
    )


def _redox(symbols, refs, fixed, what):
    """The metals to assign states to, and those to try where these cannot balance: with the metals
    of `LAST`, which beside others are inert, unless a person has given references of theirs.
    """
    there = set(symbols.tolist()) - set(fixed or {})
    every = {r.element for r in refs} & there
    hers = {r.element for r in refs if r not in STANDARD} & there
    first = {*redox_elements(sorted(every)), *hers}
    if not first:
        known = ", ".join(sorted({r.element for r in refs}))
        raise InputError(
            f"{what} has no redox-active element (of {known}), so nothing can change valence"
            f"{_without_moment(symbols, refs)}; {PROXY_HINT}"
        )
    return [first] if first == every else [first, every]


def _without_moment(symbols, refs):
    """What to do about metals of which no moment is known."""
    missing = sorted({*WITHOUT_MOMENT} & {*symbols.tolist()} - {r.element for r in refs})
    if not missing:
        return ""
    example = ", ".join(f"({missing[0]!r}, {q}): ..." for q in WITHOUT_MOMENT[missing[0]])
    return (
        f". Of {' and '.join(missing)} no moment is published that holds from compound to "
        f"compound: give references={{{example}}} (µB), which fit_references(frames, references) "
        "calibrates, or take method='bond-valence'"
    )


def _proxy_note(symbols, states, sites, moments, fixed):
    """What to say of the first cation that has a moment though its element is taken as inert;
    nothing where `fixed` says so.
    """
    here = np.flatnonzero(
        (states > 0) & (moments > MAGNETIC) & ~np.isin(symbols, [*LANTHANIDES, *(fixed or {})])
    )
    if not len(here):
        return ""
    i, element, state = here[0], symbols[here[0]], states[here[0]]
    return (
        f"{element} (atom {i}) was taken as an inert {state}+ ion but has a moment of "
        f"{moments[i]:.2f} µB: it may be a proxy element; "
        f"if so, read the file with proxies={{'{element}': ('{symbols[sites[0]]}', {state})}} or "
        "the map that it was written with, "
        f"else say fixed={{'{element}': {state}}}."
    )


def _reduced_note(symbols, states, sites, moments, refs, fixed):
    """What to say of the first metal of `LAST` that was taken as inert and has the moment of a
    lower state.
    """
    inert = np.setdiff1d(np.flatnonzero(np.isin(symbols, LAST)), sites)
    for i in inert[~np.isin(symbols[inert], list(fixed or {}))]:
        mine = [r for r in refs if r.element == symbols[i]]
        found = min(mine, key=lambda r: abs(r.value - moments[i]), default=None)
        if found is not None and found.state < states[i]:
            both = ", ".join(f"({r.element!r}, {r.state}): {r.value:g}" for r in mine)
            return (
                f"{symbols[i]} (atom {i}) was taken as {states[i]}+, as beside other redox-active "
                f"metals, but its moment of {moments[i]:.2f} µB is rather that of {found.state}+: "
                f"give references={{{both}}} for its moments to count, else "
                f"fixed={{{str(symbols[i])!r}: {states[i]}}}."
            )
    return ""


def _assumed(symbols, states, sites):
    """Of which states the other ions were taken to be, for a person to see which is wrong."""
    others = np.delete(np.arange(len(symbols)), sites)
    ions = sorted({(str(e), int(q)) for e, q in zip(symbols[others], states[others]) if e != "X"})
    signs = {-1: "-", 0: "", 1: "+"}
    return " with " + ", ".join(f"{e} {abs(q)}{signs[np.sign(q)]}" for e, q in ions) if ions else ""


def checked_fixed(fixed, what):
    """Oxidation states of elements of one valence, ``{element: state}``, an empty dict for None; a
    sentence for anything else.
    """
    example = '{"Ti": 3}'
    for element, state in arguments.mapping(fixed or {}, what, example).items():
        if not isinstance(element, str) or element not in atomic_numbers:
            raise InputError(
                f"{what} is a dict of elements, such as {example}; {arguments.shown(element)} is "
                "none"
            )
        if not isinstance(state, int | float | np.number) or not float(state).is_integer():
            raise InputError(
                f"{what}={{{element!r}: {arguments.shown(state)}}} is not a whole number; states "
                "that differ from atom to atom can be given one by one, method='given'"
            )
    return dict(fixed or {})


def _fixed_states(atoms, symbols, redox, fixed, what):
    """States with zeros at the redox sites, and those sites."""
    known = {**FIXED, **(fixed or {})}
    sites = np.flatnonzero(np.isin(symbols, list(redox)))
    states = np.zeros(len(atoms), int)
    for element in sorted(set(symbols.tolist()) - redox):
        here = np.flatnonzero(symbols == element)
        if element in known:
            states[here] = known[element]
        elif element in OXYANION:
            states[here] = oxyanion_states(atoms, symbols, element, here, what)
        else:
            raise InputError(
                f"{what}: the oxidation state of {element} is not known; give it, "
                f"fixed={{{element!r}: ...}}; to functions that have no fixed= within "
                f"compound=mk.Compound(mobile, redox, fixed={{{element!r}: ...}}); {PROXY_HINT}"
            )
    return states, sites


def oxyanion_states(atoms, symbols, element, here, what):
    """States of the atoms `here` of an element such as S, which is 6+ where O is bonded to it and
    2- elsewhere.
    """
    from ase import Atoms
    from ase.neighborlist import neighbor_list

    bonded, alone = OXYANION[element]
    these = np.append(here, np.flatnonzero(symbols == "O"))
    pair = Atoms(
        symbols[these],
        atoms.positions[these],
        cell=atoms.cell,
        pbc=atoms.pbc & (atoms.cell.rank == 3),
    )
    near = np.isin(
        np.arange(len(here)), neighbor_list("i", pair, {(element, "O"): BONDED})
    ).tolist()
    if alone is None and not all(near):
        raise InputError(
            f"{what}: the oxidation state of {element} (atom {here[near.index(False)]}), which "
            "has no O within "
            f"{BONDED:g} Å, is not known; give it, fixed={{{element!r}: ...}}"
        )
    return [bonded if n else alone for n in near]


def _costs(references, values, scale):
    """Cost of every state at every site, and the state that level 0 stands for."""
    lowest = min((r.state for site in references for r in site), default=0)
    width = max((r.state for site in references for r in site), default=0) - lowest + 1
    costs = np.full((len(values), width), np.inf)
    for row, site, value in zip(costs, references, values):
        for r in site:
            row[r.state - lowest] = min(
                row[r.state - lowest], 0.5 * ((value - r.value) / scale) ** 2
            )
    return costs, lowest


def _nearest(elements, states, values, refs):
    """The reference of each site: of those of its state, which may have several spins, the one that
    its value fits best.
    """
    return [
        min(
            (r for r in refs if (r.element, r.state) == (e, q)),
            key=lambda r: abs(value - r.value) / r.spread,
        )
        for e, q, value in zip(elements, states, values)
    ]


def _fit(values, references):
    """How well each value fits the reference of the state assigned: likelihood against that of an
    outlier, 1 on the reference.
    """
    background = np.exp(-0.5 * OUTLIER**2)
    distance = [abs(value - r.value) / r.spread for value, r in zip(values, references)]
    likelihood = np.exp(-0.5 * np.square(distance))
    return (1 + background) * likelihood / (likelihood + background)


def _given(atoms, usual, sites, elements, total_charge, what):
    if "oxi_states" not in atoms.arrays:
        raise InputError(
            f"{what}: method 'given' needs atoms.arrays['oxi_states'], one whole number per atom"
        )
    given = np.asarray(atoms.arrays["oxi_states"], float)
    require_states(atoms, sites)
    given = np.where(given == 0, usual, given)
    finite(
        given,
        np.array(atoms.get_chemical_symbols()),
        np.arange(len(atoms)),
        "oxidation state",
        what,
    )
    states = np.rint(given).astype(int)
    whole = np.abs(given - states) < 1e-6
    balanced = bool(whole.all()) and int(states.sum()) == total_charge
    return OxidationStates(
        states,
        sites,
        elements,
        given[sites],
        whole[sites].astype(float),
        balanced,
        None,
        np.inf,
        "given",
        atoms.get_chemical_formula(),
        spins=spins_of(atoms).astype(str),
    )


def fit_references(frames, references=None, method="magmom", total_charge=None, fixed=None):
    """References calibrated on a person's own frames: sphere radii, U and basis sets move moments
    by some 0.1 µB.

    The frames are assigned with the references at hand, each reference moves to the median of the
    sites that were assigned to it, and again until nothing changes. States of an element that do
    not occur move with those that do.

    Parameters
    ----------
    frames : list of ase.Atoms
        With the evidence of the method, all with the same settings.
    references, method, total_charge, fixed
        As in `infer_oxidation_states`; the references are where to begin.

    Returns
    -------
    tuple of Reference
        To be given as ``references``. Spreads are robust (1.48 times the median absolute
        deviation), at least a third of those they replace; a state seen on fewer than three sites
        keeps its spread.
    """
    arguments.text(method, "fit_references: method", DEFAULTS)
    fixed = checked_fixed(fixed, "fit_references: fixed")
    arguments.number(total_charge, "fit_references: total_charge", whole=True, none=True)
    start = refs = references_for(method, references)
    frames = as_frames(frames, "fit_references takes")
    if not frames:
        raise InputError("fit_references: there are no frames to fit to")
    for _ in range(20):
        seen = {}
        for i, atoms in enumerate(frames):
            try:
                found = infer_oxidation_states(atoms, total_charge, refs, method, fixed=fixed)
            except InputError as reason:
                raise InputError(f"fit_references: frame {i}: {reason}") from None
            for e, q, value in zip(found.elements, found.states[found.sites], found.evidence):
                nearest = min(
                    (r for r in refs if (r.element, r.state) == (e, q)),
                    key=lambda r: abs(r.value - value),
                )
                seen.setdefault((e, int(q), nearest.spin), []).append(value)
        moved = _moved(start, seen, len(frames))
        if all(abs(a.value - b.value) < 1e-6 for a, b in zip(moved, refs)):
            break
        refs = moved
    return moved


def _moved(start, seen, n_frames):
    shifts = {}
    for r in start:
        if values := seen.get((r.element, r.state, r.spin)):
            shifts.setdefault(r.element, []).append(np.median(values) - r.value)
    result = []
    for r in start:
        values = seen.get((r.element, r.state, r.spin))
        if values:
            centre = float(np.median(values))
            spread = (
                max(1.4826 * float(np.median(np.abs(np.array(values) - centre))), r.spread / 3)
                if len(values) > 2
                else r.spread
            )
            r = replace(
                r,
                value=centre,
                spread=spread,
                source=f"fitted to {len(values)} sites of {n_frames} frames",
            )
        elif r.element in shifts:
            shift = float(np.mean(shifts[r.element]))
            r = replace(
                r,
                value=max(0.0, r.value + shift),
                source=f"moved with the other states of {r.element}",
            )
        result.append(r)
    return tuple(result)


def compare_methods(atoms, methods=("magmom", "bond-valence", "bader", "given"), **options):
    """What each kind of evidence says, side by side.

    Parameters
    ----------
    atoms : ase.Atoms
    methods : tuple of str
    **options
        For `infer_oxidation_states`: ``total_charge``, ``fixed``, ``magmoms``, ``charges``.

    Returns
    -------
    pandas.DataFrame
        Index: the redox atoms. Columns: ``element``; for every method that could be used its state
        and, as ``"... confidence"``, how sure it is; ``agree``, whether all of them name the same
        state. ``attrs["unavailable"]`` says why the others could not be used, ``attrs["disagree"]``
        lists the atoms of which they differ.
    """
    import pandas as pd

    columns, unavailable = {}, {}
    methods = arguments.entries(methods, "compare_methods: methods", "('magmom', 'bader')")
    for method in methods:
        arguments.text(method, "compare_methods: each of methods", NAME)
        try:
            found = infer_oxidation_states(atoms, method=method, **options)
        except InputError as reason:
            unavailable[method] = str(reason)
            continue
        columns |= {
            "element": found.elements,
            method: found.states[found.sites],
            f"{method} confidence": found.confidence.round(3),
        }
        index = found.sites
    if not columns:
        raise InputError(
            "compare_methods: no method could be used: "
            + "; ".join(dict.fromkeys(unavailable.values()))
        )
    table = pd.DataFrame(columns, index=pd.Index(index, name="atom"))
    table["agree"] = table[[m for m in methods if m in table]].nunique(axis=1) == 1
    table.attrs = {"unavailable": unavailable, "disagree": table.index[~table["agree"]].tolist()}
    return table
