"""notation's signatures: a JWS envelope with a chain of X.509 certificates.

Source: notaryproject/specifications ``signature-specification.md``, ``signature-envelope-jws.md``
and ``trust-store-trust-policy.md``. COSE envelopes are not read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any

from packer.errors import (
    BadSignature,
    FormatError,
    InvalidParameter,
    SignatureExpired,
    SignatureMismatch,
    UnknownSigner,
)
from packer.oci import load_json
from packer.trust.claims import (
    MAX_CERTIFICATES,
    MAX_DOCUMENT_BYTES,
    CertificateSigner,
    Signer,
    decode_base64,
)
from packer.trust.keys import MAX_SIGNATURE_BYTES, is_valid, library

NOTATION_TYPE = "application/vnd.cncf.notary.signature"
JWS_TYPE = "application/jose+json"
_PAYLOAD_TYPE = "application/vnd.cncf.notary.payload.v1+json"
_SCHEME = "io.cncf.notary.signingScheme"
_TIME = "io.cncf.notary.signingTime"
_EXPIRY = "io.cncf.notary.expiry"
_UNDERSTOOD = frozenset({_SCHEME, _EXPIRY, "io.cncf.notary.authenticSigningTime"})
_RSA_BITS = {2048: 256, 3072: 384, 4096: 512}
_CURVES = {"secp256r1": (256, 32), "secp384r1": (384, 48), "secp521r1": (512, 66)}
_CODE_SIGNING = "1.3.6.1.5.5.7.3.3"
_KNOWN_EXTENSIONS = frozenset({"2.5.29.15", "2.5.29.19", "2.5.29.37"})
"""Critical extensions that are understood: key usage, basic constraints, extended key usage."""


@dataclass(frozen=True, slots=True)
class NotationClaim:
    """An envelope that a referrer carries.

    Args:
        carrier: digest of the referrer's manifest.
        media_type: of the envelope.
        data: the envelope.
    """

    carrier: str
    media_type: str
    data: bytes
    kind: str = "notation"

    def check(self, signer: Signer, digest: str, now: datetime) -> str:
        """Check the envelope; see `Claim.check`."""
        if not isinstance(signer, CertificateSigner):
            raise UnknownSigner(digest, f"{self.carrier} is of notation, so of a certificate")
        if self.media_type != JWS_TYPE:
            kind = self.media_type[:80]
            raise UnknownSigner(digest, f"{self.carrier} is a {kind}, which is not read")
        try:
            return self._check(signer, digest, now)
        except _malformed() as error:  # certificates are parsed bit by bit, when they are used
            why = f"{self.carrier}: a malformed certificate"
            raise BadSignature(digest, why) from error

    def _check(self, signer: CertificateSigner, digest: str, now: datetime) -> str:
        envelope = self._object(self.data, digest)
        protected = envelope.get("protected")
        payload = envelope.get("payload")
        headers = self._object(decode_base64(protected, digest, url=True), digest)
        chain = self._chain(envelope.get("header"), digest)
        signature = decode_base64(envelope.get("signature"), digest, url=True)
        target = self._target(decode_base64(payload, digest, url=True), digest)
        signed = f"{protected}.{payload}".encode("ascii")  # base64, both of them
        if not _signed(chain[0], headers.get("alg"), signature, signed):
            raise BadSignature(digest, f"{self.carrier}: not signed by its own certificate")
        self._check_trust(chain, signer, digest, now)
        self._check_headers(headers, digest, now)
        if target != digest:
            raise SignatureMismatch(digest, f"{self.carrier} signs {str(target)[:80]}")
        return str(chain[0].subject.rfc4514_string())

    def _target(self, payload: bytes, digest: str) -> object:
        """Return the digest that an envelope is of, not believed yet."""
        target = self._object(payload, digest).get("targetArtifact")
        return target.get("digest") if isinstance(target, dict) else None

    def _object(self, data: bytes, digest: str) -> dict[str, Any]:
        try:
            return load_json(data, f"envelope {self.carrier}", MAX_DOCUMENT_BYTES)
        except FormatError as error:
            raise BadSignature(digest, str(error)) from error

    def _chain(self, header: object, digest: str) -> list[Any]:
        """Return the certificates, the signer's first."""
        listed = header.get("x5c") if isinstance(header, dict) else None
        if not isinstance(listed, list) or not 0 < len(listed) <= MAX_CERTIFICATES:
            raise BadSignature(digest, f"{self.carrier}: not 1 to {MAX_CERTIFICATES} certificates")
        load = library("cryptography.x509").load_der_x509_certificate
        return [load(decode_base64(text, digest)) for text in listed]

    def _check_headers(self, headers: dict[str, Any], digest: str, now: datetime) -> None:
        """Check what the signature says of itself: payload, scheme, expiry."""
        critical = headers.get("crit")
        if headers.get("cty") != _PAYLOAD_TYPE or headers.get(_SCHEME) != "notary.x509":
            raise BadSignature(digest, f"{self.carrier}: another payload or signing scheme")
        if not isinstance(critical, list) or not _UNDERSTOOD.issuperset(map(str, critical)):
            raise BadSignature(digest, f"{self.carrier}: a critical header that is not understood")
        if _SCHEME not in critical or (_EXPIRY in headers) != (_EXPIRY in critical):
            raise BadSignature(digest, f"{self.carrier}: a header that should be critical is not")
        if _EXPIRY in headers and _time(headers[_EXPIRY], digest) <= now:
            raise SignatureExpired(digest, f"{self.carrier} expired at {headers[_EXPIRY]}")
        if _time(headers.get(_TIME), digest) > now:
            raise SignatureExpired(digest, f"{self.carrier} was made at {headers[_TIME]}, later")

    def _check_trust(
        self, chain: list[Any], signer: CertificateSigner, digest: str, now: datetime
    ) -> None:
        """Check that the chain leads to a certificate that is trusted, at this time."""
        if not any(certificate in signer.anchors for certificate in chain):
            raise UnknownSigner(
                digest, f"{self.carrier}: no certificate of its chain is one of {signer.name}"
            )
        subject = chain[0].subject
        if not _holds(subject, signer.subject):
            name = subject.rfc4514_string()[:200]
            why = f"{self.carrier} is signed by {name}, not {signer.subject}"
            raise UnknownSigner(digest, why)
        for certificate in chain:
            _check_validity(certificate, self.carrier, digest, now)
        for depth, (certificate, issuer) in enumerate(pairwise(chain)):
            _check_issued(certificate, issuer, depth, self.carrier, digest)
        _check_leaf(chain[0], self.carrier, digest, alone=len(chain) == 1)


