"""Ranges of versions: the newest version of a repository that a range allows, pinned by its digest.

Sources: Semantic Versioning 2.0.0 for the order of versions; the ranges of npm (node-semver,
"Ranges") for their grammar.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from packer.api.locations import SIGNS_OF_RANGES
from packer.errors import InvalidReference, NotFound
from packer.reference import Reference, is_registry_url, is_tag
from packer.stores.registry.access import Access, RegistryLike

if TYPE_CHECKING:
    from semantic_version import NpmSpec, Version

MAX_RANGE_CHARS = 256
"""Characters of a range: room for a dozen alternatives, and a bound on the time to parse it."""
_SHOWN = 5
"""Versions that an error names."""

_GRAMMAR = re.compile(r"[0-9A-Za-z.+_~^<>=*|, -]+\Z")
_VERSION = re.compile(
    r"[vV]?(\d{1,18})(?:\.(\d{1,18}))?(?:\.(\d{1,18}))?(-[0-9A-Za-z.-]+)?(?:[+_]([0-9A-Za-z.-]+))?\Z"
)
"""A tag that is a version. Tags cannot hold ``+``; Helm writes ``_`` before build metadata."""


@dataclass(frozen=True, slots=True)
class Range:
    """A range of versions in a repository.

    Args:
        text: the reference as it was given.
        repository: names the repository.
        versions: the range, as node-semver writes it.
    """

    text: str
    repository: Reference
    versions: str


def parse_range(text: str) -> Range | None:
    """Return the range that a reference holds in place of a tag.

    Args:
        text: such as ``registry.example/acme/app:~1.4`` or ``registry.example/acme/app:>=1.4 <2``.

    Returns:
        The range; None for a reference without one, and for whatever is no reference.

    Raises:
        InvalidReference: the range or its repository is malformed.
    """
    if SIGNS_OF_RANGES.isdisjoint(text):
        return None
    rest = text.removeprefix("docker://")
    if is_registry_url(text):
        rest = text.partition("://")[2]
    host, slash, path = rest.partition("/")
    _, colon, versions = path.partition(":")
    is_host = "." in host or ":" in host or host == "localhost" or rest != text
    if not slash or not colon or not is_host or "@" in versions or is_tag(versions):
        return None
    if host in ("oci", "oci-archive") or host.startswith(("oci:", "oci-archive:")):
        return None
    if SIGNS_OF_RANGES.isdisjoint(versions):
        return None
    try:
        repository = Reference.parse(text[: len(text) - len(versions) - 1])
    except InvalidReference as error:
        raise InvalidReference(text[:MAX_RANGE_CHARS], error.why) from None
    found = Range(text, repository, versions)
    _specification(found)
    return found


def pin(ref: str, *, registry: RegistryLike | Access = None) -> str:
    """Return a reference to the newest version that a range allows, pinned by its digest.

    A pre-release is only chosen if the range names one of the same version
    (``>=2.0.0-rc.1``), as node-semver does.

    Args:
        ref: a reference with a range for a tag: ``~1.4`` (1.4 and its patches), ``^1.4`` (up to 2),
            ``1.4.*``, ``>=1.4 <2``, ``~1.4 || ~1.6``, ``*`` (the newest release).
        registry: how to reach the registry.

    Returns:
        Such as ``registry.example/acme/app:1.4.7@sha256:...``; `ref` itself if it holds no range.

    Raises:
        InvalidReference: the range is malformed.
        NotFound: the repository has no version in the range; names the newest ones that it has.
        StoreError: the registry failed.
    """
    wanted = parse_range(ref)
    if wanted is None:
        return ref
    store = Access.of(registry).open(wanted.repository)
    names = list(store.tag_names())
    tag = _newest(names, _specification(wanted))
    if tag is None:
        raise NotFound("version", wanted.versions, _what_there_is(store.name, names))
    return str(replace(wanted.repository, tag=tag, digest=store.resolve(tag).digest))


def _specification(wanted: Range) -> NpmSpec:
    from semantic_version import NpmSpec  # only ranges need it

    text = wanted.versions
    if len(text) <= MAX_RANGE_CHARS and _GRAMMAR.match(text):
        text = re.sub(r"([<>=~^])\s+", r"\1", text.replace(",", " "))
        text = re.sub(r"(?<![0-9A-Za-z.+-])[vV](?=\d)", "", text)
        parts = [" ".join(part.split()) for part in text.split("||")]
        try:
            if all(parts):  # node-semver takes an empty part for any version
                return NpmSpec("||".join(parts))
        except ValueError:
            pass
    why = f"{wanted.versions[:40]!r} is no range of versions; write ~1.4, ^1.4, 1.4.*, or >=1.4 <2"
    raise InvalidReference(wanted.text[:MAX_RANGE_CHARS], why)


def _newest(names: Iterable[str], specification: NpmSpec) -> str | None:
    """Return the newest tag in a range; of ``1.4.2``, ``1.4`` and ``1``, which move, the first.

    Many repositories move ``1.4`` to the newest patch. So tags of three numbers are looked at
    first, then those of two, then those of one.
    """
    for numbers in (3, 2, 1):
        found = [
            (version.precedence_key, name)
            for name in names
            if (parsed := _parse(name)) is not None
            and parsed[0] == numbers
            and specification.match(version := parsed[1])
        ]
        if found:
            return max(found)[1]
    return None


def _parse(tag: str) -> tuple[int, Version] | None:
    """Return how many numbers a tag's version has, and the version; None if it tells none."""
    from semantic_version import Version

    match = _VERSION.match(tag)
    if match is None:
        return None
    numbers = [int(part) for part in match.groups()[:3] if part is not None]
    text = ".".join(map(str, [*numbers, 0, 0][:3])) + (match[4] or "")
    try:
        return len(numbers), Version(text + (f"+{match[5]}" if match[5] else ""))
    except ValueError:
        return None  # an empty identifier, or a number with a zero in front


def _what_there_is(store: str, names: Iterable[str]) -> str:
    """Return what to tell of a repository without a version in the range."""
    versions = [(parsed[1].precedence_key, name) for name in names if (parsed := _parse(name))]
    shown = ", ".join(name for _, name in sorted(versions, reverse=True)[:_SHOWN])
    return (
        f"in {store}; {f'the newest there are {shown}' if shown else 'no tag there is a version'}"
    )
