"""Fairness with real workers: a backlog of one tenant makes another wait for a turn, not for the backlog."""

from __future__ import annotations

import pytest
from end_to_end.conftest import StartWorker
from end_to_end.workers.test_main_job import follow, scripted
from redis import Redis
from support.servers.slots import offer_no_slots
from support.waiting import eventually

from chunkspool import Generation, Spool
from chunkspool.store.keys import QueueKeys

BACKLOG = 40
"""Generations for each slot."""
SHORT = scripted({"text": "a"}, {"wait": 0.1}, {"text": "b"})


@pytest.fixture(autouse=True)
def no_slots(client: Redis) -> None:
    """Let the real workers say how many they have."""
    offer_no_slots(client)


def started_at(spool: Spool, made: Generation) -> int | None:
    """Return when the generation was claimed."""
    (one,) = spool.status(made.chat_id).generations
    return one.started


def count_overtakers(a: Spool, backlog: list[Generation], begun: int | None, asked: int) -> int:
    """Return how many of the backlog were begun between the two times."""
    assert begun is not None
    starts = [started_at(a, one) for one in backlog]
    return sum(1 for start in starts if start is not None and asked < start < begun)


@pytest.mark.parametrize(("pool", "workers", "slots"), [("threads", 1, 1), ("threads", 2, 2), ("prefork", 1, 2)])
def test_another_tenants_backlog_costs_a_turn(
    start_worker: StartWorker, spool: Spool, client: Redis, pool: str, workers: int, slots: int
) -> None:
    """A has forty that wait for each slot; those of B begin when each was free once, at the latest."""
    a, b = spool.for_tenant("a"), spool.for_tenant("b")
    backlog = [a.enqueue(f"a-{n}", "x", params=SHORT) for n in range(BACKLOG * workers * slots)]
    for _ in range(workers):
        start_worker(pool, slots)
    eventually(lambda: started_at(a, backlog[4]))
    overtakers = []
    for n in range(3):
        seconds, micros = client.time()
        made = b.enqueue(f"b-{n}", "x", params=SHORT)
        entries = follow(b, f"b-{n}")
        assert entries[-1].type == "generation.completed"
        overtakers.append(count_overtakers(a, backlog, started_at(b, made), seconds * 1000 + micros // 1000))
    assert max(overtakers) <= workers * slots
    assert started_at(a, backlog[-1]) is None, "the backlog was gone before B had asked: this showed nothing"
    for one in backlog:
        assert follow(a, one.chat_id)[-1].type == "generation.completed"


def test_all_slots_are_used(start_worker: StartWorker, spool: Spool, client: Redis) -> None:
    """The turns cost no worker its work: of a backlog, as many run at once as there are slots."""
    silent = scripted({"text": "a"}, {"silent": True})
    made = [spool.enqueue(f"chat-{n}", "x", params=silent) for n in range(12)]
    start_worker("threads", 4)
    start_worker("threads", 6)
    eventually(lambda: client.zcard(QueueKeys("chunkspool").running) == 10)
    for one in made:
        spool.stop(one.chat_id)
    for one in made:
        assert follow(spool, one.chat_id)[-1].type == "generation.stopped"
