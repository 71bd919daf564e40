"""Compares a directory with a receipt: is it still what was installed?"""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass

from packer.errors import InvalidParameter, SourceChanged
from packer.files.tree import FILE, KIND_NAMES, Found, open_file, show, walk
from packer.trust.receipt import InstalledFile, Receipt

_READ_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Deviation:
    """An entry of a directory that is not as the receipt says.

    Args:
        path: relative to the directory; bytes that are not UTF-8 are surrogate-escaped.
        what: "missing", "added", "kind", "mode", "content" or "target".
    """

    path: str
    what: str


def deviations(receipt: Receipt, directory: str | bytes | os.PathLike[str]) -> list[Deviation]:
    """Return how a directory differs from what was installed.

    Every file is read. Links are not followed.

    Args:
        receipt: of the installation.
        directory: as it is now.

    Returns:
        In byte order of the paths; of one entry the first that is wrong, in the order of
        `Deviation`. What the receipt does not list counts as added only if the receipt is complete.

    Raises:
        InvalidParameter: the receipt lists no files: it is of a copy.
        UnsupportedFile: there is a socket, device or fifo.
        OSError: the directory, or a file in it, cannot be read.
    """
    if receipt.files is None:
        raise InvalidParameter(f"the receipt of a {receipt.action} lists no files")
    root = os.path.abspath(os.fsencode(directory))
    if not stat.S_ISDIR(os.stat(root).st_mode):
        raise InvalidParameter(f"{show(root)} is no directory")
    expected = {os.fsencode(file.path): file for file in receipt.files}
    out: dict[bytes, str] = {}
    for found in walk(root):
        file = expected.pop(found.path, None)
        if file is None:
            if receipt.complete:
                out[found.path] = "added"
        elif what := _compare(root, found, file):
            out[found.path] = what
    out.update(dict.fromkeys(expected, "missing"))
    return [Deviation(show(path), out[path]) for path in sorted(out)]


def _compare(root: bytes, found: Found, file: InstalledFile) -> str:
    """Return what is wrong with an entry, "" for nothing."""
    if KIND_NAMES[found.kind] != file.kind:
        return "kind"
    if file.kind == "symlink":
        return "" if found.target == os.fsencode(file.target) else "target"
    if found.mode != file.mode:
        return "mode"
    if found.kind == FILE and (found.size != file.size or _digest(root, found) != file.digest):
        return "content"
    return ""


def _digest(root: bytes, found: Found) -> str:
    """Return the digest of a file, "" if it is being changed."""
    hashed = hashlib.sha256()
    try:
        fd = open_file(os.path.join(root, found.path), found)
    except SourceChanged:
        return ""
    with open(fd, "rb", buffering=0) as file:
        while data := file.read(_READ_BYTES):
            hashed.update(data)
    return "sha256:" + hashed.hexdigest()
