"""Files that may be compressed, told by their first bytes and not by their name."""

import bz2
import gzip
import lzma
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path

ENDINGS = (".gz", ".xz", ".bz2")
_OPENERS = {b"\x1f\x8b": gzip.open, b"\xfd7zXZ\x00": lzma.open, b"BZh": bz2.open}


def _opener(path):
    with open(path, "rb") as file:
        head = file.read(6)
    return next((opener for magic, opener in _OPENERS.items() if head.startswith(magic)), open)


def open_bytes(path):
    """Open a file, compressed or not, for reading bytes."""
    return _opener(path)(path, "rb")


def open_text(path):
    """Open a text file, compressed or not, for reading lines with any line ends; what is not UTF-8
    is replaced, a BOM skipped.
    """
    return _opener(path)(path, "rt", encoding="utf-8-sig", errors="replace")


@contextmanager
def uncompressed(path):
    """The path itself, or that of an uncompressed copy, which is gone afterwards; for libraries
    that want a path.
    """
    if _opener(path) is open:
        yield Path(path)
        return
    with tempfile.TemporaryDirectory(prefix="mlipkit-") as folder:
        plain = Path(folder, Path(path).stem)
        with open_bytes(path) as packed, open(plain, "wb") as file:
            shutil.copyfileobj(packed, file)
        yield plain
