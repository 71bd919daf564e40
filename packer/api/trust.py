"""The library's calls about trust: signing, checking signatures, receipts.

`Trust` says what a call that writes a version has to check first, and where its receipt goes.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from packer.api.locations import StoreLike, names_registry, open_store, resolve
from packer.errors import (
    IntegrityError,
    InvalidParameter,
    NotFound,
    OlderVersion,
    UnsupportedVersion,
)
from packer.format.version import CREATED, load_version
from packer.oci import Descriptor, is_digest, load_json
from packer.reference import ArchiveLocation, LayoutLocation, parse_location
from packer.stores.manifests import read_graph
from packer.stores.protocols import LocalBlobs, Store
from packer.stores.registry.access import Access, RegistryLike
from packer.trust.keys import PublicKey, SigningKey, read_key_file
from packer.trust.receipt import InstalledFile, Receipt, read_receipt

if TYPE_CHECKING:
    from packer.trust.checking import Trusted
    from packer.trust.installed import Deviation
    from packer.trust.policy import Policy
    from packer.trust.signing import Signed

_LOG = logging.getLogger(__name__)
PASSWORD = "LAYER_PACKER_KEY_PASSWORD"  # noqa: S105 -- the name of a variable
"""Environment variable with the password of an encrypted private key."""

KeyLike = str | os.PathLike[str] | SigningKey
"""A private key, or the file that holds it in PEM."""


@dataclass(frozen=True, slots=True)
class Trust:
    """What to check before anything of a version is written, and what to state afterwards.

    Args:
        policy: whose signatures the version needs; None for nobody's.
        repository: whose rule of the policy applies; by default that of the version's reference.
            An archive, or a layout, does not prove which repository it came from: name it here.
        after: a receipt; a version that was packed before that one's is refused.
        receipt: file to write a receipt to; None for none.
        receipt_key: signs the receipt.
    """

    policy: Policy | None = None
    repository: str | None = None
    after: Receipt | None = None
    receipt: str | os.PathLike[str] | None = None
    receipt_key: KeyLike | None = None

    def __post_init__(self) -> None:
        """Refuse a key that would sign nothing, and a receipt in no directory."""
        if self.receipt_key is not None and self.receipt is None:
            raise InvalidParameter("a key for a receipt is given, and no file for the receipt")
        if self.receipt is not None:
            folder = os.path.dirname(os.path.abspath(self.receipt))
            if not os.path.isdir(folder):
                raise InvalidParameter(f"{folder} is no directory to write a receipt to")

    def admit(
        self, store: Store, descriptor: Descriptor, manifest: bytes, name: str
    ) -> Trusted | None:
        """Raise unless a version may be used.

        Args:
            store: holds the version.
            descriptor: of its manifest.
            manifest: its bytes, verified.
            name: the version's name as it was given.

        Returns:
            The signatures that were checked; None without a policy.

        Raises:
            SignatureError: the version is not signed as the policy asks.
            OlderVersion: it is older than `after`.
            StoreError: the store failed.
        """
        if self.receipt_key is not None:
            load_signing_key(self.receipt_key)  # before anything is written
        if self.after is not None and self.after.digest != descriptor.digest:
            refuse_older(manifest, self.after.created, name, "the receipt says")
        if self.policy is None:
            return None
        from packer.trust.checking import check_signatures  # loads nothing where there is no policy

        repository = repository_of(name) if self.repository is None else self.repository
        return check_signatures(store, descriptor, manifest, self.policy, repository)

    def record(self, draft: Draft, files: Callable[[], Iterable[InstalledFile]] | None) -> None:
        """Write the receipt, if one is asked for.

        Args:
            draft: what was done.
            files: gives what was installed, verified; None if no directory was written.

        Raises:
            SourceChanged: what was installed was changed since.
            OSError: the receipt cannot be written.
        """
        if self.receipt is None:
            return
        value = load_json(draft.manifest, f"manifest {draft.descriptor.digest}")
        graph = read_graph(draft.manifest, f"manifest {draft.descriptor.digest}")
        receipt = Receipt(
            action=draft.action,
            time=datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
            source=draft.source,
            destination=draft.destination,
            digest=draft.descriptor.digest,
            tag=draft.tag,
            parent=graph.parent or "",
            created=_created(value),
            tree=_tree(draft.store, draft.descriptor.digest),
            trusted=draft.trusted,
            files=None if files is None else tuple(files()),
            complete=draft.complete,
            blobs=() if files is not None else tuple(blob.digest for blob in graph.blobs),
        )
        key = None if self.receipt_key is None else load_signing_key(self.receipt_key)
        receipt.write(self.receipt, key)


@dataclass(frozen=True, slots=True)
class Draft:
    """What a receipt says besides the files.

    Args:
        action: "pull", "unpack", "load" or "copy".
        source: where the version came from.
        destination: the directory, or a reference.
        store: holds the version.
        descriptor: of its manifest.
        manifest: its bytes.
        tag: its name; "" for none.
        trusted: the signatures that were checked.
        complete: the directory holds nothing else.
    """

    action: str
    source: str
    destination: str
    store: Store
    descriptor: Descriptor
    manifest: bytes
    tag: str
    trusted: Trusted | None
    complete: bool = False


def refuse_older(manifest: bytes, before: str, name: str, where: str) -> None:
    """Raise if a version was packed before another one, or does not say when.

    Args:
        manifest: of the version.
        before: when the other one was packed; "" if it does not say, then nothing is refused.
        name: the version's name.
        where: begins the reason: what tells of the other one.

    Raises:
        OlderVersion: the version is older.
    """
    if not before:
        return
    now = _created(load_json(manifest, f"manifest of {name}"))
    old, new = _moment(before), _moment(now)
    if old is not None and (new is None or new < old):
        made = f"it was packed at {now}" if now else "it does not say when it was packed"
        raise OlderVersion(name, f"{made}, {where} {before}; --allow-older takes it all the same")


def refuse_going_back(manifest: bytes, store: Store, tag: str | None, name: str) -> None:
    """Raise if a tag would go back to a version that was packed before the one it names.

    Args:
        manifest: of the version.
        store: has the tag.
        tag: the tag; None for none, then nothing is refused.
        name: the version's name.

    Raises:
        OlderVersion: the version is older.
    """
    if tag is None:
        return
    try:
        before = _created(load_json(store.get_manifest(tag)[1], f"tag {tag}"))
    except (NotFound, IntegrityError):
        return  # nothing that an older version could replace
    refuse_older(manifest, before, name, f"{tag} in {store.name}")


def _created(manifest: dict[str, object]) -> str:
    annotations = manifest.get("annotations")
    found = annotations.get(CREATED) if isinstance(annotations, dict) else None
    return found if isinstance(found, str) else ""


def _moment(text: str) -> datetime | None:
    """Return a time of RFC 3339; None for other text."""
    try:
        found = datetime.fromisoformat(text[:40].replace("Z", "+00:00"))
    except ValueError:
        return None
    return found if found.tzinfo else None


def _tree(store: Store, digest: str) -> str:
    """Return the tree digest of a version; "" for a manifest of another tool."""
    try:
        return load_version(store, digest).config.tree
    except (UnsupportedVersion, NotFound):
        return ""


def repository_of(name: str) -> str:
    """Return the repository that a version's name tells, for the rules of policies.

    Args:
        name: a reference, or a tag or digest of the local store.

    Returns:
        ``registry.example/acme/app``; of a layout or archive its transport and path; of a local tag
        the part before the last colon; of a local digest "".
    """
    from packer.api.locations import names_registry

    if names_registry(name):
        location = parse_location(name)
        if isinstance(location, LayoutLocation):
            kind = "oci-archive" if isinstance(location, ArchiveLocation) else "oci"
            return f"{kind}:{location.path}"
        return f"{location.registry}/{location.repository}"
    return "" if is_digest(name) else name.rpartition(":")[0] or name


def load_signing_key(key: KeyLike) -> SigningKey:
    """Return a private key.

    Args:
        key: the key, or its file; of an encrypted one, ``$LAYER_PACKER_KEY_PASSWORD`` is the
            password.

    Returns:
        The key.

    Raises:
        InvalidParameter: it is no key that signs, or the password is wrong.
        MissingExtra: the extra ``verify`` is not installed.
        OSError: the file cannot be read.
    """
    if isinstance(key, SigningKey):
        return key
    password = os.environ.get(PASSWORD)
    name = os.fspath(key)
    return SigningKey.load(read_key_file(name), password.encode() if password else None, name)


def sign(
    name: str,
    key: KeyLike,
    *,
    store: StoreLike = None,
    registry: RegistryLike = None,
) -> Signed:
    """Sign a version as ``cosign sign --key`` does, so that cosign verifies it.

    The signature lies beside the version, in the local store or where the reference points, under
    the tag ``sha256-<hex>.sig``; signatures that are there stay.

    Args:
        name: tag or digest of the version in the local store, or a reference elsewhere.
        key: an ECDSA key on P-256 or P-384, or an Ed25519 key.
        store: the local store.
        registry: how to reach a registry.

    Returns:
        Where the signature is.

    Raises:
        NotFound: there is no such version.
        InvalidParameter: it is no key that signs, or the place is a split archive.
        MissingExtra: the extra ``verify`` is not installed.
        StoreError: a store failed.
        OSError: the key cannot be read.
    """
    from packer.trust.signing import sign_version

    pair = load_signing_key(key)
    holder, known = resolve(name, open_store(store, create=False), Access(registry))
    descriptor, _ = holder.get_manifest(known)
    made = sign_version(holder, descriptor, pair, repository_of(name))
    if names_registry(name) and isinstance(holder, LocalBlobs):
        _LOG.warning("%s lies in the local store and is signed there; push takes it along", name)
    return made


def verify_signatures(
    name: str,
    policy: Policy,
    *,
    repository: str | None = None,
    store: StoreLike = None,
    registry: RegistryLike = None,
) -> Trusted:
    """Check a version's signatures against a policy; read nothing else of it.

    Args:
        name: tag or digest of the version in the local store, or a reference elsewhere.
        policy: whose signatures it needs.
        repository: whose rule applies, as in `Trust`.
        store: the local store.
        registry: how to reach a registry.

    Returns:
        The signatures that the policy asks for, and the version's digest. Use the version by this
        digest: a tag may move.

    Raises:
        NotFound: there is no such version.
        SignatureError: it is not signed as the policy asks.
        MissingExtra: a library is not installed.
        StoreError: a store failed.
    """
    holder, known = resolve(name, open_store(store, create=False), Access(registry))
    descriptor, data = holder.get_manifest(known)
    trusted = Trust(policy, repository).admit(holder, descriptor, data, name)
    assert trusted is not None
    return trusted


def verify_receipt(
    directory: str | bytes | os.PathLike[str],
    receipt: str | os.PathLike[str] | Receipt,
    keys: Iterable[str | os.PathLike[str]] = (),
) -> list[Deviation]:
    """Tell how a directory differs from what a receipt says was installed.

    Args:
        directory: as it is now.
        receipt: of the installation, or its file.
        keys: files of public keys, one of which has to have signed the file.

    Returns:
        What is missing, added or changed; none if the directory is what was installed.

    Raises:
        SignatureError: the receipt is not signed by one of `keys`.
        FormatError: the receipt is malformed.
        InvalidParameter: it lists no files, or `keys` are given for a receipt that was read.
        OSError: a file cannot be read.
    """
    from packer.trust.installed import deviations

    known = load_public_keys(keys)
    if not isinstance(receipt, Receipt):
        receipt = read_receipt(receipt, known)
    elif known:
        raise InvalidParameter("keys are for the file of a receipt: this one was read before")
    return deviations(receipt, directory)


def load_public_keys(files: Iterable[str | os.PathLike[str]]) -> list[PublicKey]:
    """Return public keys.

    Args:
        files: each holds one in PEM.

    Returns:
        The keys.

    Raises:
        InvalidParameter: one is no such key.
        OSError: a file cannot be read.
    """
    return [PublicKey.load(read_key_file(os.fspath(file)), os.fspath(file)) for file in files]
