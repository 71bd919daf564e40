"""Archives as KOTS keeps them, in S3 or a directory: where they are, reading and writing them.

    <prefix>/<application ID>/<sequence>.tar.gz
    <prefix>/supportbundles/<bundle ID>/supportbundle.tar.gz

S3 is reached through fsspec and s3fs (``pip install layer-packer[s3]``); a directory needs neither.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, TypeVar

from packer.errors import InvalidParameter, StoreError, UnsafePath

BUNDLES = "supportbundles"
_VERSION = re.compile(r"([^/]+)/(0|[1-9][0-9]{0,15})\.tar\.gz\Z")
_BUNDLE = re.compile(rf"{BUNDLES}/([^/]+)/supportbundle\.tar\.gz\Z")
_COPY_BYTES = 1 << 20
_TRIES = 4

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Archive:
    """One archive.

    Args:
        app: the application's ID; "" for a support bundle.
        name: sequence number or bundle ID.
        size: in bytes.
        stamp: changes when the archive does: an ETag, or the time of a file.
    """

    app: str
    name: str
    size: int = 0
    stamp: str = ""

    @property
    def key(self) -> str:
        """Where it is, below the prefix."""
        if self.app:
            return f"{self.app}/{self.name}.tar.gz"
        return f"{BUNDLES}/{self.name}/supportbundle.tar.gz"

    @property
    def order(self) -> tuple[str, int, str]:
        """Versions by sequence number, so that each finds its predecessor; bundles last."""
        return (self.app, int(self.name), "") if self.app else ("\U0010ffff", 0, self.name)


class Archives:
    """The archives below a place.

    Args:
        place: ``s3://bucket/prefix``, or a directory.
        options: for s3fs, such as ``endpoint_url``; else the environment of AWS clients counts.

    Raises:
        InvalidParameter: s3fs is not installed, or there is no bucket.
    """

    def __init__(self, place: str, options: Mapping[str, Any] | None = None) -> None:
        self.place = place.rstrip("/") or place
        self._s3: Any = None
        if not place.startswith("s3://"):
            return
        try:
            import fsspec

            self._s3 = fsspec.filesystem("s3", use_listings_cache=False, **(options or {}))
        except ImportError as error:
            raise InvalidParameter("s3:// needs s3fs: pip install 'layer-packer[s3]'") from error
        if not self.place.removeprefix("s3://").strip("/"):
            raise InvalidParameter(f"{place}: no bucket")

    def list(self) -> tuple[list[Archive], int]:
        """Return all archives in the order to migrate them, and how many other keys there are."""
        found, others = [], 0
        for key, size, stamp in self._keys():
            if match := _BUNDLE.match(key):
                found.append(Archive("", match[1], size, stamp))
            elif (match := _VERSION.match(key)) and match[1] != BUNDLES:
                found.append(Archive(match[1], match[2], size, stamp))
            else:
                others += 1
        return sorted(found, key=lambda archive: archive.order), others

    def read(self, archive: Archive, file: BinaryIO) -> str:
        """Write an archive to a file, from its start; return its SHA-256.

        Raises:
            StoreError: it cannot be read, after some tries, or is not as long as it was listed.
            OSError: about a file of a directory.
        """

        def once() -> str:
            file.seek(0)
            file.truncate()
            digest, size = hashlib.sha256(), 0
            with self._open(archive.key, "rb") as source:
                while data := source.read(_COPY_BYTES):
                    digest.update(data)
                    size += len(data)
                    file.write(data)
            if size != archive.size:
                raise OSError(f"{size} bytes came, {archive.size} were listed")
            file.flush()
            return digest.hexdigest()

        return self._tried(f"reading {archive.key}", once)

    def digest(self, archive: Archive) -> str | None:
        """Return the SHA-256 of what is there, or None if nothing is."""

        def once() -> str | None:
            digest = hashlib.sha256()
            try:
                with self._open(archive.key, "rb") as source:
                    while data := source.read(_COPY_BYTES):
                        digest.update(data)
            except FileNotFoundError:
                return None
            return digest.hexdigest()

        return self._tried(f"reading {archive.key}", once)

    def write(self, archive: Archive, path: str) -> None:
        """Store a file as an archive: whole or not at all.

        Raises:
            StoreError, OSError: it could not be stored.
        """
        if self._s3 is not None:
            self._tried(
                f"writing {archive.key}", lambda: self._s3.put_file(path, self._path(archive.key))
            )
            return
        target = self._path(archive.key)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        temporary = f"{target}.{os.getpid()}.tmp"
        try:
            shutil.copyfile(path, temporary)
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
            os.replace(temporary, target)
        except BaseException:
            if os.path.lexists(temporary):
                os.unlink(temporary)
            raise

    def _path(self, key: str) -> str:
        # IDs of a storage are any text: they must not lead out of the place, or be read otherwise.
        app = key.partition("/")[0]
        known = _BUNDLE.match(key) if app == BUNDLES else _VERSION.match(key)
        if known is None or known[1] in (".", ".."):
            raise UnsafePath(key, "its ID cannot be a part of a path")
        return f"{self.place.removeprefix('s3://')}/{key}" if self._s3 else f"{self.place}/{key}"

    def _open(self, key: str, mode: str) -> Any:
        if self._s3 is None:
            return open(self._path(key), mode)
        return self._s3.open(self._path(key), mode, block_size=8 << 20, cache_type="readahead")

    def _keys(self) -> Iterator[tuple[str, int, str]]:
        if self._s3 is None:
            os.stat(self.place)  # a missing directory is an error, not an empty one
            for folder, _, names in os.walk(self.place):
                for name in names:
                    path = os.path.join(folder, name)
                    stat = os.stat(path)
                    key = os.path.relpath(path, self.place).replace(os.sep, "/")
                    yield key, stat.st_size, str(stat.st_mtime_ns)
            return
        root = self.place.removeprefix("s3://")
        listed: dict[str, Any] = self._tried(
            "listing", lambda: self._s3.find(root, detail=True, refresh=True)
        )
        for path, info in listed.items():
            yield path[len(root) + 1 :], info["size"], str(info.get("ETag", "")).strip('"')

    def _tried(self, what: str, work: Callable[[], T]) -> T:
        """Do something with S3, again if it fails in a way that may pass."""
        if self._s3 is None:
            return work()
        from botocore.exceptions import BotoCoreError, ClientError

        for attempt in range(_TRIES):
            try:
                return work()
            except (OSError, BotoCoreError, ClientError) as error:
                final = isinstance(error, (FileNotFoundError, PermissionError))
                if final or attempt == _TRIES - 1:
                    raise StoreError(
                        f"{self.place}: {what}: {type(error).__name__}: {error}",
                        retryable=not final,
                    ) from error
                time.sleep(0.2 * 2**attempt)
        raise AssertionError
