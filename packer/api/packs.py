"""Packs a directory, file or tar stream into a local store, on a base wherever the base lies."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Protocol

from packer._version import VERSION
from packer.api.base_search import Source
from packer.api.bases import candidates, choose_base
from packer.api.locations import StoreLike, open_store
from packer.engine import zstd
from packer.engine.chunking import ChunkParams
from packer.errors import InvalidParameter
from packer.files.cache_file import trim_caches
from packer.files.patterns import given_patterns
from packer.files.rules import LeftOut, Rules, read_patterns
from packer.files.temporary import temporary_directory
from packer.files.tree import Tree
from packer.format.version import Version
from packer.oci import Manifest
from packer.opening.choice import DEFAULT_OPENING, check_opening
from packer.progress import CancelEvent, ProgressCallback, cancellable
from packer.stores.cancelling import until_cancelled
from packer.stores.layout import caches_of, using
from packer.stores.manifests import check_tag
from packer.stores.partial import PartialIngest
from packer.stores.registry.access import Access, RegistryLike
from packer.transfer.promises import Promise, absent_blobs, encode_promises

if TYPE_CHECKING:
    from packer.packing.job import LocalStore, Packed
    from packer.packing.older.similar import SketchCache


class Input(Protocol):
    """A stream of bytes, such as a file."""

    def read(self, size: int, /) -> bytes | None:
        """Return at most `size` bytes, b"" at the end."""


class Walk(Protocol):
    """Lists the entries of a directory or file."""

    def __call__(self, root: bytes, left_out: LeftOut) -> Tree:
        """Return the entries of `root`, and count in `left_out` what rules leave out."""


def pack(
    version_dir: str | bytes | os.PathLike[str] | Input,
    *,
    store: StoreLike = None,
    tag: str | None = None,
    base: str | None = None,
    level: int | None = None,
    opening: str = DEFAULT_OPENING,
    cache: bool = True,
    durable: bool = True,
    exclude: Iterable[str] = (),
    exclude_from: Iterable[str | bytes | os.PathLike[str]] = (),
    ignore_files: bool = True,
    params: ChunkParams | None = None,
    registry: RegistryLike = None,
    progress: ProgressCallback | None = None,
    cancel: CancelEvent | None = None,
) -> Packed:
    """Pack a directory or file as a version into a local store, and tag it.

    Content that the base already has becomes references. If a version of the same family (the tag
    before the colon) has the same tree, the result is that version's digest, and nothing is added.

    A version packed on a base in a registry lacks the blobs that it shares with that base. It can
    be pushed to the base's repository, to another repository of that registry if the registry
    mounts blobs, and to wherever the base is as well. Other calls (`unpack`, `cat`, `verify`) read
    what they need from the registry. `pull` the base to have all of it here.

    Args:
        version_dir: a directory, or a single file (an archive). Or an open tar archive, whose
            members are packed: anything with `read`, such as ``sys.stdin.buffer``. It is read once,
            to a private directory (in TMPDIR, else /var/tmp).
        store: the local store; None for the default store.
        tag: the version's name, such as ``app:1.4.2``; None for the directory's name. A tar archive
            needs one.
        base: tag or digest of the version to build on; ``"none"`` for no base. If None, the base is
            the version tagged last whose blobs are all in the store and whose tag has the same name
            before the colon (without a colon: the same name without its version); if there is none,
            the newest one whose tag names no other application and whose tree looks alike. With
            ``"auto:registry.example/acme/app"`` the best base of that repository, found from its
            newest manifests and indexes, and without one there the best of the store. Of a base in
            a registry, manifest, config and index are fetched, and by range requests the frames
            that new frames are compressed against; its other data stays there.
        level: zstd level, 1 to 22; None for 9, or 3 if the version has more than 32 MiB and
            `opening` is not "all".
        opening: which archives (gzip, zip, tar) are opened, so that content that did not change in
            them is not stored again: "changed", those of which the base holds an older self,
            against which they are opened; "all", also those of an encoder that is modelled, at
            first sight, which takes fewer bytes and more time; or "none". Archives come back bit
            for bit either way.
        cache: do not read files again that look as they did when they were last packed into this
            store (path, size, times, inode, device). docs/decisions.md says when that is safe.
        durable: sync everything that is written to the store. False saves the time of the disk. A
            system that crashes within the next half minute or so may then lose the version, or
            leave damaged blobs in the store, which `verify` finds.
        exclude: patterns of entries to leave out, in the syntax of gitignore. They precede those in
            files.
        exclude_from: files of such patterns, one a line; they stand before `exclude`.
        ignore_files: follow the files named ``.layerpackerignore`` in the tree, each for the
            directory that holds it.
        params: chunk sizes; a base with other chunk sizes is not used.
        registry: how to reach the registry of `base`.
        progress: called from the calling thread with the bytes read.
        cancel: a `threading.Event` or the like; the call raises `Cancelled` once it is set.

    Returns:
        The version's digest and counts, and the bytes that it added to the store.

    Raises:
        InvalidParameter: an argument is out of range, or a pattern is malformed.
        NotFound: `base` does not exist, or the registry lost a blob of it.
        AuthError: the registry of `base` refuses access; nothing is tagged.
        RegistryError: the registry of `base` failed; nothing is tagged.
        TransportError: the registry of `base` was not reached; nothing is tagged.
        SourceChanged: a file changed while it was read; nothing is tagged.
        UnsupportedFile: the tree holds a device, socket or pipe; nothing is tagged.
        SourceError: a tar archive is malformed, or has a member outside of the directory, or
            through a link; nothing is tagged.
        OSError: a file cannot be read, or the store cannot be written; nothing is tagged.
        Cancelled: `cancel` was set.

    Determinism: the same tree, base, parameters and library versions give the same layers and
    index on every machine. The manifest adds the time (``SOURCE_DATE_EPOCH`` if set). Layers of a
    base in a registry are searched for similar chunks only if their sketches are cached here; so a
    renamed file may cost more than on a local base.
    """
    rules = _rules_of(exclude, exclude_from, files=ignore_files)
    if isinstance(version_dir, (str, bytes, os.PathLike)):
        root = os.fsencode(version_dir)
        os.stat(root)  # a missing or forbidden path is reported before a store is made
        source: AbstractContextManager[tuple[bytes, Walk]] = nullcontext((root, rules.walk))
        tag = _tag_for(root) if tag is None else tag
    elif tag is None:
        raise InvalidParameter("a tar archive has no name: say which tag the version gets")
    else:
        source = _unpacked(version_dir, rules, cancellable(progress, cancel, "packing"))
    with source as (root, walk):
        return _pack_root(
            root,
            walk,
            is_temporary=not isinstance(version_dir, (str, bytes, os.PathLike)),
            store=store,
            tag=tag,
            base=base,
            level=level,
            opening=check_opening(opening),
            cache=cache,
            params=params,
            registry=registry,
            durable=durable,
            progress=progress,
            cancel=cancel,
        )


@contextmanager
def _unpacked(
    stream: Input, rules: Rules, progress: ProgressCallback | None
) -> Iterator[tuple[bytes, Walk]]:
    """Make a directory for a tar archive; the walk of it reads the archive first."""
    from packer.packing.tar_source import TarSource

    with temporary_directory(on_disk=True) as place:
        source = TarSource(stream, os.fsencode(place), "the tar archive", progress)

        def walk(root: bytes, left_out: LeftOut) -> Tree:
            source.write_out()
            return source.with_modes(rules.walk(root, left_out))

        yield os.fsencode(place), walk


def _pack_root(
    root: bytes,
    walk: Walk,
    *,
    is_temporary: bool,
    store: StoreLike,
    tag: str,
    base: str | None,
    level: int | None,
    opening: str,
    cache: bool,
    params: ChunkParams | None,
    registry: RegistryLike,
    durable: bool,
    progress: ProgressCallback | None,
    cancel: CancelEvent | None,
) -> Packed:
    """Pack a directory or file that exists; the other arguments are those of `pack`."""
    from packer.packing.pack_tree import (  # what pushes a version need not load it
        LocalStore,
        PackJob,
        pack_tree,
    )

    if level is not None and not zstd.MIN_LEVEL <= level <= zstd.MAX_LEVEL:
        raise InvalidParameter(f"level {level} is not from {zstd.MIN_LEVEL} to {zstd.MAX_LEVEL}")
    target = open_store(store, durable=durable)
    if not isinstance(target, LocalStore):
        raise InvalidParameter(
            f"{target.name}: versions are packed into a local store, then pushed"
        )
    tag = check_tag(tag)
    left_out = LeftOut()
    params = params or ChunkParams()
    source = Source(root, tag, partial(walk, left_out=LeftOut()))

    def pack_on(place: LocalStore, sketches: SketchCache | None, version: Version | None) -> Packed:
        job = PackJob(
            root,
            place,
            tag,
            tool=f"layer-packer {VERSION}",
            params=params,
            level=level,
            opening=opening,
            cache=cache,
            created=_source_date_epoch(),
            progress=cancellable(progress, cancel, "packing"),
            sketches=sketches,
            walk=partial(walk, left_out=left_out),
            remember=not is_temporary,
        )
        return pack_tree(job, version, candidates(target, tag, version, given=base is not None))

    with using(target):
        found = choose_base(target, source, base, Access(registry), cancel)
        version, promises = found.version, found.promises
        if version is None or not promises:
            packed = pack_on(target, None, version)
        else:
            with until_cancelled(cancel, (version.store,), "packing"):
                packed = _pack_apart(target, version, promises, tag, pack_on)
    trim_caches(caches_of(target))
    was_used = version is not None and version.config.chunking == params
    return replace(packed, left_out=left_out, base=found.choice if was_used else None)


def _rules_of(
    exclude: Iterable[str],
    exclude_from: Iterable[str | bytes | os.PathLike[str]],
    *,
    files: bool,
) -> Rules:
    """Return the rules that the arguments of a call state."""
    if isinstance(exclude_from, (str, bytes, os.PathLike)):
        exclude_from = (exclude_from,)
    patterns = [line for path in exclude_from for line in read_patterns(path)]
    given = [exclude] if isinstance(exclude, str) else list(exclude)
    given_patterns(given, "--exclude")  # raises for a blank one, which a file may hold
    patterns += given
    return Rules(patterns, files=files)


def _tag_for(root: bytes) -> str:
    """Return a directory's or file's name, changed into a valid tag."""
    name = os.path.basename(os.path.realpath(root))
    return re.sub(r"[^A-Za-z0-9._+-]", "-", os.fsdecode(name)).lstrip(".+-")[:128] or "version"


def _pack_apart(
    store: LocalStore,
    base: Version,
    promises: Sequence[Promise],
    tag: str,
    pack_on: Callable[[LocalStore, SketchCache | None, Version | None], Packed],
) -> Packed:
    """Pack on a base that lies partly in a registry; blobs of the base are read and not kept."""
    from packer.packing.older.staging import NearSketches, Staging

    assert isinstance(store, PartialIngest)
    caches = caches_of(store)
    staging = Staging(store, base)
    packed = pack_on(staging, NearSketches(caches), base)
    manifest = Manifest.decode(staging.manifest, f"manifest {packed.digest}")
    absent = absent_blobs(store, (manifest.config, *manifest.layers))
    text = encode_promises(promises, absent)
    if text is None:
        store.put_manifest(staging.manifest, packed.descriptor.media_type, tag)
    else:
        store.put_partial(staging.manifest, packed.descriptor.media_type, tag, text)
    return packed


def _source_date_epoch() -> int | None:
    text = os.environ.get("SOURCE_DATE_EPOCH")
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or int(text) >= 1 << 33:
        raise InvalidParameter(f"SOURCE_DATE_EPOCH {text[:40]!r} is not a number of seconds")
    return int(text)
