"""A server that is unreachable, not Redis, forbidden or a replica: one typed error each, soon, without the password."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from traceback import format_exception
from typing import Any

import pytest
from redis.backoff import NoBackoff
from support.chats.logs import CHAT
from support.chats.spools import spool_for
from support.readers.blocking_spool import SPOOL_KINDS, BlockingSpool, open_spool
from support.servers.non_redis_servers import closing_server, http_server, silent_server
from support.servers.redis_server import PrivateServer, run_second_server
from support.waiting import eventually

from chunkspool.demo.ports import LOOPBACK, free_port
from chunkspool.errors import BrokerRefused, RightMissing, SettingsError, StoreRefused, StoreUnavailable
from chunkspool.store import client
from chunkspool.store.keys import ChatKeys

pytestmark = pytest.mark.both_servers

SECRET, WRONG = "hunter2", "letmein"
BOUND = 20.0
"""Seconds within which any call must give up; with these tests' settings it takes one or two."""
CALLS: dict[str, Callable[[BlockingSpool], object]] = {
    "enqueue": lambda any_spool: any_spool.enqueue(CHAT, "hello"),
    "read": lambda any_spool: any_spool.read(CHAT),
    "subscribe": lambda any_spool: any_spool.follow(CHAT),
    "stop": lambda any_spool: any_spool.stop(CHAT),
    "stop one": lambda any_spool: any_spool.stop(CHAT, "one"),
    "revoke": lambda any_spool: any_spool.revoke("one"),
    "status": lambda any_spool: any_spool.status(CHAT),
    "snapshot": lambda any_spool: any_spool.snapshot(CHAT),
    "erase": lambda any_spool: any_spool.erase(CHAT),
    "produce": lambda any_spool: any_spool.run_producer(CHAT, "one", repr),
}
WRITES = ("stop one", "erase", "produce")


