"""A crystal with its legend, and what a person does with it: look along an axis, label the atoms,
fill the screen, keep a picture.
"""

import anywidget
import ipywidgets as w
import traitlets as t

from mlipkit.frames.taken import as_frame
from mlipkit.pictures.figures import VALENCE
from mlipkit.pictures.page import Page
from mlipkit.pictures.shapes import ANIONS, ARROW, METAL, colour_of, key_moment, metals
from mlipkit.pictures.structure_view import draw, ions, look, structure_view, tooltips

# In the browser: it lets a page fill the screen only in answer to a click, not to a kernel; and so
# the buttons are alive in a page without one.
SCRIPT = """
const BUTTONS = { a: "look along a", b: "look along b", c: "look along c",
  reset: "the view of the beginning", picture: "download a picture",
  "full screen": "over the whole screen; escape ends it" };
function render({ model, el }) {
  const crystal = () => el.closest(".mlipkit-crystal");
  const stage = () => crystal().querySelector("[role=img]").mlipkitStage;
  let before = null;
  const fit = () => {
    const on = crystal() && document.fullscreenElement === crystal();
    if (!on && !before) return;
    const box = stage().viewer.container;
    if (!before) before = [box.style.width, box.style.height];
    [box.style.width, box.style.height] = on ? ["100%", "100%"] : before;
    if (!on) before = null;
    // it keeps the size of an atom in pixels; the crystal is to grow with its box
    stage().handleResize(); stage().viewer.updateZoom(); stage().viewer.requestRender() };
  const fill = () => document.fullscreenElement ? document.exitFullscreen()
    : crystal().requestFullscreen();
  const keep = async () => {
    const image = await stage().makeImage({ factor: 2, antialias: true });
    const link = document.createElement("a");
    link.href = URL.createObjectURL(image); link.download = model.get("name") + ".png";
    link.click(); setTimeout(() => URL.revokeObjectURL(link.href), 1000) };
  el.classList.add("mlipkit-bar"); el.setAttribute("role", "toolbar");
  el.setAttribute("aria-label", "view of the crystal"); el.append("look along ");
  for (const [name, says] of Object.entries(BUTTONS)) {
    const button = document.createElement("button");
    button.type = "button"; button.className = "jupyter-button widget-button";
    button.innerText = name; button.title = says;
    if (says.startsWith("look")) button.setAttribute("aria-label", says);
    button.onclick = { picture: keep, "full screen": fill }[name]
      || (() => stage().mlipkitLook(stage().mlipkitLooks[name]));
    el.append(button) }
  document.addEventListener("fullscreenchange", fit); window.addEventListener("resize", fit);
  return () => { document.removeEventListener("fullscreenchange", fit);
    window.removeEventListener("resize", fit) };
}
export default { render };
"""


class Bar(anywidget.AnyWidget):
    """Buttons that turn the crystal in the same `Crystal`, fill the screen with it, and download a
    picture of it under a name.
    """

    _esm = SCRIPT
    name = t.Unicode("crystal").tag(sync=True)


