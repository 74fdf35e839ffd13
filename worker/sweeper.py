"""Runs the sweep for lost generations from time to time, in the worker's main process."""

from __future__ import annotations

import threading
from typing import Any

from celery import bootsteps
from celery.utils.log import get_logger

from chunkspool.tasks.equipment import equipment_of

logger = get_logger(__name__)

TASK = "chunkspool.sweep"


class Sweeper(bootsteps.StartStopStep):
    """Calls the sweep's task in a thread, not through a message: where messages get lost, that one could be, too."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Any, **options: Any) -> None:
        """Start nothing yet."""
        super().__init__(consumer, **options)
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, consumer: Any) -> None:
        """Start sweeping; called again after each reconnect."""
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._run, args=(consumer.app,), name="chunkspool-sweep", daemon=True
            )
            self._thread.start()

    def shutdown(self, _consumer: Any) -> None:
        """Stop sweeping."""
        self._stopping.set()

    def _run(self, app: Any) -> None:
        # The first sweep waits, too: after an outage messages need a moment to come back to the queue, and until then
        # they look lost.
        while not self._stopping.wait(equipment_of(app).settings.worker.sweep_interval):
            try:
                lost = app.tasks[TASK].run()
            except Exception as error:  # noqa: BLE001 - whatever went wrong now may work the next time
                logger.warning("the sweep failed and will be repeated: %s", error)
            else:
                if lost:
                    logger.warning("these generations were lost and have been ended as failed: %s", ", ".join(lost))
