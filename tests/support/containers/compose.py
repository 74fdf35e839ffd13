"""The containers of docker-compose.yml, under a project name and on ports of their own."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from support.containers.docker_engine import build_worker_image, find_compose, find_docker, run

from chunkspool.demo.ports import LOOPBACK, free_port

PASSWORD = "hunter2"
LEFTOVERS = (("ps", "--all"), ("volume", "ls"), ("network", "ls"))
"""What lists everything that a project may leave behind."""


@dataclass(frozen=True, slots=True)
class Stack:
    """The containers of one project."""

    name: str
    variables: Mapping[str, str]
    password: str = field(default=PASSWORD, repr=False)

    @property
    def redis_url(self) -> str:
        """Redis, as it is reached from outside."""
        return f"redis://:{self.password}@{LOOPBACK}:{self.variables['REDIS_PORT']}/0"

    @property
    def flower_url(self) -> str:
        """Flower, as it is reached from outside."""
        return f"http://{LOOPBACK}:{self.variables['FLOWER_PORT']}"

    def compose(self, *words: str) -> str:
        """Run a command of Compose for this project; fail with its output if it fails."""
        environment = {**os.environ, **self.variables, "REDIS_PASSWORD": self.password}
        return run(*find_compose(), "--project-name", self.name, *words, environment=environment)

    def execute(self, service: str, *command: str) -> str:
        """Run a command in a service's container; return what it prints."""
        return self.compose("exec", "-T", service, *command)

    def inspect(self, service: str) -> dict[str, Any]:
        """Return what the engine knows of a service's container, running or not."""
        labels = {"project": self.name, "service": service}
        filters = [
            word for key, value in labels.items() for word in ("--filter", f"label=com.docker.compose.{key}={value}")
        ]
        (container,) = run(find_docker(), "ps", "--all", "--quiet", *filters).split()
        (found,) = json.loads(run(find_docker(), "inspect", container))
        return dict(found)

    def find_leftovers(self) -> list[str]:
        """Return the ids of all containers, volumes and networks of the project."""
        mine = ("--quiet", "--filter", f"label=com.docker.compose.project={self.name}")
        return [found for listing in LEFTOVERS for found in run(find_docker(), *listing, *mine).split()]


@contextmanager
def run_stack(**variables: str) -> Iterator[Stack]:
    """Build the image and start all services; everything is removed in the end."""
    ports = {"REDIS_PORT": str(free_port()), "FLOWER_PORT": str(free_port())}
    stack = Stack(f"chunkspool-test-{secrets.token_hex(4)}", {**ports, **variables})
    find_compose()
    build_worker_image()
    try:
        stack.compose("up", "--detach", "--no-build")
        yield stack
    finally:
        stack.compose("down", "--volumes")
