"""Pydantic AI, with its own test models: what an agent says, in order, sync and async alike."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, closing
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic_ai import Agent, ModelHTTPError, UsageLimits
from pydantic_ai.exceptions import ModelAPIError, UserError
from pydantic_ai.messages import ModelMessage
from pydantic_ai.models.function import AgentInfo, DeltaThinkingPart, DeltaToolCall, FunctionModel
from pydantic_ai.models.test import TestModel
from support.models.streams import AnyStream, collect

from chunkspool.errors import ProviderError
from chunkspool.integrations import astream_pydantic_ai, pydantic_ai_provider, stream_pydantic_ai
from chunkspool.provider import Finish, ModelRequest, Provider, Reasoning, Text, ToolCall, ToolResult, Usage

SECRET = "the-prompt-and-the-key"


class City(BaseModel):
    """An output that is an object."""

    name: str


@pytest.fixture(params=[stream_pydantic_ai, astream_pydantic_ai], ids=["sync", "async"])
def stream(request: pytest.FixtureRequest) -> AnyStream:
    """Provide each of the two functions."""
    function: AnyStream = request.param
    return function


def agent_of(*turns: list[Any], **options: Any) -> Agent[None, Any]:
    """Return an agent with a tool, whose model says one of `turns` after the other: texts, deltas and errors."""
    left = iter(turns)

    async def speak(_: list[ModelMessage], __: AgentInfo) -> AsyncIterator[Any]:
        for one in next(left):
            if isinstance(one, Exception):
                raise one
            yield one

    agent: Agent[None, Any] = Agent(FunctionModel(stream_function=speak), **options)

    @agent.tool_plain
    def clock(city: str) -> str:
        """Tell the time in a city."""
        if city == "Atlantis":
            raise LookupError("no such city")
        return f"noon in {city}"

    return agent


def called(id: str, city: str, index: int = 0) -> dict[int, DeltaToolCall]:  # noqa: A002
    """Return a call of the tool."""
    return {index: DeltaToolCall("clock", f'{{"city": "{city}"}}', tool_call_id=id)}


async def test_an_agent_with_tools(stream: AnyStream) -> None:
    """Text and reasoning in order, calls before their results, results by id, usage as a sum, one finish."""
    first = ["Let me ", "see. ", called("a", "Oslo"), called("b", "Rome", 1)]
    said, failed = await collect(stream(agent_of(first, ["It is ", "noon."]), "What time is it?"))
    assert failed is None
    tools = [one for one in said if isinstance(one, ToolCall | ToolResult)]
    assert [one for one in said if not isinstance(one, ToolCall | ToolResult | Usage)] == [
        Text("Let me see. "),
        Text("It is noon."),
        Finish("stop"),
    ]
    assert tools[:2] == [ToolCall("a", "clock", '{"city": "Oslo"}'), ToolCall("b", "clock", '{"city": "Rome"}')]
    assert sorted(tools[2:], key=lambda one: one.id) == [
        ToolResult("a", "noon in Oslo"),
        ToolResult("b", "noon in Rome"),
    ]
    paid = [one for one in said if isinstance(one, Usage)]
    assert len(paid) == 2
    assert paid[0].input_tokens < paid[1].input_tokens
    assert said.index(Text("It is noon.")) > said.index(paid[0]) > said.index(Text("Let me see. "))


async def test_the_test_model(stream: AnyStream) -> None:
    """Pydantic AI's own; it gives every call of a tool the same id."""
    agent = Agent(TestModel(call_tools=["clock"]))

    @agent.tool_plain
    def clock(city: str) -> dict[str, Any]:
        """Tell the time in a city."""
        return {"city": city, "hour": 12}

    said, _ = await collect(stream(agent, "What time is it?"))
    (made,) = (one for one in said if isinstance(one, ToolCall))
    assert (made.name, made.arguments) == ("clock", '{"city":"a"}')
    assert ToolResult(made.id, {"city": "a", "hour": 12}) in said
    assert said[-3] == Text('{"clock":{"city":"a","hour":12}}')
    assert isinstance(said[-2], Usage)
    assert said[-1] == Finish("stop")


async def test_reasoning(stream: AnyStream) -> None:
    """It is told apart from the answer."""
    said, _ = await collect(
        stream(agent_of([{0: DeltaThinkingPart(content="Hm, ")}, {0: DeltaThinkingPart(content="so.")}, "Noon."]), "?")
    )
    assert [one for one in said if not isinstance(one, Usage)] == [
        Reasoning("Hm, "),
        Reasoning("so."),
        Text("Noon."),
        Finish("stop"),
    ]


async def test_an_output_that_is_an_object(stream: AnyStream) -> None:
    """It is said as JSON, and is no tool call: nobody has to answer it."""
    said, _ = await collect(stream(Agent(TestModel(), output_type=City), "?"))
    assert [one for one in said if not isinstance(one, Usage)] == [Text('{"name":"a"}'), Finish("stop")]


async def test_a_tool_that_fails(stream: AnyStream) -> None:
    """Nobody knows this error, so asking again may help. Readers get its type; the log gets its cause."""
    said, failed = await collect(stream(agent_of([called("a", "Atlantis")]), "?"))
    assert ToolCall("a", "clock", '{"city": "Atlantis"}') in said
    assert isinstance(failed, ProviderError)
    assert (failed.code, failed.message) == ("agent_error", "The agent failed while answering (LookupError).")
    assert isinstance(failed.__cause__, LookupError)


