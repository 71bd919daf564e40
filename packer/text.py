"""Texts for people and for JSON, shared by the command and the page.

Names and messages can hold anything: a file name may carry escape sequences that rewrite the
screen, or characters that turn its direction, and so may a registry's answer.
"""

from __future__ import annotations

import base64


def escape(text: str) -> str:
    r"""Return `text` with everything that is not printable as a backslash escape, on one line.

    Control and format characters (bidirectional overrides too) become ``\n``, ``\x1b``,
    ``\u202e``; a byte that is no UTF-8 (a lone surrogate here) becomes ``\xff``. A backslash
    stays as it is: the result is for reading, programs get exact names from ``--json``.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escape_char(char) for char in text)


def _escape_char(char: str) -> str:
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    if 0xD800 <= code <= 0xDFFF:
        return f"\\u{code:04x}"
    return char.encode("unicode_escape").decode()


def format_size(size: float) -> str:
    """Return a number of bytes in decimal units, with a digit behind the point from 1 KB on."""
    if abs(size) < 1000:
        return f"{size:.0f} B"
    for unit in ("KB", "MB", "GB", "TB"):
        size /= 1000
        # A size that would round to 1000.0 is shown in the next unit.
        if abs(size) < 999.95:
            return f"{size:.1f} {unit}"
    return f"{size / 1000:.1f} PB"


def format_count(count: int, noun: str) -> str:
    """Return ``1 file``, ``2 files``, ``2 copies``: nouns in -y change, the others take an s."""
    if count == 1:
        return f"1 {noun}"
    plural = noun[:-1] + "ies" if noun.endswith(("ry", "py")) else noun + "s"
    return f"{count:,} {plural}".replace(",", " ")


def text_fields(name: str, text: str) -> dict[str, str]:
    """Return the fields of a JSON object for text that may hold bytes that are no UTF-8.

    Args:
        name: key of the field.
        text: such bytes are lone surrogates in it, which many JSON parsers refuse.

    Returns:
        The text under ``name``. If it has such bytes, they are replaced by U+FFFD, and
        ``name_base64`` holds the exact bytes.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        exact = text.encode("utf-8", "surrogateescape")
        return {
            name: exact.decode("utf-8", "replace"),
            f"{name}_base64": base64.b64encode(exact).decode("ascii"),
        }
    return {name: text}
