"""Promise 5, stop means stop, also where its push is lost, a connection breaks, or Redis restarts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as Unreachable
from support.chats.logs import CHAT, KEYS, ending_of, generation_field, log_of, text_of, types_of
from support.chats.spools import async_spool_for, spool_for
from support.servers.proxy import Proxy
from support.servers.redis_server import PrivateServer
from support.waiting import eventually

from chunkspool import AsyncSpool, Producer, Spool
from chunkspool.errors import Fenced, NotClaimed
from chunkspool.results import Stop
from chunkspool.store import scripts
from chunkspool.store.client import Store

LONG = 600
"""A lease whose heartbeats come once in minutes: whatever arrives sooner came on another way."""


@dataclass(frozen=True, slots=True)
class Silent:
    """A generation that is written in an async block of its own, and waits for something that never comes."""

    generation_id: str
    task: asyncio.Task[Producer]

    async def demand_stop(self, client: Redis) -> None:
        """Fail unless it is stopped soon."""
        out = await asyncio.wait_for(self.task, 30)
        assert out.state == "stopped"
        assert ending_of(log_of(client), self.generation_id)["type"] == "generation.stopped"


async def wait_silently(spool: AsyncSpool, generation_id: str) -> Producer:
    """Say a word and wait."""
    async with spool.produce(CHAT, generation_id) as out:
        out.text("before")
        await asyncio.sleep(3600)
    return out


@asynccontextmanager
async def silent_generation(url: str, client: Redis, lease: float) -> AsyncIterator[Silent]:
    """Give a generation that a process writes which reaches Redis by `url`; all its connections are up."""
    async with async_spool_for(url, lease=lease) as spool:
        generation = await spool.enqueue(CHAT, "hello")
        task = asyncio.ensure_future(wait_silently(spool, generation.generation_id))
        await until(lambda: text_of(log_of(client), generation.generation_id) == "before")
        await until(lambda: listeners(client) == 1)
        yield Silent(generation.generation_id, task)
        task.cancel()


async def until(predicate: Callable[[], object]) -> None:
    """Wait for it without blocking the loop."""
    await asyncio.to_thread(eventually, predicate, 20)


def listeners(client: Redis) -> int:
    """Return how many processes listen for stops."""
    ((_, number),) = client.pubsub_numsub(KEYS.stops)
    return int(number)


def stop_without_push(client: Redis, generation_id: str) -> None:
    """Stop the generation, and let the push be lost on its way to the process."""
    call = scripts.stop(KEYS, generation_id, by="user", reason=None)
    assert call.args[-1] == KEYS.stops
    lost = replace(call, args=(*call.args[:-1], "nobody-listens"))
    assert Store(client).send(lost).outcome == "stopping"


async def test_a_pushed_stop_needs_no_heartbeat(redis_url: str, client: Redis, spool: Spool) -> None:
    """It arrives at once, although the next heartbeat is minutes away."""
    async with silent_generation(redis_url, client, LONG) as silent:
        spool.stop(CHAT, silent.generation_id)
        await silent.demand_stop(client)


async def test_the_listener_comes_back_after_its_connection_was_cut(proxy: Proxy, client: Redis, spool: Spool) -> None:
    """Once it is back, pushed stops arrive again."""
    async with silent_generation(proxy.url, client, LONG) as silent:
        for _ in range(3):
            proxy.cut()
            await until(lambda: listeners(client) == 0)
            await until(lambda: listeners(client) == 1)
        spool.stop(CHAT, silent.generation_id)
        await silent.demand_stop(client)


async def test_a_stop_that_was_pushed_while_the_listener_was_away(proxy: Proxy, client: Redis, spool: Spool) -> None:
    """The push went nowhere; as soon as the listener is back, the process asks for what it has missed."""
    async with silent_generation(proxy.url, client, LONG) as silent:
        proxy.refuse()
        await until(lambda: listeners(client) == 0)
        spool.stop(CHAT, silent.generation_id)
        proxy.accept()
        await silent.demand_stop(client)


async def test_a_listener_that_the_server_kills(redis_url: str, client: Redis, spool: Spool) -> None:
    """A server may drop subscribers (its output buffer is full, an administrator): the same holds."""
    async with silent_generation(redis_url, client, LONG) as silent:
        client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        spool.stop(CHAT, silent.generation_id)
        await silent.demand_stop(client)


async def test_a_lost_push_is_made_good_by_the_heartbeat(redis_url: str, client: Redis) -> None:
    """The model is silent: the heartbeat's reply carries the stop."""
    async with silent_generation(redis_url, client, 1) as silent:
        stop_without_push(client, silent.generation_id)
        await silent.demand_stop(client)


