"""Promise 8, stored once: Redis holds one copy of each event, and little else."""

from __future__ import annotations

from typing import Any

from redis import Redis
from support.chats.logs import CHAT, KEYS
from support.chats.random_chats import read_stored_entries
from support.chats.spools import append_by_hand, claim_and_die, spool_for
from support.servers.contents import find_keys_containing
from support.servers.old_redis import is_old
from support.servers.proxy import Proxy
from support.waiting import eventually

from chunkspool import Spool
from chunkspool.events import Event, TextDelta

MARKS = ("said-as-text", "said-as-reasoning", "said-as-arguments", "said-as-output", "said-as-data")
EVENTS, BATCH = 20_000, 100
MEMORY, MEMORY_OF_OLD, MEMORY_OF_8_2 = 1.4, 1.6, 1.45
"""Bytes that a chat takes in Redis, in 6.2 and in 8.2, per byte of its events' JSON (`make bench` is more precise)."""


def enqueue_chat(spool: Spool) -> str:
    """Create a chat with one generation; return its id."""
    return spool.enqueue(CHAT, "x").chat_id


def count_copies(client: Redis, mark: str) -> int:
    """Return how often the log contains `mark`."""
    return sum(raw.count(mark.encode()) for _, raw in read_stored_entries(client))


def assert_one_copy(client: Redis) -> None:
    """Fail unless everything written is once in the log and nowhere else on the server."""
    for mark in MARKS:
        assert find_keys_containing(client, mark) == [KEYS.log]
        assert count_copies(client, mark) == 1


def test_an_event_is_stored_once(proxy: Proxy, spool: Spool, client: Redis) -> None:
    """While it is live and afterwards, with live readers, and if it had to be sent twice."""
    with spool_for(proxy.url) as writer, spool.subscribe(enqueue_chat(spool), until="forever") as entries:
        generation_id = spool.status(CHAT).active[0]
        proxy.swallow_next_reply(MARKS[0].encode())
        with writer.produce(CHAT, generation_id) as out:
            out.text(MARKS[0])
            out.reasoning(MARKS[1])
            out.tool_call("1", "clock", MARKS[2])
            out.tool_result("1", {"time": MARKS[3]})
            out.data("n", [MARKS[4]])
            eventually(lambda: count_copies(client, MARKS[4]))
            assert_one_copy(client)
            assert [next(entries).seq for _ in range(7)] == list(range(1, 8))
    assert proxy.swallowed == 1
    assert_one_copy(client)
    assert client.exists(KEYS.live) == 0, "frames are published, not stored"


def test_a_prompt_is_stored_once(spool: Spool, client: Redis) -> None:
    """It is stored with its generation; the broker, which others can inspect, gets only ids."""
    generation = spool.enqueue(CHAT, "the-prompt")
    assert find_keys_containing(client, "the-prompt") == [KEYS.gen(generation.generation_id)]
    assert client.llen("chunkspool") == 1
    with spool.produce(CHAT, generation.generation_id):
        assert find_keys_containing(client, "the-prompt") == [KEYS.gen(generation.generation_id)]
    assert find_keys_containing(client, "the-prompt") == [], "nobody can need it after the ending"


def test_an_answer_takes_little_more_memory_than_its_size(spool: Spool, client: Redis) -> None:
    """It is made of thousands of deltas with twenty characters."""
    (one,) = enqueue_and_claim(spool, client, 1)
    before = used_memory(client)
    for batch in range(EVENTS // BATCH):
        append_by_hand(client, one, 1 + batch * BATCH, *[delta(one)] * BATCH)
    assert_little_memory(client, before, EVENTS)


def test_interleaved_answers_take_little_memory(spool: Spool, client: Redis) -> None:
    """Two in one chat, batch by batch: the map from indexes to seqs is small, too."""
    ids = enqueue_and_claim(spool, client, 2)
    before = used_memory(client)
    for index in range(1, EVENTS // 8, 5):
        for one in ids:
            append_by_hand(client, one, index, *[delta(one)] * 5)
    assert_little_memory(client, before, EVENTS // 4)


def enqueue_and_claim(spool: Spool, client: Redis, number: int) -> list[str]:
    """Create generations of one chat that are being written; return their ids."""
    ids = [spool.enqueue(CHAT, "x", on_active="allow").generation_id for _ in range(number)]
    for one in ids:
        claim_and_die(client, one, 60)
        append_by_hand(client, one, 1)  # a heartbeat, so that the server has loaded the script
    return ids


def delta(generation_id: str) -> Event:
    """Return what a model sends at a time."""
    return TextDelta(generation_id=generation_id, text="twenty characters ok")


def used_memory(client: Redis) -> int:
    """Return the bytes that the server has allocated. MEMORY USAGE would only estimate a stream."""
    memory: Any = client.info("memory")
    return int(memory["used_memory"])


def assert_little_memory(client: Redis, before: int, events: int) -> None:
    """Fail if more was allocated than the bound for what was written to the log."""
    payload = [len(raw) for _, raw in read_stored_entries(client) if b"text.delta" in raw]
    assert len(payload) == events
    assert used_memory(client) - before <= bound_of(client) * sum(payload)


def bound_of(client: Redis) -> float:
    """Return the bound of a client's server."""
    if is_old(client):
        return MEMORY_OF_OLD
    return MEMORY_OF_8_2 if str(client.info("server")["redis_version"]).startswith("8.2.") else MEMORY
