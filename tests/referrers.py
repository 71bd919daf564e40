"""What refers to a version, in the shapes that cosign, notation, oras and syft give it.

Sources: cosign's SIGNATURE_SPEC.md, SBOM_SPEC.md and BUNDLE_SPEC.md; notation's
signature-specification.md; OCI image-spec 1.1, "Guidelines for Artifact Usage". The signatures are
of no key: they are copied and listed here, not verified.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from packer.oci import MANIFEST_TYPE, Descriptor, canonical_json, digest_of
from packer.stores.protocols import Store
from packer.stores.subjects import EMPTY, EMPTY_BYTES, fallback_tag

SIMPLE_SIGNING = "application/vnd.dev.cosign.simplesigning.v1+json"
SIGNATURE = "dev.cosignproject.cosign/signature"
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
NOTATION = "application/vnd.cncf.notary.signature"
JWS = "application/jose+json"
SPDX = "application/spdx+json"
DSSE = "application/vnd.dsse.envelope.v1+json"


def encode_artifact(
    artifact_type: str,
    subject: Descriptor | None,
    layers: Sequence[Descriptor],
    annotations: Mapping[str, str] | None = None,
) -> bytes:
    """Return the manifest of an artifact that may refer to another manifest."""
    value: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "artifactType": artifact_type,
        "config": EMPTY.to_json(),
        "layers": [layer.to_json() for layer in (layers or (EMPTY,))],
    }
    if subject is not None:
        value["subject"] = Descriptor(subject.media_type, subject.digest, subject.size).to_json()
    if annotations:
        value["annotations"] = dict(annotations)
    return canonical_json(value)


def attach(
    store: Store,
    subject: Descriptor,
    artifact_type: str,
    blobs: Iterable[tuple[str, bytes]] = (),
    annotations: Mapping[str, str] | None = None,
) -> Descriptor:
    """Store an artifact that refers to a manifest; `blobs` are media type and bytes."""
    store.push(EMPTY, io.BytesIO(EMPTY_BYTES))
    layers = []
    for media_type, data in blobs:
        layer = Descriptor(media_type, digest_of(data), len(data))
        store.push(layer, io.BytesIO(data))
        layers.append(layer)
    manifest = encode_artifact(artifact_type, subject, layers, annotations)
    return store.put_manifest(manifest, MANIFEST_TYPE)


def put_blob(store: Store, media_type: str, data: bytes) -> Descriptor:
    blob = Descriptor(media_type, digest_of(data), len(data))
    store.push(blob, io.BytesIO(data))
    return blob


def cosign_signature(store: Store, subject: Descriptor, *keys: str) -> Descriptor:
    """Put a signature as cosign 2 does: a tag; a layer for each key, equal but in annotations."""
    payload = {
        "critical": {
            "identity": {"docker-reference": "registry.example/acme/app"},
            "image": {"docker-manifest-digest": subject.digest},
            "type": "cosign container image signature",
        },
        "optional": None,
    }
    layer = put_blob(store, SIMPLE_SIGNING, canonical_json(payload))
    layers = [
        {
            **layer.to_json(),
            "annotations": {SIGNATURE: base64.b64encode(key.encode()).decode()},
        }
        for key in keys
    ]
    config = {
        "architecture": "",
        "created": "0001-01-01T00:00:00Z",
        "os": "",
        "rootfs": {"type": "layers", "diff_ids": [layer.digest] * len(keys)},
        "config": {},
    }
    kind = "application/vnd.oci.image.config.v1+json"
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": put_blob(store, kind, canonical_json(config)).to_json(),
        "layers": layers,
    }
    tag = fallback_tag(subject.digest) + ".sig"
    return store.put_manifest(canonical_json(manifest), MANIFEST_TYPE, tag)


def cosign_attachment(store: Store, subject: Descriptor, suffix: str) -> Descriptor:
    """Put an attestation (.att) or an SBOM (.sbom) as cosign 2 does."""
    kind = DSSE if suffix == ".att" else "text/spdx+json"
    layer = put_blob(store, kind, json.dumps({"of": subject.digest, "as": suffix}).encode())
    config = put_blob(store, "application/vnd.oci.image.config.v1+json", b'{"rootfs":{}}')
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": config.to_json(),
        "layers": [layer.to_json()],
    }
    tag = fallback_tag(subject.digest) + suffix
    return store.put_manifest(canonical_json(manifest), MANIFEST_TYPE, tag)


def sigstore_bundle(store: Store, subject: Descriptor, text: str = "bundle") -> Descriptor:
    """Attach a bundle as cosign 3 does."""
    value = {"mediaType": BUNDLE, "dsseEnvelope": {"payload": text}}
    notes = {
        "dev.sigstore.bundle.content": "dsse-envelope",
        "dev.sigstore.bundle.predicateType": "https://sigstore.dev/cosign/sign/v1",
        "org.opencontainers.image.created": "2026-11-01T00:00:00Z",
    }
    return attach(store, subject, BUNDLE, [(BUNDLE, canonical_json(value))], notes)


def notation_signature(store: Store, subject: Descriptor) -> Descriptor:
    """Attach a signature as notation 1 does: its config's type says what it is."""
    config = put_blob(store, NOTATION, b"{}")
    layer = put_blob(store, JWS, canonical_json({"payload": "", "signature": "e30"}))
    value = json.loads(
        encode_artifact(
            "", subject, [layer], {"io.cncf.notary.x509chain.thumbprint#S256": '["ab"]'}
        )
    )
    del value["artifactType"]
    value["config"] = config.to_json()
    return store.put_manifest(canonical_json(value), MANIFEST_TYPE)


