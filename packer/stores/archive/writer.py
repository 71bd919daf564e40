"""An archive being written: in one file, or in parts that are kept when the work is interrupted.

The layout of a tar file follows from the digests and sizes of its blobs, so each blob is written to
its final offset, in any order and by several threads. A part is complete when all blobs that reach
into it are verified; only then does it get its name and its line in the list.
"""

from __future__ import annotations

import hashlib
import io
import os
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import BinaryIO

from packer.errors import DigestMismatch, NotFound, SizeMismatch, StoreError
from packer.files.durable import TempFile, locked_directory, sweep
from packer.oci import READ_BYTES, Descriptor
from packer.stores.archive.parts import PartList, identity, list_path
from packer.stores.archive.tar import TarPlan

Source = Callable[[], BinaryIO]
"""Opens the bytes of a blob that is at hand."""


class Assembly:
    """Writes an archive, as `Assembling`; a context manager that removes what was not committed.

    With `part_bytes`, complete parts stay even if the work is interrupted, and the next assembly of
    the same content continues after them. Other parts of this name raise InvalidParameter.

    Args:
        path: of the archive.
        plan: its layout.
        at_hand: blobs that need no push: the replaced archive's, and the manifest.
        part_bytes: size of the parts; None for one file.
        before: `identity` of the archive to replace.
        holds_lock: whether the caller holds the directory's lock.

    Thread safety: `push` may be called from several threads.
    """

    def __init__(
        self,
        path: str,
        plan: TarPlan,
        at_hand: Mapping[str, Source],
        part_bytes: int | None,
        before: tuple[object, ...],
        *,
        holds_lock: bool = False,
    ) -> None:
        self._path = path
        self._plan = plan
        self._at_hand = at_hand
        self._before = before
        self._directory, base = os.path.split(path)
        self._prefix = f".{base[:50]}-"  # names have an end
        self._holds_lock = holds_lock
        self._mutex = threading.Lock()
        self._temps: dict[int, TempFile] = {}
        self._done: set[str] = set()
        self._is_split = part_bytes is not None
        self._parts = part_list(path, plan, part_bytes)
        with self._directory_lock():
            sweep(self._directory, self._prefix, 0)
            if self._is_split:
                self._keep_parts()
        self._left = dict.fromkeys(self._unfinished(), 0)
        self.kept_all = not self._left
        """Whether an earlier attempt completed all parts, as `Assembling`."""
        for digest, offset in plan.offsets.items():
            numbers = self._numbers(digest, offset)
            for number in numbers:
                self._left[number] += 1
            if not numbers and plan.blobs[digest]:
                self._done.add(digest)

    def _directory_lock(self) -> AbstractContextManager[None]:
        return nullcontext() if self._holds_lock else locked_directory(self._directory)

    def _keep_parts(self) -> None:
        """Keep the sound parts of an earlier attempt; the lock is held."""
        found = self._parts.earlier()
        for number in sorted(found.sums) if found is not None else ():
            if found is not None and found.check(number) is None:
                self._parts.sums[number] = found.sums[number]
        if found is None or found.sums != self._parts.sums:
            self._write_list()

    def _write_list(self) -> None:
        with TempFile(self._directory, self._prefix) as file:
            file.write(self._parts.encode())
            file.publish(list_path(self._path))

    def _unfinished(self) -> list[int]:
        return [number for number in range(self._parts.count) if number not in self._parts.sums]

    def _numbers(self, digest: str, offset: int) -> list[int]:
        """Return the unfinished parts that hold bytes of a blob."""
        numbers = self._parts.numbers(offset, offset + self._plan.blobs[digest])
        return [number for number in numbers if number not in self._parts.sums]

    def needs(self, blob: Descriptor) -> bool:
        """Return whether the blob must be pushed."""
        return blob.digest not in self._done and blob.digest not in self._at_hand

    def exists(self, blob: Descriptor) -> bool:
        """Return whether the blob is written, or lies in complete parts."""
        return blob.digest in self._done

    def push(self, blob: Descriptor, source: BinaryIO) -> bool:
        """Write a blob of the plan, as `Assembling`; it is durable after `commit`.

        Args:
            blob: what the bytes must be.
            source: the bytes.

        Returns:
            False if the blob was written already.

        Raises:
            DigestMismatch: `source` has other bytes than `blob` says; the blob stays needed.
            SizeMismatch: `source` has another length; the blob stays needed.
        """
        offset = self._plan.offsets[blob.digest]
        numbers = self._numbers(blob.digest, offset)
        what = f"source of blob {blob.digest}"
        actual = hashlib.sha256()
        seen = 0
        while data := source.read(READ_BYTES):
            seen += len(data)
            if seen > blob.size:
                raise SizeMismatch(what, blob.size, seen)
            actual.update(data)
            self._write(memoryview(data), offset + seen - len(data))
        if seen != blob.size:
            raise SizeMismatch(what, blob.size, seen)
        digest = "sha256:" + actual.hexdigest()
        if digest != blob.digest:
            raise DigestMismatch(what, blob.digest, digest)
        return self._count(blob.digest, numbers)

    def _count(self, digest: str, numbers: list[int]) -> bool:
        """Record a verified blob, and complete the parts that wait for no other blob."""
        complete = []
        with self._mutex:
            if digest in self._done:
                return False
            self._done.add(digest)
            for number in numbers:
                self._left[number] -= 1
                if not self._left[number]:
                    complete.append(number)
        if self._is_split:
            for number in complete:
                self._complete(number)
        return True

    def _write(self, data: memoryview, offset: int) -> None:
        """Write bytes at their offset in the archive, except in complete parts."""
        for number in self._parts.numbers(offset, offset + len(data)):
            if number in self._parts.sums:
                continue
            first = number * self._parts.part_bytes
            start = max(offset, first)
            stop = min(offset + len(data), first + self._parts.size(number))
            self._temp(number).write_at(data[start - offset : stop - offset], start - first)

    def _temp(self, number: int) -> TempFile:
        """Return the file that a part is written to; a new one gets the fixed bytes."""
        with self._mutex:
            file = self._temps.get(number)
            if file is not None:
                return file
            with self._directory_lock():  # so that nobody sweeps it before it is locked
                file = TempFile(self._directory, self._prefix)
            self._temps[number] = file
            first = number * self._parts.part_bytes
            end = first + self._parts.size(number)
            for offset, data in self._plan.fixed:
                start, stop = max(offset, first), min(offset + len(data), end)
                if start < stop:
                    file.write_at(data[start - offset : stop - offset], start - first)
            return file

    def _complete(self, number: int) -> None:
        """Give a part of a split archive its name, and the list its line."""
        file = self._temp(number)
        actual = hashlib.sha256()
        offset, size = 0, self._parts.size(number)
        while data := file.read_at(READ_BYTES, offset):
            actual.update(data)
            offset += len(data)
        if offset != size:
            raise SizeMismatch(f"part {self._parts.part_path(number)}", size, offset)
        file.flush()  # gigabytes may be waiting, and other threads for the lock
        with self._mutex, self._directory_lock():
            # First the name: a part without its line is written again, a line without its part
            # would be called damaged.
            file.publish(self._parts.part_path(number))
            self._parts.sums[number] = "sha256:" + actual.hexdigest()
            self._write_list()
            del self._temps[number]

    def commit(self) -> None:
        """Write the blobs at hand, and give the archive its name.

        A damaged blob of the archive to replace raises IntegrityError.

        Raises:
            NotFound: a blob was not pushed.
            StoreError: another process has written the archive meanwhile.
        """
        self._take_over()
        for digest in self._plan.blobs:
            if digest not in self._done:
                raise NotFound("blob", digest, f"never written to {self._path}")
        if self._is_split:
            for number in self._unfinished():  # no blob reaches into these
                self._complete(number)
            return
        file = self._temp(0)
        with self._directory_lock():
            if identity(self._path) != self._before:
                raise StoreError(
                    f"{self._path} was written by another process meanwhile; try again",
                    retryable=True,
                )
            file.publish(self._path)
            del self._temps[0]

    def _take_over(self) -> None:
        """Write the blobs at hand."""
        for digest, open_source in self._at_hand.items():
            if digest not in self._done:
                with open_source() as source:
                    self.push(Descriptor("", digest, self._plan.blobs[digest]), source)

    def __enter__(self) -> Assembly:
        """Return the assembly."""
        if self._is_split:
            # The manifest is at hand; otherwise its part would be the last to be complete.
            try:
                self._take_over()
            except BaseException:
                self.__exit__()
                raise
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the temporary files."""
        for file in self._temps.values():
            file.discard()


def part_list(path: str, plan: TarPlan, part_bytes: int | None) -> PartList:
    """Return the parts of an archive, none of them complete.

    An archive in one file is one part, without a list, that gets its name when all is written.
    Too many parts, or too small ones, raise InvalidParameter.

    Args:
        path: of the archive.
        plan: its layout.
        part_bytes: size of the parts; None for one file.

    Returns:
        The list of parts.
    """
    return PartList(path, plan.size, part_bytes or max(plan.size, 1000), plan.digest)


def bytes_source(data: bytes) -> Source:
    """Return a source of bytes in memory."""
    return lambda: io.BytesIO(data)
