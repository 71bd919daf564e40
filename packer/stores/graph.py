"""Questions about the manifests of stores that copies ask."""

from __future__ import annotations

from packer.errors import DigestMismatch, InvalidParameter, NotFound, PackerError
from packer.oci import Descriptor, is_digest
from packer.stores.manifests import Graph, read_graph
from packer.stores.protocols import Store

MAX_ANCESTORS = 4
"""Generations of a version's bases that are looked for at the destination: each costs a request."""


def check_expected(actual: str, expect: str | None, what: str) -> None:
    """Raise unless `actual` is the digest that the caller expects.

    Args:
        actual: digest of what was found.
        expect: the caller's digest; None if any will do.
        what: its name in errors.

    Raises:
        InvalidParameter: `expect` is no digest.
        DigestMismatch: they differ.
    """
    if expect is None:
        return
    if not is_digest(expect):
        raise InvalidParameter(f"{expect[:80]!r} is not sha256:<64 hex digits>")
    if actual != expect:
        raise DigestMismatch(what, expect, actual)


def resolve_or_none(store: Store, reference: str) -> Descriptor | None:
    """Return the descriptor that a tag or digest names, None if there is none."""
    try:
        return store.resolve(reference)
    except NotFound:
        return None


def known_digests(
    source: Store, destination: Store, graph: Graph, named: Descriptor | None
) -> frozenset[str]:
    """Return digests of blobs that a manifest at `destination` vouches for.

    Registries keep what a manifest names, so its blobs need not be asked for one by one. The
    version's ancestors come first, whose manifests the source mostly has; then the manifest that
    the tag names now. Mostly this takes one or two requests.

    Args:
        source: has the version, and perhaps its ancestors.
        destination: the store that the version is copied to.
        graph: of the version.
        named: the manifest that the version's tag names at `destination` now; None if none.

    Returns:
        The digests; empty where nothing is known, which costs requests but is never wrong.
    """
    parent = graph.parent
    for _ in range(MAX_ANCESTORS):
        if parent is None:
            break
        try:
            found, data = source.get_manifest(parent)
            ancestor = read_graph(data, f"manifest {parent}")
        except PackerError:
            break  # only a saving is lost
        if found.digest == (named.digest if named else "") or resolve_or_none(
            destination, found.digest
        ):
            return frozenset(blob.digest for blob in ancestor.blobs)
        parent = ancestor.parent
    if named is None:
        return frozenset()
    try:
        _, data = destination.get_manifest(named.digest)
        return frozenset(blob.digest for blob in read_graph(data, "manifest").blobs)
    except PackerError:
        return frozenset()  # an image index, or gone meanwhile
