"""Promise 9: a process that shuts down releases its generations; no reader waits for a lease or gets an error."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from redis import Redis
from support.chats.logs import CHAT, KEYS, ending_of, of_generation, read_generation_field, read_log, text_of, types_of
from support.chats.spools import async_spool_for, claim_and_die, spool_for
from support.servers.proxy import Proxy
from support.servers.redis_server import PrivateServer
from support.waiting import eventually

from chunkspool import Spool
from chunkspool.errors import NotClaimed, Released
from chunkspool.events import TextDelta, encode
from chunkspool.producing.producer_factory import ProducerFactory
from chunkspool.provider import ModelRequest
from chunkspool.request import Claim
from chunkspool.store import scripts
from chunkspool.store.client import Store
from chunkspool.store.scripts import AppendReply, LastBatch

LEASE = 60.0
"""Longer than any test: a claim that succeeds has not waited for the lease."""


@pytest.fixture
def spool(redis_url: str) -> Iterator[Spool]:
    """Provide the spool of the process that keeps running."""
    with spool_for(redis_url, lease=LEASE) as spool:
        yield spool


def release_once(url: str, generation_id: str, said: str = "half ") -> None:
    """Claim the generation, write something and shut down, like a process that is asked to end."""
    with spool_for(url, lease=LEASE, max_attempts=1) as leaving:

        def attempt() -> None:
            with leaving.produce(CHAT, generation_id) as out:
                out.text(said)
                leaving.release()
                out.text("this is not said any more")

        with pytest.raises(Released):
            attempt()


def complete(spool: Spool, generation_id: str) -> int:
    """Claim without waiting, write the rest and complete; return the attempt's number."""
    with spool.produce(CHAT, generation_id) as out:
        out.text("whole")
    return out.attempt


async def test_a_silent_attempt_is_released(redis_url: str, client: Redis) -> None:
    """Its text is flushed without an ending, its task is cancelled, and the next attempt can start at once."""
    said, cancelled = asyncio.Event(), asyncio.Event()

    async def attempt(generation_id: str) -> None:
        async with leaving.produce(CHAT, generation_id) as out:
            out.text("written ")
            await asyncio.to_thread(eventually, lambda: read_generation_field(client, generation_id, "index") == b"1")
            out.text("and buffered")
            said.set()
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                cancelled.set()
                raise

    async with async_spool_for(redis_url, lease=LEASE) as spool:
        asked = await spool.enqueue(CHAT, "hello")
        async with async_spool_for(redis_url, lease=LEASE, flush_interval=1) as leaving:
            task = asyncio.ensure_future(attempt(asked.generation_id))
            await asyncio.wait_for(said.wait(), 10)
            await asyncio.to_thread(leaving.release)
            with pytest.raises(Released):
                await asyncio.wait_for(task, 10)
        assert cancelled.is_set()
        assert task.cancelling() == 0
        assert types_of(read_log(client), asked.generation_id) == [
            "generation.queued",
            "generation.started",
            "text.delta",
        ]
        assert text_of(read_log(client), asked.generation_id) == "written and buffered"
        async with spool.produce(CHAT, asked.generation_id) as out:
            out.text("whole")
        assert out.attempt == 2
    assert ending_of(read_log(client), asked.generation_id)["type"] == "generation.completed"


def test_a_reader_sees_the_next_attempt_and_no_error(redis_url: str, spool: Spool) -> None:
    """The event after the last text is generation.started with attempt 2."""
    asked = spool.enqueue(CHAT, "hello")
    with spool.subscribe(CHAT) as entries, ThreadPoolExecutor(1) as pool:
        read = pool.submit(lambda: [(entry.type, getattr(entry.event, "attempt", None)) for entry in entries])
        release_once(redis_url, asked.generation_id)
        assert complete(spool, asked.generation_id) == 2
        assert read.result(10) == [
            ("generation.queued", None),
            ("generation.started", 1),
            ("text.delta", None),
            ("generation.started", 2),
            ("text.delta", None),
            ("generation.completed", None),
        ]
    assert spool.snapshot(CHAT).answers[0].text == "whole"


