"""An oversized event is the model loop's mistake, and the ending does not blame Redis."""

from __future__ import annotations

import pytest
from redis import Redis
from support.chats.logs import CHAT, ending_of, read_log, text_of
from support.chats.spools import spool_for

from chunkspool import Spool
from chunkspool.errors import InvalidInput


def write_oversized_event(spool: Spool, generation_id: str) -> None:
    """Write a word, then a tool call that is too large."""
    with spool.produce(CHAT, generation_id) as out:
        out.text("before")
        out.tool_call("c1", "f", "x" * 2000)


def test_an_oversized_event_fails_the_generation_without_retry(redis_url: str, client: Redis) -> None:
    """The tool call exceeds max_event_bytes; a retry would not help, and earlier text stays."""
    with spool_for(redis_url, max_event_bytes=2000) as spool:
        asked = spool.enqueue(CHAT, "x")
        with pytest.raises(InvalidInput, match="max_event_bytes is 2000"):
            write_oversized_event(spool, asked.generation_id)
    log = read_log(client)
    ending = ending_of(log, asked.generation_id)
    assert text_of(log, asked.generation_id) == "before"
    assert (ending["code"], ending["retryable"]) == ("event_too_large", False)
    assert "the limit is 2000" in ending["message"]
