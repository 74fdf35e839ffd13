"""`make bench`, a thousand generations in one worker: CPU time of a token and of a start, memory, and the tokens' age.

`python -m bench.thousand`; exit code 1 if a figure misses its target. CPU time is the worker's own and the kernel's for
it: it says more than wall time on a machine that does other work.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil

from bench.harness.environment import Environment, ReadyChat
from bench.harness.report import Figure, at_most
from bench.harness.run import Measurements, run
from bench.harness.worker import ROOT, cpu_seconds, start_worker
from bench.processes.bare_client import ENDLESS
from bench.processes.paced_model import MODEL, PacedModel, start_paced_model
from bench.processes.reader_process import ReaderProcess, ReaderReport
from chunkspool import Settings, Spool
from chunkspool.store.keys import ChatKeys

SLOTS = 1000
SECONDS, SETTLED = 5.0, 2.0
STARTS = 300
PATIENCE = 120.0
_UNLIMITED = {"max_running": "1000000", "max_queued": "1000000"}
"""All is one tenant's."""
MOST_PER_TOKEN, MOST_PER_START, MOST_MEGABYTES, MOST_P99 = 40.0, 3.0, 250.0, 50.0


@dataclass(frozen=True, slots=True)
class _Load:
    """Streams at the same time, and the tokens that each sends a second."""

    streams: int
    rate: int

    def __str__(self) -> str:
        return f"{self.streams:,} streams of {self.rate} tokens/s"


@dataclass(frozen=True, slots=True)
class _Steady:
    """What a process took while all streams ran: CPU in µs a token, and its share of a core.

    `tokens`: how many the model sent meanwhile; `late`: the longest that it was late with one, in ms.
    """

    tokens: int
    per_token: float
    core: float
    late: float


THOUSAND, TWO_HUNDRED = _Load(1000, 20), _Load(200, 50)


def measure(environment: Environment) -> list[Figure]:
    """Measure the bare client first, then the worker, with the same model."""
    with start_paced_model(environment) as model:
        bare = {load: _run_bare_client(model, load) for load in (THOUSAND, TWO_HUNDRED)}
        settings = {"model": MODEL, "openai_base_url": model.base_url, **_UNLIMITED}
        with start_worker(environment, "threads", SLOTS, settings) as worker:
            per_start = _measure_starts(environment, worker)
            figures = [at_most("CPU of a start, with its claim and its ending", per_start, MOST_PER_START, " ms")]
            for load in (THOUSAND, TWO_HUNDRED):
                steady, report, megabytes = _run_worker(environment, model, worker, load)
                figures += _figures_of(load, bare[load], steady, report, megabytes)
    return figures


def _figures_of(load: _Load, bare: _Steady, steady: _Steady, report: ReaderReport, megabytes: float) -> list[Figure]:
    events, size = report.events / report.tokens, report.size / report.tokens
    what = f"{load}: the worker's CPU of a token"
    share = f"{steady.core:.0%} of a core, {report.tokens / steady.tokens:.0%} of the rate"
    return [
        # With fewer streams the flusher writes more often, because it may: that CPU is there.
        at_most(what, steady.per_token, MOST_PER_TOKEN, " µs", share)
        if load == THOUSAND
        else Figure(what, f"{steady.per_token:.1f} µs  ({share})"),
        Figure(
            "  / the bare client's",
            f"{steady.per_token / bare.per_token:.2f} x  ({bare.per_token:.1f} µs, {bare.core:.0%} of a core)",
        ),
        _age_of_tokens(load, steady, report),
        Figure("  events and bytes a token", f"{events:.2f}, {size:.0f} B"),
        at_most("  memory of the worker", megabytes, MOST_MEGABYTES, " MB", "RSS"),
    ]


