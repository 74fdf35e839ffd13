"""A lost connection is no reader's error, unless Redis stays away for longer than `read_timeout`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis
from support.chats.handwritten_chat import Talk
from support.readers.reader_group import Follower, Hall, subscribed_connections, subscriptions
from support.servers.proxy import Proxy
from support.servers.redis_server import PrivateServer, embedded_server
from support.waiting import eventually

from chunkspool.errors import StoreRefused, StoreUnavailable

NEVER = 3600.0
"""A recheck that no test lives to see: what is found then, was found without it."""


@pytest.fixture
def proxy(redis_server: PrivateServer, redis_url: str) -> Iterator[Proxy]:
    """Give a proxy in front of an empty server: the way of the readers."""
    assert redis_url == redis_server.url
    with Proxy(redis_server.port) as up:
        yield up


@pytest.fixture
def talk(client: Redis) -> Talk:
    """Give a chat in which something is active; it is written past the proxy."""
    return Talk(client)


def demand_live(follower: Follower, talk: Talk) -> None:
    """Wait until the reader is subscribed and hears what is said."""
    follower.wait_for(2)
    eventually(lambda: talk.keys.live in subscriptions(talk.client), 20)
    follower.wait_for(talk.say("heard live"))


def test_cut_connections_cost_no_event(hall: Hall, proxy: Proxy, talk: Talk) -> None:
    """Connections that are cut again and again, amid the text, leave no gap and raise nothing."""
    followers = [hall.audience(proxy.url, recheck=NEVER).follow(talk.chat_id) for _ in range(3)]
    for follower in followers:
        demand_live(follower, talk)
    for _ in range(5):
        talk.say("before the cut")
        proxy.cut()
        talk.say("after the cut")
    last = talk.end()
    for follower in followers:
        follower.wait_for_end()
        assert follower.errors == []
        assert follower.seqs == list(range(1, last + 1))


def test_what_was_said_while_redis_was_out_of_reach_is_made_up_for(hall: Hall, proxy: Proxy, talk: Talk) -> None:
    """Also when nothing is said afterwards: the reader asks as soon as it is connected again."""
    follower = hall.audience(proxy.url, recheck=NEVER).follow(talk.chat_id)
    demand_live(follower, talk)
    proxy.refuse()
    last = talk.say("nobody hears", "this")
    proxy.accept()
    follower.wait_for(last)
    assert follower.errors == []
    follower.wait_for(talk.say("live again"))


def test_readers_of_many_chats_come_back_together(hall: Hall, proxy: Proxy, client: Redis) -> None:
    """All of them are subscribed again over one connection, and all get what they have missed."""
    talks = [Talk(client, f"chat-{number}") for number in range(200)]
    audience = hall.audience(proxy.url, recheck=NEVER)
    followers = [audience.follow(talk.chat_id) for talk in talks]
    eventually(lambda: len(subscriptions(client)) == len(talks), 20)
    proxy.refuse()
    lasts = [talk.say("missed") for talk in talks]
    proxy.accept()
    for follower, last in zip(followers, lasts, strict=True):
        follower.wait_for(last)
        assert follower.errors == []
    assert subscribed_connections(client) == 1


def test_a_killed_subscription_is_noticed(hall: Hall, redis_url: str, talk: Talk) -> None:
    """An administrator's CLIENT KILL hits the subscribed connection only."""
    follower = hall.audience(redis_url, recheck=NEVER).follow(talk.chat_id)
    demand_live(follower, talk)
    assert talk.client.client_kill_filter(_type="pubsub") == 1
    follower.wait_for(talk.say("who hears this?"))
    assert follower.errors == []


def test_a_redis_that_stays_away_is_an_error(hall: Hall, proxy: Proxy, talk: Talk) -> None:
    """Readers who wait, and readers who are in the middle of the log, are told after `read_timeout`."""
    talk.say_each(*(f"{number}" for number in range(1000)))
    audience = hall.audience(proxy.url, read_timeout=0.5)
    waiting, replaying = audience.follow(talk.chat_id), audience.follow(talk.chat_id)
    replaying.goes_on.clear()
    demand_live(waiting, talk)
    proxy.refuse()
    began = time.monotonic()
    replaying.goes_on.set()
    for follower in (waiting, replaying):
        follower.wait_for_end()
        assert [type(error) for error in follower.errors] == [StoreUnavailable]
    assert time.monotonic() - began >= 0.5
    assert replaying.entries
    assert replaying.seqs == list(range(1, len(replaying.entries) + 1))
    proxy.accept()
    late = audience.follow(talk.chat_id, after=waiting.seqs[-1] - 1)
    demand_live(late, talk)


