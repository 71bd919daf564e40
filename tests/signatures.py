"""Makes keys, certificates and signatures in the formats that other tools write."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from packer.stores.protocols import Store
from packer.trust.bundle import BUNDLE_TYPE, SIGN_PREDICATE
from packer.trust.dsse import STATEMENT, STATEMENT_TYPE, seal
from packer.trust.keys import SigningKey
from packer.trust.notation import JWS_TYPE, NOTATION_TYPE
from tests.referrers import attach

NOW = datetime(2026, 6, 1, tzinfo=timezone.utc)


def private_key(kind: str) -> Any:
    """Return a new key: p256, p384, p521, secp256k1, ed25519 or rsa."""
    if kind == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    if kind == "rsa":
        return rsa.generate_private_key(65537, 2048)
    curves: dict[str, Any] = {
        "p256": ec.SECP256R1,
        "p384": ec.SECP384R1,
        "p521": ec.SECP521R1,
        "secp256k1": ec.SECP256K1,
    }
    return ec.generate_private_key(curves[kind]())


def private_pem(key: Any, password: str | None = None) -> bytes:
    how: Any = serialization.NoEncryption()
    if password is not None:
        how = serialization.BestAvailableEncryption(password.encode())
    form = serialization.PrivateFormat.PKCS8
    return bytes(key.private_bytes(serialization.Encoding.PEM, form, how))


def public_pem(key: Any) -> bytes:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return bytes(key.public_key().public_bytes(serialization.Encoding.PEM, form))


@dataclass
class Pair:
    """A key pair in two files."""

    key: SigningKey
    private: Path
    public: Path


def make_pair(folder: Path, name: str, kind: str = "p256") -> Pair:
    key = private_key(kind)
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    private.write_bytes(private_pem(key))
    public.write_bytes(public_pem(key))
    return Pair(SigningKey.load(private.read_bytes(), None, name), private, public)


def encoded(data: bytes, *, url: bool = False) -> str:
    if url:
        return base64.urlsafe_b64encode(data).decode().rstrip("=")
    return base64.b64encode(data).decode()


def bundle_of(
    digest: str, key: SigningKey, predicate: str = SIGN_PREDICATE, **changes: object
) -> dict[str, Any]:
    """Return a Sigstore bundle as cosign 3 writes it with a key."""
    statement = {
        "_type": STATEMENT,
        "subject": [{"digest": {"sha256": digest.partition(":")[2]}}],
        "predicateType": predicate,
        "predicate": {},
        **changes,
    }
    envelope = seal(json.dumps(statement).encode(), STATEMENT_TYPE, key).to_json()
    envelope["signatures"][0].pop("keyid")
    return {
        "mediaType": BUNDLE_TYPE,
        "verificationMaterial": {"publicKey": {"hint": "hint"}},
        "dsseEnvelope": envelope,
    }


def attach_bundle(store: Store, digest: str, value: object) -> None:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    annotations = {"dev.sigstore.bundle.content": "dsse-envelope"}
    attach(store, store.resolve(digest), BUNDLE_TYPE, [(BUNDLE_TYPE, data)], annotations)


@dataclass
class Authority:
    """A certificate with its key."""

    key: Any
    certificate: x509.Certificate

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)


def certificate(
    name: str,
    issuer: Authority | None,
    *,
    ca: bool = False,
    kind: str = "p256",
    days: tuple[int, int] = (-10, 10),
    path_length: int | None = None,
    critical: Sequence[x509.ExtensionType] = (),
    purpose: x509.ObjectIdentifier = ExtendedKeyUsageOID.CODE_SIGNING,
    signs: bool = True,
) -> Authority:
    """Return a certificate of an authority, or of a signer, valid around NOW."""
    key = private_key(kind)
    names = [(NameOID.COMMON_NAME, name), (NameOID.ORGANIZATION_NAME, "Acme")]
    subject = x509.Name([x509.NameAttribute(oid, text) for oid, text in names])
    usage = dict.fromkeys(
        (
            *("content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
            *("encipher_only", "decipher_only", "crl_sign"),
        ),
        False,
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW + timedelta(days=days[0]))
        .not_valid_after(NOW + timedelta(days=days[1]))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=path_length), critical=True)
        .add_extension(
            x509.KeyUsage(digital_signature=signs and not ca, key_cert_sign=ca, **usage),
            critical=True,
        )
    )
    if not ca:
        builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    for extension in critical:
        builder = builder.add_extension(extension, critical=True)
    algorithm = None if kind == "ed25519" else hashes.SHA256()
    return Authority(key, builder.sign(key if issuer is None else issuer.key, algorithm))


def jws(
    digest: str, chain: Sequence[Authority], headers: dict[str, object] | None = None
) -> dict[str, Any]:
    """Return an envelope as notation writes it."""
    signer = chain[0]
    bits = {"secp256r1": 256, "secp384r1": 384, "secp521r1": 512}
    is_rsa = isinstance(signer.key, rsa.RSAPrivateKey)
    algorithm = "PS256" if is_rsa else f"ES{bits[signer.key.curve.name]}"
    protected: dict[str, object] = {
        "alg": algorithm,
        "cty": "application/vnd.cncf.notary.payload.v1+json",
        "crit": ["io.cncf.notary.signingScheme"],
        "io.cncf.notary.signingScheme": "notary.x509",
        "io.cncf.notary.signingTime": (NOW - timedelta(days=1)).isoformat(),
        **(headers or {}),
    }
    target = {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest}
    payload = encoded(json.dumps({"targetArtifact": {**target, "size": 1}}).encode(), url=True)
    head = encoded(json.dumps(protected).encode(), url=True)
    signed = f"{head}.{payload}".encode()
    if is_rsa:
        pss = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
        signature = signer.key.sign(signed, pss, hashes.SHA256())
    else:
        kind: dict[int, Any] = {256: hashes.SHA256, 384: hashes.SHA384, 512: hashes.SHA512}
        of_curve = bits[signer.key.curve.name]
        der = signer.key.sign(signed, ec.ECDSA(kind[of_curve]()))
        width = {256: 32, 384: 48, 512: 66}[of_curve]
        r, s = utils.decode_dss_signature(der)
        signature = r.to_bytes(width, "big") + s.to_bytes(width, "big")
    return {
        "payload": payload,
        "protected": head,
        "header": {"x5c": [encoded(each.der) for each in chain]},
        "signature": encoded(signature, url=True),
    }


def attach_notation(store: Store, digest: str, value: object, media_type: str = JWS_TYPE) -> None:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    attach(store, store.resolve(digest), NOTATION_TYPE, [(media_type, data)])
