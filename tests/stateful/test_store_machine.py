"""Any sequence of calls on a store, with damage and interruptions, against a model of dicts."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from packer.errors import DigestMismatch, NotFound, SizeMismatch
from packer.oci import CONFIG_TYPE, INDEX_TYPE, MANIFEST_TYPE, Descriptor, Manifest, digest_of
from packer.stores.layout import LayoutStore
from packer.stores.memory import MemoryStore
from packer.stores.protocols import read_blob

CONTENTS = [b"", b"a", b"b", b"bb", b"some longer content", b"x" * 70_000]
TAGS = ["app", "v1", "v2", "team/app:1.0+b"]


def content(number: int) -> bytes:
    return CONTENTS[number]


def describe(data: bytes, media_type: str = INDEX_TYPE) -> Descriptor:
    return Descriptor(media_type, digest_of(data), len(data))


class Interrupted(Exception):
    pass


class Breaking(io.BytesIO):
    """A source that breaks off before its end."""

    def read(self, size: int | None = -1, /) -> bytes:
        if self.tell():
            raise Interrupted
        return super().read(1)


class StoreMachine(RuleBasedStateMachine):
    """The model: what is stored under a digest, damaged or not, and the tags in their order."""

    contents = st.integers(0, len(CONTENTS) - 1).map(content)  # reports stay short so
    manifests = Bundle("manifests")

    def __init__(self) -> None:
        super().__init__()
        self.blobs: dict[str, bytes] = {}
        self.tags: dict[str, str] = {}
        self.store: Any = self.make()

    def make(self) -> Any:
        raise NotImplementedError

    def overwrite(self, digest: str, data: bytes | None) -> None:
        raise NotImplementedError

    def present(self, blob: Descriptor) -> bool:
        return len(self.blobs.get(blob.digest, b"")) == blob.size and blob.digest in self.blobs

    @initialize()
    def begin(self) -> None:
        assert list(self.store.tags()) == []

    # Blobs

    @rule(data=contents)
    def push(self, data: bytes) -> None:
        blob = describe(data)
        assert self.store.push(blob, io.BytesIO(data)) is not self.present(blob)
        if not self.present(blob):
            self.blobs[blob.digest] = data

    @rule(data=contents, cuts=st.lists(st.integers(0, 70_000), max_size=4), commit=st.booleans())
    def write(self, data: bytes, cuts: list[int], commit: bool) -> None:
        blob = describe(data)
        with self.store.create() as writer:
            ends = sorted({*cuts, len(data)})
            for start, end in zip([0, *ends], ends, strict=False):
                writer.write(memoryview(data)[start:end])
            if commit:
                assert writer.commit(INDEX_TYPE) == (blob, not self.present(blob))
        if commit:  # what was there may have been damaged
            self.blobs[blob.digest] = data

    @rule(data=contents, other=contents)
    def push_wrong_bytes(self, data: bytes, other: bytes) -> None:
        if data != other and not self.present(describe(data)):
            expected = DigestMismatch if len(data) == len(other) else SizeMismatch
            with pytest.raises(expected):
                self.store.push(describe(data), io.BytesIO(other))

    @rule(data=contents)
    def push_from_a_source_that_breaks(self, data: bytes) -> None:
        if data and not self.present(describe(data)):
            with pytest.raises(Interrupted):
                self.store.push(describe(data), Breaking(data))

    @rule(data=contents, start=st.integers(0, 100), length=st.integers(0, 100))
    def read_a_range(self, data: bytes, start: int, length: int) -> None:
        blob = describe(data)
        start = min(start, len(data))
        length = min(length, len(data) - start)
        if self.present(blob):
            with self.store.fetch(blob, start, length) as reader:
                assert reader.read() == self.blobs[blob.digest][start : start + length]

    # Manifests and tags

    @rule(
        target=manifests,
        config=contents,
        layers=st.lists(contents, max_size=3),
        tag=st.sampled_from([None, *TAGS]),
    )
    def put(self, config: bytes, layers: list[bytes], tag: str | None) -> bytes:
        manifest = Manifest(describe(config, CONFIG_TYPE), tuple(map(describe, layers)))
        data = manifest.encode()
        self.put_again(data, tag)
        return data

    @rule(data=manifests, tag=st.sampled_from([None, *TAGS]))
    def put_again(self, data: bytes, tag: str | None) -> None:
        missing = [blob.digest for blob in needs(data) if not self.present(blob)]
        if missing:
            with pytest.raises(NotFound) as caught:
                self.store.put_manifest(data, MANIFEST_TYPE, tag)
            assert caught.value.name in missing
            return
        assert self.store.put_manifest(data, MANIFEST_TYPE, tag) == describe(data, MANIFEST_TYPE)
        self.blobs[digest_of(data)] = data
        if tag is not None:
            self.tags.pop(tag, None)
            self.tags[tag] = digest_of(data)

    @rule(tag=st.sampled_from(TAGS))
    def untag(self, tag: str) -> None:
        if tag in self.tags:
            self.store.untag(tag)
            del self.tags[tag]
        else:
            with pytest.raises(NotFound):
                self.store.untag(tag)

    # Damage and repair

    @rule(data=st.one_of(contents, manifests), how=st.sampled_from(["drop", "flip", "cut", "grow"]))
    def damage(self, data: bytes, how: str) -> None:
        digest = digest_of(data)
        stored = self.blobs.get(digest)
        if stored is None:
            return
        if how == "drop":
            del self.blobs[digest]
            self.overwrite(digest, None)
            return
        if how == "flip" and stored:
            stored = stored[:-1] + bytes([stored[-1] ^ 0x80])
        elif how == "cut":
            stored = stored[: len(stored) // 2]
        elif how == "grow":
            stored += b"+"
        self.blobs[digest] = stored
        self.overwrite(digest, stored)

    @rule(data=contents)
    def discard(self, data: bytes) -> None:
        digest = digest_of(data)
        stored = self.blobs.get(digest)
        damaged = stored is not None and stored != data
        assert self.store.discard(describe(data)) is damaged
        if damaged:
            del self.blobs[digest]

    @invariant()
    def blobs_are_as_modelled(self) -> None:
        for data in CONTENTS:
            blob = describe(data)
            stored = self.blobs.get(blob.digest)
            assert self.store.exists(blob) is self.present(blob)
            expected: type[Exception] | None = None
            if stored is None:
                expected = NotFound
            elif len(stored) != len(data):
                expected = SizeMismatch
            elif stored != data:
                expected = DigestMismatch
            # No wrong byte is ever given back as a whole blob.
            with pytest.raises(expected) if expected else contextlib.nullcontext():
                assert read_blob(self.store, blob, len(data)) == data

    @invariant()
    def tags_are_as_modelled(self) -> None:
        assert [(tag, found.digest) for tag, found in self.store.tags()] == list(self.tags.items())
        for tag, digest in self.tags.items():
            stored = self.blobs.get(digest)
            if stored is not None and digest_of(stored) == digest:
                assert self.store.get_manifest(tag) == (describe(stored, MANIFEST_TYPE), stored)
            else:
                with pytest.raises((NotFound, DigestMismatch, SizeMismatch)):
                    self.store.get_manifest(tag)


def needs(data: bytes) -> tuple[Descriptor, ...]:
    """Return the blobs of a manifest, which may have too few layers to be a version."""
    value = json.loads(data)
    return tuple(Descriptor.from_json(item) for item in (value["config"], *value["layers"]))


class MemoryMachine(StoreMachine):
    def make(self) -> MemoryStore:
        return MemoryStore()

    def overwrite(self, digest: str, data: bytes | None) -> None:
        if data is None:
            del self.store._blobs[digest]
        else:
            self.store._blobs[digest] = data


class LayoutMachine(StoreMachine):
    def make(self) -> LayoutStore:
        self.directory = Path(tempfile.mkdtemp(prefix="layout-machine-"))
        return LayoutStore(self.directory / "layout")

    def path(self, digest: str) -> Path:
        return self.directory / "layout" / "blobs" / digest.replace(":", "/")

    def overwrite(self, digest: str, data: bytes | None) -> None:
        if data is None:
            self.path(digest).unlink()
        else:
            self.path(digest).write_bytes(data)

    @rule()
    def reopen(self) -> None:
        self.store = LayoutStore(self.directory / "layout", create=False)

    @rule()
    def collect_garbage(self) -> None:
        roots = set(self.tags.values())
        sound = all(digest_of(self.blobs.get(digest, b"")) == digest for digest in roots)
        if not sound:
            with pytest.raises((NotFound, DigestMismatch, SizeMismatch)):
                self.store.collect_garbage(-3600)
            return
        needed = roots | {blob.digest for root in roots for blob in needs(self.blobs[root])}
        garbage = {digest: data for digest, data in self.blobs.items() if digest not in needed}
        expected = (len(garbage), sum(map(len, garbage.values())))
        found = self.store.collect_garbage(-3600)
        assert (found.blobs, found.bytes) == expected
        for digest in garbage:
            del self.blobs[digest]

    @invariant()
    def nothing_is_left_behind(self) -> None:
        assert os.listdir(self.directory / "layout" / "ingest") == ["lock"]
        stored = {"sha256:" + path.name for path in self.path("sha256:x").parent.iterdir()}
        assert stored == set(self.blobs)

    def teardown(self) -> None:
        shutil.rmtree(self.directory)


TestMemoryMachine = MemoryMachine.TestCase
TestLayoutMachine = LayoutMachine.TestCase
