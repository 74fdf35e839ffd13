"""Sync and async spools with the same blocking interface, so that a test is written once for both."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from support.chats.spools import async_spool_for, spool_for

from chunkspool import AsyncSpool, Entry, Producer, Spool

SPOOL_KINDS = ("sync", "async")


class BlockingSyncSpool:
    """A `Spool` with two more calls, which enter its blocks."""

    def __init__(self, spool: Spool) -> None:
        """Wrap `spool`, which stays its owner's to close."""
        self.spool = spool

    def __getattr__(self, name: str) -> Any:
        """Return the attribute of `Spool`."""
        return getattr(self.spool, name)

    def for_tenant(self, tenant: str) -> BlockingSyncSpool:
        """Return a wrapper for another tenant; close only the first."""
        return BlockingSyncSpool(self.spool.for_tenant(tenant))

    def follow(self, chat_id: str, after: int = 0, *, until: str = "idle") -> list[Entry]:
        """Return the entries of a subscription, up to its end."""
        with self.spool.subscribe(chat_id, after, until=until) as entries:
            return list(entries)

    def run_producer(
        self, chat_id: str, generation_id: str, write: Callable[[Producer], object], *, wait: float = 0
    ) -> Producer:
        """Claim the generation, let `write` write it, and return its producer."""
        with self.spool.produce(chat_id, generation_id, wait=wait) as out:
            write(out)
        return out

    def close(self) -> None:
        """Close the spool."""
        self.spool.close()


class BlockingAsyncSpool:
    """An `AsyncSpool` whose calls each run to their end on an event loop that is idle in between."""

    def __init__(self, spool: AsyncSpool, runner: asyncio.Runner | None = None) -> None:
        """Wrap `spool`, which stays its owner's to close."""
        self.spool = spool
        self._runner = runner or asyncio.Runner()

    def run(self, awaitable: Awaitable[Any]) -> Any:
        """Wait for `awaitable` on the loop."""
        return self._runner.run(self._await(awaitable))

    def __getattr__(self, name: str) -> Any:
        """Return the attribute of `AsyncSpool`, as a blocking call where it is awaitable."""
        method = getattr(self.spool, name)
        if not callable(method):
            return method

        def call(*args: Any, **keywords: Any) -> Any:
            result = method(*args, **keywords)
            return self.run(result) if isinstance(result, Awaitable) else result

        return call

    def for_tenant(self, tenant: str) -> BlockingAsyncSpool:
        """Return a wrapper for another tenant; close only the first."""
        return BlockingAsyncSpool(self.spool.for_tenant(tenant), self._runner)

    def follow(self, chat_id: str, after: int = 0, *, until: str = "idle") -> list[Entry]:
        """Return the entries of a subscription, up to its end."""

        async def read() -> list[Entry]:
            async with self.spool.subscribe(chat_id, after, until=until) as entries:
                return [entry async for entry in entries]

        return self.run(read())

    def run_producer(
        self, chat_id: str, generation_id: str, write: Callable[[Producer], object], *, wait: float = 0
    ) -> Producer:
        """Claim the generation, let `write` write it, and return its producer."""

        async def produce() -> Producer:
            async with self.spool.produce(chat_id, generation_id, wait=wait) as out:
                write(out)
            return out

        return self.run(produce())

    def close(self) -> None:
        """Close the spool and the loop."""
        self.run(self.spool.aclose())
        self._runner.close()

    @staticmethod
    async def _await(awaitable: Awaitable[Any]) -> Any:
        return await awaitable


BlockingSpool = BlockingSyncSpool | BlockingAsyncSpool


@contextmanager
def open_spool(kind: str, url: str, **settings: object) -> Iterator[BlockingSpool]:
    """Open a spool of this kind with a test's settings, and close it afterwards."""
    any_spool = (
        BlockingSyncSpool(spool_for(url, **settings))
        if kind == "sync"
        else BlockingAsyncSpool(async_spool_for(url, **settings))
    )
    try:
        yield any_spool
    finally:
        any_spool.close()
