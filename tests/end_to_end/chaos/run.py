"""One run of the chaos suite: start everything, let traffic and faults happen, wait until it is calm, judge."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from end_to_end.chaos.faults import Fault, now_ms
from end_to_end.chaos.plan import FaultKind, FaultPlan, Plan
from end_to_end.chaos.traffic import Traffic
from end_to_end.chaos.verdict import Verdict, judge
from end_to_end.chaos.workers import ChaosWorkers
from support.checker.raw_log import read_raw_chat
from support.models.paced_model_process import ModelProcess
from support.servers.redis_server import PrivateServer

from chunkspool import Settings
from demo.redis_server import Binary

ALWAYS = ("--appendonly", "yes", "--appendfsync", "always")
TICK = 0.05
PATIENCE = 90.0
"""Seconds within which everything must have ended after the last fault."""
WORKERS = {
    # Three is too few while everything breaks, and each attempt is checked anyway.
    "CHUNKSPOOL_MAX_ATTEMPTS": "50",
    "CHUNKSPOOL_SWEEP_INTERVAL": "3",
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run did and what came of it."""

    plan: Plan
    server: str
    seconds: float
    faults: tuple[Fault, ...]
    model_calls: int
    stops: int
    retries: int
    readings: int
    verdict: Verdict


class FaultInjector:
    """Injects the planned faults into the server and the workers."""

    def __init__(self, server: PrivateServer, workers: ChaosWorkers) -> None:
        """Take running processes."""
        self._server = server
        self._workers = workers
        self._faults: list[Fault] = []

    @property
    def faults(self) -> tuple[Fault, ...]:
        """All faults so far, in order."""
        return tuple(sorted((*self._faults, *self._workers.faults), key=lambda fault: fault.began))

    def inject(self, fault: FaultPlan) -> bool:
        """Inject a fault now; return False if there is no target at the moment."""
        match fault.kind:
            case FaultKind.RESTART:
                self._restart(fault.seconds, hard=fault.draw < 0.5)
            case FaultKind.CUT:
                self._cut(random.Random(fault.draw))  # noqa: S311 - repeatable, not a secret
            case _:
                return self._workers.inject(fault.kind, fault.draw, fault.seconds)
        return True

    def _restart(self, seconds: float, *, hard: bool) -> None:
        began = now_ms()
        if hard:
            self._server.kill()
        else:
            self._server.stop()
        self._faults.append(Fault(FaultKind.RESTART, "", began, now_ms()))
        time.sleep(seconds)
        self._server.start()

    def _cut(self, rng: random.Random) -> None:
        began = now_ms()
        with self._server.client() as client:
            own = client.client_id()
            every = [int(one["id"]) for one in client.client_list() if int(one["id"]) != own]
            for one in rng.sample(every, (len(every) + 1) // 2):
                client.client_kill_filter(_id=str(one))
        self._faults.append(Fault(FaultKind.CUT, "", began, now_ms()))


def run(plan: Plan, binary: Binary, folder: Path, report_progress: Callable[[str], None] = lambda _: None) -> Outcome:
    """Run it. Only call this in the main thread."""
    began = time.monotonic()
    with _start_everything(binary, folder) as (server, model, workers):
        settings = Settings.checked({"redis_url": server.url})
        traffic = Traffic(plan, settings)
        injector = FaultInjector(server, workers)
        report_progress(f"everything is up after {time.monotonic() - began:.1f} s")
        traffic.start()
        _break_things(plan, injector, workers, report_progress)
        _calm_down(traffic, workers, report_progress)
        seen = traffic.close()
        with server.client() as client:
            chats = [
                read_raw_chat(client, chat) for chat in sorted({question.plan.chat for question in seen.questions})
            ]
        calls = model.fetch_calls()
        verdict = judge(chats, seen, calls, injector.faults, workers.unexpected_exits)
        return Outcome(
            plan,
            server.kind,
            time.monotonic() - began,
            injector.faults,
            len(calls),
            sum(question.stop != "" for question in seen.questions),
            seen.retries,
            sum(map(len, seen.readings.values())),
            verdict,
        )


@contextmanager
def _start_everything(binary: Binary, folder: Path) -> Iterator[tuple[PrivateServer, ModelProcess, ChaosWorkers]]:
    with ExitStack() as started:
        server = PrivateServer(binary, folder / "redis", ALWAYS)
        server.start()
        started.callback(server.kill)
        model = ModelProcess.start(sys.executable, folder)
        started.callback(model.stop)
        environment: Mapping[str, str] = {
            "CHUNKSPOOL_REDIS_URL": server.url,
            "OPENAI_BASE_URL": model.base_url,
            **WORKERS,
        }
        workers = ChaosWorkers.start(folder, server.url, environment)
        started.callback(workers.kill_all)
        workers.wait()
        yield server, model, workers


def _break_things(
    plan: Plan, injector: FaultInjector, workers: ChaosWorkers, report_progress: Callable[[str], None]
) -> None:
    began, left = time.monotonic(), list(plan.faults)
    while left or time.monotonic() - began < plan.scale.seconds:
        workers.advance()
        if left and time.monotonic() - began >= left[0].at:
            fault = left.pop(0)
            done = injector.inject(fault)
            report_progress(
                f"{time.monotonic() - began:6.1f} s  {fault.kind}{'' if done else ': no worker can be spared'}"
            )
        time.sleep(TICK)


def _calm_down(traffic: Traffic, workers: ChaosWorkers, report_progress: Callable[[str], None]) -> None:
    began = time.monotonic()
    while not (traffic.ended and workers.all_up) and time.monotonic() - began < PATIENCE:
        workers.advance()
        time.sleep(TICK)
    report_progress(f"all traffic had ended {time.monotonic() - began:.1f} s after the last fault")
