"""A file of the visitor's, sent to the kernel in pieces: in one, as ipywidgets' `FileUpload` sends
it, a file above 10 MB closes the connection without a word.
"""

import tempfile
from pathlib import Path

import anywidget
import traitlets as t

# Of each piece the kernel asks for the next. `turn` names a file, so that an answer about one that
# is no longer sent changes nothing.
SCRIPT = """
const PIECE = 1 << 20;
const rounded = (bytes, up) => { const [unit, name] = bytes < 1e6 ? [1e3, "kB"] : [1e6, "MB"];
  return `${(up ? Math.ceil : Math.floor)(10 * bytes / unit) / 10} ${name}` };
function render({ model, el }) {
  const input = document.createElement("input"), button = document.createElement("button");
  const told = document.createElement("span");
  let file = null, turn = 0;
  const say = text => { told.innerText = text };
  const stop = text => { if (file) model.send({ turn, stop: true });
    file = null; turn = 0; say(text) };
  const choose = chosen => {
    if (!chosen || model.get("disabled")) return;
    const limit = model.get("limit");
    if (chosen.size > limit) return stop(`${chosen.name} has ${rounded(chosen.size, true)}, and at `
      + `most ${rounded(limit)} are taken here`);
    file = chosen; turn = Math.random(); say(`${file.name}: waiting for the kernel ...`);
    model.send({ turn, at: 0, name: file.name, size: file.size }) };
  const answered = async said => {
    if (!file || said.turn !== turn) return;
    if (said.at === undefined) { file = null; turn = 0; return say(said.says || "") }
    const mine = file, now = turn;
    const piece = await mine.slice(said.at, said.at + PIECE).arrayBuffer().catch(() => null);
    if (now !== turn) return;
    if (!piece || !piece.byteLength)
      return stop(`${mine.name} can no longer be read: choose it again`);
    const end = said.at + piece.byteLength;
    say(end < mine.size ? `sending ${mine.name}: ${rounded(end)} of ${rounded(mine.size, true)}`
      : `reading ${mine.name} ...`);
    model.send({ turn, at: said.at }, undefined, [new DataView(piece)]) };
  input.type = "file"; input.style.display = "none";
  input.onchange = () => { choose(input.files[0]); input.value = "" };
  button.type = "button"; button.className = "jupyter-button widget-button";
  button.onclick = () => input.click(); told.setAttribute("role", "status");
  el.classList.add("mlipkit-file"); el.append(button, input, "or drop it here", told);
  el.ondragover = event => { event.preventDefault(); el.classList.add("mlipkit-over") };
  el.ondragleave = () => el.classList.remove("mlipkit-over");
  el.ondrop = event => { event.preventDefault(); el.classList.remove("mlipkit-over");
    choose(event.dataTransfer.files[0]) };
  const look = () => { button.disabled = model.get("disabled");
    button.innerText = model.get("label") };
  look(); model.on("change:disabled", look); model.on("change:label", look);
  model.on("msg:custom", answered);
  return () => { model.off("change:disabled", look); model.off("change:label", look);
    model.off("msg:custom", answered) };
}
export default { render };
"""


class SentFile(anywidget.AnyWidget):
    """A button, and a place to drop a file.

    Parameters
    ----------
    take : callable
        Called with the path of a file once all of it is there; the file is gone afterwards.
    limit : int
        Bytes; a larger file is refused before anything is sent.

    Attributes
    ----------
    label : str
        Of the button.
    disabled : bool
    """

    _esm = SCRIPT
    label = t.Unicode("choose a file").tag(sync=True)
    disabled = t.Bool(False).tag(sync=True)
    limit = t.Int().tag(sync=True)

    def __init__(self, take, limit, **kwargs):
        self.take, self.folder, self.path = take, None, None
        self.turn, self.at, self.size = None, 0, 0
        super().__init__(limit=limit, **kwargs)
        self.on_msg(self._hear)

    def close(self):
        self._drop()
        super().close()

    def _hear(self, widget, said, pieces):
        """A new file, a piece of it, or its end; out of turn nothing is taken."""
        try:
            if "name" in said:
                self._begin(said)
            elif self.folder is None or said.get("turn") != self.turn:
                return
            elif said.get("stop"):
                return self._drop()
            elif said.get("at") != self.at or not self._append(pieces):
                return
            if self.at < self.size:
                return self.send({"turn": self.turn, "at": self.at})
            self.take(self.path)
            self._end()
        except OSError as reason:
            self._end(f"the file cannot be kept on the kernel's side: {reason.strerror}")
        except BaseException:
            self._end("the file could not be read; what went wrong is in the log of the kernel")
            raise

    def _begin(self, said):
        self._end()  # another file was chosen meanwhile, on this page or on another one
        self.turn, self.at, self.size = said.get("turn"), 0, int(said["size"])
        if self.size > self.limit:
            raise OSError(0, "it is too large")
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / file_name(str(said["name"]))
        self.path.touch()

    def _append(self, pieces):
        """Whether a piece was taken: none that is empty, or more than was promised."""
        piece = pieces[0] if pieces else b""
        if not 0 < len(piece) <= self.size - self.at:
            return False
        with open(self.path, "ab") as file:
            file.write(piece)
        self.at += len(piece)
        return True

    def _end(self, says=""):
        """Let go of a file and tell the page."""
        if self.turn is not None:
            self.send({"turn": self.turn, "says": says})
        self._drop()

    def _drop(self):
        if self.folder is not None:
            self.folder.cleanup()
        self.turn = self.folder = None


def file_name(name):
    """A name that a file can have here, with the ending of the one that it had there."""
    name = name.replace("\0", "").encode("utf-8", "replace")[-200:].decode("utf-8", "replace")
    return Path(name).name.lstrip(".") or "file"
