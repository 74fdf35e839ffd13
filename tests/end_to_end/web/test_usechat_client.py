"""The AI SDK's own clients (npm's `ai` 6 and 7, unmodified) against real uvicorn and a real worker."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from end_to_end.conftest import StartWorker
from support.processes.nodes import PROJECT
from support.web.node import SDKS, Scenario
from support.web.usechat_scenarios import (
    StartClient,
    check_a_deploy,
    check_a_killed_worker,
    check_conversations,
    check_everyday_use,
    check_returns,
)

from chunkspool.demo.ports import LOOPBACK, free_port, is_taken
from chunkspool.demo.process import Process

FAST = {"CHUNKSPOOL_LEASE": "1", "CHUNKSPOOL_REDELIVERY": "2"}
# The front end of these tests scripts the model by its params, which users may not set otherwise.
SERVE = """
import sys
import uvicorn
from chunkspool import AsyncSpool
from chunkspool.web import admit_all, allow_all, create_app
app = create_app(AsyncSpool.from_env(), allow_all, admit=admit_all, closes_spool=True)
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), ws="none", access_log=False, timeout_graceful_shutdown=10)
"""

# One server is enough here: the tests of the routes run on both.
pytestmark = [
    pytest.mark.parametrize("redis_server", ["redis-server"], indirect=True),
    pytest.mark.parametrize("sdk", SDKS),
    pytest.mark.timeout(300),
]


class WebServer:
    """The web app in a process of its own, open to everybody."""

    def __init__(self, redis_url: str, folder: Path) -> None:
        """Start it."""
        self.port = free_port()
        self.url = f"http://{LOOPBACK}:{self.port}"
        self._folder = folder
        self._environment = {**os.environ, "CHUNKSPOOL_REDIS_URL": redis_url}
        self.start()

    def start(self) -> None:
        """Start it, also again."""
        command = [sys.executable, "-c", SERVE, str(self.port)]
        self._process = Process.start("web", command, self._folder, env=self._environment, cwd=PROJECT)
        self._process.wait_until(lambda: is_taken(self.port), 60)

    def terminate(self) -> None:
        """Ask it to exit, and wait until it has."""
        self._process.terminate()


@pytest.fixture
def web(redis_url: str, tmp_path: Path) -> Iterator[WebServer]:
    """Run the web app."""
    server = WebServer(redis_url, tmp_path)
    yield server
    server.terminate()


@pytest.fixture
def start(sdk: int, web: WebServer) -> Iterator[StartClient]:
    """Start scenarios; none outlives the test."""
    clients: list[Scenario] = []

    def start(name: str, **options: object) -> Scenario:
        clients.append(Scenario.start(sdk, web.url, name, **options))
        return clients[-1]

    yield start
    for client in clients:
        client.kill()


def test_send_resume_stop_parts_and_failures(start: StartClient, start_worker: StartWorker) -> None:
    """After everything that a useChat front end does, the SDK's own state is the expected one."""
    start_worker("threads", 8, **FAST)
    check_everyday_use(start, refusal="invalid")


def test_a_reload_and_a_late_return_show_the_whole_chat(start: StartClient, start_worker: StartWorker) -> None:
    """After a tool has run in the browser, whatever a reloaded page has; and after an answer that nobody saw end."""
    start_worker("threads", 8, **FAST)
    check_returns(start)


def test_another_device_shows_the_whole_conversation(start: StartClient, start_worker: StartWorker) -> None:
    """After each question, regenerated answer and edit; also of a front end that sends only its last message."""
    start_worker("threads", 8, **FAST)
    check_conversations(start)


def test_a_deploy_of_the_web_server_is_an_error_and_a_resume_mends_it(
    start: StartClient, web: WebServer, start_worker: StartWorker
) -> None:
    """SIGTERM in mid-answer never leaves the client `ready` with a part of it."""
    start_worker("threads", 2, **FAST)
    assert "resume" in check_a_deploy(start, web)


def test_a_killed_worker_reaches_the_client_as_valid_parts(
    sdk: int, start: StartClient, start_worker: StartWorker
) -> None:
    """After a kill -9 in mid-answer, a client that stayed connected shows the whole answer of the second attempt.

    Version 7 takes the first one back by itself.
    """
    worker = start_worker("threads", 2, **FAST)

    def replace_worker() -> None:
        worker.container.kill()
        start_worker("threads", 2, **FAST)

    check_a_killed_worker(start, sdk, replace_worker)
