"""What refers to what: subjects of manifests, lists of referrers, and tags that attach by name.

A manifest refers to another by its ``subject``. A registry without the referrers API finds it by an
image index under the tag ``sha256-<hex>`` (the referrers tag schema of distribution-spec 1.1).
cosign also attaches without a subject, by the tags ``sha256-<hex>.sig``, ``.att`` and ``.sbom``.
All of it comes from strangers; these functions do no I/O.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from packer.errors import FormatError
from packer.oci import (
    INDEX_MANIFEST_TYPE,
    MAX_MANIFEST_BYTES,
    Descriptor,
    canonical_json,
    check_annotations,
    digest_of,
    load_json,
)

EMPTY_BYTES = b"{}"
EMPTY = Descriptor("application/vnd.oci.empty.v1+json", digest_of(EMPTY_BYTES), len(EMPTY_BYTES))
"""The config of artifacts that need none (image-spec 1.1, "Guidelines for Artifact Usage")."""
MAX_REFERRERS = 1000
"""Bound on the referrers of one manifest, and on all that are found from it at any depth."""
ATTACHED_SUFFIXES = (".sig", ".att", ".sbom")
"""Ends of the tags by which cosign attaches signatures, attestations and SBOMs."""

_ATTACHED = re.compile(r"sha256-([0-9a-f]{64})(?:\.[A-Za-z0-9_]{1,16})?\Z")


def fallback_tag(digest: str) -> str:
    """Return the tag of the index that lists a manifest's referrers where there is no API."""
    return digest.replace(":", "-")


def attached_tags(digest: str) -> tuple[str, ...]:
    """Return the tags by which cosign attaches to a manifest."""
    return tuple(fallback_tag(digest) + suffix for suffix in ATTACHED_SUFFIXES)


def attached_to(tag: str) -> str | None:
    """Return the digest that a tag attaches its manifest to; None for an ordinary tag."""
    found = _ATTACHED.match(tag)
    return None if found is None else "sha256:" + found[1]


def subject_of(value: Mapping[str, Any], what: str) -> Descriptor | None:
    """Return the ``subject`` of a decoded manifest.

    Args:
        value: the JSON object.
        what: the manifest's name in errors.

    Returns:
        The descriptor of the manifest that it refers to; None if it refers to none.

    Raises:
        FormatError: the subject is no descriptor.
    """
    subject = value.get("subject")
    if subject is None:
        return None
    try:
        return Descriptor.from_json(subject)
    except FormatError as error:
        raise FormatError(what, f"subject: {error}") from None


def as_referrer(data: bytes, media_type: str, what: str) -> Descriptor:
    """Return the descriptor by which a list of referrers names a manifest.

    Args:
        data: the manifest's bytes.
        media_type: its media type.
        what: its name in errors.

    Returns:
        A descriptor with the manifest's annotations and its artifact type: the manifest's own, or
        else the media type of its config.

    Raises:
        FormatError: the manifest is malformed.
    """
    value = load_json(data, what)
    annotations = value.get("annotations") or {}
    check_annotations(annotations)
    config = value.get("config")
    kind = value.get("artifactType")
    if not isinstance(kind, str) or not kind:
        kind = config.get("mediaType") if isinstance(config, dict) else ""
    kind = kind if isinstance(kind, str) and len(kind) <= 255 else ""
    return Descriptor(media_type, digest_of(data), len(data), annotations, kind)


def decode_referrers(data: bytes, what: str) -> list[Descriptor]:
    """Parse a list of referrers: an image index.

    Args:
        data: its bytes.
        what: its name in errors.

    Returns:
        The descriptors, each digest once.

    Raises:
        FormatError: no image index, or more than MAX_REFERRERS entries.
    """
    value = load_json(data, what)
    entries = value.get("manifests")
    if entries is None and "manifests" in value:
        entries = []  # Go writes null for an empty slice
    if not isinstance(entries, list) or value.get("mediaType") not in (None, INDEX_MANIFEST_TYPE):
        raise FormatError(what, "no image index")
    check_count(len(entries), what)
    found: dict[str, Descriptor] = {}
    for entry in entries:
        descriptor = Descriptor.from_json(entry)
        found.setdefault(descriptor.digest, descriptor)
    return list(found.values())


def encode_referrers(referrers: Sequence[Descriptor], what: str) -> bytes:
    """Return a list of referrers, as the referrers tag schema has it.

    Args:
        referrers: descriptors, as `as_referrer` returns them.
        what: the list's name in errors.

    Returns:
        The bytes of an image index.

    Raises:
        FormatError: it would be above the bound on manifests.
    """
    value = {
        "schemaVersion": 2,
        "mediaType": INDEX_MANIFEST_TYPE,
        "manifests": [referrer.to_json() for referrer in referrers],
    }
    data = canonical_json(value)
    if len(data) > MAX_MANIFEST_BYTES:
        raise FormatError(what, f"{len(data)} bytes is above the limit of {MAX_MANIFEST_BYTES}")
    return data


def check_count(count: int, what: str) -> None:
    """Raise FormatError if a list of referrers is longer than MAX_REFERRERS."""
    if count > MAX_REFERRERS:
        raise FormatError(what, f"more than {MAX_REFERRERS} referrers")
