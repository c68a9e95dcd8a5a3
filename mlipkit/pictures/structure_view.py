"""A crystal in 3D: Fe coloured by valence, moments as arrows, unit cell, legend."""

import contextlib
import itertools
import warnings

import numpy as np

from mlipkit.charges.references import REDOX
from mlipkit.frames.labels import label
from mlipkit.frames.taken import as_frame
from mlipkit.pictures.plots import VALENCE

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # nglview 3 imports the deprecated pkg_resources
    import nglview as nv

COLOURS = {
    "Na": "#F0E442",
    "Li": "#F0E442",
    "P": "#B8A9C9",
    "S": "#D9C9A0",
    "Si": "#A9B8C9",
    "O": "#E3E3E3",
    **dict.fromkeys(REDOX, "#777777"),
}
# Å; drawn, not physical
RADII = {
    "Na": 0.70,
    "Li": 0.60,
    "P": 0.36,
    "S": 0.36,
    "Si": 0.36,
    "O": 0.28,
    **dict.fromkeys(REDOX, 0.62),
}
# Å
BONDS = {**{(m, "O"): 2.6 for m in REDOX}, ("P", "O"): 1.8, ("S", "O"): 1.8, ("Si", "O"): 1.9}
STICK = 0.09  # Å
ARROW, EDGE, MARK = "#111111", "#777777", "#CC0000"
MARK_RADIUS = 1.15  # Å
SAME_ARROW = 0.05  # µB, 0.03 Å in the picture: arrows this close are not drawn anew
# in the order in which a picture is made
PARTS = ("scene", "atoms", "bonds and cell", "octahedra", "marks", "moments", "camera")
# octahedra and marks are translucent, and a click goes through them to the Fe inside (NGL's
# disablePicking comes too late for a shape)
GLASS = """this.stage.getComponentsByName('%s').list.forEach(c => c.reprList.forEach(r => {
    r.setParameters({opacity: %s, side: 'double', depthWrite: false});
    r.repr.bufferList.forEach(({pickingGroup: g}) => g.parent && g.parent.remove(g)) }))"""


def atom_colours(atoms):
    """One '#rrggbb' per atom: redox metals by `oxi_states` (grey where unknown), the rest by
    element.
    """
    states = atoms.arrays.get("oxi_states", np.zeros(len(atoms), int))
    return [
        VALENCE.get(int(q), COLOURS[s]) if s in REDOX else COLOURS.get(s, "#9E9E9E")
        for s, q in zip(atoms.get_chemical_symbols(), states)
    ]


class CrystalView(nv.NGLWidget):
    """An nglview widget that remembers what the present picture is made of, and nothing else.

    NGLWidget keeps every message it ever sent, syncs the whole list with each new one, and shows
    the first picture again when the page is opened anew. Here a part of the picture that is drawn
    again replaces its older self.
    """

    def __init__(self, **kwargs):
        self.parts, self.part = {name: [] for name in PARTS}, "scene"
        self.component = {}  # part -> component id
        super().__init__(gui=False, **kwargs)

    def _remote_call(
        self, method_name, target="Widget", args=None, kwargs=None, keep=True, **others
    ):
        message = self._get_remote_call_msg(
            method_name, target=target, args=args, kwargs=kwargs, **others
        )
        if keep:
            self.parts[self.part].append(message)
        if self.loaded:
            self._remote_call_thread.q.append(_sender(message))

    def remember(self):
        """Make the present picture the one that a page opened from now on shows, or an exported
        one.
        """
        archive, count = [], 0
        for part, messages in self.parts.items():
            for message in messages:
                count += message["methodName"] in ("loadFile", "addShape")
                # it counts what is there now; a new page begins with nothing
                if "component_index" in message:
                    message = {**message, "component_index": 0 if part == "camera" else count - 1}
                archive.append(message)
        self._ngl_msg_archive, self._ngl_displayed_callbacks_before_loaded = (
            archive,
            [_sender(message) for message in archive],
        )

    def index(self, part):
        return self._ngl_component_ids.index(self.component[part])

    def load(self, atoms):
        """Draw the atoms as a new component."""
        self.part, self.parts["atoms"] = "atoms", []
        self.component["atoms"] = self.add_component(
            nv.ASEStructure(atoms), default_representation=False
        ).id

    def paint(self, atoms):
        """Spheres of the colours and sizes of `atom_colours` and RADII."""
        before = [m for m in self.parts["atoms"] if m["methodName"] == "addRepresentation"]
        self.part, self.parts["atoms"] = (
            "atoms",
            [m for m in self.parts["atoms"] if m not in before],
        )
        groups = {}
        for i, group in enumerate(zip(atoms.get_chemical_symbols(), atom_colours(atoms))):
            groups.setdefault(group, []).append(i)
        for (element, colour), members in groups.items():
            self.add_representation(
                "spacefill",
                selection="@" + ",".join(map(str, members)),
                color=colour,
                radius_type="size",
                radius_size=RADII.get(element, 0.5),
                component=self.index("atoms"),
            )
        # after the new ones: WebGL keeps a shader as long as something needs it
        for _ in before:
            self._remote_call("removeRepresentation", args=[self.index("atoms"), 0], keep=False)

    def move(self, atoms):
        """Put the atoms elsewhere in place."""
        load = next(m for m in self.parts["atoms"] if m["methodName"] == "loadFile")
        load["args"] = [{**load["args"][0], "data": nv.ASEStructure(atoms).get_structure_string()}]
        if self.loaded:  # in the queue, so that atoms and bonds move together
            index, positions = self.index("atoms"), atoms.positions.copy()
            send = lambda view: view.set_coordinates({index: positions})
            send._method_name = "set_coordinates"
            self._remote_call_thread.q.append(send)

    def shapes(self, part, shapes, then=None):
        """Draw a part anew as NGL shapes; returns the id of the component that it replaces, if
        there was one.
        """
        self.part, self.parts[part], before = part, [], self.component.pop(part, None)
        if shapes:
            self.component[part] = self._add_shape(shapes, name=part).id
            if then:
                self._execute_js_code(then)
        return before

    def remove_component(self, c):
        self._clear_component_auto_completion()
        index = self._ngl_component_ids.index(c)
        del self._ngl_component_ids[index], self._ngl_component_names[index]
        self._remote_call("removeComponent", target="Stage", args=[index], keep=False)
        self._update_component_auto_completion()


