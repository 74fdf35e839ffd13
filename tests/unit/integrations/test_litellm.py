"""LiteLLM, with its own mock responses and no network: its functions and a Router, sync and async alike."""

from __future__ import annotations

from typing import Any

import litellm
import pytest
from litellm import ModelResponseStream, Router
from support.models.streams import collect

from chunkspool.errors import ProviderError
from chunkspool.integrations import astream_litellm, litellm_provider, stream_litellm
from chunkspool.provider import Finish, ModelRequest, Provider, Reasoning, Text, ToolCall, Usage

ASKED: dict[str, Any] = {"model": "openai/m", "messages": [{"role": "user", "content": "Time?"}]}
SECRET = "the-prompt-and-the-key"


def router() -> Router:
    """Return a router whose only model is a mock."""
    here = {"model": "openai/m", "api_key": "none", "mock_response": "It is noon."}
    return Router(model_list=[{"model_name": "m", "litellm_params": here}])


def without_usage(said: list[Any]) -> list[Any]:
    """Return deltas without their usage, which is LiteLLM's estimate."""
    return [one for one in said if not isinstance(one, Usage)]


async def test_what_a_completion_says() -> None:
    """Its text, its finish reason and its usage."""
    mock = {**ASKED, "mock_response": "It is noon.", "stream": True, "stream_options": {"include_usage": True}}
    said, failed = await collect(stream_litellm(litellm.completion(**mock)))
    again, failed_again = await collect(astream_litellm(litellm.acompletion(**mock)))
    assert (failed, failed_again) == (None, None)
    assert said == again
    assert without_usage(said) == [Text("It is noon."), Finish("stop")]
    assert [type(one) for one in said].count(Usage) == 1


async def test_a_router() -> None:
    """Its calls are those of the library."""
    asked = {**ASKED, "model": "m", "stream": True}
    said, _ = await collect(stream_litellm(router().completion(**asked)))
    assert without_usage(said) == [Text("It is noon."), Finish("stop")]
    said, _ = await collect(astream_litellm(router().acompletion(**asked)))
    assert without_usage(said) == [Text("It is noon."), Finish("stop")]


async def test_a_whole_answer() -> None:
    """Whoever forgets `stream=True` gets the answer in one piece."""
    said, _ = await collect(stream_litellm(litellm.completion(**ASKED, mock_response="It is noon.")))
    assert without_usage(said) == [Text("It is noon."), Finish("stop")]
    said, _ = await collect(astream_litellm(litellm.acompletion(**ASKED, mock_response="It is noon.")))
    assert without_usage(said) == [Text("It is noon."), Finish("stop")]


def chunk(finish: str | None = None, usage: dict[str, int] | None = None, **delta: Any) -> ModelResponseStream:
    """Return a chunk as LiteLLM makes it."""
    choices = [{"index": 0, "delta": delta, "finish_reason": finish}]
    return ModelResponseStream(choices=choices, **({"usage": usage} if usage else {}))  # type: ignore[arg-type]


def piece(index: int, arguments: str, **fields: Any) -> dict[str, Any]:
    """Return a piece of a tool call."""
    return {
        "index": index,
        "type": "function",
        "function": {"name": fields.pop("name", None), "arguments": arguments},
        **fields,
    }


class Chunks:
    """A stream of LiteLLM, sync and async, that knows whether it was left."""

    def __init__(self, *steps: Any) -> None:
        """Take chunks and errors."""
        self._steps = iter(steps)
        self.closed = 0

    def __iter__(self) -> Chunks:
        """Return the stream itself."""
        return self

    def __next__(self) -> Any:
        """Return the next chunk."""
        step = next(self._steps)
        if isinstance(step, Exception):
            raise step
        return step

    def __aiter__(self) -> Chunks:
        """Return the stream itself."""
        return self

    async def __anext__(self) -> Any:
        """Return the next chunk."""
        try:
            return next(self)
        except StopIteration:
            raise StopAsyncIteration from None

    def close(self) -> None:
        """Note that it was left."""
        self.closed += 1

    async def aclose(self) -> None:
        """Note that it was left."""
        self.closed += 1


@pytest.fixture(params=[stream_litellm, astream_litellm], ids=["sync", "async"])
def stream(request: pytest.FixtureRequest) -> Any:
    """Provide each of the two functions."""
    return request.param


