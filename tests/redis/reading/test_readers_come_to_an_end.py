"""No reader waits for ever: each ends when there is nothing to wait for, or is told what became of its chat."""

from __future__ import annotations

import pytest
from redis import Redis
from support.chats.handwritten_chat import Talk
from support.chats.spools import spool_for
from support.readers.reader_group import Follower, Hall, subscriptions
from support.waiting import eventually

from chunkspool.errors import (
    ChatNotFound,
    ChunkspoolError,
    CorruptLog,
    CursorAhead,
    CursorExpired,
    GenerationNotFound,
    InvalidCursor,
    InvalidId,
)

NEVER = 3600.0
"""A recheck that no test lives to see: what is found then, was found without it."""


@pytest.fixture
def talk(client: Redis) -> Talk:
    """Give a chat in which something is active."""
    return Talk(client)


def live(hall: Hall, url: str, talk: Talk, recheck: float = NEVER, until: str = "idle") -> Follower:
    """Return a reader that waits for what comes next."""
    follower = hall.audience(url, recheck=recheck).follow(talk.chat_id, until=until)
    follower.wait_for(2)
    eventually(lambda: subscriptions(talk.client) == {talk.keys.live: 1})
    follower.wait_for(talk.say("it hears this live"))
    return follower


def test_until_idle_ends_when_nothing_is_active(hall: Hall, redis_url: str, talk: Talk) -> None:
    """Not with the first ending, if another generation of the chat goes on."""
    follower = live(hall, redis_url, talk)
    other = Talk(talk.client)
    follower.wait_for(talk.end())
    assert not follower.ended.is_set()
    last = other.end()
    follower.wait_for_end()
    assert follower.seqs == list(range(1, last + 1))


def test_until_a_generation_ends_with_its_ending(hall: Hall, redis_url: str, talk: Talk) -> None:
    """Whatever else the chat says before or after it."""
    other = Talk(talk.client)
    last = other.end()
    follower = hall.audience(redis_url, recheck=NEVER).follow(talk.chat_id, until=talk.generation_id)
    follower.wait_for(last)
    third = Talk(talk.client)
    last = talk.end()
    third.end()
    follower.wait_for_end()
    assert follower.seqs == list(range(1, last + 1))


def test_until_forever_goes_on_after_every_ending(hall: Hall, redis_url: str, talk: Talk) -> None:
    """The next generation of the chat is followed, too."""
    follower = live(hall, redis_url, talk, until="forever")
    follower.wait_for(talk.end())
    follower.wait_for(Talk(talk.client).end())
    assert not follower.ended.is_set()


def test_an_erased_chat_is_told_at_once(hall: Hall, redis_url: str, talk: Talk) -> None:
    """Those who wait get `ChatNotFound` with the erase, not with the next look."""
    follower = live(hall, redis_url, talk)
    with spool_for(redis_url) as spool:
        spool.erase(talk.chat_id)
    follower.wait_for_end()
    assert [type(error) for error in follower.errors] == [ChatNotFound]


def test_a_chat_that_vanished_is_noticed(hall: Hall, redis_url: str, talk: Talk) -> None:
    """Its keys expired, were evicted or deleted by hand, and nothing was published: the next look shows it."""
    follower = live(hall, redis_url, talk, recheck=0.2)
    talk.client.delete(talk.keys.seq, talk.keys.log, talk.keys.head)
    follower.wait_for_end()
    assert [type(error) for error in follower.errors] == [ChatNotFound]


def test_a_chat_whose_active_generation_expired_is_idle(hall: Hall, redis_url: str, talk: Talk) -> None:
    """Its worker died for good, and its keys have expired: nothing is active any more."""
    follower = live(hall, redis_url, talk, recheck=0.2)
    talk.client.delete(talk.keys.gen(talk.generation_id))
    follower.wait_for_end()
    assert follower.errors == []


