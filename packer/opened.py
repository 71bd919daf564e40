"""A file being packed: read once, opened, cut into chunks, and watched for changes."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from types import TracebackType

import blake3

from packer.errors import SourceChanged
from packer.expand import Expander
from packer.expansion import Expansion
from packer.index import DIGEST_BYTES
from packer.model import ChunkParams
from packer.streams import Workers
from packer.tree import Found, identity_of, open_file, show


def digest_of(full: bytes, found: Found) -> bytes:
    """Return the full digest of a file that is not opened.

    Raises:
        SourceChanged: it is not the file that `walk` saw.
    """
    with io.FileIO(open_file(full, found)) as file:
        digest = _digest_of(file)
        if identity_of(os.fstat(file.fileno())) != found.identity:
            raise SourceChanged(show(full))
    return digest


def _digest_of(file: io.FileIO) -> bytes:
    hasher = blake3.blake3()
    while data := file.read(1 << 20):
        hasher.update(data)
    return hasher.digest()


class OpenedFile:
    """A file's chunks; a context manager.

    Args:
        full: its path.
        found: what `walk` saw.
        params: chunk sizes.
        buffer: memory for reading, at least twice the greatest chunk.
        workers: analyse deflate streams.
        report: called with the number of bytes whenever some were read.
        expand: open archives.

    Raises:
        SourceChanged: it is not the file that `walk` saw.
    """

    def __init__(
        self,
        full: bytes,
        found: Found,
        params: ChunkParams,
        buffer: bytearray,
        workers: Workers,
        report: Callable[[int], None],
        *,
        expand: bool,
    ) -> None:
        self._full = full
        self._found = found
        self._report = report
        self._file = io.FileIO(open_file(full, found))
        self._seen = 0
        self._expander = Expander(self._fill, found.size, params, buffer, workers, expand=expand)
        self.recipe_chunks = 0
        """How many of the chunks are the recipe's; known at the end."""

    @property
    def plain(self) -> bool:
        """Whether all chunks so far are, one after another, the file as it is."""
        return not self._expander.recipe.opened

    def chunks(self) -> Iterator[memoryview]:
        """Yield the chunks, each valid until the next is asked for: content, then recipe.

        Raises:
            SourceChanged: the file is not what `walk` saw, before, while or after it is read.
        """
        yield from self._expander.content()
        if self._seen != self._found.size:
            raise SourceChanged(show(self._full))
        for chunk in self._expander.recipe_chunks():
            self.recipe_chunks += 1
            yield chunk
        self._check()

    def expansion(self) -> tuple[Expansion, bytes]:
        """Return what the index says of a file with a recipe, and the file's full digest.

        Raises:
            SourceChanged: as `chunks`.
        """
        self._file.seek(0)
        digest = _digest_of(self._file)
        self._check()
        return Expansion(self._found.size, self.recipe_chunks, digest[:DIGEST_BYTES]), digest

    def _check(self) -> None:
        if identity_of(os.fstat(self._file.fileno())) != self._found.identity:
            raise SourceChanged(show(self._full))

    def _fill(self, out: memoryview) -> int | None:
        count = self._file.readinto(out)
        if count:
            self._seen += count
            if self._seen > self._found.size:  # it grows as fast as it is read: do not follow
                raise SourceChanged(show(self._full))
            self._report(count)
        return count

    def __enter__(self) -> OpenedFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()
