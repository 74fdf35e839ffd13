"""Batches the reads of an event loop's readers: what gathers goes in one round trip, over a few connections."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from copy import copy
from typing import Any, Protocol, TypeVar

from chunkspool.errors import ChunkspoolError, SpoolClosed, StoreUnavailable
from chunkspool.store.commands import Transaction

T = TypeVar("T")
BATCH_READS, BATCH_ENTRIES = 16, 500
"""Transaction of one round trip, and the entries that they may bring: frames wait while they are unpacked."""


class BatchStore(Protocol):
    """What of `AsyncStore` is used here."""

    async def send_all(self, reads: Sequence[Transaction[Any]], *, at_once: bool) -> Sequence[Any]:
        """Return for each of `reads` what it says, or its error."""


class ReadBatcher:
    """Has at most so many workers, each with a round trip under way."""

    def __init__(self, store: BatchStore, most: int) -> None:
        """`most`: round trips at a time."""
        self._store = store
        self._most = most
        self._waiting: deque[_PendingRead] = deque()
        self._busy = 0
        self._workers: set[asyncio.Task[None]] = set()

    async def read(self, reads: Transaction[T]) -> T:
        """Return what the reads say. Raises what they raise, or `StoreError`."""
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((reads, answer))
        if self._busy < self._most:
            self._busy += 1
            worker = asyncio.create_task(self._work(), name="chunkspool-hub-reads")
            self._workers.add(worker)
            worker.add_done_callback(self._workers.discard)
        found = await answer
        if isinstance(found, Exception):
            raise found
        return found  # type: ignore[no-any-return]

    async def aclose(self) -> None:
        """Give up what is under way; `SpoolClosed` is raised in those who wait for it.

        Return when no worker holds a connection any more: one that is yet connecting would never be closed.
        """
        workers = tuple(self._workers)
        for worker in workers:
            worker.cancel()
        if workers:
            await asyncio.wait(workers)

    async def _work(self) -> None:
        try:
            while batch := self._next_batch():
                await self._send_batch(batch)
        finally:
            # Here, not when the task is done: who asks in between must find that a worker is wanted.
            self._busy -= 1

    async def _send_batch(self, batch: list[_PendingRead]) -> None:
        try:
            found: Sequence[Any] = await self._store.send_all([reads for reads, _ in batch], at_once=True)
        except asyncio.CancelledError:
            _answer(batch, SpoolClosed())
            self._fail_waiting(SpoolClosed())
            raise
        except Exception as error:  # noqa: BLE001 - a fault of ours: it is raised where the chat is read
            found = [error] * len(batch)
        for asked, one in zip(batch, found, strict=True):
            _answer([asked], one)
        if isinstance(found[0], StoreUnavailable):
            # Those who wait would fare no better, only learn it later.
            self._fail_waiting(found[0])

    def _fail_waiting(self, error: ChunkspoolError) -> None:
        _answer(self._waiting, error)
        self._waiting.clear()

    def _next_batch(self) -> list[_PendingRead]:
        batch: list[_PendingRead] = []
        room = BATCH_ENTRIES
        while self._waiting and len(batch) < BATCH_READS and (room >= self._waiting[0][0].entries or not batch):
            reads, answer = self._waiting.popleft()
            if not answer.done():  # else its reader has left
                batch.append((reads, answer))
                room -= reads.entries
        return batch


_PendingRead = tuple[Transaction[Any], asyncio.Future[Any]]


def _answer(those: Iterable[_PendingRead], found: Any) -> None:
    for _, answer in those:
        if not answer.done():
            answer.set_result(copy(found) if isinstance(found, Exception) else found)
