"""The Celery task in a worker inside this process (celery.contrib): which messages it requeues."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from celery import Celery
from celery.contrib.testing.worker import start_worker
from celery.signals import task_received
from redis import Redis
from support.servers.contents import list_keys
from support.servers.redis_server import PrivateServer, embedded_server
from support.waiting import eventually

from chunkspool import Settings, Spool
from chunkspool.tasks import celery_tasks


@pytest.fixture
def celery_includes() -> list[str]:
    """Load the task into the app of the fixture `celery_app`."""
    return [celery_tasks.__name__]


@pytest.fixture
def celery_config() -> dict[str, str]:
    """Use a broker in memory, so that only the log's Redis is unreachable when the test stops it."""
    return {"broker_url": "memory://", "task_default_queue": "chunkspool"}


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PrivateServer]:
    """Give a Redis that keeps its data across a restart, and point the worker to it."""
    with embedded_server(tmp_path, appendonly=True) as own:
        monkeypatch.setenv("CHUNKSPOOL_REDIS_URL", own.url)
        monkeypatch.setenv("CHUNKSPOOL_PROVIDER", "scripted")
        yield own
        # The worker of celery.contrib sends no worker_shutdown, and this process has more tests to run.
        celery_tasks.close()


def test_a_generation_waits_while_redis_is_unreachable(server: PrivateServer, celery_app: Celery) -> None:
    """While the log's Redis is down, the message goes back to the queue; afterwards the generation runs, once."""
    received: list[str] = []
    task_received.connect(lambda request, **_: received.append(request.id), weak=False, dispatch_uid="test")
    settings = Settings.checked({"redis_url": server.url})
    with Redis.from_url(server.url) as client, Spool(client, celery_app, settings=settings) as spool:
        asked = spool.enqueue("chat", "hello")
        server.stop()
        with start_worker(celery_app, pool="threads", concurrency=2, perform_ping_check=False):
            eventually(lambda: received.count(asked.generation_id) >= 2, 30)
            server.start()
            with spool.subscribe("chat") as entries:
                types = [entry.type for entry in entries]
    assert types.count("generation.started") == 1
    assert types[-1] == "generation.completed"
    task_received.disconnect(dispatch_uid="test")


def test_a_task_of_an_erased_chat_does_nothing(server: PrivateServer, celery_app: Celery) -> None:
    """The chat was erased while the message waited: the task says so, and the message is not requeued."""
    settings = Settings.checked({"redis_url": server.url})
    with Redis.from_url(server.url) as client, Spool(client, celery_app, settings=settings) as spool:
        asked = spool.enqueue("chat", "hello")
        spool.erase("chat")
        shell = celery_app.tasks["chunkspool.generate"]
        assert shell("default", "chat", asked.generation_id) == {"chat": "chat", "state": "gone"}
        assert list_keys(client) == []
