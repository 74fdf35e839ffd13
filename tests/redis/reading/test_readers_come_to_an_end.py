"""No reader waits for ever: each ends when there is nothing to wait for, or is told what became of its chat."""

from __future__ import annotations

import pytest
from redis import Redis
from support.chats.handwritten_chat import HandwrittenChat
from support.chats.spools import spool_for
from support.readers.reader_group import BackgroundReader, ReaderGroups, subscriptions
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
def chat(client: Redis) -> HandwrittenChat:
    """Give a chat in which something is active."""
    return HandwrittenChat(client)


def live(
    reader_groups: ReaderGroups, url: str, chat: HandwrittenChat, recheck: float = NEVER, until: str = "idle"
) -> BackgroundReader:
    """Return a reader that waits for what comes next."""
    reader = reader_groups.open(url, recheck=recheck).follow(chat.chat_id, until=until)
    reader.wait_for(2)
    eventually(lambda: subscriptions(chat.client) == {chat.keys.live: 1})
    reader.wait_for(chat.append("it hears this live"))
    return reader


def test_until_idle_ends_when_nothing_is_active(
    reader_groups: ReaderGroups, redis_url: str, chat: HandwrittenChat
) -> None:
    """Not with the first ending, if another generation of the chat goes on."""
    reader = live(reader_groups, redis_url, chat)
    other = HandwrittenChat(chat.client)
    reader.wait_for(chat.complete())
    assert not reader.ended.is_set()
    last = other.complete()
    reader.wait_for_end()
    assert reader.seqs == list(range(1, last + 1))


def test_until_a_generation_ends_with_its_ending(
    reader_groups: ReaderGroups, redis_url: str, chat: HandwrittenChat
) -> None:
    """Whatever else the chat says before or after it."""
    other = HandwrittenChat(chat.client)
    last = other.complete()
    reader = reader_groups.open(redis_url, recheck=NEVER).follow(chat.chat_id, until=chat.generation_id)
    reader.wait_for(last)
    third = HandwrittenChat(chat.client)
    last = chat.complete()
    third.complete()
    reader.wait_for_end()
    assert reader.seqs == list(range(1, last + 1))


def test_until_forever_goes_on_after_every_ending(
    reader_groups: ReaderGroups, redis_url: str, chat: HandwrittenChat
) -> None:
    """The next generation of the chat is followed, too."""
    reader = live(reader_groups, redis_url, chat, until="forever")
    reader.wait_for(chat.complete())
    reader.wait_for(HandwrittenChat(chat.client).complete())
    assert not reader.ended.is_set()


def test_an_erased_chat_is_told_at_once(reader_groups: ReaderGroups, redis_url: str, chat: HandwrittenChat) -> None:
    """Those who wait get `ChatNotFound` with the erase, not with the next look."""
    reader = live(reader_groups, redis_url, chat)
    with spool_for(redis_url) as spool:
        spool.erase(chat.chat_id)
    reader.wait_for_end()
    assert [type(error) for error in reader.errors] == [ChatNotFound]


def test_a_chat_that_vanished_is_noticed(reader_groups: ReaderGroups, redis_url: str, chat: HandwrittenChat) -> None:
    """Its keys expired, were evicted or deleted by hand, and nothing was published: the next look shows it."""
    reader = live(reader_groups, redis_url, chat, recheck=0.2)
    chat.client.delete(chat.keys.seq, chat.keys.log, chat.keys.head)
    reader.wait_for_end()
    assert [type(error) for error in reader.errors] == [ChatNotFound]


def test_a_chat_whose_active_generation_expired_is_idle(
    reader_groups: ReaderGroups, redis_url: str, chat: HandwrittenChat
) -> None:
    """Its worker died for good, and its keys have expired: nothing is active any more."""
    reader = live(reader_groups, redis_url, chat, recheck=0.2)
    chat.client.delete(chat.keys.head)
    reader.wait_for_end()
    assert reader.errors == []


def test_a_generation_that_vanished_is_noticed(
    reader_groups: ReaderGroups, redis_url: str, chat: HandwrittenChat
) -> None:
    """Whoever waits for its ending is told that it has none."""
    reader = live(reader_groups, redis_url, chat, recheck=0.2, until=chat.generation_id)
    chat.client.delete(chat.keys.gen(chat.generation_id))
    reader.wait_for_end()
    assert [type(error) for error in reader.errors] == [GenerationNotFound]


@pytest.mark.parametrize("value", ["not a number", ["a", "list"]])
def test_a_counter_that_another_program_wrote_is_told(
    reader_groups: ReaderGroups, redis_url: str, chat: HandwrittenChat, value: object
) -> None:
    """Those who read other chats are not concerned, though their reads go together."""
    other = HandwrittenChat(chat.client, "other")
    last = other.complete()
    reader = live(reader_groups, redis_url, chat, recheck=0.2)
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


def test_a_reader_that_was_slow_for_too_long_is_told_what_it_missed(
    reader_groups: ReaderGroups, redis_url: str, chat: HandwrittenChat
) -> None:
    """What it had not yet read is no longer kept: `CursorExpired`, never a silent skip."""
    slow = live(reader_groups, redis_url, chat)
    slow.may_read.clear()
    last = chat.append_each(*(f"{number}" for number in range(2000)))
    chat.client.xtrim(chat.keys.log, maxlen=10, approximate=False)
    slow.may_read.set()
    slow.wait_for_end()
    assert slow.seqs == list(range(1, slow.seqs[-1] + 1))
    [error] = slow.errors
    assert isinstance(error, CursorExpired)
    assert (error.requested, error.first, error.last) == (slow.seqs[-1], last - 9, last)


def test_what_is_wrong_is_raised_when_the_block_is_entered(
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
        (group.follow(chat.chat_id, after="4"), InvalidCursor),
        (group.follow(chat.chat_id, after=True), InvalidCursor),
        (group.follow(chat.chat_id, after=4, until="no id"), InvalidId),
        (group.follow("no id"), InvalidId),
        (group.follow(chat.chat_id, reader="no id"), InvalidId),
    ]
    for reader, expected in wrong:
        reader.wait_for_end()
        assert [type(error) for error in reader.errors] == [expected]
        assert reader.entries == []