def test_nothing_is_started_after_a_release(spool: Spool, redis_url: str) -> None:
    """A generation that was waited for, and one that is claimed too late, are left to other processes."""
    held, late = spool.enqueue(CHAT, "hello"), spool.enqueue("other", "hello")
    with (
        spool.produce(CHAT, held.generation_id),
        spool_for(redis_url, lease=LEASE) as leaving,
        ThreadPoolExecutor(1) as pool,
    ):

        def attempt(chat_id: str, generation_id: str) -> None:
            with leaving.produce(chat_id, generation_id, wait=60):
                raise AssertionError("this must not begin")

        waiting = pool.submit(attempt, CHAT, held.generation_id)
        leaving.release()
        with pytest.raises(Released):
            waiting.result(10)
        with pytest.raises(Released):
            attempt("other", late.generation_id)
    assert spool.status("other").generations[0].state == "queued"


@pytest.mark.parametrize("restarts", [False, True])
def test_a_claim_in_flight_is_released(spool: Spool, client: Redis, restarts: bool) -> None:
    """Released between the claim and the first text: nothing is written, and the generation is free at once."""
    asked = spool.enqueue(CHAT, "hello")
    leaving = ProducerFactory(client, spool.settings)
    claim = Claim(claim_and_die(client, asked.generation_id, LEASE), ModelRequest((), None, {}), restarts=restarts)
    leaving.release(counts=False)
    with pytest.raises(Released), leaving.make(KEYS, asked.generation_id, claim) as out:
        out.text("this is not said any more")
    leaving.close()
    assert complete(spool, asked.generation_id) == 2
    assert text_of(read_log(client), asked.generation_id) == "whole"


def test_a_release_does_not_count_as_an_attempt(redis_url: str, client: Redis) -> None:
    """A long answer survives any number of deploys; a death after them still counts."""
    with spool_for(redis_url, lease=LEASE, max_attempts=1) as spool:
        asked = spool.enqueue(CHAT, "hello")
        for _ in range(3):
            release_once(redis_url, asked.generation_id)
        assert claim_and_die(client, asked.generation_id, 0.001) == 4
        with pytest.raises(NotClaimed) as refused:
            complete_when_free(spool, asked.generation_id)
    assert refused.value.outcome == "failed"
    assert ending_of(read_log(client), asked.generation_id)["code"] == "too_many_attempts"


def complete_when_free(spool: Spool, generation_id: str) -> None:
    """Claim as soon as a lease of a millisecond has ended."""
    with spool.produce(CHAT, generation_id, wait=10):
        pass


def test_a_release_is_written_once(redis_server: PrivateServer, redis_url: str, client: Redis) -> None:
    """Its reply is lost and it is sent again: the generation is as free as after one release."""
    assert redis_url == redis_server.url
    with Proxy(redis_server.port) as proxy, spool_for(redis_url, lease=LEASE, max_attempts=1) as spool:
        asked = spool.enqueue(CHAT, "hello")
        proxy.swallow_next_reply(b" released")
        release_once(proxy.url, asked.generation_id)
        assert proxy.swallowed == 1
        assert complete(spool, asked.generation_id) == 2
        with pytest.raises(NotClaimed):
            complete(spool, asked.generation_id)
    assert text_of(read_log(client), asked.generation_id) == "half whole"


def test_without_redis_the_lease_ends_by_itself(redis_server: PrivateServer, redis_url: str, client: Redis) -> None:
    """The process tries for write_timeout and may then exit; what it still holds is taken over as after a death."""
    assert redis_url == redis_server.url
    lease = 1.0
    with Proxy(redis_server.port) as proxy, spool_for(proxy.url, lease=lease, write_timeout=0.5) as leaving:

        def attempt() -> None:
            with leaving.produce(CHAT, asked.generation_id) as out:
                out.text("written ")
                eventually(lambda: read_generation_field(client, asked.generation_id, "index") == b"1")
                proxy.refuse()
                leaving.release()
                out.text("this is not said any more")

        with spool_for(redis_url, lease=lease) as spool:
            asked = spool.enqueue(CHAT, "hello")
            with pytest.raises(Released) as told:
                attempt()
            with spool.produce(CHAT, asked.generation_id, wait=10) as out:
                out.text("whole")
    assert "Redis cannot be reached" in str(told.value.__notes__)
    assert out.attempt == 2
    assert text_of(read_log(client), asked.generation_id) == "written whole"


