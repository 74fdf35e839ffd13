"""The hub: all readers of an event loop on one subscribed connection, and a few of the pool for what they read."""

from __future__ import annotations

import asyncio
import math
from contextlib import suppress
from typing import TypeVar

import redis.asyncio

from chunkspool.errors import ChunkspoolError, StoreUnavailable
from chunkspool.reading.channels import TICKS, Lines
from chunkspool.reading.pubsub import AsyncLink, share_of
from chunkspool.reading.read_batcher import Desk
from chunkspool.reading.reader import Patience, Reader
from chunkspool.store.client import AsyncStore
from chunkspool.store.commands import Reads

T = TypeVar("T")
LINGER = 1.0
"""Seconds for which the connection is kept when the last reader has left."""


class AsyncHub:
    """The readers' side of one client. Its task runs while there are readers."""

    def __init__(self, client: redis.asyncio.Redis, *, read_timeout: float, recheck: float) -> None:
        """`client` stays its owner's to close. Both times are in seconds; see `Settings`."""
        self.read_timeout = read_timeout
        self._client = client
        self._tick = recheck / TICKS
        self._stirred = asyncio.Event()
        self._lines = Lines(self._stirred.set)
        self._desk = Desk(AsyncStore(client), share_of(client))
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    async def read(self, reads: Reads[T]) -> T:
        """Make the reads, together with what others read. Raises what they raise, or `StoreError`."""
        if self._closed:
            raise self._end(None)
        return await self._desk.read(reads)

    def join(self, reader: Reader) -> None:
        """Bring the frames of its chat to `reader`."""
        if self._closed:
            reader.fail(self._end(None))
            return
        self._lines.join(reader)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="chunkspool-hub")
        self._stirred.set()

    def leave(self, reader: Reader) -> None:
        """Free what `reader` held."""
        self._lines.leave(reader)
        self._stirred.set()

    def drop(self, reader: Reader) -> None:
        """Free what `reader` held, some ticks later. The garbage collector may call it, in any thread."""
        self._lines.drop(reader)

    async def aclose(self) -> None:
        """Free all connections; `StoreUnavailable` is raised in the readers that are left."""
        self._closed = True
        self._stirred.set()
        await self._desk.aclose()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        try:
            patience = Patience(self.read_timeout)
            while self._lines and not self._closed:
                try:
                    await self._follow(patience)
                except StoreUnavailable as error:
                    self._lines.lost()
                    await asyncio.sleep(patience.pause_after(error))
        except ChunkspoolError as error:
            self._lines.fail(error)
        except BaseException as error:
            self._lines.fail(self._end(error))
            raise
        finally:
            self._lines.fail(self._end(None))
            self._lines.lost()

    def _end(self, error: BaseException | None) -> StoreUnavailable:
        return StoreUnavailable("the spool was closed" if self._closed else f"the readers' hub has ended: {error!r}")

    async def _follow(self, patience: Patience) -> None:
        """Serve the readers over one connection; return when the last of them has left."""
        link = await AsyncLink.opened(self._client)
        hearing = asyncio.create_task(link.hear(self._lines), name="chunkspool-hub-hears")
        hearing.add_done_callback(lambda _: self._stirred.set())
        try:
            self._lines.linked()
            await self._serve(link, hearing, patience)
        finally:
            hearing.cancel()
            try:
                await asyncio.wait([hearing])
            finally:
                await link.close()

    async def _serve(self, link: AsyncLink, hearing: asyncio.Task[None], patience: Patience) -> None:
        now = asyncio.get_running_loop().time
        next_tick, give_up = now(), math.inf
        while not (hearing.done() or self._closed):
            self._stirred.clear()
            await link.send(self._lines.orders())
            if now() >= next_tick:
                self._lines.tick()
                next_tick = now() + self._tick
            await self._look(link)
            if self._lines.at_rest:
                patience.renew()
            give_up = math.inf if self._lines else min(give_up, now() + LINGER)
            if now() >= give_up:
                return
            if not self._lines.in_doubt:
                await self._stirred_until(min(next_tick, give_up))
        if hearing.done():
            await hearing

    async def _stirred_until(self, moment: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout_at(moment):
                await self._stirred.wait()

    async def _look(self, link: AsyncLink) -> None:
        """Look at some of the chats that may have said something unheard."""
        looks = self._lines.looks()
        if looks:
            found = await link.look([look.reads for look in looks])
            for look, seen in zip(looks, found, strict=True):
                self._lines.looked(look, seen)
