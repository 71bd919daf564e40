"""Records of the processes that write a layout, which garbage collection respects.

A pack relies on versions that were named when it began, and writes blobs that nothing names until
it ends. A pull relies on blobs that it found. So each writer keeps a locked file in ``ingest/``
that lists both. The kernel drops the lock with the process: a record that can be locked was left by
a dead one.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from packer.errors import FormatError
from packer.files.durable import TempFile, read_bounded
from packer.oci import Descriptor, is_digest, load_json

_PREFIX = "use-"
"""Begins the names of records."""
_MAX_BYTES = 32 << 20
"""Bound on a record that is read: index.json and the blobs of a manifest, each far below it."""
_SLACK_SECONDS = 10.0
"""Taken from the time a writer began: some file systems keep times in steps of two seconds, and a
server's clock may differ from ours."""


@dataclass(slots=True)
class Needs:
    """What running writers rely on.

    Args:
        manifests: manifests that were named when a writer began.
        blobs: digests of further blobs.
        since: time in seconds since 1970 from which on no blob may be removed; infinite if
            nothing is being written.
    """

    manifests: list[Descriptor] = field(default_factory=list)
    blobs: set[str] = field(default_factory=set)
    since: float = float("inf")


def record_use(
    ingest: str, manifests: Iterable[Descriptor], blobs: Iterable[Descriptor]
) -> TempFile:
    """Record that this process writes; the caller holds the layout's lock.

    Args:
        ingest: the layout's directory for temporary files.
        manifests: manifests that are named now.
        blobs: further blobs that the caller found in the store, or expects there.

    Returns:
        The record, which holds until it is discarded.
    """
    value = {
        "since": int(time.time()),
        "manifests": [item.to_json() for item in manifests],
        "blobs": [blob.digest for blob in blobs],
    }
    record = TempFile(ingest, _PREFIX)
    try:
        record.write(json.dumps(value).encode("ascii"))
    except BaseException:
        record.discard()
        raise
    return record


def running_uses(ingest: str) -> Needs:
    """Return what running writers rely on, and remove the records of dead ones.

    Args:
        ingest: the layout's directory for temporary files. The caller holds the layout's lock, so
            that no record is being written.

    Returns:
        The needs of all writers together.
    """
    needs = Needs()
    for entry in list(os.scandir(ingest)):
        if not entry.name.startswith(_PREFIX):
            continue
        try:
            fd = os.open(entry.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            continue  # its writer has just ended
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(entry.path)
        except BlockingIOError:
            _add(needs, entry.path)
        except OSError:
            continue  # another user's, and dead
        finally:
            os.close(fd)
    return needs


def _add(needs: Needs, path: str) -> None:
    """Add the needs of one writer; a record that cannot be read keeps everything."""
    try:
        value = load_json(read_bounded(path, _MAX_BYTES), path, _MAX_BYTES)
        since, manifests, blobs = value["since"], value["manifests"], value["blobs"]
        needs.manifests += [Descriptor.from_json(item) for item in manifests]
        needs.blobs.update(blob for blob in blobs if is_digest(blob))
        needs.since = min(needs.since, float(since) - _SLACK_SECONDS)
    except FileNotFoundError:
        return  # its writer has just ended
    except (OSError, FormatError, KeyError, TypeError, ValueError):
        needs.since = 0.0
