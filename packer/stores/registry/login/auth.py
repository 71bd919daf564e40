"""Credentials and tokens of one repository: when they are asked for, sent and renewed.

Credentials belong to one registry host: nothing is shared between hosts, and no netrc is read
(docs/threats.md). They
are sent only after the registry asked for them; `challenges.check_realm` says to whom. They are
looked up again when the registry refuses them: long-lived processes outlive passwords (Amazon ECR's
change every 12 hours).

Sources: distribution ``docs/spec/auth/token.md`` and ``oauth.md``; RFC 9110 section 11.
"""

from __future__ import annotations

import base64
import json
import logging
import re
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from enum import Enum
from urllib.parse import urlencode, urlsplit

from packer.errors import AuthError, FormatError, HelperFailed, InvalidParameter, TransportError
from packer.forks import Lock
from packer.stores.registry.login.challenges import check_realm, parse_challenges
from packer.stores.registry.login.credentials import Credentials
from packer.stores.registry.transport.http import Response, Transport, malformed
from packer.stores.registry.transport.retries import Attempts
from packer.stores.registry.transport.urls import Origin, safe_text, shown_url

MAX_TOKEN_BYTES = 1 << 20
"""Bound on the answer of a token service."""
DEFAULT_TOKEN_SECONDS = 60
"""Life of a token whose answer states none, as distribution's token specification says."""
MAX_TOKEN_SECONDS = 3600
"""Bound on the life of a token that is believed."""
MAX_PROVEN = 64
"""Headers remembered as accepted; beyond, all are forgotten."""
RENEW_SECONDS = 1.0
"""Credentials that were never accepted are looked up again after this at the earliest: many threads
may be refused at once, and each look-up may run a helper."""
STRANGER_SECONDS = 60.0
"""The same where nobody asked for a login: a registry that has no such tag may just be open."""
OPEN_SECONDS = 3600.0
"""A registry that asked a stranger for no login is believed to want none for this long."""

_LOG = logging.getLogger(__name__)
_TOKEN = re.compile(r"[!-~]{1,65536}\Z")
_LOG_IN = "log in with `layer-packer login` or `docker login`, or give them"


class Learnt(Enum):
    """The result of a 401."""

    NOTHING = 0
    NEW = 1
    """There are credentials now that were not yet tried."""
    RENEWED = 2
    """The token was accepted before; there is a newer one."""


@dataclass(frozen=True, slots=True)
class Scope:
    """The rights that a request needs.

    Args:
        actions: in its repository: "pull", "pull,push", "" for no repository at all.
        mount_from: name of a second repository, of which a blob is mounted; it is pulled from.
    """

    actions: str
    mount_from: str | None = None

    def covers(self, other: Scope) -> bool:
        """Return whether these rights include all of `other`."""
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

    @property
    def header(self) -> str:
        """The Authorization header."""
        return "Bearer " + self.value


class Login:
    """The credentials for one registry: looked up when they are first needed, and when refused.

    Args:
        find: looks them up. If it raises HelperFailed, there are none, and `why_none` says why.

    Thread safety: the caller holds a lock.
    """

    def __init__(self, find: Callable[[], Credentials | None]) -> None:
        self._find = find
        self._credentials: Credentials | None = None
        self._found_at: float | None = None
        self._accepted = False
        self.why_none = ""
        """Why there are no credentials, as the end of an error's message; mostly empty."""

    @property
    def known(self) -> Credentials | None:
        """The credentials found so far."""
        return self._credentials

    def get(self) -> Credentials | None:
        """Return the credentials, looked up by the first call."""
        if self._found_at is None:
            self._look()
        return self._credentials

    def accept(self) -> None:
        """Record that a server accepted the credentials."""
        self._accepted = True

    def renew(self, seconds: float | None = None) -> bool:
        """Look the credentials up again, since they were refused; return whether they changed.

        Args:
            seconds: credentials that were never accepted are looked up again after this at the
                earliest; RENEW_SECONDS by default.

        Returns:
            Whether there are others now.
        """
        begin, before = time.monotonic(), self._credentials
        least = RENEW_SECONDS if seconds is None else seconds
        if self._found_at is None or self._accepted or begin - self._found_at >= least:
            self._look()
        return self._credentials != before

    def _look(self) -> None:
        """Look the credentials up."""
        try:
            self._credentials = self._find()
            self.why_none = ""
        except HelperFailed as error:
            # A public registry needs none, and the errors of another one will repeat the reason.
            _LOG.warning("%s: going on without credentials", error)
            self.why_none = f"; {error}"
        self._accepted = False
        self._found_at = time.monotonic()


