"""Whatever bytes a model server sends, no text is lost and no failure passes for an answer."""

from __future__ import annotations

from contextlib import aclosing

import pytest
from support.models.chunks import chunk, event, events, tool_call
from support.models.provider_bytes import BODIES, Body, Told
from support.models.provider_client import model_request, provider_for
from support.models.raw_model import Exchange, RawModel, answer_with_stream

from chunkspool.errors import ProviderError
from chunkspool.provider import Delta, SignOfLife, Text, ToolCall, Usage

CASES = [pytest.param(body, id=body.case) for body in BODIES]


async def run(*pieces: bytes) -> tuple[list[Delta], str]:
    """Return what the real provider makes of a real server that sends these pieces, and the ending."""
    deltas: list[Delta] = []
    with RawModel(answer_with_stream(*pieces)) as server:
        async with provider_for(server.base_url) as provider:
            try:
                async with aclosing(provider.stream(model_request())) as stream:
                    async for delta in stream:
                        if not isinstance(delta, SignOfLife):
                            deltas.append(delta)  # noqa: PERF401 - it is wanted also when the loop ends with an error
            except ProviderError:
                return deltas, "generation.failed"
    return deltas, "generation.completed"


@pytest.mark.parametrize("body", CASES)
async def test_each_body_gives_its_text_and_its_ending(body: Body) -> None:
    """Text, reasoning and tool calls are told, each call has an id of its own, and the ending is the right one."""
    deltas, ending = await run(*body.pieces)
    assert Told.by(deltas) == Told(body.text, body.reasoning)
    assert body.ending in (None, ending)
    ids = [delta.id for delta in deltas if isinstance(delta, ToolCall)]
    assert len(set(ids)) == len(ids)


async def test_a_connection_cut_behind_the_last_event_takes_nothing_from_it() -> None:
    """The last event may lack its empty line, and the body its end."""

    def cut(exchange: Exchange) -> None:
        exchange.send_head()
        exchange.send_chunk(event(chunk("stop", content="Hello")).rstrip())

    with RawModel(cut) as server:
        async with provider_for(server.base_url) as provider, aclosing(provider.stream(model_request())) as stream:
            assert [delta async for delta in stream if isinstance(delta, Text)] == [Text("Hello")]


async def test_a_failed_answer_is_paid_for() -> None:
    """The usage that came before the failure is told."""
    usage = chunk(content="part")[:-1] + b', "usage": {"prompt_tokens": 3, "completion_tokens": 1}}'
    deltas, ending = await run(event(usage), event(b'{"error": {"code": 502}}'))
    assert (deltas, ending) == ([Text("part"), Usage(3, 1)], "generation.failed")
    deltas, ending = await run(event(usage))
    assert (deltas, ending) == ([Text("part"), Usage(3, 1)], "generation.failed")


async def test_each_piece_of_a_tool_call_is_progress_and_each_other_byte_a_sign_of_life() -> None:
    """Comments, empty deltas and half lines do not end up as silence; no piece passes without a sign."""
    told: list[object] = []
    whole = events(chunk(content="a"), tool_call(0, id="a", name="f", arguments="{}"), chunk("tool_calls"))

    def answer(exchange: Exchange) -> bool:
        exchange.send_head()
        for piece in (b": hi\n\n", b"data:\n\n", event(chunk()), event(chunk(reasoning_details=[{"data": "x"}]))):
            exchange.send_chunk(piece)
        for at in range(len(whole)):
            exchange.send_chunk(whole[at : at + 1])
        exchange.send_chunk(b"")
        return True

    with RawModel(answer) as server:
        async with provider_for(server.base_url) as provider, aclosing(provider.stream(model_request())) as stream:
            told += [delta async for delta in stream]
    first = told.index(Text("a"))
    assert SignOfLife() in told[:first]
    assert SignOfLife(progress=True) not in told[:first]
    assert told.index(SignOfLife(progress=True)) < told.index(ToolCall("a", "f", "{}"))
