"""Promise 9: with `recovery` set to continue, a further attempt continues from the text in the log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator

import pytest
from redis import Redis
from support.chats.logs import CHAT, KEYS, of_generation, read_log, text_of
from support.chats.spools import async_spool_for, claim_and_die, spool_for

from chunkspool import Answer, Spool, fold
from chunkspool.errors import ContinuationRefused, NotClaimed
from chunkspool.events import ReasoningDelta, TextDelta, ToolCallEvent, encode
from chunkspool.provider import Delta, ModelRequest, Text
from chunkspool.store import scripts
from chunkspool.store.client import Store
from chunkspool.tasks import attempt

EARLIER = "The keeper of the "


@pytest.fixture
def spool(redis_url: str) -> Iterator[Spool]:
    """Provide a spool whose attempts continue."""
    with spool_for(redis_url, recovery="continue") as made:
        yield made


def write_and_die(client: Redis, generation_id: str, *events: bytes) -> None:
    """Run a first attempt that writes this much and then disappears."""
    claim_and_die(client, generation_id, lease=0.05)
    if events:
        batch = scripts.append(KEYS, generation_id, attempt=1, index=1, lease_ms=50, events=events)
        assert Store(client).send(batch).outcome == "ok"


def text(generation_id: str, said: str = EARLIER) -> bytes:
    """Return a piece of the answer."""
    return encode(TextDelta(generation_id=generation_id, text=said))


def read_answer(spool: Spool) -> Answer:
    """Return what a reader sees in the end."""
    with spool.subscribe(CHAT) as entries:
        return fold(entry.event for entry in entries)[0]


def test_the_next_attempt_gets_the_text_and_continues(spool: Spool, client: Redis) -> None:
    """Readers learn that the text is kept (`continues`), and both parts are shown as one answer."""
    asked = spool.enqueue(CHAT, "Tell me a story.")
    write_and_die(
        client, asked.generation_id, text(asked.generation_id, "The keeper "), text(asked.generation_id, "of the ")
    )
    with spool.produce(CHAT, asked.generation_id, wait=5) as out:
        assert (out.attempt, out.request.prefix) == (2, EARLIER)
        out.text("lighthouse.")
    log = read_log(client)
    starts = [line.event for line in of_generation(log, asked.generation_id) if line.type == "generation.started"]
    assert [(start["attempt"], start["continues"]) for start in starts] == [(1, False), (2, True)]
    assert text_of(log, asked.generation_id) == "The keeper of the lighthouse."
    seen = read_answer(spool)
    assert (seen.text, seen.attempt, seen.state) == ("The keeper of the lighthouse.", 2, "completed")


def test_a_third_attempt_gets_the_text_of_both(spool: Spool, client: Redis) -> None:
    """However often workers die, no text is requested twice."""
    asked = spool.enqueue(CHAT, "Tell me a story.")
    write_and_die(client, asked.generation_id, text(asked.generation_id, "a "))
    second = scripts.claim(
        KEYS, asked.generation_id, token="2", lease_ms=50, max_attempts=3, model=None, continues=True
    )
    reply = Store(client).send(second)
    while reply.outcome == "held":
        reply = Store(client).send(second)
    more = scripts.append(
        KEYS, asked.generation_id, attempt=2, index=1, lease_ms=50, events=(text(asked.generation_id, "b "),)
    )
    assert Store(client).send(more).outcome == "ok"
    with spool.produce(CHAT, asked.generation_id, wait=5) as out:
        assert (out.attempt, out.request.prefix) == (3, "a b ")


def test_an_attempt_without_earlier_text_starts_normally(spool: Spool, client: Redis) -> None:
    """There is nothing to continue and nothing to void."""
    asked = spool.enqueue(CHAT, "x")
    write_and_die(client, asked.generation_id)
    with spool.produce(CHAT, asked.generation_id, wait=5) as out:
        assert out.request.prefix == ""
        out.text("whole")
    assert read_answer(spool).text == "whole"


@pytest.mark.parametrize("kind", ["tool call", "reasoning", "corrupt"])
def test_output_that_cannot_be_continued_restarts_visibly(spool: Spool, client: Redis, kind: str) -> None:
    """A tool call, reasoning without text, or an unreadable log: a second started event without `continues` follows."""
    asked = spool.enqueue(CHAT, "x")
    said = {
        "tool call": encode(ToolCallEvent(generation_id=asked.generation_id, id="1", name="look", arguments="{}")),
        "reasoning": encode(ReasoningDelta(generation_id=asked.generation_id, text="hmm")),
        "corrupt": b"{",
    }
    write_and_die(
        client, asked.generation_id, text(asked.generation_id) if kind != "reasoning" else b'{"type":"new"}', said[kind]
    )
    with spool.produce(CHAT, asked.generation_id, wait=5) as out:
        assert out.request.prefix == ""
        out.text("anew")
    entries = client.xrange(KEYS.log)
    starts = [fields[b"e"] for _, fields in entries if b"generation.started" in fields[b"e"]]
    assert [b'"continues":true' in start for start in starts] == [False, True, False]
    snapshot = spool.snapshot(CHAT).answers[0]
    assert (snapshot.text, snapshot.tool_calls, snapshot.reasoning, snapshot.attempt) == ("anew", (), "", 2)


def test_a_trimmed_log_restarts(spool: Spool, client: Redis) -> None:
    """Half a text is not continued as if it were the whole."""
    asked = spool.enqueue(CHAT, "x")
    write_and_die(client, asked.generation_id, text(asked.generation_id, "lost "), text(asked.generation_id, "kept "))
    client.xtrim(KEYS.log, maxlen=1, approximate=False)
    with spool.produce(CHAT, asked.generation_id, wait=5) as out:
        assert out.request.prefix == ""
        out.text("anew")
    assert spool.snapshot(CHAT).answers[0].text == "anew"


def test_by_default_an_attempt_restarts(redis_url: str, client: Redis) -> None:
    """The dead attempt's text is void, and `fold` drops it."""
    with spool_for(redis_url) as spool:
        asked = spool.enqueue(CHAT, "x")
        write_and_die(client, asked.generation_id, text(asked.generation_id))
        with spool.produce(CHAT, asked.generation_id, wait=5) as out:
            assert out.request.prefix == ""
            out.text("anew")
        assert read_answer(spool).text == "anew"


