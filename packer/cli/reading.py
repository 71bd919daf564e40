"""The verbs that only read: ls, cat, diff, inspect, verify."""

from __future__ import annotations

import argparse
import stat
from collections.abc import Iterable, Iterator
from typing import Any

from packer.api import readings
from packer.api.locations import open_version
from packer.cli.arguments import EXIT_DIFFERENT, EXIT_INCOMPLETE
from packer.cli.display import format_count, format_size
from packer.cli.outcome import (
    Report,
    closed_text,
    closed_value,
    options,
    parts_value,
    refuse_terminal,
    write_content,
)
from packer.cli.output import Output, text_fields
from packer.format.usage import Use
from packer.progress import ProgressCallback
from packer.reading import contents
from packer.reading.contents import Details, Entry
from packer.reading.differences import Change

_SHOWN = 20
"""Parts, and opened files, that `inspect` shows to people."""

_KIND_BITS = {
    "file": stat.S_IFREG,
    "member": stat.S_IFREG,
    "directory": stat.S_IFDIR,
    "symlink": stat.S_IFLNK,
}
_CHANGE_MARKS = {"added": "+", "removed": "-", "changed": "~"}


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
            for entry in entries():
                mode = stat.filemode(_KIND_BITS[entry.kind] | entry.mode)
                arrow = f" -> {entry.target}" if entry.kind == "symlink" else ""
                yield f"{mode}  {entry.size:>{width}}  {entry.path}{arrow}"
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
    return content_report(args, out, readings.content_of(version, args.path, inside=args.inside))


