"""docker-compose.yml, unchanged: Redis, worker and Flower in containers, an answer read from outside."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest
from support.chats.spools import spool_for
from support.servers.docker_engine import build_worker_image, find_compose, run
from support.waiting import eventually

from chunkspool import fold
from chunkspool.demo.ports import LOOPBACK, free_port

PATIENCE = 60.0
PASSWORD = "hunter2"


@dataclass(frozen=True, slots=True)
class Composed:
    """The URLs of the containers."""

    redis_url: str
    flower_url: str


@pytest.fixture
def composed() -> Iterator[Composed]:
    """Build the image and start the containers, under a project name of their own."""
    project = (*find_compose(), "--project-name", f"chunkspool-test-{os.getpid()}")
    redis, flower = free_port(), free_port()
    environment = {
        **os.environ,
        "CHUNKSPOOL_PROVIDER": "scripted",
        "REDIS_PASSWORD": PASSWORD,
        "REDIS_PORT": str(redis),
        "FLOWER_PORT": str(flower),
    }
    build_worker_image()
    try:
        run(*project, "up", "--detach", "--no-build", environment=environment)
        yield Composed(f"redis://:{PASSWORD}@{LOOPBACK}:{redis}/0", f"http://{LOOPBACK}:{flower}")
    finally:
        run(*project, "down", "--volumes", environment=environment)


def flower_is_up(url: str) -> bool:
    """Tell whether Flower answers."""
    try:
        return httpx.get(f"{url}/healthcheck", timeout=5).text == "OK"
    except httpx.TransportError:
        return False


@pytest.mark.docker
@pytest.mark.timeout(600)
def test_an_answer_comes_out_of_the_containers(composed: Composed) -> None:
    """Enqueued from outside, run by the worker's container, read from outside; Flower answers."""
    with spool_for(composed.redis_url) as spool:
        asked = spool.enqueue("chat", "hello")
        with spool.subscribe("chat", until=asked.generation_id) as entries:
            answer = fold(entry.event for entry in entries)[0]
    assert (answer.text, answer.state) == ("You said: hello", "completed")
    eventually(lambda: flower_is_up(composed.flower_url), PATIENCE)
