"""The workers of a run: killed, paused, terminated, and started again when their time has come."""

from __future__ import annotations

import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import psutil
from end_to_end.chaos.happened import Death, Fault, now
from end_to_end.chaos.plan import Kind
from support.processes.nodes import WorkerCommand, WorkerProcess

KINDS = (("threads", 8, "restart"), ("threads", 8, "continue"), ("threads", 8, "restart"), ("prefork", 4, "continue"))
"""Pool, slots, and how its attempts go on from earlier ones."""
READY = " ready."
PATIENCE = 45.0
"""Seconds that a terminated worker may take: its drain, and then some."""


@dataclass(eq=False)
class Worker:
    """One worker and what is to happen to it next."""

    node: WorkerProcess
    prefork: bool
    state: Literal["up", "paused", "ending", "down"] = "up"
    since: int = 0
    """When the last thing was done to it, in Unix ms."""
    next_at: float = 0.0
    """When the next thing is due, by the monotonic clock."""
    pause: float = 0.0
    """Seconds that it stays down once it has ended."""

    @property
    def name(self) -> str:
        """Its name, which is also its key at the model server."""
        return self.node.name

    @property
    def ready(self) -> bool:
        """Whether it takes messages. One that has only just begun does not know SIGTERM yet, either."""
        return self.state == "up" and READY in self.node.running().read_log_tail(1_000_000)

    def can(self, kind: Kind) -> bool:
        """Tell whether this can be done to it now."""
        if kind is Kind.KILL_CHILD:
            return self.prefork and self.ready
        return self.ready if kind is Kind.TERMINATE else self.state == "up"


@dataclass(eq=False)
class Herd:
    """All workers. Only the main thread may use it: it starts processes."""

    workers: list[Worker]
    faults: list[Fault] = field(default_factory=list)
    deaths: list[Death] = field(default_factory=list)

    @classmethod
    def start(cls, folder: Path, broker: str, environment: Mapping[str, str]) -> Herd:
        """Start all workers; `wait` for them."""
        workers = []
        for n, (pool, slots, recovery) in enumerate(KINDS):
            name = f"worker-{n}"
            own = {**environment, "OPENAI_API_KEY": name, "CHUNKSPOOL_RECOVERY": recovery}
            command = WorkerCommand(name, pool, slots, own, ("--without-gossip", "--without-mingle"))
            workers.append(Worker(WorkerProcess(command, folder, broker), pool == "prefork"))
        return cls(workers)

    def wait(self) -> None:
        """Wait until each has answered."""
        for worker in self.workers:
            worker.node.ready()

    def hurt(self, kind: Kind, draw: float, seconds: float) -> bool:
        """Do something to one of those that are up, for so many seconds, if another one is left to go on.

        Returns False where there is none.
        """
        ready = [worker for worker in self.workers if worker.ready]
        up = [worker for worker in self.workers if worker.can(kind) and ready not in ([], [worker])]
        if not up:
            return False
        worker = up[int(draw * len(up))]
        worker.since, worker.next_at, worker.pause = now(), time.monotonic() + seconds, seconds
        match kind:
            case Kind.KILL:
                worker.node.kill()
                worker.node.running().popen.wait()
                worker.state = "down"
                self._note(kind, worker)
            case Kind.KILL_CHILD:
                return self._kill_child(worker, draw)
            case Kind.PAUSE:
                worker.node.kill(signal.SIGSTOP)
                worker.state = "paused"
            case Kind.TERMINATE:
                worker.node.running().popen.terminate()
                worker.state, worker.next_at = "ending", time.monotonic() + PATIENCE
        return True

    def tend(self) -> None:
        """Do what is due: go on, see that one has ended, start again."""
        for worker in self.workers:
            due = time.monotonic() >= worker.next_at
            if worker.state == "paused" and due:
                worker.node.kill(signal.SIGCONT)
                worker.state = "up"
                self._note(Kind.PAUSE, worker)
            elif worker.state == "down" and due:
                worker.node.restart()
                worker.state = "up"
            elif worker.state == "ending" and (due or not worker.node.running().alive):
                self._ended(worker)
                self._note(Kind.TERMINATE, worker)
            elif worker.state == "up" and not worker.node.running().alive:
                worker.since = now()
                self._ended(worker)

    @property
    def calm(self) -> bool:
        """Whether all are up."""
        return all(worker.state == "up" for worker in self.workers)

    def end(self) -> None:
        """Kill all that is left."""
        for worker in self.workers:
            worker.node.kill(signal.SIGKILL)
            worker.node.running().popen.wait()

    def _ended(self, worker: Worker) -> None:
        """Take it down; one that nobody had asked, that is still there, or that did not end with 0, has failed."""
        process = worker.node.running()
        if worker.state == "up" or process.popen.returncode != 0:
            self.deaths.append(Death(worker.name, process.popen.returncode, process.read_log_tail()))
        worker.node.kill()
        process.popen.wait()
        worker.state, worker.next_at = "down", time.monotonic() + worker.pause

    def _kill_child(self, worker: Worker, draw: float) -> bool:
        children = psutil.Process(worker.node.running().pid).children()
        if not children:
            return False
        children[int(draw * 997) % len(children)].kill()
        self._note(Kind.KILL_CHILD, worker)
        return True

    def _note(self, kind: Kind, worker: Worker) -> None:
        self.faults.append(Fault(kind, worker.name, worker.since, now()))
