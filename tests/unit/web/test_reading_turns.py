"""Reading long chats: a few at a time for each chat and tenant, and nobody else waits for them."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from chunkspool.errors import StoreBusy
from chunkspool.web.reading_turns import CHAT_READS, TENANT_READS, ReadingTurns


async def test_one_chat_is_read_by_a_few_at_a_time() -> None:
    """The next one comes when one has gone, and readers of other chats wait for none of them."""
    turns = ReadingTurns(60)
    came = asyncio.Event()

    async def read() -> None:
        async with turns.take("a", "long"):
            came.set()

    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(AsyncExitStack())
        await first.enter_async_context(turns.take("a", "long"))
        for _ in range(CHAT_READS - 1):
            await stack.enter_async_context(turns.take("a", "long"))
        waiting = asyncio.create_task(read())
        async with turns.take("a", "other"), turns.take("b", "long"):
            assert not came.is_set()
        await first.aclose()
        await waiting
        assert came.is_set()


async def test_one_tenant_leaves_turns_to_the_others() -> None:
    """However many chats it reads; who waits for too long is told, and keeps nothing."""
    turns = ReadingTurns(0.01)
    async with AsyncExitStack() as stack:
        for n in range(TENANT_READS):
            await stack.enter_async_context(turns.take("a", f"chat-{n}"))
        with pytest.raises(StoreBusy, match="try again"):
            async with turns.take("a", "one-more"):
                pass
        async with turns.take("b", "chat"):
            pass
    async with turns.take("a", "one-more"):
        pass


async def test_nothing_is_kept_of_who_has_gone() -> None:
    """Also of one that was cancelled while it waited."""
    turns = ReadingTurns(60)
    async with AsyncExitStack() as stack:
        for _ in range(CHAT_READS):
            await stack.enter_async_context(turns.take("a", "long"))

        async def wait() -> None:
            async with turns.take("a", "long"):
                raise AssertionError("it was not its turn")

        waiting = asyncio.create_task(wait())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    assert turns.is_idle
