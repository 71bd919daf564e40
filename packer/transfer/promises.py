"""Promises: versions elsewhere that hold blobs which are left out here.

An archive promises that the other side of an air gap has a version. A version that was packed on a
base in a registry promises that the registry has that base.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import NamedTuple, NoReturn

from packer.errors import FormatError, NotFound
from packer.oci import Descriptor, is_digest, load_json
from packer.stores.partial import Partial, Promised
from packer.stores.protocols import LocalBlobs, Store

MAX_NAME_CHARS = 512
"""Characters of a name that are kept: room for a reference with a tag and a digest."""
SHOWN = 3
"""Versions or blobs that an error names, so that it fits a few lines."""


class Promise(NamedTuple):
    """A version that another place is said to have.

    Args:
        name: the version's tag or reference; "" if it is not known.
        digest: the manifest's digest; "" for blobs that belong to no known version.
        blobs: digests of the version's blobs.
    """

    name: str
    digest: str
    blobs: frozenset[str]

    def __str__(self) -> str:
        return " ".join(part for part in (self.name, self.digest) if part) or "a list of blobs"


def encode_promises(promises: Sequence[Promise], left_out: Iterable[Descriptor]) -> str | None:
    """Encode promises as the value of an annotation.

    Args:
        promises: versions elsewhere.
        left_out: the blobs left out here. Each is listed once, under the first version that has it.

    Returns:
        JSON; None if no blob was left out.
    """
    waiting = {blob.digest for blob in left_out}
    out = []
    for promise in promises:
        blobs = waiting & promise.blobs
        waiting -= blobs
        if blobs:
            entry: dict[str, object] = {"blobs": sorted(blobs)}
            if promise.name:
                entry["tag"] = promise.name
            if promise.digest:
                entry["digest"] = promise.digest
            out.append(entry)
    return json.dumps(out, sort_keys=True, separators=(",", ":")) if out else None


def decode_promises(text: str | None) -> list[Promise]:
    """Decode the value of an annotation.

    Args:
        text: JSON that a stranger may have written; None for no annotation.

    Returns:
        The promises; malformed ones are skipped.
    """
    try:
        entries = load_json(b'{"of":' + (text or "[]").encode() + b"}", "promises")["of"]
    except (FormatError, UnicodeEncodeError):
        return []
    out: list[Promise] = []
    for entry in entries if isinstance(entries, list) else []:
        if not isinstance(entry, dict) or not isinstance(entry.get("blobs"), list):
            continue
        blobs = frozenset(blob for blob in entry["blobs"] if isinstance(blob, str))
        name, digest = entry.get("tag", ""), entry.get("digest", "")
        if isinstance(name, str) and isinstance(digest, str) and (not digest or is_digest(digest)):
            out.append(Promise(name[:MAX_NAME_CHARS], digest, blobs))
    return out


def absent_blobs(source: Store, blobs: Iterable[Descriptor]) -> list[Descriptor]:
    """Return the blobs that a source lacks, as far as it can tell at no cost.

    Args:
        source: a store; only a local one can tell.
        blobs: the blobs to look for.

    Returns:
        The blobs that the source lacks.
    """
    if not isinstance(source, LocalBlobs):
        return []
    return [blob for blob in blobs if not source.exists(blob)]


def refuse_incomplete(
    source: Store, manifest: str, lacking: Sequence[Descriptor], destination: str
) -> NoReturn:
    """Refuse a copy, naming the version to bring to the destination first.

    Args:
        source: lacks the blobs.
        manifest: digest of the manifest that names the blobs.
        lacking: the blobs, which the destination lacks as well.
        destination: name of the destination.

    Raises:
        NotFound: always; of kind "base" if the source recorded which version has the blobs, else of
            kind "blob".
    """
    text = source.promises(manifest) if isinstance(source, Promised) else None
    digests = {blob.digest for blob in lacking}
    bases = [promise for promise in decode_promises(text) if promise.blobs & digests]
    named = [promise for promise in bases if promise.name or promise.digest]
    if not named:
        shown = ", ".join(blob.digest for blob in lacking[:SHOWN])
        more = f" and {len(lacking) - SHOWN} more" if len(lacking) > SHOWN else ""
        raise NotFound("blob", shown + more, f"neither in {source.name} nor in {destination}")
    shown = ", ".join(map(str, named[:SHOWN]))
    more = f" and {len(named) - SHOWN} more" if len(named) > SHOWN else ""
    count = f"{len(lacking)} blob{'s' if len(lacking) > 1 else ''}"
    if isinstance(source, Partial):
        advice = "bring that version there first, or write the archive without --have"
    else:
        advice = f"copy that version there first, or pull it into {source.name}"
    why = f"{destination} lacks {count} that {source.name} leaves out: {advice}"
    raise NotFound("base", shown + more, why)
