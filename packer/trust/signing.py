"""Signs a version as cosign does: simple signing, under the tag ``sha256-<hex>.sig``.

Of the ways in which cosign signs, this is the one that ``cosign verify --key`` of all its versions
accepts without a network.
"""

from __future__ import annotations

import base64
import binascii
import io
from dataclasses import dataclass
from typing import Any

from packer.errors import FormatError, NotFound
from packer.oci import MANIFEST_TYPE, Descriptor, canonical_json, digest_of, load_json
from packer.stores.protocols import Store
from packer.stores.subjects import fallback_tag
from packer.trust.claims import MAX_CLAIMS
from packer.trust.keys import SigningKey
from packer.trust.simple_signing import PAYLOAD_TYPE, SIGNATURE, encode_payload, sign_payload

_CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"


@dataclass(frozen=True, slots=True)
class Signed:
    """The result of signing.

    Args:
        digest: of the version's manifest.
        tag: that holds its signatures.
        carrier: digest of the manifest under that tag.
        key_id: of the public key, ``sha256:<hex>``.
        unchanged: the key had signed the version before.
    """

    digest: str
    tag: str
    carrier: str
    key_id: str
    unchanged: bool


def sign_version(store: Store, descriptor: Descriptor, key: SigningKey, repository: str) -> Signed:
    """Sign a version; signatures of others stay.

    Two that sign one version at the same moment may lose one of the signatures, as with cosign: the
    tag names what was written last.

    Args:
        store: takes the signature. The version's manifest is in it.
        descriptor: of the version's manifest.
        key: the private key.
        repository: recorded in what is signed, for people.

    Returns:
        Where the signature is.

    Raises:
        FormatError: the tag names something else than signatures, or too many.
        StoreError: the store failed.
    """
    digest = descriptor.digest
    tag = fallback_tag(digest) + ".sig"
    layers = _existing(store, tag)
    payload = encode_payload(digest, repository)
    blob = Descriptor(PAYLOAD_TYPE, digest_of(payload), len(payload))
    mine = [
        layer
        for layer in layers
        if layer.digest == blob.digest
        and _is_made_by(layer.annotations.get(SIGNATURE, ""), payload, key)
    ]
    if mine:
        return Signed(digest, tag, store.resolve(tag).digest, key.public.key_id, True)
    if len(layers) >= MAX_CLAIMS:
        raise FormatError(f"tag {tag}", f"holds {len(layers)} signatures")
    store.push(blob, io.BytesIO(payload))
    annotations = {SIGNATURE: sign_payload(payload, key)}
    layers.append(Descriptor(blob.media_type, blob.digest, blob.size, annotations))
    config = _config(layers)
    about = Descriptor(_CONFIG_TYPE, digest_of(config), len(config))
    store.push(about, io.BytesIO(config))
    manifest: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": about.to_json(),
        "layers": [layer.to_json() for layer in layers],
    }
    made = store.put_manifest(canonical_json(manifest), MANIFEST_TYPE, tag)
    return Signed(digest, tag, made.digest, key.public.key_id, False)


def _is_made_by(signature: str, payload: bytes, key: SigningKey) -> bool:
    try:
        return key.public.signed(base64.b64decode(signature, validate=True), payload)
    except (binascii.Error, ValueError):
        return False


def _existing(store: Store, tag: str) -> list[Descriptor]:
    """Return the signatures that a version has."""
    try:
        found, data = store.get_manifest(tag)
    except NotFound:
        return []
    layers = load_json(data, f"manifest {found.digest}").get("layers")
    if not isinstance(layers, list) or len(layers) > MAX_CLAIMS:
        raise FormatError(f"manifest {found.digest}", f"no signatures, or more than {MAX_CLAIMS}")
    return [Descriptor.from_json(layer) for layer in layers]


def _config(layers: list[Descriptor]) -> bytes:
    """Return the config of an image that is none, as cosign writes it."""
    return canonical_json(
        {
            "architecture": "",
            "config": {},
            "created": "0001-01-01T00:00:00Z",
            "history": [{"created": "0001-01-01T00:00:00Z"} for _ in layers],
            "os": "",
            "rootfs": {"type": "layers", "diff_ids": [layer.digest for layer in layers]},
        }
    )
