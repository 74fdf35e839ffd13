"""More calls at a time than a pool has connections: they wait for one, on a bounded number, and none is refused."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from support.chats.logs import CHAT
from support.chats.spools import async_spool_for, settings_for, spool_for
from support.waiting import eventually

from chunkspool import AsyncSpool, Spool
from chunkspool.errors import EnqueueFailed, StoreBusy
from chunkspool.spool.dispatch import CONNECTIONS
from chunkspool.store import slots

BURST = 2000
SOON = 60.0
"""Seconds for a burst; it takes about five on two idle cores."""
MOST = 120
"""Connections of a burst: a pool of a hundred, and those to the broker."""


@contextmanager
def counted_connections(url: str, most: int) -> Iterator[None]:
    """Fail if the server has more than `most` clients at any moment of the block, save the one that asks."""
    counts, over = [0], threading.Event()

    def count() -> None:
        with Redis.from_url(url) as client:
            while not over.wait(0.01):
                counts.append(len(client.client_list()) - 1)

    counting = threading.Thread(target=count)
    counting.start()
    try:
        yield
    finally:
        over.set()
        counting.join()
    assert len(counts) > 2
    assert max(counts) <= most


@pytest.fixture
def nobody_else(client: Redis) -> str:
    """Give the URL of a server that has no other clients."""
    for kind in ("normal", "pubsub"):
        client.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")  # what other tests have left
    eventually(lambda: len(client.client_list()) == 1)
    client.connection_pool.disconnect()
    return "redis://{host}:{port}/0".format(**client.connection_pool.connection_kwargs)


async def test_a_burst_of_tasks(nobody_else: str) -> None:
    """Two thousand at a time of each call, on one spool made from the environment."""
    async with AsyncSpool.from_env({"CHUNKSPOOL_REDIS_URL": nobody_else, "CHUNKSPOOL_MAX_QUEUED": str(BURST)}) as spool:
        with counted_connections(nobody_else, MOST):
            async with asyncio.timeout(3 * SOON):
                made = await asyncio.gather(*(spool.enqueue(f"chat-{n}", "hello") for n in range(BURST)))
                seen = await asyncio.gather(*(spool.status(one.chat_id) for one in made))
                stops = await asyncio.gather(*(spool.stop(one.chat_id) for one in made))
    assert [chat.active for chat in seen] == [(one.generation_id,) for one in made]
    assert [stop.outcome for one in stops for stop in one] == ["stopped"] * BURST


def test_a_burst_of_threads(nobody_else: str) -> None:
    """Five hundred threads on one spool."""
    with (
        Spool.from_env({"CHUNKSPOOL_REDIS_URL": nobody_else, "CHUNKSPOOL_MAX_QUEUED": str(BURST)}) as spool,
        ThreadPoolExecutor(500) as pool,
        counted_connections(nobody_else, MOST),
    ):
        made = list(pool.map(lambda n: spool.enqueue(f"chat-{n}", "hello"), range(BURST), timeout=SOON))
        seen = list(pool.map(lambda one: spool.status(one.chat_id), made, timeout=SOON))
        stops = list(pool.map(lambda one: spool.stop(one.chat_id), made, timeout=SOON))
    assert [chat.active for chat in seen] == [(one.generation_id,) for one in made]
    assert [stop.outcome for one in stops for stop in one] == ["stopped"] * BURST


@pytest.mark.parametrize("size", [1, 2, 10, 100])
async def test_a_client_that_was_passed_in(nobody_else: str, size: int) -> None:
    """Whatever the size of its pool, and with a reader on it."""
    with spool_for(nobody_else) as other:
        other.enqueue(CHAT, "hello")
    eventually(lambda: True)
    with Redis.from_url(nobody_else, max_connections=size) as client:
        async with AsyncRedis.from_url(nobody_else, max_connections=size) as async_client:
            spool, async_spool = Spool(client), AsyncSpool(async_client)
            with (
                counted_connections(nobody_else, 2 * size + 6),
                spool.subscribe(CHAT),
                ThreadPoolExecutor(50) as pool,
            ):
                async with async_spool.subscribe(CHAT):
                    await asyncio.gather(
                        *(async_spool.status(CHAT) for _ in range(300)),
                        asyncio.to_thread(lambda: list(pool.map(lambda _: spool.status(CHAT), range(300)))),
                    )
            spool.close()
            await async_spool.aclose()


def test_a_client_that_the_app_uses_itself(redis_url: str) -> None:
    """It holds all connections for a second: calls wait until it gives one back."""
    with Redis.from_url(redis_url, max_connections=10) as client, ThreadPoolExecutor(30) as pool:
        with spool_for(redis_url) as other:
            other.enqueue(CHAT, "hello")
        held = [client.connection_pool.get_connection() for _ in range(10)]
        with Spool(client) as spool:
            seen = [pool.submit(spool.status, CHAT) for _ in range(20)]
            assert not any(one.done() for one in seen)
            for one in held:
                client.connection_pool.release(one)
            assert {one.result(20).last for one in seen} == {1}


async def test_a_wait_that_is_too_long_is_told(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As what it is: how long it was, and how many calls are under way; both where we and where others are many."""
    monkeypatch.setattr(slots, "WAIT_SECONDS", 0.3)
    said = "no connection to Redis became free within 0.3 seconds: {} calls are under way; call less at a time"
    async with AsyncRedis.from_url(redis_url, max_connections=8) as client:
        spool = AsyncSpool(client)
        held = [await client.connection_pool.get_connection() for _ in range(8)]
        results = await asyncio.gather(*(spool.status(CHAT) for _ in range(5)), return_exceptions=True)
        assert {type(one) for one in results} == {StoreBusy}
        assert any(said.format(5) in str(one) for one in results)
        for one in held:
            await client.connection_pool.release(one)
        await spool.aclose()
    with Redis.from_url(redis_url, max_connections=8) as client:
        held = [client.connection_pool.get_connection() for _ in range(8)]
        with pytest.raises(StoreBusy, match=said.format(1)):
            Spool(client).status(CHAT)
        for one in held:
            client.connection_pool.release(one)


