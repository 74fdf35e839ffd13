"""`status` of a chat with thousands of generations: in pages, in short steps, and quick for the few that matter."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from redis import Redis
from support.chats.logs import CHAT, KEYS
from support.chats.spools import append_by_hand, claim_and_die
from support.readers.blocking_spool import SPOOL_KINDS, BlockingSpool, open_spool

from chunkspool import Spool
from chunkspool.effects import drive
from chunkspool.errors import ChatNotFound, InvalidId, InvalidInput
from chunkspool.ids import new_generation_id
from chunkspool.operations import query
from chunkspool.store import listing
from chunkspool.store.client import Store

MANY = 5_000
LONGEST_US = 5_000


@pytest.fixture(params=SPOOL_KINDS)
def any_spool(request: pytest.FixtureRequest, redis_url: str) -> Iterator[BlockingSpool]:
    """Provide a spool of each kind."""
    with open_spool(request.param, redis_url, read_timeout=1) as any_spool:
        yield any_spool


def add_ended(client: Redis, number: int, *, score: int | None = None) -> list[str]:
    """Add generations that have ended to a chat that is there; return their ids, oldest first."""
    ids = sorted(new_generation_id() for _ in range(number))
    ttl = client.pttl(KEYS.log)
    pipeline = client.pipeline()
    for at, each in enumerate(ids):
        pipeline.hset(KEYS.gen(each), mapping={"status": "completed", "after": at, "attempt": 1, "created": 1})
        pipeline.pexpire(KEYS.gen(each), ttl)
        pipeline.zadd(KEYS.gens, {each: score or 4_000_000_000_000 + at})
    pipeline.pexpire(KEYS.gens, ttl)
    pipeline.execute()
    return ids


def read_pages(any_spool: BlockingSpool, limit: int) -> list[str]:
    """Return the ids that all pages have, oldest first."""
    found: list[str] = []
    before = None
    while True:
        page = any_spool.status(CHAT, before=before, limit=limit)
        assert len(page.generations) <= limit
        found = [*(one.generation_id for one in page.generations), *found]
        before = page.before
        if before is None:
            return found


@pytest.mark.parametrize("limit", [1, 7, 25, 26, 100])
def test_pages_are_the_whole(
    spool: Spool, any_spool: BlockingSpool, client: Redis, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    """Of any size, also where many generations expire in the same millisecond; `active` is the same on each."""
    monkeypatch.setattr(listing, "IDS", 4)
    monkeypatch.setattr(listing, "HASHES", 3)
    first = spool.enqueue(CHAT, "x").generation_id
    ids = [first, *add_ended(client, 12, score=4_000_000_000_000), *add_ended(client, 12)]
    assert sorted(read_pages(any_spool, limit)) == sorted(ids)
    assert {one.generation_id for one in any_spool.status(CHAT).generations} == set(ids)
    newest = any_spool.status(CHAT, limit=1)
    assert newest.active == (first,)
    assert newest.generations[0].generation_id == max(ids)


def test_redis_is_never_held_for_long(spool: Spool, any_spool: BlockingSpool, client: Redis) -> None:
    """Reading five thousand generations is many short commands, and the transcript costs one of them."""
    spool.enqueue(CHAT, "x", transcript={"messages": []})
    add_ended(client, MANY)
    client.config_set("slowlog-log-slower-than", LONGEST_US)
    client.slowlog_reset()
    assert len(any_spool.status(CHAT).generations) == MANY + 1
    assert client.slowlog_len() == 0
    # Of a MULTI, each command is short, and yet nobody else is served: it is the number of them that is bounded.
    client.config_resetstat()
    any_spool.status(CHAT)
    assert calls(client, "exec") > MANY / listing.HASHES
    client.config_resetstat()
    assert any_spool.transcript(CHAT) is not None
    assert calls(client, "hmget") <= 2


def test_the_few_that_matter_are_quick(spool: Spool, any_spool: BlockingSpool, client: Redis) -> None:
    """Whoever asks for these, or only for what is active, reads no others."""
    generation_id = spool.enqueue(CHAT, "x").generation_id
    ids = add_ended(client, 600)
    client.config_resetstat()
    assert any_spool.status(CHAT, generation_ids=()).active == (generation_id,)
    assert calls(client, "hmget") <= 2
    found = any_spool.status(CHAT, generation_ids=(ids[3], new_generation_id(), generation_id, ids[3]))
    assert {one.generation_id for one in found.generations} == {ids[3], generation_id}
    assert (found.last, found.before, found.active) == (1, None, (generation_id,))
    assert calls(client, "zrangebyscore") == 0


def test_what_a_page_may_be_is_checked(spool: Spool, any_spool: BlockingSpool) -> None:
    """A limit and an id that are none, and both ways of asking at once, are refused; a chat that is none is told."""
    with pytest.raises(ChatNotFound):
        any_spool.status(CHAT, limit=1)
    spool.enqueue(CHAT, "x")
    wrong: list[dict[str, Any]] = [{"limit": 0}, {"limit": 10_001}, {"limit": True}, {"limit": 1, "generation_ids": ()}]
    for arguments in wrong:
        with pytest.raises(InvalidInput):
            any_spool.status(CHAT, **arguments)
    for arguments in ({"before": "no id!"}, {"generation_ids": ("no id!",)}):
        with pytest.raises(InvalidId):
            any_spool.status(CHAT, **arguments)


def test_a_generation_that_expires_meanwhile(spool: Spool, client: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others move up in the list, and none is missed."""
    monkeypatch.setattr(listing, "IDS", 5)
    spool.enqueue(CHAT, "x")
    ids = add_ended(client, 40)
    send, removed = Store.send, iter(ids[:8])

    def send_and_expire(store: Store, call: Any) -> Any:
        reply = send(store, call)
        if "ZRANGEBYSCORE" in str(getattr(call, "commands", "")) and (gone := next(removed, None)):
            client.zrem(KEYS.gens, gone)
        return reply

    monkeypatch.setattr(Store, "send", send_and_expire)
    assert set(ids[8:]) <= {one.generation_id for one in spool.status(CHAT).generations}


def calls(client: Redis, command: str) -> int:
    """Return how often a command was called since the last reset."""
    stats: Any = client.info("commandstats")
    return int(stats.get(f"cmdstat_{command}", {}).get("calls", 0))


def test_a_lease_that_is_renewed_meanwhile_is_no_silence(spool: Spool, client: Redis) -> None:
    """While a status is read step by step, the attempt's heartbeat comes: it runs all the same."""
    made, store = spool.enqueue(CHAT, "hello"), Store(client)
    claim_and_die(client, made.generation_id, lease=60)

    def perform(effect: Any) -> Any:
        reply = store.send(effect)
        time.sleep(0.002)
        append_by_hand(client, made.generation_id, 0)
        return reply

    (found,) = drive(query.status(KEYS), perform).generations
    assert found.state == "running"
