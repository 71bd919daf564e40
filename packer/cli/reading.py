"""The verbs that only read: ls, cat, diff."""

from __future__ import annotations

import argparse
import stat
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

from packer.api import readings
from packer.api.locations import open_version
from packer.cli.arguments import EXIT_DIFFERENT, EXIT_INCOMPLETE
from packer.cli.call_options import options, refuse_terminal
from packer.cli.outcome import Report, write_content
from packer.cli.output import Line, Output
from packer.cli.tables import Column, table
from packer.format.cost import Cost
from packer.progress import ProgressCallback
from packer.reading import contents
from packer.reading.contents import Entry
from packer.reading.differences import Change
from packer.text import format_size, text_fields

_KIND_BITS = {
    "file": stat.S_IFREG,
    "member": stat.S_IFREG,
    "directory": stat.S_IFDIR,
    "symlink": stat.S_IFLNK,
}
_CHANGE_MARKS = {"added": "+", "removed": "-", "changed": "~"}
_CHANGE_COLUMNS = (
    Column(""),
    Column("WAS", right=True),
    Column("NOW", right=True),
    Column("CHANGED", right=True),
    Column("PATH"),
)


def ls(args: argparse.Namespace, out: Output, progress: ProgressCallback | None) -> Report:
    """List the entries of a version."""
    version = open_version(args.name, **options(args))
    # Archives are read once, and before a document is begun that could break.
    known = list(contents.entries(version, inside=True)) if args.inside else None
    cut = [entry for entry in known or () if entry.kind == "incomplete"]

    def entries() -> Iterator[Entry]:
        if known is None:
            return contents.entries(version)
        return (entry for entry in known if entry.kind != "incomplete")

    def value() -> dict[str, Any]:
        found = {
            **text_fields("name", args.name),
            "digest": version.descriptor.digest,
            "entries": map(_entry_value, entries()),
        }
        return found | _incomplete_value((entry.path, entry.target) for entry in cut)

    def lines() -> Iterator[str]:
        if args.long:
            width = len(str(max((entry.size for entry in entries()), default=0)))
            columns = (
                Column("MODE", width=10),
                Column("SIZE", right=True, width=width),
                Column("PATH"),
            )
            yield from table(columns, map(_entry_row, entries()))
        else:
            for entry in entries():
                yield entry.path + ("/" if entry.kind == "directory" else "")

    return Report(
        value,
        lines,
        is_summary=False,
        exit_code=EXIT_INCOMPLETE if cut else 0,
        notes=tuple(_incomplete_note(entry.path, entry.target) for entry in cut),
    )


def _entry_row(entry: Entry) -> tuple[str, ...]:
    mode = stat.filemode(_KIND_BITS[entry.kind] | entry.mode)
    arrow = f" -> {entry.target}" if entry.kind == "symlink" else ""
    return mode, str(entry.size), entry.path + arrow


def _incomplete_note(path: str, reason: str) -> str:
    return f"{path}: not all of the archive is listed: {reason}"


def _incomplete_value(cut: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Return the JSON fields about archives that could not be listed as a whole."""
    found = [{**text_fields("path", path), "reason": reason} for path, reason in cut]
    return {"incomplete": found} if found else {}


def _entry_value(entry: Entry) -> dict[str, Any]:
    value = {
        **text_fields("path", entry.path),
        "kind": entry.kind,
        "mode": f"{entry.mode:04o}",
        "size": entry.size,
    }
    if entry.target:
        value.update(text_fields("target", entry.target))
    return value


def cat(args: argparse.Namespace, out: Output, progress: ProgressCallback | None) -> Report:
    """Write one file of a version, or a directory of it as a tar archive."""
    version = open_version(args.name, **options(args))
    if readings.is_directory(version, args.path):
        refuse_terminal(args, out)
    cost = Cost()
    pieces = readings.content_of(version, args.path, inside=args.inside, cost=cost)
    return content_report(args, out, pieces, cost)


def content_report(
    args: argparse.Namespace, out: Output, pieces: Iterable[bytes | memoryview], cost: Cost
) -> Report:
    """Write the content of `args.path` in `args.name`, as bytes or JSON, which tells the cost."""
    names = {**text_fields("name", args.name), **text_fields("path", args.path)}
    return write_content(args, out, pieces, names, lambda: asdict(cost))


def diff(args: argparse.Namespace, out: Output, progress: ProgressCallback | None) -> Report:
    """Show the differences between two versions."""
    from packer.cli import patch_text

    patch_text.check_options(args)
    if args.patch:
        return patch_text.patch_report(args, out)
    return diff_report(args, readings.diff(args.old, args.new, inside=args.inside, **options(args)))


def diff_report(args: argparse.Namespace, changes: list[Change]) -> Report:
    """Return the report of the changes between `args.old` and `args.new`."""
    counts = {
        kind: sum(change.change == kind and not change.inside for change in changes)
        for kind in ("added", "removed", "changed")
    }
    fresh = sum(change.new_chunk_bytes for change in changes if not change.inside)
    cut = [(each.path, each.detail) for each in changes if each.change == "incomplete"]
    changes = [change for change in changes if change.change != "incomplete"]

    def value() -> dict[str, Any]:
        return {
            **text_fields("old", str(args.old)),
            **text_fields("new", str(args.new)),
            **counts,
            "new_chunk_bytes": fresh,
            "changes": [
                {
                    **text_fields("path", change.path),
                    "change": change.change,
                    "old_size": change.old_size,
                    "new_size": change.new_size,
                    "new_chunk_bytes": change.new_chunk_bytes,
                    "inside": change.inside,
                    **(text_fields("detail", change.detail) if change.detail else {}),
                }
                for change in changes
            ],
            **_incomplete_value(cut),
        }

    def lines() -> Iterator[str]:
        if changes:
            heading, *rows = table(_CHANGE_COLUMNS, map(_change_row, changes))
            yield heading
            for change, row in zip(changes, rows, strict=True):
                yield Line(row, change.change)
        if not args.quiet:
            yield (
                f"{counts['added']} added, {counts['removed']} removed,"
                f" {counts['changed']} changed; {format_size(fresh)} of content changed"
                if changes
                else "no differences"
            )

    code = EXIT_DIFFERENT if changes and args.exit_code else 0
    return Report(
        value,
        lines,
        is_summary=False,
        exit_code=EXIT_INCOMPLETE if cut else code,
        notes=tuple(_incomplete_note(path, reason) for path, reason in cut),
    )


def _change_row(change: Change) -> tuple[str, ...]:
    has_size = max(change.old_size, change.new_size) > 0 or not change.detail  # as files have
    was = format_size(change.old_size) if has_size and change.change != "added" else ""
    now = format_size(change.new_size) if has_size and change.change != "removed" else ""
    told = change.change == "changed" and not change.inside
    part = format_size(change.new_chunk_bytes) if told else ""
    indent = "    " if change.inside else ""
    detail = f"  ({change.detail})" if change.detail else ""
    return _CHANGE_MARKS[change.change], was, now, part, f"{indent}{change.path}{detail}"
