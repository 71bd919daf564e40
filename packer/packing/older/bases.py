"""Choice of the version to pack on, as far as names tell.

A tag may name its application: ``app:1.4.2`` and ``app:1.4.1`` are of one *family*, as are the
directories ``app-1.4.2`` and ``app-1.4.1``. Others (``1.4.2``, ``41``, ``latest``, a commit id) do
not; then `packer.packing.older.likeness` compares the trees.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator

from packer.errors import IntegrityError, NotFound, UnsupportedVersion
from packer.format.version import Version, load_version
from packer.oci import Descriptor
from packer.stores.protocols import Store, Tags
from packer.stores.subjects import attached_to

_LOG = logging.getLogger(__name__)

_LABEL = re.compile(r"(?P<name>.*?)[-_.]?v?\d+([.+_-][0-9A-Za-z.+_-]*)?\Z")
_ARCHIVE = re.compile(r"\.(tar(\.\w+)?|tgz|zip|airgap|zst|gz)\Z")

MOVING = (
    *("latest", "main", "master", "trunk", "head", "develop", "dev", "next"),
    *("edge", "nightly", "canary", "snapshot", "stable"),
)
"""Tags that are moved from version to version, those that probably name the newest one first."""
_NO_NAMES = {*MOVING, "build", "ci", "git", "pr", "rc", "release", "sha", "ver", "version"}
"""Words before a number that name no application."""
_COMMIT = r"(?:g|sha-?)?(?=[0-9]*[a-f])(?:[0-9a-f]{64}|[0-9a-f]{40}|[0-9a-f]{7,12})"
_BUILD = re.compile(rf"(?:(?P<name>.+?)[-_.])?(?:{'|'.join(MOVING)}|{_COMMIT})\Z", re.IGNORECASE)
"""A tag that ends in a moving word or a commit id."""
_VERSION = re.compile(r"[vV]?(\d+(?:\.\d+)*)(.*)\Z", re.DOTALL)
_NUMBERS = re.compile(r"(\d+)")

LOOK_TAGS = 8
"""Tags of a repository whose manifests are read for a base: a request each, made side by side."""
LOOK_UNORDERED_TAGS = 16
"""The same where no tag tells which version is newer: the newest of so many, spread evenly, is
among the newest sixteenth on average."""


def family(tag: str) -> str:
    """Return the part that tags of successive versions of one application have in common.

    Args:
        tag: a tag, or the name of a directory or archive.

    Returns:
        the part before the last colon (``app:1.4.2`` -> ``app``) or, without a colon, the name
        without its version (``app-1.4.2`` -> ``app``).
    """
    name, colon, _ = tag.rpartition(":")
    if colon:
        return name
    match = _LABEL.match(_ARCHIVE.sub("", tag))
    return match["name"] if match and match["name"] else tag


def version_label(tag: str) -> str:
    """Return the part of a tag that says which version it is.

    Args:
        tag: as for `family`.

    Returns:
        the part that `family` leaves out, without the character between them; "" if there is none.
    """
    return _ARCHIVE.sub("", tag)[len(family(tag)) :].lstrip("-_.:")


def application(tag: str) -> str | None:
    """Return the application that a tag names.

    Args:
        tag: a tag, reference, or the name of a directory or archive.

    Returns:
        the name, without host and path (``registry.example/acme/app:1.4.2`` and ``app-3f2a9c1``
        -> ``app``); None if the tag tells only a version (``1.4.2``, ``41``, ``latest``, a commit
        id) or has no version (``app``), so that it may be any word.
    """
    name, colon, _ = tag.rpartition(":")
    if not colon:
        stem = _ARCHIVE.sub("", tag)
        if build := _BUILD.match(stem):
            name = stem = build["name"] or ""
        if match := _LABEL.match(stem):
            name = match["name"]
    name = name.rpartition("/")[2]
    return None if name.lower() in _NO_NAMES else name or None


def may_be_one_application(one: str, other: str) -> bool:
    """Return whether two tags do not name different applications."""
    names = {application(one), application(other)} - {None}
    return len(names) < 2


VersionKey = tuple[tuple[int, ...], bool, tuple[tuple[int, str], ...]]
"""Orders versions: numbers, whether it is no pre-release, and the rest."""


def version_key(tag: str) -> VersionKey | None:
    """Return a key that orders tags by the versions that they tell.

    Args:
        tag: a tag.

    Returns:
        a key that is greater for later versions: ``1.4.10`` after ``1.4.9``, ``1.4.2`` after
        ``1.4.2-rc.1``; None if the tag tells no version.
    """
    stem = tag.rpartition(":")[2]
    if build := _BUILD.match(stem):
        stem = build["name"] or ""
    match = _VERSION.match(version_label(stem) or stem)
    if match is None:
        return None
    numbers = tuple(int(part) for part in match[1].split("."))
    while len(numbers) > 1 and not numbers[-1]:
        numbers = numbers[:-1]  # 1.4 and 1.4.0 are one version
    rest = tuple(
        (int(part), "") if part.isdigit() else (-1, part)
        for part in _NUMBERS.split(match[2])
        if part
    )
    is_release = not match[2].startswith(("-", "~")) and not re.match(r"\.?[A-Za-z]", match[2])
    return numbers, is_release, rest


def tags_to_look_at(names: Iterable[str], wanted: str) -> list[str]:
    """Choose the tags of a repository that may name the best base, from the names alone.

    These are `wanted` itself (where it is moved, the version before has it), the two versions
    before it, the three highest ones, three tags that are moved, and then others, spread evenly
    over the list.

    Args:
        names: the tags, in any order.
        wanted: the tag that the new version will have.

    Returns:
        `LOOK_TAGS` tags at most, `LOOK_UNORDERED_TAGS` if none of them tells a version; the version
        before `wanted` comes first.
    """
    known = sorted(
        name
        for name in set(names)
        if attached_to(name) is None and may_be_one_application(name, wanted)
    )
    keys = {name: key for name in known if (key := version_key(name)) is not None}
    ranked = sorted(keys, key=lambda name: (keys[name], name), reverse=True)
    goal = version_key(wanted)
    before = [name for name in ranked if goal is not None and keys[name] < goal]
    label = wanted.rpartition(":")[2]
    moved = [name for word in MOVING for name in known if name.lower() == word]
    chosen = dict.fromkeys(
        [*before[:1], *(name for name in known if name in (wanted, label)), *before[1:2]]
    )
    chosen.update(dict.fromkeys([*ranked[:3], *moved[:3]]))
    room = (LOOK_TAGS if ranked or moved else LOOK_UNORDERED_TAGS) - len(chosen)
    others = [name for name in known if name not in chosen and name not in keys]
    if room > 0 and others:
        step = max(len(others) / room, 1.0)
        picked = (others[int(step * at)] for at in range(min(room, len(others))))
        chosen.update(dict.fromkeys(picked))
    return list(chosen)


def newest_first(store: Tags, name: str) -> Iterator[tuple[str, Descriptor]]:
    """Yield the tags of a family, the one written last first.

    Args:
        store: lists its tags in the order they were written.
        name: the family.

    Yields:
        tag, and descriptor of the manifest that it names.
    """
    found = [(tag, descriptor) for tag, descriptor in store.tags() if family(tag) == name]
    yield from reversed(found)


def complete_versions(store: Store, names: Iterable[str]) -> Iterator[tuple[str, Version]]:
    """Yield the versions that tags name, as far as all their blobs are in a store.

    Artifacts of other tools and incomplete versions are passed over. So are damaged ones, with a
    warning in the log.

    Args:
        store: where to look.
        names: tags.

    Yields:
        tag and version.
    """
    for name in names:
        try:
            version = load_version(store, name)
        except (NotFound, UnsupportedVersion):
            continue
        except IntegrityError as error:
            _LOG.warning(
                "%s in %s is damaged, so nothing is packed on it: %s", name, store.name, error
            )
            continue
        if all(store.exists(layer) for layer in version.manifest.layers):
            yield name, version


def find_base(store: Store, tag: str) -> tuple[str, Version] | None:
    """Return the newest version of a tag's family whose blobs are all in a store.

    Args:
        store: where to look; see `complete_versions`.
        tag: of the version that will be packed.

    Returns:
        the base and its tag; None if there is none, or the store lists no tags.
    """
    if not isinstance(store, Tags):
        return None
    names = (name for name, _ in newest_first(store, family(tag)))
    return next(complete_versions(store, names), None)
