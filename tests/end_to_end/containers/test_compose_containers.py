"""docker-compose.yml, unchanged: what its containers may do, when they are healthy, what they need to start."""

from __future__ import annotations

import json
import logging
import subprocess
from pathlib import Path

import pytest
from redis import AuthenticationError, Redis
from support.containers.compose import EXAMPLE, SECRETS, Stack, environment_without, fill_in
from support.containers.container_metrics import ask_prometheus
from support.containers.docker_engine import PROJECT, find_compose
from support.waiting import eventually

from chunkspool.demo.ports import LOOPBACK

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]
log = logging.getLogger(__name__)
OURS = ("web", "worker", "flower", "model")
SERVICES = ("redis", "prometheus", *OURS)
REQUIRED = ("REDIS_PASSWORD", "CHUNKSPOOL_TOKEN_SECRET", "FLOWER_BASIC_AUTH")
PATIENCE = 90.0
NO_CAPABILITY = "0000000000000000"


@pytest.mark.parametrize("service", SERVICES)
def test_a_container_can_do_nothing_but_its_work(stack: Stack, service: str) -> None:
    """No root, no capability, none to be gained, and a root file system that cannot be written."""
    status = dict(line.split(":", 1) for line in stack.execute(service, "cat", "/proc/1/status").splitlines())
    assert "0" not in status["Uid"].split() + status["Gid"].split()
    assert {status[name].strip() for name in ("CapEff", "CapPrm", "CapBnd")} == {NO_CAPABILITY}
    assert status["NoNewPrivs"].strip() == "1"
    # What they may write to is /tmp, and Redis and Prometheus their volumes.
    tried = "for folder in / /app /etc /usr/local /venv /var/tmp; do touch $folder/x 2>/dev/null && echo $folder; done"
    assert stack.execute(service, "sh", "-c", f"{tried}; touch /tmp/x") == ""


def test_the_image_can_neither_build_nor_install(stack: Stack) -> None:
    """No compiler, no pip, and nothing that pip has left behind."""
    search = "for name in pip pip3 cc gcc make; do command -v $name; done; find / -name pip -o -name ensurepip"
    assert stack.execute("web", "sh", "-c", f"({search}) 2>/dev/null; true") == ""


def test_the_processes_have_no_secret_in_their_arguments(stack: Stack) -> None:
    """Whoever lists a machine's processes sees no password."""
    for service in SERVICES:
        shown = stack.execute(service, "sh", "-c", "cat /proc/[0-9]*/cmdline 2>/dev/null; true")
        assert shown
        assert not [secret for secret in SECRETS.values() if secret in shown]


@pytest.mark.parametrize("password", [None, "wrong"])
def test_redis_wants_its_password(stack: Stack, password: str | None) -> None:
    """Who does not know it, reads nothing."""
    port = int(stack.variables["REDIS_PORT"])
    with Redis(LOOPBACK, port, password=password) as stranger, pytest.raises(AuthenticationError):
        stranger.ping()


@pytest.mark.parametrize("missing", [*REQUIRED, None])
def test_compose_wants_its_secrets(missing: str | None, tmp_path: Path) -> None:
    """A copy of .env.example starts nothing, nor does one where a secret is missing; the error says what to do."""
    given = {name: SECRETS[name] for name in REQUIRED if missing not in {None, name}}
    (tmp_path / ".env").write_text(fill_in(EXAMPLE, given))
    words = [*find_compose(), "--env-file", str(tmp_path / ".env"), "config", "--quiet"]
    environment = environment_without(EXAMPLE)
    done = subprocess.run(words, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)  # noqa: S603 - our own words
    assert done.returncode != 0
    assert f"set {missing or ''}" in done.stdout + done.stderr


@pytest.mark.parametrize("service", SERVICES)
def test_all_become_healthy(stack: Stack, service: str) -> None:
    """Each by a check of its own."""
    eventually(lambda: stack.health(service) == {"healthy"}, PATIENCE, 1)


def test_the_checks_notice_a_redis_that_stands_still(stack: Stack) -> None:
    """The web app's asks Redis, a worker's goes by way of the broker; Redis's own has to be answered."""
    stack.compose("pause", "redis")
    try:
        assert not stack.run_health_check("web")
        assert not stack.run_health_check("worker")
    finally:
        stack.compose("unpause", "redis")
    for service in ("redis", "web", "worker"):
        eventually(lambda name=service: stack.run_health_check(name), PATIENCE, 1)  # type: ignore[misc]


def test_prometheus_finds_every_worker(stack: Stack) -> None:
    """By the name that all of them have, and without a word in its configuration about how many there are."""
    eventually(
        lambda: ask_prometheus(stack, "sum by (job) (up)") == {"chunkspool-web": 1, "chunkspool-worker": 2}, PATIENCE, 1
    )


def test_the_doctor_finds_nothing_but_the_missing_tls(stack: Stack) -> None:
    """Examined from the web app's container, it is as an operator would have it; the network is the containers' own."""
    told = json.loads(stack.execute("web", "sh", "-c", "chunkspool doctor --json || true"))
    assert {finding["subject"] for finding in told if finding["level"] != "ok"} == {"tls"}, told
    assert {finding["group"] for finding in told} == {"redis", "broker", "workers", "web"}


def test_down_leaves_nothing(stack: Stack) -> None:
    """No container, no volume, no network. It is the last test: the others' containers are gone after it."""
    before = stack.find_leftovers()
    stack.compose("down", "--volumes")
    after = stack.find_leftovers()
    log.info("docker compose down --volumes: %d containers, volumes and networks, then %d", len(before), len(after))
    assert before
    assert after == []
