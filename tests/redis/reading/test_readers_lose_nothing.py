"""Whatever happens to frames, and however slow a reader is: it gets every event once and in order."""

from __future__ import annotations

import asyncio
import threading
from contextlib import closing
from typing import Any

import pytest
from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from support.chats.handwritten_chat import Talk
from support.chats.spools import spool_for
from support.readers.reader_group import Follower, Hall, subscriptions
from support.waiting import eventually

from chunkspool import AsyncSpool, Spool
from chunkspool.errors import CorruptLog
from chunkspool.reading.reader import BUFFER_BYTES, BUFFER_EVENTS

NEVER = 3600.0
"""A recheck that no test lives to see: what is found then, was found without it."""


@pytest.fixture
def talk(client: Redis) -> Talk:
    """Give a chat in which something is active."""
    return Talk(client)


def live(hall: Hall, url: str, talk: Talk, **settings: object) -> Follower:
    """Return a reader that waits for what comes next."""
    follower = hall.audience(url, **{"recheck": NEVER, **settings}).follow(talk.chat_id)
    follower.wait_for(2)
    eventually(lambda: subscriptions(talk.client) == {talk.keys.live: 1})
    follower.wait_for(talk.say("it hears this live"))
    return follower


def test_a_slow_reader_gets_everything(hall: Hall, redis_url: str, talk: Talk) -> None:
    """One that stops for a while reads on from the log; those who write and those who read beside it do not wait."""
    slow = live(hall, redis_url, talk)
    slow.goes_on.clear()
    quick = hall.audience(redis_url).follow(talk.chat_id)
    quick.wait_for(talk.say_each(*(f"{number}" for number in range(3 * BUFFER_EVENTS))))
    assert len(slow.entries) < 10
    slow.goes_on.set()
    last = talk.end()
    slow.wait_for_end()
    quick.wait_for_end()
    assert slow.seqs == quick.seqs == list(range(1, last + 1))
    assert slow.texts[1:] == [f"{number}" for number in range(3 * BUFFER_EVENTS)]


