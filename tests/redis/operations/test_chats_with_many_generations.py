"""A chat has a bounded number of active generations; one that has more, or very many in all, can still be used."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from redis import Redis
from support.chats.logs import CHAT, KEYS, ending_of, read_log
from support.chats.spools import append_by_hand, claim_and_die, spool_for
from support.servers.contents import list_keys, read_contents
from support.waiting import eventually

from chunkspool import Spool
from chunkspool.errors import ChatBusy, LimitExceeded, RequestIdReused
from chunkspool.events import GenerationCompleted
from chunkspool.ids import new_generation_id
from chunkspool.store import scripts
from chunkspool.store.client import Store
from chunkspool.store.scripts import REPLACED_AT_ONCE

MANY = 600
"""Active generations that an older version has let in: more than one call replaces, removes or looks at."""


@pytest.fixture
def narrow(redis_url: str) -> Iterator[Spool]:
    """Provide a spool whose chats have at most three active generations."""
    with spool_for(redis_url, max_active=3) as spool:
        yield spool


def crowd(client: Redis, number: int = MANY) -> list[str]:
    """Let so many generations be active, as older versions did; return their ids."""
    ids = [new_generation_id() for _ in range(number)]
    for each in ids:
        call = scripts.enqueue(
            KEYS,
            each,
            b"{}",
            model=None,
            active=(),
            on_active="allow",
            ttl_ms=60_000,
            request_id=f"request-{each}",
            max_active=10**6,
        )
        assert Store(client).send(call).outcome == "created"
    return ids


def test_no_more_than_max_active_run_beside_each_other(narrow: Spool, client: Redis) -> None:
    """The next one is refused without a trace, and admitted once another one has ended."""
    ids = [narrow.enqueue(CHAT, "x", on_active="allow").generation_id for _ in range(3)]
    before = read_contents(client)
    with pytest.raises(LimitExceeded, match="max_active is 3") as refused:
        narrow.enqueue(CHAT, "x", on_active="allow")
    assert (refused.value.limit, refused.value.retry_after) == ("active", 1.0)
    assert read_contents(client) == before
    narrow.stop(CHAT, ids[1])
    narrow.enqueue(CHAT, "x", on_active="allow")
    assert narrow.enqueue("other", "x", on_active="allow"), "another chat has places of its own"


def test_a_repeated_request_needs_no_place(narrow: Spool) -> None:
    """It makes no generation, so it gets its own however full the chat is; another request with its id does not."""
    first = narrow.enqueue(CHAT, "x", on_active="allow", request_id="r")
    for _ in range(2):
        narrow.enqueue(CHAT, "x", on_active="allow")
    assert narrow.enqueue(CHAT, "x", on_active="allow", request_id="r") == first
    with pytest.raises(RequestIdReused):
        narrow.enqueue(CHAT, "y", on_active="allow", request_id="r")


def test_what_is_gone_takes_no_place(narrow: Spool, client: Redis) -> None:
    """A generation whose hash has expired is active no more, whatever the chat's list says."""
    ids = [narrow.enqueue(CHAT, "x", on_active="allow").generation_id for _ in range(3)]
    client.delete(*map(KEYS.gen, ids[:2]))
    made = narrow.enqueue(CHAT, "x", on_active="allow")
    assert narrow.status(CHAT).active == (ids[2], made.generation_id)


def test_a_replacement_waits_for_workers_that_are_still_to_stop(narrow: Spool, client: Redis) -> None:
    """Where too many run, all are asked to stop, and the next try succeeds once they have."""
    ids = [narrow.enqueue(CHAT, "x", on_active="allow").generation_id for _ in range(3)]
    for each in ids:
        claim_and_die(client, each, 60)
    with pytest.raises(LimitExceeded):
        narrow.enqueue(CHAT, "x", on_active="replace")
    assert all(one.stop_asked for one in narrow.status(CHAT).generations)
    append_by_hand(client, ids[0], 1, GenerationCompleted(generation_id=ids[0]), ending="completed")
    assert (ending_of(read_log(client), ids[0]) or {})["by"] == "replace"
    made = narrow.enqueue(CHAT, "x", on_active="replace")
    assert narrow.status(CHAT).active == (*ids[1:], made.generation_id)


