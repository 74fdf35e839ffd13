"""The event streams that are open: they are kept alive while it is quiet, and ended when the server wants to leave."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable
from typing import Protocol

TICK = 0.25
"""Seconds between two looks at the server: it waits for its streams, so this is how much longer a shutdown takes."""


class OpenStream(Protocol):
    """A stream that is being sent."""

    def beat(self, quiet_since: float) -> None:
        """Send a comment if nothing was sent since `quiet_since` (by the monotonic clock)."""
        ...

    def end(self) -> None:
        """End after what is waiting."""
        ...


class OpenStreams:
    """One task looks after all streams of an app, as long as there are any."""

    def __init__(self, heartbeat: float, leaving: Callable[[], bool] | None = None) -> None:
        """`heartbeat` is in seconds. `leaving` tells whether the server shuts down; uvicorn is asked by default."""
        self._heartbeat = heartbeat
        self._is_leaving = leaving or uvicorn_is_shutting_down
        self._streams: set[OpenStream] = set()
        self._watcher: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        """Return how many are open."""
        return len(self._streams)

    def add(self, stream: OpenStream) -> None:
        """Look after a stream."""
        self._streams.add(stream)
        if self._watcher is None or self._watcher.done():
            self._watcher = asyncio.create_task(self._watch(), name="chunkspool-streams")

    def discard(self, stream: OpenStream) -> None:
        """Forget a stream."""
        self._streams.discard(stream)
        if not self._streams and self._watcher is not None:
            self._watcher.cancel()
            self._watcher = None

    def end(self) -> None:
        """End all streams: their clients connect again, to another process or to this one."""
        for stream in tuple(self._streams):
            stream.end()

    async def _watch(self) -> None:
        tick = min(TICK, self._heartbeat / 4)
        next_beat = 0.0
        while True:
            await asyncio.sleep(tick)
            if self._is_leaving():
                self.end()
            now = time.monotonic()
            if now >= next_beat:
                next_beat = now + self._heartbeat / 4
                for stream in tuple(self._streams):
                    stream.beat(now - self._heartbeat)


def uvicorn_is_shutting_down() -> bool:
    """Tell whether the uvicorn that runs in this process has been asked to shut down.

    uvicorn waits for all responses to end, for ever by default, and tells an app nothing of it. But its signal handler
    is a method of the server, which knows.
    """
    server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return bool(getattr(server, "should_exit", False))
