"""What `subscribe` returns: an iterator over a chat, for asyncio and for threads."""

from __future__ import annotations

import asyncio
import threading
import time
from types import TracebackType
from typing import Self

from chunkspool.effects import Pause, drive, drive_async
from chunkspool.events import Entry
from chunkspool.reading.cursor import Cursor
from chunkspool.reading.hub_asyncio import AsyncHub
from chunkspool.reading.hub_threads import ThreadHub
from chunkspool.reading.reader import Listen, Reader, ReaderEffect, Wait
from chunkspool.reading.replay_report import report_replay
from chunkspool.store.commands import ScriptCall, Transaction
from chunkspool.store.entries import entry_of


class Subscription:
    """An iterator of `Entry` for one thread. Use it in a `with` block: leaving the block frees what it holds.

    After a `CorruptLog` the same iterator goes on behind the entry that could not be decoded.
    """

    __slots__ = ("_give_up", "_hub", "_reader", "_ready", "_waiter")

    def __init__(self, hub: ThreadHub, cursor: Cursor, start: Transaction[int] | None) -> None:
        """`start`, if given, is the read of the cursor to begin after. Nothing is asked of Redis yet."""
        self._hub = hub
        self._give_up: float | None = None
        self._waiter = threading.Event()
        self._reader = Reader(cursor, self._waiter, hub.read_timeout, start)
        self._ready = self._reader.ready

    def __enter__(self) -> Self:
        """Make sure that the chat exists and the cursor is good: what is wrong is raised here."""
        with report_replay(self._hub.observer):
            drive(self._reader.begin(), self._perform, self._hub.lock)
        return self

    def __exit__(self, _type: object, _error: object, _traceback: TracebackType | None) -> None:
        """Free what it holds, and be at the end."""
        self._hub.leave(self._reader)
        self._reader.leave()

    def __iter__(self) -> Self:
        """Return itself."""
        return self

    def __next__(self) -> Entry:
        """Return the next entry; wait for it where the log has none yet."""
        ready = self._ready
        if not ready:
            drive(self._reader.refill(), self._perform, self._hub.lock)
            if not ready:
                raise StopIteration
        item = ready.popleft()
        return item if isinstance(item, Entry) else entry_of(item)

    @property
    def ready(self) -> int:
        """How many entries are there already, for which nobody need wait."""
        return len(self._ready)

    def wait(self, seconds: float) -> bool:
        """Wait until `next` need not wait: an entry has come, or the end. Return False if `seconds` went by before.

        For servers that notice only by writing that a client has gone: send a heartbeat, and wait again. While Redis
        does not answer it may take longer. Raises what `next` raises.
        """
        self._give_up = time.monotonic() + seconds
        try:
            if not self._ready:
                drive(self._reader.refill(), self._perform, self._hub.lock)
        except _NothingCame:
            return False
        finally:
            self._give_up = None
        return True

    def __del__(self) -> None:
        """Free what it holds, if it was dropped without leaving its block."""
        if self._reader.joined:
            self._hub.drop(self._reader)

    def _perform(self, effect: ReaderEffect) -> object:
        match effect:
            case Transaction():
                return self._hub.read(effect)
            case ScriptCall():
                return self._hub.call(effect)
            case Listen():
                self._hub.join(self._reader)
            case Wait():
                if not self._waiter.wait(None if self._give_up is None else self._give_up - time.monotonic()):
                    raise _NothingCame
                self._waiter.clear()
            case Pause():
                time.sleep(effect.seconds)
        return None


class AsyncSubscription:
    """An async iterator of `Entry` for one task. Use it in an `async with` block: leaving it frees what it holds.

    After a `CorruptLog` the same iterator goes on behind the entry that could not be decoded.
    """

    __slots__ = ("_give_up", "_hub", "_reader", "_ready", "_waiter")

    def __init__(self, hub: AsyncHub, cursor: Cursor, start: Transaction[int] | None) -> None:
        """`start`, if given, is the read of the cursor to begin after. Nothing is asked of Redis yet."""
        self._hub = hub
        self._give_up: float | None = None
        self._waiter = _TaskWaiter()
        self._reader = Reader(cursor, self._waiter, hub.read_timeout, start)
        self._ready = self._reader.ready

    async def __aenter__(self) -> Self:
        """Make sure that the chat exists and the cursor is good: what is wrong is raised here."""
        with report_replay(self._hub.observer):
            await drive_async(self._reader.begin(), self._perform)
        return self

    async def __aexit__(self, _type: object, _error: object, _traceback: TracebackType | None) -> None:
        """Free what it holds, and be at the end."""
        self._hub.leave(self._reader)
        self._reader.leave()

    def __aiter__(self) -> Self:
        """Return itself."""
        return self

    async def __anext__(self) -> Entry:
        """Return the next entry; wait for it where the log has none yet."""
        ready = self._ready
        if not ready:
            await drive_async(self._reader.refill(), self._perform)
            if not ready:
                raise StopAsyncIteration
        item = ready.popleft()
        return item if isinstance(item, Entry) else entry_of(item)

    @property
    def ready(self) -> int:
        """How many entries are there already, for which nobody need wait."""
        return len(self._ready)

    async def wait(self, seconds: float) -> bool:
        """Wait until `anext` need not wait: an entry has come, or the end. Return False if `seconds` went by before.

        While Redis does not answer it may take longer. Raises what `anext` raises.
        """
        self._give_up = time.monotonic() + seconds
        try:
            if not self._ready:
                await drive_async(self._reader.refill(), self._perform)
        except _NothingCame:
            return False
        finally:
            self._give_up = None
        return True

    def __del__(self) -> None:
        """Free what it holds, if it was dropped without leaving its block."""
        if self._reader.joined:
            self._hub.drop(self._reader)

    async def _perform(self, effect: ReaderEffect) -> object:
        match effect:
            case Transaction():
                return await self._hub.read(effect)
            case ScriptCall():
                return await self._hub.call(effect)
            case Listen():
                self._hub.join(self._reader)
            case Wait():
                await self._wait()
            case Pause():
                await asyncio.sleep(effect.seconds)
        return None

    async def _wait(self) -> None:
        if self._give_up is None:
            await self._waiter.wait()
            return
        try:
            async with asyncio.timeout(max(0.0, self._give_up - time.monotonic())):
                await self._waiter.wait()
        except TimeoutError:
            raise _NothingCame from None


class _NothingCame(Exception):
    """Ends a `wait`, and never leaves it."""


class _TaskWaiter:
    """An asyncio.Event for one waiter, at a tenth of its memory."""

    __slots__ = ("_loop", "_waiter")

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiter: asyncio.Future[None] | None = None

    def set(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def wait(self) -> None:
        if self._waiter is not None:
            raise RuntimeError("another task is waiting for the same subscription; give each task its own")
        if self._loop is None:  # asking for it is a system call in Python 3.11, and this is done for every event
            self._loop = asyncio.get_running_loop()
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None
