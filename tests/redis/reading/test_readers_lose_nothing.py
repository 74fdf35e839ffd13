"""A reader gets every event once and in order, however slow it is and whatever happens to frames."""

from __future__ import annotations

import asyncio
import threading
from contextlib import closing
from typing import Any

import pytest
from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from support.chats.handwritten_chat import HandwrittenChat
from support.chats.spools import spool_for
from support.readers.reader_group import BackgroundReader, ReaderGroups, count_subscriptions
from support.waiting import eventually

from chunkspool import AsyncSpool, Spool
from chunkspool.errors import CorruptLog
from chunkspool.reading.reader import BUFFER_BYTES, BUFFER_EVENTS

NEVER = 3600.0
"""A recheck interval longer than any test: whatever a reader finds, it finds without it."""


@pytest.fixture
def chat(client: Redis) -> HandwrittenChat:
    """Provide a chat with an active generation."""
    return HandwrittenChat(client)


def start_live_reader(
    reader_groups: ReaderGroups, url: str, chat: HandwrittenChat, **settings: object
) -> BackgroundReader:
    """Start a reader; return it once it follows live."""
    reader = reader_groups.open(url, **{"recheck": NEVER, **settings}).follow(chat.chat_id)
    reader.wait_for(2)
    eventually(lambda: count_subscriptions(chat.client) == {chat.keys.live: 1})
    reader.wait_for(chat.append("it hears this live"))
    return reader


def test_a_slow_reader_gets_everything(reader_groups: ReaderGroups, redis_url: str, chat: HandwrittenChat) -> None:
    """A reader that pauses continues from the log; neither writers nor other readers wait for it."""
    slow = start_live_reader(reader_groups, redis_url, chat)
    slow.may_read.clear()
    quick = reader_groups.open(redis_url).follow(chat.chat_id)
    quick.wait_for(chat.append_each(*(f"{number}" for number in range(3 * BUFFER_EVENTS))))
    assert len(slow.entries) < 10
    slow.may_read.set()
    last = chat.complete()
    slow.wait_for_end()
    quick.wait_for_end()
    assert slow.seqs == quick.seqs == list(range(1, last + 1))
    assert slow.texts[1:] == [f"{number}" for number in range(3 * BUFFER_EVENTS)]


