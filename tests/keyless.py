"""A Sigstore instance of our own: authority, certificate log and signature log, all keys in memory.

It makes a trust root and bundles that are signed with an identity, without a network. Formats: RFC
6962 (section 3.2) for the promise of the certificate log, C2SP tlog-checkpoint for the signed head
of the signature log, Rekor's API for its entries.
"""

from __future__ import annotations

import hashlib
import json
import struct
from datetime import datetime, timedelta, timezone
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID

from packer.oci import canonical_json
from packer.trust.bundle import BUNDLE_TYPE, SIGN_PREDICATE
from packer.trust.dsse import STATEMENT, STATEMENT_TYPE, encode_pae
from tests.signatures import encoded

IDENTITY = "release@example.org"
ISSUER = "https://issuer.example.org"
TIME = datetime(2026, 1, 1, tzinfo=timezone.utc)
SECONDS = int(TIME.timestamp())
LOG = "log.example.org"
_ISSUER_OID = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.1")


def _new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _sign(key: ec.EllipticCurvePrivateKey, data: bytes) -> bytes:
    return key.sign(data, ec.ECDSA(hashes.SHA256()))


def _der(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _key_id(key: ec.EllipticCurvePrivateKey) -> bytes:
    return hashlib.sha256(_der(key)).digest()


def _usage(*names: str) -> x509.KeyUsage:
    known: tuple[str, ...] = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
    )
    known += ("key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only")
    return x509.KeyUsage(**{name: name in names for name in known})


