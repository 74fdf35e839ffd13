"""Whether a worker sends events of tasks: its main process knows, and the children of its pool can read it."""

from __future__ import annotations

import mmap
import os
from typing import Any, Final

_ATTRIBUTE: Final = "chunkspool_event_switch"


class EventSwitch:
    """One byte that a worker shares with its children, because `celery control enable_events` reaches the worker only.

    Flower sends that command every five seconds.
    """

    def __init__(self, consumer: Any) -> None:
        """`consumer` is the worker's, whose event dispatcher comes later and may be replaced."""
        self._consumer = consumer
        self._pid = os.getpid()
        self._shared = mmap.mmap(-1, 1)

    def is_on(self) -> bool:
        """Tell whether events of tasks are sent now."""
        if os.getpid() == self._pid:
            self.note()
        return self._shared[0] == 1

    def note(self) -> None:
        """Look at the event dispatcher."""
        dispatcher = getattr(self._consumer, "event_dispatcher", None)
        is_on = dispatcher is not None and dispatcher.enabled and (not dispatcher.groups or "task" in dispatcher.groups)
        self._shared[0] = int(is_on)


def attach_switch(app: Any, switch: EventSwitch) -> None:
    """Keep the switch with its worker's app."""
    setattr(app, _ATTRIBUTE, switch)


def switch_of(app: Any) -> EventSwitch | None:
    """Return the switch of the worker that runs here; None if chunkspool has not equipped it."""
    found = getattr(app, _ATTRIBUTE, None)
    return found if isinstance(found, EventSwitch) else None
