"""The Anthropic provider against real servers that send what the Messages API's documentation describes."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import Any

import anthropic
import pytest
from support.models.message_events import (
    PING,
    begin,
    block,
    finish,
    message_event,
    stream_error,
    text_block,
    tool_block,
)
from support.models.provider_client import (
    KEY,
    SECRET,
    collect_deltas,
    collect_failure,
    model_request,
    text_of,
)
from support.models.raw_model import (
    Exchange,
    RawModel,
    answer_with_error,
    answer_with_stream,
    close_connection,
    stay_silent,
)
from support.waiting import eventually

from chunkspool.errors import ContinuationRefused
from chunkspool.provider import Finish, ModelRequest, Provider, Reasoning, SignOfLife, Text, ToolCall, Usage
from chunkspool.settings import Settings
from chunkspool.tasks.providers import call_retries
from chunkspool.tasks.providers.anthropic_api import AnthropicProvider
from chunkspool.tasks.providers.failures import ASKED_AGAIN, RETRYABLE, Code

THINKING = block(
    0,
    {"type": "thinking", "thinking": "", "signature": ""},
    {"type": "thinking_delta", "thinking": "Hm"},
    {"type": "thinking_delta", "thinking": "."},
    {"type": "signature_delta", "signature": "EqQBCgIYAhIM"},
)
ANSWERS: dict[str, bytes] = {
    "text": begin() + PING + text_block(0, "Hel", "lo") + finish(),
    "thinking": begin() + THINKING + text_block(1, "Yes.") + finish(),
    "redacted thinking": begin() + block(0, {"type": "redacted_thinking", "data": "x"}) + text_block(1, "a") + finish(),
    "tools": (
        begin(cache_read_input_tokens=100)
        + text_block(0, "Let me see.")
        + tool_block(1, "toolu_1", "weather", "", '{"place":', ' "Köln"}')
        + PING
        + tool_block(2, "toolu_2", "clock", "")
        + finish("tool_use", output_tokens=89)
    ),
    "cut at the limit": begin() + text_block(0, "a") + finish("max_tokens"),
    "stop sequence": begin() + text_block(0, "a") + finish("stop_sequence"),
    "refused": begin() + finish("refusal"),
}
STOP_REASONS = {"end_turn": "stop", "stop_sequence": "stop", "max_tokens": "length", "tool_use": "tool_calls"}


@pytest.fixture(autouse=True)
def no_long_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the pauses between retries."""
    monkeypatch.setattr(call_retries, "FIRST_PAUSE", 0.01)


@asynccontextmanager
async def provider_for(server: RawModel, **values: object) -> AsyncIterator[Provider]:
    """Provide a provider for a server; `values` are further settings."""
    settings = {"provider": "anthropic_api", "model": "claude-test", "anthropic_api_key": KEY, **values}
    url = server.base_url.removesuffix("/v1")
    provider = AnthropicProvider(Settings.checked({**settings, "anthropic_base_url": url}))
    try:
        yield provider
    finally:
        await provider.aclose()


async def final_message(server: RawModel) -> anthropic.types.Message:
    """Return what the SDK itself makes of the answer."""
    async with anthropic.AsyncAnthropic(api_key=KEY, base_url=server.base_url.removesuffix("/v1")) as client:
        messages: Any = [{"role": "user", "content": "x"}]
        async with client.messages.stream(model="claude-test", max_tokens=9, messages=messages) as stream:
            return await stream.get_final_message()


@pytest.mark.parametrize("case", ANSWERS)
async def test_an_answer_is_what_the_sdk_makes_of_it(case: str) -> None:
    """Text, thinking, calls with their arguments, stop reason and usage; also one byte at a time."""
    stream = ANSWERS[case]
    bytewise = answer_with_stream(*(stream[at : at + 1] for at in range(len(stream))))
    with RawModel(answer_with_stream(stream), answer_with_stream(stream), bytewise) as server:
        message = await final_message(server)
        async with provider_for(server) as provider:
            deltas = await collect_deltas(provider, model_request())
            assert await collect_deltas(provider, model_request()) == deltas
    blocks = message.content
    assert text_of(deltas) == "".join(one.text for one in blocks if one.type == "text")
    thought = "".join(delta.text for delta in deltas if isinstance(delta, Reasoning))
    assert thought == "".join(one.thinking for one in blocks if one.type == "thinking")
    calls = [(delta.id, delta.name, json.loads(delta.arguments)) for delta in deltas if isinstance(delta, ToolCall)]
    assert calls == [(one.id, one.name, one.input) for one in blocks if one.type == "tool_use"]
    reason = str(message.stop_reason)
    assert deltas[-2] == Finish(STOP_REASONS.get(reason, reason))
    usage = message.usage
    assert deltas[-1] == Usage(usage.input_tokens + (usage.cache_read_input_tokens or 0), usage.output_tokens)


