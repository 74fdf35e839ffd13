"""Celery's prefork pool, without the error that ends a worker whose child has died while its broker was away."""

from __future__ import annotations

from typing import Any

from celery.concurrency import prefork
from celery.concurrency.asynpool import AsynPool


class Pool(AsynPool):
    """A pool that does not listen for the end of a child whose end it has heard of already."""

    def _track_child_process(self, proc: Any, hub: Any) -> None:
        # After each reconnect Celery 5.7 registers all children anew. One that has died and could not yet be replaced,
        # because the broker was lost again meanwhile, has no descriptor any more: ValueError, and the worker ends.
        # The pool's timer replaces it.
        if getattr(proc, "_sentinel_poll", proc) is not None:
            super()._track_child_process(proc, hub)


def install() -> None:
    """Make Celery take it for its own."""
    prefork.TaskPool.Pool = Pool
