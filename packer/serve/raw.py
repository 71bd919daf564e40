"""The bytes of a file of a version: whole or in a range, and never in a way that a browser runs."""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Callable, Iterator
from typing import Protocol
from urllib.parse import quote

import anyio
import anyio.to_thread
from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from packer.errors import InvalidParameter, PackerError
from packer.reading.version_file import open_entry
from packer.serve.limits import Stop, watched
from packer.serve.opened import Opened
from packer.serve.pages import IMAGES
from packer.serve.texts import read
from packer.serve.trees import content_type, find_file

PIECE_BYTES = 256 << 10
"""Bytes that are read and sent at a time."""
POLICY = "sandbox; default-src 'none'"
"""Content-Security-Policy of files: a browser that shows one runs nothing in it."""
INLINE = (*IMAGES, "text/plain")
"""Types that a browser may show; all others are saved."""
_log = logging.getLogger(__name__)
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})\Z")


class Source(Protocol):
    """The content of a file."""

    size: int | None
    """Size in bytes; None if it is not known before all is read, as in archives."""

    def read(self, count: int) -> bytes:
        """Return the next bytes, b"" at the end."""

    def seek(self, offset: int) -> None:
        """Move to a position."""

    def close(self) -> None:
        """Release files and memory."""


class _Entry:
    """A file of a version."""

    def __init__(self, opened: Opened, path: str, entry: int, stop: Stop) -> None:
        self.size: int | None = opened.sizes[entry]
        self._file = open_entry(watched(opened.version, stop), os.fsencode(path))

    def read(self, count: int) -> bytes:
        return self._file.read(count)

    def seek(self, offset: int) -> None:
        self._file.seek(offset)

    def close(self) -> None:
        self._file.close()


class _Member:
    """A file in an archive, which is read from its front."""

    size: int | None = None

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._held = next(pieces, b"")  # errors come before the first byte is sent

    def read(self, count: int) -> bytes:
        out, self._held = self._held, b""
        while not out:
            piece = next(self._pieces, None)
            if piece is None:
                return b""
            out = piece
        self._held = out[count:]
        return out[:count]

    def seek(self, offset: int) -> None:
        raise InvalidParameter("a file in an archive has no ranges")

    def close(self) -> None:
        close: Callable[[], None] | None = getattr(self._pieces, "close", None)
        if close is not None:
            close()


def open_source(opened: Opened, path: str, stop: Stop) -> Source:
    """Open a file of a version.

    Args:
        opened: the version.
        path: of the file; it may lead into an archive.
        stop: of the request.

    Returns:
        Its content.

    Raises:
        NotFound: there is no such file.
        InvalidParameter: the path names no file, or leads into an archive that is too large.
    """
    place = find_file(opened, path)
    if place.within is None:
        return _Entry(opened, path, place.entry, stop)
    return _Member(read(opened, path, stop))


def headers_of(opened: Opened, path: str, *, download: bool) -> dict[str, str]:
    """Return the headers of a file, without those of its length."""
    kind = content_type(path)
    text = "; charset=utf-8" if kind.startswith("text/") else ""
    is_shown = kind in INLINE and not download
    name = quote(os.fsencode(path.rpartition("/")[2]), safe="")
    tag = hashlib.sha256(os.fsencode(f"{opened.digest}\0{path}")).hexdigest()[:32]
    return {
        "content-type": kind + text,
        "content-disposition": f"{'inline' if is_shown else 'attachment'}; filename*=UTF-8''{name}",
        "content-security-policy": POLICY,
        "etag": f'"{tag}"',
    }


class FileResponse:
    """An answer with a file, or a range of it; an ASGI application.

    Args:
        source: the file; closed at the end.
        headers: of the answer.
        stop: set when the client is gone.
        limiter: bounds the reads that run at once.
        on_sent: called with the number of bytes of each piece.
    """

    def __init__(
        self,
        source: Source,
        headers: dict[str, str],
        stop: Stop,
        limiter: anyio.CapacityLimiter,
        on_sent: Callable[[int], None],
    ) -> None:
        self._source = source
        self._headers = headers
        self._stop = stop
        self._limiter = limiter
        self._on_sent = on_sent

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the file."""
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(_until_gone, receive, self._stop)
                try:
                    await self._answer(scope, send)
                except (PackerError, OSError) as error:
                    # The answer has begun: that it ends before its length says it all. The server
                    # then closes the connection.
                    if not self._stop.is_gone:
                        _log.warning("%s: %s", scope["path"], error)
                group.cancel_scope.cancel()
        finally:
            self._stop.set()
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(self._source.close)

    async def _answer(self, scope: Scope, send: Send) -> None:
        size = self._source.size
        asked = Headers(scope=scope)
        headers = dict(self._headers)
        status, start, count = 200, 0, size
        if asked.get("if-none-match") == headers["etag"]:
            status, count = 304, 0
        elif size is not None:
            headers["accept-ranges"] = "bytes"
            wanted = asked.get("range", "")
            if asked.get("if-range", headers["etag"]) == headers["etag"] and wanted:
                status, start, count = _range(wanted, size)
            if status == 206:
                headers["content-range"] = f"bytes {start}-{start + (count or 0) - 1}/{size}"
            elif status == 416:
                headers["content-range"] = f"bytes */{size}"
            headers["content-length"] = str(count)
        raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": status, "headers": raw})
        if scope["method"] != "HEAD" and status in (200, 206):
            await self._send(send, start, count)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send(self, send: Send, start: int, count: int | None) -> None:
        if start:
            await anyio.to_thread.run_sync(self._source.seek, start)
        left = count
        while left is None or left > 0:
            wanted = PIECE_BYTES if left is None else min(left, PIECE_BYTES)
            self._stop.renew()
            self._stop.check()  # what was decoded already is read without a look at it
            data = await anyio.to_thread.run_sync(self._source.read, wanted, limiter=self._limiter)
            if not data:
                return
            left = None if left is None else left - len(data)
            await send({"type": "http.response.body", "body": data, "more_body": True})
            self._on_sent(len(data))


async def _until_gone(receive: Receive, stop: Stop) -> None:
    """Set an event when the client is gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
    stop.set()


def _range(header: str, size: int) -> tuple[int, int, int]:
    """Return the status, first byte and length that a Range header asks for (RFC 9110, 14.2)."""
    found = _RANGE.match(header.strip())
    if found is None or not (found[1] or found[2]):
        return 200, 0, size  # several ranges, or none that is known: all of it
    if not found[1]:
        count = min(int(found[2]), size)
        return (206, size - count, count) if count else (416, 0, 0)
    start = int(found[1])
    last = min(int(found[2]), size - 1) if found[2] else size - 1
    if found[2] and int(found[2]) < start:
        return 200, 0, size
    return (206, start, last - start + 1) if start < size else (416, 0, 0)
