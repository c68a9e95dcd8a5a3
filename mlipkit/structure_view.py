"""A crystal in 3D: Fe coloured by valence, moments as arrows, unit cell, legend."""
import itertools
import warnings

import numpy as np

from mlipkit.frames import label
from mlipkit.plots import VALENCE
from mlipkit.reference_moments import REFERENCES

with warnings.catch_warnings():
    warnings.simplefilter("ignore")     # nglview 3 imports the deprecated pkg_resources
    import nglview as nv

REDOX = tuple(dict.fromkeys(r.element for r in REFERENCES))
COLOURS = {"Na": "#F0E442", "Li": "#F0E442", "P": "#B8A9C9", "S": "#D9C9A0", "Si": "#A9B8C9", "O": "#E3E3E3",
           **dict.fromkeys(REDOX, "#777777")}
RADII = {"Na": 0.70, "Li": 0.60, "P": 0.36, "S": 0.36, "Si": 0.36, "O": 0.28, **dict.fromkeys(REDOX, 0.62)}     # Å; drawn, not physical
BONDS = {**{(m, "O"): 2.6 for m in REDOX}, ("P", "O"): 1.8, ("S", "O"): 1.8, ("Si", "O"): 1.9}                  # Å
STICK = 0.09                                                 # Å
ARROW, EDGE = "#111111", "#777777"
SAME_ARROW = 0.05       # µB, 0.03 Å in the picture: arrows this close are not drawn anew
_scheme = itertools.count()


def atom_colours(atoms):
    """One '#rrggbb' per atom: redox metals by `oxi_states` (grey where unknown), the rest by element."""
    states = atoms.arrays.get("oxi_states", np.zeros(len(atoms), int))
    return [VALENCE.get(int(q), COLOURS[s]) if s in REDOX else COLOURS.get(s, "#9E9E9E")
            for s, q in zip(atoms.get_chemical_symbols(), states)]


def structure_view(atoms, width="100%", height="380px"):
    """An nglview widget of the cell.

    Parameters
    ----------
    atoms : ase.Atoms
        Colours come from ``arrays["oxi_states"]``, arrows from the moments stored with the frame, if there are any.
    width, height : str
        CSS sizes.

    Returns
    -------
    nglview.NGLWidget
        ``view.picked["atom1"]["index"]`` is the index of the clicked atom in ``atoms``.
    """
    view = nv.NGLWidget(gui=False)
    view.layout.width, view.layout.height = width, height
    view.camera = "orthographic"
    view.background = "white"
    view._execute_js_code("this.stage.mouseControls.remove('clickPick-left')")      # a click picks; it must not re-centre
    draw(view, atoms)
    view.center()
    view.control.spin([1, 0, 0], -1.30)         # c, the axis of the arrows, points up
    view.control.spin([0, 0, 1], 0.35)
    view.control.zoom(0.45)
    return view


def draw(view, atoms):
    """Show another crystal in an existing view; the camera stays as the person left it.

    When only the moments differ from what is drawn, only the arrows are replaced, and nothing when no eye could tell.
    """
    before, now = getattr(view, "drawn", (None, None)), (atoms.copy(), label(atoms, "magmoms"))
    same = before[0] is not None and before[0] == atoms and atom_colours(before[0]) == atom_colours(atoms)
    if same and before[1] is not None and now[1] is not None and np.abs(before[1] - now[1]).max() < SAME_ARROW:
        return
    view.drawn, outdated = now, list(view._ngl_component_ids)[2 if same else 0:]
    if not same:
        component = view.add_component(nv.ASEStructure(atoms), default_representation=False)
        symbols = np.array(atoms.get_chemical_symbols())
        scheme = f"valence{next(_scheme)}"          # NGL caches a scheme by its name
        table = ",".join("0x" + c[1:] for c in atom_colours(atoms))
        nv.color.ColormakerRegistry.add_scheme_func(scheme, f"this.atomColor = function (atom) {{ return [{table}][atom.index]; }}")
        for element in sorted(set(symbols)):
            selection = "@" + ",".join(map(str, np.flatnonzero(symbols == element)))
            component.add_representation("spacefill", selection=selection, color=scheme, radius_type="size",
                                         radius_size=RADII.get(element, 0.5))
        view._add_shape(bonds(atoms) + cell_edges(atoms), name="bonds and cell")
    view._add_shape(arrows(atoms), name="moments")
    for old in outdated:            # last, so that WebGL keeps its compiled shaders: 140 ms in software
        view.remove_component(old)


