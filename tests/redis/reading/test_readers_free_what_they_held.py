"""A reader that leaves, in whatever way, leaves nothing behind: no subscription, connection, thread or task."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import threading
import warnings
from collections.abc import AsyncIterator, Iterator

import pytest
from redis import Redis
from support.chats.handwritten_chat import HandwrittenChat
from support.chats.spools import async_spool_for, spool_for
from support.readers.reader_group import ReaderGroups, count_subscribed_connections, count_subscriptions
from support.waiting import after, eventually

from chunkspool import AsyncSpool, Spool
from chunkspool.errors import SpoolClosed

HUB = "chunkspool-hub"


@pytest.fixture
def chat(client: Redis) -> HandwrittenChat:
    """Provide a chat with an active generation."""
    return HandwrittenChat(client)


@pytest.fixture
def spool(redis_url: str) -> Iterator[Spool]:
    """Provide a spool that notices dropped readers soon."""
    with spool_for(redis_url, recheck=0.5) as opened:
        yield opened


@pytest.fixture
async def async_spool(redis_url: str) -> AsyncIterator[AsyncSpool]:
    """Provide a spool that notices dropped readers soon."""
    async with async_spool_for(redis_url, recheck=0.5) as opened:
        yield opened


def hub_threads() -> list[str]:
    """Return the names of the hubs' threads."""
    return [thread.name for thread in threading.enumerate() if thread.name == HUB]


async def wait_until_nothing_is_left(client: Redis) -> None:
    """Wait until Redis has no subscription and no hub connection, and the loop no hub task."""
    async with asyncio.timeout(20):
        while count_subscriptions(client) or count_subscribed_connections(client) or _hub_tasks():  # noqa: ASYNC110 - Redis's
            await asyncio.sleep(0.02)


def _hub_tasks() -> list[str]:
    return [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith(HUB)]


async def wait_until_subscribed(client: Redis, chat: HandwrittenChat) -> None:
    """Wait until there is a subscription to the chat."""
    async with asyncio.timeout(20):
        while chat.keys.live not in count_subscriptions(client):  # noqa: ASYNC110 - Redis's
            await asyncio.sleep(0.02)


def test_leaving_frees_subscription_connection_and_thread(spool: Spool, chat: HandwrittenChat, client: Redis) -> None:
    """A `with` block is left in the middle of a chat."""
    with spool.subscribe(chat.chat_id) as entries:
        assert [next(entries).seq, next(entries).seq] == [1, 2]
        with after(0.1, lambda: chat.append("live")):
            assert next(entries).seq == 3
        assert count_subscribed_connections(client) == 1
        assert hub_threads() == [HUB]
    assert next(entries, None) is None
    eventually(
        lambda: (count_subscriptions(client), count_subscribed_connections(client), hub_threads()) == ({}, 0, [])
    )


async def test_leaving_frees_subscription_connection_and_task(
    async_spool: AsyncSpool, chat: HandwrittenChat, client: Redis
) -> None:
    """An `async with` block is left in the middle of a chat."""
    async with async_spool.subscribe(chat.chat_id) as entries:
        async for entry in entries:
            if entry.seq == 2:
                asyncio.get_running_loop().call_later(0.1, chat.append, "live")
            if entry.seq == 3:
                break
        assert count_subscribed_connections(client) == 1
    assert await anext(entries, None) is None
    await wait_until_nothing_is_left(client)


async def test_a_cancelled_reader_frees_what_it_held(
    async_spool: AsyncSpool, chat: HandwrittenChat, client: Redis
) -> None:
    """A web server cancels the task of a client that hung up, whatever it is doing at that moment."""

    async def read() -> None:
        async with async_spool.subscribe(chat.chat_id) as entries:
            async for _ in entries:
                pass

    for turns in range(12):
        task = asyncio.create_task(read())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
    waiting = [asyncio.create_task(read()) for _ in range(10)]
    await wait_until_subscribed(client, chat)
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)
    await wait_until_nothing_is_left(client)


