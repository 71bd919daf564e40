"""Signatures in the formats of cosign, Sigstore and notation, sound and not."""

from __future__ import annotations

import importlib
import io
import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

import packer
from packer.errors import (
    BadSignature,
    InvalidParameter,
    MissingExtra,
    SignatureError,
    SignatureExpired,
    SignatureMismatch,
    UnknownSigner,
    Unsigned,
)
from packer.oci import (
    INDEX_MANIFEST_TYPE,
    MANIFEST_TYPE,
    Descriptor,
    canonical_json,
    digest_of,
    load_json,
)
from packer.stores.memory import MemoryStore
from packer.stores.protocols import read_blob
from packer.stores.subjects import EMPTY, EMPTY_BYTES
from packer.trust.checking import Trusted, check_signatures
from packer.trust.claims import MAX_CLAIMS
from packer.trust.keys import PublicKey, SigningKey
from packer.trust.policy import Policy
from packer.trust.signing import sign_version
from packer.trust.simple_signing import SIGNATURE
from tests.signatures import (
    NOW,
    Authority,
    Pair,
    attach_bundle,
    attach_notation,
    bundle_of,
    certificate,
    encoded,
    jws,
    make_pair,
    private_key,
    private_pem,
    public_pem,
)

REPOSITORY = "registry.example/acme/app"


class Case:
    """A store with one manifest, to be signed and checked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = MemoryStore()
        self.digest = self.put("one")
        self.pair = make_pair(folder, "release")

    def put(self, name: str) -> str:
        self.store.push(EMPTY, io.BytesIO(EMPTY_BYTES))
        value = {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": EMPTY.to_json(),
            "layers": [],
            "annotations": {"name": name},
        }
        return self.store.put_manifest(canonical_json(value), MANIFEST_TYPE, name).digest

    def sign(self, digest: str | None = None, pair: Pair | None = None) -> str:
        found = self.store.resolve(digest or self.digest)
        return sign_version(self.store, found, (pair or self.pair).key, REPOSITORY).tag

    def check(self, *files: Path) -> Trusted:
        descriptor, data = self.store.get_manifest(self.digest)
        policy = Policy.of_keys(files or (self.pair.public,))
        return check_signatures(self.store, descriptor, data, policy, REPOSITORY, now=NOW)


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


@pytest.mark.parametrize("kind", ["p256", "p384", "ed25519"])
def test_what_we_sign_is_found(case: Case, kind: str) -> None:
    pair = make_pair(case.folder, "other", kind)
    with pytest.raises(Unsigned, match=case.digest):
        case.check(pair.public)
    case.sign(pair=pair)
    (found,) = case.check(pair.public).signatures
    assert (found.kind, found.identity) == ("cosign", pair.key.public.key_id)
    with pytest.raises(UnknownSigner, match="release"):
        case.check()


def test_a_second_signature_leaves_the_first(case: Case) -> None:
    other = make_pair(case.folder, "other", "ed25519")
    tag = case.sign()
    case.sign(pair=other)
    before = case.store.resolve(tag)
    case.sign()  # the same key once more
    assert case.store.resolve(tag) == before
    assert case.check().signatures
    assert case.check(other.public).signatures


def test_a_signature_moved_to_another_version(case: Case) -> None:
    elsewhere = case.put("two")
    tag = case.sign(elsewhere)
    _, data = case.store.get_manifest(tag)
    case.store.put_manifest(data, MANIFEST_TYPE, case.digest.replace(":", "-") + ".sig")
    with pytest.raises(SignatureMismatch, match=elsewhere):
        case.check()


def resigned(case: Case, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the manifest that holds the signatures."""
    tag = case.sign()
    value = load_json(case.store.get_manifest(tag)[1], "signature")
    change(value)
    case.store.put_manifest(canonical_json(value), MANIFEST_TYPE, tag)


@pytest.mark.parametrize("text", ["", "?", "AAAA", "A" * 10_000])
def test_tampered_signatures(case: Case, text: str) -> None:
    def change(value: dict[str, Any]) -> None:
        value["layers"][0]["annotations"][SIGNATURE] = text

    resigned(case, change)
    with pytest.raises((UnknownSigner, BadSignature)):
        case.check()


