"""Figure 6: what the metrics cost: the flusher's path with an observer for Prometheus, compared with none."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from bench.harness.environment import TEXT, Environment
from bench.harness.report import Figure, at_most
from chunkspool.metrics import process_files
from chunkspool.metrics.instruments import PrometheusObserver
from chunkspool.observer import NOBODY, Observer, guard
from chunkspool.producing.flusher import Flusher
from chunkspool.producing.outbox import Outbox
from chunkspool.provider import ModelRequest
from chunkspool.request import Claim
from chunkspool.settings import Settings

PAIRS, OUTBOXES = 41, 64
FLUSHES = {1: 20, 64: 4}
"""Pipelines of one run, by the events that each attempt has in each of them: a quiet worker's, and a busy one's."""
LIMIT = 3.0


def measure(environment: Environment) -> list[Figure]:
    """Compare pairs of runs, one after the other in this process, and take the median of their differences."""
    settings = Settings.checked({"redis_url": environment.url})
    in_memory = guard(PrometheusObserver.with_own_registry())
    process_files.count_in_files()
    in_files = guard(PrometheusObserver.with_own_registry())
    figures = []
    for size in FLUSHES:
        took, more = _compare(environment, settings, size, in_memory)
        what = f"metrics: what an append of {size} event{'s' if size > 1 else ''} takes longer, {OUTBOXES} in a flush"
        figures.append(at_most(what, more, LIMIT, " %", f"of {took * 1e6:.0f} µs"))
        _, more = _compare(environment, settings, size, in_files)
        figures.append(Figure("  counted in files, as the children of a prefork pool do", f"{more:.2f} %"))
    return figures


def _compare(environment: Environment, settings: Settings, size: int, observer: Observer) -> tuple[float, float]:
    """Return the CPU seconds of an append without an observer, and by how many percent it takes longer with one."""
    without: list[float] = []
    ratios: list[float] = []
    for n in range(PAIRS):
        # Which of the two is the first changes from pair to pair.
        order = (NOBODY, observer) if n % 2 else (observer, NOBODY)
        took = {one: _time_flushes(environment, settings, size, one) for one in order}
        without.append(took[NOBODY])
        ratios.append(took[observer] / took[NOBODY])
    return statistics.median(without), (statistics.median(ratios) - 1) * 100


def _cpu_seconds(environment: Environment) -> float:
    """Return what this process and Redis have used: they take turns, and other programs do not count."""
    server = environment.client.info("cpu")
    return time.process_time() + float(server["used_cpu_user"]) + float(server["used_cpu_sys"])


def _time_flushes(environment: Environment, settings: Settings, size: int, observer: Observer) -> float:
    """Return the CPU seconds of one append: said, cut, sent, taken, told."""
    chats = [environment.new_claimed_chat() for _ in range(OUTBOXES)]
    # Its thread has nothing to do: what it would do is called here, where nothing else runs meanwhile.
    flusher = Flusher(environment.client, settings.log, observer=observer)
    outboxes = [Outbox(one.keys, one.generation_id, settings.log, Claim(1, ModelRequest(()))) for one in chats]
    for outbox in outboxes:
        flusher.open(outbox)
    flush: Callable[[list[Outbox]], None] = flusher._flush  # noqa: SLF001 - the thread's own step, without the thread
    began = _cpu_seconds(environment)
    for _ in range(FLUSHES[size]):
        for outbox in outboxes:
            for _ in range(size):
                outbox.buffer.add_event(TEXT_EVENT)
        flush(outboxes)
    took = _cpu_seconds(environment) - began
    flusher.close()
    environment.client.flushall()
    environment.load_append_script()
    return took / FLUSHES[size] / OUTBOXES


TEXT_EVENT = b'{"type":"text.delta","generation":"0","text":"%s"}' % TEXT.encode()
