"""The library's calls and what refers to a version: lists, checks, repairs, hidden names."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import pytest

import packer
from packer.api.signers import signer_of
from packer.errors import IntegrityError
from packer.oci import MANIFEST_TYPE, Descriptor, canonical_json, digest_of
from packer.stores.layout import LayoutStore
from packer.stores.memory import MemoryStore
from packer.stores.referrers import all_referrers
from tests.referrers import BUNDLE, SPDX, attach, check_signed, sign_all

COUNT = 9


@pytest.fixture
def store(tmp_path: Path) -> Path:
    tree = tmp_path / "app"
    tree.mkdir()
    (tree / "file").write_text("hello\n" * 1000)
    packer.pack(tree, store=tmp_path / "store", tag="app:1")
    return tmp_path / "store"


def blob_path(store: Path, digest: str) -> Path:
    return store / "blobs" / "sha256" / digest[7:]


def sbom_blob(store: Path, digest: str) -> Path:
    found = all_referrers(LayoutStore(store), digest)
    (sbom,) = (one for one in found if one.descriptor.artifact_type == SPDX)
    return blob_path(store, sbom.blobs[1].digest)


def test_lists(store: Path) -> None:
    layout = LayoutStore(store)
    version = layout.resolve("app:1")
    assert packer.referrers("app:1", store=store) == ()
    signed = sign_all(layout, version)
    found = packer.referrers("app:1", store=store)
    assert len(found) == COUNT
    assert {one.tag for one in found if one.tag} == set(signed.tags)
    assert {one.digest for one in found if not one.tag and one.subject == version.digest} == (
        signed.attached[version.digest]
    )
    (bundle,) = (one for one in found if one.type == BUNDLE and one.subject == version.digest)
    assert bundle.annotations["dev.sigstore.bundle.content"] == "dsse-envelope"
    assert bundle.size > 500
    # Signatures by tag are no versions.
    assert [row.tag for row in packer.versions(store=store)] == ["app:1"]
    assert packer.usage(store=store).versions == 1
    assert packer.usage(store=store).garbage_blobs == 0
    assert packer.remote_versions(f"oci:{store}").total == 1


def test_pull_push_copy(store: Path, tmp_path: Path) -> None:
    layout = LayoutStore(store)
    signed = sign_all(layout, layout.resolve("app:1"))
    packer.push(f"oci:{tmp_path / 'far'}:1", "app:1", store=store)
    check_signed(LayoutStore(tmp_path / "far"), signed)
    packer.copy(f"oci:{tmp_path / 'far'}:1", f"oci-archive:{tmp_path / 'a.tar'}:1", store=store)
    pulled = packer.pull(
        f"oci-archive:{tmp_path / 'a.tar'}", tmp_path / "out", store=tmp_path / "s"
    )
    assert pulled.referrers == COUNT
    check_signed(LayoutStore(tmp_path / "s"), signed)
    again = packer.pull(
        f"oci-archive:{tmp_path / 'a.tar'}", tmp_path / "out", store=tmp_path / "s", update=True
    )
    assert again.referrers == 0
    alone = MemoryStore()
    packer.pull(f"oci:{tmp_path / 'far'}:1", tmp_path / "o2", store=alone, referrers=False)
    assert alone.referrers(pulled.digest) == ()


def test_forgotten_with_the_version(store: Path, tmp_path: Path) -> None:
    layout = LayoutStore(store)
    version = layout.resolve("app:1")
    sign_all(layout, version)
    packer.forget(["app:1"], store=store)
    packer.gc(grace_seconds=0, store=store)
    assert LayoutStore(store).blob_sizes() == {}


def test_pulls_forget_them(tmp_path: Path) -> None:
    far, local = LayoutStore(tmp_path / "far"), tmp_path / "local"
    digests = []
    for number in (1, 2, 3):
        tree = tmp_path / f"tree{number}"
        tree.mkdir()
        (tree / "file").write_text(f"{number}\n" * 1000)
        digests.append(packer.pack(tree, store=far, tag=f"app:{number}").digest)
        sign_all(far, far.resolve(f"app:{number}"))
        packer.pull(f"oci:{far.path}:app:{number}", tmp_path / f"out{number}", store=local)
    kept = LayoutStore(local)
    assert [len(all_referrers(kept, digest)) for digest in digests[1:]] == [COUNT, COUNT]
    names = [name for name, _ in kept.tags()]
    assert sum(name.startswith(digests[0].replace(":", "-")) for name in names) in (0, 3)
    kept.collect_garbage(0)
    assert all_referrers(LayoutStore(local), digests[0]) == ()


def test_verify_reads_them(store: Path) -> None:
    layout = LayoutStore(store)
    sign_all(layout, layout.resolve("app:1"))
    done = packer.verify("app:1", store=store)
    assert done.referrers == COUNT
    (row,) = packer.verify_all(store=store)
    assert row.condition == "sound"
    path = sbom_blob(store, done.digest)
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(IntegrityError):
        packer.verify("app:1", store=store)
    (row,) = packer.verify_all(store=store)
    assert row.condition == "damaged"


@pytest.mark.parametrize("lost", [False, True])
def test_repair(store: Path, tmp_path: Path, lost: bool) -> None:
    layout = LayoutStore(store)
    signed = sign_all(layout, layout.resolve("app:1"))
    far = f"oci:{tmp_path / 'far'}:1"
    packer.copy("app:1", far, store=store)
    path = sbom_blob(store, layout.resolve("app:1").digest)
    size = path.stat().st_size
    path.unlink()
    if not lost:
        path.write_bytes(bytes(size))
    (row,) = packer.repair(store=store)
    assert row.why
    (row,) = packer.repair(store=store, source=far)
    assert (row.why, row.damaged_blobs, row.repaired_blobs) == ("", 1, 1)
    check_signed(LayoutStore(store), signed)
    (row,) = packer.repair(store=store, source=far)
    assert row.damaged_blobs == 0


# Signers


def element(tag: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    size = len(content)
    length = bytes([size]) if size < 128 else b"\x82" + size.to_bytes(2, "big")
    return bytes([tag]) + length + content


def certificate(name: str, *, email: str = "", uri: str = "", critical: bool = False) -> bytes:
    """Return the parts of an X.509 certificate that name somebody, in their places."""

    def names(text: str) -> bytes:
        kind = element(0x06, bytes.fromhex("550403"))
        return element(0x30, element(0x31, element(0x30, kind, element(0x0C, text.encode()))))

    alternative = element(0x81, email.encode()) if email else element(0x86, uri.encode())
    extension = element(
        0x30,
        element(0x06, bytes.fromhex("551d11")),
        element(0x01, b"\xff") if critical else b"",
        element(0x04, element(0x30, alternative)),
    )
    extensions = element(0xA3, element(0x30, extension)) if email or uri else b""
    return element(0x30, element(0x30, names("an issuer"), names(name), extensions))


def bundle_of(material: object) -> str:
    store = MemoryStore()
    version = Descriptor(MANIFEST_TYPE, digest_of(b"version"), 7)
    data = canonical_json({"verificationMaterial": material})
    attach(store, version, BUNDLE, [(BUNDLE, data)])
    (found,) = all_referrers(store, version.digest)
    return signer_of(store, found)


def raw(data: bytes) -> dict[str, str]:
    return {"rawBytes": base64.b64encode(data).decode()}


@pytest.mark.parametrize(
    ("material", "expected"),
    [
        ({"certificate": raw(certificate("x", email="dev@acme.example"))}, "dev@acme.example"),
        (
            {"certificate": raw(certificate("x", uri="https://ci.example/w", critical=True))},
            "https://ci.example/w",
        ),
        ({"certificate": raw(certificate("Acme Ltd"))}, "Acme Ltd"),
        (
            {"x509CertificateChain": {"certificates": [raw(certificate("Acme Ltd"))]}},
            "Acme Ltd",
        ),
        ({"publicKey": {"hint": "abc="}}, "key abc="),
        ({"publicKey": {}}, ""),
        ({"certificate": raw(certificate("\x1b[2Jbad"))}, "?[2Jbad"),
        ({"certificate": {"rawBytes": "no base64"}}, ""),
        ({"certificate": raw(b"\x06\x03\x55\x04\x03")}, ""),
        ({"certificate": raw(b"\x06\x03\x55\x1d\x11\x04")}, ""),
        ({"certificate": []}, ""),
        ([], ""),
    ],
)
def test_signers_of_bundles(material: object, expected: str) -> None:
    assert bundle_of(material) == expected


def test_every_cut_certificate_is_survived() -> None:
    whole = certificate("x", email="dev@acme.example", critical=True)
    for end in range(len(whole)):
        bundle_of({"certificate": raw(whole[:end])})


def test_a_cosign_certificate_names_its_signer(store: Path) -> None:
    layout = LayoutStore(store)
    version = layout.resolve("app:1")
    pem = base64.encodebytes(certificate("x", email="dev@acme.example")).decode()
    text = f"-----BEGIN CERTIFICATE-----\n{pem}-----END CERTIFICATE-----\n"
    config, layer = b"{}", b'{"critical":{}}'
    made = []
    for data in (config, layer):
        made.append(Descriptor("application/x.any", digest_of(data), len(data)))
        layout.push(made[-1], io.BytesIO(data))
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": made[0].to_json(),
        "layers": [{**made[1].to_json(), "annotations": {"dev.sigstore.cosign/certificate": text}}],
    }
    tag = version.digest.replace(":", "-") + ".sig"
    layout.put_manifest(json.dumps(manifest).encode(), MANIFEST_TYPE, tag)
    (found,) = packer.referrers("app:1", store=store)
    assert (found.signer, found.kind) == ("dev@acme.example", "signature of cosign")
