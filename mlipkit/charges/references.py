"""What a moment, a bond valence sum or a Bader charge is expected to be in each oxidation state."""

import re
from dataclasses import dataclass, replace

import numpy as np

from mlipkit import arguments
from mlipkit.files import InputError


@dataclass(frozen=True)
class Reference:
    """Expected evidence for an element in an oxidation state.

    Attributes
    ----------
    element : str
    state : int
    value : float
        |moment| in µB inside a PAW sphere; for other evidence the bond valence sum (valence units)
        or Bader charge (e).
    spread : float
        Standard deviation over compounds and codes, same unit.
    spin : str
        ``"high"``, ``"low"``, or empty where there is only one.
    common : bool
        Whether the state is considered at all times. The others only are when no combination of
        common ones balances.
    source : str
    """

    element: str
    state: int
    value: float
    spread: float
    spin: str = ""
    common: bool = True
    source: str = ""


# PBE+U with U (eV) V 3.25, Cr 3.7, Mn 3.9, Fe 5.3, Co 3.32, Ni 6.2, Mo 4.38, as the Materials
# Project and the published data have it. It has no U for Ti, Nb, Ru, Ce and Eu.
MP = "Materials Project PBE+U, as CHGNet 0.3.0 (doi 10.1038/s42256-023-00716-3) predicts it for "
SPIN_ONLY = (
    "d electrons of the formal ion, reduced as in its neighbours in this table; "
    "not checked against a calculation"
)
NO_U = MP.replace("PBE+U", "(here PBE without U)")
ONE = "one {} electron, where a U keeps it on its ion; " + NO_U + "{}"
NOT = "not checked against a calculation with U"
NAXFEPO4 = "olivine NaxFePO4: VASP (arXiv 2603.26471) {}, GPAW (the embedded set) {} µB"
REFERENCES = (
    Reference("V", 2, 2.65, 0.12, common=False, source=MP + "VO (rock salt) 2.65"),
    Reference("V", 3, 1.93, 0.10, source=MP + "V2O3 1.94, LiVO2 1.91"),
    Reference("V", 4, 1.06, 0.10, source=MP + "VO2 (rutile) 1.06"),
    Reference("V", 5, 0.06, 0.10, source=MP + "V2O5 0.06"),
    Reference("Cr", 2, 3.77, 0.12, "high", common=False, source=MP + "olivine NaCrPO4 3.77"),
    Reference("Cr", 3, 2.98, 0.08, source=MP + "Cr2O3 2.96, LiCrO2 2.99"),
    Reference("Cr", 4, 2.45, 0.15, common=False, source=MP + "CrO2 (rutile) 2.47"),
    Reference("Cr", 6, 0.05, 0.15, common=False, source=SPIN_ONLY),
    Reference("Mn", 1, 3.70, 0.25, "high", common=False, source=SPIN_ONLY),
    Reference("Mn", 2, 4.62, 0.06, "high", source=MP + "MnO 4.66; published NaxMnPO4 4.58 to 4.66"),
    Reference(
        "Mn",
        3,
        3.94,
        0.12,
        "high",
        source=MP + "LiMnO2 3.98, Mn2O3 4.01; published NaxMnPO4 3.8 to 4.1",
    ),
    Reference(
        "Mn",
        4,
        3.20,
        0.15,
        source=MP + "MnO2 (rutile) 3.26, MnO2 (layered) 3.29; 2.9 to 3.1 in spinels",
    ),
    Reference("Fe", 1, 2.80, 0.20, "high", common=False, source=SPIN_ONLY),
    Reference("Fe", 2, 3.73, 0.06, "high", source=NAXFEPO4.format("3.71 to 3.82", "3.66 to 3.73")),
    Reference("Fe", 2, 0.05, 0.10, "low", source=SPIN_ONLY),
    Reference(
        "Fe",
        3,
        4.31,
        0.08,
        "high",
        source=NAXFEPO4.format("4.30 to 4.35", "4.26 to 4.33") + "; spread: a guess",
    ),
    Reference("Fe", 3, 1.00, 0.12, "low", source=SPIN_ONLY),
    Reference("Fe", 4, 3.60, 0.20, "high", common=False, source=SPIN_ONLY),  # on top of Fe2+
    Reference("Co", 1, 1.80, 0.20, "high", common=False, source=SPIN_ONLY),
    Reference("Co", 2, 2.70, 0.08, "high", source=MP + "CoO 2.67, NaCoPO4 2.75"),
    Reference("Co", 3, 0.08, 0.10, "low", source=MP + "LiCoO2 0.08"),
    Reference("Co", 3, 3.10, 0.12, "high", source=SPIN_ONLY),
    Reference("Co", 4, 1.10, 0.15, "low", source=MP + "CoO2 (layered) 1.10"),
    Reference("Ni", 1, 0.85, 0.15, common=False, source=SPIN_ONLY),
    Reference("Ni", 2, 1.81, 0.07, source=MP + "NiO 1.83, NaNiPO4 1.91"),
    Reference(
        "Ni",
        3,
        1.20,
        0.20,
        "low",
        source=MP + "LiNiO2 1.39 (undistorted; about 1.0 with Jahn-Teller distortion)",
    ),
    Reference("Ni", 4, 0.20, 0.15, "low", source=MP + "NiO2 (layered) 0.30"),
    Reference("Cu", 1, 0.05, 0.08, source=SPIN_ONLY),
    Reference("Cu", 2, 0.60, 0.12, source=MP + "NaCuPO4 0.55"),
    Reference("Cu", 3, 0.05, 0.08, "low", common=False, source=SPIN_ONLY),  # on top of Cu1+
    Reference("Ru", 3, 0.70, 0.20, "low", common=False, source=SPIN_ONLY),
    Reference("Ru", 4, 1.15, 0.20, "low", source=NO_U + "SrRuO3 1.18, CaRuO3 1.17; RuO2 0.12"),
    Reference("Ru", 5, 1.75, 0.15, source=NO_U + "Ba2YRuO6 1.83, Sr2YRuO6 1.63, Ba2LaRuO6 1.64"),
    Reference(
        "Ce",
        3,
        0.85,
        0.15,
        source=ONE.format("4f", "Ce2O3 0.71, CeF3 0.70, CeCl3 0.74") + "; " + NOT,
    ),
    Reference("Ce", 4, 0.10, 0.12, source="no 4f electron; " + NO_U + "CeO2 0.19"),
    Reference("Eu", 2, 6.75, 0.15, source=NO_U + "EuO 6.64, EuTiO3 6.65, EuS 6.88, EuSe 6.90"),
    Reference(
        "Eu", 3, 6.15, 0.20, source="six 4f electrons; " + NO_U + "Eu2O3 6.25, EuF3 6.34; " + NOT
    ),
    Reference("Ti", 3, 0.90, 0.15, source=ONE.format("3d", "TiPO4 0.77, LaTiO3 0.19") + "; " + NOT),
    Reference("Ti", 4, 0.03, 0.10, source=NO_U + "TiO2 (rutile) 0.01, SrTiO3 0.02"),
    Reference("Mo", 3, 1.85, 0.25, source=MP + "LiMoO2 1.78, MoF3 1.84; a rough guide"),
    Reference("Mo", 4, 1.35, 0.20, source=MP + "SrMoO3 1.35; dimers, as of MoO2, may have none"),
    Reference(
        "Mo", 5, 0.50, 0.20, source=MP + "Ba2YMoO6 0.26 to 0.48, Sr2FeMoO6 0.35; a rough guide"
    ),
    Reference("Mo", 6, 0.05, 0.12, source=MP + "MoO3 0.10, Sr2MgMoO6 0.09"),
)
# Metals of which nothing trustworthy is to be had: without U the electron spreads (CHGNet: SrNbO3
# 0.08 for Nb4+), and NaWO3 is a metal (0.41)
WITHOUT_MOMENT = {"Nb": (4, 5), "W": (4, 5, 6)}
REDOX = *dict.fromkeys(r.element for r in REFERENCES), *WITHOUT_MOMENT
# They have no electron to give in most compounds, and beside another metal that other one changes
# its charge: Ti4+ in doped LiFePO4, Mo6+ of a molybdate
LAST = "Ti", "Nb", "Mo", "W"
BADER = tuple(
    Reference(
        element,
        state,
        value,
        0.12,
        source="PBE+U phosphates, rounded; differs between grids and codes: fit_references",
    )
    for element, states in {
        "Mn": {2: 1.50, 3: 1.75, 4: 1.95},
        "Fe": {2: 1.42, 3: 1.80},
        "Co": {2: 1.38, 3: 1.58},
        "Ni": {2: 1.30, 3: 1.45},
    }.items()
    for state, value in states.items()
)
BOND_VALENCE = tuple(
    Reference(element, state, float(state), 0.20, common=common, source="bond valence sum rule")
    for element, state, common in dict.fromkeys(
        [
            *((r.element, r.state, r.common) for r in REFERENCES),
            *((e, q, True) for e, states in WITHOUT_MOMENT.items() for q in states),
        ]
    )
)
EXAMPLE = '{("Fe", 2): 3.7, ("Fe", 3): 4.3}'
DEFAULTS = {"magmom": REFERENCES, "bond-valence": BOND_VALENCE, "bader": BADER}
STANDARD = frozenset(r for references in DEFAULTS.values() for r in references)


