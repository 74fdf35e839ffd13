"""docker-compose.yml as it stands: Redis, worker and Flower in containers, an answer read from outside."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import httpx
import pytest
from support.nodes import PROJECT
from support.spools import spool_for
from support.waiting import eventually

from chunkspool import fold
from demo.ports import LOOPBACK, free_port

IMAGES = ("python:3.13-slim", "redis:8")
PATIENCE = 60.0


@dataclass(frozen=True, slots=True)
class Composed:
    """Where the containers are reached."""

    redis_url: str
    flower_url: str


def run(*command: str, environment: Mapping[str, str] = os.environ) -> str:
    """Run a command; its output is shown if it fails."""
    done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)  # noqa: S603 - our own command lines
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def compose_command() -> tuple[str, ...]:
    """Return how Compose is called here; skip the test where there is none, or no engine, or no image."""
    docker = shutil.which("docker")
    if docker is None:
        pytest.skip("docker is not on PATH")
    for question in (("info",), *(("image", "inspect", image) for image in IMAGES)):
        asked = subprocess.run([docker, *question], capture_output=True, text=True, check=False)  # noqa: S603 - fixed words
        if asked.returncode != 0:
            pytest.skip(f"docker {' '.join(question)}: {(asked.stderr or asked.stdout).strip().splitlines()[-1]}")
    if subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode == 0:  # noqa: S603 - fixed words
        return docker, "compose"
    program = shutil.which("docker-compose")
    if program is None:
        pytest.skip("there is neither docker compose nor docker-compose")
    return (program,)


@pytest.fixture
def composed() -> Iterator[Composed]:
    """Build the image and run the file under a project name of its own."""
    compose = (*compose_command(), "--project-name", f"chunkspool-test-{os.getpid()}")
    redis, flower = free_port(), free_port()
    environment = {
        **os.environ,
        "DOCKER_BUILDKIT": "0",
        "CHUNKSPOOL_PROVIDER": "scripted",
        "REDIS_PORT": str(redis),
        "FLOWER_PORT": str(flower),
    }
    # On the host's network, which is the one that is known to reach the package index.
    run("docker", "build", "--network", "host", "--tag", "chunkspool-worker", ".", environment=environment)
    try:
        run(*compose, "up", "--detach", "--no-build", environment=environment)
        yield Composed(f"redis://{LOOPBACK}:{redis}/0", f"http://{LOOPBACK}:{flower}")
    finally:
        run(*compose, "down", "--volumes", environment=environment)


def flower_is_up(url: str) -> bool:
    """Tell whether Flower answers."""
    try:
        return httpx.get(f"{url}/healthcheck", timeout=5).text == "OK"
    except httpx.TransportError:
        return False


@pytest.mark.docker
@pytest.mark.timeout(600)
def test_an_answer_comes_out_of_the_containers(composed: Composed) -> None:
    """Enqueued from outside, run by the worker's container, read from outside; Flower is there."""
    with spool_for(composed.redis_url) as spool:
        asked = spool.enqueue("chat", "hello")
        with spool.subscribe("chat", until=asked.id) as entries:
            answer = fold(entry.event for entry in entries)[0]
    assert (answer.text, answer.state) == ("You said: hello", "completed")
    eventually(lambda: flower_is_up(composed.flower_url), PATIENCE)
