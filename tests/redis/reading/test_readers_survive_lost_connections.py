"""A lost connection is no error for a reader, unless Redis stays unreachable for longer than `read_timeout`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis
from support.chats.handwritten_chat import HandwrittenChat
from support.readers.reader_group import (
    BackgroundReader,
    ReaderGroups,
    count_subscribed_connections,
    count_subscriptions,
)
from support.servers.proxy import Proxy
from support.servers.redis_server import PrivateServer, embedded_server
from support.waiting import eventually

from chunkspool.errors import RightMissing, StoreUnavailable

NEVER = 3600.0
"""A recheck interval longer than any test: whatever a reader finds, it finds without it."""


@pytest.fixture
def proxy(redis_server: PrivateServer, redis_url: str) -> Iterator[Proxy]:
    """Provide a proxy in front of an empty server, for the readers."""
    assert redis_url == redis_server.url
    with Proxy(redis_server.port) as up:
        yield up


@pytest.fixture
def chat(client: Redis) -> HandwrittenChat:
    """Provide a chat with an active generation, written without the proxy."""
    return HandwrittenChat(client)


def assert_live(reader: BackgroundReader, chat: HandwrittenChat) -> None:
    """Wait until the reader is subscribed and receives new events."""
    reader.wait_for(2)
    eventually(lambda: chat.keys.live in count_subscriptions(chat.client), 20)
    reader.wait_for(chat.append("heard live"))


def test_cut_connections_cost_no_event(reader_groups: ReaderGroups, proxy: Proxy, chat: HandwrittenChat) -> None:
    """Connections that are cut again and again in mid-text cause no gap and no error."""
    readers = [reader_groups.open(proxy.url, recheck=NEVER).follow(chat.chat_id) for _ in range(3)]
    for reader in readers:
        assert_live(reader, chat)
    for _ in range(5):
        chat.append("before the cut")
        proxy.cut()
        chat.append("after the cut")
    last = chat.complete()
    for reader in readers:
        reader.wait_for_end()
        assert reader.errors == []
        assert reader.seqs == list(range(1, last + 1))


def test_events_missed_during_an_outage_are_read_afterwards(
    reader_groups: ReaderGroups, proxy: Proxy, chat: HandwrittenChat
) -> None:
    """Even if nothing new is written: the reader probes as soon as it is connected again."""
    reader = reader_groups.open(proxy.url, recheck=NEVER).follow(chat.chat_id)
    assert_live(reader, chat)
    proxy.refuse()
    last = chat.append("nobody hears", "this")
    proxy.accept()
    reader.wait_for(last)
    assert reader.errors == []
    reader.wait_for(chat.append("live again"))


def test_readers_of_many_chats_come_back_together(reader_groups: ReaderGroups, proxy: Proxy, client: Redis) -> None:
    """All are subscribed again over one connection and get what they missed."""
    chats = [HandwrittenChat(client, f"chat-{number}") for number in range(200)]
    group = reader_groups.open(proxy.url, recheck=NEVER)
    readers = [group.follow(chat.chat_id) for chat in chats]
    eventually(lambda: len(count_subscriptions(client)) == len(chats), 20)
    proxy.refuse()
    lasts = [chat.append("missed") for chat in chats]
    proxy.accept()
    for reader, last in zip(readers, lasts, strict=True):
        reader.wait_for(last)
        assert reader.errors == []
    assert count_subscribed_connections(client) == 1


def test_a_killed_subscription_is_noticed(reader_groups: ReaderGroups, redis_url: str, chat: HandwrittenChat) -> None:
    """An administrator's CLIENT KILL hits only the subscribed connection."""
    reader = reader_groups.open(redis_url, recheck=NEVER).follow(chat.chat_id)
    assert_live(reader, chat)
    assert chat.client.client_kill_filter(_type="pubsub") == 1
    reader.wait_for(chat.append("who hears this?"))
    assert reader.errors == []


def test_a_long_outage_is_an_error(reader_groups: ReaderGroups, proxy: Proxy, chat: HandwrittenChat) -> None:
    """Waiting readers and readers in the middle of the log get the error after `read_timeout`."""
    chat.append_each(*(f"{number}" for number in range(1000)))
    group = reader_groups.open(proxy.url, read_timeout=0.5)
    waiting, replaying = group.follow(chat.chat_id), group.follow(chat.chat_id)
    replaying.may_read.clear()
    assert_live(waiting, chat)
    proxy.refuse()
    began = time.monotonic()
    replaying.may_read.set()
    for reader in (waiting, replaying):
        reader.wait_for_end()
        assert [type(error) for error in reader.errors] == [StoreUnavailable]
    assert time.monotonic() - began >= 0.5
    assert replaying.entries
    assert replaying.seqs == list(range(1, len(replaying.entries) + 1))
    proxy.accept()
    late = group.follow(chat.chat_id, after=waiting.seqs[-1] - 1)
    assert_live(late, chat)


