"""Limits over HTTP: 429, with `Retry-After` where waiting helps; event streams are counted in all processes."""

from __future__ import annotations

from redis import Redis
from support.chats.logs import CHAT
from support.waiting import eventually
from support.web.web_server import Site, serve_web_app

from chunkspool import Spool
from chunkspool.store.keys import TenantKeys

ASK = f"/v1/chats/{CHAT}/generations"
FOLLOW = f"/v1/chats/{CHAT}/events?follow=true"


def held(client: Redis) -> int:
    """Return how many streams are noted in Redis."""
    values = client.hvals(TenantKeys("default").streams)
    return sum(int(value.split()[0]) for value in values)


def test_a_limit_is_429_and_says_when(site: Site, spool: Spool) -> None:
    """Nothing was started; the problem names the limit."""
    spool.set_policy(per_minute=1)
    assert site.client.post(ASK, json={"prompt": "x"}).status_code == 202
    reply = site.client.post("/v1/chats/other/generations", json={"prompt": "x"})
    assert reply.status_code == 429
    assert 1 <= int(reply.headers["retry-after"]) <= 60
    assert reply.json()["limit"] == "per_minute"
    assert reply.headers["content-type"] == "application/problem+json"
    assert site.client.get("/v1/chats/other").status_code == 404


def test_a_limit_that_waiting_does_not_help_says_nothing_of_when(site: Site, spool: Spool) -> None:
    """A request that is too large today is so tomorrow."""
    spool.set_policy(request_bytes=500)
    reply = site.client.post(ASK, json={"prompt": "x" * 600})
    assert reply.status_code == 429
    assert "retry-after" not in reply.headers
    assert reply.json()["limit"] == "request_bytes"


def test_streams_of_a_tenant_are_counted_in_all_processes(
    site: Site, redis_url: str, spool: Spool, client: Redis
) -> None:
    """Two on one server, one on the other: the fourth is refused by both, until one has left."""
    spool.set_policy(streams=3)
    spool.enqueue(CHAT, "x")
    with serve_web_app(redis_url, heartbeat=0.2) as other:
        first, second = site.open_stream(FOLLOW), site.open_stream(FOLLOW)
        with first, second:
            with other.open_stream(FOLLOW):
                eventually(lambda: held(client) == 3)
                for server in (site, other):
                    reply = server.client.get(FOLLOW)
                    assert (reply.status_code, reply.json()["limit"]) == (429, "streams")
                    assert int(reply.headers["retry-after"]) >= 1
            eventually(lambda: held(client) == 2)
            with site.open_stream(FOLLOW):
                eventually(lambda: held(client) == 3)


def test_a_killed_process_gives_its_streams_back(site: Site, spool: Spool, client: Redis) -> None:
    """It is counted no more half a minute after it last said what it has."""
    spool.set_policy(streams=1)
    spool.enqueue(CHAT, "x")
    client.hset(TenantKeys("default").streams, "killed", f"1 {client.time()[0] * 1000 + 25_000}")
    client.expire(TenantKeys("default").streams, 60)
    assert site.client.get(FOLLOW).status_code == 429
    client.hset(TenantKeys("default").streams, "killed", f"1 {client.time()[0] * 1000 - 1}")
    with site.open_stream(FOLLOW):
        eventually(lambda: held(client) == 1)


def test_streams_of_one_chat_are_bounded_in_each_process(redis_url: str, spool: Spool) -> None:
    """One chat's readers leave room for the others'."""
    for name in (CHAT, "other"):
        spool.enqueue(name, "x")
    with serve_web_app(redis_url, heartbeat=0.2, max_chat_streams=1) as site, site.open_stream(FOLLOW):
        reply = site.client.get(FOLLOW)
        assert (reply.status_code, reply.json()["limit"]) == (429, "chat_streams")
        with site.open_stream("/v1/chats/other/events?follow=true"):
            pass
