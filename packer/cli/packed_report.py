"""What is said of a version that was packed: what it added, its base, what stayed closed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from packer.cli.display import format_share
from packer.text import format_count, format_size, text_fields

if TYPE_CHECKING:
    from packer.files.rules import LeftOut
    from packer.format.closed_files import Closed
    from packer.format.usage import Use
    from packer.packing.job import BaseChoice, Packed


def packed_value(packed: Packed) -> dict[str, Any]:
    """Return the JSON value of what was packed."""
    return {
        "digest": packed.digest,
        "tag": packed.tag,
        "files": packed.files,
        "bytes": packed.bytes,
        "new_bytes": packed.new_bytes,
        "new_layers": packed.new_layers,
        "layers": packed.layers,
        "unchanged": packed.unchanged,
        "parent": packed.parent or None,
        "index_bytes": packed.index_bytes,
        "parts": parts_value(packed.parts),
        "closed_bytes": packed.closed_bytes,
        "closed": closed_value(packed.closed),
        "left_out": left_out_value(packed.left_out),
        "base": base_value(packed.base),
    }


def tree_text(packed: Packed) -> str:
    """Return what a person reads of a tree, and of what it added to the store."""
    tree = f"{format_count(packed.files, 'file')}, {format_size(packed.bytes)}"
    if packed.unchanged:
        return f"{tree}; unchanged, nothing added"
    where = (
        f"in {format_count(packed.new_layers, 'layer')}"
        if packed.new_layers
        else "of index and manifest"
    )
    text = f"{tree}; added {format_size(packed.new_bytes)} {where}"
    if packed.new_bytes > packed.bytes:  # a manifest and an index, for a few bytes
        return text
    return f"{text} ({format_share(packed.new_bytes, packed.bytes)} of {format_size(packed.bytes)})"


def parts_value(parts: Iterable[Use]) -> list[dict[str, Any]]:
    """Return the JSON value of the costs of the parts of a tree."""
    return [
        {
            **text_fields("path", part.path),
            "files": part.files,
            "bytes": part.bytes,
            "reused_bytes": part.reused_bytes,
            "new_bytes": part.new_bytes,
            "delta_bytes": part.delta_bytes,
            "stored_bytes": part.stored_bytes,
        }
        for part in parts
    ]


def base_value(base: BaseChoice | None) -> dict[str, Any] | None:
    """Return the JSON value of the version that another one was packed on."""
    if base is None:
        return None
    return {
        **text_fields("name", base.name),
        "digest": base.digest,
        "found_by": base.found_by,
        "shared_paths": None if base.shared_paths is None else round(base.shared_paths, 4),
    }


def base_lines(packed: Packed, asked: str | None) -> Iterator[str]:
    """Yield what a person reads of the base: one that was searched for, or that there was none.

    Args:
        packed: the version.
        asked: the base that the user named; None for none.

    Yields:
        At most one line.
    """
    base = packed.base
    if base is not None and base.found_by != "given" and base.name != asked:
        if base.shared_paths is not None:
            share = f"{100 * base.shared_paths:.0f} % of the paths in common"
            yield f"on {base.name}  {base.digest[:19]}, {share}"
        elif asked is not None:
            yield f"on {base.name}  {base.digest[:19]}"
    elif base is None and asked != "none":
        yield (
            "no base found, so all of it is new; if there is an older version, name it by --base"
            " NAME, or its repository by --base auto:REGISTRY/REPOSITORY"
        )


def closed_value(closed: Iterable[Closed]) -> list[dict[str, Any]]:
    """Return the JSON value of archives that stayed closed."""
    return [
        {
            **text_fields("path", row.path),
            "kind": row.kind,
            "reason": row.reason,
            "streams": row.streams,
            "bytes": row.bytes,
            "stored_bytes": row.stored_bytes,
        }
        for row in closed
    ]


REASONS = {
    "encoder": "its encoder is not known",
    "format": "this format is not opened",
    "method": "compressed by a method that is not opened",
    "encrypted": "encrypted",
    "damaged": "damaged or cut off",
    "limit": "too large to open",
    "depth": "too deep in other archives",
    "new": "nothing older is alike: opened once it changes",
    "text": "zstd of text, nothing older is alike: opened once it changes",
    "unknown": "not opened; only packing knew why",
}
"""What a person reads for a reason why an archive stayed closed."""


def closed_texts(closed: Sequence[Closed]) -> str:
    """Return what a person reads of archives that stayed closed: the largest, and how many more."""
    more = len(closed) - 1
    return closed_text(closed[0]) + (f" and {more} more, see --json" if more else "")


def closed_text(row: Closed) -> str:
    """Return what a person reads of archives that stayed closed in a file."""
    kind = f"{row.streams} {row.kind}" if row.streams > 1 else row.kind
    return f"{row.path} ({kind}, {REASONS[row.reason]}; {format_size(row.bytes)})"


_SHOWN_LEFT_OUT = 4
"""Entries left out of a version that people are shown."""


def left_out_value(left_out: LeftOut) -> dict[str, Any]:
    """Return the JSON value of what rules left out of a version."""
    return {
        "files": left_out.files,
        "bytes": left_out.bytes,
        "directories": left_out.directories,
        "paths": [text_fields("path", path) for path in left_out.paths],
    }


def left_out_text(left_out: LeftOut) -> str:
    """Return what a person reads of what rules left out of a version."""
    counts = []
    if left_out.files:
        counts.append(f"{format_count(left_out.files, 'file')}, {format_size(left_out.bytes)}")
    if left_out.directories:
        counts.append(format_count(left_out.directories, "directory"))
    rest = left_out.files + left_out.directories - _SHOWN_LEFT_OUT
    more = f" and {rest} more, see --json" if rest > 0 else ""
    return f"left out {' and '.join(counts)}: {' '.join(left_out.paths[:_SHOWN_LEFT_OUT])}{more}"
