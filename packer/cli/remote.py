"""The verb versions, of a repository."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from packer.api.remote_versions import PAGE, remote_versions
from packer.cli.call_options import options
from packer.cli.outcome import Report
from packer.cli.output import Output
from packer.cli.tables import Column, short_digest, short_time, table, terminal_width
from packer.errors import InvalidParameter
from packer.progress import ProgressCallback
from packer.text import format_count, format_size, text_fields

_COLUMNS = (
    Column("TAG", cut=True),
    Column("DIGEST"),
    Column("CREATED (UTC)"),
    Column("STORED", right=True),
)


def versions(args: argparse.Namespace, out: Output, progress: ProgressCallback | None) -> Report:
    """List the tags of a repository, the newest first."""
    if args.reference is None:
        raise InvalidParameter("--limit, --after and --by-date are for a repository: name it")
    found = remote_versions(
        args.reference,
        limit=PAGE if args.limit is None else args.limit,
        after=args.after,
        by_date=args.by_date,
        cancel=args.cancel,
        **options(args),
    )

    def value() -> dict[str, Any]:
        return {
            **text_fields("reference", args.reference),
            "total": found.total,
            "order": found.order,
            "versions": [
                {
                    "tag": row.tag,
                    "digest": row.digest,
                    "created": row.created or None,
                    "stored_bytes": row.stored_bytes,
                }
                for row in found.versions
            ],
            "next": found.following or None,
        }

    def lines() -> Iterator[str]:
        rows = (
            (
                row.tag,
                short_digest(row.digest),
                short_time(row.created),
                "" if row.stored_bytes is None else format_size(row.stored_bytes),
            )
            for row in found.versions
        )
        yield from table(_COLUMNS, rows, width=terminal_width())
        if not args.quiet and len(found.versions) < found.total:
            order = "the newest" if found.order == "date" else "the highest versions"
            line = f"{len(found.versions)} of {format_count(found.total, 'tag')}, {order} first"
            if found.following:
                line += f"; --after {found.following} lists the next ones"
            yield line if found.order == "date" else f"{line}; --by-date sorts all by date"

    return Report(value, lines, is_summary=False)
