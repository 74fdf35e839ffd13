"""Redis remembers how far each reader has read a chat, so that it continues there on any device."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from redis import Redis
from support.chats.handwritten_chat import HandwrittenChat
from support.chats.spools import async_spool_for

from chunkspool import AsyncSpool, Spool
from chunkspool.errors import ChatNotFound, CursorAhead, CursorExpired, InvalidCursor, InvalidId


@pytest.fixture
def chat(client: Redis) -> HandwrittenChat:
    """Provide a chat at rest with six events."""
    chat = HandwrittenChat(client)
    chat.append("a", "b", "c")
    assert chat.complete() == 6
    return chat


@pytest.fixture
async def async_spool(redis_url: str) -> AsyncIterator[AsyncSpool]:
    """Provide an async spool."""
    async with async_spool_for(redis_url) as opened:
        yield opened


def read_seqs(spool: Spool, chat: HandwrittenChat, reader: str | None, after: int | None = None) -> list[int]:
    """Return the seqs that the reader gets."""
    with spool.subscribe(chat.chat_id, after, reader=reader) as entries:
        return [entry.seq for entry in entries]


def test_a_reader_continues_where_it_left_off(spool: Spool, chat: HandwrittenChat) -> None:
    """Each reader has its own position; one that never marked anything starts at the beginning."""
    assert spool.last_read(chat.chat_id, "ada") == 0
    assert spool.mark_read(chat.chat_id, "ada", 4) == 4
    assert spool.last_read(chat.chat_id, "ada") == 4
    assert read_seqs(spool, chat, "ada") == [5, 6]
    assert read_seqs(spool, chat, "bob") == read_seqs(spool, chat, None) == [1, 2, 3, 4, 5, 6]


def test_an_explicit_cursor_takes_precedence(spool: Spool, chat: HandwrittenChat) -> None:
    """`after=0` is explicit, too: it replays everything."""
    spool.mark_read(chat.chat_id, "ada", 4)
    assert read_seqs(spool, chat, "ada", 0) == [1, 2, 3, 4, 5, 6]
    assert read_seqs(spool, chat, "ada", 5) == [6]


async def test_the_async_spool_remembers_too(async_spool: AsyncSpool, chat: HandwrittenChat) -> None:
    """Mark, query and continue."""
    assert await async_spool.mark_read(chat.chat_id, "ada", 3) == 3
    assert await async_spool.last_read(chat.chat_id, "ada") == 3
    async with async_spool.subscribe(chat.chat_id, reader="ada") as entries:
        assert [entry.seq async for entry in entries] == [4, 5, 6]
    without_block = async_spool.subscribe(chat.chat_id, reader="ada")
    assert (await anext(without_block)).seq == 4


def test_a_mark_never_moves_back(spool: Spool, chat: HandwrittenChat) -> None:
    """A late, older mark (another tab, a slow network) changes nothing and returns the newer position."""
    assert spool.mark_read(chat.chat_id, "ada", 5) == 5
    assert spool.mark_read(chat.chat_id, "ada", 2) == 5
    assert spool.last_read(chat.chat_id, "ada") == 5
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda seq: spool.mark_read(chat.chat_id, "ada", seq), [1, 6, 3, 2, 5, 4] * 5))
    assert spool.last_read(chat.chat_id, "ada") == 6


def test_invalid_marks_are_rejected(spool: Spool, chat: HandwrittenChat) -> None:
    """A seq that does not exist yet, an invalid cursor, an invalid reader, an unknown chat."""
    with pytest.raises(CursorAhead) as ahead:
        spool.mark_read(chat.chat_id, "ada", 7)
    assert (ahead.value.requested, ahead.value.last) == (7, 6)
    for wrong in (-1, "4", 1.5, True, None):
        with pytest.raises(InvalidCursor):
            spool.mark_read(chat.chat_id, "ada", wrong)
    for reader in ("", "a b", "x" * 129, None):
        with pytest.raises(InvalidId):
            spool.mark_read(chat.chat_id, reader, 1)
        with pytest.raises(InvalidId):
            spool.last_read(chat.chat_id, reader)
    with pytest.raises(ChatNotFound):
        spool.mark_read("no-such-chat", "ada", 0)
    with pytest.raises(ChatNotFound):
        spool.last_read("no-such-chat", "ada")
    assert spool.last_read(chat.chat_id, "ada") == 0


def test_a_trimmed_position_raises_cursor_expired(spool: Spool, chat: HandwrittenChat) -> None:
    """A reader that comes back too late gets an error, not a silent skip."""
    spool.mark_read(chat.chat_id, "ada", 2)
    chat.client.xtrim(chat.keys.log, maxlen=2, approximate=False)
    with pytest.raises(CursorExpired) as expired:
        read_seqs(spool, chat, "ada")
    assert (expired.value.requested, expired.value.first, expired.value.last) == (2, 5, 6)


def test_an_erase_removes_all_positions(spool: Spool, chat: HandwrittenChat) -> None:
    """Readers of a later chat with the same name start at the beginning."""
    spool.mark_read(chat.chat_id, "ada", 6)
    spool.erase(chat.chat_id)
    assert not chat.client.exists(chat.keys.readers)
    HandwrittenChat(chat.client)
    assert spool.last_read(chat.chat_id, "ada") == 0


def test_positions_of_a_lost_chat_are_void(spool: Spool, chat: HandwrittenChat) -> None:
    """Redis lost the chat but not its positions; in the new chat of that name a reader can be marked again."""
    spool.mark_read(chat.chat_id, "ada", 6)
    chat.client.delete(chat.keys.seq, chat.keys.log, chat.keys.head, chat.keys.gens)
    HandwrittenChat(chat.client)
    assert spool.mark_read(chat.chat_id, "ada", 1) == 1
    assert read_seqs_of_stopped_chat(spool, chat) == [2]


def read_seqs_of_stopped_chat(spool: Spool, chat: HandwrittenChat) -> list[int]:
    """Return the seqs that Ada gets from a chat whose generation is then stopped."""
    with spool.subscribe(chat.chat_id, reader="ada", until="forever") as entries:
        return [next(entries).seq]


async def test_positions_last_as_long_as_the_chat(async_spool: AsyncSpool, chat: HandwrittenChat) -> None:
    """Each mark gives them the counter's TTL."""
    await asyncio.gather(*(async_spool.mark_read(chat.chat_id, f"reader-{n}", n) for n in range(6)))
    places, counter = chat.client.pttl(chat.keys.readers), chat.client.pttl(chat.keys.seq)
    assert abs(places - counter) < 5000
