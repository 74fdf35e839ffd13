"""A process whose producers say tokens at a steady rate, as tasks of one's own do; each token is the time it was said.

`python -m bench.processes.paced_writer REDIS_URL RATE SECONDS CHAT/GENERATION …`
"""

from __future__ import annotations

import asyncio
import sys
import time

from bench.processes.reader_process import TOKEN_SIZE
from chunkspool import AsyncSpool
from chunkspool.settings import Settings


async def say_tokens(url: str, rate: float, seconds: float, generations: list[str]) -> None:
    """Claim all generations and write to them at the same time."""
    async with AsyncSpool.from_settings(Settings.checked({"redis_url": url})) as spool, asyncio.TaskGroup() as group:
        for number, generation in enumerate(generations):
            # Spread over one interval: models do not send in step.
            shift = number / len(generations) / rate
            group.create_task(_say(spool, *generation.split("/"), rate=rate, tokens=int(rate * seconds), shift=shift))


async def _say(spool: AsyncSpool, chat_id: str, generation_id: str, *, rate: float, tokens: int, shift: float) -> None:
    loop = asyncio.get_running_loop()
    async with spool.produce(chat_id, generation_id) as out:
        began = loop.time() + shift
        for token in range(tokens):
            await asyncio.sleep(began + token / rate - loop.time())
            out.text(f"{time.monotonic_ns():0{TOKEN_SIZE}d}")


if __name__ == "__main__":
    asyncio.run(say_tokens(sys.argv[1], float(sys.argv[2]), float(sys.argv[3]), sys.argv[4:]))
