"""Keeps the worker's messages its own while it lives, so that a dead worker's can be given to another one soon."""

from __future__ import annotations

import time
from typing import Any

from celery import bootsteps
from celery.utils.log import get_logger
from redis.exceptions import RedisError

logger = get_logger(__name__)

RENEWALS = 3
"""Renewals within the visibility time-out: two may be lost."""


class MessageLease(bootsteps.StartStopStep):
    """Renews the held messages' time in the broker's index of unacknowledged ones.

    kombu gives a message to another worker when it has been held for longer than `visibility_timeout`, and cannot
    tell a long task from a dead worker. With the renewal it can: the time-out no longer bounds a task's length, only a
    death's discovery, and may be short. Other brokers than Redis notice a lost connection by themselves.
    """

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Any, **options: Any) -> None:
        """Take part only where the broker is a Redis."""
        super().__init__(consumer, **options)
        self._timer: Any = None
        self.enabled = consumer.app.connection_for_read().transport.driver_type == "redis"

    def start(self, consumer: Any) -> None:
        """Begin to renew; called again after each reconnect."""
        every = consumer.app.conf.broker_transport_options["visibility_timeout"] / RENEWALS
        self._timer = consumer.timer.call_repeatedly(every, self.renew, (consumer,))

    def stop(self, _consumer: Any) -> None:
        """Renew no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def renew(self, consumer: Any) -> None:
        """Give all held messages a new time; those that are acknowledged or restored meanwhile stay so (XX)."""
        channel = consumer.task_consumer.channel
        now = time.time()
        held = dict.fromkeys(list(channel.qos._delivered), now)  # noqa: SLF001 - kombu has no other list of them
        if not held:
            return
        try:
            with channel.conn_or_acquire() as client:
                client.zadd(channel.unacked_index_key, held, xx=True)
        except (RedisError, OSError) as error:
            # Not to be raised into the worker's loop, which notices a lost connection by itself and requeues them.
            logger.warning("messages are held but could not be renewed: %s", error)
