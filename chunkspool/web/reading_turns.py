"""Turns at reading whole chats: a few at a time for each chat and tenant, so that none keeps others waiting."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from chunkspool.errors import StoreBusy

CHAT_READS, TENANT_READS = 2, 8
"""How many requests may read one chat, and the chats of one tenant, at the same time in one process."""


class ReadingTurns:
    """One per app. Who waits is served in the order of coming."""

    def __init__(self, seconds: float) -> None:
        """`seconds`: how long a request may wait for its turn."""
        self._seconds = seconds
        self._turns: dict[str, tuple[asyncio.Semaphore, int]] = {}

    @property
    def is_idle(self) -> bool:
        """Whether nobody reads or waits."""
        return not self._turns

    @asynccontextmanager
    async def take(self, tenant: str, chat_id: str) -> AsyncIterator[None]:
        """Run the block when it is the request's turn. Raises `StoreBusy` if that does not come in time."""
        # The chat's first: who waits for that is not to keep a turn of the tenant's.
        async with self._turn(f"{tenant} {chat_id}", CHAT_READS), self._turn(tenant, TENANT_READS):
            yield

    @asynccontextmanager
    async def _turn(self, name: str, at_once: int) -> AsyncIterator[None]:
        semaphore = self._join(name, at_once)
        try:
            try:
                async with asyncio.timeout(self._seconds):
                    await semaphore.acquire()
            except TimeoutError:
                raise StoreBusy("too many requests read long chats of this tenant: try again later") from None
            try:
                yield
            finally:
                semaphore.release()
        finally:
            self._leave(name)

    def _join(self, name: str, at_once: int) -> asyncio.Semaphore:
        semaphore, users = self._turns.get(name, (asyncio.Semaphore(at_once), 0))
        self._turns[name] = semaphore, users + 1
        return semaphore

    def _leave(self, name: str) -> None:
        semaphore, users = self._turns[name]
        if users == 1:
            del self._turns[name]
        else:
            self._turns[name] = semaphore, users - 1
