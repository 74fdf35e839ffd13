"""Shuts a worker down in time: running tasks may finish for a while, then the rest is released for other workers.

Celery's warm shutdown (SIGTERM, Ctrl-C, SIGHUP, `celery control shutdown`) takes no new task and waits for the running
ones, however long they take. Here they have `drain_grace` seconds. Then every task that can release its work is asked
to, in the main process and in the pool's children. It requeues its message, and Celery's shutdown can go on. A second
signal ends the grace at once.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from queue import Empty, SimpleQueue
from typing import Any, Literal

from billiard.process import current_process
from celery import bootsteps, current_app, signals
from celery.utils.log import get_logger
from celery.worker import state as worker_state
from celery.worker.components import Pool
from celery.worker.control import Panel

from chunkspool.tasks.equipment import equipment_of

logger = get_logger(__name__)

RELEASE_SIGNAL = signal.SIGUSR2
"""What the main process sends to its children. Neither Celery nor billiard uses it in them."""


class GracefulShutdown(bootsteps.StartStopStep):
    """Waits for the end of the grace in a thread, because the main thread is busy during a shutdown.

    Celery's main thread then waits for the pool; in a solo worker it runs the last task itself.
    """

    # Celery stops its steps in the reverse order of their start. A step that requires the pool is stopped before the
    # pool is, and the consumer, always started last, is stopped first of all. So when `stop` is called, no new task
    # arrives, and the wait for the running ones has not begun.
    requires = (Pool,)

    def __init__(self, worker: Any, **options: Any) -> None:
        """Wait for nothing yet."""
        super().__init__(worker, **options)
        # A signal handler fills it, and may interrupt its own `put`. A Queue would then wait for its own lock forever;
        # SimpleQueue.put is reentrant.
        self._requests: SimpleQueue[Literal["signal", "stop"]] = SimpleQueue()

    def start(self, worker: Any) -> None:
        """Start waiting for a shutdown."""
        signals.worker_shutting_down.connect(self._record_signal)
        threading.Thread(target=self._run, args=(worker,), name="chunkspool-shutdown", daemon=True).start()

    def stop(self, _worker: Any) -> None:
        """Start the grace, if no signal has started it: Celery also stops workers for other reasons."""
        self._requests.put("stop")

    def _record_signal(self, how: str, **_: object) -> None:
        # A cold shutdown has no grace: Celery ends the pool at once. A prefork pool's children get SIGTERM and then
        # release by themselves (tasks/runtime.py).
        if how == "Warm":
            self._requests.put("signal")

    def _run(self, worker: Any) -> None:
        signalled = self._requests.get() == "signal"
        self._wait_for_grace(equipment_of(worker.app).settings.worker.drain_grace, signalled=signalled)
        logger.warning("releasing unfinished work for other workers")
        release(worker.app)
        for pid in _find_children(worker.pool):
            _signal_child(pid)

    def _wait_for_grace(self, grace: float, *, signalled: bool) -> None:
        # A signal is usually followed by `stop`, which belongs to the same shutdown: only a second *signal* ends the
        # grace early.
        end = time.monotonic() + grace
        while (left := end - time.monotonic()) > 0:
            try:
                again = self._requests.get(timeout=left) == "signal"
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
    """Call `release_generations` of every task that has it: it releases what this process runs of that task."""
    for release_generations in {getattr(task, "release_generations", None) for task in tuple(app.tasks.values())}:
        if release_generations is not None:
            try:
                release_generations()
            except Exception:
                # One task module's bug must not keep the others from releasing theirs.
                logger.exception("a task could not release its generations: %r", release_generations)


def shutdown(state: Any, msg: str = "Got shutdown from remote", **_: object) -> None:
    """Do what SIGTERM does, in whichever thread the command arrived.

    Celery's own command raises WorkerShutdown, which ends the worker in the main thread only: here a solo worker reads
    its commands in another one.
    """
    logger.warning(msg)
    signals.worker_shutting_down.send(sender=state.hostname, sig="shutdown", how="Warm", exitcode=os.EX_OK)
    worker_state.should_stop = os.EX_OK


def _find_children(pool: Any) -> list[int]:
    # A solo pool names this very process. It must not get the signal: nothing waits for it here, so it would kill.
    try:
        return [pid for pid in pool.info.get("processes", ()) if pid != os.getpid()]
    except AttributeError:
        return []  # the pool has just ended


def _signal_child(pid: int) -> None:
    try:
        os.kill(pid, RELEASE_SIGNAL)
    except ProcessLookupError:
        logger.debug("process %s has already ended", pid)


def _prepare_child(**_: object) -> None:
    # Celery sends worker_process_init in the main process of a solo worker, too.
    if current_process().name != "MainProcess":
        # Blocked before the thread starts, which inherits the mask: a signal that arrives early waits for `sigwait`
        # instead of killing the child. And no handler is needed: a release takes locks, and a handler could interrupt
        # the thread that holds them.
        signal.pthread_sigmask(signal.SIG_BLOCK, {RELEASE_SIGNAL})
        threading.Thread(target=_release_on_signal, name="chunkspool-shutdown", daemon=True).start()


def _release_on_signal() -> None:
    signal.sigwait({RELEASE_SIGNAL})
    release(current_app)
