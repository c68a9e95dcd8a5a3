"""A file of the visitor's, sent to the kernel in pieces: in one, as ipywidgets' `FileUpload` sends
it, a file above 10 MB closes the connection without a word.
"""

import tempfile
from pathlib import Path

import anywidget
import traitlets as t

SCRIPT = """
const PIECE = 1 << 20;
const megabytes = bytes => (bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0);
function render({ model, el }) {
  const input = document.createElement("input"), button = document.createElement("button");
  const told = document.createElement("span");
  let file = null, turn = 0;
  const say = text => { told.innerText = text };
  const choose = chosen => {
    if (!chosen || model.get("disabled")) return;
    if (chosen.size > model.get("limit"))
      return say(`${chosen.name} has ${megabytes(chosen.size)} MB, and at most `
        + `${megabytes(model.get("limit"))} are taken here`);
    file = chosen; turn = Math.random();
    model.send({ turn, at: 0, name: file.name, size: file.size }) };
  const answered = async said => {
    if (said.turn !== turn) return;
    if (said.at === undefined) { file = null; return say("") }
    const now = turn, piece = await file.slice(said.at, said.at + PIECE).arrayBuffer()
      .catch(() => say(`${file.name} can no longer be read: choose it again`));
    if (!piece || now !== turn) return;
    const end = said.at + piece.byteLength;
    say(end < file.size ? `sending ${file.name}: ${megabytes(end)} of ${megabytes(file.size)} MB`
      : `reading ${file.name} ...`);
    model.send({ turn, at: said.at }, undefined, [new DataView(piece)]) };
  input.type = "file"; input.style.display = "none";
  input.onchange = () => { choose(input.files[0]); input.value = "" };
  button.type = "button"; button.className = "jupyter-button widget-button";
  button.innerText = model.get("label"); button.onclick = () => input.click();
  const able = () => { button.disabled = model.get("disabled") };
  told.setAttribute("role", "status");
  el.classList.add("mlipkit-file"); el.append(button, input, "or drop it here", told);
  el.ondragover = event => { event.preventDefault(); el.classList.add("mlipkit-over") };
  el.ondragleave = () => el.classList.remove("mlipkit-over");
  el.ondrop = event => { event.preventDefault(); el.classList.remove("mlipkit-over");
    choose(event.dataTransfer.files[0]) };
  able(); model.on("change:disabled", able); model.on("msg:custom", answered);
  return () => { model.off("change:disabled", able); model.off("msg:custom", answered) };
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
        self.take, self.folder = take, None
        super().__init__(limit=limit, **kwargs)
        self.on_msg(self._hear)

    def _hear(self, widget, said, pieces):
        """Of each piece the page is asked for the next; out of turn nothing is taken."""
        if "name" in said:
            self._begin(said)
        elif self.folder is None or (said.get("turn"), said.get("at")) != (self.turn, self.at):
            return
        elif pieces:
            self.at += len(pieces[0])
            with open(self.path, "ab") as file:
                file.write(pieces[0])
        if self.folder is None:
            return
        if self.at < self.size:
            self.send({"turn": self.turn, "at": self.at})
            return
        try:
            self.take(self.path)
        finally:
            self._end()
            self.send({"turn": self.turn})

    def _begin(self, said):
        self._end()  # another file was chosen meanwhile
        self.turn, self.at, self.size = said.get("turn"), 0, int(said["size"])
        if self.size > self.limit:
            return
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / file_name(str(said["name"]))
        self.path.touch()

    def _end(self):
        if self.folder is not None:
            self.folder.cleanup()
        self.folder = None


def file_name(name):
    """A name that a file can have here, with the ending of the one that it had there."""
    name = name.replace("\0", "").encode("utf-8", "replace")[-200:].decode("utf-8", "replace")
    return Path(name).name.lstrip(".") or "file"
