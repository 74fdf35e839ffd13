"""The server's side of a request: when it tells that the client has gone, and its connection, if that can be found."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Iterator
from typing import Protocol, Self, cast

from starlette.types import Receive

MAX_STEPS = 50
"""How many objects are looked at: middleware may wrap `receive` any number of times."""

REPEAT_PAUSE = 1.0
"""Seconds between two messages of a server that tells of a body's end more than once."""


async def receive_disconnect(receive: Receive) -> None:
    """Wait until the client has gone. Raises what `receive` raises."""
    has_ended = False
    while (message := await receive())["type"] != "http.disconnect":
        # No server may keep the event loop for itself by answering at once, again and again.
        await asyncio.sleep(REPEAT_PAUSE if has_ended else 0)
        has_ended = not message.get("more_body", False)


class _Transport(Protocol):
    def is_closing(self) -> bool: ...

    def abort(self) -> None: ...


class ServerConnection:
    """One per stream.

    ASGI has no word for either. uvicorn's httptools protocol tells only the newest request of a connection that its
    client has gone, and does not let `send` fail, so with another request behind it a stream would never learn of it.
    But uvicorn's `receive` is a method of an object that has the transport.
    """

    __slots__ = ("_transport",)

    def __init__(self, transport: _Transport | None) -> None:
        """Without a transport, nothing is ever known of the connection."""
        self._transport = transport

    @classmethod
    def find(cls, receive: Receive) -> Self:
        """Look behind `receive`, through whatever middleware has wrapped around it."""
        waiting: list[object] = [receive]
        for _ in range(MAX_STEPS):
            if not waiting:
                break
            wrapper = waiting.pop(0)
            transport = getattr(wrapper, "transport", None)
            if callable(getattr(transport, "is_closing", None)) and callable(getattr(transport, "abort", None)):
                return cls(cast("_Transport", transport))
            waiting += _wrapped_by(wrapper)
        return cls(None)

    def is_closed(self) -> bool:
        """Return whether the connection is known to be closed."""
        return self._transport is not None and self._transport.is_closing()

    def cut(self) -> bool:
        """Close the connection and drop what it has not sent. Return False if the connection is not known."""
        if self._transport is None:
            return False
        self._transport.abort()
        return True


def _wrapped_by(wrapper: object) -> Iterator[object]:
    """Yield what a callable is a method of or a closure over, and the `receive` of a Starlette request."""
    if isinstance(wrapper, functools.partial):
        yield from (wrapper.func, *wrapper.args, *wrapper.keywords.values())
    for name in ("__self__", "_receive"):
        if (inner := getattr(wrapper, name, None)) is not None:
            yield inner
    for cell in getattr(wrapper, "__closure__", None) or ():
        try:
            content = cell.cell_contents
        except ValueError:  # a variable that has no value yet
            continue
        if callable(content):
            yield content
