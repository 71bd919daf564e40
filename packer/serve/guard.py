"""Who may ask, and the headers of every answer.

The service has no accounts. On a loopback address everybody on the machine may look, so the name in
the request has to be one of the machine's own: a page of another site whose name was bound anew to
127.0.0.1 would otherwise read the answers (DNS rebinding). Elsewhere a token is needed.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import string
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""Content-Security-Policy of pages: nothing inline, and nothing from elsewhere."""
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "cache-control": "private, no-cache",
}
"""Headers of every answer that has no others of the name."""
LOOPBACK_NAMES = frozenset(("localhost", "127.0.0.1", "::1"))
_HOST = frozenset(string.ascii_letters + string.digits + "-._~[]:%")
OPEN_PATHS = ("/healthz",)
"""Paths that need no token and no name: probes send the address of a pod as the host."""


class Guard:
    """Answers what may not be asked, and adds headers to all answers.

    Args:
        app: answers everything else.
        hosts: names that a request may give as its host; none for any.
        token: that a request has to bring; None for none.
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str], token: str | None) -> None:
        self._app = app
        self._hosts = frozenset(host.lower() for host in hosts)
        self._token = None if token is None else token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        answer = self._refusal(scope) or self._app
        await answer(scope, receive, with_headers)

    def _refusal(self, scope: Scope) -> ASGIApp | None:
        """Return why a request is not answered; None if it is."""
        if scope["method"] not in ("GET", "HEAD"):
            return PlainTextResponse("only GET and HEAD\n", 405, {"allow": "GET, HEAD"})
        if scope["path"] in OPEN_PATHS:
            return None
        headers = Headers(scope=scope)
        if self._hosts and host_of(headers.get("host", "")) not in self._hosts:
            return PlainTextResponse("this host name is not served here (see --allow-host)\n", 421)
        if self._token is None or self._is_known(headers.get("authorization", "")):
            return None
        asked = {"www-authenticate": 'Basic realm="layer-packer", charset="UTF-8"'}
        return PlainTextResponse("the token is missing or wrong\n", 401, asked)

    def _is_known(self, authorization: str) -> bool:
        """Return whether a header brings the token: as a bearer, or as a browser's password."""
        assert self._token is not None
        scheme, _, value = authorization.partition(" ")
        given = value.strip().encode("utf-8", "replace")
        if scheme.lower() == "basic":
            try:
                given = base64.b64decode(given, validate=True).partition(b":")[2]
            except (binascii.Error, ValueError):
                return False
        elif scheme.lower() != "bearer":
            return False
        return hmac.compare_digest(given, self._token)


def host_of(header: str) -> str:
    """Return the name or address in a Host header, without its port; "" if it is malformed."""
    if not _HOST.issuperset(header):  # no user, path or query, as a URL may have
        return ""
    try:
        return urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return ""
