"""Files of caches: whole and sound, or treated as missing."""

from __future__ import annotations

import contextlib
import os

import xxhash

_CHECK_BYTES = 8
"""Length of the XXH3-64 digest at the end of a file, in bytes."""


def read_cache(path: str, most: int) -> bytes | None:
    """Read a file that `write_cache` wrote.

    Args:
        path: of the file.
        most: greatest length of the content in bytes.

    Returns:
        The content, or None if the file is missing, damaged or longer.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(most + _CHECK_BYTES + 1)
    except OSError:
        return None
    body, check = data[:-_CHECK_BYTES], data[-_CHECK_BYTES:]
    return body if len(body) <= most and xxhash.xxh3_64_digest(body) == check else None


def write_cache(path: str, body: bytes) -> None:
    """Replace a cache file, and create its directory; do nothing if the disk refuses."""
    temporary = f"{path}.{os.urandom(4).hex()}"
    with contextlib.suppress(OSError):  # a full or read-only disk costs the cache, not the work
        os.makedirs(os.path.dirname(path), exist_ok=True)
        try:
            with open(temporary, "wb") as file:
                file.write(body + xxhash.xxh3_64_digest(body))
            os.replace(temporary, path)
        except OSError:
            os.unlink(temporary)
