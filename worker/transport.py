"""kombu's Redis transport, with its faults mended where messages got delayed, lost or taken from their worker."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from queue import Empty
from typing import Any, Final

from celery.utils.log import get_logger
from celery.worker import state as worker_state
from kombu import transport as kombu_transport
from kombu.exceptions import OperationalError
from kombu.transport import redis as kombu_redis
from kombu.transport import virtual
from kombu.utils.uuid import uuid
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as Unreachable
from redis.exceptions import RedisError
from redis.retry import Retry

from chunkspool.errors import StoreError
from chunkspool.worker.dead_letters import set_aside
from chunkspool.worker.redelivery import OPTION, Redelivery

logger = get_logger(__name__)

CHECK_SECONDS: Final = 1.0
"""Seconds between two looks for messages of generations that nobody has renewed."""
REQUEUED_MAX: Final = 1000
"""Messages that one look requeues."""
_GENERATION: Final = "generation:"
"""How the tag of a message begins that is held apart from those of other tasks."""
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
        info = payload["properties"].get("delivery_info") or {}
        redelivery = getattr(channel, "redelivery", None)
        is_held_apart = redelivery is not None and redelivery.holds(info.get("routing_key"))
        payload["properties"]["delivery_tag"] = (_GENERATION if is_held_apart else "") + uuid()
        super().__init__(payload, channel=channel, **options)  # type: ignore[no-untyped-call]


class WorkerQoS(kombu_redis.QoS):
    """A channel's unacknowledged messages, and how many more it may take."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """Look for messages to requeue at the first opportunity."""
        super().__init__(*arguments, **options)  # type: ignore[no-untyped-call]
        self._next_look = 0.0

    def can_consume(self) -> bool:
        """Take no more messages once the worker is shutting down.

        kombu polls the queue once more in the loop's last round. A message taken there would wait in this worker until
        its last task has ended, while other workers are idle.
        """
        return not _is_shutting_down() and bool(super().can_consume())  # type: ignore[no-untyped-call]

    def append(self, message: Any, delivery_tag: str) -> None:
        """Hold a message until it is acknowledged."""
        held = self._redelivery_of(delivery_tag)
        if held is None:
            super().append(message, delivery_tag)  # type: ignore[no-untyped-call]
            return
        info = message.delivery_info
        entry = json.dumps([message._raw, info["exchange"], info["routing_key"]])  # noqa: SLF001 - as kombu's own
        with self.pipe_or_acquire() as pipe:
            pipe.zadd(held.unacked_index_key, {delivery_tag: time.time()})
            pipe.hset(held.unacked_key, delivery_tag, entry)
            pipe.execute()
        virtual.QoS.append(self, message, delivery_tag)  # type: ignore[no-untyped-call]

    def restore_visible(self, start: int = 0, num: int = 10, interval: int = 10) -> None:
        """Requeue dead workers' messages, under a lock that a clock of the server that was set back cannot hold.

        Only who takes messages does so: kombu would let Flower do it, too, while it waits for the replies to a command.
        """
        queues = self.channel.active_queues
        if queues and all(queue.endswith(_REPLIES) for queue in queues):
            return
        self.requeue_unrenewed()
        redelivery = self.channel.redelivery
        if redelivery is not None and (not redelivery.queues or (queues and all(map(redelivery.holds, queues)))):
            return  # what lies in kombu's own keys is other people's
        with self.channel.conn_or_acquire() as client:
            self._free_lock(client, self.unacked_mutex_key, self.unacked_mutex_expire)
        super().restore_visible(start, num, interval)  # type: ignore[no-untyped-call]

    def requeue_unrenewed(self) -> None:
        """Requeue the messages of generations that nobody has renewed in time, if it is time to look for them."""
        held = self.channel.redelivery
        if held is None or time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + CHECK_SECONDS
        with self.channel.conn_or_acquire() as client:
            self._free_lock(client, held.unacked_mutex_key, 1)
            # The lock only saves work: requeueing a message is one transaction, which succeeds once however many try.
            with suppress(kombu_redis.MutexHeld), kombu_redis.Mutex(client, held.unacked_mutex_key, 1):
                due = time.time() - held.seconds
                tags = client.zrange(
                    held.unacked_index_key, due, 0, desc=True, byscore=True, offset=0, num=REQUEUED_MAX
                )
                for tag in tags:
                    self._requeue(tag, held, client, leftmost=False)

    def restore_by_tag(self, tag: Any, client: Any = None, leftmost: bool = False) -> None:  # noqa: FBT001, FBT002 - kombu's signature
        """Requeue a message; during a shutdown to the front of the queue, because it has waited its time already.

        kombu pushes on the left and pops from the right. It requeues rejected messages on the left, which is the end of
        the queue: a person in mid-answer would wait behind everyone who has just asked.
        """
        leftmost = leftmost and not _is_shutting_down()
        held = self._redelivery_of(tag)
        if held is None:
            super().restore_by_tag(tag, client, leftmost=leftmost)  # type: ignore[no-untyped-call]
            return
        with self.channel.conn_or_acquire(client) as connected:
            self._requeue(tag, held, connected, leftmost=leftmost)

    def _remove_from_indices(self, delivery_tag: Any, pipe: Any = None) -> Any:
        held = self._redelivery_of(delivery_tag)
        if held is None:
            return super()._remove_from_indices(delivery_tag, pipe)  # type: ignore[no-untyped-call]
        with self.pipe_or_acquire(pipe) as acquired:
            return _forget(acquired, delivery_tag, held)

    def _requeue(self, tag: Any, held: Redelivery, client: Any, *, leftmost: bool) -> None:
        def requeue(pipe: Any) -> None:
            stored = pipe.hget(held.unacked_key, tag)
            pipe.multi()
            _forget(pipe, tag, held)
            if stored:
                self.channel._do_restore_message(*json.loads(stored), pipe, leftmost)  # noqa: SLF001 - kombu's own way

        client.transaction(requeue, held.unacked_key)

    def _redelivery_of(self, tag: Any) -> Redelivery | None:
        redelivery: Redelivery | None = self.channel.redelivery
        is_apart = redelivery is not None and (not redelivery.queues or _text(tag).startswith(_GENERATION))
        return redelivery if is_apart else None

    def _free_lock(self, client: Any, key: str, seconds: int) -> None:
        # kombu's client puts the app's `global_keyprefix` before the key of a DEL, but not before that of a PTTL.
        if client.pttl(f"{self.channel.global_keyprefix}{key}") > seconds * 1000:
            client.delete(key)


