"""Redis or the broker away, full, frozen or foreign: 503 with Retry-After within seconds, never a 500 or a hang."""

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
from support.web.web_server import Site, problem, serving, web

from chunkspool import AsyncSpool
from chunkspool.store import slots
from chunkspool.web import allow_all, create_app

HISTORY = [{"id": "m1", "role": "user", "parts": [{"type": "text", "text": "x"}]}]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[PrivateServer]:
    """Give a server of the test's own."""
    with embedded_server(tmp_path, maxmemory="30mb") as running:
        yield running


def every_route(site: Site) -> list[httpx.Response]:
    """Call everything that needs Redis."""
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


def assert_away(replies: list[httpx.Response]) -> None:
    """Fail unless all are 503 problems that say when to come back."""
    for reply in replies:
        assert reply.status_code == 503, (reply.request.url, reply.text)
        assert int(reply.headers["retry-after"]) > 0
        assert "127.0.0.1" not in problem(reply)["detail"]


def test_redis_down(server: PrivateServer) -> None:
    """Every route says so, the process stays alive, and all is well when it is back."""
    with web(server.url) as site:
        site.ask(CHAT)
        server.stop()
        assert_away(every_route(site))
        assert site.client.get("/healthz").status_code == 200
        server.start()
        eventually(lambda: site.client.get("/readyz").status_code == 200)
        site.ask(CHAT)


def test_redis_frozen(server: PrivateServer) -> None:
    """A server that takes connections and answers nothing costs `answer_timeout`, not for ever."""
    with web(server.url, answer_timeout=0.3) as site:
        site.ask(CHAT)
        server.pause()
        try:
            began = time.monotonic()
            replies = every_route(site)
            # The enqueues go on behind the clients' backs, so that they leave no half of a generation.
            assert time.monotonic() - began < 30
        finally:
            server.resume()
        assert_away(replies)


def test_redis_full(server: PrivateServer) -> None:
    """Asking is a 503; reading what is there goes on."""
    with web(server.url) as site, server.client() as client:
        site.ask(CHAT)
        client.config_set("maxmemory", 1)
        reply = site.client.post(f"/v1/chats/{CHAT}/generations", json={"prompt": "x", "on_active": "allow"})
        assert_away([reply])
        assert problem(reply)["type"].endswith("store-full")
        with site.following(f"/v1/chats/{CHAT}/events") as stream:
            stream.until(lambda s: s.seqs == [1])
        client.config_set("maxmemory", "30mb")


def test_wrong_password(tmp_path: Path) -> None:
    """The server's own trouble: no stranger learns the URL."""
    with embedded_server(tmp_path, password="right") as server, web(server.url.replace("right", "wrong")) as site:
        assert_away(every_route(site))


def test_no_connection_becomes_free(server: PrivateServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The app's own client is used up by others: a 503 that says so, not that Redis is away."""
    monkeypatch.setattr(slots, "WAIT_SECONDS", 0.1)
    pool = ConnectionPool.from_url(server.url, max_connections=1)
    pool.get_available_connection()
    app = create_app(AsyncSpool(AsyncRedis(connection_pool=pool), settings=settings_for(server.url)), allow_all)
    with serving(app) as site:
        reply = site.client.get(f"/v1/chats/{CHAT}")
        assert_away([reply])
        assert problem(reply)["type"].endswith("store-busy")


def test_broker_away(server: PrivateServer) -> None:
    """Nothing is started, the log says so, and the same request may be sent again."""
    with web(server.url, broker_url="redis://127.0.0.1:1/0", publish_timeout=1) as site:
        reply = site.client.post(f"/v1/chats/{CHAT}/generations", json={"prompt": "x", "request_id": "r1"})
        assert_away([reply])
        assert problem(reply)["type"].endswith("broker-away")
        with site.following(f"/v1/chats/{CHAT}/events") as stream:
            ending = json.loads(stream.whole().events[-1].data)
        assert ending["code"] == "enqueue_failed"


def test_a_key_of_another_type(server: PrivateServer) -> None:
    """Another program's key where the log should be: 502, and Redis is not blamed for being away."""
    with web(server.url) as site, server.client() as client:
        site.ask(CHAT)
        client.delete(KEYS.log)
        client.set(KEYS.log, "a string", ex=60)
        for reply in (site.client.get(f"/v1/chats/{CHAT}"), site.client.get(f"/v1/chats/{CHAT}/events")):
            assert reply.status_code == 502
            assert problem(reply)["type"].endswith("corrupt-log")


def test_redis_that_goes_away_under_a_stream(server: PrivateServer) -> None:
    """A reader's stream outlives an outage; one that lasts ends it with the reason."""
    with web(server.url, read_timeout=1) as site:
        site.ask(CHAT)
        with site.following(f"/v1/chats/{CHAT}/events?follow=true") as stream:
            stream.until(lambda s: s.seqs == [1])
            server.stop()
            last = stream.whole().events[-1]
    assert (last.name, json.loads(last.data)["status"]) == ("problem", 503)
