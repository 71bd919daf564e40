"""What every store must do; see conftest.py for how to add one."""

from __future__ import annotations

import hashlib
import io
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, BinaryIO, cast

import pytest

from packer.errors import (
    DigestMismatch,
    FormatError,
    IntegrityError,
    InvalidParameter,
    NotFound,
    SizeMismatch,
    StoreError,
)
from packer.oci import (
    CONFIG_TYPE,
    DATA_TYPE,
    INDEX_MANIFEST_TYPE,
    INDEX_TYPE,
    MANIFEST_TYPE,
    Descriptor,
    Manifest,
    canonical_json,
    digest_of,
)
from packer.stores.partial import PartialIngest
from packer.stores.protocols import Ingest, LocalBlobs, Store, Tags, read_blob

if TYPE_CHECKING:
    from tests.stores.conftest import Harness

LARGE = hashlib.shake_256(b"large").digest((3 << 20) + 17)  # more than READ_BYTES, incompressible


def describe(data: bytes, media_type: str = DATA_TYPE) -> Descriptor:
    return Descriptor(media_type, digest_of(data), len(data))


class Trickle:
    """A source that gives few bytes at a time and cannot go anywhere but to its beginning."""

    def __init__(self, data: bytes, step: int = 1000, fail_at: int | None = None) -> None:
        self._data = data
        self._step = step
        self._fail_at = fail_at
        self._at = 0

    def read(self, size: int = -1) -> bytes:
        step = self._step if size < 0 else min(size, self._step)
        part = self._data[self._at : self._at + step]
        self._at += len(part)
        if self._fail_at is not None and self._at >= self._fail_at:
            raise ConnectionResetError("the source broke off")
        return part

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        assert (offset, whence) == (0, 0), "a source may only be rewound"
        self._at = 0
        return 0

    def __enter__(self) -> Trickle:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def trickle(data: bytes, step: int = 1000, fail_at: int | None = None) -> BinaryIO:
    return cast(BinaryIO, Trickle(data, step, fail_at))


# Blobs


@pytest.mark.parametrize("data", [b"", b"x", b"some bytes", LARGE], ids=["0", "1", "10", "3M"])
def test_a_pushed_blob_comes_back(harness: Harness, data: bytes) -> None:
    blob = describe(data)
    assert not harness.store.exists(blob)
    assert harness.store.push(blob, io.BytesIO(data))
    for store in (harness.store, harness.open()):  # also for who comes later
        assert store.exists(blob)
        assert read_blob(store, blob, len(data)) == data
        with store.fetch(blob) as reader:
            parts = list(iter(lambda reader=reader: reader.read(4096), b""))  # type: ignore[misc]
            assert b"".join(parts) == data
            assert reader.read(10) == b""
    assert harness.raw(blob.digest) == data


def test_a_blob_that_is_there_is_not_stored_again(harness: Harness) -> None:
    blob = harness.push(b"twice")
    assert harness.store.push(blob, io.BytesIO(b"twice")) is False
    # The media type is no part of a blob's identity: the same bytes may be named in another way.
    assert harness.store.push(describe(b"twice", CONFIG_TYPE), io.BytesIO(b"twice")) is False
    assert read_blob(harness.store, blob, 5) == b"twice"


def test_a_source_may_give_few_bytes_at_a_time(harness: Harness) -> None:
    data = LARGE[:100_000]
    assert harness.store.push(describe(data), trickle(data, 999))
    assert harness.raw(digest_of(data)) == data


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param(b"good bytes, evil twin", DigestMismatch, id="digest"),
        pytest.param(b"good bytes", SizeMismatch, id="short"),
        pytest.param(b"", SizeMismatch, id="empty"),
        pytest.param(b"good bytes, good twin, tail", SizeMismatch, id="long"),
        pytest.param(b"good bytes, good twin" + LARGE, SizeMismatch, id="much-too-long"),
    ],
)
@pytest.mark.parametrize("step", [5, 1 << 20])
def test_a_source_that_differs_from_its_descriptor_is_refused(
    harness: Harness, given: bytes, expected: type[Exception], step: int
) -> None:
    good = b"good bytes, good twin"
    if step == 5:
        given = given[:1000]
    blob = describe(good)
    with pytest.raises(expected) as caught:
        harness.store.push(blob, trickle(given, step))
    assert blob.digest in str(caught.value)  # an error that does not say on what helps nobody
    assert not harness.store.exists(blob)
    assert harness.raw(blob.digest) is None
    assert harness.raw(digest_of(given)) is None
    assert harness.leftovers() == []
    assert harness.store.push(blob, io.BytesIO(good))  # and nothing is in the way of the right one


