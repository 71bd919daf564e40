"""Crosses an air gap: inventories of the far side, and archives that leave out what it has.

The far side's inventory, a list of digests or the names of versions become promises. `copy` leaves
the promised blobs out of an archive and records the promises in it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from packer.api.locations import name_at, names_registry, open_location, resolve
from packer.errors import (
    FormatError,
    InvalidParameter,
    NotFound,
    RegistryError,
    UnsupportedVersion,
)
from packer.files.durable import read_bounded
from packer.oci import is_digest, load_json
from packer.reference import ArchiveLocation, LayoutLocation, Reference, is_tag, parse_location
from packer.stores.archive.store import ArchiveStore
from packer.stores.layout import LayoutStore
from packer.stores.manifests import read_graph
from packer.stores.protocols import Store, Tags, Upload
from packer.stores.registry.access import Access
from packer.transfer.promises import Promise, absent_blobs
from packer.trust.receipt import decode_receipt, is_receipt

INVENTORY_TYPE = "application/vnd.layer-packer.inventory.v1+json"
MAX_FILE_BYTES = 64 << 20
"""Greatest bytes of an inventory or a list of digests: room for some 10,000 versions."""


@dataclass(frozen=True, slots=True)
class InventoryEntry:
    """A manifest that a store holds.

    Args:
        digest: the manifest's digest.
        tags: the tags that name the manifest.
        blobs: digests of the blobs that the manifest names and the store has.
    """

    digest: str
    tags: tuple[str, ...]
    blobs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Inventory:
    """The manifests that a store holds.

    Args:
        store: the store's name.
        manifests: the manifests, by digest.
    """

    store: str
    manifests: tuple[InventoryEntry, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object that docs/airgap.md specifies."""
        return {
            "mediaType": INVENTORY_TYPE,
            "store": self.store,
            "manifests": [
                {"digest": entry.digest, "tags": list(entry.tags), "blobs": list(entry.blobs)}
                for entry in self.manifests
            ],
        }

    @classmethod
    def from_json(cls, value: dict[str, Any], what: str) -> Inventory:
        """Check a decoded inventory.

        Args:
            value: the JSON object.
            what: the inventory's name in errors.

        Returns:
            The inventory.

        Raises:
            UnsupportedVersion: the document is of another kind, or of a later version.
            FormatError: the document is malformed.
        """
        if value.get("mediaType") != INVENTORY_TYPE:
            raise UnsupportedVersion(f"{what} is no inventory, by its mediaType")
        store, manifests = value.get("store", ""), value.get("manifests")
        if not isinstance(store, str) or not isinstance(manifests, list):
            raise FormatError(what, "store or manifests are missing or of the wrong type")
        entries = []
        for item in manifests:
            entry = item if isinstance(item, dict) else {}
            digests = [entry.get("digest"), *_list(entry.get("blobs"), what)]
            tags = _list(entry.get("tags"), what)
            if not all(isinstance(digest, str) and is_digest(digest) for digest in digests):
                raise FormatError(what, "a digest is missing or is not sha256:<hex>")
            if not all(isinstance(tag, str) for tag in tags):
                raise FormatError(what, "a tag is no string")
            entries.append(InventoryEntry(str(digests[0]), tuple(tags), tuple(digests[1:])))
        return cls(store, tuple(entries))


