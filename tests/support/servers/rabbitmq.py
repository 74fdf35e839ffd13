"""Run Debian's RabbitMQ as an own process, with its own node, ports and folder; for whichever user asks."""

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

from demo.ports import LOOPBACK, free_port, is_taken
from demo.process import Process

# Not the one on PATH: that is a wrapper which insists on being run by root or by the service's own user.
PROGRAM = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
READY_SECONDS = 90
MISSING = "rabbitmq-server is not installed; apt-get install rabbitmq-server brings it"


@dataclass(frozen=True, slots=True)
class Rabbit:
    """A running server."""

    port: int
    process: Process

    @property
    def url(self) -> str:
        """Where it is, for Celery."""
        return f"amqp://guest:guest@{LOOPBACK}:{self.port}//"

    @property
    def kind(self) -> str:
        """`rabbitmq-server`."""
        return PROGRAM.name

    @property
    def alive(self) -> bool:
        """Whether its process runs (a paused one does)."""
        return self.process.alive

    def pause(self) -> None:
        """Freeze the process: connections stay open and silent."""
        self.process.send(signal.SIGSTOP)

    def resume(self) -> None:
        """Go on after `pause`."""
        self.process.send(signal.SIGCONT)


@contextmanager
def rabbitmq_server(folder: Path) -> Iterator[Rabbit]:
    """Start it, and return when it takes connections. Raises `ServerMissing`. Only the main thread may do so."""
    names = shutil.which("epmd")
    if not PROGRAM.exists() or names is None:
        raise ServerMissing(MISSING)
    port, between_nodes, of_names = free_port(), free_port(), free_port()
    with ExitStack() as running:
        # Erlang's register of nodes: where none runs, RabbitMQ would start one that outlives it.
        register = Process.start("epmd", [names, "-port", str(of_names), "-address", LOOPBACK], folder)
        running.callback(register.kill)
        register.wait_until(lambda: is_taken(of_names), READY_SECONDS)
        environment = {**os.environ, **_environment(folder, port, between_nodes, of_names)}
        server = Process.start("rabbitmq", [str(PROGRAM)], folder, env=environment, cwd=folder)
        # Not asked to end: it would take its time for data that nobody wants.
        running.callback(server.kill)
        rabbit = Rabbit(port, server)
        server.wait_until(lambda: _answers(rabbit), READY_SECONDS)
        yield rabbit


def _environment(folder: Path, port: int, between_nodes: int, of_names: int) -> dict[str, str]:
    """Return what keeps it on loopback and in its folder, and what the system's own RabbitMQ is set to away from it."""
    return {
        "HOME": str(folder),  # for Erlang's cookie
        "ERL_EPMD_PORT": str(of_names),
        "ERL_EPMD_ADDRESS": LOOPBACK,
        "RABBITMQ_NODENAME": f"chunkspool-{port}@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": LOOPBACK,
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_DIST_PORT": str(between_nodes),
        # One core is enough, and others need theirs.
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
        # The script then becomes the server, instead of watching over it: who kills the one has killed the other.
        "RUNNING_UNDER_SYSTEMD": "true",
    }


def _answers(rabbit: Rabbit) -> bool:
    try:
        with Connection(rabbit.url, connect_timeout=5) as connection:
            connection.connect()
    except OSError:
        return False
    return True
