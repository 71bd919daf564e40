"""The command ``layer-packer``: arguments in; one result, or one line about an error, out.

A thin layer over `packer.api`, which `packer.verbs` calls. Exit codes and JSON keys are for
programs to rely on: docs/cli.md lists them all, and they stay within a major version.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

from packer.cli.arguments import UsageError, make_parser
from packer.cli.display import escape, open_display
from packer.cli.output import Output, OutputClosed, error_value
from packer.errors import (
    AuthError,
    IntegrityError,
    InvalidParameter,
    NotFound,
    PackerError,
    SourceError,
    StoreError,
    TargetExists,
)

if TYPE_CHECKING:
    from packer.cli.outcome import Report

EXIT_OK = 0
EXIT_FAILURE = 1
EXIT_USAGE = 2
EXIT_OUTPUT_CLOSED = 128 + signal.SIGPIPE

_SAME_SIGNAL_SECONDS = 0.5
_UNSEEN_SECONDS = 0.3

EXIT_CODES: tuple[tuple[type[BaseException], int], ...] = (
    (InvalidParameter, EXIT_USAGE),
    (NotFound, 3),
    (IntegrityError, 4),
    (AuthError, 6),
    (StoreError, 5),
    (SourceError, 7),
    (TargetExists, 8),
    (OSError, 9),
    (PackerError, EXIT_FAILURE),
)
"""Kinds of errors and the exit code of each; the first that fits counts."""


class _Stopped(BaseException):
    """A signal asks the process to end; a BaseException so that nothing takes it for a failure."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class _Cancel:
    """What `packer.progress.CancelEvent` asks for, and whether anybody has looked at it."""

    def __init__(self) -> None:
        self.number = 0
        """Of the signal that has set it."""
        self.seen = False
        """Whether someone was told so, and will end the work."""

    def is_set(self) -> bool:
        """Tell whether to stop."""
        found = self.number != 0
        self.seen |= found
        return found


def command() -> NoReturn:
    """Run the command as all that this process does, and end the process.

    A signal may arrive just when a thread has begun and its pool has not noted it yet. Such a
    thread is not waited for when the pool ends, but the interpreter would wait for it.
    """
    code = main()
    if code > 128:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError, AttributeError):
                stream.flush()
        os._exit(code)
    sys.exit(code)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: arguments without the program's name; those of the process by default.

    Returns:
        the exit code.

    Raises:
        SystemExit: after ``--help`` and ``--version``.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    out = Output(sys.stdout)
    try:
        args = make_parser().parse_args(words)
    except UsageError as error:
        return _fail(error, EXIT_USAGE, str(error), out, as_json="--json" in words)
    try:
        args.cancel = _Cancel()
        with _logging(args.debug), _signals(args.cancel):
            return _run(args, out)
    except _Stopped as stop:  # while an error was being reported
        return 128 + stop.number


def _run(args: argparse.Namespace, out: Output) -> int:
    """Run a verb; turn whatever stops it into a line and an exit code."""
    try:
        from packer.cli import verbs
        from packer.engine.memory import release_large_blocks

        release_large_blocks()
        with open_display(quiet=args.quiet or args.json) as display:
            report = verbs.run(args, out, display.callback)
        _show(report, args, out)
        out.flush()
        return report.exit_code
    except OutputClosed:
        out.abandon()
        return EXIT_OUTPUT_CLOSED
    except (KeyboardInterrupt, _Stopped) as stop:
        return _end(stop, args, out)
    except (PackerError, OSError) as error:
        if args.cancel.number:  # whatever its requests said when they were cut off
            return _end(error, args, out)
        code = next(code for kind, code in EXIT_CODES if isinstance(error, kind))
        return _fail(error, code, _message(error), out, as_json=args.json, debug=args.debug)
    except Exception as error:
        # A defect of ours. It gets its line and code like all others; --debug shows the rest.
        message = f"internal error: {type(error).__name__}: {error} (--debug shows where)"
        return _fail(error, EXIT_FAILURE, message, out, as_json=args.json, debug=args.debug)


