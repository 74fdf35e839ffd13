"""Counts the open event streams of each tenant in all processes, and of each chat in this one, and refuses too many."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from contextlib import suppress

from chunkspool import AsyncSpool
from chunkspool.errors import ChunkspoolError, LimitExceeded

RETRY_AFTER = 5.0
"""Seconds after which a client that was refused may try again."""
RENEW = 10.0
"""Seconds between two notes of what is open: a process that was killed is forgotten after three of them."""


class StreamCount:
    """One per app. This process notes in Redis how many it has open, so a killed one is forgotten with all of them."""

    def __init__(self) -> None:
        """Nothing is open."""
        self._process = secrets.token_hex(8)
        self._of_tenant: Counter[str] = Counter()
        self._of_chat: Counter[tuple[str, str]] = Counter()
        self._spools: dict[str, AsyncSpool] = {}
        self._due = 0.0
        self._renewing: asyncio.Task[None] | None = None

    async def open(self, spool: AsyncSpool, chat_id: str) -> None:
        """Count one more; `close` is to follow. Raises `LimitExceeded` or `StoreError`: then nothing was counted."""
        tenant, limit = spool.settings.log.tenant, spool.settings.limits.max_chat_streams
        if self._of_chat[tenant, chat_id] >= limit:
            why = f"this server has as many event streams of chat {chat_id!r} open as it may ({limit})"
            raise LimitExceeded("chat_streams", f"{why}: close some, or try again", retry_after=RETRY_AFTER)
        self._add(tenant, chat_id, 1)
        try:
            await spool.hold_streams(self._process, self._of_tenant[tenant], refuses=True)
        except BaseException:
            self._add(tenant, chat_id, -1)
            raise
        self._spools[tenant] = spool

    def close(self, spool: AsyncSpool, chat_id: str) -> None:
        """Count one less."""
        tenant = spool.settings.log.tenant
        self._add(tenant, chat_id, -1)
        if not self._of_tenant[tenant]:
            self.renew_if_due(self._due)

    def renew_if_due(self, now: float) -> None:
        """Note in Redis again what is open, if it is time to (monotonic clock), behind the caller's back."""
        if now >= self._due and self._spools and (self._renewing is None or self._renewing.done()):
            self._due = now + RENEW
            self._renewing = asyncio.create_task(self._renew(), name="chunkspool-streams-count")

    def _add(self, tenant: str, chat_id: str, number: int) -> None:
        self._of_tenant[tenant] += number
        self._of_chat[tenant, chat_id] += number
        # Counters keep what is 0.
        if not self._of_tenant[tenant]:
            del self._of_tenant[tenant]
        if not self._of_chat[tenant, chat_id]:
            del self._of_chat[tenant, chat_id]

    async def _renew(self) -> None:
        for tenant, spool in list(self._spools.items()):
            number = self._of_tenant[tenant]
            # Without Redis nothing can be refused either; the next time tells it all the same.
            with suppress(ChunkspoolError):
                await spool.hold_streams(self._process, number, refuses=False)
                if not number and not self._of_tenant[tenant]:
                    self._spools.pop(tenant, None)
