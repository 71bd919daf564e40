"""Update layers: data and index in one blob, as this writer makes them and as strangers might."""

from __future__ import annotations

import random
from pathlib import Path

import blake3
import pytest
import zstandard

import packer
from packer.engine import delta, zstd
from packer.errors import PackerError
from packer.format.index_layers import UPDATE_BYTES, UPDATE_TAIL
from packer.format.version import load_version
from packer.oci import CONFIG_TYPE, DATA_TYPE, INDEX_TYPE, MANIFEST_TYPE, UPDATE_TYPE, Manifest
from packer.packing.older import compaction
from packer.stores.layout import LayoutStore
from tests.conformance import decoder, frame_decoder
from tests.conformance.test_decoder import TINY_SAMPLE, decoded


def noise(seed: int, size: int = 9000) -> bytes:
    return random.Random(seed).randbytes(size)


LARGE = noise(9, 2 * UPDATE_BYTES)


def kinds(store: Path, tag: str) -> list[str]:
    """Return what each layer of a version is, in order."""
    names = {DATA_TYPE: "data", INDEX_TYPE: "index", UPDATE_TYPE: "update"}
    layers = load_version(LayoutStore(store), tag).manifest.layers
    return [names[layer.media_type] for layer in layers]


class App:
    """A directory packed again and again, and compared each time."""

    def __init__(self, folder: Path) -> None:
        self.root, self.store, self.number = folder / "app", folder / "store", 0
        self.root.mkdir()

    def pack(self, **files: bytes | None) -> list[str]:
        """Write or remove files, pack, read with both readers; return what the layers are."""
        for name, data in files.items():
            if data is None:
                (self.root / name).unlink()
            else:
                (self.root / name).write_bytes(data)
        self.number += 1
        tag = f"app:{self.number}"
        packed = packer.pack(self.root, store=self.store, tag=tag)
        expected = {path.name: path.read_bytes() for path in self.root.iterdir()}
        read = {name.decode(): data for name, (_, _, data) in decoded(self.store, tag).items()}
        assert read == expected
        target = self.root.with_name(f"out{self.number}")
        packer.unpack(tag, target, store=self.store)
        assert {path.name: path.read_bytes() for path in target.iterdir()} == expected
        layers = load_version(LayoutStore(self.store), tag).manifest.layers
        assert 0 < packed.index_bytes < packed.new_bytes
        assert packed.new_bytes > layers[-1].size
        return kinds(self.store, tag)


@pytest.fixture
def app(tmp_path: Path) -> App:
    return App(tmp_path)


def test_a_small_update_is_one_blob(app: App) -> None:
    assert app.pack(a=LARGE, b=b"1") == ["data", "index"]
    assert app.pack(b=b"2") == ["data", "index", "update"]
    # Nothing but the tree changes: there is no data to put it behind.
    assert app.pack(b=None, c=b"2") == ["data", "index", "update", "index"]
    assert app.pack(d=b"3") == ["data", "index", "update", "index", "update"]
    more = noise(2, 2 * UPDATE_BYTES)
    assert app.pack(e=more) == ["data", "index", "update", "index", "update", "data", "index"]


def test_a_small_version_is_one_blob(app: App) -> None:
    assert app.pack(a=b"all of it") == ["update"]
    assert app.pack(a=None) == ["update", "index"]  # it holds the index that the patch is for


def test_what_is_dead_stays_while_its_index_is_needed(app: App) -> None:
    app.pack(a=LARGE, b=noise(0))
    for number in range(1, 4):  # nothing of the one before is used any more
        assert app.pack(b=noise(number)) == ["data", "index", *["update"] * number]


