"""The bytes of an answer are read alike however they are cut, without a server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack

import pytest
from support.models.chunks import chunk, event, tool_call
from support.models.provider_bytes import BODIES, Body, Told

from chunkspool.errors import ProviderError
from chunkspool.provider import Delta, SignOfLife, Text, ToolCall
from chunkspool.tasks.providers.answer_reader import read_answer
from chunkspool.tasks.providers.chat_completions import tool_calls
from chunkspool.tasks.providers.chat_completions.chunks import ChunkAssembler


async def read(pieces: Iterable[bytes]) -> tuple[list[Delta], str]:
    """Return the deltas of a body, and the ending."""

    async def open_body(_: AsyncExitStack) -> AsyncIterator[bytes]:
        async def body() -> AsyncIterator[bytes]:
            for piece in pieces:
                yield piece

        return body()

    deltas: list[Delta] = []
    try:
        async for delta in read_answer(open_body, ChunkAssembler()):
            if not isinstance(delta, SignOfLife):
                deltas.append(delta)  # noqa: PERF401 - it is wanted also when the loop ends with an error
    except ProviderError as error:
        return deltas, f"generation.failed: {error.code}"
    return deltas, "generation.completed"


@pytest.mark.parametrize("body", [pytest.param(body, id=body.case) for body in BODIES])
async def test_any_cut_gives_the_same_answer(body: Body) -> None:
    """In one piece, in the table's, in bytes and in pieces of 7: the same deltas and the same ending."""
    stream = b"".join(body.pieces)
    deltas, ending = await read(body.pieces)
    assert Told.by(deltas) == Told(body.text, body.reasoning)
    assert body.ending in (None, ending.partition(":")[0])
    for size in (1, 7, max(1, len(stream))):
        assert await read(stream[at : at + size] for at in range(0, len(stream), size)) == (deltas, ending)


async def test_a_call_may_be_as_long_as_an_event() -> None:
    """Its pieces are joined once: 20,000 of them, with id and name in each, are no work for minutes."""
    piece = event(tool_call(0, id="a", name="f", arguments='"{}" : {},'))
    pieces = [event(tool_call(0, id="a", name="f", arguments="{"))] + [piece] * 20_000
    deltas, ending = await read([*pieces, event(tool_call(0, arguments='"":0}')), event(chunk("tool_calls"))])
    (call, _) = deltas
    assert isinstance(call, ToolCall)
    assert (len(call.arguments), ending) == (1 + 20_000 * 10 + 5, "generation.completed")


@pytest.mark.parametrize(
    "pieces",
    [
        [event(tool_call(0, id="a", name="f", arguments="x" * 1000))] * 20,
        [event(tool_call(n, id=str(n), name="f", arguments="{}")) for n in range(40)],
        [event(tool_call(0, id="a", name="f" * n)) for n in range(1, 900)],
    ],
)
async def test_endless_calls_are_an_error(monkeypatch: pytest.MonkeyPatch, pieces: list[bytes]) -> None:
    """They must not fill the worker's memory; what was said before is kept."""
    monkeypatch.setattr(tool_calls, "MAX_CHARACTERS", 10_000)
    monkeypatch.setattr(tool_calls, "MAX_CALLS", 32)
    deltas, ending = await read([event(chunk(content="part")), *pieces, event(chunk("tool_calls"))])
    assert (deltas, ending) == ([Text("part")], "generation.failed: malformed_response")
