"""Lets the worker's main process look from time to time for generations that are lost."""

from __future__ import annotations

import threading
from typing import Any

from celery import bootsteps
from celery.utils.log import get_logger

logger = get_logger(__name__)

TASK = "chunkspool.sweep"


class Sweeper(bootsteps.StartStopStep):
    """Runs the task in a thread of its own, not by a message: where messages get lost, that one would, too."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Any, **options: Any) -> None:
        """Do nothing yet."""
        super().__init__(consumer, **options)
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, consumer: Any) -> None:
        """Begin; called again after each reconnect."""
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._run, args=(consumer.app,), name="chunkspool-sweep", daemon=True
            )
            self._thread.start()

    def shutdown(self, _consumer: Any) -> None:
        """Sweep no more."""
        self._over.set()

    def _run(self, app: Any) -> None:
        # The first look waits, too: after an outage messages need a moment to come back to the queue.
        while not self._over.wait(app.conf.chunkspool_sweep_interval):
            try:
                lost = app.tasks[TASK].run()
            except Exception as error:  # noqa: BLE001 - whatever is away now may be there at the next look
                logger.warning("the sweep found no answer and comes again: %s", error)
            else:
                if lost:
                    logger.warning("generations were lost and have failed: %s", ", ".join(lost))
