"""The containers of docker-compose.yml, under a project name and on ports of their own."""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.containers.docker_engine import PROJECT, build_images, find_compose, find_docker, run

from chunkspool.demo.ports import LOOPBACK, free_port

EXAMPLE = (PROJECT / ".env.example").read_text()
SECRETS = {
    "REDIS_PASSWORD": "hunter2",
    "CHUNKSPOOL_TOKEN_SECRET": "correct-horse-battery-staple-32-bytes",
    "FLOWER_BASIC_AUTH": "ann:tr0ub4dor",
    "CHUNKSPOOL_METRICS_TOKEN": "a-token-for-prometheus-of-32-bytes-or-more",
}
LEFTOVERS = (("ps", "--all"), ("volume", "ls"), ("network", "ls"))
"""What lists everything that a project may leave behind."""


@dataclass(frozen=True, slots=True)
class Stack:
    """The containers of one project."""

    name: str
    env_file: Path
    variables: Mapping[str, str] = field(repr=False)

    @property
    def redis_url(self) -> str:
        """Redis, as it is reached from outside."""
        return f"redis://:{self.variables['REDIS_PASSWORD']}@{LOOPBACK}:{self.variables['REDIS_PORT']}/0"

    def url(self, service: str) -> str:
        """Return where a web app is reached from outside."""
        return f"http://{LOOPBACK}:{self.variables[f'{service.upper()}_PORT']}"

    def compose(self, *words: str) -> str:
        """Run a command of Compose for this project; fail with its output if it fails."""
        command = (*find_compose(), "--project-name", self.name, "--env-file", str(self.env_file), *words)
        return run(*command, environment=environment_without(EXAMPLE))

    def execute(self, service: str, *command: str) -> str:
        """Run a command in a service's first running container; return what it prints."""
        return run(find_docker(), "exec", self._find_running(service), *command)

    def inspect(self, service: str) -> list[dict[str, Any]]:
        """Return what the engine knows of a service's containers, running or not."""
        containers = self._find(service, "--all")
        found: list[dict[str, Any]] = json.loads(run(find_docker(), "inspect", *containers))
        return found

    def health(self, service: str) -> set[str]:
        """Return what the health checks of a service's running containers have found."""
        states = (container["State"] for container in self.inspect(service))
        return {state["Health"]["Status"] for state in states if state["Running"]}

    def run_health_check(self, service: str) -> bool:
        """Run the health check of a service's first container there, now; tell whether it is content."""
        kind, *words = self.inspect(service)[0]["Config"]["Healthcheck"]["Test"]
        command = ("sh", "-c", *words) if kind == "CMD-SHELL" else words
        check = [find_docker(), "exec", self._find_running(service), *command]
        return subprocess.run(check, capture_output=True, check=False).returncode == 0  # noqa: S603 - the file's own words

    def kill(self, hostname: str) -> None:
        """Kill the container of this name, as `docker kill` does: without a word to its processes."""
        run(find_docker(), "kill", hostname)

    def find_leftovers(self) -> list[str]:
        """Return the ids of all containers, volumes and networks of the project."""
        mine = ("--quiet", "--filter", f"label=com.docker.compose.project={self.name}")
        return [found for listing in LEFTOVERS for found in run(find_docker(), *listing, *mine).split()]

    def _find_running(self, service: str) -> str:
        return self._find(service)[0]

    def _find(self, service: str, *options: str) -> list[str]:
        labels = {"project": self.name, "service": service}
        filters = [
            word for key, value in labels.items() for word in ("--filter", f"label=com.docker.compose.{key}={value}")
        ]
        return run(find_docker(), "ps", "--quiet", *options, *filters).split()


@contextmanager
def run_stack(services: Mapping[str, int], variables: Mapping[str, str]) -> Iterator[Stack]:
    """Build the images and start so many containers of each service; everything is removed in the end.

    The variables are filled into a copy of `.env.example`.
    """
    ports = {f"{name}_PORT": str(free_port()) for name in ("REDIS", "WEB", "FLOWER", "PROMETHEUS")}
    all_variables = {**SECRETS, **ports, **variables}
    find_compose()
    build_images()
    with tempfile.TemporaryDirectory(prefix="compose-") as folder:
        env_file = Path(folder, ".env")
        env_file.write_text(fill_in(EXAMPLE, all_variables))
        stack = Stack(f"chunkspool-test-{secrets.token_hex(4)}", env_file, all_variables)
        scales = [word for name, count in services.items() for word in ("--scale", f"{name}={count}")]
        try:
            stack.compose("up", "--detach", "--no-build", *scales, *services)
            yield stack
        finally:
            stack.compose("down", "--volumes")


def fill_in(example: str, variables: Mapping[str, str]) -> str:
    """Return the example with these values, as a person would write them. Fails for a variable that is not in it."""
    text = example
    for name, value in variables.items():
        # The last one: the model's server stands there once for each of the three ways.
        *_, line = re.finditer(rf"^#?{name}=.*$", text, re.MULTILINE)
        text = f"{text[: line.start()]}{name}={value}{text[line.end() :]}"
    return text


def environment_without(example: str) -> dict[str, str]:
    """Return this process's environment without the example's variables, which would win over the file."""
    names = set(re.findall(r"^#?([A-Z_]+)=", example, re.MULTILINE))
    return {name: value for name, value in os.environ.items() if name not in names}
