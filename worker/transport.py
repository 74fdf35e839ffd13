"""kombu's Redis transport, with its faults mended where messages got delayed, lost or taken from their worker."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from queue import Empty
from typing import Any

from celery.utils.log import get_logger
from celery.worker import state as worker_state
from kombu.exceptions import OperationalError
from kombu.transport import TRANSPORT_ALIASES, virtual
from kombu.transport import redis as kombu_redis
from kombu.utils.uuid import uuid
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as Unreachable
from redis.exceptions import RedisError
from redis.retry import Retry

from chunkspool.errors import StoreError
from chunkspool.worker.dead_letters import set_aside

logger = get_logger(__name__)

_REPLIES = ".reply.celery.pidbox"


def _is_shutting_down() -> bool:
    return worker_state.should_stop is not None


class WorkerMessage(virtual.Message):
    """A message with a delivery tag of its own for every delivery."""

    def __init__(self, payload: dict[str, Any], channel: Any = None, **options: Any) -> None:
        """Replace the tag, which the sender chose: a redelivered message would have the same one again.

        The tag is the key under which Redis keeps the unacknowledged message. Suppose that a worker stands still for so
        long that its message goes to another one. With a shared tag, the late worker's acknowledgement would remove
        the other's entry; if the other then died, nobody would get the message again.
        """
        payload["properties"]["delivery_tag"] = uuid()
        super().__init__(payload, channel=channel, **options)  # type: ignore[no-untyped-call]


class WorkerQoS(kombu_redis.QoS):
    """A channel's unacknowledged messages, and how many more it may take."""

    def can_consume(self) -> bool:
        """Take no more messages once the worker is shutting down.

        kombu polls the queue once more in the loop's last round. A message taken there would wait in this worker until
        its last task has ended, while other workers are idle.
        """
        return not _is_shutting_down() and bool(super().can_consume())  # type: ignore[no-untyped-call]

    def restore_visible(self, start: int = 0, num: int = 10, interval: int = 10) -> Any:
        """Requeue dead workers' messages, under a lock that a clock of the server that was set back cannot hold.

        Only who takes messages does so: kombu would let Flower do it, too, while it waits for the replies to a command.
        """
        queues = self.channel.active_queues
        if queues and all(queue.endswith(_REPLIES) for queue in queues):
            return None
        with self.channel.conn_or_acquire() as client:
            if client.pttl(self.unacked_mutex_key) > self.unacked_mutex_expire * 1000:
                client.delete(self.unacked_mutex_key)
        return super().restore_visible(start, num, interval)  # type: ignore[no-untyped-call]

    def restore_by_tag(self, tag: Any, client: Any = None, leftmost: bool = False) -> None:  # noqa: FBT001, FBT002 - kombu's signature
        """Requeue a message; during a shutdown to the front of the queue, because it has waited its time already.

        kombu pushes on the left and pops from the right. It requeues rejected messages on the left, which is the end of
        the queue: a person in mid-answer would wait behind everyone who has just asked.
        """
        super().restore_by_tag(tag, client, leftmost=leftmost and not _is_shutting_down())  # type: ignore[no-untyped-call]


