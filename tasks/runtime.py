"""What a process that runs generations has one of: an asyncio loop in a thread, a spool and a provider."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from chunkspool import AsyncSpool, Settings
from chunkspool.provider import Provider
from tasks.providers import load_provider

T = TypeVar("T")


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
        """Run `coroutine` on the loop and wait for it. Whatever interrupts the waiting thread cancels it."""
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

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

    def get(self) -> Runtime:
        """Return this process's runtime."""
        with self._lock:
            if self._made is None or self._made[0] != os.getpid():
                self._made = (os.getpid(), self._make())
            return self._made[1]

    def close(self) -> None:
        """Close this process's runtime, if it has one."""
        with self._lock:
            made, self._made = self._made, None
        if made is not None and made[0] == os.getpid():
            made[1].close()
