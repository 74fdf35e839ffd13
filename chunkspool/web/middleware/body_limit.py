"""Reject bodies that are too large before they are in memory."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chunkspool.web.problems import problem_of


class BodyLimit:
    """ASGI middleware: 413 if Content-Length says so, otherwise as soon as too many bytes have arrived."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        """`limit` is in bytes."""
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = Headers(scope=scope).get("content-length", "")
        if announced.isdecimal() and int(announced) > self._limit:
            await problem_of(self._too_large_error()).response()(scope, receive, send)
            return
        received = 0

        async def receive_and_count() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._limit:
                raise self._too_large_error()
            return message

        await self._app(scope, receive_and_count, send)

    def _too_large_error(self) -> HTTPException:
        # While FastAPI reads a body, it passes an HTTPException on and turns every other exception into a 400.
        return HTTPException(413, f"the body has more than {self._limit} bytes")
