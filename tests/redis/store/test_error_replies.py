"""Servers that refuse for a while, or for good: each call is told what it is, whichever way the reply comes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import RedisError
from support.chats.logs import CHAT
from support.readers.blocking_spool import SPOOL_KINDS, BlockingSpool, open_spool
from support.servers.old_redis import skip_on_old
from support.servers.redis_server import PrivateServer, run_second_server
from support.servers.trouble import (
    Trouble,
    demotion,
    endless_script,
    failed_snapshot,
    lost_primary,
    no_memory,
    too_few_replicas,
)
from support.waiting import eventually

from chunkspool.demo.ports import LOOPBACK
from chunkspool.errors import (
    ChunkspoolError,
    StoreFull,
    StoreNotReady,
    StoreRefused,
    StoreUnavailable,
)
from chunkspool.store import failover
from chunkspool.store.translate import translate

pytestmark = pytest.mark.both_servers

TROUBLES: dict[Trouble, tuple[type[ChunkspoolError], str]] = {
    failed_snapshot: (StoreUnavailable, "takes no writes until it can save a snapshot again"),
    too_few_replicas: (StoreUnavailable, "takes no writes until more replicas are connected"),
    demotion: (StoreNotReady, "this Redis is a read-only replica; try again, or use the primary's URL"),
    lost_primary: (StoreNotReady, "this Redis is a re"),  # a write is told READONLY, a read or a script MASTERDOWN
    endless_script: (StoreUnavailable, "busy with a script of somebody that does not end"),
    no_memory: (StoreFull, "Redis is full, so nothing was written"),
}
KEY, LUA = "cs:{some}:key", "return redis.call('SET', KEYS[1], ARGV[1])"
PROMPT = "NOAUTH, unknown command"


def direct(client: Redis) -> object:
    """Send one command."""
    return client.set(KEY, PROMPT)


def pipeline(client: Redis) -> object:
    """Send it in a pipeline that raises."""
    with client.pipeline(transaction=False) as pipeline:
        return pipeline.get(KEY).set(KEY, PROMPT).execute()


def silent_pipeline(client: Redis) -> object:
    """Send it in one that returns its errors."""
    with client.pipeline(transaction=False) as pipeline:
        for reply in pipeline.set(KEY, PROMPT).execute(raise_on_error=False):
            if isinstance(reply, Exception):
                raise reply
    return None


def multi(client: Redis) -> object:
    """Send it in MULTI and EXEC."""
    with client.pipeline(transaction=True) as pipeline:
        return pipeline.get(KEY).set(KEY, PROMPT).execute()


def script(client: Redis) -> object:
    """Send it from a script."""
    return client.eval(LUA, 1, KEY, PROMPT)


def script_in_a_pipeline(client: Redis) -> object:
    """Send it from a script in a pipeline."""
    with client.pipeline(transaction=False) as pipeline:
        return pipeline.eval(LUA, 1, KEY, PROMPT).execute()


WAYS = (direct, pipeline, silent_pipeline, multi, script, script_in_a_pipeline)


@pytest.fixture
def server(redis_server: PrivateServer, tmp_path: Path) -> Iterator[PrivateServer]:
    """Give a server that the test may spoil."""
    with run_second_server(redis_server, tmp_path) as server:
        yield server


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda trouble: trouble.__name__)
def test_a_refusal_is_told_as_what_it_is(server: PrivateServer, trouble: Trouble) -> None:
    """By every way, on this server's own words; and when it is over, all ways work."""
    kind, said = TROUBLES[trouble]
    with server.client() as client:
        with trouble(server):
            for way in WAYS:
                with pytest.raises(RedisError) as refused:
                    way(client)
                told = translate(refused.value)
                assert (way, type(told)) == (way, kind)
                assert said in str(told)
                assert PROMPT not in str(told)
        for way in WAYS:
            way(client)