def test_a_source_without_end_is_refused_soon(harness: Harness) -> None:
    class Endless(Trickle):
        def read(self, size: int = -1) -> bytes:
            self._at += size
            assert self._at < 64 << 20, "still reading"
            return bytes(size)

    with pytest.raises(SizeMismatch):
        harness.store.push(describe(b"short"), cast(BinaryIO, Endless(b"")))
    assert harness.leftovers() == []


def test_an_error_of_the_source_passes_through(harness: Harness) -> None:
    blob = describe(LARGE)
    with pytest.raises(ConnectionResetError, match="broke off"):
        harness.store.push(blob, trickle(LARGE, 1 << 18, fail_at=1 << 20))
    assert not harness.store.exists(blob)
    assert harness.leftovers() == []


def test_a_missing_blob_is_not_found(harness: Harness) -> None:
    blob = describe(b"nobody pushed this")
    assert not harness.store.exists(blob)
    with pytest.raises(NotFound) as caught, harness.store.fetch(blob) as reader:
        reader.read()
    assert (caught.value.kind, caught.value.name) == ("blob", blob.digest)


def test_exists_asks_for_the_size_too(harness: Harness) -> None:
    blob = harness.push(b"five!")
    assert not harness.store.exists(Descriptor(DATA_TYPE, blob.digest, 6))


@pytest.mark.parametrize(
    ("start", "length"), [(0, 0), (0, 1), (0, 100), (37, 5), (99, 1), (100, 0), (40, None)]
)
def test_a_range_is_what_was_asked_for(harness: Harness, start: int, length: int | None) -> None:
    data = bytes(range(100))
    blob = harness.push(data)
    end = 100 if length is None else start + length
    with harness.store.fetch(blob, start, length) as reader:
        assert reader.read() == data[start:end]
        assert reader.read() == b""
    with harness.store.fetch(blob, start, length) as reader:
        assert b"".join(iter(lambda: reader.read(3), b"")) == data[start:end]


@pytest.mark.parametrize(("start", "length"), [(-1, 2), (0, 101), (101, None), (50, 51), (5, -1)])
def test_a_range_outside_the_blob_is_refused(
    harness: Harness, start: int, length: int | None
) -> None:
    blob = harness.push(bytes(100))
    with pytest.raises(SizeMismatch):
        harness.store.fetch(blob, start, length)


# Damage


@pytest.mark.parametrize("at", [0, 1 << 20, len(LARGE) - 1])
def test_a_flipped_byte_is_detected(harness: Harness, at: int) -> None:
    blob = harness.push(LARGE)
    harness.replace(blob.digest, LARGE[:at] + bytes([LARGE[at] ^ 1]) + LARGE[at + 1 :])
    with pytest.raises(DigestMismatch) as caught, harness.store.fetch(blob) as reader:
        while reader.read(65536):
            pass
    assert caught.value.expected == blob.digest


@pytest.mark.parametrize("size", [0, 1, 999, 1001, 5000])
def test_a_truncated_or_extended_blob_is_detected(harness: Harness, size: int) -> None:
    blob = harness.push(LARGE[:1000])
    harness.replace(blob.digest, LARGE[:size])
    with (
        pytest.raises((IntegrityError, StoreError)),
        harness.open().fetch(blob) as reader,
    ):
        while reader.read(64):
            pass


def test_a_damaged_manifest_is_never_returned(harness: Harness) -> None:
    descriptor = harness.put("one", "app")
    good = harness.raw(descriptor.digest)
    assert good is not None
    for bad in (good.replace(b"one", b"two"), good[:-1], good + b" ", b""):
        harness.replace(descriptor.digest, bad)
        for reference in ("app", descriptor.digest):
            with pytest.raises((IntegrityError, StoreError, NotFound)):
                harness.open().get_manifest(reference)


def test_putting_a_damaged_manifest_again_repairs_it(harness: Harness) -> None:
    if not harness.repairs_manifests:
        pytest.skip("the server keeps what it has under a digest")
    descriptor = harness.put("one", "app")
    good = harness.raw(descriptor.digest)
    assert good is not None
    harness.replace(descriptor.digest, good.replace(b"one", b"two"))
    harness.store.put_manifest(good, MANIFEST_TYPE, "app")
    assert harness.store.get_manifest("app") == (descriptor, good)


