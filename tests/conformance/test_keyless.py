"""Bundles that were signed with an identity, checked offline by the library `sigstore`.

Those of an instance of our own sign versions. A real one lies in cosign's sources; the test that
reads it is skipped where Go has none of them.
"""

from __future__ import annotations

import base64
import json
import shutil
import socket
import subprocess
from datetime import datetime, timezone
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from packer.errors import BadSignature, InvalidParameter, SignatureMismatch, UnknownSigner
from packer.oci import digest_of
from packer.trust.bundle import BundleClaim
from packer.trust.claims import IdentitySigner
from packer.trust.policy import POLICY_TYPE, Policy
from tests.keyless import IDENTITY, Instance
from tests.keyless import ISSUER as OWN

CARRIER = "sha256:" + "c" * 64
NOW = datetime(2026, 6, 1, tzinfo=timezone.utc)
ISSUER = "https://github.com/login/oauth"


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a network is asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Give the trust root of Sigstore's public instance, as the library ships it."""
    (found,) = (
        each / "trusted_root.json"
        for each in (resources.files("sigstore") / "_store").iterdir()
        if each.name.endswith("sigstore.dev")
    )
    path = tmp_path / "root.json"
    path.write_bytes(found.read_bytes())
    return path


def bundle() -> bytes:
    """Return a bundle that cosign's own tests hold, made by the public instance."""
    go = shutil.which("go")
    if go is None:
        pytest.skip("no go, whose cache holds cosign's sources")
    words = [go, "env", "GOMODCACHE"]
    cache = subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    name = "cosign/v2@*/pkg/cosign/testdata/oci-attestation.sigstore.json"
    found = sorted((Path(cache) / "github.com" / "sigstore").glob(name))
    if not found:
        pytest.skip("cosign's sources are not there: LAYER_PACKER_INTEROP=1 tools/install-servers")
    return found[-1].read_bytes()


@pytest.fixture
def sources() -> bytes:
    return bundle()


def test_a_real_bundle(sources: bytes, root: Path) -> None:
    statement = json.loads(base64.b64decode(json.loads(sources)["dsseEnvelope"]["payload"]))
    digest = "sha256:" + statement["subject"][0]["digest"]["sha256"]
    claim = BundleClaim(CARRIER, sources, b"")

    def check(identity: str, issuer: str, wanted: str) -> str:
        return claim.check(IdentitySigner("ci", identity, issuer, str(root)), wanted, NOW)

    # The identity did sign, but an attestation, which is no signature of the version.
    with pytest.raises(UnknownSigner, match="no signature"):
        check("cody@soyland.com", ISSUER, digest)
    with pytest.raises(SignatureMismatch):
        check("cody@soyland.com", ISSUER, CARRIER)
    for identity, issuer in (("mallory@example.org", ISSUER), ("cody@soyland.com", "https://x")):
        with pytest.raises(UnknownSigner, match="ci did not sign"):
            check(identity, issuer, digest)


@pytest.mark.parametrize("field", ["payload", "signatures"])
def test_a_tampered_bundle(sources: bytes, root: Path, field: str) -> None:
    value = json.loads(sources)
    envelope = value["dsseEnvelope"]
    other = base64.b64encode(base64.b64decode(envelope["payload"]) + b" ").decode()
    envelope[field] = other if field == "payload" else [{"sig": "AAAA"}]
    signer = IdentitySigner("ci", "cody@soyland.com", ISSUER, str(root))
    with pytest.raises(UnknownSigner, match="ci did not sign"):
        BundleClaim(CARRIER, json.dumps(value).encode(), b"").check(signer, CARRIER, NOW)


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"verificationMaterial": {}},
        {"verificationMaterial": {"certificate": {"rawBytes": "AAAA"}}, "messageSignature": {}},
        {"verificationMaterial": {"publicKey": {"hint": "x"}}, "dsseEnvelope": {}},
    ],
)
def test_malformed_bundles(root: Path, value: object) -> None:
    signer = IdentitySigner("ci", "a@example.org", ISSUER, str(root))
    with pytest.raises((UnknownSigner, BadSignature)):
        BundleClaim(CARRIER, json.dumps(value).encode(), b"").check(signer, CARRIER, NOW)


@pytest.fixture
def instance(tmp_path: Path) -> Instance:
    made = Instance()
    (tmp_path / "own.json").write_bytes(made.root())
    return made


@pytest.mark.parametrize("how", ["bytes", "digest"])
def test_who_signed_is_believed(instance: Instance, tmp_path: Path, how: str) -> None:
    manifest = b'{"schemaVersion":2}'
    digest = digest_of(manifest)

    def check(value: object, identity: str = IDENTITY, issuer: str = OWN) -> str:
        signer = IdentitySigner("ci", identity, issuer, str(tmp_path / "own.json"))
        claim = BundleClaim(CARRIER, json.dumps(value).encode(), manifest)
        return claim.check(signer, digest, NOW)

    def sign(by: Instance, identity: str = IDENTITY) -> dict[str, Any]:
        if how == "bytes":
            return by.sign_bytes(manifest, identity)
        return by.sign_digest(digest, identity)

    sound = sign(instance)
    assert check(sound) == IDENTITY
    for wrong in ({"identity": "mallory@example.org"}, {"issuer": "https://x"}):
        with pytest.raises(UnknownSigner, match="ci did not sign"):
            check(sound, **wrong)
    with pytest.raises(UnknownSigner, match="ci did not sign"):
        check(sign(instance, "mallory@example.org"))
    with pytest.raises(UnknownSigner, match="ci did not sign"):
        check(sign(Instance()))  # the same names, and other keys
    # Without its entry in the log nothing says that the certificate was valid when it was used.
    entry = sound["verificationMaterial"]["tlogEntries"].pop()
    with pytest.raises((UnknownSigner, BadSignature)):
        check(sound)
    entry["inclusionPromise"]["signedEntryTimestamp"] = "AAAA"
    sound["verificationMaterial"]["tlogEntries"] = [entry]
    with pytest.raises(UnknownSigner, match="ci did not sign"):
        check(sound)


def test_what_an_identity_signed_is_not_something_else(instance: Instance, tmp_path: Path) -> None:
    signer = IdentitySigner("ci", IDENTITY, OWN, str(tmp_path / "own.json"))

    def check(value: object) -> None:
        BundleClaim(CARRIER, json.dumps(value).encode(), b"other").check(signer, CARRIER, NOW)

    with pytest.raises(UnknownSigner, match="ci did not sign"):
        check(instance.sign_bytes(b"manifest"))
    with pytest.raises(SignatureMismatch):
        check(instance.sign_digest(digest_of(b"manifest")))
    with pytest.raises(UnknownSigner, match="no signature"):
        check(instance.sign_digest(CARRIER, predicate="https://slsa.dev/provenance/v1"))


def test_a_malformed_trust_root_is_the_policys_fault(tmp_path: Path) -> None:
    (tmp_path / "root.json").write_text("{}")
    signer = {"identity": "a@example.org", "issuer": ISSUER, "trust_root": "root.json"}
    value = {
        "mediaType": POLICY_TYPE,
        "signers": {"ci": signer},
        "rules": [{"repository": "*", "require": "ci"}],
    }
    (tmp_path / "policy.json").write_text(json.dumps(value))
    loaded = Policy.load(tmp_path / "policy.json").signers["ci"]
    claim = BundleClaim(CARRIER, b'{"verificationMaterial":{}}', b"")
    with pytest.raises(InvalidParameter, match="trust root"):
        claim.check(loaded, CARRIER, NOW)
