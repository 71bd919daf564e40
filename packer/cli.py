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
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from packer._version import VERSION
from packer.display import escape, open_display
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
from packer.output import Output, OutputClosed, error_value

if TYPE_CHECKING:
    from packer.report import Report

EXIT_OK = 0
EXIT_FAILURE = 1
EXIT_USAGE = 2
EXIT_DIFFERENT = 10
EXIT_OUTPUT_CLOSED = 128 + signal.SIGPIPE

_SAME_SIGNAL_SECONDS = 0.5

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

_EPILOG = """\
NAME is a tag or digest of the local store, or a reference such as
registry.example/acme/app:1.4.2 or oci:DIR:TAG.

exit codes:
  0   done                              6   credentials missing, wrong or not allowed
  1   any other failure                 7   a file cannot be packed or changed meanwhile
  2   wrong usage, value or reference   8   the target directory is not empty
  3   no such tag, version or path      9   the file system said no (missing, full, ...)
  4   stored data is damaged or not     10  diff --exit-code: the versions differ
      a version of layer-packer         130 Ctrl-C; 143, 129 terminated, hung up
  5   registry unreachable or failing   141 nobody reads standard output any more
"""


class _UsageError(Exception):
    """Arguments that do not parse."""


class _Stopped(BaseException):
    """A signal asks the process to end; a BaseException so that nothing takes it for a failure."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class _Parser(argparse.ArgumentParser):
    """Raises in place of printing two lines and exiting, so that all errors look alike."""

    def error(self, message: str) -> NoReturn:
        raise _UsageError(f"{message} (see {self.prog} --help)")


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
        args = _make_parser().parse_args(words)
    except _UsageError as error:
        return _fail(error, EXIT_USAGE, str(error), out, as_json="--json" in words)
    try:
        with _logging(args.debug), _signals():
            return _run(args, out)
    except _Stopped as stop:  # while an error was being reported
        return 128 + stop.number


def _run(args: argparse.Namespace, out: Output) -> int:
    """Run a verb; turn whatever stops it into a line and an exit code."""
    try:
        from packer import verbs

        with open_display(quiet=args.quiet or args.json) as display:
            report = verbs.run(args, out, display.callback)
        _show(report, args, out)
        out.flush()
        return report.exit_code
    except OutputClosed:
        out.abandon()
        return EXIT_OUTPUT_CLOSED
    except (KeyboardInterrupt, _Stopped) as stop:
        number = stop.number if isinstance(stop, _Stopped) else signal.SIGINT
        word = "interrupted" if number == signal.SIGINT else "terminated"
        return _fail(stop, 128 + number, word, out, as_json=args.json, debug=args.debug)
    except (PackerError, OSError) as error:
        code = next(code for kind, code in EXIT_CODES if isinstance(error, kind))
        return _fail(error, code, _message(error), out, as_json=args.json, debug=args.debug)
    except Exception as error:
        # A defect of ours. It gets its line and code like all others; --debug shows the rest.
        message = f"internal error: {type(error).__name__}: {error} (--debug shows where)"
        return _fail(error, EXIT_FAILURE, message, out, as_json=args.json, debug=args.debug)


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
def _signals() -> Iterator[None]:
    """Make signals that end the process raise, so that everything half-made is taken away.

    The first one raises; another during the clean-up says so; the third ends the process at once.
    Those that come close together count as one: timeout(1) signals the process, then its group.
    Signals that the caller chose to ignore (nohup, a job in the background) stay ignored.
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
            raise _Stopped(number)
        if count > 2:
            os._exit(128 + number)
        _complain("layer-packer: cleaning up; once more to stop at once")

    ours = (signal.SIG_DFL, signal.default_int_handler)
    before = {
        number: handler
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        if (handler := signal.getsignal(number)) in ours
    }
    try:
        for number in before:
            signal.signal(number, stop)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _make_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="layer-packer",
        description="Ship application versions through any OCI registry; successive versions "
        "share their bytes.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"layer-packer {VERSION}")
    parser.set_defaults(json=False, quiet=False, debug=False, store=None)
    _add_common(parser)
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)

    def verb(name: str, text: str, *, reaches: bool = True, jobs: bool = False) -> _Parser:
        made = verbs.add_parser(
            name,
            help=text,
            description=text[0].upper() + text[1:] + ".",
            epilog=_EPILOG,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        _add_common(made)
        if reaches:
            _add_registry(made)
        if jobs:
            made.add_argument(
                "--jobs", type=int, default=4, metavar="N", help="concurrent transfers (default: 4)"
            )
        assert isinstance(made, _Parser)
        return made

    at = verb("pack", "pack a directory or file as a version")
    at.add_argument("path", metavar="DIR|FILE")
    at.add_argument("--tag", metavar="NAME", help="its name (default: the directory's name)")
    at.add_argument(
        "--base", metavar="REF|none", help="version to build on (default: the newest like it)"
    )
    at.add_argument("--level", type=int, metavar="N", help="zstd level, 1 to 22")
    at.add_argument("--no-expand", action="store_true", help="do not open archives")

    at = verb("push", "push a version to a registry or oci: layout", jobs=True)
    at.add_argument("reference", metavar="REF")
    at.add_argument(
        "--from",
        dest="name",
        metavar="NAME|DIR",
        help="local version, or a directory to pack first (default: the version named like REF)",
    )

    at = verb("pull", "pull a version and write its tree to a directory", jobs=True)
    at.add_argument("reference", metavar="REF")
    _add_target(at)

    at = verb("unpack", "write a version's tree to a directory")
    at.add_argument("name", metavar="NAME")
    _add_target(at)

    at = verb("ls", "list what a version holds")
    at.add_argument("name", metavar="NAME")
    at.add_argument("-l", "--long", action="store_true", help="with permissions, size, link target")
    at.add_argument("--inside", action="store_true", help="also list the files in archives")

    at = verb("cat", "write one file of a version to standard output")
    at.add_argument("name", metavar="NAME")
    at.add_argument("path", metavar="PATH")
    at.add_argument(
        "--inside", action="store_true", help="PATH may lead into an archive: app.tgz!/app/x.yaml"
    )

    at = verb("diff", "show what differs between two versions, from their indexes alone")
    at.add_argument("old", metavar="OLD")
    at.add_argument("new", metavar="NEW")
    at.add_argument(
        "--exit-code", action="store_true", help=f"exit with {EXIT_DIFFERENT} if they differ"
    )
    at.add_argument("--inside", action="store_true", help="also what changed in archives")

    at = verb("inspect", "show what a version says of itself")
    at.add_argument("name", metavar="NAME")

    at = verb("verify", "read every blob of a version and check it")
    at.add_argument("name", metavar="NAME")

    at = verb("copy", "copy a version between registries, oci: layouts and the store", jobs=True)
    at.add_argument("source", metavar="SRC")
    at.add_argument("destination", metavar="DST")

    verb("versions", "list the tags of the local store", reaches=False)
    return parser


def _add_common(parser: argparse.ArgumentParser) -> None:
    """Add options of every verb; they may stand before it too, so neither place has a default."""
    group = parser.add_argument_group("common options")
    unset = argparse.SUPPRESS
    group.add_argument(
        "--store",
        metavar="DIR",
        default=unset,
        help="local store, an OCI image layout (default: $LAYER_PACKER_STORE, "
        "else in the user's data directory)",
    )
    group.add_argument("--json", action="store_true", default=unset, help="print one JSON document")
    group.add_argument(
        "-q", "--quiet", action="store_true", default=unset, help="no progress and no summary"
    )
    group.add_argument(
        "--debug", action="store_true", default=unset, help="show tracebacks and the log"
    )


def _add_registry(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("registry options")
    group.add_argument(
        "--plain-http",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="use http, or insist on https (default: http for localhost only)",
    )
    group.add_argument("--ca-file", metavar="PEM", help="certificate authorities to trust")
    group.add_argument("--username", help="in place of the credentials of the docker config")
    group.add_argument(
        "--password-stdin", action="store_true", help="read the password from standard input"
    )


def _add_target(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", metavar="DIR")
    parser.add_argument(
        "--update",
        action="store_true",
        help="DIR may have content: equal files stay untouched, others are replaced",
    )
    parser.add_argument(
        "--delete",
        action="store_true",
        help="with --update: remove what the version does not hold",
    )
