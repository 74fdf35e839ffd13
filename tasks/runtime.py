"""What a process that runs generations has one of: an asyncio loop in a thread, a spool and a provider."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from chunkspool import AsyncSpool, Settings
from chunkspool.provider import Provider
from tasks.providers import load_provider

T = TypeVar("T")

LAST_WORDS = 5.0
"""Seconds that a process which was told to exit takes to hand over: it is not to be killed for it."""


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

        `SystemExit`, which SIGTERM is to a child of the prefork pool, hands over what is run here instead.
        """
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            while not future.done():
                concurrent.futures.wait([future], SIGNAL_SECONDS)
            return future.result()
        except SystemExit:
            self.hand_over()
            concurrent.futures.wait([future], LAST_WORDS)
            raise
        except BaseException:
            future.cancel()
            raise

    def hand_over(self) -> None:
        """Let other processes go on with what is run here, from now on."""
        self.spool.hand_over()

    def close(self) -> None:
        """Free all connections and end the loop."""
        self.run(self.provider.aclose())
        self.run(self.spool.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class PerProcess:
    """Makes a process's runtime when it is first asked for: threads and loops do not survive a fork."""

    def __init__(self, make: Callable[[], Runtime]) -> None:
        """`make` is called once in every process that asks."""
        self._make = make
        self._lock = threading.Lock()
        self._made: tuple[int, Runtime] | None = None
        self._handing_over = False

    def get(self) -> Runtime:
        """Return this process's runtime."""
        with self._lock:
            if self._made is None or self._made[0] != os.getpid():
                self._made = (os.getpid(), self._make())
                if self._handing_over:
                    self._made[1].hand_over()
            return self._made[1]

    def hand_over(self) -> None:
        """Let other processes go on with what this one runs, and with what it would still begin."""
        with self._lock:
            self._handing_over = True
            made = self._made
        if made is not None and made[0] == os.getpid():
            made[1].hand_over()

    def close(self) -> None:
        """Close this process's runtime, if it has one."""
        with self._lock:
            made, self._made = self._made, None
        if made is not None and made[0] == os.getpid():
            made[1].close()
