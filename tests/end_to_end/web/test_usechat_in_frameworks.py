"""The AI SDK's own clients (npm's `ai` 6 and 7, unmodified) against the examples of Django and Flask, on real servers.

They are those of test_usechat_client.py, with the session's cookie and Django's CSRF token in their headers.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from support.web import django_chat, flask_chat
from support.web.app_server import AppServer
from support.web.django_chat import Project
from support.web.flask_chat import FlaskProject
from support.web.node import SDKS, Scenario
from support.web.usechat_scenarios import (
    StartClient,
    check_a_deploy,
    check_a_killed_worker,
    check_everyday_use,
    check_returns,
)

from chunkspool.demo.process import Process

FAST = {"CHUNKSPOOL_LEASE": "1", "CHUNKSPOOL_REDELIVERY": "2", "CHUNKSPOOL_DRAIN_GRACE": "5"}
DJANGO_APPS = {"uvicorn": "support.web.django_scripted:asgi", "gthread": "support.web.django_scripted:wsgi"}
FLASK_APP = "support.web.flask_scripted:app"
# Each version of the SDK with each framework and each way in which a server waits; not every one with every server.
FRAMEWORKS = [
    *(("django", kind, sdk) for kind in django_chat.SERVERS for sdk in SDKS),
    *(("flask", kind, sdk) for kind, sdk in zip(flask_chat.SERVERS, SDKS, strict=True)),
]
STREAMS = 20
# Django has no such address, or no such chat; in Flask it is nobody's.
REFUSALS = {"django": "not-found", "flask": "forbidden"}

# One server is enough here: the tests of the routes run on both.
pytestmark = [
    pytest.mark.parametrize("redis_server", ["redis-server"], indirect=True),
    pytest.mark.parametrize(("framework", "kind", "sdk"), FRAMEWORKS),
    pytest.mark.timeout(300),
]


@pytest.fixture
def project(framework: str, redis_url: str, tmp_path: Path, request: pytest.FixtureRequest) -> Project | FlaskProject:
    """Give the example."""
    if framework == "flask":
        return FlaskProject.make(tmp_path, redis_url, **FAST)
    return Project.make(tmp_path, request.getfixturevalue("django_database"), redis_url, **FAST)


class Web:
    """A server that may be restarted."""

    def __init__(self, project: Project | FlaskProject, kind: str) -> None:
        """Start it."""
        self._project = project
        self._kind = kind
        self.server = self._start(0)

    def terminate(self) -> None:
        """End it."""
        self.server.process.terminate()

    def start(self) -> None:
        """Start it again, at its address."""
        self.server = self._start(self.server.port)

    def _start(self, port: int) -> AppServer:
        if isinstance(self._project, FlaskProject):
            return self._project.start_server(self._kind, port=port, threads=STREAMS, app=FLASK_APP)
        return self._project.start_server(self._kind, port=port, threads=STREAMS, apps=DJANGO_APPS)

    def open_chat(self, client: httpx.Client) -> tuple[str, dict[str, str]]:
        """Log ann in; return the id of a chat of hers, and the headers of her browser."""
        if isinstance(self._project, FlaskProject):
            flask_chat.log_in(client, "ann")
            chat, csrf = f"ann.{secrets.token_hex(8)}", {}
        else:
            django_chat.log_in(client, "ann")
            chat = django_chat.make_chat(client)
            csrf = {"X-CSRFToken": client.headers["X-CSRFToken"]}
        return chat, {"Cookie": "; ".join(f"{name}={value}" for name, value in client.cookies.items()), **csrf}


@pytest.fixture
def web(kind: str, project: Project | FlaskProject) -> Iterator[Web]:
    """Run the web server."""
    running = Web(project, kind)
    yield running
    running.terminate()


StartWorker = Callable[[], Process]


@pytest.fixture
def start_worker(project: Project | FlaskProject) -> Iterator[StartWorker]:
    """Start workers; all are ended after the test."""
    workers: list[Process] = []

    def start() -> Process:
        workers.append(project.start_worker(8))
        return workers[-1]

    yield start
    for worker in workers:
        worker.terminate()


@pytest.fixture
def start(sdk: int, web: Web) -> Iterator[StartClient]:
    """Start scenarios, each as ann in a chat of its own; none outlives the test."""
    scenarios: list[Scenario] = []

    def start(name: str, **options: object) -> Scenario:
        with web.server.open_client() as ann:
            chat, headers = web.open_chat(ann)
        scenarios.append(Scenario.start(sdk, web.server.url, name, headers=headers, chat=chat, **options))
        return scenarios[-1]

    yield start
    for scenario in scenarios:
        scenario.kill()


def test_send_resume_stop_parts_and_failures(start: StartClient, start_worker: StartWorker, framework: str) -> None:
    """After everything that a useChat front end does, the SDK's own state is the expected one."""
    start_worker()
    check_everyday_use(start, refusal=REFUSALS[framework])


def test_a_reload_and_a_late_return_show_the_whole_chat(start: StartClient, start_worker: StartWorker) -> None:
    """After a tool has run in the browser, whatever a reloaded page has; and after an answer that nobody saw end."""
    start_worker()
    check_returns(start)


def test_a_deploy_of_the_web_server_is_an_error_and_a_resume_mends_it(
    start: StartClient, web: Web, start_worker: StartWorker
) -> None:
    """SIGTERM in mid-answer never leaves the client `ready` with a part of it."""
    start_worker()
    check_a_deploy(start, web)


def test_a_killed_worker_reaches_the_client_as_valid_parts(
    sdk: int, start: StartClient, start_worker: StartWorker
) -> None:
    """After a kill -9 in mid-answer, a client that stayed connected shows the whole answer of the second attempt.

    Version 7 takes the first one back by itself.
    """
    worker = start_worker()

    def replace_worker() -> None:
        worker.kill()
        start_worker()

    check_a_killed_worker(start, sdk, replace_worker)