def test_a_tampered_document(case: Case) -> None:
    document = b'{"critical":{}}'
    blob = Descriptor("application/json", digest_of(document), len(document))
    case.store.push(blob, io.BytesIO(document))

    def change(value: dict[str, Any]) -> None:
        value["layers"][0].update(digest=blob.digest, size=blob.size)

    resigned(case, change)
    with pytest.raises(UnknownSigner):
        case.check()


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"[]",
        b'{"critical":{"type":"cosign container image signature","image":{}}}',
        b'{"critical":{"type":"other","image":{"docker-manifest-digest":"DIGEST"}}}',
        b'{"critical":{"critical":1,"critical":1}}',
    ],
)
def test_signed_documents_that_are_no_signatures(case: Case, document: bytes) -> None:
    # The key signed other things too: only a document of this shape is a signature.
    document = document.replace(b"DIGEST", case.digest.encode())
    blob = Descriptor("application/json", digest_of(document), len(document))
    case.store.push(blob, io.BytesIO(document))

    def change(value: dict[str, Any]) -> None:
        layer = value["layers"][0]
        layer.update(digest=blob.digest, size=blob.size)
        layer["annotations"][SIGNATURE] = encoded(case.pair.key.sign(document))

    resigned(case, change)
    with pytest.raises(BadSignature, match=r"simple signing|type"):
        case.check()


def test_junk_beside_a_sound_signature_does_no_harm(case: Case) -> None:
    attach_bundle(case.store, case.digest, b"{")
    attach_bundle(case.store, case.digest, {"verificationMaterial": 1})
    attach_notation(case.store, case.digest, b"[]")
    attach_bundle(case.store, case.digest, b" " * ((1 << 20) + 1))
    with pytest.raises(SignatureError):
        case.check()
    case.sign()
    assert len(case.check().signatures) == 1


def test_broken_referrers_beside_a_sound_signature_do_no_harm(case: Case) -> None:
    """A list under the referrers tag names whatever its writer likes, as does an index."""
    absent = case.store.resolve(case.put("absent"))
    subject = case.store.resolve(case.digest)
    index = {
        "schemaVersion": 2,
        "mediaType": INDEX_MANIFEST_TYPE,
        "manifests": [absent.to_json()],
        "subject": subject.to_json(),
    }
    broken = case.store.put_manifest(canonical_json(index), INDEX_MANIFEST_TYPE)
    assert [one.digest for one in case.store.referrers(case.digest)] == [broken.digest]
    del case.store._manifests[absent.digest]  # as registries let one delete it
    with pytest.raises(BadSignature, match=absent.digest):
        case.check()
    case.sign()
    assert len(case.check().signatures) == 1


def test_the_number_of_signatures_is_bounded(case: Case) -> None:
    def change(value: dict[str, Any]) -> None:
        good = value["layers"][0]
        bad = {**good, "annotations": {SIGNATURE: "AAAA"}}
        value["layers"] = [bad] * (MAX_CLAIMS + 5) + [good]

    resigned(case, change)
    with pytest.raises(BadSignature, match=f"more than {MAX_CLAIMS}"):
        case.check()


def test_bundles_with_a_key(case: Case) -> None:
    attach_bundle(case.store, case.digest, bundle_of(case.digest, case.pair.key))
    (found,) = case.check().signatures
    assert found.kind == "sigstore-bundle"
    with pytest.raises(UnknownSigner):
        case.check(make_pair(case.folder, "other").public)


def test_bundles_that_sign_the_manifest_itself(case: Case) -> None:
    signature = case.pair.key.sign(case.store.get_manifest(case.digest)[1])
    value = {
        "verificationMaterial": {"publicKey": {"hint": ""}},
        "messageSignature": {"messageDigest": {}, "signature": encoded(signature)},
    }
    attach_bundle(case.store, case.digest, value)
    assert case.check().signatures


def test_bundles_that_say_something_else(case: Case) -> None:
    # An SBOM that the same key attested is no signature of the version.
    sbom = bundle_of(case.digest, case.pair.key, "https://spdx.dev/Document")
    attach_bundle(case.store, case.digest, sbom)
    with pytest.raises(UnknownSigner, match="spdx"):
        case.check()
    attach_bundle(case.store, case.digest, bundle_of(case.put("two"), case.pair.key))
    with pytest.raises(SignatureMismatch):
        case.check()


