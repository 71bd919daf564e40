"""Archives opened against predecessors: what an update costs, and that all of it comes back."""

from __future__ import annotations

import bz2
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import packer
from packer.api.locations import open_version
from packer.opening.predecessor import MAX_LINKS
from packer.stores.layout import LayoutStore
from tests.conformance import decoder
from tests.registry_server import run_registry
from tests.updates import (
    ENCODERS,
    History,
    changed,
    is_there,
    libdeflate,
    seven_zip,
    tar,
    texts,
    unix_times,
    write,
    zip_archive,
    zipped,
    zlib_gzip,
)

TEXTS = texts()


def archive(version: int, encode: Callable[[bytes], bytes] = libdeflate) -> bytes:
    return encode(tar(changed(TEXTS, version), 1_700_000_000 + version))


@pytest.mark.parametrize("encoder", ENCODERS)
def test_seven_versions_of_an_archive(encoder: str, tmp_path: Path) -> None:
    if not is_there(encoder):
        pytest.skip(f"{encoder} is not installed")
    encode, factor = ENCODERS[encoder]
    history = History(tmp_path)
    links, made = [], [archive(version, encode) for version in range(1, 8)]
    for version, data in enumerate(made, 1):
        packed = history.pack({"app.tgz": data})
        if version == 1:
            assert packed.new_bytes > len(data)
            assert history.opened() == {}
        else:
            assert packed.new_bytes < len(data) / factor
            assert history.opened() == {"app.tgz": 1}
            index = open_version(f"app:{version}", store=history.store).index
            links.append(len(index.predecessors))
    # Each version is opened against the one before, until the chain is long enough: then against
    # the first one, which is closed.
    assert links[:4] == [1, 2, 3, 4]
    assert max(links) <= MAX_LINKS
    for version, data in enumerate(made, 1):
        history.check(f"app:{version}", {"app.tgz": data})


def test_going_back_to_an_older_version(tmp_path: Path) -> None:
    history = History(tmp_path)
    for version in range(1, 6):
        packed = history.pack(
            {"app.tgz": archive(version), "b.zip": zipped(changed(TEXTS, version))}
        )
        # From the third version on, the recipes before are like the new ones.
        assert packed.new_bytes < 4_000 or version < 3
    for version, name in ((3, "app.tgz"), (1, "app.tgz"), (2, "moved.tgz"), (5, "app.tgz")):
        files = {name: archive(version), "note": b"%d" % version}
        packed = history.pack({**files, "b.zip": zipped(changed(TEXTS, 6))})
        assert packed.new_bytes < 4_000 or version == 3  # with which b.zip has changed as well
        assert history.opened().get(name) == (1 if version > 1 else None)


def test_archives_with_new_times_cost_no_headers(tmp_path: Path) -> None:
    drawn = random.Random(1)
    files = {
        f"templates/{number}.yaml": drawn.randbytes(90).hex().encode() for number in range(400)
    }
    history = History(tmp_path)
    history.pack({"app.tgz": zlib_gzip(tar(files, 1_700_000_000))})
    files["templates/7.yaml"] = b"a: 8\n"
    packed = history.pack({"app.tgz": zlib_gzip(tar(files, 1_700_001_234))})
    assert packed.new_bytes < 2_500
    assert history.opened() == {"app.tgz": 1}