@dataclass(frozen=True)
class Signed:
    """What `sign_all` put: digests by the tag that names them, and those of what has a subject."""

    tags: dict[str, str]
    attached: dict[str, set[str]]


def sign_all(store: Store, version: Descriptor) -> Signed:
    """Attach everything of every kind to a version, and to what is attached."""
    tagged = [
        cosign_signature(store, version, "first key"),
        cosign_attachment(store, version, ".att"),
        cosign_attachment(store, version, ".sbom"),
    ]
    bundle = sigstore_bundle(store, version)
    notation = notation_signature(store, version)
    sbom = attach(store, version, SPDX, [(SPDX, b'{"spdxVersion":"SPDX-2.3"}')])
    of_sbom = sigstore_bundle(store, sbom, "of the SBOM")
    deeper = attach(store, of_sbom, "text/plain", [("text/plain", b"seen")])
    tags = dict(
        zip(
            (fallback_tag(version.digest) + suffix for suffix in (".sig", ".att", ".sbom")),
            (one.digest for one in tagged),
            strict=True,
        )
    )
    # A signature of an SBOM may be cosign's as well.
    tags[fallback_tag(sbom.digest) + ".sig"] = cosign_signature(store, sbom, "key").digest
    attached = {
        version.digest: {bundle.digest, notation.digest, sbom.digest},
        sbom.digest: {of_sbom.digest},
        of_sbom.digest: {deeper.digest},
    }
    return Signed(tags, attached)


def check_signed(store: Store, signed: Signed) -> None:
    """Assert that a store has all of it, with all blobs."""
    from packer.oci import load_json
    from packer.stores.manifests import named_blobs

    digests = list(signed.tags.values())
    for tag, digest in signed.tags.items():
        assert store.resolve(tag).digest == digest
    for subject, expected in signed.attached.items():
        assert {one.digest for one in store.referrers(subject)} == expected
        digests += expected
    for digest in digests:
        _, data = store.get_manifest(digest)
        for blob in named_blobs(load_json(data, digest), digest)[0]:
            with store.fetch(blob) as reader:
                assert digest_of(reader.read()) == blob.digest
