"""Bring your own DFT result: drop in an OUTCAR (or any other file that `read_frames` knows), see
its table and its charges.
"""

import html
import tempfile
import warnings
from pathlib import Path

import ipywidgets as w
import numpy as np
import traitlets as t

from mlipkit import arguments
from mlipkit.apps.sent_file import SentFile, file_name
from mlipkit.charges.oxidation import infer_oxidation_states
from mlipkit.files import InputError, plain
from mlipkit.frames.labels import frame_table
from mlipkit.frames.readers import read_frames
from mlipkit.pictures.crystal import Crystal
from mlipkit.pictures.page import Page

MOST, UNPACKED = 5000, 500_000_000  # frames, and bytes of a file, unpacked too, that are taken
TOO_MANY = (
    f"The first {MOST:,} frames are shown; mk.open_frames opens a file of any size without loading "
    "it."
)
ATOMS = 2000  # of a frame; neighbours are looked for, and no DFT calculation has as many
VOLUME, FAR = 0.5, 10_000  # Å^3 per atom at least, and Å at most: what else is no matter
UNFIT = (
    f"holds a frame of more than {ATOMS:,} atoms, or with atoms on top of each other or a "
    "micrometre apart, which is not looked at here."
)
SHOWN = {
    "step": "step",
    "formula": "formula",
    "n_atoms": "atoms",
    "energy": "energy (eV)",
    "max_force": "largest force (eV/Å)",
    "converged": "converged",
}


class UploadState(t.HasTraits):
    """The frames of one file.

    Attributes
    ----------
    frames : list of ase.Atoms
        Empty until a file has been read.
    index : int
        The frame that is looked at.
    message : str
        What went wrong with the file, or what its reader warned of.
    reason : str
        Why the frame looked at has no oxidation states.
    """

    frames = t.List()
    index = t.Int()
    message = t.Unicode()
    reason = t.Unicode()

    def load(self, name, content):
        """As `read`, of the bytes of a file."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / file_name(name)
            path.write_bytes(content)
            self.read(path)

    def read(self, path):
        """Read a file that a person handed over; an error becomes the message, without frames."""
        # an observer must not look at the old frames, nor beyond the end of the new ones
        self.frames, self.index, self.message = [], 0, ""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            try:
                frames = read_frames(path, slice(0, MOST + 1), progress=False, limit=UNPACKED)
                message = TOO_MANY if len(frames) > MOST else ""
                frames = frames[:MOST]
                if not frames:
                    message = f"{path.name}: holds no frame"
                if any(map(_unfit, frames)):
                    frames, message = [], f"{path.name}: {UNFIT}"
            except InputError as reason:
                frames, message = [], str(reason)
            notes = [str(c.message) for c in caught if issubclass(c.category, UserWarning)]
            message = " ".join(dict.fromkeys([message, *notes]))
            message = plain(message.replace(f"{path.parent}/", "").strip())
        for atoms in frames:
            atoms.info["source"] = path.name
        self.message, self.frames = message, frames
        self.index = max(0, len(frames) - 1)

    @property
    def states(self):
        """Oxidation states of the frame looked at, or None with the reason in `reason`."""
        try:
            found, self.reason = infer_oxidation_states(self.frames[self.index]), ""
        except InputError as reason:
            found, self.reason = None, str(reason)
        return found


def _unfit(atoms):
    """Whether looking for neighbours in a frame, or drawing it, could go on for ever."""
    cell, periodic = atoms.cell.array, atoms.pbc
    if len(atoms) > ATOMS or max(np.abs(atoms.positions).max(), np.abs(cell).max()) > FAR:
        return True
    if periodic.all() or cell.any(axis=1).all():
        return abs(np.linalg.det(cell)) < VOLUME * len(atoms)
    return bool((np.linalg.norm(cell[periodic], axis=1) < VOLUME).any())


class UploadView(w.VBox):
    """Widgets over an `UploadState`."""

    def __init__(self, state, limit):
        self.state = state
        self.file = SentFile(state.read, limit, label="choose a DFT result")
        self.frame = w.IntSlider(min=0, max=0, description="frame", continuous_update=False)
        self.message, self.table, self.charges, self.page = w.HTML(), w.HTML(), w.HTML(), Page()
        for told in (self.message, self.charges):
            told.add_class("mlipkit-live")
        self.picture = w.VBox(layout={"width": "520px"})
        t.link((state, "index"), (self.frame, "value"))
        state.observe(self._frames, "frames")
        state.observe(self._frame, "index")
        state.observe(self._say, ["message", "reason"])
        text = w.VBox([self.charges, self.table], layout={"width": "560px"})
        super().__init__(
            [
                self.page,
                w.HBox([self.file, self.frame], layout={"flex_flow": "row wrap"}),
                self.message,
                w.HBox([self.picture, text], layout={"flex_flow": "row wrap"}),
            ]
        )
        self.add_class("mlipkit-app")
        self.add_class("mlipkit-upload")
        self._frames()

    def _frames(self, change=None):
        frames = self.state.frames
        self.frame.max = max(0, len(frames) - 1)
        table = frame_table(frames)
        shown = table[[c for c in SHOWN if c in table]].rename(columns=SHOWN)
        self.table.value = (
            ""
            if not frames
            else shown.to_html(
                index=False,
                max_rows=12,
                float_format=lambda x: f"{x:.4f}",
                border=0,
                classes="mlipkit-text mlipkit-ions",
            ).replace("<thead>", "<caption>Frames of the file</caption><thead>")
        )
        self._frame()

    def _frame(self, change=None):
        if not self.state.frames:
            self.picture.children, self.charges.value = (), ""
        else:
            found = self.state.states
            atoms = self.state.frames[self.state.index].copy()
            atoms.calc = self.state.frames[self.state.index].calc
            self.charges.value = ""
            if found is not None:
                atoms.set_array("oxi_states", found.states)
                self.charges.value = found._repr_html_()
            if change and change["name"] == "index" and self.picture.children:
                self.picture.children[0].show(atoms)  # the camera stays as the person left it
            else:
                self.picture.children = (Crystal(atoms, height="340px"),)

    def _say(self, change):
        text = html.escape(
            " ".join(
                filter(None, (self.state.message, self.state.reason if self.state.frames else ""))
            )
        )
        self.message.value = f'<p class="mlipkit-text">{text}</p>' if text else ""


def upload(limit=UNPACKED):
    """Open the upload widget: an OUTCAR, or any other file that `read_frames` knows.

    Parameters
    ----------
    limit : int
        Bytes of the largest file that is taken, by default 500 MB; unpacked a file may have 500 MB
        at any limit.

    Returns
    -------
    UploadView
        ``.state.frames`` holds what was read.

    Raises
    ------
    InputError
        When the limit is no number of bytes.
    """
    limit = arguments.number(limit, "upload: limit", least=1, whole=True)
    return UploadView(UploadState(), limit)
