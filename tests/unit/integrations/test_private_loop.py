"""A stream that needs a loop is read in a thread without one, item by item, and is cancelled when it is left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import closing

import pytest

from chunkspool.errors import InvalidInput
from chunkspool.integrations.private_loop import iterate


class Stream:
    """Counts, and notes how far it has come, in which tasks, and whether it was closed."""

    def __init__(self, length: int, error: Exception | None = None) -> None:
        """Take how far it counts, and what it ends with."""
        self._length = length
        self._error = error
        self.made = 0
        self.closed = 0
        self.tasks: set[object] = set()

    async def count(self) -> AsyncGenerator[int, None]:
        """Count."""
        try:
            for number in range(self._length):
                self.tasks.add(asyncio.current_task())
                await asyncio.sleep(0)
                self.made += 1
                yield number
            if self._error:
                raise self._error
        finally:
            self.tasks.add(asyncio.current_task())
            await asyncio.sleep(0)  # closing a connection takes the loop, too
            self.closed += 1


def test_all_items_in_one_task() -> None:
    """Frameworks do not like to be closed in another task than the one that opened them."""
    stream = Stream(50)
    assert list(iterate(stream.count)) == list(range(50))
    assert (stream.closed, len(stream.tasks)) == (1, 1)


def test_an_error_comes_after_the_items() -> None:
    """Nothing that came before it is lost."""
    stream = Stream(3, ValueError("broken"))
    read = []
    with pytest.raises(ValueError, match="broken"):
        for item in iterate(stream.count):
            read.append(item)  # noqa: PERF402 - it is wanted also when the loop ends with an error
    assert read == [0, 1, 2]
    assert stream.closed == 1


def test_leaving_closes_the_stream() -> None:
    """And it was hardly ahead: what is not read is not made."""
    stream = Stream(1000)
    with closing(iterate(stream.count)) as items:
        assert [next(items), next(items)] == [0, 1]
        assert stream.made <= 4
    assert stream.closed == 1


def test_a_stream_that_nobody_reads() -> None:
    """It is never opened."""
    stream = Stream(3)
    iterate(stream.count).close()
    assert (stream.made, stream.closed) == (0, 0)


async def test_inside_a_loop_it_says_so() -> None:
    """The caller has a loop of its own, and uses the async function."""
    with pytest.raises(InvalidInput, match="use the async function"):
        next(iterate(Stream(3).count))