def test_a_reader_that_comes_while_redis_is_away_is_told_at_once(hall: Hall, proxy: Proxy, talk: Talk) -> None:
    """Entering the block says so; it does not hang."""
    audience = hall.audience(proxy.url, read_timeout=NEVER)
    proxy.refuse()
    follower = audience.follow(talk.chat_id)
    follower.wait_for_end()
    assert [type(error) for error in follower.errors] == [StoreUnavailable]


def test_each_outage_counts_for_itself(hall: Hall, tmp_path: Path) -> None:
    """Two that are short are not one that is too long."""
    with embedded_server(tmp_path) as server, server.client() as client, Proxy(server.port) as proxy:
        talk = Talk(client)
        follower = hall.audience(proxy.url, read_timeout=4, recheck=NEVER).follow(talk.chat_id)
        demand_live(follower, talk)
        for _ in range(2):
            proxy.refuse()
            time.sleep(2.2)
            proxy.accept()
            demand_live(follower, talk)
        assert follower.errors == []
        hall.close()


def test_a_server_that_starts_again_is_followed_on(hall: Hall, tmp_path: Path) -> None:
    """Redis restarts with its append-only file: the readers of before go on with what is written after."""
    with embedded_server(tmp_path, appendonly=True) as server:
        with server.client() as client:
            talk = Talk(client)
            follower = hall.audience(server.url, recheck=NEVER).follow(talk.chat_id)
            demand_live(follower, talk)
            server.restart()
            follower.wait_for(Talk(client).say("written by a new attempt"))
            assert follower.errors == []
        hall.close()


def test_a_frozen_server_is_followed_on(hall: Hall, tmp_path: Path) -> None:
    """A server that keeps its connections open and says nothing for a while is no error."""
    with embedded_server(tmp_path) as server, server.client() as client:
        talk = Talk(client)
        audience = hall.audience(server.url, recheck=0.2)
        follower = audience.follow(talk.chat_id)
        demand_live(follower, talk)
        server.pause()
        try:
            time.sleep(1)  # several rounds of looks and pings, none of which is answered
        finally:
            server.resume()
        follower.wait_for(talk.say("awake"))
        assert follower.errors == []
        hall.close()


def test_a_quiet_connection_is_kept(hall: Hall, redis_url: str, talk: Talk) -> None:
    """When nothing comes in, Redis is asked for a sign of life; it gives one, and the connection stays."""
    follower = hall.audience(redis_url, recheck=0.1).follow(talk.chat_id)
    demand_live(follower, talk)
    before = talk.client.client_list(_type="pubsub")[0]["id"]
    pings = calls(talk.client, "ping")
    eventually(lambda: calls(talk.client, "ping") >= pings + 5)
    assert [entry["id"] for entry in talk.client.client_list(_type="pubsub")] == [before]
    follower.wait_for(talk.say("live"))


def calls(client: Redis, command: str) -> int:
    """Return how often Redis was asked for it."""
    found = client.info("commandstats").get(f"cmdstat_{command}", {"calls": 0})
    return int(found["calls"])


def test_a_refusal_is_told_to_all(hall: Hall, redis_url: str, talk: Talk) -> None:
    """A user who may not subscribe is no outage: waiting would not help, so nobody waits."""
    talk.client.acl_setuser("reader", enabled=True, nopass=True, categories=["+@all"], keys=["*"], reset_channels=True)
    try:
        audience = hall.audience(redis_url.replace("redis://", "redis://reader:any@"))
        followers = [audience.follow(talk.chat_id) for _ in range(3)]
        for follower in followers:
            follower.wait_for_end()
            assert [type(error) for error in follower.errors] == [StoreRefused]
            assert follower.seqs == [1, 2]
    finally:
        talk.client.acl_deluser("reader")
