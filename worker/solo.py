"""Lets a worker of the solo pool receive commands while it runs a task, so that a revoke reaches that task, too."""

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
"""How long one wait for a command lasts; stopping takes at most that long."""
PAUSE = 1.0
"""Seconds between two tries to connect."""


class SoloCommands(bootsteps.Step):
    """Gives Celery's own control step another mailbox if the pool is solo.

    There a task takes the worker's only thread, and Celery reads commands in that thread, between two tasks: a revoke
    would arrive when the task has ended.
    """

    # Celery creates the steps in the order of their requirements, before it starts any. So Control exists by now and
    # has not opened its mailbox.
    requires = (Control,)

    def __init__(self, consumer: Any, **options: Any) -> None:
        """Replace the mailbox before anything has started."""
        super().__init__(consumer, **options)
        if isinstance(consumer.pool, TaskPool):
            box = ThreadedPidbox(consumer)
            control = consumer.blueprint[Control.name]
            # Control has copied its mailbox's methods, so each must be replaced.
            control.box, control.start, control.stop, control.shutdown = box, box.start, box.stop, box.shutdown


class ThreadedPidbox(Pidbox):
    """A worker's mailbox that is read in a thread, on a connection of its own: kombu's cannot be shared by threads.

    Celery does the same on its green pools (`gPidbox`).
    """

    def __init__(self, consumer: Any) -> None:
        """Start nothing yet."""
        super().__init__(consumer)
        self._stopping = threading.Event()
        self._reconnect = False
        self._thread: threading.Thread | None = None

    def start(self, consumer: Any) -> None:
        """Start to listen; called again after each reconnect of the worker."""
        # A new event for each start: the thread before must not be revived by a cleared one.
        self._stopping = threading.Event()
        self._thread = threading.Thread(
            target=self._run, args=(consumer, self._stopping), name="chunkspool-commands", daemon=True
        )
        self._thread.start()

    def stop(self, _consumer: Any) -> None:
        """Stop listening."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()

    def shutdown(self, consumer: Any) -> None:
        """Stop listening."""
        self.stop(consumer)

    def reset(self) -> None:
        """Reconnect. Celery calls this after a command has failed, from within the thread: it cannot stop itself."""
        self._reconnect = True

    def _run(self, consumer: Any, stopping: threading.Event) -> None:
        while not stopping.is_set():
            try:
                with consumer.app.connection_for_read() as connection:
                    self._listen(connection, stopping)
            except consumer.connection_errors as error:
                # The main thread may be busy with a task for minutes, so the reconnect cannot be left to it.
                logger.warning("cannot receive commands until the broker is back: %s", error)
                stopping.wait(PAUSE)

    def _listen(self, connection: Any, stopping: threading.Event) -> None:
        self._reconnect = False
        self.node.channel = connection.channel()
        with self.node.listen(callback=self.on_message):
            while not (stopping.is_set() or self._reconnect):
                try:
                    connection.drain_events(timeout=LISTEN_SECONDS)
                except TimeoutError:
                    continue
