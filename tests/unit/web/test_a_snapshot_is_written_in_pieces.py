"""A snapshot's JSON in pieces: the bytes are pydantic's, and no piece is large."""

from __future__ import annotations

import asyncio

import pytest
from pydantic import TypeAdapter
from support.chats.random_chats import seeded_random

from chunkspool.events import UsageEvent
from chunkspool.fold import Answer, ToolUse
from chunkspool.results import Snapshot, Waiting
from chunkspool.web.snapshot_json import PIECE_BYTES, encode_snapshot, send_in_turns

TEXTS = ("", "a", '"text":""', '"data":[] "tool_calls":[] "answers":[]', 'quotes " and \\ é 😀 \0\n', "x" * 300_000)
VALUES = (None, 1.5, float("inf"), {"data": [], "text": "", "answers": []}, [[]], "\u2028")


def random_answer(seed: int) -> Answer:
    """Return an answer of anything, some of it long."""
    random = seeded_random(seed)
    calls = [
        ToolUse(random.choice(TEXTS), random.choice(TEXTS[:5]), random.choice(TEXTS), random.choice(VALUES))
        for _ in range(random.choice((0, 1, 3, 250)))
    ]
    usage = UsageEvent(generation_id="g", input_tokens=1, output_tokens=2)
    return Answer(
        f"g{seed}",
        state="completed",
        attempt=seed,
        model=random.choice((None, *TEXTS)),
        text=random.choice(TEXTS),
        reasoning=random.choice(TEXTS),
        tool_calls=tuple(calls) if seed % 3 else (),
        data=tuple((random.choice(TEXTS[:5]), random.choice(VALUES)) for _ in range(random.choice((0, 1, 100, 101)))),
        usage=random.choice((None, usage)),
        error=random.choice((None, *TEXTS)),
    )


@pytest.mark.parametrize("count", [0, 1, 2, 30])
def test_the_pieces_are_the_whole(count: int) -> None:
    """Whatever is in it, also what looks like JSON itself."""
    answers = tuple(random_answer(seed) for seed in range(count))
    snapshot = Snapshot("chat", answers, 7, ("g",), '"answers":[]', 3, (Waiting("g", 1, None),))
    assert b"".join(encode_snapshot(snapshot)) == TypeAdapter(Snapshot).dump_json(snapshot, by_alias=True)


def test_others_have_their_turn_in_between() -> None:
    """A text of many megabytes is sent in pieces, and whoever waits for the event loop gets it after each."""
    snapshot = Snapshot("chat", (Answer("g", text="x" * 10_000_000), Answer("h", text="é")), 7, (), "7")
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def collect() -> list[bytes]:
        other = asyncio.create_task(count_turns())
        pieces = [piece async for piece in send_in_turns(snapshot)]
        other.cancel()
        return pieces

    pieces = asyncio.run(collect())
    assert b"".join(pieces) == TypeAdapter(Snapshot).dump_json(snapshot, by_alias=True)
    assert max(map(len, pieces)) < 3 * PIECE_BYTES
    assert turns >= len(pieces) - 1 > 10_000_000 // (3 * PIECE_BYTES)