@pytest.mark.parametrize("subject", [None, [], [1], [{"digest": 1}], [{"digest": {"sha256": 1}}]])
def test_malformed_statements(case: Case, subject: object) -> None:
    made = bundle_of(case.digest, case.pair.key, subject=subject)
    attach_bundle(case.store, case.digest, made)
    with pytest.raises((BadSignature, SignatureMismatch)):
        case.check()


@pytest.mark.parametrize("field", ["payload", "payloadType", "signatures"])
def test_tampered_envelopes(case: Case, field: str) -> None:
    made = bundle_of(case.digest, case.pair.key)
    old = made["dsseEnvelope"][field]
    turned = [{"sig": old[0]["sig"][::-1]}] if field == "signatures" else old[:-4] + "AAA="
    for value in (None, 1, [], "", "x", [{"sig": "AAAA"}] * 11, turned):
        case.store = MemoryStore()
        case.put("one")
        made["dsseEnvelope"][field] = value
        attach_bundle(case.store, case.digest, made)
        with pytest.raises(SignatureError):
            case.check()


@pytest.fixture(scope="module")
def root() -> Authority:
    return certificate("root", None, ca=True)


def notation(case: Case, root: Authority, chain: list[Authority], **headers: object) -> Trusted:
    """Attach an envelope and check it with the root's certificate."""
    attach_notation(case.store, case.digest, jws(case.digest, chain, dict(headers)))
    (case.folder / "root.crt").write_bytes(root.pem)
    return case.check(case.folder / "root.crt")


@pytest.mark.parametrize("kind", ["p256", "p384", "p521", "rsa"])
def test_notation(case: Case, root: Authority, kind: str) -> None:
    between = certificate("between", root, ca=True, path_length=0)
    signer = certificate("release", between, kind=kind)
    (found,) = notation(case, root, [signer, between, root]).signatures
    assert found.kind == "notation"
    assert "CN=release" in found.identity
    # The certificate between may be the one that is trusted; another root is not.
    (case.folder / "between.crt").write_bytes(between.pem)
    assert case.check(case.folder / "between.crt").signatures
    (case.folder / "other.crt").write_bytes(certificate("root", None, ca=True).pem)
    with pytest.raises(UnknownSigner, match="no certificate"):
        case.check(case.folder / "other.crt")


def test_notation_with_a_certificate_that_signed_itself(case: Case) -> None:
    alone = certificate("alone", None)
    assert notation(case, alone, [alone]).signatures


def test_notation_out_of_its_time(case: Case, root: Authority) -> None:
    old = certificate("release", root, days=(-20, -1))
    with pytest.raises(SignatureExpired, match="valid from"):
        notation(case, root, [old, root])
    old_root = certificate("old", None, ca=True, days=(-20, -1))
    with pytest.raises(SignatureExpired, match="valid from"):
        notation(case, old_root, [certificate("release", old_root), old_root])


@pytest.mark.parametrize(("days", "is_good"), [(-1, False), (1, True)])
def test_notation_with_an_expiry(case: Case, root: Authority, days: int, is_good: bool) -> None:
    expiry = "io.cncf.notary.expiry"
    headers = {
        expiry: (NOW + timedelta(days=days)).isoformat(),
        "crit": ["io.cncf.notary.signingScheme", expiry],
    }
    chain = [certificate("release", root), root]
    if is_good:
        assert notation(case, root, chain, **headers).signatures
    else:
        with pytest.raises(SignatureExpired, match="expired"):
            notation(case, root, chain, **headers)


@pytest.mark.parametrize(
    "headers",
    [
        {"cty": "text/plain"},
        {"alg": "none"},
        {"alg": "PS256"},
        {"alg": "HS256"},
        {"crit": []},
        {"crit": None},
        {"crit": ["io.cncf.notary.signingScheme", "unknown"]},
        {"io.cncf.notary.signingScheme": "notary.x509.signingAuthority"},
        {"io.cncf.notary.expiry": "2030-01-01T00:00:00Z"},
        {"io.cncf.notary.signingTime": "yesterday"},
        {"io.cncf.notary.signingTime": "2026-01-01T00:00:00"},
    ],
)
def test_notation_with_odd_headers(case: Case, root: Authority, headers: dict[str, object]) -> None:
    with pytest.raises(BadSignature):
        notation(case, root, [certificate("release", root), root], **headers)


