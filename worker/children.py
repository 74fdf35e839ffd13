"""Lets the prefork pool notice soon that one of its processes was killed, and give that one's task to another."""

from __future__ import annotations

from typing import Any

from celery import bootsteps
from celery.concurrency.prefork import TaskPool

LOOK = 0.5
"""Seconds between two looks."""


class Children(bootsteps.StartStopStep):
    """Looks after the pool's processes more often than Celery does.

    Celery looks when a process closes its pipe, which a killed one does a moment before the kernel calls it dead, and
    otherwise every five seconds: so long its task's message would wait.
    """

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Any, **options: Any) -> None:
        """Take part only where the pool has processes."""
        super().__init__(consumer, **options)
        self._timer: Any = None
        self.enabled = isinstance(consumer.pool, TaskPool)

    def start(self, consumer: Any) -> None:
        """Begin to look; called again after each reconnect."""
        self._timer = consumer.timer.call_repeatedly(LOOK, consumer.pool.maintain_pool)

    def stop(self, _consumer: Any) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
