"""How far a reader has played a chat is kept for it: it goes on there, on whichever device."""

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
    """Give a chat of six events that is at rest."""
    chat = HandwrittenChat(client)
    chat.append("a", "b", "c")
    assert chat.complete() == 6
    return chat


@pytest.fixture
async def async_spool(redis_url: str) -> AsyncIterator[AsyncSpool]:
    """Give a spool."""
    async with async_spool_for(redis_url) as opened:
        yield opened


def seqs(spool: Spool, chat: HandwrittenChat, reader: str | None, after: int | None = None) -> list[int]:
    """Return what the reader gets."""
    with spool.subscribe(chat.chat_id, after, reader=reader) as entries:
        return [entry.seq for entry in entries]


def test_a_reader_goes_on_where_it_left_off(spool: Spool, chat: HandwrittenChat) -> None:
    """Each reader has its own place; one that never said is at the beginning."""
    assert spool.last_read(chat.chat_id, "ada") == 0
    assert spool.mark_read(chat.chat_id, "ada", 4) == 4
    assert spool.last_read(chat.chat_id, "ada") == 4
    assert seqs(spool, chat, "ada") == [5, 6]
    assert seqs(spool, chat, "bob") == seqs(spool, chat, None) == [1, 2, 3, 4, 5, 6]


def test_a_cursor_that_is_given_wins(spool: Spool, chat: HandwrittenChat) -> None:
    """`after=0` is a wish like any other: play it all again."""
    spool.mark_read(chat.chat_id, "ada", 4)
    assert seqs(spool, chat, "ada", 0) == [1, 2, 3, 4, 5, 6]
    assert seqs(spool, chat, "ada", 5) == [6]


async def test_asyncio_does_the_same(async_spool: AsyncSpool, chat: HandwrittenChat) -> None:
    """Mark, ask and go on."""
    assert await async_spool.mark_read(chat.chat_id, "ada", 3) == 3
    assert await async_spool.last_read(chat.chat_id, "ada") == 3
    async with async_spool.subscribe(chat.chat_id, reader="ada") as entries:
        assert [entry.seq async for entry in entries] == [4, 5, 6]
    without_block = async_spool.subscribe(chat.chat_id, reader="ada")
    assert (await anext(without_block)).seq == 4


def test_it_never_goes_back(spool: Spool, chat: HandwrittenChat) -> None:
    """An older mark that arrives late (another tab, a slow network) changes nothing, and says how far it is."""
    assert spool.mark_read(chat.chat_id, "ada", 5) == 5
    assert spool.mark_read(chat.chat_id, "ada", 2) == 5
    assert spool.last_read(chat.chat_id, "ada") == 5
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda seq: spool.mark_read(chat.chat_id, "ada", seq), [1, 6, 3, 2, 5, 4] * 5))
    assert spool.last_read(chat.chat_id, "ada") == 6


def test_what_cannot_be_is_refused(spool: Spool, chat: HandwrittenChat) -> None:
    """A seq that is not there yet, a cursor that is none, a reader that is none, a chat that is not there."""
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


def test_a_place_that_is_no_longer_kept_is_told(spool: Spool, chat: HandwrittenChat) -> None:
    """A reader that comes back too late gets `CursorExpired`, not a silent skip."""
    spool.mark_read(chat.chat_id, "ada", 2)
    chat.client.xtrim(chat.keys.log, maxlen=2, approximate=False)
    with pytest.raises(CursorExpired) as expired:
        seqs(spool, chat, "ada")
    assert (expired.value.requested, expired.value.first, expired.value.last) == (2, 5, 6)


def test_an_erased_chat_remembers_nobody(spool: Spool, chat: HandwrittenChat) -> None:
    """Places go with the chat, and those of a chat of the same name begin anew."""
    spool.mark_read(chat.chat_id, "ada", 6)
    spool.erase(chat.chat_id)
    assert not chat.client.exists(chat.keys.readers)
    HandwrittenChat(chat.client)
    assert spool.last_read(chat.chat_id, "ada") == 0


def test_the_place_of_a_chat_that_was_lost_is_void(spool: Spool, chat: HandwrittenChat) -> None:
    """Redis lost the chat but not the places; in the new chat of that name, a reader can be marked again."""
    spool.mark_read(chat.chat_id, "ada", 6)
    chat.client.delete(chat.keys.seq, chat.keys.log, chat.keys.head, chat.keys.gens)
    HandwrittenChat(chat.client)
    assert spool.mark_read(chat.chat_id, "ada", 1) == 1
    assert seqs_after_mark(spool, chat) == [2]


def seqs_after_mark(spool: Spool, chat: HandwrittenChat) -> list[int]:
    """Return what Ada gets of a chat whose generation is then stopped."""
    with spool.subscribe(chat.chat_id, reader="ada", until="forever") as entries:
        return [next(entries).seq]


async def test_the_places_last_as_long_as_the_chat(async_spool: AsyncSpool, chat: HandwrittenChat) -> None:
    """They get the counter's time to live with every mark."""
    await asyncio.gather(*(async_spool.mark_read(chat.chat_id, f"reader-{n}", n) for n in range(6)))
    places, counter = chat.client.pttl(chat.keys.readers), chat.client.pttl(chat.keys.seq)
    assert abs(places - counter) < 5000
