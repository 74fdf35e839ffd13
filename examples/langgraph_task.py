"""A Celery task of your own whose answer comes from a LangGraph agent. Extra: `langchain`.

The worker loads it by `CHUNKSPOOL_IMPORTS=examples.langgraph_task`; web apps hand generations to it with
`CHUNKSPOOL_TASK=examples.langgraph`.
"""

from typing import Any

from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition

from chunkspool import Producer
from chunkspool.integrations import relay, stream_langchain
from chunkspool.worker import generation_task

model = FakeListChatModel(responses=["It is noon in Oslo."])  # yours: ChatOpenAI(…).bind_tools([clock])


@tool
def clock(city: str) -> str:
    """Tell the time in a city."""
    return f"12:00 in {city}"


def ask(state: MessagesState) -> dict[str, Any]:
    if state["messages"][-1].type == "human":  # a real model decides by itself when to call a tool
        return {"messages": [AIMessage("", tool_calls=[{"id": "c1", "name": "clock", "args": {"city": "Oslo"}}])]}
    return {"messages": [model.invoke(state["messages"])]}


agent = (
    StateGraph(MessagesState)
    .add_node("ask", ask)
    .add_node("tools", ToolNode([clock]))
    .add_edge(START, "ask")
    .add_conditional_edges("ask", tools_condition)
    .add_edge("tools", "ask")
    .compile()
)


@generation_task(name="examples.langgraph")
def answer(out: Producer) -> None:
    relay(stream_langchain(agent, {"messages": list(out.request.messages)}), out)
