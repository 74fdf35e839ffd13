"""A Unix socket with real processes: worker, Flower and readers find the same database; nobody tells the password."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from end_to_end.conftest import StartWorker
from end_to_end.servers.test_tls_in_workers import FLOWER, celery, page
from end_to_end.workers.test_main_job import answer_of, follow, scripted
from redis import Redis
from support.servers.binaries import find_embedded_binary
from support.servers.redis_server import PrivateServer
from support.waiting import eventually

from chunkspool import Spool
from chunkspool.demo.ports import free_port, is_taken

SECRET = "hunter2"


@dataclass(slots=True)
class SocketServer(PrivateServer):
    """A server that is reached by a Unix socket."""

    socket: str = ""

    @property
    def url(self) -> str:
        """What a person writes into CHUNKSPOOL_REDIS_URL."""
        return f"unix://:{self.password}@{self.socket}?db=5"

    def client(self) -> Redis:
        """Return a new client of that database; the caller closes it."""
        return Redis(unix_socket_path=self.socket, password=self.password, db=5)


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[SocketServer]:
    """Let all other fixtures use it."""
    binary = find_embedded_binary()
    assert binary is not None
    with tempfile.TemporaryDirectory(prefix="cs") as short:  # a socket's path has 107 characters at most
        socket = f"{short}/redis.sock"
        options = ("--requirepass", SECRET, "--unixsocket", socket)
        server = SocketServer(binary, tmp_path, options, SECRET, socket=socket)
        server.start()
        yield server
        server.kill()


def test_a_generation_by_a_unix_socket(
    redis_url: str, start_worker: StartWorker, spool: Spool, client: Redis, tmp_path: Path
) -> None:
    """The worker runs it and gives its message back in time, Flower shows it, and database 0 stays empty."""
    port = free_port()
    with celery(redis_url, tmp_path, *FLOWER, f"--port={port}") as flower:
        flower.wait_until(lambda: is_taken(port), 60)
        worker = start_worker("threads", 4)
        asked = spool.enqueue("chat", "x", params=scripted({"text": "word ", "repeat": 20}, pace=0.05))
        assert answer_of(follow(spool, "chat")).text == "word " * 20
        eventually(lambda: '"state": "SUCCESS"' in page(port, f"api/task/info/{asked.generation_id}"), 30)
        told = json.dumps(worker.app.control.inspect(timeout=5).stats()) + worker.logs() + flower.log.read_text()
    assert f"redis+socket://:***@{redis_url.partition('@')[2].partition('?')[0]}" in told
    assert SECRET not in told
    assert set(client.info("keyspace")) == {"db5"}
