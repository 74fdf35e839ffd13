"""A Celery task of your own whose answer comes from a Pydantic AI agent. Extra: `pydantic-ai`.

The worker loads it by `CHUNKSPOOL_IMPORTS=examples.pydantic_ai_task`; web apps hand generations to it with
`CHUNKSPOOL_TASK=examples.pydantic_ai`.
"""

from pydantic_ai import Agent
from pydantic_ai.models.test import TestModel

from chunkspool import Producer
from chunkspool.integrations import pydantic_ai_history, relay, stream_pydantic_ai
from chunkspool.worker import generation_task

agent = Agent(TestModel(custom_output_text="It is noon."))  # yours: Agent("openai:…")


@agent.tool_plain
def clock(city: str) -> str:
    """Tell the time in a city."""
    return f"12:00 in {city}"


@generation_task(name="examples.pydantic_ai")
def answer(out: Producer) -> None:
    relay(stream_pydantic_ai(agent, message_history=pydantic_ai_history(out.request.messages)), out)
