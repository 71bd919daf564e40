"""Finds repositories of the destination's registry from which blobs can be mounted."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from packer.errors import InvalidReference, PackerError
from packer.oci import Descriptor
from packer.reference import Reference
from packer.stores.manifests import read_graph
from packer.stores.partial import PartialIngest
from packer.stores.protocols import LocalBlobs, Mounter, Store, Tags
from packer.transfer.promises import decode_promises

MAX_VERSIONS = 16
"""Versions pulled from the registry that are searched for blobs; each costs reading a manifest."""


def mount_sources(
    source: Store, destination: Store, manifest: str, blobs: Collection[Descriptor]
) -> dict[str, str]:
    """Find other repositories of the destination's registry that are said to hold blobs.

    The source itself may be such a repository. In a local store, the tags of versions that were
    pulled from the registry name such repositories.

    Args:
        source: where the blobs are copied from.
        destination: where the blobs are copied to.
        manifest: digest of the manifest that names the blobs.
        blobs: the blobs to find.

    Returns:
        A repository by digest, for each blob that was found; nothing if the destination cannot
        mount blobs.
    """
    if not isinstance(destination, Mounter):
        return {}
    beside = destination.neighbour(source)
    if beside is not None:
        return {blob.digest: beside for blob in blobs}
    if not isinstance(source, LocalBlobs) or not isinstance(source, Tags):
        return {}
    wanted = {blob.digest for blob in blobs}
    found: dict[str, str] = {}
    for repository, digest in _pulled_from(source, destination):
        if wanted <= found.keys():
            break
        if digest == manifest:
            return dict.fromkeys(wanted, repository)
        try:
            _, data = source.get_manifest(digest)
            held = {blob.digest for blob in read_graph(data, f"manifest {digest}").blobs}
        except PackerError:
            continue  # the blobs of this version are uploaded: slower, not wrong
        found.update(dict.fromkeys((wanted & held) - found.keys(), repository))
    return found


def promised_sources(source: Store, destination: Store, manifest: str) -> dict[str, str]:
    """Find the repositories that hold the blobs which a local version lacks.

    Only the user's own store is believed: in a stranger's store, a note about where blobs lie would
    make this user's credentials mount them.

    Args:
        source: the local store.
        destination: where the version is copied to.
        manifest: the version's digest.

    Returns:
        A repository of the destination's registry by digest.
    """
    if not isinstance(source, PartialIngest) or not isinstance(destination, Mounter):
        return {}
    found: dict[str, str] = {}
    for promise in decode_promises(source.promises(manifest)):
        repository = _repository(promise.name, destination)
        if repository is not None:
            found.update(dict.fromkeys(promise.blobs, repository))
    return found


def _pulled_from(source: Tags, destination: Mounter) -> Iterator[tuple[str, str]]:
    """Yield repository and digest of the versions pulled from the registry, newest first."""
    count = 0
    for tag, descriptor in reversed(list(source.tags())):
        repository = _repository(tag, destination)
        if repository is not None:
            yield repository, descriptor.digest
            count += 1
            if count == MAX_VERSIONS:
                return


def _repository(name: str, destination: Mounter) -> str | None:
    """Return the repository of a reference if it is another one of the destination's registry."""
    host = name.removeprefix("docker://").partition("/")[0]
    if host.lower() != destination.registry.lower():
        return None
    try:
        reference = Reference.parse(name)
    except InvalidReference:
        return None
    other = reference.repository
    return other if other != destination.repository else None
