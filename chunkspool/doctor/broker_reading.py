"""Reads from the broker what became of the messages of a queue. Nothing is written."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import redis

from chunkspool.doctor.asking import RedisQuestions, Unanswered, within
from chunkspool.store.commands import as_text
from chunkspool.store.keys import QueueKeys
from chunkspool.urls.broker_url import CeleryBroker

KOMBUS_OWN: Final = "unacked"
"""Where kombu holds the messages of every app that says nothing else."""
LOOKED_AT: Final = 200
"""Messages of other apps that are looked at, at the most."""
_BETWEEN: Final = "\x06\x16"
"""What kombu writes between the parts of a binding."""


@dataclass(frozen=True, slots=True)
class Held:
    """Messages that nobody has renewed for longer than `seconds`, and for how long the oldest has stood there."""

    seconds: float
    count: int
    oldest: float


@dataclass(frozen=True, slots=True)
class QueueFacts:
    """What was read of one queue in a Redis."""

    queue: str
    waiting: int | Unanswered
    held: tuple[Held, ...] | Unanswered
    """For each time-out that a worker may have."""
    held_by_others: int | Unanswered
    """Messages of the queue in kombu's own keys: a worker without chunkspool has taken them."""
    other_apps: int | Unanswered
    """Messages that other apps of this database hold."""
    bound: tuple[str, ...] | Unanswered
    """Other queues that get a copy of each message."""
    set_aside: int | Unanswered
    """Messages that no worker could run."""


@dataclass(frozen=True, slots=True)
class OtherBroker:
    """What was read of one queue in a broker that is no Redis."""

    queue: str
    waiting: int
    consumers: int


def read_queue(
    url: str, logs_url: str, queue: str, redeliveries: Iterable[float], seconds: float
) -> QueueFacts | Unanswered:
    """Return what a Redis says of a queue. `redeliveries`: the visibility time-outs of its workers."""
    with closing(RedisQuestions(url, seconds)) as broker, closing(RedisQuestions(logs_url, seconds)) as logs:
        reached = broker.ask(lambda client: client.ping())
        if isinstance(reached, Unanswered):
            return reached
        others = broker.ask(partial(_read_others, queue=queue))
        return QueueFacts(
            queue,
            waiting=broker.ask(lambda client: _count(client.llen(queue))),
            held=broker.ask(partial(_read_held, queue=queue, redeliveries=sorted(set(redeliveries)))),
            held_by_others=others if isinstance(others, Unanswered) else others[1],
            other_apps=others if isinstance(others, Unanswered) else others[0],
            bound=broker.ask(partial(_read_bound, queue=queue)),
            set_aside=logs.ask(lambda client: _count(client.llen(QueueKeys(queue).dead_letters))),
        )


def read_other_broker(url: str, queue: str, seconds: float) -> OtherBroker | Unanswered:
    """Return what RabbitMQ, or whatever it is, says of a queue."""
    return within(seconds, partial(_declare_passively, url, queue, seconds))


def _declare_passively(url: str, queue: str, seconds: float) -> OtherBroker:
    from kombu.connection import Connection  # noqa: PLC0415 - here, because a Redis needs none of it

    broker = CeleryBroker.from_url(url)
    options: Any = {"ssl": broker.use_ssl or False, "connect_timeout": seconds}
    make: Any = Connection
    with make(broker.url, **options) as connection:
        connection.connect()
        with connection.channel() as channel:
            try:
                found = channel.queue_declare(queue=queue, passive=True)
            except connection.channel_errors:
                return OtherBroker(queue, 0, 0)  # it was never used
            return OtherBroker(queue, found.message_count, found.consumer_count)


def _read_held(client: redis.Redis, queue: str, redeliveries: Iterable[float]) -> tuple[Held, ...]:
    return tuple(_read_held_for(client, queue, seconds) for seconds in redeliveries)


def _read_held_for(client: redis.Redis, queue: str, seconds: float) -> Held:
    index = QueueKeys(queue).unacked(seconds)["unacked_index_key"]
    now = time.time()  # workers note the time by their own clocks
    due: Any = client.zcount(index, "-inf", now - seconds)
    first: Any = client.zrange(index, 0, 0, withscores=True)
    return Held(seconds, int(due), now - float(first[0][1]) if first else 0.0)


def _read_others(client: redis.Redis, queue: str) -> tuple[int, int]:
    """Return how many messages other apps hold, and how many of those that were looked at are of our queue."""
    count = _count(client.hlen(KOMBUS_OWN))
    if not count:
        return 0, 0
    _, found = _page(client.hscan(KOMBUS_OWN, count=LOOKED_AT))
    return count, sum(_is_of(stored, queue) for stored in found.values())


def _page(reply: Any) -> tuple[int, Mapping[Any, Any]]:
    return reply[0], reply[1]


def _is_of(stored: Any, queue: str) -> bool:
    """Tell whether a held message came from the queue; kombu stores the message, its exchange and its routing key."""
    try:
        _, exchange, routing_key = json.loads(stored)
    except ValueError:
        return False
    return queue in {exchange, routing_key}


def _read_bound(client: redis.Redis, queue: str) -> tuple[str, ...]:
    members: Any = client.smembers(f"_kombu.binding.{queue}")
    named = (as_text(one).split(_BETWEEN)[-1] for one in members)
    return tuple(sorted({name for name in named if name != queue}))


def _count(reply: Any) -> int:
    return int(reply)
