"""One run of the chaos suite: start everything, let traffic and faults happen, wait until it is calm, judge."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from end_to_end.chaos.clock import with_real_times
from end_to_end.chaos.faults import Fault, Loss
from end_to_end.chaos.neighbour import Neighbour, NeighbourReport
from end_to_end.chaos.plan import FaultKind, FaultPlan, Plan
from end_to_end.chaos.servers import ChaosServers
from end_to_end.chaos.traffic import Traffic, TrafficReport
from end_to_end.chaos.verdict import DeploymentSeen, RunSeen, Verdict, judge
from end_to_end.chaos.workers import ChaosWorkers
from redis import Redis
from support.checker.raw_log import RawChat, read_raw_chat
from support.models.paced_model_process import ModelProcess

from chunkspool.demo.redis_server import Binary

TICK = 0.05
PATIENCE = 120.0
"""Seconds within which everything must have ended after the last fault."""
WORKERS = {
    # Three is too few while everything breaks, and each attempt is checked anyway.
    "CHUNKSPOOL_MAX_ATTEMPTS": "50",
    "CHUNKSPOOL_SWEEP_INTERVAL": "3",
}
OF_WORKERS = frozenset({FaultKind.KILL, FaultKind.KILL_CHILD, FaultKind.PAUSE, FaultKind.TERMINATE})


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run did and what came of it."""

    plan: Plan
    server: str
    seconds: float
    seen: RunSeen
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Everything:
    """The processes of a run."""

    servers: ChaosServers
    model: ModelProcess
    workers: ChaosWorkers
    neighbour: Neighbour

    @property
    def faults(self) -> tuple[Fault, ...]:
        """All faults so far, in order."""
        return tuple(sorted((*self.servers.faults, *self.workers.faults), key=lambda fault: fault.began))

    def inject(self, fault: FaultPlan) -> bool:
        """Inject a fault now; return False if nothing can suffer it at the moment."""
        target = self.workers if fault.kind in OF_WORKERS else self.servers
        return target.inject(fault.kind, fault.draw, fault.seconds)

    def advance(self) -> None:
        """Take every step that is due."""
        self.workers.advance()
        self.neighbour.advance()


def run(plan: Plan, binary: Binary, folder: Path, report_progress: Callable[[str], None] = lambda _: None) -> Outcome:
    """Run it. Only call this in the main thread."""
    began = time.monotonic()
    with _start_everything(binary, folder) as everything:
        traffics = [Traffic(plan, db, everything.servers.address.url(db)) for db in range(len(plan.deployments))]
        report_progress(f"everything is up after {time.monotonic() - began:.1f} s")
        for traffic in traffics:
            traffic.start()
        _break_things(plan, everything, report_progress)
        _calm_down(traffics, everything, report_progress)
        reports = [traffic.close() for traffic in traffics]
        report_progress("judging")
        seen = _look(everything, reports, everything.neighbour.report())
        return Outcome(plan, binary.kind, time.monotonic() - began, seen, judge(seen))


@contextmanager
def _start_everything(binary: Binary, folder: Path) -> Iterator[Everything]:
    with ExitStack() as started:
        servers = ChaosServers.start(binary, folder)
        started.callback(servers.stop)
        model = ModelProcess.start(sys.executable, folder)
        started.callback(model.stop)
        environment = {"OPENAI_BASE_URL": model.base_url, **WORKERS}
        neighbour = Neighbour.start(folder, servers.address.url())
        started.callback(neighbour.stop)
        workers = ChaosWorkers.start(folder, servers.address.url, environment)
        started.callback(workers.kill_all)
        workers.wait()
        neighbour.wait()
        yield Everything(servers, model, workers, neighbour)


def _break_things(plan: Plan, everything: Everything, report_progress: Callable[[str], None]) -> None:
    began, left = time.monotonic(), list(plan.faults)
    while left or time.monotonic() - began < plan.scale.seconds:
        everything.advance()
        if left and time.monotonic() - began >= left[0].at:
            fault = left.pop(0)
            done = everything.inject(fault)
            report_progress(
                f"{time.monotonic() - began:6.1f} s  {fault.kind}{'' if done else ': nothing can suffer it now'}"
            )
        time.sleep(TICK)


def _calm_down(traffics: list[Traffic], everything: Everything, report_progress: Callable[[str], None]) -> None:
    began = time.monotonic()
    # An older copy that came back late takes endings back which everybody has seen: they, too, are waited for.
    while not (
        all(one.ended for one in traffics)
        and everything.workers.all_up
        and all(everything.servers.is_calm(db) for db in range(len(traffics)))
    ):
        if time.monotonic() - began > PATIENCE:
            break
        everything.advance()
        time.sleep(TICK)
    report_progress(f"all traffic had ended {time.monotonic() - began:.1f} s after the last fault")


def _look(everything: Everything, reports: list[TrafficReport], neighbour: NeighbourReport) -> RunSeen:
    """Read what there is, and what there was each time before Redis forgot."""
    servers, deployments = everything.servers, []
    with servers.primary.client() as client:
        now = [_read_chats(client, db, report, servers) for db, report in enumerate(reports)]
    before = [_read_before(servers, loss, reports) for loss in servers.losses]
    for db, report in enumerate(reports):
        earlier = tuple(of_loss[db] for of_loss in before)
        deployments.append(DeploymentSeen(report, now[db], earlier))
    return RunSeen(
        tuple(deployments),
        tuple(everything.model.fetch_calls()),
        everything.faults,
        tuple(servers.losses),
        neighbour,
        tuple(everything.workers.unexpected_exits),
        {worker.name: worker.serves for worker in everything.workers.workers},
    )


def _read_before(servers: ChaosServers, loss: Loss, reports: list[TrafficReport]) -> list[dict[str, RawChat]]:
    found: list[dict[str, RawChat]] = []
    servers.read_before(
        loss,
        lambda client: found.extend(_read_chats(client, db, report, servers) for db, report in enumerate(reports)),
    )
    return found


def _read_chats(client: Redis, db: int, report: TrafficReport, servers: ChaosServers) -> dict[str, RawChat]:
    client.select(db)
    names = sorted({question.plan.chat for question in report.questions})
    return {name: with_real_times(read_raw_chat(client, name), servers.clock.steps) for name in names}
