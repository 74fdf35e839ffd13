"""Reads the body of an `EventStream` in both ways: as a server with threads does, and as one with an event loop."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from support.chats.spools import async_spool_for, spool_for
from support.readers.running_loop import running_loop

from chunkspool import AsyncSpool
from chunkspool.views import EventStream

BODY_KINDS = ("threads", "asyncio")


class Body(Protocol):
    """A body that is being sent."""

    def __next__(self) -> bytes:
        """Return the next piece."""
        ...

    def __iter__(self) -> Iterator[bytes]:
        """Return itself."""
        ...

    def close(self) -> None:
        """Hang up."""
        ...


class _AsyncBody:
    """An async body."""

    def __init__(self, pieces: Any, run: Callable[[Coroutine[Any, Any, Any]], Any]) -> None:
        self._pieces = pieces
        self._run = run

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        piece: bytes | None = self._run(anext(self._pieces, None))
        if piece is None:
            raise StopIteration
        return piece

    def close(self) -> None:
        self._run(self._pieces.aclose())


@contextmanager
def open_bodies(kind: str, redis_url: str, **settings: object) -> Iterator[Callable[[EventStream], Any]]:
    """Give the function that opens a stream; what it returns has `next` and `close`."""
    if kind == "threads":
        with spool_for(redis_url, **settings) as spool:
            yield lambda stream: stream.open(spool)
        return
    with running_loop() as run:

        async def make() -> AsyncSpool:
            return async_spool_for(redis_url, **settings)

        async_spool = run(make())
        yield lambda stream: _AsyncBody(stream.open_async(async_spool), run)
        run(async_spool.aclose())
