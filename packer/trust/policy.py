"""Policies: who has to have signed the versions of which repository.

A policy names signers, and has rules. The first rule whose pattern matches a repository decides;
a repository that no rule matches is refused. docs/trust.md specifies the file.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from packer.errors import FormatError, InvalidParameter, UnsupportedVersion
from packer.files.durable import read_bounded
from packer.oci import canonical_json, digest_of, load_json
from packer.trust.claims import CertificateSigner, IdentitySigner, KeySigner, Signer
from packer.trust.keys import PublicKey, read_key_file
from packer.trust.notation import load_certificates, parse_subject

POLICY_TYPE = "application/vnd.layer-packer.policy.v1+json"
MAX_POLICY_BYTES = 1 << 20
"""Bound on a policy file."""
_MAX_SIGNERS = 1000
_MAX_RULES = 1000
_MAX_DEPTH = 8
"""Bound on requirements within one another."""


@dataclass(frozen=True, slots=True)
class Needs:
    """What a rule requires: signers or further requirements, any of them or all.

    Args:
        of: names of signers, and requirements.
        every: all of them; else one is enough.
    """

    of: tuple[str | Needs, ...]
    every: bool = False

    def met(self, signed: Callable[[str], bool]) -> bool:
        """Return whether the requirement is met.

        Args:
            signed: tells whether a signer has signed.

        Returns:
            Whether it is.
        """
        asked = (one.met(signed) if isinstance(one, Needs) else signed(one) for one in self.of)
        return all(asked) if self.every else any(asked)

    def __str__(self) -> str:
        return (" and " if self.every else " or ").join(
            f"({one})" if isinstance(one, Needs) else one for one in self.of
        )


@dataclass(frozen=True, slots=True)
class Rule:
    """What versions of some repositories need.

    Args:
        repository: pattern with ``*`` and ``?``, such as ``registry.example/acme/*``.
        needs: whose signatures; None lets unsigned versions pass.
    """

    repository: str
    needs: Needs | None

    def matches(self, repository: str) -> bool:
        """Return whether the rule is for a repository."""
        # A bracket is one, as in [::1]:5000, and begins no set of characters.
        return fnmatchcase(repository, self.repository.replace("[", "[[]"))


@dataclass(frozen=True, slots=True)
class Policy:
    """Who has to have signed what.

    Args:
        name: the file, or "keys"; for people.
        digest: ``sha256:<hex>`` of the policy and all keys and certificates that it names.
        signers: by name.
        rules: the first that matches decides.
    """

    name: str
    digest: str
    signers: Mapping[str, Signer] = field(repr=False)
    rules: tuple[Rule, ...]

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Policy:
        """Read a policy file; the files that it names lie beside it.

        Args:
            path: of the file.

        Returns:
            The policy.

        Raises:
            FormatError: the file is malformed.
            UnsupportedVersion: it is no policy, or one of a later version.
            InvalidParameter: a key, certificate or subject in it is malformed.
            MissingExtra: the extra ``verify`` is not installed.
            OSError: a file cannot be read.
        """
        name = os.fspath(path)
        data = read_bounded(name, MAX_POLICY_BYTES)
        value = load_json(data, f"policy {name}", MAX_POLICY_BYTES)
        if value.get("mediaType") != POLICY_TYPE:
            raise UnsupportedVersion(f"{name} is no policy, by its mediaType")
        return _Reader(name, os.path.dirname(os.path.abspath(name))).policy(value)

    @classmethod
    def of_keys(cls, files: Iterable[str | os.PathLike[str]]) -> Policy:
        """Return a policy that asks for a signature of any of these keys, in every repository.

        Args:
            files: each a public key or certificates, in PEM.

        Returns:
            The policy.

        Raises:
            InvalidParameter: there is none, or one is malformed.
            MissingExtra: the extra ``verify`` is not installed.
            OSError: a file cannot be read.
        """
        signers: dict[str, Signer] = {}
        digests = {}
        for each in files:
            file = os.fspath(each)
            pem = read_key_file(file)
            signers[file] = _signer_of_pem(file, pem)
            digests[file] = digest_of(pem)
        if not signers:
            raise InvalidParameter("a policy needs a key")
        whole = digest_of(canonical_json(sorted(digests.values())))
        return cls("keys", whole, signers, (Rule("*", Needs(tuple(signers))),))

    def rule_for(self, repository: str) -> Rule | None:
        """Return the rule of a repository; None if there is none, which refuses all of it."""
        return next((rule for rule in self.rules if rule.matches(repository)), None)


def _signer_of_pem(name: str, pem: bytes) -> Signer:
    if b"-----BEGIN CERTIFICATE-----" in pem:
        return CertificateSigner(name, load_certificates(pem, name))
    return KeySigner(name, PublicKey.load(pem, name))


class _Reader:
    """Reads a policy, and the files that it names.

    Args:
        name: of the policy in errors.
        directory: that relative paths begin at.
    """

    def __init__(self, name: str, directory: str) -> None:
        self._name = name
        self._directory = directory
        self._files: dict[str, str] = {}

    def policy(self, value: dict[str, Any]) -> Policy:
        """Return the policy of a JSON object."""
        listed, rules = value.get("signers"), value.get("rules")
        if not isinstance(listed, dict) or not isinstance(rules, list):
            raise self._wrong("signers or rules are missing, or of the wrong type")
        if len(listed) > _MAX_SIGNERS or len(rules) > _MAX_RULES:
            raise self._wrong(f"more than {_MAX_SIGNERS} signers or {_MAX_RULES} rules")
        self._only(value, "mediaType", "signers", "rules")
        signers = {name: self._signer(name, one) for name, one in listed.items()}
        made = tuple(self._rule(rule, signers) for rule in rules)
        whole = digest_of(canonical_json([value, self._files]))
        return Policy(self._name, whole, signers, made)

    def _signer(self, name: str, value: object) -> Signer:
        if not name or not isinstance(value, dict):
            raise self._wrong(f"signer {name[:80]!r} is no object with a name")
        if "key" in value:
            self._only(value, "key")
            return KeySigner(name, PublicKey.load(self._pem(value["key"]), name))
        if "certificates" in value:
            self._only(value, "certificates", "subject")
            subject = self._text(value.get("subject", ""))
            parse_subject(subject, name)
            return CertificateSigner(
                name, load_certificates(self._pem(value["certificates"]), name), subject
            )
        if "identity" in value:
            self._only(value, "identity", "issuer", "trust_root")
            identity, issuer = self._text(value["identity"]), self._text(value.get("issuer"))
            root = os.path.join(self._directory, self._text(value.get("trust_root")))
            data = read_bounded(root, MAX_POLICY_BYTES)
            self._files[root] = digest_of(data)
            return IdentitySigner(name, identity, issuer, root)
        raise self._wrong(f"signer {name[:80]!r} has no key, certificates or identity")

    def _pem(self, value: object) -> bytes:
        """Return a PEM that stands in the policy, or in a file beside it."""
        text = self._text(value)
        if text.lstrip().startswith("-----BEGIN "):
            return text.encode()
        path = os.path.join(self._directory, text)
        pem = read_key_file(path)
        self._files[text] = digest_of(pem)
        return pem

    def _rule(self, value: object, signers: Mapping[str, Signer]) -> Rule:
        if not isinstance(value, dict):
            raise self._wrong("a rule is no object")
        self._only(value, "repository", "require")
        needs = value.get("require")
        pattern = self._text(value.get("repository"))
        return Rule(pattern, None if needs == "nothing" else self._needs(needs, signers, 0))

    def _needs(self, value: object, signers: Mapping[str, Signer], depth: int) -> Needs:
        if isinstance(value, str):
            value = {"any": [value]}
        if not isinstance(value, dict) or len(value) != 1 or depth > _MAX_DEPTH:
            raise self._wrong('require is no signer, no {"any": [...]} and no {"all": [...]}')
        ((how, listed),) = value.items()
        if how not in ("any", "all") or not isinstance(listed, list) or not listed:
            raise self._wrong("require holds no list of any or all, or an empty one")
        for one in listed:
            if isinstance(one, str) and one not in signers:
                raise self._wrong(f"require names {one[:80]!r}, which is none of signers")
        of = tuple(
            one if isinstance(one, str) else self._needs(one, signers, depth + 1) for one in listed
        )
        return Needs(of, every=how == "all")

    def _text(self, value: object) -> str:
        if not isinstance(value, str) or len(value) > MAX_POLICY_BYTES:
            raise self._wrong("a text is missing, or of another type")
        return value

    def _only(self, value: dict[str, Any], *known: str) -> None:
        """Refuse what a later version may mean by other keys: a policy must not be half obeyed."""
        for key in value:
            if key not in known:
                raise self._wrong(f"{key[:80]!r} is not known here")

    def _wrong(self, why: str) -> FormatError:
        return FormatError(f"policy {self._name}", why)
