"""Calls and verbs that check signatures before they write, and write receipts afterwards."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import packer
from packer.cli.main import main
from packer.errors import (
    InvalidParameter,
    NotFound,
    OlderVersion,
    SourceChanged,
    UnknownSigner,
    Unsigned,
)
from packer.reading import installed_files
from packer.stores.layout import LayoutStore
from packer.trust.policy import POLICY_TYPE, Policy
from tests.signatures import Pair, make_pair


@dataclass
class Site:
    """A store with two versions, and a key pair."""

    folder: Path
    store: Path
    pair: Pair
    old: str
    new: str

    @property
    def policy(self) -> Policy:
        return Policy.of_keys([self.pair.public])

    def out(self) -> Path:
        return self.folder / "out"

    def command(self, *words: str) -> int:
        return main([*words, "--store", str(self.store)])


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    store, tree = tmp_path / "store", tmp_path / "app"
    (tree / "d").mkdir(parents=True)
    (tree / "d" / "large").write_bytes(os.urandom(300_000))
    (tree / "link").symlink_to("d/large")
    digests = []
    for number in (1, 2):
        monkeypatch.setenv("SOURCE_DATE_EPOCH", str(1_700_000_000 + number))
        (tree / "label").write_text(f"version {number}")
        digests.append(packer.pack(tree, store=store, tag=f"app:{number}").digest)
    return Site(tmp_path, store, make_pair(tmp_path, "key"), *digests)


def listing(folder: Path) -> list[str]:
    return sorted(str(path) for path in folder.rglob("*"))


def test_nothing_is_written_before_the_signature_is_checked(site: Site) -> None:
    trust = packer.Trust(site.policy, receipt=site.folder / "receipt.json")
    layout, far = f"oci:{site.folder}/layout", f"oci:{site.folder}/far"
    packer.copy("app:1", f"{layout}:1", store=site.store)
    local = site.folder / "local"
    LayoutStore(local)
    before = listing(site.folder)
    calls: list[Callable[[], object]] = [
        lambda: packer.unpack("app:1", site.out(), store=site.store, trust=trust),
        lambda: packer.unpack_tar("app:1", store=site.store, trust=trust),
        lambda: packer.pull(f"{layout}:1", site.out(), store=local, trust=trust),
        lambda: packer.pull(f"{layout}:1", site.out(), store=local, trust=trust, paths=["label"]),
        lambda: packer.copy(f"{layout}:1", f"oci-archive:{site.folder}/a.tar:1", trust=trust),
        lambda: packer.verify_signatures(f"{layout}:1", site.policy),
    ]
    for call in calls:
        with pytest.raises(Unsigned):
            call()
        assert listing(site.folder) == before
    packer.sign("app:1", make_pair(site.folder, "other").private, store=site.store)
    with pytest.raises(UnknownSigner):
        packer.unpack("app:1", site.out(), store=site.store, trust=trust)
    assert not site.out().exists()
    packer.sign("app:1", site.pair.private, store=site.store)
    packer.copy("app:1", f"{far}:1", store=site.store)
    pulled = packer.pull(f"{far}:1", site.out(), store=local, trust=trust)
    assert pulled.trusted is not None
    assert [each.signer for each in pulled.trusted.signatures] == [str(site.pair.public)]
    # What the local store pulled is checked there, with no look at where it came from.
    (site.folder / "far").rename(site.folder / "gone")
    checked = packer.verify_signatures(pulled.digest, site.policy, store=local)
    assert checked.digest == site.old


def test_a_signature_of_another_version_does_not_do(site: Site) -> None:
    packer.sign("app:1", site.pair.private, store=site.store)
    with pytest.raises(Unsigned):
        packer.verify_signatures("app:2", site.policy, store=site.store)


def test_storage_checks_what_it_loads_and_deploys(site: Site) -> None:
    with packer.open_storage(f"oci:{site.folder}/base") as storage:
        saved = storage.save("app", site.folder / "app")
        trust = packer.Trust(site.policy, receipt=site.folder / "receipt.json")
        with pytest.raises(Unsigned):
            storage.load("app", saved.sequence, site.out(), trust=trust)
        with pytest.raises(Unsigned):
            storage.deploy("app", saved.sequence, trust=trust)
        assert storage.current("app") is None
        assert not site.out().exists()
        packer.sign(storage.reference("app", saved.sequence), site.pair.private)
        done = storage.load("app", saved.sequence, site.out(), trust=trust)
        assert done.trusted is not None
        storage.deploy("app", saved.sequence, trust=packer.Trust(site.policy))
        assert [each.sequence for each in storage.history("app")] == [saved.sequence]
    assert packer.verify_receipt(site.out(), site.folder / "receipt.json") == []


@pytest.mark.parametrize("way", ["unpack", "pull", "part", "seed", "update"])
def test_a_receipt_lists_what_is_there(site: Site, way: str) -> None:
    packer.sign("app:2", site.pair.private, store=site.store)
    trust = packer.Trust(site.policy, receipt=site.folder / "r", receipt_key=site.pair.private)
    source = f"oci:{site.store}:app:2"
    local = site.folder / "local"
    if way == "update":
        packer.unpack("app:1", site.out(), store=site.store)
        (site.out() / "mine").write_text("mine")
    if way == "unpack":
        packer.unpack("app:2", site.out(), store=site.store, trust=trust)
    elif way == "seed":
        packer.pull(source, site.out(), store=local, seed=[site.folder / "app"], trust=trust)
    else:
        paths = ["d"] if way == "part" else []
        update = way == "update"
        packer.pull(source, site.out(), store=local, paths=paths, update=update, trust=trust)
    found = packer.read_receipt(site.folder / "r", [site.pair.key.public])
    assert found.digest == site.new
    assert found.trusted is not None
    assert found.complete == (way in ("unpack", "pull", "seed"))
    names = [file.path for file in found.files or ()]
    assert names == (["d", "d/large"] if way == "part" else ["d", "d/large", "label", "link"])
    keys = [site.pair.public]
    assert packer.verify_receipt(site.out(), site.folder / "r", keys) == []
    (site.out() / "d" / "large").write_bytes(bytes(300_000))
    (wrong,) = packer.verify_receipt(site.out(), site.folder / "r", keys)
    assert (wrong.path, wrong.what) == ("d/large", "content")


@pytest.mark.parametrize("what", ["content", "mode", "link", "directory"])
def test_no_receipt_of_what_was_changed_meanwhile(
    site: Site, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    read = installed_files.installed_files

    def changed(version: Any, directory: bytes, part: Any = None) -> Any:
        if what == "content":
            (site.out() / "label").write_text("version 9")
        elif what == "mode":
            (site.out() / "label").chmod(0o600)
        elif what == "link":
            (site.out() / "link").unlink()
            (site.out() / "link").symlink_to("label")
        else:
            (site.out() / "d").chmod(0o700)
        return read(version, directory, part)

    monkeypatch.setattr(installed_files, "installed_files", changed)
    trust = packer.Trust(receipt=site.folder / "r")
    with pytest.raises(SourceChanged):
        packer.unpack("app:2", site.out(), store=site.store, trust=trust)
    assert not (site.folder / "r").exists()


def test_older_versions_are_refused(site: Site) -> None:
    receipt = site.folder / "r"
    packer.unpack("app:2", site.out(), store=site.store, trust=packer.Trust(receipt=receipt))
    trust = packer.Trust(after=packer.read_receipt(receipt))
    for call in (packer.unpack, packer.pull):
        name = "app:1" if call is packer.unpack else f"oci:{site.store}:app:1"
        with pytest.raises(OlderVersion, match="packed at 2023"):
            call(name, site.folder / "x", store=site.store, trust=trust)
    assert not (site.folder / "x").exists()
    packer.unpack("app:2", site.folder / "x", store=site.store, trust=trust)  # the same once more


def test_an_archive_does_not_take_a_name_back(site: Site) -> None:
    far, local = f"oci:{site.folder}/far:1", site.folder / "local"
    archives = [f"oci-archive:{site.folder}/{number}.tar:app" for number in (1, 2)]
    for number, archive in enumerate(archives, 1):
        packer.copy(f"app:{number}", archive, store=site.store)
    old, new = archives
    packer.copy(new, far)
    packer.pull(new, site.out(), store=local)
    with pytest.raises(OlderVersion, match="allow-older"):
        packer.copy(old, far)
    with pytest.raises(OlderVersion, match="allow-older"):
        packer.pull(old, site.folder / "x", store=local)
    assert packer.inspect(far).digest == site.new
    assert not (site.folder / "x").exists()
    packer.copy(new, far)  # the same once more
    packer.copy(old, far, allow_older=True)
    assert packer.inspect(far).digest == site.old


def test_a_receipt_of_a_copy_stands_in_for_an_inventory(site: Site) -> None:
    sent = site.folder / "sent.json"
    first = f"oci-archive:{site.folder}/1.tar:1"
    packer.copy("app:1", first, store=site.store, trust=packer.Trust(receipt=sent))
    second = f"oci-archive:{site.folder}/2.tar:2"
    done = packer.copy("app:2", second, store=site.store, have=sent)
    assert done.blobs_left_out
    # On the far side, the guard names the version that has to be there first.
    with pytest.raises(NotFound, match=site.old):
        packer.copy(second, f"oci:{site.folder}/far:2")
    packer.copy(first, f"oci:{site.folder}/far:1")
    packer.copy(second, f"oci:{site.folder}/far:2")
    packer.unpack(f"oci:{site.folder}/far:2", site.out())
    installed = site.folder / "r"
    packer.unpack(
        "app:1", site.folder / "x", store=site.store, trust=packer.Trust(receipt=installed)
    )
    with pytest.raises(packer.FormatError, match="no blobs"):
        packer.copy("app:2", second, store=site.store, have=installed)


def test_keys_and_places_are_checked_before_anything_is_written(site: Site) -> None:
    with pytest.raises(InvalidParameter, match="no file for the receipt"):
        packer.Trust(receipt_key=site.pair.private)
    with pytest.raises(InvalidParameter, match="no directory"):
        packer.Trust(receipt=site.folder / "missing" / "r")
    trust = packer.Trust(receipt=site.folder / "r", receipt_key=site.pair.public)
    with pytest.raises(InvalidParameter, match="no private key"):
        packer.unpack("app:1", site.out(), store=site.store, trust=trust)
    assert not site.out().exists()


def test_a_policy_by_repository(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    path = site.folder / "policy.json"
    rules = [
        {"repository": "app", "require": "release"},
        {"repository": "x/*", "require": "nothing"},
    ]
    signers = {"release": {"key": "key.pub"}}
    path.write_text(json.dumps({"mediaType": POLICY_TYPE, "signers": signers, "rules": rules}))
    words = ["unpack", "app:1", str(site.out()), "--policy", str(path)]
    assert site.command(*words) == 12
    assert "is not signed" in capsys.readouterr().err
    assert site.command(*words, "--repository", "other") == 12
    assert "no rule" in capsys.readouterr().err
    assert site.command(*words, "--repository", "x/y") == 0
    assert "no signature is asked for by the rule x/*" in capsys.readouterr().out
    assert site.command("sign", "app:1", "--key", str(site.pair.private)) == 0
    assert site.command("verify", "app:1", "--policy", str(path), "--json") == 0
    out = capsys.readouterr().out
    value = json.loads(out[out.index("{") :])
    assert value["verification"]["signatures"][0]["signer"] == "release"


def test_the_command(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    out, receipt = str(site.out()), str(site.folder / "r.json")
    key, public = str(site.pair.private), str(site.pair.public)
    assert site.command("unpack", "app:1", out, "--verify-key", public) == 12
    assert not site.out().exists()
    assert site.command("sign", "app:1", "--key", key, "--json") == 0
    made = json.loads(capsys.readouterr().out)
    assert made["tag"] == site.old.replace(":", "-") + ".sig"
    assert not made["unchanged"]
    words = ["unpack", "app:1", out, "--verify-key", public]
    assert site.command(*words, "--receipt", receipt, "--receipt-key", key) == 0
    assert f"signed by {public}" in capsys.readouterr().out
    assert main(["receipt", "verify", out, receipt, "--key", public, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["same"], found["files"], found["digest"]) == (True, 4, site.old)
    (site.out() / "label").write_text("other")
    assert main(["receipt", "verify", out, receipt, "--json"]) == 10
    found = json.loads(capsys.readouterr().out)
    assert found["differences"] == [{"path": "label", "what": "content"}]
    other = str(make_pair(site.folder, "other").public)
    assert main(["receipt", "verify", out, receipt, "--key", other]) == 12
    assert site.command("unpack", "app:1", out + "2", "--after", receipt) == 0


@pytest.mark.parametrize(
    "words",
    [
        ["pull", "oci:x:1", "out", "--dry-run", "--verify-key", "key.pub"],
        ["copy", "app:1", "oci-image:oci:x:1", "--receipt", "r"],
        ["copy", "app:1", "oci:x:1", "--dry-run", "--allow-older"],
        ["unpack", "app:1", "-o", "-", "--receipt", "r"],
        ["unpack", "app:1", "out", "--repository", "x"],
        ["unpack", "app:1", "out", "--verify-key", "key.pub", "--policy", "p"],
        ["verify", "--all", "--verify-key", "key.pub"],
        ["unpack", "app:1", "out", "--receipt-key", "key.pem"],
    ],
)
def test_options_that_would_do_nothing_are_refused(
    site: Site, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(site.folder)
    assert site.command(*words) == 2
    assert not site.out().exists()


def test_attached_signatures_are_no_versions(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    packer.sign("app:1", site.pair.private, store=site.store)
    (site.folder / "app" / "label").write_text("version 3")
    packed = packer.pack(site.folder / "app", store=site.store, tag="app:3")
    assert packed.base is not None
    assert packed.base.name == "app:2"
    assert site.command("gc", "--grace-seconds", "0") == 0
    packer.verify_signatures("app:1", site.policy, store=site.store)