def test_a_slow_reader_of_large_events_gets_everything(hall: Hall, redis_url: str, talk: Talk) -> None:
    """Few events, but more bytes than a reader may leave lying."""
    slow = live(hall, redis_url, talk)
    slow.goes_on.clear()
    large = "x" * (BUFFER_BYTES // 4)
    for number in range(12):
        talk.say(f"{number}{large}")
    slow.goes_on.set()
    slow.wait_for(talk.end())
    assert [text.rstrip("x") for text in slow.texts[1:]] == [f"{number}" for number in range(12)]


def test_a_lost_frame_is_noticed_by_the_next_one(hall: Hall, redis_url: str, talk: Talk) -> None:
    """A frame that does not follow the last event sends the reader to the log."""
    follower = live(hall, redis_url, talk)
    talk.say_unheard("lost", "lost, too")
    follower.wait_for(talk.say("heard"))
    assert follower.texts == ["it hears this live", "lost", "lost, too", "heard"]


def test_a_lost_last_frame_costs_seconds(hall: Hall, redis_url: str, talk: Talk) -> None:
    """A chat that stays quiet is looked at from time to time."""
    follower = live(hall, redis_url, talk, recheck=0.2)
    follower.wait_for(talk.say_unheard("lost"))
    follower.wait_for(talk.say_unheard("lost again"))
    assert follower.texts == ["it hears this live", "lost", "lost again"]


def test_a_lost_ending_ends_the_reader(hall: Hall, redis_url: str, talk: Talk) -> None:
    """An ending whose frame nobody heard is found, and the reader is at its end."""
    follower = live(hall, redis_url, talk, recheck=0.2)
    last = talk.end_unheard()
    follower.wait_for_end()
    assert follower.seqs == list(range(1, last + 1))


def test_frames_that_come_again_change_nothing(hall: Hall, redis_url: str, talk: Talk) -> None:
    """Old frames, and messages that are none, are left out."""
    follower = live(hall, redis_url, talk)
    for message in (b"1 1\n{}", b"3 1\n{}", b"", b"\n", b"x", b"9 x\n{}", b"-4 1\n{}", b"7", b"\xff\xfe 1\n"):
        talk.client.publish(talk.keys.live, message)
    follower.wait_for(talk.say("after that"))
    assert follower.texts == ["it hears this live", "after that"]
    assert follower.errors == []


def test_who_joins_while_others_write_misses_nothing(hall: Hall, redis_url: str, talk: Talk) -> None:
    """Readers that come at any moment of a busy chat see it from its first event to its last."""
    audience = hall.audience(redis_url, recheck=NEVER)
    done = threading.Event()

    def write() -> None:
        with Redis.from_url(redis_url) as client:
            talk.client = client
            number = 0
            while not done.is_set():
                talk.say(f"{number}")
                number += 1

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    followers = []
    for _ in range(30):
        followers.append(audience.follow(talk.chat_id))
        eventually(lambda: len(followers[-1].entries) > 2)
    done.set()
    writer.join(20)
    last = talk.end()
    for follower in followers:
        follower.wait_for_end()
        assert follower.errors == []
        assert follower.seqs == list(range(1, last + 1))


def test_a_corrupt_entry_is_raised_at_its_place(hall: Hall, redis_url: str, talk: Talk) -> None:
    """From the log as from a frame: what stands before it is given out, and `CorruptLog` names its seq."""
    follower = live(hall, redis_url, talk)
    talk.say_raw(b'{"type":"text.delta","generation":"x","text":7}')
    follower.wait_for_end()
    assert follower.seqs == [1, 2, 3]
    assert [(type(error), error.seq) for error in follower.errors] == [(CorruptLog, 4)]


@pytest.mark.parametrize(
    "raw", [b"", b"[]", b"{}", b'{"type":1}', b"\xff", b'{"type":"text.delta"}', b'{"type":"usage"}']
)
def test_the_iterator_goes_on_behind_a_corrupt_entry(redis_url: str, talk: Talk, raw: bytes) -> None:
    """It is not the reader's end: whoever wants to reads what follows."""
    talk.say_raw(raw)
    talk.say("behind it")
    talk.end()
    with spool_for(redis_url) as spool, spool.subscribe(talk.chat_id) as entries:
        assert [next(entries).seq, next(entries).seq] == [1, 2]
        with pytest.raises(CorruptLog) as raised:
            next(entries)
        assert raised.value.seq == 3
        assert [entry.seq for entry in entries] == [4, 5]


@pytest.mark.parametrize(
    "options",
    [
        {"decode_responses": True},
        {"protocol": 2},
        {"protocol": 3, "decode_responses": True},
        {"socket_timeout": None, "socket_connect_timeout": None, "health_check_interval": 1},
        {"single_connection_client": True},
    ],
)
def test_any_client_will_do(redis_url: str, talk: Talk, options: dict[str, Any]) -> None:
    """The hub's connections are of the client's kind, with what a subscription needs."""
    with Redis.from_url(redis_url, **options) as own, closing(Spool(own)) as spool:
        seen: list[int] = []
        thread = threading.Thread(target=lambda: seen.extend(_seqs(spool, talk)), daemon=True)
        thread.start()
        eventually(lambda: subscriptions(talk.client) == {talk.keys.live: 1})
        talk.say("äöü 🌊")
        talk.end()
        thread.join(20)
        assert seen == [1, 2, 3, 4]


@pytest.mark.parametrize("options", [{"decode_responses": True}, {"protocol": 2}, {"socket_timeout": None}])
async def test_any_asyncio_client_will_do(redis_url: str, talk: Talk, options: dict[str, Any]) -> None:
    """The same on an event loop."""
    async with AsyncRedis.from_url(redis_url, **options) as own:
        spool = AsyncSpool(own)
        async with spool.subscribe(talk.chat_id) as entries:
            seen = []
            async for entry in entries:
                seen.append(entry.seq)
                if entry.seq == 2:
                    asyncio.get_running_loop().call_later(0.1, talk.say, "äöü 🌊")
                    asyncio.get_running_loop().call_later(0.2, talk.end)
        await spool.aclose()
        assert seen == [1, 2, 3, 4]


def _seqs(spool: Spool, talk: Talk) -> list[int]:
    with spool.subscribe(talk.chat_id) as entries:
        return [entry.seq for entry in entries]
