"""The gate to Redis: how long a request of the web app may take there, and when it may read a whole chat."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from chunkspool.errors import StoreUnavailable
from chunkspool.web.reading_turns import ReadingTurns

_READING = 0.8


class RequestGate:
    """One per app. Of calls it bounds the time only: that calls wait for a connection is the spool's own doing.

    After a deploy all readers come back at once, and an EventSource that is answered 503 never tries again: of 2,500
    that came in one moment, none was refused, with or without a limit of their number here.
    """

    def __init__(self, seconds: float) -> None:
        """`seconds`: how long a request may take, its wait for a connection included."""
        self._seconds = seconds
        self._reading = ReadingTurns(seconds)

    @property
    def reading_seconds(self) -> float:
        """How long a chat may be read within the gate: somewhat less, so that whoever reads can say why it ends."""
        return self._seconds * _READING

    @asynccontextmanager
    async def enter(self) -> AsyncIterator[None]:
        """Run the block. Raises `StoreUnavailable` when the time limit is reached."""
        try:
            async with asyncio.timeout(self._seconds):
                yield
        except TimeoutError:
            raise StoreUnavailable(
                f"Redis did not answer within {self._seconds:g} seconds, the wait for a connection included"
            ) from None

    @asynccontextmanager
    async def enter_to_read(self, tenant: str, chat_id: str) -> AsyncIterator[None]:
        """Run the block, which reads a whole chat, when it is its turn. Raises `StoreBusy` or `StoreUnavailable`."""
        async with self._reading.take(tenant, chat_id), self.enter():
            yield
