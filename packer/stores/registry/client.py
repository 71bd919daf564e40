"""One repository of one registry over HTTP: authentication, redirects, errors.

Source: distribution-spec 1.1. Credentials go to the registry's own origin and nowhere else.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager

from packer.errors import AuthError, FormatError, RegistryError, StoreError, TransportError
from packer.forks import Lock
from packer.reference import Reference
from packer.stores.registry.features import BrokenFeatures
from packer.stores.registry.login.auth import Authenticator, Learnt, Scope
from packer.stores.registry.refusals import Refusal, read_refusal
from packer.stores.registry.transport.http import (
    REDIRECT_STATUSES,
    Body,
    Response,
    Transport,
    malformed,
)
from packer.stores.registry.transport.retries import RETRY_STATUSES, Attempts
from packer.stores.registry.transport.urls import Origin, join_url, origin_of, safe_text, shown_url

MAX_ERROR_BYTES = 1 << 20
"""Bound on the body of an error."""
INTERNAL_ERROR = 500
"""An answer that may pass, unless its body tells that the registry's storage is full."""
PASSING_STATUSES = RETRY_STATUSES - {INTERNAL_ERROR}
"""Answers after which a request is made again, whatever their body tells."""
MAX_REDIRECTS = 5
STRANGER_STATUSES = (400, 401, 403, 404)
"""Answers of registries that hide their content from clients who did not log in."""
MAX_CHALLENGES = 2
"""Times that one request learns of new credentials: a second for a token of more rights."""
MAX_RENEWALS = 8
"""Times that one request may meet the end of a token that was good before. Threads share tokens,
and on a slow machine one may end between being taken and being sent; bounded, because a registry
may refuse for ever."""
USER_AGENT = "layer-packer"
HEAD_REFUSALS = (400, 403, 405, 406, 412, 501)
"""Answers to HEAD after which GET is tried: some registries do not support HEAD, and others give
their reason only in a body, which an answer to HEAD cannot have."""
HINTS = {
    405: " (not supported here; a registry that is read-only answers so too, for example while it "
    "collects garbage)",
    407: " (the proxy asks for a login, which can stand in its URL)",
    413: " (too large for this registry, or for a proxy before it)",
    507: " (the registry's storage is full)",
}
"""Meaning of a status, by the status."""


