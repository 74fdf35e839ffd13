"""Puts the demo together: a Redis, a model, a Celery worker, Flower and the web app, each in its own process."""

from __future__ import annotations

import http.client
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from celery import Celery

import chunkspool
from chunkspool.demo.model_server import ModelServer
from chunkspool.demo.ports import LOOPBACK, free_port, is_taken
from chunkspool.demo.process import Process
from chunkspool.demo.redis_server import RedisServer
from chunkspool.settings import Settings, variable_of

FLOWER_PORT = 5555
WEB_PORT = 8000
SLOTS = 8
_READY_SECONDS = 60.0
_HOME = Path(chunkspool.__file__).parent.parent
"""Where the package lies: its processes find it there, installed or not."""
_CELERY = (sys.executable, "-m", "celery", "-A", "chunkspool.worker")


@dataclass(frozen=True, slots=True)
class Stack:
    """What is running, and how to reach it."""

    settings: Settings
    redis: str
    model: str
    flower_url: str
    web_url: str
    worker: Process


@contextmanager
def run(folder: Path, report: Callable[[str], None]) -> Iterator[Stack]:
    """Start everything; stop it in reverse order when the block is left. Raises `CannotStart`."""
    with ExitStack() as processes:
        redis = processes.enter_context(RedisServer(folder))
        report(f"redis    {redis.kind}, {redis.url}")
        model = processes.enter_context(ModelServer(folder, report=report))
        report(f"model    {model.model or 'yours'}, {model.base_url}")
        environment = _build_environment(redis, model)
        settings = Settings.from_env(environment)
        node = f"demo-{os.getpid()}@localhost"
        pool = ("worker", "-P", "threads", "-c", str(SLOTS), "-n", node, "--loglevel=INFO")
        worker = _start(processes, "worker", folder, environment, *_CELERY, *pool)
        flower_port = _choose_port(FLOWER_PORT)
        flower_url = f"http://{LOOPBACK}:{flower_port}"
        listening = ("flower", f"--address={LOOPBACK}", f"--port={flower_port}", "--loglevel=INFO")
        flower = _start(processes, "flower", folder, environment, *_CELERY, *listening)
        web_port = _choose_port(WEB_PORT)
        shown = {**environment, variable_of("flower_url"): flower_url}
        web = _start(processes, "web", folder, shown, sys.executable, "-m", "chunkspool.demo.web", str(web_port))
        # Waited for only now, so that all three start side by side.
        worker.wait_until(lambda: _answers_ping(settings.broker, node), _READY_SECONDS)
        report(f"worker   celery -A chunkspool.worker worker -P threads -c {SLOTS}")
        flower.wait_until(lambda: _answers_http(flower_port, "/healthcheck"), _READY_SECONDS)
        report(f"flower   {flower_url}")
        web.wait_until(lambda: _answers_http(web_port, "/readyz"), _READY_SECONDS)
        web_url = f"http://{LOOPBACK}:{web_port}/"
        report(f"web      {web_url}")
        yield Stack(settings, redis.url, model.base_url, flower_url, web_url, worker)


def _build_environment(redis: RedisServer, model: ModelServer) -> dict[str, str]:
    path = os.pathsep.join(filter(None, (str(_HOME), os.environ.get("PYTHONPATH"))))
    own = {variable_of("redis_url"): redis.url, variable_of("openai_base_url"): model.base_url, "PYTHONPATH": path}
    if model.model:
        own[variable_of("model")] = model.model
    return {**os.environ, **own}


def _choose_port(wanted: int) -> int:
    return free_port() if is_taken(wanted) else wanted


def _start(processes: ExitStack, name: str, folder: Path, environment: dict[str, str], *command: str) -> Process:
    logs = (folder / "logs").absolute()
    process = Process.start(name, command, logs, env=environment, cwd=_HOME)
    processes.callback(process.terminate)
    return process


def _answers_ping(broker: str, node: str) -> bool:
    with Celery("demo", broker=broker, set_as_current=False) as app:
        return bool(app.control.ping(destination=[node], timeout=0.5))


def _answers_http(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
