"""The verb `migrate`."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from packer.cli.call_options import options
from packer.cli.outcome import Report
from packer.cli.output import Output
from packer.progress import ProgressCallback
from packer.storage.migration import migrate as migrate_archives
from packer.text import format_count, format_size, text_fields


def migrate(args: argparse.Namespace, out: Output, progress: ProgressCallback | None) -> Report:
    """Copy the archives of KOTS to a storage, or back."""
    done = migrate_archives(
        args.source,
        args.destination,
        dry_run=args.dry_run,
        journal=args.journal,
        registry=options(args)["registry"],
        progress=progress,
        cancel=args.cancel,
    )

    def value() -> dict[str, Any]:
        return {
            **text_fields("source", args.source),
            **text_fields("destination", args.destination),
            "dry_run": args.dry_run,
            **asdict(done),
        }

    def lines() -> Iterator[str]:
        verb = "to move" if args.dry_run else "moved and verified"
        yield (
            f"{format_count(done.archives, 'archive')}, {format_size(done.bytes)}:"
            f" {done.moved} {verb}, {done.present} done before"
        )
        if done.noted:
            yield f"of those, {done.noted} are in the journal, and were listed but not read again"
        if done.new_bytes:
            yield f"added {format_size(done.new_bytes)}"
        if done.others:
            yield f"left alone: {done.others} that are no archives"

    return Report(value, lines)
