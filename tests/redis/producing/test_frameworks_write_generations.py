"""Generations by LangGraph and Pydantic AI: what is in the log, and that a stop, a failure and a restart are ours."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic_ai import Agent
from pydantic_ai.models.function import FunctionModel
from redis import Redis
from support.chats.logs import CHAT, ending_of, read_log, types_of
from support.chats.spools import async_spool_for, spool_for
from support.models.chat_models import TWO_TURNS, ScriptedChatModel, agent_of, say
from support.waiting import eventually

from chunkspool import Spool, fold
from chunkspool.errors import ProviderError
from chunkspool.fold import ToolUse
from chunkspool.integrations import (
    arelay,
    astream_langchain,
    langchain_provider,
    pydantic_ai_provider,
    relay,
    stream_langchain,
)
from chunkspool.provider import Provider
from chunkspool.tasks.attempt import generate

CALLS = (
    ToolUse("a", "clock", '{"city": "Oslo"}', "noon in Oslo"),
    ToolUse("b", "clock", '{"city": "Rome"}', "noon in Rome"),
)


def check_whole_answer(spool: Spool) -> None:
    """Compare what a person sees with what `TWO_TURNS` say."""
    (answer,) = fold(entry.event for entry in spool.read(CHAT))
    assert (answer.text, answer.tool_calls, answer.state) == ("Let me see. It is noon.", CALLS, "completed")
    assert answer.usage is not None
    assert (answer.usage.input_tokens, answer.usage.output_tokens, answer.finish_reason) == (30, 8, "stop")


def test_in_a_sync_task(spool: Spool) -> None:
    """One line in the block."""
    asked = spool.enqueue(CHAT, "What time is it?")
    with spool.produce(CHAT, asked.generation_id) as out:
        relay(
            stream_langchain(agent_of(ScriptedChatModel(turns=TWO_TURNS)), {"messages": [*out.request.messages]}), out
        )
    check_whole_answer(spool)


async def test_in_an_async_task(spool: Spool, redis_url: str) -> None:
    """The same, at the pace of Redis."""
    asked = await asyncio.to_thread(spool.enqueue, CHAT, "What time is it?")
    async with async_spool_for(redis_url) as writer, writer.produce(CHAT, asked.generation_id) as out:
        graph = agent_of(ScriptedChatModel(turns=TWO_TURNS))
        await arelay(astream_langchain(graph, {"messages": [*out.request.messages]}), out)
    await asyncio.to_thread(check_whole_answer, spool)


async def test_as_a_provider_of_the_worker(spool: Spool, redis_url: str) -> None:
    """The worker's own attempt drives it."""
    asked = await asyncio.to_thread(spool.enqueue, CHAT, "What time is it?")
    provider = langchain_provider(agent_of(ScriptedChatModel(turns=TWO_TURNS)))
    async with async_spool_for(redis_url) as writer:
        assert await generate(writer, provider, CHAT, asked.generation_id) == "completed"
    await asyncio.to_thread(check_whole_answer, spool)


class Silent:
    """A model of Pydantic AI that says one word and is silent then."""

    def __init__(self) -> None:
        """Nothing was left yet."""
        self.closed = 0

    async def speak(self, *_: Any) -> AsyncIterator[str]:
        """Say a word."""
        try:
            yield "one"
            await asyncio.sleep(3600)
        finally:
            self.closed += 1


def silent_langgraph() -> tuple[Provider, Any]:
    """Return a provider whose model is silent after a word, and that model."""
    model = ScriptedChatModel(turns=[[say("one"), 3600.0]])
    return langchain_provider(agent_of(model)), model


def silent_pydantic_ai() -> tuple[Provider, Any]:
    """Return the same of Pydantic AI."""
    model = Silent()
    return pydantic_ai_provider(Agent(FunctionModel(stream_function=model.speak))), model


@pytest.mark.parametrize("make", [silent_langgraph, silent_pydantic_ai])
async def test_a_stop_ends_a_silent_model(make: Any, spool: Spool, client: Redis, redis_url: str) -> None:
    """At once; its stream was closed when the attempt returns, and what it had said is kept."""
    asked = await asyncio.to_thread(spool.enqueue, CHAT, "?")
    provider, model = make()
    async with async_spool_for(redis_url) as writer:
        attempt = asyncio.create_task(generate(writer, provider, CHAT, asked.generation_id))
        said = lambda: "text.delta" in types_of(read_log(client), asked.generation_id)  # noqa: E731
        await asyncio.to_thread(eventually, said)
        began = time.monotonic()
        await asyncio.to_thread(spool.stop, CHAT)
        assert await attempt == "stopped"
        assert time.monotonic() - began < 10
    assert model.closed == 1
    assert types_of(read_log(client), asked.generation_id)[-2:] == ["text.delta", "generation.stopped"]


def test_a_stop_ends_a_model_in_a_thread(spool: Spool, redis_url: str) -> None:
    """In a sync task the stop is noticed at the next word, and the graph's thread makes hardly more."""
    model = ScriptedChatModel(turns=[[say("one"), *[0.02, say(" more")] * 2000]])
    asked = spool.enqueue(CHAT, "?")
    with spool_for(redis_url) as writer, writer.produce(CHAT, asked.generation_id) as out:
        spool.stop(CHAT)
        relay(stream_langchain(agent_of(model), {"messages": [*out.request.messages]}), out)
    assert out.state == "stopped"
    assert model.said < 1000


async def test_a_failure_is_told(spool: Spool, client: Redis, redis_url: str) -> None:
    """What came before it is kept; strangers see none of its words."""
    asked = await asyncio.to_thread(spool.enqueue, CHAT, "?")
    model = ScriptedChatModel(turns=[[say("half"), RuntimeError("the key is sk-1")]])
    async with async_spool_for(redis_url) as writer:
        with pytest.raises(ProviderError):
            await generate(writer, langchain_provider(agent_of(model)), CHAT, asked.generation_id)
    log = read_log(client)
    assert types_of(log, asked.generation_id)[-2:] == ["text.delta", "generation.failed"]
    ending = ending_of(log, asked.generation_id)
    assert (ending["code"], ending["retryable"]) == ("agent_error", True)
    assert "sk-1" not in str(ending)
