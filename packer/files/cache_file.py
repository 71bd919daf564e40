"""Files of caches: whole and sound, or treated as missing."""

from __future__ import annotations

import contextlib
import os
import re
import stat
import time

import xxhash

MAX_CACHE_BYTES = 256 << 20
"""Greatest sum in bytes of a directory of caches: the digests of some 32 trees of 50,000 files, and
the sketches of 1,000 layers. Beyond, the files written longest ago go: what they save is computed
again."""

_TEMPORARY = re.compile(r".+\.[0-9a-f]{8}\Z")
"""Names of cache files that are being written."""
_TEMPORARY_SECONDS = 3600.0
"""Age in seconds from which such a file is taken for a killed process's: far above the time that
writing a cache takes."""
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


def trim_caches(
    directory: str, most_bytes: int = MAX_CACHE_BYTES, *, dry_run: bool = False
) -> tuple[int, int]:
    """Remove the cache files written longest ago, and files that killed processes left.

    Args:
        directory: of caches alone; may be missing, "" for none.
        most_bytes: greatest sum of the files that stay; 0 for none. Else the newest file stays.
        dry_run: only count the files.

    Returns:
        The number of files removed, and their bytes.
    """
    if not directory:
        return 0, 0
    now, held, count, size = time.time(), 0, 0, 0
    for path, status in sorted(cache_files(directory), key=lambda item: -item[1].st_mtime_ns):
        is_left = _TEMPORARY.match(path) and abs(now - status.st_mtime) > _TEMPORARY_SECONDS
        fits = held + status.st_size <= most_bytes or (most_bytes and not held)
        if fits and not is_left:
            held += status.st_size
            continue
        with contextlib.suppress(OSError):
            if not dry_run:
                os.unlink(path)
            count += 1
            size += status.st_size
    return count, size


def cache_files(directory: str) -> list[tuple[str, os.stat_result]]:
    """Return the files of a directory of caches.

    Args:
        directory: may be missing.

    Returns:
        Path and status of each regular file.
    """
    found = []
    with contextlib.suppress(OSError), os.scandir(directory) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                status = entry.stat(follow_symlinks=False)
                if stat.S_ISREG(status.st_mode):
                    found.append((entry.path, status))
    return found
