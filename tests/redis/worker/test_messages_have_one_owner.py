"""A redelivered message belongs to the worker that has it now: the broker's part of promises 3 and 9."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from threading import Barrier

import pytest
from kombu import Connection
from redis import Redis
from support.waiting import eventually

from chunkspool.worker import transport

QUEUE = "chunkspool"


@pytest.fixture
def channels(redis_url: str) -> Iterator[tuple[transport.WorkerChannel, transport.WorkerChannel]]:
    """Provide the channels of two workers, with a message in the queue."""
    with ExitStack() as open_:
        workers = [open_.enter_context(Connection(redis_url, transport=transport.WorkerTransport)) for _ in range(2)]
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
    channels: tuple[transport.WorkerChannel, transport.WorkerChannel], client: Redis
) -> None:
    """A worker stood still until its message went to another one; what it then does affects only its own delivery."""
    late, owner = channels
    first = take_message(late)
    owner.qos.restore_by_tag(first.delivery_tag)  # as the search for dead workers' messages does
    second = take_message(owner)
    assert second.headers == {**first.headers, "redelivered": True}
    first.ack()
    assert client.hkeys("unacked") == [second.delivery_tag.encode()]
    late.qos.restore_by_tag(first.delivery_tag)
    assert client.llen(QUEUE) == 0
    second.ack()
    assert (client.hlen("unacked"), client.zcard("unacked_index")) == (0, 0)


def test_a_clock_that_was_set_back_keeps_no_dead_workers_message(
    channels: tuple[transport.WorkerChannel, transport.WorkerChannel], client: Redis
) -> None:
    """Kombu's lock for requeueing, which would be free in an hour only, keeps nobody from it."""
    dead, other = channels
    take_message(dead)
    client.zadd("unacked_index", {client.hkeys("unacked")[0]: 1})
    client.set("unacked_mutex", "held", px=3_600_000)
    assert client.llen(QUEUE) == 0
    other.qos.restore_visible(interval=1)
    assert client.llen(QUEUE) == 1


def test_the_newest_owner_has_the_message(
    channels: tuple[transport.WorkerChannel, transport.WorkerChannel], client: Redis
) -> None:
    """However often it is redelivered, the message exists once."""
    one, other = channels
    held = [take_message(one)]
    for channel in (other, one, other):
        channel.qos.restore_by_tag(held[-1].delivery_tag)
        held.append(take_message(channel))
    assert len({message.delivery_tag for message in held}) == 4
    for message in held[:-1]:
        message.reject(requeue=True)
    assert client.hkeys("unacked") == [held[-1].delivery_tag.encode()]
    assert client.llen(QUEUE) == 0
    held[-1].ack()


def test_a_message_is_requeued_once_however_many_try(
    channels: tuple[transport.WorkerChannel, transport.WorkerChannel], client: Redis
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
            assert client.hlen("unacked") == 0


def test_who_only_waits_for_replies_requeues_nothing(
    channels: tuple[transport.WorkerChannel, transport.WorkerChannel], client: Redis
) -> None:
    """Flower does while it asks the workers; it needs no right to take or send messages of theirs."""
    dead, flower = channels
    take_message(dead)
    client.zadd("unacked_index", {client.hkeys("unacked")[0]: 1})
    replies = f"{QUEUE}.reply.celery.pidbox"
    flower.queue_declare(replies)
    flower.basic_consume(replies, no_ack=True, callback=print, consumer_tag="flower")
    flower.qos.restore_visible(interval=1)
    assert (client.llen(QUEUE), client.hlen("unacked")) == (0, 1)
