"""The service: routes, work in threads, and errors as answers."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any, TypeVar

import anyio
import anyio.to_thread
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from packer.errors import (
    Cancelled,
    IntegrityError,
    InvalidParameter,
    NotFound,
    PackerError,
    StoreError,
)
from packer.serve import openapi, pages
from packer.serve import parameters as query
from packer.serve.guard import Guard
from packer.serve.limits import DOWNLOAD_SECONDS, REQUEST_SECONDS, Stop
from packer.serve.metrics import CONTENT_TYPE, Metrics
from packer.serve.places import Place
from packer.serve.raw import FileResponse, Source, headers_of, open_source
from packer.serve.views import VIEWS, View, Views
from packer.text import escape, text_fields

JOBS = 4
"""Requests that are worked on at the same time."""
WAITING = 32
"""Requests that wait for one of these to end; more are sent away."""
STATIC = {
    "app.css": "text/css; charset=utf-8",
    "app.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
_STATUS: tuple[tuple[type[Exception], int], ...] = (
    (NotFound, 404),
    (InvalidParameter, 400),
    (Cancelled, 503),
    (IntegrityError, 500),
    (StoreError, 502),
    (PackerError, 500),
    (OSError, 500),
)
_log = logging.getLogger(__name__)
T = TypeVar("T")


class Busy(PackerError):
    """Too many requests wait already."""

    def __str__(self) -> str:
        return "too many requests at once; try again in a moment"


def make_app(
    place: Place,
    *,
    hosts: Iterable[str] = (),
    token: str | None = None,
) -> ASGIApp:
    """Return the service as an ASGI application.

    Args:
        place: what is served.
        hosts: names that requests may give as their host; none for any.
        token: that requests have to bring; None for none.

    Returns:
        The application.
    """
    return Guard(_Service(place).application(), hosts, token)


class _Service:
    """What the routes share."""

    def __init__(self, place: Place) -> None:
        self.metrics = Metrics()
        self.views = Views(place, self.metrics.opened.inc)
        self._limiter = anyio.CapacityLimiter(JOBS)

    def application(self) -> Starlette:
        routes = [
            Route("/healthz", self._health),
            Route("/metrics", self._metrics),
            Route("/openapi.json", self._openapi),
            Route("/raw", self._counted("raw", self._raw)),
            Route("/", self._counted("apps", self._first)),
            *(Route(f"/static/{name}", partial(_static, name)) for name in STATIC),
            *(
                Route(f"/{name}", self._counted(name, partial(self._page, page)))
                for name, page in pages.PAGES.items()
            ),
            *(
                Route(f"/api/{name}", self._counted("api-" + name, partial(self._json, view)))
                for name, view in VIEWS.items()
            ),
        ]
        handlers: dict[Any, Any] = {kind: _on_error for kind, _ in _STATUS}
        return Starlette(routes=routes, exception_handlers=handlers | {HTTPException: _on_http})

    async def _health(self, request: Request) -> Response:
        return Response("ok\n", media_type="text/plain")

    async def _metrics(self, request: Request) -> Response:
        return Response(self.metrics.text(), headers={"content-type": CONTENT_TYPE})

    async def _openapi(self, request: Request) -> Response:
        return _json_response(openapi.document())

    async def _first(self, request: Request) -> Response:
        """Show the applications; where there is one alone, its versions."""
        names = await self._run(request, lambda stop: self.views.place.apps())
        if len(names) == 1:
            return RedirectResponse(pages.href("history", app=names[0]), 302)
        return await self._page(pages.PAGES["apps"], request)

    async def _page(self, page: pages.Page, request: Request) -> Response:
        given = query.parse(request.scope["query_string"], page.takes)

        def work(stop: Stop) -> str:
            place = self.views.place
            shown = {"place": place, "given": given, **page.build(self.views, given, stop)}
            return pages.render(page.name, **shown)

        html = await self._run(request, work)
        # A name may hold bytes that are no UTF-8, or half a character: both are shown as escapes.
        return Response(html.encode("utf-8", "backslashreplace"), media_type="text/html")

    async def _json(self, view: View, request: Request) -> Response:
        given = query.parse(request.scope["query_string"], view.takes)
        work = partial(getattr(self.views, view.name), given)
        return _json_response(await self._run(request, work))

    async def _raw(self, request: Request) -> Response:
        takes = (query.APP, query.VERSION, query.FILE, query.DOWNLOAD)
        given = query.parse(request.scope["query_string"], takes)
        path = given["path"].strip("/")
        # An archive that was opened is rebuilt as a whole before its first byte.
        stop = Stop(DOWNLOAD_SECONDS)

        def work(_: Stop) -> tuple[Source, dict[str, str]]:
            opened = self.views.versions.open(given["app"], given["version"])
            headers = headers_of(opened, path, download=given["download"] == "1")
            return open_source(opened, path, stop), headers

        source, headers = await self._run(request, work, stop)
        return FileResponse(source, headers, stop, self._limiter, self.metrics.sent.inc)  # type: ignore[return-value]

    async def _run(
        self, request: Request, work: Callable[[Stop], T], stop: Stop | None = None
    ) -> T:
        """Work in a thread; the work is told to end when the client is gone, or time is over."""
        taken = self._limiter.statistics()
        if taken.borrowed_tokens >= taken.total_tokens and taken.tasks_waiting >= WAITING:
            self.metrics.cancelled.labels("busy").inc()
            raise HTTPException(503, str(Busy()), {"retry-after": "1"})
        stop = Stop(REQUEST_SECONDS) if stop is None else stop

        async def watch() -> None:
            try:
                while (await request.receive())["type"] != "http.disconnect":
                    pass
            finally:  # or the service itself ends: its process would wait for the thread
                if not (out or failed):
                    stop.set()

        out: list[T] = []
        failed: list[Exception] = []

        def guarded() -> None:
            # Errors are carried out of the task group, which would wrap them in a group.
            try:
                stop.check()  # it may have waited for longer than its client
                out.append(work(stop))
            except Exception as error:
                failed.append(error)

        async with anyio.create_task_group() as group:
            group.start_soon(watch)
            await anyio.to_thread.run_sync(guarded, limiter=self._limiter)
            group.cancel_scope.cancel()
        if failed:
            if stop.is_set():
                self.metrics.cancelled.labels("gone" if stop.is_gone else "late").inc()
                raise Cancelled("the request") from failed[0]
            raise failed[0]
        return out[0]

    def _counted(
        self, name: str, endpoint: Callable[[Request], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        """Return an endpoint whose answers are counted, from the request to the last byte."""

        async def counted(request: Request) -> Response:
            begun = time.monotonic()
            self.metrics.running.inc()
            try:
                answer: ASGIApp = await endpoint(request)
            except (PackerError, OSError) as error:
                answer = _on_error(request, error)
            except HTTPException as error:
                answer = _on_http(request, error)
            except BaseException:
                self.metrics.running.dec()
                raise
            return _Counted(self.metrics, name, begun, answer)  # type: ignore[return-value]

        return counted


class _Counted:
    """An answer that counts itself; an ASGI application."""

    def __init__(self, metrics: Metrics, page: str, begun: float, answer: ASGIApp) -> None:
        self._metrics = metrics
        self._page = page
        self._begun = begun
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._metrics.requests.labels(self._page, str(message["status"])).inc()
            await send(message)

        try:
            await self._answer(scope, receive, noted)
        finally:
            self._metrics.running.dec()
            self._metrics.seconds.labels(self._page).observe(time.monotonic() - self._begun)


async def _static(name: str, request: Request) -> Response:
    headers = {"content-type": STATIC[name], "cache-control": "private, max-age=300"}
    return Response(pages.resource("static", name), headers=headers)


def _json_response(value: dict[str, Any], status: int = 200) -> Response:
    text = json.dumps(plain(value), allow_nan=False)
    return Response(text, status, media_type="application/json")


def plain(value: Any) -> Any:
    """Return an object for JSON: text with bytes that are no UTF-8 also gets its exact bytes."""
    if isinstance(value, dict):
        out: dict[str, Any] = {}
        for key, item in value.items():
            if isinstance(item, str):
                out |= text_fields(key, item)
            else:
                out[key] = plain(item)
        return out
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return value


def _on_error(request: Request, error: Exception) -> Response:
    """Answer an error: in words, without the server's paths for those that are not ours."""
    status = next(status for kind, status in _STATUS if isinstance(error, kind))
    if isinstance(error, PackerError):
        message = str(error)
    else:
        message = "the server cannot read what is asked for"
        _log.warning("%s: %s", request.url.path, error)
    if status >= 500 and isinstance(error, PackerError):
        _log.warning("%s: %s", request.url.path, error)
    return _problem(request, status, type(error).__name__, message)


def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    answer = _problem(request, error.status_code, "HTTPException", error.detail)
    answer.headers.update(error.headers or {})
    return answer


def _problem(request: Request, status: int, kind: str, message: str) -> Response:
    message = escape(message)
    if request.url.path.startswith("/api/"):
        return _json_response({"error": message, "kind": kind}, status)
    html = pages.render("problem", status=status, message=message, given={}, place=None)
    return Response(html, status, media_type="text/html")
