"""The versions of a store as a list: what each is, and which bytes it alone needs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from packer.api.locations import StoreLike, open_store
from packer.errors import InvalidParameter, PackerError, UnsupportedVersion
from packer.format.version import CREATED, Config
from packer.oci import MAX_MANIFEST_BYTES, Descriptor, Manifest
from packer.stores.index_json import ORIGIN
from packer.stores.layout import LayoutStore
from packer.stores.manifests import read_graph
from packer.stores.protocols import Store, Tags, read_blob
from packer.stores.subjects import attached_to


@dataclass(frozen=True, slots=True)
class ListedVersion:
    """A version of a store, as a list shows it.

    Args:
        tag: its name.
        digest: the manifest's digest.
        created: time of packing, RFC 3339; "" if it is not known.
        files: number of files; None for an artifact of another tool, or if it is not known.
        bytes: bytes of the files; None as for `files`.
        stored_bytes: bytes of all blobs that the version needs, the manifest included; None if the
            manifest cannot be read.
        new_bytes: the part of `stored_bytes` that is in the store, and that no version before it in
            the list needs.
        origin: the reference that it was pulled from; "" if it was not.
        problem: why the manifest or config cannot be read; "" if they can, and for artifacts of
            other tools.
    """

    tag: str
    digest: str
    created: str = ""
    files: int | None = None
    bytes: int | None = None
    stored_bytes: int | None = None
    new_bytes: int | None = None
    origin: str = ""
    problem: str = ""


def versions(*, store: StoreLike = None) -> list[ListedVersion]:
    """List the versions of the local store, the one tagged last at the end.

    Manifests and configs are read, no index and no data. A version whose manifest is missing or
    damaged is listed with its problem. Signatures that cosign attached by a tag are left out:
    `referrers` lists them.

    Args:
        store: the local store.

    Returns:
        An entry for each tag.

    Raises:
        InvalidParameter: the store cannot list its tags.
    """
    target = open_store(store, create=False)
    return [row for row, _ in listed_versions(target, version_tags(target))]


def tags_of(store: Store) -> dict[str, Descriptor]:
    """Return all tags of a store, in its order.

    Args:
        store: the store.

    Returns:
        The manifest's descriptor of each tag.

    Raises:
        InvalidParameter: the store cannot list its tags.
    """
    if not isinstance(store, Tags):
        raise InvalidParameter(f"{store.name} cannot list its tags")
    return dict(store.tags())


def version_tags(store: Store) -> dict[str, Descriptor]:
    """Return the tags without those that attach something to a version."""
    return {tag: entry for tag, entry in tags_of(store).items() if attached_to(tag) is None}


def listed_versions(
    store: Store, tags: dict[str, Descriptor]
) -> Iterator[tuple[ListedVersion, dict[str, int]]]:
    """Describe the versions of some tags.

    Args:
        store: has the tags.
        tags: the manifest's descriptor of each, in the order of the list.

    Yields:
        For each tag a row, and the sizes in bytes of the blobs in the store that it needs, by
        digest.
    """
    here = store.blob_sizes() if isinstance(store, LayoutStore) else None
    seen: set[str] = set()
    known: dict[str, tuple[ListedVersion, dict[str, int]]] = {}
    for name, entry in tags.items():
        found = known.get(entry.digest)
        if found is None:
            row, blobs = examine(store, entry)
            if here is not None:  # a version packed on a base in a registry has others there
                blobs = {digest: size for digest, size in blobs.items() if digest in here}
            found = known[entry.digest] = row, blobs
        row, blobs = found
        origin = entry.annotations.get(ORIGIN, "")
        new = None
        if row.stored_bytes is not None:
            new = sum(size for digest, size in blobs.items() if digest not in seen)
        seen |= blobs.keys()
        yield replace(row, tag=name, new_bytes=new, origin=origin), blobs


def examine(store: Store, entry: Descriptor) -> tuple[ListedVersion, dict[str, int]]:
    """Return what a manifest and its config tell, and the sizes of the blobs it needs.

    Args:
        store: holds them.
        entry: the manifest's descriptor.

    Returns:
        A row without a tag, and the sizes in bytes by digest, the manifest's included. What cannot
        be read is the row's `problem`.
    """
    row = ListedVersion("", entry.digest)
    try:
        _, data = store.get_manifest(entry.digest)
        graph = read_graph(data, f"manifest {entry.digest}")
    except UnsupportedVersion:
        return row, {entry.digest: entry.size}  # an image index, say
    except PackerError as error:
        return replace(row, problem=str(error)), {entry.digest: entry.size}
    blobs = {blob.digest: blob.size for blob in (entry, *graph.blobs)}
    row = replace(row, stored_bytes=sum(blobs.values()))
    try:
        manifest = Manifest.decode(data, f"manifest {entry.digest}")
        row = replace(row, created=manifest.annotations.get(CREATED, ""))
        text = read_blob(store, manifest.config, MAX_MANIFEST_BYTES)
        totals = Config.decode(text, f"config {manifest.config.digest}").totals
    except UnsupportedVersion:
        return row, blobs
    except PackerError as error:
        return replace(row, problem=str(error)), blobs
    return replace(row, files=totals.get("files"), bytes=totals.get("bytes")), blobs
