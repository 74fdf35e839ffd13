"""Transaction of an event loop's readers share round trips, and none of them is forgotten."""

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


def reads(number: int, entries: int = 0) -> Transaction[int]:
    """Return reads that say `number`."""
    return Transaction((), lambda _: number, entries)


@dataclass
class Store:
    """Answers after some turns of the loop."""

    turns: int = 1
    batches: list[Sequence[Transaction[Any]]] = field(default_factory=list)
    under_way: int = 0
    most_under_way: int = 0
    error: Exception | None = None

    async def send_all(self, reads: Sequence[Transaction[Any]], *, at_once: bool) -> Sequence[Any]:
        """Let each of them say its number."""
        assert at_once
        self.batches.append(reads)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        for _ in range(self.turns):
            await asyncio.sleep(0)
        self.under_way -= 1
        if self.error is not None and not isinstance(self.error, ChunkspoolError):
            raise self.error
        return [self.error or one.parse(()) for one in reads]


async def test_what_comes_at_once_goes_together() -> None:
    """In batches of limited size, and never more than so many at a time."""
    store = Store(turns=3)
    batcher = ReadBatcher(store, 3)
    numbers = range(20 * BATCH_READS)
    async with asyncio.timeout(PATIENCE):
        assert await asyncio.gather(*(batcher.read(reads(number)) for number in numbers)) == list(numbers)
    assert [len(batch) for batch in store.batches] == [BATCH_READS] * 20
    assert store.most_under_way == 3


async def test_a_batch_brings_only_so_many_entries() -> None:
    """Large pages go alone, small ones together; one that is larger than the limit goes, too."""
    store = Store()
    batcher = ReadBatcher(store, 1)
    sizes = [BATCH_ENTRIES, BATCH_ENTRIES // 2, BATCH_ENTRIES // 2, 1, 2 * BATCH_ENTRIES, 1]
    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(*(batcher.read(reads(number, size)) for number, size in enumerate(sizes)))
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
    """Whatever the moment at which it comes, also that at which the workers find nothing more to do."""
    batcher, chance = ReadBatcher(Store(), most), random.Random(7)  # noqa: S311 - no secret

    async def reader() -> None:
        for number in range(200):
            for _ in range(chance.randrange(6)):
                await asyncio.sleep(0)
            assert await batcher.read(reads(number)) == number

    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(*(reader() for _ in range(readers)))


async def test_those_who_have_left_are_left_out() -> None:
    """A read whose reader was cancelled is not made."""
    store = Store()
    batcher = ReadBatcher(store, 1)
    asked = [asyncio.create_task(batcher.read(reads(number))) for number in range(3)]
    await asyncio.sleep(0)
    asked[1].cancel()
    async with asyncio.timeout(PATIENCE):
        assert await asked[0] == 0
        assert await asked[2] == 2
    assert [one.parse(()) for batch in store.batches for one in batch] == [0, 2]


async def test_each_gets_its_own_error() -> None:
    """One that is raised in many readers is not one object: tracebacks would pile up in it."""
    batcher = ReadBatcher(Store(error=ChatNotFound("chat")), 1)
    errors = await asyncio.gather(*(batcher.read(reads(1)) for _ in range(3)), return_exceptions=True)
    assert [type(error) for error in errors] == [ChatNotFound] * 3
    assert len(set(map(id, errors))) == 3


async def test_while_redis_is_away_nobody_waits_for_others_to_learn_it() -> None:
    """The first failure is told to all who wait, however many round trips they would be."""
    store = Store(error=StoreUnavailable("away"))
    batcher = ReadBatcher(store, 1)
    async with asyncio.timeout(PATIENCE):
        asked = (batcher.read(reads(1)) for _ in range(10 * BATCH_READS))
        errors = await asyncio.gather(*asked, return_exceptions=True)
    assert {type(error) for error in errors} == {StoreUnavailable}
    assert len(store.batches) == 1
    store.error = None
    assert await batcher.read(reads(5)) == 5


async def test_closing_lets_nobody_wait() -> None:
    """What is under way and what waits is given up with `SpoolClosed`."""
    store = Store(turns=1_000_000)
    batcher = ReadBatcher(store, 1)
    asked = [asyncio.create_task(batcher.read(reads(1))) for _ in range(2 * BATCH_READS)]
    async with asyncio.timeout(PATIENCE):
        while not store.under_way:  # noqa: ASYNC110 - a counter, as the store of the other tests has it
            await asyncio.sleep(0)
        await batcher.aclose()
        errors = await asyncio.gather(*asked, return_exceptions=True)
    assert {type(error) for error in errors} == {SpoolClosed}


async def test_a_fault_of_ours_lets_nobody_wait() -> None:
    """It is raised where the chats are read; who asks later is served."""
    store = Store(error=ZeroDivisionError("a fault"))
    batcher = ReadBatcher(store, 1)
    async with asyncio.timeout(PATIENCE):
        errors = await asyncio.gather(*(batcher.read(reads(1)) for _ in range(20)), return_exceptions=True)
        assert {type(error) for error in errors} == {ZeroDivisionError}
        store.error = None
        assert await batcher.read(reads(5)) == 5
