"""Send a stream only after the app has returned, so that open streams do not keep the app's stack frames alive."""

from __future__ import annotations

from typing import Protocol

from starlette.types import ASGIApp, Receive, Scope, Send

_DEFERRED = "chunkspool.deferred_stream"


class SendableStream(Protocol):
    """A stream that is sent after the app has returned."""

    async def run(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send all of it."""


def defer(scope: Scope, stream: SendableStream) -> None:
    """Have `stream` sent after the app has returned. `DeferredStream` must be among the app's middleware."""
    scope[_DEFERRED].append(stream)


class DeferredStream:
    """ASGI middleware, the innermost but for the server's span, which ends before the stream.

    A response is normally sent from inside router, request validation and exit stacks. Each of them is a suspended
    coroutine for as long as the stream is open, with the parsed request in its frame. Thousands of silent readers would
    multiply that memory.
    """

    def __init__(self, app: ASGIApp) -> None:
        """`app` is everything inside."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # A copy: the app fills its scope with the route, the endpoint and the parsed parameters. The caller's scope
        # stays small, and the copy is dropped before the stream is sent.
        inner = {**scope, _DEFERRED: []}
        await self._app(inner, receive, send)
        streams: list[SendableStream] = inner[_DEFERRED]
        del inner
        if streams:
            await streams.pop().run(scope, receive, send)
