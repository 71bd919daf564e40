"""Which version of an application is deployed, and which were before: one note, rewritten whole.

Of two deployments at the same moment the one written last stands, as it does in the cluster.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone

from packer.errors import FormatError, NotFound
from packer.oci import canonical_json, load_json
from packer.storage.application import Application
from packer.storage.condition import blobs_of
from packer.storage.repository import Repository

DEPLOYED_TAG = "deployed"
LOG = "layer-packer.deployments"
"""Annotation: JSON, ``{"log": [[sequence, time], ...]}``, the newest last."""
MAX_DEPLOYMENTS = 64
"""Deployments in the log: some 2.5 kB."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Deployment:
    """One entry of the log.

    Args:
        sequence: number of the version that was deployed.
        time: when, RFC 3339 in UTC, by the clock of the machine that deployed it.
    """

    sequence: int
    time: str


def read_log(repository: Repository) -> tuple[str, list[Deployment]]:
    """Return the log of deployments.

    Args:
        repository: of the application.

    Returns:
        Digest of the note that holds the log, "" if there is none; and the log, the newest last.

    Raises:
        FormatError: the log is malformed.
    """
    try:
        descriptor, annotations = repository.read_note(DEPLOYED_TAG)
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


def deploy(application: Application, sequence: int) -> Deployment:
    """Mark a version as deployed; see `Storage.deploy`."""
    application.check_version(sequence)
    try:
        old, log = read_log(application.repository)
    except FormatError as error:
        # Later deployments are known again; only the earlier ones are lost.
        _log.warning("%s: the log of deployments is begun anew: %s", application.app, error)
        old, log = "", []
    return _write(application.repository, old, log, sequence)


def rollback(application: Application) -> Deployment:
    """Mark the version as deployed that was deployed before; see `Storage.rollback`."""
    repository = application.repository
    old, log = read_log(repository)
    saved = application.numbers().saved
    before = deployed_before(
        log, lambda number: number in saved and blobs_of(repository, number) is not None
    )
    if before is None:
        raise NotFound("version", "deployed before", f"of {application.app}")
    return _write(repository, old, log, before)


def deployed_before(log: list[Deployment], is_version: Callable[[int], bool]) -> int | None:
    """Return the version that was deployed before the current one, and is still there.

    Args:
        log: the newest last.
        is_version: asked whether a number still names a version; once for each at most.

    Returns:
        Its number, None if there is none.
    """
    if not log:
        return None
    earlier = dict.fromkeys(entry.sequence for entry in reversed(log))
    del earlier[log[-1].sequence]
    return next(filter(is_version, earlier), None)


def _write(repository: Repository, old: str, log: list[Deployment], sequence: int) -> Deployment:
    """Add an entry to the log; `old` is the digest of the note that it replaces."""
    new = Deployment(sequence, datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"))
    kept = [*log, new][-MAX_DEPLOYMENTS:]
    value = {"log": [[entry.sequence, entry.time] for entry in kept]}
    repository.put_note(DEPLOYED_TAG, {LOG: canonical_json(value).decode()})
    if old:
        repository.drop(old)
    return new
