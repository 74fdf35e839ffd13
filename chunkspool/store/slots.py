"""Lets only so many calls at a time use a client's connections; the others wait, for a limited time."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import redis
import redis.asyncio

from chunkspool.errors import StoreBusy
from chunkspool.per_process import PerProcess

RESERVED = 7
"""Connections of a pool that calls leave to others: four for the pages of readers, one for the flusher, two for the
stop listener. None of them may wait behind a burst of calls: a reader would stand still, and a lease would end."""
WAIT_SECONDS = 10.0
"""How long a call waits for a connection. A burst of thousands is through by then, if Redis does its work."""


def calls_at_once(client: redis.Redis | redis.asyncio.Redis) -> int:
    """Return how many calls may use the client's pool at a time."""
    return max(1, client.connection_pool.max_connections - RESERVED)


class Turns:
    """A semaphore for threads that is fair: who has waited longest is next.

    `threading.Semaphore` gives what is released to whoever asks next, and asks those who wait to wait anew: of 500
    threads that call all the time on 93 slots, the unlucky ones waited to the end (8.5 of 8.9 seconds; here 0.5).
    """

    def __init__(self, most: int) -> None:
        """`most`: how many hold it at a time."""
        self._lock = threading.Lock()
        self._free = most
        self._waiting: deque[threading.Lock] = deque()

    def acquire(self, timeout: float) -> bool:
        """Take one, or wait `timeout` seconds for one; tell whether there was one."""
        with self._lock:
            if self._free:
                self._free -= 1
                return True
            turn = threading.Lock()
            turn.acquire()
            self._waiting.append(turn)
        try:
            return turn.acquire(timeout=timeout) or self._leave(turn)
        except BaseException:  # Ctrl-C
            if self._leave(turn):
                self.release()
            raise

    def release(self) -> None:
        """Hand it to who has waited longest."""
        with self._lock:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._free += 1

    def _leave(self, turn: threading.Lock) -> bool:
        """Wait no longer; tell whether the turn came at the last moment."""
        with self._lock:
            if turn in self._waiting:
                self._waiting.remove(turn)
                return False
        return True


class Slots:
    """The calls of threads. In a forked child all slots are free."""

    def __init__(self, most: int) -> None:
        """`most`: calls at a time."""
        self._turns = PerProcess(lambda: Turns(most))

    @contextmanager
    def take(self) -> Iterator[None]:
        """Hold a slot within the block. Raises a bare `StoreBusy`."""
        turns = self._turns.get()
        if not turns.acquire(WAIT_SECONDS):
            raise StoreBusy
        try:
            yield
        finally:
            turns.release()


class AsyncSlots:
    """The calls of an event loop's tasks. Another loop begins with all slots free."""

    def __init__(self, most: int) -> None:
        """`most`: calls at a time."""
        self._most = most
        self._free = asyncio.Semaphore(most)
        self._loop: asyncio.AbstractEventLoop | None = None

    @asynccontextmanager
    async def take(self) -> AsyncIterator[None]:
        """Hold a slot within the block. Raises a bare `StoreBusy`. A task that is cancelled meanwhile holds none."""
        free = self._of_this_loop()
        if free.locked():
            await self._wait(free)
        else:
            await free.acquire()  # at once, without a timer
        try:
            yield
        finally:
            free.release()

    def _of_this_loop(self) -> asyncio.Semaphore:
        # A semaphore belongs to the loop on which somebody first had to wait for it.
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._loop, self._free = loop, asyncio.Semaphore(self._most)
        return self._free

    async def _wait(self, free: asyncio.Semaphore) -> None:
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await free.acquire()
        except TimeoutError:
            raise StoreBusy from None


def busy(calls: int) -> StoreBusy:
    """Return the error of a call that waited in vain while so many `calls` were under way."""
    return StoreBusy(
        f"no connection to Redis became free within {WAIT_SECONDS:g} seconds: {calls} calls are under way; "
        f"call less at a time, or use a larger pool (max_connections)"
    )
