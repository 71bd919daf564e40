"""What the formats of signatures have in common: bounds, signers, and a claim that one signed.

A claim is read from a signature without trust. `Claim.check` believes it, or says why not.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from packer.errors import BadSignature
from packer.trust.keys import PublicKey

MAX_DOCUMENT_BYTES = 1 << 20
"""Bound on a signature with all that comes along: payload, envelope, bundle, certificates."""
MAX_CLAIMS = 100
"""Bound on the signatures of one version that are looked at."""
MAX_CERTIFICATES = 10
"""Bound on the certificates of one chain."""


@dataclass(frozen=True, slots=True)
class KeySigner:
    """Whoever holds the private half of a key.

    Args:
        name: what the policy calls the signer.
        key: the public half.
    """

    name: str
    key: PublicKey


@dataclass(frozen=True, slots=True)
class CertificateSigner:
    """Whoever got a certificate for signing from an authority, as notation signs.

    Args:
        name: what the policy calls the signer.
        anchors: certificates of `cryptography` that are trusted as they are.
        subject: names that the certificate's subject must hold, such as ``CN=release,O=Acme``;
            "" for any.
    """

    name: str
    anchors: tuple[Any, ...]
    subject: str = ""


@dataclass(frozen=True, slots=True)
class IdentitySigner:
    """Whoever proved an identity to Sigstore, without a key of their own.

    Args:
        name: what the policy calls the signer.
        identity: such as an address, or the URL of a workflow.
        issuer: URL of who vouches for the identity.
        trust_root: path of Sigstore's trust root file.
    """

    name: str
    identity: str
    issuer: str
    trust_root: str


Signer = KeySigner | CertificateSigner | IdentitySigner


class Claim(Protocol):
    """A signature that was found, not believed yet."""

    @property
    def kind(self) -> str:
        """The format: "cosign", "sigstore-bundle", or "notation"."""

    @property
    def carrier(self) -> str:
        """Digest of the manifest that carries the signature."""

    def check(self, signer: Signer, digest: str, now: datetime) -> str:
        """Check that a signer signed the manifest `digest`.

        Args:
            signer: who should have.
            digest: of the manifest.
            now: the time, with its zone.

        Returns:
            Who signed: the ID of the key, the subject of the certificate, or the identity.

        Raises:
            UnknownSigner: somebody else did, or this format knows no such signer.
            SignatureMismatch: the signer signed something else.
            SignatureExpired: the signature or a certificate is out of its time.
            BadSignature: it is malformed or was tampered with.
            MissingExtra: a library is not installed.
        """


def decode_base64(
    text: object, what: str, limit: int = MAX_DOCUMENT_BYTES, *, url: bool = False
) -> bytes:
    """Return the bytes of base64 in a signature.

    Args:
        text: a JSON value from a stranger.
        what: the digest that errors name.
        limit: greatest number of bytes.
        url: the alphabet of URLs, without padding.

    Returns:
        The bytes.

    Raises:
        BadSignature: it is no such text, or too long.
    """
    if not isinstance(text, str) or len(text) > 4 * (limit // 3 + 1):
        raise BadSignature(what, "base64 is missing or too long")
    try:
        if url:
            text = text + "=" * (-len(text) % 4)
            return base64.b64decode(text.encode("ascii"), b"-_", validate=True)
        return base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadSignature(what, "malformed base64") from error
