"""Credentials and tokens of one repository: whom they may be shown to, and when to get new ones.

Rules, each against an attack that hit another client (docs/threats.md):

- credentials belong to one registry host; nothing is shared between hosts, and no netrc is read;
- a token service (`realm`) gets them only over https (plain http only if the registry itself was
  asked for by plain http and has the same host), and only if it is the registry's own host, a host
  below it or beside it in the same domain, or one the caller allowed;
- an address in numbers is a realm only if it is the registry's own.

Sources: distribution ``docs/spec/auth/token.md`` and ``oauth.md``; RFC 9110 section 11.
"""

from __future__ import annotations

import base64
import ipaddress
import json
import logging
import re
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from enum import Enum
from urllib.parse import urlencode, urlsplit

from packer.errors import AuthError, FormatError, HelperFailed, InvalidParameter
from packer.forks import Lock
from packer.reference import is_loopback
from packer.stores.registry.credentials import Credentials
from packer.stores.registry.http import Transport
from packer.stores.registry.urls import Origin, origin_of, safe_text, shown_url

MAX_TOKEN_BYTES = 1 << 20
DEFAULT_TOKEN_SECONDS = 60
"""Life of a token that does not tell, as distribution's token specification says."""
MAX_TOKEN_SECONDS = 3600
MAX_PROVEN = 64
"""How many headers that were good once are remembered."""

_LOG = logging.getLogger(__name__)
_KNOWN_REALM_HOSTS = {"registry-1.docker.io": frozenset({"auth.docker.io"})}
_TOKEN = re.compile(r"[!-~]{1,65536}\Z")
_PARAM = re.compile(
    r"\s*([A-Za-z0-9!#$%&'*+.^_`|~-]+)\s*=\s*(?:\"((?:[^\"\\]|\\.)*)\"|([^\s,\"]+))\s*(?:,|\Z)"
)
_SCHEME = re.compile(r"\s*,?\s*([A-Za-z][A-Za-z0-9-]*)(?:\s+|\Z)(?!=)")


@dataclass(frozen=True, slots=True)
class Challenge:
    """One challenge of a WWW-Authenticate header; names are in lower case."""

    scheme: str
    parameters: dict[str, str]


class Learnt(Enum):
    """What a 401 led to."""

    NOTHING = 0
    NEW = 1
    """There are credentials now that were not yet tried."""
    RENEWED = 2
    """The token was good before; there is a newer one."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What a request needs to be allowed.

    Args:
        actions: in its repository: "pull", "pull,push", "" for no repository at all.
        mount_from: name of a second repository, of which a blob is mounted; it is pulled from.
    """

    actions: str
    mount_from: str | None = None

    def covers(self, other: Scope) -> bool:
        """Tell whether who is allowed this may do the other as well."""
        if other.mount_from not in (None, self.mount_from):
            return False
        return self.actions == other.actions or (self.actions, other.actions) == (
            "pull,push",
            "pull",
        )


@dataclass(frozen=True, slots=True)
class _Token:
    value: str = field(repr=False)
    expires: float


