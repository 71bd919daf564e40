"""Layers in a registry are fetched before they are asked for: several at once, few requests."""

from __future__ import annotations

import io
import random
import threading
import time
from pathlib import Path

import pytest

import packer
from packer.errors import DigestMismatch, NotFound, SizeMismatch, TransportError
from packer.format.blob_ranges import BlobRanges
from packer.format.reading_ahead import (
    AHEAD_BYTES,
    GAP_BYTES,
    REQUESTS,
    SPAN_BYTES,
    WHOLE_BYTES,
    read_blobs,
)
from packer.oci import Descriptor, digest_of
from packer.stores.protocols import Reader, read_blob
from tests.hostile import hostile_registry


class Remote:
    """A store elsewhere, which counts its requests, and how many are made at once."""

    name = "remote"
    ignores_ranges = False

    def __init__(self, *blobs: bytes) -> None:
        self.blobs = {digest_of(data): data for data in blobs}
        self.asked: list[tuple[str, int, int | None]] = []
        self.most = 0
        self.delay = 0.0
        self.meet: threading.Barrier | None = None
        self._now = 0
        self._lock = threading.Lock()

    def layers(self) -> list[Descriptor]:
        return [Descriptor("", digest, len(data)) for digest, data in self.blobs.items()]

    def fetch(self, blob: Descriptor, start: int = 0, length: int | None = None) -> Reader:
        with self._lock:
            self.asked.append((blob.digest, start, length))
            self._now += 1
            self.most = max(self.most, self._now)
        try:
            time.sleep(self.delay)
            if self.meet is not None:
                self.meet.wait(20)
            if blob.digest not in self.blobs:
                raise NotFound("blob", blob.digest, self.name)
            data = self.blobs[blob.digest]
            end = len(data) if length is None else start + length
            if start == 0 and length is None and digest_of(data) != blob.digest:
                raise DigestMismatch("blob", blob.digest, digest_of(data))
            return io.BytesIO(data[start:end])
        finally:
            with self._lock:
                self._now -= 1


