"""Escaping, sizes, and the displays on real streams."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
import threading

import pytest

from packer.cli.display import BarDisplay, LineDisplay, SilentDisplay, format_share, open_display
from packer.progress import Progress
from packer.text import escape, format_count, format_size


class Terminal(io.StringIO):
    """A stream that says it is a terminal, and keeps what is drawn on it."""

    def isatty(self) -> bool:
        return True


class Clock:
    """Time that passes when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain name.txt", "plain name.txt"),
        ("ünïcode 漢字", "ünïcode 漢字"),
        ("a\nb\tc\r", "a\\nb\\tc\\r"),
        ("\x1b[2J\x07\x7f\x9b", "\\x1b[2J\\x07\\x7f\\x9b"),
        ("exe\u202etxt\u2028\ufeff", "exe\\u202etxt\\u2028\\ufeff"),
        (os.fsdecode(b"bad\xff\x80"), "bad\\xff\\x80"),
        ("\ud800", "\\ud800"),
        ("\U000e0001", "\\U000e0001"),
        ("back\\slash", "back\\slash"),
    ],
)
def test_escape(text: str, shown: str) -> None:
    assert escape(text) == shown
    assert escape(text).isprintable()


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 KB"),
        (14_200, "14.2 KB"),
        (999_949, "999.9 KB"),
        (999_950, "1.0 MB"),  # never "1000.0 KB"
        (4_600_000, "4.6 MB"),
        (2 * 10**12, "2.0 TB"),
        (3 * 10**15, "3.0 PB"),
    ],
)
def test_format_size(size: int, shown: str) -> None:
    assert format_size(size) == shown


def test_counts_and_shares() -> None:
    assert format_count(1, "file") == "1 file"
    assert format_count(0, "file") == "0 files"
    assert format_count(12_345, "directory") == "12 345 directories"
    assert format_share(3, 1000) == "0.3 %"
    assert format_share(1, 10**6) == "under 0.1 %"
    assert format_share(0, 10) == "0.0 %"
    assert format_share(5, 0) == "0.0 %"


def test_lines_one_for_each_phase_and_no_more() -> None:
    stream, clock = io.StringIO(), Clock()
    with LineDisplay(stream, clock) as display:
        for done in range(0, 4_000_001, 1000):
            display.callback(Progress("copy", done, 4_000_000, "sha256:x"))
        clock.now += 2
        display.callback(Progress("unpack", 0, 10))
        clock.now += 1
        display.callback(Progress("unpack", 500, 10))
    assert stream.getvalue() == (
        "layer-packer: copy: 4.0 MB in 2.0 s (2.0 MB/s)\n"
        "layer-packer: unpack: 500 B in 1.0 s (500 B/s)\n"
    )


def test_lines_say_nothing_of_a_phase_that_failed_or_did_nothing() -> None:
    stream = io.StringIO()
    with pytest.raises(OSError, match="full"), LineDisplay(stream) as display:
        display.callback(Progress("pack", 5, 10))
        raise OSError("full")
    with LineDisplay(stream) as display:
        display.callback(Progress("copy", 0, 0))
    assert stream.getvalue() == ""


def test_lines_survive_a_reader_that_left() -> None:
    # A closed log must not stop a pack that runs well.
    read, write = os.pipe()
    os.close(read)
    with open(write, "w", encoding="utf-8") as stream:
        with LineDisplay(stream) as display:
            display.callback(Progress("pack", 5, 10))
        os.dup2(os.open(os.devnull, os.O_WRONLY), write)


def test_choice_of_display(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    assert isinstance(open_display(quiet=True, stream=Terminal()), SilentDisplay)
    assert open_display(quiet=True, stream=Terminal()).callback is None
    assert isinstance(open_display(quiet=False, stream=io.StringIO()), LineDisplay)
    assert isinstance(open_display(quiet=False, stream=Terminal()), BarDisplay)
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(open_display(quiet=False, stream=Terminal()), LineDisplay)


def test_bars_show_phase_amount_and_item(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    stream, clock = Terminal(), Clock()
    with BarDisplay(stream, clock) as display:
        display.callback(Progress("pack", 1_500_000, 4_600_000, "dir/[red]\x1b]0;own\x07"))
    drawn = stream.getvalue()
    assert "pack" in drawn
    assert "1.5 MB of 4.6 MB" in drawn
    # Names are neither markup nor escape sequences.
    assert "dir/[red]\\x1b]0;own\\x07" in drawn
    assert "\x1b]0" not in drawn


def test_bars_are_throttled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    clock = Clock()
    display = BarDisplay(Terminal(), clock)
    drawn: list[Progress] = []
    monkeypatch.setattr(display, "_draw", drawn.append)
    reports = [Progress("pack", done, 100_000) for done in range(100_000)]
    with display:
        for report in reports:
            display.callback(report)
            clock.now += 0.00001
    # One second of reports: one drawing each 0.1 s, and the last report at the end.
    assert 10 <= len(drawn) <= 12
    assert drawn[-1] == reports[-1]


def test_bars_draw_the_end_of_a_phase(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    display = BarDisplay(Terminal(), Clock())
    drawn: list[Progress] = []
    monkeypatch.setattr(display, "_draw", drawn.append)
    with display:
        for done in range(1, 6):
            display.callback(Progress("copy", done, 5))
        display.callback(Progress("unpack", 1, 9))
    assert Progress("copy", 5, 5) in drawn


def test_bars_take_reports_from_other_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    with BarDisplay(stream) as display:
        lock = threading.Lock()

        def work() -> None:
            for done in range(2000):
                with lock:
                    display.callback(Progress("copy", done, 2000, "blob"))

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert "copy" in stream.getvalue()


def test_bars_leave_nothing_on_a_real_terminal() -> None:
    # After the bars are gone the cursor is shown again: a hidden one outlives the program.
    code = (
        "import sys\n"
        "from packer.cli.display import open_display\n"
        "from packer.progress import Progress\n"
        "with open_display(quiet=False) as display:\n"
        "    display.callback(Progress('pack', 1, 2, 'name'))\n"
    )
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", code], stderr=follower, env={**os.environ, "TERM": "xterm"}
    )
    os.close(follower)
    drawn = b""
    try:
        while data := os.read(leader, 4096):
            drawn += data
    except OSError:
        pass  # Linux: EIO once the other side is closed
    finally:
        os.close(leader)
    assert process.wait() == 0
    assert b"pack" in drawn
    assert drawn.rfind(b"\x1b[?25h") > drawn.rfind(b"\x1b[?25l")
    assert re.search(rb"\x1b\[2K$", drawn.strip()), "the line is wiped at the end"