def test_a_damaged_blob_can_be_repaired(harness: Harness) -> None:
    blob = harness.push(b"sound")
    discard = getattr(harness.store, "discard", None)
    if discard is None:
        pytest.skip("the store has no discard")
    assert discard(blob) is False
    assert discard(describe(b"absent")) is False
    assert harness.raw(blob.digest) == b"sound"
    harness.replace(blob.digest, b"sOund")
    assert discard(blob) is True
    assert harness.store.push(blob, io.BytesIO(b"sound")) is True
    assert read_blob(harness.store, blob, 5) == b"sound"


# Writers


def test_a_writer_learns_the_digest_at_the_end(harness: Harness) -> None:
    with harness.ingest.create() as writer:
        assert writer.write(LARGE[:10]) == 10
        assert writer.write(bytearray(LARGE[10:1000])) == 990
        assert writer.write(b"") == 0
        assert writer.write(memoryview(LARGE)[1000:]) == len(LARGE) - 1000
        assert writer.commit(DATA_TYPE) == (describe(LARGE), True)
    assert read_blob(harness.store, describe(LARGE), len(LARGE)) == LARGE
    with harness.ingest.create() as writer:
        writer.write(LARGE)
        assert writer.commit(DATA_TYPE) == (describe(LARGE), False)
    with harness.ingest.create() as writer:
        assert writer.commit(DATA_TYPE) == (describe(b""), True)
    assert harness.leftovers() == []


def test_a_writer_keeps_no_reference_to_the_callers_buffer(harness: Harness) -> None:
    buffer = bytearray(b"first")
    with harness.ingest.create() as writer:
        writer.write(buffer)
        buffer[:] = b"later"
        blob, _ = writer.commit(DATA_TYPE)
    assert harness.raw(blob.digest) == b"first"
    assert blob.digest == digest_of(b"first")


def test_what_is_not_committed_is_discarded(harness: Harness) -> None:
    with harness.ingest.create() as writer:
        writer.write(b"never mind")
    with pytest.raises(ZeroDivisionError), harness.ingest.create() as writer:
        writer.write(b"never mind")
        raise ZeroDivisionError
    assert harness.raw(digest_of(b"never mind")) is None
    assert harness.leftovers() == []


def test_a_writer_is_done_after_commit(harness: Harness) -> None:
    with harness.ingest.create() as writer:
        writer.commit(DATA_TYPE)
        with pytest.raises(ValueError, match="committed"):
            writer.write(b"more")
        with pytest.raises(ValueError, match="committed"):
            writer.commit(DATA_TYPE)


def test_a_blob_opens_for_random_access(harness: Harness) -> None:
    blob = harness.push(LARGE)
    with harness.local.open_file(blob) as file:
        file.seek(1000)
        assert file.read(10) == LARGE[1000:1010]
        harness.replace(blob.digest, None)
        file.seek(0)
        assert file.read(10) == LARGE[:10]  # a collected blob does not break who reads it
    with pytest.raises(NotFound):
        harness.local.open_file(blob)
    blob = harness.push(b"size")
    harness.replace(blob.digest, b"other size")
    with pytest.raises(SizeMismatch):
        harness.local.open_file(blob)


# Manifests and tags


def test_a_manifest_comes_back_by_tag_and_digest(harness: Harness) -> None:
    data = harness.manifest()
    descriptor = harness.store.put_manifest(data, MANIFEST_TYPE, "v1.0")
    assert descriptor == describe(data, MANIFEST_TYPE)
    for store in (harness.store, harness.open()):
        for reference in ("v1.0", descriptor.digest):
            assert store.get_manifest(reference) == (descriptor, data)
            assert store.resolve(reference) == descriptor


def test_putting_a_manifest_again_changes_nothing(harness: Harness) -> None:
    data = harness.manifest()
    first = harness.store.put_manifest(data, MANIFEST_TYPE, "v1")
    assert harness.store.put_manifest(data, MANIFEST_TYPE, "v1") == first
    assert harness.store.put_manifest(data, MANIFEST_TYPE) == first
    assert harness.store.resolve("v1") == first


def test_a_manifest_without_a_tag_is_found_by_digest(harness: Harness) -> None:
    descriptor = harness.put("untagged", None)
    assert harness.open().resolve(descriptor.digest) == descriptor
    assert harness.open().get_manifest(descriptor.digest)[0] == descriptor


@pytest.mark.parametrize("reference", ["nothing", "sha256:" + "0" * 64])
def test_an_unknown_reference_is_not_found(harness: Harness, reference: str) -> None:
    harness.put("something", "else")
    for call in (harness.store.resolve, harness.store.get_manifest):
        with pytest.raises(NotFound) as caught:
            call(reference)
        assert reference in str(caught.value)


