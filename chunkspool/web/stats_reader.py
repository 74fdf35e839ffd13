"""Reads a spool's stats from a thread: the metrics are put together in one, and the spool belongs to an event loop."""

from __future__ import annotations

import asyncio
from typing import Final

from chunkspool.errors import StoreUnavailable
from chunkspool.results import Stats
from chunkspool.spool import AsyncSpool

SECONDS: Final = 30.0
"""After so long nobody waits any more: the loop may have ended."""


class StatsReader:
    """The `stats` of a spool, on the loop that was named last."""

    def __init__(self, spool: AsyncSpool) -> None:
        """Nothing is read yet."""
        self._spool = spool
        self._loop: asyncio.AbstractEventLoop | None = None

    def use_running_loop(self) -> None:
        """Read on the loop that runs here."""
        self._loop = asyncio.get_running_loop()

    def read(self) -> Stats:
        """Return them; to be called in another thread than the loop's. Raises `StoreError` or `TimeoutError`."""
        if self._loop is None:
            raise StoreUnavailable("no event loop has been named")
        return asyncio.run_coroutine_threadsafe(self._spool.stats(), self._loop).result(SECONDS)
