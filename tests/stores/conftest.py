"""The stores under test, each with a way to its bytes that bypasses the store.

To add one: derive from `Harness`, and append ``pytest.param(YourHarness, id=..., marks=...)`` to
`HARNESSES`. A harness is made for each test; what is dear (a server) comes from a session fixture
that it asks `request` for. Whether a test of a capability applies is told by ``isinstance`` with
its protocol; the flags of a harness name what a server leaves undone, beyond the store's reach.
"""

from __future__ import annotations

import io
import os
import shutil
import tarfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol, cast

import pytest

from packer.oci import (
    CONFIG_TYPE,
    DATA_TYPE,
    INDEX_TYPE,
    MANIFEST_TYPE,
    Descriptor,
    Manifest,
    digest_of,
)
from packer.stores.archive.store import ArchiveStore
from packer.stores.layout import LayoutStore
from packer.stores.memory import MemoryStore
from packer.stores.partial import PartialIngest
from packer.stores.protocols import Ingest, LocalBlobs, Store, Tags
from packer.stores.registry.settings import Settings
from packer.stores.registry.store import RegistryStore
from packer.stores.registry.transport.retries import RetryPolicy
from tests.registry_server import RegistryServer, run_registry


class PartialStore(Store, PartialIngest, Protocol):
    """A store that may lack blobs."""


class Harness(ABC):
    """One kind of store, empty at first."""

    untags = True
    """Whether it can remove tags, when it can list them."""
    orders_tags = True
    """Whether tags come in the order they were moved."""
    repairs_manifests = True
    """Whether putting a manifest replaces damaged bytes."""
    checks_children = True
    """Whether an image index whose manifests are missing is refused."""

    def __init__(self, directory: Path, request: pytest.FixtureRequest) -> None:
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
    def partial(self) -> PartialStore:
        if not isinstance(self.store, PartialIngest):
            pytest.skip(f"{self.store.name} is no PartialIngest")
        return cast(PartialStore, self.store)

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


class ArchiveHarness(Harness):
    """A tar file; Python's tarfile, which the store does not use, reads and writes it here."""

    @property
    def _path(self) -> Path:
        return self.directory / "archive.tar"

    def open(self) -> Store:
        return ArchiveStore(self._path)

    def _members(self) -> dict[str, bytes]:
        if not self._path.exists():
            return {}
        with tarfile.open(self._path) as tar:
            files = {info.name: tar.extractfile(info) for info in tar if info.isfile()}
            return {name: file.read() for name, file in files.items() if file is not None}

    def raw(self, digest: str) -> bytes | None:
        return self._members().get("blobs/" + digest.replace(":", "/"))

    def replace(self, digest: str, data: bytes | None) -> None:
        name = "blobs/" + digest.replace(":", "/")
        members = self._members()
        if data is None:
            del members[name]
        else:
            members[name] = data
        new = self.directory / "new.tar"
        with tarfile.open(new, "w") as tar:
            for path, content in members.items():
                info = tarfile.TarInfo(path)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
        new.replace(self._path)

    def leftovers(self) -> list[str]:
        return [name for name in os.listdir(self.directory) if name != "archive.tar"]


class RegistryHarness(Harness):
    """A repository of docker-registry, which keeps no cache: its files are what it serves."""

    untags = False
    orders_tags = False
    repairs_manifests = False
    checks_children = False

    def __init__(self, directory: Path, request: pytest.FixtureRequest) -> None:
        self.server: RegistryServer = request.getfixturevalue("suite_registry")
        self._stores: list[RegistryStore] = []
        super().__init__(directory, request)

    def open(self) -> Store:
        # docker-registry answers 500 for a moment while another client pushes the same blob; what
        # the tests break stays broken, so short pauses do.
        retry = RetryPolicy(attempts=5, base_seconds=0.02)
        store = RegistryStore(f"{self.server.host}/suite", Settings(retry=retry))
        self._stores.append(store)
        return store

    def _path(self, digest: str) -> Path:
        root = self.server.data / "docker" / "registry" / "v2"
        return root / "blobs" / "sha256" / digest[7:9] / digest[7:] / "data"

    def raw(self, digest: str) -> bytes | None:
        path = self._path(digest)
        return path.read_bytes() if path.exists() else None

    def replace(self, digest: str, data: bytes | None) -> None:
        if data is None:
            self._path(digest).unlink()
        else:
            self._path(digest).write_bytes(data)

    def leftovers(self) -> list[str]:
        return []  # unfinished uploads are the registry's to purge

    def close(self) -> None:
        for store in self._stores:
            store.close()
        shutil.rmtree(self.server.data / "docker", ignore_errors=True)


@pytest.fixture(scope="session")
def suite_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    """One server for all tests of the suite; each test wipes it."""
    with run_registry(tmp_path_factory.mktemp("registry")) as server:
        yield server


HARNESSES = [
    pytest.param(MemoryHarness, id="memory"),
    pytest.param(LayoutHarness, id="layout"),
    pytest.param(ArchiveHarness, id="archive"),
    pytest.param(RegistryHarness, id="registry", marks=pytest.mark.registry),
]


@pytest.fixture(params=HARNESSES)
def harness(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Harness]:
    """A store of every kind in turn, empty."""
    made: Harness = request.param(tmp_path, request)
    try:
        yield made
    finally:
        made.close()
