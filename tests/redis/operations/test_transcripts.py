"""A transcript: what the client of a chat shows is kept with its newest generation, bounded and no longer."""

from __future__ import annotations

from typing import Any

import pytest
from redis import Redis
from support.chats.logs import CHAT, KEYS, read_generation_field
from support.chats.spools import spool_for

from chunkspool import Spool
from chunkspool.errors import ChatNotFound, InvalidRequest, RequestTooLarge

TRANSCRIPT: Any = {"messages": [{"text": "why? 🙂", "n": [1, None, 0.5]}]}


def keep(spool: Spool, transcript: Any, **options: Any) -> str:
    """Enqueue a generation with a transcript and return its id."""
    return spool.enqueue(CHAT, "x", transcript=transcript, on_active="replace", **options).generation_id


def test_a_transcript_comes_back_as_it_was_given(spool: Spool) -> None:
    """With the generation that it was given with, also after that has ended."""
    made = spool.enqueue(CHAT, "x", transcript=TRANSCRIPT)
    with spool.produce(CHAT, made.generation_id):
        pass
    kept = spool.transcript(CHAT)
    assert kept is not None
    assert (kept.generation_id, kept.after, kept.value) == (made.generation_id, made.after, TRANSCRIPT)


def test_only_the_newest_is_kept(spool: Spool, client: Redis) -> None:
    """Each says all that the one before it said: all of them would grow with the square of the chat."""
    older, newer = keep(spool, ["a"]), keep(spool, ["a", "b"])
    spool.enqueue(CHAT, "x", on_active="replace")
    assert read_generation_field(client, older, "transcript") is None
    kept = spool.transcript(CHAT)
    assert kept is not None
    assert (kept.generation_id, kept.value) == (newer, ["a", "b"])


def test_a_repeated_request_changes_nothing(spool: Spool) -> None:
    """Neither the generation nor what was kept with it."""
    first = keep(spool, ["a"], request_id="r")
    assert keep(spool, ["b"], request_id="r") == first
    kept = spool.transcript(CHAT)
    assert kept is not None
    assert kept.value == ["a"]


def test_without_a_transcript_there_is_none(spool: Spool) -> None:
    """A chat that does not exist is still told apart."""
    with pytest.raises(ChatNotFound):
        spool.transcript(CHAT)
    spool.enqueue(CHAT, "x")
    assert spool.transcript(CHAT) is None


def test_it_lives_as_long_as_its_generation(spool: Spool, client: Redis) -> None:
    """By the same key; an erase takes it along."""
    generation_id = keep(spool, TRANSCRIPT, ttl=60)
    with spool.produce(CHAT, generation_id):
        pass
    assert 0 < client.pttl(KEYS.gen(generation_id)) <= 60_000
    spool.erase(CHAT)
    assert client.keys("cs:{default/*") == []


def test_it_is_found_when_the_head_was_evicted(spool: Spool, client: Redis) -> None:
    """The generations' own hashes hold it."""
    keep(spool, TRANSCRIPT)
    client.delete(KEYS.head)
    kept = spool.transcript(CHAT)
    assert kept is not None
    assert kept.value == TRANSCRIPT


def test_a_bad_transcript_is_rejected_before_anything_is_written(redis_url: str, client: Redis) -> None:
    """Too large, nested too deep, or no JSON."""
    deep: Any = []
    for _ in range(1000):
        deep = [deep]
    with spool_for(redis_url, max_request_bytes=1024) as spool:
        with pytest.raises(RequestTooLarge):
            keep(spool, "x" * 1024)
        for bad in (deep, {"a": object()}, "\ud800"):
            with pytest.raises(InvalidRequest):
                keep(spool, bad)
    assert not client.exists(KEYS.log)


def test_numbers_that_json_cannot_hold_become_null(spool: Spool) -> None:
    """As browsers write them."""
    keep(spool, [float("inf"), float("nan")])
    kept = spool.transcript(CHAT)
    assert kept is not None
    assert kept.value == [None, None]


def test_the_older_holder_may_be_gone(spool: Spool, client: Redis) -> None:
    """It has expired or was evicted: nothing is made again in its place."""
    older = keep(spool, ["a"])
    client.delete(KEYS.gen(older))
    keep(spool, ["b"])
    assert not client.exists(KEYS.gen(older))
