"""Ends a worker in time: what runs may finish for a while, the rest is released for other workers.

Celery's warm shutdown (SIGTERM, Ctrl-C, SIGHUP, `celery control shutdown`) takes no new task and waits for those that
run, however long. Here they have `drain_grace` seconds. Then every task of this worker that can release what it runs is
asked to, in the main process and in the pool's children; it gives its message back, and the shutdown goes on. A second
signal does not wait for the end of the grace.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from queue import Empty, SimpleQueue
from typing import Any

from billiard.process import current_process
from celery import bootsteps, current_app, signals
from celery.utils.log import get_logger
from celery.worker import state as worker_state
from celery.worker.components import Pool
from celery.worker.control import Panel

from chunkspool import Settings

logger = get_logger(__name__)

RELEASE_SIGNAL = signal.SIGUSR2
"""What the main process sends to its children. Celery and billiard leave it alone in them."""


class GracefulShutdown(bootsteps.StartStopStep):
    """Waits in a thread: during a shutdown the main thread is Celery's, and it waits for the pool."""

    # So it is stopped after the consumer and before the pool.
    requires = (Pool,)

    def __init__(self, worker: Any, **options: Any) -> None:
        """Take nothing yet."""
        super().__init__(worker, **options)
        # Filled by a signal handler, which may interrupt anything: a SimpleQueue's put can be interrupted by itself.
        self._asked: SimpleQueue[str] = SimpleQueue()

    def start(self, worker: Any) -> None:
        """Begin to wait for a shutdown."""
        signals.worker_shutting_down.connect(self._note_signal)
        threading.Thread(target=self._run, args=(worker,), name="chunkspool-shutdown", daemon=True).start()

    def stop(self, _worker: Any) -> None:
        """Begin the grace, also where no signal has begun it."""
        self._asked.put("stop")

    def _note_signal(self, how: str, **_: object) -> None:
        if how == "Warm":
            self._asked.put("signal")

    def _run(self, worker: Any) -> None:
        signalled = self._asked.get() == "signal"
        self._wait(Settings.from_env().worker.drain_grace, signalled=signalled)
        logger.warning("what still runs is released for other workers")
        release(worker.app)
        for pid in _children(worker.pool):
            _signal_child(pid)

    def _wait(self, grace: float, *, signalled: bool) -> None:
        """Wait for the end of the grace, or for the second signal."""
        end = time.monotonic() + grace
        while (left := end - time.monotonic()) > 0:
            try:
                again = self._asked.get(timeout=left) == "signal"
            except Empty:
                return
            if again and signalled:
                return
            signalled = signalled or again


def install() -> None:
    """Prepare the pool's children, and make a shutdown by command the same as one by signal."""
    signals.worker_process_init.connect(_prepare_child)
    Panel.data["shutdown"] = shutdown


def release(app: Any) -> None:
    """Ask every kind of task that can release what it runs to do so: those that have a function of that name."""
    for task in tuple(app.tasks.values()):
        ask = getattr(task, "release", None)
        if ask is not None:
            try:
                ask()
            except Exception:
                logger.exception("%s could not release what it runs", task.name)


def shutdown(state: Any, msg: str = "Got shutdown from remote", **_: object) -> None:
    """Do what SIGTERM does, from whichever thread the command was heard in."""
    logger.warning(msg)
    signals.worker_shutting_down.send(sender=state.hostname, sig="shutdown", how="Warm", exitcode=os.EX_OK)
    worker_state.should_stop = os.EX_OK


def _children(pool: Any) -> list[int]:
    try:
        return [pid for pid in pool.info.get("processes", ()) if pid != os.getpid()]
    except AttributeError:
        return []  # the pool has ended in this very moment


def _signal_child(pid: int) -> None:
    try:
        os.kill(pid, RELEASE_SIGNAL)
    except ProcessLookupError:
        logger.debug("process %s has ended by itself", pid)


def _prepare_child(**_: object) -> None:
    """In a child of the pool: wait for the main process's signal, in a thread, since the main one runs a task."""
    # Celery says worker_process_init in the main process of a solo worker, too.
    if current_process().name != "MainProcess":
        signal.pthread_sigmask(signal.SIG_BLOCK, {RELEASE_SIGNAL})
        threading.Thread(target=_wait_for_release, name="chunkspool-shutdown", daemon=True).start()


def _wait_for_release() -> None:
    signal.sigwait({RELEASE_SIGNAL})
    release(current_app)