def test_a_manifest_with_a_missing_blob_is_refused(harness: Harness) -> None:
    config, layer = harness.push(b"{}", CONFIG_TYPE), harness.push(b"layer", INDEX_TYPE)
    absent = describe(b"absent", INDEX_TYPE)
    for manifest, missing in (
        (Manifest(config, (layer, absent)), absent.digest),
        (Manifest(describe(b"absent", CONFIG_TYPE), (layer,)), absent.digest),
    ):
        data = manifest.encode()
        with pytest.raises(NotFound) as caught:
            harness.store.put_manifest(data, MANIFEST_TYPE, "broken")
        assert (caught.value.kind, caught.value.name) == ("blob", missing)
        with pytest.raises(NotFound):
            harness.store.resolve("broken")
        with pytest.raises(NotFound):
            harness.store.resolve(digest_of(data))


def test_a_refused_manifest_leaves_its_tag_alone(harness: Harness) -> None:
    before = harness.put("good", "app")
    bad = Manifest(harness.push(b"{}", CONFIG_TYPE), (describe(b"absent", INDEX_TYPE),)).encode()
    with pytest.raises(NotFound):
        harness.store.put_manifest(bad, MANIFEST_TYPE, "app")
    assert harness.store.resolve("app") == before


def test_a_manifest_whose_blobs_are_promised(harness: Harness) -> None:
    store = harness.partial
    config, here = harness.push(b"{}", CONFIG_TYPE), harness.push(b"here", INDEX_TYPE)
    there = describe(b"there", INDEX_TYPE)
    data = Manifest(config, (here, there)).encode()
    digest = digest_of(data)
    other = json.dumps([{"blobs": [here.digest], "tag": "r.example/app:1"}])
    with pytest.raises(NotFound) as caught:
        store.put_partial(data, MANIFEST_TYPE, "v1", other)
    assert caught.value.name == there.digest
    promises = json.dumps([{"blobs": [there.digest], "tag": "r.example/app:1"}])
    # Without a tag it is there, but nothing is noted: no other tag may name it.
    store.put_partial(data, MANIFEST_TYPE, None, promises)
    assert store.get_manifest(digest)[1] == data
    assert store.promises(digest) is None
    with pytest.raises(NotFound):
        store.put_manifest(data, MANIFEST_TYPE, "v1")
    store.put_partial(data, MANIFEST_TYPE, "v1", promises)
    again = harness.open()
    assert isinstance(again, PartialIngest)
    assert again.promises(digest) == promises
    store.put_manifest(data, MANIFEST_TYPE, "v2")
    assert store.resolve("v2").digest == digest
    # Once all is there, it is a version as any other.
    harness.push(b"there", INDEX_TYPE)
    store.put_manifest(data, MANIFEST_TYPE, "v3")
    assert read_blob(store, there, 10) == b"there"


def test_artifacts_and_indexes_of_other_tools_are_taken(harness: Harness) -> None:
    config = harness.push(b"{}", "application/vnd.oci.empty.v1+json")
    layer = harness.push(b"chart", "application/vnd.cncf.helm.chart.content.v1.tar+gzip")
    chart = canonical_json(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": config.to_json(),
            "layers": [layer.to_json()],
        }
    )
    child = harness.store.put_manifest(chart, MANIFEST_TYPE)
    index = canonical_json(
        {
            "schemaVersion": 2,
            "mediaType": INDEX_MANIFEST_TYPE,
            "manifests": [
                {**child.to_json(), "platform": {"os": "linux", "architecture": "arm64"}}
            ],
        }
    )
    descriptor = harness.store.put_manifest(index, INDEX_MANIFEST_TYPE, "multi")
    assert harness.open().get_manifest("multi") == (descriptor, index)
    assert harness.open().get_manifest(child.digest) == (child, chart)
    lone = canonical_json(
        {
            "schemaVersion": 2,
            "mediaType": INDEX_MANIFEST_TYPE,
            "manifests": [describe(b"{}", MANIFEST_TYPE).to_json() | {"size": 3}],
        }
    )
    if not harness.checks_children:
        return
    with pytest.raises(NotFound):
        harness.store.put_manifest(lone, INDEX_MANIFEST_TYPE, "lone")


def test_a_tag_moves(harness: Harness) -> None:
    first, second = harness.put("first", "app"), harness.put("second", "app")
    assert first != second
    assert harness.open().resolve("app") == second
    assert harness.store.get_manifest(first.digest)[0] == first  # still there, by digest


