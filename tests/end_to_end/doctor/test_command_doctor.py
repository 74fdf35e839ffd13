"""The whole command: what a person reads, what a program reads, and how it ends."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from end_to_end.conftest import StartWorker
from end_to_end.doctor.conftest import Doctor, complaints, told
from end_to_end.workers.test_main_job import scripted
from redis import Redis
from support.missing import skip_missing
from support.processes.command import environment, error_line, run
from support.processes.nodes import PROJECT, count_held
from support.servers.non_redis_servers import silent_server
from support.servers.rabbitmq import rabbitmq_server
from support.servers.redis_server import PrivateServer, ServerMissing
from support.waiting import eventually

from chunkspool import Spool
from chunkspool.demo.ports import LOOPBACK, free_port, is_taken
from chunkspool.demo.process import Process

SECRET = {"CHUNKSPOOL_TOKEN_SECRET": "0f1e2d3c4b5a69788796a5b4c3d2e1f0"}


def test_a_good_deployment(start_worker: StartWorker, redis_url: str, redis_server: PrivateServer) -> None:
    """One line each, by groups, nothing to do, and exit code 0; and nothing is left in Redis but Celery's own note."""
    start_worker("threads", 100)
    with redis_server.client() as admin:
        before = keys(admin)
        done = run(redis_url, "doctor", own=SECRET)
        after = keys(admin) - {b"_kombu.binding_deadlines"}
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert [line for line in lines if line and not line.startswith(" ")] == [
        *("redis", "broker", "workers", "web"),
        "28 ok, 0 warnings, 0 errors",
    ]
    assert all(line.startswith("  ok       ") for line in lines if line.startswith(" "))
    assert after <= before
    assert redis_server.password not in done.stdout


def keys(admin: Redis) -> set[bytes]:
    """Return the names of all keys."""
    return set(admin.scan_iter(count=1000))


def test_warnings(start_worker: StartWorker, redis_url: str, redis_server: PrivateServer) -> None:
    """Advice stands below what it is about, with a link; exit code 1."""
    start_worker("threads", 8)
    with redis_server.client() as admin:
        admin.config_set("appendfsync", "no")
    done = run(redis_url, "doctor", own=SECRET)
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    at = lines.index("  WARNING  persistence: append-only file, appendfsync no")
    assert lines[at + 1].startswith("           CONFIG SET appendfsync everysec: ")
    assert lines[at + 1].endswith(" (docs/how-to/run/doctor.md#persistence)")
    assert lines[-1].endswith(" ok, 1 warning, 0 errors")


def test_errors_are_graver_than_warnings(redis_url: str, redis_server: PrivateServer) -> None:
    """Exit code 2; the JSON document is the list of all findings."""
    with redis_server.client() as admin:
        admin.config_set("appendfsync", "no")
        admin.config_set("maxmemory-policy", "allkeys-lru")
    done = run(redis_url, "doctor", "--json", "--timeout", "1")
    assert done.returncode == 2
    found = json.loads(done.stdout)
    assert all(list(one) == ["group", "level", "subject", "found", "advice", "link"] for one in found)
    assert complaints(found) == {
        "persistence": "warning",
        "eviction": "error",
        "answers": "error",
        "token secret": "warning",
    }
    assert next(one["link"] for one in found if one["subject"] == "eviction") == "docs/how-to/run/doctor.md#eviction"


def test_a_broker_that_is_away(doctor: Doctor) -> None:
    """The logs are examined, the workers are not asked, and nobody waits for long."""
    before = time.monotonic()
    code, found = doctor(CHUNKSPOOL_BROKER_URL=f"redis://:hidden@{LOOPBACK}:{free_port()}/0")
    assert time.monotonic() - before < 20
    assert (code, complaints(found)) == (2, {"reachable": "error"})
    assert {one["group"] for one in found} == {"redis of the logs", "redis of the broker", "web"}
    assert "hidden" not in repr(found)


def test_a_broker_that_is_silent(doctor: Doctor) -> None:
    """Each question has its time, and the first is the last."""
    with silent_server() as port:
        before = time.monotonic()
        code, found = doctor("--timeout", "1", CHUNKSPOOL_BROKER_URL=f"redis://{LOOPBACK}:{port}/0")
        assert time.monotonic() - before < 20
    assert (code, complaints(found)) == (2, {"reachable": "error"})


