"""Listing and choosing among the versions of a repository, against a real registry."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import packer
from packer.cli.main import main
from packer.oci import MANIFEST_TYPE, canonical_json
from packer.stores.registry.store import RegistryStore
from tests.builders import write_release
from tests.registry_server import CountingProxy, counting_proxy, run_registry

pytestmark = pytest.mark.registry

TAGS = [
    *("1.3.9", "1.4.0", "1.4.10", "v1.4.9", "1.4.11-rc.1", "2.0.0-rc.1", "2.0.0", "2.1.0"),
    *("1", "1.4", "latest", "main", "20261130", "nightly-7"),
]
"""In the order of the times that their manifests tell."""


@dataclass
class Served:
    """A repository of few tags, one of 250, and a base that all of them are equal to."""

    proxy: CountingProxy

    def name(self, repository: str) -> str:
        return f"{self.proxy.host}/acme/{repository}"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("versions")
    (folder / "registry").mkdir()
    with run_registry(folder / "registry") as server, counting_proxy(server.port) as proxy:
        packer.pack(write_release(folder / "v", 1), store=folder / "store", tag="app:1")
        many = [f"1.{minor}.{patch}" for minor in range(25) for patch in range(10)]
        for repository, tags in (("app", TAGS), ("many", many)):
            packer.push(
                f"{server.host}/acme/{repository}:{tags[0]}", "app:1", store=folder / "store"
            )
            with RegistryStore(f"{server.host}/acme/{repository}") as store:
                value = json.loads(store.get_manifest(tags[0])[1])
                for at, tag in enumerate(tags):
                    stamp = f"2026-01-{1 + at // 24:02}T{at % 24:02}:00:00Z"
                    value["annotations"]["org.opencontainers.image.created"] = stamp
                    store.put_manifest(canonical_json(value), MANIFEST_TYPE, tag)
        yield Served(proxy)


def test_the_newest_first(served: Served) -> None:
    found = packer.remote_versions(served.name("app"))
    assert (found.total, found.order, found.following) == (len(TAGS), "date", "")
    assert [row.tag for row in found.versions] == TAGS[::-1]
    newest = found.versions[0]
    assert newest.created == "2026-01-01T13:00:00Z"
    assert newest.stored_bytes is not None
    assert newest.stored_bytes > 400_000
    assert len({row.digest for row in found.versions}) == len(TAGS)


def test_pages(served: Served) -> None:
    served.proxy.clear()
    seen: list[str] = []
    after = None
    while True:
        page = packer.remote_versions(served.name("many"), limit=100, after=after)
        assert (page.total, page.order) == (250, "version")
        seen += [row.tag for row in page.versions]
        if not page.following:
            break
        after = page.following
    assert seen == [
        f"1.{minor}.{patch}" for minor in range(24, -1, -1) for patch in range(9, -1, -1)
    ]
    assert served.proxy.count() < 250 + 3 * 3
    served.proxy.clear()
    assert len(packer.remote_versions(served.name("many")).versions) == 20
    assert served.proxy.count() < 25
    dated = packer.remote_versions(served.name("many"), by_date=True, limit=1)
    assert (dated.order, dated.versions[0].tag, dated.following) == ("date", "1.24.9", "1.24.9")


def test_listing_what_is_not_there(served: Served, tmp_path: Path) -> None:
    with pytest.raises(packer.NotFound, match="acme/none"):
        packer.remote_versions(served.name("none"))
    with pytest.raises(packer.NotFound, match=r"9\.9"):
        packer.remote_versions(served.name("app"), after="9.9")
    for wrong in (
        f"{served.name('app')}:1.4.0",
        f"{served.name('app')}@sha256:{'0' * 64}",
        "x.y/Z",
    ):
        with pytest.raises(packer.InvalidParameter):
            packer.remote_versions(wrong)
    with pytest.raises(packer.InvalidParameter, match="limit 0"):
        packer.remote_versions(served.name("app"), limit=0)


def test_a_layout_is_a_repository(tmp_path: Path) -> None:
    packer.pack(write_release(tmp_path / "v", 1), store=tmp_path / "store", tag="1.0")
    packer.pack(write_release(tmp_path / "v", 2), store=tmp_path / "store", tag="1.1")
    found = packer.remote_versions(f"oci:{tmp_path / 'store'}")
    assert [row.tag for row in found.versions] == ["1.1", "1.0"]


@pytest.mark.parametrize(
    ("versions", "tag"),
    [
        ("~1.4", "1.4.10"),
        ("~v1.4.0", "1.4.10"),
        ("1.4.*", "1.4.10"),
        ("^1.3", "1.4.10"),
        (">=1.4 <2", "1.4.10"),
        (">= 1.4, < 1.4.10", "v1.4.9"),
        ("~1.4.11-rc.0", "1.4.11-rc.1"),
        ("~1.3 || ~2.0", "2.0.0"),
        ("*", "2.1.0"),
        (">2.1.0", "20261130"),
        ("<=1.3.9", "1.3.9"),
    ],
)
def test_ranges(served: Served, versions: str, tag: str) -> None:
    pinned = packer.pin(f"{served.name('app')}:{versions}")
    name, _, digest = pinned.partition("@")
    assert name == f"{served.name('app')}:{tag}"
    (row,) = (
        row for row in packer.remote_versions(name.rpartition(":")[0]).versions if row.tag == tag
    )
    assert digest == row.digest


@pytest.mark.parametrize(
    "versions",
    [
        *("~", ">=", "=>1", ">=1.4 <2 oops!", "~1.4\n", "~\x1b[31m", "1.4 | 2", "~/../x", "^a.b"),
        *("~" + "1" * 300, "*" * 100_000, ">=1 " * 60_000, "~1.4@sha256:0", " ", ",", "||||x"),
    ],
)
def test_malformed_ranges(served: Served, versions: str, tmp_path: Path) -> None:
    with pytest.raises(packer.InvalidReference):
        packer.pull(f"{served.name('app')}:{versions}", tmp_path / "out", store=tmp_path / "s")
    assert not (tmp_path / "out").exists()


def test_no_version_in_a_range(served: Served, tmp_path: Path) -> None:
    with pytest.raises(packer.NotFound, match=r"newest there are 20261130, 2\.1\.0, 2\.0\.0"):
        packer.pull(f"{served.name('app')}:~3.1", tmp_path / "out", store=tmp_path / "store")
    with pytest.raises(packer.NotFound):
        packer.pin(f"{served.name('none')}:*")


def test_a_range_is_pulled_and_pinned(served: Served, tmp_path: Path) -> None:
    store = tmp_path / "store"
    pulled = packer.pull(f"{served.name('app')}:~1.4", tmp_path / "out", store=store)
    assert pulled.reference == f"{served.name('app')}:1.4.10@{pulled.digest}"
    # The local store knows the version by its tag, so the next one is packed on it.
    assert (tmp_path / "out" / "app.yaml").exists()
    assert packer.versions(store=store)[-1].tag == f"{served.name('app')}:1.4.10"
    (tmp_path / "out" / "new").write_bytes(b"new")
    packed = packer.pack(tmp_path / "out", store=store, tag="app:1.4.11")
    assert packed.parent == pulled.digest
    # Calls that read take ranges as well.
    assert [entry.path for entry in packer.ls(f"{served.name('app')}:^2", store=store)]
    found = packer.estimate(f"{served.name('app')}:^2", store=store)
    assert found.digest == packer.pin(f"{served.name('app')}:2.*").partition("@")[2]


def test_the_command(served: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = ["--store", str(tmp_path / "store")]
    name = served.name("app")
    assert main(["pull", f"{name}:>=1.4 <2", str(tmp_path / "out"), *store]) == 0
    out, err = capsys.readouterr()
    digest = packer.pin(f"{name}:~1.4").partition("@")[2]
    assert out.startswith(f"{name}:1.4.10@{digest}  {digest}\n")
    assert f"layer-packer: {name}:>=1.4 <2 is {name}:1.4.10@{digest}\n" in err
    assert main(["pull", f"{name}:~1.4", str(tmp_path / "two"), "--json", "--dry-run", *store]) == 0
    assert json.loads(capsys.readouterr().out)["reference"] == f"{name}:1.4.10@{digest}"
    assert main(["diff", f"{name}:~1.4", f"{name}:~2.0", *store]) == 0
    assert capsys.readouterr().out == "no differences\n"
    assert main(["pull", f"{name}:~7", str(tmp_path / "three"), *store]) == 3
    assert main(["pull", f"{name}:~~7", str(tmp_path / "three"), *store]) == 2
    assert main(["push", f"{name}:~1", "--from", f"{name}:1.4.10", *store]) == 2
    capsys.readouterr()
    assert main(["versions", name, "--limit", "2", *store]) == 0
    heading, first, second, last = capsys.readouterr().out.splitlines()
    assert heading.split() == ["TAG", "DIGEST", "CREATED", "(UTC)", "STORED"]
    assert first.split()[0] == "nightly-7"
    assert first.split()[2:4] == ["2026-01-01", "13:00"]
    assert second.split()[0] == "20261130"
    assert last == "2 of 14 tags, the newest first; --after 20261130 lists the next ones"
    assert main(["versions", name, "--json", "--after", "1.4.0", *store]) == 0
    value = json.loads(capsys.readouterr().out)
    assert [row["tag"] for row in value.pop("versions")] == ["1.3.9"]
    assert value == {"reference": name, "total": 14, "order": "date", "next": None}
    many = served.name("many")
    assert main(["versions", many, *store]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == (
        "20 of 250 tags, the highest versions first; --after 1.23.0 lists the next ones;"
        " --by-date sorts all by date"
    )
    for words in (
        *(["--limit", "0", name], ["--limit", "-1", name], ["--limit", "x", name]),
        *(["--limit", "5"], ["--after", "1.0"], ["--by-date"], [f"{name}:1.4.0"], [name, name]),
    ):
        assert main(["versions", *words, *store]) == 2, words
        assert capsys.readouterr().err.count("\n") == 1, words
