"""No reader waits forever: it ends when there is nothing to wait for, or learns what happened to its chat."""

from __future__ import annotations

import pytest
from redis import Redis
from support.chats.handwritten_chat import HandwrittenChat
from support.chats.spools import spool_for
from support.readers.reader_group import BackgroundReader, ReaderGroups, count_subscriptions
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
"""A recheck interval longer than any test: whatever a reader finds, it finds without it."""


@pytest.fixture
def chat(client: Redis) -> HandwrittenChat:
    """Provide a chat with an active generation."""
    return HandwrittenChat(client)


def start_live_reader(
    reader_groups: ReaderGroups, url: str, chat: HandwrittenChat, recheck: float = NEVER, until: str = "idle"
) -> BackgroundReader:
    """Start a reader; return it once it follows live."""
    reader = reader_groups.open(url, recheck=recheck).follow(chat.chat_id, until=until)
    reader.wait_for(2)
    eventually(lambda: count_subscriptions(chat.client) == {chat.keys.live: 1})
    reader.wait_for(chat.append("it hears this live"))
    return reader


def test_until_idle_ends_when_nothing_is_active(
    reader_groups: ReaderGroups, redis_url: str, chat: HandwrittenChat
) -> None:
    """Not with the first ending, if another generation of the chat is active."""
    reader = start_live_reader(reader_groups, redis_url, chat)
    other = HandwrittenChat(chat.client)
    reader.wait_for(chat.complete())
    assert not reader.ended.is_set()
    last = other.complete()
    reader.wait_for_end()
    assert reader.seqs == list(range(1, last + 1))


def test_until_a_generation_ends_with_its_ending(
    reader_groups: ReaderGroups, redis_url: str, chat: HandwrittenChat
) -> None:
    """Whatever other events the chat has before or after it."""
    other = HandwrittenChat(chat.client)
    last = other.complete()
    reader = reader_groups.open(redis_url, recheck=NEVER).follow(chat.chat_id, until=chat.generation_id)
    reader.wait_for(last)
    third = HandwrittenChat(chat.client)
    last = chat.complete()
    third.complete()
    reader.wait_for_end()
    assert reader.seqs == list(range(1, last + 1))


def test_until_forever_continues_after_every_ending(
    reader_groups: ReaderGroups, redis_url: str, chat: HandwrittenChat
) -> None:
    """It follows the chat's next generation, too."""
    reader = start_live_reader(reader_groups, redis_url, chat, until="forever")
    reader.wait_for(chat.complete())
    reader.wait_for(HandwrittenChat(chat.client).complete())
    assert not reader.ended.is_set()


def test_readers_of_an_erased_chat_are_told_at_once(
    reader_groups: ReaderGroups, redis_url: str, chat: HandwrittenChat
) -> None:
    """Waiting readers get `ChatNotFound` with the erase, not with the next probe."""
    reader = start_live_reader(reader_groups, redis_url, chat)
    with spool_for(redis_url) as spool:
        spool.erase(chat.chat_id)
    reader.wait_for_end()
    assert [type(error) for error in reader.errors] == [ChatNotFound]


def test_a_vanished_chat_is_noticed(reader_groups: ReaderGroups, redis_url: str, chat: HandwrittenChat) -> None:
    """Its keys expired, were evicted or deleted by hand, with nothing published: the next probe shows it."""
    reader = start_live_reader(reader_groups, redis_url, chat, recheck=0.2)
    chat.client.delete(chat.keys.seq, chat.keys.log, chat.keys.head)
    reader.wait_for_end()
    assert [type(error) for error in reader.errors] == [ChatNotFound]


def test_a_chat_whose_active_generation_expired_is_idle(
    reader_groups: ReaderGroups, redis_url: str, chat: HandwrittenChat
) -> None:
    """Its worker died for good, and its keys have expired: nothing is active any more."""
    reader = start_live_reader(reader_groups, redis_url, chat, recheck=0.2)
    chat.client.delete(chat.keys.gen(chat.generation_id))
    reader.wait_for_end()
    assert reader.errors == []


