"""Fixtures for real workers: pytest-celery's, with local processes instead of containers."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pytest_celery import CeleryTestBroker, CeleryTestWorker, RedisTestBroker
from support.models.model_servers import LlamaServer, LlmockServer
from support.models.paced_model_process import ModelProcess
from support.processes.nodes import BrokerProcess, WorkerCommand, WorkerProcess, control_app
from support.servers.redis_server import PrivateServer

from chunkspool import Settings, Spool

StartWorker = Callable[..., CeleryTestWorker]


@pytest.fixture
def celery_broker(redis_server: PrivateServer, redis_url: str) -> CeleryTestBroker:
    """Provide the test's empty server as the broker."""
    assert redis_url == redis_server.url
    return RedisTestBroker(BrokerProcess(redis_server))


@pytest.fixture
def celery_backend_cluster() -> None:
    """Provide no backend: results are in the log."""


@pytest.fixture
def start_worker(celery_broker: CeleryTestBroker, tmp_path: Path) -> Iterator[StartWorker]:
    """Provide a function that starts a worker; all workers are ended after the test.

    It returns once the worker answers, or with `wait=False` at once, so that several workers start in parallel and are
    waited for afterwards (`ready`).
    """
    url = celery_broker.config()["url"]
    app = control_app("tests", url)
    workers: list[CeleryTestWorker] = []

    def start(
        pool: str = "threads", slots: int = 8, *arguments: str, wait: bool = True, **environment: str
    ) -> CeleryTestWorker:
        # The grace is shorter than the time after which `teardown` kills.
        own = {"CHUNKSPOOL_REDIS_URL": url, "CHUNKSPOOL_PROVIDER": "scripted", "CHUNKSPOOL_DRAIN_GRACE": "5"}
        own.update(environment)
        command = WorkerCommand(f"worker-{len(workers)}", pool, slots, own, arguments)
        worker = CeleryTestWorker(WorkerProcess(command, tmp_path, url), app)
        workers.append(worker)
        assert not wait or worker.ready()
        return worker

    yield start
    for worker in workers:
        worker.container.ask_to_end()
    for worker in workers:
        worker.teardown()
    app.close()


@pytest.fixture(params=["threads", "prefork"])
def celery_worker(request: pytest.FixtureRequest, start_worker: StartWorker) -> CeleryTestWorker:
    """Provide a worker with four slots that runs the scripted provider, once on threads and once on prefork."""
    return start_worker(request.param, 4)


@pytest.fixture
def spool(redis_url: str) -> Iterator[Spool]:
    """Provide a web app's spool. It writes no questions: most tests look at what workers write."""
    with Spool.from_settings(Settings.checked({"redis_url": redis_url, "keep_messages": False})) as connected:
        yield connected


@pytest.fixture
def paced_model(tmp_path: Path) -> Iterator[ModelProcess]:
    """Provide a model server that sends what a request asks for, at its pace, and records every call."""
    model = ModelProcess.start(sys.executable, tmp_path)
    yield model
    model.stop()


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaServer]:
    """Provide a real llama.cpp server with a tiny random model, shared by all tests."""
    with LlamaServer(tmp_path_factory.mktemp("llama")) as server:
        yield server


@pytest.fixture(scope="session")
def llmock_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlmockServer]:
    """Run one llmock for all tests."""
    with LlmockServer(tmp_path_factory.mktemp("llmock")) as server:
        yield server


@pytest.fixture
def llmock_server(llmock_process: LlmockServer) -> LlmockServer:
    """Provide an llmock without earlier requests; its own pytest plugin would run it inside this process."""
    llmock_process.reset()
    return llmock_process