def references_for(method, given=None):
    """The references of a method, those of the elements that a person gave replaced by hers.

    Parameters
    ----------
    method : str
        ``"magmom"``, ``"bond-valence"`` or ``"bader"``.
    given : dict or iterable of Reference, optional
        A dict reads ``{("Fe", 2): 3.7, ("Fe", 3): 4.3}``; its spreads are those of the default, or
        0.1.
    """
    defaults = DEFAULTS[method]
    if given is None:
        return defaults
    if isinstance(given, dict):
        spread = {(r.element, r.state): r.spread for r in reversed(defaults)}
        try:
            given = [
                Reference(e, int(q), float(value), spread.get((e, q), 0.1), source="given")
                for (e, q), value in given.items()
            ]
        except (TypeError, ValueError):
            raise InputError(f"references: a dict of them reads {EXAMPLE}, µB") from None
    given = tuple(
        arguments.entries(given, "references", f"what fit_references makes, or {EXAMPLE}")
    )
    for r in given:
        if not isinstance(r, Reference):
            raise InputError(f"references: each must be a Reference, not {arguments.shown(r)}")
        arguments.number(r.value, "references: the value of each")
        arguments.number(r.spread, "references: the spread of each", above=0)
    return given + tuple(r for r in defaults if r.element not in {r.element for r in given})


