"""What `Spool.stats` may not ask for, it does not know: it says so, and everything else is there."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.chats.spools import spool_for
from support.missing import skip_missing
from support.readers.blocking_spool import SPOOL_KINDS, open_spool
from support.servers.redis_server import PrivateServer
from support.servers.roles import OPTIONAL, RoleServer, without
from support.waiting import eventually

from chunkspool import Spool
from chunkspool.demo.redis_server import find_installed_binary
from chunkspool.errors import RightMissing


def answer(spool: Spool, chat_id: str) -> None:
    """Ask and answer."""
    made = spool.enqueue(chat_id, "x")
    with spool.produce(chat_id, made.generation_id) as out:
        out.text("x" * 1000)
    eventually(lambda: spool.stats().chats == 1)


@pytest.mark.parametrize("role", ["web", "worker"])
def test_the_documented_rights_are_enough(role: str, server: RoleServer) -> None:
    """For every field, by the users of web apps and workers."""
    with spool_for(server.worker_url) as worker, spool_for(server.url_of(role)) as asked:
        answer(worker, "chat")
        stats = asked.stats()
    assert stats.unknown == {}
    assert stats.memory is not None
    assert stats.memory.tenants["default"] > 1000
    assert (stats.used_memory or 0) > 0
    assert server.refused() == []


@pytest.mark.parametrize(
    ("right", "unknown"), [(OPTIONAL, {"used_memory", "max_memory"}), ("+memory|usage", {"memory"})]
)
@pytest.mark.parametrize("kind", SPOOL_KINDS)
def test_a_right_that_is_missing_is_named(right: str, unknown: set[str], kind: str, server: RoleServer) -> None:
    """In place of what it is needed for; what is counted is counted all the same."""
    with spool_for(server.worker_url) as worker:
        answer(worker, "chat")
    server.grant("web", without(server.rights["web"], right))
    with open_spool(kind, server.url) as asked:
        stats = asked.stats()
    assert set(stats.unknown) == unknown
    assert {getattr(stats, name) for name in unknown} == {None}
    assert all(f"write {right} into" in why for why in stats.unknown.values())
    assert stats.chats == 1
    server.refused()


def test_without_the_index_there_are_no_stats(server: RoleServer) -> None:
    """A right that everything needs is an error, as it is of every other call."""
    server.grant("web", without(server.rights["web"], "+zcard"))
    with spool_for(server.url) as asked, pytest.raises(RightMissing, match=r"\+zcard"):
        asked.stats()
    server.refused()


@pytest.mark.parametrize(("command", "unknown"), [("INFO", {"used_memory", "max_memory"}), ("MEMORY", {"memory"})])
def test_a_server_that_does_not_know_a_command(command: str, unknown: set[str], tmp_path: Path) -> None:
    """As managed ones have some renamed: the same."""
    binary = find_installed_binary()
    if binary is None:
        skip_missing("redis-server is not on PATH; apt-get install redis-server brings it")
    options = ("--appendonly", "yes", "--save", "")
    server = PrivateServer(binary, tmp_path, options)
    server.start()
    try:
        with spool_for(server.url) as worker:
            answer(worker, "chat")
        server.options = (*options, "--rename-command", command, "")
        server.restart()
        with spool_for(server.url) as asked:
            stats = asked.stats()
    finally:
        server.kill()
    assert set(stats.unknown) == unknown
    assert all(f"unknown command '{command}'" in why for why in stats.unknown.values())
    assert stats.chats == 1
