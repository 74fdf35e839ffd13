"""`wait` of both subscriptions: what a server needs that writes a heartbeat while the model is silent."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any, Self

import pytest
from support.chats.logs import CHAT
from support.chats.spools import async_spool_for, spool_for
from support.readers.running_loop import running_loop
from support.waiting import after

from chunkspool import AsyncSpool, Entry, Spool
from chunkspool.errors import ChatNotFound, SpoolClosed
from chunkspool.reading.subscription import AsyncSubscription

Run = Callable[[Coroutine[Any, Any, Any]], Any]

SOON = 0.05
LATE = 20.0


class Awaited:
    """An `AsyncSubscription` that can be used like the other one."""

    def __init__(self, subscription: AsyncSubscription, run: Run) -> None:
        """Nothing is asked yet."""
        self._subscription = subscription
        self._run = run

    def __enter__(self) -> Self:
        """Enter its block."""
        self._run(self._subscription.__aenter__())
        return self

    def __exit__(self, *_: object) -> None:
        """Leave its block."""
        self._run(self._subscription.__aexit__(None, None, None))

    def __next__(self) -> Entry:
        """Return the next entry."""
        entry: Entry | None = self._run(anext(self._subscription, None))
        if entry is None:
            raise StopIteration
        return entry

    def wait(self, seconds: float) -> bool:
        """Wait."""
        return bool(self._run(self._subscription.wait(seconds)))


@dataclass(frozen=True, slots=True)
class Face:
    """How one of the two spools subscribes, and how it is closed."""

    subscribe: Callable[..., Any]
    close: Callable[[], object]


@pytest.fixture(params=["threads", "asyncio"])
def face(request: pytest.FixtureRequest, redis_url: str) -> Iterator[Face]:
    """Give both spools, one after the other."""
    if request.param == "threads":
        with spool_for(redis_url) as opened:
            yield Face(opened.subscribe, opened.close)
        return
    with running_loop() as run:

        async def make() -> AsyncSpool:
            return async_spool_for(redis_url)

        async_spool: AsyncSpool = run(make())
        yield Face(lambda *args: Awaited(async_spool.subscribe(*args), run), lambda: run(async_spool.aclose()))
        run(async_spool.aclose())


@pytest.fixture
def spool(redis_url: str) -> Iterator[Spool]:
    """Give a spool."""
    with spool_for(redis_url) as opened:
        yield opened


def test_it_ends_with_an_entry_or_with_the_time(spool: Spool, face: Face) -> None:
    """False when the time is over, however often; then the next entry is there at once, none lost and none twice."""
    asked = spool.enqueue(CHAT, "x")
    with spool.produce(CHAT, asked.generation_id) as out, face.subscribe(CHAT) as entries:
        seqs = []
        for word in ("one", "two", "three"):
            while entries.wait(SOON):
                seqs.append(next(entries).seq)
            begun = time.monotonic()
            assert not entries.wait(SOON)
            assert SOON <= time.monotonic() - begun < LATE
            assert not entries.wait(0)
            assert not entries.wait(-1)
            with after(SOON, lambda word=word: out.text(word)):
                assert entries.wait(LATE)
            assert entries.wait(0)  # nothing is taken by waiting
        seqs += [next(entries).seq]
    assert seqs == [1, 2, 3, 4, 5]


def test_after_a_wait_next_waits_as_long_as_it_takes(spool: Spool, face: Face) -> None:
    """The limit was that of the wait, not of the subscription."""
    asked = spool.enqueue(CHAT, "x")
    with spool.produce(CHAT, asked.generation_id) as out, face.subscribe(CHAT, 2) as entries:
        assert not entries.wait(SOON)
        with after(10 * SOON, lambda: out.text("late")):
            assert next(entries).seq == 3


def test_it_is_true_at_the_end(spool: Spool, face: Face) -> None:
    """When nothing is active any more, and when the block was left: `next` need not wait either."""
    asked = spool.enqueue(CHAT, "x")
    with face.subscribe(CHAT, asked.after) as entries:
        assert entries.wait(LATE)
        assert next(entries).seq == 1
        assert not entries.wait(SOON)
        spool.stop(CHAT)
        assert entries.wait(LATE)
        assert next(entries).seq == 2
        assert entries.wait(LATE)
        assert next(entries, None) is None
    assert entries.wait(LATE)


@pytest.mark.parametrize("closes", [False, True])
def test_what_is_wrong_is_raised_as_next_raises_it(spool: Spool, face: Face, closes: bool) -> None:
    """The chat was erased, or the spool was closed, while it waited."""
    spool.enqueue(CHAT, "x")
    with face.subscribe(CHAT, 1) as entries:
        assert not entries.wait(SOON)
        act = face.close if closes else lambda: spool.erase(CHAT)
        with after(SOON, act), pytest.raises(SpoolClosed if closes else ChatNotFound):
            entries.wait(LATE)
