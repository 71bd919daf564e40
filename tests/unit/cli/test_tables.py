"""Tables: widths, cutting, styles, and names that would steer a terminal."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest

from packer.cli.output import Line, Output
from packer.cli.tables import (
    Column,
    cell_width,
    folded,
    short_digest,
    short_time,
    table,
    terminal_width,
)

NAME = Column("NAME", cut=True)
SIZE = Column("SIZE", right=True)


def test_columns_are_as_wide_as_their_widest_value() -> None:
    assert list(table([NAME, SIZE], [("a", "1 B"), ("longer", "12.5 MB")])) == [
        "NAME       SIZE",
        "a           1 B",
        "longer  12.5 MB",
    ]


def test_a_narrow_terminal_cuts_what_may_be_cut_and_a_pipe_nothing() -> None:
    rows = [("registry.example/acme/app:1.4.2", "12.5 MB")]
    cut = list(table([NAME, SIZE], rows, width=30))
    assert max(map(cell_width, cut)) == 30
    assert cut[1].startswith("registry.e") and ":1.4.2  12.5 MB" in cut[1]
    assert rows[0][0] in list(table([NAME, SIZE], rows))[1]


def test_a_tiny_terminal_keeps_what_tells_names_apart() -> None:
    lines = list(table([NAME, SIZE], [("registry.example/acme/app:1.4.2", "12.5 MB")], width=3))
    assert len(lines[1].partition("  ")[0]) == 8


def test_wide_characters_take_two_columns() -> None:
    lines = list(table([NAME, SIZE], [("図図", "1 B"), ("abcd", "2 B")]))
    assert cell_width(lines[1]) == cell_width(lines[2])
    assert cell_width(list(table([NAME], [("図" * 20,)], width=11))[1]) <= 11


def test_hostile_names_are_escaped_before_they_are_measured() -> None:
    lines = list(table([NAME, SIZE], [("\x1b[31m\n", "1 B")]))
    assert "\x1b" not in lines[1]
    assert len(lines) == 2
    assert lines[1].startswith("\\x1b[31m\\n  ")


def test_an_empty_optional_column_is_left_out() -> None:
    columns = [NAME, Column("WHY", optional=True)]
    assert list(table(columns, [("a", "")])) == ["NAME", "a"]
    assert next(table(columns, [("a", ""), ("b", "x")])) == "NAME  WHY"


def test_rows_of_known_width_are_not_held() -> None:
    def rows() -> Iterator[tuple[str, str]]:
        yield "1", "first"
        raise AssertionError("the second row was asked for before the first was shown")

    lines = table([Column("SIZE", right=True, width=6), Column("PATH")], rows())
    assert [next(lines), next(lines)] == ["  SIZE  PATH", "     1  first"]


def test_long_tables_are_folded() -> None:
    rows = [(str(number),) for number in range(20)]
    assert folded(rows, 5) == (rows[:5], 15)
    assert folded(rows[:6], 5) == (rows[:6], 0)


def test_digests_and_times_are_short() -> None:
    assert short_digest("sha256:" + "0123456789abcdef" * 4) == "0123456789ab"
    assert short_digest("") == ""
    assert short_time("2026-11-30T00:43:24Z") == "2026-11-30 00:43"
    assert short_time("2026-11-30T00:43:24+01:00") == "2026-11-30T00:43:24+01:00"
    assert short_time("") == ""


class Terminal(io.TextIOWrapper):
    def isatty(self) -> bool:
        return True


def written(monkeypatch: pytest.MonkeyPatch, *, tty: bool, **environment: str) -> str:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    raw = io.BytesIO()
    stream = (Terminal if tty else io.TextIOWrapper)(raw, encoding="utf-8")
    out = Output(stream)
    out.line(Line("HEAD \x1b", "bold"))
    out.line("row")
    out.flush()
    return raw.getvalue().decode()


def test_styles_are_for_terminals_without_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    assert written(monkeypatch, tty=True) == "\x1b[1mHEAD \\x1b\x1b[0m\nrow\n"
    plain = "HEAD \\x1b\nrow\n"
    assert written(monkeypatch, tty=False) == plain
    assert written(monkeypatch, tty=True, NO_COLOR="1") == plain
    assert written(monkeypatch, tty=True, TERM="dumb") == plain


def test_the_width_is_the_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(io.BytesIO()))
    assert terminal_width() is None
    monkeypatch.setattr("sys.stdout", Terminal(io.BytesIO()))
    monkeypatch.setenv("COLUMNS", "67")
    assert terminal_width() == 67
