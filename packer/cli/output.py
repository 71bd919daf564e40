"""Standard output of the command: lines, one JSON document, or raw bytes."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, BinaryIO, TextIO

from packer.cli.display import DUMB_TERMINALS
from packer.errors import NotFound, PackerError
from packer.text import escape, text_fields


class OutputClosed(Exception):
    """The reader of standard output closed it.

    Not an OSError, so that handlers of disk errors do not catch it.
    """


class Line(str):
    """A line with a style, which a terminal shows and a pipe does not get.

    Args:
        text: the line.
        style: a key of STYLES.
    """

    style: str

    def __new__(cls, text: str, style: str) -> Line:
        """Return the line."""
        line = super().__new__(cls, text)
        line.style = style
        return line


STYLES = {"bold": "1", "added": "32", "removed": "31", "changed": "33"}
"""SGR parameters of a `Line`'s style."""


class Output:
    """A stream for results; text is encoded here, so that no locale makes a name an error.

    Args:
        stream: standard output; None if the process has none.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self._raw: BinaryIO | None = stream.buffer if stream is not None else None
        self._encoding = (stream.encoding if stream is not None else None) or "utf-8"
        self.is_used = False
        """Whether anything was written."""
        self.is_for_people = self.is_terminal
        """Whether a person reads what is written, on a terminal or in a pager."""
        self.has_styles = _takes_styles(stream)
        """Whether styles of lines are shown: on a terminal, unless NO_COLOR is set."""

    @property
    def is_terminal(self) -> bool:
        """Whether a person sees what is written."""
        return self._stream is not None and self._stream.isatty()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Write raw bytes.

        Args:
            data: of any length.

        Raises:
            OutputClosed: the reader closed standard output.
            OSError: the disk is full, for example; it names standard output.
        """
        self.is_used = self.is_used or bool(data)
        if self._raw is not None:
            rest = memoryview(data)
            with _named():
                while rest:  # without a buffer (python -u) less than all may be taken
                    rest = rest[self._raw.write(rest) :]

    def line(self, text: str) -> None:
        """Write a line, with unprintable characters escaped."""
        shown = escape(text)
        if self.has_styles and isinstance(text, Line):
            shown = f"\x1b[{STYLES[text.style]}m{shown}\x1b[0m"
        self.write(shown.encode(self._encoding, "backslashreplace") + b"\n")

    def json(self, value: Mapping[str, Any]) -> None:
        """Write a JSON document, in ASCII: nothing in it can steer a terminal.

        Args:
            value: an object. An iterator in it becomes an array, written item by item: a listing of
                a million files need not be in memory.
        """
        before = "{"
        for key, item in value.items():
            self._text(f"{before}\n  {json.dumps(key)}: ")
            if isinstance(item, Iterator | list):
                self._array(item)
            else:
                self._text(json.dumps(item, indent=2).replace("\n", "\n  "))
            before = ","
        self._text("\n}\n")

    def _array(self, items: Iterable[Any]) -> None:
        """Write an array with a line for each item."""
        before = "["
        for item in items:
            self._text(f"{before}\n    {json.dumps(item)}")
            before = ","
        self._text("[]" if before == "[" else "\n  ]")

    def _text(self, text: str) -> None:
        self.write(text.encode("ascii"))

    def flush(self) -> None:
        """Hand everything to the operating system.

        Raises:
            OutputClosed: the reader closed standard output.
            OSError: the disk is full, for example.
        """
        if self._raw is not None:
            with _named():
                self._raw.flush()

    def abandon(self) -> None:
        """Drop buffered bytes, so that the interpreter does not try to write them when it ends."""
        if self._stream is None:
            return
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, self._stream.fileno())
        finally:
            os.close(nowhere)


@contextmanager
def _named() -> Iterator[None]:
    """Let errors of the block name standard output.

    Yields:
        Nothing.

    Raises:
        OutputClosed: the reader closed standard output.
        OSError: any other error.
    """
    try:
        yield
    except BrokenPipeError:
        raise OutputClosed from None
    except OSError as error:
        error.filename = error.filename or "standard output"
        raise


def _takes_styles(stream: TextIO | None) -> bool:
    """Return whether a stream is a terminal that may be sent styles (https://no-color.org)."""
    if stream is None or os.environ.get("NO_COLOR"):
        return False
    return stream.isatty() and os.environ.get("TERM", "") not in DUMB_TERMINALS


def replace_file(path: str, data: bytes) -> None:
    """Replace a file as a whole, and make the directories above it.

    Args:
        path: of the file.
        data: its new content.

    Raises:
        OSError: it cannot be written; it is then as it was.
    """
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        with open(temporary, "wb") as file:
            file.write(data)
        os.replace(temporary, path)
    except BaseException:
        if os.path.lexists(temporary):
            os.unlink(temporary)
        raise


def error_value(error: BaseException, message: str, code: int) -> dict[str, Any]:
    """Return the JSON object about an error; docs/cli.md lists its keys.

    Args:
        error: the error.
        message: the line about it.
        code: exit code of the process.

    Returns:
        A value for `Output.json`.
    """
    value: dict[str, Any] = {
        "error": escape(message),
        "kind": type(error).__name__.lstrip("_"),
        "exit_code": code,
    }
    path = getattr(error, "path", None)
    if isinstance(error, OSError) and not isinstance(error, PackerError):
        path = error.filename
    if isinstance(path, bytes):
        path = os.fsdecode(path)
    if isinstance(path, str):
        value.update(text_fields("path", path))
    if isinstance(error, NotFound):
        value["missing"] = error.kind
        value.update(text_fields("name", error.name))
    for key, kind in (("status", int), ("code", str), ("retryable", bool)):
        found = getattr(error, key, None)
        if isinstance(found, kind) and isinstance(error, PackerError):
            value[key] = escape(found) if isinstance(found, str) else found
    return value
