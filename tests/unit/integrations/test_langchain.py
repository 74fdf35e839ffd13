"""LangChain and LangGraph, with test models: what they say, in order, sync and async alike."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, closing
from typing import Any

import pytest
from langchain_core.language_models import FakeListChatModel, GenericFakeChatModel
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import interrupt
from support.models.chat_models import TWO_TURNS, ScriptedChatModel, agent_of, call, cost, say
from support.models.streams import AnyStream, collect

from chunkspool.errors import InvalidInput, ProviderError
from chunkspool.integrations import astream_langchain, langchain_provider, stream_langchain
from chunkspool.provider import Finish, ModelRequest, Provider, Reasoning, Text, ToolCall, ToolResult, Usage

ASKED: dict[str, Any] = {"messages": [{"role": "user", "content": "What time is it?"}]}
SECRET = "the-prompt-and-the-key"


@pytest.fixture(params=[stream_langchain, astream_langchain], ids=["sync", "async"])
def stream(request: pytest.FixtureRequest) -> AnyStream:
    """Provide each of the two functions."""
    function: AnyStream = request.param
    return function


@pytest.mark.parametrize(
    "runnable",
    [
        FakeListChatModel(responses=["Hello, you."]),
        FakeListChatModel(responses=["Hello, you."]) | StrOutputParser(),
        ChatPromptTemplate.from_messages([("user", "{question}")]) | FakeListChatModel(responses=["Hello, you."]),
    ],
    ids=["model", "texts", "chain"],
)
async def test_a_runnable_says_its_text(stream: AnyStream, runnable: Any) -> None:
    """A chat model, a chain that ends with one, and one that ends with a parser of texts."""
    assert await collect(stream(runnable, {"question": "?"} if "Prompt" in repr(runnable) else "?")) == (
        [Text("Hello, you."), Finish("stop")],
        None,
    )


async def test_pieces_stay_pieces(stream: AnyStream) -> None:
    """They are passed on as they come, not when the answer is whole."""
    model = GenericFakeChatModel(messages=iter([AIMessage("one two three")]))
    opened: Any = stream(model, "?")
    said = [delta async for delta in opened] if hasattr(opened, "__aiter__") else list(opened)
    assert [delta.text for delta in said if isinstance(delta, Text)] == ["one", " ", "two", " ", "three"]


async def test_an_agent_with_tools(stream: AnyStream) -> None:
    """Text in order, calls before their results, results by id, usage as a sum that grows, one finish."""
    said, failed = await collect(stream(agent_of(ScriptedChatModel(turns=TWO_TURNS)), ASKED))
    assert failed is None
    results = said[4:6]
    assert said[:4] == [
        Text("Let me see. "),
        ToolCall("a", "clock", '{"city": "Oslo"}'),
        ToolCall("b", "clock", '{"city": "Rome"}'),
        Usage(10, 5),
    ]
    # The tools run at the same time, so either may be first.
    assert sorted(results, key=lambda one: one.id) == [
        ToolResult("a", "noon in Oslo"),
        ToolResult("b", "noon in Rome"),
    ]
    assert said[6:] == [Text("It is noon."), Usage(30, 8), Finish("stop")]


async def test_ids_that_come_again(stream: AnyStream) -> None:
    """Some models begin to count anew in each turn. Each call has an id of its own, and its own result."""
    turns = [[call("call_0", "clock", f'{{"city": "{city}"}}')] for city in ("Oslo", "Rome")]
    said, _ = await collect(stream(agent_of(ScriptedChatModel(turns=[*turns, [say("Noon.")]])), ASKED))
    assert said == [
        ToolCall("call_0", "clock", '{"city": "Oslo"}'),
        ToolResult("call_0", "noon in Oslo"),
        ToolCall("call_0_2", "clock", '{"city": "Rome"}'),
        ToolResult("call_0_2", "noon in Rome"),
        Text("Noon."),
        Finish("stop"),
    ]


async def test_reasoning(stream: AnyStream) -> None:
    """As a block of its own, and as the further field that older integrations use."""
    blocks = [{"type": "reasoning", "reasoning": "Hm."}, {"type": "text", "text": "Noon."}]
    turn = [say(additional_kwargs={"reasoning_content": "First. "}), say(blocks)]
    said, _ = await collect(stream(ScriptedChatModel(turns=[turn]), "?"))
    assert said == [Reasoning("First. "), Reasoning("Hm."), Text("Noon."), Finish("stop")]


async def test_calls_that_nobody_answers(stream: AnyStream) -> None:
    """Tools that run elsewhere, in the browser: the calls are the end of the answer."""
    turn = [call("a", "clock", "{}"), say(response_metadata={"finish_reason": "tool_calls"})]
    said, _ = await collect(stream(ScriptedChatModel(turns=[turn]), "?"))
    assert said == [ToolCall("a", "clock", "{}"), Finish("tool_calls")]


async def test_an_error_in_the_middle(stream: AnyStream) -> None:
    """What came before is kept, also its usage; nothing of the error's words is told."""
    broken = ConnectionResetError(SECRET)
    graph = agent_of(ScriptedChatModel(turns=[TWO_TURNS[0], [say("It is "), cost(7, 1), broken]]))
    said, failed = await collect(stream(graph, ASKED))
    assert said[-2:] == [Text("It is "), Usage(17, 6)]
    assert isinstance(failed, ProviderError)
    assert (failed.code, failed.retryable) == ("truncated", True)
    assert SECRET not in str(failed)


