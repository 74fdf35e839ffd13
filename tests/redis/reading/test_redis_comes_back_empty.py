"""Promises 7 and 11: producers and readers learn that Redis lost its data; nothing is spliced silently."""

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
    """Provide a server that keeps nothing across a restart."""
    with embedded_server(tmp_path) as own:
        yield own


@pytest.fixture
def spool(server: PrivateServer) -> Iterator[Spool]:
    """Provide a spool on it."""
    with spool_for(server.url) as made:
        yield made


def write_generation(spool: Spool, events: int) -> None:
    """Write a generation with this many events, including queued, started and completed."""
    asked = spool.enqueue(CHAT, "x")
    with spool.produce(CHAT, asked.generation_id) as out:
        for number in range(events - 3):
            out.data("number", number)


def restart_empty(server: PrivateServer, spool: Spool) -> None:
    """Restart the server and wait until the spool reaches it again."""
    server.restart()

    def answers() -> bool:
        try:
            spool.erase(CHAT)
        except StoreUnavailable:
            return False
        return True

    eventually(answers, 20)


def test_a_running_generation_is_fenced(server: PrivateServer, spool: Spool) -> None:
    """Its loop gets `Fenced` with the reason and writes nothing into the empty Redis."""
    asked = spool.enqueue(CHAT, "x")
    with pytest.raises(Fenced, match="Redis lost its data"), spool.produce(CHAT, asked.generation_id) as out:
        out.text("a")
        eventually(lambda: len(spool.read(CHAT)) == 3)
        restart_empty(server, spool)
        eventually(lambda: out.text("b"), 20)  # writes until it raises
    with pytest.raises(ChatNotFound):
        spool.read(CHAT)


def test_a_reader_of_a_lost_chat_gets_chat_not_found(server: PrivateServer, spool: Spool) -> None:
    """It neither waits forever nor ends as if all were well."""
    write_generation(spool, 5)
    with spool.subscribe(CHAT, until="forever") as entries:
        assert [next(entries).seq for _ in range(5)] == [1, 2, 3, 4, 5]
        restart_empty(server, spool)
        with pytest.raises(ChatNotFound):
            next(entries)


@pytest.mark.parametrize("events", [4, 5, 6, 12])
def test_a_reader_of_a_recreated_chat_gets_cursor_expired(server: PrivateServer, spool: Spool, events: int) -> None:
    """Its cursor belongs to another log, however long the new one is by now."""
    write_generation(spool, 5)
    with spool.subscribe(CHAT, until="forever") as entries:
        assert [next(entries).seq for _ in range(5)] == [1, 2, 3, 4, 5]
        restart_empty(server, spool)
        write_generation(spool, events)
        with pytest.raises(CursorExpired) as raised:
            next(entries)
    assert (raised.value.requested, raised.value.first, raised.value.last) == (5, 1, events)


async def test_an_async_reader_notices_an_erased_and_recreated_chat(server: PrivateServer) -> None:
    """No connection needs to break: the chat is erased while the reader follows it."""
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
                await asyncio.to_thread(write_generation, other, 9)
            with pytest.raises((ChatNotFound, CursorExpired)):
                await anext(entries)