class StubbornModel:
    """A model that refuses to continue a text, and answers when asked without one."""

    can_continue = True

    def __init__(self) -> None:
        """Start without requests."""
        self.prefixes: list[str] = []

    async def stream(self, request: ModelRequest) -> AsyncGenerator[Delta, None]:
        """Answer."""
        self.prefixes.append(request.prefix)
        if request.prefix:
            raise ContinuationRefused("continuation_refused", "no", retryable=True)
        yield Text("anew")

    async def aclose(self) -> None:
        """Do nothing."""


async def test_a_model_that_refuses_to_continue_restarts_visibly(redis_url: str, client: Redis) -> None:
    """The fall-back happens within the attempt: a second generation.started with the same number voids the text."""
    model = StubbornModel()
    async with async_spool_for(redis_url, recovery="continue") as spool:
        asked = await spool.enqueue(CHAT, "x")
        write_and_die(client, asked.generation_id, text(asked.generation_id))
        assert await attempt.generate(spool, model, CHAT, asked.generation_id) == "completed"
    assert model.prefixes == [EARLIER, ""]
    starts = [line.event for line in read_log(client) if line.type == "generation.started"]
    assert [(start["attempt"], start["continues"]) for start in starts] == [(1, False), (2, True), (2, False)]
    folded = fold(entry.event for entry in Spool(client).read(CHAT))
    assert folded[0].text == "anew"


async def test_a_held_attempt_frees_its_slot(redis_url: str) -> None:
    """While another attempt lives, a second message waits for one lease, not for the whole answer."""
    async with async_spool_for(redis_url, lease=0.3) as spool:
        asked = await spool.enqueue(CHAT, "x")
        async with spool.produce(CHAT, asked.generation_id) as out:
            with pytest.raises(NotClaimed, match="held"):
                await asyncio.wait_for(attempt.generate(spool, StubbornModel(), CHAT, asked.generation_id), 10)
            out.text("one owner")
    assert out.state == "completed"
