"""A task that is cancelled while it talks to Redis ends, whatever redis-py is doing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from redis import Redis
from support.chats.logs import CHAT, KEYS
from support.chats.spools import async_spool_for
from support.readers.reader_group import count_subscriptions
from support.waiting import eventually

from chunkspool import AsyncSpool

MOMENTS = 60


async def follow(spool: AsyncSpool) -> None:
    """Follow a chat with a queued generation and no worker: without a cancellation this never ends."""
    async with spool.subscribe(CHAT) as entries:
        async for _ in entries:
            pass


async def poll_status_forever(spool: AsyncSpool) -> None:
    """Ask for the status forever."""
    while True:
        await spool.status(CHAT)


@pytest.mark.parametrize("never_ending", [follow, poll_status_forever])
async def test_a_cancellation_is_never_lost(
    redis_url: str, client: Redis, never_ending: Callable[[AsyncSpool], Awaitable[None]]
) -> None:
    """Promise 10: a reader cancelled at any moment (a closed browser, a Ctrl-C) ends and frees everything."""
    async with async_spool_for(redis_url) as spool:
        await spool.enqueue(CHAT, "x")
    for moment in range(MOMENTS):
        async with async_spool_for(redis_url) as spool:
            task = asyncio.ensure_future(never_ending(spool))
            for _ in range(moment):
                await asyncio.sleep(0)
            task.cancel()
            done, _ = await asyncio.wait({task}, timeout=20)
            assert done, f"lost at step {moment}"
            assert task.cancelled()
    assert client.pubsub_numsub(KEYS.live) == [(KEYS.live.encode(), 0)]


@pytest.mark.parametrize("warm", [False, True])
async def test_a_cancellation_just_before_is_not_lost(redis_url: str, warm: bool) -> None:
    """A signal handler cancels a running task, so the cancellation waits for the task's next await."""
    async with async_spool_for(redis_url) as spool:
        await spool.enqueue(CHAT, "x")
    for _ in range(5):
        async with async_spool_for(redis_url) as spool:

            async def cancel_itself(spool: AsyncSpool = spool) -> None:
                async with spool.subscribe(CHAT) as entries:
                    if warm:
                        await anext(entries)
                    task = asyncio.current_task()
                    assert task
                    task.cancel()
                    async for _ in entries:
                        pass

            task = asyncio.ensure_future(cancel_itself())
            done, _ = await asyncio.wait({task}, timeout=20)
            assert done
            assert task.cancelled()


async def test_a_task_may_use_redis_after_a_cancellation(redis_url: str, client: Redis) -> None:
    """Cleaning up after a cancellation needs Redis, too: only a new cancellation cancels it."""
    async with async_spool_for(redis_url) as spool:
        asked = await spool.enqueue(CHAT, "x")

        async def clean_up_after_cancellation() -> str:
            try:
                await follow(spool)
            except asyncio.CancelledError:
                await spool.stop(CHAT, asked.generation_id)
                async with spool.subscribe(CHAT) as entries:
                    return [entry.type async for entry in entries][-1]
            return "not cancelled"

        task = asyncio.ensure_future(clean_up_after_cancellation())
        await asyncio.to_thread(eventually, lambda: KEYS.live in count_subscriptions(client))
        task.cancel()
        assert await task == "generation.stopped"
