"""Deleting versions of an application, one or all but a few."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

from packer.errors import IntegrityError, NotFound, StoreError
from packer.storage.condition import Condition, Examiner, Finding, blobs_of, newest_sound
from packer.storage.deployments import deployed_before, read_log
from packer.storage.history import Ledger
from packer.storage.repository import Shelf
from packer.storage.results import Retained
from packer.storage.sequence_numbers import Numbers
from packer.stores.layout import LayoutStore

_THREADS = 8

_log = logging.getLogger(__name__)


def delete_number(shelf: Shelf, sequence: int, numbers: Numbers) -> None:
    """Delete a version, and see to it that its number is not given to another one.

    Args:
        shelf: of the application.
        sequence: of the version.
        numbers: those in use, as listed just before.

    Raises:
        NotFound: there is no such version.
        RegistryError: the registry does not delete.
    """
    if sequence == numbers.top:
        shelf.put_note(f"gone-{sequence}", {})  # before it goes
    shelf.remove_tag(str(sequence))
    for gone in numbers.gone:
        if gone < numbers.top:  # a greater number says the same
            mark = f"gone-{gone}"
            with contextlib.suppress(NotFound):  # another process was faster
                shelf.try_remove(mark, shelf.store.resolve(mark).digest)


def withdraw_number(shelf: Shelf, sequence: int, ledger: Ledger) -> None:
    """Remove a version as if it had never been; its number may be given again.

    Raises:
        NotFound: there is no such version.
        RegistryError: the registry does not delete.
    """
    tag = str(sequence)
    shelf.store.resolve(tag)
    ledger.strike(tag)  # before it goes: nobody may take the old record for that of the next one
    shelf.remove_tag(tag)


def retain(
    shelf: Shelf,
    keep: int,
    protect: Iterable[int],
    deleted: Callable[[int], None],
) -> Retained:
    """Delete all but the newest versions and those that are needed; see `Storage.retain`.

    Only versions that can be loaded are counted. What is broken or foreign is never counted; above
    the oldest version that is kept it is left alone, as somebody may mend it. Below, what a storage
    wrote is deleted, and what it did not write is left alone.

    Args:
        shelf: of the application.
        keep: how many of the newest.
        protect: numbers to keep besides.
        deleted: called after each deletion; may raise to stop.
    """
    numbers = Numbers.read(shelf.names())
    saved = sorted(numbers.saved, reverse=True)
    findings = newest_sound(Examiner(shelf), saved, keep)
    _check_any_known(shelf, findings)
    newest = [one.sequence for one in findings if one.condition is Condition.SOUND]
    needed = _needed(shelf, protect)
    stay = set(newest) | (needed & numbers.saved)
    skipped = {one.sequence for one in findings} - stay
    for one in findings:
        if one.condition is not Condition.SOUND:
            _log.warning("%s:%d is not counted: %s", shelf.store.name, one.sequence, one.why)
    older = [number for number in saved if number not in stay | skipped]
    with ThreadPoolExecutor(_THREADS, "retain") as pool:
        read = pool.map(lambda number: blobs_of(shelf, number), [*older, *sorted(stay)])
        blobs = dict(zip([*older, *sorted(stay)], read, strict=True))
    kept: dict[str, int] = {}
    for number in stay:
        kept.update(blobs[number] or {})
    freed: dict[str, int] = {}
    go = [number for number in reversed(older) if blobs[number] or _is_rubbish(shelf, number)]
    for number in go:
        with contextlib.suppress(NotFound):  # another replica retains at the same time
            delete_number(shelf, number, numbers)
        numbers.gone -= {gone for gone in numbers.gone if gone < numbers.top}  # removed
        freed.update(item for item in (blobs[number] or {}).items() if item[0] not in kept)
        deleted(number)
    _collect(shelf)
    skipped |= set(older) - set(go)
    return Retained(
        tuple(go),
        tuple(sorted(stay)),
        sum(freed.values()),
        sum(kept.values()),
        tuple(sorted(skipped)),
    )


def _collect(shelf: Shelf) -> None:
    """Collect the garbage of a layout, unless a manifest that is left cannot be read."""
    if isinstance(shelf.store, LayoutStore):
        try:
            shelf.store.collect_garbage()
        except (NotFound, IntegrityError) as error:
            _log.warning("%s: nothing is collected: %s", shelf.store.name, error)


def _needed(shelf: Shelf, protect: Iterable[int]) -> set[int]:
    """Return the numbers that stay however old: protected, deployed, and the one before that."""
    needed = set(protect)
    log = read_log(shelf)[1]
    if log:
        needed.add(log[-1].sequence)
        before = deployed_before(log, lambda number: blobs_of(shelf, number) is not None)
        if before is not None:
            needed.add(before)
    return needed


def _check_any_known(shelf: Shelf, findings: list[Finding]) -> None:
    """Raise unless the registry told of one number what is under it.

    Raises:
        StoreError: it failed for all.
    """
    if findings and all(one.condition is Condition.UNKNOWN for one in findings):
        raise StoreError(
            f"{shelf.store.name}: no version can be read: {findings[0].why}", retryable=True
        )


def _is_rubbish(shelf: Shelf, sequence: int) -> bool:
    """Return whether a number names nothing: what it named is gone, or half deleted."""
    condition = Examiner(shelf).examine(sequence).condition
    return condition in (Condition.STALE, Condition.LEFTOVER)