class Client:
    """Requests below ``/v2/<repository>/`` of a registry, and where its redirects lead.

    Args:
        origin: of the registry.
        reference: names registry and repository.
        auth: gives Authorization headers.
        transport: does the exchanges.
        features: records which features of registries fail.

    Thread safety: threads may share it.
    """

    def __init__(
        self,
        origin: Origin,
        reference: Reference,
        auth: Authenticator,
        transport: Transport,
        features: BrokenFeatures,
    ) -> None:
        self.origin = origin
        self._auth = auth
        self.transport = transport
        self._features = features
        self.listing = Lock()
        """Held while the list of a manifest's referrers is changed."""
        self.registry = reference.registry
        """The registry's host, as references name it."""
        self.repository = reference.repository
        self.name = f"docker://{reference.registry}/{reference.repository}"
        """The repository's name in errors and logs."""
        self.read_actions = "pull"
        """Actions that the tokens for reading are asked for."""
        host = f"[{origin.host}]" if ":" in origin.host else origin.host
        self.root = f"{origin.scheme}://{host}:{origin.port}/v2/"
        self._base = f"{self.root}{reference.repository}/"

    @property
    def ignores_ranges(self) -> bool:
        """Whether the registry is known to send a whole blob when it is asked for a part."""
        return self._features.ignores_ranges(self.origin)

    def record_ignored_range(self) -> None:
        """Record that the registry sent a whole blob for a part."""
        self._features.record_ignored_range(self.origin)

    @property
    def lacks_referrers(self) -> bool:
        """Whether the registry is known to have no referrers API."""
        return self._features.lacks_referrers(self.origin)

    def record_no_referrers(self) -> None:
        """Record that the registry has no referrers API."""
        self._features.record_no_referrers(self.origin)

    def url(self, path: str) -> str:
        """Return the URL of `path` in the repository; `path` is made of checked parts only."""
        return self._base + path

    def head(self, path: str, accept: str = "*/*") -> Response:
        """Make a HEAD request for `path` in the repository, and return an answer of 200."""
        response = self.request(
            "HEAD",
            self.url(path),
            ok=(200,),
            actions=self.read_actions,
            headers={"Accept": accept},
        )
        response.discard()
        return response

    def attempts(self) -> Attempts:
        """Return a new count of failures, for an operation of several requests."""
        return self.transport.attempts(self.root)

    def read(
        self, url: str, limit: int, what: str, headers: Mapping[str, str] | None = None
    ) -> tuple[Response, bytes]:
        """GET a document, and again if its body breaks off.

        Args:
            url: as for `request`.
            limit: greatest number of bytes.
            what: name of the document in errors.
            headers: as for `request`.

        Returns:
            The answer, for its headers, and its whole body. A refusal raises as `request` does, a
            body above the limit FormatError.

        Raises:
            TransportError: the body broke off in all attempts.
        """
        attempts = self.attempts()
        while True:
            response = self.request(
                "GET",
                url,
                ok=(200,),
                actions=self.read_actions,
                headers=headers,
                attempts=attempts,
            )
            try:
                with response:
                    return response, response.read_bounded(limit, what)
            except TransportError as error:
                if not error.retryable or not attempts.again(error):
                    raise

    def request(
        self,
        method: str,
        url: str,
        *,
        ok: Collection[int],
        actions: str = "pull",
        mount_from: str | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes | Body | None = None,
        attempts: Attempts | None = None,
    ) -> Response:
        """Make a request and return an answer whose status is in `ok`.

        Follows redirects of GET and HEAD. A body that is not bytes is sent at most once: after a
        401 the caller has to call again, and the new credentials are used then.

        Args:
            method: HTTP method.
            url: absolute; of this registry unless it said otherwise.
            ok: statuses to return.
            actions: as in `Scope`.
            mount_from: as in `Scope`.
            headers: sent besides User-Agent and Authorization.
            body: the request's body.
            attempts: counts the failures of the operation that the request is part of.

        Returns:
            The answer, its body unread.

        A status that is not in `ok` raises RegistryError, 401 and 403 AuthError; `retryable` says
        whether it may pass, or, after a 401, that the body has to be sent again. No answer raises
        TransportError.
        """
        target, redirects, own = url, 0, True
        attempts = attempts or self.attempts()
        credentials = _RequestCredentials(
            self._auth, Scope(actions, mount_from), attempts, self.root
        )
        once = body is not None and not isinstance(body, bytes)
        while True:
            # Once led away, even a way back is not ours: credentials are not attached again.
            own = own and origin_of(target) == self.origin
            sent = {"User-Agent": USER_AGENT, **(headers or {})}
            used = credentials.header() if own else None
            if used is not None:
                sent["Authorization"] = used
            response = self.transport.send(
                method, target, sent, body, attempts=attempts, passing=PASSING_STATUSES
            )
            if used is not None and response.status != 401:
                self._auth.accepted(used)
            if response.status in ok:
                return response
            if response.status in REDIRECT_STATUSES and method in ("GET", "HEAD"):
                target = self._redirect(response, redirects)
                redirects += 1
                continue
            if own and credentials.can_change(response, used):
                response.discard()
                if once:
                    raise self.refusal(response, actions, retryable=True)
                continue
            with response:
                refusal = self.refusal(response, actions)
            retry_after = response.header("Retry-After")
            if once or response.status != INTERNAL_ERROR or not refusal.retryable:
                raise refusal
            if not attempts.again(response.status, retry_after):
                raise refusal

    def _redirect(self, response: Response, count: int) -> str:
        """Return the URL that an answer leads to."""
        response.discard()
        location = response.header("Location")
        with malformed(response):
            if location is None:
                raise FormatError("redirect", "no Location")
            if count >= MAX_REDIRECTS:
                raise FormatError("redirect", "too many redirects")
            return join_url(response.url, location)

    def refusal(
        self, response: Response, actions: str, *, retryable: bool = False
    ) -> RegistryError:
        """Return the error that a refusal means.

        Args:
            response: the answer, its body unread.
            actions: rights that were asked for.
            retryable: the request is worth another try, with credentials found just now.

        Returns:
            The error.
        """
        refusal = self._read_refusal(response)
        text = safe_text(self._auth.redact(refusal.text))
        said = "".join(f": {part}" for part in (refusal.code, text) if part)
        if response.proxy is not None:
            said = f" through the proxy {shown_url(response.proxy)}{said}"
        kind = RegistryError
        hint = ""
        if response.status == 401 or (response.status == 403 and refusal.is_about_login):
            kind = AuthError
            hint = f" (are the credentials right, and do they allow {actions or 'access'}?)"
            hint = self._auth.why_none or hint
            if response.proxy is not None and not refusal.code:
                hint = " (the proxy may have refused it: NO_PROXY names hosts to reach directly)"
        elif response.status == 403 and retryable:
            kind = AuthError
        elif refusal.is_about_space:
            said = f": no space is left in the registry's storage{said}"  # before a long detail
        elif response.status in HINTS:
            hint = HINTS[response.status]
        return kind(
            f"{response.method} {shown_url(response.url)}: status {response.status}{said}{hint}",
            status=response.status,
            code=refusal.code,
            method=response.method,
            url=shown_url(response.url),
            detail=refusal.digests,
            retryable=retryable
            or (response.status in RETRY_STATUSES and not refusal.is_about_space),
        )

    def _read_refusal(self, response: Response) -> Refusal:
        """Return the content of an error's body; empty where it cannot be read."""
        if response.method == "HEAD":
            return Refusal()
        try:
            return read_refusal(response.read_bounded(MAX_ERROR_BYTES, "error body"))
        except (TransportError, FormatError):
            return Refusal()


