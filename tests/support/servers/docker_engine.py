"""A Docker engine, if there is one: tests that need it are skipped with the reason otherwise."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[3]
WORKER_IMAGE, REDIS_IMAGE = "chunkspool-worker", "redis:8"
BASE_IMAGES = ("python:3.13-slim", REDIS_IMAGE)


def run(*command: str, environment: Mapping[str, str] = os.environ) -> str:
    """Run a command; show its output if it fails."""
    done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)  # noqa: S603 - our own command lines
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def find_docker() -> str:
    """Return the client's path; skip the test if no engine answers or a base image is missing."""
    found = shutil.which("docker")
    if found is None:
        pytest.skip("docker is not on PATH")
    for question in (("info",), *(("image", "inspect", image) for image in BASE_IMAGES)):
        asked = subprocess.run([found, *question], capture_output=True, text=True, check=False)  # noqa: S603 - fixed words
        if asked.returncode != 0:
            pytest.skip(f"docker {' '.join(question)}: {(asked.stderr or asked.stdout).strip().splitlines()[-1]}")
    return found


def find_compose() -> tuple[str, ...]:
    """Return the Compose command; skip the test if there is none."""
    client = find_docker()
    if subprocess.run([client, "compose", "version"], capture_output=True, check=False).returncode == 0:  # noqa: S603 - fixed words
        return client, "compose"
    program = shutil.which("docker-compose")
    if program is None:
        pytest.skip("there is neither docker compose nor docker-compose")
    return (program,)


def build_worker_image() -> None:
    """Build the Dockerfile's image on the host's network, which is known to reach the package index."""
    environment = {**os.environ, "DOCKER_BUILDKIT": "0"}
    run(find_docker(), "build", "--network", "host", "--tag", WORKER_IMAGE, ".", environment=environment)
