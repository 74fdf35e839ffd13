"""Promise 8, stored once: one copy of an event in Redis, and little beside it."""

from __future__ import annotations

from typing import Any

from redis import Redis
from support.chats.logs import CHAT, KEYS
from support.chats.random_chats import stored_entries
from support.chats.spools import append_by_hand, claim_and_die, spool_for
from support.servers.contents import keys_containing
from support.servers.proxy import Proxy
from support.waiting import eventually

from chunkspool import Spool
from chunkspool.events import Event, TextDelta

MARKS = ("said-as-text", "said-as-reasoning", "said-as-arguments", "said-as-output", "said-as-data")
EVENTS, BATCH = 20_000, 100
MEMORY = 1.4
"""Bytes that a chat takes in Redis for each byte of its events' JSON (`make bench` measures it closer)."""


def queued_chat(spool: Spool) -> str:
    """Make a chat with one generation; return its id."""
    return spool.enqueue(CHAT, "x").chat_id


def copies(client: Redis, mark: str) -> int:
    """Return how often the log holds it."""
    return sum(raw.count(mark.encode()) for _, raw in stored_entries(client))


def demand_one_copy(client: Redis) -> None:
    """Fail unless everything that was said is once in the log and nowhere else on the server."""
    for mark in MARKS:
        assert keys_containing(client, mark) == [KEYS.log]
        assert copies(client, mark) == 1


def test_an_event_is_once_in_redis(proxy: Proxy, spool: Spool, client: Redis) -> None:
    """While it is live and afterwards, with readers that follow, and where it had to be sent twice."""
    with spool_for(proxy.url) as writer, spool.subscribe(queued_chat(spool), until="forever") as entries:
        generation_id = spool.status(CHAT).active[0]
        proxy.swallow_next_reply(MARKS[0].encode())
        with writer.produce(CHAT, generation_id) as out:
            out.text(MARKS[0])
            out.reasoning(MARKS[1])
            out.tool_call("1", "clock", MARKS[2])
            out.tool_result("1", {"time": MARKS[3]})
            out.data("n", [MARKS[4]])
            eventually(lambda: copies(client, MARKS[4]))
            demand_one_copy(client)
            assert [next(entries).seq for _ in range(7)] == list(range(1, 8))
    assert proxy.swallowed == 1
    demand_one_copy(client)
    assert client.exists(KEYS.live) == 0, "frames are published, not stored"


def test_a_prompt_is_once_in_redis(spool: Spool, client: Redis) -> None:
    """With its generation; the broker, which others can look into, gets ids only."""
    generation = spool.enqueue(CHAT, "the-prompt")
    assert keys_containing(client, "the-prompt") == [KEYS.gen(generation.generation_id)]
    assert client.llen("chunkspool") == 1
    with spool.produce(CHAT, generation.generation_id):
        pass
    assert keys_containing(client, "the-prompt") == [KEYS.gen(generation.generation_id)]


def test_memory_of_an_answer(spool: Spool, client: Redis) -> None:
    """Thousands of deltas of twenty characters take little more than their own size."""
    (one,) = claimed(spool, client, 1)
    before = used(client)
    for batch in range(EVENTS // BATCH):
        append_by_hand(client, one, 1 + batch * BATCH, *[delta(one)] * BATCH)
    demand_little_memory(client, before, EVENTS)


def test_memory_of_answers_that_interleave(spool: Spool, client: Redis) -> None:
    """Two at once in one chat, batch by batch: what maps their indexes to seqs is little, too."""
    ids = claimed(spool, client, 2)
    before = used(client)
    for index in range(1, EVENTS // 8, 5):
        for one in ids:
            append_by_hand(client, one, index, *[delta(one)] * 5)
    demand_little_memory(client, before, EVENTS // 4)


def claimed(spool: Spool, client: Redis, number: int) -> list[str]:
    """Make generations of one chat that are being written; return their ids."""
    ids = [spool.enqueue(CHAT, "x", on_active="allow").generation_id for _ in range(number)]
    for one in ids:
        claim_and_die(client, one, 60)
        append_by_hand(client, one, 1)  # a heartbeat: from now on the server knows the script
    return ids


def delta(generation_id: str) -> Event:
    """Return what a model says at a time."""
    return TextDelta(generation_id=generation_id, text="twenty characters ok")


def used(client: Redis) -> int:
    """Return the bytes that the server has allocated. MEMORY USAGE would only estimate what a stream takes."""
    memory: Any = client.info("memory")
    return int(memory["used_memory"])


def demand_little_memory(client: Redis, before: int, events: int) -> None:
    """Fail if more was allocated than the bound; the log stands for all that was written."""
    payload = [len(raw) for _, raw in stored_entries(client) if b"text.delta" in raw]
    assert len(payload) == events
    assert used(client) - before <= MEMORY * sum(payload)