def test_a_lost_head_ends_nobody_early(hall: Hall, redis_url: str, talk: Talk) -> None:
    """What says which generations are active was evicted while one runs: readers follow it to its end."""
    follower = live(hall, redis_url, talk, recheck=0.2)
    talk.client.delete(talk.keys.head)
    eventually(lambda: talk.client.hget(talk.keys.head, "active") == talk.generation_id.encode())
    talk.say("still here")
    last = talk.end()
    follower.wait_for_end()
    assert (follower.errors, follower.seqs[-1]) == ([], last)


def test_a_generation_that_vanished_is_noticed(hall: Hall, redis_url: str, talk: Talk) -> None:
    """Whoever waits for its ending is told that it has none."""
    follower = live(hall, redis_url, talk, recheck=0.2, until=talk.generation_id)
    talk.client.delete(talk.keys.gen(talk.generation_id))
    follower.wait_for_end()
    assert [type(error) for error in follower.errors] == [GenerationNotFound]


@pytest.mark.parametrize("value", ["not a number", ["a", "list"]])
def test_a_counter_that_another_program_wrote_is_told(hall: Hall, redis_url: str, talk: Talk, value: object) -> None:
    """Those who read other chats are not concerned, though their reads go together."""
    other = Talk(talk.client, "other")
    last = other.end()
    follower = live(hall, redis_url, talk, recheck=0.2)
    talk.client.delete(talk.keys.seq)
    if isinstance(value, str):
        talk.client.set(talk.keys.seq, value, ex=60)
    else:
        talk.client.rpush(talk.keys.seq, *value)
        talk.client.expire(talk.keys.seq, 60)
    audience = hall.audience(redis_url)
    late = [audience.follow(talk.chat_id) for _ in range(3)]
    others = [audience.follow(other.chat_id) for _ in range(3)]
    for each in (follower, *late):
        each.wait_for_end()
        assert [type(error) for error in each.errors] == [CorruptLog]
    for each in others:
        each.wait_for_end()
        assert each.seqs == list(range(1, last + 1))


def test_a_reader_that_was_slow_for_too_long_is_told_what_it_missed(hall: Hall, redis_url: str, talk: Talk) -> None:
    """What it had not yet read is no longer kept: `CursorExpired`, never a silent skip."""
    slow = live(hall, redis_url, talk)
    slow.goes_on.clear()
    last = talk.say_each(*(f"{number}" for number in range(2000)))
    talk.client.xtrim(talk.keys.log, maxlen=10, approximate=False)
    slow.goes_on.set()
    slow.wait_for_end()
    assert slow.seqs == list(range(1, slow.seqs[-1] + 1))
    [error] = slow.errors
    assert isinstance(error, CursorExpired)
    assert (error.requested, error.first, error.last) == (slow.seqs[-1], last - 9, last)


def test_what_is_wrong_is_raised_when_the_block_is_entered(hall: Hall, redis_url: str, talk: Talk) -> None:
    """A chat that is not there, a cursor that cannot be served, a generation that does not exist."""
    audience = hall.audience(redis_url)
    talk.say("a", "b", "c")
    talk.client.xtrim(talk.keys.log, maxlen=1, approximate=False)
    wrong: list[tuple[Follower, type[ChunkspoolError]]] = [
        (audience.follow("no-such-chat"), ChatNotFound),
        (audience.follow(talk.chat_id, after=6), CursorAhead),
        (audience.follow(talk.chat_id, after=3), CursorExpired),
        (audience.follow(talk.chat_id, after=4, until="no-such-generation"), GenerationNotFound),
        (audience.follow(talk.chat_id, after=-1), InvalidCursor),
        (audience.follow(talk.chat_id, after="4."), InvalidCursor),
        (audience.follow(talk.chat_id, after=True), InvalidCursor),
        (audience.follow(talk.chat_id, after=4, until="no id"), InvalidId),
        (audience.follow("no id"), InvalidId),
        (audience.follow(talk.chat_id, reader="no id"), InvalidId),
    ]
    for follower, expected in wrong:
        follower.wait_for_end()
        assert [type(error) for error in follower.errors] == [expected]
        assert follower.entries == []
