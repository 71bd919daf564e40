"""Reads who claims to have signed, without trust: for lists alone, nothing is verified.

A signature by a certificate carries it: its subject, or the e-mail address or URI of a Sigstore
identity, is the claim. A signature by a key alone names nobody. Everything here is a stranger's,
so what cannot be read gives "" and no error.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

from packer.errors import PackerError
from packer.oci import load_json
from packer.stores.protocols import Store, read_blob
from packer.stores.referrers import Referrer

MAX_SIGNATURE_BYTES = 1 << 20
"""Bytes of a signature that is read: bundles and envelopes have some 10,000."""
MAX_SIGNER_CHARS = 200

_BUNDLE = "application/vnd.dev.sigstore.bundle"
_NOTATION = "application/vnd.cncf.notary.signature"
_CERTIFICATE = "dev.sigstore.cosign/certificate"
_THUMBPRINT = "io.cncf.notary.x509chain.thumbprint#S256"
_COMMON_NAME = bytes.fromhex("0603550403")
_ALTERNATIVE_NAMES = bytes.fromhex("0603551d11")
_SEQUENCE, _OCTETS, _STRINGS = 0x30, 0x04, (0x0C, 0x13, 0x14, 0x16)
_EMAIL, _URI = 0x81, 0x86


def signer_of(store: Store, referrer: Referrer) -> str:
    """Return who a signature claims to be from; "" where it does not say, or is none.

    Args:
        store: has the referrer's blobs.
        referrer: any referrer.

    Returns:
        One line: an e-mail address, a URI, a common name, or the thumbprint of a certificate.
    """
    try:
        found = _claim(store, referrer)
    except (PackerError, ValueError, KeyError, TypeError, IndexError, binascii.Error):
        found = ""
    text = "".join(one if one.isprintable() else "?" for one in found)
    return text[:MAX_SIGNER_CHARS]


def _claim(store: Store, referrer: Referrer) -> str:
    kind = referrer.descriptor.artifact_type
    if referrer.tag is not None:  # cosign's
        names = [_of_pem(one.annotations[_CERTIFICATE]) for one in referrer.blobs
                 if _CERTIFICATE in one.annotations]  # fmt: skip
        return ", ".join(dict.fromkeys(name for name in names if name))
    if kind.startswith(_BUNDLE):
        return _of_bundle(_layer(store, referrer))
    if kind == _NOTATION:
        try:
            name = _name_in(base64.b64decode(_layer(store, referrer)["header"]["x5c"][0]))
        except (PackerError, ValueError, KeyError, TypeError, IndexError):
            name = ""  # COSE, say
        marks = referrer.descriptor.annotations.get(_THUMBPRINT, "")
        return name or (f"certificate {marks}" if marks else "")
    return ""


def _layer(store: Store, referrer: Referrer) -> dict[str, Any]:
    """Return the first layer, decoded; the config comes before it."""
    data = read_blob(store, referrer.blobs[1], MAX_SIGNATURE_BYTES)
    return load_json(data, "signature", MAX_SIGNATURE_BYTES)


def _of_bundle(bundle: dict[str, Any]) -> str:
    material = bundle["verificationMaterial"]
    if "publicKey" in material:
        hint = material["publicKey"].get("hint", "")
        return f"key {hint}" if hint else ""
    if "certificate" in material:
        raw = material["certificate"]["rawBytes"]
    else:
        raw = material["x509CertificateChain"]["certificates"][0]["rawBytes"]
    return _name_in(base64.b64decode(raw))


def _of_pem(text: str) -> str:
    body = text.partition("-----BEGIN CERTIFICATE-----")[2].partition("-----END")[0]
    return _name_in(base64.b64decode("".join(body.split())))


def _name_in(certificate: bytes) -> str:
    """Return the identity in an X.509 certificate: its alternative name, else its subject's.

    Of the whole grammar only the two object identifiers are looked for. What follows each is
    decoded as DER; a certificate that is made to mislead can, as nothing here is trusted.
    """
    at = certificate.find(_ALTERNATIVE_NAMES)
    if at >= 0:
        tag, value = _element(certificate[at + len(_ALTERNATIVE_NAMES) :])
        if tag == 1:  # whether it is critical, before the value
            rest = certificate[at + len(_ALTERNATIVE_NAMES) + 3 :]
            tag, value = _element(rest)
        if tag == _OCTETS:
            tag, value = _element(value)
            name, text = _element(value) if tag == _SEQUENCE else (0, b"")
            if name in (_EMAIL, _URI):
                return text.decode("utf-8", "replace")
    at = certificate.rfind(_COMMON_NAME)  # the subject is behind the issuer
    if at >= 0:
        tag, value = _element(certificate[at + len(_COMMON_NAME) :])
        if tag in _STRINGS:
            return value.decode("utf-8", "replace")
    return ""


def _element(data: bytes) -> tuple[int, bytes]:
    """Return tag and content of the DER element that `data` begins with."""
    tag, length, at = data[0], data[1], 2
    if length & 0x80:
        count = length & 0x7F
        length, at = int.from_bytes(data[2 : 2 + count], "big"), 2 + count
    return tag, data[at : at + length]
