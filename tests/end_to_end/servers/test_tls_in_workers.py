"""TLS with real processes: worker, Flower and readers work over it, and none of them tells an impostor the password."""

from __future__ import annotations

import os
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from end_to_end.conftest import StartWorker
from end_to_end.workers.test_main_job import answer_of, follow, scripted
from support.missing import skip_missing
from support.processes.nodes import PROJECT
from support.servers.redis_server import ServerMissing
from support.servers.tls import IMPOSTORS, Authority, Impostor, TlsServer, impostor, tls_server
from support.waiting import eventually

from chunkspool import Spool
from chunkspool.demo.ports import LOOPBACK, free_port, is_taken
from chunkspool.demo.process import Process

SECRET = "hunter2"
WORKER, FLOWER = ("worker", "-P", "solo", "--loglevel=INFO"), ("flower", f"--address={LOOPBACK}")


@pytest.fixture(params=[False, True], ids=["server", "both"])
def redis_server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TlsServer]:
    """Let all other fixtures use a server with TLS, once without and once with a certificate of the client's."""
    try:
        authority = Authority.make(tmp_path / "certificates")
        with tls_server(tmp_path, authority, password=SECRET, clients=request.param) as server:
            if request.param:
                own = authority.sign("client")
                server.query += f"&ssl_certfile={own.certfile}&ssl_keyfile={own.keyfile}"
            yield server
    except ServerMissing as missing:
        skip_missing(missing)


@contextmanager
def celery(url: str, folder: Path, *arguments: str) -> Iterator[Process]:
    """Run a command of Celery's, with the project's app and configuration."""
    own = {"CHUNKSPOOL_REDIS_URL": url, "CHUNKSPOOL_PROVIDER": "scripted", "FLOWER_UNAUTHENTICATED_API": "true"}
    command = [sys.executable, "-m", "celery", "-A", "chunkspool.worker", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), **own}
    process = Process.start(arguments[0], command, folder, env=environment, cwd=PROJECT)
    try:
        yield process
    finally:
        process.kill()


def page(port: int, path: str) -> str:
    """Return what Flower says there."""
    with urllib.request.urlopen(f"http://{LOOPBACK}:{port}/{path}", timeout=10) as reply:
        return str(reply.read().decode())


def test_a_generation_over_tls(redis_url: str, start_worker: StartWorker, spool: Spool, tmp_path: Path) -> None:
    """The web app enqueues, the worker runs it, the reader follows, Flower shows task and queue: all verified."""
    port = free_port()
    with celery(redis_url, tmp_path, *FLOWER, f"--port={port}") as flower:
        flower.wait_until(lambda: is_taken(port), 60)
        start_worker("threads", 4)
        asked = spool.enqueue("chat", "x", params=scripted({"text": "word ", "repeat": 20}, pace=0.05))
        assert answer_of(follow(spool, "chat")).text == "word " * 20
        eventually(lambda: '"state": "SUCCESS"' in page(port, f"api/task/info/{asked.generation_id}"), 30)
        queues = page(port, "broker")
        assert "chunkspool" in queues
        assert SECRET not in queues + flower.log.read_text()


@pytest.fixture
def stranger(tmp_path: Path) -> Iterator[Impostor]:
    """Give a server with a certificate of its own making."""
    try:
        with impostor(tmp_path) as running:
            yield running
    except ServerMissing as missing:
        skip_missing(missing)


@pytest.mark.parametrize("kind", IMPOSTORS)
@pytest.mark.parametrize("arguments", [WORKER, FLOWER], ids=["worker", "Flower"])
def test_an_impostor_gets_no_password(arguments: tuple[str, ...], kind: str, tmp_path: Path) -> None:
    """They try to connect again and again, say why they cannot, and never say the password."""
    port = (f"--port={free_port()}",) if arguments is FLOWER else ()
    try:
        authority = Authority.make(tmp_path / "certificates")
    except ServerMissing as missing:
        skip_missing(missing)
    with impostor(tmp_path, IMPOSTORS[kind][1](authority, tmp_path)) as stranger:
        url = f"rediss://:{SECRET}@{LOOPBACK}:{stranger.port}/0?ssl_ca_certs={authority.ca.certfile}"
        with celery(url, tmp_path, *arguments, *port) as process:
            eventually(lambda: stranger.connections > 1 and "certificate verify failed" in process.log.read_text(), 60)
            assert SECRET not in process.log.read_text()
        assert stranger.heard == b""


@pytest.mark.parametrize("arguments", [WORKER, FLOWER], ids=["worker", "Flower"])
def test_the_impostor_would_hear_it(arguments: tuple[str, ...], stranger: Impostor, tmp_path: Path) -> None:
    """Where the URL asks for no verification, in Celery's spelling: otherwise the test above proves nothing."""
    port = (f"--port={free_port()}",) if arguments is FLOWER else ()
    url = f"rediss://:{SECRET}@{LOOPBACK}:{stranger.port}/0?ssl_cert_reqs=CERT_NONE"
    with celery(url, tmp_path, *arguments, *port):
        eventually(lambda: SECRET.encode() in stranger.heard, 60)
