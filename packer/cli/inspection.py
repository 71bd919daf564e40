"""The verb inspect: how a version was packed, what it holds, and how it uses its layers."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from packer.api import readings
from packer.api.referrers import ListedReferrer, referrers
from packer.cli.call_options import options
from packer.cli.outcome import Report
from packer.cli.output import Output
from packer.cli.packed_report import REASONS, closed_value, parts_value
from packer.cli.tables import Column, folded, short_digest, table, terminal_width
from packer.format.closed_files import Closed
from packer.format.usage import Opened, Use
from packer.progress import ProgressCallback
from packer.reading.contents import Details, LayerUse
from packer.text import format_count, format_size, text_fields

_SHOWN = 20
"""Parts, opened files and closed files that are shown to people."""
_MOST_INDENTED = 8
"""Depth of referrers from which lines are not moved further to the right."""
_LAYERS_SHOWN = 8
"""Layers that are shown to people: of a long history, the largest tell most."""

_LAYER_COLUMNS = (
    Column("LAYER"),
    Column("SIZE", right=True),
    Column("FRAMES", right=True),
    Column("CHUNKS IN USE", right=True),
    Column("CONTENT IN USE", right=True),
)
_PART_COLUMNS = (
    Column("PART", cut=True),
    Column("FILES", right=True),
    Column("SIZE", right=True),
    Column("REUSED", right=True),
    Column("NEW", right=True),
    Column("AS DELTAS", right=True),
    Column("STORED", right=True),
)
_OPENED_COLUMNS = (
    Column("OPENED", cut=True),
    Column("SIZE", right=True),
    Column("CONTENT", right=True),
    Column("RECIPE", right=True),
)
_OLDER_COLUMNS = (Column("LINKS", right=True), Column("KEPT", right=True))
_REFERRER_COLUMNS = (
    Column("REFERS TO IT", cut=True),
    Column("DIGEST"),
    Column("SIZE", right=True),
    Column("CLAIMS TO BE FROM", cut=True),
)
_CLOSED_COLUMNS = (
    Column("CLOSED", cut=True),
    Column("KIND"),
    Column("WHY", cut=True),
    Column("SIZE", right=True),
    Column("STORED", right=True),
)


def inspect(args: argparse.Namespace, out: Output, progress: ProgressCallback | None) -> Report:
    """Show a version's manifest, config and index in summary."""
    details = readings.inspect(args.name, **options(args))
    attached = referrers(args.name, **options(args))

    def lines() -> Iterator[str]:
        yield from _details_lines(details)
        rows = _referrer_rows(details.digest, attached)
        yield from _folded_table(_REFERRER_COLUMNS, rows, _SHOWN, "referrer")

    return Report(
        lambda: {**_details_value(args.name, details), "referrers": _referrers_value(attached)},
        lines,
        is_summary=False,
    )


def _referrers_value(attached: Sequence[ListedReferrer]) -> list[dict[str, Any]]:
    return [
        {
            "type": one.type,
            "digest": one.digest,
            "size": one.size,
            "subject": one.subject,
            "tag": one.tag or None,
            "signer": one.signer or None,
        }
        for one in attached
    ]


def _referrer_rows(digest: str, attached: Sequence[ListedReferrer]) -> list[tuple[str, ...]]:
    """Return the rows of referrers; what refers to another one stands below it, indented."""
    below: dict[str, list[ListedReferrer]] = {}
    for one in attached:
        below.setdefault(one.subject, []).append(one)
    rows: list[tuple[str, ...]] = []
    waiting = [(0, one) for one in reversed(below.pop(digest, []))]
    while waiting:
        depth, one = waiting.pop()
        shown = "  " * min(depth, _MOST_INDENTED) + one.kind
        rows.append((shown, short_digest(one.digest), format_size(one.size), one.signer or "-"))
        waiting += [(depth + 1, lower) for lower in reversed(below.pop(one.digest, []))]
    return rows


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
                "predecessors": opened.predecessors,
                "links": opened.links,
                "kept_bytes": opened.kept_bytes,
            }
            for opened in details.opened
        ],
        "closed": closed_value(details.closed),
    }


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
    yield from _folded_table(_LAYER_COLUMNS, _layer_rows(details.layers), _LAYERS_SHOWN, "layer")
    yield from _folded_table(_PART_COLUMNS, _part_rows(details.parts), _SHOWN, "part")
    yield from _opened_table(details.opened)
    yield from _folded_table(_CLOSED_COLUMNS, _closed_rows(details.closed), _SHOWN, "closed file")


def _folded_table(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], most: int, noun: str
) -> Iterator[str]:
    """Yield a table below an empty line, and how many rows it leaves out; nothing without rows."""
    if not rows:
        return
    shown, more = folded(rows, most)
    yield ""
    yield from table(columns, shown, width=terminal_width())
    if more:
        yield f"and {format_count(more, noun)} more, see --json"


def _layer_rows(layers: Sequence[LayerUse]) -> list[tuple[str, ...]]:
    """Return the rows of the layers; of many, the largest come first."""
    if len(layers) > _LAYERS_SHOWN + 1:
        layers = sorted(layers, key=lambda layer: -layer.size)
    return [
        (
            short_digest(layer.digest),
            format_size(layer.size),
            str(layer.frames),
            f"{layer.live_chunks} of {layer.chunks}",
            f"{format_size(layer.live_bytes)} of {format_size(layer.plain_bytes)}",
        )
        for layer in layers
    ]


def _part_rows(parts: Iterable[Use]) -> list[tuple[str, ...]]:
    return [
        (
            part.path,
            str(part.files),
            format_size(part.bytes),
            *(format_size(size) for size in (part.reused_bytes, part.new_bytes, part.delta_bytes)),
            format_size(part.stored_bytes),
        )
        for part in sorted(parts, key=lambda part: (-part.stored_bytes, part.path))
    ]


def _opened_table(opened: Sequence[Opened]) -> Iterator[str]:
    """Yield the table of opened files; columns of predecessors only where there are any."""
    older = any(row.predecessors for row in opened)
    columns = (*_OPENED_COLUMNS, *(_OLDER_COLUMNS if older else ()))
    rows = []
    for row in sorted(opened, key=lambda row: (-row.recipe_bytes, row.path)):
        sizes = (row.bytes, row.content_bytes, row.recipe_bytes)
        links = (str(row.links), format_size(row.kept_bytes)) if older else ()
        rows.append((row.path, *map(format_size, sizes), *links))
    yield from _folded_table(columns, rows, _SHOWN, "opened file")


def _closed_rows(closed: Iterable[Closed]) -> list[tuple[str, ...]]:
    return [
        (
            row.path,
            row.kind,
            REASONS[row.reason],
            format_size(row.bytes),
            format_size(row.stored_bytes),
        )
        for row in closed
    ]
