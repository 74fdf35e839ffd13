"""kombu's Redis transport, fit for workers that live through a restart of Redis and end without delaying a message."""

from __future__ import annotations

from contextlib import suppress
from queue import Empty
from typing import Any

from celery.worker import state as worker_state
from kombu.transport import TRANSPORT_ALIASES, virtual
from kombu.transport import redis as kombu_redis
from kombu.utils.uuid import uuid
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as Unreachable
from redis.retry import Retry


def _is_ending() -> bool:
    return worker_state.should_stop is not None


class WorkerMessage(virtual.Message):
    """A message as one consumer got it, under a tag of its own."""

    def __init__(self, payload: dict[str, Any], channel: Any = None, **options: Any) -> None:
        """Give it a tag: kombu's comes from whoever sent it, and a redelivered message would have its first one.

        Then a worker that has been away for too long would take the message from the one that has it now, by
        acknowledging its own; if that other one died, the message would be lost.
        """
        payload["properties"]["delivery_tag"] = uuid()
        super().__init__(payload, channel=channel, **options)  # type: ignore[no-untyped-call]


class WorkerQoS(kombu_redis.QoS):
    """Keeps the books of a channel's messages."""

    def can_consume(self) -> bool:
        """Take nothing more once the worker is to end: it would wait there for as long as the others take."""
        return not _is_ending() and bool(super().can_consume())  # type: ignore[no-untyped-call]

    def restore_by_tag(self, tag: Any, client: Any = None, leftmost: bool = False) -> None:  # noqa: FBT001, FBT002 - kombu's signature
        """Give a message back; by a worker that ends, to the front of the queue: it has waited its time already."""
        super().restore_by_tag(tag, client, leftmost=leftmost and not _is_ending())  # type: ignore[no-untyped-call]


class WorkerChannel(kombu_redis.Channel):
    """A channel whose messages have one owner, and whose connection may be collected before it notices."""

    Message = WorkerMessage
    QoS = WorkerQoS

    def _basic_cancel(self, consumer_tag: Any) -> Any:
        done = super()._basic_cancel(consumer_tag)  # type: ignore[no-untyped-call]
        if _is_ending() and self._in_poll and not self.active_queues:
            self._give_back_what_comes()
        return done

    def _give_back_what_comes(self) -> None:
        # Redis still answers the BRPOP that is under way, perhaps with a message. kombu reads that only when the
        # channel is closed, after the last task. Without a consumer, what is read goes back to the queue.
        if self.client.connection.can_read(self.brpop_timeout + 1):
            with suppress(Empty):
                self._brpop_read()  # type: ignore[no-untyped-call]

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:  # noqa: FBT001, FBT002 - kombu's signature
        # kombu 5.7 reads the host's name off a connection that a restart of Redis has already taken away. The
        # AttributeError is none of the errors after which Celery connects anew: the worker's main process dies.
        if self.connection is None or self.connection.client is None:
            raise Unreachable("the broker's connection was lost")
        params: dict[str, Any] = super()._connparams(asynchronous)  # type: ignore[no-untyped-call]
        return params


class WorkerTransport(kombu_redis.Transport):
    """The transport of redis:// and rediss:// URLs."""

    Channel = WorkerChannel


class WorkerSentinelChannel(WorkerChannel, kombu_redis.SentinelChannel):
    """The same, with connections to the server that Redis Sentinel calls the primary."""

    def _sentinel_managed_pool(self, asynchronous: bool = False) -> Any:  # noqa: FBT001, FBT002 - kombu's signature
        # redis-py would ask a Sentinel that is down eleven times before it asks the next one.
        self.sentinel_kwargs = {"retry": Retry(NoBackoff(), 0), **getattr(self, "sentinel_kwargs", {})}
        return super()._sentinel_managed_pool(asynchronous)  # type: ignore[no-untyped-call]


class WorkerSentinelTransport(WorkerTransport, kombu_redis.SentinelTransport):
    """The transport of sentinel:// URLs."""

    Channel = WorkerSentinelChannel


def install() -> None:
    """Make kombu take them for its own, in this process.

    Named by Celery's `broker_transport` instead, they would stand in the broker's URL, which Flower then cannot read.
    """
    for scheme, transport in (
        ("redis", WorkerTransport),
        ("rediss", WorkerTransport),
        ("sentinel", WorkerSentinelTransport),
    ):
        TRANSPORT_ALIASES[scheme] = f"{__name__}:{transport.__name__}"
