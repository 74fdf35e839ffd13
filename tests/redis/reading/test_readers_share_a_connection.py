"""All readers of a process share one subscribed connection and use little of the client's pool."""

from __future__ import annotations

import asyncio
import threading

import pytest
from redis import BlockingConnectionPool, Redis
from redis.asyncio import Redis as AsyncRedis
from support.chats.handwritten_chat import HandwrittenChat
from support.chats.spools import settings_for
from support.readers.reader_group import ReaderGroups, count_subscribed_connections, count_subscriptions
from support.waiting import eventually

from chunkspool import AsyncSpool, Spool


def test_a_hundred_readers_of_fifty_chats_hold_one_subscribed_connection(
    reader_groups: ReaderGroups, redis_url: str, client: Redis
) -> None:
    """Each chat has one subscription, however many readers it has, and all readers get every event live."""
    chats = [HandwrittenChat(client, f"chat-{number}") for number in range(50)]
    group = reader_groups.open(redis_url)
    readers = [(chat, group.follow(chat.chat_id)) for chat in chats for _ in range(2)]
    eventually(lambda: count_subscriptions(client) == {chat.keys.live: 1 for chat in chats})
    assert count_subscribed_connections(client) == 1
    ends = {chat.chat_id: (chat.append("a"), chat.append("b", "c"), chat.complete())[-1] for chat in chats}
    for chat, reader in readers:
        reader.wait_for_end()
        assert reader.errors == []
        assert reader.seqs == list(range(1, ends[chat.chat_id] + 1))
    # 1 subscribed, 1 for probes, 4 of the pool, and this test's own.
    assert len(client.client_list()) <= 1 + 1 + 4 + 1


def test_the_last_reader_of_a_chat_ends_its_subscription(
    reader_groups: ReaderGroups, redis_url: str, client: Redis
) -> None:
    """A reader that leaves takes nothing from the others; when all have left, nothing is held."""
    chat = HandwrittenChat(client)
    group = reader_groups.open(redis_url)
    first, second = group.follow(chat.chat_id), group.follow(chat.chat_id)
    first.wait_for(2)
    second.wait_for(2)
    eventually(lambda: count_subscriptions(client) == {chat.keys.live: 1})
    first.leave()
    first.wait_for_end()
    second.wait_for(chat.append("only one hears this"))
    assert count_subscriptions(client) == {chat.keys.live: 1}
    assert first.texts == []
    second.leave()
    eventually(lambda: count_subscriptions(client) == {})
    eventually(lambda: count_subscribed_connections(client) == 0)


def test_a_reader_that_returns_at_once_is_subscribed_again(
    reader_groups: ReaderGroups, redis_url: str, client: Redis
) -> None:
    """Leaving and joining in quick succession ends in a working subscription."""
    chat = HandwrittenChat(client)
    group = reader_groups.open(redis_url)
    for _ in range(20):
        reader = group.follow(chat.chat_id)
        reader.wait_for(2)
        reader.leave()
    last = group.follow(chat.chat_id)
    last.wait_for(2)
    eventually(lambda: count_subscriptions(client) == {chat.keys.live: 1})
    last.wait_for(chat.append("still there?"))
    assert count_subscribed_connections(client) == 1


def test_a_chat_at_rest_is_replayed_without_a_subscription(
    reader_groups: ReaderGroups, redis_url: str, client: Redis
) -> None:
    """Where nothing is active, reading until idle needs only the log."""
    chat = HandwrittenChat(client)
    chat.append(*(str(number) for number in range(1200)))
    last = chat.complete()
    subscribed = client.info("commandstats").get("cmdstat_subscribe", {}).get("calls", 0)
    reader = reader_groups.open(redis_url).follow(chat.chat_id)
    reader.wait_for_end()
    assert reader.seqs == list(range(1, last + 1))
    assert client.info("commandstats").get("cmdstat_subscribe", {}).get("calls", 0) == subscribed


def test_tenants_share_the_connection(redis_url: str, client: Redis) -> None:
    """`for_tenant` gives access to another tenant's chats, not another connection."""
    ours, theirs = HandwrittenChat(client), HandwrittenChat(client, tenant="other")
    with (
        Spool.from_settings(settings_for(redis_url)) as spool,
        spool.subscribe(ours.chat_id) as one,
        spool.for_tenant("other").subscribe(theirs.chat_id) as two,
    ):
        assert [next(one).seq, next(one).seq, next(two).seq, next(two).seq] == [1, 2, 1, 2]
        live = threading.Thread(target=lambda: [next(one), next(two)], daemon=True)
        live.start()
        eventually(lambda: ours.keys.live in count_subscriptions(client))
        ours.append("for one")
        eventually(lambda: theirs.keys.live in count_subscriptions(client))
        assert count_subscribed_connections(client) == 1
        theirs.append("for two")
        live.join(20)
        assert not live.is_alive()


@pytest.mark.parametrize("readers", [1, 30])
def test_waiting_threads_take_nothing_from_their_clients_pool(redis_url: str, client: Redis, readers: int) -> None:
    """A client with a single connection serves others while all its readers wait."""
    chat = HandwrittenChat(client)
    with (
        Redis(connection_pool=BlockingConnectionPool.from_url(redis_url, max_connections=1, timeout=20)) as small,
        Spool(small, settings=settings_for(redis_url)) as spool,
    ):
        got: list[str] = []

        def read() -> None:
            with spool.subscribe(chat.chat_id) as entries:
                got.append("".join(entry.event.text for entry in entries if entry.type == "text.delta"))

        threads = [threading.Thread(target=read, daemon=True) for _ in range(readers)]
        for thread in threads:
            thread.start()
        eventually(lambda: count_subscriptions(client) == {chat.keys.live: 1})
        for _ in range(10):
            said = chat.append(".")
            assert spool.status(chat.chat_id).last == said
        chat.complete()
        for thread in threads:
            thread.join(20)
        assert got == ["." * 10] * readers


async def test_a_clients_small_pool_is_enough_for_many_tasks(redis_url: str, client: Redis) -> None:
    """The reads of fifty readers share round trips and wait their turn instead of exhausting the pool."""
    chat = HandwrittenChat(client)
    chat.append("a")
    last = chat.complete()
    async with AsyncRedis.from_url(redis_url, max_connections=1) as small:
        spool = AsyncSpool(small)

        async def read() -> list[int]:
            async with spool.subscribe(chat.chat_id) as entries:
                return [entry.seq async for entry in entries]

        assert await asyncio.gather(*(read() for _ in range(50))) == [list(range(1, last + 1))] * 50
        await spool.aclose()
