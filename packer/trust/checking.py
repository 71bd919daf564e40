"""Checks the signatures of a version against a policy, before anything of it is used.

Flow: what refers to the manifest is listed, each signature among it becomes a claim, and the
policy's rule asks of its signers whether one of the claims is theirs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone

from packer.errors import (
    BadSignature,
    IntegrityError,
    NotFound,
    PackerError,
    SignatureError,
    SignatureExpired,
    SignatureMismatch,
    UnknownSigner,
    Unsigned,
)
from packer.oci import Descriptor, load_json
from packer.stores.protocols import Store, read_blob
from packer.stores.referrers import Referrer, direct_referrers
from packer.trust.bundle import BundleClaim, is_bundle_type
from packer.trust.claims import MAX_CLAIMS, MAX_DOCUMENT_BYTES, Claim
from packer.trust.notation import NOTATION_TYPE, NotationClaim
from packer.trust.policy import Policy
from packer.trust.simple_signing import PAYLOAD_TYPE, SIGNATURE, SimpleClaim

_TELLING = (SignatureMismatch, SignatureExpired, BadSignature, UnknownSigner)
"""Kinds of errors; of several, the first tells most of what went wrong."""
_SHOWN = 3
"""Reasons that an error tells."""


@dataclass(frozen=True, slots=True)
class Signature:
    """A signature that was checked, and is one of a signer that the policy asks for.

    Args:
        signer: the policy's name of who signed.
        identity: ID of the key, subject of the certificate, or identity.
        kind: "cosign", "sigstore-bundle" or "notation".
        carrier: digest of the manifest that carries it.
    """

    signer: str
    identity: str
    kind: str
    carrier: str


@dataclass(frozen=True, slots=True)
class Trusted:
    """What a policy says of a version that it lets pass.

    Args:
        digest: of the version's manifest.
        repository: whose rule applied.
        policy: the policy's name.
        policy_digest: of the policy, and of the keys in it.
        rule: pattern of the rule that applied.
        signatures: those that were checked; none if the rule asks for none.
    """

    digest: str
    repository: str
    policy: str
    policy_digest: str
    rule: str
    signatures: tuple[Signature, ...]


def check_signatures(
    store: Store,
    descriptor: Descriptor,
    manifest: bytes,
    policy: Policy,
    repository: str,
    *,
    now: datetime | None = None,
) -> Trusted:
    """Raise unless a version is signed as a policy asks.

    Args:
        store: holds what refers to the version.
        descriptor: of the version's manifest.
        manifest: its bytes, verified.
        policy: the policy.
        repository: whose rule applies, such as ``registry.example/acme/app``.
        now: the time for certificates and expiry; by default that of the clock.

    Returns:
        The signatures that the policy asks for.

    Raises:
        Unsigned: there is no signature at all.
        UnknownSigner: no signer signed that the policy asks for, or no rule is for the repository.
        SignatureError: another kind tells what is wrong with the signatures that came nearest.
        FormatError: a list of referrers is malformed.
        MissingExtra: a library is not installed.
        StoreError: the store failed.
    """
    digest = descriptor.digest
    rule = policy.rule_for(repository)
    if rule is None:
        raise UnknownSigner(digest, f"no rule of policy {policy.name} is for {repository}")
    trusted = Trusted(digest, repository, policy.name, policy.digest, rule.repository, ())
    if rule.needs is None:
        return trusted
    moment = datetime.now(timezone.utc) if now is None else now
    claims = list(_claims(store, digest, manifest))
    if not claims:
        raise Unsigned(digest, f"{store.name} has no signature of it; asked for: {rule.needs}")
    good: dict[str, Signature] = {}
    problems: list[SignatureError] = []

    def signed(name: str) -> bool:
        if name not in good:
            for claim in claims:
                if isinstance(claim, SignatureError):
                    problems.append(claim)
                    continue
                try:
                    identity = claim.check(policy.signers[name], digest, moment)
                except SignatureError as error:
                    problems.append(error)
                else:
                    good[name] = Signature(name, identity, claim.kind, claim.carrier)
                    break
        return name in good

    if not rule.needs.met(signed):
        error = _telling(digest, str(rule.needs), problems)
        raise error
    return Trusted(
        digest, repository, policy.name, policy.digest, rule.repository, tuple(good.values())
    )


def _telling(digest: str, asked: str, problems: list[SignatureError]) -> SignatureError:
    """Return one error of many: of the kind that tells most, with the reasons of that kind."""
    kind = next(one for one in _TELLING if any(isinstance(each, one) for each in problems))
    reasons = dict.fromkeys(each.why for each in problems if isinstance(each, kind))
    shown = "; ".join(list(reasons)[:_SHOWN])
    more = f" and {len(reasons) - _SHOWN} more" if len(reasons) > _SHOWN else ""
    return kind(digest, f"{shown}{more}; asked for: {asked}")


def _claims(store: Store, digest: str, manifest: bytes) -> Iterator[Claim | BadSignature]:
    """Yield the signatures of a version, not believed yet; a malformed one as its error.

    Whoever may write to the repository may attach a malformed signature: it must not keep a sound
    one from being found.
    """
    count = 0
    broken: list[PackerError] = []
    for referrer in direct_referrers(store, digest, broken.append):
        try:
            found = list(_claims_of(store, referrer, digest, manifest))
        except (IntegrityError, NotFound) as error:
            yield BadSignature(digest, str(error))
            continue
        for claim in found:
            count += 1
            if count > MAX_CLAIMS:
                yield BadSignature(digest, f"more than {MAX_CLAIMS} signatures; no more are read")
                return
            yield claim
    for each in broken:
        yield BadSignature(digest, str(each))


def _claims_of(
    store: Store, referrer: Referrer, digest: str, manifest: bytes
) -> Iterator[Claim | BadSignature]:
    carrier, kind = referrer.descriptor.digest, referrer.descriptor.artifact_type
    is_tagged = referrer.tag is not None and referrer.tag.endswith(".sig")
    layers = load_json(referrer.data, f"manifest {carrier}").get("layers")
    if not isinstance(layers, list):
        return
    for layer in map(Descriptor.from_json, layers[: MAX_CLAIMS + 1]):
        wanted = (
            (layer.media_type == PAYLOAD_TYPE and (is_tagged or SIGNATURE in layer.annotations))
            or (is_bundle_type(layer.media_type) and is_bundle_type(kind))
            or kind == NOTATION_TYPE
        )
        if not wanted:
            continue
        if layer.size > MAX_DOCUMENT_BYTES:
            yield BadSignature(digest, f"{carrier}: {layer.size} bytes are too many")
            continue
        data = read_blob(store, layer, MAX_DOCUMENT_BYTES)
        if kind == NOTATION_TYPE:
            yield NotationClaim(carrier, layer.media_type, data)
        elif layer.media_type == PAYLOAD_TYPE:
            yield SimpleClaim(carrier, data, layer.annotations.get(SIGNATURE, ""))
        else:
            yield BundleClaim(carrier, data, manifest)
