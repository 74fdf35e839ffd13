"""The example of a task of your own: it answers in a real worker, and requeues a message that it cannot finish."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from celery.exceptions import Reject
from end_to_end.conftest import StartWorker
from end_to_end.workers.test_main_job import answer_of, follow
from redis import Redis
from support.chats.logs import CHAT, read_log, types_of
from support.chats.spools import claim_and_die, spool_for

from chunkspool import Spool
from chunkspool.tasks import generation_task
from chunkspool.tasks.runtime import ProcessRuntime, Runtime
from examples import own_task


@pytest.fixture
def own_spool(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Spool]:
    """Give a web app's spool, and the tasks of this process a runtime of this test."""
    with spool_for(redis_url, lease=0.5) as spool:
        runtime = ProcessRuntime(lambda: Runtime(spool.settings, lambda: True))
        monkeypatch.setattr(generation_task, "_runtime", runtime)
        yield spool
        runtime.close()


def test_it_answers_in_a_real_worker(start_worker: StartWorker, redis_url: str) -> None:
    """`CHUNKSPOOL_IMPORTS` loads it, and a spool with its name as `CHUNKSPOOL_TASK` hands generations to it."""
    start_worker("threads", 1, CHUNKSPOOL_IMPORTS="examples.own_task")
    with spool_for(redis_url, task="examples.answer") as spool:
        spool.enqueue(CHAT, "why?")
        answer = answer_of(follow(spool, CHAT))
    assert (answer.text, answer.state, answer.attempt) == ("You asked: why?", "completed", 1)


def test_a_shutdown_gives_the_message_back(own_spool: Spool, client: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was said is kept, no ending is written, and the broker gets the message back for another worker."""

    def leaving_model(_messages: object) -> Iterator[str]:
        yield "half "
        generation_task.release()
        yield "never said"

    monkeypatch.setattr(own_task, "my_model", leaving_model)
    asked = own_spool.enqueue(CHAT, "why?")
    with pytest.raises(Reject) as rejected:
        own_task.answer.run("default", CHAT, asked.generation_id)
    assert rejected.value.requeue is True
    expected = ["generation.queued", "generation.started", "text.delta"]
    assert types_of(read_log(client), asked.generation_id) == expected


def test_a_message_that_comes_twice(own_spool: Spool, client: Redis) -> None:
    """While another attempt is alive it goes back to the queue; after the ending there is nothing to do."""
    asked = own_spool.enqueue(CHAT, "why?")
    claim_and_die(client, asked.generation_id, lease=60)
    with pytest.raises(Reject) as rejected:
        own_task.answer.run("default", CHAT, asked.generation_id)
    assert rejected.value.requeue is True
    own_spool.erase(CHAT)
    other = own_spool.enqueue(CHAT, "why?")
    own_spool.stop(CHAT)
    assert own_task.answer.run("default", CHAT, other.generation_id) == {"chat": CHAT, "state": "ended"}
    assert types_of(read_log(client), other.generation_id) == ["generation.queued", "generation.stopped"]
