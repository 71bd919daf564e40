"""Verifies a version: every blob, frame, chunk and rebuilt archive, and the digest of the tree."""

from __future__ import annotations

import os
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import chain

from packer.errors import IntegrityError, NotFound
from packer.format.damage import touched
from packer.format.frame_reader import FrameReader, opened_frames
from packer.format.frames import Frames
from packer.format.rebuilding import OldFiles
from packer.format.tree_digest import TreeCheck
from packer.format.version import Version
from packer.oci import READ_BYTES
from packer.progress import Progress, ProgressCallback
from packer.reading.contents import live_chunks
from packer.reading.entry_content import frames_of, read_entry
from packer.stores.protocols import Store
from packer.stores.referrers import all_referrers


@dataclass(frozen=True, slots=True)
class Verified:
    """The result of verifying a version.

    Args:
        digest: of its manifest.
        blobs: number of blobs read, the manifest included.
        bytes: size of these blobs.
        chunks: number of chunks decoded and checked.
        left_out_blobs: number of blobs that the archive leaves out, and that were read from the
            versions at hand.
        left_out_bytes: size of the blobs left out.
        bases: the versions that have the blobs left out.
        referrers: number of manifests that refer to the version at any depth: their digests were
            checked, and those of all their blobs. No signature was.
        referrer_bytes: bytes of these manifests and blobs.
    """

    digest: str
    blobs: int
    bytes: int
    chunks: int
    left_out_blobs: int = 0
    left_out_bytes: int = 0
    bases: tuple[str, ...] = ()
    referrers: int = 0
    referrer_bytes: int = 0


def with_referrers(
    done: Verified, store: Store, progress: ProgressCallback | None = None
) -> Verified:
    """Read what refers to a version that was verified, and check all digests; no signatures.

    Args:
        done: the result so far.
        store: holds the version.
        progress: called with the bytes read.

    Returns:
        The result, with the referrers counted.

    Raises:
        NotFound: a blob is missing.
        IntegrityError: a manifest or blob is damaged.
        StoreError: the store failed.
    """
    found = all_referrers(store, done.digest)
    total = sum(one.size for one in found)
    read = 0
    for one in found:
        for blob in one.blobs:
            with store.fetch(blob) as reader:
                while data := reader.read(READ_BYTES):
                    read += len(data)
                    if progress is not None:
                        progress(Progress("verify", read, total, blob.digest))
    return replace(done, referrers=len(found), referrer_bytes=total)


def verify(
    version: Version,
    progress: ProgressCallback | None = None,
    *,
    sound: set[str] | None = None,
) -> Verified:
    """Read every blob of a version and check digests, frames and chunks.

    Args:
        version: to verify.
        progress: called from the calling thread, once for each part read.
        sound: digests of blobs that were read before, and that only the pass over the frames reads
            again; completed by the others.

    Returns:
        The counts of what was read.

    Raises:
        NotFound: a blob is missing.
        IntegrityError: a blob, frame or chunk is damaged; the error names it, and the files it
            touches.
    """
    manifest = version.manifest
    pass_bytes = sum(layer.size for layer in manifest.layers)
    work = _Verification(version, progress, 2 * pass_bytes)  # two passes: blobs, then frames
    work.read_blobs(set() if sound is None else sound)
    checked = work.decode_frames()
    blobs = (version.descriptor, manifest.config, *manifest.layers)
    return Verified(
        version.descriptor.digest, len(blobs), sum(blob.size for blob in blobs), checked
    )


class _Verification:
    """The passes over a version, and their progress.

    Args:
        version: to verify.
        progress: called for each part read.
        total: bytes of both passes.
    """

    def __init__(self, version: Version, progress: ProgressCallback | None, total: int) -> None:
        self._version = version
        self._progress = progress
        self._total = total
        self._done = 0

    def _advance(self, count: int, detail: str = "") -> None:
        self._done += count
        if self._progress is not None:
            self._progress(Progress("verify", self._done, self._total, detail))

    def read_blobs(self, sound: set[str]) -> None:
        """Read every blob that is not known to be sound; its reader checks its digest."""
        version, manifest = self._version, self._version.manifest
        for blob in (manifest.config, *manifest.layers):
            if blob.digest in sound:
                self._advance(blob.size, blob.digest)
                continue
            try:
                with version.store.fetch(blob) as reader:
                    while data := reader.read(READ_BYTES):
                        self._advance(len(data), blob.digest)
            except (IntegrityError, NotFound) as error:
                if blob in manifest.data_layers:
                    frames = Frames(version.index)
                    damaged = frames.of_layer(manifest.data_layers.index(blob))
                    error.touched = touched(frames, damaged, blob.digest, version.store)
                raise
            sound.add(blob.digest)

    def decode_frames(self) -> int:
        """Decode every live frame and rebuild every archive; return the number of live chunks."""
        version, index = self._version, self._version.index
        check = TreeCheck(index)
        with (
            opened_frames(version, check=check) as frames_reader,
            ThreadPoolExecutor(os.cpu_count() or 1, "verify") as executor,
        ):
            checked = self._decode_live(frames_reader, executor)
            check.finish(version.config.tree)
        return checked

    def _decode_live(self, reader: FrameReader, executor: Executor) -> int:
        index, live = self._version.index, live_chunks(self._version.index)
        first_chunk = reader.frames.first_chunk
        needed = [
            frame
            for frame in range(len(index.frame_chunks))
            if 1 in live[first_chunk[frame] : first_chunk[frame + 1]]
        ]
        reader.expect(chain(needed, *(frames_of(reader, entry) for entry in index.expansions)))
        checked = 0
        for frame in needed:
            reader.decode(frame)
            checked += sum(live[first_chunk[frame] : first_chunk[frame + 1]])
            self._advance(index.frame_stored[frame])
        with closing(OldFiles(reader)) as old:
            for entry in index.expansions:
                for _ in read_entry(reader, entry, executor, old):
                    pass
        return checked
