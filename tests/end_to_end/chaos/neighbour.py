"""Another Celery app on the run's Redis: each of its tasks is to run once, whatever happens to chunkspool's workers."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from celery import Celery
from end_to_end.chaos.faults import Fault, now_ms
from support.checker.violations import Rule, Violation
from support.processes.nodes import PROJECT
from support.processes.other_app import RUNS, read_runs, worker_command

from chunkspool.demo.process import Process

EVERY = 2.0
"""Seconds between two pairs of tasks."""
LASTS = 9.5
"""Seconds that a task runs, or waits for its time: longer than our own messages stay with a silent worker."""
SOON = 7.0
"""Seconds after that within which it has run, where nothing happened to Redis."""

STARTS = 15.0
"""Seconds that its worker needs to start."""


@dataclass(frozen=True, slots=True)
class SentTask:
    """A task that the broker has taken, and when (Unix ms)."""

    name: str
    at: int


@dataclass(frozen=True, slots=True)
class NeighbourReport:
    """The other app's tasks: what was sent, and when each ran."""

    sent: tuple[SentTask, ...] = ()
    deaths: tuple[int, ...] = ()
    """When its worker was found dead and started again, in Unix ms: a stock worker does not survive a failover."""
    runs: Mapping[str, Sequence[int]] = field(default_factory=dict)
    until: int = 0
    """When nobody looked any longer, in Unix ms."""

    def undisturbed(self, faults: Sequence[Fault]) -> Iterator[tuple[SentTask, int]]:
        """Yield the tasks during which nothing happened to Redis, each with the number of its runs.

        A connection of the app that breaks in mid-task lets Celery itself run a task twice.
        """
        for task in self.sent:
            over = task.at + round((LASTS + SOON) * 1000)
            of_redis = any(fault.began <= over and fault.ended >= task.at for fault in faults if not fault.worker)
            died = any(task.at <= death <= over + round(STARTS * 1000) for death in self.deaths)
            if over <= self.until and not of_redis and not died:
                yield task, len(self.runs.get(task.name, ()))


def find_disturbed(report: NeighbourReport, faults: Sequence[Fault]) -> Iterator[Violation]:
    """Yield the tasks that did not run exactly once, although nothing happened to Redis."""
    for task, runs in report.undisturbed(faults):
        if runs != 1:
            yield Violation(Rule.NEIGHBOUR, task.name, detail=f"it ran {runs} times")


@dataclass(eq=False)
class Neighbour:
    """The other app's worker, and who sends to it. Only the main thread may use it."""

    app: Celery
    runs: Path
    launch: Callable[[], Process]
    process: Process
    deaths: list[int] = field(default_factory=list)
    sent: list[SentTask] = field(default_factory=list)
    _next_at: float = 0.0
    _number: int = 0

    @classmethod
    def start(cls, folder: Path, url: str) -> Neighbour:
        """Start the worker; `wait` waits for it."""
        path = os.pathsep.join((str(PROJECT), str(PROJECT / "tests")))
        runs = folder / "other-app-runs"
        environment = {**os.environ, "CHUNKSPOOL_REDIS_URL": url, RUNS: str(runs), "PYTHONPATH": path}
        command = worker_command("threads", 60)
        launch = partial(Process.start, "other", command, folder, env=environment, cwd=PROJECT)
        times = {"socket_connect_timeout": 2, "socket_timeout": 5}
        app = Celery("sender", broker=url, set_as_current=False)
        app.conf.update(broker_transport_options=times)
        return cls(app, runs, launch, launch())

    def wait(self) -> None:
        """Wait until its worker answers."""
        ping = self.app.control.ping
        self.process.wait_until(lambda: bool(ping(destination=["other@localhost"], timeout=0.2)), 60)

    def advance(self) -> None:
        """Send a pair of tasks, if it is time: one that is acknowledged late, and one for later.

        A worker that has died is started again, as whoever operates it would.
        """
        if not self.process.alive:
            self.deaths.append(now_ms())
            self.process = self.launch()
        if time.monotonic() < self._next_at:
            return
        self._next_at = time.monotonic() + EVERY
        self._number += 1
        slow, later = f"slow-{self._number}", f"later-{self._number}"
        self._send(slow, "other.slow", [slow, LASTS])
        self._send(later, "other.later", [later], countdown=LASTS)

    def report(self) -> NeighbourReport:
        """Return what became of its tasks."""
        return NeighbourReport(tuple(self.sent), tuple(self.deaths), read_runs(self.runs), now_ms())

    def stop(self) -> None:
        """End its worker."""
        self.process.kill()
        self.app.close()

    def _send(self, name: str, task: str, args: list[Any], countdown: float | None = None) -> None:
        try:
            self.app.send_task(task, args, countdown=countdown, retry=False)
        except Exception:  # noqa: BLE001 - while Redis is away: whether it was taken is not known
            return
        self.sent.append(SentTask(name, now_ms()))
