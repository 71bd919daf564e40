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

from packer.errors import FormatError, IntegrityError, NotFound, StoreError
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
_BEHIND = 16
"""Generations behind the newest in which logs are looked for that it does not hold."""
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
            logs = [_read_one(repository, tag) for tag in newest]
            return _merged([*logs, *_left_behind(repository, series.behind(names, _BEHIND), logs)])
        except NotFound:
            if newest == before:
                raise FormatError(
                    f"log of deployments {newest[0]}", "its manifest is gone"
                ) from None
            names, before = repository.names(), newest  # another deployment may have removed it
    raise StoreError(f"{repository.store.name}: the log of deployments does not come to rest")


def _left_behind(
    repository: Repository, tags: list[str], logs: list[list[Entry]]
) -> list[list[Entry]]:
    """Return older logs that the newest do not hold: their writers had not seen one another.

    A log's tag has the nonce of its own entry, and who takes that entry over takes over all of the
    log. So the nonces tell which logs are left, and mostly none is read.
    """
    known, found = {nonce for log in logs for _, _, nonce in log}, []
    for tag in tags:
        if Series.nonce(tag) not in known:
            with contextlib.suppress(NotFound, IntegrityError):
                found.append(_read_one(repository, tag))
                known.update(nonce for _, _, nonce in found[-1])
    return found


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
    """Write the log with a new entry, so that no deployment of the moment is lost.

    The log holds all that was listed before, and only what it holds is removed. What another writer
    has written meanwhile stays, and readers merge it: in the same generation, or left behind by a
    newer one. A writer that was so slow that nobody looks back to it any more writes anew.

    Returns:
        The deployment.

    Raises:
        StoreError: the registry failed, or too many deployments are written at once.
    """
    repository = application.repository
    series = Series(repository, DEPLOYED)
    new = Deployment(sequence, datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"))
    nonce = secrets.token_hex(8)
    entry = (new.sequence, new.time, nonce)
    with repository.lock() as locked:
        names = repository.names()
        for _ in range(_WRITINGS):
            entries = _entries_or_none(application, names)
            log = [*(other for other in entries if other != entry), entry][-MAX_DEPLOYMENTS:]
            tag = series.next_tag(names, nonce)
            repository.put_note(tag, {LOG: canonical_json({"log": log}).decode()})
            series.sweep(names, tag)
            if locked:
                return new
            names = repository.names()
            if max(map(series.generation, names), default=-1) - series.generation(tag) <= _BEHIND:
                return new
    raise StoreError(f"{repository.store.name}: too many deployments at once", retryable=True)


def _entries_or_none(application: Application, names: set[str]) -> list[Entry]:
    """Return the log; an empty one if it is damaged: what is deployed next is known again.

    A registry that fails is an error: the log may be sound, and writing anew would remove it.
    """
    try:
        return _read_entries(application.repository, names)
    except IntegrityError as error:
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