@pytest.mark.parametrize("streamed", [False, True], ids=["sizes first", "descriptors"])
@pytest.mark.parametrize("form", ["jar", "jar in a tgz"])
def test_zip_archives_with_new_times_cost_no_headers(
    form: str, streamed: bool, tmp_path: Path
) -> None:
    drawn = random.Random(2)
    files = {f"org/app/{number}.class": drawn.randbytes(700).hex().encode() for number in range(99)}
    history = History(tmp_path)

    def app(second: int) -> bytes:
        extra = unix_times(1_700_000_000 + second)
        jar = zip_archive(files, (2024, 2, 3, 4, 5, second), extra, streamed=streamed)
        return jar if form == "jar" else libdeflate(tar({"lib/app.jar": jar}))

    history.pack({"app": app(2)})
    for version in range(2, 6):
        if version > 3:  # before, nothing but times is new
            files["org/app/7.class"] = b"version %d" % version
        packed = history.pack({"app": app(2 * version)})
        assert packed.new_bytes < 2_200
        assert history.opened() == {"app": 1}
        if version == 3:
            assert next(decoder.decode(history.store, "app:3")).content == app(6)


def test_older_versions_may_be_deleted(tmp_path: Path) -> None:
    history = History(tmp_path)
    for version in range(1, 5):
        history.pack({"app.tgz": archive(version)})
    store = packer.open_store(history.store)
    assert isinstance(store, LayoutStore)
    for version in range(1, 4):
        store.untag(f"app:{version}")
    store.collect_garbage(0)
    assert [row.tag for row in packer.versions(store=store)] == ["app:4"]
    history.check("app:4", {"app.tgz": archive(4)})
    packed = history.pack({"app.tgz": archive(5)})
    assert packed.new_bytes < 10_000


def test_through_a_registry(tmp_path: Path) -> None:
    history = History(tmp_path)
    (tmp_path / "registry").mkdir()
    with run_registry(tmp_path / "registry") as server:
        name = f"{server.host}/acme/app"
        for version in range(1, 4):
            history.pack({"app.tgz": archive(version), "b.zip": zipped(changed(TEXTS, version))})
            packer.push(f"{name}:{version}", f"app:{version}", store=history.store)
        for version in (3, 1):
            out = tmp_path / f"pulled{version}"
            packer.pull(f"{name}:{version}", out, store=tmp_path / "other")
            assert (out / "app.tgz").read_bytes() == archive(version)
            assert (out / "b.zip").read_bytes() == zipped(changed(TEXTS, version))
        assert b"".join(packer.cat(f"{name}:3", "app.tgz")) == archive(3)
        # The base is in the registry alone, and the update is as small.
        files = {"app.tgz": archive(4), "b.zip": zipped(changed(TEXTS, 4))}
        root = write(tmp_path / "next", files)
        far = packer.pack(
            root, store=tmp_path / "far", tag="app:4", base=f"{name}:3", opening="changed"
        )
        assert far.new_bytes < 25_000
        packer.push(f"{name}:4", far, store=tmp_path / "far")
        packer.pull(f"{name}:4", tmp_path / "pulled4", store=tmp_path / "third")
        assert (tmp_path / "pulled4" / "app.tgz").read_bytes() == archive(4)


def blob(files: dict[str, bytes]) -> dict[str, bytes]:
    """Return an image layout's blobs: named by their digest."""
    import hashlib

    return {f"blobs/sha256/{hashlib.sha256(data).hexdigest()}": data for data in files.values()}


OTHERS = {f"other/{name}": data for name, data in texts(2).items()}
THIRD = {f"third/{name}": data for name, data in texts(3).items()}
LONG_TEXTS = {f"{at}/{name}": data for at in range(10) for name, data in texts(10 + at).items()}
LONG = libdeflate(tar(changed(LONG_TEXTS, 1)))  # of two segments, about