async def test_pings_and_pieces_are_signs_of_life() -> None:
    """A ping is a keep-alive, a piece of a call's arguments is progress."""
    with RawModel(
        answer_with_stream(begin(), PING, ANSWERS["tools"][len(begin(cache_read_input_tokens=100)) :])
    ) as server:
        async with provider_for(server) as provider, aclosing(provider.stream(model_request())) as stream:
            told = [delta async for delta in stream]
    assert SignOfLife() in told[: told.index(Text("Let me see."))]
    call = next(at for at, delta in enumerate(told) if isinstance(delta, ToolCall))
    assert told[call - 1] == SignOfLife(progress=True)


BROKEN = [
    (Code.PROVIDER_UNAVAILABLE, stream_error("overloaded_error")),
    (Code.RATE_LIMITED, stream_error("rate_limit_error")),
    (Code.PROVIDER_ERROR, stream_error("api_error", SECRET)),
    (Code.INVALID_REQUEST, stream_error("invalid_request_error", SECRET)),
    (Code.AUTHENTICATION, stream_error("authentication_error")),
    (Code.QUOTA_EXHAUSTED, stream_error("billing_error")),
    (Code.PROVIDER_ERROR, stream_error("never_heard_of_error")),
    (Code.PROVIDER_ERROR, b"event: error\ndata: " + SECRET.encode() + b"\n\n"),
    (Code.PROVIDER_ERROR, b"event: error\n\n"),
    (Code.MALFORMED_RESPONSE, b"event: content_block_delta\ndata: {" + SECRET.encode() + b"\n\n"),
    (Code.PROVIDER_ERROR, finish("gave_up")),
    (Code.TRUNCATED, finish(None)),
    (Code.TRUNCATED, message_event("message_stop")),
    (Code.TRUNCATED, b""),
    (Code.TRUNCATED, finish()[:60]),
    (Code.MALFORMED_RESPONSE, tool_block(1, "x", "", "{}") + finish("tool_use")),
]


@pytest.mark.parametrize(("code", "end"), BROKEN)
async def test_a_failure_in_mid_stream_is_no_answer(code: Code, end: bytes) -> None:
    """What came before is kept, and what was paid for is told; nothing quotes the prompt, nothing is retried."""
    with RawModel(answer_with_stream(begin() + text_block(0, "half") + end)) as server:
        async with provider_for(server) as provider:
            error, before = await collect_failure(provider, model_request())
        assert len(server.requests) == 1
    assert (error.code, error.retryable) == (code, code in RETRYABLE)
    assert text_of(before) == "half"
    assert any(isinstance(delta, Usage) for delta in before)
    assert error.__cause__ is error.__context__ is None
    assert SECRET not in str(error)


@pytest.mark.parametrize(
    "end", [finish()[: finish().index(b"event: message_stop")], finish().rstrip(), finish() + b"x"]
)
async def test_after_the_stop_reason_the_answer_is_complete(end: bytes) -> None:
    """Whether or not the end of the stream arrives; what is unknown is ignored."""
    odd = message_event("never_heard_of", x=1) + block(3, {"type": "never_heard_of"}, {"type": "odd_delta"})

    def cut(exchange: Exchange) -> None:
        exchange.send_head()
        exchange.send_chunk(begin() + odd + text_block(0, "a") + end)

    with RawModel(cut) as server:
        async with provider_for(server) as provider:
            assert await collect_deltas(provider, model_request()) == [Text("a"), Finish("stop"), Usage(25, 15)]