def noise(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


def opened(store: Remote) -> BlobRanges:
    return BlobRanges(store, store.layers())  # type: ignore[arg-type]


def test_small_layers_come_whole_and_several_at_once() -> None:
    store = Remote(*(noise(at, 300) for at in range(REQUESTS)))
    store.meet = threading.Barrier(REQUESTS)
    wanted = [(at, offset, 100) for at in range(REQUESTS) for offset in (0, 100, 200)]
    with opened(store) as ranges:
        ranges.expect(wanted)
        for at, offset, length in wanted:
            assert ranges.read(at, offset, length) == noise(at, 300)[offset : offset + length]
    assert store.most == REQUESTS
    assert len(store.asked) == REQUESTS


def test_neighbours_in_a_large_layer_are_one_request() -> None:
    data = noise(1, 4 * SPAN_BYTES)
    store = Remote(data, noise(2, WHOLE_BYTES))
    near = [(0, 1000 * at, 900) for at in range(20)]
    far = (0, 20_000 + GAP_BYTES, 50)
    large = (0, 3 * SPAN_BYTES - 1, SPAN_BYTES + 1)
    with opened(store) as ranges:
        ranges.expect([*near, far, large, (1, 5, 5)])
        for layer, offset, length in [*near, far, large]:
            assert ranges.read(layer, offset, length) == data[offset : offset + length]
        assert ranges.read(1, 5, 5) == noise(2, WHOLE_BYTES)[5:10]
    parts = [(start, length) for _, start, length in store.asked]
    assert len(parts) == 4
    assert set(parts) == {(0, None), (0, 19_900), (far[1], 50), large[1:]}


def test_what_is_read_again_is_fetched_again() -> None:
    store = Remote(noise(1, 100), noise(2, 100))
    with opened(store) as ranges:
        ranges.expect([(0, 0, 10), (1, 0, 10)])
        for _ in range(3):
            assert ranges.read(0, 0, 10) == noise(1, 100)[:10]


def test_memory_is_bounded() -> None:
    count = 2 * AHEAD_BYTES // WHOLE_BYTES
    store = Remote(*(noise(at, WHOLE_BYTES) for at in range(count)))
    wanted = [(at, 0, 9) for at in range(count)]
    with opened(store) as ranges:
        ranges.expect(wanted)
        for at, offset, length in wanted[: count // 4]:
            ranges.read(at, offset, length)
        assert len(store.asked) <= count // 2 + count // 4
        for at, offset, length in reversed(wanted):  # in no expected order
            assert ranges.read(at, offset, length) == noise(at, WHOLE_BYTES)[:9]


def test_failures_are_those_of_reading_one_by_one() -> None:
    store = Remote(noise(1, 100), noise(2, 100), noise(3, 100), noise(4, 100))
    layers = store.layers()
    store.blobs[layers[0].digest] = noise(1, 100)[:50]
    del store.blobs[layers[1].digest]
    store.blobs[layers[2].digest] = bytes(50) + noise(3, 100)[50:]
    with BlobRanges(store, layers) as ranges:  # type: ignore[arg-type]
        ranges.expect([(at, 60, 10) for at in range(4)])
        with pytest.raises(SizeMismatch, match=layers[0].digest):
            ranges.read(0, 60, 10)
        with pytest.raises(NotFound, match=layers[1].digest):
            ranges.read(1, 60, 10)
        # The damage lies elsewhere in the layer; chunks have digests of their own.
        assert ranges.read(2, 60, 10) == noise(3, 100)[60:70]
        assert ranges.read(3, 60, 10) == noise(4, 100)[60:70]


def test_a_registry_that_fails_is_not_asked_twice_as_often(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = Remote(noise(1, 100), noise(2, 100))

    def fail(blob: Descriptor, start: int = 0, length: int | None = None) -> Reader:
        store.asked.append((blob.digest, start, length))
        raise TransportError("no answer after all attempts", retryable=True)

    monkeypatch.setattr(store, "fetch", fail)
    with opened(store) as ranges:
        ranges.expect([(0, 0, 10), (1, 0, 10)])
        for at in range(2):
            with pytest.raises(TransportError):
                ranges.read(at, 0, 10)
    assert len(store.asked) == 2


def test_closing_breaks_off_what_is_being_fetched() -> None:
    # Else a command whose reader has gone (`cat | head`) would wait for it before it ends.
    class Slow(io.BytesIO):
        reads = 0

        def read(self, size: int | None = -1, /) -> bytes:
            self.reads += 1
            time.sleep(0.5)
            return super().read(size)

    store = Remote(noise(1, 40 * SPAN_BYTES), noise(2, 100))
    readers: list[Slow] = []

    def fetch(blob: Descriptor, start: int = 0, length: int | None = None) -> Reader:
        readers.append(Slow(store.blobs[blob.digest][start : start + (length or blob.size)]))
        return readers[-1]

    store.fetch = fetch  # type: ignore[method-assign]
    with opened(store) as ranges:
        ranges.expect([(0, 0, SPAN_BYTES), (0, 20 * SPAN_BYTES, SPAN_BYTES), (1, 0, 9)])
        time.sleep(0.02)
    deadline = time.monotonic() + 60
    while not all(reader.closed for reader in readers):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert max(reader.reads for reader in readers) < 8  # which make a span


def test_a_registry_without_ranges_is_asked_for_small_layers_only() -> None:
    store = Remote(noise(1, 2 * WHOLE_BYTES), noise(2, 100), noise(3, 100))
    store.ignores_ranges = True
    with opened(store) as ranges:
        ranges.expect([(0, 0, 10), (0, 90_000, 10), (1, 0, 10), (2, 0, 10)])
        assert ranges.read(1, 0, 10) == noise(2, 100)[:10]
        assert ranges.read(2, 0, 10) == noise(3, 100)[:10]
    assert store.layers()[0].digest not in {digest for digest, _, _ in store.asked}


def test_index_layers_are_read_several_at_once_and_in_order() -> None:
    store = Remote(noise(0, SPAN_BYTES + 1), *(noise(at, 50) for at in range(1, 30)))
    store.delay = 0.01
    layers = store.layers()
    found = list(read_blobs(store, layers, [AHEAD_BYTES] * 30))  # type: ignore[arg-type]
    assert [digest_of(data) for data in found] == [layer.digest for layer in layers]
    assert 1 < store.most <= REQUESTS + 1
    with pytest.raises(SizeMismatch):
        list(read_blobs(store, layers, [10] * 30))  # type: ignore[arg-type]


def test_a_load_waits_for_few_round_trips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nine layers: with reading ahead as many requests, but not one after the other."""
    source = tmp_path / "app"
    source.mkdir()
    for at in range(9):
        (source / f"f{at}").write_bytes(noise(at, 60_000))
    with hostile_registry() as server, packer.open_storage(f"docker://{server.host}/x") as storage:
        for at in range(9):
            (source / f"f{at}").write_bytes(noise(100 + at, 60_000))
            storage.save("app", source)
        most = 0
        now = 0
        lock = threading.Lock()
        real = read_blob

        def counted(*given: object) -> bytes:
            nonlocal most, now
            with lock:
                now += 1
                most = max(most, now)
            try:
                return real(*given)  # type: ignore[arg-type]
            finally:
                with lock:
                    now -= 1

        monkeypatch.setattr("packer.format.reading_ahead.read_blob", counted)
        before = server.count("GET", "/blobs/")
        with packer.open_storage(f"docker://{server.host}/x") as other:
            version = other.version("app", 8)
            other.load("app", 8, tmp_path / "out")
            layers = len(version.manifest.data_layers) + len(version.manifest.index_layers)
        assert server.count("GET", "/blobs/") - before <= layers + 1
        assert most > 1
    for at in range(9):
        assert (tmp_path / "out" / f"f{at}").read_bytes() == noise(100 + at, 60_000)
