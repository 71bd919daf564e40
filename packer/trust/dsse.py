"""DSSE envelopes: a document, its type, and signatures of both.

What is signed is the pre-authentication encoding (PAE) of type and document. Source:
secure-systems-lab/dsse ``protocol.md`` and ``envelope.md``.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

from packer.errors import BadSignature
from packer.trust.claims import MAX_DOCUMENT_BYTES, decode_base64
from packer.trust.keys import PublicKey, SigningKey

STATEMENT_TYPE = "application/vnd.in-toto+json"
STATEMENT = "https://in-toto.io/Statement/v1"
_STATEMENTS = (STATEMENT, "https://in-toto.io/Statement/v0.1")
_MAX_SIGNATURES = 10


@dataclass(frozen=True, slots=True)
class Envelope:
    """An envelope, not believed yet.

    Args:
        payload: the document.
        payload_type: its media type.
        signatures: key ID as it is claimed, and signature.
    """

    payload: bytes
    payload_type: str
    signatures: tuple[tuple[str, bytes], ...]

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object."""
        return {
            "payloadType": self.payload_type,
            "payload": base64.b64encode(self.payload).decode("ascii"),
            "signatures": [
                {"keyid": name, "sig": base64.b64encode(signature).decode("ascii")}
                for name, signature in self.signatures
            ],
        }

    def signed_by(self, key: PublicKey) -> bool:
        """Return whether one of the signatures is the key's."""
        data = encode_pae(self.payload_type, self.payload)
        return any(key.signed(signature, data) for _, signature in self.signatures)


def encode_pae(payload_type: str, payload: bytes) -> bytes:
    """Return the bytes that are signed."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def seal(payload: bytes, payload_type: str, key: SigningKey) -> Envelope:
    """Return an envelope with one signature."""
    signature = key.sign(encode_pae(payload_type, payload))
    return Envelope(payload, payload_type, ((key.public.key_id, signature),))


def decode_envelope(value: object, what: str, limit: int = MAX_DOCUMENT_BYTES) -> Envelope:
    """Parse an envelope.

    Args:
        value: a JSON value from a stranger.
        what: the digest that errors name.
        limit: greatest length of the document in bytes.

    Returns:
        The envelope.

    Raises:
        BadSignature: it is none.
    """
    if not isinstance(value, dict):
        raise BadSignature(what, "no DSSE envelope")
    kind, listed = value.get("payloadType"), value.get("signatures")
    if not isinstance(kind, str) or not isinstance(listed, list):
        raise BadSignature(what, "no DSSE envelope: no payloadType or signatures")
    if not kind.isascii():  # as media types are; half a character could not be encoded
        raise BadSignature(what, f"no DSSE envelope: {kind[:80]!r} is no media type")
    if not 0 < len(listed) <= _MAX_SIGNATURES:
        raise BadSignature(what, f"a DSSE envelope has 1 to {_MAX_SIGNATURES} signatures")
    signatures = []
    for item in listed:
        if not isinstance(item, dict):
            raise BadSignature(what, "a signature in the DSSE envelope is no object")
        name = item.get("keyid")
        signatures.append(
            (name if isinstance(name, str) else "", decode_base64(item.get("sig"), what))
        )
    return Envelope(decode_base64(value.get("payload"), what, limit), kind, tuple(signatures))


def subjects_of(statement: dict[str, Any], what: str) -> list[str]:
    """Return the digests that an in-toto statement is about.

    Args:
        statement: the decoded statement.
        what: the digest that errors name.

    Returns:
        ``sha256:<hex>`` of each subject that has one.

    Raises:
        BadSignature: it is no statement.
    """
    listed = statement.get("subject")
    if statement.get("_type") not in _STATEMENTS or not isinstance(listed, list):
        raise BadSignature(what, "no in-toto statement")
    found = []
    for item in listed:
        digests = item.get("digest") if isinstance(item, dict) else None
        digest = digests.get("sha256") if isinstance(digests, dict) else None
        if isinstance(digest, str):
            found.append(f"sha256:{digest}")
    return found
