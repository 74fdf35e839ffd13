"""A redelivered message belongs to the worker that has it now: the broker's part of promises 3 and 9."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from threading import Barrier
from typing import Any

import pytest
from kombu import Connection
from redis import Redis
from support.waiting import eventually

from chunkspool.store.keys import QueueKeys
from chunkspool.worker import transport
from chunkspool.worker.redelivery import OPTION, Redelivery

QUEUE = "chunkspool"


@dataclass(frozen=True)
class Held:
    """Where the messages that workers hold are noted."""

    hash: str
    index: str
    lock: str
    options: dict[str, Any]


KOMBUS = Held("unacked", "unacked_index", "unacked_mutex", {})
NAMES = QueueKeys(QUEUE).unacked(8)


def apart(*queues: str) -> Held:
    """Return the place of the messages of generations, which are those of `queues`, or all."""
    return Held(*NAMES.values(), Redelivery(queues, 8, **NAMES).as_option())


@pytest.fixture(params=[KOMBUS, apart(), apart("other", QUEUE), apart("other")], ids=["kombu", "all", "ours", "others"])
def held(request: pytest.FixtureRequest) -> Held:
    """Try a worker of other tasks, one that is for generations only, one for both, and in that one the other tasks."""
    place: Held = request.param
    option = place.options.get(OPTION)
    is_apart = option is not None and (not option["queues"] or QUEUE in option["queues"])
    return place if is_apart else replace(KOMBUS, options=place.options)


@pytest.fixture
def channels(redis_url: str, held: Held) -> Iterator[tuple[transport.WorkerChannel, transport.WorkerChannel]]:
    """Provide the channels of two workers, with a message in the queue."""
    kind = {"transport": transport.WorkerTransport, "transport_options": held.options}
    with ExitStack() as open_:
        workers = [open_.enter_context(Connection(redis_url, **kind)) for _ in range(2)]
        one, other = (worker.default_channel for worker in workers)
        with Connection(redis_url) as sender, sender.SimpleQueue(QUEUE) as queue:
            queue.put({"n": 1})
        yield one, other


def take_message(channel: transport.WorkerChannel) -> transport.WorkerMessage:
    """Take the message, as a worker does."""
    return eventually(lambda: channel.basic_get(QUEUE))


def requeue(channel: transport.WorkerChannel, tag: str, start: Barrier) -> None:
    """Requeue a message, at the same moment as the others."""
    start.wait(10)
    channel.qos.restore_by_tag(tag)


def test_a_late_acknowledgement_takes_nothing_from_the_new_owner(
    channels: tuple[transport.WorkerChannel, transport.WorkerChannel], client: Redis, held: Held
) -> None:
    """A worker stood still until its message went to another one; what it then does affects only its own delivery."""
    late, owner = channels
    first = take_message(late)
    owner.qos.restore_by_tag(first.delivery_tag)  # as the search for dead workers' messages does
    second = take_message(owner)
    assert second.headers == {**first.headers, "redelivered": True}
    first.ack()
    assert client.hkeys(held.hash) == [second.delivery_tag.encode()]
    late.qos.restore_by_tag(first.delivery_tag)
    assert client.llen(QUEUE) == 0
    second.ack()
    assert (client.hlen(held.hash), client.zcard(held.index)) == (0, 0)


def test_a_clock_that_was_set_back_keeps_no_dead_workers_message(
    channels: tuple[transport.WorkerChannel, transport.WorkerChannel], client: Redis, held: Held
) -> None:
    """Kombu's lock for requeueing, which would be free in an hour only, keeps nobody from it."""
    dead, other = channels
    take_message(dead)
    client.zadd(held.index, {client.hkeys(held.hash)[0]: 1})
    client.set(held.lock, "held", px=3_600_000)
    assert client.llen(QUEUE) == 0
    other.qos.restore_visible(interval=1)
    assert client.llen(QUEUE) == 1


def test_the_newest_owner_has_the_message(
    channels: tuple[transport.WorkerChannel, transport.WorkerChannel], client: Redis, held: Held
) -> None:
    """However often it is redelivered, the message exists once."""
    one, other = channels
    taken = [take_message(one)]
    for channel in (other, one, other):
        channel.qos.restore_by_tag(taken[-1].delivery_tag)
        taken.append(take_message(channel))
    assert len({message.delivery_tag for message in taken}) == 4
    for message in taken[:-1]:
        message.reject(requeue=True)
    assert client.hkeys(held.hash) == [taken[-1].delivery_tag.encode()]
    assert client.llen(QUEUE) == 0
    taken[-1].ack()


