"""Promise 5, stop means stop: also if its push is lost, a connection breaks, or Redis restarts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as Unreachable
from support.chats.logs import CHAT, KEYS, ending_of, read_generation_field, read_log, text_of, types_of
from support.chats.spools import async_spool_for, spool_for
from support.servers.contents import list_keys
from support.servers.proxy import Proxy
from support.servers.redis_server import PrivateServer
from support.waiting import eventually

from chunkspool import AsyncSpool, Producer, Spool
from chunkspool.errors import Fenced, NotClaimed
from chunkspool.producing.stop_listener import StopListener
from chunkspool.results import Stop
from chunkspool.store import scripts
from chunkspool.store.client import Store

LONG = 600
"""A lease with minutes between heartbeats: anything that arrives sooner came another way."""


@dataclass(frozen=True, slots=True)
class SilentGeneration:
    """A generation in an async block that waits for something that never comes."""

    generation_id: str
    task: asyncio.Task[Producer]

    async def assert_stopped(self, client: Redis) -> None:
        """Fail unless it is stopped soon."""
        out = await asyncio.wait_for(self.task, 30)
        assert out.state == "stopped"
        assert ending_of(read_log(client), self.generation_id)["type"] == "generation.stopped"


async def wait_silently(spool: AsyncSpool, generation_id: str) -> Producer:
    """Write a word and wait."""
    async with spool.produce(CHAT, generation_id) as out:
        out.text("before")
        await asyncio.sleep(3600)
    return out


@asynccontextmanager
async def run_silent_generation(url: str, client: Redis, lease: float) -> AsyncIterator[SilentGeneration]:
    """Run a silent generation in a process that uses `url`; its connections are open."""
    async with async_spool_for(url, lease=lease) as spool:
        generation = await spool.enqueue(CHAT, "hello")
        task = asyncio.ensure_future(wait_silently(spool, generation.generation_id))
        await wait_until(lambda: text_of(read_log(client), generation.generation_id) == "before")
        await wait_until(lambda: count_listeners(client) == 1)
        yield SilentGeneration(generation.generation_id, task)
        task.cancel()


async def wait_until(predicate: Callable[[], object]) -> None:
    """Wait for `predicate` without blocking the loop."""
    await asyncio.to_thread(eventually, predicate, 20)


def count_listeners(client: Redis) -> int:
    """Return how many processes listen for stops."""
    ((_, number),) = client.pubsub_numsub(KEYS.stops)
    return int(number)


def stop_without_push(client: Redis, generation_id: str) -> None:
    """Stop the generation, and lose the push on its way to the process."""
    call = scripts.stop(KEYS, generation_id, by="user", reason=None)
    assert call.args[-1] == KEYS.stops
    lost = replace(call, args=(*call.args[:-1], "nobody-listens"))
    assert Store(client).send(lost).outcome == "stopping"


async def test_a_pushed_stop_needs_no_heartbeat(redis_url: str, client: Redis, spool: Spool) -> None:
    """It arrives at once, although the next heartbeat is minutes away."""
    async with run_silent_generation(redis_url, client, LONG) as silent:
        spool.stop(CHAT, silent.generation_id)
        await silent.assert_stopped(client)


async def test_the_listener_comes_back_after_its_connection_was_cut(proxy: Proxy, client: Redis, spool: Spool) -> None:
    """After that, pushed stops arrive again."""
    async with run_silent_generation(proxy.url, client, LONG) as silent:
        for _ in range(3):
            proxy.cut()
            await wait_until(lambda: count_listeners(client) == 0)
            await wait_until(lambda: count_listeners(client) == 1)
        spool.stop(CHAT, silent.generation_id)
        await silent.assert_stopped(client)


async def test_a_stop_pushed_while_the_listener_was_disconnected_arrives(
    proxy: Proxy, client: Redis, spool: Spool
) -> None:
    """The push is lost; once the listener is back, the process asks for what it missed."""
    async with run_silent_generation(proxy.url, client, LONG) as silent:
        proxy.refuse()
        await wait_until(lambda: count_listeners(client) == 0)
        spool.stop(CHAT, silent.generation_id)
        proxy.accept()
        await silent.assert_stopped(client)


async def test_a_stop_arrives_after_the_server_killed_the_listener(redis_url: str, client: Redis, spool: Spool) -> None:
    """A server may drop subscribers (a full output buffer, an administrator)."""
    async with run_silent_generation(redis_url, client, LONG) as silent:
        client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        spool.stop(CHAT, silent.generation_id)
        await silent.assert_stopped(client)


async def test_the_heartbeat_makes_up_for_a_lost_push(redis_url: str, client: Redis) -> None:
    """The model is silent: the heartbeat's reply carries the stop."""
    async with run_silent_generation(redis_url, client, 1) as silent:
        stop_without_push(client, silent.generation_id)
        await silent.assert_stopped(client)


