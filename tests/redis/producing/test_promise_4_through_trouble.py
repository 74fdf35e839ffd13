"""Promise 4, one ending, even if Redis loses its scripts, restarts or is unreachable; the model's loop is told."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from redis import Redis
from support.chats.logs import CHAT, ending_of, read_generation_field, read_log, text_of, types_of
from support.chats.spools import async_spool_for, spool_for
from support.servers.contents import list_keys
from support.servers.proxy import Proxy
from support.servers.redis_server import PrivateServer
from support.waiting import eventually

from chunkspool import AsyncSpool, Producer, Spool
from chunkspool.errors import StoreUnavailable

PIECES = [f"piece {number}, " for number in range(150)]
WHOLE = "".join(PIECES)


@contextmanager
def flush_scripts_continuously(client: Redis) -> Iterator[None]:
    """Flush the server's scripts again and again, between any two calls."""
    over = threading.Event()

    def flush() -> int:
        flushes = 0
        while not over.is_set():
            client.script_flush()
            flushes += 1
        return flushes

    with ThreadPoolExecutor() as pool:
        flushing = pool.submit(flush)
        try:
            yield
        finally:
            over.set()
        assert flushing.result(10) > 10


def test_continuous_script_flushes_go_unnoticed(redis_url: str, client: Redis) -> None:
    """Every script of the sync spool and of the flusher, including heartbeats, still works."""
    with spool_for(redis_url, lease=0.3) as spool, flush_scripts_continuously(client):
        for number in range(10):
            generation = spool.enqueue(CHAT, "hello", request_id=f"r{number}")
            with spool.produce(CHAT, generation.generation_id) as out:
                lease = read_generation_field(client, generation.generation_id, "lease")
                eventually(
                    lambda one=generation.generation_id, old=lease: read_generation_field(client, one, "lease") != old
                )
                for piece in PIECES:
                    out.text(piece)
            assert out.state == "completed"
            assert text_of(read_log(client), generation.generation_id) == WHOLE
            queued = spool.enqueue(CHAT, "hello", on_active="replace")
            assert spool.stop(CHAT, queued.generation_id)[0].outcome == "stopped"
        spool.erase(CHAT)
    assert list_keys(client) == []


async def test_continuous_script_flushes_go_unnoticed_in_an_async_spool(redis_url: str, client: Redis) -> None:
    """The same, with five generations that share the flusher's pipeline."""

    async def answer(chat_id: str) -> str:
        generation = await spool.enqueue(chat_id, "hello")
        async with spool.produce(chat_id, generation.generation_id) as out:
            for piece in PIECES:
                out.text(piece)
                await asyncio.sleep(0)
        queued = await spool.enqueue(chat_id, "hello")
        await spool.stop(chat_id, queued.generation_id)
        text = (await spool.snapshot(chat_id)).answers[0].text
        await spool.erase(chat_id)
        return text

    async with async_spool_for(redis_url) as spool:
        with flush_scripts_continuously(client):
            texts = await asyncio.gather(*(answer(f"chat-{number}") for number in range(5)))
    assert texts == [WHOLE] * 5
    assert list_keys(client) == []


@pytest.fixture
def impatient_spool(proxy: Proxy) -> Iterator[Spool]:
    """Provide the spool of a worker that loses Redis and gives up soon."""
    with spool_for(proxy.url, write_timeout=0.5, lease=0.5, buffer_bytes=8192) as spool:
        yield spool


def lose_redis(out: Producer, proxy: Proxy, client: Redis) -> None:
    """Write until it is in the log, then lose the connection."""
    out.text("before")
    eventually(lambda: text_of(read_log(client), out.generation_id) == "before")
    proxy.refuse()


@pytest.mark.parametrize("piece", ["a piece, ", "much text " * 100], ids=["small", "fills the buffer"])
def test_a_long_outage_is_raised_in_the_models_loop(
    impatient_spool: Spool, spool: Spool, proxy: Proxy, client: Redis, piece: str
) -> None:
    """The loop gets `StoreUnavailable` instead of writing to nobody; the next attempt ends the generation."""
    generation = spool.enqueue(CHAT, "hello")

    def produce() -> None:
        with impatient_spool.produce(CHAT, generation.generation_id) as out:
            lose_redis(out, proxy, client)
            eventually(lambda: out.text(piece), every=0.001)

    with pytest.raises(StoreUnavailable):
        produce()
    assert_the_next_attempt_ends_it(spool, client, generation.generation_id)


def assert_the_next_attempt_ends_it(spool: Spool, client: Redis, generation_id: str) -> None:
    """Take the generation over, and fail unless its readers see one ending, after the newer text."""
    with spool.produce(CHAT, generation_id, wait=20) as out:
        out.text("after")
    assert types_of(read_log(client), generation_id) == [
        "generation.queued",
        "generation.started",
        "text.delta",
        "generation.started",
        "text.delta",
        "generation.completed",
    ]
    (answer,) = spool.snapshot(CHAT).answers
    assert (answer.text, answer.state) == ("after", "completed")