def test_tags_come_in_the_order_they_were_moved(harness: Harness) -> None:
    tags = harness.tagged
    assert list(tags.tags()) == []
    one, two, three = (harness.put(text, f"v{text}") for text in "123")
    assert list(tags.tags()) == [("v1", one), ("v2", two), ("v3", three)]
    data = harness.store.get_manifest("v1")[1]
    harness.store.put_manifest(data, MANIFEST_TYPE, "v1")
    if harness.orders_tags:
        assert [tag for tag, _ in tags.tags()] == ["v2", "v3", "v1"]
    harness.store.put_manifest(data, MANIFEST_TYPE, "v2")  # one manifest, two names
    reopened = harness.open()
    assert isinstance(reopened, Tags)
    expected = [("v3", three), ("v1", one), ("v2", one)]
    found = list(reopened.tags())
    assert found == expected if harness.orders_tags else dict(found) == dict(expected)


def test_untag_removes_the_name_only(harness: Harness) -> None:
    if not harness.untags:
        pytest.skip("the server cannot remove tags")
    descriptor = harness.put("text", "a")
    harness.store.put_manifest(harness.store.get_manifest("a")[1], MANIFEST_TYPE, "b")
    harness.tagged.untag("a")
    assert list(harness.tagged.tags()) == [("b", descriptor)]
    with pytest.raises(NotFound):
        harness.store.resolve("a")
    with pytest.raises(NotFound):
        harness.tagged.untag("a")
    harness.tagged.untag("b")
    assert harness.store.get_manifest(descriptor.digest)[0] == descriptor


@pytest.mark.parametrize(
    "tag", ["", "a b", "a\n", "-a", "../up", "é", "a" * 256, "sha256:" + "0" * 64]
)
def test_a_malformed_tag_is_refused(harness: Harness, tag: str) -> None:
    data = harness.manifest()
    with pytest.raises((InvalidParameter, StoreError)):
        harness.store.put_manifest(data, MANIFEST_TYPE, tag)
    with pytest.raises(NotFound):
        harness.store.resolve(digest_of(data))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not json",
        b"[]",
        b"{}",
        b'{"layers":{}}',
        b'{"layers":[7]}',
        b'{"layers":[],"manifests":[]}',
        b'{"config":{"mediaType":"x","digest":"sha256:../../etc/passwd","size":1}}',
        b'{"layers":' + b"[" * 100_000,
    ],
)
def test_what_is_no_manifest_is_refused(harness: Harness, data: bytes) -> None:
    with pytest.raises((FormatError, StoreError)):
        harness.store.put_manifest(data, MANIFEST_TYPE, "bad")
    with pytest.raises(NotFound):
        harness.store.resolve("bad")


# Many at once


def test_threads_push_the_same_blob(harness: Harness) -> None:
    blobs = [describe(LARGE[: 1000 + i]) for i in range(8)]
    barrier = threading.Barrier(8)

    def push(_: int) -> list[bool]:
        barrier.wait()
        return [harness.store.push(blob, io.BytesIO(LARGE[: blob.size])) for blob in blobs]

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(push, range(8)))
    for blob, new in zip(blobs, zip(*results, strict=True), strict=True):
        assert any(new)
        assert harness.raw(blob.digest) == LARGE[: blob.size]
    assert harness.leftovers() == []


def test_threads_move_tags(harness: Harness) -> None:
    manifests = {f"v{i}": harness.manifest(f"text {i}") for i in range(8)}
    barrier = threading.Barrier(len(manifests))

    def put(tag: str) -> None:
        barrier.wait()
        for name in (tag, "latest", tag + "-again"):
            harness.store.put_manifest(manifests[tag], MANIFEST_TYPE, name)

    with ThreadPoolExecutor(len(manifests)) as pool:
        list(pool.map(put, manifests))
    for tag, data in manifests.items():  # no update was lost
        assert harness.store.get_manifest(tag)[1] == data
        assert harness.store.get_manifest(tag + "-again")[1] == data
    assert harness.store.get_manifest("latest")[1] in manifests.values()


def test_capabilities_are_what_they_claim(harness: Harness) -> None:
    assert isinstance(harness.store, Store)
    assert harness.store.name
    for capability in (Ingest, Tags, LocalBlobs):
        assert isinstance(harness.store, capability) == isinstance(harness.open(), capability)


def test_reading_tags_while_they_move_is_safe(harness: Harness) -> None:
    data = harness.manifest()
    harness.store.put_manifest(data, MANIFEST_TYPE, "a")
    iterator = harness.tagged.tags()
    assert next(iterator)[0] == "a"
    harness.store.put_manifest(data, MANIFEST_TYPE, "b")
    assert [tag for tag, _ in iterator] in ([], ["b"])
