"""Signatures by cosign, copies by oras and crane: what they make of our versions, and we of theirs.

Skipped where the tools cannot be had: ``LAYER_PACKER_INTEROP=1 tools/install-servers`` builds them.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import packer
from packer.oci import load_json
from packer.stores.memory import MemoryStore
from packer.stores.registry.store import RegistryStore
from tests.builders import noise
from tests.conformance.make_samples import read_tree
from tests.registry_server import RegistryServer, optional_program, run_registry
from tests.signatures import make_pair

pytestmark = pytest.mark.registry
SIGNATURE = "dev.cosignproject.cosign/signature"


def run(program: str, *words: str, cwd: Path) -> subprocess.CompletedProcess[bytes]:
    environment = os.environ | {
        "HOME": str(cwd),
        "DOCKER_CONFIG": str(cwd),
        "COSIGN_PASSWORD": "",
        "TUF_ROOT": str(cwd / "tuf"),
    }
    return subprocess.run(
        [optional_program(program), *words],
        cwd=cwd, env=environment, check=False, capture_output=True, timeout=120,
    )  # fmt: skip


def must(program: str, *words: str, cwd: Path) -> bytes:
    done = run(program, *words, cwd=cwd)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


@dataclass
class Signed:
    """A version in a registry, signed with a key pair in `folder`."""

    server: RegistryServer
    folder: Path
    tree: Path
    digest: str

    @property
    def name(self) -> str:
        return f"{self.server.host}/acme/app"

    @property
    def signature(self) -> str:
        """The tag that cosign gives its signature."""
        return self.digest.replace(":", "-") + ".sig"

    def verify(self, repository: str, *options: str) -> subprocess.CompletedProcess[bytes]:
        words = ["--key", "cosign.pub", "--insecure-ignore-tlog=true", "--allow-http-registry"]
        reference = f"{repository}@{self.digest}"
        return run("cosign", "verify", *words, *options, reference, cwd=self.folder)


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Signed]:
    """Give a version that is not signed yet."""
    folder = tmp_path_factory.mktemp("interop")
    tree = folder / "app"
    tree.mkdir()
    for number in range(4):
        (tree / f"file{number}").write_bytes(noise(f"file {number}", 300_000))
    (folder / "registry").mkdir()
    with run_registry(folder / "registry") as server:
        packed = packer.pack(tree, store=folder / "store", tag="app:1.4.2")
        packer.push(f"{server.host}/acme/app:1.4.2", packed, store=folder / "store")
        yield Signed(server, folder, tree, packed.digest)


@pytest.fixture(scope="module")
def signed(version: Signed) -> Signed:
    must("cosign", "generate-key-pair", cwd=version.folder)
    assert version.verify(version.name).returncode != 0
    words = ["--key", "cosign.key", "--tlog-upload=false", "--allow-http-registry", "--yes"]
    words += ["-a", "checked=by hand"]
    must("cosign", "sign", *words, f"{version.name}@{version.digest}", cwd=version.folder)
    return version


def test_a_signed_version_is_pulled_by_its_digest(signed: Signed, tmp_path: Path) -> None:
    done = signed.verify(signed.name, "-a", "checked=by hand")
    assert done.returncode == 0, done.stderr.decode()
    (claim,) = json.loads(done.stdout)
    digest = claim["critical"]["image"]["docker-manifest-digest"]
    pulled = packer.pull(f"{signed.name}@{digest}", tmp_path / "out", store=MemoryStore())
    assert pulled.digest == signed.digest
    assert read_tree(tmp_path / "out") == read_tree(signed.tree)


@pytest.mark.parametrize("way", ["registry", "archive", "layout"])
def test_copies_keep_the_signature(signed: Signed, tmp_path: Path, way: str) -> None:
    # The signature is a tag of its own, with what was signed in annotations of its layer.
    far = f"{signed.server.host}/far/{way}"
    source = f"{signed.name}:1.4.2"
    if way != "registry":
        kind = {"archive": "oci-archive", "layout": "oci"}[way]
        between = f"{kind}:{tmp_path}/between:1.4.2"
        packer.copy(source, between, store=MemoryStore())
        source = between
    packer.copy(source, f"{far}:1.4.2", store=MemoryStore(), referrers=False)
    assert signed.verify(far).returncode != 0
    # The version is there already: the signature is completed.
    copied = packer.copy(source, f"{far}:1.4.2", store=MemoryStore())
    assert (copied.referrers_copied, copied.unchanged) == (1, False)
    theirs = RegistryStore(signed.name).get_manifest(signed.signature)
    assert RegistryStore(far).get_manifest(signed.signature) == theirs
    (layer,) = load_json(theirs[1], "signature")["layers"]
    assert layer["annotations"][SIGNATURE]
    done = signed.verify(far, "-a", "checked=by hand")
    assert done.returncode == 0, done.stderr.decode()
    # Another version under the same tag is not taken for the signed one.
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").write_text("other")
    other = packer.pack(tmp_path / "other", store=tmp_path / "s", tag="app:1.4.2")
    packer.push(f"{far}:1.4.2", other, store=tmp_path / "s")
    words = ["--key", "cosign.pub", "--insecure-ignore-tlog=true", "--allow-http-registry"]
    assert run("cosign", "verify", *words, f"{far}:1.4.2", cwd=signed.folder).returncode != 0


def test_bundles_of_cosign_go_along(signed: Signed, tmp_path: Path) -> None:
    """Bundles are what cosign 3 writes: referrers, by the tag, as Debian's registry has no API.

    Its verification of bundles wants a trusted root from the network, and is not run.
    """
    words = ["--key", "cosign.key", "--tlog-upload=false", "--allow-http-registry", "--yes"]
    bundled = f"{signed.name}@{signed.digest}"
    must("cosign", "sign", "--new-bundle-format", *words, bundled, cwd=signed.folder)
    far = f"{signed.server.host}/far/bundles"
    archive = f"oci-archive:{tmp_path}/between:1.4.2"
    for source, destination in ((f"{signed.name}:1.4.2", archive), (archive, f"{far}:1.4.2")):
        assert packer.copy(source, destination, store=MemoryStore()).referrers_copied == 2
    near_store, far_store = RegistryStore(signed.name), RegistryStore(far)
    (bundle,) = near_store.referrers(signed.digest)
    # The list that cosign wrote has the type of the empty config; ours has the manifest's own.
    (far_bundle,) = far_store.referrers(signed.digest)
    assert far_bundle == bundle
    assert far_bundle.artifact_type.startswith("application/vnd.dev.sigstore.bundle")
    assert far_store.get_manifest(bundle.digest) == near_store.get_manifest(bundle.digest)
    rows = packer.referrers(f"{far}:1.4.2", store=MemoryStore())
    assert {row.tag or row.type for row in rows} == {signed.signature, far_bundle.artifact_type}
    (hint,) = (row.signer for row in rows if not row.tag)
    assert hint.startswith("key ")
    words = ["--plain-http", "--format", "json", f"{far}@{signed.digest}"]
    tree = json.loads(must("oras", "discover", *words, cwd=signed.folder))
    (listed,) = tree.get("referrers") or tree.get("manifests")
    assert (listed["digest"], listed["artifactType"]) == (bundle.digest, far_bundle.artifact_type)


@pytest.mark.parametrize("kind", ["p256", "p384", "ed25519"])
def test_cosign_verifies_what_we_sign(version: Signed, tmp_path: Path, kind: str) -> None:
    pair = make_pair(tmp_path, "ours", kind)
    words = ["--key", str(pair.public), "--insecure-ignore-tlog=true", "--allow-http-registry"]
    # With a bundle beside it, cosign would look at that alone, and ask for a trust root.
    name = f"{version.server.host}/ours/{kind}"
    packer.copy(f"{version.name}:1.4.2", f"{name}:1.4.2", store=MemoryStore(), referrers=False)
    reference = f"{name}@{version.digest}"
    assert run("cosign", "verify", *words, reference, cwd=version.folder).returncode != 0
    packer.sign(reference, pair.private)
    (claim,) = json.loads(must("cosign", "verify", *words, reference, cwd=version.folder))
    assert claim["critical"]["image"]["docker-manifest-digest"] == version.digest
    assert claim["critical"]["identity"]["docker-reference"] == name


@pytest.mark.parametrize("form", ["tag", "bundle"])
def test_we_verify_what_cosign_signs(version: Signed, tmp_path: Path, form: str) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "file").write_text(form)
    packed = packer.pack(tmp_path / "app", store=tmp_path / "s", tag="app:1")
    name = f"{version.server.host}/cosign/{form}"
    packer.push(f"{name}:1", packed, store=tmp_path / "s")
    must("cosign", "generate-key-pair", cwd=tmp_path)
    words = ["--key", "cosign.key", "--tlog-upload=false", "--allow-http-registry", "--yes"]
    words += ["--new-bundle-format"] if form == "bundle" else []
    trust = packer.Trust(packer.Policy.of_keys([tmp_path / "cosign.pub"]))
    reference = f"{name}@{packed.digest}"
    if form == "bundle":  # an attestation is found where signatures are, and is none
        predicate = ["--predicate", "app/file", "--type", "custom"]
        must("cosign", "attest", *words, *predicate, reference, cwd=tmp_path)
        with pytest.raises(packer.UnknownSigner, match="no signature"):
            packer.pull(reference, tmp_path / "out", store=tmp_path / "t", trust=trust)
    must("cosign", "sign", *words, reference, cwd=tmp_path)
    # Through an archive to a place that reaches no registry.
    archive = f"oci-archive:{tmp_path}/update.tar:1"
    packer.copy(f"{name}:1", archive, trust=trust)
    pulled = packer.pull(archive, tmp_path / "out", store=tmp_path / "t", trust=trust)
    assert pulled.trusted is not None
    (found,) = pulled.trusted.signatures
    assert found.kind == {"tag": "cosign", "bundle": "sigstore-bundle"}[form]
    other = packer.Trust(packer.Policy.of_keys([make_pair(tmp_path, "other").public]))
    with pytest.raises(packer.UnknownSigner):
        packer.pull(archive, tmp_path / "out2", store=tmp_path / "t", trust=other)


def test_oras_copies_what_refers_to_a_version(version: Signed, tmp_path: Path) -> None:
    # An attached document, found by the referrers tag, goes along with `oras copy --recursive`.
    (tmp_path / "sbom.json").write_text("{}")
    words = ["--artifact-type", "application/x.sbom", f"{version.name}:1.4.2", "sbom.json"]
    must("oras", "attach", "--plain-http", *words, cwd=tmp_path)
    far = f"{version.server.host}/recursive/app:1.4.2"
    flags = ["--from-plain-http", "--to-plain-http", "--recursive"]
    must("oras", "copy", *flags, f"{version.name}:1.4.2", far, cwd=tmp_path)
    for name in (f"{version.name}:1.4.2", far):
        shown = must("oras", "discover", "--plain-http", "--format", "json", name, cwd=tmp_path)
        tree = json.loads(shown)
        listed = tree.get("referrers") or tree.get("manifests")
        assert "application/x.sbom" in [item["artifactType"] for item in listed]
    pulled = packer.pull(far, tmp_path / "out", store=MemoryStore(), expect=version.digest)
    assert read_tree(tmp_path / "out") == read_tree(version.tree)
    assert pulled.fetched_blobs
    # `oras pull` takes files that have a title; our layers have none, and it says so.
    must("oras", "pull", "--plain-http", far, "-o", "files", cwd=tmp_path)
    assert not list((tmp_path / "files").glob("*"))
    blobs = RegistryStore(far).get_manifest("1.4.2")[1]
    for layer in load_json(blobs, "manifest")["layers"]:
        name = f"{far.rpartition(':')[0]}@{layer['digest']}"
        data = must("oras", "blob", "fetch", "--plain-http", "--output", "-", name, cwd=tmp_path)
        assert len(data) == layer["size"]


def test_packing_on_what_oras_copied(version: Signed, tmp_path: Path) -> None:
    far = f"{version.server.host}/mirror/app"
    flags = ["--from-plain-http", "--to-plain-http"]
    must("oras", "copy", *flags, f"{version.name}:1.4.2", f"{far}:1.4.2", cwd=tmp_path)
    tree = tmp_path / "next"
    tree.mkdir()
    for path in version.tree.iterdir():
        (tree / path.name).write_bytes(path.read_bytes())
    (tree / "file1").write_bytes(noise("changed", 1000))
    packed = packer.pack(tree, store=tmp_path / "s", tag="app:1.4.3", base=f"{far}:1.4.2")
    assert (packed.parent, packed.new_layers) == (version.digest, 1)
    packer.push(f"{far}:1.4.3", packed, store=tmp_path / "s")
    must("oras", "copy", *flags, f"{far}:1.4.3", f"{far}-2:1.4.3", cwd=tmp_path)
    packer.pull(f"{far}-2:1.4.3", tmp_path / "out", store=MemoryStore())
    assert read_tree(tmp_path / "out") == read_tree(tree)


def test_crane_copies_byte_for_byte(version: Signed, tmp_path: Path) -> None:
    far = f"{version.server.host}/crane/app:1.4.2"
    must("crane", "copy", "--insecure", f"{version.name}:1.4.2", far, cwd=tmp_path)
    assert must("crane", "digest", "--insecure", far, cwd=tmp_path).decode().strip() == (
        version.digest
    )
    shown = must("crane", "manifest", "--insecure", far, cwd=tmp_path)
    assert shown == RegistryStore(version.name).get_manifest("1.4.2")[1]
    packer.pull(far, tmp_path / "out", store=MemoryStore(), expect=version.digest)
    assert read_tree(tmp_path / "out") == read_tree(version.tree)
