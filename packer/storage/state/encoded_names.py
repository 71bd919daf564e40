"""Encodes the IDs of applications and bundles as parts of repository names and tags.

Repository names are lower case; the application IDs of KOTS (KSUIDs) are not. A character that a
name may not hold is written as ``__`` and two hexadecimal digits for each byte of its UTF-8 form.
No two IDs share a name, and a name decodes to its ID.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from packer.errors import InvalidParameter

MAX_ENCODED_CHARS = 120
"""Length of an encoded ID: a tag has 128 characters, of which its kind's prefix takes some."""

_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789")
_TAG_PLAIN = _PLAIN | frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ.-")
_SEPARATORS = frozenset(b"._-")
_ESCAPE = re.compile(rb"__([0-9a-f]{2})")


def encode_app(app: str) -> str:
    """Return an application's ID as a component of a repository's name.

    Args:
        app: the ID, any text.

    Returns:
        At most MAX_ENCODED_CHARS characters.

    Raises:
        InvalidParameter: the ID is empty, holds control characters, or is too long.
    """
    data = _checked(app, "application ID")

    def plain(at: int) -> bool:
        return 0 <= at < len(data) and data[at] in _PLAIN

    out = ""
    for at, byte in enumerate(data):
        separates = byte in _SEPARATORS and plain(at - 1) and plain(at + 1)
        out += chr(byte) if byte in _PLAIN or separates else f"__{byte:02x}"
    if out.startswith("x__"):  # this start is kept for the prefix added below
        out = "__78" + out[1:]
    return _bounded("x" + out if out.startswith("__") else out, app, "application ID")


def decode_app(name: str) -> str | None:
    """Return the application ID that `encode_app` encodes as `name`, None if there is none."""
    return _decoded(name[1:] if name.startswith("x__") else name, name, encode_app)


def encode_tag(text: str, what: str) -> str:
    """Return an ID as part of a tag.

    Args:
        text: the ID, any text.
        what: what it is an ID of, for errors.

    Returns:
        At most MAX_ENCODED_CHARS characters.

    Raises:
        InvalidParameter: the ID is empty, holds control characters, or is too long.
    """
    data = _checked(text, what)
    out = "".join(chr(byte) if byte in _TAG_PLAIN else f"__{byte:02x}" for byte in data)
    return _bounded(out, text, what)


def decode_tag(name: str) -> str | None:
    """Return the ID that `encode_tag` encodes as `name`, None if there is none."""
    return _decoded(name, name, lambda text: encode_tag(text, "ID"))


def _checked(text: str, what: str) -> bytes:
    try:
        data = text.encode()
    except UnicodeEncodeError:
        raise InvalidParameter(f"{what} {text[:80]!r} is not valid Unicode") from None
    if not text or any(ord(char) < 0x20 or ord(char) == 0x7F for char in text):
        raise InvalidParameter(f"{what} {text[:80]!r} is empty or holds control characters")
    return data


def _bounded(name: str, text: str, what: str) -> str:
    if len(name) > MAX_ENCODED_CHARS:
        raise InvalidParameter(
            f"{what} {text[:80]!r} is too long: its name would have {len(name)} characters, the "
            f"limit is {MAX_ENCODED_CHARS} (each that is no lower-case letter or digit counts four)"
        )
    return name


def _decoded(body: str, name: str, encode: Callable[[str], str]) -> str | None:
    try:
        text = _ESCAPE.sub(lambda match: bytes.fromhex(match[1].decode()), body.encode()).decode()
        return text if encode(text) == name else None
    except (UnicodeDecodeError, InvalidParameter):
        return None