@pytest.fixture(params=SPOOL_KINDS)
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Give the name of each spool, whose calls do not wait long for a failover."""
    monkeypatch.setattr(failover, "PATIENCE", 0.2)
    return str(request.param)


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda trouble: trouble.__name__)
def test_both_spools_are_told_so(server: PrivateServer, kind: str, trouble: Trouble) -> None:
    """What writes raises it, and works when it is over; the same spool, no restart."""
    expected, said = TROUBLES[trouble]
    with open_spool(kind, server.url, read_timeout=0.2) as spool:
        made = spool.enqueue(CHAT, "hello")
        with trouble(server):
            for call in (
                lambda: spool.enqueue("other", "hello"),
                lambda: spool.run_producer(CHAT, made.generation_id, repr),
            ):
                with pytest.raises(expected, match=said):
                    call()
        spool.enqueue("other", "hello")
        assert spool.run_producer(CHAT, made.generation_id, lambda out: out.text("hi")).state == "completed"


def test_no_more_connections(server: PrivateServer, kind: str) -> None:
    """A server that takes no more (maxclients) is told so, and tried again."""
    with server.client() as admin:
        most = admin.config_get("maxclients")["maxclients"]
        admin.config_set("maxclients", 1)
        with open_spool(kind, server.url) as spool:
            with pytest.raises(StoreUnavailable, match="takes no more connections \\(maxclients\\)"):
                spool.enqueue(CHAT, "hello")
            admin.config_set("maxclients", most)
            spool.enqueue(CHAT, "hello")


def test_a_server_that_loads_its_data(server: PrivateServer, tmp_path: Path, kind: str) -> None:
    """LOADING, here of a new replica that copies its primary, is waited for like the rest of a failover."""
    with (
        run_second_server(server, tmp_path / "primary") as primary,
        primary.client() as client,
        server.client() as loading,
    ):
        skip_on_old(loading, "it cannot be told to answer while it loads so little")
        filled = client.pipeline(transaction=False)
        for number in range(1000):
            filled.set(f"key {number}", "x" * 1000)
        filled.execute()
        client.config_set("repl-diskless-sync-delay", 0)
        loading.config_set("key-load-delay", 1000)
        loading.config_set("loading-process-events-interval-bytes", 1024)
        loading.replicaof(LOOPBACK, primary.port)
        told = eventually(lambda: refusal_of(lambda: loading.get(KEY)))
        assert type(told) is StoreNotReady
        assert "still loading its data" in str(told)
        with open_spool(kind, server.url) as spool, pytest.raises(StoreNotReady):
            spool.enqueue(CHAT, "hello")


def refusal_of(call: Callable[[], object]) -> ChunkspoolError | None:
    """Return what we say of the error that a call brings, or None."""
    try:
        call()
    except RedisError as error:
        return translate(error)
    return None


def test_a_refused_right_is_named_until_all_are_there(server: PrivateServer, kind: str) -> None:
    """Begin with a user who may nothing, and write into the ACL what each error asks for: in the end all works."""
    url, granted = f"redis://app:secret@{LOOPBACK}:{server.port}/0", list[str]()
    with server.client() as admin:
        admin.execute_command("ACL", "SETUSER", "app", "on", ">secret", "resetkeys", "resetchannels", "-@all")
        while rights := missing_rights(kind, url, server.url):
            assert not set(rights) <= set(granted), f"it asks again for {rights}"
            granted += rights
            admin.execute_command("ACL", "SETUSER", "app", *rights)
            admin.flushdb()
    assert {"~cs:*", "&cs:*", "+evalsha"} <= set(granted)


def missing_rights(kind: str, url: str, broker_url: str) -> list[str]:
    """Live a spool's life, and return what the error says is to be written into the ACL."""
    try:
        with open_spool(kind, url, broker_url=broker_url, write_timeout=0.5, lease=0.6) as spool:
            live(spool)
    except StoreRefused as refused:
        return re.findall(r"; write (.+) into its ACL", str(refused))[0].split()
    return []


def live(spool: BlockingSpool) -> None:
    """Do what a web app and a worker do."""
    made = spool.enqueue(CHAT, "hello")
    assert spool.run_producer(CHAT, made.generation_id, lambda out: out.text("hi")).state == "completed"
    assert spool.follow(CHAT)[-1].type == "generation.completed"
    spool.status(CHAT)
    spool.stop(CHAT)
    spool.erase(CHAT)
