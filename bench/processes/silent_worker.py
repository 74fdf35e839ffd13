"""A worker with silent models: `python -m bench.processes.silent_worker <redis url> <chat>/<generation> …`."""

from __future__ import annotations

import asyncio
import sys

from chunkspool import AsyncSpool
from chunkspool.settings import Settings


async def hold_generations(url: str, generations: list[str]) -> None:
    """Claim all generations and write nothing until each was stopped."""
    async with AsyncSpool.from_settings(Settings.checked({"redis_url": url})) as spool, asyncio.TaskGroup() as group:
        for generation in generations:
            group.create_task(_hold_silently(spool, *generation.split("/")))


async def _hold_silently(spool: AsyncSpool, chat_id: str, generation_id: str) -> None:
    async with spool.produce(chat_id, generation_id):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(hold_generations(sys.argv[1], sys.argv[2:]))
