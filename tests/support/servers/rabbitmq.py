"""Run Debian's RabbitMQ as a separate process with its own node, ports and folder, as any user."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from kombu import Connection
from support.servers.redis_server import ServerMissing

from chunkspool.demo.ports import LOOPBACK, free_port, is_taken
from chunkspool.demo.process import Process

# Not the one on PATH, which is a wrapper that only root or the service's user may run.
PROGRAM = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
READY_SECONDS = 90
MISSING = "rabbitmq-server is not installed; apt-get install rabbitmq-server brings it"


@dataclass(frozen=True, slots=True)
class RabbitServer:
    """A running RabbitMQ."""

    port: int
    process: Process

    @property
    def url(self) -> str:
        """The URL for Celery."""
        return f"amqp://guest:guest@{LOOPBACK}:{self.port}//"

    @property
    def kind(self) -> str:
        """`rabbitmq-server`."""
        return PROGRAM.name

    @property
    def alive(self) -> bool:
        """Whether its process runs (also if paused)."""
        return self.process.alive

    def pause(self) -> None:
        """Freeze the process: connections stay open and silent."""
        self.process.send(signal.SIGSTOP)

    def resume(self) -> None:
        """Continue after `pause`."""
        self.process.send(signal.SIGCONT)


@contextmanager
def rabbitmq_server(folder: Path) -> Iterator[RabbitServer]:
    """Start it; provide it once it accepts connections. Raises `ServerMissing`. Only call this in the main thread."""
    epmd = shutil.which("epmd")
    if not PROGRAM.exists() or epmd is None:
        raise ServerMissing(MISSING)
    port, node_port, epmd_port = free_port(), free_port(), free_port()
    with ExitStack() as running:
        # Erlang's node registry: if none runs, RabbitMQ would start one that outlives it.
        epmd_process = Process.start("epmd", [epmd, "-port", str(epmd_port), "-address", LOOPBACK], folder)
        running.callback(epmd_process.kill)
        epmd_process.wait_until(lambda: is_taken(epmd_port), READY_SECONDS)
        environment = {**os.environ, **_environment(folder, port, node_port, epmd_port)}
        server = Process.start("rabbitmq", [str(PROGRAM)], folder, env=environment, cwd=folder)
        # Killed, because an orderly end would spend time on data that nobody needs.
        running.callback(server.kill)
        rabbit = RabbitServer(port, server)
        server.wait_until(lambda: _answers(rabbit), READY_SECONDS)
        yield rabbit


def _environment(folder: Path, port: int, node_port: int, epmd_port: int) -> dict[str, str]:
    """Return the variables that keep it on loopback, in its folder, and away from the system's own RabbitMQ."""
    return {
        "HOME": str(folder),  # for Erlang's cookie
        "ERL_EPMD_PORT": str(epmd_port),
        "ERL_EPMD_ADDRESS": LOOPBACK,
        "RABBITMQ_NODENAME": f"chunkspool-{port}@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": LOOPBACK,
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_DIST_PORT": str(node_port),
        # One core is enough.
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 -kernel inet_dist_use_interface {127,0,0,1}",
        "RABBITMQ_CONF_ENV_FILE": os.devnull,
        "RABBITMQ_CONFIG_FILE": str(folder / "no-config"),
        "RABBITMQ_ADVANCED_CONFIG_FILE": str(folder / "no-advanced-config"),
        "RABBITMQ_GENERATED_CONFIG_DIR": str(folder / "generated"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "no-plugins"),
        "RABBITMQ_FEATURE_FLAGS_FILE": str(folder / "feature-flags"),
        "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
        "RABBITMQ_PID_FILE": str(folder / "pid"),
        "RABBITMQ_LOG_BASE": str(folder),
        "RABBITMQ_LOGS": "-",
        # The script then becomes the server instead of supervising it, so killing it kills the server.
        "RUNNING_UNDER_SYSTEMD": "true",
    }


def _answers(rabbit: RabbitServer) -> bool:
    try:
        with Connection(rabbit.url, connect_timeout=5) as connection:
            connection.connect()
    except OSError:
        return False
    return True