def test_a_full_index_frees_older_layers(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    app.pack(a=LARGE, b=noise(0))
    app.pack(b=noise(1))
    assert app.pack(c=noise(2)) == ["data", "index", "update", "update"]
    monkeypatch.setattr("packer.packing.publish.MAX_PATCHES", 2)
    # Of the older ones the data is listed, but not as an index.
    assert app.pack(d=noise(3)) == ["data", "data", "data", "update"]
    assert app.pack(d=noise(4)) == ["data", "data", "data", "update", "update"]


def test_compaction_of_an_update_layer(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    app.pack(a=LARGE, b=noise(0))
    assert app.pack(b=noise(1)) == ["data", "index", "update"]
    for name in ("SMALL_BYTES", "UPDATE_COST", "KEPT_COST", "MAX_COST"):
        monkeypatch.setattr(compaction, name, 0)
    # All that is older is given up, and with it the index that a patch would be for.
    assert app.pack(b=noise(2)) == ["data", "index"]
    monkeypatch.undo()
    assert app.pack(c=b"go on") == ["data", "index", "update"]


def test_many_small_updates(app: App) -> None:
    app.pack(**{f"f{at}": noise(at, 3000) for at in range(40)})
    for number in range(45):
        layers = app.pack(**{f"f{number % 40}": noise(100 + number, 3000)})
    assert len(layers) < 60


# Layouts that somebody else wrote.


def craft(folder: Path, plain: bytes, *layers: tuple[str, bytes]) -> Path:
    """Write a layout with these layers, and a config for this index."""
    store = LayoutStore(folder)
    sample = load_version(LayoutStore(TINY_SAMPLE), "app:1")
    digest = "blake3:" + blake3.blake3(plain).hexdigest()
    config = sample.config._replace(index_digest=digest, index_bytes=len(plain))
    blobs = []
    for media_type, data in (*layers, (CONFIG_TYPE, config.encode())):
        with store.create() as writer:
            writer.write(data)
            blobs.append(writer.commit(media_type)[0])
    store.put_manifest(Manifest(blobs[-1], tuple(blobs[:-1])).encode(), MANIFEST_TYPE, "app:1")
    return folder


def tiny() -> tuple[bytes, bytes]:
    """Return the sample's data layer, and its index."""
    sample = load_version(LayoutStore(TINY_SAMPLE), "app:1")
    (layer,) = decoder.parse_json(sample.manifest_bytes)["layers"]
    stored = decoder.read_blob(TINY_SAMPLE, layer)
    return stored[: sum(sample.index.layer_sizes)], bytes(sample.read_index()[0])


def update(data: bytes, part: bytes) -> bytes:
    return data + part + UPDATE_TAIL.pack(len(part))


def test_arrangements_that_readers_take(tmp_path: Path) -> None:
    data, plain = tiny()
    full = zstd.compress(plain, 3)
    patch = zstd.compress(plain, 3, plain)
    expected = decoded(TINY_SAMPLE, "app:1")
    arrangements = (
        [(DATA_TYPE, data), (INDEX_TYPE, full)],
        [(INDEX_TYPE, full), (DATA_TYPE, data)],
        [(DATA_TYPE, update(data, b"was an index")), (INDEX_TYPE, full)],
        [(UPDATE_TYPE, update(data, full))],
        [(UPDATE_TYPE, update(data + b"in between", full))],
        [(INDEX_TYPE, full), (UPDATE_TYPE, update(data, patch))],
        [(UPDATE_TYPE, update(data, full)), (INDEX_TYPE, patch)],
    )
    for number, layers in enumerate(arrangements):
        store = craft(tmp_path / f"{number}", plain, *layers)
        assert decoded(store, "app:1") == expected
        packer.verify("app:1", store=store)
        packer.unpack("app:1", tmp_path / f"out{number}", store=store)


def test_patches_on_a_large_index(tmp_path: Path) -> None:
    """An index above 192 KiB is patched by a delta frame; what is wrong with one is refused."""
    data, plain = tiny()
    limit = 192 << 10
    small, large = (random.Random(1).randbytes(size) for size in (limit, limit + 1))

    def frame(older: bytes) -> bytes:
        made = delta.encode(bytearray(older) + plain, len(older), 12)
        assert made is not None
        return made

    def layers(older: bytes, part: bytes) -> list[tuple[str, bytes]]:
        return [(DATA_TYPE, data), (INDEX_TYPE, zstd.compress(older, 3)), (INDEX_TYPE, part)]

    size, patch = zstd.number(len(plain)), frame(large)
    taken = (layers(large, size + patch), layers(small, zstd.compress(plain, 3, small)))
    for number, arrangement in enumerate(taken):
        store = craft(tmp_path / f"taken{number}", plain, *arrangement)
        assert decoded(store, "app:1") == decoded(TINY_SAMPLE, "app:1")
        packer.verify("app:1", store=store)
    refused = (
        layers(small, size + frame(small)),
        layers(large, zstd.compress(plain, 3, large)),
        layers(large, patch),  # no length
        layers(large, zstd.number(len(plain) - 1) + patch),
        layers(large, zstd.number((1 << 28) - 1) + patch),
        layers(large, size + patch[:-1]),
        layers(large, size + patch + b"0"),
    )
    for number, arrangement in enumerate(refused):
        store = craft(tmp_path / f"refused{number}", plain, *arrangement)
        with pytest.raises((frame_decoder.Damaged, zstandard.ZstdError)):
            decoded(store, "app:1")
        with pytest.raises(PackerError):
            packer.unpack("app:1", tmp_path / "out", store=store)
        assert not (tmp_path / "out").exists()


def test_arrangements_that_readers_refuse(tmp_path: Path) -> None:
    data, plain = tiny()
    full = zstd.compress(plain, 3)
    arrangements = (
        [(DATA_TYPE, data)],  # no index
        [(UPDATE_TYPE, data + full)],  # no length
        [(UPDATE_TYPE, data + full + UPDATE_TAIL.pack(len(data + full) + 1))],
        [(UPDATE_TYPE, data + full + UPDATE_TAIL.pack(len(full) - 1))],
        [(UPDATE_TYPE, b"\0\0\0")],
        [(UPDATE_TYPE, update(data + bytes(1 << 20), full))],  # too large
        [(DATA_TYPE, data[:-1]), (INDEX_TYPE, full)],  # frames behind its end
        [(DATA_TYPE, data), (DATA_TYPE, data + b"0"), (INDEX_TYPE, full)],
        [(INDEX_TYPE, full)],
        [(DATA_TYPE, data), (UPDATE_TYPE, update(b"", full))],
    )
    for number, layers in enumerate(arrangements):
        store = craft(tmp_path / f"{number}", plain, *layers)
        with pytest.raises((frame_decoder.Damaged, zstandard.ZstdError)):
            decoded(store, "app:1")
        with pytest.raises(PackerError):
            packer.unpack("app:1", tmp_path / "out", store=store)
        assert not (tmp_path / "out").exists()
