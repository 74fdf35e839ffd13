"""`make bench`, replay: a long chat through `subscribe`, beside plain XRANGE paging with redis-py.

`python -m bench.replay`; exit code 1 if a figure misses its target.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial

from bench.harness.environment import Ground, ReadyChat
from bench.harness.report import Line, at_least, medians
from bench.harness.run import Figures, run
from chunkspool import AsyncSpool, Spool
from chunkspool.settings import Settings
from chunkspool.store.client import connect, connect_async
from chunkspool.store.commands import as_text
from chunkspool.store.pages import PAGE

EVENTS, BATCH = 10_000, 100
RUNS, REPLAYS = 5, 5
LIMIT = 0.5


def measured(ground: Ground) -> list[Line]:
    """Measure sync and async, each beside the same client's paging."""
    chat = ground.claimed()
    for _ in range(EVENTS // BATCH):
        ground.store.send(chat.batch((chat.event,) * BATCH))
    plain, ours, decoded, plain_async, ours_async = medians(
        RUNS,
        partial(_paged, ground, chat),
        partial(_replayed, ground, chat, decode=False),
        partial(_replayed, ground, chat, decode=True),
        lambda: asyncio.run(_paged_async(ground, chat)),
        lambda: asyncio.run(_replayed_async(ground, chat)),
    )
    what = f"replay of {EVENTS:,} events: subscribe / XRANGE paging"
    return [
        at_least(f"{what}, asyncio", ours_async / plain_async, LIMIT, " x", _rates(ours_async, plain_async)),
        at_least(f"{what}, sync", ours / plain, LIMIT, " x", _rates(ours, plain)),
        Line(
            "  and every event looked at (`entry.event`), sync", f"{decoded / plain:.2f} x  ({decoded:,.0f} events/s)"
        ),
    ]


def _rates(ours: float, plain: float) -> str:
    return f"{ours:,.0f} / {plain:,.0f} events/s"


def _paged(ground: Ground, chat: ReadyChat) -> float:
    with connect(ground.url) as client:

        def replay() -> int:
            last, count = "0", 0
            while page := client.xrange(chat.keys.log, f"({last}", "+", count=PAGE):
                last, count = as_text(page[-1][0]), count + len(page)
            return count

        return _timed(replay)


def _replayed(ground: Ground, chat: ReadyChat, *, decode: bool) -> float:
    with Spool.from_settings(Settings.checked({"redis_url": ground.url})) as spool:

        def replay() -> int:
            count = 0
            # The generation is active: what comes after the log would be waited for.
            with spool.subscribe(chat.keys.chat_id, until="forever") as entries:
                for entry in entries:
                    count += 1
                    if decode:
                        _ = entry.event
                    if entry.seq == EVENTS + 2:
                        break
            return count

        return _timed(replay)


async def _paged_async(ground: Ground, chat: ReadyChat) -> float:
    async with connect_async(ground.url) as client:

        async def replay() -> int:
            last, count = "0", 0
            while page := await client.xrange(chat.keys.log, f"({last}", "+", count=PAGE):
                last, count = as_text(page[-1][0]), count + len(page)
            return count

        return await _timed_async(replay)


async def _replayed_async(ground: Ground, chat: ReadyChat) -> float:
    async with AsyncSpool.from_settings(Settings.checked({"redis_url": ground.url})) as spool:

        async def replay() -> int:
            count = 0
            async with spool.subscribe(chat.keys.chat_id, until="forever") as entries:
                async for entry in entries:
                    count += 1
                    if entry.seq == EVENTS + 2:
                        break
            return count

        return await _timed_async(replay)


def _timed(replay: Callable[[], int]) -> float:
    replay()
    began = time.perf_counter()
    count = sum(replay() for _ in range(REPLAYS))
    return count / (time.perf_counter() - began)


async def _timed_async(replay: Callable[[], Awaitable[int]]) -> float:
    await replay()
    began = time.perf_counter()
    count = sum([await replay() for _ in range(REPLAYS)])
    return count / (time.perf_counter() - began)


FIGURES: Figures = {"replay": measured}

if __name__ == "__main__":
    sys.exit(run(FIGURES, __doc__))
