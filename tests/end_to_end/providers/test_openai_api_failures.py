"""Every way in which a model's provider fails, with real servers: the code, the retries, and no secrets."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from support.models.chunks import chunk, event, events, whole
from support.models.model_servers import LlamaServer, LlmockServer
from support.models.provider_client import KEY, SECRET, collect_failure, model_request, provider_for, text_of
from support.models.raw_model import (
    AnswerFunction,
    Exchange,
    RawModel,
    answer_with_error,
    answer_with_stream,
    close_connection,
    stay_silent,
)

from chunkspool.provider import ModelRequest
from chunkspool.tasks.providers import call_retries
from chunkspool.tasks.providers.failures import ASKED_AGAIN, RETRYABLE, Code

# A server may quote prompt and key in its message.
QUOTE = {"message": f"You said {SECRET} with {KEY}", "param": SECRET, "type": "some_error", "code": None}
HALF = event(chunk(content="half"))
FINE = answer_with_stream(events(chunk("stop", content="fine")))
RETRIES = 2


def refused(status: int, **error: Any) -> AnswerFunction:
    """Refuse with an error in OpenAI's format."""
    return answer_with_error(status, {"error": QUOTE | error})


def page(exchange: Exchange) -> None:
    """Answer like a web server that serves no model."""
    exchange.send_head(content_type="text/html; charset=utf-8", connection="close")
    exchange.send_chunk(b"<html>" + SECRET.encode())
    exchange.send_chunk(b"")


def cut_refusal(exchange: Exchange) -> None:
    """Send half a refusal, and cut the connection."""
    exchange.send_head(503, content_type="application/json", content_length="500")
    exchange.send(b'{"error"')


def half_then(more: bytes) -> AnswerFunction:
    """Send half an answer, then `more`, and cut the connection."""

    def answer(exchange: Exchange) -> None:
        exchange.send_head()
        exchange.send_chunk(HALF)
        if more:
            exchange.send_chunk(more)

    return answer


def half_then_silent(exchange: Exchange) -> None:
    """Send half an answer, and then nothing."""
    exchange.send_head()
    exchange.send_chunk(HALF)
    exchange.wait_for_disconnect()


def head_then_silent(exchange: Exchange) -> None:
    """Send the headers, and then nothing."""
    exchange.send_head()
    exchange.wait_for_disconnect()


BEFORE_THE_FIRST_CHUNK = [
    (Code.RATE_LIMITED, refused(429)),
    (Code.RATE_LIMITED, answer_with_error(429)),
    (Code.PROVIDER_UNAVAILABLE, refused(500)),
    (Code.PROVIDER_UNAVAILABLE, refused(503)),
    (Code.PROVIDER_UNAVAILABLE, answer_with_error(504, ["not", "OpenAI's", SECRET])),
    (Code.PROVIDER_UNREACHABLE, close_connection),
    (Code.PROVIDER_UNREACHABLE, cut_refusal),
    (Code.PROVIDER_TIMEOUT, stay_silent),
    (Code.AUTHENTICATION, refused(401)),
    (Code.AUTHENTICATION, refused(403)),
    (Code.QUOTA_EXHAUSTED, refused(402)),
    (Code.QUOTA_EXHAUSTED, refused(429, code="insufficient_quota")),
    (Code.MODEL_NOT_FOUND, refused(404)),
    (Code.CONTEXT_LENGTH_EXCEEDED, refused(400, code="context_length_exceeded")),
    (Code.INVALID_REQUEST, refused(400, code="invalid_value")),
    (Code.INVALID_REQUEST, refused(422)),
    (Code.NOT_A_STREAM, page),
    (Code.NOT_A_STREAM, answer_with_error(200, {"choices": [{"message": {"content": SECRET}}]})),
]
AFTER_THE_HEADERS = [
    (Code.TRUNCATED, half_then(b"")),
    (Code.TRUNCATED, half_then(b"data: {" + SECRET.encode())),
    (Code.TRUNCATED, answer_with_stream(HALF)),
    (Code.TRUNCATED, answer_with_stream()),
    (Code.MALFORMED_RESPONSE, half_then(event(SECRET.encode()))),
    (Code.PROVIDER_ERROR, half_then(event(whole(error=QUOTE)))),
    (Code.PROVIDER_UNAVAILABLE, half_then(event(whole(error=QUOTE | {"code": 503})))),
    (Code.RATE_LIMITED, half_then(event(whole(error=QUOTE | {"code": 429})))),
    (Code.RATE_LIMITED, answer_with_stream(event(whole(error=QUOTE | {"code": 429})))),
    (Code.PROVIDER_TIMEOUT, half_then_silent),
    (Code.PROVIDER_TIMEOUT, head_then_silent),
]


