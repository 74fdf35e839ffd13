"""Renews the messages of generations that a living worker holds, so that a dead worker's are redelivered soon."""

from __future__ import annotations

import threading
import time
from typing import Any

from celery import bootsteps
from celery.utils.log import get_logger
from redis.exceptions import RedisError

from chunkspool.tasks.equipment import equipment_of

logger = get_logger(__name__)

RENEWALS = 3
"""Renewals within the visibility time-out: two of them may fail."""


class VisibilityRenewal(bootsteps.StartStopStep):
    """Renews the time of the held messages in the broker's index of unacknowledged ones.

    A message that has been held for longer than `redelivery` is delivered again (worker/transport.py). By itself kombu
    cannot tell a long task from a dead worker, so its time-out must be longer than the longest task. With the renewal
    ours only says how soon a death is noticed, and can be short. Other brokers than Redis notice a lost connection
    themselves.

    The renewal runs in a thread because Celery's own timers stand still exactly when it is needed: while a solo worker
    runs a task, and while a worker that is shutting down waits for its last tasks.
    """

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Any, **options: Any) -> None:
        """Enable the step only if the broker is a Redis."""
        super().__init__(consumer, **options)
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self.enabled = consumer.app.connection_for_read().transport.driver_type == "redis"

    def start(self, consumer: Any) -> None:
        """Start renewing; called again after each reconnect."""
        if self._thread is None:
            interval = equipment_of(consumer.app).settings.worker.redelivery / RENEWALS
            self._thread = threading.Thread(
                target=self._run, args=(consumer, interval), name="chunkspool-messages", daemon=True
            )
            self._thread.start()

    def stop(self, _consumer: Any) -> None:
        """Go on renewing: the consumer stops before the pool, and messages are held until the last task has ended."""

    def shutdown(self, _consumer: Any) -> None:
        """Stop renewing."""
        self._stopping.set()

    def renew(self, consumer: Any) -> None:
        """Give all held messages a new time."""
        if consumer.task_consumer is None:
            return
        channel = consumer.task_consumer.channel
        redelivery = getattr(channel, "redelivery", None)
        if redelivery is None:
            return
        now = time.time()
        # A copy: the main thread adds and removes messages meanwhile. Those of other tasks are not in this index, so
        # they are not renewed: Celery treats them as it always does.
        held = dict.fromkeys(list(channel.qos._delivered), now)  # noqa: SLF001 - kombu has no other list of them
        if held:
            with channel.conn_or_acquire() as client:
                # XX: a message that was acknowledged or requeued meanwhile must not come back into the index.
                client.zadd(redelivery.unacked_index_key, held, xx=True)

    def _run(self, consumer: Any, interval: float) -> None:
        while not self._stopping.wait(interval):
            try:
                self.renew(consumer)
            except (RedisError, OSError) as error:
                # Celery's loop notices a lost connection itself, and then kombu requeues the held messages.
                logger.warning("could not renew the held messages: %s", error)
            except Exception:
                # A dead thread would mean no renewal ever again, and running tasks would be given to other workers.
                logger.exception("could not renew the held messages")
