"""Counts the open event streams of each tenant, owner and chat in all processes, and refuses too many."""

from __future__ import annotations

import asyncio
import itertools
import secrets
import time
from collections import Counter
from contextlib import suppress
from typing import NamedTuple

from chunkspool import AsyncSpool
from chunkspool.errors import ChunkspoolError, LimitExceeded
from chunkspool.store.streams import HeldStreams, StreamLimit

RENEW = 10.0
"""Seconds between two notes of what is open: a process that was killed is forgotten after three of them."""
SETTLE = 1.0
"""Seconds after which others hear of streams that have ended: many end together, and one note tells of them."""


class _Scope(NamedTuple):
    """What a limit counts the streams of: a tenant ("" is its name), an owner, or a chat."""

    tenant: str
    limit: StreamLimit
    name: str


class StreamCount:
    """One per app. This process notes in Redis how many it has open, so a killed one is forgotten with all of them."""

    def __init__(self) -> None:
        """Nothing is open."""
        self._process = secrets.token_hex(8)
        self._versions = itertools.count(1)
        self._open: Counter[_Scope] = Counter()
        self._spools: dict[str, AsyncSpool] = {}
        self._left: set[_Scope] = set()
        self._due = 0.0
        self._left_due = 0.0
        self._renewing: asyncio.Task[None] | None = None

    async def open(self, spool: AsyncSpool, chat_id: str, owner: str | None) -> None:
        """Count one more; `close` is to follow. Raises `LimitExceeded` or `StoreError`: then nothing was counted.

        `owner`: whose stream it is, None where nobody knows.
        """
        scopes = _scopes_of(spool, chat_id, owner)
        self._add(scopes, 1)
        self._spools[spool.settings.log.tenant] = spool
        try:
            await self._hold(spool, scopes, refuses=True)
        except LimitExceeded:
            self._add(scopes, -1)
            raise
        except BaseException:
            # Redis may have noted it all the same: nobody knows.
            self.close(spool, chat_id, owner)
            raise

    def close(self, spool: AsyncSpool, chat_id: str, owner: str | None) -> None:
        """Count one less."""
        scopes = _scopes_of(spool, chat_id, owner)
        self._spools[spool.settings.log.tenant] = spool
        self._add(scopes, -1)
        if not self._left:
            self._left_due = time.monotonic() + SETTLE
        self._left.update(scopes)
        if not self._open:
            self._start_renewing()  # nobody will call, once no stream is open

    def renew_if_due(self, now: float) -> None:
        """Note in Redis again what is open, if it is time to (monotonic clock), behind the caller's back."""
        if now >= self._due:
            self._due = now + RENEW
            self._left.update(self._open)
        elif not (self._left and now >= self._left_due):
            return
        self._start_renewing()

    def _add(self, scopes: tuple[_Scope, ...], number: int) -> None:
        for scope in scopes:
            self._open[scope] += number
            if not self._open[scope]:
                del self._open[scope]  # counters keep what is 0

    def _start_renewing(self) -> None:
        if self._renewing is None or self._renewing.done():
            self._renewing = asyncio.create_task(self._renew(), name="chunkspool-streams-count")

    async def _renew(self) -> None:
        while self._left:
            # A set for each tenant; what is left meanwhile comes in the next round.
            tenant = next(iter(self._left)).tenant
            scopes = tuple(scope for scope in self._left if scope.tenant == tenant)
            self._left.difference_update(scopes)
            # Without Redis nothing can be refused either; the next time tells it all the same.
            with suppress(ChunkspoolError):
                await self._hold(self._spools[tenant], scopes, refuses=False)
            if not any(scope.tenant == tenant for scope in (*self._left, *self._open)):
                self._spools.pop(tenant, None)

    async def _hold(self, spool: AsyncSpool, scopes: tuple[_Scope, ...], *, refuses: bool) -> None:
        held = [HeldStreams(scope.limit, scope.name, self._open[scope]) for scope in scopes]
        await spool.hold_streams(self._process, held, version=next(self._versions), refuses=refuses)


def _scopes_of(spool: AsyncSpool, chat_id: str, owner: str | None) -> tuple[_Scope, ...]:
    tenant = spool.settings.log.tenant
    of_owner = () if owner is None else (_Scope(tenant, "owner_streams", owner),)
    return (_Scope(tenant, "streams", ""), *of_owner, _Scope(tenant, "chat_streams", chat_id))