async def test_a_tool_that_fails(stream: AnyStream) -> None:
    """Nobody knows this error, so asking again may help. Readers get its type; the log gets its cause."""
    graph = agent_of(ScriptedChatModel(turns=[[call("a", "clock", '{"city": "Atlantis"}')]]))
    said, failed = await collect(stream(graph, ASKED))
    assert said == [ToolCall("a", "clock", '{"city": "Atlantis"}')]
    assert isinstance(failed, ProviderError)
    assert (failed.code, failed.retryable) == ("agent_error", True)
    assert failed.message == "The agent failed while answering (LookupError)."
    assert isinstance(failed.__cause__, LookupError)


async def test_an_agent_that_goes_round_in_circles(stream: AnyStream) -> None:
    """The graph's own limit ends it, and asking again would not help."""
    turns = [[call("a", "clock", '{"city": "Oslo"}')]] * 9
    said, failed = await collect(stream(agent_of(ScriptedChatModel(turns=turns)), ASKED, config={"recursion_limit": 4}))
    assert isinstance(failed, ProviderError)
    assert (failed.code, failed.retryable) == ("agent_limit", False)
    assert len([one for one in said if isinstance(one, ToolResult)]) == 2


async def test_a_finish_that_is_none(stream: AnyStream) -> None:
    """A server's word for a failure is one here, too; its word for a limit is told."""
    failing = ScriptedChatModel(turns=[[say("half"), say(response_metadata={"finish_reason": "error"})]])
    said, failed = await collect(stream(failing, "?"))
    assert (said, getattr(failed, "code", None)) == ([Text("half")], "provider_error")
    cut = ScriptedChatModel(turns=[[say("half"), say(response_metadata={"stop_reason": "max_tokens"})]])
    assert (await collect(stream(cut, "?")))[0] == [Text("half"), Finish("length")]


async def test_a_graph_that_waits_for_a_person(stream: AnyStream) -> None:
    """An interrupt is an end, and has a name of its own."""

    def ask(_: MessagesState) -> dict[str, Any]:
        return {"messages": [AIMessage(interrupt("May I?"))]}

    graph = StateGraph(MessagesState)
    graph.add_node("ask", ask)
    graph.add_edge(START, "ask")
    paused = graph.compile(checkpointer=InMemorySaver())
    config = {"configurable": {"thread_id": "1"}}
    assert await collect(stream(paused, ASKED, config=config)) == ([Finish("interrupt")], None)


async def test_only_some_nodes_speak(stream: AnyStream) -> None:
    """What another node's model says is not the answer, but it is paid for."""
    planner = ScriptedChatModel(turns=[[say("a plan"), call("x", "clock", "{}"), cost(1, 2)]])
    writer = ScriptedChatModel(turns=[[say("the answer"), cost(3, 4)]])
    graph = StateGraph(MessagesState)
    graph.add_node("plan", lambda state: {"messages": [HumanMessage(str(planner.invoke(state["messages"]).content))]})
    graph.add_node("write", lambda state: {"messages": [writer.invoke(state["messages"])]})
    graph.add_edge(START, "plan")
    graph.add_edge("plan", "write")
    said, _ = await collect(stream(graph.compile(), ASKED, nodes=["write"]))
    assert said == [Usage(1, 2), Text("the answer"), Usage(4, 6), Finish("stop")]


