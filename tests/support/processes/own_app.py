"""Workers of somebody's own Celery app, with real processes: started, asked to run its tasks, and asked to answer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from celery import Celery
from end_to_end.workers.test_main_job import answer_of
from support.processes.nodes import PROJECT
from support.waiting import eventually

from chunkspool import Answer, Generation, Spool
from chunkspool.demo.process import Process
from chunkspool.settings import Settings

SHORT = {"CHUNKSPOOL_LEASE": "1", "CHUNKSPOOL_REDELIVERY": "2", "CHUNKSPOOL_DRAIN_GRACE": "1"}
BOUND = 15
"""Seconds until another worker takes over, as promised for the default settings."""
WORDS = " ".join(f"word{number}" for number in range(15))
"""An answer that takes some seconds, and so longer than a worker's grace."""
SUITE = "import json; from support.processes.own_tasks import run_suite; print(json.dumps(run_suite(app)))"
CHANGED = {"broker_transport_options", "worker_consumer", "imports", "include"}
"""What a worker of generations sets in its process, where it serves other queues, too; and the modules of its tasks."""


@dataclass
class OwnApp:
    """The app's environment, and how to start its workers."""

    module: str
    folder: Path
    environment: dict[str, str]
    processes: ExitStack
    prepare: str = ""
    """What another process runs before it can use the app."""
    started: int = 0

    def start(self, pool: str, queues: str, *, slots: int = 4, **environment: str) -> Process:
        """Start a worker of these queues, and wait until it answers."""
        arguments = ("-A", self.module, "worker", "-P", pool, "-c", str(slots), "-Q", queues)
        return self.start_with("celery", *arguments, **environment)

    def start_with(self, program: str, *arguments: str, **environment: str) -> Process:
        """Start a worker with this program, and wait until it answers."""
        self.started += 1
        node = f"own-{self.started}@localhost"
        process = Process.start(
            f"own-{self.started}",
            (sys.executable, "-m", program, *arguments, "-n", node, "--loglevel=INFO"),
            self.folder,
            env={**self.environment, **environment},
            cwd=PROJECT,
        )
        self.processes.callback(process.kill)
        process.wait_until(lambda: bool(self.control().ping(destination=[node], timeout=0.3)), 60)
        return process

    def control(self) -> Any:
        """Return what sends commands to the workers."""
        app = Celery("control", broker=self.environment["APP_BROKER"], set_as_current=False)
        self.processes.callback(app.close)
        return app.control

    def run_suite(self) -> dict[str, Any]:
        """Let a process send every kind of task; return the results, and what the tasks have noted."""
        Path(self.environment["RUNS"]).write_text("")
        return {**json.loads(self.run(SUITE)), "runs": sorted(self.runs())}

    def run(self, code: str) -> str:
        """Let another process, which has the app, run Python code; return what it prints."""
        done = subprocess.run(  # noqa: S603 - the test's own code
            [sys.executable, "-c", f"{self.prepare}\nfrom {self.module} import app\n{code}"],
            env=self.environment,
            cwd=PROJECT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def runs(self) -> list[str]:
        """Return what the tasks have noted."""
        return Path(self.environment["RUNS"]).read_text().splitlines()


def environment_of(folder: Path, broker: str, redis_url: str) -> dict[str, str]:
    """Return the environment of an app's processes: this one's, less chunkspool's settings, and their own."""
    runs = folder / "runs"
    runs.touch()
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("CHUNKSPOOL_")},
        **SHORT,
        "PYTHONPATH": os.pathsep.join((str(PROJECT), str(PROJECT / "tests"))),
        "APP_BROKER": broker,
        "APP_BACKEND": redis_url,
        "RUNS": str(runs),
        "CHUNKSPOOL_REDIS_URL": redis_url,
        "CHUNKSPOOL_BROKER_URL": broker,
        "CHUNKSPOOL_PROVIDER": "scripted",
        "EQUIPPED": "1",
    }


def spool_of(app: OwnApp) -> Spool:
    """Return a web app's spool."""
    names = {name: value for name, value in app.environment.items() if name.startswith("CHUNKSPOOL_")}
    return Spool.from_settings(Settings.from_env(names))


def conf_of(app: OwnApp) -> dict[str, Any]:
    """Return the configuration of its one worker, without what chunkspool sets where it runs generations."""
    ((_, conf),) = app.control().inspect(timeout=5).conf().items()
    return {name: value for name, value in conf.items() if name not in CHANGED}


def start(spool: Spool, chat_id: str) -> Generation:
    """Ask chunkspool's own task for an answer that takes a few seconds, and wait until it has begun."""
    asked = spool.enqueue(chat_id, WORDS, params={"pace": 0.4})
    return wait_for_text(spool, asked)


def ask_slowly(spool: Spool, chat_id: str) -> Generation:
    """Ask the app's own task for such an answer."""
    return wait_for_text(spool, spool.enqueue(chat_id, f"slow {WORDS}"))


def wait_for_text(spool: Spool, asked: Generation) -> Generation:
    """Wait until an answer has begun."""
    eventually(lambda: any(entry.type == "text.delta" for entry in spool.read(asked.chat_id)), 20)
    return asked


def finish(spool: Spool, asked: Generation) -> Answer:
    """Follow an answer to its end; its last attempt must begin soon."""
    began, entries = time.monotonic(), []
    with spool.subscribe(asked.chat_id, asked.after) as arriving:
        for entry in arriving:
            entries.append(entry)
            assert entry.type != "generation.started" or time.monotonic() - began < BOUND
    return answer_of(entries)
