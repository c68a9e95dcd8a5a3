"""What a crystal is drawn from: colours, radii, and NGL shapes for bonds, polyhedra, the cell,
halos, texts and moments.
"""

import contextlib
import itertools

import numpy as np
from ase.data import atomic_numbers
from ase.data.colors import jmol_colors

from mlipkit.charges.references import REDOX, redox_metals
from mlipkit.frames.labels import label
from mlipkit.pictures.figures import VALENCE

METAL, METAL_RADIUS = "#777777", 0.62  # where its state is not known; Å
COLOURS = {
    "Na": "#F0E442",
    "Li": "#F0E442",
    "P": "#B8A9C9",
    "S": "#D9C9A0",
    "Si": "#A9B8C9",
    "O": "#E3E3E3",
    **dict.fromkeys(REDOX, METAL),
}
# Å; drawn, not physical
RADII = {
    "Na": 0.70,
    "Li": 0.60,
    "P": 0.36,
    "S": 0.36,
    "Si": 0.36,
    "O": 0.28,
    **dict.fromkeys(REDOX, METAL_RADIUS),
}
# Å
ANIONS = {"O": 2.6, "F": 2.6, "N": 2.6, "S": 3.0, "Cl": 3.0, "Se": 3.1, "Br": 3.2}
BONDS = {("P", "O"): 1.8, ("S", "O"): 1.8, ("Si", "O"): 1.9, ("P", "S"): 2.4}
STICK = 0.09  # Å
# seen on white and on black
ARROW, EDGE, MARK, CHOSEN = "#9B3FCF", "#777777", "#CC0000", "#D6278B"
MARK_RADIUS, CHOSEN_RADIUS = 1.15, 0.95  # Å
LABEL, ON_LIGHT = "#808080", "#202020"
PER_MAGNETON, LEAST_ARROW, ARROW_RADIUS = 0.5, 0.5, 0.2  # Å per µB, µB, Å
UP = np.array([0, 0, 1.0])
KEY_DISTANCE = 1.6  # Å from the corner of the cell


def metals(atoms):
    """Elements whose oxidation states are shown: those of the tables, and those that change their
    charge in the compound of this frame.
    """
    return {*REDOX, *redox_metals(atoms)} & {*atoms.get_chemical_symbols()}


def radius_of(element, shown):
    """Å; that of a metal for the elements `shown` with their states."""
    return METAL_RADIUS if element in shown else RADII.get(element, 0.5)


def _cutoffs(elements):
    """Å, up to which these metals are bound to anions."""
    return {(metal, anion): cut for metal in elements for anion, cut in ANIONS.items()}


def colour_of(element):
    """'#rrggbb' of an element whose oxidation state is not shown, by default Jmol's."""
    if element in COLOURS:
        return COLOURS[element]
    rgb = jmol_colors[atomic_numbers[element]]
    return "#" + "".join(f"{round(255 * v):02X}" for v in rgb)


def atom_colours(atoms):
    """One '#rrggbb' per atom: `metals` by `oxi_states` (grey where unknown), the rest by
    element.
    """
    shown = metals(atoms)
    states = atoms.arrays.get("oxi_states", np.zeros(len(atoms), int))
    return [
        VALENCE.get(int(q), METAL) if s in shown else colour_of(s)
        for s, q in zip(atoms.get_chemical_symbols(), states)
    ]


def scaled_colours(atoms, values, low, high, scale="Viridis"):
    """As `atom_colours`, but metals by a value each ({index: value}) on a scale of plotly."""
    from plotly.colors import sample_colorscale

    colours = [colour_of(s) for s in atoms.get_chemical_symbols()]
    known = {i: v for i, v in values.items() if np.isfinite(v)}
    shares = np.clip([(v - low) / ((high - low) or 1) for v in known.values()], 0, 1)
    for i, found in zip(known, sample_colorscale(scale, list(shares)) if known else ()):
        red, green, blue = (int(float(v)) for v in found[4:-1].split(","))
        colours[i] = f"#{red:02X}{green:02X}{blue:02X}"
    return colours


def polyhedra(atoms, colours):
    """NGL shapes: for each redox-active metal the hull of the anions that it is bound to, in its
    own colour.
    """
    from ase.neighborlist import neighbor_list
    from scipy.spatial import ConvexHull, QhullError

    shown = metals(atoms)
    if not shown:
        return []
    i, vectors = neighbor_list("iD", atoms, _cutoffs(shown))
    shapes = []
    for centre in np.flatnonzero(np.isin(atoms.get_chemical_symbols(), [*shown])):
        corners = atoms.positions[centre] + vectors[i == centre]
        # fewer than four anions, or all of them in one plane: there is no body to draw
        with contextlib.suppress(QhullError):
            faces = corners[ConvexHull(corners).simplices] if len(corners) > 3 else []
            points = np.reshape(faces, (-1, 3))
            shapes += [
                ["mesh", points.ravel().tolist(), rgb(colours[centre]) * len(points)]
            ] * bool(len(points))
    return shapes


