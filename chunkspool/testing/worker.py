"""Runs generations on threads of the test's process: no Celery worker, no signals, nothing that outlives the test."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import pytest
from celery import Celery
from celery.exceptions import Reject

from chunkspool.errors import ProviderError
from chunkspool.integrations.extras import needs_extra
from chunkspool.provider import Provider
from chunkspool.settings import Settings
from chunkspool.spool.sync import Spool
from chunkspool.tasks import celery_tasks, generation_task
from chunkspool.tasks.runtime import ProcessRuntime, Runtime

SLOTS: Final = 4
"""Generations that run at the same time."""
OFFER_SECONDS: Final = 5.0
"""Seconds between two offers of the slots; Redis forgets one after twenty."""
END_SECONDS: Final = 30.0
"""Seconds that threads have to end, once their generations were released."""
_POLL_SECONDS: Final = 0.01

logger = logging.getLogger(__name__)


class Worker:
    """Takes messages of generations from memory and runs their tasks. `errors`: what tasks raised, oldest first."""

    def __init__(self, spool: Spool, broker: Celery, app: Celery) -> None:
        """`spool` has the queue; `broker` holds its messages; `app` has the tasks."""
        self.errors: list[BaseException] = []
        self._spool = spool
        self._broker = broker
        self._app = app
        self._name = f"testing-{secrets.token_hex(4)}"
        self._ending = threading.Event()
        self._threads = [_thread(self._serve) for _ in range(SLOTS)] + [_thread(self._offer)]

    def start(self) -> None:
        """Begin to take messages."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Take no further message; what runs is released. Raises `RuntimeError` if a task does not notice."""
        self._ending.set()
        generation_task.release()
        deadline = time.monotonic() + END_SECONDS
        for thread in self._threads:
            thread.join(max(deadline - time.monotonic(), 0))
        if any(thread.is_alive() for thread in self._threads):
            raise RuntimeError(f"a generation task still runs {END_SECONDS:g} seconds after the test has ended")

    def _offer(self) -> None:
        while not self._ending.is_set():
            self._spool.offer_slots(self._name, SLOTS)
            self._ending.wait(OFFER_SECONDS)
        self._spool.offer_slots(self._name, 0)

    def _serve(self) -> None:
        queue = self._spool.settings.worker.queue
        with self._broker.connection_for_read() as connection, connection.channel() as channel:
            while not self._ending.is_set():
                message = channel.basic_get(queue)
                if message is None:
                    self._ending.wait(_POLL_SECONDS)
                else:
                    self._run(message)

    def _run(self, message: Any) -> None:
        try:
            self._call(message.headers["task"], *message.payload[0])
        except Reject as rejected:
            (message.requeue if rejected.requeue else message.reject)()
            return
        except BaseException as error:
            # The thread goes on: readers have their ending, and pytest shows the log.
            logger.warning("a generation task raised", exc_info=error)
            self.errors.append(error)
        message.ack()

    def _call(self, name: str, tenant: str, chat_id: str, generation_id: str) -> None:
        task = self._app.tasks.get(name)
        if task is not None:
            task(tenant, chat_id, generation_id)
            return
        why = f"The app has no task {name!r}: import its module in the test, or override the fixture chunkspool_app."
        with self._spool.for_tenant(tenant).produce(chat_id, generation_id):
            raise ProviderError("no_such_task", why, retryable=False)


@contextmanager
def run_worker(settings: Settings, broker: Celery, app: Celery, model: Provider) -> Iterator[Worker]:
    """Run generations of `settings`' queue while the block runs; then everything is as it was before.

    Raises `ExtraMissing` if the packages of workers are not installed.
    """
    with needs_extra("testing", "uvloop"):
        import uvloop  # noqa: F401, PLC0415 - to tell at once, not on a thread
    runtime = ProcessRuntime(_maker(settings, broker, model))
    app.loader.import_default_modules()
    app.finalize()
    with pytest.MonkeyPatch.context() as patch, Spool.from_settings(settings, celery_app=broker) as spool:
        patch.setattr(generation_task, "_runtime", runtime)
        worker = Worker(spool, broker, app)
        worker.start()
        try:
            yield worker
        finally:
            try:
                worker.stop()
            finally:
                runtime.close()


def _maker(settings: Settings, broker: Celery, model: Provider) -> Callable[[], Runtime]:
    def make() -> Runtime:
        runtime = Runtime(settings, lambda: True, broker)
        runtime.provider = model
        return runtime

    return make


def _thread(target: Callable[[], None]) -> threading.Thread:
    return threading.Thread(target=target, name=f"{celery_tasks.generate.name}-testing", daemon=True)
