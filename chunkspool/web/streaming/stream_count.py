"""Counts the open event streams of each tenant, owner and chat in all processes, and refuses too many."""

from __future__ import annotations

import asyncio
import itertools
import secrets
import time
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from chunkspool import AsyncSpool
from chunkspool.errors import ChunkspoolError, LimitExceeded
from chunkspool.store.streams import HELD_AT_ONCE, HeldStreams, StreamLimit

RENEW = 10.0
"""Seconds between two notes of what is open: a process that was killed is forgotten after three of them."""
TELL_SECONDS = 2.0
"""How long a note may take: streams that are opened meanwhile wait for it."""
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
        # What is told again must not hold streams that will be refused, nor miss some that are let in meanwhile. So it
        # waits for those that are being opened, and others wait for it, a round trip each.
        self._telling = asyncio.Lock()
        self._opening = 0
        self._calm = asyncio.Event()

    async def open(self, spool: AsyncSpool, chat_id: str, owner: str | None) -> None:
        """Count one more; `close` is to follow. Raises `LimitExceeded` or `StoreError`: then nothing was counted.

        `owner`: whose stream it is, None where nobody knows.
        """
        scopes = _scopes_of(spool, chat_id, owner)
        async with self._telling:
            self._opening += 1
            self._add(scopes, 1)
            self._spools[spool.settings.log.tenant] = spool
        try:
            await self._hold(spool, scopes, refuses=True)
        except LimitExceeded:
            self._add(scopes, -1)
            # Another one that was let in meanwhile has told of this one, too.
            self._note_left(scope for scope in scopes if scope in self._open)
            raise
        except BaseException:
            # Redis may have noted it all the same: nobody knows.
            self.close(spool, chat_id, owner)
            raise
        finally:
            self._opening -= 1
            self._calm.set()

    def close(self, spool: AsyncSpool, chat_id: str, owner: str | None) -> None:
        """Count one less."""
        scopes = _scopes_of(spool, chat_id, owner)
        self._spools[spool.settings.log.tenant] = spool
        self._add(scopes, -1)
        self._note_left(scopes)
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

    def _note_left(self, scopes: Iterable[_Scope]) -> None:
        """Tell of these scopes again soon."""
        if not self._left:
            self._left_due = time.monotonic() + SETTLE
        self._left.update(scopes)

    def _start_renewing(self) -> None:
        if self._renewing is None or self._renewing.done():
            self._renewing = asyncio.create_task(self._renew(), name="chunkspool-streams-count")

    async def _renew(self) -> None:
        while self._left:
            # Some of one tenant; what is left meanwhile comes in the next round.
            tenant = next(iter(self._left)).tenant
            of_tenant = (scope for scope in self._left if scope.tenant == tenant)
            scopes = tuple(itertools.islice(of_tenant, HELD_AT_ONCE))
            # Without Redis nothing can be refused either; the next time tells it all the same.
            try:
                await self._tell(tenant, scopes)
            except (ChunkspoolError, TimeoutError):
                # Without Redis nothing can be refused either. What is open is told again, what has ended is forgotten.
                self._left.clear()
        self._forget_spools()

    async def _tell(self, tenant: str, scopes: tuple[_Scope, ...]) -> None:
        async with asyncio.timeout(TELL_SECONDS), self._telling:
            while self._opening:
                self._calm.clear()
                await self._calm.wait()
            self._left.difference_update(scopes)  # what ends from now on is to be told once more
            await self._hold(self._spools[tenant], scopes, refuses=False)

    def _forget_spools(self) -> None:
        tenants = {scope.tenant for scope in (*self._left, *self._open)}
        for tenant in self._spools.keys() - tenants:
            del self._spools[tenant]

    async def _hold(self, spool: AsyncSpool, scopes: tuple[_Scope, ...], *, refuses: bool) -> None:
        held = [HeldStreams(scope.limit, scope.name, self._open[scope]) for scope in scopes]
        await spool.hold_streams(self._process, held, version=next(self._versions), refuses=refuses)


def _scopes_of(spool: AsyncSpool, chat_id: str, owner: str | None) -> tuple[_Scope, ...]:
    tenant = spool.settings.log.tenant
    of_owner = () if owner is None else (_Scope(tenant, "owner_streams", owner),)
    return (_Scope(tenant, "streams", ""), *of_owner, _Scope(tenant, "chat_streams", chat_id))
