"""While Redis or the broker is unreachable, full or frozen: 503 with Retry-After in seconds, no 500 and no hang."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from redis.asyncio import ConnectionPool
from redis.asyncio import Redis as AsyncRedis
from support.chats.logs import CHAT, KEYS
from support.chats.spools import settings_for
from support.servers.redis_server import PrivateServer, embedded_server
from support.waiting import eventually
from support.web.web_server import Site, problem, serve_app, serve_web_app

from chunkspool import AsyncSpool
from chunkspool.store import slots
from chunkspool.web import allow_all, create_app

HISTORY = [{"id": "m1", "role": "user", "parts": [{"type": "text", "text": "x"}]}]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[PrivateServer]:
    """Give a private Redis server."""
    with embedded_server(tmp_path, maxmemory="30mb") as running:
        yield running


def call_every_route(site: Site) -> list[httpx.Response]:
    """Call every route that needs Redis."""
    chat = f"/v1/chats/{CHAT}"
    return [
        site.client.post(f"{chat}/generations", json={"prompt": "x", "on_active": "allow"}),
        site.client.get(f"{chat}/events"),
        site.client.get(f"{chat}/events?follow=true"),
        site.client.get(chat),
        site.client.post(f"{chat}/stop"),
        site.client.delete(chat),
        site.client.post("/api/chat", json={"id": CHAT, "messages": HISTORY}),
        site.client.get(f"/api/chat/{CHAT}/stream"),
        site.client.get("/readyz"),
    ]


def assert_unavailable(replies: list[httpx.Response]) -> None:
    """Fail unless all are 503 problems with Retry-After and without the server's address."""
    for reply in replies:
        assert reply.status_code == 503, (reply.request.url, reply.text)
        assert int(reply.headers["retry-after"]) > 0
        assert "127.0.0.1" not in problem(reply)["detail"]


def test_redis_down(server: PrivateServer) -> None:
    """Every route answers 503, the process stays alive, and everything works again once Redis is back."""
    with serve_web_app(server.url) as site:
        site.ask(CHAT)
        server.stop()
        assert_unavailable(call_every_route(site))
        assert site.client.get("/healthz").status_code == 200
        server.start()
        eventually(lambda: site.client.get("/readyz").status_code == 200)
        site.ask(CHAT)


def test_redis_frozen(server: PrivateServer) -> None:
    """If Redis accepts connections but does not answer, every request still ends with a 503."""
    with serve_web_app(server.url, answer_timeout=0.3) as site:
        site.ask(CHAT)
        server.pause()
        try:
            began = time.monotonic()
            replies = call_every_route(site)
            # A generous bound: an enqueue continues after its client got the 503, to leave no half-made generation.
            assert time.monotonic() - began < 30
        finally:
            server.resume()
        assert_unavailable(replies)


def test_redis_full(server: PrivateServer) -> None:
    """Asking is a 503; existing events can still be read."""
    with serve_web_app(server.url) as site, server.client() as client:
        site.ask(CHAT)
        client.config_set("maxmemory", 1)
        reply = site.client.post(f"/v1/chats/{CHAT}/generations", json={"prompt": "x", "on_active": "allow"})
        assert_unavailable([reply])
        assert problem(reply)["type"].endswith("store-full")
        with site.open_stream(f"/v1/chats/{CHAT}/events") as stream:
            stream.read_until(lambda s: s.seqs == [1])
        client.config_set("maxmemory", "30mb")


def test_wrong_password(tmp_path: Path) -> None:
    """Redis rejects this server: 503, and the answer does not contain the URL."""
    with (
        embedded_server(tmp_path, password="right") as server,
        serve_web_app(server.url.replace("right", "wrong")) as site,
    ):
        assert_unavailable(call_every_route(site))


def test_no_connection_becomes_free(server: PrivateServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others use up the app's own client: a 503 that says so, not that Redis cannot be reached."""
    monkeypatch.setattr(slots, "WAIT_SECONDS", 0.1)
    pool = ConnectionPool.from_url(server.url, max_connections=1)
    pool.get_available_connection()
    app = create_app(AsyncSpool(AsyncRedis(connection_pool=pool), settings=settings_for(server.url)), allow_all)
    with serve_app(app) as site:
        reply = site.client.get(f"/v1/chats/{CHAT}")
        assert_unavailable([reply])
        assert problem(reply)["type"].endswith("store-busy")


def test_broker_unreachable(server: PrivateServer) -> None:
    """503; nothing is started, and the log has `generation.failed` with `enqueue_failed`."""
    with serve_web_app(server.url, broker_url="redis://127.0.0.1:1/0", publish_timeout=1) as site:
        reply = site.client.post(f"/v1/chats/{CHAT}/generations", json={"prompt": "x", "request_id": "r1"})
        assert_unavailable([reply])
        assert problem(reply)["type"].endswith("broker-away")
        with site.open_stream(f"/v1/chats/{CHAT}/events") as stream:
            ending = json.loads(stream.read_to_end().events[-1].data)
        assert ending["code"] == "enqueue_failed"


def test_a_key_of_another_type(server: PrivateServer) -> None:
    """A foreign key in place of the log is a 502 `corrupt-log`, not a 503."""
    with serve_web_app(server.url) as site, server.client() as client:
        site.ask(CHAT)
        client.delete(KEYS.log)
        client.set(KEYS.log, "a string", ex=60)
        for reply in (site.client.get(f"/v1/chats/{CHAT}"), site.client.get(f"/v1/chats/{CHAT}/events")):
            assert reply.status_code == 502
            assert problem(reply)["type"].endswith("corrupt-log")


def test_an_outage_of_redis_under_an_open_stream(server: PrivateServer) -> None:
    """An outage that lasts longer than `read_timeout` ends the stream with a problem event."""
    with serve_web_app(server.url, read_timeout=1) as site:
        site.ask(CHAT)
        with site.open_stream(f"/v1/chats/{CHAT}/events?follow=true") as stream:
            stream.read_until(lambda s: s.seqs == [1])
            server.stop()
            last = stream.read_to_end().events[-1]
    assert (last.name, json.loads(last.data)["status"]) == ("problem", 503)
