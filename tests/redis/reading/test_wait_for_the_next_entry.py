"""`Subscription.wait`: what a server needs that writes a heartbeat while the model is silent."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
from redis import Redis
from support.chats.logs import CHAT
from support.chats.spools import spool_for

from chunkspool import Spool
from chunkspool.errors import ChatNotFound, SpoolClosed

SOON = 0.05
LATE = 20.0


@pytest.fixture
def spool(redis_url: str) -> Iterator[Spool]:
    """Give a spool."""
    with spool_for(redis_url) as opened:
        yield opened


def test_it_ends_with_an_entry_or_with_the_time(spool: Spool) -> None:
    """False when the time is over, however often; then the next entry is there at once, none lost and none twice."""
    asked = spool.enqueue(CHAT, "x")
    with spool.produce(CHAT, asked.generation_id) as out, spool.subscribe(CHAT) as entries:
        seqs = []
        for word in ("one", "two", "three"):
            while entries.wait(SOON):
                seqs.append(next(entries).seq)
            begun = time.monotonic()
            assert not entries.wait(SOON)
            assert SOON <= time.monotonic() - begun < LATE
            assert not entries.wait(0)
            assert not entries.wait(-1)
            threading.Timer(SOON, out.text, (word,)).start()
            assert entries.wait(LATE)
            assert entries.wait(0)  # nothing is taken by waiting
        seqs += [next(entries).seq]
    assert seqs == [1, 2, 3, 4, 5]


def test_after_a_wait_next_waits_as_long_as_it_takes(spool: Spool) -> None:
    """The limit was that of the wait, not of the subscription."""
    asked = spool.enqueue(CHAT, "x")
    with spool.produce(CHAT, asked.generation_id) as out, spool.subscribe(CHAT, 2) as entries:
        assert not entries.wait(SOON)
        threading.Timer(10 * SOON, out.text, ("late",)).start()
        assert next(entries).seq == 3


def test_it_is_true_at_the_end(spool: Spool) -> None:
    """When nothing is active any more, and when the block was left: `next` need not wait either."""
    asked = spool.enqueue(CHAT, "x")
    with spool.subscribe(CHAT, asked.after) as entries:
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
def test_what_is_wrong_is_raised_as_next_raises_it(redis_url: str, client: Redis, closes: bool) -> None:
    """The chat was erased, or the spool was closed, while it waited."""
    assert client.ping()
    with spool_for(redis_url) as spool:
        spool.enqueue(CHAT, "x")
        with spool.subscribe(CHAT, 1) as entries:
            assert not entries.wait(SOON)
            threading.Timer(SOON, spool.close if closes else lambda: spool.erase(CHAT)).start()
            with pytest.raises(SpoolClosed if closes else ChatNotFound):
                entries.wait(LATE)
