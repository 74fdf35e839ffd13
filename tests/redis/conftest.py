"""Fixtures of the tests that use a real server and start no other process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from redis import Redis
from support.chats.spools import spool_for
from support.readers.reader_group import READER_KINDS, ReaderGroups
from support.servers.proxy import Proxy
from support.servers.redis_server import PrivateServer
from support.web.web_server import Site, serve_web_app

from chunkspool import Spool
from chunkspool.store import scripts


@pytest.fixture
def proxy(redis_server: PrivateServer, client: Redis) -> Iterator[Proxy]:
    """Provide a proxy in front of an empty server."""
    for name in ("enqueue", "claim", "append", "stop", "erase"):
        client.script_load(scripts.load(name).text)  # else the lost reply may be a mere NOSCRIPT
    with Proxy(redis_server.port) as up:
        yield up


@pytest.fixture
def spool(redis_url: str) -> Iterator[Spool]:
    """Provide a spool on an empty server."""
    with spool_for(redis_url) as spool:
        yield spool


@pytest.fixture
def site(redis_url: str) -> Iterator[Site]:
    """Provide a running web app that allows everything."""
    with serve_web_app(redis_url, heartbeat=0.2) as running:
        yield running


@pytest.fixture(params=READER_KINDS)
def reader_groups(request: pytest.FixtureRequest) -> Iterator[ReaderGroups]:
    """Provide background readers; every test that uses them runs with asyncio and with threads."""
    with ReaderGroups(request.param) as groups:
        yield groups
