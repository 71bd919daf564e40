"""Deleting versions of an application, one or all but a few."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

from packer.errors import Conflict, IntegrityError, NotFound, StoreError
from packer.storage.application import Application
from packer.storage.condition import Condition, Examiner, Finding, blobs_of, newest_sound
from packer.storage.deployments import deployed_before, read_log
from packer.storage.results import Retained
from packer.storage.state.repository import Repository
from packer.storage.state.sequence_numbers import Numbers, sweep_claims
from packer.stores.layout import LayoutStore

_THREADS = 8
"""Manifests read at once."""

_log = logging.getLogger(__name__)


def delete(application: Application, sequence: int) -> None:
    """Delete a version, or what else its number names; see `Storage.delete`."""
    repository = application.repository
    names = repository.names()
    numbers = Numbers.read(names)
    if sequence not in numbers.saved:
        raise application.no_version(sequence)
    log = read_log(repository, names)
    if log and log[-1].sequence == sequence and blobs_of(repository, sequence) is not None:
        why = "it is deployed; deploy another version before you delete this one"
        raise Conflict("version", f"{sequence} of {application.app}", why)
    delete_number(repository, sequence, numbers)
    application.forget(sequence)


def delete_number(repository: Repository, sequence: int, numbers: Numbers) -> None:
    """Delete a version, and make sure that its number is not given to another one.

    Args:
        repository: of the application.
        sequence: number of the version.
        numbers: those in use, as listed just before.

    Raises:
        NotFound: there is no such version.
        RegistryError: the registry does not delete.
    """
    if sequence == numbers.top and sequence not in numbers.gone:
        repository.mark(f"gone-{sequence}", {})  # before it goes
    repository.remove_version(str(sequence))
    for gone in numbers.gone:
        if gone < numbers.top:  # a greater number says the same
            mark = f"gone-{gone}"
            with contextlib.suppress(NotFound):  # another process was faster
                repository.try_remove(mark, repository.store.resolve(mark).digest)


def withdraw(application: Application, sequence: int) -> None:
    """Remove a version as if it had never been; see `Storage.withdraw`."""
    if not application.repository.holds(str(sequence)):
        raise application.no_version(sequence)
    # First: no reader may take the old record for the record of the number's next version.
    application.ledger.strike(str(sequence))
    application.repository.remove_version(str(sequence))
    application.forget(sequence)


def retain(
    application: Application,
    keep: int,
    protect: Iterable[int],
    deleted: Callable[[int], None],
    *,
    dry_run: bool = False,
) -> Retained:
    """Delete all but the newest versions and those that are needed; see `Storage.retain`.

    Only versions that can be loaded are counted. A damaged version newer than the oldest kept one
    is left alone, as somebody may mend it; an older one is deleted. A number that names something
    that no storage wrote is left alone.

    Args:
        application: whose versions.
        keep: how many of the newest.
        protect: numbers to keep besides.
        deleted: called after each deletion; may raise to stop.
        dry_run: decide the same, and delete nothing.

    Returns:
        The numbers that were, or would be, deleted, kept, and left alone.

    Raises:
        StoreError: no version can be read; nothing was deleted.
    """
    repository, names = application.repository, application.repository.names()
    numbers = Numbers.read(names)
    saved = sorted(numbers.saved, reverse=True)
    findings = newest_sound(Examiner(repository), saved, keep)
    _check_any_known(repository, findings)
    newest = {one.sequence for one in findings if one.condition is Condition.SOUND}
    stay = newest | (_needed(repository, names, protect) & numbers.saved)
    skipped = {one.sequence for one in findings} - stay
    older = [number for number in saved if number not in stay | skipped]
    blobs = _blobs_of_all(repository, [*older, *sorted(stay)])
    kept = dict(item for number in stay for item in blobs[number].items())
    freed: dict[str, int] = {}
    go = [number for number in reversed(older) if blobs[number] or _is_rubbish(repository, number)]
    for number in go:
        freed.update(item for item in blobs[number].items() if item[0] not in kept)
        if dry_run:
            continue
        with contextlib.suppress(NotFound):  # another replica retains at the same time
            delete_number(repository, number, numbers)
        numbers.gone -= {gone for gone in numbers.gone if gone < numbers.top}  # removed
        application.forget(number)
        deleted(number)
    if not dry_run:
        sweep_claims(repository, names)
        _collect(repository)
    skipped |= set(older) - set(go)
    return Retained(
        deleted=tuple(go),
        kept=tuple(sorted(stay)),
        freed_bytes=sum(freed.values()),
        kept_bytes=sum(kept.values()),
        skipped=tuple(sorted(skipped)),
    )


def _blobs_of_all(repository: Repository, numbers: list[int]) -> dict[int, dict[str, int]]:
    """Return the blobs that each number needs; none for what is no version."""
    with ThreadPoolExecutor(_THREADS, "retain") as pool:
        found = pool.map(lambda number: blobs_of(repository, number) or {}, numbers)
        return dict(zip(numbers, found, strict=True))


def _collect(repository: Repository) -> None:
    """Collect the garbage of a layout, unless a manifest that is left cannot be read."""
    if isinstance(repository.store, LayoutStore):
        try:
            repository.store.collect_garbage()
        except (NotFound, IntegrityError) as error:
            _log.warning("%s: nothing is collected: %s", repository.store.name, error)


def _needed(repository: Repository, names: set[str], protect: Iterable[int]) -> set[int]:
    """Return the numbers that stay however old: protected, deployed, and the one before that."""
    needed = set(protect)
    log = read_log(repository, names)
    if log:
        needed.add(log[-1].sequence)
        before = deployed_before(log, lambda number: blobs_of(repository, number) is not None)
        if before is not None:
            needed.add(before)
    return needed


def _check_any_known(repository: Repository, findings: list[Finding]) -> None:
    """Warn of numbers that are not counted, and raise if the registry told of none.

    Raises:
        StoreError: it failed for all.
    """
    for one in findings:
        if one.condition is not Condition.SOUND:
            _log.warning("%s:%d is not counted: %s", repository.store.name, one.sequence, one.why)
    if findings and all(one.condition is Condition.UNKNOWN for one in findings):
        raise StoreError(
            f"{repository.store.name}: no version can be read: {findings[0].why}", retryable=True
        )


def _is_rubbish(repository: Repository, sequence: int) -> bool:
    """Return whether a number names nothing: what it named is gone, or half deleted."""
    condition = Examiner(repository).examine(str(sequence)).condition
    return condition in (Condition.STALE, Condition.LEFTOVER)
