"""Deleting versions of an application, one or all but a few."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

from packer.errors import NotFound
from packer.oci import Manifest
from packer.storage.deployments import deployed_before, read_log
from packer.storage.history import Ledger
from packer.storage.repository import Shelf
from packer.storage.results import Retained
from packer.storage.sequence_numbers import Numbers
from packer.stores.layout import LayoutStore

_THREADS = 8


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
    tag = str(sequence)
    shelf.remove(tag, shelf.store.resolve(tag).digest)
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
    version = shelf.store.resolve(tag)
    ledger.strike(tag)  # before it goes: nobody may take the old record for that of the next one
    shelf.remove(tag, version.digest)


def retain(
    shelf: Shelf,
    keep: int,
    protect: Iterable[int],
    deleted: Callable[[int], None],
) -> Retained:
    """Delete all but the newest versions and those that are needed; see `Storage.retain`.

    Args:
        shelf: of the application.
        keep: how many of the newest.
        protect: numbers to keep besides.
        deleted: called after each deletion; may raise to stop.
    """
    numbers = Numbers.read(shelf.names())
    saved = set(numbers.saved)
    log = read_log(shelf)[1]
    stay = set(sorted(saved)[-keep:]) | (set(protect) & saved)
    if log:
        before = deployed_before(log, saved)
        stay |= {log[-1].sequence, log[-1].sequence if before is None else before} & saved
    go = sorted(saved - stay)
    ordered = sorted(saved) if go else sorted(stay)
    with ThreadPoolExecutor(_THREADS, "retain") as pool:
        blobs = pool.map(lambda number: _blobs(shelf, number), ordered)
        needed = dict(zip(ordered, blobs, strict=True))
    for number in go:
        with contextlib.suppress(NotFound):  # another replica retains at the same time
            delete_number(shelf, number, numbers)
        numbers.gone -= {gone for gone in numbers.gone if gone < numbers.top}  # removed
        deleted(number)
    if isinstance(shelf.store, LayoutStore):
        shelf.store.collect_garbage()
    kept: dict[str, int] = {}
    for number in stay:
        kept.update(needed[number])
    freed: dict[str, int] = {}
    for number in go:
        freed.update(item for item in needed[number].items() if item[0] not in kept)
    return Retained(tuple(go), tuple(sorted(stay)), sum(freed.values()), sum(kept.values()))


def _blobs(shelf: Shelf, sequence: int) -> dict[str, int]:
    """Return digests and sizes of what a version needs, its manifest included."""
    try:
        descriptor, data = shelf.store.get_manifest(str(sequence))
    except NotFound:
        return {}  # deleted by another process meanwhile
    manifest = Manifest.decode(data, f"manifest {descriptor.digest}")
    blobs = (descriptor, manifest.config, *manifest.layers)
    return {blob.digest: blob.size for blob in blobs}
