"""A LangChain chat model that says what a test tells it, and a LangGraph agent around it. No network."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from pydantic import PrivateAttr

Step = AIMessageChunk | Exception | float
"""A chunk; an error; or seconds of silence."""


class ScriptedChatModel(BaseChatModel):
    """Its n-th call says the n-th of `turns`. `closed` counts the streams that have been left, by whatever way."""

    turns: list[list[Any]]
    _calls: int = PrivateAttr(0)
    _closed: int = PrivateAttr(0)
    _said: int = PrivateAttr(0)
    _asked: list[list[BaseMessage]] = PrivateAttr(default_factory=list)

    @property
    def closed(self) -> int:
        """How many streams have ended."""
        return self._closed

    @property
    def said(self) -> int:
        """How many chunks have been made."""
        return self._said

    @property
    def asked(self) -> list[list[BaseMessage]]:
        """The messages of each call."""
        return self._asked

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def _generate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        whole = [one for one in self._next_turn(messages) if isinstance(one, AIMessage)]
        return ChatResult(generations=[ChatGeneration(message=whole[0])])

    def _stream(self, messages: list[BaseMessage], *_: Any, **kwargs: Any) -> Iterator[ChatGenerationChunk]:
        manager = kwargs.get("run_manager") or (_[1] if len(_) > 1 else None)
        try:
            for step in self._next_turn(messages):
                if isinstance(step, Exception):
                    raise step
                if isinstance(step, float):
                    time.sleep(step)
                    continue
                self._said += 1
                chunk = ChatGenerationChunk(message=step.model_copy())
                if manager:
                    manager.on_llm_new_token(chunk.text, chunk=chunk)
                yield chunk
        finally:
            self._closed += 1

    async def _astream(self, messages: list[BaseMessage], *_: Any, **kwargs: Any) -> AsyncIterator[ChatGenerationChunk]:
        manager = kwargs.get("run_manager") or (_[1] if len(_) > 1 else None)
        try:
            for step in self._next_turn(messages):
                if isinstance(step, Exception):
                    raise step
                if isinstance(step, float):
                    await asyncio.sleep(step)
                    continue
                self._said += 1
                chunk = ChatGenerationChunk(message=step.model_copy())
                if manager:
                    await manager.on_llm_new_token(chunk.text, chunk=chunk)
                yield chunk
        finally:
            self._closed += 1

    def _next_turn(self, messages: list[BaseMessage]) -> list[Any]:
        self._asked.append(messages)
        self._calls += 1
        return self.turns[self._calls - 1]


def say(content: Any = "", **fields: Any) -> AIMessageChunk:
    """Return a chunk."""
    return AIMessageChunk(content=content, **fields)


def call(id: str | None, name: str | None, args: str | None, index: int = 0) -> AIMessageChunk:  # noqa: A002
    """Return a chunk that is a piece of a tool call."""
    return say(tool_call_chunks=[{"id": id, "name": name, "args": args, "index": index, "type": "tool_call_chunk"}])


def cost(input_tokens: int, output_tokens: int, **fields: Any) -> AIMessageChunk:
    """Return a chunk that has the usage."""
    usage = {"input_tokens": input_tokens, "output_tokens": output_tokens, "total_tokens": input_tokens + output_tokens}
    return say(usage_metadata=usage, **fields)


@tool
def clock(city: str) -> str:
    """Tell the time in a city."""
    if city == "Atlantis":
        raise LookupError("no such city: Atlantis")
    return f"noon in {city}"


def agent_of(model: ScriptedChatModel, **options: Any) -> Any:
    """Return a graph that asks the model and runs its tools, until it calls none. Its nodes work sync and async."""

    def ask(state: MessagesState) -> dict[str, Any]:
        return {"messages": [model.invoke(state["messages"])]}

    async def aask(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(state["messages"])]}

    graph = StateGraph(MessagesState)
    graph.add_node("model", RunnableLambda(ask, aask))
    graph.add_node("tools", ToolNode([clock]))
    graph.add_edge(START, "model")
    graph.add_conditional_edges("model", tools_condition)
    graph.add_edge("tools", "model")
    return graph.compile(**options)


TWO_TURNS: list[list[Step]] = [
    [
        say("Let me "),
        say("see. "),
        call("a", "clock", ""),
        call(None, None, '{"city": "Os'),
        call(None, None, 'lo"}'),
        call("b", "clock", '{"city": "Rome"}', 1),
        cost(10, 5, response_metadata={"finish_reason": "tool_calls"}),
    ],
    [say("It is "), say("noon."), cost(20, 3, response_metadata={"finish_reason": "stop"})],
]
"""An agent's answer: two calls at once, then a text."""
