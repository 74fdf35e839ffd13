"""The prefork pool: a killed child is noticed soon, and does not end the worker while the broker is unreachable."""

from __future__ import annotations

from typing import Any

from celery import bootsteps
from celery.concurrency import prefork
from celery.concurrency.asynpool import AsynPool

INTERVAL = 0.5
"""Seconds between two checks of the children."""


class ChildMonitor(bootsteps.StartStopStep):
    """Checks the pool's processes more often than Celery does.

    Celery checks when a process closes its pipe, which a killed one does a moment before the kernel calls it dead, and
    otherwise every five seconds: that is how long its task's message would wait.
    """

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Any, **options: Any) -> None:
        """Take part only where the pool has processes."""
        super().__init__(consumer, **options)
        self._timer: Any = None
        self.enabled = isinstance(consumer.pool, prefork.TaskPool)

    def start(self, consumer: Any) -> None:
        """Begin to check; called again after each reconnect."""
        self._timer = consumer.timer.call_repeatedly(INTERVAL, consumer.pool.maintain_pool)

    def stop(self, _consumer: Any) -> None:
        """Check no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Pool(AsynPool):
    """A pool that does not listen for the end of a child whose end it has heard of already."""

    def _track_child_process(self, proc: Any, hub: Any) -> None:
        # After each reconnect Celery 5.7 registers all children again. One that has died and could not yet be replaced,
        # because the broker was lost again meanwhile, has no descriptor any more: ValueError, and the worker ends.
        # The pool's timer replaces it.
        if getattr(proc, "_sentinel_poll", proc) is not None:
            super()._track_child_process(proc, hub)


def install() -> None:
    """Make Celery use this pool."""
    prefork.TaskPool.Pool = Pool