def _sender(message):
    def send(view):
        view.send(message)

    send._method_name, send._ngl_msg = message["methodName"], message
    return send


def structure_view(atoms, width="100%", height="380px", octahedra=False):
    """An nglview widget of the cell.

    Parameters
    ----------
    atoms : ase.Atoms
        Colours come from ``arrays["oxi_states"]``, arrows from the moments stored with the frame,
        if there are any.
    width, height : str
        CSS sizes.
    octahedra : bool
        Draw the polyhedra of O around the redox-active metals, translucent, in the colour of their
        centre.

    Returns
    -------
    CrystalView
        An nglview.NGLWidget; ``view.picked["atom1"]["index"]`` is the index of the clicked atom in
        ``atoms``.
    """
    atoms, view = as_frame(atoms, "structure_view"), CrystalView()
    view.layout.width, view.layout.height = width, height
    view.camera = "orthographic"
    view.background = "white"
    # a click picks; it must not re-centre
    view._execute_js_code("this.stage.mouseControls.remove('clickPick-left')")
    draw(view, atoms, octahedra)
    view.part = "camera"
    # a page opened again begins with the camera as it was left
    view.control.orient(np.eye(4).ravel().tolist())
    view.center()
    view.control.spin([1, 0, 0], -1.30)  # c, the axis of the arrows, points up
    view.control.spin([0, 0, 1], 0.35)
    view.control.zoom(0.45)
    view.remember()
    return view


def draw(view, atoms, octahedra=False, marked=()):
    """Show another crystal in an existing view; the camera stays as the person left it.

    `marked` atoms (indices) get a red halo.
    The same atoms elsewhere are moved in place. When only the moments differ from what is drawn,
    only the arrows are replaced, and nothing when no eye could tell.
    """
    before, now = (
        getattr(view, "drawn", None),
        (atoms.copy(), label(atoms, "magmoms"), octahedra, tuple(marked)),
    )
    known = before is not None and np.array_equal(before[0].numbers, atoms.numbers)
    moved = not known or not (
        np.array_equal(before[0].positions, atoms.positions)
        and np.array_equal(before[0].cell, atoms.cell)
    )
    painted = not known or atom_colours(before[0]) != atom_colours(atoms)
    turned = (
        not known
        or before[1] is None
        or now[1] is None
        or np.abs(before[1] - now[1]).max() >= SAME_ARROW
    )
    halos = not known or before[3] != now[3] or (moved and now[3])
    if not (moved or painted or turned or halos or before[2] != octahedra):
        return
    view.drawn, outdated = now, []
    if not known:
        outdated.append(view.component.get("atoms"))
        view.load(atoms)
    elif moved:
        view.move(atoms)
    if painted:
        view.paint(atoms)
    if moved or painted:
        outdated.append(view.shapes("bonds and cell", bonds(atoms) + cell_edges(atoms)))
    if moved or painted or before[2] != octahedra:
        outdated.append(
            view.shapes(
                "octahedra", polyhedra(atoms) if octahedra else [], then=GLASS % ("octahedra", 0.35)
            )
        )
    if halos:
        outdated.append(view.shapes("marks", marks(atoms, now[3]), then=GLASS % ("marks", 0.4)))
    if moved or turned:
        outdated.append(view.shapes("moments", arrows(atoms)))
    # last, so that WebGL keeps its compiled shaders: 140 ms in software
    for old in filter(None, outdated):
        view.remove_component(old)
    view.remember()


