"""All readers of a process share one subscribed connection, and take little of anybody's pool."""

from __future__ import annotations

import asyncio
import threading

import pytest
from redis import BlockingConnectionPool, Redis
from redis.asyncio import Redis as AsyncRedis
from support.chats.handwritten_chat import Talk
from support.chats.spools import settings_for
from support.readers.reader_group import Hall, subscribed_connections, subscriptions
from support.waiting import eventually

from chunkspool import AsyncSpool, Spool


def test_a_hundred_readers_of_fifty_chats_hold_one_subscribed_connection(
    hall: Hall, redis_url: str, client: Redis
) -> None:
    """Each chat has one subscription, however many read it, and all get every event live."""
    talks = [Talk(client, f"chat-{number}") for number in range(50)]
    audience = hall.audience(redis_url)
    followers = [(talk, audience.follow(talk.chat_id)) for talk in talks for _ in range(2)]
    eventually(lambda: subscriptions(client) == {talk.keys.live: 1 for talk in talks})
    assert subscribed_connections(client) == 1
    ends = {talk.chat_id: (talk.say("a"), talk.say("b", "c"), talk.end())[-1] for talk in talks}
    for talk, follower in followers:
        follower.wait_for_end()
        assert follower.errors == []
        assert follower.seqs == list(range(1, ends[talk.chat_id] + 1))
    # 1 subscribed, 1 to look at quiet chats, 4 of the pool; and this test's own.
    assert len(client.client_list()) <= 1 + 1 + 4 + 1


def test_the_last_reader_of_a_chat_ends_its_subscription(hall: Hall, redis_url: str, client: Redis) -> None:
    """One who leaves takes nothing from the others; when all have left, nothing is held any more."""
    talk = Talk(client)
    audience = hall.audience(redis_url)
    first, second = audience.follow(talk.chat_id), audience.follow(talk.chat_id)
    first.wait_for(2)
    second.wait_for(2)
    eventually(lambda: subscriptions(client) == {talk.keys.live: 1})
    first.leave()
    first.wait_for_end()
    second.wait_for(talk.say("only one hears this"))
    assert subscriptions(client) == {talk.keys.live: 1}
    assert first.texts == []
    second.leave()
    eventually(lambda: subscriptions(client) == {})
    eventually(lambda: subscribed_connections(client) == 0)


def test_who_comes_back_at_once_is_subscribed_again(hall: Hall, redis_url: str, client: Redis) -> None:
    """Leaving and coming again in quick turns ends in a subscription that works."""
    talk = Talk(client)
    audience = hall.audience(redis_url)
    for _ in range(20):
        follower = audience.follow(talk.chat_id)
        follower.wait_for(2)
        follower.leave()
    last = audience.follow(talk.chat_id)
    last.wait_for(2)
    eventually(lambda: subscriptions(client) == {talk.keys.live: 1})
    last.wait_for(talk.say("still there?"))
    assert subscribed_connections(client) == 1


def test_a_chat_at_rest_is_replayed_without_a_subscription(hall: Hall, redis_url: str, client: Redis) -> None:
    """Where nothing is active, reading until it is idle needs the log and nothing else."""
    talk = Talk(client)
    talk.say(*(str(number) for number in range(1200)))
    last = talk.end()
    subscribed = client.info("commandstats").get("cmdstat_subscribe", {}).get("calls", 0)
    follower = hall.audience(redis_url).follow(talk.chat_id)
    follower.wait_for_end()
    assert follower.seqs == list(range(1, last + 1))
    assert client.info("commandstats").get("cmdstat_subscribe", {}).get("calls", 0) == subscribed


def test_tenants_share_the_connection(redis_url: str, client: Redis) -> None:
    """`for_tenant` gives another tenant's chats, not another connection."""
    ours, theirs = Talk(client), Talk(client, tenant="other")
    with (
        Spool.from_settings(settings_for(redis_url)) as spool,
        spool.subscribe(ours.chat_id) as one,
        spool.for_tenant("other").subscribe(theirs.chat_id) as two,
    ):
        assert [next(one).seq, next(one).seq, next(two).seq, next(two).seq] == [1, 2, 1, 2]
        live = threading.Thread(target=lambda: [next(one), next(two)], daemon=True)
        live.start()
        eventually(lambda: ours.keys.live in subscriptions(client))
        ours.say("for one")
        eventually(lambda: theirs.keys.live in subscriptions(client))
        assert subscribed_connections(client) == 1
        theirs.say("for two")
        live.join(20)
        assert not live.is_alive()


@pytest.mark.parametrize("readers", [1, 30])
def test_waiting_threads_take_nothing_of_their_clients_pool(redis_url: str, client: Redis, readers: int) -> None:
    """A client with one single connection serves others while all its readers wait."""
    talk = Talk(client)
    with (
        Redis(connection_pool=BlockingConnectionPool.from_url(redis_url, max_connections=1, timeout=20)) as small,
        Spool(small, settings=settings_for(redis_url)) as spool,
    ):
        got: list[str] = []

        def read() -> None:
            with spool.subscribe(talk.chat_id) as entries:
                got.append("".join(entry.event.text for entry in entries if entry.type == "text.delta"))

        threads = [threading.Thread(target=read, daemon=True) for _ in range(readers)]
        for thread in threads:
            thread.start()
        eventually(lambda: subscriptions(client) == {talk.keys.live: 1})
        for _ in range(10):
            said = talk.say(".")
            assert spool.status(talk.chat_id).last == said
        talk.end()
        for thread in threads:
            thread.join(20)
        assert got == ["." * 10] * readers


async def test_a_clients_small_pool_is_enough_for_many_tasks(redis_url: str, client: Redis) -> None:
    """Reads of fifty readers go together, and wait for their turn instead of running into the pool's limit."""
    talk = Talk(client)
    talk.say("a")
    last = talk.end()
    async with AsyncRedis.from_url(redis_url, max_connections=1) as small:
        spool = AsyncSpool(small)

        async def read() -> list[int]:
            async with spool.subscribe(talk.chat_id) as entries:
                return [entry.seq async for entry in entries]

        assert await asyncio.gather(*(read() for _ in range(50))) == [list(range(1, last + 1))] * 50
        await spool.aclose()