def _malformed() -> tuple[type[Exception], ...]:
    """Return what `cryptography` raises for a certificate that is none, or that it cannot use."""
    x509 = library("cryptography.x509")
    return (
        ValueError,
        TypeError,
        x509.InvalidVersion,
        x509.DuplicateExtension,
        x509.UnsupportedGeneralNameType,
        library("cryptography.exceptions").UnsupportedAlgorithm,
    )


def load_certificates(pem: bytes, what: str) -> tuple[Any, ...]:
    """Return the certificates of a file.

    Args:
        pem: one or several ``CERTIFICATE`` in PEM.
        what: the file's name in errors.

    Returns:
        The certificates, as `cryptography` has them.

    Raises:
        InvalidParameter: there is none, or one is malformed.
        MissingExtra: the extra ``verify`` is not installed.
    """
    try:
        found = library("cryptography.x509").load_pem_x509_certificates(pem)
    except _malformed() as error:
        raise InvalidParameter(f"{what}: no certificates in PEM") from error
    return tuple(found)


def parse_subject(text: str, what: str) -> frozenset[tuple[str, str]]:
    """Return the names of a subject such as ``CN=release,O=Acme``.

    Args:
        text: in the form of RFC 4514; "" for none.
        what: the signer's name in errors.

    Returns:
        Object identifier and value of each name.

    Raises:
        InvalidParameter: it is malformed.
    """
    if not text:
        return frozenset()
    try:
        name = library("cryptography.x509").Name.from_rfc4514_string(text)
    except ValueError as error:
        raise InvalidParameter(f"{what}: {text[:80]!r} is no subject") from error
    return frozenset((each.oid.dotted_string, str(each.value)) for each in name)


def _holds(subject: Any, wanted: str) -> bool:
    names = {(each.oid.dotted_string, str(each.value)) for each in subject}
    return parse_subject(wanted, "subject") <= names


