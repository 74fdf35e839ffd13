"""`make bench`, live readers: ten thousand in one process, and what a connection for each would cost.

`python -m bench.fanout`; exit code 1 if a figure misses its target.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bench.harness.environment import Ground
from bench.harness.report import Line, at_least, at_most
from bench.harness.run import Figures, run
from bench.processes.reader_process import Audience, Heard
from bench.processes.writer_process import Speaker

READERS, RATE = 10_000, 5_000
FEW, FEW_RATE = 2_000, 1_000
"""Readers with a connection each, and the events a second that are as much for them as RATE is for READERS."""
HIGH_RATE = 10_000
"""The events a second at which both are compared: with cores to spare, RATE is no trouble to either."""
RUNS, SECONDS = 5, 3.0
RATES = (RATE, 7_500, 10_000, 15_000, 20_000, 30_000)
LONGEST_P99, BETTER, HELD_P99 = 5.0, 10.0, 10.0
IDLE_BYTES, CONNECTIONS = 15_000, 6
ON_TIME = 0.98
"""A rate counts as offered if the speaker reached this part of it."""
SETTLED = 0.3


@dataclass(frozen=True, slots=True)
class _Seated:
    """Readers that wait for what comes, and who will say it. `idle` is a reader's memory, in bytes."""

    audience: Audience
    speaker: Speaker
    idle: float
    connections: int


@dataclass(frozen=True, slots=True)
class _Run:
    """What was offered a second, what was heard of it, and how late the machine let a process wake up, in ms."""

    rate: float
    late: float
    said: int
    heard: Heard


def measured(ground: Ground) -> list[Line]:
    """Measure the hub first, then the connections, on the same server."""
    with _seated(ground, READERS, own_connections=False) as hub:
        runs = [_offer(hub, RATE) for _ in range(RUNS)]
        high = [_offer(hub, HIGH_RATE) for _ in range(RUNS)]
        held = _highest(hub)
        idle, connections = hub.idle, hub.connections
    with _seated(ground, FEW, own_connections=True) as each:
        like, same, high_each = ([_offer(each, rate) for _ in range(RUNS)] for rate in (FEW_RATE, RATE, HIGH_RATE))
        idle_each = each.idle
    every = [*runs, *high]
    lost = sum(run.said - run.heard.events for run in every)
    late = statistics.median(run.late for run in every)
    own = f"{FEW:,} readers with a connection each"
    return [
        at_most(
            f"append → `async for`, {READERS:,} readers, {RATE:,} events/s, p99",
            _p99(runs),
            LONGEST_P99,
            " ms",
            _said(runs),
        ),
        Line(f"  {HIGH_RATE:,} events/s, p99", _told(high)),
        Line(f"  highest rate with p99 under {HELD_P99:g} ms", held),
        Line("  of that, the machine: how late a process that sleeps 1 ms wakes up, p99", f"{late:.2f} ms"),
        at_most("  events of all runs that did not come", lost, 0, "", f"of {sum(run.said for run in every):,}"),
        at_most("  connections of the process", connections, CONNECTIONS, ""),
        at_least(f"p99 of {own} / hub, {RATE:,} events/s", _p99(same) / _p99(runs), BETTER, " x", _said(same)),
        Line(f"  {HIGH_RATE:,} events/s", f"{_p99(high_each) / _p99(high):.2f} x  ({_said(high_each)})"),
        Line(
            f"  {FEW_RATE:,} events/s, as many for each reader as the hub's",
            f"{_p99(like) / _p99(runs):.2f} x  ({_said(like)})",
        ),
        at_most("memory of an idle reader", idle / 1000, IDLE_BYTES / 1000, " KB"),
        Line("  with a connection of its own", f"{idle_each / 1000:.1f} KB, and Redis's side of it"),
    ]


@contextmanager
def _seated(ground: Ground, readers: int, *, own_connections: bool) -> Iterator[_Seated]:
    """Have a reader for each of so many new chats follow it live."""
    chats = [ground.claimed() for _ in range(readers)]
    others = int(ground.client.info("clients")["connected_clients"])
    with (
        Audience(ground.url, chats, own_connections=own_connections) as audience,
        Speaker(ground.url, chats) as speaker,
    ):
        before = audience.sit()
        while _live(ground, own_connections=own_connections) < readers:
            time.sleep(0.1)
        time.sleep(1)
        heard = audience.heard()
        clients = int(ground.client.info("clients")["connected_clients"])
        yield _Seated(audience, speaker, (heard.rss - before) / readers, clients - others)
    ground.client.flushall()
    ground.teach()


def _live(ground: Ground, *, own_connections: bool) -> int:
    if own_connections:
        return int(ground.client.info("clients")["blocked_clients"])
    return len(ground.client.pubsub_channels())


def _offer(seated: _Seated, rate: int) -> _Run:
    speech = seated.speaker.speak(rate, SECONDS)
    time.sleep(SETTLED)
    return _Run(speech.rate, speech.late, speech.events, seated.audience.heard())


def _highest(hub: _Seated) -> str:
    """Return the highest rate that is held; it ends where the speaker, or the server, cannot offer more."""
    held = f"not even {RATES[0]:,}"
    for rate in RATES:
        run = _offer(hub, rate)
        if run.rate < rate * ON_TIME:
            return f"{held} (more could not be offered here: {run.rate:,.0f} of {rate:,})"
        if run.heard.p99 >= HELD_P99:
            return f"{held} (at {rate:,}: p99 {run.heard.p99:.1f} ms)"
        held = f"{rate:,} events/s, p99 {run.heard.p99:.1f} ms"
    return held


def _p99(runs: list[_Run]) -> float:
    return statistics.median(run.heard.p99 for run in runs)


def _told(runs: list[_Run]) -> str:
    return f"{_p99(runs):.2f} ms  ({_said(runs)})"


def _said(runs: list[_Run]) -> str:
    half = statistics.median(run.heard.p50 for run in runs)
    longest = max(run.heard.longest for run in runs)
    cpu = statistics.median(run.heard.cpu for run in runs) / SECONDS
    rate = statistics.median(run.rate for run in runs)
    return (
        f"p50 {half:.1f}, p99 {_p99(runs):.1f}, longest {longest:.0f} ms; {cpu:.0%} of a core; "
        f"{rate:,.0f} events/s offered; median of {RUNS} runs"
    )


FIGURES: Figures = {"fanout": measured}

if __name__ == "__main__":
    sys.exit(run(FIGURES, __doc__))
