"""A figure of plotly that follows Python, also in a browser on a slow computer."""

from pathlib import Path

import ipywidgets as w
import plotly
import plotly.graph_objects as go
import traitlets as t

# FigureWidget's module is plotly itself, 5 MB, sent and compiled anew for every figure, and
# anywidget wants a widget's module within two seconds (`page.Patience`): on a slow computer plots
# stayed empty and controls without effect. Here the widget's module is small, and plotly's is
# loaded once, by the first figure of a page; what the kernel says meanwhile is kept for it.
LOADED = "mlipkitPlotly"  # what a page calls plotly's module
SCRIPT = """
const LOADED = "%s", TOLD = %s;
async function load(model) {
  const bundle = await model.widget_manager.get_model(model.get("_plotly").split("_MODEL_")[1]);
  const url = URL.createObjectURL(new Blob([bundle.get("code")], { type: "text/javascript" }));
  return import(url).finally(() => URL.revokeObjectURL(url));
}
export default () => {
  let figure;
  return {
    initialize({ model }) {
      const waiting = [];
      const keep = TOLD.map(
        name => [`change:${name}`, () => waiting.push([name, model.get(name)])]);
      keep.forEach(([event, listener]) => model.on(event, listener));
      window[LOADED] = window[LOADED] || load(model);
      figure = window[LOADED].then(module => {
        const widget = module.default();
        keep.forEach(([event, listener]) => model.off(event, listener));
        widget.initialize({ model });
        // only a change is heard, and the last message may still stand there
        waiting.forEach(([name, message]) => { model.set(name, null); model.set(name, message) });
        return widget;
      });
      figure.catch(() => { window[LOADED] = null }); // the next figure tries again
    },
    async render(view) { return (await figure).render(view) },
  };
};
"""
BUNDLE = Path(plotly.__file__).parent / "package_data" / "widgetbundle.js"


class LiveFigure(go.FigureWidget):
    """Plotly's `FigureWidget`; its arguments.

    Figures of one kernel share what a page needs to draw them, and a figure goes to the page with
    its traces in it, not as an empty one and then its traces.
    """

    _esm = SCRIPT % (
        LOADED,
        [name for name in go.FigureWidget.class_trait_names() if name.startswith("_py2js_")],
    )
    _plotly = t.Instance(w.Widget).tag(sync=True, **w.widget_serialization)

    def __init__(self, *args, **kwargs):
        self._complete = False
        super().__init__(*args, **kwargs)
        self._complete = True
        self.open()

    @t.default("_plotly")
    def _shared(self):
        return _Bundle.shared()

    def open(self):
        if self._complete:
            super().open()


class _Bundle(w.Widget):
    """Plotly's module, for the figures of one kernel."""

    code = t.Unicode().tag(sync=True)
    _kept = None

    @classmethod
    def shared(cls):
        if cls._kept is None or cls._kept.comm is None:  # closed, as by Widget.close_all()
            cls._kept = cls(code=BUNDLE.read_text())
        return cls._kept