def _signed(certificate: Any, algorithm: object, signature: bytes, data: bytes) -> bool:
    """Return whether a certificate's key made a JWS signature; its kind decides how."""
    ec = library("cryptography.hazmat.primitives.asymmetric.ec")
    rsa = library("cryptography.hazmat.primitives.asymmetric.rsa")
    hashes = library("cryptography.hazmat.primitives.hashes")
    if len(signature) > MAX_SIGNATURE_BYTES:
        return False
    key = certificate.public_key()
    if isinstance(key, rsa.RSAPublicKey) and key.key_size in _RSA_BITS:
        bits = _RSA_BITS[key.key_size]
        padding = library("cryptography.hazmat.primitives.asymmetric.padding")
        kind = getattr(hashes, f"SHA{bits}")()
        pss = padding.PSS(padding.MGF1(kind), kind.digest_size)
        return algorithm == f"PS{bits}" and is_valid(key, signature, data, pss, kind)
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in _CURVES:
        bits, width = _CURVES[key.curve.name]
        if algorithm != f"ES{bits}" or len(signature) != 2 * width:
            return False
        utils = library("cryptography.hazmat.primitives.asymmetric.utils")
        numbers = (int.from_bytes(half, "big") for half in (signature[:width], signature[width:]))
        encoded = utils.encode_dss_signature(*numbers)
        return is_valid(key, encoded, data, ec.ECDSA(getattr(hashes, f"SHA{bits}")()))
    return False


def _time(text: object, digest: str) -> datetime:
    """Return a time of a header, RFC 3339."""
    try:
        found = datetime.fromisoformat(str(text)[:40].replace("Z", "+00:00"))
        if found.tzinfo is not None:
            return found
    except ValueError:
        pass
    raise BadSignature(digest, f"{str(text)[:40]!r} is no time with a zone")


def _check_validity(certificate: Any, carrier: str, digest: str, now: datetime) -> None:
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if not start <= now <= end:
        name = certificate.subject.rfc4514_string()[:200]
        why = f"{carrier}: the certificate of {name} is valid from {start} to {end}"
        raise SignatureExpired(digest, why)


def _check_issued(certificate: Any, issuer: Any, depth: int, carrier: str, digest: str) -> None:
    """Check that one certificate of the chain issued the one before it."""
    extensions = library("cryptography.x509")
    invalid = library("cryptography.exceptions").InvalidSignature
    try:
        certificate.verify_directly_issued_by(issuer)
        limits = issuer.extensions.get_extension_for_class(extensions.BasicConstraints).value
        usage = issuer.extensions.get_extension_for_class(extensions.KeyUsage).value
    except (invalid, ValueError, TypeError, extensions.ExtensionNotFound) as error:
        why = f"{carrier}: certificate {depth + 1} of the chain did not issue the one before"
        raise BadSignature(digest, why) from error
    if not limits.ca or not usage.key_cert_sign or not _is_within(limits.path_length, depth):
        raise BadSignature(digest, f"{carrier}: certificate {depth + 1} may not issue others")
    _check_critical(issuer, carrier, digest)


def _is_within(path_length: int | None, depth: int) -> bool:
    return path_length is None or depth <= path_length


def _check_leaf(certificate: Any, carrier: str, digest: str, *, alone: bool) -> None:
    """Check that the signer's certificate is for signing, and of no authority unless alone."""
    extensions = library("cryptography.x509")
    _check_critical(certificate, carrier, digest)
    found: Sequence[Any] = list(certificate.extensions)
    usage = [each.value for each in found if isinstance(each.value, extensions.KeyUsage)]
    purposes = [each.value for each in found if isinstance(each.value, extensions.ExtendedKeyUsage)]
    limits = [each.value for each in found if isinstance(each.value, extensions.BasicConstraints)]
    if not usage or not usage[0].digital_signature:
        raise BadSignature(digest, f"{carrier}: its certificate is not for signatures")
    if purposes and _CODE_SIGNING not in {each.dotted_string for each in purposes[0]}:
        raise BadSignature(digest, f"{carrier}: its certificate is not for signing code")
    if limits and limits[0].ca and not alone:
        raise BadSignature(digest, f"{carrier}: signed with the certificate of an authority")


def _check_critical(certificate: Any, carrier: str, digest: str) -> None:
    """Refuse a certificate that limits itself in a way that is not understood."""
    critical = {each.oid.dotted_string for each in certificate.extensions if each.critical}
    unknown = critical - _KNOWN_EXTENSIONS
    if unknown:
        shown = ", ".join(sorted(unknown))[:200]
        raise BadSignature(digest, f"{carrier}: a certificate with critical extensions {shown}")
