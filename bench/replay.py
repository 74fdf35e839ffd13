"""`make bench`, replay: a long chat through `subscribe`, compared with plain XRANGE paging with redis-py.

`python -m bench.replay`; exit code 1 if a figure misses its target.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial

from bench.harness.environment import Environment, ReadyChat
from bench.harness.report import Figure, at_least, measure_medians
from bench.harness.run import Measurements, run
from chunkspool import AsyncSpool, Spool
from chunkspool.settings import Settings
from chunkspool.store.client import connect, connect_async
from chunkspool.store.commands import as_text
from chunkspool.store.pages import PAGE

EVENTS, BATCH = 10_000, 100
RUNS, REPLAYS = 5, 5
LIMIT = 0.5


def measure(environment: Environment) -> list[Figure]:
    """Measure sync and async, each compared with the same client's paging."""
    chat = environment.new_claimed_chat()
    for _ in range(EVENTS // BATCH):
        environment.store.send(chat.next_append((chat.event,) * BATCH))
    plain, ours, decoded, plain_async, ours_async = measure_medians(
        RUNS,
        partial(_replay_by_xrange, environment, chat),
        partial(_replay_by_subscribe, environment, chat, decode=False),
        partial(_replay_by_subscribe, environment, chat, decode=True),
        lambda: asyncio.run(_replay_by_xrange_async(environment, chat)),
        lambda: asyncio.run(_replay_by_subscribe_async(environment, chat)),
    )
    what = f"replay of {EVENTS:,} events: subscribe / XRANGE paging"
    return [
        at_least(f"{what}, asyncio", ours_async / plain_async, LIMIT, " x", _format_rates(ours_async, plain_async)),
        at_least(f"{what}, sync", ours / plain, LIMIT, " x", _format_rates(ours, plain)),
        Figure(
            "  with every event decoded (`entry.event`), sync", f"{decoded / plain:.2f} x  ({decoded:,.0f} events/s)"
        ),
    ]


def _format_rates(ours: float, plain: float) -> str:
    return f"{ours:,.0f} / {plain:,.0f} events/s"


def _replay_by_xrange(environment: Environment, chat: ReadyChat) -> float:
    with connect(environment.url) as client:

        def replay() -> int:
            last, count = "0", 0
            while page := client.xrange(chat.keys.log, f"({last}", "+", count=PAGE):
                last, count = as_text(page[-1][0]), count + len(page)
            return count

        return _events_per_second(replay)


def _replay_by_subscribe(environment: Environment, chat: ReadyChat, *, decode: bool) -> float:
    with Spool.from_settings(Settings.checked({"redis_url": environment.url})) as spool:

        def replay() -> int:
            count = 0
            # The generation is active, so the subscription would wait for events after the log.
            with spool.subscribe(chat.keys.chat_id, until="forever") as entries:
                for entry in entries:
                    count += 1
                    if decode:
                        _ = entry.event
                    if entry.seq == EVENTS + 2:
                        break
            return count

        return _events_per_second(replay)


async def _replay_by_xrange_async(environment: Environment, chat: ReadyChat) -> float:
    async with connect_async(environment.url) as client:

        async def replay() -> int:
            last, count = "0", 0
            while page := await client.xrange(chat.keys.log, f"({last}", "+", count=PAGE):
                last, count = as_text(page[-1][0]), count + len(page)
            return count

        return await _events_per_second_async(replay)


async def _replay_by_subscribe_async(environment: Environment, chat: ReadyChat) -> float:
    async with AsyncSpool.from_settings(Settings.checked({"redis_url": environment.url})) as spool:

        async def replay() -> int:
            count = 0
            async with spool.subscribe(chat.keys.chat_id, until="forever") as entries:
                async for entry in entries:
                    count += 1
                    if entry.seq == EVENTS + 2:
                        break
            return count

        return await _events_per_second_async(replay)


def _events_per_second(replay: Callable[[], int]) -> float:
    replay()
    began = time.perf_counter()
    count = sum(replay() for _ in range(REPLAYS))
    return count / (time.perf_counter() - began)


async def _events_per_second_async(replay: Callable[[], Awaitable[int]]) -> float:
    await replay()
    began = time.perf_counter()
    count = sum([await replay() for _ in range(REPLAYS)])
    return count / (time.perf_counter() - began)


MEASUREMENTS: Measurements = {"replay": measure}

if __name__ == "__main__":
    sys.exit(run(MEASUREMENTS, __doc__))
