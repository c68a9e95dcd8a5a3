"""What of the explorer lives in the browser: its style, light and dark, and what a keyboard and a
screen reader need.
"""

import anywidget
import traitlets as t

SCRIPT = """
function render({ model, el }) {
  el.style.display = "none";
  let root = null, seen = null, sized = null, again = null, later = 0;
  const press = () => root.querySelectorAll("button.widget-toggle-button").forEach(b => {
    const on = String(b.classList.contains("mod-active"));
    if (b.getAttribute("aria-pressed") !== on) b.setAttribute("aria-pressed", on) });
  const focus = () => { const row = root.querySelector(`tr[data-atom="${again}"]`);
    if (row && document.activeElement === document.body) row.focus() };
  const changed = () => { press(); if (again !== null) focus() };
  const fit = () => { clearTimeout(later);
    later = setTimeout(() => window.dispatchEvent(new Event("resize")), 150) };
  const atom = event => event.target.closest && event.target.closest("tr[data-atom]");
  const choose = row => {
    model.set("clicked", [Number(row.dataset.atom), model.get("clicked")[1] + 1]);
    model.save_changes() };
  const click = event => { const row = atom(event); again = null; if (row) choose(row) };
  const key = event => { const row = atom(event);
    if (row && (event.key === "Enter" || event.key === " ")) {
      event.preventDefault(); event.stopPropagation(); again = row.dataset.atom; choose(row) } };
  const start = () => {
    root = el.closest(".mlipkit-explorer");
    if (!root) return void setTimeout(start, 100);
    press();
    seen = new MutationObserver(changed);
    seen.observe(root, { subtree: true, childList: true, attributeFilter: ["class"] });
    sized = new ResizeObserver(fit);
    const plots = root.querySelector(".mlipkit-pane-plots");
    if (plots) sized.observe(plots);
    root.addEventListener("click", click);
    root.addEventListener("keydown", key, true) };
  start();
  const dead = () => { if (root && !root.querySelector(".mlipkit-dead")) {
    const note = document.createElement("div");
    note.className = "mlipkit-dead"; note.setAttribute("role", "alert");
    note.innerText = "The kernel of this page was restarted or has ended: run the cell again.";
    root.prepend(note) } };
  model.on("comm_live_update", dead); model.on("comm:close", dead);
  return () => { model.off("comm_live_update", dead); model.off("comm:close", dead);
    if (seen) seen.disconnect(); if (sized) sized.disconnect();
    if (root) { root.removeEventListener("click", click);
      root.removeEventListener("keydown", key, true) } };
}
export default { render };
"""
STYLE = """
.mlipkit-explorer {
  --ink: var(--jp-ui-font-color1, #212121); --paper: var(--jp-layout-color0, white);
  --right: var(--jp-success-color0, #1b5e20); --wrong: var(--jp-error-color0, #b71c1c); }
[data-jp-theme-light="false"] .mlipkit-explorer { --right: #6fcf97; --wrong: #ff8a80; }
.mlipkit-explorer, .mlipkit-explorer > .widget-box { overflow: visible; }
.mlipkit-explorer { container-type: inline-size; width: 100%; }
.mlipkit-panes { display: grid !important; width: 100%; gap: 4px 16px;
  grid-template: "plots plots" auto "crystal text" auto / minmax(0, 1fr) minmax(0, 1fr); }
@container (min-width: 1250px) { .mlipkit-panes {
  grid-template: "plots crystal" auto "text crystal" 1fr / minmax(0, 3fr) minmax(0, 2fr); } }
@container (max-width: 720px) { .mlipkit-panes {
  grid-template: "plots" auto "crystal" auto "text" auto / minmax(0, 1fr); } }
.mlipkit-pane-plots { grid-area: plots; min-width: 0; }
.mlipkit-pane-crystal { grid-area: crystal; min-width: 0; }
.mlipkit-pane-text { grid-area: text; min-width: 0; }
.mlipkit-explorer .js-plotly-plot { width: 100%; }
.mlipkit-3d div[style*="opacity: 0.7"]:not(.jupyter-widgets) { display: none !important; }
.mlipkit-3d > div > button { display: none !important; }
.mlipkit-text { font: 13px/1.5 Arial, sans-serif; color: var(--ink); }
.mlipkit-explorer .widget-html-content > div { color: var(--ink); }
.mlipkit-right { color: var(--right); } .mlipkit-wrong { color: var(--wrong); }
.mlipkit-ions { margin: 6px 0; border-collapse: collapse; }
.mlipkit-ions td, .mlipkit-ions th { padding: 2px 10px; text-align: center; white-space: nowrap; }
.mlipkit-ions tr[data-atom] { cursor: pointer; }
.mlipkit-ions tr[data-atom]:hover, .mlipkit-ions tr:focus { background: rgba(128,128,128,.18); }
.mlipkit-ions tr.mlipkit-chosen { background: rgba(214,39,139,.22); }
.mlipkit-explorer .js-plotly-plot text:not(.hovertext text):not(.nums):not(.name) {
  fill: var(--ink) !important; }
.mlipkit-explorer .js-plotly-plot .hoverlayer text { fill: revert-layer; }
.mlipkit-explorer .js-plotly-plot .xlines-above, .mlipkit-explorer .js-plotly-plot .ylines-above,
.mlipkit-explorer .js-plotly-plot .ticks path { stroke: var(--ink) !important; }
.mlipkit-explorer .js-plotly-plot .shapelayer path[style*="rgb(0, 0, 0)"] {
  stroke: var(--ink) !important; }
.mlipkit-explorer .nglview-container canvas, .mlipkit-explorer .mlipkit-3d canvas {
  background-color: var(--paper) !important; }
.mlipkit-large .mlipkit-text, .mlipkit-large .widget-html-content > div {
  font-size: 18px !important; }
.mlipkit-large .widget-button, .mlipkit-large .widget-toggle-button, .mlipkit-large .widget-label,
.mlipkit-large .widget-checkbox label, .mlipkit-large select {
  font-size: 17px !important; height: 36px; }
.mlipkit-busy { opacity: .55; cursor: progress; }
.mlipkit-dead {
  background: #b71c1c; color: white; padding: 6px 12px; font: 14px Arial, sans-serif; }
"""


class Page(anywidget.AnyWidget):
    """Draws nothing: it watches the page around it.

    Attributes
    ----------
    clicked : list of int
        The atom of the row of a table that was clicked or chosen by keyboard, and a count of
        clicks.
    """

    _esm, _css = SCRIPT, STYLE
    clicked = t.List([-1, 0]).tag(sync=True)