def bonds(atoms):
    """NGL shapes: a stick from each cation to its O, and the O that lie in the next cell."""
    from ase.neighborlist import neighbor_list
    i, j, vectors, offsets = neighbor_list("ijDS", atoms, BONDS)
    colours, shapes, outside = atom_colours(atoms), [], set()
    for a, b, v, s in zip(i, j, vectors, offsets):
        if atoms.symbols[a] == "O":
            continue
        end = atoms.positions[a] + v
        shapes.append(["cylinder", atoms.positions[a].tolist(), end.tolist(), _rgb(colours[a]), STICK])
        if s.any() and (b, *s) not in outside:
            outside.add((b, *s))
            shapes.append(["sphere", end.tolist(), _rgb(COLOURS["O"]), RADII["O"]])
    return shapes


def cell_edges(atoms):
    """NGL shapes: the twelve edges of the unit cell (NGL's own are orange, which here means Fe3+)."""
    corners = np.array(list(itertools.product((0, 1), repeat=3)))
    return [["cylinder", (a @ atoms.cell.array).tolist(), (b @ atoms.cell.array).tolist(), _rgb(EDGE), 0.04]
            for a, b in itertools.combinations(corners, 2) if np.abs(a - b).sum() == 1]


def arrows(atoms):
    """NGL shapes: one arrow per moment, 0.65 Å per µB, along c (collinear spins have no direction of their own)."""
    magmoms = label(atoms, "magmoms")
    shapes = []
    for i in np.flatnonzero(np.abs(magmoms) > 0.5) if magmoms is not None else []:
        half = np.array([0, 0, 0.325 * float(magmoms[i])])
        shapes.append(["arrow", (atoms.positions[i] - half).tolist(), (atoms.positions[i] + half).tolist(), _rgb(ARROW), 0.14,
                       f"{atoms.symbols[i]} {i}: {magmoms[i]:.2f} µB"])
    return shapes


def _rgb(colour):
    return [int(colour[k:k + 2], 16) / 255 for k in (1, 3, 5)]


def legend(atoms):
    """The legend of `structure_view` as HTML."""
    states = atoms.arrays.get("oxi_states")
    present = [s for s in COLOURS if s in atoms.get_chemical_symbols()]
    entries = []
    for s in sorted(present, key=lambda s: s not in REDOX):
        if s in REDOX and states is not None:
            entries += [(VALENCE[q], f"{s}<sup>{q}+</sup>") for q in sorted({int(q) for q in states[atoms.symbols == s]}) if q in VALENCE]
        else:
            entries.append((COLOURS[s], s))
    dot = "display:inline-block;width:12px;height:12px;border-radius:6px;border:1px solid #666;margin-right:5px;vertical-align:-1px"
    dots = "".join(f'<span style="white-space:nowrap;margin-right:14px"><span style="{dot};background:{c}"></span>{t}</span>'
                   for c, t in entries)
    arrow = "" if label(atoms, "magmoms") is None else '<span style="white-space:nowrap">&#8593; magnetic moment</span>'
    return f'<div style="font:13px Arial,sans-serif;line-height:20px">{dots}{arrow}</div>'


def show(atoms, width="100%", height="380px"):
    """The cell in 3D with its legend.

    Parameters
    ----------
    atoms : ase.Atoms
        As for `structure_view`.

    Returns
    -------
    ipywidgets.VBox
        The nglview widget and the legend.
    """
    import ipywidgets as w
    return w.VBox([structure_view(atoms, width, height), w.HTML(legend(atoms))])