FAILURES = {
    "busy": (ModelHTTPError(429, "m", {"error": {"message": SECRET}}), "rate_limited", True),
    "no quota": (ModelHTTPError(429, "m", None, provider_error_code="insufficient_quota"), "quota_exhausted", False),
    "no key": (ModelHTTPError(401, "m", SECRET), "authentication", False),
    "unknown": (ModelAPIError("m", SECRET), "agent_error", True),
    "lost": (ConnectionResetError(SECRET), "truncated", True),
}


@pytest.mark.parametrize(("error", "code", "retryable"), FAILURES.values(), ids=FAILURES)
async def test_an_error_in_the_middle(stream: AnyStream, error: Exception, code: str, retryable: bool) -> None:
    """What came before is kept, also the usage of earlier turns; nothing of the error's words is told."""
    said, failed = await collect(stream(agent_of([called("a", "Oslo")], ["It is ", error]), "?"))
    assert Text("It is ") in said
    assert any(isinstance(one, Usage) for one in said)
    assert isinstance(failed, ProviderError)
    assert (failed.code, failed.retryable) == (code, retryable)
    assert SECRET not in str(failed)


async def test_a_limit_of_the_run(stream: AnyStream) -> None:
    """The agent's own limit ends it, and asking again would not help."""
    agent = agent_of([called("a", "Oslo")], ["Noon."])
    _, failed = await collect(stream(agent, "?", usage_limits=UsageLimits(request_limit=1)))
    assert isinstance(failed, ProviderError)
    assert (failed.code, failed.retryable) == ("agent_limit", False)


async def test_an_agent_that_is_put_together_wrongly(stream: AnyStream) -> None:
    """It is a bug of the app, and stays what it is."""
    said, failed = await collect(stream(agent_of([UserError("wrong")]), "?"))
    assert said == []
    assert isinstance(failed, UserError)


class Silent:
    """A model that says one word and is silent then, until its stream is left."""

    def __init__(self) -> None:
        """Nothing was left yet."""
        self.closed = 0

    async def speak(self, _: list[ModelMessage], __: AgentInfo) -> AsyncIterator[str]:
        """Say a word."""
        try:
            yield "one"
            await asyncio.sleep(3600)
        finally:
            self.closed += 1


async def test_leaving_ends_the_model() -> None:
    """At once, even if the model is silent."""
    silent = Silent()
    async with aclosing(astream_pydantic_ai(Agent(FunctionModel(stream_function=silent.speak)), "?")) as said:
        assert [one async for one in first_text(said)] == [Text("one")]
    assert silent.closed == 1


async def first_text(said: Any) -> AsyncIterator[Text]:
    """Yield the first text."""
    async for one in said:
        if isinstance(one, Text):
            yield one
            return


def test_leaving_a_sync_stream_ends_the_model() -> None:
    """The run is cancelled on the loop on which it ran, and has cleaned up when `close` returns."""
    silent = Silent()
    with closing(stream_pydantic_ai(Agent(FunctionModel(stream_function=silent.speak)), "?")) as said:
        assert next(one for one in said if isinstance(one, Text)) == Text("one")
    assert silent.closed == 1


async def test_a_provider_of_the_worker() -> None:
    """It gets the conversation in the shape of chat completions; `prepare` may say otherwise."""
    heard: list[list[ModelMessage]] = []

    async def speak(messages: list[ModelMessage], _: AgentInfo) -> AsyncIterator[str]:
        heard.append(messages)
        yield "Noon."

    agent: Agent[None, str] = Agent(FunctionModel(stream_function=speak))
    image = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}
    asked = {"id": "c", "type": "function", "function": {"name": "clock", "arguments": "{}"}}
    request = ModelRequest(
        (
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Time?"},
            {"role": "assistant", "content": "Let me see.", "tool_calls": [asked]},
            {"role": "tool", "tool_call_id": "c", "content": "noon"},
            {"role": "user", "content": [{"type": "text", "text": "And here?"}, image]},
        )
    )
    whole = pydantic_ai_provider(agent)
    prepared = pydantic_ai_provider(agent, lambda one: {"user_prompt": one.messages[1]["content"]})
    for provider in (whole, prepared):
        assert isinstance(provider, Provider)
        said, failed = await collect(provider.stream(request))
        assert (said[0], failed) == (Text("Noon."), None)
        await provider.aclose()
    parts = [part.part_kind for message in heard[0] for part in message.parts]
    assert parts == ["system-prompt", "user-prompt", "text", "tool-call", "tool-return", "user-prompt"]
    assert [part.part_kind for message in heard[1] for part in message.parts] == ["user-prompt"]


@pytest.mark.parametrize(
    "message", [{"role": "oracle"}, {"role": "user", "content": [{"type": "smell"}]}], ids=["role", "part"]
)
async def test_a_message_without_a_word_for_it(message: dict[str, Any]) -> None:
    """Rather an error than a question that lacks a part."""
    with pytest.raises(ProviderError, match="invalid_request"):
        await collect(pydantic_ai_provider(Agent(TestModel())).stream(ModelRequest((message,))))