def test_the_next_write_makes_up_for_a_lost_push(
    redis_url: str, client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Text flows: the reply to a write carries the stop, and the written text is in the log."""
    # Nothing is heard, and nothing asked when the channel is there at last: only the write can tell.
    monkeypatch.setattr(StopListener, "_run", lambda _: None)
    with spool_for(redis_url, lease=LONG) as spool:
        generation = spool.enqueue(CHAT, "hello")
        with spool.produce(CHAT, generation.generation_id) as out:
            stop_without_push(client, generation.generation_id)
            eventually(lambda: out.text("more"))
    assert out.state == "stopped"
    log = read_log(client)
    assert "more" in text_of(log, generation.generation_id)
    assert ending_of(log, generation.generation_id)["type"] == "generation.stopped"


def test_leaving_the_block_makes_up_for_a_lost_push(redis_url: str, client: Redis) -> None:
    """The block ends before it learns of the stop: the ending is the stop all the same."""
    with spool_for(redis_url, lease=LONG) as spool:
        generation = spool.enqueue(CHAT, "hello")
        with spool.produce(CHAT, generation.generation_id) as out:
            stop_without_push(client, generation.generation_id)
        assert out.state == "stopped"
    assert ending_of(read_log(client), generation.generation_id)["type"] == "generation.stopped"


async def test_a_stop_during_the_producers_outage_arrives_afterwards(proxy: Proxy, client: Redis, spool: Spool) -> None:
    """Within the lease it is asked to stop, and stops once reconnected; its buffered text precedes the stop."""
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
    assert types_of(read_log(client), generation.generation_id) == [
        "generation.queued",
        "generation.started",
        "text.delta",
        "generation.stopped",
    ]


def test_a_stop_after_a_disconnected_producers_lease_ends_it_at_once(proxy: Proxy, client: Redis, spool: Spool) -> None:
    """When the producer is back, none of its buffered text is stored after the stop."""
    with spool_for(proxy.url, lease=0.3) as lost:
        generation = lost.enqueue(CHAT, "hello")
        with lost.produce(CHAT, generation.generation_id) as out:
            out.text("before")
            eventually(lambda: text_of(read_log(client), generation.generation_id) == "before")
            proxy.refuse()
            out.text("said while away")
            eventually(lambda: spool.stop(CHAT, generation.generation_id)[0].outcome == "ended")
            log = read_log(client)
            proxy.accept()
        assert out.state == "stopped"
    assert read_log(client) == log
    assert ending_of(log, generation.generation_id)["type"] == "generation.stopped"


async def test_a_stop_survives_a_restart_of_redis(durable_server: PrivateServer) -> None:
    """Redis is killed after accepting the stop, before the worker learns of it: it stops once Redis is back."""
    with durable_server.client() as client:
        async with run_silent_generation(durable_server.url, client, LONG) as silent:
            stop_without_push(client, silent.generation_id)
            durable_server.kill()
            durable_server.start()
            await wait_until(lambda: is_up(client))
            await silent.assert_stopped(client)


def is_up(client: Redis) -> bool:
    """Tell whether the server answers."""
    try:
        return bool(client.ping())
    except Unreachable:
        return False


def test_a_stop_also_applies_to_the_next_attempt(spool: Spool, client: Redis) -> None:
    """The worker that was asked has died: the next one that gets the message does not run the model."""
    generation = spool.enqueue(CHAT, "hello")
    claim = scripts.claim(KEYS, generation.generation_id, token="dead", lease_ms=1_000, max_attempts=3, model=None)
    assert Store(client).send(claim).outcome == "claimed"
    assert spool.stop(CHAT, generation.generation_id)[0].outcome == "stopping"
    with pytest.raises(NotClaimed) as refused, spool.produce(CHAT, generation.generation_id, wait=20):
        pass
    assert refused.value.outcome == "stopped"
    assert types_of(read_log(client), generation.generation_id) == [
        "generation.queued",
        "generation.started",
        "generation.stopped",
    ]


async def test_an_erase_stops_running_generations(redis_url: str, client: Redis, spool: Spool) -> None:
    """There is nothing left to write to: the model call is closed, and nothing reappears in the chat."""
    async with run_silent_generation(redis_url, client, LONG) as silent:
        spool.erase(CHAT)
        with pytest.raises(Fenced, match="erased"):
            await asyncio.wait_for(silent.task, 30)
    assert read_generation_field(client, silent.generation_id, "status") is None
    assert list_keys(client) == []
