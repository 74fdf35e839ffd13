"""The roles of worker and Flower: what is missing is named before they connect, and they may do no more."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support.chats.spools import settings_for
from support.servers.roles import RoleServer, each_right, without

from chunkspool import Settings
from chunkspool.demo.ports import LOOPBACK, free_port
from chunkspool.worker.rights import missing_of_flower, missing_of_worker

pytestmark = pytest.mark.both_servers

ASK: dict[str, Callable[[Settings], list[str]]] = {"worker": missing_of_worker, "flower": missing_of_flower}
RIGHTS = [(role, right) for role in ASK for right in each_right(role)]


@pytest.mark.parametrize("role", ASK)
def test_nothing_is_missing(role: str, server: RoleServer) -> None:
    """With the documented rights; and the question itself changes nothing and is not refused."""
    assert ASK[role](settings_for(server.url_of(role))) == []
    assert server.refused() == []
    with server.client() as admin:
        assert [key for key in admin.scan_iter() if b"slots" not in key and b"clock" not in key] == []


@pytest.mark.parametrize(("role", "right"), RIGHTS)
def test_a_missing_right_is_named(role: str, right: str, server: RoleServer) -> None:
    """That one, in one sentence, which says where to write it."""
    server.grant(role, without(server.rights[role], right))
    assert ASK[role](settings_for(server.url_of(role))) == [
        f"the Redis user 'chunkspool-{role}' lacks rights; write {right} into its ACL (docs/how-to/run/security.md)"
    ]


def test_all_that_is_missing_is_named_at_once(server: RoleServer) -> None:
    """Nobody has to start a worker five times."""
    rules = server.rights["worker"]
    for right in ("~chunkspool*", "&cs:*", "+brpop", "+xadd"):
        rules = without(rules, right)
    server.grant("worker", rules)
    (line,) = missing_of_worker(settings_for(server.url_of("worker")))
    assert set(line.partition("write ")[2].partition(" into")[0].split()) == {
        "~chunkspool*",
        "&cs:*",
        "+brpop",
        "+xadd",
    }


def test_another_queue_and_another_broker(server: RoleServer) -> None:
    """The rights that are named are those of this queue; the logs' user is not asked for the broker's."""
    settings = settings_for(server.url_of("worker"), queue="mine")
    assert "write ~mine* ~chunkspool.unacked* into its ACL" in missing_of_worker(settings)[0]
    server.grant("web", [rule for rule in server.rights["worker"] if rule not in {"+xadd", "+brpop", "~chunkspool*"}])
    other = settings_for(server.url, broker_url=server.url_of("worker"))
    assert missing_of_worker(other) == [
        "the Redis user 'chunkspool-web' lacks rights; write +xadd into its ACL (docs/how-to/run/security.md)"
    ]
    assert missing_of_worker(settings_for(server.url_of("worker"), broker_url="amqp://h//")) == []


@pytest.mark.parametrize("url", [f"redis://u:p@{LOOPBACK}:{{port}}/0", f"redis://u:wrong@{LOOPBACK}:{{real}}/0"])
@pytest.mark.parametrize("role", ASK)
def test_a_server_that_is_away_is_not_asked(role: str, url: str, server: RoleServer) -> None:
    """Nor one that does not know the user: Celery says so itself, and tries again."""
    assert ASK[role](settings_for(url.format(port=free_port(), real=server.port))) == []


FOREIGN = {
    "worker": (
        *("GET celery-task-meta-1", "GET other", "LPUSH celery x", "BRPOP celery 1", "HGETALL unacked", "DEL other"),
        *("PUBLISH /1.celery.pidbox x", "PSUBSCRIBE *", "SUBSCRIBE other", "PUBLISH other x"),
        *("FLUSHALL", "FLUSHDB", "CONFIG GET requirepass", "KEYS *", "SCAN 0", "ACL LIST", "CLIENT LIST", "MONITOR"),
        *("SHUTDOWN", "SAVE", "SCRIPT FLUSH", "SELECT 1"),
    ),
    "flower": (
        *(
            "XRANGE cs:{a}:log - +",
            "GET cs:{a}:seq",
            "HGETALL cs:{a}:gen:x",
            "SUBSCRIBE cs:{a}:live:0",
            "DEL cs:{a}:log",
        ),
        *("LRANGE chunkspool 0 -1", "RPOP chunkspool", "BRPOP chunkspool 1", "LPUSH chunkspool x", "DEL chunkspool"),
        *("HGET chunkspool.unacked:chunkspool:8 x", "HDEL chunkspool.unacked:chunkspool:8 x", "PUBLISH cs:stops:0 x"),
        *("FLUSHALL", "CONFIG GET requirepass", "KEYS *", "ACL LIST", "CLIENT LIST", "MONITOR", "INFO", "EVAL x 0"),
    ),
}


@pytest.mark.parametrize("role", FOREIGN)
def test_they_are_no_more(role: str, server: RoleServer) -> None:
    """A worker sees no other app's messages or results; Flower reads no chat, and takes and sends no message."""
    assert server.allowed(role, FOREIGN[role]) == []
