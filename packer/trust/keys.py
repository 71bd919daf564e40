"""Keys that sign and keys that are trusted: ECDSA (P-256, P-384) and Ed25519, as PEM.

`cryptography` does the arithmetic. It comes with the extra ``verify`` and is loaded when a key is.
"""

from __future__ import annotations

import hashlib
import importlib
from typing import Any

from packer.errors import InvalidParameter, MissingExtra
from packer.files.durable import read_bounded

MAX_KEY_BYTES = 64 << 10
"""Bound on a file with keys or certificates."""
MAX_SIGNATURE_BYTES = 1024
"""Bound on one raw signature: those of the largest RSA keys that are accepted have 512 bytes."""
_EXTRA = "verify"


def library(module: str) -> Any:
    """Return a module of `cryptography`, loaded now.

    Args:
        module: its name, such as ``cryptography.x509``.

    Returns:
        The module.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtra("cryptography", _EXTRA, "checking or making a signature") from error


class PublicKey:
    """A key that checks signatures.

    Args:
        key: as `cryptography` has it.
        what: the key's name in errors.

    Raises:
        InvalidParameter: the key is of another kind than ECDSA on P-256 or P-384, or Ed25519.
    """

    def __init__(self, key: Any, what: str) -> None:
        self._key = key
        self.kind = _kind_of(key)
        if self.kind not in ("p256", "p384", "ed25519"):
            raise InvalidParameter(f"{what}: no ECDSA key on P-256 or P-384, and no Ed25519 key")
        self.key_id = key_id(key)
        """``sha256:<hex>`` of the key as SubjectPublicKeyInfo in DER."""

    @classmethod
    def load(cls, pem: bytes, what: str) -> PublicKey:
        """Read a key.

        Args:
            pem: ``PUBLIC KEY`` in PEM.
            what: the key's name in errors.

        Returns:
            The key.

        Raises:
            InvalidParameter: it is no such PEM, or a key of another kind.
            MissingExtra: the extra ``verify`` is not installed.
        """
        serialization = library("cryptography.hazmat.primitives.serialization")
        unsupported = library("cryptography.exceptions").UnsupportedAlgorithm
        try:
            key = serialization.load_pem_public_key(pem)
        except (ValueError, TypeError, unsupported) as error:
            raise InvalidParameter(f"{what}: no public key in PEM") from error
        return cls(key, what)

    def signed(self, signature: bytes, data: bytes) -> bool:
        """Return whether the key made a signature of `data`.

        ECDSA is checked with SHA-256, which cosign uses with every curve, and on P-384 with
        SHA-384 as well, which Sigstore's bundles use.

        Args:
            signature: DER for ECDSA, 64 bytes for Ed25519.
            data: what it may be of.

        Returns:
            Whether it is.
        """
        if len(signature) > MAX_SIGNATURE_BYTES:
            return False
        if self.kind == "ed25519":
            return is_valid(self._key, signature, data)
        hashes = library("cryptography.hazmat.primitives.hashes")
        ec = library("cryptography.hazmat.primitives.asymmetric.ec")
        kinds = [hashes.SHA256()] + ([hashes.SHA384()] if self.kind == "p384" else [])
        return any(is_valid(self._key, signature, data, ec.ECDSA(kind)) for kind in kinds)


class SigningKey:
    """A private key.

    Args:
        key: as `cryptography` has it.
        what: the key's name in errors.
    """

    def __init__(self, key: Any, what: str) -> None:
        self._key = key
        self.public = PublicKey(key.public_key(), what)

    @classmethod
    def load(cls, pem: bytes, password: bytes | None, what: str) -> SigningKey:
        """Read a private key.

        Args:
            pem: PKCS #8 or ``EC PRIVATE KEY`` in PEM, encrypted or not.
            password: of an encrypted key; None for none.
            what: the key's name in errors, which hold nothing of the key.

        Returns:
            The key.

        Raises:
            InvalidParameter: it is no such PEM, the password is wrong, missing or of no use, or
                the key is of another kind than `PublicKey` takes.
            MissingExtra: the extra ``verify`` is not installed.
        """
        if b"ENCRYPTED SIGSTORE PRIVATE KEY" in pem or b"ENCRYPTED COSIGN PRIVATE KEY" in pem:
            raise InvalidParameter(
                f"{what}: a key as cosign encrypts it; sign with cosign, or make a key with openssl"
                " and give it to cosign by 'cosign import-key-pair'"
            )
        serialization = library("cryptography.hazmat.primitives.serialization")
        unsupported = library("cryptography.exceptions").UnsupportedAlgorithm
        try:
            key = serialization.load_pem_private_key(pem, password)
        except TypeError as error:
            need = "no password is given" if password is None else "it is not encrypted"
            raise InvalidParameter(f"{what}: {need}") from error
        except (ValueError, unsupported) as error:
            raise InvalidParameter(f"{what}: no private key in PEM, or a wrong password") from error
        return cls(key, what)

    def sign(self, data: bytes) -> bytes:
        """Return a signature of `data`: ECDSA with SHA-256 in DER, or Ed25519.

        SHA-256 on every curve, since `cosign verify --key` expects it.
        """
        if self.public.kind == "ed25519":
            return bytes(self._key.sign(data))
        hashes = library("cryptography.hazmat.primitives.hashes")
        ec = library("cryptography.hazmat.primitives.asymmetric.ec")
        return bytes(self._key.sign(data, ec.ECDSA(hashes.SHA256())))


def read_key_file(path: str) -> bytes:
    """Return the bytes of a file with a key or certificates.

    Args:
        path: of the file.

    Returns:
        At most MAX_KEY_BYTES.

    Raises:
        InvalidParameter: the file is larger.
        OSError: it cannot be read.
    """
    data = read_bounded(path, MAX_KEY_BYTES)
    if len(data) > MAX_KEY_BYTES:
        raise InvalidParameter(f"{path}: above {MAX_KEY_BYTES} bytes, so no key")
    return data


def key_id(key: Any) -> str:
    """Return ``sha256:<hex>`` of a public key of `cryptography`, as SubjectPublicKeyInfo in DER."""
    serialization = library("cryptography.hazmat.primitives.serialization")
    der = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return "sha256:" + hashlib.sha256(der).hexdigest()


def is_valid(key: Any, signature: bytes, data: bytes, *how: Any) -> bool:
    """Return whether a public key of `cryptography` accepts a signature.

    Args:
        key: the key.
        signature: in the key's own form.
        data: what was signed.
        how: padding and hash, as the key's ``verify`` takes them.

    Returns:
        Whether it does.
    """
    invalid = library("cryptography.exceptions").InvalidSignature
    try:
        key.verify(signature, data, *how)
    except (invalid, ValueError):
        return False
    return True


def _kind_of(key: Any) -> str:
    ec = library("cryptography.hazmat.primitives.asymmetric.ec")
    ed25519 = library("cryptography.hazmat.primitives.asymmetric.ed25519")
    if isinstance(key, ed25519.Ed25519PublicKey):
        return "ed25519"
    if isinstance(key, ec.EllipticCurvePublicKey):
        return {"secp256r1": "p256", "secp384r1": "p384"}.get(key.curve.name, "")
    return ""
