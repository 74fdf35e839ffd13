"""The open event streams: one task sends their heartbeats and ends them when the server shuts down."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable
from typing import Protocol

TICK = 0.25
"""Seconds between two checks for a shutdown. The server waits for its streams, so a shutdown takes this much longer."""


class OpenStream(Protocol):
    """A stream that is being sent."""

    def beat(self, quiet_since: float) -> None:
        """Send a comment if nothing was sent since `quiet_since` (monotonic clock)."""
        ...

    def end(self) -> None:
        """End the stream after sending what is waiting."""
        ...


class OpenStreams:
    """The streams of one app. A single task looks after all of them while there are any: no stream has a timer."""

    def __init__(self, heartbeat: float, is_shutting_down: Callable[[], bool] | None = None) -> None:
        """`heartbeat` is in seconds. Without `is_shutting_down`, the uvicorn of this process is asked."""
        self._heartbeat = heartbeat
        self._is_shutting_down = is_shutting_down or uvicorn_is_shutting_down
        self._streams: set[OpenStream] = set()
        self._watcher: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        """Return how many are open."""
        return len(self._streams)

    def add(self, stream: OpenStream) -> None:
        """Look after `stream` from now on."""
        self._streams.add(stream)
        if self._watcher is None or self._watcher.done():
            self._watcher = asyncio.create_task(self._watch(), name="chunkspool-streams")

    def discard(self, stream: OpenStream) -> None:
        """Forget `stream`."""
        self._streams.discard(stream)
        if not self._streams and self._watcher is not None:
            self._watcher.cancel()
            self._watcher = None

    def end(self) -> None:
        """End all streams. Their clients reconnect, to another process or to this one."""
        for stream in tuple(self._streams):
            stream.end()

    async def _watch(self) -> None:
        tick = min(TICK, self._heartbeat / 4)
        next_beat = 0.0
        while True:
            await asyncio.sleep(tick)
            # Every tick, not only once: a stream may be added after the shutdown has begun.
            if self._is_shutting_down():
                self.end()
            now = time.monotonic()
            if now >= next_beat:
                next_beat = now + self._heartbeat / 4
                for stream in tuple(self._streams):
                    stream.beat(now - self._heartbeat)


def uvicorn_is_shutting_down() -> bool:
    """Return whether the uvicorn that runs in this process has been asked to shut down.

    uvicorn first waits until all responses have ended, by default without a limit, and only then runs the app's
    lifespan shutdown. An app with endless streams would therefore learn of the shutdown too late, and uvicorn has no
    other hook for it. But its handler for SIGTERM is a bound method of its `Server`, which then sets `should_exit`.
    Under another server, or with uvicorn in a thread (which cannot install handlers), this is always False.
    """
    server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return bool(getattr(server, "should_exit", False))