async def test_reasoning_and_parallel_calls(stream: Any) -> None:
    """Pieces of calls are put together; what earlier calls of the generation have cost is added."""
    opened = Chunks(
        chunk(reasoning_content="Hm."),
        chunk(content="Let me see."),
        chunk(tool_calls=[piece(0, '{"city":', id="a", name="clock"), piece(1, "{}", id="b", name="clock")]),
        chunk(tool_calls=[piece(0, '"Oslo"}')]),
        chunk("tool_calls", {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}),
    )
    said, failed = await collect(stream(opened, paid=Usage(100, 10)))
    assert failed is None
    assert said == [
        Reasoning("Hm."),
        Text("Let me see."),
        ToolCall("a", "clock", '{"city":"Oslo"}'),
        ToolCall("b", "clock", "{}"),
        Finish("tool_calls"),
        Usage(103, 12),
    ]
    assert opened.closed == 1


FAILURES = {
    "busy": (litellm.RateLimitError(SECRET, "p", "m"), "rate_limited", True),
    "overloaded": (litellm.InternalServerError(SECRET, "p", "m"), "provider_unavailable", True),
    "away": (litellm.APIConnectionError(SECRET, "p", "m"), "provider_unreachable", True),
    "silent": (litellm.Timeout(SECRET, "m", "p"), "provider_timeout", True),
    "no key": (litellm.AuthenticationError(SECRET, "p", "m"), "authentication", False),
    "no model": (litellm.NotFoundError(SECRET, "m", "p"), "model_not_found", False),
    "too long": (litellm.ContextWindowExceededError(SECRET, "m", "p"), "context_length_exceeded", False),
    "filtered": (litellm.ContentPolicyViolationError(SECRET, "m", "p"), "refused", False),
    "rejected": (litellm.BadRequestError(SECRET, "m", "p"), "invalid_request", False),
    "unknown": (RuntimeError(SECRET), "provider_error", True),
}


@pytest.mark.parametrize(("error", "code", "retryable"), FAILURES.values(), ids=FAILURES)
async def test_an_error_in_the_middle(stream: Any, error: Exception, code: str, retryable: bool) -> None:
    """What came before is kept; nothing of the error's words is told; the stream is left."""
    opened = Chunks(chunk(content="It is "), error)
    said, failed = await collect(stream(opened))
    assert said == [Text("It is ")]
    assert isinstance(failed, ProviderError)
    assert (failed.code, failed.retryable) == (code, retryable)
    assert SECRET not in str(failed)
    assert code == "provider_error" or (failed.__cause__, failed.__context__) == (None, None)
    assert opened.closed == 1


async def test_a_stream_that_breaks_off(stream: Any) -> None:
    """Only what is said to be complete is: an end without a finish reason is none, an error behind one is late."""
    said, failed = await collect(stream(Chunks(chunk("stop", content="Noon."), ConnectionResetError())))
    assert (said, failed) == ([Text("Noon."), Finish("stop")], None)


async def test_leaving_ends_the_stream(stream: Any) -> None:
    """A stopped answer is paid for no longer than it is read."""
    opened = Chunks(chunk(content="It is "), chunk(content="noon."))
    said: Any = stream(opened)
    assert (next(said) if stream is stream_litellm else await anext(said)) == Text("It is ")
    said.close() if stream is stream_litellm else await said.aclose()
    assert opened.closed == 1


async def test_a_provider_of_the_worker() -> None:
    """The request's model and params go first, but do not say where it goes."""
    calls: list[dict[str, Any]] = []

    async def complete(**arguments: Any) -> Any:
        calls.append(arguments)
        return Chunks(chunk("stop", content="Noon."))

    provider = litellm_provider(complete, model="m", timeout=5)
    assert isinstance(provider, Provider)
    messages = ({"role": "user", "content": "Time?"},)
    assert (await collect(provider.stream(ModelRequest(messages)))) == ([Text("Noon."), Finish("stop")], None)
    await collect(provider.stream(ModelRequest(messages, "other", {"temperature": 0.5})))
    assert [(one["model"], one["timeout"], one["stream"], one.get("temperature")) for one in calls] == [
        ("m", 5, True, None),
        ("other", 5, True, 0.5),
    ]
    for name in ("api_base", "api_key", "fallbacks", "model_list"):
        _, failed = await collect(provider.stream(ModelRequest(messages, None, {name: "http://169.254.169.254"})))
        assert getattr(failed, "code", None) == "invalid_request"
    assert len(calls) == 2
