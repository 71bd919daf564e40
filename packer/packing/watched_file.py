"""A file that is packed: open for reading, digested beside, and watched for changes."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable

import blake3

from packer.errors import SourceChanged
from packer.files.closing import Closing
from packer.files.tree import Found, identity_of, open_file, show
from packer.opening.workers import Workers

_READ_BYTES = 256 << 10
"""Bytes read at a time to compute a file's digest: they stay in the processor's cache."""


def digest_of(full: bytes, found: Found) -> bytes:
    """Return the full digest of a file that is not opened as an archive.

    Args:
        full: its path.
        found: the file as `walk` saw it.

    Returns:
        the 32 bytes of its BLAKE3-256.

    Raises:
        SourceChanged: it is not the file that `walk` saw.
    """
    with io.FileIO(open_file(full, found)) as file:
        digest = _digest_of(file, found.size, lambda: False)
        if identity_of(os.fstat(file.fileno())) != found.identity:
            raise SourceChanged(show(full))
    return digest


def _digest_of(file: io.FileIO, size: int, is_stopped: Callable[[], bool]) -> bytes:
    """Return the digest of an open file's first bytes, wherever its position is."""
    hasher, at, buffer = blake3.blake3(), 0, memoryview(bytearray(min(size, _READ_BYTES)))
    while at < size and not is_stopped() and (count := os.preadv(file.fileno(), [buffer], at)):
        hasher.update(buffer[:count])
        at += count
    return hasher.digest()


class WatchedFile(Closing):
    """A file that is open for reading; a context manager that closes it.

    It raises `SourceChanged` if the file is not the one that `walk` saw.

    Args:
        full: its path.
        found: the file as `walk` saw it.
        workers: compute the digest.
    """

    def __init__(self, full: bytes, found: Found, workers: Workers) -> None:
        self._full = full
        self._found = found
        self._workers = workers
        self._file = io.FileIO(open_file(full, found))
        self._digest: Callable[[], bytes] | None = None
        self._stopped = False

    def _begin_digest(self) -> None:
        """Let a worker read the file a second time, for its digest, unless one does."""
        if self._digest is None:
            self._digest = self._workers.run(self._digest_now)

    def _whole_digest(self) -> bytes:
        """Return the file's full digest, once it is certain that the file did not change."""
        digest = (self._digest or self._digest_now)()
        self._check()
        return digest

    def _digest_now(self) -> bytes:
        return _digest_of(self._file, self._found.size, lambda: self._stopped)

    def _check(self) -> None:
        """Raise an error if the file is not what `walk` saw."""
        if identity_of(os.fstat(self._file.fileno())) != self._found.identity:
            raise SourceChanged(show(self._full))

    def close(self) -> None:
        """Close the file."""
        self._stopped = True
        if self._digest is not None:
            # `_whole_digest` has raised the worker's error, or nobody needs the digest any more.
            with contextlib.suppress(OSError):
                self._digest()
        self._file.close()
