"""Writes the stream of a framework into a generation, and closes the stream however the block is left."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from contextlib import aclosing, closing

from chunkspool.producing.producer import Producer
from chunkspool.provider import Delta, SignOfLife


def relay(deltas: Generator[Delta | SignOfLife, None, None], out: Producer) -> None:
    """Write all `deltas` to `out`. Raises what the producer's methods and the stream raise."""
    with closing(deltas):
        for delta in deltas:
            out.write(delta)


async def arelay(deltas: AsyncGenerator[Delta | SignOfLife, None], out: Producer) -> None:
    """Write all `deltas` to `out`, at the pace of Redis. Raises what the producer's methods and the stream raise."""
    async with aclosing(deltas):
        async for delta in deltas:
            out.write(delta)
            await out.drain()