CASES: dict[str, tuple[dict[str, bytes], dict[str, bytes], int]] = {
    "another level": (
        {"a.tgz": archive(1, lambda data: libdeflate(data, 6))},
        {"a.tgz": archive(2, lambda data: libdeflate(data, 9))},
        2,
    ),
    "another encoder": ({"a.tgz": archive(1, zlib_gzip)}, {"a.tgz": archive(2)}, 1),
    "insertion at the front": (
        {"a.tgz": archive(1)},
        {"a.tgz": libdeflate(tar({"a": random.Random(1).randbytes(1000), **changed(TEXTS, 2)}))},
        20,
    ),
    "renamed": ({"a-1.tgz": archive(1)}, {"sub/a-2.tgz": archive(2)}, 20),
    "renamed altogether": ({"old.tgz": archive(1)}, {"sub/new.tgz": archive(2)}, 20),
    "split into two": (
        {"a.tgz": archive(1)},
        {
            "front.tgz": libdeflate(tar(dict(sorted(changed(TEXTS, 2).items())[:20]))),
            "back.tgz": libdeflate(tar(dict(sorted(changed(TEXTS, 2).items())[20:]))),
        },
        10,
    ),
    "split into two, one of which keeps the name": (
        {"a.tgz": archive(1), "note": b"note"},
        {
            "a.tgz": libdeflate(tar(dict(sorted(changed(TEXTS, 2).items())[:20]))),
            "back.tgz": libdeflate(tar(dict(sorted(changed(TEXTS, 2).items())[20:]))),
            "note": b"note",
        },
        10,
    ),
    "merged of two": (
        {"a.tgz": archive(1), "b.tgz": libdeflate(tar(OTHERS)), "note": b"note"},
        {"all.tgz": libdeflate(tar(changed({**TEXTS, **OTHERS}, 2))), "note": b"note"},
        20,
    ),
    "two more merged into one": (
        {"a.tgz": archive(1), "b.zip": zipped(OTHERS), "c.tgz": libdeflate(tar(THIRD))},
        {"a.tgz": libdeflate(tar(changed({**TEXTS, **OTHERS, **THIRD}, 2)))},
        20,
    ),
    "one text in two archives": (
        {"a.tgz": archive(1), "b.tgz": libdeflate(tar(OTHERS))},
        {
            "a.tgz": libdeflate(tar(changed({**TEXTS, **THIRD}, 2))),
            "b.tgz": libdeflate(tar(changed({**OTHERS, **THIRD}, 2))),
        },
        2,
    ),
    "cut short": (
        {"a.tgz": LONG},
        {"a.tgz": libdeflate(tar(changed(LONG_TEXTS, 2)))[: len(LONG) * 3 // 4]},
        20,
    ),
    "cut short in its first segment": (
        {"a.tgz": archive(1)},
        {"a.tgz": archive(2)[: len(archive(1)) // 3]},
        20,
    ),
    "cut short within an archive": (
        {"a.airgap": libdeflate(tar({"1.tgz": archive(1), "2.tgz": archive(11)}))},
        {"a.airgap": libdeflate(tar({"1.tgz": archive(2)[:-20_000], "2.tgz": archive(11)}))},
        20,
    ),
    "both cut short": (
        {"a.tgz": archive(1)[: len(archive(1)) // 2]},
        {"a.tgz": archive(2)[: len(archive(1)) // 2 + 400]},
        20,
    ),
    "damaged": (
        {"a.tgz": archive(1)},
        {"a.tgz": archive(2)[: len(archive(1)) * 3 // 4] + b"\xff" * 20_000},
        2,
    ),
    "damaged before": (
        {"a.tgz": archive(1)[: len(archive(1)) * 3 // 4] + random.Random(4).randbytes(20_000)},
        {"a.tgz": archive(2)},
        2,
    ),
    "whole again": (
        {"a.tgz": LONG[: len(LONG) * 3 // 4]},
        {"a.tgz": libdeflate(tar(changed(LONG_TEXTS, 2)))},
        1,
    ),
    "shrunk to a tenth": (
        {"a.tgz": archive(1)},
        {"a.tgz": libdeflate(tar(dict(sorted(changed(TEXTS, 2).items())[:4])))},
        10,
    ),
    "a hundred times as large": (
        {"a.tgz": libdeflate(tar({**texts(7, 400), **changed(TEXTS, 1)}))},
        {"a.tgz": libdeflate(tar(dict(sorted(changed(TEXTS, 2).items())[:4])))},
        100,
    ),
    "archives in an archive": (
        {"a.airgap": libdeflate(tar({"1.tgz": archive(1), "2.tgz": archive(11), "x": b"y" * 9}))},
        {"a.airgap": libdeflate(tar({"1.tgz": archive(2), "2.tgz": archive(11), "x": b"z" * 9}))},
        20,
    ),
    "zip": ({"a.zip": zipped(changed(TEXTS, 1))}, {"a.zip": zipped(changed(TEXTS, 2))}, 5),
    "one entry of a zip": (
        {"a.zip": zipped(TEXTS)},
        {
            "a.zip": zipped(
                {**TEXTS, "chart/templates/7.yaml": b"new " + TEXTS["chart/templates/7.yaml"]}
            )
        },
        5,
    ),
    "blobs by digest": (
        blob({"a": archive(1), "b": libdeflate(tar(texts(5)))}),
        blob({"a": archive(2), "b": libdeflate(tar(changed(texts(5), 3)))}),
        20,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_one_update(case: str, tmp_path: Path) -> None:
    old, new, factor = CASES[case]
    history = History(tmp_path)
    first = history.pack(old)
    update = history.pack(new)
    size = sum(map(len, old.values()))
    print(f"{case}: {first.new_bytes} then {update.new_bytes}")
    assert first.new_bytes > 0.98 * size
    new_size = sum(map(len, new.values()))
    assert update.new_bytes < min(max(size, new_size) / factor + 3000, 0.9 * new_size)
    # And back again, and once more on top of that.
    history.pack(old)
    history.pack(new)


def test_a_text_that_has_nothing_to_do_with_its_predecessor_stays_closed(tmp_path: Path) -> None:
    history = History(tmp_path)
    history.pack({"a.tgz": archive(1)})
    history.pack(
        {"a.tgz": seven_zip(tar(texts(99))) if is_there("7-Zip") else libdeflate(tar(texts(99)))}
    )
    assert history.opened() == {}


def test_nothing_is_packed_again_if_nothing_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    history = History(tmp_path)
    for version in range(1, 4):
        history.pack({"a.tgz": archive(version), "x": b"1"})
    before = open_version("app:3", store=history.store).index
    again = history.pack({"a.tgz": archive(3), "x": b"2"})
    assert again.new_bytes < 2500
    after = open_version("app:4", store=history.store).index
    assert [row.digest for row in after.predecessors] == [row.digest for row in before.predecessors]
    # The same from another directory, where the stat cache knows nothing, and without it.
    shutil.rmtree(tmp_path / "in4")
    write(tmp_path / "elsewhere", {"a.tgz": archive(3), "x": b"2"})
    packer.pack(
        tmp_path / "elsewhere",
        store=history.store,
        tag="app:5",
        base="app:3",
        cache=False,
        opening="changed",
    )
    layers = [
        open_version(f"app:{version}", store=history.store).manifest.layers for version in (4, 5)
    ]
    assert layers[0] == layers[1]


def test_small_updates_are_merged_and_chains_go_on(tmp_path: Path) -> None:
    history = History(tmp_path)
    for version in range(1, 25):
        packed = history.pack({"a.tgz": archive(version % 3), "x": b"%d" % version})
        assert packed.new_bytes < (200_000 if version == 1 else 20_000)


def test_a_predecessor_in_a_layer_that_is_given_up(tmp_path: Path) -> None:
    """The layer of the first version becomes mostly dead: compaction gives it up."""
    history = History(tmp_path)
    drawn = random.Random(1)
    ballast = {f"big{at}": drawn.randbytes(400_000) for at in range(6)}
    history.pack({"a.tgz": archive(1), **ballast})
    history.pack({"a.tgz": archive(2)})
    history.pack({"a.tgz": archive(3), **{f"new{at}": drawn.randbytes(400_000) for at in range(3)}})
    version = open_version("app:3", store=history.store)
    stored = sum(layer.size for layer in version.manifest.data_layers)
    assert stored < 2_000_000  # without the ballast
    history.pack({"a.tgz": archive(4)})


def test_bzip2_is_opened_once_it_changes(tmp_path: Path) -> None:
    history = History(tmp_path)
    sizes = []
    for version in range(1, 4):
        data = bz2.compress(tar(changed(texts(files=80), version)))
        files = {"a.tar.bz2": data, "b.bz2": bz2.compress(b"same " * 9999)}
        # With a large file that stays, so that no layer is given up.
        sizes.append(history.pack({**files, "x": random.Random(1).randbytes(4_000_000)}))
        assert history.opened() == ({} if version == 1 else {"a.tar.bz2": 0})
    assert sizes[1].new_bytes > 100_000
    assert sizes[2].new_bytes < 10_000


@pytest.mark.parametrize("kind", ["tgz", "tar of tgz", "tar"])
def test_bzip2_within_archives_is_opened_where_it_changes(kind: str, tmp_path: Path) -> None:
    """As charts carry it: the first change costs its text, each further one what changed."""

    def chart(version: int, lines: int) -> bytes:
        crds = b"".join(texts(9, 30).values())
        crds = crds[:200_000] + b"# line %d\n" % lines + crds[200_000:]
        files = {"crds.bz2": bz2.compress(crds), "twice.bz2": 2 * bz2.compress(b"twice " * 9999)}
        inner = libdeflate(tar({**files, **changed(TEXTS, version)}, mtime=version))
        if kind == "tgz":
            return inner
        return tar({**(files if kind == "tar" else {}), "inner.tgz": inner})

    history, sizes = History(tmp_path), []
    for version, lines in ((1, 1), (2, 2), (3, 3), (4, 3), (5, 5)):
        files = {"a.bin": chart(version, lines), "x": random.Random(1).randbytes(2_000_000)}
        packed = history.pack(files)
        assert version == 1 or not packed.closed
        sizes.append(packed.new_bytes)
    if kind == "tgz":  # a reader by the text alone takes its time
        for entry in decoder.decode(history.store, "app:2"):
            assert entry.content == (tmp_path / "in2" / entry.path.decode()).read_bytes()
    assert sizes[1] > 90_000 and max(sizes[2:]) < 10_000, sizes
    found = [entry.path for entry in packer.ls("app:5", store=history.store, inside=True)]
    assert any("crds.bz2" in path for path in found)


@pytest.mark.parametrize("first", ["all", "none"])
def test_other_choices_before(first: str, tmp_path: Path) -> None:
    """What models opened stays so; what they cannot open is opened against its older self."""
    history = History(tmp_path, first)
    history.pack({"a.tgz": archive(1, zlib_gzip), "b.tgz": archive(1)})
    assert history.opened() == ({"a.tgz": 0} if first == "all" else {})
    for opening in ("changed", "all"):
        history.opening = opening
        history.pack(
            {"a.tgz": archive(history.count + 1, zlib_gzip), "b.tgz": archive(history.count + 1)}
        )
        assert history.opened() == {"a.tgz": 0 if first == "all" else 1, "b.tgz": 1}
    history.opening = "none"
    history.pack({"a.tgz": archive(9, zlib_gzip), "b.tgz": archive(9)})
    assert history.opened() == {}


def test_the_number_of_threads_does_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digests = set()
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    for count in (1, 4):
        monkeypatch.setattr("os.cpu_count", lambda count=count: count)
        history = History(tmp_path / str(count))
        for version in (1, 2):
            packed = history.pack(
                {
                    "a.airgap": libdeflate(tar({"1.tgz": archive(version), "2.tgz": archive(9)})),
                    "a.zip": zipped(changed(TEXTS, version)),
                }
            )
        digests.add(packed.digest)
    assert len(digests) == 1
