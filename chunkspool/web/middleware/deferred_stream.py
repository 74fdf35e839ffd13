"""Send a stream when the app has returned: thousands stay open, and the frames of router and validation would too."""

from __future__ import annotations

from typing import Protocol

from starlette.types import ASGIApp, Receive, Scope, Send

_DEFERRED = "chunkspool.deferred_stream"


class Stream(Protocol):
    """What is sent then."""

    async def run(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send all of it."""


def defer(scope: Scope, stream: Stream) -> None:
    """Have `stream` sent after the app has returned. `DeferredStream` must be among the app's middleware."""
    scope[_DEFERRED].append(stream)


class DeferredStream:
    """ASGI middleware, the innermost."""

    def __init__(self, app: ASGIApp) -> None:
        """`app` is everything inside."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        inner = {**scope, _DEFERRED: []}
        await self._app(inner, receive, send)
        streams: list[Stream] = inner[_DEFERRED]
        del inner
        if streams:
            await streams.pop().run(scope, receive, send)
