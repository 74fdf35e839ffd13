"""A Celery task of your own whose answer comes from a Pydantic AI agent. Extra: `pydantic-ai`.

The worker loads it by `CHUNKSPOOL_IMPORTS=examples.pydantic_ai_task`; web apps hand generations to it with
`CHUNKSPOOL_TASK=examples.pydantic_ai`.
"""

from celery import shared_task
from celery.exceptions import Reject
from pydantic_ai import Agent
from pydantic_ai.models.test import TestModel

from chunkspool import Spool
from chunkspool.errors import NotClaimed, Released
from chunkspool.integrations import pydantic_ai_history, relay, stream_pydantic_ai

spool = Spool.from_env()  # nothing connects before the first task
agent = Agent(TestModel(custom_output_text="It is noon."))  # yours: Agent("openai:…")


@agent.tool_plain
def clock(city: str) -> str:
    """Tell the time in a city."""
    return f"12:00 in {city}"


@shared_task(name="examples.pydantic_ai", acks_late=True, reject_on_worker_lost=True, release=spool.release)
def answer(tenant: str, chat_id: str, generation_id: str) -> None:
    chats = spool.for_tenant(tenant)
    try:
        with chats.produce(chat_id, generation_id, wait=chats.settings.log.lease) as out:
            relay(stream_pydantic_ai(agent, message_history=pydantic_ai_history(out.request.messages)), out)
    except Released as released:  # this worker shuts down: another one runs the message
        raise Reject(released, requeue=True) from None
    except NotClaimed as error:  # the generation has ended, or another attempt of it is alive
        if error.outcome == "held":
            raise Reject(error, requeue=True) from None