def test_a_lost_push_is_made_good_by_the_next_write(redis_url: str, client: Redis) -> None:
    """Text flows: the reply to what is written carries the stop, and what it carried is in the log."""
    with spool_for(redis_url, lease=LONG) as spool:
        generation = spool.enqueue(CHAT, "hello")
        with spool.produce(CHAT, generation.generation_id) as out:
            stop_without_push(client, generation.generation_id)
            eventually(lambda: out.text("more"))
    assert out.state == "stopped"
    log = log_of(client)
    assert "more" in text_of(log, generation.generation_id)
    assert ending_of(log, generation.generation_id)["type"] == "generation.stopped"


def test_a_lost_push_and_no_further_write(redis_url: str, client: Redis) -> None:
    """The block ends before it hears of the stop: the ending is the stop all the same."""
    with spool_for(redis_url, lease=LONG) as spool:
        generation = spool.enqueue(CHAT, "hello")
        with spool.produce(CHAT, generation.generation_id) as out:
            stop_without_push(client, generation.generation_id)
        assert out.state == "stopped"
    assert ending_of(log_of(client), generation.generation_id)["type"] == "generation.stopped"


async def test_a_stop_while_the_producers_redis_is_away(proxy: Proxy, client: Redis, spool: Spool) -> None:
    """Within its lease it is asked, and stops when it is back; what it said meanwhile stands before the stop."""
    async with async_spool_for(proxy.url, lease=LONG) as lost:
        generation = await lost.enqueue(CHAT, "hello")
        within, go_on = asyncio.Event(), asyncio.Event()

        async def produce() -> Producer:
            async with lost.produce(CHAT, generation.generation_id) as out:
                within.set()
                await go_on.wait()
                out.text("said while away")
                await asyncio.sleep(3600)
            return out

        task = asyncio.ensure_future(produce())
        await within.wait()
        proxy.refuse()
        go_on.set()
        stops = await asyncio.to_thread(spool.stop, CHAT, generation.generation_id)
        assert stops == (Stop(generation.generation_id, "stopping"),)
        proxy.accept()
        assert (await asyncio.wait_for(task, 30)).state == "stopped"
    assert types_of(log_of(client), generation.generation_id) == [
        "generation.queued",
        "generation.started",
        "text.delta",
        "generation.stopped",
    ]


def test_a_stop_after_the_lease_of_a_producer_that_is_away(proxy: Proxy, client: Redis, spool: Spool) -> None:
    """It ends at once; when the producer is back, nothing of what it said meanwhile gets behind the stop."""
    with spool_for(proxy.url, lease=0.3) as lost:
        generation = lost.enqueue(CHAT, "hello")
        with lost.produce(CHAT, generation.generation_id) as out:
            out.text("before")
            eventually(lambda: text_of(log_of(client), generation.generation_id) == "before")
            proxy.refuse()
            out.text("said while away")
            eventually(lambda: spool.stop(CHAT, generation.generation_id)[0].outcome == "ended")
            log = log_of(client)
            proxy.accept()
        assert out.state == "stopped"
    assert log_of(client) == log
    assert ending_of(log, generation.generation_id)["type"] == "generation.stopped"


async def test_a_stop_survives_a_restart_of_redis(durable_server: PrivateServer) -> None:
    """It was taken, then Redis was killed before the worker heard of it: it is stopped when Redis is back."""
    with durable_server.client() as client:
        async with silent_generation(durable_server.url, client, LONG) as silent:
            stop_without_push(client, silent.generation_id)
            durable_server.kill()
            durable_server.start()
            await until(lambda: answers(client))
            await silent.demand_stop(client)


def answers(client: Redis) -> bool:
    """Tell whether the server is there."""
    try:
        return bool(client.ping())
    except Unreachable:
        return False


def test_a_stop_stands_for_the_next_attempt_too(spool: Spool, client: Redis) -> None:
    """The worker that was asked has died: the next one that finds the message does not run the model."""
    generation = spool.enqueue(CHAT, "hello")
    claim = scripts.claim(KEYS, generation.generation_id, token="dead", lease_ms=1_000, max_attempts=3, model=None)
    assert Store(client).send(claim).outcome == "claimed"
    assert spool.stop(CHAT, generation.generation_id)[0].outcome == "stopping"
    with pytest.raises(NotClaimed) as refused, spool.produce(CHAT, generation.generation_id, wait=20):
        pass
    assert refused.value.outcome == "stopped"
    assert types_of(log_of(client), generation.generation_id) == [
        "generation.queued",
        "generation.started",
        "generation.stopped",
    ]


async def test_an_erase_stops_what_runs(redis_url: str, client: Redis, spool: Spool) -> None:
    """There is nothing left to write to: the model's call is closed, and nothing comes back into the chat."""
    async with silent_generation(redis_url, client, LONG) as silent:
        spool.erase(CHAT)
        with pytest.raises(Fenced, match="erased"):
            await asyncio.wait_for(silent.task, 30)
    assert generation_field(client, silent.generation_id, "status") is None
    assert client.keys("cs:{*") == []