@contextmanager
def _counted_elsewhere(attempts: Attempts) -> Iterator[None]:
    """Mark an operation as failed if getting its credentials fails: that was tried often enough."""
    try:
        yield
    except StoreError:
        attempts.finish()
        raise


class _RequestCredentials:
    """The credentials of one request: others are found when they are refused, within bounds."""

    def __init__(self, auth: Authenticator, scope: Scope, attempts: Attempts, root: str) -> None:
        self._auth = auth
        self._scope = scope
        self._attempts = attempts
        self._root = root
        self._challenges = self._renewals = 0
        self._looked_again = False

    def header(self) -> str | None:
        """Return the Authorization header, None for none."""
        with _counted_elsewhere(self._attempts):
            return self._auth.header(self._scope)

    def can_change(self, response: Response, used: str | None) -> bool:
        """Return whether a refused request is worth another try, with other credentials.

        Args:
            response: the refusal.
            used: the Authorization header that the request had.

        Returns:
            Whether `header` returns another one now.
        """
        if response.status == 401 and self._learn(response, used):
            return True
        if self._looked_again:
            return False
        self._looked_again = True
        if used is not None:
            return response.status in (401, 403) and self._auth.refused(used)
        if response.status not in STRANGER_STATUSES:
            return False
        # Strangers may be told that there is nothing here.
        lists = response.url.partition("?")[0].endswith("/tags/list")
        needed = lists and response.status == 404
        return self._auth.introduced(self._root, self._scope, needed=needed)

    def _learn(self, response: Response, used: str | None) -> bool:
        """Learn from a challenge; return whether there are credentials that were not tried."""
        response.discard()
        challenges = response.headers("WWW-Authenticate")
        with _counted_elsewhere(self._attempts):
            learnt = self._auth.challenged(challenges, used, self._scope)
        self._renewals += learnt is Learnt.RENEWED
        self._challenges += learnt is Learnt.NEW
        return (
            learnt is not Learnt.NOTHING
            and self._challenges <= MAX_CHALLENGES
            and self._renewals <= MAX_RENEWALS
        )
