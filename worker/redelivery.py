"""How a Redis broker holds messages of generations until they are acknowledged: apart from those of other tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Self

from chunkspool.store.keys import QueueKeys
from chunkspool.tasks.equipment import Equipment

OPTION: Final = "chunkspool_redelivery"
"""The transport option with which Celery's configuration hands it to the transport."""


@dataclass(frozen=True, slots=True)
class Redelivery:
    """The keys of the held messages, and how soon those of a dead worker are delivered again.

    kombu holds all messages in the same two keys of the server, and redelivers what has stood there for one time, which
    is the whole app's. Where somebody's task takes an hour, that time must be longer. The messages of generations are
    renewed by the worker that holds them (worker/visibility.py), so their time only says how soon a death is noticed.
    """

    queues: tuple[str, ...]
    """The queues of generations; none: every queue."""
    seconds: float
    unacked_key: str
    unacked_index_key: str
    unacked_mutex_key: str

    @classmethod
    def of(cls, equipment: Equipment, queues: Sequence[str]) -> Self:
        """Return it for a worker that serves these queues of generations."""
        worker = equipment.settings.worker
        keys = QueueKeys(worker.queue).unacked(worker.redelivery)
        return cls(() if equipment.standalone else tuple(queues), worker.redelivery, **keys)

    @classmethod
    def from_option(cls, option: Mapping[str, Any]) -> Self:
        """Return what `as_option` was made of."""
        return cls(**{**option, "queues": tuple(option["queues"])})

    def as_option(self) -> dict[str, Any]:
        """Return it as a transport option. `celery inspect stats` shows it."""
        return {OPTION: asdict(self)}

    def holds(self, queue: object) -> bool:
        """Tell whether the messages of this queue are held so."""
        return not self.queues or queue in self.queues


def routed_as(app: Any, queues: Sequence[str]) -> tuple[str, ...]:
    """Return the queues of generations, and the routing keys of their own that their messages may have.

    A message names no queue: sent through a topic exchange, it has the queue's routing key. A key that a queue of other
    tasks has, too, tells nothing.
    """
    served = app.amqp.queues.consume_from
    others = {queue.routing_key for name, queue in served.items() if name not in queues}
    keys = (served[name].routing_key for name in queues)
    return tuple(dict.fromkeys((*queues, *(key for key in keys if key and key not in others))))