def test_a_slow_reader_of_large_events_gets_everything(
    reader_groups: ReaderGroups, redis_url: str, chat: HandwrittenChat
) -> None:
    """There are few events, but more bytes than a reader may buffer."""
    slow = start_live_reader(reader_groups, redis_url, chat)
    slow.may_read.clear()
    large = "x" * (BUFFER_BYTES // 4)
    for number in range(12):
        chat.append(f"{number}{large}")
    slow.may_read.set()
    slow.wait_for(chat.complete())
    assert [text.rstrip("x") for text in slow.texts[1:]] == [f"{number}" for number in range(12)]


def test_the_next_frame_reveals_a_lost_one(reader_groups: ReaderGroups, redis_url: str, chat: HandwrittenChat) -> None:
    """A frame that does not continue from the last event sends the reader to the log."""
    reader = start_live_reader(reader_groups, redis_url, chat)
    chat.append_without_frame("lost", "lost, too")
    reader.wait_for(chat.append("heard"))
    assert reader.texts == ["it hears this live", "lost", "lost, too", "heard"]


def test_a_lost_last_frame_costs_only_seconds(
    reader_groups: ReaderGroups, redis_url: str, chat: HandwrittenChat
) -> None:
    """Quiet chats are probed regularly."""
    reader = start_live_reader(reader_groups, redis_url, chat, recheck=0.2)
    reader.wait_for(chat.append_without_frame("lost"))
    reader.wait_for(chat.append_without_frame("lost again"))
    assert reader.texts == ["it hears this live", "lost", "lost again"]


def test_a_lost_ending_ends_the_reader(reader_groups: ReaderGroups, redis_url: str, chat: HandwrittenChat) -> None:
    """An ending whose frame was lost is found, and the reader ends."""
    reader = start_live_reader(reader_groups, redis_url, chat, recheck=0.2)
    last = chat.complete_without_frame()
    reader.wait_for_end()
    assert reader.seqs == list(range(1, last + 1))


def test_repeated_and_invalid_frames_are_ignored(
    reader_groups: ReaderGroups, redis_url: str, chat: HandwrittenChat
) -> None:
    """Old frames, and messages that are not frames, change nothing."""
    reader = start_live_reader(reader_groups, redis_url, chat)
    for message in (b"1 1\n{}", b"3 1\n{}", b"", b"\n", b"x", b"9 x\n{}", b"-4 1\n{}", b"7", b"\xff\xfe 1\n"):
        chat.client.publish(chat.keys.live, message)
    reader.wait_for(chat.append("after that"))
    assert reader.texts == ["it hears this live", "after that"]
    assert reader.errors == []


def test_readers_that_join_during_writes_miss_nothing(
    reader_groups: ReaderGroups, redis_url: str, chat: HandwrittenChat
) -> None:
    """Readers that join a busy chat at any moment see it from its first event to its last."""
    group = reader_groups.open(redis_url, recheck=NEVER)
    done = threading.Event()

    def write() -> None:
        with Redis.from_url(redis_url) as client:
            chat.client = client
            number = 0
            while not done.is_set():
                chat.append(f"{number}")
                number += 1

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    readers = []
    for _ in range(30):
        readers.append(group.follow(chat.chat_id))
        eventually(lambda: len(readers[-1].entries) > 2)
    done.set()
    writer.join(20)
    last = chat.complete()
    for reader in readers:
        reader.wait_for_end()
        assert reader.errors == []
        assert reader.seqs == list(range(1, last + 1))


def test_a_corrupt_entry_is_raised_at_its_place(
    reader_groups: ReaderGroups, redis_url: str, chat: HandwrittenChat
) -> None:
    """From the log as from a frame: earlier entries are returned, then `CorruptLog` names the seq."""
    reader = start_live_reader(reader_groups, redis_url, chat)
    chat.append_raw(b'{"type":"text.delta","generation":"x","text":7}')
    reader.wait_for_end()
    assert reader.seqs == [1, 2, 3]
    assert [(type(error), error.seq) for error in reader.errors] == [(CorruptLog, 4)]


@pytest.mark.parametrize(
    "raw", [b"", b"[]", b"{}", b'{"type":1}', b"\xff", b'{"type":"text.delta"}', b'{"type":"usage"}']
)
def test_the_iterator_continues_after_a_corrupt_entry(redis_url: str, chat: HandwrittenChat, raw: bytes) -> None:
    """A corrupt entry is not the reader's end: it can read what follows."""
    chat.append_raw(raw)
    chat.append("behind it")
    chat.complete()
    with spool_for(redis_url) as spool, spool.subscribe(chat.chat_id) as entries:
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
def test_readers_work_with_any_client(redis_url: str, chat: HandwrittenChat, options: dict[str, Any]) -> None:
    """The hub's connections are of the client's kind, plus what a subscription needs."""
    with Redis.from_url(redis_url, **options) as own, closing(Spool(own)) as spool:
        seen: list[int] = []
        thread = threading.Thread(target=lambda: seen.extend(_seqs(spool, chat)), daemon=True)
        thread.start()
        eventually(lambda: count_subscriptions(chat.client) == {chat.keys.live: 1})
        chat.append("äöü 🌊")
        chat.complete()
        thread.join(20)
        assert seen == [1, 2, 3, 4]


@pytest.mark.parametrize("options", [{"decode_responses": True}, {"protocol": 2}, {"socket_timeout": None}])
async def test_readers_work_with_any_asyncio_client(
    redis_url: str, chat: HandwrittenChat, options: dict[str, Any]
) -> None:
    """The same on an event loop."""
    async with AsyncRedis.from_url(redis_url, **options) as own:
        spool = AsyncSpool(own)
        async with spool.subscribe(chat.chat_id) as entries:
            seen = []
            async for entry in entries:
                seen.append(entry.seq)
                if entry.seq == 2:
                    asyncio.get_running_loop().call_later(0.1, chat.append, "äöü 🌊")
                    asyncio.get_running_loop().call_later(0.2, chat.complete)
        await spool.aclose()
        assert seen == [1, 2, 3, 4]


def _seqs(spool: Spool, chat: HandwrittenChat) -> list[int]:
    with spool.subscribe(chat.chat_id) as entries:
        return [entry.seq for entry in entries]
