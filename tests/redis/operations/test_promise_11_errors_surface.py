"""Promise 11, errors surface: a failed enqueue raises to its caller and leaves no ghost."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from celery import Celery
from redis import Redis
from support.chats.logs import CHAT, KEYS, ending_of, log_of, types_of
from support.chats.spools import async_spool_for, claim_and_die, settings_for, spool_for
from support.readers.blocking_spool import SPOOL_KINDS, BlockingSpool, open_spool
from support.servers.non_redis_servers import silent_server
from support.servers.proxy import Proxy

from chunkspool import Spool
from chunkspool.errors import ChatBusy, EnqueueFailed
from chunkspool.spool.dispatch import Dispatcher
from demo.ports import LOOPBACK, free_port

QUEUE = "chunkspool"
SECRET = "hunter2"
NOT_HANDED_OVER = ["generation.queued", "generation.failed"]
BOUND = 20.0
"""Seconds within which an enqueue has given up; with the time-outs of these tests it takes one or two."""

Publish = Callable[[Dispatcher, str, str, str], None]
really_publish: Publish = Dispatcher.publish


@pytest.fixture(params=SPOOL_KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Give the name of each face."""
    return str(request.param)


@pytest.fixture
def publish_by(monkeypatch: pytest.MonkeyPatch) -> Callable[[Publish], None]:
    """Give what puts another broker in the place of Celery's."""
    return lambda publish: monkeypatch.setattr(Dispatcher, "publish", publish)


def fail(_self: Dispatcher, _tenant: str, chat_id: str, generation_id: str) -> None:
    """Be a broker that is away."""
    raise EnqueueFailed(chat_id, generation_id, "away")


def demand_no_ghost(any_spool: BlockingSpool, client: Redis, failed: EnqueueFailed) -> None:
    """Fail unless the generation has ended, the chat is free and the request can be made again."""
    assert SECRET not in str(failed)
    log = log_of(client)
    assert types_of(log, failed.generation_id) == NOT_HANDED_OVER
    ending = ending_of(log, failed.generation_id)
    assert (ending["code"], ending["retryable"]) == ("enqueue_failed", True)
    assert any_spool.status(CHAT).active == ()
    assert [entry.type for entry in any_spool.follow(CHAT)] == NOT_HANDED_OVER


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
@pytest.mark.parametrize("request_id", [None, "mine"])
def test_a_broker_that_is_away(kind: str, redis_url: str, client: Redis, scheme: str, request_id: str | None) -> None:
    """The caller hears of it; the same request is made again when the broker is back, and then it is handed over."""
    broker = f"{scheme}://user:{SECRET}@{LOOPBACK}:{free_port()}//"
    with open_spool(kind, redis_url, broker_url=broker) as any_spool:
        with pytest.raises(EnqueueFailed, match="check the broker, then enqueue again") as failed:
            any_spool.enqueue(CHAT, "hello", request_id=request_id)
        demand_no_ghost(any_spool, client, failed.value)
    assert client.llen(QUEUE) == 0
    with open_spool(kind, redis_url) as any_spool:
        made = any_spool.enqueue(CHAT, "hello", request_id=request_id)
        assert made.generation_id != failed.value.generation_id
        assert client.llen(QUEUE) == 1
        assert any_spool.run_producer(CHAT, made.generation_id, lambda out: out.text("hi")).state == "completed"


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
def test_a_broker_that_hangs(kind: str, redis_url: str, client: Redis, scheme: str) -> None:
    """It accepts the connection and never answers: publish_timeout is how long it is waited for."""
    with silent_server() as port:
        broker = f"{scheme}://user:{SECRET}@{LOOPBACK}:{port}//"
        with open_spool(kind, redis_url, broker_url=broker, publish_timeout=0.3) as any_spool:
            began = time.monotonic()
            with pytest.raises(EnqueueFailed) as failed:
                any_spool.enqueue(CHAT, "hello")
            assert time.monotonic() - began < BOUND
            demand_no_ghost(any_spool, client, failed.value)


def test_a_broker_of_the_apps_own_that_hangs(redis_url: str, client: Redis) -> None:
    """A Celery app that was passed in has no time-outs; its messages have."""
    with silent_server() as port, Celery("own", broker=f"redis://{LOOPBACK}:{port}/0", set_as_current=False) as app:
        spool = Spool(Redis.from_url(redis_url), app, settings=settings_for(redis_url, publish_timeout=0.3))
        began = time.monotonic()
        with spool, pytest.raises(EnqueueFailed):
            spool.enqueue(CHAT, "hello")
        assert time.monotonic() - began < BOUND
        spool._store.client.close()  # noqa: SLF001 - a client that is passed in stays its owner's to close
    assert [line.type for line in log_of(client)] == NOT_HANDED_OVER


