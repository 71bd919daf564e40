"""The verbs that keep house in the local store: versions, tag, forget, gc, usage."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from packer.api import keeping, listing
from packer.api.listing import ListedVersion
from packer.api.locations import default_store_path
from packer.cli.outcome import Report
from packer.cli.output import Output
from packer.cli.tables import Column, short_digest, short_time, table, terminal_width
from packer.errors import InvalidParameter
from packer.progress import ProgressCallback
from packer.text import format_count, format_size, text_fields

if TYPE_CHECKING:
    from packer.api.forgetting import KeptVersion

_SPAN = re.compile(
    r"(?:(\d{1,4})y)?(?:(\d{1,4})m)?(?:(\d{1,4})w)?(?:(\d{1,5})d)?(?:(\d{1,6})h)?", re.ASCII
)
_HOURS = (366 * 24, 31 * 24, 7 * 24, 24, 1)
"""Hours of each unit of a span. A year and a month are the longest there are: rather keep more."""

_VERSION_COLUMNS = (
    Column("TAG", cut=True),
    Column("DIGEST"),
    Column("CREATED (UTC)"),
    Column("FILES", right=True),
    Column("SIZE", right=True),
    Column("ADDS", right=True),
)


def parse_span(text: str) -> timedelta:
    """Return a span of time.

    Args:
        text: as restic writes it, the greatest unit first: ``30d``, ``2w``, ``1y6m``, ``12h``.

    Returns:
        The span, above 0.

    Raises:
        InvalidParameter: it is no span.
    """
    found = _SPAN.fullmatch(text)
    numbers = found.groups(default="0") if found is not None else ()
    span = timedelta(
        hours=sum(int(count) * unit for count, unit in zip(numbers, _HOURS, strict=False))
    )
    if not span:
        raise InvalidParameter(
            f"{text[:40]!r} is no time above 0; write 30d, 12h, 2w or 1y6m"
            " (years, months, weeks, days, hours)"
        )
    return span


def versions(args: argparse.Namespace, out: Output, progress: ProgressCallback | None) -> Report:
    """List the versions of the local store."""
    found = listing.versions(store=args.store)

    def lines() -> Iterator[str]:
        if not found:
            if terminal_width() is not None:  # a pipe gets rows alone
                yield f"no versions in {args.store or default_store_path()}"
            return
        yield from table(_VERSION_COLUMNS, map(version_row, found), width=terminal_width())
        if not args.quiet:
            stored = sum(row.new_bytes or 0 for row in found)
            yield f"{format_count(len(found), 'version')}, {format_size(stored)} stored"

    return Report(
        lambda: {**_store_field(args), "versions": [version_value(row) for row in found]},
        lines,
        is_summary=False,
        notes=_problems(found),
    )


def tag(args: argparse.Namespace, out: Output, progress: ProgressCallback | None) -> Report:
    """Give a version of the local store a further name."""
    done = keeping.tag(args.old, args.new, store=args.store)

    def value() -> dict[str, Any]:
        return {"tag": done.tag, "digest": done.digest, "replaced": done.replaced or None}

    def lines() -> Iterator[str]:
        yield f"{done.tag}  {done.digest}"
        if done.replaced:
            yield f"before, it named {done.replaced}"

    return Report(value, lines)


def forget(args: argparse.Namespace, out: Output, progress: ProgressCallback | None) -> Report:
    """Remove names from the local store."""
    from packer.api import forgetting  # the other verbs do without

    if args.keep_last is not None and args.keep_last < 1:
        raise InvalidParameter(f"--keep-last {args.keep_last} is less than 1")
    within = None if args.keep_within is None else parse_span(args.keep_within)
    done = forgetting.forget(
        args.names,
        keep_last=args.keep_last,
        keep_within=within,
        dry_run=args.dry_run,
        store=args.store,
    )

    def value() -> dict[str, Any]:
        return {
            "dry_run": args.dry_run,
            "forgotten": [version_value(row) for row in done.forgotten],
            "kept": [
                {**version_value(one.version), "reasons": list(one.reasons)} for one in done.kept
            ],
            "freed_bytes": done.freed_bytes,
        }

    def lines() -> Iterator[str]:
        if done.kept:
            yield f"keep {format_count(len(done.kept), 'version')}:"
            columns = (*_VERSION_COLUMNS, Column("REASONS"))
            kept = (
                (*version_row(one.version), _reasons(one, args.keep_within)) for one in done.kept
            )
            yield from table(columns, kept, width=terminal_width())
            yield ""
        verb = "would forget" if args.dry_run else "forgot"
        yield f"{verb} {format_count(len(done.forgotten), 'version')}" + (
            ":" if done.forgotten else ""
        )
        if done.forgotten:
            rows = map(version_row, done.forgotten)
            yield from table(_VERSION_COLUMNS, rows, width=terminal_width())
            yield f"{format_size(done.freed_bytes)} that nothing else needs; gc removes them"

    return Report(value, lines)


def gc(args: argparse.Namespace, out: Output, progress: ProgressCallback | None) -> Report:
    """Remove the bytes of the local store that no version needs."""
    grace = keeping.GRACE_SECONDS if args.grace_seconds is None else args.grace_seconds
    if not 0 <= grace < float("inf"):
        raise InvalidParameter(f"--grace-seconds {grace:g} is not a number of 0 or more")
    done = keeping.gc(
        grace_seconds=grace, caches=args.caches, dry_run=args.dry_run, store=args.store
    )

    def value() -> dict[str, Any]:
        return {
            **_store_field(args),
            "dry_run": args.dry_run,
            "blobs": done.blobs,
            "bytes": done.bytes,
            "kept_blobs": done.kept_blobs,
            "kept_bytes": done.kept_bytes,
            "leftovers": done.leftovers,
            "leftover_bytes": done.leftover_bytes,
            "caches": done.caches,
            "cache_bytes": done.cache_bytes,
            "freed_bytes": done.freed_bytes,
        }

    def lines() -> Iterator[str]:
        verb = "would free" if args.dry_run else "freed"
        line = f"{verb} {format_size(done.freed_bytes)}: {format_count(done.blobs, 'blob')}"
        if done.leftovers:
            line += f", {format_count(done.leftovers, 'temporary file')}"
        if done.caches:
            line += f", {format_count(done.caches, 'cache file')}"
        yield line
        if done.kept_blobs:
            yield (
                f"{format_size(done.kept_bytes)} in {format_count(done.kept_blobs, 'blob')} stay:"
                f" younger than {grace:g} s, or in use by a running pack or pull"
            )

    return Report(value, lines)


def usage(args: argparse.Namespace, out: Output, progress: ProgressCallback | None) -> Report:
    """Show what the local store takes, and what of it could go."""
    found = keeping.usage(store=args.store)

    def value() -> dict[str, Any]:
        return {
            **text_fields("store", found.store),
            "versions": found.versions,
            "blobs": found.blobs,
            "bytes": found.bytes,
            "garbage_blobs": found.garbage_blobs,
            "garbage_bytes": found.garbage_bytes,
            "caches": found.caches,
            "cache_bytes": found.cache_bytes,
            "applications": [
                {
                    **text_fields("app", row.app),
                    "versions": row.versions,
                    "stored_bytes": row.stored_bytes,
                    "own_bytes": row.own_bytes,
                }
                for row in found.apps
            ],
        }

    def lines() -> Iterator[str]:
        by_app = (
            Column("APPLICATION", cut=True),
            Column("VERSIONS", right=True),
            Column("STORED", right=True),
            Column("ITS OWN", right=True),
        )
        rows = (
            (row.app, str(row.versions), format_size(row.stored_bytes), format_size(row.own_bytes))
            for row in found.apps
        )
        if found.apps:
            yield from table(by_app, rows, width=terminal_width())
            yield ""
        columns = (Column("KIND"), Column("FILES", right=True), Column("SIZE", right=True))
        needed = found.blobs - found.garbage_blobs, found.bytes - found.garbage_bytes
        parts = (
            ("needed by versions", *needed),
            ("garbage, which gc removes", found.garbage_blobs, found.garbage_bytes),
            ("caches", found.caches, found.cache_bytes),
        )
        shown = ((name, str(count), format_size(size)) for name, count, size in parts)
        yield from table(columns, shown, width=terminal_width())

    return Report(value, lines, is_summary=False)


def version_value(row: ListedVersion) -> dict[str, Any]:
    """Return the JSON object of a version in a list."""
    return {
        **text_fields("tag", row.tag),
        "digest": row.digest,
        "created": row.created or None,
        "files": row.files,
        "bytes": row.bytes,
        "stored_bytes": row.stored_bytes,
        "new_bytes": row.new_bytes,
        "origin": row.origin or None,
        "problem": row.problem or None,
    }


def version_row(row: ListedVersion) -> tuple[str, ...]:
    """Return the texts of a version in a table, by `_VERSION_COLUMNS`."""
    return (
        row.tag,
        short_digest(row.digest),
        short_time(row.created) or "-",
        "-" if row.files is None else str(row.files),
        "-" if row.bytes is None else format_size(row.bytes),
        "-" if row.new_bytes is None else format_size(row.new_bytes),
    )


def _reasons(one: KeptVersion, within: str | None) -> str:
    return ", ".join(f"within {within}" if why == "within" else why for why in one.reasons)


def _problems(rows: Iterable[ListedVersion]) -> tuple[str, ...]:
    """Return a line for each version whose manifest or config cannot be read."""
    return tuple(f"{row.tag}: {row.problem}" for row in rows if row.problem)


def _store_field(args: argparse.Namespace) -> dict[str, str]:
    return text_fields("store", args.store or default_store_path())
