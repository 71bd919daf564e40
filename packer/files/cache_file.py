"""Files of caches beside a local store: whole and sound, or not there."""

from __future__ import annotations

import contextlib
import os
import secrets

import xxhash

_CHECK_BYTES = 8


def read_cache(path: str, most: int) -> bytes | None:
    """Return what `write_cache` wrote; None if it is missing, damaged or more than `most` bytes."""
    try:
        with open(path, "rb") as file:
            data = file.read(most + _CHECK_BYTES + 1)
    except OSError:
        return None
    body, check = data[:-_CHECK_BYTES], data[-_CHECK_BYTES:]
    return body if len(body) <= most and xxhash.xxh3_64_digest(body) == check else None


def write_cache(path: str, body: bytes) -> None:
    """Write a file whole, and its directory if it is missing, if that can be done."""
    temporary = f"{path}.{secrets.token_hex(4)}"
    with contextlib.suppress(OSError):  # a full or read-only disk costs only the saving
        os.makedirs(os.path.dirname(path), exist_ok=True)
        try:
            with open(temporary, "wb") as file:
                file.write(body + xxhash.xxh3_64_digest(body))
            os.replace(temporary, path)
        except OSError:
            os.unlink(temporary)
