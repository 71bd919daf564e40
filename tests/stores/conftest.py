"""The stores under test, each with a way to its bytes that bypasses the store.

To add one: derive from `Harness`, and append ``pytest.param(YourHarness, id=..., marks=...)`` to
`HARNESSES`. A harness is made for each test; resources (a server) belong into a cached class method
or into `close`. Whether a test of a capability applies is told by ``isinstance`` with its protocol.
"""

from __future__ import annotations

import io
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path

import pytest

from packer.model import (
    CONFIG_TYPE,
    DATA_TYPE,
    INDEX_TYPE,
    MANIFEST_TYPE,
    Descriptor,
    Manifest,
    digest_of,
)
from packer.store.base import Ingest, LocalBlobs, Store, Tags
from packer.store.layout import LayoutStore
from packer.store.memory import MemoryStore


class Harness(ABC):
    """One kind of store, empty at first."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.store = self.open()

    @abstractmethod
    def open(self) -> Store:
        """Return a store over the harness's storage, as another process would see it."""

    @abstractmethod
    def raw(self, digest: str) -> bytes | None:
        """Return the stored bytes of a blob or manifest, None if there are none."""

    @abstractmethod
    def replace(self, digest: str, data: bytes | None) -> None:
        """Overwrite stored bytes, or remove them."""

    @abstractmethod
    def leftovers(self) -> list[str]:
        """Return what failed writes left behind."""

    def close(self) -> None:  # noqa: B027 - most have nothing to give back
        """Give everything back."""

    # What tests are made of

    def push(self, data: bytes, media_type: str = DATA_TYPE) -> Descriptor:
        blob = Descriptor(media_type, digest_of(data), len(data))
        assert self.store.push(blob, io.BytesIO(data))
        assert self.store.exists(blob)
        return blob

    def manifest(self, text: str = "version") -> bytes:
        """Push a config and layers, and return a manifest of them."""
        config = self.push(f'{{"text":"{text}"}}'.encode(), CONFIG_TYPE)
        layers = (
            self.push(b"data " + text.encode()),
            self.push(b"index " + text.encode(), INDEX_TYPE),
        )
        return Manifest(config, layers, {"text": text}).encode()

    def put(self, text: str, tag: str | None) -> Descriptor:
        return self.store.put_manifest(self.manifest(text), MANIFEST_TYPE, tag)

    @property
    def tagged(self) -> Tags:
        if not isinstance(self.store, Tags):
            pytest.skip(f"{self.store.name} is no Tags")
        return self.store

    @property
    def ingest(self) -> Ingest:
        if not isinstance(self.store, Ingest):
            pytest.skip(f"{self.store.name} is no Ingest")
        return self.store

    @property
    def local(self) -> LocalBlobs:
        if not isinstance(self.store, LocalBlobs):
            pytest.skip(f"{self.store.name} is no LocalBlobs")
        return self.store


class MemoryHarness(Harness):
    _memory: MemoryStore | None = None

    def open(self) -> Store:
        self._memory = self._memory or MemoryStore()
        return self._memory

    @property
    def _blobs(self) -> dict[str, bytes]:
        assert self._memory
        return self._memory._blobs

    def raw(self, digest: str) -> bytes | None:
        return self._blobs.get(digest)

    def replace(self, digest: str, data: bytes | None) -> None:
        if data is None:
            del self._blobs[digest]
        else:
            self._blobs[digest] = data

    def leftovers(self) -> list[str]:
        return []


class LayoutHarness(Harness):
    def open(self) -> Store:
        return LayoutStore(self.directory / "layout")

    def _path(self, digest: str) -> Path:
        return self.directory / "layout" / "blobs" / digest.replace(":", "/")

    def raw(self, digest: str) -> bytes | None:
        path = self._path(digest)
        return path.read_bytes() if path.exists() else None

    def replace(self, digest: str, data: bytes | None) -> None:
        if data is None:
            self._path(digest).unlink()
        else:
            self._path(digest).write_bytes(data)

    def leftovers(self) -> list[str]:
        ingest = self.directory / "layout" / "ingest"
        return [name for name in os.listdir(ingest) if name != "lock"] if ingest.exists() else []


HARNESSES = [
    pytest.param(MemoryHarness, id="memory"),
    pytest.param(LayoutHarness, id="layout"),
]


@pytest.fixture(params=HARNESSES)
def harness(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Harness]:
    """A store of every kind in turn, empty."""
    made: Harness = request.param(tmp_path)
    try:
        yield made
    finally:
        made.close()
