"""Close connections of a uvicorn server that hold it up: nothing comes in that was begun, or nothing goes out."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any

import uvicorn


@dataclass(frozen=True, slots=True)
class _Stand:
    """How far a connection has come: its newest request, and how many bytes wait for the client."""

    request: object
    waiting: int
    since: float


class IdleConnections:
    """One per server.

    uvicorn closes a connection that is silent between two requests. It waits without a limit for the rest of a
    request's headers, also for the first, and for a client that does not read.
    """

    def __init__(self, server: uvicorn.Server, *, request_timeout: float, stall_timeout: float) -> None:
        """Both are in seconds: until the headers of a request are there, and until the client reads on."""
        self._server = server
        self._request_timeout = request_timeout
        self._stall_timeout = stall_timeout
        self._stands: dict[object, _Stand] = {}

    async def close_for_ever(self) -> None:
        """Look at all connections again and again, until cancelled."""
        while True:
            await asyncio.sleep(min(self._request_timeout, self._stall_timeout) / 4)
            self._close(time.monotonic())

    def _close(self, now: float) -> None:
        before, self._stands = self._stands, {}
        connections: tuple[Any, ...] = tuple(self._server.server_state.connections)
        for connection in connections:
            # The names are those of uvicorn's h11 protocol, and of httptools'.
            request, transport = connection.cycle, connection.transport
            stand = _Stand(request, transport.get_write_buffer_size(), now)
            last = before.get(connection)
            if last is not None and (last.request, last.waiting) == (stand.request, stand.waiting):
                stand = last
            self._stands[connection] = stand
            if now - stand.since > self._patience_for(stand):
                transport.abort()

    def _patience_for(self, stand: _Stand) -> float:
        if stand.waiting:
            return self._stall_timeout
        is_answering = stand.request is not None and not getattr(stand.request, "response_complete", True)
        return float("inf") if is_answering else self._request_timeout
