"""Renews the visibility of the messages that a living worker holds, so that a dead worker's come back soon."""

from __future__ import annotations

import threading
import time
from typing import Any

from celery import bootsteps
from celery.utils.log import get_logger
from redis.exceptions import RedisError

logger = get_logger(__name__)

RENEWALS = 3
"""Renewals within the visibility time-out: two may be lost."""


class VisibilityRenewal(bootsteps.StartStopStep):
    """Renews the time of the held messages in the broker's index of unacknowledged ones.

    kombu gives a message to another worker when it has been held for longer than `visibility_timeout`, and cannot
    tell a long task from a dead worker. With the renewal it can: the time-out no longer bounds a task's length, only a
    death's discovery, and may be short. Other brokers than Redis notice a lost connection by themselves.

    It is done in a thread: Celery's loop stands still while a solo worker runs a task, and when a worker that is
    asked to end waits for its last ones.
    """

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Any, **options: Any) -> None:
        """Take part only where the broker is a Redis."""
        super().__init__(consumer, **options)
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self.enabled = consumer.app.connection_for_read().transport.driver_type == "redis"

    def start(self, consumer: Any) -> None:
        """Begin to renew; called again after each reconnect."""
        if self._thread is None:
            every = consumer.app.conf.broker_transport_options["visibility_timeout"] / RENEWALS
            self._thread = threading.Thread(
                target=self._run, args=(consumer, every), name="chunkspool-messages", daemon=True
            )
            self._thread.start()

    def stop(self, _consumer: Any) -> None:
        """Go on: messages are held until the pool has ended, too."""

    def shutdown(self, _consumer: Any) -> None:
        """Renew no more."""
        self._over.set()

    def renew(self, consumer: Any) -> None:
        """Give all held messages a new time; those that are acknowledged or restored meanwhile stay so (XX)."""
        if consumer.task_consumer is None:
            return
        channel = consumer.task_consumer.channel
        now = time.time()
        held = dict.fromkeys(list(channel.qos._delivered), now)  # noqa: SLF001 - kombu has no other list of them
        if held:
            with channel.conn_or_acquire() as client:
                client.zadd(channel.unacked_index_key, held, xx=True)

    def _run(self, consumer: Any, every: float) -> None:
        while not self._over.wait(every):
            try:
                self.renew(consumer)
            except (RedisError, OSError) as error:
                # Celery's loop notices a lost connection by itself, and requeues them.
                logger.warning("messages are held but could not be renewed: %s", error)
            except Exception:
                # Whatever it is, it must not end the renewals for good.
                logger.exception("messages are held but could not be renewed")