def content_report(
    args: argparse.Namespace, out: Output, pieces: Iterable[bytes | memoryview]
) -> Report:
    """Write the content of `args.path` in `args.name`, as bytes or JSON."""
    names = {**text_fields("name", args.name), **text_fields("path", args.path)}
    return write_content(args, out, pieces, names)


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
        for change in changes:
            indent = "    " if change.inside else ""
            yield f"{indent}{_CHANGE_MARKS[change.change]} {change.path}  {_sizes(change)}"
        if not args.quiet:
            yield (
                f"{counts['added']} added, {counts['removed']} removed,"
                f" {counts['changed']} changed; {format_size(fresh)} in new chunks"
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


def _sizes(change: Change) -> str:
    if change.change in ("added", "removed"):
        kind = f", {change.detail}" if change.detail else ""
        return format_size(max(change.old_size, change.new_size)) + kind
    if change.old_size == change.new_size:
        sizes = format_size(change.new_size)
    else:
        sizes = f"{format_size(change.old_size)} -> {format_size(change.new_size)}"
    if change.inside:
        return f"{sizes}, {change.detail}" if change.detail else sizes
    return f"{sizes}, {format_size(change.new_chunk_bytes)} in new chunks"


def inspect(args: argparse.Namespace, out: Output, progress: ProgressCallback | None) -> Report:
    """Show a version's manifest, config and index in summary."""
    details = readings.inspect(args.name, **options(args))
    return Report(
        lambda: _details_value(args.name, details),
        lambda: _details_lines(details),
        is_summary=False,
    )


def _details_value(name: str, details: Details) -> dict[str, Any]:
    return {
        **text_fields("name", name),
        "digest": details.digest,
        "created": details.created or None,
        "parent": details.parent or None,
        "tool": details.tool,
        "zstd": details.zstd,
        "level": details.level,
        "average_chunk_bytes": details.average_chunk_bytes,
        "files": details.files,
        "directories": details.directories,
        "symlinks": details.symlinks,
        "bytes": details.bytes,
        "chunks": details.chunks,
        "stored_bytes": details.stored_bytes,
        "index_bytes": details.index_bytes,
        "index_layers": details.index_layers,
        "index_stored_bytes": details.index_stored_bytes,
        "layers": [
            {
                "digest": layer.digest,
                "size": layer.size,
                "frames": layer.frames,
                "chunks": layer.chunks,
                "live_chunks": layer.live_chunks,
                "plain_bytes": layer.plain_bytes,
                "live_bytes": layer.live_bytes,
            }
            for layer in details.layers
        ],
        "parts": parts_value(details.parts),
        "opened": [
            {
                **text_fields("path", opened.path),
                "bytes": opened.bytes,
                "content_bytes": opened.content_bytes,
                "recipe_bytes": opened.recipe_bytes,
            }
            for opened in details.opened
        ],
        "closed": closed_value(details.closed),
    }


def _parts_lines(parts: Iterable[Use]) -> Iterator[str]:
    shown = sorted(parts, key=lambda part: (-part.stored_bytes, part.path))
    for part in shown[:_SHOWN]:
        kinds = [
            f"{format_size(size)} {kind}"
            for size, kind in (
                (part.reused_bytes, "reused"),
                (part.new_bytes, "new"),
                (part.delta_bytes, "as deltas"),
            )
            if size
        ]
        yield (
            f"part     {part.path}  {format_count(part.files, 'file')}, {format_size(part.bytes)}:"
            f" {', '.join(kinds) or 'empty'}; {format_size(part.stored_bytes)} stored"
        )
    if len(shown) > _SHOWN:
        yield f"part     and {len(shown) - _SHOWN} more, see --json"


def _opened_lines(details: Details) -> Iterator[str]:
    shown = sorted(details.opened, key=lambda opened: (-opened.recipe_bytes, opened.path))
    for opened in shown[:_SHOWN]:
        yield (
            f"opened   {opened.path}  {format_size(opened.bytes)} to"
            f" {format_size(opened.content_bytes)}, recipe {format_size(opened.recipe_bytes)}"
        )
    if len(shown) > _SHOWN:
        yield f"opened   and {len(shown) - _SHOWN} more, see --json"


def _closed_lines(details: Details) -> Iterator[str]:
    for row in details.closed[:_SHOWN]:
        yield f"closed   {closed_text(row)}, {format_size(row.stored_bytes)} stored"
    if len(details.closed) > _SHOWN:
        yield f"closed   and {len(details.closed) - _SHOWN} more, see --json"


def _details_lines(details: Details) -> Iterator[str]:
    yield f"digest   {details.digest}"
    yield f"created  {details.created or 'not said'}"
    yield f"parent   {details.parent or 'none'}"
    yield (
        f"packed   by {details.tool}, zstd {details.zstd} level {details.level},"
        f" chunks of {details.average_chunk_bytes / 1024:g} KiB on average"
    )
    yield (
        f"tree     {format_count(details.files, 'file')},"
        f" {format_count(details.directories, 'directory')},"
        f" {format_count(details.symlinks, 'symlink')},"
        f" {format_size(details.bytes)} in {format_count(details.chunks, 'chunk')}"
    )
    yield (
        f"stored   {format_size(details.stored_bytes)}: "
        f"{format_count(len(details.layers), 'data layer')},"
        f" {format_count(details.index_layers, 'index layer')}"
        f" ({format_size(details.index_stored_bytes)})"
    )
    for layer in details.layers:
        yield (
            f"layer    {layer.digest}  {format_size(layer.size)},"
            f" {format_count(layer.frames, 'frame')},"
            f" {layer.live_chunks} of {format_count(layer.chunks, 'chunk')} in use,"
            f" {format_size(layer.live_bytes)} of {format_size(layer.plain_bytes)}"
        )
    yield from _parts_lines(details.parts)
    yield from _opened_lines(details)
    yield from _closed_lines(details)


def verify(args: argparse.Namespace, out: Output, progress: ProgressCallback | None) -> Report:
    """Read every blob of a version and check it."""
    verified = readings.verify(args.name, progress=progress, cancel=args.cancel, **options(args))

    def value() -> dict[str, Any]:
        return {
            **text_fields("name", args.name),
            "digest": verified.digest,
            "blobs": verified.blobs,
            "bytes": verified.bytes,
            "chunks": verified.chunks,
        }

    def lines() -> Iterator[str]:
        yield f"{args.name}  {verified.digest}"
        yield (
            f"sound: {format_count(verified.blobs, 'blob')}, {format_size(verified.bytes)},"
            f" {format_count(verified.chunks, 'chunk')}"
        )

    return Report(value, lines)
