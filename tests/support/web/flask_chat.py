"""Runs the Flask example in processes: its servers and its worker."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import httpx
from support.processes.nodes import PROJECT
from support.web.app_server import AppServer

from chunkspool.demo.ports import LOOPBACK, free_port, is_taken
from chunkspool.demo.process import Process

THREADS = 3
"""Streams that a server can have open in most of these tests."""
APP = "examples.flask_chat:create_app()"
SERVERS = ("gthread", "gevent")
_COUNTED = {"gthread": "--threads", "gevent": "--worker-connections"}


@dataclass(frozen=True, slots=True)
class FlaskProject:
    """The example, and the environment of its processes."""

    folder: Path
    environment: Mapping[str, str]

    @classmethod
    def make(cls, folder: Path, redis_url: str, **environment: str) -> Self:
        """Let it use this Redis."""
        own = {"CHUNKSPOOL_REDIS_URL": redis_url, "CELERY_BROKER_URL": redis_url, "CHUNKSPOOL_PROVIDER": "scripted"}
        own["CHUNKSPOOL_KEEP_MESSAGES"] = "false"  # the tests count seqs
        path = os.pathsep.join((str(PROJECT), str(PROJECT / "tests")))
        more = {"PYTHONPATH": path, "FLASK_SECRET_KEY": "made-up", **environment}
        return cls(folder, {**os.environ, **own, **more})

    def start_worker(self, slots: int = 4) -> Process:
        """Start a worker by the command in the example's docstring."""
        command = (sys.executable, "-m", "celery", "-A", "examples.flask_chat.celery_app", "worker", "-Q", "chunkspool")
        worker = self._start("worker", (*command, "-P", "threads", "-c", str(slots), "--loglevel=INFO"))
        worker.wait_until(lambda: " ready." in worker.log.read_bytes()[worker.log_start :].decode(), 60)
        return worker

    def start_server(self, kind: str, *, port: int = 0, threads: int = THREADS, app: str = APP) -> AppServer:
        """Start a server by the command in the example's docstring, but for the number of streams."""
        port = port or free_port()
        command = (
            sys.executable,
            "-m",
            "gunicorn",
            "-k",
            kind,
            _COUNTED[kind],
            str(threads),
            "--graceful-timeout",
            "5",
        )
        process = self._start("gunicorn", (*command, "--bind", f"{LOOPBACK}:{port}", "--no-control-socket", app))
        process.wait_until(lambda: is_taken(port), 60)
        return AppServer(process, kind, port)

    def _start(self, name: str, command: Sequence[str]) -> Process:
        return Process.start(name, command, self.folder, env=self.environment, cwd=PROJECT)


def log_in(client: httpx.Client, name: str) -> None:
    """Log in."""
    assert client.post("/login", json={"name": name}).status_code == 200