def test_settings_that_are_wrong(redis_url: str) -> None:
    """One line, as with every command, and exit code 2: a secret that is too short is refused by every process."""
    done = run(redis_url, "doctor", own={"CHUNKSPOOL_TOKEN_SECRET": "short"})
    assert done.returncode == 2
    assert "at least 32 bytes" in error_line(done)


def test_messages_of_a_killed_worker(
    doctor: Doctor, start_worker: StartWorker, spool: Spool, redis_server: PrivateServer
) -> None:
    """Nobody else is there, so they stand where it held them."""
    worker = start_worker("threads", 2, CHUNKSPOOL_REDELIVERY="1")
    spool.enqueue("chat", "x", params=scripted({"text": "word ", "repeat": 10_000}, pace=0.1))
    with redis_server.client() as admin:
        eventually(lambda: count_held(admin) == 1)
    worker.kill()
    late = eventually(lambda: is_late(doctor), 30)
    assert "the time-out is 1 s" in late
    assert "CHUNKSPOOL_REDELIVERY=1" in late


def is_late(doctor: Doctor) -> str:
    """Return what is told of messages that nobody renews, once it is an error."""
    _, found = doctor("--timeout", "0.5", CHUNKSPOOL_REDELIVERY="1")
    return told(found, "unacknowledged") if complaints(found).get("unacknowledged") == "error" else ""


@contextmanager
def flower(url: str, folder: Path, **own: str) -> Iterator[str]:
    """Run Flower; give its address."""
    port = free_port()
    command = [sys.executable, "-m", "celery", "-A", "chunkspool.worker", "flower", f"--address={LOOPBACK}"]
    variables = environment(url, {"PYTHONPATH": str(PROJECT), **own})
    process = Process.start("flower", [*command, f"--port={port}"], folder, env=variables, cwd=PROJECT)
    try:
        process.wait_until(lambda: is_taken(port), 60)
        yield f"http://{LOOPBACK}:{port}"
    finally:
        process.terminate(20)


@pytest.mark.parametrize(("own", "expected"), [({}, "error"), ({"FLOWER_BASIC_AUTH": "admin:pw"}, "ok")])
def test_flower(own: dict[str, str], expected: str, doctor: Doctor, redis_url: str, tmp_path: Path) -> None:
    """A stranger gets in, or is asked for a password."""
    with flower(redis_url, tmp_path, **own) as address:
        _, found = doctor("--timeout", "2", CHUNKSPOOL_FLOWER_URL=address)
    assert complaints(found).get("flower", "ok") == expected
    assert told(found, "flower").startswith(address)


def test_flower_that_is_away(doctor: Doctor) -> None:
    """The page's link leads nowhere."""
    _, found = doctor("--timeout", "1", CHUNKSPOOL_FLOWER_URL=f"http://{LOOPBACK}:{free_port()}")
    assert complaints(found)["flower"] == "warning"


def test_rabbitmq(doctor: Doctor, start_worker: StartWorker, redis_url: str, tmp_path: Path) -> None:
    """Its queue and its workers are asked about, too; one that is away is an error."""
    try:
        with rabbitmq_server(tmp_path / "rabbitmq") as rabbit:
            with Spool.from_env({"CHUNKSPOOL_REDIS_URL": redis_url, "CHUNKSPOOL_BROKER_URL": rabbit.url}) as spool:
                spool.enqueue("chat", "hello")
            code, found = doctor("--timeout", "2", CHUNKSPOOL_BROKER_URL=rabbit.url)
            assert (code, complaints(found)) == (2, {"queue": "error", "answers": "error"})
            assert told(found, "queue").startswith("chunkspool: 1 waiting, and no worker serves it")
            start_worker("threads", 4, wait=False, CHUNKSPOOL_BROKER_URL=rabbit.url)
            asked = {"CHUNKSPOOL_BROKER_URL": rabbit.url}
            eventually(lambda: doctor("--timeout", "2", **asked)[0] == 0, 60)
    except ServerMissing as missing:
        skip_missing(missing)
    code, found = doctor("--timeout", "2", CHUNKSPOOL_BROKER_URL=f"amqp://u:hidden@{LOOPBACK}:{free_port()}//")
    assert (code, complaints(found)["reachable"]) == (2, "error")
    assert "hidden" not in repr(found)
