"""Promise 1, soon: an idle writer holds nothing back; a busy one gathers, but no full batch and no ending."""

from __future__ import annotations

import pytest
from redis import Redis
from support.chats.logs import CHAT, KEYS, read_log, text_of, types_of
from support.chats.spools import async_spool_for, spool_for
from support.waiting import eventually

from chunkspool.producing.buffer import BATCH_EVENTS
from chunkspool.producing.flush_window import FlushWindow

NEVER = 20.0
"""A window that no test could wait out often."""


def test_an_idle_writer_sends_each_piece_at_once(redis_url: str, client: Redis) -> None:
    """However long it may gather: a wait of `flush_interval` for each piece would end this test."""
    with spool_for(redis_url, flush_interval=NEVER, lease=100) as spool:
        asked = spool.enqueue(CHAT, "hello")
        with spool.produce(CHAT, asked.generation_id) as out:
            for piece in range(1, 21):
                out.text(f"{piece} ")
                eventually(lambda: read_log(client)[-1].event.get("text") == f"{piece} ", timeout=60)  # noqa: B023


async def test_an_async_block_is_as_quick(redis_url: str, client: Redis) -> None:
    """It shares the flusher."""
    async with async_spool_for(redis_url, flush_interval=NEVER, lease=100) as spool:
        asked = await spool.enqueue(CHAT, "hello")
        async with spool.produce(CHAT, asked.generation_id) as out:
            for piece in range(1, 21):
                out.text(f"{piece} ")
                eventually(lambda: read_log(client)[-1].event.get("text") == f"{piece} ", timeout=60)  # noqa: B023


def test_a_busy_writer_sends_full_batches_and_endings_at_once(
    redis_url: str, client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What does not fill a batch is gathered, until the ending takes it along: one event for all of the text."""
    # One that gathers for ever: each wait for it would end this test.
    monkeypatch.setattr(FlushWindow, "due", lambda _self, now, flushed: now if flushed == 0.0 else now + 3600.0)
    with spool_for(redis_url, write_timeout=60) as spool:
        asked = spool.enqueue(CHAT, "hello")
        with spool.produce(CHAT, asked.generation_id) as out:
            out.text("first")
            eventually(lambda: read_log(client)[-1].event.get("text") == "first", timeout=60)
            for number in range(2 * BATCH_EVENTS):
                out.data("number", number)
            eventually(lambda: read_log(client)[-1].event.get("value") == 2 * BATCH_EVENTS - 1, timeout=60)
            for word in ("gathered ", "to ", "the ", "end"):
                out.text(word)
            assert text_of(read_log(client), asked.generation_id) == "first"
    log = read_log(client)
    assert [line.event["value"] for line in log if line.type == "data"] == list(range(2 * BATCH_EVENTS))
    assert types_of(log, asked.generation_id)[-2:] == ["text.delta", "generation.completed"]
    assert log[-2].event["text"] == "gathered to the end"
    assert client.hget(KEYS.head, "active") is None
