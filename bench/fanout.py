"""`make bench`, live readers: ten thousand in one process, compared with a connection for each.

`python -m bench.fanout`; exit code 1 if a figure misses its target.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bench.harness.environment import Environment
from bench.harness.report import Figure, at_least, at_most
from bench.harness.run import Measurements, run
from bench.processes.reader_process import ReaderProcess, ReaderReport
from bench.processes.writer_process import WriterProcess

READERS, RATE = 10_000, 5_000
FEW, FEW_RATE = 2_000, 1_000
"""Readers with a connection each, and the rate that gives them as many events each as RATE gives READERS."""
HIGH_RATE = 10_000
"""A higher rate for the comparison: with cores to spare, RATE is no trouble for either."""
RUNS, SECONDS = 5, 3.0
RATES = (RATE, 7_500, 10_000, 15_000, 20_000, 30_000)
LONGEST_P99, BETTER, HELD_P99 = 5.0, 10.0, 10.0
IDLE_BYTES, CONNECTIONS = 15_000, 6
ON_TIME = 0.98
"""A rate counts as offered if the writer reached this share of it."""
SETTLED = 0.3


@dataclass(frozen=True, slots=True)
class _Setup:
    """Live readers and their writer. `idle` is a reader's memory, in bytes."""

    readers_process: ReaderProcess
    writer: WriterProcess
    idle: float
    connections: int


@dataclass(frozen=True, slots=True)
class _Run:
    """The offered rate, how late the machine woke a process (in ms), the events written and what readers saw."""

    rate: float
    late: float
    written: int
    report: ReaderReport


def measure(environment: Environment) -> list[Figure]:
    """Measure the hub first, then the separate connections, on the same server."""
    with _start_readers_and_writer(environment, READERS, own_connections=False) as hub:
        runs = [_offer_events(hub, RATE) for _ in range(RUNS)]
        high = [_offer_events(hub, HIGH_RATE) for _ in range(RUNS)]
        held = _find_highest_rate(hub)
        idle, connections = hub.idle, hub.connections
    with _start_readers_and_writer(environment, FEW, own_connections=True) as each:
        like, same, high_each = (
            [_offer_events(each, rate) for _ in range(RUNS)] for rate in (FEW_RATE, RATE, HIGH_RATE)
        )
        idle_each = each.idle
    every = [*runs, *high]
    lost = sum(run.written - run.report.events for run in every)
    late = statistics.median(run.late for run in every)
    connection_each = f"{FEW:,} readers with a connection each"
    return [
        at_most(
            f"append → `async for`, {READERS:,} readers, {RATE:,} events/s, p99",
            _median_p99(runs),
            LONGEST_P99,
            " ms",
            _format_details(runs),
        ),
        Figure(f"  {HIGH_RATE:,} events/s, p99", _format_p99(high)),
        Figure(f"  highest rate with p99 under {HELD_P99:g} ms", held),
        Figure("  of that, the machine: how late a process that sleeps 1 ms wakes up, p99", f"{late:.2f} ms"),
        at_most("  events of all runs that did not arrive", lost, 0, "", f"of {sum(run.written for run in every):,}"),
        at_most("  connections of the process", connections, CONNECTIONS, ""),
        at_least(
            f"p99 of {connection_each} / hub, {RATE:,} events/s",
            _median_p99(same) / _median_p99(runs),
            BETTER,
            " x",
            _format_details(same),
        ),
        Figure(
            f"  {HIGH_RATE:,} events/s",
            f"{_median_p99(high_each) / _median_p99(high):.2f} x  ({_format_details(high_each)})",
        ),
        Figure(
            f"  {FEW_RATE:,} events/s, as many for each reader as the hub's",
            f"{_median_p99(like) / _median_p99(runs):.2f} x  ({_format_details(like)})",
        ),
        at_most("memory of an idle reader", idle / 1000, IDLE_BYTES / 1000, " KB"),
        Figure("  with a connection of its own", f"{idle_each / 1000:.1f} KB, and Redis's side of it"),
    ]


@contextmanager
def _start_readers_and_writer(environment: Environment, readers: int, *, own_connections: bool) -> Iterator[_Setup]:
    """Start a live reader for each of this many new chats, and their writer."""
    chats = [environment.new_claimed_chat() for _ in range(readers)]
    others = int(environment.client.info("clients")["connected_clients"])
    with (
        ReaderProcess(environment.url, chats, own_connections=own_connections) as readers_process,
        WriterProcess(environment.url, chats) as writer,
    ):
        before = readers_process.start_readers()
        while _count_live_readers(environment, own_connections=own_connections) < readers:
            time.sleep(0.1)
        time.sleep(1)
        report = readers_process.collect_report()
        clients = int(environment.client.info("clients")["connected_clients"])
        yield _Setup(readers_process, writer, (report.rss - before) / readers, clients - others)
    environment.client.flushall()
    environment.load_append_script()


def _count_live_readers(environment: Environment, *, own_connections: bool) -> int:
    if own_connections:
        return int(environment.client.info("clients")["blocked_clients"])
    return len(environment.client.pubsub_channels())


def _offer_events(setup: _Setup, rate: int) -> _Run:
    report = setup.writer.write(rate, SECONDS)
    time.sleep(SETTLED)
    return _Run(report.rate, report.late, report.events, setup.readers_process.collect_report())


def _find_highest_rate(hub: _Setup) -> str:
    """Return the highest sustained rate; stop where the writer or the server cannot offer more."""
    held = f"not even {RATES[0]:,}"
    for rate in RATES:
        run = _offer_events(hub, rate)
        if run.rate < rate * ON_TIME:
            return f"{held} (more could not be offered here: {run.rate:,.0f} of {rate:,})"
        if run.report.p99 >= HELD_P99:
            return f"{held} (at {rate:,}: p99 {run.report.p99:.1f} ms)"
        held = f"{rate:,} events/s, p99 {run.report.p99:.1f} ms"
    return held


def _median_p99(runs: list[_Run]) -> float:
    return statistics.median(run.report.p99 for run in runs)


def _format_p99(runs: list[_Run]) -> str:
    return f"{_median_p99(runs):.2f} ms  ({_format_details(runs)})"


def _format_details(runs: list[_Run]) -> str:
    p50 = statistics.median(run.report.p50 for run in runs)
    longest = max(run.report.longest for run in runs)
    cpu = statistics.median(run.report.cpu for run in runs) / SECONDS
    rate = statistics.median(run.rate for run in runs)
    return (
        f"p50 {p50:.1f}, p99 {_median_p99(runs):.1f}, longest {longest:.0f} ms; {cpu:.0%} of a core; "
        f"{rate:,.0f} events/s offered; median of {RUNS} runs"
    )


MEASUREMENTS: Measurements = {"fanout": measure}

if __name__ == "__main__":
    sys.exit(run(MEASUREMENTS, __doc__))