class Instance:
    """An instance that vouches for whomever it is told to."""

    def __init__(self) -> None:
        self._ca_key, self._ct_key, self._log_key = _new_key(), _new_key(), _new_key()
        self._ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority")])
        key = self._ca_key.public_key()
        self._ca = (
            self._begin(self._ca_name, key, timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage("key_cert_sign", "crl_sign"), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .sign(self._ca_key, hashes.SHA256())
        )

    def _begin(self, name: x509.Name, key: Any, around: timedelta) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._ca_name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(TIME - around)
            .not_valid_after(TIME + around)
        )

    def root(self) -> bytes:
        """Return the trust root file."""

        def log(key: ec.EllipticCurvePrivateKey, host: str) -> dict[str, Any]:
            return {
                "baseUrl": f"https://{host}",
                "hashAlgorithm": "SHA2_256",
                "logId": {"keyId": encoded(_key_id(key))},
                "publicKey": {
                    "rawBytes": encoded(_der(key)),
                    "keyDetails": "PKIX_ECDSA_P256_SHA_256",
                    "validFor": {"start": "2025-01-01T00:00:00Z"},
                },
            }

        der = self._ca.public_bytes(serialization.Encoding.DER)
        authority = {
            "subject": {"commonName": "authority", "organization": "Example"},
            "uri": "https://ca.example.org",
            "certChain": {"certificates": [{"rawBytes": encoded(der)}]},
            "validFor": {"start": "2025-01-01T00:00:00Z"},
        }
        value = {
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "tlogs": [log(self._log_key, LOG)],
            "ctlogs": [log(self._ct_key, "ct.example.org")],
            "certificateAuthorities": [authority],
        }
        return json.dumps(value).encode()

    def _certificate(self, key: ec.EllipticCurvePrivateKey, identity: str) -> x509.Certificate:
        names = x509.SubjectAlternativeName([x509.RFC822Name(identity)])
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._ca_key.public_key())
        begun = (
            self._begin(x509.Name([]), key.public_key(), timedelta(minutes=5))
            .add_extension(_usage("digital_signature"), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), False)
            .add_extension(names, critical=True)
            .add_extension(authority, critical=False)
            .add_extension(x509.UnrecognizedExtension(_ISSUER_OID, ISSUER.encode()), False)
        )
        before = begun.sign(self._ca_key, hashes.SHA256()).tbs_certificate_bytes
        moment = SECONDS * 1000
        noted = struct.pack("!BBQH", 0, 0, moment, 1) + _key_id(self._ca_key)
        noted += len(before).to_bytes(3, "big") + before + bytes(2)
        signature = _sign(self._ct_key, noted)
        promise = b"\0" + _key_id(self._ct_key) + struct.pack("!QH", moment, 0)
        promise += struct.pack("!BBH", 4, 3, len(signature)) + signature
        listed = struct.pack("!HH", len(promise) + 2, len(promise)) + promise
        assert len(listed) < 128
        octets = bytes((4, len(listed))) + listed
        oid = ExtensionOID.PRECERT_SIGNED_CERTIFICATE_TIMESTAMPS
        whole = begun.add_extension(x509.UnrecognizedExtension(oid, octets), critical=False)
        return whole.sign(self._ca_key, hashes.SHA256())

    def _entry(self, body: dict[str, Any]) -> dict[str, Any]:
        """Return an entry of a log that has no other one."""
        data = canonical_json(body)
        leaf = hashlib.sha256(b"\0" + data).digest()
        log_id = _key_id(self._log_key)
        head = f"{LOG}\n1\n{encoded(leaf)}\n"
        note = encoded(log_id[:4] + _sign(self._log_key, head.encode()))
        noted = {
            "body": encoded(data),
            "integratedTime": SECONDS,
            "logID": log_id.hex(),
            "logIndex": 0,
        }
        return {
            "logIndex": "0",
            "logId": {"keyId": encoded(log_id)},
            "kindVersion": {"kind": body["kind"], "version": body["apiVersion"]},
            "integratedTime": str(SECONDS),
            "canonicalizedBody": encoded(data),
            "inclusionPromise": {
                "signedEntryTimestamp": encoded(_sign(self._log_key, canonical_json(noted)))
            },
            "inclusionProof": {
                "logIndex": "0",
                "rootHash": encoded(leaf),
                "treeSize": "1",
                "hashes": [],
                "checkpoint": {"envelope": f"{head}\n\N{EM DASH} {LOG} {note}\n"},
            },
        }

    def _bundle(
        self, certificate: x509.Certificate, body: dict[str, Any], content: dict[str, Any]
    ) -> dict[str, Any]:
        der = certificate.public_bytes(serialization.Encoding.DER)
        material = {"certificate": {"rawBytes": encoded(der)}, "tlogEntries": [self._entry(body)]}
        return {"mediaType": BUNDLE_TYPE, "verificationMaterial": material, **content}

    def sign_bytes(self, data: bytes, identity: str = IDENTITY) -> dict[str, Any]:
        """Return a bundle that signs a manifest's own bytes."""
        key = _new_key()
        certificate = self._certificate(key, identity)
        pem = encoded(certificate.public_bytes(serialization.Encoding.PEM))
        signature, digest = encoded(_sign(key, data)), hashlib.sha256(data)
        spec = {
            "data": {"hash": {"algorithm": "sha256", "value": digest.hexdigest()}},
            "signature": {"content": signature, "publicKey": {"content": pem}},
        }
        body = {"kind": "hashedrekord", "apiVersion": "0.0.1", "spec": spec}
        stated = {"algorithm": "SHA2_256", "digest": encoded(digest.digest())}
        content = {"messageSignature": {"signature": signature, "messageDigest": stated}}
        return self._bundle(certificate, body, content)

    def sign_digest(
        self, digest: str, identity: str = IDENTITY, predicate: str = SIGN_PREDICATE
    ) -> dict[str, Any]:
        """Return a bundle that signs a digest in a statement, as cosign 3 makes it."""
        key = _new_key()
        certificate = self._certificate(key, identity)
        pem = encoded(certificate.public_bytes(serialization.Encoding.PEM))
        payload = canonical_json(
            {
                "_type": STATEMENT,
                "subject": [{"digest": {"sha256": digest.partition(":")[2]}}],
                "predicateType": predicate,
                "predicate": {},
            }
        )
        signature = encoded(_sign(key, encode_pae(STATEMENT_TYPE, payload)))
        envelope = {
            "payload": encoded(payload),
            "payloadType": STATEMENT_TYPE,
            "signatures": [{"sig": signature}],
        }

        def hashed(data: bytes) -> dict[str, str]:
            return {"algorithm": "sha256", "value": hashlib.sha256(data).hexdigest()}

        spec = {
            "payloadHash": hashed(payload),
            "envelopeHash": hashed(canonical_json(envelope)),
            "signatures": [{"signature": signature, "verifier": pem}],
        }
        body = {"kind": "dsse", "apiVersion": "0.0.1", "spec": spec}
        return self._bundle(certificate, body, {"dsseEnvelope": envelope})
