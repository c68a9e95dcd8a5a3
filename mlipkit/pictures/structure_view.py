"""A crystal in 3D: metals coloured by oxidation state, moments as arrows, unit cell."""

import itertools
import json
import warnings

import numpy as np
from ase.geometry import cellpar_to_cell

from mlipkit.frames.labels import label
from mlipkit.frames.taken import as_frame
from mlipkit.pictures.shapes import (
    CHOSEN,
    CHOSEN_RADIUS,
    arrows,
    atom_colours,
    axes_of,
    bonds,
    cell_edges,
    key_arrow,
    labels,
    marks,
    metals,
    polyhedra,
    radius_of,
    spans,
)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # nglview 3 imports the deprecated pkg_resources
    import nglview as nv

# the first view, as rotation vectors: c, the axis of the arrows, points up
TILT, TURN = (-1.30, 0, 0), (0, 0, 0.35)
SAME_ARROW = 0.05  # µB, 0.03 Å in the picture: arrows this close are not drawn anew
# in the order in which a picture is made
PARTS = (
    *("scene", "atoms", "bonds and cell", "octahedra", "marks", "chosen", "labels", "moments"),
    *("labels said", "camera"),
)
CLEARNESS = {"octahedra": 0.35, "marks": 0.4, "chosen": 0.45}
# octahedra and marks are translucent, and a click goes through them to the Fe inside (NGL's
# disablePicking comes too late for a shape)
GLASS = """this.stage.getComponentsByName('%s').list.forEach(c => c.reprList.forEach(r => {
    r.setParameters({opacity: %s, side: 'double', depthWrite: false});
    r.repr.bufferList.forEach(({pickingGroup: g}) => g.parent && g.parent.remove(g)) }))"""
# labels stand on a light ground of their own, in front of all atoms; nglview's shapes know no
# parameters, so the part is drawn once more
CHIPS = """this.stage.getComponentsByName('labels').list.forEach(c => {
    Object.assign(c.shape.parameters, {showBackground: true, backgroundColor: 'white',
        backgroundMargin: 0.25, backgroundOpacity: 0.8, attachment: 'middle-center'});
    c.removeAllRepresentations(); c.addRepresentation('buffer');
    c.reprList.forEach(r => r.repr.bufferList.forEach(b => { b.material.depthTest = false })) })"""
# what is done to a part once it is drawn
THEN = {part: GLASS % (part, clearness) for part, clearness in CLEARNESS.items()}
THEN["labels"] = CHIPS

# A click picks and must not re-centre; fog would fade to white in a dark theme; the mouse over an
# atom tells its state, where NGL would say "[MOL]1:A.FE ()"; and arrow keys turn the crystal
# that has the focus, where JupyterLab would walk from cell to cell. What stands still NGL draws
# once more, eight times over: on a computer without a graphics card that holds up the next click.
# And a crystal that left the page ends: it would hear the mouse, draw what is sent and hold one of
# the browser's sixteen WebGL contexts for good.
SCENE = """const stage = this.stage, mouse = stage.mouseControls, box = stage.viewer.container;
box.mlipkitStage = stage;
this.once('remove', () => {
    this.on_msg = () => {};
    stage.dispose();
    stage.viewer.renderer.forceContextLoss() });
stage.viewer.renderer.domElement.setAttribute('aria-hidden', true);
Object.entries({tabindex: 0, role: 'img', 'data-lm-suppress-shortcuts': true}).forEach(
    ([name, value]) => box.setAttribute(name, value));
const axes = {ArrowLeft: [0, -1, 0], ArrowRight: [0, 1, 0], ArrowUp: [-1, 0, 0],
    ArrowDown: [1, 0, 0]};
const zooms = {'+': 0.1, '-': -0.1};
box.addEventListener('keydown', event => {
    const axis = axes[event.key], zoom = zooms[event.key], controls = stage.viewerControls;
    if (axis) controls.spin(new stage.viewer.rotationGroup.position.constructor(...axis), 0.15);
    if (zoom) controls.zoom(zoom);
    if (axis || zoom) event.preventDefault() });
stage.mlipkitLook = ([quaternion, centre, [width, height]]) => {
    const group = stage.viewer.rotationGroup, controls = stage.viewerControls;
    const shape = stage.viewer.width / stage.viewer.height || 1;
    controls.rotate(new group.quaternion.constructor(...quaternion));
    controls.center(new group.position.constructor(...centre));
    const half = Math.tan(stage.viewer.perspectiveCamera.fov * Math.PI / 360);
    controls.distance(-Math.max(height, width / shape) / 2 / half) };
mouse.remove('clickPick-left');
stage.setParameters({fogNear: 100, fogFar: 100});
const gl = stage.viewer.renderer.getContext(), named = gl.getExtension('WEBGL_debug_renderer_info');
const drawnBy = named ? gl.getParameter(named.UNMASKED_RENDERER_WEBGL) : '';
if (/swiftshader|llvmpipe|software|basic render/i.test(drawnBy))
    stage.setParameters({sampleLevel: -1});
const hover = mouse.actionList.find(a => a.type === 'hoverPick'), shown = hover && hover.callback;
if (hover) hover.callback = (stage, picked) => {
    shown(stage, picked);
    const atom = picked && picked.atom, arrow = picked && picked.type === 'arrow';
    const says = atom ? (stage.mlipkitSays || [])[atom.index] : arrow && picked.arrow.name;
    if (says) stage.tooltip.innerText = says; else stage.tooltip.style.display = 'none' }"""
