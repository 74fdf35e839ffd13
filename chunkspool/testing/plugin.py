"""The pytest plugin: a spool on an embedded server, a scripted model, and a worker in the test's process.

pytest loads it with every run of everybody who has it installed, so nothing is imported before a fixture is used.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:  # see above
    from celery import Celery

    from chunkspool import Settings, Spool
    from chunkspool.testing.model import ScriptedModel
    from chunkspool.testing.worker import Worker


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line(
        "markers", "chunkspool(**settings): settings of this test, such as task='yours.answer' (chunkspool)"
    )


@pytest.fixture(scope="session")
def chunkspool_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Give the URL of a Redis for the session, on a free loopback port: never the one of your environment."""
    from chunkspool.testing.server import run_server  # noqa: PLC0415 - see above

    with run_server(tmp_path_factory.mktemp("chunkspool")) as url:
        yield url


@pytest.fixture
def chunkspool_settings(chunkspool_server: str, request: pytest.FixtureRequest) -> Settings:
    """Give the settings of the test: the defaults and those of its marker, never the environment's."""
    from chunkspool.settings import Settings  # noqa: PLC0415 - see above

    name = secrets.token_hex(8)
    values: dict[str, object] = {"redis_url": chunkspool_server, "provider": "scripted"}
    # Of its own, so that no two tests meet: neither in memory nor in Redis.
    values |= {"queue": f"testing-{name}", "tenant": f"testing-{name}", "flush_interval": 0.005}
    for marker in reversed(list(request.node.iter_markers("chunkspool"))):
        values |= marker.kwargs
    return Settings.checked(values)


@pytest.fixture
def chunkspool_broker(chunkspool_settings: Settings) -> Iterator[Celery]:
    """Give a Celery app whose broker is this process's memory: spools of the test send through it."""
    from chunkspool.testing.broker import memory_app  # noqa: PLC0415 - see above

    with memory_app(chunkspool_settings.worker.queue) as app:
        yield app


@pytest.fixture
def chunkspool_app(chunkspool_broker: Celery) -> Celery:
    """Give the Celery app whose tasks the worker runs. Override it to give yours; its broker is left alone."""
    return chunkspool_broker


@pytest.fixture
def chunkspool_spool(chunkspool_settings: Settings, chunkspool_broker: Celery) -> Iterator[Spool]:
    """Give a spool, as your web app has one. Without `chunkspool_worker`, what it enqueues stays queued."""
    from chunkspool.spool.sync import Spool  # noqa: PLC0415 - see above

    with Spool.from_settings(chunkspool_settings, celery_app=chunkspool_broker) as spool:
        yield spool


@pytest.fixture
def chunkspool_model() -> ScriptedModel:
    """Give the model of `chunkspool.generate`: it says what `will_say` was given, else it repeats the question."""
    from chunkspool.testing.model import ScriptedModel  # noqa: PLC0415 - see above

    return ScriptedModel()


@pytest.fixture
def chunkspool_worker(
    chunkspool_settings: Settings, chunkspool_broker: Celery, chunkspool_app: Celery, chunkspool_model: ScriptedModel
) -> Iterator[Worker]:
    """Run a worker on threads of this process: it runs what is enqueued, by your tasks or the model."""
    from chunkspool.testing.worker import run_worker  # noqa: PLC0415 - see above

    with run_worker(chunkspool_settings, chunkspool_broker, chunkspool_app, chunkspool_model) as worker:
        yield worker
