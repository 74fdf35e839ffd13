"""A scrape of a web app tells what Redis tells, and is answered in time when Redis tells nothing."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from support.chats.spools import settings_for, spool_for
from support.metrics.scrape import TOKEN
from support.servers.redis_server import PrivateServer, embedded_server

from chunkspool import AsyncSpool
from chunkspool.metrics.instruments import PrometheusObserver
from chunkspool.metrics.spool_gauges import PATIENCE
from chunkspool.web import allow_all, create_app


@pytest.fixture
def private_server(tmp_path: Path) -> Iterator[PrivateServer]:
    """Provide a server that the test may pause."""
    with embedded_server(tmp_path) as server:
        yield server


@asynccontextmanager
async def web_app(url: str) -> AsyncIterator[httpx.AsyncClient]:
    """Provide a client of a web app with metrics."""
    settings = settings_for(url, metrics_token=TOKEN)
    observer = PrometheusObserver.with_own_registry()
    async with AsyncSpool.from_settings(settings, observer=observer) as spool:
        transport = httpx.ASGITransport(create_app(spool, allow_all))
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with httpx.AsyncClient(transport=transport, base_url="http://test", headers=headers) as client:
            yield client


async def scrape(client: httpx.AsyncClient) -> list[str]:
    """Return the samples of our metrics, one a line."""
    reply = await client.get("/metrics")
    assert reply.status_code == 200
    return [line for line in reply.text.splitlines() if line.startswith("chunkspool_")]


async def test_a_scrape_has_the_gauges_of_stats(redis_url: str) -> None:
    """Beside what the process has counted."""
    with spool_for(redis_url) as spool:
        spool.enqueue("chat", "x")
        async with web_app(redis_url) as client:
            found = await scrape(client)
    assert "chunkspool_spool_up 1.0" in found
    assert 'chunkspool_queued{priority="interactive"} 1.0' in found
    assert "chunkspool_running 0.0" in found
    assert any(line.startswith("chunkspool_redis_used_memory_bytes ") for line in found)
    assert 'chunkspool_generations_queued_total{priority="batch"} 0.0' in found


@pytest.mark.parametrize("trouble", ["pause", "kill"])
async def test_a_redis_that_is_away_fails_no_scrape(trouble: str, private_server: PrivateServer) -> None:
    """The answer comes soon: what was counted, and that the rest is not known."""
    getattr(private_server, trouble)()
    try:
        async with web_app(private_server.url) as client:
            before = time.monotonic()
            found = await scrape(client)
            taken = time.monotonic() - before
    finally:
        private_server.resume()
    assert taken < PATIENCE + 3
    assert "chunkspool_spool_up 0.0" in found
    assert not [line for line in found if line.startswith(("chunkspool_queued{", "chunkspool_redis"))]
    assert 'chunkspool_generations_queued_total{priority="batch"} 0.0' in found