async def test_a_dropped_async_iterator_frees_what_it_held(
    async_spool: AsyncSpool, chat: HandwrittenChat, client: Redis
) -> None:
    """Also one that was never closed, as soon as nothing refers to it."""
    entries = await async_spool.subscribe(chat.chat_id).__aenter__()
    waiting = asyncio.create_task(anext(aiter(entries)))
    assert (await waiting).seq == 1
    assert (await anext(entries)).seq == 2
    waiting = asyncio.ensure_future(anext(entries))
    await wait_until_subscribed(client, chat)
    waiting.cancel()
    await asyncio.wait([waiting])
    del entries, waiting
    gc.collect()
    await wait_until_nothing_is_left(client)


def test_a_dropped_iterator_frees_what_it_held(spool: Spool, chat: HandwrittenChat, client: Redis) -> None:
    """Also one that was never entered or closed, as soon as nothing refers to it."""
    entries = spool.subscribe(chat.chat_id)
    assert [next(entries).seq, next(entries).seq] == [1, 2]
    with after(0.1, lambda: chat.append("live")):
        assert next(entries).seq == 3
    assert count_subscriptions(client) == {chat.keys.live: 1}
    del entries
    gc.collect()
    eventually(
        lambda: (count_subscriptions(client), count_subscribed_connections(client), hub_threads()) == ({}, 0, [])
    )


def test_closing_the_spool_ends_its_readers(
    reader_groups: ReaderGroups, chat: HandwrittenChat, redis_url: str, client: Redis
) -> None:
    """Every reader gets `SpoolClosed`, and nothing is held any more."""
    group = reader_groups.open(redis_url)
    readers = [group.follow(chat.chat_id, until="forever") for _ in range(5)]
    for reader in readers:
        reader.wait_for(2)
    eventually(lambda: count_subscriptions(client) == {chat.keys.live: 1})
    reader_groups.close()
    for reader in readers:
        reader.wait_for_end()
        assert [type(error) for error in reader.errors] == [SpoolClosed]
    eventually(
        lambda: (count_subscriptions(client), count_subscribed_connections(client), hub_threads()) == ({}, 0, [])
    )


async def test_a_subscription_is_for_one_task(async_spool: AsyncSpool, chat: HandwrittenChat) -> None:
    """Of two tasks waiting on the same subscription one gets an error; they do not steal each other's events."""
    async with async_spool.subscribe(chat.chat_id, after=2) as entries:
        tasks = [asyncio.ensure_future(anext(entries)) for _ in range(2)]
        told, waiting = await asyncio.wait(tasks, timeout=20, return_when=asyncio.FIRST_COMPLETED)
        with pytest.raises(RuntimeError, match="give each task its own"):
            await told.pop()
        chat.append("a")
        assert (await waiting.pop()).seq == 3


def test_a_forked_process_has_readers_of_its_own(spool: Spool, chat: HandwrittenChat, client: Redis) -> None:
    """After a fork the child neither waits for its parent's thread nor uses its parent's connection."""
    with spool.subscribe(chat.chat_id, after=2) as entries:
        seen: list[int] = []
        reader = threading.Thread(target=lambda: seen.extend(entry.seq for entry in entries), daemon=True)
        reader.start()
        eventually(lambda: count_subscriptions(client) == {chat.keys.live: 1})
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", DeprecationWarning
            )  # Python 3.12 warns about forking with threads, which is the point
            child = os.fork()
        if child == 0:
            os._exit(_read_to_the_end(spool, chat))
        try:
            eventually(lambda: count_subscriptions(client) == {chat.keys.live: 2})
            chat.append("for both")
            last = chat.complete()
            found, status = eventually(lambda: os.waitpid(child, os.WNOHANG) if _is_over(child) else None, 20)
        except BaseException:
            os.kill(child, signal.SIGKILL)
            raise
        assert (found, os.waitstatus_to_exitcode(status)) == (child, last)
        reader.join(20)
        assert seen == [3, 4]


def _is_over(child: int) -> bool:
    return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _read_to_the_end(spool: Spool, chat: HandwrittenChat) -> int:
    try:
        with spool.subscribe(chat.chat_id) as entries:
            return [entry.seq for entry in entries][-1]
    except BaseException:  # noqa: BLE001 - the child must not continue its parent's tests
        return 255
