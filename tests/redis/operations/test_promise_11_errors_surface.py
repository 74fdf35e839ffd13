"""Promise 11, errors surface: a failed enqueue raises in its caller and leaves no ghost generation."""

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
from support.chats.logs import CHAT, KEYS, ending_of, read_log, types_of
from support.chats.spools import async_spool_for, claim_and_die, settings_for, spool_for
from support.readers.blocking_spool import SPOOL_KINDS, BlockingSpool, open_spool
from support.servers.non_redis_servers import silent_server
from support.servers.proxy import Proxy

from chunkspool import Spool
from chunkspool.demo.ports import LOOPBACK, free_port
from chunkspool.errors import ChatBusy, EnqueueFailed, SettingsError
from chunkspool.spool.dispatch import Dispatcher

pytestmark = pytest.mark.both_servers

QUEUE = "chunkspool"
SECRET = "hunter2"
NOT_HANDED_OVER = ["generation.queued", "generation.failed"]
BOUND = 20.0
"""Seconds within which an enqueue must give up; with these tests' time-outs it takes one or two."""

PublishFunction = Callable[..., None]
really_publish: PublishFunction = Dispatcher.publish


@pytest.fixture(params=SPOOL_KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Provide each kind of spool."""
    return str(request.param)


@pytest.fixture
def replace_publish(monkeypatch: pytest.MonkeyPatch) -> Callable[[PublishFunction], None]:
    """Provide a function that replaces the publishing to the broker."""
    return lambda publish: monkeypatch.setattr(Dispatcher, "publish", publish)


def fail(_self: Dispatcher, _tenant: str, chat_id: str, generation_id: str, _queue: str, _task: str) -> None:
    """Be a broker that is away."""
    raise EnqueueFailed(chat_id, generation_id, "away")


def assert_no_ghost(any_spool: BlockingSpool, client: Redis, failed: EnqueueFailed) -> None:
    """Fail unless the generation has ended, the chat is free and the request can be repeated."""
    assert SECRET not in str(failed)
    log = read_log(client)
    assert types_of(log, failed.generation_id) == NOT_HANDED_OVER
    ending = ending_of(log, failed.generation_id)
    assert (ending["code"], ending["retryable"]) == ("enqueue_failed", True)
    assert any_spool.status(CHAT).active == ()
    assert [entry.type for entry in any_spool.follow(CHAT)] == NOT_HANDED_OVER


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
@pytest.mark.parametrize("request_id", [None, "mine"])
def test_an_unreachable_broker_fails_the_enqueue(
    kind: str, redis_url: str, client: Redis, scheme: str, request_id: str | None
) -> None:
    """The caller gets the error; the same request, repeated once the broker is back, is published."""
    broker = f"{scheme}://user:{SECRET}@{LOOPBACK}:{free_port()}//"
    with open_spool(kind, redis_url, broker_url=broker) as any_spool:
        with pytest.raises(EnqueueFailed, match="check the broker, then enqueue again") as failed:
            any_spool.enqueue(CHAT, "hello", request_id=request_id)
        assert_no_ghost(any_spool, client, failed.value)
    assert client.llen(QUEUE) == 0
    with open_spool(kind, redis_url) as any_spool:
        made = any_spool.enqueue(CHAT, "hello", request_id=request_id)
        assert made.generation_id != failed.value.generation_id
        assert client.llen(QUEUE) == 1
        assert any_spool.run_producer(CHAT, made.generation_id, lambda out: out.text("hi")).state == "completed"


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
def test_a_hanging_broker_fails_the_enqueue_in_time(kind: str, redis_url: str, client: Redis, scheme: str) -> None:
    """It accepts the connection but never answers: publish_timeout limits the wait."""
    with silent_server() as port:
        broker = f"{scheme}://user:{SECRET}@{LOOPBACK}:{port}//"
        with open_spool(kind, redis_url, broker_url=broker, publish_timeout=0.3) as any_spool:
            began = time.monotonic()
            with pytest.raises(EnqueueFailed) as failed:
                any_spool.enqueue(CHAT, "hello")
            assert time.monotonic() - began < BOUND
            assert_no_ghost(any_spool, client, failed.value)


def test_a_hanging_broker_of_a_passed_in_app_fails_the_enqueue_in_time(redis_url: str, client: Redis) -> None:
    """A Celery app that was passed in has no time-outs of its own; its messages do."""
    with silent_server() as port, Celery("own", broker=f"redis://{LOOPBACK}:{port}/0", set_as_current=False) as app:
        spool = Spool(Redis.from_url(redis_url), app, settings=settings_for(redis_url, publish_timeout=0.3))
        began = time.monotonic()
        with spool, pytest.raises(EnqueueFailed):
            spool.enqueue(CHAT, "hello")
        assert time.monotonic() - began < BOUND
        spool._store.client.close()  # noqa: SLF001 - a client that is passed in stays its owner's to close
    assert [line.type for line in read_log(client)] == NOT_HANDED_OVER


def test_an_invalid_broker_url_is_reported_without_its_password(redis_url: str) -> None:
    """Before anything is made; the part of the password that was parsed as a port is not shown either."""
    for broker in (f"redis://:{SECRET}/x@host/0", f"nope://:{SECRET}@host/0"):
        with pytest.raises(SettingsError, match="CHUNKSPOOL_BROKER_URL") as failed:
            settings_for(redis_url, broker_url=broker)
        assert SECRET not in f"{failed.value!r} {failed.value.__cause__!r} {failed.value.__context__!r}"


def test_a_message_that_arrived_despite_the_error_is_no_failure(
    kind: str, redis_url: str, client: Redis, replace_publish: Callable[[PublishFunction], None]
) -> None:
    """The broker's reply was lost, but a worker already has the generation."""

    def arrive(self: Dispatcher, *message: str) -> None:
        _tenant, _chat_id, generation_id, *_ = message
        claim_and_die(client, generation_id, 60)
        fail(self, *message)

    replace_publish(arrive)
    with open_spool(kind, redis_url) as any_spool:
        made = any_spool.enqueue(CHAT, "hello", request_id="mine")
        assert any_spool.status(CHAT).active == (made.generation_id,)
        assert any_spool.enqueue(CHAT, "hello", request_id="mine") == made
    assert types_of(read_log(client), made.generation_id) == ["generation.queued", "generation.started"]


def test_losing_redis_and_the_broker_together_is_reported(
    kind: str, client: Redis, proxy: Proxy, replace_publish: Callable[[PublishFunction], None]
) -> None:
    """The caller learns of both; the same request is published once both are back."""

    def go_away(*generation: Any) -> None:
        proxy.refuse()
        fail(*generation)

    replace_publish(go_away)
    with open_spool(kind, proxy.url, broker_url=f"redis://{LOOPBACK}:{proxy.port}/0") as any_spool:
        with pytest.raises(EnqueueFailed) as failed:
            any_spool.enqueue(CHAT, "hello", request_id="mine")
        assert "could not be ended either" in failed.value.__notes__[0]
        proxy.accept()
        replace_publish(really_publish)
        made = any_spool.enqueue(CHAT, "hello", request_id="mine")
        assert made.generation_id == failed.value.generation_id
    assert client.llen(QUEUE) == 1
    assert types_of(read_log(client), made.generation_id) == ["generation.queued"]


def test_a_slow_failure_does_not_undo_a_repeated_request(
    redis_url: str, client: Redis, replace_publish: Callable[[PublishFunction], None]
) -> None:
    """Callers of one request fail, and a third one publishes its message meanwhile: the slow failure undoes nothing."""
    slow, go_on = threading.Event(), threading.Event()

    def fail_slowly(*generation: Any) -> None:
        slow.set()
        go_on.wait(30)
        fail(*generation)

    with spool_for(redis_url) as spool, ThreadPoolExecutor() as pool:
        replace_publish(fail_slowly)
        caller = pool.submit(spool.enqueue, CHAT, "hello", request_id="mine")
        assert slow.wait(30)
        replace_publish(fail)
        with pytest.raises(EnqueueFailed):
            spool.enqueue(CHAT, "hello", request_id="mine")
        replace_publish(really_publish)
        made = spool.enqueue(CHAT, "hello", request_id="mine")
        go_on.set()
        assert isinstance(caller.exception(30), EnqueueFailed)
        assert spool.enqueue(CHAT, "hello", request_id="mine") == made
        with pytest.raises(ChatBusy):
            spool.enqueue(CHAT, "hello", request_id="another")
    assert client.zrange(KEYS.gens, 0, -1) == [made.generation_id.encode()]
    assert types_of(read_log(client), made.generation_id) == ["generation.queued"]


async def test_an_enqueue_cancelled_anywhere_is_complete_or_undone(redis_url: str, client: Redis) -> None:
    """A web client that hangs up leaves a whole generation or none, never one without its message."""
    for moment in range(40):
        async with async_spool_for(redis_url) as spool:
            task = asyncio.ensure_future(spool.enqueue(CHAT, "hello", on_active="allow"))
            await asyncio.sleep(moment * 0.0003)
            cancelled = task.cancel()
            await asyncio.wait({task})
            assert task.cancelled() is cancelled
        queued, messages = read_log(client), client.llen(QUEUE)
        assert [line.type for line in queued] == ["generation.queued"] * len(queued)
        assert messages == len(queued)
    assert messages > 0


@pytest.mark.parametrize("there", [True, False])
async def test_an_enqueue_cancelled_while_publishing_is_finished(
    redis_url: str, client: Redis, replace_publish: Callable[[PublishFunction], None], *, there: bool
) -> None:
    """Closing the spool waits for it: the generation is published or has ended."""
    publishing, go_on = threading.Event(), threading.Event()

    def publish(*generation: Any) -> None:
        publishing.set()
        go_on.wait(30)
        (really_publish if there else fail)(*generation)

    replace_publish(publish)
    async with async_spool_for(redis_url) as spool:
        task = asyncio.ensure_future(spool.enqueue(CHAT, "hello"))
        await asyncio.to_thread(publishing.wait, 30)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        go_on.set()
    assert client.llen(QUEUE) == there
    assert [line.type for line in read_log(client)] == (["generation.queued"] if there else NOT_HANDED_OVER)


@pytest.mark.parametrize("callers", [1, 3])
def test_a_repeated_request_ends_nothing_healthy(
    redis_url: str, client: Redis, replace_publish: Callable[[PublishFunction], None], callers: int
) -> None:
    """A generation that waits with its message stays, however often its request is repeated without a broker."""
    with spool_for(redis_url) as spool:
        made = spool.enqueue(CHAT, "hello", request_id="mine")
        replace_publish(fail)
        for _ in range(callers):
            with pytest.raises(EnqueueFailed):
                spool.enqueue(CHAT, "hello", request_id="mine")
        assert spool.status(CHAT).active == (made.generation_id,)
        with spool.produce(CHAT, made.generation_id) as out:
            out.text("here I am")
    assert out.state == "completed"
    assert client.llen(QUEUE) == 1


def test_callers_of_one_request_who_all_fail_leave_no_ghost(
    redis_url: str, client: Redis, replace_publish: Callable[[PublishFunction], None]
) -> None:
    """The last of them ends it, and the request may be made again."""
    both = threading.Barrier(2)

    def fail_together(*message: Any) -> None:
        both.wait(30)
        fail(*message)

    with spool_for(redis_url) as spool, ThreadPoolExecutor() as pool:
        replace_publish(fail_together)
        callers = [pool.submit(spool.enqueue, CHAT, "hello", request_id="mine") for _ in range(2)]
        failed = [caller.exception(30) for caller in callers]
        assert [type(error) for error in failed] == [EnqueueFailed] * 2
        assert spool.status(CHAT).active == ()
        replace_publish(really_publish)
        made = spool.enqueue(CHAT, "hello", request_id="mine")
        assert made.generation_id not in {error.generation_id for error in failed if isinstance(error, EnqueueFailed)}
    assert client.llen(QUEUE) == 1