async def test_a_message_that_no_model_streamed(stream: AnyStream) -> None:
    """A node may return a whole message; it counts like one."""
    calls = [{"id": "a", "name": "clock", "args": {"city": "Oslo"}}]
    usage = {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}
    graph = StateGraph(MessagesState)
    graph.add_node("say", lambda _: {"messages": [AIMessage("Whole.", tool_calls=calls, usage_metadata=usage)]})
    graph.add_edge(START, "say")
    said, _ = await collect(stream(graph.compile(), ASKED))
    assert said == [Text("Whole."), ToolCall("a", "clock", '{"city":"Oslo"}'), Usage(1, 2), Finish("stop")]


async def test_a_runnable_that_says_something_else(stream: AnyStream) -> None:
    """The error says what to pass instead."""
    said, failed = await collect(stream(RunnableLambda(lambda _: {"answer": 1}), "?"))
    assert said == []
    assert isinstance(failed, InvalidInput)
    assert "a dict: end it with a chat model or StrOutputParser" in str(failed)


async def test_endless_calls(stream: AnyStream, monkeypatch: pytest.MonkeyPatch) -> None:
    """The memory of a worker is finite, whatever a model writes."""
    monkeypatch.setattr("chunkspool.integrations.tool_results.MAX_CALLS", 3)
    turn = [call(f"c{number}", "clock", "{}", number) for number in range(5)]
    said, failed = await collect(stream(ScriptedChatModel(turns=[turn]), "?"))
    assert len(said) == 3
    assert getattr(failed, "code", None) == "agent_limit"


def test_leaving_a_sync_graph_ends_its_model() -> None:
    """The graph waits for its threads; the model in one of them ends at its next token, not at its answer's end."""
    model = ScriptedChatModel(turns=[[say("one"), *[0.02, say("more")] * 500]])
    with closing(stream_langchain(agent_of(model), ASKED)) as said:
        assert next(one for one in said if isinstance(one, Text)) == Text("one")
    assert model.closed == 1
    assert model.said < 100


async def test_leaving_an_async_graph_ends_its_model() -> None:
    """At once, even if the model is silent; no further turn begins."""
    model = ScriptedChatModel(turns=[[say("one"), 3600.0]])
    async with aclosing(astream_langchain(agent_of(model), ASKED)) as said:
        async for one in said:
            if isinstance(one, Text):
                break
    assert model.closed == 1


async def test_a_cancelled_task_ends_the_model() -> None:
    """Cancelling is how a stop, a release and a deadline arrive."""
    model = ScriptedChatModel(turns=[[say("one"), 3600.0]])
    heard = asyncio.Event()

    async def follow() -> None:
        async with aclosing(astream_langchain(agent_of(model), ASKED)) as said:
            async for one in said:
                if isinstance(one, Text):
                    heard.set()

    task = asyncio.create_task(follow())
    await heard.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert model.closed == 1


async def test_a_provider_of_the_worker() -> None:
    """A graph gets the conversation as its messages, a model as a list; `prepare` may say otherwise."""
    messages = ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "Time?"})
    request = ModelRequest(messages, model="m")
    graph_model, model, prepared = (ScriptedChatModel(turns=[[say("Noon.")]]) for _ in range(3))
    providers = [
        langchain_provider(agent_of(graph_model)),
        langchain_provider(model),
        langchain_provider(prepared, lambda asked: {"input": f"{asked.model}: {asked.messages[-1]['content']}"}),
    ]
    for provider in providers:
        assert isinstance(provider, Provider)
        assert await collect(provider.stream(request)) == ([Text("Noon."), Finish("stop")], None)
        await provider.aclose()
    for one in (graph_model, model):
        assert [message.content for message in one.asked[0]] == ["Be brief.", "Time?"]
    assert [message.content for message in prepared.asked[0]] == ["m: Time?"]
