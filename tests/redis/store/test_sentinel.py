"""Redis Sentinel: whatever connects, connects to the primary that the Sentinels name at that moment."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

import pytest
from support.chats.logs import CHAT
from support.chats.spools import async_spool_for, settings_for, spool_for
from support.missing import skip_missing
from support.servers.redis_server import ServerMissing
from support.servers.sentinels import WatchedServers, watched_servers
from support.servers.tls import Authority, impostor
from support.waiting import eventually

from chunkspool.demo.ports import LOOPBACK
from chunkspool.errors import EnqueueFailed, StoreError
from chunkspool.spool.dispatch import Dispatcher
from chunkspool.store import client

SECRET, OTHER = "s3/c@ret", "an0ther"


@contextmanager
def watched(folder: Path, **options: object) -> Iterator[WatchedServers]:
    """Run servers and Sentinels; skip where there is no redis-server."""
    try:
        with watched_servers(folder, password=SECRET, **options) as running:  # type: ignore[arg-type]
            yield running
    except ServerMissing as missing:
        skip_missing(missing)


@pytest.mark.parametrize("frozen", [False, True], ids=["killed", "frozen"])
def test_a_repeated_command_goes_to_the_new_primary(
    frozen: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that dies, or from which nothing is heard any more: the call under way finds the next one itself."""
    monkeypatch.setattr(client, "SOCKET_TIMEOUT", 6.0)  # longer than it takes the Sentinels to agree
    with watched(tmp_path) as servers, closing(client.connect(servers.url)) as sync:

        async def write() -> None:
            async with client.connect_async(servers.url) as connected:
                await connected.ping()
                sync.ping()
                old = servers.primary
                if frozen:
                    old.pause()
                else:
                    old.kill()
                    await asyncio.to_thread(eventually, lambda: servers.promoted(old), 30)
                await asyncio.gather(connected.set("b", 2), asyncio.to_thread(sync.set, "a", 1))

        asyncio.run(write())
        assert sync.mget("a", "b") == [b"1", b"2"]
        with servers.client() as admin:
            assert admin.mget("a", "b") == [b"1", b"2"]


async def demand_service(url: str) -> None:
    """Fail unless a generation is enqueued, written and read there, by both faces."""
    with spool_for(url) as spool:
        asked = spool.enqueue(CHAT, "x")
        with spool.subscribe(CHAT) as entries, spool.produce(CHAT, asked.generation_id) as out:
            out.text("hello")
            assert [next(entries).type for _ in range(3)][2] == "text.delta"
    async with async_spool_for(url) as spool:
        asked = await spool.enqueue(CHAT, "x")
        async with spool.subscribe(CHAT, asked.after) as entries, spool.produce(CHAT, asked.generation_id) as out:
            out.text("hello")
            assert [(await anext(entries)).type for _ in range(3)][2] == "text.delta"
        await asyncio.sleep(0.1)  # TLS takes its leave; Python warns of a loop that does not wait for it


async def test_sentinels_with_a_password_of_their_own(tmp_path: Path) -> None:
    """The servers' password is another one, and the Sentinels never hear it."""
    with watched(tmp_path, sentinel_password=OTHER) as servers:
        await demand_service(servers.url)
        with spool_for(servers.url.replace(OTHER, "wrong")) as spool, pytest.raises(StoreError) as refused:
            spool.revoke("one")
        assert "no Sentinel names the primary of 'chats'" in str(refused.value)
        assert "WRONGPASS" in str(refused.value) or "invalid username-password pair" in str(refused.value)
        assert SECRET not in str(refused.value)


async def test_everything_over_tls(tmp_path: Path) -> None:
    """Servers and Sentinels show certificates, and both are verified."""
    try:
        authority = Authority.make(tmp_path / "certificates")
    except ServerMissing as missing:
        skip_missing(missing)
    with watched(tmp_path / "servers", authority=authority, sentinel_password=OTHER) as servers:
        await demand_service(servers.url)


def test_an_impostor_of_a_sentinel_gets_no_password(tmp_path: Path) -> None:
    """Neither its own nor that of the servers."""
    try:
        with impostor(tmp_path) as stranger:
            where = f"{quote(SECRET, safe='')}@{LOOPBACK}:{stranger.port}"
            url = f"rediss+sentinel://:{where}/chats?sentinel_password={OTHER}"
            with spool_for(url) as spool, pytest.raises(StoreError, match="certificate verify failed"):
                spool.revoke("one")
            with closing(Dispatcher(settings_for(url, publish_timeout=2))) as dispatcher, pytest.raises(EnqueueFailed):
                dispatcher.publish("default", CHAT, "one", "chunkspool", "chunkspool.generate")
            assert stranger.connections > 1
            assert stranger.heard == b""
    except ServerMissing as missing:
        skip_missing(missing)