def reference_table(method="magmom"):
    """The references as a table: element, state, spin, value, spread, common, source.

    Returns
    -------
    pandas.DataFrame

    Raises
    ------
    InputError
        When there is no such method.
    """
    import pandas as pd

    arguments.text(method, "reference_table: method", DEFAULTS)
    return pd.DataFrame([vars(r) for r in DEFAULTS[method]])[
        ["element", "state", "spin", "value", "spread", "common", "source"]
    ]


def redox_elements(elements):
    """Those of some elements whose charge changes in a compound of them: metals of `REDOX`; those
    of `LAST` only where there is no other.
    """
    metals = [e for e in dict.fromkeys(elements) if e in REDOX]
    return [e for e in metals if e not in LAST] or metals


def references_of(atoms, method, given=None):
    """`references_for` a frame: what it was told of its metals (`tell_redox`) counts, unless
    references of theirs are given.
    """
    references, told = references_for(method, given), told_redox(atoms)
    hers = {r.element for r in references if r not in STANDARD}
    for element in told.keys() - hers:
        moments = {(element, q): m for q, m in told[element].items() if m is not None}
        if moments and method == "magmom":
            own = references_for(method, moments)
            references = tuple(r for r in references if r.element != element)
            references += tuple(r for r in own if r.element == element)
        else:
            references = tuple(
                counted(r, told[element]) if r.element == element else r for r in references
            )
    return references


def counted(reference, states):
    """A reference that a person has named: it counts, also that of a mostly inert metal, and a rare
    one if it is among the states.
    """
    common, source = reference.common or reference.state in states, f"{reference.source} (named)"
    return replace(reference, common=common, source=source)


def tellable(atoms, references=None):
    """Whether moments to expect are known of all metals of a frame whose charge may change."""
    known = {r.element for r in references_of(atoms, "magmom", references)}
    return {*redox_metals(atoms)} <= known


def told_redox(atoms):
    """What `tell_redox` wrote onto a frame: {element: {state: moment in µB, or None}}."""
    told, symbols = {}, atoms.get_chemical_symbols()
    for part in str(atoms.info.get("redox", "")).split():
        element, _, states = part.partition(":")
        if element not in symbols:
            continue
        pairs = [state.partition("=") for state in states.split(",") if state]
        try:
            told[element] = {int(q): float(m) if m else None for q, _, m in pairs}
        except ValueError:  # somebody else's word
            return {}
    return told


def told_fixed(atoms):
    """The ions of one valence that `tell_redox` wrote onto a frame: {element: state}."""
    parts = str(atoms.info.get("redox", "")).split()
    found = [re.fullmatch(r"([A-Z][a-z]?)=(-?\d+)", part) for part in parts]
    return {one[1]: int(one[2]) for one in found if one}


def tell_redox(atoms, compound):
    """Write onto a frame what a `Compound` says of its charges, where its elements alone do not
    tell, for all functions to know: ``info["redox"]`` reads ``"Fe Ti"`` (Ti counts beside Fe),
    ``"V:2,3,4"`` (a rare state is among them), ``"Pr:3=2,4=1"`` (moments to expect, in µB) or
    ``"Fe Re=5"`` (of one valence, which no table knows).
    """
    redox, references = compound.redox, compound.references
    symbols, known = set(atoms.get_chemical_symbols()), references_for("magmom", references)
    plain, parts = redox_elements(symbols), []
    for element in sorted(symbols & {*plain, *redox}):
        mine = [r for r in known if r.element == element]
        hers = [r for r in mine if r not in STANDARD]
        own = {r.state: r.value for r in hers}
        if len(own) < len(hers):  # spins apart are more than can be written
            own = {}
        states = sorted(redox.get(element, ()))
        rare = {r.state for r in mine if not r.common} & {*states}
        if own:
            parts.append(f"{element}:" + ",".join(f"{q}={own[q]:g}" for q in sorted(own)))
        else:
            parts.append(f"{element}:{','.join(map(str, states))}" if rare else element)
    inert = symbols & {*(compound.fixed or {})}
    parts += [f"{element}={compound.fixed[element]}" for element in sorted(inert)]
    if parts == sorted(plain):
        atoms.info.pop("redox", None)
    else:
        atoms.info["redox"] = " ".join(parts)


def redox_metals(atoms):
    """Those of a frame: what it was told, or else `redox_elements`."""
    return [*told_redox(atoms)] or redox_elements(atoms.get_chemical_symbols())


def redox_sites(atoms):
    """Indices of the atoms whose charge may change, see `redox_metals`."""
    return np.flatnonzero(np.isin(atoms.get_chemical_symbols(), redox_metals(atoms)))
