"""pytest-celery's own Docker nodes: a broker and a worker in containers, driven from outside."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from celery import Celery
from pytest_celery import CeleryTestWorker, CeleryWorkerContainer, RedisContainer
from pytest_docker_tools import container, fxtr
from support.chats.spools import spool_for
from support.containers.docker_engine import IMAGE, REDIS_IMAGE, build_images

from chunkspool import fold

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]


class DockerBroker(RedisContainer):
    """Redis in a container of pytest-celery."""


class DockerWorker(CeleryWorkerContainer):
    """A worker in a container of the Dockerfile's image."""

    @classmethod
    def worker_name(cls) -> str:
        """Return the node's name."""
        return "docker"


@pytest.fixture(scope="session", autouse=True)
def engine() -> None:
    """Build the image. Without an engine, skip before another fixture needs one."""
    build_images()


@pytest.fixture
def worker_environment(broker: RedisContainer) -> dict[str, str]:
    """Point the worker to the broker's container."""
    return {"CHUNKSPOOL_REDIS_URL": broker.celeryconfig["url"], "CHUNKSPOOL_PROVIDER": "scripted"}


broker = container(
    image=REDIS_IMAGE,
    ports={"6379/tcp": None},
    network="{default_pytest_celery_network.name}",
    wrapper_class=DockerBroker,
    command=RedisContainer.command(),
    timeout=60,
)
CELERY = ("celery", "-A", "chunkspool.worker")
worker = container(
    image=IMAGE,
    environment=fxtr("worker_environment"),
    network="{default_pytest_celery_network.name}",
    wrapper_class=DockerWorker,
    command=[*CELERY, "worker", "-P", "threads", "-c", "4", "-n", "docker@%h", "--loglevel=INFO"],
    timeout=60,
)


@pytest.fixture
def url(broker: RedisContainer) -> str:
    """Give the broker's URL for this process, which may itself be in a container."""
    host, port = broker.get_addr("6379/tcp")
    return f"redis://{host}:{port}/0"


@pytest.fixture
def node(worker: DockerWorker, url: str) -> Iterator[CeleryTestWorker]:
    """Give the worker as pytest-celery's node."""
    with Celery("tests", broker=url, set_as_current=False) as app:
        yield CeleryTestWorker(worker, app)


def test_a_worker_in_a_container_answers(node: CeleryTestWorker, url: str) -> None:
    """Enqueued outside, written inside, read outside; the worker's log shows ids and no prompt."""
    with spool_for(url) as spool:
        asked = spool.enqueue("chat", "a secret question")
        with spool.subscribe("chat", until=asked.generation_id) as entries:
            answer = fold(entry.event for entry in entries)[0]
    assert (answer.text, answer.state) == ("You said: a secret question", "completed")
    node.assert_log_exists(asked.generation_id)
    assert "secret" not in node.logs()
