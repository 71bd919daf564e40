"""The archives that KOTS keeps in S3 or a directory: lists, reads and writes them.

    <prefix>/<application ID>/<sequence>.tar.gz
    <prefix>/supportbundles/<bundle ID>/supportbundle.tar.gz

S3 is reached through fsspec and s3fs (``pip install layer-packer[s3]``); a directory needs neither.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any, TypeVar

from packer.errors import InvalidParameter, SourceChanged, StoreError, UnsafePath
from packer.files.temporary import temporary_directory

BUNDLES = "supportbundles"
_VERSION = re.compile(r"([^/]+)/(0|[1-9][0-9]{0,15})\.tar\.gz\Z")
_BUNDLE = re.compile(rf"{BUNDLES}/([^/]+)/supportbundle\.tar\.gz\Z")
_COPY_BYTES = 1 << 20
"""Bytes read at once."""
_TRIES = 4
"""Attempts of a request to S3 that fails in a way that may pass."""
_LEADS_NOWHERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
"""Errors of following a symbolic link that leads to no file."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Archive:
    """One archive.

    Args:
        app: the application's ID; "" for a support bundle.
        name: sequence number or bundle ID.
        size: in bytes.
        stamp: changes when the archive does: an ETag, or a file's modification time.
        sha256: the SHA-256 recorded for it, in hex; "" if none is.
    """

    app: str
    name: str
    size: int = 0
    stamp: str = ""
    sha256: str = ""

    @property
    def key(self) -> str:
        """Its path below the prefix."""
        if self.app:
            return f"{self.app}/{self.name}.tar.gz"
        return f"{BUNDLES}/{self.name}/supportbundle.tar.gz"

    @property
    def has_path(self) -> bool:
        """Whether no other archive has its key: IDs of a storage are any text."""
        known = _VERSION.match(self.key) if self.app else _BUNDLE.match(self.key)
        return known is not None and known[1] not in (".", "..") and self.app != BUNDLES

    @property
    def order(self) -> tuple[str, int, str]:
        """Sort key: versions by number, so that each finds its predecessor; bundles last."""
        return (self.app, int(self.name), "") if self.app else ("\U0010ffff", 0, self.name)