def _end(error: BaseException, args: argparse.Namespace, out: Output) -> int:
    """Say that a signal has ended the work."""
    stop = _Stopped(args.cancel.number or signal.SIGINT)
    stop.__cause__ = error
    word = "interrupted" if stop.number == signal.SIGINT else "terminated"
    return _fail(stop, 128 + stop.number, word, out, as_json=args.json, debug=args.debug)


def _show(report: Report, args: argparse.Namespace, out: Output) -> None:
    if args.json:
        if report.value is not None:
            out.json(report.value())
    elif not (args.quiet and report.is_summary):
        for line in report.lines():
            out.line(line)


def _fail(
    error: BaseException,
    code: int,
    message: str,
    out: Output,
    *,
    as_json: bool,
    debug: bool = False,
) -> int:
    """Say what went wrong, on stderr for people, and as JSON for programs; return the code."""
    if debug:
        for part in traceback.format_exception(error):
            for line in part.splitlines():
                _complain(line)
    _complain(f"layer-packer: {message}")
    try:
        if as_json and not out.is_used:
            out.json(error_value(error, message, code))
        out.flush()
    except (OutputClosed, OSError):
        out.abandon()
    return code


def _complain(line: str) -> None:
    """Write a line to the standard error stream, as far as there is one."""
    if sys.stderr is not None:
        try:
            sys.stderr.write(escape(line) + "\n")
            sys.stderr.flush()
        except OSError:
            return  # nobody listens; the exit code still tells


def _message(error: PackerError | OSError) -> str:
    """Return one line about an error, in place of Python's ``[Errno 2] ...``."""
    if not isinstance(error, OSError) or isinstance(error, PackerError):
        return str(error)
    names = [os.fsdecode(name) for name in (error.filename, error.filename2) if _is_path(name)]
    what = error.strerror or str(error) or type(error).__name__
    return f"{' -> '.join(names)}: {what}" if names else what


def _is_path(name: object) -> bool:
    return isinstance(name, (str, bytes)) and bool(name)


@contextmanager
def _logging(debug: bool) -> Iterator[None]:
    """Show what the library logs: warnings, with --debug everything."""
    handler = _LogHandler()
    logger = logging.getLogger("packer")
    before = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG if debug else logging.WARNING)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.level, logger.propagate = before


class _LogHandler(logging.Handler):
    """Writes records as lines like those of errors."""

    def emit(self, record: logging.LogRecord) -> None:
        _complain(f"layer-packer: {record.levelname.lower()}: {record.getMessage()}")


@contextmanager
def _signals(cancel: _Cancel) -> Iterator[None]:
    """Make signals that end the process end the verb, so that everything half-made is taken away.

    The first one sets `cancel`. An exception from the handler could come between any two steps,
    when a lock has been taken and its holder is not yet known, and whoever needs it next would wait
    for ever. So only where nobody looks at `cancel` for a while, the verb being one that reads a
    little, an exception ends it. Another signal during the clean-up says so; the third ends the
    process at once. Those that come close together count as one: timeout(1) signals the process,
    then its group. Signals that the caller chose to ignore (nohup, a job in the background) stay
    ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    count = 0
    heard = 0.0

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal count, heard
        now = time.monotonic()
        if count and now - heard < _SAME_SIGNAL_SECONDS:
            return
        count, heard = count + 1, now
        if count == 1:
            cancel.number = number
            signal.setitimer(signal.ITIMER_REAL, _UNSEEN_SECONDS)
        elif count == 2:
            _complain("layer-packer: cleaning up; once more to stop at once")
        else:
            os._exit(128 + number)

    def insist(_: int, frame: FrameType | None) -> None:
        if cancel.number and not cancel.seen:
            cancel.seen = True
            raise _Stopped(cancel.number)

    ours = (signal.SIG_DFL, signal.default_int_handler)
    before: dict[int, Any] = {
        number: handler
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        if (handler := signal.getsignal(number)) in ours
    }
    alarm = signal.signal(signal.SIGALRM, insist)
    rest = signal.getitimer(signal.ITIMER_REAL)
    try:
        for number in before:
            signal.signal(number, stop)
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, *rest)
        for number, handler in {**before, signal.SIGALRM: alarm}.items():
            signal.signal(number, handler)