def _list(value: object, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise FormatError(what, "tags or blobs is not a list")
    return value


Have = str | os.PathLike[str] | Inventory
"""Something that the far side has: the name of a version, a file, or an inventory."""


def as_list(have: Have | Iterable[Have]) -> list[Have]:
    """Return one item or several as a list; a single name is not split into its letters.

    Args:
        have: an item, or several.

    Returns:
        The items.
    """
    return [have] if isinstance(have, (str, os.PathLike, Inventory)) else list(have)


def take_inventory(name: str | None, local: Store, options: Access) -> Inventory:
    """List the manifests of a store, or those that a name means.

    Args:
        name: a reference (a repository without a tag means all its tags), the directory of a
            layout, a tag or digest of the local store; None for all of the local store.
        local: the local store.
        options: how to reach a registry.

    Returns:
        The manifests with their blobs.

    Raises:
        NotFound: there is no such store or version.
        InvalidParameter: the store cannot list its tags.
    """
    store, wanted = _store_of(name, local, options)
    if wanted is not None:
        found = {wanted: store.resolve(wanted)}
    elif isinstance(store, Tags):
        found = dict(store.tags())
    else:
        raise InvalidParameter(f"{store.name} cannot list its tags")
    tags: dict[str, list[str]] = {}
    for tag, descriptor in found.items():
        tags.setdefault(descriptor.digest, []).extend([] if is_digest(tag) else [tag])
    entries = []
    for digest, names in sorted(tags.items()):
        try:
            _, data = store.get_manifest(digest)
            blobs = read_graph(data, f"manifest {digest}").blobs
        except (NotFound, UnsupportedVersion):
            continue  # an image index, or a manifest that is gone: its blobs are sent again
        gone = absent_blobs(store, blobs)
        kept = sorted(blob.digest for blob in blobs if blob not in gone)
        entries.append(InventoryEntry(digest, tuple(sorted(names)), tuple(kept)))
    return Inventory(store.name, tuple(entries))


def _store_of(name: str | None, local: Store, options: Access) -> tuple[Store, str | None]:
    """Return the store that a name means, and the version in it, None for all."""
    if name is None:
        return local, None
    if os.path.exists(os.path.join(name, "oci-layout")):
        return LayoutStore(name, create=False), None
    try:
        local.resolve(name)
    except (NotFound, InvalidParameter):
        if not names_registry(name):
            raise
    else:
        return local, name
    location = parse_location(name)
    store, tag = open_location(location, options, create=False)
    if tag is None and location.digest is None:
        return store, None
    return store, name_at(location, store, tag)


def open_target(
    location: Reference | LayoutLocation,
    options: Access,
    *,
    partial: bool,
    part_bytes: int | None,
) -> tuple[Store, str | None]:
    """Open the store to copy to.

    Args:
        location: the destination.
        options: how to reach registries.
        partial: blobs will be left out.
        part_bytes: write an archive in parts of this many bytes; None for one file.

    Returns:
        The store, and the tag that the location names in it; None for none.

    Raises:
        InvalidParameter: the destination is no archive, and `partial` or `part_bytes` needs one.
    """
    if not isinstance(location, ArchiveLocation):
        for asked, option in ((partial, "--have"), (part_bytes is not None, "--split")):
            if asked:
                raise InvalidParameter(f"{location}: {option} is for oci-archive: only")
        return open_location(location, options, create=True)
    return ArchiveStore(location.path, part_bytes=part_bytes), location.tag


def find_promises(
    have: Iterable[Have],
    source: Store,
    manifest: str,
    local: Store,
    options: Access,
) -> list[Promise]:
    """Find which blobs of a manifest the far side has.

    Args:
        have: inventories, names of versions, or files; see `packer.copy`.
        source: the store copied from, which is asked first.
        manifest: digest of the manifest to be copied.
        local: the local store.
        options: how to reach registries.

    Returns:
        The versions that have blobs of the manifest, the one with most of them first.

    Raises:
        NotFound: a name is neither a version nor a file.
        FormatError: a file is neither an inventory nor a list of digests.
        UnsupportedVersion: a file holds another kind of document.
    """
    graph = read_graph(source.get_manifest(manifest)[1], f"manifest {manifest}")
    wanted = frozenset(blob.digest for blob in graph.blobs)
    out: list[Promise] = []
    for item in have:
        if isinstance(item, Inventory):
            out += _inventory_promises(item)
        else:
            out += _named(os.fspath(item), source, wanted, local, options)
    # The versions with most blobs come first, so that the far side needs as few as possible.
    useful = [promise for promise in out if promise.blobs & wanted]
    return sorted(useful, key=lambda promise: -len(promise.blobs & wanted))


def _inventory_promises(inventory: Inventory) -> list[Promise]:
    return [
        Promise(next(iter(entry.tags), ""), entry.digest, frozenset(entry.blobs))
        for entry in inventory.manifests
    ]


def _named(
    text: str, source: Store, wanted: frozenset[str], local: Store, options: Access
) -> list[Promise]:
    """Return the promises of a name or a file."""
    for name in _names_in(text, source):
        if (found := _version(source, name, text)) is not None:
            return [found]
    if os.path.isfile(text):
        return _from_file(text, source, wanted)
    try:
        store, name = resolve(text, local, options)
    except (NotFound, InvalidParameter) as error:
        if names_registry(text):
            raise
        raise NotFound(
            "base", text, f"no version in {source.name} or {local.name}, and no file"
        ) from error
    found = _version(store, name, text)
    if found is None:
        raise NotFound("base", text, f"in {store.name}")
    return [found]


def _names_in(text: str, source: Store) -> Iterator[str]:
    """Yield the names that a version may have in the source."""
    if is_digest(text) or is_tag(text) or not isinstance(source, Upload):
        yield text
    # app:1.4.1 is the tag 1.4.1 of a repository registry.example/acme/app.
    name, colon, tag = text.rpartition(":")
    if colon and is_tag(tag) and f"/{source.name}".endswith(f"/{name}"):
        yield tag


def _version(store: Store, name: str, shown: str) -> Promise | None:
    """Return the promise of a version; None if the store has no version of that name."""
    try:
        descriptor, data = store.get_manifest(name)
    except (NotFound, InvalidParameter):
        return None
    graph = read_graph(data, f"manifest {descriptor.digest}")
    tag = "" if is_digest(shown) else shown
    # All blobs: the far side may have some that this store lacks.
    return Promise(tag, descriptor.digest, frozenset(blob.digest for blob in graph.blobs))


def _from_file(path: str, source: Store, wanted: frozenset[str]) -> list[Promise]:
    data = read_bounded(path, MAX_FILE_BYTES)
    if len(data) > MAX_FILE_BYTES:
        raise FormatError(path, f"above {MAX_FILE_BYTES} bytes")
    if data.lstrip()[:1] == b"{":
        value = load_json(data, path, MAX_FILE_BYTES)
        if is_receipt(value):
            return [_receipt_promise(data, path)]
        return _inventory_promises(Inventory.from_json(value, path))
    digests: list[str] = []
    for line in data.decode("utf-8", "replace").splitlines():
        digest = line.partition("#")[0].strip()
        if digest and not is_digest(digest):
            raise FormatError(path, f"{digest[:80]!r} is no digest, and the file no inventory")
        if digest:
            digests.append(digest)
    if blobs := wanted.intersection(digests):
        return [Promise("", "", blobs)]
    return list(_manifests(digests, source))


def _receipt_promise(data: bytes, path: str) -> Promise:
    """Return what a receipt of a copy says that its destination has."""
    receipt = decode_receipt(data, path)
    if not receipt.blobs:
        raise FormatError(path, f"the receipt of a {receipt.action} names no blobs")
    return Promise(receipt.tag, receipt.digest, frozenset(receipt.blobs))


def _manifests(digests: list[str], source: Store) -> Iterator[Promise]:
    """Yield the versions that a list of digests names."""
    for digest in dict.fromkeys(digests):
        try:
            found = _version(source, digest, digest)
        except RegistryError as error:
            # docker-registry answers 5xx to a blob's digest, and does not say that it is no
            # manifest. So this is a list of blobs, none of which the version needs.
            if error.status < 500:
                raise
            return
        except FormatError:
            return
        if found is not None:
            yield found