def test_a_wait_for_the_broker_that_is_too_long_is_told(redis_url: str) -> None:
    """All connections to the broker are in use: the caller hears that, and the chat is free again."""
    with spool_for(redis_url, publish_timeout=0.3) as spool:
        spool.enqueue(CHAT, "hello")
        broker = spool._dispatcher._broker.get()  # noqa: SLF001 - a broker that is slow ten times at once is rare
        held = [broker.producers.acquire() for _ in range(CONNECTIONS)]
        with pytest.raises(EnqueueFailed, match="no connection to the broker became free within 0.3 seconds"):
            spool.enqueue("other", "hello")
        assert spool.status("other").active == ()
        for one in held:
            one.release()
        spool.enqueue("other", "hello")


async def test_cancelled_calls_leak_no_connection(redis_url: str) -> None:
    """Hundreds that are cancelled at whichever moment: waiting, connecting, asking. Afterwards all are there."""
    async with async_spool_for(redis_url) as spool:
        await spool.enqueue(CHAT, "hello")
        for moment in range(30):
            tasks = [asyncio.ensure_future(spool.status(CHAT)) for _ in range(200)]
            await asyncio.sleep(0.002 * moment)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            assert [task.exception() for task in tasks if not task.cancelled() and task.exception()] == []
        pool = spool._store.client.connection_pool  # noqa: SLF001 - it does not tell otherwise
        assert not pool._in_use_connections  # noqa: SLF001 - the same
        seen = await asyncio.gather(*(spool.status(CHAT) for _ in range(200)))
    assert {chat.last for chat in seen} == {1}


async def test_one_spool_on_two_loops_one_after_the_other(redis_url: str) -> None:
    """A burst on each, as in a program that runs asyncio twice."""
    settings = settings_for(redis_url)

    async def burst(spool: AsyncSpool) -> None:
        await asyncio.gather(*(spool.last_read(CHAT, "me") for _ in range(200)))
        await spool._store.client.connection_pool.disconnect()  # noqa: SLF001 - its connections belong to this loop

    with spool_for(redis_url) as other:
        other.enqueue(CHAT, "hello")
    spool = AsyncSpool.from_settings(settings)
    for _ in range(2):
        await asyncio.to_thread(asyncio.run, burst(spool))