def chains(root: Authority) -> dict[str, list[Authority]]:
    """Return chains that must not be trusted, by what is wrong with them."""
    signer = certificate("signer", root)
    short = certificate("short", root, ca=True, path_length=0)
    long = certificate("long", short, ca=True)
    limited = x509.NameConstraints([x509.DNSName("example")], None)
    constrained = certificate("constrained", root, ca=True, critical=[limited])
    twin = certificate("root", None, ca=True)
    return {
        "issued by no authority": [certificate("x", signer), signer, root],
        "chain too long": [certificate("x", long), long, short, root],
        "constraints that are not understood": [
            certificate("x", constrained),
            constrained,
            root,
        ],
        "issued by a root of the same name": [certificate("x", twin), root],
        "an authority that signs": [certificate("x", root, ca=True), root],
        "for servers alone": [
            certificate("x", root, purpose=ExtendedKeyUsageOID.SERVER_AUTH),
            root,
        ],
        "not for signatures": [certificate("x", root, signs=False), root],
        "in the wrong order": [signer, root, signer],
    }


@pytest.mark.parametrize("what", sorted(chains(certificate("r", None, ca=True))))
def test_notation_with_chains_that_prove_nothing(case: Case, root: Authority, what: str) -> None:
    with pytest.raises(BadSignature):
        notation(case, root, chains(root)[what])


def broken(made: Authority, what: str) -> bytes:
    """Return a certificate in DER that parses in part; cryptography tells by many exceptions."""
    old, new = {
        "an unknown curve": ("06082a8648ce3d030107", "06082a8648ce3d03017f"),
        "an unknown kind of key": ("06072a8648ce3d0201", "06072a8648ce3d027f"),
        "an unknown version": ("a003020102", "a003020107"),
        "key usage twice": ("0603551d13", "0603551d0f"),
    }[what]
    return made.der.replace(bytes.fromhex(old), bytes.fromhex(new))


@pytest.mark.parametrize(
    "what", ["an unknown curve", "an unknown kind of key", "an unknown version", "key usage twice"]
)
def test_malformed_certificates_do_no_harm(case: Case, root: Authority, what: str) -> None:
    """Whoever may write to the repository must not end the check by an exception of a library."""
    signer = certificate("release", root)
    made = jws(case.digest, [signer, root])
    der = broken(signer, what)
    assert der != signer.der
    chain = [encoded(der), encoded(root.der)]
    attach_notation(case.store, case.digest, {**made, "header": {"x5c": chain}})
    (case.folder / "root.crt").write_bytes(root.pem)
    with pytest.raises(BadSignature, match=r"malformed certificate|not signed|did not issue"):
        case.check(case.folder / "root.crt")
    # Sorted by digest, the sound one may come behind it.
    assert notation(case, root, [signer, root]).signatures


def test_texts_with_half_a_character(case: Case, root: Authority) -> None:
    made = jws(case.digest, [certificate("release", root), root])
    attach_notation(case.store, case.digest, {**made, "payload": "\ud800"})
    envelope = {"payloadType": "\ud800", "payload": "e30=", "signatures": [{"sig": "AAAA"}]}
    material = {"publicKey": {"hint": "x"}}
    bundle = {"verificationMaterial": material, "dsseEnvelope": envelope}
    attach_bundle(case.store, case.digest, json.dumps(bundle).encode())
    (case.folder / "root.crt").write_bytes(root.pem)
    with pytest.raises(BadSignature):
        case.check(case.folder / "root.crt")
    with pytest.raises(BadSignature):
        case.check()


@pytest.mark.parametrize("field", ["payload", "protected", "signature", "header"])
def test_tampered_notation(case: Case, root: Authority, field: str) -> None:
    made = jws(case.digest, [certificate("release", root), root])
    (case.folder / "root.crt").write_bytes(root.pem)
    other = jws(case.put("two"), [certificate("release", root), root], {"more": 1})
    for value in (None, 1, "", "!", "e30", {"x5c": ["AAAA"]}, {"x5c": ["AAAA"] * 11}, other[field]):
        case.store = MemoryStore()
        case.put("one")
        attach_notation(case.store, case.digest, {**made, field: value})
        with pytest.raises(BadSignature):
            case.check(case.folder / "root.crt")


