"""Collect what a stream of a framework says, sync or async, in the same way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import aclosing, closing
from typing import Any

from chunkspool.provider import Delta, SignOfLife, Text

Said = tuple[list[Delta], Exception | None]
AnyStream = Callable[..., Generator[Any, None, None] | AsyncGenerator[Any, None]]


async def collect(stream: Any) -> Said:
    """Return the deltas of a stream, texts joined, and the error that ended it. A sync one is read in a thread."""
    if not isinstance(stream, AsyncGenerator):
        return await asyncio.to_thread(_collect_sync, stream)
    deltas: list[Delta] = []
    try:
        async with aclosing(stream):
            async for delta in stream:
                _add(deltas, delta)
    except Exception as error:  # noqa: BLE001 - the test looks at it
        return deltas, error
    return deltas, None


def _collect_sync(stream: Generator[Any, None, None]) -> Said:
    deltas: list[Delta] = []
    try:
        with closing(stream):
            for delta in stream:
                _add(deltas, delta)
    except Exception as error:  # noqa: BLE001 - the test looks at it
        return deltas, error
    return deltas, None


def _add(deltas: list[Delta], delta: Delta | SignOfLife) -> None:
    if isinstance(delta, SignOfLife):
        return
    last = deltas[-1] if deltas else None
    if isinstance(delta, Text) and isinstance(last, Text):
        deltas[-1] = Text(last.text + delta.text)
    else:
        deltas.append(delta)
