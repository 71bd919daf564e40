"""The files of an image layout: made when they are needed, replaced whole, changed under a lock."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterator
from typing import Any

from packer.errors import InvalidParameter, NotFound
from packer.files.durable import (
    TempFile,
    locked,
    make_directory,
    read_bounded,
    sweep,
    sync_directory,
)
from packer.stores.index_json import (
    LAYOUT_BYTES,
    MAX_LAYOUT_BYTES,
    check_layout_version,
    encode_index,
)

_EMPTY_INDEX = b'{"schemaVersion":2,"manifests":[]}'
_HEX = re.compile(r"[0-9a-f]{64}\Z")


class LayoutDirectory:
    """Paths, lock and making of one image layout.

    Args:
        path: the directory.
        create: make a missing or empty directory a layout now.
        late: make it a layout by the first `prepare`; until then it is an empty store.
        durable: whether files and names are synced.

    Raises:
        NotFound: there is no layout, and neither `create` nor `late` is given.
        InvalidParameter: `path` is a file, or a directory that holds something else.
        UnsupportedVersion: a layout of a later version.
    """

    def __init__(self, path: str, *, create: bool, late: bool, durable: bool = True) -> None:
        self._durable = durable
        self.path = os.path.abspath(path)
        self.blobs = os.path.join(self.path, "blobs", "sha256")
        self.ingest = os.path.join(self.path, "ingest")
        self.index = os.path.join(self.path, "index.json")
        self._marker = os.path.join(self.path, "oci-layout")
        self._is_writable = False  # directories made, leftovers swept
        self._is_missing = False  # to be made by the first write
        if not os.path.lexists(self._marker):
            self._is_missing = not self._is_there() and late
            if self._is_missing:
                return
            self._create(create)
        check_layout_version(read_bounded(self._marker, MAX_LAYOUT_BYTES), self._marker)

    def blob_path(self, digest: str) -> str:
        """Return the path of a blob; `digest` has been checked."""
        return os.path.join(self.blobs, digest[7:])

    def temporary(self) -> TempFile:
        """Return a new file in `ingest`, to be written and published."""
        return TempFile(self.ingest, durable=self._durable)

    def sync_blobs(self) -> None:
        """Make the names of blobs durable, if the layout is."""
        if self._durable:
            sync_directory(self.blobs)

    def lock(self) -> contextlib.AbstractContextManager[None]:
        """Hold the lock of the layout, against threads and processes."""
        return locked(os.path.join(self.ingest, "lock"))

    def prepare(self) -> None:
        """Before the first write: make missing directories and index.json, sweep leftovers."""
        if self._is_writable:
            return
        if self._is_missing:
            self._create(True)
            self._is_missing = False
        make_directory(self.ingest, durable=self._durable)
        make_directory(self.blobs, durable=self._durable)
        with self.lock():
            if not os.path.lexists(self.index):
                self._write(_EMPTY_INDEX, self.index)
        sweep(self.ingest)
        self._is_writable = True

    def write_index(self, value: dict[str, Any]) -> None:
        """Replace index.json; the caller holds the lock."""
        self._write(encode_index(value, self.index), self.index)

    @property
    def is_missing(self) -> bool:
        """Whether there is no layout yet."""
        return self._is_missing

    def blob_files(self) -> Iterator[tuple[str, os.stat_result]]:
        """Yield digest and status of each blob's file."""
        try:
            entries = list(os.scandir(self.blobs))
        except (FileNotFoundError, NotADirectoryError):
            return
        for entry in entries:
            if _HEX.match(entry.name):
                with contextlib.suppress(FileNotFoundError):
                    status = entry.stat(follow_symlinks=False)
                    if stat.S_ISREG(status.st_mode):
                        yield "sha256:" + entry.name, status

    def sweep(self, *, dry_run: bool = False) -> tuple[int, int]:
        """Remove temporary files of writers that died; return their number and bytes."""
        return sweep(self.ingest, dry_run=dry_run)

    def _write(self, data: bytes, path: str) -> None:
        """Give `path` new content, in one step."""
        with self.temporary() as file:
            file.write(data)
            file.publish(path)

    def _is_there(self) -> bool:
        """Return whether another process has just made the layout; if not, it may be made here."""
        try:
            others = set(os.listdir(self.path)) - {"ingest"}
        except FileNotFoundError:
            others = set()
        except NotADirectoryError:
            if os.path.lexists(self.path):
                raise InvalidParameter(
                    f"{self.path} is not a directory, so no image layout"
                ) from None
            others = set()  # a parent is a file, as with HOME=/dev/null
        if os.path.lexists(self._marker):
            return True
        if others:
            raise InvalidParameter(
                f"{self.path} is not empty and no OCI image layout (it has no file oci-layout)"
            )
        return False

    def _check_name(self) -> None:
        """Refuse to make a directory whose name was most likely meant as something else."""
        missing, new = self.path, ""
        while not os.path.lexists(missing) and missing != os.path.dirname(missing):
            missing, base = os.path.split(missing)
            new = os.path.join(base, new)
        if ":" in new:
            raise InvalidParameter(
                f"no directory with ':' in its name is made: {self.path} (a registry is "
                "host/repository:tag or oci://host/repository:tag; if a directory is meant, make "
                "it first)"
            )

    def _create(self, create: bool) -> None:
        """Make the directory a layout, or say why not."""
        if self._is_there():
            return
        if not create:
            raise NotFound("image layout", self.path, "no file oci-layout there")
        self._check_name()
        # Before the marker is there, only ingest/ may be: whoever meets an unfinished layout, after
        # a crash or while another process makes it, can then tell it from a stranger's directory.
        make_directory(self.ingest, durable=self._durable)
        with self.lock(), self.temporary() as file:
            if not os.path.lexists(self._marker):
                file.write(LAYOUT_BYTES)
                file.publish(self._marker)
        self._is_missing = False
        self.prepare()