def parse_challenges(values: Collection[str]) -> list[Challenge]:
    """Parse WWW-Authenticate headers; what cannot be parsed ends its header's list."""
    out: list[Challenge] = []
    for value in values:
        rest = value[:8192]
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
        with_credentials: whether they would be sent there.
        allowed: further hosts trusted with the credentials.

    Raises:
        AuthError: with the rule that forbids it.
    """
    try:
        target = origin_of(realm)
    except FormatError as error:
        raise _refused(realm, error.why) from None
    same_host = target.host == registry.host
    both_loopback = is_loopback(target.host) and is_loopback(registry.host)
    if target.scheme == "http" and not (registry.scheme == "http" and (same_host or both_loopback)):
        raise _refused(realm, "it is plain http")
    if same_host or both_loopback:
        return
    if is_loopback(target.host) or _is_address(target.host):
        raise _refused(realm, "it is an address that is not the registry's own")
    if not with_credentials or target.host in allowed:
        return
    if target.host in _KNOWN_REALM_HOSTS.get(registry.host, ()):
        return
    if _is_address(registry.host) or not _same_domain(registry.host, target.host):
        raise _refused(
            realm, f"credentials of {registry.host} are not sent to another host unless allowed"
        )


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        # Also what some resolvers take for one: 0x7f.1, 2130706433.
        return host.rpartition(".")[2].isdigit() or host.lower().startswith("0x")
    return True


def _same_domain(registry: str, other: str) -> bool:
    """Tell whether `other` is below `registry`, is its parent domain, or is below that parent."""
    if other.endswith("." + registry):
        return True
    parent = registry.partition(".")[2]
    return "." in parent and (other == parent or other.endswith("." + parent))


def _refused(realm: str, why: str) -> AuthError:
    return AuthError(
        f"refusing the token service {shown_url(realm)}: {why}",
        status=401,
        method="GET",
        url=shown_url(realm),
    )


class Authenticator:
    """Authorization headers for one repository of one registry.

    Args:
        origin: scheme, host and port of the registry.
        repository: its name, for scopes.
        find: returns the credentials; called once, when a server first asks for any. If it raises
            `HelperFailed`, there are none, and `why_none` tells why.
        transport: for requests to the token service.
        token: a bearer token of the caller's, or a function that returns the current one, called
            again after a 401; then nothing else is sent.
        token_hosts: hosts other than the registry's that may get its credentials.

    Thread safety: threads may share it; one at a time asks for a token, the others wait for it.
    """

    def __init__(
        self,
        origin: Origin,
        repository: str,
        find: Callable[[], Credentials | None],
        transport: Transport,
        token_hosts: Collection[str] = (),
        token: str | Callable[[], str] | None = None,
    ) -> None:
        self._origin = origin
        self._repository = repository
        self._find = find
        self._transport = transport
        self._token_hosts = frozenset(token_hosts)
        self._given = token
        self._given_header = _given_header(token) if isinstance(token, str) else None
        self._lock = Lock(reentrant=True)
        self._credentials: Credentials | None = None
        self._looked = False
        self._why_none = ""
        self._basic: str | None = None
        self._realm: str | None = None
        self._service = ""
        self._tokens: dict[Scope, _Token] = {}
        self._proven: set[str] = set()

    def header(self, scope: Scope) -> str | None:
        """Return the Authorization header for a request of this scope.

        It is None as long as the registry has not asked for any.

        Raises:
            AuthError, TransportError: a new token was due and the token service gave none.
        """
        if self._given is not None:
            return self._ask_caller()
        if self._basic is None and self._realm is None:
            return None
        with self._lock:
            if self._basic is not None:
                return self._basic
            token = self._valid(scope)
            if token is None:
                token = self._tokens[scope] = self._request_token(scope)
            return "Bearer " + token.value

    def accepted(self, used: str) -> None:
        """Remember that the registry did not refuse a header."""
        if used not in self._proven:
            with self._lock:
                if len(self._proven) >= MAX_PROVEN:
                    self._proven.clear()
                self._proven.add(used)

    def challenged(self, values: Collection[str], used: str | None, scope: Scope) -> Learnt:
        """Learn from a 401.

        Args:
            values: its WWW-Authenticate headers.
            used: the Authorization header it was the answer to.
            scope: as for `header`.

        Returns:
            whether `header` now returns something else than `used`: worth another try.

        Raises:
            AuthError: the challenge is refused, or needs credentials and there are none.
        """
        with self._lock:
            ended = used is not None and used != self._basic and used in self._proven
            learnt = Learnt.RENEWED if ended else Learnt.NEW
            if self._given is not None:
                if callable(self._given) and used == self._given_header:
                    self._given_header = None
                return learnt if self._ask_caller() != used else Learnt.NOTHING
            for key in [key for key, token in self._tokens.items() if used == _bearer(token)]:
                del self._tokens[key]
            token = self._valid(scope)
            if token is not None or (self._basic is not None and self._basic != used):
                return learnt  # another thread was quicker
            challenges = {item.scheme: item for item in reversed(parse_challenges(values))}
            bearer = challenges.get("bearer")
            if bearer is not None and "realm" in bearer.parameters:
                self._basic = None
                self._realm = bearer.parameters["realm"]
                self._service = bearer.parameters.get("service", "")
                self._tokens[scope] = self._request_token(scope)
                return learnt
            if "basic" in challenges and self._basic is None:
                login = self._login()
                if login is None or login.is_identity_token:
                    host = self._origin.host
                    if self._origin.port not in (80, 443):
                        host += f":{self._origin.port}"
                    raise AuthError(
                        f"{host} asks for a user name and password, and none are "
                        "known: log in with `layer-packer login` or `docker login`, or give them"
                        f"{self._why_none}",
                        status=401,
                        url=str(self._origin),
                    )
                self._basic = _basic(login)
                return learnt
            return Learnt.NOTHING

    def _ask_caller(self) -> str:
        """Return the header of the caller's token, which is asked for when there is none."""
        with self._lock:
            if self._given_header is None:
                assert callable(self._given)
                self._given_header = _given_header(self._given())
            return self._given_header

    @property
    def why_none(self) -> str:
        """Why there are no credentials, as the end of an error's message; mostly empty."""
        return self._why_none

    def redact(self, text: str) -> str:
        """Return `text` without the secrets known here."""
        with self._lock:
            secrets = [token.value for token in self._tokens.values()]
            secrets += [self._given_header[7:]] if self._given_header else []
        if self._credentials is not None:
            secrets += [self._credentials.secret, _basic(self._credentials)[6:]]
        for secret in secrets:
            if len(secret) >= 4:
                text = text.replace(secret, "***")
        return text

    def _valid(self, scope: Scope) -> _Token | None:
        now = time.monotonic()
        for key in (scope, *(key for key in self._tokens if key.covers(scope))):
            token = self._tokens.get(key)
            if token is not None and token.expires > now:
                return token
        return None

    def _login(self) -> Credentials | None:
        if not self._looked:
            try:
                self._credentials = self._find()
            except HelperFailed as error:
                # A public registry needs none, and the errors of another one will say why.
                _LOG.warning("%s: going on without credentials", error)
                self._why_none = f"; {error}"
            self._looked = True
        return self._credentials

    def _request_token(self, scope: Scope) -> _Token:
        login = self._login()
        assert self._realm is not None
        check_realm(
            self._realm,
            self._origin,
            with_credentials=login is not None,
            allowed=self._token_hosts,
        )
        wanted = [f"repository:{self._repository}:{scope.actions}"] if scope.actions else []
        if scope.mount_from is not None:
            wanted.append(f"repository:{scope.mount_from}:pull")
        query: dict[str, str | list[str]] = {}
        if self._service:
            query["service"] = self._service
        begin = time.monotonic()
        headers = {"Accept": "application/json"}
        if login is not None and login.is_identity_token:
            if wanted:
                query["scope"] = " ".join(wanted)  # OAuth's form has one, with spaces in it
            query |= {
                "grant_type": "refresh_token",
                "refresh_token": login.secret,
                "client_id": "layer-packer",
            }
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            response = self._transport.send("POST", self._realm, headers, urlencode(query).encode())
        else:
            if wanted:
                query["scope"] = wanted
            if login is not None:
                query["account"] = login.username
                headers["Authorization"] = _basic(login)
            joint = "&" if urlsplit(self._realm).query else "?"
            url = self._realm.partition("#")[0]
            url += joint + urlencode(query, doseq=True) if query else ""
            response = self._transport.send("GET", url, headers)
        with response:
            if response.status != 200:
                who = f"user {login.username!r}" if login is not None else "anonymous access"
                raise AuthError(
                    f"the token service {shown_url(self._realm)} refused "
                    f"{scope.actions or 'access'} of {self._repository} to {safe_text(who)} "
                    f"(status {response.status}){self._why_none}",
                    status=response.status,
                    method=response.method,
                    url=shown_url(self._realm),
                    retryable=response.status >= 500 or response.status == 429,
                )
            data = response.read_bounded(MAX_TOKEN_BYTES, "token")
        return _parse_token(data, begin)


def _parse_token(data: bytes, begin: float) -> _Token:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise FormatError("token", "not a JSON object")
    token = value.get("token") or value.get("access_token")
    # Only visible ASCII: the token becomes a header of the next request.
    if not isinstance(token, str) or not _TOKEN.match(token):
        raise FormatError("token", "no token of printable characters")
    seconds = value.get("expires_in")
    if type(seconds) is not int or seconds <= 0:
        seconds = DEFAULT_TOKEN_SECONDS
    # Renewed at nine tenths of its life, by our own clock: `issued_at` is of another machine's.
    return _Token(token, begin + 0.9 * min(seconds, MAX_TOKEN_SECONDS))


def _basic(login: Credentials) -> str:
    return "Basic " + base64.b64encode(f"{login.username}:{login.secret}".encode()).decode()


def _bearer(token: _Token) -> str:
    return "Bearer " + token.value


def _given_header(token: str) -> str:
    # Only visible ASCII: a line break would begin a header of its own.
    if not _TOKEN.match(token):
        raise InvalidParameter(
            "the token given for a registry is not 1 to 65536 visible characters"
        )
    return "Bearer " + token