def _age_of_tokens(load: _Load, steady: _Steady, report: ReaderReport) -> Figure:
    what = "  model's socket → reader, p99"
    ages = f"p50 {report.p50:.1f}, longest {report.longest:.0f} ms; the model was up to {steady.late:.0f} ms late"
    if load == TWO_HUNDRED:
        return at_most(what, report.p99, MOST_P99, " ms", ages)
    return Figure(what, f"{report.p99:.1f} ms  ({ages})")


def _measure_starts(environment: Environment, worker: psutil.Process) -> float:
    """Return the ms of CPU that the worker takes for a generation of one token."""
    with Spool.from_settings(Settings.checked({"redis_url": environment.url, **_UNLIMITED})) as spool:
        _run_short_answers(environment, spool, STARTS // 10)
        before = cpu_seconds(worker)
        _run_short_answers(environment, spool, STARTS)
        return (cpu_seconds(worker) - before) / STARTS * 1000


def _run_short_answers(environment: Environment, spool: Spool, count: int) -> None:
    asked = [spool.enqueue(environment.new_name(), "Tell me a story.") for _ in range(count)]
    for generation in asked:
        with spool.subscribe(generation.chat_id, generation.after, until=generation.generation_id) as entries:
            *_, last = entries
        if last.type != "generation.completed":
            raise RuntimeError(f"{generation.generation_id} ended with {last.event}")


def _run_worker(
    environment: Environment, model: PacedModel, worker: psutil.Process, load: _Load
) -> tuple[_Steady, ReaderReport, float]:
    """Return what the worker and its readers saw, and the worker's memory in megabytes."""
    paced = {"tokens": ENDLESS, "rate": load.rate}
    with Spool.from_settings(Settings.checked({"redis_url": environment.url, **_UNLIMITED})) as spool:
        asked = [
            spool.enqueue(environment.new_name(), "Tell me a story.", params={"paced": paced})
            for _ in range(load.streams)
        ]
    chats = [ReadyChat(ChatKeys("default", one.chat_id), one.generation_id) for one in asked]
    model.wait_until_running(load.streams, PATIENCE)
    with ReaderProcess(environment.url, chats, own_connections=False) as readers:
        readers.start_readers()
        time.sleep(SETTLED)
        readers.collect_report(then_only_new=True)
        steady = _measure_steady(model, worker)
        report = readers.collect_report()
        megabytes = worker.memory_info().rss / 1e6
        model.end_answers()
        _wait_until_idle(environment, asked[0].chat_id, asked[-1].chat_id)
    return steady, report, megabytes


def _wait_until_idle(environment: Environment, *chat_ids: str) -> None:
    with Spool.from_settings(Settings.checked({"redis_url": environment.url, **_UNLIMITED})) as spool:
        for chat_id in chat_ids:
            with spool.subscribe(chat_id) as entries:
                for _ in entries:
                    pass


def _measure_steady(model: PacedModel, process: psutil.Process) -> _Steady:
    before = model.fetch_report()
    cpu, began = cpu_seconds(process), time.perf_counter()
    time.sleep(SECONDS)
    took = time.perf_counter() - began
    used = cpu_seconds(process) - cpu
    after = model.fetch_report()
    tokens = after.tokens - before.tokens
    return _Steady(tokens, used / tokens * 1e6, used / took, after.late * 1000)


def _run_bare_client(model: PacedModel, load: _Load) -> _Steady:
    with _start_bare_client(model, load) as client:
        model.wait_until_running(load.streams, PATIENCE)
        time.sleep(SETTLED)
        return _measure_steady(model, client)


@contextmanager
def _start_bare_client(model: PacedModel, load: _Load) -> Iterator[psutil.Process]:
    command = [sys.executable, "-m", "bench.processes.bare_client", model.base_url, str(load.streams), str(load.rate)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, cwd=ROOT) as client:  # noqa: S603 - our own program
        yield psutil.Process(client.pid)
    model.wait_until_running(0, PATIENCE)


MEASUREMENTS: Measurements = {"thousand": measure}

if __name__ == "__main__":
    sys.exit(run(MEASUREMENTS, __doc__))
