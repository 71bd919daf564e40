"""Deleting versions of an application, one or all but a few."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

from packer.deployments import deployed_before, read_log
from packer.saved import Retained
from packer.sequences import Numbers
from packer.shelf import Shelf
from packer.store.layout import LayoutStore

_THREADS = 8


def delete_number(shelf: Shelf, sequence: int) -> None:
    """Delete a version, and see to it that its number is not given to another one.

    Raises:
        NotFound: there is no such version.
        RegistryError: the registry does not delete.
    """
    numbers = Numbers.read(shelf.names())
    if sequence == numbers.top:
        shelf.put_note(f"gone-{sequence}", {})  # before it goes
    tag = str(sequence)
    shelf.remove(tag, shelf.store.resolve(tag).digest)
    for gone in numbers.gone:
        if gone < numbers.top:  # a greater number says the same
            mark = f"gone-{gone}"
            shelf.try_remove(mark, shelf.store.resolve(mark).digest)


def retain(
    shelf: Shelf,
    keep: int,
    protect: Iterable[int],
    blobs: Callable[[int], dict[str, int]],
    delete: Callable[[int], None],
) -> Retained:
    """Delete all but the newest versions and those that are needed; see `Storage.retain`.

    Args:
        shelf: of the application.
        keep: how many of the newest.
        protect: numbers to keep besides.
        blobs: returns digests and sizes of what a version needs.
        delete: deletes a version.
    """
    saved = Numbers.read(shelf.names()).saved
    log = read_log(shelf)[1]
    stay = set(sorted(saved)[-keep:]) | (set(protect) & saved)
    if log:
        before = deployed_before(log, saved)
        stay |= {log[-1].sequence, log[-1].sequence if before is None else before} & saved
    go = sorted(saved - stay)
    ordered = sorted(saved) if go else sorted(stay)
    with ThreadPoolExecutor(_THREADS, "retain") as pool:
        needed = dict(zip(ordered, pool.map(blobs, ordered), strict=True))
    for number in go:
        delete(number)
    if isinstance(shelf.store, LayoutStore):
        shelf.store.collect_garbage()
    kept: dict[str, int] = {}
    for number in stay:
        kept.update(needed[number])
    freed: dict[str, int] = {}
    for number in go:
        freed.update(item for item in needed[number].items() if item[0] not in kept)
    return Retained(tuple(go), tuple(sorted(stay)), sum(freed.values()), sum(kept.values()))
