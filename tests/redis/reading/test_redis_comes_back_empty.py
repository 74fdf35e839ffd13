"""Promises 7 and 11: a Redis that has lost its data is told to producers and readers; nothing is spliced in silence."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.chats.logs import CHAT
from support.chats.spools import async_spool_for, spool_for
from support.servers.redis_server import PrivateServer, embedded_server
from support.waiting import eventually

from chunkspool import Spool
from chunkspool.errors import ChatNotFound, CursorExpired, Fenced, StoreUnavailable


@pytest.fixture
def server(tmp_path: Path) -> Iterator[PrivateServer]:
    """Give a server that keeps nothing over a restart."""
    with embedded_server(tmp_path) as own:
        yield own


@pytest.fixture
def spool(server: PrivateServer) -> Iterator[Spool]:
    """Give a spool on it."""
    with spool_for(server.url) as made:
        yield made


def say(spool: Spool, events: int) -> None:
    """Add a generation of so many events, its queued, started and completed counted in."""
    asked = spool.enqueue(CHAT, "x")
    with spool.produce(CHAT, asked.generation_id) as out:
        for number in range(events - 3):
            out.data("number", number)


def come_back_empty(server: PrivateServer, spool: Spool) -> None:
    """Restart the server and wait until the spool has noticed."""
    server.restart()

    def answers() -> bool:
        try:
            spool.erase(CHAT)
        except StoreUnavailable:
            return False
        return True

    eventually(answers, 20)


def test_a_running_generation_is_told(server: PrivateServer, spool: Spool) -> None:
    """Its loop gets `Fenced` with the reason, and writes nothing into the empty Redis."""
    asked = spool.enqueue(CHAT, "x")
    with pytest.raises(Fenced, match="Redis lost its data"), spool.produce(CHAT, asked.generation_id) as out:
        out.text("a")
        eventually(lambda: len(spool.read(CHAT)) == 3)
        come_back_empty(server, spool)
        eventually(lambda: out.text("b"), 20)  # goes on until it raises
    with pytest.raises(ChatNotFound):
        spool.read(CHAT)


def test_a_reader_of_a_chat_that_is_gone_is_told(server: PrivateServer, spool: Spool) -> None:
    """It neither waits for ever nor ends as if all were well."""
    say(spool, 5)
    with spool.subscribe(CHAT, until="forever") as entries:
        assert [next(entries).seq for _ in range(5)] == [1, 2, 3, 4, 5]
        come_back_empty(server, spool)
        with pytest.raises(ChatNotFound):
            next(entries)


@pytest.mark.parametrize("events", [4, 5, 6, 12])
def test_a_reader_of_a_chat_that_was_made_anew_is_told(server: PrivateServer, spool: Spool, events: int) -> None:
    """Its cursor belongs to another log, however long the new one has become meanwhile."""
    say(spool, 5)
    with spool.subscribe(CHAT, until="forever") as entries:
        assert [next(entries).seq for _ in range(5)] == [1, 2, 3, 4, 5]
        come_back_empty(server, spool)
        say(spool, events)
        with pytest.raises(CursorExpired) as raised:
            next(entries)
    assert (raised.value.requested, raised.value.first, raised.value.last) == (5, 1, events)


async def test_an_async_reader_is_told_of_a_chat_that_was_erased_and_made_anew(server: PrivateServer) -> None:
    """The same holds where the connection never broke: after an erase, in the middle of following."""
    async with async_spool_for(server.url) as spool:
        asked = await spool.enqueue(CHAT, "x")
        async with spool.subscribe(CHAT, until="forever") as entries:
            assert (await anext(entries)).seq == 1
            async with spool.produce(CHAT, asked.generation_id) as out:
                out.text("a")
            for _ in range(3):
                await anext(entries)
            with spool_for(server.url) as other:
                await asyncio.to_thread(other.erase, CHAT)
                await asyncio.to_thread(say, other, 9)
            with pytest.raises((ChatNotFound, CursorExpired)):
                await anext(entries)
