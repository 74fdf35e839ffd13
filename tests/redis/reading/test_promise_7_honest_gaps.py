"""Promise 7, honest gaps: missing events are reported with what is still there; never a silent skip or restart."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from redis import Redis
from support.chats.logs import CHAT, KEYS
from support.chats.spools import append_by_hand, claim_and_die
from support.readers.blocking_spool import SPOOL_KINDS, BlockingSpool, open_spool
from support.waiting import eventually

from chunkspool import Spool
from chunkspool.errors import ChatNotFound, CursorAhead, CursorExpired
from chunkspool.events import DataEvent, GenerationCompleted

LAST = 8


@pytest.fixture(params=SPOOL_KINDS)
def any_spool(request: pytest.FixtureRequest, redis_url: str) -> Iterator[BlockingSpool]:
    """Provide a spool of each kind."""
    with open_spool(request.param, redis_url) as any_spool:
        yield any_spool


@pytest.fixture
def generation_id(spool: Spool, client: Redis) -> str:
    """Provide an ended generation in a chat of eight events."""
    generation = spool.enqueue(CHAT, "x")
    claim_and_die(client, generation.generation_id, 60)
    data = [DataEvent(generation_id=generation.generation_id, name="n", value=number) for number in range(LAST - 3)]
    append_by_hand(
        client,
        generation.generation_id,
        1,
        *data,
        GenerationCompleted(generation_id=generation.generation_id),
        ending="completed",
    )
    assert spool.status(CHAT).last == LAST
    return generation.generation_id


def ways_to_read(any_spool: BlockingSpool, generation_id: str) -> dict[str, Callable[[int], Any]]:
    """Return the ways to read after a cursor."""
    return {
        "read": lambda after: any_spool.read(CHAT, after),
        "until idle": lambda after: any_spool.follow(CHAT, after),
        "until it ends": lambda after: any_spool.follow(CHAT, after, until=generation_id),
    }


def seqs(entries: list[Any]) -> list[int]:
    """Return the seqs of entries."""
    return [entry.seq for entry in entries]


def assert_expired(any_spool: BlockingSpool, generation_id: str, after: int, first: int, last: int) -> None:
    """Fail unless every way to read from the cursor raises `CursorExpired` with what is still there."""
    for name, read in ways_to_read(any_spool, generation_id).items():
        with pytest.raises(CursorExpired) as told:
            read(after)
        error = told.value
        assert (error.requested, error.first, error.last) == (after, first, last), name


@pytest.mark.parametrize("kept_from", [2, 5, LAST, LAST + 1])
def test_a_cursor_before_a_trimmed_log_expires(
    any_spool: BlockingSpool, generation_id: str, client: Redis, kept_from: int
) -> None:
    """A cursor at the border of the kept events, or after it, gets the rest."""
    client.xtrim(KEYS.log, minid=f"{kept_from}-0", approximate=False)
    for after in range(kept_from - 1):
        assert_expired(any_spool, generation_id, after, kept_from, LAST)
    for after in range(kept_from - 1, LAST + 1):
        for read in ways_to_read(any_spool, generation_id).values():
            assert seqs(read(after)) == list(range(after + 1, LAST + 1))
    status = any_spool.status(CHAT)
    assert (status.first, status.last) == (kept_from, LAST)


def test_following_the_errors_advice_works(any_spool: BlockingSpool, generation_id: str, client: Redis) -> None:
    """Reading from a snapshot or from `first - 1` raises no error, and the snapshot shows what is kept."""
    client.xtrim(KEYS.log, minid="5-0", approximate=False)
    with pytest.raises(CursorExpired, match="events 5 to 8 are kept; continue from cursor 4") as told:
        any_spool.read(CHAT, 0)
    assert seqs(any_spool.read(CHAT, told.value.first - 1)) == [5, 6, 7, 8]
    snapshot = any_spool.snapshot(CHAT)
    assert (snapshot.seq, snapshot.answers[0].generation_id) == (LAST, generation_id)
    assert [value for _, value in snapshot.answers[0].data] == [2, 3, 4]


def test_a_hole_in_the_log_is_reported(any_spool: BlockingSpool, generation_id: str, client: Redis) -> None:
    """Somebody deleted entries: the ones before them are returned, then the gap is reported."""
    client.xdel(KEYS.log, "4-0", "5-0")
    assert seqs(any_spool.read(CHAT, 0)) == [1, 2, 3]
    assert_expired(any_spool, generation_id, 3, 6, LAST)
    assert_expired(any_spool, generation_id, 4, 6, LAST)
    assert seqs(any_spool.read(CHAT, 5)) == [6, 7, 8]
    with pytest.raises(CursorExpired):
        any_spool.follow(CHAT, 0)
    snapshot = any_spool.snapshot(CHAT)
    assert snapshot.seq == LAST
    assert [value for _, value in snapshot.answers[0].data] == [0, 3, 4]


def test_an_expired_log_is_reported(any_spool: BlockingSpool, spool: Spool, client: Redis) -> None:
    """The counter outlives the log: old cursors expire, and the next generation continues the seqs."""
    generation = spool.enqueue(CHAT, "x", ttl=1)
    with spool.produce(CHAT, generation.generation_id):
        pass
    eventually(lambda: not client.exists(KEYS.log))
    for after in range(3):
        with pytest.raises(CursorExpired, match="no event up to 3 is kept; continue from cursor 3") as told:
            any_spool.read(CHAT, after)
        assert (told.value.requested, told.value.first, told.value.last) == (after, 4, 3)
        with pytest.raises(CursorExpired):
            any_spool.follow(CHAT, after)
    assert any_spool.read(CHAT, 3) == any_spool.follow(CHAT, 3) == []
    assert (any_spool.snapshot(CHAT).answers, any_spool.snapshot(CHAT).seq) == ((), 3)
    assert (any_spool.status(CHAT).first, any_spool.status(CHAT).last) == (4, 3)

    newer = spool.enqueue(CHAT, "y")
    assert newer.after == 3
    with spool.produce(CHAT, newer.generation_id):
        pass
    assert seqs(any_spool.follow(CHAT, 3)) == [4, 5, 6]
    with pytest.raises(CursorExpired) as told:
        any_spool.read(CHAT, 2)
    assert (told.value.first, told.value.last) == (4, 6)


def test_an_unknown_chat_is_an_error(any_spool: BlockingSpool) -> None:
    """It was never created: an error, not an empty chat."""
    assert_not_found(any_spool, "nowhere")


def test_an_erased_chat_is_an_error(any_spool: BlockingSpool, generation_id: str) -> None:
    """A new chat of that name restarts its seqs and is told apart from the old one where possible."""
    any_spool.erase(CHAT)
    assert_not_found(any_spool, CHAT)
    any_spool.stop(CHAT, any_spool.enqueue(CHAT, "x").generation_id)
    for after in range(3, LAST + 1):
        for read in (lambda after: any_spool.read(CHAT, after), lambda after: any_spool.follow(CHAT, after)):
            with pytest.raises(CursorAhead) as told:
                read(after)
            assert (told.value.requested, told.value.last) == (after, 2)
    assert generation_id not in str(any_spool.status(CHAT))


def assert_not_found(any_spool: BlockingSpool, chat_id: str) -> None:
    """Fail unless every call on the chat raises `ChatNotFound`."""
    asks: list[Callable[[], Any]] = [
        lambda: any_spool.read(chat_id),
        lambda: any_spool.follow(chat_id),
        lambda: any_spool.follow(chat_id, 5, until="forever"),
        lambda: any_spool.follow(chat_id, until="some-generation"),
        lambda: any_spool.snapshot(chat_id),
        lambda: any_spool.status(chat_id),
        lambda: any_spool.stop(chat_id),
    ]
    for ask in asks:
        with pytest.raises(ChatNotFound) as told:
            ask()
        assert told.value.chat_id == chat_id


def test_a_cursor_ahead_of_the_log_is_an_error(any_spool: BlockingSpool, generation_id: str) -> None:
    """It belongs to another chat: the reader does not wait for events that may come one day."""
    for after in (LAST + 1, LAST + 1_000, 2**53):
        for read in ways_to_read(any_spool, generation_id).values():
            with pytest.raises(CursorAhead) as told:
                read(after)
            assert (told.value.requested, told.value.last) == (after, LAST)
    for read in ways_to_read(any_spool, generation_id).values():
        assert read(LAST) == []


def test_a_lost_counter_costs_nothing(any_spool: BlockingSpool, generation_id: str, client: Redis) -> None:
    """It was evicted but the log remains: reading works as before, also after the next generation."""
    client.delete(KEYS.seq)
    for after in range(LAST + 1):
        for read in ways_to_read(any_spool, generation_id).values():
            assert seqs(read(after)) == list(range(after + 1, LAST + 1))
    with pytest.raises(CursorAhead):
        any_spool.read(CHAT, LAST + 1)
    assert (any_spool.status(CHAT).first, any_spool.status(CHAT).last) == (1, LAST)
    assert (any_spool.snapshot(CHAT).seq, any_spool.stop(CHAT)) == (LAST, ())
    assert any_spool.enqueue(CHAT, "y").after == LAST
    any_spool.stop(CHAT)
    assert seqs(any_spool.follow(CHAT)) == list(range(1, LAST + 3))


def test_a_lost_counter_and_a_trimmed_log_together(any_spool: BlockingSpool, generation_id: str, client: Redis) -> None:
    """Old cursors expire, the rest can be read."""
    client.xtrim(KEYS.log, minid="5-0", approximate=False)
    client.delete(KEYS.seq)
    assert_expired(any_spool, generation_id, 3, 5, LAST)
    assert seqs(any_spool.read(CHAT, 4)) == [5, 6, 7, 8]


def test_losing_the_counter_does_not_end_a_live_reader(any_spool: BlockingSpool, spool: Spool, client: Redis) -> None:
    """A reader that probes the log just then continues, and gets what is written afterwards."""
    generation = spool.enqueue(CHAT, "x")
    with ThreadPoolExecutor() as pool:
        reader = pool.submit(any_spool.follow, CHAT)
        with spool.produce(CHAT, generation.generation_id) as out:
            eventually(lambda: client.pubsub_numsub(KEYS.live)[0][1] == 1)
            out.text("before")
            eventually(lambda: client.xlen(KEYS.log) == 3)
            client.delete(KEYS.seq)
            reads = count_log_reads(client)
            client.publish(KEYS.live, "no frame")
            eventually(lambda: count_log_reads(client) > reads)
            out.text("after")
        assert seqs(reader.result(30)) == [1, 2, 3, 4, 5]


def count_log_reads(client: Redis) -> int:
    """Return how often a log has been read."""
    stats: Any = client.info("commandstats")
    return int(stats["cmdstat_xrange"]["calls"])
