"""Tables for people: headings above columns, cut to the terminal's width and never in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from packer.cli.output import Line
from packer.text import escape

SHORT_DIGEST_CHARS = 12
"""Hex digits of a digest that tables show, as docker does: 48 bits tell versions apart."""
GAP = "  "
"""Space between two columns."""
_CUT = "…"
"""Ends a value that was cut."""
_MIN_CUT_CHARS = 8
"""Least width that a column is cut to: below it, names that differ would look equal."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Args:
        heading: its title, in capitals.
        right: align to the right, as numbers are.
        cut: its values may be cut where the table is wider than the terminal.
        optional: leave the column out if all of its values are empty.
        width: its width in characters where that is known. If all columns but the last have one,
            rows are shown as they come and never held together.
    """

    heading: str
    right: bool = False
    cut: bool = False
    optional: bool = False
    width: int = 0


def table(
    columns: Sequence[Column], rows: Iterable[Sequence[str]], *, width: int | None = None
) -> Iterator[str]:
    """Yield the lines of a table: the headings, then a line for each row.

    Args:
        columns: the columns, at least one.
        rows: a text for each column; unprintable characters are escaped here.
        width: columns of the terminal; None cuts nothing.

    Yields:
        Lines without spaces at their ends.
    """
    if len(columns) > 1 and all(column.width for column in columns[:-1]):
        widths = [max(column.width, len(column.heading)) for column in columns[:-1]] + [0]
        yield Line(_row(columns, widths, [column.heading for column in columns]), "bold")
        for row in rows:
            yield _row(columns, widths, [escape(cell) for cell in row])
        return
    shown = [[escape(cell) for cell in row] for row in rows]
    kept = [
        at
        for at, column in enumerate(columns)
        if not column.optional or any(row[at] for row in shown)
    ]
    used = [columns[at] for at in kept]
    cells = [[column.heading for column in used], *([row[at] for at in kept] for row in shown)]
    widths = [max(map(cell_width, column)) for column in zip(*cells, strict=True)]
    if width is not None:
        _narrow(used, widths, width)
    for number, row in enumerate(cells):
        text = _row(used, widths, row)
        yield text if number else Line(text, "bold")


def folded(rows: Sequence[Sequence[str]], most: int) -> tuple[Sequence[Sequence[str]], int]:
    """Return the first rows of a table that may be long, and the number of rows left out.

    Args:
        rows: all rows.
        most: rows to show; one more is shown as well, as saying so would take the same line.

    Returns:
        Rows, and a count.
    """
    if len(rows) <= most + 1:
        return rows, 0
    return rows[:most], len(rows) - most


def short_digest(digest: str) -> str:
    """Return the first digits of a digest, which verbs accept as a name; "" for no digest."""
    return digest.partition(":")[2][:SHORT_DIGEST_CHARS]


def short_time(stamp: str) -> str:
    """Return a time in RFC 3339 without seconds and zone, if it is UTC; else as it is."""
    if len(stamp) == 20 and stamp[10] == "T" and stamp[19] == "Z":
        return f"{stamp[:10]} {stamp[11:16]}"
    return stamp


def terminal_width() -> int | None:
    """Return the columns of the terminal that standard output is; None if it is none."""
    stream = sys.stdout
    if stream is None or not stream.isatty():
        return None
    import shutil  # here for start-up time: most output is no table on a terminal

    return shutil.get_terminal_size().columns


def cell_width(text: str) -> int:
    """Return the columns that a text takes on a terminal: two for a wide character."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len  # has the tables of Unicode; names are ASCII mostly

    return cell_len(text)


def _narrow(columns: Sequence[Column], widths: list[int], width: int) -> None:
    """Take from the widest columns that may be cut what the table has too much."""
    over = sum(widths) + len(GAP) * (len(widths) - 1) - width
    while over > 0:
        at = max(
            (at for at, column in enumerate(columns) if column.cut),
            key=lambda at: widths[at],
            default=None,
        )
        if at is None or widths[at] <= max(_MIN_CUT_CHARS, len(columns[at].heading)):
            return  # the terminal folds the lines
        widths[at] -= 1
        over -= 1


def _row(columns: Sequence[Column], widths: Sequence[int], cells: Sequence[str]) -> str:
    parts = []
    for column, width, cell in zip(columns, widths, cells, strict=True):
        text = _fit(cell, width) if column.cut and width else cell
        padding = " " * (width - cell_width(text))
        parts.append(padding + text if column.right else text + padding)
    return GAP.join(parts).rstrip()


def _fit(text: str, width: int) -> str:
    """Cut a text in its middle, as the ends of names and versions tell most."""
    if cell_width(text) <= width:
        return text
    head, tail = text[: width // 2], text[-((width - 1) // 2) :]
    while cell_width(head) + cell_width(tail) + 1 > width:
        head, tail = (head[:-1], tail) if len(head) >= len(tail) else (head, tail[1:])
    return head + _CUT + tail
