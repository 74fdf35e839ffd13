"""Hands a generation to Celery. The message holds ids only: Flower and logs show a task's arguments."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from chunkspool.errors import BrokerRefused, EnqueueFailed, StoreNotReady, without_password
from chunkspool.observer import NOBODY, Observer, Retried
from chunkspool.per_process import PerProcess
from chunkspool.retry import RetryBudget
from chunkspool.settings import Settings
from chunkspool.spool.refusals import explain_broker
from chunkspool.store.failover import LONGEST_PAUSE, PATIENCE
from chunkspool.store.slots import Turns
from chunkspool.store.translate import translate
from chunkspool.urls.broker_url import CeleryBroker

if TYPE_CHECKING:  # so that `import chunkspool` does not load Celery
    from celery import Celery

RETRY_POLICY = {"max_retries": 1, "interval_start": 0.1, "interval_max": 0.1}
"""One more try for a connection that went stale in the pool; an unreachable broker is the caller's to hear of. For it
kombu reconnects, also after an error reply: so it leaves a Redis that a failover has made a replica."""
CONNECTIONS = 10
"""Messages that are sent at the same time; more of them wait for each other."""

_IMPORT_LOCK = threading.Lock()
"""Celery's lazy module cannot stand threads that import from it for the first time at once (ImportError)."""


@dataclass(frozen=True, slots=True)
class _Broker:
    app: Celery
    connections: Any
    producers: Any
    turns: Turns
    """Before kombu's pool, which lets those who come later go first: on a busy process some would wait to the end."""


class Dispatcher:
    """Publishes through the app that was passed in, or through one of its own, made at the first message.

    Its connections are its own in both cases, and bounded in time: a Celery app waits for ever for a broker that has
    accepted a connection and then says nothing.
    """

    def __init__(self, settings: Settings, app: Celery | None = None, observer: Observer = NOBODY) -> None:
        """Connect nothing yet."""
        self._observer = observer
        self._settings = settings
        self._given = app
        self._broker = PerProcess(self._open_broker)

    def publish(self, tenant: str, chat_id: str, generation_id: str, queue: str, task: str) -> None:
        """Send the message to `queue`; its task id is the generation's id. Raises `EnqueueFailed` (`BrokerRefused`)."""
        try:
            self._send_until_ready((tenant, chat_id, generation_id), queue, task)
        except ValueError:
            # Not its text: of a URL that cannot be parsed it may quote a piece of the password.
            why = "the broker's URL is invalid; write a / or @ of its password as %2F or %40"
            raise EnqueueFailed(chat_id, generation_id, why) from None
        except Exception as error:
            # Whatever kept the message from the broker, the caller must hear of it and the generation must end.
            refused = explain_broker(error, "" if self._given else self._settings.broker, queue)
            if refused:
                raise BrokerRefused(chat_id, generation_id, *refused) from error
            why = without_password(str(error)) or type(error).__name__
            raise EnqueueFailed(chat_id, generation_id, why) from error

    def is_empty(self, queue: str) -> bool:
        """Tell whether no message waits in `queue`; False if the broker cannot be asked."""
        try:
            with self._broker.get().connections.acquire(
                block=True, timeout=self._settings.worker.publish_timeout
            ) as one:
                return _is_empty(one, queue)
        except Exception:  # noqa: BLE001 - whatever the broker or its client says: it is not known to be empty
            return False

    def close(self) -> None:
        """Close our connections, and the app if it is our own."""
        broker = self._broker.take()
        if broker is None:
            return
        broker.producers.force_close_all()
        broker.connections.force_close_all()
        if self._given is None:
            broker.app.close()

    def _send_until_ready(self, args: tuple[str, str, str], queue: str, task: str) -> None:
        """Send it; during a failover of the broker's Redis, try again. A second message would be harmless."""
        failover = RetryBudget(min(PATIENCE, self._settings.worker.publish_timeout))
        while True:
            try:
                return self._send(args, queue, task)
            except Exception as error:
                if not _is_not_ready(error):
                    raise
                pause = min(failover.pause_after(error), LONGEST_PAUSE)
            self._observer.observe(Retried("broker"))
            time.sleep(pause)

    def _send(self, args: tuple[str, str, str], queue: str, task: str) -> None:
        broker, timeout = self._broker.get(), self._settings.worker.publish_timeout
        with _take_producer(broker, timeout) as producer:
            broker.app.send_task(
                task,
                args=list(args),
                task_id=args[2],
                queue=queue,
                ignore_result=True,
                serializer="json",
                retry=True,
                retry_policy=RETRY_POLICY,
                confirm_timeout=timeout,
                producer=producer,
            )

    def _open_broker(self) -> _Broker:
        with _IMPORT_LOCK:
            app = self._given or self._make_app()
            return _Broker(app, *self._make_pools(app), Turns(CONNECTIONS))

    def _make_app(self) -> Celery:
        from celery import Celery  # noqa: PLC0415 - here, so that readers never load Celery

        broker = CeleryBroker.from_url(self._settings.broker)
        app = Celery("chunkspool-client", broker=broker.url, set_as_current=False)
        # Celery prefers CELERY_BROKER_URL to the URL above, but not to these.
        app.conf.update(broker_read_url=broker.url, broker_write_url=broker.url)
        app.conf.update(broker_use_ssl=broker.use_ssl, broker_transport_options=broker.transport_options)
        app.conf.update(task_serializer="json", accept_content=["json"])
        return app

    def _make_pools(self, app: Celery) -> tuple[Any, Any]:
        from kombu.pools import ProducerPool  # noqa: PLC0415 - as above

        timeout = self._settings.worker.publish_timeout
        # The times are for Redis. RabbitMQ is asked to confirm: it takes nothing before it says so.
        options: dict[str, Any] = {"socket_connect_timeout": timeout / 2, "socket_timeout": timeout}
        options |= {"confirm_publish": True} | app.conf.broker_transport_options
        if "sentinel_kwargs" in options:
            # redis-py would ask a Sentinel that is down eleven times before it asks the next one.
            options["sentinel_kwargs"] = {"retry": Retry(NoBackoff(), 0), **options["sentinel_kwargs"]}
        connections = app.connection_for_write(connect_timeout=timeout, transport_options=options).Pool(CONNECTIONS)
        return connections, ProducerPool(connections, limit=CONNECTIONS)  # type: ignore[no-untyped-call]


def _is_empty(connection: Any, queue: str) -> bool:
    with connection.channel() as channel:
        try:
            return not channel.queue_declare(queue=queue, passive=True).message_count
        except connection.channel_errors:
            return True  # the queue does not exist: it was never used


@contextmanager
def _take_producer(broker: _Broker, timeout: float) -> Iterator[Any]:
    """Hold one of the connections within the block. Raises `TimeoutError`."""
    deadline = time.monotonic() + timeout
    busy = TimeoutError(f"no connection to the broker became free within {timeout:g} seconds")
    if not broker.turns.acquire(timeout):
        raise busy
    try:
        try:
            acquired = broker.producers.acquire(block=True, timeout=max(deadline - time.monotonic(), 0.001))
        except broker.producers.LimitExceeded:
            raise busy from None
        with acquired as producer:
            yield producer
    finally:
        broker.turns.release()


def _is_not_ready(error: Exception) -> bool:
    """Tell whether the broker is a Redis in a failover; kombu wraps some of its errors into others."""
    if isinstance(error, AttributeError):
        return True  # kombu 5.7 reads the host's name from a connection that was lost a moment ago
    causes = [one for one in (error, error.__cause__) if isinstance(one, RedisError)]
    return any(isinstance(translate(one), StoreNotReady) for one in causes)