def test_a_replacement_stops_more_than_one_call_can(redis_url: str, client: Redis) -> None:
    """Where the setting lets many run, none of them goes on beside the new one."""
    with spool_for(redis_url, max_active=100) as spool:
        ids = [spool.enqueue(CHAT, "x", on_active="allow").generation_id for _ in range(REPLACED_AT_ONCE + 8)]
        for each in ids:
            claim_and_die(client, each, 60)
        with pytest.raises(LimitExceeded):
            spool.enqueue(CHAT, "x", on_active="replace")
        assert all(one.stop_asked for one in spool.status(CHAT).generations)
        for each in ids[:8]:
            append_by_hand(client, each, 1, GenerationCompleted(generation_id=each), ending="completed")
        assert spool.enqueue(CHAT, "x", on_active="replace")


@pytest.mark.parametrize("on_active", ["reject", "allow"])
def test_a_crowded_chat_takes_no_more(spool: Spool, client: Redis, on_active: str) -> None:
    """An older version has let hundreds be active: the error names a few of them."""
    ids = crowd(client)
    before = read_contents(client)
    with pytest.raises((ChatBusy, LimitExceeded)) as refused:
        spool.enqueue(CHAT, "x", on_active=on_active)
    assert read_contents(client) == before
    if isinstance(refused.value, ChatBusy):
        assert (refused.value.active, refused.value.count) == (tuple(ids[:5]), MANY)
    assert isinstance(refused.value, ChatBusy) == (on_active == "reject")


def test_a_crowded_chat_can_be_replaced(spool: Spool, client: Redis) -> None:
    """All of them end, those with a worker when it hears of it."""
    ids = crowd(client)
    for each in (ids[0], ids[-1]):
        claim_and_die(client, each, 60)
    made = spool.enqueue(CHAT, "x", on_active="replace")
    assert spool.status(CHAT).active == (ids[0], ids[-1], made.generation_id)
    ended = [entry for entry in read_log(client) if entry.type == "generation.stopped"]
    assert [entry.event["by"] for entry in ended] == ["replace"] * (MANY - 2)


def test_a_crowded_chat_can_be_stopped(spool: Spool, client: Redis) -> None:
    """One stop ends them all."""
    crowd(client)
    assert {one.outcome for one in spool.stop(CHAT)} == {"stopped"}
    assert spool.status(CHAT).active == ()


@pytest.mark.parametrize("on_active", ["reject", "allow", "replace"])
def test_a_crowd_that_is_gone_is_forgotten(spool: Spool, client: Redis, on_active: str) -> None:
    """Their hashes have expired; thousands of ids in the chat's list are in nobody's way."""
    stale = crowd(client, 40) + [new_generation_id() for _ in range(4000)]
    client.hset(KEYS.head, "active", " ".join(stale))
    client.delete(*map(KEYS.gen, stale))
    made = spool.enqueue(CHAT, "x", on_active=on_active)
    assert client.hget(KEYS.head, "active") == made.generation_id.encode()


def test_a_chat_with_very_many_generations_is_erased(spool: Spool, client: Redis) -> None:
    """In steps, and nothing is left: neither of those that have ended nor of those that are active."""
    ids = crowd(client)
    for each in ids[::2]:
        spool.stop(CHAT, each)
    spool.enqueue("other", "x")
    others = {key for key in list_keys(client) if "/chat}" not in key}
    with client.pubsub() as pubsub:
        pubsub.subscribe(KEYS.stops)
        eventually(lambda: (pubsub.get_message() or {}).get("type") == "subscribe")
        spool.erase(CHAT)
        told: set[str] = set()

        def all_told() -> bool:
            while message := pubsub.get_message():
                told.add(message["data"].decode())
            return told >= set(ids[1::2])

        eventually(all_told)
    assert set(list_keys(client)) == others


def test_an_erase_gives_way_to_others(spool: Spool, client: Redis) -> None:
    """None of its calls is longer than that of the largest chat that is erased in one."""
    crowd(client, 300)
    client.config_set("slowlog-log-slower-than", 0)
    client.config_set("slowlog-max-len", 1000)
    try:
        client.slowlog_reset()
        spool.erase(CHAT)
        sent = [entry["command"] for entry in client.slowlog_get(1000)]
    finally:
        client.config_set("slowlog-log-slower-than", 10_000)
    # The slow log says "... (531 more arguments)" of long commands.
    more = [int(command.rpartition(b"(")[2].split()[0]) for command in sent if command.endswith(b"more arguments)")]
    assert max(more) < 256 * 4
    assert not client.exists(KEYS.log)