def test_notation_of_another_version_and_cose(case: Case, root: Authority) -> None:
    (case.folder / "root.crt").write_bytes(root.pem)
    attach_notation(case.store, case.digest, b"\xd2", "application/cose")
    with pytest.raises(UnknownSigner, match="application/cose"):
        case.check(case.folder / "root.crt")
    other = jws(case.put("two"), [certificate("release", root), root])
    attach_notation(case.store, case.digest, other)
    with pytest.raises(SignatureMismatch):
        case.check(case.folder / "root.crt")


@pytest.mark.parametrize("kind", ["p521", "secp256k1", "rsa"])
def test_keys_of_other_kinds_are_refused(kind: str) -> None:
    key = private_key(kind)
    with pytest.raises(InvalidParameter, match=r"mine: no ECDSA key"):
        PublicKey.load(public_pem(key), "mine")
    with pytest.raises(InvalidParameter, match=r"mine: no ECDSA key"):
        SigningKey.load(private_pem(key), None, "mine")


def test_keys_that_are_none(tmp_path: Path) -> None:
    for pem in (b"", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"):
        with pytest.raises(InvalidParameter, match="mine"):
            PublicKey.load(pem, "mine")
        with pytest.raises(InvalidParameter, match="mine"):
            SigningKey.load(pem, None, "mine")
    with pytest.raises(InvalidParameter, match="import-key-pair"):
        SigningKey.load(b"-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----", None, "mine")
    with pytest.raises(InvalidParameter, match="no certificates"):
        Policy.of_keys([write(tmp_path / "x", b"-----BEGIN CERTIFICATE-----\n")])
    with pytest.raises(InvalidParameter, match="above"):
        Policy.of_keys([write(tmp_path / "x", bytes(70_000))])


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_encrypted_keys() -> None:
    pem = private_pem(private_key("p256"), "secret")
    assert SigningKey.load(pem, b"secret", "mine").sign(b"x")
    with pytest.raises(InvalidParameter, match="no password is given"):
        SigningKey.load(pem, None, "mine")
    with pytest.raises(InvalidParameter, match="wrong password") as failed:
        SigningKey.load(pem, b"other", "mine")
    assert "other" not in str(failed.value)
    with pytest.raises(InvalidParameter, match="not encrypted"):
        SigningKey.load(private_pem(private_key("p256")), b"secret", "mine")


@pytest.mark.parametrize(("name", "extra"), [("cryptography", "verify"), ("sigstore", "sigstore")])
def test_a_missing_library_is_named_with_its_extra(
    case: Case, monkeypatch: pytest.MonkeyPatch, name: str, extra: str
) -> None:
    attach_bundle(case.store, case.digest, bundle_of(case.digest, case.pair.key))
    policy = {
        "mediaType": "application/vnd.layer-packer.policy.v1+json",
        "signers": {"ci": {"identity": "i", "issuer": "u", "trust_root": "root.json"}},
        "rules": [{"repository": "*", "require": "ci"}],
    }
    (case.folder / "root.json").write_text("{}")
    write(case.folder / "policy.json", json.dumps(policy).encode())
    loaded = Policy.load(case.folder / "policy.json")
    load = importlib.import_module

    def missing(module: str, package: str | None = None) -> object:
        if module.partition(".")[0] == name:
            raise ImportError(module)
        return load(module, package)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(MissingExtra, match=rf"layer-packer\[{extra}\]"):
        if name == "sigstore":
            descriptor, data = case.store.get_manifest(case.digest)
            check_signatures(case.store, descriptor, data, loaded, REPOSITORY)
        else:
            PublicKey.load(b"", "mine")


def test_blobs_of_signatures_are_checked(case: Case) -> None:
    tag = case.sign()
    (layer,) = load_json(case.store.get_manifest(tag)[1], "signature")["layers"]
    document = read_blob(case.store, Descriptor.from_json(layer), 1000)
    assert load_json(document, "x")["critical"]["identity"] == {"docker-reference": REPOSITORY}


def test_signing_what_was_pulled_tells_that_it_lies_here(
    case: Case, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The name is a registry's, where nothing is signed."""
    (tmp_path / "tree").mkdir()
    for name in ("app:1", f"{REPOSITORY}:1"):
        packer.pack(tmp_path / "tree", tag=name, store=tmp_path / "store")
        packer.sign(name, case.pair.private, store=tmp_path / "store")
        assert ("is signed there" in caplog.text) == (name != "app:1")
