"""Promise 3, one owner: the older attempt is fenced at its next write, and its model call is closed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from redis import Redis
from support.chats.logs import CHAT, ending_of, read_generation_field, read_log, text_of, types_of
from support.chats.spools import async_spool_for, spool_for
from support.servers.proxy import Proxy
from support.waiting import eventually

from chunkspool import Producer, Spool
from chunkspool.errors import Fenced

LEASE = 0.4
"""Short, because the newer attempt waits for its end."""


@pytest.fixture
def cuttable_spool(proxy: Proxy) -> Iterator[Spool]:
    """Provide the spool of a worker whose connection can be cut."""
    with spool_for(proxy.url, lease=LEASE) as spool:
        yield spool


def take_over(spool: Spool, generation_id: str) -> None:
    """Claim as the newer attempt once the older one's lease has ended, and write a whole answer."""
    with spool.produce(CHAT, generation_id, wait=10) as out:
        assert out.attempt == 2
        out.text("new")


def assert_only_the_new_answer(client: Redis, generation_id: str) -> None:
    """Fail unless the older attempt's text ends where the newer attempt begins."""
    log = read_log(client)
    assert types_of(log, generation_id) == [
        "generation.queued",
        "generation.started",
        "text.delta",
        "generation.started",
        "text.delta",
        "generation.completed",
    ]
    second = next(line.seq for line in log if line.event.get("attempt") == 2)
    assert text_of([line for line in log if line.seq < second], generation_id) == "old"
    assert text_of([line for line in log if line.seq > second], generation_id) == "new"


def is_fenced(out: Producer) -> bool:
    """Write something; return whether it was fenced."""
    try:
        out.text("too late")
    except Fenced:
        return True
    return False


def test_the_older_attempt_is_fenced_at_its_next_write(
    spool: Spool, cuttable_spool: Spool, proxy: Proxy, client: Redis
) -> None:
    """Its next write raises `Fenced`, and nothing of it is stored after the newer attempt's start."""
    generation = spool.enqueue(CHAT, "hello")

    def run_old_attempt() -> None:
        with cuttable_spool.produce(CHAT, generation.generation_id) as out:
            write_and_lose_connection(out, proxy, client)
            take_over(spool, generation.generation_id)
            proxy.accept()
            eventually(lambda: is_fenced(out))
            out.text("too late")

    with pytest.raises(Fenced, match="newer"):
        run_old_attempt()
    assert_only_the_new_answer(client, generation.generation_id)


def test_the_older_attempt_is_fenced_when_it_leaves(
    spool: Spool, cuttable_spool: Spool, proxy: Proxy, client: Redis
) -> None:
    """An attempt that writes nothing more is fenced at the end of its block; its ending is not stored."""
    generation = spool.enqueue(CHAT, "hello")

    def run_old_attempt() -> None:
        with cuttable_spool.produce(CHAT, generation.generation_id) as out:
            write_and_lose_connection(out, proxy, client)
            out.text("too late")
            take_over(spool, generation.generation_id)
            proxy.accept()

    with pytest.raises(Fenced):
        run_old_attempt()
    assert_only_the_new_answer(client, generation.generation_id)


def test_two_attempts_never_mix(spool: Spool, cuttable_spool: Spool, proxy: Proxy, client: Redis) -> None:
    """The older attempt comes back in the middle of the newer one's answer, and none of its text gets in."""
    generation = spool.enqueue(CHAT, "hello")

    def run_old_attempt() -> None:
        with cuttable_spool.produce(CHAT, generation.generation_id) as out:
            write_and_lose_connection(out, proxy, client)
            out.text("too late")
            with spool.produce(CHAT, generation.generation_id, wait=10) as newer:
                newer.text("ne")
                proxy.accept()
                eventually(lambda: is_fenced(out))
                newer.text("w")

    with pytest.raises(Fenced):
        run_old_attempt()
    assert_only_the_new_answer(client, generation.generation_id)


def test_an_older_attempt_that_failed_keeps_its_own_error(
    spool: Spool, cuttable_spool: Spool, proxy: Proxy, client: Redis
) -> None:
    """The body's exception propagates, with a note that the ending was not written."""
    generation = spool.enqueue(CHAT, "hello")

    def run_old_attempt() -> None:
        with cuttable_spool.produce(CHAT, generation.generation_id) as out:
            write_and_lose_connection(out, proxy, client)
            take_over(spool, generation.generation_id)
            proxy.accept()
            raise KeyError("mine")

    with pytest.raises(KeyError) as raised:
        run_old_attempt()
    assert "replaced by a newer one" in raised.value.__notes__[0]
    assert_only_the_new_answer(client, generation.generation_id)


def write_and_lose_connection(out: Producer, proxy: Proxy, client: Redis) -> None:
    """Write until it is in the log, then lose the connection."""
    out.text("old")
    eventually(lambda: read_generation_field(client, out.generation_id, "index") == b"1")
    proxy.refuse()


async def test_a_silent_async_attempt_is_cancelled(
    redis_url: str, proxy: Proxy, client: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    """Its task is cancelled while the model is silent; the block raises `Fenced`, not the cancellation."""
    cancelled = asyncio.Event()

    async def run_old_attempt(generation_id: str) -> None:
        async with old_spool.produce(CHAT, generation_id) as out:
            out.text("old")
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                cancelled.set()
                raise

    async with async_spool_for(proxy.url, lease=LEASE) as old_spool, async_spool_for(redis_url, lease=LEASE) as spool:
        generation = await spool.enqueue(CHAT, "hello")
        task = asyncio.ensure_future(run_old_attempt(generation.generation_id))
        await asyncio.to_thread(
            eventually, lambda: read_generation_field(client, generation.generation_id, "index") == b"1"
        )
        proxy.refuse()
        async with spool.produce(CHAT, generation.generation_id, wait=10) as out:
            out.text("new")
        proxy.accept()
        with pytest.raises(Fenced):
            await asyncio.wait_for(task, 10)
    assert cancelled.is_set()
    assert task.cancelling() == 0
    assert_only_the_new_answer(client, generation.generation_id)
    del task
    assert [record.message for record in caplog.records if record.name == "asyncio"] == []


def test_a_fenced_attempt_ends_only_itself(spool: Spool, cuttable_spool: Spool, proxy: Proxy, client: Redis) -> None:
    """Another generation written by the same process continues."""
    generation = spool.enqueue(CHAT, "hello")
    other = spool.enqueue(CHAT, "hello", on_active="allow")

    def run_old_attempt(both: Producer) -> None:
        with cuttable_spool.produce(CHAT, generation.generation_id) as out:
            write_and_lose_connection(out, proxy, client)
            both.text("and ")
            take_over(spool, generation.generation_id)
            proxy.accept()

    with cuttable_spool.produce(CHAT, other.generation_id) as out:
        out.text("on ")
        with pytest.raises(Fenced):
            run_old_attempt(out)
        out.text("on")
    assert text_of(read_log(client), other.generation_id) == "on and on"
    assert ending_of(read_log(client), other.generation_id)["type"] == "generation.completed"
