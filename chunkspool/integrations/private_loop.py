"""Iterates an asynchronous stream from a thread that has no asyncio loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import aclosing, suppress
from typing import TypeVar

from chunkspool.errors import InvalidInput

T = TypeVar("T")


def iterate(open_stream: Callable[[], AsyncGenerator[T, None]]) -> Generator[T, None, None]:
    """Yield what the stream yields. Closing this generator cancels the stream, and waits until it has cleaned up.

    The loop runs only while the caller waits for the next item, so the stream is never more than one item ahead. All of
    the stream runs in one task: frameworks do not like to end in another one than they began in. Raises `InvalidInput`
    inside a running loop.
    """
    with suppress(RuntimeError):
        asyncio.get_running_loop()
        raise InvalidInput("this thread runs an asyncio loop: use the async function")
    with asyncio.Runner() as runner:
        pipe: asyncio.Queue[T] = asyncio.Queue(maxsize=1)
        task = runner.get_loop().create_task(_pump(open_stream, pipe))
        try:
            while True:
                item = runner.run(_take(pipe, task))
                if item is None:
                    break
                yield item[0]
        finally:
            task.cancel()
            runner.run(_wait_for_end(task))


async def _pump(open_stream: Callable[[], AsyncGenerator[T, None]], pipe: asyncio.Queue[T]) -> None:
    async with aclosing(open_stream()) as stream:
        async for item in stream:
            await pipe.put(item)


async def _take(pipe: asyncio.Queue[T], task: asyncio.Task[None]) -> tuple[T] | None:
    """Return the next item, or None after the last one. Raises what the stream raised."""
    if not pipe.empty():
        return (pipe.get_nowait(),)
    following = asyncio.ensure_future(pipe.get())
    try:
        await asyncio.wait({following, task}, return_when=asyncio.FIRST_COMPLETED)
        if following.done():
            return (following.result(),)
    finally:
        following.cancel()
    if not pipe.empty():
        return (pipe.get_nowait(),)
    task.result()
    return None


async def _wait_for_end(task: asyncio.Task[None]) -> None:
    """Wait for a task that was cancelled. What it raised was told before, or nobody asks for it any more."""
    await asyncio.wait({task})
    if not task.cancelled():
        task.exception()
