"""One run of the chaos suite: put everything up, let people come and things break, wait until it is calm, judge."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from end_to_end.chaos.happened import Fault, now
from end_to_end.chaos.herd import Herd
from end_to_end.chaos.plan import FaultPlan, Kind, Plan
from end_to_end.chaos.traffic import Traffic
from end_to_end.chaos.verdict import Verdict, judge
from support.checker.raw_log import raw_chat
from support.models.paced_model_process import ModelProcess
from support.servers.redis_server import PrivateServer

from chunkspool import Settings
from demo.redis_server import Binary

ALWAYS = ("--appendonly", "yes", "--appendfsync", "always")
TICK = 0.05
PATIENCE = 90.0
"""Seconds in which everything must have ended once nothing breaks any more."""
WORKERS = {
    # Three is too few where everything breaks all the time, and each attempt is looked at anyhow.
    "CHUNKSPOOL_MAX_ATTEMPTS": "50",
    "CHUNKSPOOL_SWEEP_INTERVAL": "3",
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run did and what came out."""

    plan: Plan
    server: str
    seconds: float
    faults: tuple[Fault, ...]
    model_calls: int
    stops: int
    hiccups: int
    readings: int
    verdict: Verdict


class Stage:
    """What is there to be broken."""

    def __init__(self, server: PrivateServer, herd: Herd) -> None:
        """All is up."""
        self._server = server
        self._herd = herd
        self._own: list[Fault] = []

    @property
    def faults(self) -> tuple[Fault, ...]:
        """All faults so far, in order."""
        return tuple(sorted((*self._own, *self._herd.faults), key=lambda fault: fault.began))

    def breaks(self, fault: FaultPlan) -> bool:
        """Break it now; return False if there is nothing to break at the moment."""
        match fault.kind:
            case Kind.RESTART:
                self._restart(fault.seconds, hard=fault.draw < 0.5)
            case Kind.CUT:
                self._cut(random.Random(fault.draw))  # noqa: S311 - a repeatable run, no secret
            case _:
                return self._herd.hurt(fault.kind, fault.draw, fault.seconds)
        return True

    def _restart(self, seconds: float, *, hard: bool) -> None:
        began = now()
        if hard:
            self._server.kill()
        else:
            self._server.stop()
        self._own.append(Fault(Kind.RESTART, "", began, now()))
        time.sleep(seconds)
        self._server.start()

    def _cut(self, dice: random.Random) -> None:
        began = now()
        with self._server.client() as client:
            own = client.client_id()
            every = [int(one["id"]) for one in client.client_list() if int(one["id"]) != own]
            for one in dice.sample(every, (len(every) + 1) // 2):
                client.client_kill_filter(_id=str(one))
        self._own.append(Fault(Kind.CUT, "", began, now()))


def run(plan: Plan, binary: Binary, folder: Path, say: Callable[[str], None] = lambda _: None) -> Outcome:
    """Run it. Only the main thread may do so."""
    began = time.monotonic()
    with _up(binary, folder) as (server, model, herd):
        settings = Settings.checked({"redis_url": server.url})
        traffic = Traffic(plan, settings)
        stage = Stage(server, herd)
        say(f"all is up after {time.monotonic() - began:.1f} s")
        traffic.start()
        _break_things(plan, stage, herd, say)
        _calm_down(traffic, herd, say)
        seen = traffic.close()
        with server.client() as client:
            chats = [raw_chat(client, chat) for chat in sorted({question.plan.chat for question in seen.questions})]
        calls = model.calls()
        verdict = judge(chats, seen, calls, stage.faults, herd.deaths)
        return Outcome(
            plan,
            server.kind,
            time.monotonic() - began,
            stage.faults,
            len(calls),
            sum(question.stop != "" for question in seen.questions),
            seen.hiccups,
            sum(map(len, seen.readings.values())),
            verdict,
        )


@contextmanager
def _up(binary: Binary, folder: Path) -> Iterator[tuple[PrivateServer, ModelProcess, Herd]]:
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
        herd = Herd.start(folder, server.url, environment)
        started.callback(herd.end)
        herd.wait()
        yield server, model, herd


def _break_things(plan: Plan, stage: Stage, herd: Herd, say: Callable[[str], None]) -> None:
    began, left = time.monotonic(), list(plan.faults)
    while left or time.monotonic() - began < plan.scale.seconds:
        herd.tend()
        if left and time.monotonic() - began >= left[0].at:
            fault = left.pop(0)
            done = stage.breaks(fault)
            say(f"{time.monotonic() - began:6.1f} s  {fault.kind}{'' if done else ': nobody can be spared'}")
        time.sleep(TICK)


def _calm_down(traffic: Traffic, herd: Herd, say: Callable[[str], None]) -> None:
    began = time.monotonic()
    while not (traffic.over and herd.calm) and time.monotonic() - began < PATIENCE:
        herd.tend()
        time.sleep(TICK)
    say(f"everybody had gone {time.monotonic() - began:.1f} s after the last fault")