@pytest.fixture(autouse=True)
def no_long_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the pauses, so that tests of retries do not wait half a second each."""
    monkeypatch.setattr(call_retries, "FIRST_PAUSE", 0.01)


def values_for(code: Code) -> dict[str, Any]:
    """Return the settings under which a server fails with this code."""
    return {
        "provider_retries": RETRIES,
        **({"first_token_timeout": 0.25, "idle_timeout": 0.25} if code is Code.PROVIDER_TIMEOUT else {}),
    }


@pytest.mark.parametrize(("code", "answer"), BEFORE_THE_FIRST_CHUNK)
async def test_a_refusal_has_a_code_and_is_retried_only_if_that_may_help(
    code: Code, answer: AnswerFunction, caplog: pytest.LogCaptureFixture
) -> None:
    """429, 5xx and lost connections are retried, at most `provider_retries` times; nothing quotes prompt or key."""
    caplog.set_level(logging.DEBUG)
    with RawModel(answer) as model:
        async with provider_for(model.base_url, **values_for(code)) as provider:
            error, before = await collect_failure(provider, model_request())
        assert len(model.requests) == (1 + RETRIES if code in ASKED_AGAIN else 1)
    assert (error.code, error.retryable, before) == (code, code in RETRYABLE, [])
    assert error.__cause__ is error.__context__ is None
    for secret in (SECRET, KEY):
        assert secret not in str(error) + caplog.text


@pytest.mark.parametrize(("code", "answer"), AFTER_THE_HEADERS)
async def test_nothing_is_retried_once_the_server_has_begun_to_answer(
    code: Code, answer: AnswerFunction, caplog: pytest.LogCaptureFixture
) -> None:
    """Readers have seen the text, and the model is not paid twice; nothing quotes prompt or key."""
    caplog.set_level(logging.DEBUG)
    with RawModel(answer, FINE) as model:
        async with provider_for(model.base_url, **values_for(code)) as provider:
            error, before = await collect_failure(provider, model_request())
        assert len(model.requests) == 1
    assert (error.code, error.retryable) == (code, code in RETRYABLE)
    assert text_of(before) in ("half", "")
    assert error.__cause__ is error.__context__ is None
    for secret in (SECRET, KEY):
        assert secret not in str(error) + caplog.text


def test_every_code_is_tested_with_a_server() -> None:
    """The tests above cover all codes but that of a server that is not who it should be, and those of frameworks."""
    tested = {code for code, _ in [*BEFORE_THE_FIRST_CHUNK, *AFTER_THE_HEADERS]}
    elsewhere = {Code.PROVIDER_UNTRUSTED, Code.REFUSED, Code.AGENT_LIMIT, Code.AGENT_ERROR}
    assert tested | elsewhere == set(Code)


UNNAMED = "the request names none, nor does CHUNKSPOOL_MODEL"


@pytest.mark.parametrize(
    ("listing", "code", "told"),
    [
        (answer_with_error(200, {"data": []}), Code.MODEL_NOT_FOUND, UNNAMED),
        (answer_with_error(200, {"data": None}), Code.MODEL_NOT_FOUND, UNNAMED),
        (answer_with_error(200, {"data": [7]}), Code.MODEL_NOT_FOUND, UNNAMED),
        (answer_with_error(200, [SECRET]), Code.MODEL_NOT_FOUND, UNNAMED),
        (answer_with_error(200), Code.MODEL_NOT_FOUND, UNNAMED),
        (page, Code.MODEL_NOT_FOUND, UNNAMED),
        (refused(404), Code.MODEL_NOT_FOUND, "HTTP 404"),
        (refused(401), Code.AUTHENTICATION, "HTTP 401"),
        (refused(503), Code.PROVIDER_UNAVAILABLE, "HTTP 503"),
    ],
)
async def test_a_server_that_lists_no_model_is_an_error(listing: AnswerFunction, code: Code, told: str) -> None:
    """The request, the settings and the server name no model: the message says what to set."""
    with RawModel(listing) as model:
        async with provider_for(model.base_url, model=None, provider_retries=0) as provider:
            error, _ = await collect_failure(provider, model_request())
        assert [request.path for request in model.requests] == ["/v1/models"]
    assert error.code == code
    assert told in error.message


@pytest.mark.parametrize("name", ["model", "messages", "stream"])
async def test_params_may_not_replace_what_was_asked(name: str) -> None:
    """They would go into the same JSON object; nothing is sent."""
    with RawModel(FINE) as model:
        async with provider_for(model.base_url) as provider:
            error, _ = await collect_failure(provider, ModelRequest(model_request().messages, None, {name: "other"}))
        assert (error.code, model.requests) == (Code.INVALID_REQUEST, [])
    assert f"params may not set {name}" in error.message


async def test_llama_cpp_rejects_a_conversation_that_is_too_long(llama: LlamaServer) -> None:
    """With its own code, which is translated."""
    too_long = model_request()
    too_long.messages[0]["content"] = "word " * 3000  # type: ignore[index]
    async with provider_for(llama.base_url) as provider:
        error, _ = await collect_failure(provider, too_long)
    assert error.code == Code.CONTEXT_LENGTH_EXCEEDED


FAULTS: list[tuple[dict[str, Any], Code]] = [
    ({"type": "stream_fault", "kind": "disconnect", "after_chunks": 3}, Code.TRUNCATED),
    ({"type": "stream_fault", "kind": "truncate", "after_chunks": 3}, Code.TRUNCATED),
    ({"type": "stream_fault", "kind": "malformed", "after_chunks": 3}, Code.MALFORMED_RESPONSE),
    ({"type": "stream_fault", "kind": "stall", "after_chunks": 3, "stall_seconds": 2.5}, Code.PROVIDER_TIMEOUT),
    ({"type": "slow_first_token", "seconds": 2.5}, Code.PROVIDER_TIMEOUT),
    ({"type": "delay", "seconds": 2.5}, Code.PROVIDER_TIMEOUT),
]


@pytest.mark.parametrize(("fault", "code"), FAULTS)
async def test_each_fault_of_llmock_is_a_failure(
    llmock_server: LlmockServer, fault: dict[str, Any], code: Code
) -> None:
    """The faults of a third-party server: half an answer never passes for a whole one."""
    llmock_server.queue_behaviours({"type": "reply", "text": "one two three four five six"}, fault)
    async with provider_for(llmock_server.base_url, first_token_timeout=0.5, idle_timeout=0.5) as provider:
        error, before = await collect_failure(provider, model_request())
    assert error.code == code
    assert "one two three four five six".startswith(text_of(before))
    assert len(llmock_server.requests()) == 1
