"""What tests do with a Docker engine; those that need one are skipped with the reason where there is none."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import pytest
from support.containers.own_engine import EngineMissing, ask, find_client

PROJECT = Path(__file__).parents[3]
IMAGE, REDIS_IMAGE = "chunkspool", "redis:8"
STAGES = {IMAGE: "chunkspool", "chunkspool-model": "model"}
"""The images that the Dockerfile makes, and the stage that each of them is."""
BASE_IMAGES = ("python:3.13-slim", REDIS_IMAGE, "prom/prometheus:v3")
HOST_NETWORK = ("--network", "host")
"""For a build: this machine's network is known to reach the package index."""


def run(*command: str, environment: Mapping[str, str] = os.environ) -> str:
    """Run a command; show its output if it fails."""
    done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)  # noqa: S603 - our own command lines
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@cache
def find_docker() -> str:
    """Return the client's path; skip the test if no engine answers or a base image is missing."""
    try:
        client = find_client()
    except EngineMissing as missing:
        pytest.skip(str(missing))
    for question in (("info",), *(("image", "inspect", image) for image in BASE_IMAGES)):
        if refusal := ask(*question):
            pytest.skip(f"docker {' '.join(question)}: {refusal}; `make docker` starts an engine and makes the images")
    return client


@cache
def find_compose() -> tuple[str, ...]:
    """Return the Compose command; skip the test if there is none."""
    client = find_docker()
    if ask("compose", "version") is None:
        return client, "compose"
    program = shutil.which("docker-compose")
    if program is None:
        pytest.skip("there is neither docker compose nor docker-compose")
    return (program,)


def build_images() -> None:
    """Build the Dockerfile's images."""
    environment = {**os.environ, "DOCKER_BUILDKIT": "0"}
    for image, stage in STAGES.items():
        build = ("build", *HOST_NETWORK, "--tag", image, "--target", stage, ".")
        run(find_docker(), *build, environment=environment)
