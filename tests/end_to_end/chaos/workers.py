"""The workers of a run: killed, paused, terminated, and restarted when they are due."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import psutil
from end_to_end.chaos.faults import Fault, UnexpectedExit, now_ms
from end_to_end.chaos.plan import QUEUES, FaultKind
from support.processes.nodes import WorkerCommand, WorkerProcess

WORKER_KINDS = (
    ("threads", 12, "restart", QUEUES[0], 0),
    ("threads", 12, "continue", QUEUES[0], 0),
    ("prefork", 4, "continue", QUEUES[0], 0),
    ("threads", 12, "restart", QUEUES[1], 0),
    ("threads", 12, "continue", QUEUES[1], 0),
    ("threads", 12, "restart", QUEUES[0], 1),
)
"""Pool, slots, whether attempts restart or continue, queue, and the database of the deployment."""
READY = " ready."
PATIENCE = 45.0
"""Seconds that a terminated worker may take: its grace, and then some."""


@dataclass(eq=False)
class ChaosWorker:
    """One worker and what happens to it next."""

    node: WorkerProcess
    prefork: bool
    serves: tuple[str, int]
    """Its queue and database."""
    state: Literal["up", "paused", "ending", "down"] = "up"
    since: int = 0
    """When the last fault was injected, in Unix ms."""
    next_at: float = 0.0
    """When the next step is due, by the monotonic clock."""
    pause: float = 0.0
    """Seconds that it stays down after its end."""

    @property
    def name(self) -> str:
        """Its name, which is also its key at the model server."""
        return self.node.name

    @property
    def ready(self) -> bool:
        """Whether it takes messages. One that has only just begun does not know SIGTERM yet, either."""
        return self.state == "up" and READY in self.node.running().read_log_tail(1_000_000)

    def can_suffer(self, kind: FaultKind) -> bool:
        """Tell whether this fault can be injected now."""
        if kind is FaultKind.KILL_CHILD:
            return self.prefork and self.ready
        return self.ready if kind is FaultKind.TERMINATE else self.state == "up"


@dataclass(eq=False)
class ChaosWorkers:
    """All workers. Only the main thread may use it, because it starts processes."""

    workers: list[ChaosWorker]
    faults: list[Fault] = field(default_factory=list)
    unexpected_exits: list[UnexpectedExit] = field(default_factory=list)

    @classmethod
    def start(cls, folder: Path, url_of: Callable[[int], str], environment: Mapping[str, str]) -> ChaosWorkers:
        """Start all workers; `wait` waits for them. `url_of` gives the URL of a database."""
        workers = []
        for n, (pool, slots, recovery, queue, db) in enumerate(WORKER_KINDS):
            name = f"worker-{n}"
            own = {
                **environment,
                "OPENAI_API_KEY": name,
                "CHUNKSPOOL_REDIS_URL": url_of(db),
                "CHUNKSPOOL_RECOVERY": recovery,
                "CHUNKSPOOL_QUEUE": queue,
            }
            command = WorkerCommand(name, pool, slots, own, ("--without-gossip", "--without-mingle"))
            workers.append(ChaosWorker(WorkerProcess(command, folder, url_of(db)), pool == "prefork", (queue, db)))
        return cls(workers)

    def wait(self) -> None:
        """Wait until each worker has answered."""
        for worker in self.workers:
            worker.node.ready()

    def inject(self, kind: FaultKind, draw: float, seconds: float) -> bool:
        """Inject a fault into one of the workers that are up, if another one of its queue is left to continue.

        Returns False if there is none.
        """
        ready = [worker for worker in self.workers if worker.ready]
        up = [
            worker
            for worker in self.workers
            if worker.can_suffer(kind) and any(one.serves == worker.serves for one in ready if one is not worker)
        ]
        if not up:
            return False
        worker = up[int(draw * len(up))]
        worker.since, worker.next_at, worker.pause = now_ms(), time.monotonic() + seconds, seconds
        match kind:
            case FaultKind.KILL:
                worker.node.kill()
                worker.node.running().popen.wait()
                worker.state = "down"
                self._record(kind, worker)
            case FaultKind.KILL_CHILD:
                return self._kill_child(worker, draw)
            case FaultKind.PAUSE:
                worker.node.kill(signal.SIGSTOP)
                worker.state = "paused"
            case FaultKind.TERMINATE:
                worker.node.running().popen.terminate()
                worker.state, worker.next_at = "ending", time.monotonic() + PATIENCE
        return True

    def advance(self) -> None:
        """Take every step that is due: resume, notice an exit, restart."""
        for worker in self.workers:
            due = time.monotonic() >= worker.next_at
            if worker.state == "paused" and due:
                worker.node.kill(signal.SIGCONT)
                worker.state = "up"
                self._record(FaultKind.PAUSE, worker)
            elif worker.state == "down" and due:
                worker.node.restart()
                worker.state = "up"
            elif worker.state == "ending" and (due or not worker.node.running().alive):
                self._take_down(worker)
                self._record(FaultKind.TERMINATE, worker)
            elif worker.state == "up" and not worker.node.running().alive:
                worker.since = now_ms()
                self._take_down(worker)

    @property
    def all_up(self) -> bool:
        """Whether all are up."""
        return all(worker.state == "up" for worker in self.workers)

    def kill_all(self) -> None:
        """Kill all workers."""
        for worker in self.workers:
            worker.node.kill(signal.SIGKILL)
            worker.node.running().popen.wait()

    def _take_down(self, worker: ChaosWorker) -> None:
        """Take a worker down; it failed if it exited unasked, did not exit, or not with code 0."""
        process = worker.node.running()
        if worker.state == "up" or process.popen.returncode != 0:
            self.unexpected_exits.append(UnexpectedExit(worker.name, process.popen.returncode, process.read_log_tail()))
        worker.node.kill()
        process.popen.wait()
        worker.state, worker.next_at = "down", time.monotonic() + worker.pause

    def _kill_child(self, worker: ChaosWorker, draw: float) -> bool:
        children = psutil.Process(worker.node.running().pid).children()
        if not children:
            return False
        children[int(draw * 997) % len(children)].kill()
        self._record(FaultKind.KILL_CHILD, worker)
        return True

    def _record(self, kind: FaultKind, worker: ChaosWorker) -> None:
        self.faults.append(Fault(kind, worker.name, worker.since, now_ms()))
