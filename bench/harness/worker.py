"""Starts a real worker on the environment's server."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import psutil
from celery import Celery

from bench.harness.environment import Environment
from chunkspool.demo.process import Process
from chunkspool.settings import variable_of

ROOT = Path(__file__).parents[2]
CELERY = (sys.executable, "-m", "celery", "-A", "chunkspool.worker")
PATIENCE = 60.0


@contextmanager
def start_worker(
    environment: Environment, pool: str, slots: int, settings: Mapping[str, str]
) -> Iterator[psutil.Process]:
    """Start a worker and wait until it answers; it is ended afterwards. `settings`: field → value."""
    node = f"{pool}-{environment.new_name()}@localhost"
    command = (*CELERY, "worker", "-P", pool, "-c", str(slots), "-n", node, "--loglevel=WARNING", "--without-gossip")
    process = Process.start(
        f"worker-{pool}", command, environment.folder / "logs", env=environment_of(environment, settings), cwd=ROOT
    )
    try:
        process.wait_until(partial(answers_ping, environment.url, node), PATIENCE)
        yield psutil.Process(process.pid)
    finally:
        process.terminate()


def environment_of(environment: Environment, settings: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of a process that uses the environment's server."""
    own = {"redis_url": environment.url, "drain_grace": "5", **settings}
    return {**os.environ, **{variable_of(field): value for field, value in own.items()}}


def answers_ping(broker: str, node: str) -> bool:
    """Tell whether a worker is ready."""
    with Celery("bench", broker=broker, set_as_current=False) as app:
        return bool(app.control.ping(destination=[node], timeout=0.2))


def cpu_seconds(process: psutil.Process) -> float:
    """Return the CPU seconds that a process has used, its own and the kernel's for it."""
    times = process.cpu_times()
    return float(times.user + times.system)