class Authenticator:
    """Authorization headers for one repository of one registry.

    Args:
        origin: scheme, host and port of the registry.
        repository: its name, for scopes.
        find: returns the credentials; called when a server first asks for any, and when one refuses
            them. If it raises HelperFailed, there are none, and `why_none` says why.
        transport: for requests to the token service.
        token_hosts: hosts other than the registry's that may get its credentials.
        token: a bearer token of the caller's, or a function that returns the current one, called
            again after a refusal; no other credentials are sent then.

    Thread safety: threads may share it; one at a time asks for credentials or a token, the others
    wait for it.
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
        self._transport = transport
        self._token_hosts = frozenset(token_hosts)
        self._given = token
        self._given_header = _given_header(token) if isinstance(token, str) else None
        self._lock = Lock(reentrant=True)
        self._login = Login(find)
        self._basic: str | None = None
        self._realm: str | None = None
        self._service = ""
        self._tokens: dict[Scope, _Token] = {}
        self._proven: set[str] = set()
        self._outdated: set[str] = set()  # headers made of the credentials before the last ones
        self._open_until = 0.0

    def header(self, scope: Scope) -> str | None:
        """Return the Authorization header for a request.

        Where a new token is due and the token service gives none, AuthError or TransportError
        passes through.

        Args:
            scope: rights that the request needs.

        Returns:
            The header, None as long as the registry has not asked for any.
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
            return token.header

    def accepted(self, used: str) -> None:
        """Record that the registry did not refuse the header `used`."""
        if used not in self._proven:
            with self._lock:
                if len(self._proven) >= MAX_PROVEN:
                    self._proven.clear()
                self._proven.add(used)
                if used == self._basic:
                    self._login.accept()

    def challenged(self, values: Collection[str], used: str | None, scope: Scope) -> Learnt:
        """Learn from a 401.

        Args:
            values: its WWW-Authenticate headers.
            used: the Authorization header that the request had.
            scope: as for `header`.

        Returns:
            Whether `header` now returns another header than `used`, which is worth another try.

        Raises:
            AuthError: the challenge is refused, or needs credentials and there are none.
        """
        with self._lock:
            ended = used is not None and used != self._basic and used in self._proven
            learnt = Learnt.RENEWED if ended else Learnt.NEW
            if self._given is not None:
                return learnt if self._renew_given(used) else Learnt.NOTHING
            for key in [key for key, token in self._tokens.items() if used == token.header]:
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
                login = self._login.get()
                if login is None and self._login.renew():
                    login = self._login.get()
                if login is None or login.is_identity_token:
                    raise AuthError(
                        f"{self._host} asks for a user name and password, and none are known: "
                        f"{_LOG_IN}{self._login.why_none}",
                        status=401,
                        url=str(self._origin),
                    )
                self._basic = _basic(login)
                return learnt
            return Learnt.NOTHING

    def refused(self, used: str | None) -> bool:
        """Look the credentials up again, since the registry refused a request with 401 or 403.

        Args:
            used: the Authorization header that the request had.

        Returns:
            Whether `header` now returns another one, which is worth another try.
        """
        with self._lock:
            if self._given is not None:
                return self._renew_given(used)
            if used is None:
                return False
            if used in self._outdated:
                return True  # another thread was quicker
            if not self._login.renew():
                return False
            login = self._login.get()
            self._outdated = {used, *(token.header for token in self._tokens.values())}
            self._tokens.clear()
            if self._basic is not None:
                can_be_sent = login is not None and not login.is_identity_token
                self._basic = _basic(login) if login is not None and can_be_sent else None
            return True

    def introduced(self, root: str, scope: Scope, *, needed: bool) -> bool:
        """Find out whether a stranger is refused for want of a login; if so, use the login.

        Some registries answer strangers with 404 or 403 and no challenge. ``/v2/`` tells them from
        registries that are open: it asks for a login.

        Args:
            root: URL of ``/v2/``.
            scope: of the request that was refused.
            needed: ask even if there is no login, to learn that one is missing.

        Returns:
            Whether `header` now returns a header, which is worth another try.

        Raises:
            AuthError: the registry asks for a login, and there is none or it is refused.
        """
        if self._given is not None:
            return False
        with self._lock:
            if self._basic is not None or self._realm is not None:
                return True  # another thread was quicker
            if self._open_until > time.monotonic():
                return False
            if self._login.get() is None:
                self._login.renew(STRANGER_SECONDS)
            if self._login.get() is None and not needed:
                return False
            try:
                response = self._transport.send("GET", root, {})
            except TransportError:
                return False  # the first answer stands
            response.discard()
            if response.status != 401:
                self._open_until = time.monotonic() + OPEN_SECONDS
                return False
            return self.challenged(response.headers("WWW-Authenticate"), None, scope) is Learnt.NEW

    @property
    def _host(self) -> str:
        """The registry's host, with its port unless that is a usual one."""
        port = "" if self._origin.port in (80, 443) else f":{self._origin.port}"
        return self._origin.host + port

    def _renew_given(self, used: str | None) -> bool:
        """Ask the caller for another token than `used`; return whether there is one."""
        if callable(self._given) and used == self._given_header:
            self._given_header = None
        return self._ask_caller() != used

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
        return self._login.why_none

    def redact(self, text: str) -> str:
        """Return `text` without the secrets known here."""
        with self._lock:
            secrets = [token.value for token in self._tokens.values()]
            secrets += [self._given_header[7:]] if self._given_header else []
            login = self._login.known
        if login is not None:
            secrets += [login.secret, _basic(login)[6:]]
        for secret in secrets:
            if len(secret) >= 4:
                text = text.replace(secret, "***")
        return text

    def _valid(self, scope: Scope) -> _Token | None:
        """Return a token that is good for a scope and has not ended."""
        now = time.monotonic()
        for key in (scope, *(key for key in self._tokens if key.covers(scope))):
            token = self._tokens.get(key)
            if token is not None and token.expires > now:
                return token
        return None

    def _request_token(self, scope: Scope) -> _Token:
        """Get a token; credentials that the token service refuses are looked up again, once."""
        assert self._realm is not None
        attempts = self._transport.attempts(self._realm)
        renewed = False
        while True:
            begin = time.monotonic()
            response = self._ask_service(scope, attempts)
            if response.status in (400, 401, 403) and not renewed and self._login.renew():
                renewed = True
                response.discard()
                continue
            with response:
                if response.status != 200:
                    raise self._service_refusal(response, scope)
                try:
                    with malformed(response):
                        data = response.read_bounded(MAX_TOKEN_BYTES, "token")
                        token = _parse_token(data, begin)
                except TransportError as error:
                    if not error.retryable or not attempts.again(error):
                        raise
                    continue
            self._login.accept()
            return token

    def _service_refusal(self, response: Response, scope: Scope) -> AuthError:
        """Return the error about a token service that gives no token."""
        login = self._login.get()
        who = f"user {login.username!r}" if login is not None else "anonymous access"
        return AuthError(
            f"the token service {shown_url(response.url)} refused "
            f"{scope.actions or 'access'} of {self._repository} to {safe_text(who)} "
            f"(status {response.status}){self._login.why_none}",
            status=response.status,
            method=response.method,
            url=shown_url(response.url),
            retryable=response.status >= 500 or response.status == 429,
        )

    def _ask_service(self, scope: Scope, attempts: Attempts) -> Response:
        """Ask the token service for a token, with the login if there is one."""
        login = self._login.get()
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
            body = urlencode(query).encode()
            return self._transport.send("POST", self._realm, headers, body, attempts=attempts)
        if wanted:
            query["scope"] = wanted
        if login is not None:
            query["account"] = login.username
            headers["Authorization"] = _basic(login)
        joint = "&" if urlsplit(self._realm).query else "?"
        url = self._realm.partition("#")[0]
        url += joint + urlencode(query, doseq=True) if query else ""
        return self._transport.send("GET", url, headers, attempts=attempts)


def _parse_token(data: bytes, begin: float) -> _Token:
    """Return the token in the answer to a request made at `begin`."""
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
    # Renewed at nine tenths of its life, by our own clock: `issued_at` is by another machine's.
    return _Token(token, begin + 0.9 * min(seconds, MAX_TOKEN_SECONDS))


def _basic(login: Credentials) -> str:
    """Return the Authorization header of a login."""
    return "Basic " + base64.b64encode(f"{login.username}:{login.secret}".encode()).decode()


def _given_header(token: str) -> str:
    """Return the Authorization header of the caller's token."""
    # Only visible ASCII: a line break would begin a header of its own.
    if not _TOKEN.match(token):
        raise InvalidParameter(
            "the token given for a registry is not 1 to 65536 visible characters"
        )
    return "Bearer " + token
