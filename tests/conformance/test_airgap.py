"""Updates carried across an air gap: two registries that never met, and archives."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import packer
from packer.cli.main import main
from packer.errors import (
    FormatError,
    InvalidParameter,
    NotFound,
    PackerError,
    UnsupportedVersion,
)
from packer.stores.archive.store import ArchiveStore
from packer.stores.layout import LayoutStore
from packer.stores.memory import MemoryStore
from packer.stores.registry.store import RegistryStore
from packer.transfer.promises import decode_promises
from tests.builders import read_files
from tests.conformance.gap import Gap, base_on_the_far_side, in_archive, near, same_trees
from tests.registry_server import counting_proxy
from tests.signatures import make_pair

pytestmark = pytest.mark.registry
ROOT = Path(__file__).parents[2]
SIGNED = "## Signed on the near side"


# The way that docs/airgap.md shows


@pytest.mark.parametrize("parts", [False, True])
def test_the_documented_way(
    gap: Gap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parts: bool
) -> None:
    text = (ROOT / "docs" / "airgap.md").read_text(encoding="utf-8")
    signed, rest = text.index(SIGNED), text.index("## What the far side has")
    text = text[:signed] + text[rest:]
    commands = re.findall(r"^    (layer-packer (?:inventory|copy|pull) .*)$", text, re.M)
    assert len(commands) == 5
    inventory, write, complete, pull, split = commands
    if parts:
        write = split.replace("4GB", "100KB")
    repository = f"documented-{int(parts)}"
    base_on_the_far_side(gap, repository)
    for command in (inventory, write, complete, pull):
        if command == pull:  # the machine has the base in its local store
            packer.pull(near(gap, "1.4.1"), tmp_path / "base", store=tmp_path / "store")
        command = command.replace("registry.near", gap.near.host)
        command = command.replace("registry.far/acme/app", f"{gap.far.host}/{repository}")
        subprocess.run(
            ["sh", "-ec", command],
            cwd=tmp_path,
            env=os.environ
            | {
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                "LAYER_PACKER_STORE": str(tmp_path / "store"),
            },
            check=True,
            timeout=120,
        )
    assert (tmp_path / "update.tar").exists() != parts
    if parts:
        for line in ("sha256sum -c update.tar.sha256", "cat update.tar.[0-9]* > update.tar"):
            assert f"    {line}\n" in text
            subprocess.run(["sh", "-ec", line], cwd=tmp_path, check=True)
    assert in_archive(tmp_path / "update.tar") == gap.lacking | {gap.digests["1.4.2"]}
    assert same_trees(tmp_path / "out", gap.trees["1.4.2"])
    for tag, tree in gap.trees.items():
        out = tmp_path / f"far-{tag}"
        packer.pull(f"{gap.far.host}/{repository}:{tag}", out, store=MemoryStore())
        assert same_trees(out, tree)


def test_the_documented_way_with_signatures(gap: Gap, tmp_path: Path) -> None:
    text = (ROOT / "docs" / "airgap.md").read_text(encoding="utf-8").partition(SIGNED)[2]
    text = text.partition("\n## ")[0].replace("\\\n", "")
    export, enter, pull, again = re.findall(r"^    (layer-packer (?:copy|pull) .*)$", text, re.M)
    release, site = make_pair(tmp_path, "release"), make_pair(tmp_path, "site", "ed25519")
    base_on_the_far_side(gap, "signed")
    mine = f"{gap.near.host}/signed"  # other tests count what refers to the versions
    for tag in ("1.4.1", "1.4.2"):
        packer.copy(near(gap, tag), f"{mine}:{tag}", store=MemoryStore())

    def run(command: str) -> int:
        command = command.replace("registry.near/acme/app", mine).replace("1.4.3", "1.4.2")
        command = command.replace("registry.far/acme/app", f"{gap.far.host}/signed")
        command = command.replace("/srv/app", str(tmp_path / "app"))
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        environment = os.environ | {"PATH": path, "LAYER_PACKER_STORE": str(tmp_path / "store")}
        words = ["sh", "-ec", command]
        return subprocess.run(words, cwd=tmp_path, env=environment, timeout=120).returncode

    assert run(export) == 12
    assert not (tmp_path / "update.tar").exists()
    assert not (tmp_path / "sent.json").exists()
    packer.sign(f"{mine}:1.4.2", release.private)
    for command in (export, enter, pull, again):
        assert run(command) == 0, command
    assert same_trees(tmp_path / "app", gap.trees["1.4.2"])
    received = packer.read_receipt(tmp_path / "received.json", [site.key.public])
    assert received.digest == gap.digests["1.4.2"]
    assert received.trusted is not None
    assert packer.verify_receipt(tmp_path / "app", tmp_path / "installed.json") == []
    # The receipt of the last journey left out all that it brought: no layer is sent again.
    assert (tmp_path / "next.tar").stat().st_size < (tmp_path / "update.tar").stat().st_size


# What the far side has


@pytest.mark.parametrize(
    "have",
    [
        "tag",
        "app:tag",
        "digest",
        "reference",
        "local tag",
        "manifest digests",
        "blob digests",
        "inventory of a registry",
        "inventory of a repository",
        "inventory of a layout",
        "inventory of the store",
        "inventory object",
        "archive",
        "both versions of it",
    ],
)
def test_what_the_far_side_has(gap: Gap, tmp_path: Path, have: str) -> None:
    source = near(gap, "1.4.2")
    store = tmp_path / "store"
    listed = tmp_path / "list"
    value: list[str | packer.Inventory | Path]
    if have == "tag":
        value = ["1.4.1"]
    elif have == "app:tag":
        value = ["app:1.4.1"]
    elif have == "digest":
        value = [gap.digests["1.4.1"]]
    elif have == "reference":
        value = [f"docker://{base_on_the_far_side(gap, 'had')}:1.4.1"]
    elif have == "local tag":
        packer.copy(near(gap, "1.4.1"), f"oci:{store}:old", store=store)
        value = ["old"]
    elif have == "manifest digests":
        listed.write_text(f"# what we have\n\n{gap.digests['1.4.1']} # 1.4.1\n")
        value = [listed]
    elif have == "blob digests":
        listed.write_text("".join(digest + "\n" for digest in gap.blobs["1.4.1"]))
        value = [listed]
    elif have == "archive":
        packer.copy(near(gap, "1.4.1"), f"oci-archive:{tmp_path}/first.tar:1.4.1", store=store)
        value = [f"oci-archive:{tmp_path}/first.tar"]
    elif have == "both versions of it":
        value = ["1.4.1", gap.digests["1.4.1"]]
    else:
        name: str | None = f"{base_on_the_far_side(gap, 'had')}:1.4.1"
        if have != "inventory of a registry":
            packer.copy(near(gap, "1.4.1"), f"oci:{tmp_path}/layout:1.4.1", store=store)
        if have == "inventory of a repository":
            name = base_on_the_far_side(gap, "had")
        elif have == "inventory of a layout":
            name = str(tmp_path / "layout")
        elif have == "inventory of the store":
            name, store = None, tmp_path / "layout"
        found = packer.inventory(name, store=store)
        assert [(entry.digest, entry.tags) for entry in found.manifests] == [
            (gap.digests["1.4.1"], ("1.4.1",))
        ]
        listed.write_text(json.dumps(found.to_json()))
        value = [found] if have == "inventory object" else [listed]
    path = tmp_path / "update.tar"
    done = packer.copy(source, f"oci-archive:{path}", have=value, store=store)
    assert in_archive(path) == gap.lacking | {gap.digests["1.4.2"]}
    assert done.blobs_left_out == len(gap.blobs["1.4.1"] & gap.blobs["1.4.2"])
    assert done.blobs_copied == len(gap.lacking)
    (promise,) = decode_promises(ArchiveStore(path).promises(gap.digests["1.4.2"]))
    assert promise.blobs == gap.blobs["1.4.2"] - gap.lacking
    assert promise.digest == ("" if have == "blob digests" else gap.digests["1.4.1"])
    # Its tag is that of the source, and it is the only one.
    target = tmp_path / "target"
    packer.copy(near(gap, "1.4.1"), f"oci:{target}:1.4.1", store=MemoryStore())
    pulled = packer.pull(f"oci-archive:{path}", tmp_path / "out", store=target)
    assert pulled.fetched_blobs == len(gap.lacking)
    assert same_trees(tmp_path / "out", gap.trees["1.4.2"])
    assert gap.digests["1.4.2"] in {
        row.digest for row in packer.versions(store=target) if row.tag == "1.4.2"
    }


def test_nothing_but_the_missing_blobs_is_fetched(gap: Gap, tmp_path: Path) -> None:
    with counting_proxy(gap.near.port) as proxy:
        packer.copy(
            f"{proxy.host}/acme/app:1.4.2",
            f"oci-archive:{tmp_path}/a.tar",
            have=["1.4.1"],
            store=MemoryStore(),
        )
    fetched = [path for method, path, status in proxy.requests if "/blobs/" in path]
    assert sorted(path[-71:] for path in fetched) == sorted(gap.lacking)
    others = [path for _, path, _ in proxy.requests if "/blobs/" not in path and path != "/v2/"]
    assert len(others) <= 6 + 5  # what refers to the version: the API, its tag, and cosign's three
    assert all("/manifests/" in path or "/referrers/" in path for path in others)


@pytest.mark.parametrize("have", [[], ["1.4.1"]], ids=["complete", "partial"])
@pytest.mark.parametrize("split", [None, 100_000, 1_500_000])
def test_a_dry_run_says_what_the_archive_will_hold(
    gap: Gap, tmp_path: Path, have: list[str], split: int | None
) -> None:
    with counting_proxy(gap.near.port) as proxy:
        source = f"{proxy.host}/acme/app:1.4.2"
        target = f"oci-archive:{tmp_path}/new/update.tar:1.4.2"

        def estimate() -> packer.Estimate:
            local = MemoryStore()
            return packer.estimate(source, target, store=local, have=have, split_bytes=split)

        found = estimate()
        assert not (tmp_path / "new").exists()
        asked = {path.split("/")[-2] for _, path, _ in proxy.requests}
        assert asked <= {"manifests", "referrers", "v2"}
        proxy.clear()
        done = packer.copy(source, target, store=MemoryStore(), have=have, split_bytes=split)
        written = [path.stat().st_size for path in sorted((tmp_path / "new").glob("*.tar*"))]
        if split is not None:
            del written[-1]  # the list of checksums
        assert (found.archive_bytes, found.parts) == (sum(written), len(written))
        assert (found.parts > 1) == (split is not None and found.archive_bytes > split)
        assert (found.blobs, found.bytes) == (
            done.blobs_copied,
            done.bytes_copied + done.descriptor.size,
        )
        assert (found.blobs_left_out, found.bytes_left_out) == (
            done.blobs_left_out,
            done.bytes_left_out,
        )
        assert bool(found.blobs_left_out) == bool(have)
        fetched = sum("/blobs/" in path for _, path, _ in proxy.requests)
        assert found.requests == fetched + 1 + 5  # and what refers to the version, as above
        # Once more: all is there; and with a part gone, what reaches into it.
        again = estimate()
        assert (again.unchanged, again.blobs, again.bytes) == (True, 0, 0)
        assert again.archive_bytes == found.archive_bytes
        if split == 100_000:
            (tmp_path / "new" / "update.tar.sha256").unlink()
            with pytest.raises(InvalidParameter, match="remove the parts"):
                estimate()


def test_a_dry_run_of_what_was_interrupted(gap: Gap, tmp_path: Path) -> None:
    target, store = f"oci-archive:{tmp_path}/a.tar:1.4.2", MemoryStore()
    packer.copy(near(gap, "1.4.2"), target, store=store, split_bytes=1_500_000)
    listed = (tmp_path / "a.tar.sha256").read_text().splitlines(keepends=True)
    (tmp_path / "a.tar.sha256").write_text("".join(line for line in listed if ".001" not in line))
    found = packer.estimate(near(gap, "1.4.2"), target, store=store, split_bytes=1_500_000)
    done = packer.copy(near(gap, "1.4.2"), target, store=store, split_bytes=1_500_000)
    assert 0 < found.blobs == done.blobs_copied < len(gap.blobs["1.4.2"])
    assert found.blobs_present == done.blobs_present
    with pytest.raises(InvalidParameter, match="another size"):
        packer.estimate(near(gap, "1.4.2"), target, store=store, split_bytes=1_400_000)


def test_a_dry_run_of_adding_to_an_archive(
    gap: Gap, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "both.tar"
    packer.copy(near(gap, "1.4.1"), f"oci-archive:{path}:1.4.1", store=MemoryStore())
    before = path.read_bytes()
    words = ["copy", near(gap, "1.4.2"), f"oci-archive:{path}:1.4.2", "--store", str(gap.store)]
    assert main([*words, "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert path.read_bytes() == before
    assert main([*words, "--dry-run", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert main([*words, "--json"]) == 0
    done = json.loads(capsys.readouterr().out)
    assert found["blobs"] == done["copied_blobs"] == len(gap.lacking)
    assert found["present_blobs"] == done["present_blobs"]
    assert (found["archive_bytes"], found["parts"]) == (path.stat().st_size, 1)
    assert f"the archive: {path.stat().st_size / 1e6:.1f} MB\n" in shown
    assert main([*words, "--dry-run", "--split", "1MB"]) == 2  # there is one that is whole


def test_a_list_of_no_use(gap: Gap, tmp_path: Path) -> None:
    # Blobs that the version does not need: asked for as manifests, docker-registry fails.
    (tmp_path / "list").write_text("\n".join(gap.blobs["1.4.1"] - gap.blobs["1.4.2"]))
    partial(gap, tmp_path, str(tmp_path / "list"))
    assert in_archive(tmp_path / "update.tar") == gap.blobs["1.4.2"] | {gap.digests["1.4.2"]}


def test_a_version_that_is_all_there(gap: Gap, tmp_path: Path) -> None:
    # Nothing but the manifest travels; the far side gets its tag.
    path = tmp_path / "a.tar"
    done = packer.copy(
        near(gap, "1.4.2"), f"oci-archive:{path}", have=["1.4.2"], store=MemoryStore()
    )
    assert in_archive(path) == {gap.digests["1.4.2"]}
    assert (done.blobs_copied, done.blobs_left_out) == (0, len(gap.blobs["1.4.2"]))
    again = packer.copy(
        near(gap, "1.4.2"), f"oci-archive:{path}", have=["1.4.2"], store=MemoryStore()
    )
    assert again.unchanged
    # Without --have, it is completed, and the note goes.
    packer.copy(near(gap, "1.4.2"), f"oci-archive:{path}", store=MemoryStore())
    assert in_archive(path) == gap.blobs["1.4.2"] | {gap.digests["1.4.2"]}
    assert ArchiveStore(path).promises(gap.digests["1.4.2"]) is None


@pytest.mark.parametrize(
    ("content", "error"),
    [
        ("hello", FormatError),
        ("sha256:0", FormatError),
        ("{", FormatError),
        ("{}", UnsupportedVersion),
        ('{"mediaType":"MINE"}', FormatError),
        ('{"mediaType":"MINE","manifests":[7]}', FormatError),
        ('{"mediaType":"MINE","manifests":[{"digest":"x","tags":[],"blobs":[]}]}', FormatError),
        (
            '{"mediaType":"MINE","manifests":[{"digest":"DIGEST","tags":[],"blobs":["../x"]}]}',
            FormatError,
        ),
        (
            '{"mediaType":"MINE","manifests":[{"digest":"DIGEST","tags":[7],"blobs":[]}]}',
            FormatError,
        ),
    ],
)
def test_files_that_promise_nothing(
    gap: Gap, tmp_path: Path, content: str, error: type[PackerError]
) -> None:
    file = tmp_path / "have"
    content = content.replace("MINE", "application/vnd.layer-packer.inventory.v1+json")
    file.write_text(content.replace("DIGEST", gap.digests["1.4.1"]))
    with pytest.raises(error) as caught:
        packer.copy(
            near(gap, "1.4.2"),
            f"oci-archive:{tmp_path}/a.tar",
            have=[file],
            store=MemoryStore(),
        )
    assert str(file) in str(caught.value)
    assert os.listdir(tmp_path) == ["have"]


def test_names_that_promise_nothing(gap: Gap, tmp_path: Path) -> None:
    for name in ("nosuch", "app:9.9.9", "sha256:" + "0" * 64, f"{gap.far.host}/no/such:1"):
        with pytest.raises(NotFound):
            packer.copy(
                near(gap, "1.4.2"),
                f"oci-archive:{tmp_path}/a.tar",
                have=[name],
                store=MemoryStore(),
            )
    for place in (f"oci:{tmp_path}/layout:x", f"{gap.far.host}/x:1"):
        with pytest.raises(InvalidParameter, match="--have is for oci-archive"):
            packer.copy(near(gap, "1.4.2"), place, have=["1.4.1"], store=MemoryStore())
        with pytest.raises(InvalidParameter, match="--split is for oci-archive"):
            packer.copy(near(gap, "1.4.2"), place, split_bytes=5000, store=MemoryStore())
    assert os.listdir(tmp_path) == []


# A base that is not there


def partial(gap: Gap, tmp_path: Path, *have: str, split_bytes: int | None = None) -> str:
    packer.copy(
        near(gap, "1.4.2"),
        f"oci-archive:{tmp_path}/update.tar",
        have=have or ["1.4.1"],
        split_bytes=split_bytes,
        store=MemoryStore(),
    )
    return f"oci-archive:{tmp_path}/update.tar"


@pytest.mark.parametrize("place", ["empty registry", "registry", "layout", "archive", "pull"])
def test_without_the_base_nothing_is_written(gap: Gap, tmp_path: Path, place: str) -> None:
    update = partial(gap, tmp_path)
    folder = gap.far.data if "registry" in place else tmp_path
    target = f"{gap.far.host}/lacks-{place.split()[0]}:1.4.2"
    if place == "registry":  # one that has something else
        packer.push(
            f"{gap.far.host}/lacks-registry:other",
            packer.pack(gap.trees["1.4.1"] / "charts", store=tmp_path / "s", tag="x"),
            store=tmp_path / "s",
        )
    elif place == "layout":
        target = f"oci:{tmp_path}/layout:1.4.2"
        LayoutStore(tmp_path / "layout")
    elif place == "archive":
        target = f"oci-archive:{tmp_path}/second.tar:1.4.2"
    store = LayoutStore(tmp_path / "local")
    before = read_files(folder)
    with pytest.raises(NotFound) as caught:
        if place == "pull":
            packer.pull(update, tmp_path / "out", store=store)
        else:
            packer.copy(update, target, store=store)
    assert caught.value.kind == "base"
    assert f"1.4.1 {gap.digests['1.4.1']}" in caught.value.name
    assert "leaves out" in str(caught.value)
    assert read_files(folder) == before
    assert not (tmp_path / "out").exists()
    # With the base, the same archive does.
    if "registry" in place:
        base_on_the_far_side(gap, target.partition("/")[2].partition(":")[0])
        packer.copy(update, target, store=store)
        packer.pull(target, tmp_path / "out", store=MemoryStore())
        assert same_trees(tmp_path / "out", gap.trees["1.4.2"])


def test_one_blob_of_the_base_is_missing(gap: Gap, tmp_path: Path) -> None:
    # The far registry still has the base's manifest, which would vouch for its blobs.
    update = partial(gap, tmp_path)
    there = base_on_the_far_side(gap, "lost")
    lost = next(iter(gap.blobs["1.4.2"] - gap.lacking))
    root = gap.far.data / "docker" / "registry" / "v2"
    shutil.rmtree(root / "repositories" / "lost" / "_layers" / "sha256" / lost[7:])
    with pytest.raises(NotFound) as caught:
        packer.copy(update, f"{there}:1.4.2", store=MemoryStore())
    assert (caught.value.kind, "lacks 1 blob " in str(caught.value)) == ("base", True)
    store = RegistryStore(there)
    assert [tag for tag, _ in store.tags()] == ["1.4.1"]
    for digest in gap.lacking:
        assert not (root / "repositories" / "lost" / "_layers" / "sha256" / digest[7:]).exists()


def test_a_list_of_blobs_is_named_by_its_blobs(gap: Gap, tmp_path: Path) -> None:
    (tmp_path / "list").write_text("\n".join(gap.blobs["1.4.1"]))
    update = partial(gap, tmp_path, str(tmp_path / "list"))
    with pytest.raises(NotFound) as caught:
        packer.copy(update, f"oci:{tmp_path}/layout:1", store=MemoryStore())
    assert caught.value.kind == "blob"
    assert any(digest in caught.value.name for digest in gap.blobs["1.4.1"])


def test_verbs_that_need_what_was_left_out_say_so(
    gap: Gap, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    update = partial(gap, tmp_path)
    for words in (["ls", update], ["verify", update], ["unpack", update, str(tmp_path / "out")]):
        assert main([*words, "--store", str(tmp_path / "local")]) == 3
        error = capsys.readouterr().err
        assert "left out of oci-archive:" in error
        assert "pull it, or copy it" in error


def test_every_verb_reads_archives(gap: Gap, tmp_path: Path) -> None:
    full = f"oci-archive:{tmp_path}/full.tar"
    for tag in gap.trees:
        packer.copy(near(gap, tag), f"{full}:{tag}", store=MemoryStore())
    store = tmp_path / "store"
    old, new = f"{full}:1.4.1", f"{full}:1.4.2"
    assert [entry.path for entry in packer.ls(new, store=store)] == [
        "charts", "charts/a.yaml", "charts/b.yaml", "charts/c.yaml", "extra", "images",
    ]  # fmt: skip
    data = b"".join(packer.cat(new, "charts/b.yaml", store=store))
    assert data == (gap.trees["1.4.2"] / "charts" / "b.yaml").read_bytes()
    changes = {change.path for change in packer.diff(old, new, store=store)}
    assert changes == {"charts/a.yaml", "charts/b.yaml", "extra"}
    assert packer.inspect(new, store=store).digest == gap.digests["1.4.2"]
    assert (
        packer.inspect(f"{full}@{gap.digests['1.4.1']}", store=store).digest
        == (gap.digests["1.4.1"])
    )
    assert packer.verify(new, store=store).blobs == len(gap.blobs["1.4.2"]) + 1
    packer.unpack(new, tmp_path / "out", store=store)
    assert same_trees(tmp_path / "out", gap.trees["1.4.2"])
    packed = packer.pack(gap.trees["1.4.2"], store=store, tag="x:2", base=old)
    assert packed.parent == gap.digests["1.4.1"]
    packer.push(f"oci-archive:{tmp_path}/pushed.tar:app:2", packed, store=store)
    assert packer.verify(f"oci-archive:{tmp_path}/pushed.tar:app:2", store=store).digest == (
        packed.digest
    )
    with pytest.raises(InvalidParameter, match="2 manifests"):
        packer.ls(full, store=store)