class Archives:
    """The archives below a place.

    Args:
        place: ``s3://bucket/prefix``, or a directory.
        options: for s3fs, such as ``endpoint_url``; without, the environment of AWS clients counts.

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

            self._s3 = fsspec.filesystem(
                "s3", **{"use_listings_cache": False, "max_concurrency": 1, **(options or {})}
            )
        except ImportError as error:
            raise InvalidParameter("s3:// needs s3fs: pip install 'layer-packer[s3]'") from error
        if not self.place.removeprefix("s3://").strip("/"):
            raise InvalidParameter(f"{place}: no bucket")

    def list(self) -> tuple[list[Archive], int]:
        """Return all archives in the order to migrate them, and the number of other keys."""
        found, others = [], 0
        for key, size, stamp in self._keys():
            if match := _BUNDLE.match(key):
                found.append(Archive("", match[1], size, stamp))
            elif (match := _VERSION.match(key)) and match[1] != BUNDLES:
                found.append(Archive(match[1], match[2], size, stamp))
            else:
                others += 1
        return sorted(found, key=lambda archive: archive.order), others

    def read(self, archive: Archive, file: IO[bytes]) -> str:
        """Write an archive to a file, from the file's start.

        S3 sends no digest that clients check. The bytes are compared with the ETag, which is the
        MD5 of most objects; where it is not (parts, encryption), a second reading has to agree.

        Args:
            archive: as listed.
            file: open for reading and writing; its content is replaced.

        Returns:
            The archive's SHA-256 in hex.

        Raises:
            StoreError: it cannot be read, after some tries, or is not as long as it was listed.
            SourceChanged: a file of a directory was written while it was read.
            OSError: about a file of a directory.
        """

        def once() -> str:
            digest, check = self._copy(archive, file)
            path = self._path(archive)
            if self._s3 is None and _stamp(os.stat(path)) != archive.stamp:
                raise SourceChanged(path)
            if (size := file.tell()) != archive.size:
                raise OSError(f"{size} bytes came, {archive.size} were listed")
            vouched = self._s3 is None or check == archive.stamp
            if not vouched and self._hash(archive) != digest:
                raise OSError("read twice, it was not the same")
            return digest

        return self._tried(f"reading {archive.key}", once)

    def digest(self, archive: Archive) -> str | None:
        """Return an archive's SHA-256, None if it is not there, "" if it is damaged.

        Args:
            archive: its path counts.

        Returns:
            64 hex digits, "" or None.

        Raises:
            StoreError: S3 failed.
        """
        if self.size(archive) is None:
            return None
        try:
            return self._tried(f"reading {archive.key}", lambda: self._hash(archive))
        except StoreError as error:
            if _is_damage(error.__cause__):
                return ""
            raise

    def holds(self, archive: Archive, sha256: str) -> bool:
        """Return whether an archive has this SHA-256; a mismatch is read a second time."""
        return any(self.digest(archive) == sha256 for _ in range(2))

    def write(self, archive: Archive, path: str) -> None:
        """Store a file as an archive: whole or not at all.

        Args:
            archive: says where.
            path: of the file.

        Raises:
            StoreError, OSError: it could not be stored.
        """
        if self._s3 is not None:
            self._tried(
                f"writing {archive.key}", lambda: self._s3.put_file(path, self._path(archive))
            )
            return
        target = self._path(archive)
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

    def remove(self, archive: Archive) -> None:
        """Remove an archive that was just written, and has wrong content."""
        path = self._path(archive)
        if self._s3 is None:
            os.unlink(path)
        else:
            self._tried(f"removing {archive.key}", lambda: self._s3.rm_file(path))

    def size(self, archive: Archive) -> int | None:
        """Return the archive's size in bytes, None if it is not there."""
        path = self._path(archive)
        if self._s3 is None:
            return os.path.getsize(path) if os.path.exists(path) else None
        # Not by HEAD: after a 404, Swift leaves bytes on the connection that break the next call.
        bucket, _, key = path.partition("/")
        found = self._tried(
            f"listing {archive.key}",
            lambda: self._s3.call_s3("list_objects_v2", Bucket=bucket, Prefix=key, MaxKeys=1),
        )
        sizes = [each["Size"] for each in found.get("Contents", []) if each["Key"] == key]
        return sizes[0] if sizes else None

    def _hash(self, archive: Archive) -> str:
        path = self._path(archive)
        if self._s3 is None:
            with open(path, "rb") as source:
                return _digests(source)[0]
        with (
            temporary_directory() as folder,
            open(os.path.join(folder, "archive"), "w+b") as file,
        ):
            return self._copy(archive, file)[0]

    def _copy(self, archive: Archive, file: IO[bytes]) -> tuple[str, str]:
        """Write an archive to a file, from its start; return its SHA-256 and its MD5."""
        path = self._path(archive)
        file.seek(0)
        file.truncate()
        if self._s3 is not None:
            # In one request: rclone sends the checksum of the whole object with a range, and
            # botocore then reports damage.
            self._s3.get_file(path, file.name)
            return _digests(file)
        with open(path, "rb") as source:
            found = _digests(source, file)
        file.flush()
        return found

    def _path(self, archive: Archive) -> str:
        key = archive.key
        if not archive.has_path:
            raise UnsafePath(key, "its ID cannot be a part of a path")
        return f"{self.place.removeprefix('s3://')}/{key}" if self._s3 else f"{self.place}/{key}"

    def _keys(self) -> Iterator[tuple[str, int, str]]:
        if self._s3 is None:
            os.stat(self.place)  # a missing directory is an error, not an empty one
            for folder, _, names in os.walk(self.place):
                for name in names:
                    path = os.path.join(folder, name)
                    key = os.path.relpath(path, self.place).replace(os.sep, "/")
                    try:
                        info = os.stat(path)
                    except OSError as error:
                        if error.errno not in _LEADS_NOWHERE or not os.path.islink(path):
                            raise
                        info = os.lstat(path)
                    if not stat.S_ISREG(info.st_mode):
                        key += "/"  # matches no archive: opening a FIFO would wait for ever
                    yield key, info.st_size, _stamp(info)
            return
        root = self.place.removeprefix("s3://")
        listed: dict[str, Any] = self._tried(
            "listing", lambda: self._s3.find(root, detail=True, refresh=True)
        )
        for path, info in listed.items():
            yield path[len(root) + 1 :], info["size"], str(info.get("ETag", "")).strip('"')

    def _tried(self, what: str, work: Callable[[], T]) -> T:
        """Call `work`; repeat it if S3 fails in a way that may pass."""
        if self._s3 is None:
            return work()
        from aiohttp import ClientError as ConnectionFailed
        from botocore.exceptions import BotoCoreError, ClientError

        for attempt in range(_TRIES):
            try:
                return work()
            except (OSError, BotoCoreError, ClientError, ConnectionFailed) as error:
                final = isinstance(error, (FileNotFoundError, PermissionError))
                if final or attempt == _TRIES - 1:
                    raise StoreError(
                        f"{self.place}: {what}: {type(error).__name__}: {error}",
                        retryable=not final,
                    ) from error
                time.sleep(0.2 * 2**attempt)
        raise AssertionError


def _digests(source: IO[bytes], out: IO[bytes] | None = None) -> tuple[str, str]:
    """Return the SHA-256 and the MD5 of the rest of a file, copying it if `out` is given."""
    digest, check = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    while data := source.read(_COPY_BYTES):
        digest.update(data)
        check.update(data)
        if out is not None:
            out.write(data)
    return digest.hexdigest(), check.hexdigest()


def _is_damage(error: BaseException | None) -> bool:
    """Return whether the bytes that S3 sent contradict the checksum that it keeps with them."""
    from botocore.exceptions import FlexibleChecksumError

    return isinstance(error, FlexibleChecksumError)


def _stamp(info: os.stat_result) -> str:
    return str(info.st_mtime_ns)
