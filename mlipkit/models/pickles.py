"""What a file of ``torch.save`` would build, told from its bytes before anything of it is built.

torch's restricted unpickler runs nothing that a file names, but it does what a file says: keys that
take years to hash, a pickle that unpacks to gigabytes, a tensor of a trillion numbers over one.
"""

import io
import pickletools
import re
import zipfile
from pathlib import Path

import torch

from mlipkit.files import InputError

# of what torch would build by itself that which weights need
KNOWN = re.compile(
    r"collections\.(OrderedDict|Counter)|_codecs\.encode|builtins\.(set|complex)"
    r"|torch\._utils\._rebuild_(tensor|tensor_v2|parameter)|torch\.nn\.parameter\.Parameter"
    r"|torch\.(\w+Storage|Size|device|u?int\d+|float\d+|bfloat16|bool|complex\d+)"
    r"|numpy\.dtype|numpy\.(_core|core)\.multiarray\.scalar"
)
MAGIC = 0x1950A86A20F9469CFC6C  # with which torch began its files before they were archives
LEGACY = 5  # pickles that such a file begins with
PARTS, DEPTH = 5000, 500  # of a tuple, with all that lies in it, and of anything in anything
_MARK = object()


class _Part:
    """What is known of a value without building it."""

    def __init__(self, text=None, parts=1, depth=0):
        self.text, self.parts, self.depth = text, parts, depth


def is_archive(path):
    """Whether torch takes a file for an archive; older ones are pickles, one after the other."""
    with open(path, "rb") as file:
        return file.read(4) == b"PK\3\4"


def asked_for(path):
    """The names of classes and functions that the pickle in a file asks for.

    Raises
    ------
    InputError
        When it is damaged, packed or built to flood whoever reads it.
    """
    try:
        if is_archive(path):
            return _names(io.BytesIO(_record(path)))
        names = set()
        with open(path, "rb") as file:
            for i in range(LEGACY):
                if i and not file.peek(1):
                    break
                try:
                    names |= _names(file)
                except ValueError:
                    if not i:
                        raise
                    break  # the numbers that follow
        return names
    except InputError as reason:
        raise InputError(f"{path}: {reason}") from None
    # what is damaged shows in many ways
    except Exception as reason:
        what = f"{type(reason).__name__}: {str(reason)[:120]}"
        raise InputError(f"{path}: cannot be read as a checkpoint ({what})") from None


def _record(path):
    """The pickle in an archive of torch.save, which holds each record once, as it is."""
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        names = [entry.filename for entry in entries]
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise InputError("is a packed archive, which torch.save does not write: refused")
        if sum(entry.file_size for entry in entries) > Path(path).stat().st_size:
            raise InputError("is an archive that announces more than it holds; it is damaged")
        pickles = [name for name in names if re.fullmatch(r"([^/]+/)?data\.pkl", name)]
        if len(set(names)) < len(names) or len(pickles) != 1:
            raise InputError("is no archive of torch.save: not one record of each name")
        return archive.read(pickles[0])


def _names(file):
    """Names in the next pickle of a file; its stack is followed without its values."""
    names, stack, memo = set(), [], {}
    for op, value, _ in pickletools.genops(file):
        if op.name == "GLOBAL":
            names.add(value.replace(" ", ".").replace("__builtin__.", "builtins."))
        if op.name.startswith("LONG") and abs(value or 0) >= 2**63 and value != MAGIC:
            # as keys they could all share one place of a dict
            raise InputError("is a pickle with numbers of more than 64 bit: refused")
        if op.name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            memo[len(memo) if op.name == "MEMOIZE" else value] = stack[-1]
            continue
        if op.name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(memo[value])
            continue
        taken = _taken(op, stack)
        made = _made(op, value, taken)
        if op.stack_after:
            stack.append(made)
    return names


def _taken(op, stack):
    """What an opcode takes from the stack, which it is taken from."""
    before = op.stack_before
    if op.name == "POP":
        return [stack.pop()]
    n = len(before)
    if pickletools.markobject in before:
        at = next(i for i in range(len(stack) - 1, -1, -1) if stack[i] is _MARK)
        n = len(stack) - at + before.index(pickletools.markobject)
    taken = stack[len(stack) - n :] if n else []
    del stack[len(stack) - n :]
    return [part for part in taken if part is not _MARK]


def _made(op, value, taken):
    """What an opcode leaves on the stack."""
    if op.name == "MARK":
        return _MARK
    depth = 1 + max((part.depth for part in taken), default=-1)
    if depth > DEPTH:
        raise InputError(f"is a pickle that nests more than {DEPTH} deep: refused")
    if op.name.startswith("TUPLE"):
        parts = 1 + sum(part.parts for part in taken)
        if parts > PARTS:
            raise InputError(f"is a pickle with a tuple of more than {PARTS} parts: refused")
        return _Part(taken[-1].text if taken else None, parts, depth)
    if op.name in ("APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS", "BUILD"):
        taken[0].depth = max(depth - 1, taken[0].depth)
        return taken[0]
    if op.name == "REDUCE" and taken[0].text == "_codecs encode" and taken[1].text != "latin1":
        raise InputError("is a pickle with text in a code of its own: refused")
    return _Part(value if isinstance(value, str) else None, 1, depth if taken else 0)


def check_tensors(found, path):
    """Raise an InputError where a tensor in nested containers, or in objects that keep their
    ``state``, is not a plain one with its numbers in the file.
    """
    size, seen, waiting = Path(path).stat().st_size, set(), [found]
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, torch.Tensor):
            plain = value.layout is torch.strided and value.device.type == "cpu"
            if not plain or value.numel() * value.element_size() > size:
                raise InputError(
                    f"{path}: holds a tensor that announces more numbers than the file has, or one "
                    "that is not plain; it is damaged"
                )
        elif isinstance(value, dict):
            waiting += [*value.keys(), *value.values()]
        elif type(value) in (list, tuple, set):
            waiting += value
        else:
            waiting.append(getattr(value, "__dict__", None))
