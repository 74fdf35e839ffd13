"""The hub: all readers of an event loop on one subscribed connection, and a few of the pool for what they read."""

from __future__ import annotations

import asyncio
import math
from contextlib import suppress
from typing import TypeVar

import redis.asyncio

from chunkspool.errors import ChunkspoolError, InternalError, SpoolClosed, StoreNotReady, StoreUnavailable
from chunkspool.observer import NOBODY, HubReconnected, Observer
from chunkspool.reading.channels import TICKS, ChannelTable
from chunkspool.reading.pubsub import AsyncPubSubConnection, share_of
from chunkspool.reading.read_batcher import ReadBatcher
from chunkspool.reading.reader import Reader
from chunkspool.retry import RetryBudget
from chunkspool.store.client import AsyncStore
from chunkspool.store.commands import ScriptCall, Transaction
from chunkspool.store.failover import ROLE_CHECK, PrimaryWatch, drop_connections_async

T = TypeVar("T")
LINGER = 1.0
"""Seconds for which the connection is kept when the last reader has left."""


class AsyncHub:
    """The readers' side of one client. Its task runs while there are readers."""

    def __init__(
        self, client: redis.asyncio.Redis, *, read_timeout: float, recheck: float, observer: Observer = NOBODY
    ) -> None:
        """`client` stays its owner's to close. Both times are in seconds; see `Settings`."""
        self.read_timeout = read_timeout
        self.observer = observer
        self._lost = False
        self._client = client
        self._tick = recheck / TICKS
        self._notified = asyncio.Event()
        self._channels = ChannelTable(self._notified.set, observer)
        self._store = AsyncStore(client, observer=observer)
        self._batcher = ReadBatcher(self._store, share_of(client))
        self._watch = PrimaryWatch()
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    async def read(self, read: Transaction[T]) -> T:
        """Send the read, together with those of others. Raises what it raises, `StoreError` or `SpoolClosed`."""
        if self._closed:
            raise SpoolClosed
        return await self._batcher.read(read)

    async def call(self, call: ScriptCall[T]) -> T:
        """Send the call. Raises `StoreError` or `SpoolClosed`."""
        if self._closed:
            raise SpoolClosed
        return await self._store.send(call)

    def join(self, reader: Reader) -> None:
        """Bring the frames of its chat to `reader`."""
        if self._closed:
            reader.fail(SpoolClosed())
            return
        self._channels.join(reader)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="chunkspool-hub")
        self._notified.set()

    def leave(self, reader: Reader) -> None:
        """Free what `reader` held."""
        self._channels.leave(reader)
        self._notified.set()

    def drop(self, reader: Reader) -> None:
        """Free what `reader` held, some ticks later. The garbage collector may call it, in any thread."""
        self._channels.drop(reader)

    async def aclose(self) -> None:
        """Free all connections; `SpoolClosed` is raised in the readers that are left."""
        self._closed = True
        self._notified.set()
        await self._batcher.aclose()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        try:
            retry = RetryBudget(self.read_timeout)
            while self._channels and not self._closed:
                try:
                    await self._follow(retry)
                except StoreUnavailable as error:
                    self._lost = True
                    self._channels.disconnect()
                    if isinstance(error, StoreNotReady):
                        await drop_connections_async(self._client)  # those on which pages are read
                    await asyncio.sleep(retry.pause_after(error))
        except ChunkspoolError as error:
            self._channels.fail(error)
        except Exception as error:
            self._channels.fail(InternalError(f"the readers' hub failed: {error!r}"))
            raise
        finally:
            # Cancelled, or closed: nobody may wait for a hub that is gone.
            self._channels.fail(SpoolClosed())
            self._channels.disconnect()

    async def _follow(self, retry: RetryBudget) -> None:
        """Serve the readers over one connection; return when the last of them has left."""
        connection = await AsyncPubSubConnection.open(self._client, self._watch)
        if self._lost:
            self._lost = False
            self.observer.observe(HubReconnected())
        hearing = asyncio.create_task(connection.hear(self._channels), name="chunkspool-hub-hears")
        hearing.add_done_callback(lambda _: self._notified.set())
        try:
            self._channels.connect()
            await self._serve(connection, hearing, retry)
        finally:
            hearing.cancel()
            try:
                await asyncio.wait([hearing])
            finally:
                # The next connection begins without subscriptions, also where this one was left because nobody was
                # there: somebody may have come in this very moment.
                self._channels.disconnect()
                await connection.close()

    async def _serve(self, connection: AsyncPubSubConnection, hearing: asyncio.Task[None], retry: RetryBudget) -> None:
        now = asyncio.get_running_loop().time
        next_tick, give_up, next_check = now(), math.inf, now() + ROLE_CHECK
        while not (hearing.done() or self._closed):
            self._notified.clear()
            await connection.send(self._channels.take_commands())
            if now() >= next_tick:
                self._channels.tick()
                next_tick = now() + self._tick
            if now() >= next_check:
                await connection.check_role()
                next_check = now() + ROLE_CHECK
            await self._probe(connection)
            if self._channels.is_settled:
                retry.renew()
            give_up = math.inf if self._channels else min(give_up, now() + LINGER)
            if now() >= give_up:
                return
            if not self._channels.has_probes:
                await self._wait_until(min(next_tick, give_up, next_check))
        if hearing.done():
            await hearing

    async def _wait_until(self, moment: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout_at(moment):
                await self._notified.wait()

    async def _probe(self, connection: AsyncPubSubConnection) -> None:
        """Probe some of the chats whose readers may have missed something."""
        probes = self._channels.take_probes()
        if probes:
            found = await connection.probe([probe.read for probe in probes])
            for probe, seen in zip(probes, found, strict=True):
                self._channels.take_probe_reply(probe, seen)
