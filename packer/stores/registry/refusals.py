"""Reads what registries, proxies and firewalls say in the body of a refusal: JSON, HTML or text.

Source: distribution-spec 1.1, "Error Codes". Others answer too: GitHub with ``message``, nginx with
HTML, firewalls with a support number. Texts are bounded, without tags and control characters.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

MAX_ENTRIES = 100
"""Errors of one answer that are looked at."""
MAX_MARKUP_CHARS = 64 << 10
"""Characters of HTML or text that are looked at for words."""
MAX_DEPTH_CHARS = 4096
"""Characters of one string that are searched for digests."""

_DIGESTS = re.compile(r"sha256:[0-9a-f]{64}(?![0-9a-f])")
_CODE = re.compile(r"[A-Z0-9_]{1,64}\Z")
_SILENT = re.compile(r"<(script|style|head)\b.*?(</\1\s*>|\Z)", re.S | re.I)
_TITLE = re.compile(r"<title\b[^>]*>(.*?)</title", re.S | re.I)
_TAG = re.compile(r"<[^>]*(>|\Z)")
_SPACE = re.compile(r"\s+")
_TEXT_KEYS = ("message", "error_description", "title", "error", "detail", "details", "reason")
_VAGUE = re.compile(r"unknown error|error|internal (server )?error|forbidden|", re.I)
_OTHER_REASON = re.compile(
    r"quota|limit|exceed|storage|space|immutab|overwrit|exist|archiv|polic|block|lock|retention"
    r"|read.?only|maintenance|vulnerab|scan|sign|billing|plan|suspend|disabled",
    re.I,
)
_NO_SPACE = re.compile(r'"Err": ?(28|122)\b|no space left|disk quota exceeded', re.I)
_ABOUT_LOGIN = re.compile(
    r"denied|unauthori|credential|log.?in|authenticat|scope|permission|privilege|not allowed"
    r"|forbidden|insufficient|token",
    re.I,
)


@dataclass(frozen=True, slots=True)
class Refusal:
    """The content of an error's body.

    Args:
        code: error code of the distribution-spec, "" if there is none.
        text: the reason in the server's words, on one line; "" if there is none. A stranger's text:
            not yet escaped or bounded.
        digests: digests that occur anywhere in the body, each once.
    """

    code: str = ""
    text: str = ""
    digests: tuple[str, ...] = ()

    @property
    def is_about_space(self) -> bool:
        """Whether the registry's storage is full; docker-registry tells the number of the error."""
        return bool(_NO_SPACE.search(self.text))

    @property
    def is_about_login(self) -> bool:
        """Whether other credentials may help; not where quota, policy or immutability is named."""
        if _OTHER_REASON.search(self.text):
            return False
        return not self.text or bool(_ABOUT_LOGIN.search(self.text))


def read_refusal(data: bytes) -> Refusal:
    """Read the body of an error.

    Args:
        data: the body.

    Returns:
        What it says; empty where there are no words.
    """
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return Refusal(text=_words(data))
    errors = value.get("errors") if isinstance(value, dict) else None
    if isinstance(errors, dict):
        errors = [errors]
    if not isinstance(errors, list) or not errors:
        return Refusal(text=_said(value), digests=_find_digests(value))
    entries = errors[:MAX_ENTRIES]
    first = entries[0]
    code = str(first.get("code")) if isinstance(first, dict) else ""
    return Refusal(code if _CODE.match(code) else "", _said(first), _find_digests(entries))


def _said(value: object) -> str:
    """Return the reason in a decoded error: its message, with the detail if that is vague."""
    if isinstance(value, str):
        return _one_line(value)
    if isinstance(value, list):
        return next((text for item in value[:MAX_ENTRIES] if (text := _said(item))), "")
    if not isinstance(value, dict):
        return ""
    text = ""
    for key in _TEXT_KEYS:
        if not _VAGUE.fullmatch(text):
            break
        more = _said(value.get(key))
        if key.startswith("detail") and not more:
            more = _shown_detail(value.get(key))
        if more:
            text = f"{text}: {more}" if text else more
    return text


def _shown_detail(value: object) -> str:
    """Return a detail that holds no known text as JSON, "" if there is nothing in it."""
    if not value or not any(True for _ in _strings(value)):
        return ""
    return _one_line(json.dumps(value)[:MAX_DEPTH_CHARS])


def _words(data: bytes) -> str:
    """Return the words of a body of HTML or text, "" if it is neither."""
    text = data[:MAX_MARKUP_CHARS].decode("utf-8", "replace")
    if not text.strip() or "\0" in text or text.count("\ufffd") * 4 > len(text):
        return ""
    if "<" not in text:
        return _one_line(text)
    titles = " ".join(_TITLE.findall(text))
    body = _one_line(html.unescape(_TAG.sub(" ", _SILENT.sub(" ", text))))
    return body or _one_line(html.unescape(titles))


def _one_line(text: str) -> str:
    return _SPACE.sub(" ", text).strip()


def _find_digests(value: object) -> tuple[str, ...]:
    """Return the digests in decoded JSON, each once."""
    found = (item for text in _strings(value) for item in _DIGESTS.findall(text[:MAX_DEPTH_CHARS]))
    return tuple(dict.fromkeys(found))


def _strings(value: object) -> Iterator[str]:
    """Yield the strings in decoded JSON, at any depth, without recursion."""
    todo = [value]
    while todo:
        item = todo.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, dict):
            todo.extend(item.values())
        elif isinstance(item, list):
            todo.extend(item)