def test_a_message_is_requeued_once_however_many_try(
    channels: tuple[transport.WorkerChannel, transport.WorkerChannel], client: Redis, held: Held
) -> None:
    """The lock of kombu around the search for dead workers' messages only saves work, so it may expire early."""
    one, _ = channels
    with ThreadPoolExecutor(2) as pool:
        for _ in range(20):
            tag = take_message(one).delivery_tag
            start = Barrier(2)
            for both in [pool.submit(requeue, channel, tag, start) for channel in channels]:
                both.result(10)
            assert client.llen(QUEUE) == 1
            assert client.hlen(held.hash) == 0


def test_who_only_waits_for_replies_requeues_nothing(
    channels: tuple[transport.WorkerChannel, transport.WorkerChannel], client: Redis, held: Held
) -> None:
    """Flower does while it asks the workers; it needs no right to take or send messages of theirs."""
    dead, flower = channels
    take_message(dead)
    client.zadd(held.index, {client.hkeys(held.hash)[0]: 1})
    replies = f"{QUEUE}.reply.celery.pidbox"
    flower.queue_declare(replies)
    flower.basic_consume(replies, no_ack=True, callback=print, consumer_tag="flower")
    flower.qos.restore_visible(interval=1)
    assert (client.llen(QUEUE), client.hlen(held.hash)) == (0, 1)


def test_what_other_tasks_hold_is_requeued_when_their_time_is_over(redis_url: str, client: Redis) -> None:
    """A worker that serves both takes nothing of the other tasks away before the app's own time-out."""
    place = apart("generations")
    with Connection(redis_url, transport=transport.WorkerTransport, transport_options=place.options) as worker:
        channel = worker.default_channel
        for queue in (QUEUE, "generations"):
            with Connection(redis_url) as sender, sender.SimpleQueue(queue) as simple:
                simple.put({"n": 1})
            channel.basic_consume(queue, no_ack=False, callback=print, consumer_tag=queue)
            eventually(lambda queue=queue: channel.basic_get(queue))  # type: ignore[misc]
        for key in (place.index, "unacked_index"):
            (tag,) = client.zrange(key, 0, -1)
            client.zadd(key, {tag: time.time() - 60})
        channel.qos.restore_visible(interval=1)
        assert (client.llen(QUEUE), client.llen("generations")) == (0, 1)
        (tag,) = client.zrange("unacked_index", 0, -1)
        client.zadd("unacked_index", {tag: time.time() - 3601})
        channel.qos.restore_visible(interval=1)
        assert client.llen(QUEUE) == 1


@pytest.mark.parametrize("apart_from", ["generations", QUEUE])
def test_a_prefix_of_all_keys_changes_nothing(redis_url: str, client: Redis, apart_from: str) -> None:
    """The app's `global_keyprefix` stands before every key, and a lock is not held for ever there, either."""
    place = apart(apart_from)
    options = {**place.options, "global_keyprefix": "mine:"}
    index, lock = (place.index, place.lock) if apart_from == QUEUE else (KOMBUS.index, KOMBUS.lock)
    with Connection(redis_url, transport=transport.WorkerTransport, transport_options=options) as worker:
        channel = worker.default_channel
        with Connection(redis_url, transport_options=options) as sender, sender.SimpleQueue(QUEUE) as queue:
            queue.put({"n": 1})
        take_message(channel)
        (tag,) = client.zrange(f"mine:{index}", 0, -1)
        client.zadd(f"mine:{index}", {tag: 1})
        client.set(f"mine:{lock}", "held", px=3_600_000)
        channel.qos.restore_visible(interval=1)
        assert client.llen(f"mine:{QUEUE}") == 1
        assert not client.exists(QUEUE, place.hash, place.index, KOMBUS.hash, KOMBUS.index)


def test_what_is_no_message_is_set_aside_for_its_queue(
    redis_url: str, client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under the queue's own name, without the app's `global_keyprefix`; if that fails, it stays in its queue."""
    seen: list[str] = []
    monkeypatch.setattr(transport, "set_aside", lambda queue, *_: seen.append(queue))
    options = {"global_keyprefix": "mine:"}
    with Connection(redis_url, transport=transport.WorkerTransport, transport_options=options) as worker:
        reply = (f"mine:{QUEUE}\x06\x163".encode(), b"no message")
        assert worker.default_channel._check_popped(reply) is None  # noqa: SLF001 - as the client calls it
        assert seen == [QUEUE]

        def refuse(*_: object) -> None:
            raise OSError("away")

        monkeypatch.setattr(transport, "set_aside", refuse)
        with pytest.raises(OSError, match="away"):
            worker.default_channel._check_popped(reply)  # noqa: SLF001 - as above
        assert client.lrange(reply[0], 0, -1) == [b"no message"]
