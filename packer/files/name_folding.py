"""Names that some file systems take for one: they differ in case or in the form of Unicode."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable

from packer.errors import UnsafePath
from packer.files.tree import show


def folds_names(directory: bytes) -> bool:
    """Probe whether a file system ignores case or the form of Unicode.

    Args:
        directory: writable; a file is created in it and removed.

    Returns:
        Whether a second name finds the file.
    """
    stem = f"layer-packer-{os.urandom(8).hex()}-"
    written = (stem + "A\u00c4").encode()  # composed, upper case
    others = (stem.encode() + b"a" + "\u00e4".encode(), stem.encode() + b"A" + b"A\xcc\x88")
    path = os.path.join(directory, written)
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    try:
        return any(os.path.lexists(os.path.join(directory, name)) for name in others)
    finally:
        os.unlink(path)


def check_distinct(paths: Iterable[bytes]) -> None:
    """Check that no two paths of a version are one on a file system that folds names.

    Args:
        paths: of the version's entries.

    Raises:
        UnsafePath: two are one; names both. The second would replace the first.
    """
    seen: dict[str, bytes] = {}
    for path in paths:
        text = path.decode("utf-8", "surrogateescape")
        key = unicodedata.normalize("NFC", unicodedata.normalize("NFD", text).casefold())
        other = seen.setdefault(key, path)
        if other != path:
            raise UnsafePath(
                show(path),
                f"differs from {show(other)!r} only in case or Unicode form, "
                "and the target's file system makes no difference",
            )
