"""The open event streams: one task sends their heartbeats, drops dead ones, and ends all when the server shuts down."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable
from typing import Protocol

from chunkspool.settings import WebSettings
from chunkspool.web.streaming.stream_count import StreamCount

TICK = 0.25
"""Seconds between two checks for a shutdown. The server waits for its streams, so a shutdown takes this much longer."""


class OpenStream(Protocol):
    """A stream that is being sent."""

    def look_after(self, now: float) -> None:
        """Do what is due at `now` (monotonic clock): a heartbeat, or the end of a stream that nobody receives."""
        ...

    def end(self) -> None:
        """End the stream after sending what is waiting."""
        ...


class OpenStreams:
    """The streams of one app. A single task looks after all of them while there are any: no stream has a timer."""

    def __init__(self, settings: WebSettings, is_shutting_down: Callable[[], bool] | None = None) -> None:
        """Without `is_shutting_down`, the uvicorn of this process is asked."""
        self.settings = settings
        self._is_shutting_down = is_shutting_down or uvicorn_is_shutting_down
        self._streams: set[OpenStream] = set()
        self._watcher: asyncio.Task[None] | None = None
        self.count = StreamCount()

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
        settings = self.settings
        period = min(settings.heartbeat, settings.reauthorize, settings.stall_timeout, settings.stream_deadline) / 4
        next_look = 0.0
        while True:
            await asyncio.sleep(min(TICK, period))
            # Every tick, not only once: a stream may be added after the shutdown has begun.
            if self._is_shutting_down():
                self.end()
            now = time.monotonic()
            if now >= next_look:
                next_look = now + period
                for stream in tuple(self._streams):
                    stream.look_after(now)
                self.count.renew_if_due(now)


def uvicorn_is_shutting_down() -> bool:
    """Return whether the uvicorn that runs in this process has been asked to shut down.

    uvicorn first waits until all responses have ended, by default without a limit, and only then runs the app's
    lifespan shutdown. An app with endless streams would therefore learn of the shutdown too late, and uvicorn has no
    other hook for it. But its handler for SIGTERM is a bound method of its `Server`, which then sets `should_exit`.
    Under another server, or with uvicorn in a thread (which cannot install handlers), this is always False.
    """
    server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return bool(getattr(server, "should_exit", False))
