"""The gate to Redis: so many requests of the web app talk to it at once, each within a time limit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from chunkspool.errors import StoreUnavailable

AT_ONCE = 64
"""Requests that may talk to Redis at once; the others wait for their turn. redis-py refuses the 101st connection, and
after a deploy all readers come back at once: an EventSource that is answered 503 never tries again."""


class RequestGate:
    """One per app."""

    def __init__(self, seconds: float) -> None:
        """`seconds`: how long a request may take, waiting included."""
        self._seconds = seconds
        self._turns = asyncio.Semaphore(AT_ONCE)

    @asynccontextmanager
    async def enter(self) -> AsyncIterator[None]:
        """Give the block a turn with Redis. Raises `StoreUnavailable` when the time is over."""
        try:
            async with asyncio.timeout(self._seconds), self._turns:
                yield
        except TimeoutError:
            raise StoreUnavailable(f"Redis did not answer within {self._seconds:g} seconds") from None