def test_a_stop_ends_a_generation_that_is_between_two_attempts(redis_url: str, client: Redis, spool: Spool) -> None:
    """There is no worker to ask: it ends at once, and no later attempt starts."""
    asked = spool.enqueue(CHAT, "hello")
    release_once(redis_url, asked.generation_id)
    (stop,) = spool.stop(CHAT)
    assert stop.outcome == "stopped"
    with pytest.raises(NotClaimed):
        complete(spool, asked.generation_id)
    assert ending_of(read_log(client), asked.generation_id)["by"] == "user"


def append(client: Redis, generation_id: str, index: int, *texts: str, ending: LastBatch | None = None) -> AppendReply:
    """Append to attempt 1 like its flusher."""
    events = tuple(encode(TextDelta(generation_id=generation_id, text=text)) for text in texts)
    call = scripts.append(KEYS, generation_id, attempt=1, index=index, lease_ms=60_000, events=events, ending=ending)
    return Store(client).send(call)


@pytest.mark.parametrize("last_words", [(), ("b", "c")])
def test_a_requested_stop_takes_precedence_over_a_release(
    spool: Spool, client: Redis, last_words: tuple[str, ...]
) -> None:
    """The release itself writes the stop's event, so nobody needs to claim for that. Repeating it writes nothing."""
    asked = spool.enqueue(CHAT, "hello")
    claim_and_die(client, asked.generation_id, LEASE)
    append(client, asked.generation_id, 1, "a")
    spool.stop(CHAT, reason="enough")
    replies = [append(client, asked.generation_id, 2, *last_words, ending="released") for _ in range(2)]
    assert [reply.status for reply in replies] == ["stopped", "stopped"]
    assert ending_of(read_log(client), asked.generation_id)["reason"] == "enough"
    assert text_of(read_log(client), asked.generation_id) == "".join(("a", *last_words))
    assert len(of_generation(read_log(client), asked.generation_id)) == 4 + len(last_words)


def test_a_delayed_release_that_arrives_after_an_append_writes_the_stop(spool: Spool, client: Redis) -> None:
    """Its index is old by then: the stop is written at the log's end, and the index stays."""
    asked = spool.enqueue(CHAT, "hello")
    claim_and_die(client, asked.generation_id, LEASE)
    written = append(client, asked.generation_id, 1, "a", "b")
    spool.stop(CHAT)
    released = append(client, asked.generation_id, 1, ending="released")
    assert (released.first, released.last) == (written.last + 1, written.last + 1)
    assert append(client, asked.generation_id, 1, "a", "b").last == written.last


def test_an_attempt_that_released_is_fenced(spool: Spool, client: Redis) -> None:
    """A release repeated after the next claim and a later append are rejected; so is one with a gap."""
    asked = spool.enqueue(CHAT, "hello")
    claim_and_die(client, asked.generation_id, LEASE)
    assert append(client, asked.generation_id, 3, ending="released").outcome == "gap"
    assert append(client, asked.generation_id, 1, "a", ending="released").outcome == "ok"
    assert append(client, asked.generation_id, 2, ending="released").outcome == "ok"
    with spool.produce(CHAT, asked.generation_id) as out, suppress(NotClaimed):
        out.text("whole")
        assert append(client, asked.generation_id, 2, ending="released").outcome == "fenced"
        assert append(client, asked.generation_id, 2, "b").outcome == "fenced"
        complete(spool, asked.generation_id)
    assert text_of(read_log(client), asked.generation_id) == "awhole"
