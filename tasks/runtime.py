"""What a process that runs generations has one of: an asyncio loop in a thread, a spool and a provider."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from chunkspool import AsyncSpool, Settings
from chunkspool.per_process import PerProcess
from chunkspool.provider import Provider
from tasks.providers import load_provider

T = TypeVar("T")

RELEASE_SECONDS = 5.0
"""Seconds that a process which was told to exit takes to release its generations: it is not to be killed for it."""
SIGNAL_SECONDS = 0.5
"""How long a waiting thread sleeps at most.

The main thread waits here in a solo worker and in a child of the prefork pool, and only it carries out Python's
signal handlers. A signal that arrives just before it falls asleep on a lock does not wake it (measured with CPython
3.11 on two busy cores: 6 of 150 solo workers did not hear a second SIGTERM that came right after the first).
"""


class Runtime:
    """The loop runs until `close`."""

    def __init__(self, settings: Settings) -> None:
        """Start the loop. Raises `SettingsError` for a provider that cannot be had."""
        self.provider: Provider = load_provider(settings)
        self.spool = AsyncSpool.from_settings(settings)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="chunkspool-loop", daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run `coroutine` on the loop and wait for it. Whatever interrupts the waiting thread cancels it.

        `SystemExit`, which SIGTERM is to a child of the prefork pool, releases what is run here instead.
        """
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            while not future.done():
                concurrent.futures.wait([future], SIGNAL_SECONDS)
            return future.result()
        except SystemExit:
            self.release()
            concurrent.futures.wait([future], RELEASE_SECONDS)
            raise
        except BaseException:
            future.cancel()
            raise

    def release(self) -> None:
        """Release what is run here, and what would still begin, for other processes."""
        self.spool.release()

    def close(self) -> None:
        """Free all connections and end the loop."""
        self.run(self.provider.aclose())
        self.run(self.spool.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class ProcessRuntime:
    """The runtime of whichever process asks, made when it is first asked for."""

    def __init__(self, make: Callable[[], Runtime]) -> None:
        """`make` is called once in every process that asks."""
        self._runtime = PerProcess(make)
        self._releasing = False

    def get(self) -> Runtime:
        """Return this process's runtime."""
        runtime = self._runtime.get()
        if self._releasing:  # looked at only now: whoever sets it later finds this runtime
            runtime.release()
        return runtime

    def release(self) -> None:
        """Release what this process runs, and what it would still begin."""
        self._releasing = True
        runtime = self._runtime.peek()
        if runtime is not None:
            runtime.release()

    def close(self) -> None:
        """Close this process's runtime, if it has one."""
        runtime = self._runtime.take()
        if runtime is not None:
            runtime.close()