class Crystal(w.VBox):
    """A crystal in 3D, its legend and its buttons.

    Parameters
    ----------
    atoms, width, height, octahedra
        As for `structure_view`.

    Attributes
    ----------
    view : CrystalView
    legend : ipywidgets.HTML
    labels, octahedra : ipywidgets.Checkbox
    bar : Bar
    """

    def __init__(self, atoms, width="100%", height="380px", octahedra=False):
        self.view = structure_view(atoms, width, height, octahedra)
        self.view.add_class("mlipkit-3d")
        self.legend, self.bar = w.HTML(), Bar()
        self.labels, self.octahedra = (
            w.Checkbox(description=says, indent=False, layout={"width": "auto"})
            for says in ("labels", "octahedra")
        )
        self.octahedra.value = octahedra
        if not set(atoms.symbols) & set(ANIONS):
            self.octahedra.layout.display = "none"
        self.row = w.HBox(
            [self.bar, w.HBox([self.labels, self.octahedra])],
            layout={"flex_flow": "row wrap", "align_items": "center"},
        )
        self.show(atoms)
        for box in (self.labels, self.octahedra):
            box.observe(lambda change: self._draw(), "value")
        super().__init__([self.view, self.legend, self.row], layout={"width": width})
        self.add_class("mlipkit-crystal")

    def show(self, atoms, texts=None, scale=None, note="", **drawn):
        """Show another crystal; the camera stays as the person left it.

        Parameters
        ----------
        atoms
        texts : list of str, optional
            The labels, drawn on request; by default state and moment of the metals.
        scale
            As for `legend`.
        note : str
            HTML under the legend.
        **drawn
            As for `draw`: ``marked=``, ``chosen=``, ``colours=``, ``says=``.
        """
        self.shown = atoms, texts, drawn
        self.legend.value = legend(atoms, scale) + note
        self._draw()

    def _draw(self):
        atoms, texts, drawn = self.shown
        if not self.labels.value:
            texts = None
        else:
            # a font without µ
            texts = [text.replace(" µB", "") for text in texts or _texts(atoms)]
        draw(self.view, atoms, self.octahedra.value, texts=texts, **drawn)

    def look(self):
        """The view of the beginning again."""
        look(self.view)


def _texts(atoms):
    shown = metals(atoms)
    return [
        text if symbol in shown else ""
        for text, symbol in zip(tooltips(atoms), atoms.get_chemical_symbols())
    ]


def legend(atoms, scale=None):
    """The legend of a crystal as HTML: colours, how many ions of each state there are, and how long
    a moment is drawn.

    Parameters
    ----------
    atoms : ase.Atoms
    scale : tuple of (str, float, float, str), optional
        Where metals are coloured by a value: what it is, its least and its largest, and the name of
        plotly's colour scale.
    """
    entries, shown = [], metals(atoms)
    for symbol, state, n in ions(atoms):
        if symbol in shown and scale is not None:
            continue
        colour = colour_of(symbol) if state is None else VALENCE.get(state, METAL)
        ion = symbol if state is None else f"{symbol}<sup>{state}+</sup>"
        ion = f"{symbol}, unclear" if state == 0 else ion
        entries.append(
            f'<span class="mlipkit-ion"><span class="mlipkit-dot" style="background:{colour}">'
            f"</span>{ion}: {n}</span>"
        )
    if moment := key_moment(atoms):
        entries.append(
            f'<span class="mlipkit-ion"><span class="mlipkit-arrow" style="background:{ARROW}">'
            f"</span>magnetic moment; the arrow beside the cell is {moment} µB</span>"
        )
    bar = _bar(*scale) if scale else ""
    return f'<div class="mlipkit-legend">{bar}{"".join(entries)}</div>'


def _bar(what, low, high, scale):
    """A colour scale as HTML."""
    from plotly.colors import sample_colorscale

    colours = ",".join(sample_colorscale(scale, [0, 0.25, 0.5, 0.75, 1]))
    bar = f"width:90px;height:10px;background:linear-gradient(90deg,{colours})"
    return (
        f'<span style="white-space:nowrap;margin-right:14px">{what} {low:.2f} '
        f'<span style="display:inline-block;{bar}"></span> {high:.2f} µB</span>'
    )


def show(atoms, width="100%", height="380px", octahedra=False):
    """The cell in 3D with its legend, and buttons to look along its axes, label the atoms, fill the
    screen and download a picture.

    Parameters
    ----------
    atoms, octahedra
        As for `structure_view`.

    Returns
    -------
    ipywidgets.VBox
        ``.crystal`` is the picture with its legend.
    """
    shown = w.VBox()
    shown.crystal = Crystal(as_frame(atoms, "show"), width, height, octahedra)
    shown.children = [Page(), shown.crystal]
    shown.add_class("mlipkit-app")
    return shown