def refused(status: int, kind: str) -> Any:
    """Refuse as the API does."""
    return answer_with_error(status, {"type": "error", "error": {"type": kind, "message": f"{SECRET} {KEY}"}})


@pytest.mark.parametrize(
    ("code", "answer"),
    [
        (Code.PROVIDER_UNAVAILABLE, refused(529, "overloaded_error")),
        (Code.PROVIDER_UNAVAILABLE, refused(500, "api_error")),
        (Code.RATE_LIMITED, refused(429, "rate_limit_error")),
        (Code.AUTHENTICATION, refused(401, "authentication_error")),
        (Code.AUTHENTICATION, refused(403, "permission_error")),
        (Code.MODEL_NOT_FOUND, refused(404, "not_found_error")),
        (Code.INVALID_REQUEST, refused(400, "invalid_request_error")),
        (Code.INVALID_REQUEST, refused(413, "request_too_large")),
        (Code.PROVIDER_UNREACHABLE, close_connection),
        (Code.PROVIDER_TIMEOUT, stay_silent),
        (Code.NOT_A_STREAM, answer_with_error(200, {"type": "message", "content": []})),
    ],
)
async def test_a_refusal_has_a_code_and_is_retried_only_if_that_may_help(code: Code, answer: Any) -> None:
    """As with OpenAI's servers; the SDK does not retry beside us, and nothing quotes prompt or key."""
    waits = {"first_token_timeout": 0.25, "idle_timeout": 0.25} if code is Code.PROVIDER_TIMEOUT else {}
    with RawModel(answer) as server:
        async with provider_for(server, provider_retries=2, **waits) as provider:
            error, before = await collect_failure(provider, model_request())
        assert len(server.requests) == (3 if code in ASKED_AGAIN else 1)
    assert (error.code, error.retryable, before) == (code, code in RETRYABLE, [])
    assert SECRET not in str(error)
    assert KEY not in str(error)


async def test_the_request_is_what_was_asked() -> None:
    """In the shape of the Messages API, with the key in its header; the prefix is an answer that has begun."""
    messages = ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"})
    params = {"temperature": 0.5, "an_extension": {"of": "the server"}}
    with RawModel(answer_with_stream(ANSWERS["text"])) as server:
        async with provider_for(server) as provider:
            await collect_deltas(provider, replace(ModelRequest(messages, "claude-other", params), prefix="Hel"))
        (request,) = server.requests
    assert request.path == "/v1/messages"
    assert KEY in (request.headers.get("x-api-key"), request.headers.get("authorization", "").removeprefix("Bearer "))
    assert request.body == {
        "model": "claude-other",
        "max_tokens": 4096,
        "stream": True,
        "system": [{"type": "text", "text": "Be brief."}],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
            {"role": "assistant", "content": [{"type": "text", "text": "Hel"}]},
        ],
        **params,
    }


async def test_a_model_that_takes_no_prefix_is_asked_without_it() -> None:
    """The provider says so, and the attempt restarts the answer."""
    with RawModel(refused(400, "invalid_request_error")) as server:
        async with provider_for(server) as provider:
            error, _ = await collect_failure(provider, replace(model_request(), prefix="Hel"))
            assert isinstance(error, ContinuationRefused)
            error, _ = await collect_failure(provider, model_request())
            assert not isinstance(error, ContinuationRefused)


async def test_leaving_closes_the_connection() -> None:
    """Nobody pays for an answer that nobody waits for."""

    def endless(exchange: Exchange) -> None:
        exchange.send_head()
        exchange.send_chunk(begin() + text_block(0, "a"))
        exchange.wait_for_disconnect()

    with RawModel(endless) as server:
        async with provider_for(server) as provider:
            async with aclosing(provider.stream(model_request())) as stream:
                await anext(delta async for delta in stream if isinstance(delta, Text))
            eventually(lambda: server.disconnected == 1)


async def test_no_model_is_an_error() -> None:
    """Nothing is sent."""
    with RawModel(close_connection) as server:
        async with provider_for(server, model=None) as provider:
            error, _ = await collect_failure(provider, model_request())
        assert (error.code, server.requests) == (Code.MODEL_NOT_FOUND, [])
