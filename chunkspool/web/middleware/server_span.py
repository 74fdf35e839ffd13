"""The server's span of a request that changes something, unless the server or the app around has made one."""

from __future__ import annotations

from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chunkspool.tracer import Span, TraceContext, Tracer

_ONLY_READS = frozenset({"GET", "HEAD", "OPTIONS"})
_METHODS = frozenset({"POST", "PUT", "PATCH", "DELETE"})


class ServerSpan:
    """ASGI middleware, the innermost: a child of whoever sent a `traceparent`.

    It is told the route that way, and its span ends where an event stream begins. Requests that only read make none.
    """

    def __init__(self, app: ASGIApp, tracer: Tracer) -> None:
        """`tracer` is that of the spool."""
        self._app = app
        self._tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http" or scope["method"] in _ONLY_READS or self._tracer.current() is not None:
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        parent = TraceContext.parse(headers.get("traceparent", ""), ",".join(headers.getlist("tracestate")))
        # Any token is a method to the server: only those that are known get into a span.
        method = scope["method"] if scope["method"] in _METHODS else "_OTHER"
        about = {"http.request.method": method, "url.scheme": scope.get("scheme", "http")}
        with self._tracer.span(method, "server", about, parent=parent) as span:

            async def send_noted(message: Message) -> None:
                if message["type"] == "http.response.start":
                    _note_status(span, message["status"])
                await send(message)

            await self._app(scope, receive, send_noted)
            _note_route(span, method, scope)


def _note_status(span: Span, status: int) -> None:
    span.set("http.response.status_code", status)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        span.fail(str(status))


def _note_route(span: Span, method: str, scope: Scope) -> None:
    route = getattr(scope.get("route"), "path", None)  # the pattern: a path has ids in it, a query may have a token
    if isinstance(route, str):
        span.set("http.route", route)
        span.rename(f"{method} {route}")
