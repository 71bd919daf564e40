"""Which version of an application is deployed, and which were before: one note, rewritten whole.

Of two deployments at the same moment the one written last stands, as it does in the cluster.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone

from packer.errors import FormatError, NotFound
from packer.oci import canonical_json, load_json
from packer.storage.repository import Shelf

DEPLOYED_TAG = "deployed"
LOG = "layer-packer.deployments"
"""Annotation: JSON, ``{"log": [[sequence, time], ...]}``, the newest last."""
MAX_DEPLOYMENTS = 64


@dataclass(frozen=True, slots=True)
class Deployment:
    """One entry of the log.

    Args:
        sequence: that was deployed.
        time: when, RFC 3339 in UTC, by the clock of who did it.
    """

    sequence: int
    time: str


def read_log(shelf: Shelf) -> tuple[str, list[Deployment]]:
    """Return the digest of the note, "" if there is none, and the log, the newest last.

    Raises:
        FormatError: it is malformed.
    """
    try:
        descriptor, annotations = shelf.read_note(DEPLOYED_TAG)
    except NotFound:
        return "", []
    what = f"log of deployments {descriptor.digest}"
    items = load_json(annotations.get(LOG, "").encode(), what).get("log")
    if not isinstance(items, list):
        raise FormatError(what, "no list")
    out: list[Deployment] = []
    for item in items:
        if not isinstance(item, list) or [type(part) for part in item] != [int, str]:
            raise FormatError(what, f"{json.dumps(item)[:80]} is no entry")
        out.append(Deployment(*item))
    return descriptor.digest, out


def write_log(shelf: Shelf, old: str, log: list[Deployment], sequence: int) -> Deployment:
    """Add an entry to the log; `old` is the digest of the note it replaces."""
    new = Deployment(sequence, datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"))
    kept = [*log, new][-MAX_DEPLOYMENTS:]
    value = {"log": [[entry.sequence, entry.time] for entry in kept]}
    shelf.put_note(DEPLOYED_TAG, {LOG: canonical_json(value).decode()})
    if old:
        shelf.drop(old)
    return new


def deployed_before(log: list[Deployment], is_version: Callable[[int], bool]) -> int | None:
    """Return the version that was deployed before the one that is, and is still there.

    Args:
        log: the newest last.
        is_version: asked whether a number still names a version; once for each at most.
    """
    if not log:
        return None
    earlier = dict.fromkeys(entry.sequence for entry in reversed(log))
    del earlier[log[-1].sequence]
    return next(filter(is_version, earlier), None)