EDGE = 3.0  # Å around what is looked at


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

    def paint(self, atoms, colours):
        """Spheres of some colours and the sizes of `radius_of`."""
        before = [m for m in self.parts["atoms"] if m["methodName"] == "addRepresentation"]
        self.part, self.parts["atoms"] = (
            "atoms",
            [m for m in self.parts["atoms"] if m not in before],
        )
        groups, shown = {}, metals(atoms)
        for i, group in enumerate(zip(atoms.get_chemical_symbols(), colours)):
            groups.setdefault(group, []).append(i)
        for (element, colour), members in groups.items():
            self.add_representation(
                "spacefill",
                selection="@" + ",".join(map(str, members)),
                color=colour,
                radius_type="size",
                radius_size=radius_of(element, shown),
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
        Draw the polyhedra of anions around the redox-active metals, translucent, in the colour of
        their centre.

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
    view._execute_js_code(SCENE)
    view.says = None
    draw(view, atoms, octahedra)
    view.part = "camera"
    look(view)
    view.remember()
    return view


def draw(view, atoms, octahedra=False, marked=(), chosen=None, colours=None, texts=None, says=None):
    """Show another crystal in an existing view; the camera stays as the person left it.

    The same atoms elsewhere are moved in place. When only the moments differ from what is drawn,
    only the arrows are replaced, and nothing when no eye could tell.

    Parameters
    ----------
    view : CrystalView
    atoms, octahedra
        As for `structure_view`.
    marked : sequence of int
        Atoms that get a red halo.
    chosen : int, optional
        The one that gets a halo of another colour.
    colours : list of str, optional
        '#rrggbb' per atom, by default those of `atom_colours`.
    texts : list of str, optional
        Drawn at the atoms.
    says : list of str, optional
        Shown when the mouse is over an atom, by default as of `tooltips`.
    """
    atoms = _upright(atoms)
    colours = atom_colours(atoms) if colours is None else list(colours)
    magmoms, texts = label(atoms, "magmoms"), tuple(texts or ())
    before = getattr(view, "drawn", None)
    now = {"atoms": atoms.copy(), "magmoms": magmoms, "octahedra": octahedra, "colours": colours}
    now |= {"marked": tuple(marked), "chosen": chosen, "texts": texts}
    known = before is not None and np.array_equal(before["atoms"].numbers, atoms.numbers)

    def differs(what):
        return not known or before[what] != now[what]

    moved = not known or not (
        np.array_equal(before["atoms"].positions, atoms.positions)
        and np.array_equal(before["atoms"].cell, atoms.cell)
    )
    turned = not known or _turned(before["magmoms"], magmoms)
    painted = differs("colours")
    parts = {
        "bonds and cell": moved or painted,
        "octahedra": moved or painted or differs("octahedra"),
        "marks": differs("marked") or (moved and bool(marked)),
        "chosen": differs("chosen") or (moved and chosen is not None),
        "labels": differs("texts") or (moved and bool(texts)),
        "moments": moved or turned,
    }
    said = _say(view, atoms, tooltips(atoms) if says is None else list(says))
    if not (any(parts.values()) or painted or said):
        return
    view.drawn, outdated = now, []
    if not known:
        outdated.append(view.component.get("atoms"))
        view.load(atoms)
    elif moved:
        view.move(atoms)
    if painted:
        view.paint(atoms, colours)
    shapes = {
        "bonds and cell": lambda: bonds(atoms, colours) + cell_edges(atoms),
        "octahedra": lambda: polyhedra(atoms, colours) if octahedra else [],
        "marks": lambda: marks(atoms, marked),
        "chosen": lambda: marks(atoms, [] if chosen is None else [chosen], CHOSEN, CHOSEN_RADIUS),
        "labels": lambda: labels(atoms, texts),
        "moments": lambda: arrows(atoms),
    }
    for part, make in shapes.items():
        if parts[part]:
            outdated.append(view.shapes(part, make(), then=THEN.get(part)))
    # last, so that WebGL keeps its compiled shaders: 140 ms in software
    for old in filter(None, outdated):
        view.remove_component(old)
    view.remember()


def _upright(atoms):
    """Turned as the file turns it by which nglview hands atoms to the browser: a along x, b in the
    xy plane. Bonds, arrows and halos would else stand beside their atoms.
    """
    if not spans(atoms.cell):
        return atoms
    cell = cellpar_to_cell(atoms.cell.cellpar())
    if np.allclose(cell, atoms.cell.array, atol=1e-6):
        return atoms
    turned = atoms.copy()
    turned.set_positions(atoms.cell.scaled_positions(atoms.positions) @ cell)
    turned.set_cell(cell)
    turned.calc = atoms.calc
    return turned


def _turned(before, now):
    """Whether an eye could tell the moments apart."""
    if before is None or now is None:
        return before is not now
    return np.abs(before - now).max() >= SAME_ARROW


def tooltips(atoms):
    """What is said of each atom when the mouse is over it: ``Fe 3: 2+, 3.67 µB``."""
    states, magmoms = atoms.arrays.get("oxi_states"), label(atoms, "magmoms")
    result, shown = [], metals(atoms)
    for i, symbol in enumerate(atoms.get_chemical_symbols()):
        known = [] if states is None or not states[i] else [f"{abs(states[i])}{_sign(states[i])}"]
        if magmoms is not None and symbol in shown:
            known.append(f"{magmoms[i]:.2f} µB")
        result.append(f"{symbol} {i}" + (f": {', '.join(known)}" if known else ""))
    return result


def _sign(state):
    return "+" if state > 0 else "-"


def _say(view, atoms, texts):
    """Send what the browser tells of a crystal, and whether it is something else than before: the
    tooltips, a name for who does not see it, and the views of its cell.
    """
    name = f"crystal in 3D, {counted(atoms)}; arrow keys turn it, plus and minus zoom"
    said = {"mlipkitSays": texts, "mlipkitLooks": _looks(atoms)}
    if view.says == (name, said):
        return False
    view.says, view.part, view.parts["labels said"] = (name, said), "labels said", []
    view._execute_js_code(
        f"Object.assign(this.stage, {json.dumps(said)}); "
        f"this.stage.viewer.container.setAttribute('aria-label', {json.dumps(name)})"
    )
    return True


def ions(atoms):
    """What a crystal is made of, and how many there are: ``[("Fe", 2, 4), ("O", None, 16)]``, those
    of `metals` by state, which is 0 where it is unclear and None where it is not told.
    """
    states, symbols = atoms.arrays.get("oxi_states"), atoms.get_chemical_symbols()
    shown = metals(atoms)
    told = [
        (s, int(states[i]) if states is not None and s in shown else None)
        for i, s in enumerate(symbols)
    ]
    order = sorted(
        dict.fromkeys(told),
        key=lambda ion: (ion[0] not in shown, symbols.index(ion[0]), ion[1] or 0),
    )
    return [(*ion, told.count(ion)) for ion in order]


def counted(atoms):
    """`ions` in words: ``Fe 2+: 2, Fe 3+: 2, Na: 2``."""
    return ", ".join(f"{_name(s, q)}: {n}" for s, q, n in ions(atoms))


def _name(symbol, state):
    if state is None:
        return symbol
    return f"{symbol} {state}+" if state else f"{symbol} unclear"


def look(view, name="reset"):
    """Turn the camera to one of the views of `_looks`; all of the crystal is then in sight."""
    view._execute_js_code(f"this.stage.mlipkitLook(this.stage.mlipkitLooks[{name!r}])")


def _looks(atoms):
    """The views along the axes of the cell, and the one of the beginning: rotation, the centre of
    what is seen, its width and its height.
    """
    corners = np.array(list(itertools.product((0, 1), repeat=3))) @ atoms.cell.array
    points = np.concatenate([atoms.positions, corners, *key_arrow(atoms)])
    result, axes = {}, axes_of(atoms.cell)
    for name, k in (("a", 0), ("b", 1), ("c", 2), ("reset", None)):
        turn = _turn(k, axes)
        seen = turn.apply(points)
        centre = turn.inv().apply((seen.min(axis=0) + seen.max(axis=0)) / 2)
        width, height, _ = np.ptp(seen, axis=0) + EDGE
        parts = turn.as_quat(), centre, (width, height)
        result[name] = [np.round(part, 4).tolist() for part in parts]
    return result


def _turn(k, axes):
    """The rotation into the view along the k-th of three directions, or (None) the first view."""
    from scipy.spatial.transform import Rotation

    if k is None:
        return Rotation.from_rotvec(TILT) * Rotation.from_rotvec(TURN)
    towards, up = axes[k], axes[1 if k == 2 else 2]
    up = up - (up @ towards) * towards
    up = up / np.linalg.norm(up)
    return Rotation.from_matrix(np.array([np.cross(up, towards), up, towards]))