def test_a_lost_head_ends_nobody_early(reader_groups: ReaderGroups, redis_url: str, chat: HandwrittenChat) -> None:
    """What says which generations are active was evicted while one runs: readers follow it to its end."""
    reader = start_live_reader(reader_groups, redis_url, chat, recheck=0.2)
    chat.client.delete(chat.keys.head)
    eventually(lambda: chat.client.hget(chat.keys.head, "active") == chat.generation_id.encode())
    chat.append("still here")
    last = chat.complete()
    reader.wait_for_end()
    assert (reader.errors, reader.seqs[-1]) == ([], last)


def test_a_vanished_generation_is_noticed(reader_groups: ReaderGroups, redis_url: str, chat: HandwrittenChat) -> None:
    """Whoever waits for its ending is told that it has none."""
    reader = start_live_reader(reader_groups, redis_url, chat, recheck=0.2, until=chat.generation_id)
    chat.client.delete(chat.keys.gen(chat.generation_id))
    reader.wait_for_end()
    assert [type(error) for error in reader.errors] == [GenerationNotFound]


@pytest.mark.parametrize("value", ["not a number", ["a", "list"]])
def test_a_foreign_counter_is_reported(
    reader_groups: ReaderGroups, redis_url: str, chat: HandwrittenChat, value: object
) -> None:
    """Readers of other chats are not affected, although their reads share round trips."""
    other = HandwrittenChat(chat.client, "other")
    last = other.complete()
    reader = start_live_reader(reader_groups, redis_url, chat, recheck=0.2)
    chat.client.delete(chat.keys.seq)
    if isinstance(value, str):
        chat.client.set(chat.keys.seq, value, ex=60)
    else:
        chat.client.rpush(chat.keys.seq, *value)
        chat.client.expire(chat.keys.seq, 60)
    group = reader_groups.open(redis_url)
    late = [group.follow(chat.chat_id) for _ in range(3)]
    others = [group.follow(other.chat_id) for _ in range(3)]
    for each in (reader, *late):
        each.wait_for_end()
        assert [type(error) for error in each.errors] == [CorruptLog]
    for each in others:
        each.wait_for_end()
        assert each.seqs == list(range(1, last + 1))


def test_a_reader_that_was_too_slow_gets_cursor_expired(
    reader_groups: ReaderGroups, redis_url: str, chat: HandwrittenChat
) -> None:
    """What it had not read yet was trimmed: an error, never a silent skip."""
    slow = start_live_reader(reader_groups, redis_url, chat)
    slow.may_read.clear()
    last = chat.append_each(*(f"{number}" for number in range(2000)))
    chat.client.xtrim(chat.keys.log, maxlen=10, approximate=False)
    slow.may_read.set()
    slow.wait_for_end()
    assert slow.seqs == list(range(1, slow.seqs[-1] + 1))
    [error] = slow.errors
    assert isinstance(error, CursorExpired)
    assert (error.requested, error.first, error.last) == (slow.seqs[-1], last - 9, last)


def test_errors_are_raised_when_the_block_is_entered(
    reader_groups: ReaderGroups, redis_url: str, chat: HandwrittenChat
) -> None:
    """A chat that is not there, a cursor that cannot be served, a generation that does not exist."""
    group = reader_groups.open(redis_url)
    chat.append("a", "b", "c")
    chat.client.xtrim(chat.keys.log, maxlen=1, approximate=False)
    wrong: list[tuple[BackgroundReader, type[ChunkspoolError]]] = [
        (group.follow("no-such-chat"), ChatNotFound),
        (group.follow(chat.chat_id, after=6), CursorAhead),
        (group.follow(chat.chat_id, after=3), CursorExpired),
        (group.follow(chat.chat_id, after=4, until="no-such-generation"), GenerationNotFound),
        (group.follow(chat.chat_id, after=-1), InvalidCursor),
        (group.follow(chat.chat_id, after="4."), InvalidCursor),
        (group.follow(chat.chat_id, after=True), InvalidCursor),
        (group.follow(chat.chat_id, after=4, until="no id"), InvalidId),
        (group.follow("no id"), InvalidId),
        (group.follow(chat.chat_id, reader="no id"), InvalidId),
    ]
    for reader, expected in wrong:
        reader.wait_for_end()
        assert [type(error) for error in reader.errors] == [expected]
        assert reader.entries == []
