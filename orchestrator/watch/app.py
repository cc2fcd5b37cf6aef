"""The web application: one page, its style and script, and a stream of what changes on it.

Whoever asks must know the token and name this machine as the host, which a page of another site
cannot do. Nothing can be changed: there is no other method than GET.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from orchestrator.store.names import SAFE
from orchestrator.watch import fragments
from orchestrator.watch.watcher import Watcher

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

HOSTS = ["127.0.0.1", "localhost"]  # with any port: ssh forwards another one
PATIENCE = 0.5  # seconds that a page waits for the store; parts that come later are sent later
KEPT_ALIVE = 15.0  # seconds without an event after which a comment shows that both sides live
MOST_SWEEPS = 20  # that are watched at the same time
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; connect-src 'self'; img-src data:; "
    "script-src 'self'; style-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
REFUSED = "Open the address that `layerwise watch` printed: it contains a token.\n"


class Watch:
    """The sweeps of one store that are watched, and the answers to requests."""

    def __init__(self, place: str, sweep: str, token: str):
        """`sweep` is shown where the address names none; empty for that of the latest run."""
        self.place, self.sweep, self.token = place, sweep, token
        self.watchers: dict[str, Watcher] = {}

    def watcher(self, sweep: str) -> Watcher:
        """Return the watcher of a sweep, which is made when it is first asked for."""
        if sweep not in self.watchers:
            if len(self.watchers) >= MOST_SWEEPS:
                idle = (name for name, one in self.watchers.items() if not one.listeners)
                self.watchers.pop(next(idle, next(iter(self.watchers)))).close()
            self.watchers[sweep] = Watcher(self.place, sweep, self.token)
        return self.watchers[sweep]

    def close(self) -> None:
        """End all streams. May be called from a signal's handler."""
        for watcher in self.watchers.values():
            watcher.close()

    def app(self) -> Starlette:
        routes = [
            Route("/", self._page),
            Route("/events", self._events),
            Route("/watch.css", self._style),
            Route("/watch.js", self._script),
        ]
        middleware = [
            Middleware(_Headed),
            Middleware(TrustedHostMiddleware, allowed_hosts=HOSTS, www_redirect=False),
            Middleware(_Guarded, token=self.token),
        ]
        return Starlette(routes=routes, middleware=middleware)

    def _of(self, request: Request) -> Watcher | None:
        sweep = request.query_params.get("sweep") or self.sweep
        return self.watcher(sweep) if not sweep or SAFE.fullmatch(sweep) else None

    async def _page(self, request: Request) -> Response:
        if (watcher := self._of(request)) is None:
            return PlainTextResponse("That is no name of a sweep.\n", 404)
        seen = await watcher.latest(PATIENCE)
        return HTMLResponse(fragments.page(seen, watcher.parts, self.token))

    async def _events(self, request: Request) -> Response:
        if (watcher := self._of(request)) is None:
            return PlainTextResponse("That is no name of a sweep.\n", 404)
        seen = request.headers.get("last-event-id") or request.query_params.get("seen", "")
        return StreamingResponse(self._changes(watcher, seen), media_type="text/event-stream")

    async def _changes(self, watcher: Watcher, seen: str) -> AsyncIterator[str]:
        """Yield an event whenever parts of the page change. `seen` has the hashes of its parts."""
        with watcher.changes() as changed:
            while not watcher.is_closed:
                parts = watcher.parts
                if new := fragments.changed(parts, seen):
                    seen = fragments.hashes(parts)
                    yield f"id: {seen}\nevent: parts\ndata: {json.dumps(new)}\n\n"
                try:
                    await asyncio.wait_for(changed.wait(), KEPT_ALIVE)
                except TimeoutError:
                    yield ": nothing new\n\n"
                changed.clear()

    async def _style(self, request: Request) -> Response:  # noqa: ARG002
        return Response(fragments.style_sheet(), media_type="text/css")

    async def _script(self, request: Request) -> Response:  # noqa: ARG002
        return Response(fragments.script(), media_type="text/javascript")


class _Headed:
    """Sets the headers that every answer has."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_headed(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        await self.app(scope, receive, send_headed)


class _Guarded:
    """Refuses requests without the token."""

    def __init__(self, app: ASGIApp, token: str):
        self.app, self.token = app, token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            given = Request(scope).query_params.get("token", "")
            if not secrets.compare_digest(given.encode(), self.token):
                await PlainTextResponse(REFUSED, 403)(scope, receive, send)
                return
        await self.app(scope, receive, send)
