"""Readers of one event loop share round trips, and no read is forgotten."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from chunkspool.errors import ChatNotFound, ChunkspoolError, SpoolClosed, StoreUnavailable
from chunkspool.reading.read_batcher import BATCH_ENTRIES, BATCH_READS, ReadBatcher
from chunkspool.store.commands import Transaction

PATIENCE = 20.0


def transaction(number: int, entries: int = 0) -> Transaction[int]:
    """Return a transaction whose result is `number`."""
    return Transaction((), lambda _: number, entries)


@dataclass
class FakeStore:
    """Answers after a few turns of the event loop."""

    turns: int = 1
    batches: list[Sequence[Transaction[Any]]] = field(default_factory=list)
    under_way: int = 0
    most_under_way: int = 0
    error: Exception | None = None

    async def send_all(self, transaction: Sequence[Transaction[Any]], *, at_once: bool) -> Sequence[Any]:
        """Return each transaction's number."""
        assert at_once
        self.batches.append(transaction)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        for _ in range(self.turns):
            await asyncio.sleep(0)
        self.under_way -= 1
        if self.error is not None and not isinstance(self.error, ChunkspoolError):
            raise self.error
        return [self.error or one.parse(()) for one in transaction]


async def test_simultaneous_reads_share_batches() -> None:
    """Batches have a limited size, and only a limited number is in flight."""
    store = FakeStore(turns=3)
    batcher = ReadBatcher(store, 3)
    numbers = range(20 * BATCH_READS)
    async with asyncio.timeout(PATIENCE):
        assert await asyncio.gather(*(batcher.read(transaction(number)) for number in numbers)) == list(numbers)
    assert [len(batch) for batch in store.batches] == [BATCH_READS] * 20
    assert store.most_under_way == 3


async def test_a_batch_is_limited_by_entries() -> None:
    """Large pages go alone, small ones together; one above the limit is still sent."""
    store = FakeStore()
    batcher = ReadBatcher(store, 1)
    sizes = [BATCH_ENTRIES, BATCH_ENTRIES // 2, BATCH_ENTRIES // 2, 1, 2 * BATCH_ENTRIES, 1]
    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(*(batcher.read(transaction(number, size)) for number, size in enumerate(sizes)))
    assert [[one.entries for one in batch] for batch in store.batches] == [
        sizes[:1],
        sizes[1:3],
        sizes[3:4],
        sizes[4:5],
        [1],
    ]


@pytest.mark.parametrize("readers", [1, 2, 8])
@pytest.mark.parametrize("most", [1, 4])
async def test_no_read_is_forgotten(most: int, readers: int) -> None:
    """Whenever it arrives, even just as the workers run out of work."""
    batcher, chance = ReadBatcher(FakeStore(), most), random.Random(7)  # noqa: S311 - no secret

    async def reader() -> None:
        for number in range(200):
            for _ in range(chance.randrange(6)):
                await asyncio.sleep(0)
            assert await batcher.read(transaction(number)) == number

    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(*(reader() for _ in range(readers)))


async def test_a_cancelled_read_is_not_sent() -> None:
    """A read whose reader was cancelled never reaches Redis."""
    store = FakeStore()
    batcher = ReadBatcher(store, 1)
    asked = [asyncio.create_task(batcher.read(transaction(number))) for number in range(3)]
    await asyncio.sleep(0)
    asked[1].cancel()
    async with asyncio.timeout(PATIENCE):
        assert await asked[0] == 0
        assert await asked[2] == 2
    assert [one.parse(()) for batch in store.batches for one in batch] == [0, 2]


async def test_each_reader_gets_its_own_error_object() -> None:
    """A shared exception would accumulate every reader's traceback."""
    batcher = ReadBatcher(FakeStore(error=ChatNotFound("chat")), 1)
    errors = await asyncio.gather(*(batcher.read(transaction(1)) for _ in range(3)), return_exceptions=True)
    assert [type(error) for error in errors] == [ChatNotFound] * 3
    assert len(set(map(id, errors))) == 3


async def test_one_failure_is_reported_to_all_waiting_reads() -> None:
    """While Redis is unreachable, waiting reads do not need round trips of their own to fail."""
    store = FakeStore(error=StoreUnavailable("away"))
    batcher = ReadBatcher(store, 1)
    async with asyncio.timeout(PATIENCE):
        asked = (batcher.read(transaction(1)) for _ in range(10 * BATCH_READS))
        errors = await asyncio.gather(*asked, return_exceptions=True)
    assert {type(error) for error in errors} == {StoreUnavailable}
    assert len(store.batches) == 1
    store.error = None
    assert await batcher.read(transaction(5)) == 5


async def test_closing_ends_every_read() -> None:
    """Reads in flight and waiting reads get `SpoolClosed`."""
    store = FakeStore(turns=1_000_000)
    batcher = ReadBatcher(store, 1)
    asked = [asyncio.create_task(batcher.read(transaction(1))) for _ in range(2 * BATCH_READS)]
    async with asyncio.timeout(PATIENCE):
        while not store.under_way:  # noqa: ASYNC110 - a plain counter
            await asyncio.sleep(0)
        await batcher.aclose()
        errors = await asyncio.gather(*asked, return_exceptions=True)
    assert {type(error) for error in errors} == {SpoolClosed}


async def test_a_bug_is_raised_in_every_waiting_read() -> None:
    """It is raised where the chats are read, and later reads are served."""
    store = FakeStore(error=ZeroDivisionError("a fault"))
    batcher = ReadBatcher(store, 1)
    async with asyncio.timeout(PATIENCE):
        errors = await asyncio.gather(*(batcher.read(transaction(1)) for _ in range(20)), return_exceptions=True)
        assert {type(error) for error in errors} == {ZeroDivisionError}
        store.error = None
        assert await batcher.read(transaction(5)) == 5
