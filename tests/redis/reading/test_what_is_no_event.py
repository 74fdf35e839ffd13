"""What a model's loop says that no event can hold is that loop's mistake, and its ending does not blame Redis."""

from __future__ import annotations

import pytest
from redis import Redis
from support.chats.logs import CHAT, ending_of, log_of, text_of
from support.chats.spools import spool_for

from chunkspool import Spool
from chunkspool.errors import InvalidInput


def say_too_much(spool: Spool, generation_id: str) -> None:
    """Say a word, and call a tool with too much."""
    with spool.produce(CHAT, generation_id) as out:
        out.text("before")
        out.tool_call("c1", "f", "x" * 2000)


def test_an_event_that_is_too_large_fails_the_generation_as_a_mistake(redis_url: str, client: Redis) -> None:
    """A tool call over max_event_bytes: asking again would not help, and what was said before stays."""
    with spool_for(redis_url, max_event_bytes=2000) as spool:
        asked = spool.enqueue(CHAT, "x")
        with pytest.raises(InvalidInput, match="max_event_bytes is 2000"):
            say_too_much(spool, asked.generation_id)
    log = log_of(client)
    ending = ending_of(log, asked.generation_id)
    assert text_of(log, asked.generation_id) == "before"
    assert (ending["code"], ending["retryable"]) == ("event_too_large", False)
    assert "the limit is 2000" in ending["message"]
