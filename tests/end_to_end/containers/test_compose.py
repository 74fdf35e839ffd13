"""docker-compose.yml, unchanged: Redis, worker and Flower in containers, an answer read from outside."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import httpx
import pytest
from redis import AuthenticationError, Redis
from support.chats.spools import spool_for
from support.containers.compose import Stack, run_stack
from support.containers.docker_engine import PROJECT, find_compose
from support.processes import command
from support.waiting import eventually

from chunkspool import fold
from chunkspool.demo.ports import LOOPBACK

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]
SERVICES = ("redis", "worker", "flower")
PATIENCE = 60.0
NO_CAPABILITY = "0000000000000000"


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """Build the image and start the containers, with a model that needs no key."""
    with run_stack(CHUNKSPOOL_PROVIDER="scripted") as running:
        yield running


def flower_is_up(url: str) -> bool:
    """Tell whether Flower answers."""
    try:
        return httpx.get(f"{url}/healthcheck", timeout=5).text == "OK"
    except httpx.TransportError:
        return False


def test_an_answer_comes_out_of_the_containers(stack: Stack) -> None:
    """Asked by the command line, run by the worker's container, read outside; Flower answers."""
    done = command.run(stack.redis_url, "ask", "chat", "hello")
    assert (done.returncode, done.stdout.strip()) == (0, "You said: hello"), done.stderr
    eventually(lambda: flower_is_up(stack.flower_url), PATIENCE)


@pytest.mark.parametrize("password", [None, "wrong"])
def test_redis_wants_its_password(stack: Stack, password: str | None) -> None:
    """Who does not know it, reads nothing."""
    with (
        Redis(LOOPBACK, int(stack.variables["REDIS_PORT"]), password=password) as stranger,
        pytest.raises(AuthenticationError),
    ):
        stranger.ping()


def test_compose_wants_a_password(stack: Stack) -> None:
    """Without one nothing starts, and the error says what to do."""
    environment = {name: value for name, value in os.environ.items() if name != "REDIS_PASSWORD"}
    words = [*find_compose(), "--project-name", f"{stack.name}-open", "up", "--detach", "--no-build"]
    done = subprocess.run(words, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)  # noqa: S603 - our own words
    assert done.returncode != 0
    assert "openssl rand -hex 24" in done.stdout + done.stderr


@pytest.mark.parametrize("service", SERVICES)
def test_a_container_can_do_nothing_but_its_work(stack: Stack, service: str) -> None:
    """No root, no capability, none to be gained, and a root file system that cannot be written."""
    status = dict(line.split(":", 1) for line in stack.execute(service, "cat", "/proc/1/status").splitlines())
    assert "0" not in status["Uid"].split() + status["Gid"].split()
    assert {status[name].strip() for name in ("CapEff", "CapPrm", "CapBnd")} == {NO_CAPABILITY}
    assert status["NoNewPrivs"].strip() == "1"
    # What they may write to is /tmp, and Redis its volume.
    tried = "for folder in / /app /etc /usr/local /var/tmp; do touch $folder/x 2>/dev/null && echo $folder; done; true"
    assert stack.execute(service, "sh", "-c", tried) == ""
    stack.execute(service, "touch", "/tmp/x")  # noqa: S108 - in the container


def test_the_processes_have_no_secret_in_their_arguments(stack: Stack) -> None:
    """Whoever lists a machine's processes sees no password."""
    for service in SERVICES:
        assert stack.password not in stack.execute(service, "sh", "-c", "cat /proc/[0-9]*/cmdline 2>/dev/null; true")


def test_a_worker_that_is_stopped_ends_its_answer(stack: Stack) -> None:
    """It is told by the engine, ends within its grace, and exits with 0."""
    script = [{"text": "slow "}, {"wait": 2}, {"text": "but whole"}]
    with spool_for(stack.redis_url) as spool:
        asked = spool.enqueue("stopped", "hello", params={"script": script})
        with spool.subscribe("stopped", until=asked.generation_id) as entries:
            seen = [next(entry.event for entry in entries if entry.event.type == "text.delta")]
            stack.compose("stop", "worker")
            seen += [entry.event for entry in entries]
        assert seen[-1].type == "generation.completed"
        assert fold(entry.event for entry in spool.read("stopped"))[0].text == "slow but whole"
    assert stack.inspect("worker")["State"]["ExitCode"] == 0
    stack.compose("start", "worker")


def test_a_log_outlives_its_redis(stack: Stack) -> None:
    """The container's user can write the volume, and the log is read from it after a restart."""
    with spool_for(stack.redis_url) as spool:
        asked = spool.enqueue("kept", "hello")
        with spool.subscribe("kept", until=asked.generation_id) as entries:
            before = [entry.event for entry in entries]
        stack.compose("restart", "redis")
        assert [entry.event for entry in spool.read("kept")] == before


def test_down_leaves_nothing(stack: Stack) -> None:
    """No container, no volume, no network. It is the last test: the others' containers are gone after it."""
    assert stack.find_leftovers()
    stack.compose("down", "--volumes")
    assert stack.find_leftovers() == []
