"""The container: its packages are those of constraints.txt, by hash; its Redis has a password or does not start."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml

PROJECT = Path(__file__).parents[2]
LOCKED = (PROJECT / "requirements-container.txt").read_text()
PINNED = re.compile(r"^(\S+)==(\S+) \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", re.MULTILINE)


def normal(name: str) -> str:
    """Return a package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_versions_are_those_that_are_tested() -> None:
    """Each line of requirements-container.txt agrees with constraints.txt; after a change: make lock."""
    lines = (line.split("==") for line in (PROJECT / "constraints.txt").read_text().splitlines())
    tested = {normal(name): version for name, version in lines}
    locked = {normal(name): version for name, version, _ in PINNED.findall(LOCKED)}
    assert locked
    assert {name: tested.get(name) for name in locked} == locked


def test_everything_has_its_hashes_and_no_address() -> None:
    """The file has requirements with hashes, and nothing else: no index, no URL, no option."""
    left = PINNED.sub("", LOCKED)
    assert [line for line in left.splitlines() if not line.startswith("# ")] == []
    assert "://" not in LOCKED


def test_it_has_what_worker_and_flower_require() -> None:
    """By pyproject.toml: the library, the extra `worker`, and Flower."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["worker"], "flower"]
    names = {normal(re.split(r"[\[<>=]", one)[0]) for one in wanted}
    assert names <= {normal(name) for name, _, _ in PINNED.findall(LOCKED)}


def test_the_image_installs_nothing_else() -> None:
    """One pip, with hashes and wheels only; what it copies is let through to the build."""
    text = (PROJECT / "Dockerfile").read_text()
    (run,) = re.findall(r"^RUN (.+)$", text, re.MULTILINE)
    assert {"--require-hashes", "--only-binary", "requirements-container.txt"} <= set(run.split())
    copied = {source for line in re.findall(r"^COPY (.+)$", text, re.MULTILINE) for source in line.split()[:-1]}
    assert {f"!{one}" for one in copied} <= set((PROJECT / ".dockerignore").read_text().split())
    assert "USER nobody" in text


@pytest.fixture
def services() -> dict[str, dict[str, object]]:
    """Give the services of docker-compose.yml."""
    found: dict[str, dict[str, object]] = yaml.safe_load((PROJECT / "docker-compose.yml").read_text())["services"]
    return found


def test_redis_does_not_start_without_a_password(services: dict[str, dict[str, object]]) -> None:
    """Compose refuses the file without REDIS_PASSWORD; all services use it, and the ports are this machine's."""
    required = "${REDIS_PASSWORD:?"
    redis, worker, flower = (services[name] for name in ("redis", "worker", "flower"))
    assert '--requirepass "$$REDIS_PASSWORD"' in str(redis["command"])
    for service in (redis, worker, flower):
        assert required in str(service["environment"])
        assert all(str(port).startswith("127.0.0.1:") for port in service.get("ports", ()))  # type: ignore[attr-defined]
    assert "protected-mode" not in str(redis["command"])


def test_no_container_has_rights_that_it_does_not_use(services: dict[str, dict[str, object]]) -> None:
    """Nor can one gain them. tests/end_to_end/containers looks at what an engine makes of it."""
    for name, service in services.items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["read_only"] is True, name
    assert services["redis"]["user"] == "redis"
