"""Files that may be compressed, told by their first bytes and not by their name, and limits on what
they unpack to.
"""

import bz2
import contextvars
import gzip
import io
import lzma
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path

from mlipkit.files import InputError

ENDINGS = (".gz", ".xz", ".bz2")
_OPENERS = {b"\x1f\x8b": gzip.open, b"\xfd7zXZ\x00": lzma.open, b"BZh": bz2.open}
UNPACKED = 4_000_000_000  # bytes that a compressed file may unpack to, unless a person says more
LINE = 50_000_000  # bytes: no line of a calculation is as long
# a compressed file beyond FREE bytes unpacks to RATIO times its size at most: outputs of codes come
# to 5 to 30 times, what is made to flood to hundreds and thousands
FREE, RATIO = 2_000_000, 50
_limit = contextvars.ContextVar("limit", default=UNPACKED)


@contextmanager
def unpacked_limit(limit):
    """While this is open, compressed files may unpack to `limit` bytes; None: to any number."""
    token = _limit.set(limit)
    try:
        yield
    finally:
        _limit.reset(token)


def unlimited():
    """Whether a person has lifted the limits."""
    return _limit.get() is None


class _Limited(io.RawIOBase):
    """A file that counts what is read, and stops a bomb before it is in memory."""

    def __init__(self, file, limit, line, expected):
        self.file, self.limit, self.line, self.expected = file, limit, line, expected
        self.read_so_far = self.since_line_end = 0

    def readable(self):
        return True

    def readinto(self, buffer):
        n = self.file.readinto(buffer)
        self.read_so_far += n
        if self.limit is not None and self.read_so_far > self.limit:
            raise InputError(
                f"unpacks to more than {self.limit / 1e9:.3g} GB; if that is what you "
                "expect, unpack it and read it with mk.open_frames, or say "
                "read_frames(..., limit=None)"
            )
        if self.expected is not None and self.read_so_far > self.expected:
            raise InputError(
                "unpacks to many times its size, as no calculation does; if that is what you "
                "expect, unpack it first, or say read_frames(..., limit=None)"
            )
        if self.line is not None:
            end = max(bytes(buffer[:n]).rfind(end) for end in (b"\n", b"\r"))
            self.since_line_end = n - 1 - end if end >= 0 else self.since_line_end + n
            if self.since_line_end > self.line:
                raise InputError(
                    f"holds a line of more than {self.line / 1e6:.0f} MB; it is "
                    "damaged, or no file of frames"
                )
        return n

    def tell(self):
        return self.read_so_far

    def close(self):
        self.file.close()
        super().close()


def check_count(n, path):
    """Raise an InputError where a file holds more frames than calculations of its size have: the
    smallest take more than a hundred bytes, and each takes kilobytes in memory.
    """
    if n > 20_000 and n > 20_000 + Path(path).stat().st_size / 100 and not unlimited():
        raise InputError(
            f"{path}: holds more frames than calculations of its size have; if that is what you "
            "expect, say read_frames(..., limit=None), or unpack it and take mk.open_frames"
        )


def is_packed(path):
    """Whether a file is compressed."""
    return _opener(path) is not open


def _opener(path):
    with open(path, "rb") as file:
        head = file.read(6)
    return next((opener for magic, opener in _OPENERS.items() if head.startswith(magic)), open)


def _opened(path, line=None, limited=True, ratio=RATIO):
    opener, limit, expected = _opener(path), _limit.get(), None
    if opener is open:
        limit = None
    elif limit is not None:
        expected = max(FREE, ratio * Path(path).stat().st_size)
    limit = limit if limited else None
    return io.BufferedReader(_Limited(opener(path, "rb"), limit, line, expected), 1_000_000)


def open_bytes(path):
    """Open a file, compressed or not, for reading bytes."""
    return _opened(path)


def open_text(path, line=LINE, limited=True, ratio=RATIO):
    """Open a text file, compressed or not, for reading lines with any line ends; what is not UTF-8
    is replaced, a BOM skipped.

    Parameters
    ----------
    line : int or None
        Bytes that a line may have.
    limited : bool
        Whether the bytes of `unpacked_limit` hold; what goes frame by frame to the disk needs none.
    ratio : float
        How many times its size a compressed file may unpack to.
    """
    opened = _opened(path, line, limited, ratio)
    return io.TextIOWrapper(opened, encoding="utf-8-sig", errors="replace")


def check_lines(path, line):
    """Raise an InputError where a line of a file has more bytes, for parsers that do not look."""
    with _opened(path, line) as file:
        while file.read(1_000_000):
            pass


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
