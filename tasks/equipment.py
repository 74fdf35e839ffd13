"""What a Celery app was equipped with: the settings, and which of its queues hold generations."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from chunkspool.observer import Observer
from chunkspool.settings import Settings
from chunkspool.spool.equipped import EQUIPMENT


@dataclass(frozen=True, slots=True)
class Equipment:
    """Given by `chunkspool.worker.equip`. An app that has none uses the environment's settings and their queue."""

    given: Settings | None = None
    """The settings; None: those of the environment, read when they are needed."""
    queues: tuple[str, ...] = ()
    """The queues that hold generations; none: the settings' own."""
    standalone: bool = False
    """The app is chunkspool's own: every queue holds generations, and messages go to the settings' broker."""
    observer: Observer | None = None
    """Who is told of what happens in this process; a worker that serves metrics has one of its own unless given."""

    def observed_by(self, observer: Observer) -> Equipment:
        """Return the same with an observer."""
        return replace(self, observer=observer)

    @property
    def settings(self) -> Settings:
        """The settings. Raises `SettingsError`."""
        return self.given or Settings.from_env()

    @property
    def names(self) -> tuple[str, ...]:
        """The queues that hold generations, even if the environment's settings are wrong: others must not care."""
        return self.queues or (self.given.worker.queue if self.given else Settings.queue_in_env(),)

    def choose(self, served: Iterable[str]) -> tuple[str, ...]:
        """Return those of the queues that a worker serves that hold generations."""
        return tuple(queue for queue in served if self.has(queue))

    def has(self, queue: str) -> bool:
        """Tell whether the queue holds generations."""
        return self.standalone or queue in self.names


def note_equipment(app: Any, equipment: Equipment) -> None:
    """Remember it with the app."""
    setattr(app, EQUIPMENT, equipment)


def equipment_of(app: Any) -> Equipment:
    """Return what the app was equipped with."""
    found = getattr(app, EQUIPMENT, None)
    return found if isinstance(found, Equipment) else Equipment()


def is_equipped(app: Any) -> bool:
    """Tell whether `equip` was called for this very app: a process may have others."""
    return isinstance(getattr(app, EQUIPMENT, None), Equipment)


def served_queues(app: Any) -> tuple[str, ...]:
    """Return the queues of generations that this worker serves."""
    return equipment_of(app).choose(app.amqp.queues.consume_from)
