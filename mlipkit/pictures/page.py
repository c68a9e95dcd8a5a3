"""What of the apps lives in the browser: their style, light and dark; a line that says when the
kernel computes, and one when it has ended; what a keyboard and a screen reader need: names of
controls and plots, what is pressed, and words that are read out as they change; and more time for
slow computers.
"""

import anywidget
import traitlets as t

SCRIPT = """
function render({ model, el }) {
  el.className = "mlipkit-status"; el.setAttribute("role", "status");
  const kernel = model.widget_manager && model.widget_manager.kernel;
  let gone = false, root = null, seen = null, sized = null, again = null, later = 0, soon = 0;
  const set = (element, name, value) => {
    if (element && element.getAttribute(name) !== value) element.setAttribute(name, value) };
  const each = (selector, what) => root.querySelectorAll(selector).forEach(what);
  const said = element => (element && (element.textContent || element.title) || "").trim();
  const press = () => each("button.widget-toggle-button",
    b => set(b, "aria-pressed", String(b.classList.contains("mod-active"))));
  const name = () => {
    each(".widget-toggle-buttons", group => { set(group, "role", "group");
      set(group, "aria-label", said(group.querySelector(".widget-label")) || group.title) });
    each(".widget-inline-hbox .noUi-handle", handle => {
      const box = handle.closest(".widget-inline-hbox");
      const label = said(box.querySelector(".widget-label"));
      const readout = box.querySelector(".widget-readout");
      set(handle, "aria-label", label); set(handle, "aria-valuetext", said(readout));
      if (readout && readout.isContentEditable) {
        set(readout, "role", "textbox"); set(readout, "aria-label", label) } });
    each(".widget-play button", (b, k) => set(b, "aria-label", b.title || said(b)
      || (b.querySelector(".fa-stop") ? "stop" : "play or pause")));
    each(".mlipkit-live", words => set(words, "aria-live", "polite"));
    each(".js-plotly-plot", plot => { const drawn = plot.layout; if (!drawn) return;
      const title = axis => drawn[axis] && drawn[axis].title && drawn[axis].title.text;
      const axes = Object.keys(drawn).filter(key => /^yaxis/.test(key)).map(title);
      const names = [...new Set(axes.filter(Boolean))].join("; ").replace(/<[^>]*>/g, " ");
      set(plot, "role", "figure"); set(plot, "aria-label", "plot: " + names) }) };
  const focus = () => { const row = root.querySelector(`tr[data-atom="${again}"]`);
    if (row && document.activeElement === document.body) row.focus() };
  // names after all is drawn: a plot that is drawn anew is a thousand changes
  const changed = () => { press(); if (again !== null) focus();
    clearTimeout(soon); soon = setTimeout(name, 200) };
  const fit = () => { clearTimeout(later);
    later = setTimeout(() => window.dispatchEvent(new Event("resize")), 150) };
  const atom = event => event.target.closest && event.target.closest("tr[data-atom]");
  const choose = row => {
    model.set("clicked", [Number(row.dataset.atom), model.get("clicked")[1] + 1]);
    model.save_changes() };
  // outside JupyterLab nobody tells a page that its kernel has ended: it asks when it is used
  let asked = 0;
  const ask = async () => {
    const server = kernel && kernel.serverSettings && kernel.serverSettings.baseUrl;
    if (!server || Date.now() < asked + 5000) return;
    asked = Date.now();
    const answer = await fetch(`${server}api/kernels/${kernel.id}`).catch(() => null);
    if (!answer || answer.status !== 404) return;
    const told = await answer.json().catch(() => null); // Jupyter's own, and no other server's
    if (told && /kernel/i.test(told.message || told.reason || "")) dead() };
  const click = event => { const row = atom(event); again = null; if (row) choose(row); ask() };
  const key = event => { ask(); const row = atom(event);
    if (row && (event.key === "Enter" || event.key === " ")) {
      event.preventDefault(); event.stopPropagation(); again = row.dataset.atom; choose(row) } };
  const start = () => {
    root = el.closest(".mlipkit-app");
    if (!root) return void setTimeout(start, 100);
    press(); name(); if (gone) dead();
    seen = new MutationObserver(changed);
    seen.observe(root, { subtree: true, childList: true, attributeFilter: ["class"] });
    sized = new ResizeObserver(fit);
    const plots = root.querySelector(".mlipkit-pane-plots");
    if (plots) sized.observe(plots);
    root.addEventListener("click", click);
    root.addEventListener("keydown", key, true) };
  start();
  const dead = () => { gone = true; el.innerText = "";
    if (root && !root.querySelector(".mlipkit-dead")) {
    const note = document.createElement("div");
    note.className = "mlipkit-dead"; note.setAttribute("role", "alert");
    note.innerText = "The kernel of this page was restarted or has ended: run the cell, or load "
      + "the page, again.";
    root.prepend(note) } };
  const GONE = ["dead", "terminating", "restarting", "autorestarting"];
  let wait = 0;
  const status = () => { clearTimeout(wait);
    if (GONE.includes(kernel.status)) dead();
    if (gone) return;
    if (kernel.status !== "busy") el.innerText = "";
    else wait = setTimeout(() => { el.innerText = "computing ..." }, 400) };
  const hears = kernel && kernel.statusChanged;
  if (hears) { hears.connect(status); status() }
  model.on("comm_live_update", dead); model.on("comm:close", dead);
  return () => { model.off("comm_live_update", dead); model.off("comm:close", dead);
    clearTimeout(wait); if (hears) hears.disconnect(status);
    clearTimeout(soon); if (seen) seen.disconnect(); if (sized) sized.disconnect();
    if (root) { root.removeEventListener("click", click);
      root.removeEventListener("keydown", key, true) } };
}
export default { render };
"""
STYLE = """
.mlipkit-app {
  --ink: var(--jp-ui-font-color1, #212121); --paper: var(--jp-layout-color0, white);
  --right: var(--jp-success-color0, #1b5e20); --wrong: var(--jp-error-color0, #b71c1c); }
[data-jp-theme-light="false"] .mlipkit-app { --right: #6fcf97; --wrong: #ff8a80; }
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
.mlipkit-app .widget-html-content > div { color: var(--ink); }
.mlipkit-right { color: var(--right); } .mlipkit-wrong { color: var(--wrong); }
.mlipkit-ions { margin: 6px 0; border-collapse: collapse; }
.mlipkit-ions td, .mlipkit-ions th { padding: 2px 6px; text-align: center; white-space: nowrap; }
.mlipkit-ions tr[data-atom] { cursor: pointer; }
.mlipkit-ions tr[data-atom]:hover, .mlipkit-ions tr:focus { background: rgba(128,128,128,.18); }
.mlipkit-ions tr.mlipkit-chosen { background: rgba(214,39,139,.22); }
.mlipkit-app .js-plotly-plot text:not(.hovertext text):not(.nums):not(.name) {
  fill: var(--ink) !important; }
.mlipkit-app .js-plotly-plot .hoverlayer text { fill: revert-layer; }
.mlipkit-app .js-plotly-plot .xlines-above, .mlipkit-app .js-plotly-plot .ylines-above,
.mlipkit-app .js-plotly-plot .ticks path { stroke: var(--ink) !important; }
.mlipkit-app .js-plotly-plot .shapelayer path[style*="rgb(0, 0, 0)"] {
  stroke: var(--ink) !important; }
.mlipkit-app .js-plotly-plot .updatemenu-item-rect[style*="rgb(244, 250, 255)"] {
  fill: rgba(128,128,128,.3) !important; }
.mlipkit-3d canvas { background-color: var(--paper, white) !important; }
.mlipkit-crystal:fullscreen { background: var(--paper, white); padding-bottom: 12px; }
.mlipkit-crystal:fullscreen > * { flex: none; margin: 0 12px; }
.mlipkit-crystal:fullscreen > .mlipkit-3d { flex: 1 1 0; min-height: 0; height: auto !important;
  width: 100% !important; margin: 0; }
.mlipkit-crystal:fullscreen .mlipkit-legend, .mlipkit-crystal:fullscreen .mlipkit-text {
  font-size: 20px; line-height: 30px; }
.mlipkit-legend { font: 13px/20px Arial, sans-serif; color: var(--ink); }
.mlipkit-ion { white-space: nowrap; margin-right: 14px; }
.mlipkit-dot { display: inline-block; width: 12px; height: 12px; border-radius: 6px;
  border: 1px solid #666; margin-right: 5px; vertical-align: -1px; }
.mlipkit-arrow { display: inline-block; width: 4px; height: 14px; margin-right: 5px;
  vertical-align: -2px; }
.mlipkit-bar { display: flex; flex-flow: row wrap; align-items: center; gap: 4px;
  margin-right: 12px; color: var(--ink); font: 13px Arial, sans-serif; }
.mlipkit-bar button { width: auto; margin: 2px 0; }
.mlipkit-app :focus-visible { outline: 2px solid var(--jp-brand-color1, #1976d2) !important;
  outline-offset: 1px; }
.mlipkit-app caption { text-align: left; padding: 2px 0; }
.mlipkit-large .mlipkit-text, .mlipkit-large .widget-html-content > div {
  font-size: 18px !important; }
.mlipkit-large .widget-button, .mlipkit-large .widget-toggle-button, .mlipkit-large .widget-label,
.mlipkit-large .widget-checkbox label, .mlipkit-large select {
  font-size: 17px !important; height: 36px; }
.mlipkit-app { position: relative; }
.mlipkit-status { position: absolute; top: 2px; right: 4px; z-index: 5; pointer-events: none;
  padding: 0 8px; border-radius: 9px; background: #1a4f8b; color: white;
  font: 13px/20px Arial, sans-serif; }
.mlipkit-status:empty { display: none; }
.mlipkit-file { display: flex; flex-flow: row wrap; align-items: center; gap: 8px; margin: 2px;
  padding: 4px; border: 1px dashed #888; border-radius: 4px; color: var(--ink);
  font: 13px Arial, sans-serif; }
.mlipkit-file button { width: auto; margin: 0; }
.mlipkit-over { border-color: var(--jp-brand-color1, #1976d2); border-style: solid; }
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


# anywidget (0.9.14 to 0.11 at least) lets nothing from the kernel reach a widget whose module is
# not there after two seconds, for ever: on a slow computer a page that draws a crystal or a large
# figure just then is busy for longer
PATIENCE = """
const given = AbortSignal.timeout;
const patient = time => given.call(
  AbortSignal, time === 2000 && new Error().stack.includes("anywidget") ? 600000 : time);
patient.patient = true;
if (!given.patient) AbortSignal.timeout = patient;
export default {};
"""


class Patience(anywidget.AnyWidget):
    """Gives the widgets of a page that come after it ten minutes to load instead of two seconds."""

    _esm = PATIENCE


# before there is an app: what it is made of is loaded and worked out meanwhile
Patience()