def marks(atoms, marked, colour=MARK, radius=MARK_RADIUS):
    """NGL shapes: a halo around each of some atoms."""
    return [["sphere", atoms.positions[i].tolist(), rgb(colour), radius] for i in marked]


def labels(atoms, texts):
    """NGL shapes: a text under each atom that has one, over which its moment may stand."""
    return [
        ["text", (atoms.positions[i] - 1.2 * UP).tolist(), rgb(ON_LIGHT), 1.3, text]
        for i, text in enumerate(texts or ())
        if text
    ]


def bonds(atoms, colours):
    """NGL shapes: a stick from each cation to its anions, and the anions that lie in the next
    cell.
    """
    from ase.neighborlist import neighbor_list

    bonded = BONDS | _cutoffs(metals(atoms))
    i, j, vectors, offsets = neighbor_list("ijDS", atoms, bonded)
    shapes, outside = [], set()
    for a, b, v, s in zip(i, j, vectors, offsets):
        if (atoms.symbols[a], atoms.symbols[b]) not in bonded:
            continue
        end = atoms.positions[a] + v
        shapes.append(
            ["cylinder", atoms.positions[a].tolist(), end.tolist(), rgb(colours[a]), STICK]
        )
        if s.any() and (b, *s) not in outside:
            outside.add((b, *s))
            anion = atoms.symbols[b]
            radius = RADII.get(anion, RADII["O"])
            shapes.append(["sphere", end.tolist(), rgb(colours[b]), radius])
    return shapes


def cell_edges(atoms):
    """NGL shapes: the edges of the unit cell (NGL's own are orange, which here means Fe3+), and the
    names of its axes.
    """
    corners = np.array(list(itertools.product((0, 1), repeat=3)))
    edges = [
        [
            "cylinder",
            (a @ atoms.cell.array).tolist(),
            (b @ atoms.cell.array).tolist(),
            rgb(EDGE),
            0.04,
        ]
        for a, b in itertools.combinations(corners, 2)
        if np.abs(a - b).sum() == 1
    ]
    beyond = atoms.cell.array * (1 + 0.7 / np.maximum(atoms.cell.lengths(), 1))[:, None]
    return edges + [["text", v.tolist(), rgb(LABEL), 1.6, n] for v, n in zip(beyond, "abc")]


def arrows(atoms):
    """NGL shapes: one arrow per moment, `PER_MAGNETON` long, along c (collinear spins have no
    direction of their own), from the surface of its atom, so that all of it is seen; and beside the
    cell one to read the others by.
    """
    magmoms, shown = label(atoms, "magmoms"), metals(atoms)
    shapes = []
    for i in np.flatnonzero(np.abs(magmoms) > LEAST_ARROW) if magmoms is not None else []:
        moment, symbol = float(magmoms[i]), atoms.symbols[i]
        start = atoms.positions[i] + np.sign(moment) * radius_of(symbol, shown) * UP
        end = start + PER_MAGNETON * moment * UP
        shapes.append(_arrow(start, end, f"{symbol} {i}: {moment:.2f} µB"))
    for start, end in key_arrow(atoms):
        says = key_moment(atoms)
        # a font without µ
        text = ["text", (start - UP).tolist(), rgb(LABEL), 1.6, f"{says} uB"]
        shapes += [_arrow(start, end, f"to compare with: {says} µB"), text]
    return shapes


def _arrow(start, end, says):
    return ["arrow", start.tolist(), end.tolist(), rgb(ARROW), ARROW_RADIUS, says]


def key_moment(atoms):
    """The moment that the arrow beside the cell stands for, in whole µB; 0 where there is none."""
    magmoms = label(atoms, "magmoms")
    most = 0.0 if magmoms is None else float(np.abs(magmoms).max(initial=0))
    return max(1, round(most)) if most > LEAST_ARROW else 0


def key_arrow(atoms):
    """Where it begins and ends, in a list; an empty one without moments."""
    moment = key_moment(atoms)
    if not moment:
        return []
    start = -KEY_DISTANCE * axes_of(atoms.cell)[0]
    return [(start, start + PER_MAGNETON * moment * UP)]


def axes_of(cell):
    """The directions of the vectors of a cell; x, y and z where they do not span one."""
    return cell.array / cell.lengths()[:, None] if spans(cell) else np.eye(3)


def spans(cell):
    """Whether no vector is missing, and no three lie in a plane."""
    lengths = cell.lengths()
    return bool(lengths.all() and abs(np.linalg.det(cell.array / lengths[:, None])) > 1e-6)


def rgb(colour):
    return [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
