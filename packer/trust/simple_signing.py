"""cosign's simple signing: a small JSON document is signed, and lies under a tag.

The tag ``sha256-<hex>.sig`` names an image manifest. Each layer is such a document, and its
annotation holds the signature. Source: sigstore/cosign ``specs/SIGNATURE_SPEC.md``, and
containers/image ``docs/containers-signature.5.md`` for the document.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from datetime import datetime

from packer.errors import BadSignature, FormatError, SignatureMismatch, UnknownSigner
from packer.oci import canonical_json, load_json
from packer.trust.claims import KeySigner, Signer, decode_base64
from packer.trust.keys import SigningKey

PAYLOAD_TYPE = "application/vnd.dev.cosign.simplesigning.v1+json"
SIGNATURE = "dev.cosignproject.cosign/signature"
"""Annotation of a layer: base64 of the signature."""
_DOCUMENT_TYPES = ("cosign container image signature", "atomic container signature")


def encode_payload(digest: str, repository: str) -> bytes:
    """Return the document that is signed.

    Args:
        digest: of the version's manifest.
        repository: where it is, for people: cosign does not check it unless it is told to.

    Returns:
        JSON.
    """
    return canonical_json(
        {
            "critical": {
                "identity": {"docker-reference": repository},
                "image": {"docker-manifest-digest": digest},
                "type": _DOCUMENT_TYPES[0],
            },
            "optional": None,
        }
    )


def sign_payload(payload: bytes, key: SigningKey) -> str:
    """Return the value of the annotation SIGNATURE."""
    return base64.b64encode(key.sign(payload)).decode("ascii")


@dataclass(frozen=True, slots=True)
class SimpleClaim:
    """A layer of a ``.sig`` manifest.

    Args:
        carrier: digest of that manifest.
        payload: the document.
        signature: the annotation's value.
    """

    carrier: str
    payload: bytes
    signature: str
    kind: str = "cosign"

    def check(self, signer: Signer, digest: str, now: datetime) -> str:
        """Check the signature; see `Claim.check`."""
        if not isinstance(signer, KeySigner):
            raise UnknownSigner(digest, f"cosign's signature {self.carrier} is made with a key")
        if not signer.key.signed(decode_base64(self.signature, digest), self.payload):
            raise UnknownSigner(digest, f"key {signer.name} did not sign {self.carrier}")
        try:
            value = load_json(self.payload, f"signed document of {self.carrier}")
            critical = value["critical"]
            kind, signed = critical["type"], critical["image"]["docker-manifest-digest"]
        except (FormatError, KeyError, TypeError) as error:
            raise BadSignature(digest, f"{self.carrier} holds no simple signing") from error
        if kind not in _DOCUMENT_TYPES:
            raise BadSignature(digest, f"{self.carrier} is of the type {str(kind)[:80]!r}")
        if signed != digest:
            raise SignatureMismatch(digest, f"{self.carrier} signs {str(signed)[:80]}")
        return signer.key.key_id
