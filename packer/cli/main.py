"""The command ``layer-packer``: arguments in; one result, or one line about an error, out.

A thin layer over `packer.api`. Programs may rely on exit codes and JSON keys: docs/cli.md lists
them all, and they do not change within a major version.
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

from packer.cli.arguments import make_parser
from packer.cli.display import open_display
from packer.cli.output import Output, OutputClosed, error_value
from packer.cli.parser import UsageError, show_help
from packer.errors import (
    AuthError,
    IntegrityError,
    InvalidParameter,
    NotFound,
    OlderVersion,
    PackerError,
    SignatureError,
    SourceError,
    StoreError,
    TargetExists,
)
from packer.text import escape

if TYPE_CHECKING:
    from packer.cli.outcome import Report

EXIT_FAILURE = 1
EXIT_USAGE = 2
EXIT_OUTPUT_CLOSED = 128 + signal.SIGPIPE

_SAME_SIGNAL_SECONDS = 0.5
"""Signals within this time count as one: timeout(1) signals the process, then its group."""
_UNSEEN_SECONDS = 0.3
"""Time for the work to look at the cancel event, before an exception ends it."""

EXIT_CODES: tuple[tuple[type[BaseException], int], ...] = (
    (InvalidParameter, EXIT_USAGE),
    (NotFound, 3),
    (IntegrityError, 4),
    (SignatureError, 12),
    (OlderVersion, 12),
    (AuthError, 6),
    (StoreError, 5),
    (SourceError, 7),
    (TargetExists, 8),
    (OSError, 9),
    (PackerError, EXIT_FAILURE),
)
"""Exit code of each kind of error; the first kind that fits counts."""


class _Stopped(BaseException):
    """A signal asks the process to end; a BaseException, so no handler of errors catches it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class _Cancel:
    """A `packer.progress.CancelEvent` that a signal sets, and that knows whether it was seen."""

    def __init__(self) -> None:
        self.number = 0
        """Number of the signal that set it; 0 before."""
        self.seen = False
        """Whether the work has seen it set, and so will end."""

    def is_set(self) -> bool:
        """Return whether to stop."""
        found = self.number != 0
        self.seen |= found
        return found


def command() -> NoReturn:
    """Run the command, and end the process.

    A signal may arrive when a thread has started and its pool has not recorded it yet. The pool
    does not wait for such a thread, but the interpreter would at its end.
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
        argv: arguments without the program's name; the process's own by default.

    Returns:
        The exit code.

    Raises:
        SystemExit: after ``--help`` and ``--version``.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    out = Output(sys.stdout)
    try:
        args = make_parser().parse_args(words)
        if args.verb == "help":
            show_help(args.topic)
    except UsageError as error:
        return _fail(error, EXIT_USAGE, str(error), out, as_json="--json" in words)
    try:
        args.cancel = _Cancel()
        with _logging(args.debug), _signals(args.cancel):
            return _run(args, out)
    except _Stopped as stop:  # while an error was being reported
        return 128 + stop.number


def _run(args: argparse.Namespace, out: Output) -> int:
    """Run a verb; turn every error into a line and an exit code."""
    try:
        from packer.cli import verbs
        from packer.engine.memory import release_large_blocks

        release_large_blocks()
        if args.quiet and args.progress in ("plain", "json"):
            raise InvalidParameter(f"--quiet and --progress {args.progress} contradict each other")
        quiet = args.quiet or args.json or ("patch" in args and args.patch)
        with open_display(quiet=quiet, how=args.progress) as display:
            args.on_retry = display.on_retry
            report = verbs.run(args, out, display.callback)
        _show(report, args, out)
        out.flush()
        for note in report.notes:
            _complain(f"layer-packer: {note}")
        return report.exit_code
    except OutputClosed:
        out.abandon()
        return EXIT_OUTPUT_CLOSED
    except (KeyboardInterrupt, _Stopped) as stop:
        return _end(stop, args, out)
    except (PackerError, OSError) as error:
        if args.cancel.number:  # an error of requests that were cut off
            return _end(error, args, out)
        code = next(code for kind, code in EXIT_CODES if isinstance(error, kind))
        return _fail(error, code, _message(error), out, as_json=args.json, debug=args.debug)
    except Exception as error:
        # A defect of the program. It gets a line and a code too; --debug shows the rest.
        message = f"internal error: {type(error).__name__}: {error} (--debug shows where)"
        return _fail(error, EXIT_FAILURE, message, out, as_json=args.json, debug=args.debug)


def _end(error: BaseException, args: argparse.Namespace, out: Output) -> int:
    """Report that a signal ended the work."""
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
    """Report an error on stderr for people, and as JSON for programs; return the code."""
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
    """Write a line to the standard error stream, if there is one."""
    if sys.stderr is not None:
        try:
            sys.stderr.write(escape(line) + "\n")
            sys.stderr.flush()
        except OSError:
            return  # nobody reads it; the exit code still tells


def _message(error: PackerError | OSError) -> str:
    """Return one line about an error, without Python's ``[Errno 2]``."""
    if not isinstance(error, OSError) or isinstance(error, PackerError):
        return str(error)
    names = [os.fsdecode(name) for name in (error.filename, error.filename2) if _is_path(name)]
    what = error.strerror or str(error) or type(error).__name__
    return f"{' -> '.join(names)}: {what}" if names else what


def _is_path(name: object) -> bool:
    return isinstance(name, (str, bytes)) and bool(name)


@contextmanager
def _logging(debug: bool) -> Iterator[None]:
    """Show the library's log on stderr: warnings, with --debug everything."""
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
    """Writes log records in the form of error lines."""

    def emit(self, record: logging.LogRecord) -> None:
        _complain(f"layer-packer: {record.levelname.lower()}: {record.getMessage()}")


@contextmanager
def _signals(cancel: _Cancel) -> Iterator[None]:
    """Let signals that end the process end the verb first, so that it removes everything half-made.

    The first signal sets `cancel`. The handler raises no exception at once: one could come between
    any two steps, after a lock is taken and before its holder is known, and the next thread to take
    the lock would wait for ever. Only if the verb does not look at `cancel` for a while, as a short
    one does not, an exception ends it. A second signal during the clean-up is answered by a line;
    the third ends the process at once. Signals close together count as one. Signals that the caller
    chose to ignore (nohup, a job in the background) stay ignored.
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
