"""The library's call that lists what refers to a version."""

from __future__ import annotations

from dataclasses import dataclass

from packer.api.locations import StoreLike, open_store, resolve
from packer.api.signers import signer_of
from packer.stores.protocols import Store
from packer.stores.referrers import Referrer, all_referrers
from packer.stores.registry.access import Access, RegistryLike

_TAGGED = {
    ".sig": "signature of cosign",
    ".att": "attestation of cosign",
    ".sbom": "SBOM of cosign",
}


@dataclass(frozen=True, slots=True)
class ListedReferrer:
    """A manifest that refers to a version: a signature, an attestation, an SBOM.

    Args:
        type: its artifact type. What cosign attaches by a tag has none: then the type of its
            config.
        digest: of the manifest.
        size: bytes of the manifest and all that it needs.
        subject: digest of what it refers to: the version, or another referrer.
        tag: the tag that attaches it; "" if its subject does.
        signer: who it claims to be from, read without verifying anything; "" if it does not say.
        annotations: of the manifest.
    """

    type: str
    digest: str
    size: int
    subject: str
    tag: str
    signer: str
    annotations: dict[str, str]

    @property
    def kind(self) -> str:
        """What it is, for people: the artifact type, or what cosign's tag tells."""
        return _TAGGED.get(self.tag[71:], self.type) or "not said"


def referrers(
    name: str, *, store: StoreLike = None, registry: RegistryLike = None
) -> tuple[ListedReferrer, ...]:
    """List what refers to a version, at any depth, what is nearer first.

    Nothing is verified: a signature that is listed may be anybody's.

    Args:
        name: tag or digest of the version in the local store, or a reference elsewhere.
        store: the local store.
        registry: how to reach a registry.

    Returns:
        A row for each manifest.

    Raises:
        NotFound: there is no such version.
        FormatError: there are more than 1000, or a list is malformed.
        IntegrityError: bytes differ from their digest.
        StoreError: a store failed.
    """
    holder, known = resolve(name, open_store(store, create=False), Access.of(registry))
    return referrers_in(holder, holder.resolve(known).digest)


def referrers_in(holder: Store, digest: str) -> tuple[ListedReferrer, ...]:
    """List what refers to a manifest of an open store, as `referrers` does.

    Args:
        holder: the store.
        digest: of the manifest.

    Returns:
        A row for each manifest.
    """

    def row(one: Referrer) -> ListedReferrer:
        found = one.descriptor
        return ListedReferrer(
            found.artifact_type,
            found.digest,
            one.size,
            one.subject,
            one.tag or "",
            signer_of(holder, one),
            dict(found.annotations),
        )

    return tuple(row(one) for one in all_referrers(holder, digest))