def test_a_url_of_a_broker_that_is_none(kind: str, redis_url: str, client: Redis) -> None:
    """It is told as that, without the piece of the password that was taken for a port."""
    for broker in (f"redis://:{SECRET}/x@host/0", f"nope://:{SECRET}@host/0"):
        client.flushall()
        with open_spool(kind, redis_url, broker_url=broker) as any_spool:
            with pytest.raises(EnqueueFailed) as failed:
                any_spool.enqueue(CHAT, "hello")
            demand_no_ghost(any_spool, client, failed.value)
            assert SECRET not in repr(failed.value.__cause__)


def test_a_message_that_did_arrive(
    kind: str, redis_url: str, client: Redis, publish_by: Callable[[Publish], None]
) -> None:
    """The broker's reply was lost, and a worker has the generation already: nothing has failed."""

    def arrive(self: Dispatcher, tenant: str, chat_id: str, generation_id: str) -> None:
        claim_and_die(client, generation_id, 60)
        fail(self, tenant, chat_id, generation_id)

    publish_by(arrive)
    with open_spool(kind, redis_url) as any_spool:
        made = any_spool.enqueue(CHAT, "hello", request_id="mine")
        assert any_spool.status(CHAT).active == (made.generation_id,)
        assert any_spool.enqueue(CHAT, "hello", request_id="mine") == made
    assert types_of(log_of(client), made.generation_id) == ["generation.queued", "generation.started"]


def test_a_redis_that_goes_away_with_the_broker(
    kind: str, client: Redis, proxy: Proxy, publish_by: Callable[[Publish], None]
) -> None:
    """The caller hears of both; the same request is handed over when they are back."""

    def go_away(*generation: Any) -> None:
        proxy.refuse()
        fail(*generation)

    publish_by(go_away)
    with open_spool(kind, proxy.url, broker_url=f"redis://{LOOPBACK}:{proxy.port}/0") as any_spool:
        with pytest.raises(EnqueueFailed) as failed:
            any_spool.enqueue(CHAT, "hello", request_id="mine")
        assert "could not be ended either" in failed.value.__notes__[0]
        proxy.accept()
        publish_by(really_publish)
        made = any_spool.enqueue(CHAT, "hello", request_id="mine")
        assert made.generation_id == failed.value.generation_id
    assert client.llen(QUEUE) == 1
    assert types_of(log_of(client), made.generation_id) == ["generation.queued"]


def test_a_request_that_was_made_again_stays_made(
    redis_url: str, client: Redis, publish_by: Callable[[Publish], None]
) -> None:
    """Two callers fail with the same request, and the slower one must not undo what a third has made meanwhile."""
    slow, go_on = threading.Event(), threading.Event()

    def fail_slowly(*generation: Any) -> None:
        slow.set()
        go_on.wait(30)
        fail(*generation)

    with spool_for(redis_url) as spool, ThreadPoolExecutor() as pool:
        publish_by(fail_slowly)
        caller = pool.submit(spool.enqueue, CHAT, "hello", request_id="mine")
        assert slow.wait(30)
        publish_by(fail)
        with pytest.raises(EnqueueFailed):
            spool.enqueue(CHAT, "hello", request_id="mine")
        publish_by(really_publish)
        made = spool.enqueue(CHAT, "hello", request_id="mine")
        go_on.set()
        assert isinstance(caller.exception(30), EnqueueFailed)
        assert spool.enqueue(CHAT, "hello", request_id="mine") == made
        with pytest.raises(ChatBusy):
            spool.enqueue(CHAT, "hello", request_id="another")
    assert len(client.zrange(KEYS.gens, 0, -1)) == 2


async def test_an_enqueue_that_is_cancelled_anywhere(redis_url: str, client: Redis) -> None:
    """A web client that hangs up leaves a whole generation behind, or none: never one without its message."""
    for moment in range(40):
        async with async_spool_for(redis_url) as spool:
            task = asyncio.ensure_future(spool.enqueue(CHAT, "hello", on_active="allow"))
            await asyncio.sleep(moment * 0.0003)
            cancelled = task.cancel()
            await asyncio.wait({task})
            assert task.cancelled() is cancelled
        queued, messages = log_of(client), client.llen(QUEUE)
        assert [line.type for line in queued] == ["generation.queued"] * len(queued)
        assert messages == len(queued)
    assert messages > 0


@pytest.mark.parametrize("there", [True, False])
async def test_an_enqueue_that_is_cancelled_while_it_publishes(
    redis_url: str, client: Redis, publish_by: Callable[[Publish], None], *, there: bool
) -> None:
    """Closing the spool waits for it: it is handed over, or it has ended."""
    publishing, go_on = threading.Event(), threading.Event()

    def publish(*generation: Any) -> None:
        publishing.set()
        go_on.wait(30)
        (really_publish if there else fail)(*generation)

    publish_by(publish)
    async with async_spool_for(redis_url) as spool:
        task = asyncio.ensure_future(spool.enqueue(CHAT, "hello"))
        await asyncio.to_thread(publishing.wait, 30)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        go_on.set()
    assert client.llen(QUEUE) == there
    assert [line.type for line in log_of(client)] == (["generation.queued"] if there else NOT_HANDED_OVER)
