"""Which version of an application is deployed, and which were before: a log in a series of notes.

Each deployment writes the log of the last ones, its own included, as a new note. Of two deployments
at the same moment the one written last counts, as it does in the cluster.
"""

from __future__ import annotations

import contextlib
import json
import logging
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timezone

from packer.errors import AuthError, FormatError, IntegrityError, NotFound, StoreError
from packer.oci import canonical_json, load_json
from packer.storage.application import Application
from packer.storage.condition import blobs_of
from packer.storage.state.repository import Repository
from packer.storage.state.sequence_numbers import Numbers
from packer.storage.state.series import Series

DEPLOYED = "deployed"
"""Prefix of the series of tags that name the log of deployments."""
LOG = "layer-packer.deployments"
"""Annotation: JSON, ``{"log": [[sequence, time, nonce], ...]}``, the newest last."""
MAX_DEPLOYMENTS = 64
"""Deployments in the log: some 4 kB."""
_READINGS = 8
"""Attempts to read a log that other deployments replace meanwhile."""
_WRITINGS = 32
"""Attempts of a deployment to be recorded beside others that are written at the same moment."""

Entry = tuple[int, str, str]
"""Sequence number, time and nonce of a deployment; the nonce tells it from all others."""

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


def read_log(repository: Repository, names: Iterable[str]) -> list[Deployment]:
    """Return the log of deployments.

    Args:
        repository: of the application.
        names: its tags, as listed just before.

    Returns:
        The deployments, the newest last.

    Raises:
        FormatError: the log is malformed.
        StoreError: the registry failed; or the log is listed, and is not there.
    """
    return [Deployment(sequence, time) for sequence, time, _ in _read_entries(repository, names)]


def _read_entries(repository: Repository, names: Iterable[str]) -> list[Entry]:
    series, before = Series(repository, DEPLOYED), [""]
    for _ in range(_READINGS):
        newest = series.newest(names)
        try:
            return _merged([_read_one(repository, tag) for tag in newest])
        except NotFound:
            if newest == before:
                raise FormatError(
                    f"log of deployments {newest[0]}", "its manifest is gone"
                ) from None
            names, before = repository.names(), newest  # another deployment may have removed it
    raise StoreError(f"{repository.store.name}: the log of deployments does not come to rest")


def _read_one(repository: Repository, tag: str) -> list[Entry]:
    descriptor, annotations = repository.read_note(tag)
    what = f"log of deployments {descriptor.digest}"
    items = load_json(annotations.get(LOG, "").encode(), what).get("log")
    if not isinstance(items, list) or not items:
        raise FormatError(what, "no list")
    for item in items:
        if not isinstance(item, list) or [type(part) for part in item] != [int, str, str]:
            raise FormatError(what, f"{json.dumps(item)[:80]} is no entry")
    return [tuple(item) for item in items]


def _merged(logs: list[list[Entry]]) -> list[Entry]:
    """Return one log of several that were written at once; the last entry of the first counts."""
    earlier = {entry: None for log in reversed(logs) for entry in log[:-1]}
    last = {log[-1]: None for log in reversed(logs) if log[-1] not in earlier}
    return [*earlier, *last]


def deploy(application: Application, sequence: int) -> Deployment:
    """Mark a version as deployed; see `Storage.deploy`."""
    application.check_version(sequence)
    return _append(application, sequence)


def rollback(application: Application) -> Deployment:
    """Mark the version as deployed that was deployed before; see `Storage.rollback`."""
    repository = application.repository
    names = repository.names()
    saved = Numbers.read(names).saved
    log = read_log(repository, names)
    before = deployed_before(
        log, lambda number: number in saved and blobs_of(repository, number) is not None
    )
    if before is None:
        why = "no other version was deployed before, or it was deleted since"
        raise NotFound("earlier deployment", application.app, why if log else "nothing is deployed")
    return _append(application, before)


def _append(application: Application, sequence: int) -> Deployment:
    """Write the log with a new entry, and see to it that no deployment of the moment is lost.

    Two writers that list the same tags write the same generation, and readers merge both. A writer
    that listed before another one wrote may write a newer generation that lacks the other's entry.
    So each looks again after it wrote: for a newer log that lacks its own entry, and for older ones
    that its own log lacks. In either case it writes anew.

    Returns:
        The deployment.

    Raises:
        StoreError: the registry failed, or too many deployments are written at once.
    """
    repository = application.repository
    series = Series(repository, DEPLOYED)
    new = Deployment(sequence, datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"))
    entry = (new.sequence, new.time, secrets.token_hex(8))
    with repository.lock() as locked:
        names = repository.names()
        known = series.tags(names)
        entries = _entries_or_none(application, names)
        for _ in range(_WRITINGS):
            log = [*(other for other in entries if other != entry), entry][-MAX_DEPLOYMENTS:]
            tag = series.next_tag(names)
            repository.put_note(tag, {LOG: canonical_json({"log": log}).decode()})
            series.sweep(known, tag)
            if locked:
                return new
            names = repository.names()
            entries = _entries_or_none(application, names)
            own = series.generation(tag)
            older = [each for each in series.tags(names) - known if series.generation(each) < own]
            missed = [last for last in _last_entries(repository, older) if last not in entries]
            is_newest = max(map(series.generation, names)) <= own
            if entry in entries and not (is_newest and missed):
                return new
            entries += missed
            known |= series.tags(names)
    raise StoreError(f"{repository.store.name}: too many deployments at once", retryable=True)


def _last_entries(repository: Repository, tags: Iterable[str]) -> list[Entry]:
    """Return the deployments that tags were written for, as far as they can be read."""
    found = []
    for tag in sorted(tags):
        with contextlib.suppress(NotFound, IntegrityError):
            found.append(_read_one(repository, tag)[-1])
    return found


def _entries_or_none(application: Application, names: set[str]) -> list[Entry]:
    """Return the log; an empty one if it cannot be read: what is deployed next is known again."""
    try:
        return _read_entries(application.repository, names)
    except (IntegrityError, StoreError) as error:
        if isinstance(error, AuthError):
            raise
        _log.warning("%s: the log of deployments is begun anew: %s", application.app, error)
        return []


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
