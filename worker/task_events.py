"""Lets a worker's children know whether events of tasks are sent, which may change while they run."""

from __future__ import annotations

from typing import Any

from celery import bootsteps

from chunkspool.tasks.event_switch import EventSwitch, attach_switch

INTERVAL = 1.0
"""Seconds between two looks."""


class TaskEvents(bootsteps.StartStopStep):
    """Looks at the worker's event dispatcher from time to time."""

    requires = ("celery.worker.consumer.events:Events",)

    def __init__(self, consumer: Any, **options: Any) -> None:
        """Make the switch here: Celery makes the steps before the pool forks."""
        super().__init__(consumer, **options)
        self._timer: Any = None
        self._switch = EventSwitch(consumer)
        attach_switch(consumer.app, self._switch)

    def start(self, consumer: Any) -> None:
        """Start to look; called again after each reconnect."""
        self._switch.note()
        self._timer = consumer.timer.call_repeatedly(INTERVAL, self._switch.note)

    def stop(self, _consumer: Any) -> None:
        """Stop."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