class WorkerChannel(kombu_redis.Channel):
    """A channel with the messages and the QoS above. It also survives a lost connection and leaves no reply unread."""

    Message = WorkerMessage
    QoS = WorkerQoS
    _shared: Any = None

    def _create_client(self, asynchronous: bool = False) -> Any:  # noqa: FBT001, FBT002 - kombu's signature
        client = super()._create_client(asynchronous)  # type: ignore[no-untyped-call]
        client.response_callbacks["BRPOP"] = self._check_popped
        return client

    @contextmanager
    def conn_or_acquire(self, client: Any = None) -> Iterator[Any]:
        """Provide a client, the same one each time. kombu makes a new one for every command, which costs more than it.

        It holds no connection of its own, so it may serve several at once; a new pool gets a new client.
        """
        if client is None and (self._shared is None or self._shared.connection_pool is not self.pool):
            self._shared = self._create_client()
        yield self._shared if client is None else client

    def _check_popped(self, reply: Any, **_options: object) -> tuple[bytes, bytes] | None:
        # Anybody may push anything to the queue. What is no message raises where kombu reads it, after it was popped:
        # it would be lost, and the worker's main process would end.
        if not reply:
            return None
        key, popped = reply
        try:
            message = self.Message(json.loads(popped), channel=self)
            _ = (message.delivery_info["exchange"], message.delivery_info["routing_key"])
            _ = hash(message.headers.get("task"))
        except Exception as error:  # noqa: BLE001 - whatever it holds, the worker must live
            self._set_aside(key, popped, f"is no message of Celery ({type(error).__name__})")
            return None
        return key, popped

    def _set_aside(self, key: bytes, popped: bytes, why: str) -> None:
        try:
            set_aside(key.decode().rsplit(self.sep, 1)[0], popped, why)
        except (RedisError, StoreError, OSError):
            with self.conn_or_acquire() as client:
                client.lpush(key, popped)
            raise

    def _deliver_fanout_message(self, message: Any, exchange: str) -> bool:
        # A command or an event of another program, of any shape: Celery's own are lost when nobody listens, too.
        try:
            return bool(super()._deliver_fanout_message(message, exchange))  # type: ignore[no-untyped-call]
        except (RedisError, OSError):
            raise
        except Exception as error:  # noqa: BLE001 - as above
            what = type(error).__name__
            logger.warning("a command or event on %r is none of Celery's (%s)", exchange, what)
            raise Empty from None

    def _basic_cancel(self, consumer_tag: Any) -> Any:
        done = super()._basic_cancel(consumer_tag)  # type: ignore[no-untyped-call]
        if _is_shutting_down() and self._in_poll and not self.active_queues:
            self._requeue_reply_of_pending_pop()
        return done

    def _requeue_reply_of_pending_pop(self) -> None:
        # A BRPOP cannot be taken back: Redis still answers it, perhaps with a message. kombu reads the reply only when
        # it closes the channel, after the last task, and until then the message is nowhere. It has no consumer any
        # more, so reading it now makes kombu requeue it. Redis answers after `brpop_timeout` at the latest.
        if self.client.connection.can_read(self.brpop_timeout + 1):
            with suppress(Empty):
                self._brpop_read()  # type: ignore[no-untyped-call]

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:  # noqa: FBT001, FBT002 - kombu's signature
        # kombu 5.7 reads the host name from a connection that is gone after a restart of Redis. Celery reconnects after
        # a connection error, but what comes is an AttributeError, which ends the worker's main process.
        if self.connection is None or self.connection.client is None:
            raise Unreachable("the broker's connection was lost")
        params: dict[str, Any] = super()._connparams(asynchronous)  # type: ignore[no-untyped-call]
        return params


class WorkerTransport(kombu_redis.Transport):
    """The transport of redis:// and rediss:// URLs.

    Whatever Redis replies, Celery reconnects: in a failover (UNBLOCKED, READONLY), when it takes no writes (MISCONF,
    NOREPLICAS), when a key has another type, when a right is missing. By itself Celery ends the worker after an error
    that it does not expect.
    """

    Channel = WorkerChannel
    connection_errors = (*kombu_redis.Transport.connection_errors, RedisError, OperationalError)


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
    """Make kombu use these transports for Redis URLs, in this process.

    Celery's setting `broker_transport` would do so, too, but it becomes part of the broker's URL, which Flower then
    cannot parse.
    """
    for scheme, transport in (
        ("redis", WorkerTransport),
        ("rediss", WorkerTransport),
        ("sentinel", WorkerSentinelTransport),
    ):
        TRANSPORT_ALIASES[scheme] = f"{__name__}:{transport.__name__}"
