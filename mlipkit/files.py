"""Files that come with the package, the error that people see, and writing without half-written
files.
"""

import contextlib
import glob
import hashlib
import json
import os
import secrets
import zlib
from pathlib import Path

MEND = "reinstall mlipkit, or restore it with git"


MESSAGE = 2000  # characters of a message


class InputError(ValueError):
    """Something that a person gave (a file, a frame, an atom) cannot be used; the message says what
    to do.
    """

    def __init__(self, message=""):
        super().__init__(plain(message))


def plain(text):
    """A text that may hold what a file holds, as a screen and a log can take it: in one line, what
    does not print (escape sequences, marks that turn the direction of writing) is spelled out, and
    of what is very long the beginning and the end.
    """
    text = str(text)
    if len(text) > MESSAGE:
        text = f"{text[: MESSAGE // 2]} [...] {text[-MESSAGE // 4 :]}"
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else " " if c == "\n" else c.encode("unicode_escape").decode()
        for c in text
    )


def data_folder():
    """Where the embedded data lies: inside an installed package, or beside it in a checkout."""
    inside = Path(__file__).parent / "data"
    return inside if inside.is_dir() else Path(__file__).parent.parent / "data"


def manifest():
    """The manifest entries of all embedded files, by name relative to the data folder."""
    path = data_folder() / "manifest.json"
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise InputError(f"{path} is missing: {MEND}") from None
    except ValueError:
        raise InputError(f"{path} is damaged: {MEND}") from None


def embedded(name):
    """Path of an embedded file, after its checksum was compared with the manifest.

    Parameters
    ----------
    name : str
        Path relative to the data folder, such as ``"dft/olivine.extxyz"``.

    Raises
    ------
    InputError
        When the file is missing or is not the one that was shipped.
    """
    path = data_folder() / name
    try:
        entry = manifest()[name]
        sha256 = entry["sha256"]
    except (KeyError, TypeError):
        raise InputError(
            f"{data_folder() / 'manifest.json'} is damaged or does not know {name}: {MEND}"
        ) from None
    if not path.is_file():
        raise InputError(f"{path} is missing: {MEND}")
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != sha256:
        changed = _changed_frame(content, entry.get("frames", []))
        raise InputError(f"{path}{changed} is not what was shipped (checksum differs): {MEND}")
    return path


def describe(path):
    """Manifest entry of a file: SHA-256 and, for extended XYZ, a CRC-32 of each frame."""
    content = Path(path).read_bytes()
    entry = {"sha256": hashlib.sha256(content).hexdigest()}
    if Path(path).suffix == ".extxyz":
        entry["frames"] = [f"{zlib.crc32(block):08x}" for block in _frame_blocks(content)]
    return entry


def _frame_blocks(content):
    lines, start = content.splitlines(keepends=True), 0
    while start < len(lines):
        count = lines[start].strip()
        stop = start + 2 + int(count) if count.isdigit() else len(lines)
        yield b"".join(lines[start:stop])
        start = stop


def _changed_frame(content, expected):
    found = [f"{zlib.crc32(block):08x}" for block in _frame_blocks(content)] if expected else []
    for i, crc in enumerate(expected):
        if i >= len(found):
            return f", cut off before frame {i} of {len(expected)},"
        if found[i] != crc:
            return f", frame {i},"
    return ""


def write_atomically(path, content):
    """Write text or bytes aside and move it into place, so that an interrupt leaves the old file or
    the new one.

    Several processes may write the same file at once: each writes aside under a name of its own,
    and the last one stays. What one that was killed had left aside goes with the next that writes.
    """
    path = Path(path)
    aside = path.with_name(f"{path.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
    if isinstance(content, bytes):
        aside.write_bytes(content)
    else:
        aside.write_text(content)
    try:
        os.replace(aside, path)
    except FileNotFoundError:  # another that wrote the same file has come later, and cleared up
        if not path.exists():
            raise
    for left in path.parent.glob(f"{glob.escape(path.name)}.*.part"):
        with contextlib.suppress(OSError):
            left.unlink()
