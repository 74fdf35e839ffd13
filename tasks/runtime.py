"""The runtime of a process that runs generations: one asyncio loop in a thread, one spool, one provider."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable, Coroutine
from functools import cached_property
from typing import Any, TypeVar

from chunkspool import AsyncSpool, Settings, Spool
from chunkspool.observer import Observer
from chunkspool.per_process import PerProcess
from chunkspool.provider import Provider
from chunkspool.tasks.providers import load_provider

T = TypeVar("T")

RELEASE_SECONDS = 5.0
"""How long a process that was told to exit may take to release its generations: short, or it gets killed meanwhile."""
SIGNAL_SECONDS = 0.5
"""How long the main thread sleeps at a time when it waits for a generation.

In a solo worker and in a child of the prefork pool it is the main thread that waits here, and only the main thread runs
Python's signal handlers. A signal that arrives just before it goes to sleep on a lock does not wake it, and its handler
would wait as long as the model does. Measured with CPython 3.11 on two busy cores: 6 of 150 solo workers missed a
second SIGTERM that came right after the first.

The threads of the threads pool get no signals and sleep until their generation has ended: a thousand that woke up twice
a second took more of a core than their generations, and together waited for the interpreter's lock.
"""


class Runtime:
    """Runs coroutines for the pool's threads, all on one loop: a process has one set of connections and one flusher."""

    def __init__(
        self,
        settings: Settings,
        worker_is_ending: Callable[[], bool],
        celery_app: Any = None,
        observer: Observer | None = None,
    ) -> None:
        """Start the loop. Raises `SettingsError`.

        `worker_is_ending` is asked when this process is told to exit: if only the process ends, its attempts count.
        Whose turn it is next, its spools tell through `celery_app`, or through an app of their own.
        """
        # Here, because a web app imports its Celery app's tasks, too, and may lack what only workers need.
        import uvloop  # noqa: PLC0415

        self._settings = settings
        self._worker_is_ending = worker_is_ending
        self._celery_app = celery_app
        self._observer = observer
        self.spool = AsyncSpool.from_settings(settings, celery_app=celery_app, observer=observer)
        self._blocking: Spool | None = None
        self._is_releasing = False
        self._lock = threading.Lock()
        # Half the time of asyncio's own for each token (docs/bench.md).
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="chunkspool-loop", daemon=True)
        self._thread.start()

    @cached_property
    def provider(self) -> Provider:
        """The provider of the settings. Raises `SettingsError` if it cannot be loaded."""
        return load_provider(self._settings)

    @property
    def blocking_spool(self) -> Spool:
        """The spool of tasks whose function is not `async`; made when the first of them runs."""
        with self._lock:
            if self._blocking is None:
                self._blocking = Spool.from_settings(
                    self._settings, celery_app=self._celery_app, observer=self._observer
                )
                if self._is_releasing:
                    self._blocking.release()
            return self._blocking

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run `coroutine` on the loop and wait for its result. An exception in the waiting thread cancels it.

        `SystemExit` does not: a child of the prefork pool raises it at SIGTERM. Then the process releases its
        generations, so that other workers can claim them at once, without waiting for a lease to end.
        """
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            if threading.current_thread() is threading.main_thread():
                while not future.done():
                    concurrent.futures.wait([future], SIGNAL_SECONDS)
            return future.result()
        except SystemExit:
            self.release(counts=self.exit_counts())
            concurrent.futures.wait([future], RELEASE_SECONDS)
            raise
        except BaseException:
            future.cancel()
            raise

    def exit_counts(self) -> bool:
        """Tell whether the attempts count that end because this process was told to exit."""
        return not self._worker_is_ending()

    def release(self, *, counts: bool = False) -> None:
        """Release for other processes what runs here, and refuse what would start later.

        `counts`: the attempts count towards `max_attempts`.
        """
        self.spool.release(counts=counts)
        with self._lock:
            self._is_releasing = True
            if self._blocking is not None:
                self._blocking.release(counts=counts)

    def close(self) -> None:
        """Close all connections and end the loop."""
        if "provider" in self.__dict__:  # as `cached_property` keeps it: it was used
            self.run(self.provider.aclose())
        self.run(self.spool.aclose())
        if self._blocking is not None:
            self._blocking.close()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class ProcessRuntime:
    """Each process's own runtime, created at the first use: a loop and its connections do not survive a fork."""

    def __init__(self, make: Callable[[], Runtime]) -> None:
        """`make` is called once in every process that uses the runtime."""
        self._runtime = PerProcess(make)
        self._releasing = False

    def get(self) -> Runtime:
        """Return this process's runtime."""
        runtime = self._runtime.get()
        # Checked after the runtime exists. If `release` runs in between, it finds the runtime itself; if it ran before,
        # when there was none, this line sees it. In the other order a generation could start unreleased.
        if self._releasing:
            runtime.release()
        return runtime

    def release(self) -> None:
        """Release what this process runs, and refuse what it would start later."""
        self._releasing = True
        runtime = self._runtime.peek()
        if runtime is not None:
            runtime.release()

    def close(self) -> None:
        """Close this process's runtime, if it has one."""
        runtime = self._runtime.take()
        if runtime is not None:
            runtime.close()
