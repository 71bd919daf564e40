"""Challenges of registries, and the token services that may get credentials.

Rules, each against an attack that hit another client (docs/registries.md, "Attacks"):

- a token service (`realm`) gets credentials only over https (plain http only if the registry itself
  was asked for by plain http and has the same host), and only if it is the registry's own host, a
  host below it or beside it in the same domain, or one that the caller allowed;
- an address in numbers is a realm only if it is the registry's own.

Sources: distribution ``docs/spec/auth/token.md``; RFC 9110 section 11.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection
from dataclasses import dataclass

from packer.errors import AuthError, FormatError
from packer.reference import is_loopback
from packer.stores.registry.transport.urls import Origin, origin_of, shown_url

_MAX_HEADER_CHARS = 8192
_KNOWN_REALM_HOSTS = {"registry-1.docker.io": frozenset({"auth.docker.io"})}
_PARAM = re.compile(
    r"\s*([A-Za-z0-9!#$%&'*+.^_`|~-]+)\s*=\s*(?:\"((?:[^\"\\]|\\.)*)\"|([^\s,\"]+))\s*(?:,|\Z)"
)
_SCHEME = re.compile(r"\s*,?\s*([A-Za-z][A-Za-z0-9-]*)(?:\s+|\Z)(?!=)")


@dataclass(frozen=True, slots=True)
class Challenge:
    """One challenge of a WWW-Authenticate header.

    Args:
        scheme: in lower case.
        parameters: by their names in lower case.
    """

    scheme: str
    parameters: dict[str, str]


def parse_challenges(values: Collection[str]) -> list[Challenge]:
    """Parse WWW-Authenticate headers; a header is read up to the first part without sense."""
    out: list[Challenge] = []
    for value in values:
        rest = value[:_MAX_HEADER_CHARS]
        while match := _SCHEME.match(rest):
            rest = rest[match.end() :]
            parameters: dict[str, str] = {}
            while found := _PARAM.match(rest):
                name, quoted, plain = found.groups()
                text = plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
                parameters.setdefault(name.lower(), text)
                rest = rest[found.end() :]
            out.append(Challenge(match.group(1).lower(), parameters))
    return out


def check_realm(
    realm: str, registry: Origin, *, with_credentials: bool, allowed: Collection[str] = ()
) -> None:
    """Raise unless the token service `realm` may be asked.

    Args:
        realm: absolute URL from a challenge.
        registry: origin of the registry that sent it; of scheme http only if the caller asked.
        with_credentials: whether credentials would be sent there.
        allowed: further hosts trusted with the credentials.

    Raises:
        AuthError: with the rule that forbids it.
    """
    why = _objection(realm, registry, with_credentials=with_credentials, allowed=allowed)
    if why is not None:
        shown = shown_url(realm)
        raise AuthError(
            f"refusing the token service {shown}: {why}", status=401, method="GET", url=shown
        )


def _objection(
    realm: str, registry: Origin, *, with_credentials: bool, allowed: Collection[str]
) -> str | None:
    """Return the rule that forbids a token service, None if none does."""
    try:
        target = origin_of(realm)
    except FormatError as error:
        return error.why
    same_host = target.host == registry.host
    both_loopback = is_loopback(target.host) and is_loopback(registry.host)
    if target.scheme == "http" and not (registry.scheme == "http" and (same_host or both_loopback)):
        return "it is plain http"
    if same_host or both_loopback:
        return None
    if is_loopback(target.host) or _is_address(target.host):
        return "it is an address that is not the registry's own"
    if not with_credentials or target.host in allowed:
        return None
    if target.host in _KNOWN_REALM_HOSTS.get(registry.host, ()):
        return None
    if _is_address(registry.host) or not _same_domain(registry.host, target.host):
        return f"credentials of {registry.host} are not sent to another host unless allowed"
    return None


def _is_address(host: str) -> bool:
    """Return whether a host is an address in numbers, of any form that resolvers take."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        # 0x7f.1 and 2130706433 are addresses to some resolvers.
        return host.rpartition(".")[2].isdigit() or host.lower().startswith("0x")
    return True


def _same_domain(registry: str, other: str) -> bool:
    """Return whether `other` is below `registry`, is its parent domain, or is below that parent."""
    if other.endswith("." + registry):
        return True
    parent = registry.partition(".")[2]
    return "." in parent and (other == parent or other.endswith("." + parent))
