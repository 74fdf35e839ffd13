"""Take no body that is too large, too slow or no JSON, before it is in memory."""

from __future__ import annotations

import asyncio
from typing import NoReturn

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chunkspool.web.problems import problem_of, response_to

LINGER_BYTES = 16 * 1024 * 1024
"""How much of a refused body is read and dropped before the answer.

A server that closes a connection with bytes unread resets it, and the client may never see why.
"""
LINGER_SECONDS = 5.0
"""For how long that is done."""
_MAX_DIGITS = 18
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
"""Those whose body, if they have one, is not looked at."""


class BodyCheck:
    """ASGI middleware: 413 for too large a body, 408 for one that does not arrive in time, 415 for one that is no JSON.

    A page of another origin may send text and forms without asking, so they must not be read as JSON.
    """

    def __init__(self, app: ASGIApp, limit: int, seconds: float) -> None:
        """`limit` is in bytes; all of a body must be there after so many `seconds`."""
        self._app = app
        self._limit = limit
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        takes_any = scope["method"] in SAFE_METHODS or _is_json(headers.get("content-type", ""))
        body = _CheckedBody(receive, self._limit, self._seconds, takes_any=takes_any, http=scope["http_version"])
        try:
            await body.check_announced(headers)
        except HTTPException as error:
            await response_to(problem_of(error))(scope, receive, send)
            return
        await self._app(scope, body.receive, send)


class _CheckedBody:
    """The body of one request. What is wrong with it is an HTTPException.

    While FastAPI reads a body, it passes an HTTPException on and turns every other exception into a 400.
    """

    __slots__ = ("_deadline", "_is_whole", "_limit", "_must_close", "_read", "_receive", "_takes_any")

    def __init__(self, receive: Receive, limit: int, seconds: float, *, takes_any: bool, http: str) -> None:
        self._receive = receive
        self._limit = limit
        self._takes_any = takes_any
        self._must_close = http.startswith("1")  # HTTP/2 has no such header, and resets the one stream
        self._deadline = asyncio.get_running_loop().time() + seconds
        self._read = 0
        self._is_whole = False

    async def check_announced(self, headers: Headers) -> None:
        """Raise what the headers say already."""
        length = headers.get("content-length", "")
        waits = headers.get("expect", "").lower() == "100-continue"  # then nothing was sent, and nothing has to be read
        if length.isdecimal() and (len(length) > _MAX_DIGITS or int(length) > self._limit):
            await self._refuse_size(linger=not waits)
        if not self._takes_any and (length.strip("0") or "transfer-encoding" in headers):
            await self._refuse_type(linger=not waits)

    async def receive(self) -> Message:
        """Receive the next message of the request."""
        if self._is_whole:
            return await self._receive()
        try:
            message = await self._receive_until(self._deadline)
        except TimeoutError:
            await self._refuse(408, "the body did not arrive in time", linger=False)
        if self._read > self._limit:
            await self._refuse_size(linger=True)
        if self._read and not self._takes_any:
            await self._refuse_type(linger=True)
        return message

    async def _receive_until(self, deadline: float) -> Message:
        async with asyncio.timeout_at(deadline):
            message = await self._receive()
        self._read += len(message.get("body", b""))
        self._is_whole = message["type"] != "http.request" or not message.get("more_body", False)
        return message

    async def _refuse_size(self, *, linger: bool) -> NoReturn:
        await self._refuse(413, f"the body has more than {self._limit} bytes", linger=linger)

    async def _refuse_type(self, *, linger: bool) -> NoReturn:
        await self._refuse(415, "send JSON, with Content-Type: application/json", linger=linger)

    async def _refuse(self, status: int, detail: str, *, linger: bool) -> NoReturn:
        if linger:
            await self._skip_rest()
        closes = self._must_close and not self._is_whole
        self._is_whole = True  # what is read after a refusal is only waited for: the message that the client has gone
        raise HTTPException(status, detail, {"connection": "close"} if closes else None)

    async def _skip_rest(self) -> None:
        most = self._read + LINGER_BYTES
        deadline = min(self._deadline, asyncio.get_running_loop().time() + LINGER_SECONDS)
        try:
            while not self._is_whole and self._read < most:
                await self._receive_until(deadline)
        except TimeoutError:
            pass


def _is_json(content_type: str) -> bool:
    kind = content_type.partition(";")[0].strip().lower()
    return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))
