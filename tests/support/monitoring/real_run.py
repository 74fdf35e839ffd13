"""A deployment that is scraped, and what its users do: answers of every ending, readers, limits, a killed worker."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import httpx
from support.processes.nodes import PROJECT
from support.waiting import eventually

from chunkspool import Settings, Spool
from chunkspool.demo.ports import LOOPBACK, free_port, is_taken
from chunkspool.demo.process import Process

SHORT = {"script": [{"text": "word ", "repeat": 12}, {"usage": [40, 90]}], "pace": 0.02}
LONGER = {"script": [{"text": "word ", "repeat": 100}], "pace": 0.02}
ENDLESS = {"script": [{"text": "word ", "repeat": 100_000}], "pace": 0.02}
FAILURE = {"script": [{"text": "word "}, {"fail": {"code": "quota_exhausted", "message": "no money"}}]}
PASSING = {"script": [{"fail": {"code": "provider_unavailable", "message": "again", "retryable": True}}]}


@dataclass(slots=True)
class Deployment:
    """A web app and two workers on one Redis, each with its metrics."""

    url: str
    folder: Path
    token: str = field(default_factory=lambda: secrets.token_hex(32))
    web_port: int = field(default_factory=free_port)
    worker_ports: list[int] = field(default_factory=lambda: [free_port(), free_port()])
    web: Process | None = None
    workers: list[Process] = field(default_factory=list)

    @property
    def targets(self) -> dict[str, list[str]]:
        """The addresses of each job."""
        return {
            "chunkspool-web": [f"{LOOPBACK}:{self.web_port}"],
            "chunkspool-worker": [f"{LOOPBACK}:{port}" for port in self.worker_ports],
        }

    def start(self) -> None:
        """Start the processes; return when all listen. The first worker has threads, the second forks children."""
        # Before the first scrape, whose answer is kept for a while: outcomes wait for somebody.
        with (
            Spool.from_settings(Settings.checked({"redis_url": self.url})) as spool,
            spool.outcomes("archive", "nobody", until="drained") as outcomes,
        ):
            assert list(outcomes) == []
        serve = (sys.executable, "-m", "chunkspool.cli", "serve", "--open", "--port", str(self.web_port))
        self.web = Process.start("web", serve, self.folder, env=self._environment(), cwd=PROJECT)
        for number, (port, pool) in enumerate(zip(self.worker_ports, ("threads", "prefork"), strict=True)):
            celery = (sys.executable, "-m", "celery", "-A", "chunkspool.worker", "worker", "--loglevel=INFO")
            command = (*celery, "-P", pool, "-c", "4", "-n", f"{pool}@localhost")
            environment = self._environment(CHUNKSPOOL_METRICS_PORT=str(port))
            self.workers.append(Process.start(f"worker-{number}", command, self.folder, env=environment, cwd=PROJECT))
        for process, port in zip((self.web, *self.workers), (self.web_port, *self.worker_ports), strict=True):
            process.wait_until(lambda port=port: is_taken(port), 60)  # type: ignore[misc]

    def stop(self) -> None:
        """End them."""
        for process in (*self.workers, self.web):
            if process is not None:
                process.kill()

    def _environment(self, **own: str) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("CHUNKSPOOL_")}
        path = os.pathsep.join((str(PROJECT), str(PROJECT / "tests")))
        return {
            **kept,
            "PYTHONPATH": path,
            "CHUNKSPOOL_REDIS_URL": self.url,
            "CHUNKSPOOL_PROVIDER": "scripted",
            "CHUNKSPOOL_LEASE": "1",
            "CHUNKSPOOL_REDELIVERY": "3",
            "CHUNKSPOOL_METRICS_TOKEN": self.token,
            **own,
        }


@contextmanager
def run_deployment(url: str, folder: Path) -> Iterator[Deployment]:
    """Run it for the block."""
    deployment = Deployment(url, folder)
    try:
        deployment.start()
        yield deployment
    finally:
        deployment.stop()


class Users:
    """People who ask over HTTP, and a script that asks for what the web app lets nobody have: how an answer goes."""

    def __init__(self, deployment: Deployment) -> None:
        """Connect when they first ask."""
        self._deployment = deployment
        self._client = httpx.Client(base_url=f"http://{LOOPBACK}:{deployment.web_port}/v1/chats", timeout=20)
        self._spool = Spool.from_settings(Settings.checked({"redis_url": deployment.url}))

    def close(self) -> None:
        """Leave."""
        self._client.close()
        self._spool.close()

    def live(self) -> None:
        """Do all that a dashboard has panels for; return when everything has ended."""
        self._spool.set_policy(request_bytes=20_000)
        asked = [f"asked-{n}" for n in range(3)]
        for chat in asked:
            assert self._ask(chat, "one two three").status_code == 202
        scripted = {f"done-{n}": SHORT for n in range(4)} | {"failed": FAILURE, "tried": PASSING, "stopped": ENDLESS}
        for chat, params in scripted.items():
            self._spool.enqueue(chat, "x", params=params)
        assert self._ask("large", "x" * 30_000).status_code == 429
        assert "generation.completed" in self._client.get("/asked-0/events").text
        assert self._client.get("/nowhere/events").status_code == 404
        self._wait_for_text("stopped")
        assert self._client.post("/stopped/stop", json={}).status_code == 202
        self._wait_for_endings(*asked, *scripted)

    def lose_a_worker(self) -> None:
        """Have the first worker killed in the middle of answers; the other one continues them."""
        chats = [f"long-{n}" for n in range(6)]
        for chat in chats:
            self._spool.enqueue(chat, "x", params=LONGER)
        self._wait_for_text(*chats)
        self._deployment.workers[0].kill()
        self._wait_for_endings(*chats)

    def _ask(self, chat: str, prompt: str) -> httpx.Response:
        return self._client.post(f"/{chat}/generations", json={"prompt": prompt})

    def _wait_for_text(self, *chats: str) -> None:
        for chat in chats:
            eventually(partial(self._has_text, chat), 30)

    def _has_text(self, chat: str) -> bool:
        return any(entry.type == "text.delta" for entry in self._spool.read(chat, 0, 10))

    def _wait_for_endings(self, *chats: str) -> None:
        for chat in chats:
            eventually(partial(self._is_idle, chat), 60)

    def _is_idle(self, chat: str) -> bool:
        return not self._spool.status(chat).active
