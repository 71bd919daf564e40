"""Shows results on a terminal: shares, hints and progress.

Names and messages can hold anything: all of them pass through `packer.text.escape`.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from packer.progress import Progress, ProgressCallback
from packer.text import escape, format_size

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import Task
    from rich.text import Text

REFRESH_SECONDS = 0.1
"""Seconds between two changes of a display, however often it is called."""

DUMB_TERMINALS = ("", "dumb", "unknown")
"""Values of TERM for terminals that only take text."""


def format_share(part: int, whole: int) -> str:
    """Return `part` of `whole` in per cent, with one digit."""
    share = 100 * part / whole if whole else 0.0
    return "under 0.1 %" if 0 < share < 0.1 else f"{share:.1f} %"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return a hint at the known word that is spelled most like another one, "" if none is."""
    import difflib  # needed for errors alone

    found = difflib.get_close_matches(word, list(known), 1)
    return f"; did you mean {found[0]}?" if found else ""


class Display(Protocol):
    """Shows progress while it is open; closing takes it off the screen."""

    @property
    def callback(self) -> ProgressCallback | None:
        """The callback to hand to the library; None to be called never."""

    @property
    def on_retry(self) -> Callable[[], None] | None:
        """What to call when a request is made again; None to be called never."""

    def __enter__(self) -> Display:
        """Return the display."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the display; after an error the phase under way is not reported as done."""


AUTO = "auto"
PROGRESS = (AUTO, "plain", "json", "none")
"""Ways to show progress: as suits the stream, a line for each phase, JSON lines, not at all."""


def open_display(*, quiet: bool, how: str = AUTO, stream: TextIO | None = None) -> Display:
    """Return the display that suits a stream: bars on a terminal, else a line for each phase.

    Args:
        quiet: show nothing, if `how` is AUTO.
        how: one of PROGRESS.
        stream: the process's standard error stream by default.

    Returns:
        The display, not yet open.
    """
    stream = sys.stderr if stream is None else stream
    if stream is None or how == "none" or (quiet and how == AUTO):
        return SilentDisplay()
    if how == "json":
        from packer.cli.progress_lines import JsonDisplay  # rare

        return JsonDisplay(stream)
    if how == "plain":
        return LineDisplay(stream)
    if stream.isatty() and os.environ.get("TERM", "") not in DUMB_TERMINALS:
        return BarDisplay(stream)
    return LineDisplay(stream)


class SilentDisplay:
    """Shows nothing."""

    callback: ProgressCallback | None = None
    on_retry: Callable[[], None] | None = None

    def __enter__(self) -> SilentDisplay:
        """Return the display."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Do nothing."""


class LineDisplay:
    """Writes one line when a phase is over, for logs and pipes.

    Args:
        stream: where to.
        clock: seconds, from any start.
    """

    on_retry: Callable[[], None] | None = None

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._last: Progress | None = None
        self._started = clock()

    def callback(self, report: Progress) -> None:
        """Record a report."""
        last = self._last
        if last is not None and last.phase != report.phase:
            self._end_phase(last)
        self._last = report

    def _end_phase(self, last: Progress) -> None:
        if not last.done_bytes:
            return  # nothing to do, so nothing to say
        now = self._clock()
        seconds = max(now - self._started, 1e-9)
        self._started = now
        line = (
            f"layer-packer: {escape(last.phase)}: {format_size(last.done_bytes)} in {seconds:.1f} s"
            f" ({format_size(last.done_bytes / seconds)}/s)\n"
        )
        try:
            self._stream.write(line)
            self._stream.flush()
        except OSError:
            # The reader of the log has gone: no reason to stop the work.
            return

    def __enter__(self) -> LineDisplay:
        """Start the clock."""
        self._started = self._clock()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Report the last phase, unless it failed."""
        if self._last is not None and error is None:
            self._end_phase(self._last)
        self._last = None


class BarDisplay:
    """Draws a bar for each phase on a terminal; rich is imported when it opens.

    Args:
        stream: the terminal.
        clock: seconds, from any start.
    """

    on_retry: Callable[[], None] | None = None

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._stack = ExitStack()
        self._bars: Bars | None = None
        self._tasks: dict[str, Any] = {}
        self._last: Progress | None = None
        self._next_change = 0.0

    def callback(self, report: Progress) -> None:
        """Record a report, and draw it if the last drawing is old enough.

        A call in between takes 0.1 microseconds, so thousands of calls a second cost nothing.
        """
        last, self._last = self._last, report
        if last is not None and last.phase != report.phase:
            self._draw(last)
        elif (now := self._clock()) < self._next_change:
            return
        else:
            self._next_change = now + REFRESH_SECONDS
        self._draw(report)

    def _draw(self, report: Progress) -> None:
        if self._bars is None:
            return
        total = report.total_bytes or None
        item = escape(report.item)
        task = self._tasks.get(report.phase)
        if task is None:
            self._tasks[report.phase] = self._bars.add_task(
                escape(report.phase), total=total, completed=report.done_bytes, item=item
            )
        else:
            self._bars.update(task, total=total, completed=report.done_bytes, item=item)

    def __enter__(self) -> BarDisplay:
        """Open an empty display."""
        self._bars = _make_bars(self._stream)
        manager: AbstractContextManager[Any] = self._bars
        self._stack.enter_context(manager)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Wipe the bars: the result follows."""
        if self._last is not None:
            self._draw(self._last)
        self._stack.close()
        self._bars = None


def _make_bars(stream: TextIO) -> Bars:
    from rich.console import Console
    from rich.progress import BarColumn, ProgressColumn
    from rich.progress import Progress as Bars
    from rich.text import Text

    class Phase(ProgressColumn):
        """The name of the phase. Text objects are shown as they are, markup is not looked for."""

        def render(self, task: Task) -> Text:
            return Text(task.description)

    class Amount(ProgressColumn):
        """Bytes done, bytes to do, and bytes per second."""

        def render(self, task: Task) -> Text:
            text = format_size(task.completed)
            if task.total is not None:
                text += f" of {format_size(task.total)}"
            if task.speed:
                text += f"  {format_size(task.speed)}/s"
            return Text(text)

    class Item(ProgressColumn):
        """The file or blob at hand."""

        def render(self, task: Task) -> Text:
            return Text(task.fields["item"], no_wrap=True, overflow="ellipsis", style="dim")

    console = Console(file=stream, highlight=False, emoji=False, markup=False)
    return Bars(
        Phase(),
        BarColumn(bar_width=24),
        Amount(),
        Item(),
        console=console,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
