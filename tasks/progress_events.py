"""Sends how far generations are as events that Celery's monitors show, on a connection that waits for nobody."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

EVENT: Final = "task-STARTED"
"""The event's type. Celery's monitors, Flower too, take what stands behind the dash for the task's new state.

So `task-progress` would make a state PROGRESS of it, for which Flower has no button to end the task, and which no later
REVOKED replaces. `task-started`, in small letters, would set the start anew and count it again.
"""
_TIMEOUT: Final = 2.0
_TIMEOUTS: Final = {
    "redis": {"socket_connect_timeout": _TIMEOUT, "socket_timeout": _TIMEOUT, "max_retries": 0},
    "amqp": {"read_timeout": _TIMEOUT, "write_timeout": _TIMEOUT},
}


@dataclass(frozen=True, slots=True)
class Progress:
    """How far one generation is."""

    task_id: str
    task_name: str
    chunks: int
    tokens: int
    tokens_per_second: float

    def fields(self) -> dict[str, object]:
        """Return the event's fields. `result` is what Flower shows of a task; its return value takes that place."""
        return {
            "uuid": self.task_id,
            "name": self.task_name,
            "chunks": self.chunks,
            "tokens": self.tokens,
            "tokens_per_second": round(self.tokens_per_second, 1),
            "result": f"{self.chunks} chunks, {self.tokens_per_second:.0f} tokens/s",
        }


class EventSender:
    """Sends for one worker; used by one thread. Connects with the first event, and anew after an error."""

    def __init__(self, app: Any, hostname: str) -> None:
        """`hostname` is the worker's name, by which monitors know whose the task is."""
        self._app = app
        self._hostname = hostname
        self._connection: Any = None
        self._dispatcher: Any = None

    def send(self, told: Sequence[Progress]) -> None:
        """Send them all in one message. Raises whatever the broker's client does; then they are forgotten."""
        try:
            if self._dispatcher is None:
                self._connect()
            for one in told:
                self._dispatcher.send(EVENT, **one.fields())
            self._dispatcher.flush(errors=False)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the connection."""
        connection, self._connection, self._dispatcher = self._connection, None, None
        if connection is not None:
            # Whatever is wrong with it: it is not used any more.
            with suppress(Exception):
                connection.release()

    def _connect(self) -> None:
        driver = self._app.connection_for_write().transport.driver_type
        self._connection = self._app.connection_for_write(
            connect_timeout=_TIMEOUT, transport_options=_TIMEOUTS.get(driver, {})
        )
        self._connection.connect()  # else the first event would try for ever
        self._dispatcher = self._app.events.Dispatcher(
            self._connection,
            channel=self._connection.channel(),
            hostname=self._hostname,
            buffer_while_offline=False,
            buffer_group=["task"],
            buffer_limit=float("inf"),
        )
