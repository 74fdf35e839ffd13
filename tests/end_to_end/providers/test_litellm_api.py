"""The LiteLLM provider, with the library itself against real servers: what it reads becomes what all providers tell."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import pytest
from support.models.chunks import DONE, chunk, event
from support.models.provider_client import KEY, SECRET, collect_deltas, collect_failure, model_request, text_of
from support.models.raw_model import (
    AnswerFunction,
    Exchange,
    RawModel,
    answer_with_error,
    answer_with_stream,
    close_connection,
)
from support.waiting import eventually

from chunkspool.provider import Finish, Provider, SignOfLife, Text, ToolCall, Usage
from chunkspool.settings import Settings
from chunkspool.tasks.providers import call_retries, load_provider
from chunkspool.tasks.providers.failures import RETRYABLE, Code

MODEL = "openai/some-model"


@pytest.fixture(autouse=True)
def no_long_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the pauses between retries."""
    monkeypatch.setattr(call_retries, "FIRST_PAUSE", 0.01)


@asynccontextmanager
async def provider_of(server: RawModel, monkeypatch: pytest.MonkeyPatch, **values: object) -> AsyncIterator[Provider]:
    """Provide the provider, with the variables from which LiteLLM takes a service's address and key."""
    monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    provider = load_provider(Settings.checked({"provider": "litellm_api", "model": MODEL, **values}))
    try:
        yield provider
    finally:
        await provider.aclose()


async def test_an_answer_is_told_as_by_every_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    """Text, tool calls, the finish reason and usage; the request has the model, the messages and the params."""
    usage = chunk()[:-1] + b', "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}}'
    call = {"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x":'}}
    rest = {"index": 0, "function": {"arguments": "1}"}}
    parts = [chunk(content="Hel"), chunk(content="lo"), chunk(tool_calls=[call]), chunk(tool_calls=[rest])]
    said = [*map(event, (*parts, chunk("tool_calls"), usage)), DONE]
    with RawModel(answer_with_stream(*said)) as server:
        async with provider_of(server, monkeypatch) as provider:
            deltas = await collect_deltas(provider, model_request(temperature=0.5))
        (request,) = server.requests
    assert text_of(deltas) == "Hello"
    assert [delta for delta in deltas if not isinstance(delta, Text)] == [
        ToolCall("a", "f", '{"x":1}'),
        Finish("tool_calls"),
        Usage(3, 2),
    ]
    assert request.body["model"] == "some-model"
    assert request.body["messages"] == [{"role": "user", "content": SECRET}]
    assert (request.body["temperature"], request.body["stream"]) == (0.5, True)
    assert request.headers["authorization"] == f"Bearer {KEY}"


FAILURES: dict[str, AnswerFunction] = {
    "cut off": answer_with_stream(event(chunk(content="part"))),
    "an error in the stream": answer_with_stream(
        event(chunk(content="part")), event(b'{"error": {"code": 503}}'), DONE
    ),
    "a finish reason that is one": answer_with_stream(event(chunk(content="part")), event(chunk("error")), DONE),
}


@pytest.mark.parametrize("answer", FAILURES.values(), ids=FAILURES)
async def test_a_failure_is_no_answer(answer: AnswerFunction, monkeypatch: pytest.MonkeyPatch) -> None:
    """What came before it is kept."""
    with RawModel(answer) as server:
        async with provider_of(server, monkeypatch) as provider:
            error, before = await collect_failure(provider, model_request())
    assert text_of(before) == "part"
    assert error.code in RETRYABLE


REFUSALS = {
    401: Code.AUTHENTICATION,
    404: Code.MODEL_NOT_FOUND,
    400: Code.INVALID_REQUEST,
    408: Code.PROVIDER_TIMEOUT,
    500: Code.PROVIDER_UNAVAILABLE,
}


@pytest.mark.parametrize("status", REFUSALS)
async def test_a_refusal_has_the_code_of_every_provider(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """And quotes neither the prompt nor the key, wherever the error is printed."""
    with RawModel(
        answer_with_error(status, {"error": {"message": f"{SECRET} {KEY}", "type": "x", "code": None}})
    ) as server:
        async with provider_of(server, monkeypatch, provider_retries=0) as provider:
            error, _ = await collect_failure(provider, model_request())
    assert error.code == REFUSALS[status]
    printed = "".join(traceback.format_exception(error))
    assert SECRET not in printed
    assert KEY not in printed


async def test_a_busy_service_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """As often as the settings say, and by nobody else."""
    good = answer_with_stream(event(chunk("stop", content="Hello")), DONE)
    with RawModel(answer_with_error(429, {"error": {"message": "busy"}}), close_connection, good) as server:
        async with provider_of(server, monkeypatch, provider_retries=2) as provider:
            assert text_of(await collect_deltas(provider, model_request())) == "Hello"
        assert len(server.requests) == 3


@pytest.mark.parametrize("name", ["api_base", "api_key", "base_url", "custom_llm_provider", "fallbacks", "model"])
async def test_a_caller_does_not_say_where_the_request_goes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Params come from web users: the worker's address and key are its own."""
    with RawModel() as server:
        async with provider_of(server, monkeypatch) as provider:
            error, _ = await collect_failure(provider, model_request(**{name: "http://169.254.169.254"}))
        assert server.requests == []
    assert error.code == Code.INVALID_REQUEST
    assert name in error.message


async def test_a_reader_that_leaves_closes_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stopped answer is paid for no longer than it is read."""

    def speak(exchange: Exchange) -> None:
        exchange.send_head()
        exchange.send_chunk(event(chunk(content="one")))
        exchange.wait_for_disconnect()

    with RawModel(speak) as server:
        async with provider_of(server, monkeypatch) as provider:
            async with aclosing(provider.stream(model_request())) as stream:
                assert [await anext(stream), await anext(stream)] == [SignOfLife(model="some-model"), Text("one")]
            await asyncio.to_thread(eventually, lambda: server.disconnected, 20)


async def test_without_a_model_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no list of models to take the first one of."""
    with RawModel() as server:
        async with provider_of(server, monkeypatch, model=None) as provider:
            error, _ = await collect_failure(provider, model_request())
    assert error.code == Code.MODEL_NOT_FOUND
    assert "CHUNKSPOOL_MODEL" in error.message
