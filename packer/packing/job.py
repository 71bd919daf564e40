"""The parameters of packing, and its result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, runtime_checkable

from packer.engine.chunking import ChunkParams
from packer.files.rules import LeftOut
from packer.files.tree import Tree, walk
from packer.format.closed_files import Closed
from packer.format.usage import Use
from packer.oci import Descriptor
from packer.opening.choice import DEFAULT_OPENING
from packer.opening.kept_texts import KeptTexts
from packer.packing.older.similar import SketchCache
from packer.progress import ProgressCallback
from packer.stores.protocols import Ingest, Store


@runtime_checkable
class LocalStore(Store, Ingest, Protocol):
    """A store that versions are packed into: memory, an image layout, or a staging area."""


class PackJob(NamedTuple):
    """What to pack, where to, and how.

    Args:
        root: the directory or file to pack.
        store: the store that takes layers, index, config and manifest.
        tag: the version's name in the store.
        tool: name and version of the writer, for the config.
        params: chunk sizes; a base with other ones is not used.
        level: zstd level of new frames; None lets the size of the version decide.
        opening: which archives are opened, one of `opening.choice.OPENINGS`.
        cache: use what earlier packs of `root` left: files that look as they did are not read
            again, known deflate streams are not analysed again.
        created: time for the manifest, in seconds since the epoch; None means now.
        progress: called now and then from the calling thread.
        sketches: cache of the base's sketches; None means the one beside `store`.
        walk: lists the entries of `root`.
        remember: keep what is learnt of the files for the next pack of `root`.
        texts: keeps text of old archives for packs and readers of other versions; None keeps none.
    """

    root: bytes
    store: LocalStore
    tag: str
    tool: str
    params: ChunkParams
    level: int | None = None
    opening: str = DEFAULT_OPENING
    cache: bool = True
    created: int | None = None
    progress: ProgressCallback | None = None
    sketches: SketchCache | None = None
    walk: Callable[[bytes], Tree] = walk
    remember: bool = True
    texts: KeptTexts | None = None


@dataclass(frozen=True, slots=True)
class BaseChoice:
    """The version that packing built on, and why that one.

    Args:
        name: tag or reference of the base, or its digest if that was given.
        digest: of its manifest.
        found_by: ``"given"`` by the caller; ``"name"``: the base is named as a version of the same
            application; ``"tree"``: its tree looks alike.
        shared_paths: the share of paths that both trees have among those that either has, 0 to 1;
            None if the trees were not compared.
    """

    name: str
    digest: str
    found_by: str
    shared_paths: float | None = None


@dataclass(frozen=True, slots=True)
class Packed:
    """The result of packing.

    Args:
        descriptor: the manifest's descriptor.
        tag: the version's name in the store.
        files: number of files in the version.
        bytes: size of all files together.
        new_bytes: bytes added to the store: layers, index, config and manifest.
        new_layers: number of data layers that were written.
        layers: number of data layers that the version uses.
        unchanged: whether the same tree was there already, so that nothing was added.
        parent: manifest digest of the base, or "".
        index_bytes: bytes that the index added.
        parts: the cost of each first component of the paths, in byte order.
        closed: archives that stayed closed in the files that were read, at most 1000 rows, those of
            the most bytes first. A file that looks as it did at the last pack is not read.
        closed_bytes: of all closed archives together.
        left_out: what rules left out.
        base: the version that it was packed on, None if there was none; results are equal however
            it was found.
    """

    descriptor: Descriptor
    tag: str
    files: int
    bytes: int
    new_bytes: int
    new_layers: int
    layers: int
    unchanged: bool
    parent: str
    index_bytes: int
    parts: tuple[Use, ...]
    closed: tuple[Closed, ...] = ()
    closed_bytes: int = 0
    left_out: LeftOut = field(default_factory=LeftOut, hash=False)
    base: BaseChoice | None = field(default=None, compare=False)

    @property
    def digest(self) -> str:
        """The manifest's digest, which names the version for good."""
        return self.descriptor.digest
