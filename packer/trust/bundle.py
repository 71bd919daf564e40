"""Sigstore bundles: an envelope or a signature, with what is needed to check it offline.

cosign 3 stores one as a referrer of what it signs. A bundle made with a key is checked here; one
made with an identity needs the library `sigstore` and a trust root file. Source: sigstore
protobuf-specs ``sigstore_bundle.proto``, in its JSON form.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from packer.errors import (
    BadSignature,
    FormatError,
    InvalidParameter,
    MissingExtra,
    SignatureMismatch,
    UnknownSigner,
)
from packer.oci import load_json
from packer.trust.claims import (
    MAX_DOCUMENT_BYTES,
    CertificateSigner,
    IdentitySigner,
    KeySigner,
    Signer,
    decode_base64,
)
from packer.trust.dsse import STATEMENT_TYPE, decode_envelope, subjects_of

BUNDLE_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
SIGN_PREDICATE = "https://sigstore.dev/cosign/sign/v1"
"""Type of a statement that signs, and says nothing else; others tell of builds, SBOMs, tests."""


def is_bundle_type(media_type: str) -> bool:
    """Return whether a media type is that of a bundle, of any version."""
    return media_type.startswith("application/vnd.dev.sigstore.bundle")


@dataclass(frozen=True, slots=True)
class BundleClaim:
    """A bundle that a referrer carries.

    Args:
        carrier: digest of the referrer's manifest.
        data: the bundle, JSON.
        manifest: bytes of the manifest that it should be of.
    """

    carrier: str
    data: bytes
    manifest: bytes
    kind: str = "sigstore-bundle"

    def check(self, signer: Signer, digest: str, now: datetime) -> str:
        """Check the bundle; see `Claim.check`."""
        if isinstance(signer, CertificateSigner):
            raise UnknownSigner(digest, f"{self.carrier} is a Sigstore bundle, no notation")
        try:
            value = load_json(self.data, f"bundle {self.carrier}", MAX_DOCUMENT_BYTES)
        except FormatError as error:
            raise BadSignature(digest, str(error)) from error
        material = value.get("verificationMaterial")
        if not isinstance(material, dict):
            raise BadSignature(digest, f"{self.carrier} has no verification material")
        if isinstance(signer, IdentitySigner):
            return self._check_identity(value, signer, digest)
        if "publicKey" not in material:
            raise UnknownSigner(digest, f"{self.carrier} was signed with an identity, not a key")
        if "messageSignature" in value:
            self._check_message(value["messageSignature"], signer, digest)
        else:
            envelope = decode_envelope(value.get("dsseEnvelope"), digest)
            if not envelope.signed_by(signer.key):
                raise UnknownSigner(digest, f"key {signer.name} did not sign {self.carrier}")
            self._check_statement(envelope.payload_type, envelope.payload, digest)
        return signer.key.key_id

    def _check_message(self, value: object, signer: KeySigner, digest: str) -> None:
        """Check a signature of the manifest's own bytes."""
        text = value.get("signature") if isinstance(value, dict) else None
        if not signer.key.signed(decode_base64(text, digest), self.manifest):
            raise UnknownSigner(digest, f"key {signer.name} did not sign {self.carrier}")

    def _check_statement(self, kind: str, payload: bytes, digest: str) -> None:
        """Check that a statement, whose signature is right, signs the manifest."""
        if kind != STATEMENT_TYPE:
            raise BadSignature(digest, f"{self.carrier} holds {kind[:80]!r}, no statement")
        try:
            statement = load_json(payload, f"statement of {self.carrier}", MAX_DOCUMENT_BYTES)
        except FormatError as error:
            raise BadSignature(digest, str(error)) from error
        found = subjects_of(statement, digest)
        if digest not in found:
            shown = ", ".join(found[:3]) or "nothing"
            raise SignatureMismatch(digest, f"{self.carrier} signs {shown[:240]}")
        predicate = str(statement.get("predicateType"))[:80]
        if predicate != SIGN_PREDICATE:
            raise UnknownSigner(
                digest, f"{self.carrier} is a statement of {predicate}, no signature"
            )

    def _check_identity(self, value: dict[str, Any], signer: IdentitySigner, digest: str) -> str:
        """Check a bundle of an identity, offline, by the library `sigstore`."""
        models, verify = _sigstore("models"), _sigstore("verify")
        errors = _sigstore("errors").Error
        wanted = _sigstore("verify.policy").Identity(identity=signer.identity, issuer=signer.issuer)
        try:
            root = models.TrustedRoot.from_file(signer.trust_root)
            verifier = verify.Verifier(trusted_root=root)
        except (errors, ValueError) as error:
            raise InvalidParameter(f"trust root {signer.trust_root}: {_short(error)}") from error
        try:
            bundle = models.Bundle.from_json(self.data)
            if "messageSignature" in value:
                verifier.verify_artifact(self.manifest, bundle, wanted)
                return signer.identity
            kind, payload = verifier.verify_dsse(bundle, wanted)
        except (errors, ValueError) as error:
            why = f"{signer.name} did not sign {self.carrier}: {_short(error)}"
            raise UnknownSigner(digest, why) from error
        self._check_statement(kind, payload, digest)
        return signer.identity


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _sigstore(name: str) -> Any:
    try:
        return importlib.import_module(f"sigstore.{name}")
    except ImportError as error:
        raise MissingExtra("sigstore", "sigstore", "checking an identity") from error
