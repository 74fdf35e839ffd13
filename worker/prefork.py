"""The prefork pool: notices a killed child soon, and survives one that dies while the broker is unreachable."""

from __future__ import annotations

from typing import Any

from celery import bootsteps
from celery.concurrency import prefork
from celery.concurrency.asynpool import AsynPool

CHECK_SECONDS = 0.5
"""Seconds between two checks of the pool's children."""


class ChildMonitor(bootsteps.StartStopStep):
    """Checks the pool's children more often than Celery does.

    Celery checks when a child's pipe closes. But a killed child's pipe closes a moment before the kernel reports it as
    dead, so that check finds nothing, and the next one is due five seconds later. The message of its task would wait
    that long.
    """

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Any, **options: Any) -> None:
        """Enable the step only if the pool has children."""
        super().__init__(consumer, **options)
        self._timer: Any = None
        self.enabled = isinstance(consumer.pool, prefork.TaskPool)

    def start(self, consumer: Any) -> None:
        """Start checking; called again after each reconnect."""
        self._timer = consumer.timer.call_repeatedly(CHECK_SECONDS, consumer.pool.maintain_pool)

    def stop(self, _consumer: Any) -> None:
        """Stop checking."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Pool(AsynPool):
    """A pool that does not watch a child whose death it has noticed already."""

    def _track_child_process(self, proc: Any, hub: Any) -> None:
        # Celery 5.7 registers all children again after each reconnect. A child that died, and was not replaced because
        # the broker was lost again at that moment, has no descriptor any more. Registering it raises a ValueError, and
        # that ends the worker. The child may be left out, because the next check replaces it.
        if getattr(proc, "_sentinel_poll", proc) is not None:
            super()._track_child_process(proc, hub)


def install() -> None:
    """Make Celery use this pool."""
    prefork.TaskPool.Pool = Pool
