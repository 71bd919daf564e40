"""Promises: versions that are elsewhere, so that their blobs can be left out here.

Of an archive: on the other side. Of a version packed on a base in a registry: there.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from packer.errors import FormatError, NotFound
from packer.oci import Descriptor, is_digest, load_json
from packer.stores.protocols import LocalBlobs, Partial, Promised, Store

MAX_NAME_CHARS = 512
"""Room for a reference with a tag and a digest; more is cut off."""
SHOWN = 3
"""How many versions or blobs an error names."""


@dataclass(frozen=True, slots=True)
class Promise:
    """A version that the other side, or a registry, is said to have.

    Args:
        name: its tag or reference, as far as it is known, or "".
        digest: of its manifest; "" for blobs that no version is known of.
        blobs: digests of its blobs.
    """

    name: str
    digest: str
    blobs: frozenset[str]

    def __str__(self) -> str:
        return " ".join(part for part in (self.name, self.digest) if part) or "a list of blobs"


def encode_promises(promises: Sequence[Promise], left_out: Iterable[Descriptor]) -> str | None:
    """Return the annotation that says who promised which blobs, None if none was left out.

    Each blob is listed once, under the first version that has it.
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
    """Return what an annotation says; what a stranger left malformed says nothing."""
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
    """Return the blobs that a source lacks, as far as it can tell at no cost."""
    if not isinstance(source, LocalBlobs):
        return []
    return [blob for blob in blobs if not source.exists(blob)]


def missing_base(
    source: Store, manifest: str, lacking: Sequence[Descriptor], destination: str
) -> NotFound:
    """Return the error that names what has to be at the destination first.

    Args:
        source: lacks the blobs.
        manifest: digest of the manifest that names them.
        lacking: the blobs that the destination lacks as well.
        destination: name of the store where they were looked for.
    """
    text = source.promises(manifest) if isinstance(source, Promised) else None
    digests = {blob.digest for blob in lacking}
    bases = [promise for promise in decode_promises(text) if promise.blobs & digests]
    named = [promise for promise in bases if promise.name or promise.digest]
    if not named:
        shown = ", ".join(blob.digest for blob in lacking[:SHOWN])
        more = f" and {len(lacking) - SHOWN} more" if len(lacking) > SHOWN else ""
        return NotFound("blob", shown + more, f"neither in {source.name} nor in {destination}")
    shown = ", ".join(map(str, named[:SHOWN]))
    more = f" and {len(named) - SHOWN} more" if len(named) > SHOWN else ""
    count = f"{len(lacking)} blob{'s' if len(lacking) > 1 else ''}"
    if isinstance(source, Partial):
        advice = "bring that version there first, or write the archive without --have"
    else:
        advice = f"copy that version there first, or pull it into {source.name}"
    why = f"{destination} lacks {count} that {source.name} leaves out: {advice}"
    return NotFound("base", shown + more, why)