@pytest.fixture(params=SPOOL_KINDS)
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Provide each kind of spool, with short time-outs and pauses."""
    monkeypatch.setattr(client, "ExponentialBackoff", lambda **_: NoBackoff())
    monkeypatch.setattr(client, "CONNECT_TIMEOUT", 0.5)
    monkeypatch.setattr(client, "SOCKET_TIMEOUT", 0.2)
    return str(request.param)


def url_with_password(port: int, password: str = SECRET, user: str = "") -> str:
    """Return a URL with a password in it."""
    return f"redis://{user}:{password}@{LOOPBACK}:{port}/0"


def assert_raises(any_spool: BlockingSpool, error: type[Exception], said: str, names: Any = tuple(CALLS)) -> None:
    """Fail unless each call soon raises `error` with `said` in its message and no password anywhere."""
    for name in names:
        began = time.monotonic()
        with pytest.raises(error) as refused:
            CALLS[name](any_spool)
        assert time.monotonic() - began < BOUND, name
        assert type(refused.value) is error, name
        assert said in str(refused.value), name
        shown = "".join(format_exception(refused.value)) + repr(refused.value)
        assert SECRET not in shown, name
        assert WRONG not in shown, name


def test_an_unreachable_server(kind: str) -> None:
    """Nothing listens: the error says to try again or check the URL."""
    with open_spool(kind, url_with_password(free_port()), read_timeout=0.2) as any_spool:
        assert_raises(
            any_spool,
            StoreUnavailable,
            "Redis cannot be reached; check that it runs where the URL says, then try again",
        )


@pytest.mark.parametrize("stranger", [silent_server, closing_server])
def test_a_server_that_does_not_answer(kind: str, stranger: Callable[[], AbstractContextManager[int]]) -> None:
    """It accepts the connection and then is silent or hangs up."""
    with stranger() as port, open_spool(kind, url_with_password(port), read_timeout=0.2) as any_spool:
        assert_raises(
            any_spool, StoreUnavailable, "Redis cannot be reached", ("enqueue", "read", "subscribe", "produce")
        )


def test_a_web_server_is_not_redis(kind: str) -> None:
    """A retry would not help, and the message says so."""
    with http_server() as port, open_spool(kind, url_with_password(port), read_timeout=0.2) as any_spool:
        assert_raises(any_spool, StoreRefused, "the server at this URL is not a Redis; check the URL")


@pytest.fixture
def server_with_password(redis_server: PrivateServer, tmp_path: Path) -> Iterator[PrivateServer]:
    """Provide a server that requires a password."""
    with run_second_server(redis_server, tmp_path, password=SECRET) as server:
        yield server


def test_a_wrong_password(kind: str, server_with_password: PrivateServer) -> None:
    """A wrong or missing one, or one of an unknown user."""
    said = "Redis rejected the connection; check the URL, the user and the password"
    with open_spool(kind, url_with_password(server_with_password.port, WRONG), read_timeout=0.2) as any_spool:
        assert_raises(any_spool, StoreRefused, said)
    for url in (
        url_with_password(server_with_password.port, WRONG, "nobody"),
        f"redis://{LOOPBACK}:{server_with_password.port}",
    ):
        with open_spool(kind, url, read_timeout=0.2) as any_spool:
            assert_raises(any_spool, StoreRefused, said, ("enqueue", "subscribe"))


def test_a_user_without_permission_to_write(kind: str, server_with_password: PrivateServer) -> None:
    """An ACL that forbids scripts is reported as such."""
    with server_with_password.client() as admin:
        admin.execute_command("ACL", "SETUSER", "reader", "on", f">{WRONG}", "~*", "&*", "+@all", "-@scripting")
    with open_spool(kind, url_with_password(server_with_password.port, WRONG, "reader"), read_timeout=0.2) as any_spool:
        assert_raises(any_spool, RightMissing, "write +evalsha into its ACL", WRITES)


def test_a_broker_that_rejects_the_password(kind: str, server_with_password: PrivateServer) -> None:
    """The caller gets the error, and the chat is not left busy."""
    settings = {"broker_url": url_with_password(server_with_password.port, WRONG), "publish_timeout": 5}
    with open_spool(kind, server_with_password.url, **settings) as any_spool:
        assert_raises(any_spool, BrokerRefused, "check the URL, the user and the password", ("enqueue",))
        assert any_spool.status(CHAT).active == ()


def test_a_replica_serves_only_readers(kind: str, redis_server: PrivateServer, tmp_path: Path) -> None:
    """Writes are told to use the primary, or to try again after a failover."""
    with (
        run_second_server(redis_server, tmp_path / "1") as primary,
        run_second_server(redis_server, tmp_path / "2") as replica,
    ):
        with spool_for(primary.url) as spool:
            made = spool.enqueue(CHAT, "hello")
        with primary.client() as admin:
            admin.config_set("repl-diskless-sync-delay", 0)
        with replica.client() as admin:
            admin.replicaof(LOOPBACK, primary.port)
            eventually(lambda: admin.exists(ChatKeys("default", CHAT).seq), 30)
        with open_spool(kind, replica.url) as any_spool:
            assert [entry.type for entry in any_spool.read(CHAT)] == ["generation.queued"]
            assert any_spool.status(CHAT).active == (made.generation_id,)
            for call in (
                lambda: any_spool.enqueue(CHAT, "hello", on_active="replace"),
                lambda: any_spool.stop(CHAT),
                lambda: any_spool.erase(CHAT),
                lambda: any_spool.run_producer(CHAT, made.generation_id, repr),
            ):
                with pytest.raises(StoreUnavailable, match="this Redis is a read-only replica"):
                    call()


@pytest.mark.parametrize(
    "url", ["http://host", "host:6379", "", f"redis://:{SECRET}/x@host:6379", f"redis://:{SECRET}@host:port"]
)
def test_an_invalid_url_is_rejected(url: str) -> None:
    """It is rejected before any connection, and the message does not repeat the password."""
    for make in SPOOL_KINDS:
        with pytest.raises(SettingsError, match="write redis://") as refused, open_spool(make, url):
            pass
        assert SECRET not in "".join(format_exception(refused.value))
    for option in ("db=x", "socket_timeout=x"):
        with pytest.raises(SettingsError, match="is not a Redis URL"):
            client.connect(f"redis://:{SECRET}@host/0?{option}")
