"""Lets a worker of the solo pool hear commands while it runs a task, so that a revoke reaches that task, too."""

from __future__ import annotations

import threading
from typing import Any

from celery import bootsteps
from celery.concurrency.solo import TaskPool
from celery.utils.log import get_logger
from celery.worker.consumer.control import Control
from celery.worker.pidbox import Pidbox

logger = get_logger(__name__)

LISTEN_SECONDS = 0.5
"""How long one wait for a command lasts: closing takes no longer."""
PAUSE = 1.0
"""Seconds before it connects again."""


class CommandsWhileBusy(bootsteps.Step):
    """Gives Celery's own step another mailbox where the pool is solo, whose task takes the worker's only thread."""

    requires = (Control,)

    def __init__(self, consumer: Any, **options: Any) -> None:
        """Replace the mailbox before anything has been started."""
        super().__init__(consumer, **options)
        if isinstance(consumer.pool, TaskPool):
            box = ThreadedPidbox(consumer)
            control = consumer.blueprint[Control.name]
            control.box, control.start, control.stop, control.shutdown = box, box.start, box.stop, box.shutdown


class ThreadedPidbox(Pidbox):
    """The mailbox of a worker, read in a thread and on a connection of its own, as the one for green pools is."""

    def __init__(self, consumer: Any) -> None:
        """Begin with nothing to end."""
        super().__init__(consumer)
        self._over = threading.Event()
        self._again = False
        self._thread: threading.Thread | None = None

    def start(self, consumer: Any) -> None:
        """Begin to listen; called again after each reconnect of the worker."""
        self._over = threading.Event()
        self._thread = threading.Thread(
            target=self._run, args=(consumer, self._over), name="chunkspool-commands", daemon=True
        )
        self._thread.start()

    def stop(self, _consumer: Any) -> None:
        """Listen no more."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def shutdown(self, consumer: Any) -> None:
        """Listen no more."""
        self.stop(consumer)

    def reset(self) -> None:
        """Connect anew, which Celery asks for after an error."""
        self._again = True

    def _run(self, consumer: Any, over: threading.Event) -> None:
        while not over.is_set():
            try:
                with consumer.app.connection_for_read() as connection:
                    self._listen(connection, over)
            except consumer.connection_errors as error:
                logger.warning("commands are not heard until the broker is back: %s", error)
                over.wait(PAUSE)

    def _listen(self, connection: Any, over: threading.Event) -> None:
        self._again = False
        self.node.channel = connection.channel()
        with self.node.listen(callback=self.on_message):
            while not (over.is_set() or self._again):
                try:
                    connection.drain_events(timeout=LISTEN_SECONDS)
                except TimeoutError:
                    continue
