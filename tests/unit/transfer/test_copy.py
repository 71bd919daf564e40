"""Copying between stores: order, interruptions, counting."""

from __future__ import annotations

import contextlib
import json
import threading
from typing import BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packer.errors import (
    DigestMismatch,
    InvalidParameter,
    NotFound,
    PackerError,
    StoreError,
    UnsupportedVersion,
)
from packer.oci import MANIFEST_TYPE, Descriptor, digest_of
from packer.progress import Progress
from packer.stores.manifests import read_graph
from packer.stores.memory import MemoryStore
from packer.stores.protocols import read_blob
from packer.transfer.copy_graph import CopyResult, copy
from tests.artifacts import make
from tests.builders import noise


class Recorder(MemoryStore):
    """Writes operations down, and fails at a given one of its writes."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[str] = []
        self.fail_at: int | None = None
        self._guard = threading.Lock()

    def _write(self, what: str) -> None:
        with self._guard:
            if self.fail_at is not None:
                self.fail_at -= 1
                if self.fail_at < 0:
                    raise StoreError("the disk is on fire")
            self.events.append(what)

    def push(self, blob: Descriptor, source: BinaryIO) -> bool:
        self._write(f"push {blob.digest}")
        return super().push(blob, source)

    def put_manifest(self, data: bytes, media_type: str, tag: str | None = None) -> Descriptor:
        self._write("manifest")
        return super().put_manifest(data, media_type, tag)


@pytest.mark.parametrize("jobs", [1, 2, 4, 64])
def test_order_and_result(jobs: int) -> None:
    source, target = MemoryStore(), Recorder()
    made = make(source, [10, 3 << 20, 0, 500, 2 << 20, 10])
    result = copy(source, "v1", target, "here", jobs=jobs)
    total = 10 + (3 << 20) + 500 + (2 << 20) + 2
    assert result == CopyResult(made, 6, total, 0, False)
    assert target.get_manifest("here") == source.get_manifest("v1")
    config = json.loads(source.get_manifest("v1")[1])["config"]["digest"]
    # Layers in any order among themselves, then the config, then the manifest with its tag.
    assert target.events[-2:] == [f"push {config}", "manifest"]
    assert len(target.events) == 7
    again = copy(source, "v1", target, "here", jobs=jobs)
    assert again == CopyResult(made, 0, 0, 6, True)
    assert len(target.events) == 7


@pytest.mark.parametrize("jobs", [1, 3])
def test_interrupted_at_every_write(jobs: int) -> None:
    source = MemoryStore()
    made = make(source, [100, 200, 300, 400])
    for fail_at in range(6):
        target = Recorder()
        target.fail_at = fail_at
        with pytest.raises(StoreError, match="fire"):
            copy(source, "v1", target, "v1", jobs=jobs)
        assert list(target.tags()) == []
        stored = len(target.events)
        target.fail_at = None
        result = copy(source, "v1", target, "v1", jobs=jobs)
        # What was stored before is not sent again.
        assert (result.blobs_copied, result.blobs_present) == (5 - stored, stored)
        assert list(target.tags()) == [("v1", made)]


def test_missing_blob_under_an_unchanged_tag_is_repaired() -> None:
    source, target = MemoryStore(), MemoryStore()
    make(source, [100, 200])
    copy(source, "v1", target, "v1")
    lost = digest_of(noise("layer 200", 200))
    del target._blobs[lost]
    result = copy(source, "v1", target, "v1")
    assert (result.blobs_copied, result.blobs_present, result.unchanged) == (1, 2, False)
    assert read_blob(target, Descriptor("x", lost, 200), 1000) == noise("layer 200", 200)


def test_new_tag_for_what_is_there() -> None:
    source, target = MemoryStore(), MemoryStore()
    made = make(source, [100])
    copy(source, "v1", target, "v1")
    result = copy(source, made.digest, target, "v2")
    assert (result.blobs_copied, result.unchanged) == (0, False)
    assert target.resolve("v2") == made
    assert copy(source, "v1", target, None).unchanged


def test_damaged_source() -> None:
    source, target = MemoryStore(), MemoryStore()
    make(source, [100, 200])
    source._blobs[digest_of(noise("layer 200", 200))] = bytes(200)
    with pytest.raises(DigestMismatch):
        copy(source, "v1", target, "v1")
    assert list(target.tags()) == []


def test_refusals() -> None:
    source = MemoryStore()
    make(source, [1])
    with pytest.raises(NotFound):
        copy(source, "v2", MemoryStore(), "v2")
    with pytest.raises(InvalidParameter):
        copy(source, "v1", MemoryStore(), "v1", jobs=0)
    with pytest.raises(UnsupportedVersion, match="image index"):
        read_graph(b'{"schemaVersion":2,"manifests":[]}', "manifest")


def test_progress() -> None:
    source = MemoryStore()
    make(source, [3 << 20, 100, 2 << 20])
    seen: list[Progress] = []
    inside = 0

    def record(progress: Progress) -> None:
        nonlocal inside
        inside += 1
        assert inside == 1  # never called from two threads at once
        seen.append(progress)
        inside -= 1

    result = copy(source, "v1", MemoryStore(), "v1", progress=record)
    assert seen[0] == Progress("copy", 0, result.bytes_copied)
    assert seen[-1].done_bytes == seen[-1].total_bytes == result.bytes_copied
    done = [progress.done_bytes for progress in seen]
    assert done == sorted(done)


def test_error_of_the_progress_callback_passes_through() -> None:
    source, target = MemoryStore(), MemoryStore()
    make(source, [3 << 20, 100, 2 << 20])

    def fail(_: Progress) -> None:
        raise RuntimeError("display is gone")

    with pytest.raises(RuntimeError, match="display"):
        copy(source, "v1", target, "v1", progress=fail)
    assert list(target.tags()) == []


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


@given(
    st.dictionaries(
        st.sampled_from(["schemaVersion", "mediaType", "config", "layers", "annotations", "x"]),
        _JSON | st.just(2) | st.just(MANIFEST_TYPE),
    )
)
def test_graph_of_anything(value: dict[str, object]) -> None:
    with contextlib.suppress(PackerError):  # and nothing else
        read_graph(json.dumps(value).encode(), "manifest")