def test_a_long_outage_is_raised_at_the_end_of_the_block(
    impatient_spool: Spool, spool: Spool, proxy: Proxy, client: Redis
) -> None:
    """The block neither ends as if all were well nor waits forever."""
    generation = spool.enqueue(CHAT, "hello")

    def produce() -> None:
        with impatient_spool.produce(CHAT, generation.generation_id) as out:
            lose_redis(out, proxy, client)
            out.text("never written")

    with pytest.raises(StoreUnavailable):
        produce()
    assert_the_next_attempt_ends_it(spool, client, generation.generation_id)


async def test_a_long_outage_cancels_a_silent_async_block(spool: Spool, proxy: Proxy, client: Redis) -> None:
    """A heartbeat that cannot be sent is enough: the model call is cancelled."""
    generation = spool.enqueue(CHAT, "hello")
    closed = asyncio.Event()

    async def produce(impatient_spool: AsyncSpool) -> None:
        async with impatient_spool.produce(CHAT, generation.generation_id) as out:
            await asyncio.to_thread(lose_redis, out, proxy, client)
            try:
                await asyncio.sleep(60)
            finally:
                closed.set()

    async with async_spool_for(proxy.url, write_timeout=0.5, lease=0.5) as impatient_spool:
        with pytest.raises(StoreUnavailable):
            await asyncio.wait_for(produce(impatient_spool), 30)
    assert closed.is_set()
    await asyncio.to_thread(assert_the_next_attempt_ends_it, spool, client, generation.generation_id)


def test_nothing_is_lost_in_a_short_outage(proxy: Proxy, client: Redis) -> None:
    """The loop continues while Redis is unreachable, and the block waits until the ending is written."""
    with spool_for(proxy.url, write_timeout=30) as spool, ThreadPoolExecutor() as pool:
        generation = spool.enqueue(CHAT, "hello")
        with spool.produce(CHAT, generation.generation_id) as out:
            lose_redis(out, proxy, client)
            out.text(WHOLE)
            back = pool.submit(reconnect_after_some_retries, proxy, client)
        assert back.result(10)
        assert out.state == "completed"
    log = read_log(client)
    assert text_of(log, generation.generation_id) == "before" + WHOLE
    assert ending_of(log, generation.generation_id)["type"] == "generation.completed"


def reconnect_after_some_retries(proxy: Proxy, client: Redis) -> bool:
    """Make the server reachable again after some failed retries; return whether nothing was written meanwhile."""
    log = read_log(client)
    time.sleep(0.3)
    unchanged = read_log(client) == log
    proxy.accept()
    return unchanged


@pytest.mark.parametrize("how", ["in order", "kill -9"])
async def test_a_redis_restart_in_mid_generation_loses_nothing(durable_server: PrivateServer, how: str) -> None:
    """Sync and async producers and readers continue: no gaps, no duplicates."""
    url = durable_server.url
    written, away, buffered = (threading.Barrier(3) for _ in range(3))

    def write_pieces(out: Producer) -> None:
        for piece in PIECES[:50]:
            out.text(piece)
        eventually(lambda: read_text(url, out.chat_id) == "".join(PIECES[:50]))
        written.wait(30)
        away.wait(30)
        for piece in PIECES[50:100]:
            out.text(piece)
        buffered.wait(30)
        for piece in PIECES[100:]:
            out.text(piece)

    def produce_answer(generation_id: str) -> str:
        with spool.produce("sync", generation_id) as out:
            write_pieces(out)
        return out.state

    async def produce_answer_async(generation_id: str) -> str:
        async with async_spool.produce("async", generation_id) as out:
            await asyncio.to_thread(write_pieces, out)
        return out.state

    with spool_for(url) as spool:
        async with async_spool_for(url) as async_spool:
            one = await asyncio.to_thread(spool.enqueue, "sync", "hello")
            two = await async_spool.enqueue("async", "hello")
            work = asyncio.gather(
                asyncio.to_thread(produce_answer, one.generation_id),
                produce_answer_async(two.generation_id),
                asyncio.to_thread(read, spool, "sync"),
                read_async(async_spool, "async"),
            )
            await asyncio.to_thread(written.wait, 30)
            durable_server.stop() if how == "in order" else durable_server.kill()
            await asyncio.to_thread(away.wait, 30)
            await asyncio.to_thread(buffered.wait, 30)
            durable_server.start()
            results = await asyncio.wait_for(work, 60)
    assert results == ["completed", "completed", WHOLE, WHOLE]
    for chat_id in ("sync", "async"):
        assert read_text(url, chat_id) == WHOLE


def read_text(url: str, chat_id: str) -> str:
    """Return the text in the log."""
    with spool_for(url) as spool:
        return spool.snapshot(chat_id).answers[0].text


def read(spool: Spool, chat_id: str) -> str:
    """Follow a chat to its end and return the text; fail on a missing or repeated seq."""
    with spool.subscribe(chat_id) as entries:
        found = list(entries)
    assert [entry.seq for entry in found] == list(range(1, len(found) + 1))
    return "".join(entry.event.text for entry in found if entry.event.type == "text.delta")


async def read_async(spool: AsyncSpool, chat_id: str) -> str:
    """Do the same with the async spool."""
    async with spool.subscribe(chat_id) as entries:
        found = [entry async for entry in entries]
    assert [entry.seq for entry in found] == list(range(1, len(found) + 1))
    return "".join(entry.event.text for entry in found if entry.event.type == "text.delta")