def test_a_reader_that_starts_during_an_outage_fails_at_once(
    reader_groups: ReaderGroups, proxy: Proxy, chat: HandwrittenChat
) -> None:
    """Entering the block raises; it does not hang."""
    group = reader_groups.open(proxy.url, read_timeout=NEVER)
    proxy.refuse()
    reader = group.follow(chat.chat_id)
    reader.wait_for_end()
    assert [type(error) for error in reader.errors] == [StoreUnavailable]


def test_outages_do_not_add_up(reader_groups: ReaderGroups, tmp_path: Path) -> None:
    """Two short outages are not one that is too long."""
    with embedded_server(tmp_path) as server, server.client() as client, Proxy(server.port) as proxy:
        chat = HandwrittenChat(client)
        reader = reader_groups.open(proxy.url, read_timeout=4, recheck=NEVER).follow(chat.chat_id)
        assert_live(reader, chat)
        for _ in range(2):
            proxy.refuse()
            time.sleep(2.2)
            proxy.accept()
            assert_live(reader, chat)
        assert reader.errors == []
        reader_groups.close()


def test_readers_survive_a_server_restart(reader_groups: ReaderGroups, tmp_path: Path) -> None:
    """Redis restarts from its append-only file: existing readers receive what is written afterwards."""
    with embedded_server(tmp_path, appendonly=True) as server:
        with server.client() as client:
            chat = HandwrittenChat(client)
            reader = reader_groups.open(server.url, recheck=NEVER).follow(chat.chat_id)
            assert_live(reader, chat)
            server.restart()
            reader.wait_for(HandwrittenChat(client).append("written by a new attempt"))
            assert reader.errors == []
        reader_groups.close()


def test_readers_survive_a_frozen_server(reader_groups: ReaderGroups, tmp_path: Path) -> None:
    """A server that keeps its connections open and is silent for a while causes no error."""
    with embedded_server(tmp_path) as server, server.client() as client:
        chat = HandwrittenChat(client)
        group = reader_groups.open(server.url, recheck=0.2)
        reader = group.follow(chat.chat_id)
        assert_live(reader, chat)
        server.pause()
        try:
            time.sleep(1)  # several rounds of probes and pings, all unanswered
        finally:
            server.resume()
        reader.wait_for(chat.append("awake"))
        assert reader.errors == []
        reader_groups.close()


def test_a_quiet_connection_is_kept(reader_groups: ReaderGroups, redis_url: str, chat: HandwrittenChat) -> None:
    """When nothing arrives, Redis gets a PING; it answers, and the connection stays."""
    reader = reader_groups.open(redis_url, recheck=0.1).follow(chat.chat_id)
    assert_live(reader, chat)
    before = chat.client.client_list(_type="pubsub")[0]["id"]
    pings = count_calls(chat.client, "ping")
    eventually(lambda: count_calls(chat.client, "ping") >= pings + 5)
    assert [entry["id"] for entry in chat.client.client_list(_type="pubsub")] == [before]
    reader.wait_for(chat.append("live"))


def count_calls(client: Redis, command: str) -> int:
    """Return how often a command was called."""
    found = client.info("commandstats").get(f"cmdstat_{command}", {"calls": 0})
    return int(found["calls"])


def test_a_rejected_subscription_fails_all_readers(
    reader_groups: ReaderGroups, redis_url: str, chat: HandwrittenChat
) -> None:
    """A user without permission to subscribe is not an outage: waiting would not help, so nobody waits."""
    chat.client.acl_setuser("reader", enabled=True, nopass=True, categories=["+@all"], keys=["*"], reset_channels=True)
    try:
        group = reader_groups.open(redis_url.replace("redis://", "redis://reader:any@"))
        readers = [group.follow(chat.chat_id) for _ in range(3)]
        for reader in readers:
            reader.wait_for_end()
            assert [type(error) for error in reader.errors] == [RightMissing]
            assert reader.seqs == [1, 2]
    finally:
        chat.client.acl_deluser("reader")
