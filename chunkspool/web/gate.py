"""The gate to Redis: limits how many requests of the web app use it at once, and for how long each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from chunkspool.errors import StoreUnavailable

MAX_CONCURRENT = 64
"""Requests that may use Redis at once; the others wait for their turn. After a deploy all readers reconnect in the same
moment, redis-py's pool refuses the 101st connection, and an EventSource that gets a 503 never tries again."""


class RequestGate:
    """One per app."""

    def __init__(self, seconds: float) -> None:
        """`seconds`: how long a request may take, including the wait for its turn."""
        self._seconds = seconds
        self._turns = asyncio.Semaphore(MAX_CONCURRENT)

    @asynccontextmanager
    async def enter(self) -> AsyncIterator[None]:
        """Wait for a turn, then run the block. Raises `StoreUnavailable` when the time limit is reached."""
        try:
            async with asyncio.timeout(self._seconds), self._turns:
                yield
        except TimeoutError:
            raise StoreUnavailable(f"Redis did not answer within {self._seconds:g} seconds") from None