def _text(tag: str | bytes) -> str:
    return tag.decode() if isinstance(tag, bytes) else tag


def _forget(pipe: Any, tag: Any, held: Redelivery) -> Any:
    return pipe.zrem(held.unacked_index_key, tag).hdel(held.unacked_key, tag)


class WorkerChannel(kombu_redis.Channel):
    """A channel with the messages and the QoS above. It also survives a lost connection and leaves no reply unread."""

    Message = WorkerMessage
    QoS = WorkerQoS
    from_transport_options: Any = (*kombu_redis.Channel.from_transport_options, OPTION)
    chunkspool_redelivery: dict[str, Any] | None = None
    _shared: Any = None

    @cached_property
    def redelivery(self) -> Redelivery | None:
        """How the messages of generations are held; None in a process that serves none of their queues."""
        option = self.chunkspool_redelivery
        return None if option is None else Redelivery.from_option(option)

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

    def _restore(self, message: Any, leftmost: bool = False) -> Any:  # noqa: FBT001, FBT002 - kombu's signature
        # kombu's own goes by the keys of other tasks.
        if not self.ack_emulation:
            return super()._restore(message, leftmost)  # type: ignore[no-untyped-call]
        return self.qos.restore_by_tag(message.delivery_tag, leftmost=leftmost)

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
            # kombu takes the prefix away after this, and puts it before the key of whatever is sent.
            name = key.decode().removeprefix(self.global_keyprefix)
            self._set_aside(name, popped, f"is no message of Celery ({type(error).__name__})")
            return None
        return key, popped

    def _set_aside(self, key: str, popped: bytes, why: str) -> None:
        try:
            set_aside(key.rsplit(self.sep, 1)[0], popped, why)
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
    cycle: Any

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:
        """Look for dead workers' generations, too, more often than kombu looks for other tasks."""
        super().register_with_event_loop(connection, loop)  # type: ignore[no-untyped-call]
        # kombu registers anew after each reconnect, and keeps its timers at this object for the same reason.
        before = getattr(self.cycle, "chunkspool_timer", None)
        if before is not None:
            before.cancel()
        self.cycle.chunkspool_timer = loop.call_repeatedly(CHECK_SECONDS, self._requeue_unrenewed)

    def _requeue_unrenewed(self) -> None:
        for channel in list(self.cycle._channels):  # noqa: SLF001 - kombu has no other list of them
            if channel.active_queues and channel.ack_emulation:
                with suppress(*channel.connection_errors):  # the main loop notices it, too, and reconnects
                    channel.qos.requeue_unrenewed()

    connection_errors = (*kombu_redis.Transport.connection_errors, RedisError, OperationalError)


class WorkerSentinelChannel(WorkerChannel, kombu_redis.SentinelChannel):
    """The same, with connections to the server that Redis Sentinel calls the primary."""

    from_transport_options: Any = (*kombu_redis.SentinelChannel.from_transport_options, OPTION)

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
        kombu_transport.TRANSPORT_ALIASES[scheme] = f"{__name__}:{transport.__name__}"
        # kombu remembers what it has looked up, and Celery looks once before the worker is told of its queues.
        kombu_transport._transport_cache.pop(scheme, None)  # noqa: SLF001 - as above