def polyhedra(atoms):
    """NGL shapes: for each redox-active metal the hull of the O that it is bound to, in its own
    colour.
    """
    from ase.neighborlist import neighbor_list
    from scipy.spatial import ConvexHull, QhullError

    i, vectors = neighbor_list(
        "iD", atoms, {pair: cut for pair, cut in BONDS.items() if pair[0] in REDOX}
    )
    colours, shapes = atom_colours(atoms), []
    for centre in np.flatnonzero(np.isin(atoms.get_chemical_symbols(), REDOX)):
        corners = atoms.positions[centre] + vectors[i == centre]
        # fewer than four O, or all of them in one plane: there is no body to draw
        with contextlib.suppress(QhullError):
            faces = corners[ConvexHull(corners).simplices] if len(corners) > 3 else []
            points = np.reshape(faces, (-1, 3))
            shapes += [
                ["mesh", points.ravel().tolist(), _rgb(colours[centre]) * len(points)]
            ] * bool(len(points))
    return shapes


def marks(atoms, marked):
    """NGL shapes: a halo around each of some atoms."""
    return [["sphere", atoms.positions[i].tolist(), _rgb(MARK), MARK_RADIUS] for i in marked]


def bonds(atoms):
    """NGL shapes: a stick from each cation to its O, and the O that lie in the next cell."""
    from ase.neighborlist import neighbor_list

    i, j, vectors, offsets = neighbor_list("ijDS", atoms, BONDS)
    colours, shapes, outside = atom_colours(atoms), [], set()
    for a, b, v, s in zip(i, j, vectors, offsets):
        if atoms.symbols[a] == "O":
            continue
        end = atoms.positions[a] + v
        shapes.append(
            ["cylinder", atoms.positions[a].tolist(), end.tolist(), _rgb(colours[a]), STICK]
        )
        if s.any() and (b, *s) not in outside:
            outside.add((b, *s))
            shapes.append(["sphere", end.tolist(), _rgb(COLOURS["O"]), RADII["O"]])
    return shapes


def cell_edges(atoms):
    """NGL shapes: the edges of the unit cell (NGL's own are orange, which here means Fe3+)."""
    corners = np.array(list(itertools.product((0, 1), repeat=3)))
    return [
        [
            "cylinder",
            (a @ atoms.cell.array).tolist(),
            (b @ atoms.cell.array).tolist(),
            _rgb(EDGE),
            0.04,
        ]
        for a, b in itertools.combinations(corners, 2)
        if np.abs(a - b).sum() == 1
    ]


def arrows(atoms):
    """NGL shapes: one arrow per moment, 0.65 Å per µB, along c (collinear spins have no direction
    of their own).
    """
    magmoms = label(atoms, "magmoms")
    shapes = []
    for i in np.flatnonzero(np.abs(magmoms) > 0.5) if magmoms is not None else []:
        half = np.array([0, 0, 0.325 * float(magmoms[i])])
        shapes.append(
            [
                "arrow",
                (atoms.positions[i] - half).tolist(),
                (atoms.positions[i] + half).tolist(),
                _rgb(ARROW),
                0.14,
                f"{atoms.symbols[i]} {i}: {magmoms[i]:.2f} µB",
            ]
        )
    return shapes


def _rgb(colour):
    return [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]


def legend(atoms):
    """The legend of `structure_view` as HTML."""
    states = atoms.arrays.get("oxi_states")
    present = [s for s in COLOURS if s in atoms.get_chemical_symbols()]
    entries = []
    for s in sorted(present, key=lambda s: s not in REDOX):
        if s in REDOX and states is not None:
            found = sorted({int(q) for q in states[atoms.symbols == s]})
            entries += [(VALENCE[q], f"{s}<sup>{q}+</sup>") for q in found if q in VALENCE] + [
                (COLOURS[s], f"{s}, unclear")
            ] * (0 in found)
        else:
            entries.append((COLOURS[s], s))
    dot = (
        "display:inline-block;width:12px;height:12px;border-radius:6px;border:1px solid #666;"
        "margin-right:5px;vertical-align:-1px"
    )
    dots = "".join(
        '<span style="white-space:nowrap;margin-right:14px"><span '
        f'style="{dot};background:{c}"></span>{t}</span>'
        for c, t in entries
    )
    arrow = (
        ""
        if label(atoms, "magmoms") is None
        else '<span style="white-space:nowrap">&#8593; magnetic moment</span>'
    )
    return f'<div style="font:13px Arial,sans-serif;line-height:20px">{dots}{arrow}</div>'


def show(atoms, width="100%", height="380px", octahedra=False):
    """The cell in 3D with its legend.

    Parameters
    ----------
    atoms, octahedra
        As for `structure_view`.

    Returns
    -------
    ipywidgets.VBox
        The nglview widget and the legend.
    """
    import ipywidgets as w

    atoms = as_frame(atoms, "show")
    return w.VBox([structure_view(atoms, width, height, octahedra), w.HTML(legend(atoms))])
