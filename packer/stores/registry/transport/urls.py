"""URLs and texts of strangers: checked before use, and made fit to be shown."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

from packer.errors import FormatError

MAX_TEXT_CHARS = 300
"""Characters of a stranger's text that an error shows."""

_QUERY = re.compile(r"(\w+://[^\s?\"'<>]*)\?[^\s\"'<>]*")
_USERINFO = re.compile(r"(\w+://)[^\s/@\"'<>]*@")


@dataclass(frozen=True, slots=True)
class Origin:
    """Scheme, host and port: the server that credentials belong to."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.scheme}://{self.host}:{self.port}"


def origin_of(url: str) -> Origin:
    """Return the origin of an absolute http or https URL.

    Args:
        url: the URL.

    Returns:
        Scheme, host and port; the port of the scheme if the URL has none.

    Raises:
        FormatError: another scheme, user information, no host, a bad port, or characters that have
            no place in a URL.
    """
    shown = shown_url(url)
    if any(not "!" <= char <= "~" for char in url) or "\\" in url:
        raise FormatError(f"URL {shown}", "characters that must be escaped")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise FormatError(f"URL {shown}", "cannot be parsed") from None
    if parts.scheme not in ("http", "https"):
        raise FormatError(f"URL {shown}", "neither http nor https")
    if "@" in parts.netloc:
        raise FormatError(f"URL {shown}", "holds user information")
    if not parts.hostname:
        raise FormatError(f"URL {shown}", "no host")
    if port is None:
        port = 443 if parts.scheme == "https" else 80
    return Origin(parts.scheme, parts.hostname.rstrip("."), port)


def join_url(base: str, location: str) -> str:
    """Resolve a Location header against the URL that was asked for.

    Args:
        base: the URL of the request.
        location: the header.

    Returns:
        An absolute URL that `origin_of` accepts.

    Raises:
        FormatError: as `origin_of`, and for a step down from https to http.
    """
    try:
        target = urljoin(base, location)
    except ValueError:
        raise FormatError(f"URL {safe_text(location)}", "cannot be parsed") from None
    if origin_of(base).scheme == "https" and origin_of(target).scheme == "http":
        raise FormatError(
            f"URL {shown_url(target)}",
            "an https registry points at plain http, which is refused (behind a proxy, the "
            "registry must be told its outer scheme: X-Forwarded-Proto, or relative URLs)",
        )
    origin_of(target)
    return target


def safe_text(text: str) -> str:
    """Return a stranger's `text` fit for a terminal: escaped, without URL queries, bounded."""
    text = _USERINFO.sub(r"\1", _QUERY.sub(r"\1", text[: 4 * MAX_TEXT_CHARS]))
    out = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
    return out if len(out) <= MAX_TEXT_CHARS else out[:MAX_TEXT_CHARS] + "..."


def shown_url(url: str) -> str:
    """Return a URL as errors may show it: no query, no user information, escaped."""
    return safe_text(url.partition("?")[0].partition("#")[0])
