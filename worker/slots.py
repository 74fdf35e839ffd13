"""Tells the schedule how many generations this worker can run at once: so many messages it is handed, and no more."""

from __future__ import annotations

import threading
from typing import Any

from celery import bootsteps
from celery.utils.log import get_logger

logger = get_logger(__name__)

TASK = "chunkspool.offer_slots"
INTERVAL = 5.0
"""Seconds between two of its calls; a worker is forgotten when four of them have not come."""


class SlotOffer(bootsteps.StartStopStep):
    """Calls the task in a thread, as the sweeper does, for as long as the worker takes messages."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Any, **options: Any) -> None:
        """Start nothing yet."""
        super().__init__(consumer, **options)
        self._wake = threading.Event()
        self._offers = False
        self._ending = False
        self._thread: threading.Thread | None = None

    def start(self, consumer: Any) -> None:
        """Begin to offer; called again after each reconnect."""
        self._offers = True
        self._wake.set()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, args=(consumer,), name="chunkspool-slots", daemon=True)
            self._thread.start()

    def stop(self, _consumer: Any) -> None:
        """Offer none: this worker takes no messages for now, or will never again."""
        self._offers = False
        self._wake.set()

    def shutdown(self, _consumer: Any) -> None:
        """End."""
        self._offers, self._ending = False, True
        self._wake.set()

    def _run(self, consumer: Any) -> None:
        while True:
            self._wake.clear()
            is_last, slots = self._ending, _slots_of(consumer) if self._offers else 0
            try:
                consumer.app.tasks[TASK].run(consumer.hostname, slots)
            except Exception as error:  # noqa: BLE001 - whatever went wrong now may work the next time
                logger.warning("could not say how many generations this worker can run: %s", error)
            if is_last:
                return
            self._wake.wait(INTERVAL)


def _slots_of(consumer: Any) -> int:
    controller = consumer.controller
    return int(getattr(controller, "max_concurrency", None) or controller.concurrency or 1)
