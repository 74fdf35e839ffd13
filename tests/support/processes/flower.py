"""A real Flower beside a test's workers: started, asked, and read like a person does."""

from __future__ import annotations

import base64
import json
import os
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.processes.nodes import PROJECT
from support.waiting import eventually

from chunkspool.demo.ports import LOOPBACK, free_port, is_taken
from chunkspool.demo.process import Process

LOGIN = "somebody:secret"
CHUNKSPOOLS = ("-A", "chunkspool.worker")


@dataclass(frozen=True, slots=True)
class Flower:
    """A running Flower, with its API open to one user."""

    url: str

    def call(self, path: str, data: bytes | None = None) -> str:
        """Return what it answers."""
        login = base64.b64encode(LOGIN.encode()).decode()
        request = urllib.request.Request(f"{self.url}{path}", data, {"Authorization": f"Basic {login}"})  # noqa: S310 - http, loopback
        with urllib.request.urlopen(request, timeout=10) as reply:  # noqa: S310 - the same
            return str(reply.read().decode())

    def revoke(self, task_id: str, query: str = "") -> None:
        """Do what its button does."""
        self.call(f"/api/task/revoke/{task_id}{query}", b"")

    def task(self, task_id: str) -> dict[str, Any]:
        """Return what it knows of a task; nothing yet is empty."""
        found: dict[str, Any] = json.loads(self.call("/api/tasks")).get(task_id) or {}
        return found

    def wait_for(self, worker: str) -> None:
        """Wait until it has heard of a worker: it only knows the events since it connected."""
        eventually(lambda: f'flower_worker_online{{worker="{worker}' in self.call("/metrics"), 30)


@contextmanager
def run_flower(redis_url: str, folder: Path, *options: str, app: tuple[str, ...] = CHUNKSPOOLS) -> Iterator[Flower]:
    """Run it within the block. `app`: Celery's own options, which say what it loads."""
    port = free_port()
    command = [sys.executable, "-m", "celery", *app, "flower", f"--address={LOOPBACK}", f"--port={port}"]
    paths = os.pathsep.join((str(PROJECT), str(PROJECT / "tests")))
    environment = {"CHUNKSPOOL_REDIS_URL": redis_url, "PYTHONPATH": paths, "PATH": ""}
    command += [f"--basic-auth={LOGIN}", *options]
    process = Process.start("flower", command, folder, env=environment, cwd=PROJECT)
    try:
        process.wait_until(lambda: is_taken(port), 60)
        yield Flower(f"http://{LOOPBACK}:{port}")
        process.terminate()
    finally:
        process.kill()
