"""The bare client: reads a model's streams with aiohttp and uvloop, parses each chunk, and does nothing with it.

`python -m bench.processes.bare_client BASE_URL STREAMS RATE`. It runs until its standard input is closed.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import aiohttp
import uvloop
from pydantic_core import from_json

ENDLESS = 10**9


async def read_streams(url: str, streams: int, rate: float) -> None:
    """Read them at the same time until standard input is closed."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        readers = [asyncio.ensure_future(_read_stream(session, url, rate)) for _ in range(streams)]
        await asyncio.to_thread(sys.stdin.read)
        for reader in readers:
            reader.cancel()
        await asyncio.wait(readers)


async def _read_stream(session: aiohttp.ClientSession, url: str, rate: float) -> None:
    asked: dict[str, Any] = {"messages": [], "stream": True, "paced": {"tokens": ENDLESS, "rate": rate}}
    headers = {"content-type": "application/json"}
    async with session.post(f"{url}/chat/completions", data=json.dumps(asked), headers=headers) as response:
        async for line in response.content:
            if line.startswith(b"data: {"):
                from_json(line[6:])


if __name__ == "__main__":
    uvloop.run(read_streams(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
